//! A configuration from a file, whatever its format.

use std::{collections::BTreeSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};

use super::{
    RealtimeConfig,
    settings::{Input, SETTINGS, Setting},
};
use crate::access::Access;

impl<'de> Deserialize<'de> for RealtimeConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let config = deserializer.deserialize_map(Settings)?;
        config.checked().map_err(D::Error::custom)
    }
}

/// An error of a setting that is more than a plain value says which one it is.
fn named<T, E: serde::de::Error>(name: &str, value: Result<T, E>) -> Result<T, E> {
    value.map_err(|error| {
        let text = error.to_string();
        match text.starts_with(name) {
            true => error,
            false => E::custom(format!("{name}: {text}")),
        }
    })
}

struct Settings;

impl<'de> Visitor<'de> for Settings {
    type Value = RealtimeConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of settings")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<RealtimeConfig, M::Error> {
        let mut access = None;
        // Stands in until `access` is read, and lets nobody else in.
        let mut config = RealtimeConfig::new(Access::loopback());
        let mut seen = BTreeSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                return Err(M::Error::custom(format!("{name} is given twice")));
            }
            match name.as_str() {
                "access" => access = Some(named("access", map.next_value())?),
                "prices" => config.prices = named("prices", map.next_value())?,
                "cors" => config.cors = named("cors", map.next_value())?,
                name => {
                    let setting =
                        Setting::named(name).ok_or_else(|| M::Error::custom(unknown(name)))?;
                    map.next_value_seed(Into {
                        setting,
                        config: &mut config,
                    })?;
                }
            }
        }
        config.access = access.ok_or_else(|| {
            M::Error::custom(format!(
                "access is missing: who may look has no default; it takes {}",
                Access::TAKES
            ))
        })?;
        Ok(config)
    }
}

fn unknown(name: &str) -> String {
    let mut names = vec!["access", "prices", "cors"];
    names.extend(SETTINGS.iter().map(|setting| setting.name));
    format!("unknown setting {name:?}, there are {}", names.join(", "))
}

/// Puts the next value into its setting.
struct Into<'a> {
    setting: &'static Setting,
    config: &'a mut RealtimeConfig,
}

impl Into<'_> {
    fn put<E: serde::de::Error>(self, input: Input<'_>) -> Result<(), E> {
        self.setting
            .put(self.config, input)
            .map_err(|why| E::custom(format!("{} is {why}", self.setting.name)))
    }
}

impl<'de> DeserializeSeed<'de> for Into<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Into<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of {}", self.setting.name)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.put(Input::Text(text))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<(), E> {
        self.put(Input::Integer(number))
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<(), E> {
        match u64::try_from(number) {
            Ok(number) => self.put(Input::Integer(number)),
            Err(_) => self.put(Input::Other(number.to_string())),
        }
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<(), E> {
        self.put(Input::Other(number.to_string()))
    }

    fn visit_bool<E: serde::de::Error>(self, flag: bool) -> Result<(), E> {
        self.put(Input::Flag(flag))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.put(Input::None)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<(), E> {
        self.put(Input::None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<(), S::Error> {
        let mut list = Vec::new();
        while let Some(member) = seq.next_element::<String>()? {
            list.push(member);
        }
        self.put(Input::List(list))
    }

    fn visit_map<M: MapAccess<'de>>(self, _: M) -> Result<(), M::Error> {
        self.put(Input::Other("an object".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn read(json: &str) -> RealtimeConfig {
        serde_json::from_str(json).unwrap()
    }

    fn refusal(json: &str) -> String {
        let text = serde_json::from_str::<RealtimeConfig>(json)
            .unwrap_err()
            .to_string();
        // serde_json adds where it was.
        text.split(" at line ").next().unwrap().to_owned()
    }

    #[test]
    fn every_setting_can_be_in_a_file() {
        let config = read(
            r#"{
                "access": "public", "enabled": false, "ws_enabled": false, "ws_deflate": false,
                "heartbeat_interval": "11s", "client_timeout": "12s", "stall_timeout": "13s",
                "flush_interval": "14ms", "compression": true, "buffer_size": 15, "replay_capacity": 16, "replay_bytes": "17MiB",
                "replay_age": "18m", "inbox_capacity": 19, "window_size": "20s", "window_count": 21,
                "user_timeout": "22s", "stats_interval": "23s", "logs_interval": "24s",
                "providers_interval": "25s", "system_interval": "26s", "max_clients": 27,
                "max_clients_per_user": 28, "max_clients_per_ip": null, "max_channels": 30, "max_age": "1h30m",
                "feed_capacity": 132, "max_routes": 33, "max_models": 34, "max_providers": 35, "max_tenants": 36,
                "max_users": 37, "currency": "EUR", "instance": "a-1", "title": "Gateway",
                "stream_path": "/s", "ws_path": "/w", "api_path": "/a", "dashboard_path": "/d",
                "token_key": "0123456789abcdef0123456789abcdef", "inbound_per_minute": 38,
                "reads_per_minute": 138, "denials_per_minute": null,
                "ws_ping_interval": "39s", "ws_timeout": "40s",
                "trusted_proxies": ["10.0.0.0/8", "::1"], "allowed_origins": ["https://a.example"],
                "prices": {"m": {"input_per_million": 1, "output_per_million": 2}}, "cors": "any"
            }"#,
        );
        let shown: Vec<String> = SETTINGS
            .iter()
            .map(|setting| setting.show(&config))
            .collect();
        assert_eq!(
            shown,
            [
                "false",
                "false",
                "false",
                "11s",
                "12s",
                "13s",
                "14ms",
                "true",
                "15",
                "16",
                "17MiB",
                "18m",
                "19",
                "20s",
                "21",
                "22s",
                "23s",
                "24s",
                "25s",
                "26s",
                "27",
                "28",
                "none",
                "30",
                "1h30m",
                "132",
                "33",
                "34",
                "35",
                "36",
                "37",
                "\"EUR\"",
                "\"a-1\"",
                "\"Gateway\"",
                "\"/s\"",
                "\"/w\"",
                "\"/a\"",
                "\"/d\"",
                "given",
                "38",
                "138",
                "none",
                "39s",
                "40s",
                "[\"10.0.0.0/8\", \"::1\"]",
                "[\"https://a.example\"]",
            ]
        );
        assert_eq!(config.prices.len(), 1);
        assert_eq!(format!("{:?}", config.access), "Access::public");
    }

    #[test]
    fn only_access_has_to_be_there() {
        let config = read(r#"{"access": "loopback"}"#);
        assert_eq!(config.heartbeat_interval, Duration::from_secs(15));
        assert!(
            refusal("{}").starts_with(
                "access is missing: who may look has no default; it takes \"loopback\""
            )
        );
    }

    #[test]
    fn wrong_values_are_named_with_what_they_take() {
        for (setting, message) in [
            (
                r#""heartbeat_interval": 30"#,
                "heartbeat_interval is 30: it takes a duration from 10ms to 1h, such as \"15s\"",
            ),
            (
                r#""heartbeat_interval": "30""#,
                "heartbeat_interval is \"30\": it takes a duration from 10ms to 1h, such as \"15s\"",
            ),
            (
                r#""heartbeat_interval": "2h""#,
                "heartbeat_interval is 2h: it takes a duration from 10ms to 1h, such as \"15s\"",
            ),
            (
                r#""heartbeat_interval": null"#,
                "heartbeat_interval is null: it takes a duration from 10ms to 1h, such as \"15s\"",
            ),
            (
                r#""max_clients": -1"#,
                "max_clients is -1: it takes a whole number from 1 to 1000000",
            ),
            (
                r#""max_clients": 1.5"#,
                "max_clients is 1.5: it takes a whole number from 1 to 1000000",
            ),
            (
                r#""max_clients": {}"#,
                "max_clients is an object: it takes a whole number from 1 to 1000000",
            ),
            (
                r#""replay_bytes": 4096"#,
                "replay_bytes is 4096: it takes a size from 64KiB to 1GiB, such as \"8MiB\"",
            ),
            (r#""enabled": 1"#, "enabled is 1: it takes true or false"),
            (
                r#""title": ["a"]"#,
                "title is a list: it takes 1 to 128 bytes without control characters",
            ),
            (
                r#""token_key": "top secret""#,
                "token_key is too short or too long: it takes 32 to 1024 bytes",
            ),
            (
                r#""token_key": 1234567890123456"#,
                "token_key is not taken: it takes 32 to 1024 bytes",
            ),
            (
                r#""ws_timeout": "10s""#,
                "ws_timeout is 10s: it takes more than ws_ping_interval, which is 30s",
            ),
            (
                r#""max_users": 1, "max_users": 2"#,
                "max_users is given twice",
            ),
            (
                r#""prices": {"m": {"input_per_million": -1, "output_per_million": 1}}"#,
                "prices: input_per_million of \"m\" is -1: it takes a number from 0 to 1000000000",
            ),
        ] {
            let json = format!(r#"{{"access": "loopback", {setting}}}"#);
            assert_eq!(refusal(&json), message);
        }
        let unknown = refusal(r#"{"access": "loopback", "hearbeat": "1s"}"#);
        assert!(
            unknown.starts_with(
                "unknown setting \"hearbeat\", there are access, prices, cors, enabled,"
            ),
            "{unknown}"
        );
    }
}
