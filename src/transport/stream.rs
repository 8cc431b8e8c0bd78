//! `/stream`: from a request to a stream of events.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Method, StatusCode, header, request::Parts};

use super::{
    answer::{Answer, Refusal},
    caller::Caller,
    compress::{self, GzipStream},
    connections::{Newcomer, Selection, Session},
    forms::SSE_FORM,
    params,
    query::{self, Query},
    sse::{self, Established, SseBody},
};
use crate::{
    access::{Principal, Resume, TokenError},
    aggregator::Window,
    hub::{ChannelId, ChannelSet, Form, Hub, Leases, Refused, Start, ViewSpec},
    middleware::OwnBody,
    runtime::{Runtime, Variant},
    telemetry::quiet,
};

/// What a stream is asked for.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(super) selection: Selection,
    query: Query,
    pub(super) start: Start,
    /// Of the token that it goes on with.
    pub(super) session: Option<Session>,
    /// Why the token that it was to go on with is not taken.
    pub(super) refused: Option<TokenError>,
}

impl Wanted {
    pub(crate) fn new(names: Vec<String>, query: Query, parts: &Parts) -> Self {
        let start = params::start(&parts.headers, &query);
        let selection = Selection {
            names,
            query: lasting(&query),
            tenant: None,
        };
        Self {
            selection,
            query,
            start,
            session: None,
            refused: None,
        }
    }

    /// What a reconnect token says; the position in the header or the query, which is newer, wins.
    pub(crate) fn resumed(resume: Resume, query: &Query, parts: &Parts) -> Result<Self, Refusal> {
        let start = match params::start(&parts.headers, query) {
            Start::Latest => Start::parse(&resume.position),
            newer => newer,
        };
        let query = Query::parse(Some(&resume.subscription))?;
        let session = session_of(&resume.subscription);
        let selection = Selection {
            names: params::channels(&query)?,
            query: lasting(&query),
            // A client's own `tenant` is none: see `lasting`.
            tenant: query.get("tenant").map(Arc::from),
        };
        Ok(Self {
            selection,
            query,
            start,
            session,
            refused: None,
        })
    }

    /// The token is not good any more: a fresh session that says so. It reads what the request itself asks for, and
    /// nothing where it asks for nothing: what stood in the token is not known.
    pub(crate) fn lost(mut self, why: TokenError) -> Self {
        self.start = Start::Unknown;
        self.refused = Some(why);
        self
    }
}

/// The session in what a token says. Nobody but us has written it there: [`lasting`] leaves out a client's own.
pub(crate) fn session_of(subscription: &str) -> Option<Session> {
    subscription
        .split('&')
        .find_map(|pair| pair.strip_prefix("session="))
        .and_then(Session::parse)
}

/// What of a query lasts as long as the connection, and goes into its token: criteria and pace. Nothing else of a
/// client's is kept.
pub(super) fn lasting(query: &Query) -> String {
    let lasts = |name: &str| params::CRITERIA.contains(&name) || params::PACE.contains(&name);
    let mut text = String::new();
    for (name, value) in query.pairs().filter(|(name, _)| lasts(name)) {
        if !text.is_empty() {
            text.push('&');
        }
        query::encode(name, &mut text);
        text.push('=');
        query::encode(value, &mut text);
    }
    text
}

/// Answers with a stream; nothing in it waits.
pub(crate) fn open(
    runtime: &Arc<Runtime>,
    caller: &Caller<'_>,
    parts: &Parts,
    wanted: Wanted,
) -> Result<Answer, Refusal> {
    let principal = &caller.principal;
    let Wanted {
        selection,
        query,
        start,
        session,
        refused,
    } = wanted;
    // A token that is not taken says so in the stream's first event; a status would close an EventSource for good. And
    // one that is taken may stand for nothing, once everything was taken from its stream.
    if selection.names.is_empty() && refused.is_none() && session.is_none() {
        return Err(Refusal::bad_request(
            "channels",
            "takes a comma-separated list of channels",
        ));
    }
    let spec = view_spec(runtime, principal, &selection, &query, SSE_FORM)?;
    let max_rate = params::max_rate(&query)?;
    let gzip = GzipStream::wanted(&runtime.hub, &parts.headers);
    let tokens = caller.gate.reconnect_tokens();
    if parts.method == Method::HEAD {
        let session = session.unwrap_or_else(|| Session::random(runtime.clock));
        let position = runtime.hub.position().to_string();
        let token = tokens.issue(principal, &selection.to_query(session), &position);
        return Ok(head(OwnBody::untold(), token.as_deref(), gzip.is_some()));
    }
    let wait = sse::RETRY.pick(runtime.clock.now_us());
    let connections = caller.connections;
    // First of all, so that the new stream may have the old one's place.
    if let Some(session) = session {
        connections.take_over(&runtime.hub, session, principal);
    }
    let seat = match connections.admission.admit(principal, caller.address) {
        Ok(seat) => seat,
        Err(refusal) => return refuse(refusal, parts, wait),
    };
    let mut subscription = match runtime.hub.subscribe(spec, start) {
        Ok(subscription) => subscription,
        Err(refused) => return refuse(full_or_closed(refused), parts, wait),
    };
    if let Some(rate) = max_rate {
        subscription.limit_rate(rate);
    }
    let is_gzip = gzip.is_some() && subscription.compress();
    let session = session.unwrap_or_else(|| Session::random(runtime.clock));
    let position = subscription.position().to_string();
    let token = tokens.issue(principal, &selection.to_query(session), &position);
    let names = selection.names.clone();
    let newcomer = Newcomer {
        principal,
        address: caller.address,
        session,
        selection,
    };
    let connection = connections.enter(seat, &subscription, newcomer);
    let first = Established {
        connection_id: &connections.name_of(&connection),
        reconnect_token: token.as_deref(),
        channels: &names,
        heartbeat_ms: runtime.config.heartbeat_interval.as_millis() as u64,
        instance: &runtime.config.instance,
        resume: subscription.resume(),
        token_refused: refused.map(TokenError::as_str),
        timestamp: runtime.clock.unix_seconds(),
    };
    let first = sse::established(&first, &subscription);
    let body = SseBody::new(first, subscription, gzip);
    Ok(head(
        OwnBody::stream(quiet(body)),
        token.as_deref(),
        is_gzip,
    ))
}

/// The head of a stream that may begin, around a body.
fn head(body: OwnBody, token: Option<&str>, is_gzip: bool) -> Answer {
    let mut answer = sse::answer(body);
    let headers = answer.headers_mut();
    if let Some(Ok(token)) = token.map(HeaderValue::try_from) {
        headers.insert("x-reconnect-token", token);
    }
    if is_gzip {
        compress::say_gzip(headers);
    }
    answer
}

/// Checks the names, the caller's right to them, and the parameters in `query`, which are those of the selection.
pub(crate) fn view_spec(
    runtime: &Arc<Runtime>,
    principal: &Principal,
    selection: &Selection,
    query: &Query,
    form: Form,
) -> Result<ViewSpec, Refusal> {
    let stats = params::stats(query)?.or_usual_of(form);
    let filter = params::filter(query)?;
    let tenant = match (principal.tenant_arc(), &selection.tenant) {
        (Some(own), Some(asked)) if own != asked => {
            let sentence = "the principal belongs to another tenant";
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "foreign_tenant",
                sentence,
            ));
        }
        (own, asked) => own.or(asked.as_ref()).cloned(),
    };
    let mut leases = Leases::default();
    let all = selection.names.iter().any(|name| name == "all");
    // Also those that `all` would hide: a selection is kept, and goes into a token, so it holds nothing but channels.
    for name in selection.names.iter().filter(|name| *name != "all") {
        require(&runtime.hub, principal, name)?;
    }
    if all && principal.may_read("all") {
        let mut replaced = Vec::new();
        for id in [runtime.built_in.stats, runtime.built_in.providers] {
            let variant = variant_of(runtime, id, &stats, tenant.as_ref(), &mut leases)?;
            if variant != id {
                replaced.push((id, variant));
            }
        }
        let channels = match replaced.is_empty() {
            true => ChannelSet::All,
            false => ChannelSet::AllBut(replaced.into()),
        };
        return Ok(ViewSpec {
            channels,
            filter,
            tenant,
            form,
            leases,
        });
    }
    let mut ids = Vec::new();
    let mut names = if all {
        runtime.hub.channel_names()
    } else {
        selection.names.clone()
    };
    names.retain(|name| principal.may_read(name));
    for id in names.iter().filter_map(|name| runtime.hub.channel_id(name)) {
        ids.push(variant_of(
            runtime,
            id,
            &stats,
            tenant.as_ref(),
            &mut leases,
        )?);
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ViewSpec {
        channels: ChannelSet::Some(ids.into()),
        filter,
        tenant,
        form,
        leases,
    })
}

/// The channel itself, or the variant of it that the parameters or the tenant ask for.
fn variant_of(
    runtime: &Arc<Runtime>,
    id: ChannelId,
    stats: &params::StatsParams,
    tenant: Option<&Arc<str>>,
    leases: &mut Leases,
) -> Result<ChannelId, Refusal> {
    let variant = if id == runtime.built_in.stats {
        let window = stats.window.unwrap_or_default();
        let interval = stats.interval.unwrap_or(runtime.config.stats_interval);
        let usual = window == Window::default() && interval == runtime.config.stats_interval;
        if usual && tenant.is_none() {
            return Ok(id);
        }
        Variant::Stats {
            window,
            interval,
            tenant: tenant.cloned(),
        }
    } else if let Some(tenant) = tenant.filter(|_| id == runtime.built_in.providers) {
        Variant::Providers {
            tenant: tenant.clone(),
        }
    } else {
        return Ok(id);
    };
    runtime.variant(variant, leases).map_err(|error| {
        Refusal::new(
            http::StatusCode::SERVICE_UNAVAILABLE,
            "too_many_variants",
            error.to_string(),
        )
        .with_header(header::RETRY_AFTER, HeaderValue::from_static("60"))
    })
}

/// Whether there is the channel, and whether the principal may read it. What it may not read is forbidden whether it is
/// there or not: that is not to be found out.
pub(crate) fn require(hub: &Hub, principal: &Principal, name: &str) -> Result<(), Refusal> {
    principal.require_channel(name)?;
    match hub.channel_id(name) {
        Some(_) => Ok(()),
        None => Err(unknown_channel(hub, principal, name)),
    }
}

/// Names the channels that there are, as far as the principal may know of them.
pub(crate) fn unknown_channel(hub: &Hub, principal: &Principal, name: &str) -> Refusal {
    let mut known = hub.channel_names();
    known.retain(|name| principal.may_read(name));
    known.push("all".to_owned());
    let name: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
    Refusal::new(
        http::StatusCode::NOT_FOUND,
        "unknown_channel",
        format!(
            "channel '{name}' is not known; known are {}",
            known.join(", ")
        ),
    )
    .with_details(serde_json::json!({"channels": known}))
}

/// A browser's EventSource closes for good at any status but 200, so one that may succeed later gets a stream that
/// says when to come back.
fn refuse(refusal: Refusal, parts: &Parts, wait: Duration) -> Result<Answer, Refusal> {
    let accepts = parts
        .headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    let event_source = accepts.is_some_and(|accept| accept.contains("text/event-stream"))
        && parts.headers.contains_key("sec-fetch-mode");
    if event_source {
        return Ok(sse::busy(wait));
    }
    Err(refusal.with_retry_after(wait))
}

pub(super) fn full_or_closed(refused: Refused) -> Refusal {
    let (code, sentence) = match refused {
        Refused::Full => (
            "too_many_clients",
            "as many clients as max_clients allows are connected",
        ),
        Refused::Closed => ("shutting_down", "the server is shutting down"),
    };
    Refusal::new(http::StatusCode::SERVICE_UNAVAILABLE, code, sentence)
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Clock;

    /// What a token brings back of what went into it.
    fn there_and_back(names: &[&str], query: &str) -> (Wanted, Session) {
        let session = Session::random(Clock::new());
        let query = Query::parse(Some(query)).unwrap();
        let (parts, ()) = Request::new(()).into_parts();
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let wanted = Wanted::new(names, query, &parts);
        let resume = Resume {
            subscription: wanted.selection.to_query(session),
            position: "1-2".to_owned(),
        };
        let nothing = Query::default();
        (Wanted::resumed(resume, &nothing, &parts).unwrap(), session)
    }

    #[test]
    fn what_a_client_names_adds_nothing_to_its_token() {
        let names = [
            "session=0000000000000007",
            "a&session=0000000000000007&channels=all",
            "b%26c",
            "d+e f",
            "ü=#",
        ];
        let hostile = "provider_id=p%26session%3D7&session=7&%73ession=7&%63hannels=all&channels=all&type=a,b&x=y";
        let (back, session) = there_and_back(&names, hostile);
        assert_eq!(back.selection.names, names);
        assert_eq!(back.session, Some(session));
        assert_eq!(back.selection.query, "provider_id=p%26session%3D7&type=a,b");
        assert_eq!(back.query.get("provider_id"), Some("p&session=7"));
    }

    #[test]
    fn nothing_but_criteria_and_pace_is_kept() {
        let of = |text| lasting(&Query::parse(Some(text)).unwrap());
        let long = format!("utm_source={}&level=warn&_=1", "x".repeat(9000));
        assert_eq!(of(&long), "level=warn");
        let fleeting = "since=1-2&lastEventId=3&token=t&ticket=t&channels=a&metrics=b&session=7";
        assert_eq!(of(fleeting), "");
        let all = "window=1h&interval=5&max_rate=9&only_errors=true&route=%2Fa%2F%7Bid%7D";
        assert_eq!(of(all), all);
    }

    proptest! {
        #[test]
        fn names_come_back_as_they_were(names in prop::collection::vec("[^,\\s]{1,16}", 1..5)) {
            let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
            names.sort_unstable();
            names.dedup();
            let (back, session) = there_and_back(&names, "");
            prop_assert_eq!(back.selection.names, names);
            prop_assert_eq!(back.session, Some(session));
        }
    }
}
