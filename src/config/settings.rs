//! The table of all settings that are plain values: what each takes, read the same from a file and from the
//! environment, and checked the same whoever set it.

use std::{ops::RangeInclusive, time::Duration};

use super::{
    RealtimeConfig,
    text::{duration_text, parse_duration, parse_size, size_text},
};
use crate::access::{TokenKey, is_network, is_origin};

/// One setting.
pub(super) struct Setting {
    pub(super) name: &'static str,
    slot: Slot,
}

/// Where its value lives, and what it takes.
enum Slot {
    /// Bounds, and an example.
    Time(Field<Duration>, RangeInclusive<Duration>, &'static str),
    OptionalTime(
        Field<Option<Duration>>,
        RangeInclusive<Duration>,
        &'static str,
    ),
    Count(Field<usize>, RangeInclusive<usize>),
    OptionalCount(Field<Option<usize>>, RangeInclusive<usize>),
    Size(Field<usize>, RangeInclusive<usize>, &'static str),
    Flag(Field<bool>),
    /// The check of a value, and what it takes in words.
    Text(Field<String>, fn(&str) -> bool, &'static str),
    /// The check of each member.
    List(Field<Vec<String>>, fn(&str) -> bool, &'static str),
    Key(Field<Option<TokenKey>>),
}

struct Field<T> {
    get: fn(&RealtimeConfig) -> &T,
    get_mut: fn(&mut RealtimeConfig) -> &mut T,
}

/// A value as a file or a variable gives it.
pub(super) enum Input<'a> {
    Text(&'a str),
    Integer(u64),
    Flag(bool),
    List(Vec<String>),
    None,
    /// Nothing that any setting takes; how to name it.
    Other(String),
}

macro_rules! setting {
    ($slot:ident, $name:ident $(, $argument:expr)*) => {
        Setting {
            name: stringify!($name),
            slot: Slot::$slot(
                Field {
                    get: |config| &config.$name,
                    get_mut: |config| &mut config.$name,
                },
                $($argument),*
            ),
        }
    };
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const MILLION: usize = 1_000_000;

const PATH: &str =
    "a path such as /stream: segments of letters, digits, - . _ ~, no slash at the end";

pub(super) static SETTINGS: &[Setting] = &[
    setting!(Flag, enabled),
    setting!(Flag, ws_enabled),
    setting!(Flag, ws_deflate),
    setting!(Time, heartbeat_interval, ms(10)..=HOUR, "15s"),
    setting!(Time, client_timeout, ms(100)..=DAY, "5m"),
    setting!(Time, stall_timeout, ms(100)..=HOUR, "20s"),
    setting!(Time, flush_interval, ms(0)..=ms(60_000), "20ms"),
    setting!(Flag, compression),
    setting!(Count, buffer_size, 1..=MILLION),
    setting!(Count, replay_capacity, 1..=10 * MILLION),
    setting!(Size, replay_bytes, 64 << 10..=1 << 30, "8MiB"),
    setting!(Time, replay_age, ms(1_000)..=ms(30 * 86_400_000), "1h"),
    setting!(Count, inbox_capacity, 16..=MILLION),
    setting!(Time, window_size, ms(1_000)..=HOUR, "1m"),
    setting!(Count, window_count, 1..=1_440),
    setting!(Time, user_timeout, ms(1_000)..=DAY, "5m"),
    setting!(Time, stats_interval, ms(100)..=HOUR, "2s"),
    setting!(Time, logs_interval, ms(100)..=HOUR, "1s"),
    setting!(Time, providers_interval, ms(100)..=HOUR, "5s"),
    setting!(Time, system_interval, ms(100)..=HOUR, "5s"),
    setting!(Count, max_clients, 1..=MILLION),
    setting!(OptionalCount, max_clients_per_user, 1..=MILLION),
    setting!(OptionalCount, max_clients_per_ip, 1..=MILLION),
    setting!(Count, max_channels, 16..=100_000),
    setting!(OptionalTime, max_age, ms(1_000)..=ms(30 * 86_400_000), "6h"),
    setting!(Count, feed_capacity, 64..=MILLION),
    setting!(Count, max_routes, 1..=100_000),
    setting!(Count, max_models, 1..=100_000),
    setting!(Count, max_providers, 1..=100_000),
    setting!(Count, max_tenants, 1..=100_000),
    setting!(Count, max_users, 1..=100_000),
    setting!(
        Text,
        currency,
        is_currency,
        "three capital letters, such as USD"
    ),
    setting!(
        Text,
        instance,
        is_instance,
        "1 to 64 letters, digits, dots, dashes and underscores"
    ),
    setting!(
        Text,
        title,
        is_title,
        "1 to 128 bytes without control characters"
    ),
    setting!(Text, stream_path, is_path, PATH),
    setting!(Text, ws_path, is_path, PATH),
    setting!(Text, api_path, is_path, PATH),
    setting!(Text, dashboard_path, is_path, PATH),
    setting!(Key, token_key),
    setting!(Count, inbound_per_minute, 1..=MILLION),
    setting!(OptionalCount, reads_per_minute, 1..=1_000 * MILLION),
    setting!(OptionalCount, denials_per_minute, 1..=MILLION),
    setting!(Time, ws_ping_interval, ms(100)..=HOUR, "30s"),
    setting!(Time, ws_timeout, ms(100)..=DAY, "90s"),
    setting!(
        List,
        trusted_proxies,
        is_network,
        "addresses and networks such as 10.0.0.0/8"
    ),
    setting!(
        List,
        allowed_origins,
        is_origin,
        "origins such as https://app.example.com, without a path"
    ),
];

impl Setting {
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.name == name)
    }

    pub(super) fn is_time(&self) -> bool {
        matches!(self.slot, Slot::Time(..) | Slot::OptionalTime(..))
    }

    /// Sets the value. `Err` says what it is and what it takes, and leaves a configuration to be thrown away.
    pub(super) fn put(&self, config: &mut RealtimeConfig, input: Input<'_>) -> Result<(), String> {
        if !self.slot.read(config, &input) {
            let takes = self.slot.takes();
            return Err(match (&self.slot, input) {
                (Slot::Key(_), _) => format!("not taken: it takes {takes}"),
                (_, Input::Text(text)) => format!("{text:?}: it takes {takes}"),
                (_, Input::Integer(number)) => format!("{number}: it takes {takes}"),
                (_, Input::Flag(flag)) => format!("{flag}: it takes {takes}"),
                (_, Input::List(_)) => format!("a list: it takes {takes}"),
                (_, Input::None) => format!("null: it takes {takes}"),
                (_, Input::Other(what)) => format!("{what}: it takes {takes}"),
            });
        }
        self.slot.within(config)
    }

    /// Whether the value is one that it takes.
    pub(super) fn check(&self, config: &RealtimeConfig) -> Result<(), String> {
        self.slot
            .within(config)
            .map_err(|why| format!("{} is {why}", self.name))
    }

    /// The value as text; never that of a secret.
    pub(super) fn show(&self, config: &RealtimeConfig) -> String {
        let none = || "none".to_owned();
        match &self.slot {
            Slot::Time(field, ..) => duration_text(*(field.get)(config)),
            Slot::OptionalTime(field, ..) => (field.get)(config).map_or_else(none, duration_text),
            Slot::Count(field, _) => (field.get)(config).to_string(),
            Slot::OptionalCount(field, _) => {
                (field.get)(config).map_or_else(none, |count| count.to_string())
            }
            Slot::Size(field, ..) => size_text(*(field.get)(config)),
            Slot::Flag(field) => (field.get)(config).to_string(),
            Slot::Text(field, ..) => format!("{:?}", (field.get)(config)),
            Slot::List(field, ..) => format!("{:?}", (field.get)(config)),
            Slot::Key(field) => match (field.get)(config) {
                Some(_) => "given".to_owned(),
                None => "random".to_owned(),
            },
        }
    }
}

impl Slot {
    /// Reads an input of the right kind into its field; bounds are the business of [`within`](Self::within).
    fn read(&self, config: &mut RealtimeConfig, input: &Input<'_>) -> bool {
        match (self, input) {
            (Self::Time(field, ..), Input::Text(text)) => put(field, config, parse_duration(text)),
            (Self::OptionalTime(field, ..), Input::None | Input::Text("none")) => {
                put(field, config, Some(None))
            }
            (Self::OptionalTime(field, ..), Input::Text(text)) => {
                put(field, config, parse_duration(text).map(Some))
            }
            (Self::Count(field, _), Input::Integer(number)) => {
                put(field, config, usize::try_from(*number).ok())
            }
            (Self::Count(field, _), Input::Text(text)) => put(field, config, text.parse().ok()),
            (Self::OptionalCount(field, _), Input::None | Input::Text("none")) => {
                put(field, config, Some(None))
            }
            (Self::OptionalCount(field, _), Input::Integer(number)) => {
                put(field, config, usize::try_from(*number).ok().map(Some))
            }
            (Self::OptionalCount(field, _), Input::Text(text)) => {
                put(field, config, text.parse().ok().map(Some))
            }
            (Self::Size(field, ..), Input::Text(text)) => put(field, config, parse_size(text)),
            (Self::Flag(field), Input::Flag(flag)) => put(field, config, Some(*flag)),
            (Self::Flag(field), Input::Text(text)) => put(field, config, parse_flag(text)),
            (Self::Text(field, ..), Input::Text(text)) => {
                put(field, config, Some((*text).to_owned()))
            }
            (Self::List(field, ..), Input::List(list)) => put(field, config, Some(list.clone())),
            (Self::List(field, ..), Input::Text(text)) => {
                let list = text.split(',').map(|member| member.trim().to_owned());
                put(field, config, Some(list.collect()))
            }
            (Self::Key(field), Input::Text(text)) => {
                put(field, config, Some(Some(TokenKey::new(text.as_bytes()))))
            }
            _ => false,
        }
    }

    /// `Err`: the value, and what it takes instead.
    fn within(&self, config: &RealtimeConfig) -> Result<(), String> {
        let wrong = match self {
            Self::Time(field, range, _) => {
                let time = (field.get)(config);
                (!range.contains(time)).then(|| duration_text(*time))
            }
            Self::OptionalTime(field, range, _) => (field.get)(config)
                .filter(|time| !range.contains(time))
                .map(duration_text),
            Self::Count(field, range) => {
                let count = (field.get)(config);
                (!range.contains(count)).then(|| count.to_string())
            }
            Self::OptionalCount(field, range) => (field.get)(config)
                .filter(|count| !range.contains(count))
                .map(|count| count.to_string()),
            Self::Size(field, range, _) => {
                let size = (field.get)(config);
                (!range.contains(size)).then(|| size_text(*size))
            }
            Self::Flag(_) => None,
            Self::Text(field, check, _) => {
                let text = (field.get)(config);
                (!check(text)).then(|| format!("{text:?}"))
            }
            Self::List(field, check, _) => (field.get)(config)
                .iter()
                .find(|member| !check(member))
                .map(|member| format!("{member:?}")),
            Self::Key(field) => (field.get)(config)
                .as_ref()
                .filter(|key| !key.has_fitting_length())
                .map(|_| "too short or too long".to_owned()),
        };
        match wrong {
            Some(value) => Err(format!("{value}: it takes {}", self.takes())),
            None => Ok(()),
        }
    }

    fn takes(&self) -> String {
        let time = |range: &RangeInclusive<Duration>, example: &str| {
            format!(
                "a duration from {} to {}, such as \"{example}\"",
                duration_text(*range.start()),
                duration_text(*range.end())
            )
        };
        let count = |range: &RangeInclusive<usize>| {
            format!("a whole number from {} to {}", range.start(), range.end())
        };
        match self {
            Self::Time(_, range, example) => time(range, example),
            Self::OptionalTime(_, range, example) => format!("{}, or none", time(range, example)),
            Self::Count(_, range) => count(range),
            Self::OptionalCount(_, range) => format!("{}, or none", count(range)),
            Self::Size(_, range, example) => format!(
                "a size from {} to {}, such as \"{example}\"",
                size_text(*range.start()),
                size_text(*range.end())
            ),
            Self::Flag(_) => "true or false".to_owned(),
            Self::Text(_, _, takes) | Self::List(_, _, takes) => (*takes).to_owned(),
            Self::Key(_) => "32 to 1024 bytes".to_owned(),
        }
    }
}

fn put<T>(field: &Field<T>, config: &mut RealtimeConfig, value: Option<T>) -> bool {
    let Some(value) = value else { return false };
    *(field.get_mut)(config) = value;
    true
}

fn parse_flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn is_currency(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

fn is_instance(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn is_title(text: &str) -> bool {
    (1..=128).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Only what no URL encoding can change: what is compared is then what is sent.
fn is_path(text: &str) -> bool {
    let Some(segments) = text.strip_prefix('/') else {
        return false;
    };
    text.len() <= 256
        && segments.split('/').all(|segment| {
            !segment.is_empty()
                && segment != "."
                && segment != ".."
                && segment
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for path in ["/stream", "/api/realtime", "/a/b-c/d.e/~f", "/1"] {
            assert!(is_path(path), "{path}");
        }
        for path in [
            "", "/", "stream", "/stream/", "//a", "/a//b", "/a/../b", "/.", "/a b", "/a?b", "/a#b",
            "/{id}", "/%41", "/ü",
        ] {
            assert!(!is_path(path), "{path}");
        }
    }
}
