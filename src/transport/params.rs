//! Parameters of streams and lists: filters, windows, places to begin. One reader for SSE, WebSocket and REST.

use std::{collections::BTreeSet, num::NonZeroU32, sync::Arc, time::Duration};

use http::HeaderMap;

use super::{answer::Refusal, forms::RECORD_FORM, names, query::Query};
use crate::{
    aggregator::Window,
    hub::{Filter, Form, Level, LevelFilter, Start},
};

/// How the `stats` of a stream are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StatsParams {
    pub(crate) window: Option<Window>,
    pub(crate) interval: Option<Duration>,
}

impl StatsParams {
    /// What is not said is as seed 001 has it for WebSocket; streams have the channel's own.
    pub(crate) fn or_usual_of(mut self, form: Form) -> Self {
        if form.0 > RECORD_FORM.0 {
            self.window.get_or_insert(Window::FiveMinutes);
            self.interval.get_or_insert(Duration::from_secs(5));
        }
        self
    }
}

/// `window` and `interval`.
pub(crate) fn stats(query: &Query) -> Result<StatsParams, Refusal> {
    Ok(StatsParams {
        window: window(query)?,
        interval: match query.get("interval") {
            None => None,
            Some(text) => match text.parse::<u64>() {
                Ok(seconds @ 1..=3600) => Some(Duration::from_secs(seconds)),
                _ => {
                    return Err(Refusal::bad_request(
                        "interval",
                        "takes whole seconds, 1 to 3600",
                    ));
                }
            },
        },
    })
}

/// `window=1m|5m|15m|1h|24h`.
pub(crate) fn window(query: &Query) -> Result<Option<Window>, Refusal> {
    let Some(text) = query.get("window") else {
        return Ok(None);
    };
    let known = Window::ALL
        .into_iter()
        .find(|window| window.as_str() == text);
    known
        .map(Some)
        .ok_or_else(|| Refusal::bad_request("window", "takes 1m, 5m, 15m, 1h or 24h"))
}

/// What a filter is made of.
pub(crate) const CRITERIA: [&str; 9] = [
    "provider_id",
    "model_id",
    "user_id",
    "tenant_id",
    "route",
    "only_errors",
    "component",
    "type",
    "level",
];

/// How often a stream says something, and over which time.
pub(crate) const PACE: [&str; 3] = ["window", "interval", "max_rate"];

/// The longest value of a criterion. Labels themselves are cut to 128 bytes.
const MAX_CRITERION_BYTES: usize = 256;

/// The criteria of a filter.
pub(crate) fn filter(query: &Query) -> Result<Filter, Refusal> {
    let is_wrong = |name: &&&str| {
        let text = query.get(name);
        text.is_some_and(|text| text.is_empty() || text.len() > MAX_CRITERION_BYTES)
    };
    let texts = CRITERIA
        .iter()
        .filter(|name| !["only_errors", "level"].contains(name));
    if let Some(name) = texts.into_iter().find(is_wrong) {
        // An empty one would be passed over, and everything look like what was asked for.
        return Err(Refusal::bad_request(name, "takes a text of 1 to 256 bytes"));
    }
    let text = |name: &str| query.get(name).map(Arc::<str>::from);
    Ok(Filter {
        provider: text("provider_id"),
        model: text("model_id"),
        user: text("user_id"),
        tenant: text("tenant_id"),
        route: text("route"),
        only_errors: flag(query, "only_errors")?,
        level: level(query)?,
        component: text("component"),
        types: types(query)?,
    })
}

fn types(query: &Query) -> Result<Vec<Arc<str>>, Refusal> {
    let Some(text) = query.get("type") else {
        return Ok(Vec::new());
    };
    // In order and each once, as levels are.
    let types: BTreeSet<_> = list(Some(text)).map(by_stream_name).collect();
    match types.is_empty() {
        true => Err(Refusal::bad_request(
            "type",
            "takes a comma-separated list of types",
        )),
        false => Ok(types.into_iter().map(Arc::from).collect()),
    }
}

/// What streams call an event that has another name over WebSocket; both names are ours alone.
fn by_stream_name(name: &str) -> &str {
    match name {
        "stats_update" => "stats",
        "request" => "requests",
        name => name,
    }
}

/// `level=warn`: at least; `level=info,error`: exactly these.
fn level(query: &Query) -> Result<Option<LevelFilter>, Refusal> {
    let Some(text) = query.get("level") else {
        return Ok(None);
    };
    // In order and each once: readers with equal filters share their view.
    let levels: Result<BTreeSet<Level>, _> = list(Some(text)).map(str::parse).collect();
    let levels = levels.map(Vec::from_iter);
    match levels {
        Ok(levels) if !levels.is_empty() && text.len() <= MAX_CRITERION_BYTES => {
            Ok(Some(match (&levels[..], text.contains(',')) {
                ([level], false) => LevelFilter::AtLeast(*level),
                _ => LevelFilter::AnyOf(levels),
            }))
        }
        _ => Err(Refusal::bad_request(
            "level",
            "takes trace, debug, info, warn or error, or a comma-separated list of them",
        )),
    }
}

fn flag(query: &Query, name: &str) -> Result<bool, Refusal> {
    match query.get(name) {
        None | Some("false" | "0") => Ok(false),
        Some("true" | "1") => Ok(true),
        Some(_) => Err(Refusal::bad_request(name, "takes true or false")),
    }
}

/// `max_rate`: events a second.
pub(crate) fn max_rate(query: &Query) -> Result<Option<NonZeroU32>, Refusal> {
    let Some(text) = query.get("max_rate") else {
        return Ok(None);
    };
    match text.parse::<NonZeroU32>() {
        Ok(rate) if rate.get() <= 1_000_000 => Ok(Some(rate)),
        _ => Err(Refusal::bad_request(
            "max_rate",
            "takes whole events a second, 1 to 1000000",
        )),
    }
}

/// A number within bounds, or its default.
pub(crate) fn number(
    query: &Query,
    name: &str,
    default: u64,
    least: u64,
    most: u64,
) -> Result<u64, Refusal> {
    match query.get(name).map(str::parse::<u64>) {
        None => Ok(default),
        Some(Ok(number)) if (least..=most).contains(&number) => Ok(number),
        Some(_) => {
            let what = format!("takes a whole number, {least} to {most}");
            Err(Refusal::bad_request(name, &what))
        }
    }
}

/// Where to begin, if the client says so: the header wins, because browsers keep a stale query when they reconnect
/// (WHATWG HTML 9.2.4).
pub(crate) fn start(headers: &HeaderMap, query: &Query) -> Option<Start> {
    if let Some(header) = headers
        .get("last-event-id")
        .filter(|header| !header.is_empty())
    {
        return Some(header.to_str().map_or(Start::Unknown, Start::parse));
    }
    let given = query
        .get_text("since")
        .or_else(|| query.get_text("lastEventId"));
    given.map(Start::parse)
}

/// The channels that are listed, each once: `channels`, or `metrics` as seed 002 prints it.
pub(crate) fn channels(query: &Query) -> Result<Vec<String>, Refusal> {
    let listed = ["channels", "metrics"]
        .into_iter()
        .find_map(|name| Some((name, query.get_text(name)?)));
    let Some((name, text)) = listed else {
        return Ok(Vec::new());
    };
    names::bounded(list(Some(text)), names::MAX_NAMES)
        .map_err(|what| Refusal::bad_request(name, &what))
}

/// The members of a comma-separated list, without spaces and empty ones.
pub(crate) fn list(text: Option<&str>) -> impl Iterator<Item = &str> {
    text.unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|member| !member.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::parse(Some(text)).unwrap()
    }

    #[test]
    fn every_bad_value_names_its_parameter() {
        let cases = [
            ("window=2m", "window"),
            ("interval=0", "interval"),
            ("interval=3601", "interval"),
            ("interval=x", "interval"),
            ("window=", "window"),
            ("interval=", "interval"),
        ];
        for (text, name) in cases {
            let refusal = stats(&query(text)).unwrap_err();
            assert!(
                refusal.sentence().contains(name),
                "{text}: {}",
                refusal.sentence()
            );
        }
        for (text, name) in [
            ("only_errors=yes", "only_errors"),
            ("level=loud", "level"),
            ("level=,", "level"),
            ("level=", "level"),
            ("only_errors", "only_errors"),
            ("provider_id=", "provider_id"),
            ("type=", "type"),
            ("type=,", "type"),
        ] {
            let refusal = filter(&query(text)).unwrap_err();
            assert!(
                refusal.sentence().contains(name),
                "{text}: {}",
                refusal.sentence()
            );
        }
        for text in ["max_rate=0", "max_rate=-1", "max_rate=1000001", "max_rate="] {
            assert!(
                max_rate(&query(text))
                    .unwrap_err()
                    .sentence()
                    .contains("max_rate")
            );
        }
        assert!(
            number(&query("limit=9"), "limit", 5, 1, 8)
                .unwrap_err()
                .sentence()
                .contains("1 to 8")
        );
    }

    #[test]
    fn an_event_may_be_asked_for_by_either_of_its_names() {
        let types = filter(&query("type=stats_update,request,Tick,requests"))
            .unwrap()
            .types;
        assert_eq!(types, ["Tick", "requests", "stats"].map(Arc::from));
    }

    #[test]
    fn a_single_level_is_a_minimum_and_a_list_is_a_set() {
        let of = |text| filter(&query(text)).unwrap().level;
        assert_eq!(of("level=warn"), Some(LevelFilter::AtLeast(Level::Warn)));
        assert_eq!(
            of("level=WARN,debug,warn"),
            Some(LevelFilter::AnyOf(vec![Level::Debug, Level::Warn]))
        );
        // However often a level is said, there are five.
        let text = "info,".repeat(52);
        assert!(filter(&query(&format!("level={text}"))).is_err());
        assert_eq!(of("_=1"), None);
    }

    #[test]
    fn channels_are_listed_once_and_bounded() {
        let of = |text: &str| channels(&query(text));
        assert_eq!(of("channels=a,b,,a").unwrap(), ["a", "b"]);
        assert_eq!(of("metrics=a").unwrap(), ["a"]);
        assert!(of("channels=").unwrap().is_empty());
        let many: Vec<String> = (0..300).map(|n| n.to_string()).collect();
        for name in ["channels", "metrics"] {
            let refusal = of(&format!("{name}={}", many.join(","))).unwrap_err();
            assert!(refusal.sentence().contains(&format!("'{name}'")));
        }
    }

    #[test]
    fn the_header_wins_over_a_stale_query() {
        let mut headers = HeaderMap::new();
        let query = query("since=n:5&lastEventId=latest");
        assert_eq!(start(&headers, &query), Some(Start::Last(5)));
        headers.insert("last-event-id", "".parse().unwrap());
        assert_eq!(start(&headers, &query), Some(Start::Last(5)));
        headers.insert("last-event-id", "earliest".parse().unwrap());
        assert_eq!(start(&headers, &query), Some(Start::Earliest));
        headers.insert(
            "last-event-id",
            http::HeaderValue::from_bytes(b"\xff").unwrap(),
        );
        assert_eq!(start(&headers, &query), Some(Start::Unknown));
    }
}
