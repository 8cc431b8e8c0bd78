//! The environment over a configuration.

use std::collections::BTreeMap;

use super::{
    RealtimeConfig, config_error,
    settings::{Input, SETTINGS, Setting},
};
use crate::{
    access::{Access, Cors},
    error::Error,
};

/// What the crate's own variables begin with.
const PREFIX: &str = "REALTIME_";

/// Other names of some settings, from deployments of older services.
const ALIASES: [(&str, &str); 10] = [
    ("REAL_TIME_ENABLED", "enabled"),
    ("WEBSOCKET_ENABLED", "ws_enabled"),
    ("REAL_TIME_HEARTBEAT_INTERVAL", "heartbeat_interval"),
    ("REAL_TIME_UPDATE_INTERVAL", "stats_interval"),
    ("REAL_TIME_BUFFER_FLUSH_INTERVAL", "flush_interval"),
    ("CONNECTION_TIMEOUT", "client_timeout"),
    ("WEBSOCKET_PING_INTERVAL", "ws_ping_interval"),
    ("WEBSOCKET_PATH", "ws_path"),
    ("MAX_CONNECTIONS_PER_USER", "max_clients_per_user"),
    ("MAX_BUFFER_SIZE", "buffer_size"),
];

const ACCESS: &str = "REALTIME_ACCESS";
const VIEWER_TOKEN: &str = "REALTIME_VIEWER_TOKEN";
const ADMIN_TOKEN: &str = "REALTIME_ADMIN_TOKEN";
#[cfg(feature = "jwt")]
const JWT: &str = "REALTIME_JWT";
const PRICES: &str = "REALTIME_PRICES";
const CORS: &str = "REALTIME_CORS";

impl RealtimeConfig {
    /// Lays the process's environment over this configuration.
    ///
    /// A variable is called `REALTIME_` and the setting's name in capitals: `REALTIME_HEARTBEAT_INTERVAL=30s`,
    /// `REALTIME_MAX_CLIENTS=200`, `REALTIME_REPLAY_BYTES=16MiB`, `REALTIME_MAX_AGE=none`. Lists are separated by commas.
    /// `REALTIME_PRICES` is the JSON of a [`PriceTable`](crate::PriceTable); `REALTIME_CORS` is `off`, `any`, or a list
    /// of origins; `REALTIME_ACCESS` is `loopback`, `public`, or `bearer`, which takes
    /// `REALTIME_VIEWER_TOKEN`; `REALTIME_ADMIN_TOKEN` goes with `bearer` and `public`. With the feature `jwt`,
    /// `jwt` takes `REALTIME_JWT`, the JSON that stands in a file under `access`, `jwt`. Only `route_label` and `shutdown`
    /// have no variable.
    ///
    /// These names are read too; their durations are milliseconds where they have no unit, and the name above
    /// wins over them:
    ///
    /// | variable | setting |
    /// |---|---|
    /// | `REAL_TIME_ENABLED` | [`enabled`](Self::enabled) |
    /// | `REAL_TIME_UPDATE_INTERVAL` | [`stats_interval`](Self::stats_interval) |
    /// | `REAL_TIME_HEARTBEAT_INTERVAL` | [`heartbeat_interval`](Self::heartbeat_interval) |
    /// | `REAL_TIME_BUFFER_FLUSH_INTERVAL` | [`flush_interval`](Self::flush_interval) |
    /// | `WEBSOCKET_ENABLED` | [`ws_enabled`](Self::ws_enabled) |
    /// | `WEBSOCKET_PATH` | [`ws_path`](Self::ws_path) |
    /// | `WEBSOCKET_PING_INTERVAL` | [`ws_ping_interval`](Self::ws_ping_interval) |
    /// | `MAX_CONNECTIONS_PER_USER` | [`max_clients_per_user`](Self::max_clients_per_user) |
    /// | `MAX_BUFFER_SIZE` | [`buffer_size`](Self::buffer_size) |
    /// | `CONNECTION_TIMEOUT` | [`client_timeout`](Self::client_timeout) |
    ///
    /// `REAL_TIME_CLEANUP_INTERVAL` has no meaning here: what a client held is given back the moment it is gone. An
    /// empty variable counts as not set. Other variables are not looked at.
    ///
    /// # Errors
    ///
    /// The first variable with a value that its setting does not take: [`Error::is_config`], with a message that
    /// names the variable, the value (never that of a secret) and what it takes.
    pub fn from_env(self) -> Result<Self, Error> {
        let mut vars = Vec::new();
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str().filter(|name| is_known(name)) else {
                continue;
            };
            let value = value
                .into_string()
                .map_err(|_| config_error(format!("{name} is not UTF-8 text")))?;
            vars.push((name.to_owned(), value));
        }
        self.from_vars(vars)
    }

    /// The same with variables from elsewhere: a parsed `.env` file, a test.
    ///
    /// # Errors
    ///
    /// As [`from_env`](Self::from_env).
    pub fn from_vars<K, V>(mut self, vars: impl IntoIterator<Item = (K, V)>) -> Result<Self, Error>
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let vars: BTreeMap<String, String> = vars
            .into_iter()
            .filter(|(name, value)| is_known(name.as_ref()) && !value.as_ref().trim().is_empty())
            .map(|(name, value)| (name.as_ref().to_owned(), value.as_ref().trim().to_owned()))
            .collect();

        for (name, setting) in ALIASES {
            let (Some(value), Some(setting)) = (vars.get(name), Setting::named(setting)) else {
                continue;
            };
            let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
            if setting.is_time() && is_number {
                // What is wrong about the value is said of the value as it was given.
                setting
                    .put(&mut self, Input::Text(&format!("{value}ms")))
                    .map_err(|why| wrong(name, &why))?;
            } else {
                self.put(name, setting, value)?;
            }
        }
        for setting in SETTINGS {
            let name = variable(setting);
            if let Some(value) = vars.get(&name) {
                self.put(&name, setting, value)?;
            }
        }
        if let Some(prices) = vars.get(PRICES) {
            self.prices = serde_json::from_str(prices).map_err(|error| {
                config_error(format!(
                    "{PRICES} takes the JSON object of a price table: {error}"
                ))
            })?;
        }
        if let Some(cors) = vars.get(CORS) {
            self.cors = match cors.as_str() {
                "off" => Cors::off(),
                "any" => Cors::any(),
                origins => Cors::list(origins.split(',').map(str::trim)),
            };
            self.cors.validate().map_err(|_| {
                config_error(format!(
                    "{CORS} is {cors:?}: it takes off, any, or origins such as https://app.example.com, separated by commas"
                ))
            })?;
        }
        if let Some(access) = access_from(&vars)? {
            self.access = access;
        }
        Ok(self)
    }

    fn put(&mut self, name: &str, setting: &Setting, value: &str) -> Result<(), Error> {
        setting
            .put(self, Input::Text(value))
            .map_err(|why| wrong(name, &why))
    }
}

fn wrong(name: &str, why: &str) -> Error {
    config_error(format!("{name} is {why}"))
}

fn variable(setting: &Setting) -> String {
    format!("{PREFIX}{}", setting.name.to_ascii_uppercase())
}

fn is_known(name: &str) -> bool {
    #[cfg(feature = "jwt")]
    if name == JWT {
        return true;
    }
    [ACCESS, VIEWER_TOKEN, ADMIN_TOKEN, PRICES, CORS].contains(&name)
        || ALIASES.iter().any(|(alias, _)| *alias == name)
        || SETTINGS.iter().any(|setting| variable(setting) == name)
}

/// A token alone changes nothing about who may look: that is asked for by name.
fn access_from(vars: &BTreeMap<String, String>) -> Result<Option<Access>, Error> {
    let (viewer, admin) = (vars.get(VIEWER_TOKEN), vars.get(ADMIN_TOKEN));
    let access = match (vars.get(ACCESS).map(String::as_str), viewer) {
        (None, _) => {
            for (name, token) in [(VIEWER_TOKEN, viewer), (ADMIN_TOKEN, admin)] {
                if token.is_some() {
                    return Err(config_error(format!(
                        "{name} needs {ACCESS} beside it, such as {ACCESS}=bearer"
                    )));
                }
            }
            return Ok(None);
        }
        (Some("bearer"), Some(viewer)) => Access::bearer(viewer),
        (Some("bearer"), None) => {
            return Err(config_error(format!(
                "{ACCESS}=bearer needs {VIEWER_TOKEN}"
            )));
        }
        (Some("loopback" | "public" | "jwt"), Some(_)) => {
            return Err(config_error(format!(
                "{VIEWER_TOKEN} needs {ACCESS}=bearer"
            )));
        }
        (Some("loopback"), None) => Access::loopback(),
        (Some("public"), None) => Access::public(),
        #[cfg(feature = "jwt")]
        (Some("jwt"), None) => {
            let json = vars
                .get(JWT)
                .ok_or_else(|| config_error(format!("{ACCESS}=jwt needs {JWT}")))?;
            // Not the JSON's own error, which quotes what it finds.
            let value: serde_json::Value = serde_json::from_str(json)
                .map_err(|_| config_error(format!("{JWT} is not JSON")))?;
            let jwt = serde_json::from_value(value)
                .map_err(|error| config_error(format!("{JWT}: {error}")))?;
            Access::jwt(jwt)
        }
        // The value may be a token that was put into the wrong variable.
        (Some(_), _) => {
            return Err(config_error(format!(
                "{ACCESS} takes loopback, public, or bearer with {VIEWER_TOKEN}"
            )));
        }
    };
    let access = match admin {
        Some(admin) => access.admin(admin),
        None => access,
    };
    access
        .validate()
        .map_err(|error| config_error(format!("{ACCESS}: {error}")))?;
    Ok(Some(access))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn over(vars: &[(&str, &str)]) -> Result<RealtimeConfig, Error> {
        RealtimeConfig::new(Access::loopback()).from_vars(vars.iter().copied())
    }

    fn shown(vars: &[(&str, &str)], setting: &str) -> String {
        Setting::named(setting).unwrap().show(&over(vars).unwrap())
    }

    fn refusal(vars: &[(&str, &str)]) -> String {
        let error = over(vars).unwrap_err();
        assert!(error.is_config());
        error.to_string()
    }

    #[test]
    fn every_setting_has_a_variable() {
        let values = [
            ("REALTIME_ENABLED", "off", "false"),
            ("REALTIME_WS_ENABLED", "0", "false"),
            ("REALTIME_WS_DEFLATE", "no", "false"),
            ("REALTIME_HEARTBEAT_INTERVAL", "11s", "11s"),
            ("REALTIME_CLIENT_TIMEOUT", "12s", "12s"),
            ("REALTIME_STALL_TIMEOUT", "13s", "13s"),
            ("REALTIME_FLUSH_INTERVAL", "14ms", "14ms"),
            ("REALTIME_COMPRESSION", "on", "true"),
            ("REALTIME_BUFFER_SIZE", "15", "15"),
            ("REALTIME_REPLAY_CAPACITY", "16", "16"),
            ("REALTIME_REPLAY_BYTES", "17MiB", "17MiB"),
            ("REALTIME_REPLAY_AGE", "18m", "18m"),
            ("REALTIME_INBOX_CAPACITY", "19", "19"),
            ("REALTIME_WINDOW_SIZE", "20s", "20s"),
            ("REALTIME_WINDOW_COUNT", "21", "21"),
            ("REALTIME_USER_TIMEOUT", "22s", "22s"),
            ("REALTIME_STATS_INTERVAL", "23s", "23s"),
            ("REALTIME_LOGS_INTERVAL", "24s", "24s"),
            ("REALTIME_PROVIDERS_INTERVAL", "25s", "25s"),
            ("REALTIME_SYSTEM_INTERVAL", "26s", "26s"),
            ("REALTIME_MAX_CLIENTS", "27", "27"),
            ("REALTIME_MAX_CLIENTS_PER_USER", "28", "28"),
            ("REALTIME_MAX_CLIENTS_PER_IP", "29", "29"),
            ("REALTIME_MAX_CHANNELS", "30", "30"),
            ("REALTIME_MAX_AGE", "1h30m", "1h30m"),
            ("REALTIME_FEED_CAPACITY", "132", "132"),
            ("REALTIME_MAX_ROUTES", "33", "33"),
            ("REALTIME_MAX_MODELS", "34", "34"),
            ("REALTIME_MAX_PROVIDERS", "35", "35"),
            ("REALTIME_MAX_TENANTS", "36", "36"),
            ("REALTIME_MAX_USERS", "37", "37"),
            ("REALTIME_CURRENCY", "EUR", "\"EUR\""),
            ("REALTIME_INSTANCE", "a-1", "\"a-1\""),
            ("REALTIME_TITLE", "My gateway", "\"My gateway\""),
            ("REALTIME_STREAM_PATH", "/s", "\"/s\""),
            ("REALTIME_WS_PATH", "/w", "\"/w\""),
            ("REALTIME_API_PATH", "/a", "\"/a\""),
            ("REALTIME_DASHBOARD_PATH", "/d", "\"/d\""),
            (
                "REALTIME_TOKEN_KEY",
                "0123456789abcdef0123456789abcdef",
                "given",
            ),
            ("REALTIME_INBOUND_PER_MINUTE", "38", "38"),
            ("REALTIME_READS_PER_MINUTE", "138", "138"),
            ("REALTIME_DENIALS_PER_MINUTE", "139", "139"),
            ("REALTIME_WS_PING_INTERVAL", "39s", "39s"),
            ("REALTIME_WS_TIMEOUT", "40s", "40s"),
            (
                "REALTIME_TRUSTED_PROXIES",
                "10.0.0.0/8, ::1",
                "[\"10.0.0.0/8\", \"::1\"]",
            ),
            (
                "REALTIME_ALLOWED_ORIGINS",
                "https://a.example",
                "[\"https://a.example\"]",
            ),
        ];
        assert_eq!(values.len(), SETTINGS.len());
        for ((name, value, expected), setting) in values.into_iter().zip(SETTINGS) {
            assert_eq!(name, variable(setting));
            assert_eq!(shown(&[(name, value)], setting.name), expected);
        }
        for name in [
            "REALTIME_MAX_AGE",
            "REALTIME_MAX_CLIENTS_PER_USER",
            "REALTIME_MAX_CLIENTS_PER_IP",
        ] {
            let setting = name.trim_start_matches(PREFIX).to_ascii_lowercase();
            assert_eq!(shown(&[(name, "none")], &setting), "none");
        }
    }

    #[test]
    fn the_names_of_older_services_count_milliseconds() {
        let vars = [
            ("REAL_TIME_ENABLED", "true"),
            ("REAL_TIME_UPDATE_INTERVAL", "30000"),
            ("REAL_TIME_HEARTBEAT_INTERVAL", "30000"),
            ("REAL_TIME_CLEANUP_INTERVAL", "300000"),
            ("REAL_TIME_BUFFER_FLUSH_INTERVAL", "10000"),
            ("WEBSOCKET_ENABLED", "false"),
            ("WEBSOCKET_PATH", "/api/admin/analytics/websocket"),
            ("WEBSOCKET_PING_INTERVAL", "20000"),
            ("MAX_CONNECTIONS_PER_USER", "5"),
            ("MAX_BUFFER_SIZE", "150"),
            ("CONNECTION_TIMEOUT", "1800000"),
        ];
        let config = over(&vars).unwrap().checked().unwrap();
        assert!(config.enabled);
        assert!(!config.ws_enabled);
        assert_eq!(config.stats_interval, Duration::from_secs(30));
        assert_eq!(config.heartbeat_interval, Duration::from_secs(30));
        assert_eq!(config.flush_interval, Duration::from_secs(10));
        assert_eq!(config.ws_path, "/api/admin/analytics/websocket");
        assert_eq!(config.ws_ping_interval, Duration::from_secs(20));
        assert_eq!(config.max_clients_per_user, Some(5));
        assert_eq!(config.buffer_size, 150);
        assert_eq!(config.client_timeout, Duration::from_secs(1800));
        // Human durations are understood too, and the crate's own name wins wherever it stands.
        assert_eq!(
            shown(&[("CONNECTION_TIMEOUT", "30m")], "client_timeout"),
            "30m"
        );
        for vars in [
            [
                ("REALTIME_HEARTBEAT_INTERVAL", "7s"),
                ("REAL_TIME_HEARTBEAT_INTERVAL", "9000"),
            ],
            [
                ("REAL_TIME_HEARTBEAT_INTERVAL", "9000"),
                ("REALTIME_HEARTBEAT_INTERVAL", "7s"),
            ],
        ] {
            assert_eq!(shown(&vars, "heartbeat_interval"), "7s");
        }
        assert!(!over(&[("REAL_TIME_ENABLED", "FALSE")]).unwrap().enabled);
    }

    #[test]
    fn wrong_values_name_the_variable() {
        for (name, value, message) in [
            (
                "REALTIME_HEARTBEAT_INTERVAL",
                "30",
                "REALTIME_HEARTBEAT_INTERVAL is \"30\": it takes a duration from 10ms to 1h, such as \"15s\"",
            ),
            (
                "REAL_TIME_HEARTBEAT_INTERVAL",
                "5",
                "REAL_TIME_HEARTBEAT_INTERVAL is 5ms: it takes a duration from 10ms to 1h, such as \"15s\"",
            ),
            (
                "REAL_TIME_HEARTBEAT_INTERVAL",
                "soon",
                "REAL_TIME_HEARTBEAT_INTERVAL is \"soon\": it takes a duration from 10ms to 1h, such as \"15s\"",
            ),
            (
                "MAX_CONNECTIONS_PER_USER",
                "0",
                "MAX_CONNECTIONS_PER_USER is 0: it takes a whole number from 1 to 1000000, or none",
            ),
            (
                "MAX_BUFFER_SIZE",
                "many",
                "MAX_BUFFER_SIZE is \"many\": it takes a whole number from 1 to 1000000",
            ),
            (
                "WEBSOCKET_ENABLED",
                "maybe",
                "WEBSOCKET_ENABLED is \"maybe\": it takes true or false",
            ),
            (
                "WEBSOCKET_PATH",
                "ws",
                "WEBSOCKET_PATH is \"ws\": it takes a path such as /stream: segments of letters, digits, - . _ ~, no slash at the end",
            ),
            (
                "REALTIME_TOKEN_KEY",
                "short secret",
                "REALTIME_TOKEN_KEY is too short or too long: it takes 32 to 1024 bytes",
            ),
            (
                "REALTIME_CORS",
                "app.example.com",
                "REALTIME_CORS is \"app.example.com\": it takes off, any, or origins such as https://app.example.com, separated by commas",
            ),
            (
                "REALTIME_ACCESS",
                "s3cret",
                "REALTIME_ACCESS takes loopback, public, or bearer with REALTIME_VIEWER_TOKEN",
            ),
            (
                "REALTIME_ACCESS",
                "bearer",
                "REALTIME_ACCESS=bearer needs REALTIME_VIEWER_TOKEN",
            ),
            (
                "REALTIME_ADMIN_TOKEN",
                "s3cret",
                "REALTIME_ADMIN_TOKEN needs REALTIME_ACCESS beside it, such as REALTIME_ACCESS=bearer",
            ),
        ] {
            assert_eq!(refusal(&[(name, value)]), message);
        }
        assert!(
            refusal(&[("REALTIME_PRICES", "{]")])
                .starts_with("REALTIME_PRICES takes the JSON object")
        );
    }

    #[test]
    fn access_comes_with_its_tokens() {
        let bearer = over(&[
            ("REALTIME_ACCESS", "bearer"),
            ("REALTIME_VIEWER_TOKEN", "see"),
            ("REALTIME_ADMIN_TOKEN", "rule"),
        ])
        .unwrap();
        assert_eq!(format!("{:?}", bearer.access), "Access::bearer(…).admin(…)");
        let public = over(&[("REALTIME_ACCESS", "public")]).unwrap();
        assert_eq!(format!("{:?}", public.access), "Access::public");
        assert_eq!(
            format!("{:?}", over(&[]).unwrap().access),
            "Access::loopback"
        );
        assert_eq!(
            refusal(&[
                ("REALTIME_ACCESS", "public"),
                ("REALTIME_VIEWER_TOKEN", "see")
            ]),
            "REALTIME_VIEWER_TOKEN needs REALTIME_ACCESS=bearer"
        );
        let same = refusal(&[
            ("REALTIME_ACCESS", "bearer"),
            ("REALTIME_VIEWER_TOKEN", "s3cret"),
            ("REALTIME_ADMIN_TOKEN", "s3cret"),
        ]);
        assert!(
            same.starts_with("REALTIME_ACCESS: access") && !same.contains("s3cret"),
            "{same}"
        );
    }

    #[cfg(feature = "jwt")]
    #[test]
    fn signed_tokens_come_with_their_key() {
        let with = |json: &'static str| [("REALTIME_ACCESS", "jwt"), ("REALTIME_JWT", json)];
        let good = with(r#"{"algorithm": "HS256", "key": "0123456789abcdef0123456789abcdef"}"#);
        assert_eq!(
            format!("{:?}", over(&good).unwrap().access),
            "Access::jwt(…)"
        );
        assert_eq!(
            refusal(&good[..1]),
            "REALTIME_ACCESS=jwt needs REALTIME_JWT"
        );
        for (json, message) in [
            ("s3cret", "REALTIME_JWT is not JSON"),
            (
                r#"{"algorithm": "HS256", "key": "s3cret"}"#,
                "REALTIME_JWT: access takes an HS256 secret of at least 32 bytes",
            ),
        ] {
            assert_eq!(refusal(&with(json)), message);
        }
    }

    #[test]
    fn empty_and_foreign_variables_are_not_looked_at() {
        let config = over(&[
            ("REALTIME_TITLE", ""),
            ("REALTIME_MAX_CLIENTS", "  "),
            ("REALTIME_SOMETHING_ELSE", "x"),
            ("PATH", "/bin"),
        ])
        .unwrap();
        assert_eq!(config.title, "Realtime");
        assert_eq!(config.max_clients, 1000);
        // The process's own environment has none of ours in a test run.
        assert!(RealtimeConfig::new(Access::loopback()).from_env().is_ok());
    }

    #[test]
    fn prices_and_cors() {
        let config = over(&[
            (
                "REALTIME_PRICES",
                r#"{"m": {"input_per_million": 1, "output_per_million": 2}}"#,
            ),
            ("REALTIME_CORS", "https://a.example, https://b.example"),
        ])
        .unwrap();
        assert_eq!(
            config.prices.cost_nanos("m", 1_000_000, 0, 0),
            Some(1_000_000_000)
        );
        assert_eq!(
            config.cors,
            Cors::list(["https://a.example", "https://b.example"])
        );
        assert_eq!(over(&[("REALTIME_CORS", "any")]).unwrap().cors, Cors::any());
        assert_eq!(over(&[("REALTIME_CORS", "off")]).unwrap().cors, Cors::off());
    }
}
