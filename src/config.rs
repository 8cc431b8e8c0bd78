//! Every setting: its default, its bounds, and the three ways to give it (setter, configuration file, environment).

mod env;
mod file;
mod setters;
mod settings;
mod text;

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    access::{Access, Cors, TokenKey},
    error::{Error, Kind},
    price::PriceTable,
};

/// Reads a minute for each page that may be open, unless it is said otherwise.
const READS_A_CLIENT: usize = 60;
/// Also where hardly any may: a page that opens asks for a dozen things at once.
const LEAST_READS: usize = 6_000;

/// What a host may say instead of the matched route.
pub(crate) type RouteLabel =
    Arc<dyn Fn(&http::request::Parts) -> Option<Cow<'static, str>> + Send + Sync>;

/// The configuration of a `RealtimeLayer`: who may look, and every other setting with a default.
///
/// Settings come from three places, each optional, the later one wins: a file (`RealtimeConfig` implements
/// [`serde::Deserialize`]), the setters, and the environment ([`from_env`](Self::from_env)).
///
/// ```
/// # use std::time::Duration;
/// # use tower_realtime::{Access, RealtimeConfig};
/// # fn main() -> Result<(), tower_realtime::Error> {
/// let config = RealtimeConfig::new(Access::loopback())
///     .heartbeat_interval(Duration::from_secs(10))
///     .max_clients(200)
///     .from_env()?;
/// config.validate()?;
/// # Ok(())
/// # }
/// ```
///
/// A file names the settings as the setters do. Durations and sizes carry their unit (`"250ms"`, `"30s"`, `"5m"`,
/// `"1h30m"`, `"1d"`; `"512KiB"`, `"8MiB"`), a bare number is refused for them, and so is a name that is no setting.
/// Only `access` has to be there:
///
/// ```
/// # use tower_realtime::RealtimeConfig;
/// let config: RealtimeConfig = serde_json::from_str(r#"{
///     "access": {"bearer": {"viewer_token": "see-me", "admin_token": "rule-me"}},
///     "heartbeat_interval": "10s",
///     "max_clients": 200,
///     "prices": {"gpt-4o": {"input_per_million": 2.5, "output_per_million": 10}}
/// }"#)?;
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// Setters take any value. What is out of bounds is found by [`validate`](Self::validate), which names the setting,
/// its value and what it takes. The layer asks it when it is made: `RealtimeLayer::try_new` returns the error,
/// `RealtimeLayer::new` panics with its message.
#[derive(Clone)]
pub struct RealtimeConfig {
    pub(crate) access: Access,
    pub(crate) enabled: bool,
    pub(crate) ws_enabled: bool,
    pub(crate) ws_deflate: bool,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) client_timeout: Duration,
    pub(crate) stall_timeout: Duration,
    pub(crate) flush_interval: Duration,
    pub(crate) compression: bool,
    pub(crate) buffer_size: usize,
    pub(crate) replay_capacity: usize,
    pub(crate) replay_bytes: usize,
    pub(crate) replay_age: Duration,
    pub(crate) inbox_capacity: usize,
    pub(crate) window_size: Duration,
    pub(crate) window_count: usize,
    pub(crate) user_timeout: Duration,
    pub(crate) stats_interval: Duration,
    pub(crate) logs_interval: Duration,
    pub(crate) providers_interval: Duration,
    pub(crate) system_interval: Duration,
    pub(crate) max_clients: usize,
    pub(crate) max_clients_per_user: Option<usize>,
    pub(crate) max_clients_per_ip: Option<usize>,
    pub(crate) max_channels: usize,
    pub(crate) max_age: Option<Duration>,
    pub(crate) feed_capacity: usize,
    pub(crate) max_routes: usize,
    pub(crate) max_models: usize,
    pub(crate) max_providers: usize,
    pub(crate) max_tenants: usize,
    pub(crate) max_users: usize,
    pub(crate) prices: PriceTable,
    pub(crate) currency: String,
    pub(crate) instance: String,
    pub(crate) title: String,
    pub(crate) stream_path: String,
    pub(crate) ws_path: String,
    pub(crate) api_path: String,
    pub(crate) dashboard_path: String,
    pub(crate) route_label: Option<RouteLabel>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) token_key: Option<TokenKey>,
    pub(crate) inbound_per_minute: usize,
    pub(crate) reads_per_minute: Option<usize>,
    pub(crate) denials_per_minute: Option<usize>,
    pub(crate) ws_ping_interval: Duration,
    pub(crate) ws_timeout: Duration,
    pub(crate) cors: Cors,
    pub(crate) trusted_proxies: Vec<String>,
    pub(crate) allowed_origins: Vec<String>,
}

impl RealtimeConfig {
    /// All defaults. Who may look has none.
    pub fn new(access: Access) -> Self {
        Self {
            access,
            enabled: true,
            ws_enabled: true,
            ws_deflate: true,
            heartbeat_interval: Self::DEFAULT_HEARTBEAT_INTERVAL,
            client_timeout: Self::DEFAULT_CLIENT_TIMEOUT,
            stall_timeout: Self::DEFAULT_STALL_TIMEOUT,
            flush_interval: Self::DEFAULT_FLUSH_INTERVAL,
            compression: false,
            buffer_size: Self::DEFAULT_BUFFER_SIZE,
            replay_capacity: Self::DEFAULT_REPLAY_CAPACITY,
            replay_bytes: Self::DEFAULT_REPLAY_BYTES,
            replay_age: Self::DEFAULT_REPLAY_AGE,
            inbox_capacity: Self::DEFAULT_INBOX_CAPACITY,
            window_size: Self::DEFAULT_WINDOW_SIZE,
            window_count: Self::DEFAULT_WINDOW_COUNT,
            user_timeout: Self::DEFAULT_USER_TIMEOUT,
            stats_interval: Self::DEFAULT_STATS_INTERVAL,
            logs_interval: Self::DEFAULT_LOGS_INTERVAL,
            providers_interval: Self::DEFAULT_PROVIDERS_INTERVAL,
            system_interval: Self::DEFAULT_SYSTEM_INTERVAL,
            max_clients: Self::DEFAULT_MAX_CLIENTS,
            max_clients_per_user: None,
            max_clients_per_ip: None,
            max_channels: Self::DEFAULT_MAX_CHANNELS,
            max_age: None,
            feed_capacity: Self::DEFAULT_FEED_CAPACITY,
            max_routes: Self::DEFAULT_MAX_ROUTES,
            max_models: Self::DEFAULT_MAX_MODELS,
            max_providers: Self::DEFAULT_MAX_PROVIDERS,
            max_tenants: Self::DEFAULT_MAX_TENANTS,
            max_users: Self::DEFAULT_MAX_USERS,
            prices: PriceTable::new(),
            currency: Self::DEFAULT_CURRENCY.to_owned(),
            instance: random_instance(),
            title: Self::DEFAULT_TITLE.to_owned(),
            stream_path: Self::DEFAULT_STREAM_PATH.to_owned(),
            ws_path: Self::DEFAULT_WS_PATH.to_owned(),
            api_path: Self::DEFAULT_API_PATH.to_owned(),
            dashboard_path: Self::DEFAULT_DASHBOARD_PATH.to_owned(),
            route_label: None,
            shutdown: CancellationToken::new(),
            token_key: None,
            inbound_per_minute: Self::DEFAULT_INBOUND_PER_MINUTE,
            reads_per_minute: None,
            denials_per_minute: Some(Self::DEFAULT_DENIALS_PER_MINUTE),
            ws_ping_interval: Self::DEFAULT_WS_PING_INTERVAL,
            ws_timeout: Self::DEFAULT_WS_TIMEOUT,
            cors: Cors::off(),
            trusted_proxies: Vec::new(),
            allowed_origins: Vec::new(),
        }
    }

    /// Checks every setting, and those that have to fit together.
    ///
    /// # Errors
    ///
    /// The first setting with a value that it does not take: [`Error::is_config`], with a message that names the
    /// setting, the value (never that of a secret) and what it takes.
    pub fn validate(&self) -> Result<(), Error> {
        for setting in settings::SETTINGS {
            setting.check(self).map_err(config_error)?;
        }
        self.access.validate()?;
        self.cors.validate()?;
        self.prices.validate()?;
        self.check_paths().map_err(config_error)?;
        if self.ws_timeout <= self.ws_ping_interval {
            return Err(config_error(format!(
                "ws_timeout is {}: it takes more than ws_ping_interval, which is {}",
                text::duration_text(self.ws_timeout),
                text::duration_text(self.ws_ping_interval),
            )));
        }
        Ok(())
    }

    /// As many as its own setting says, or what no crowd of pages reaches.
    pub(crate) fn reads_a_minute(&self) -> usize {
        let pages = self.max_clients.saturating_mul(READS_A_CLIENT);
        self.reads_per_minute.unwrap_or(pages.max(LEAST_READS))
    }

    /// What the layer calls before it builds anything.
    pub(crate) fn checked(self) -> Result<Self, Error> {
        self.validate()?;
        Ok(self)
    }

    /// Streams, sockets and the API have names below their path, so nothing else may live there. The dashboard's
    /// path is asked last: the others may lie below it.
    fn check_paths(&self) -> Result<(), String> {
        let paths = [
            ("stream_path", &self.stream_path),
            ("ws_path", &self.ws_path),
            ("api_path", &self.api_path),
            ("dashboard_path", &self.dashboard_path),
        ];
        for (name, path) in paths {
            for (other_name, other) in &paths[..3] {
                let inside = path
                    .strip_prefix(other.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
                if name != *other_name && inside {
                    return Err(format!(
                        "{name} is {path:?}: it takes a path outside of {other_name}, which is {other:?}"
                    ));
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for RealtimeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("RealtimeConfig");
        debug.field("access", &self.access);
        for setting in settings::SETTINGS {
            debug.field(setting.name, &format_args!("{}", setting.show(self)));
        }
        debug
            .field("prices", &self.prices)
            .field("cors", &self.cors)
            .field("route_label", &self.route_label.is_some())
            .finish_non_exhaustive()
    }
}

fn config_error(message: String) -> Error {
    Error::new(Kind::Config, message)
}

/// Four hex digits. No secret: without a source of randomness the process id does.
fn random_instance() -> String {
    let mut bytes = [0; 2];
    let number = match getrandom::fill(&mut bytes) {
        Ok(()) => u16::from_be_bytes(bytes),
        Err(_) => std::process::id() as u16,
    };
    format!("{number:04x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> RealtimeConfig {
        RealtimeConfig::new(Access::loopback())
    }

    fn refusal(config: RealtimeConfig) -> String {
        let error = config.checked().unwrap_err();
        assert!(error.is_config());
        error.to_string()
    }

    #[test]
    fn the_defaults_are_valid_and_those_of_the_documents() {
        let config = config().checked().unwrap();
        assert_eq!(config.heartbeat_interval, Duration::from_secs(15));
        assert_eq!(config.client_timeout, Duration::from_secs(300));
        assert_eq!(config.buffer_size, 100);
        assert_eq!(config.window_size, Duration::from_secs(60));
        assert_eq!(config.window_count, 60);
        assert_eq!(config.user_timeout, Duration::from_secs(300));
        assert_eq!(config.stats_interval, Duration::from_secs(2));
        assert_eq!(config.logs_interval, Duration::from_secs(1));
        assert_eq!(config.providers_interval, Duration::from_secs(5));
        assert_eq!(config.max_clients_per_user, None);
        assert_eq!(config.instance.len(), 4);
        assert!(config.instance.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }

    #[test]
    fn what_is_out_of_bounds_is_named_with_what_it_takes() {
        let zero = Duration::ZERO;
        for (config, message) in [
            (
                config().heartbeat_interval(zero),
                "heartbeat_interval is 0s: it takes a duration from 10ms to 1h, such as \"15s\"",
            ),
            (
                config().max_clients(0),
                "max_clients is 0: it takes a whole number from 1 to 1000000",
            ),
            (
                config().max_clients_per_user(0),
                "max_clients_per_user is 0: it takes a whole number from 1 to 1000000, or none",
            ),
            (
                config().max_age(Duration::from_millis(1)),
                "max_age is 1ms: it takes a duration from 1s to 30d, such as \"6h\", or none",
            ),
            (
                config().replay_bytes(10),
                "replay_bytes is 10B: it takes a size from 64KiB to 1GiB, such as \"8MiB\"",
            ),
            (
                config().currency("dollars"),
                "currency is \"dollars\": it takes three capital letters, such as USD",
            ),
            (
                config().instance("a b"),
                "instance is \"a b\": it takes 1 to 64 letters, digits, dots, dashes and underscores",
            ),
            (
                config().title(""),
                "title is \"\": it takes 1 to 128 bytes without control characters",
            ),
            (
                config().stream_path("stream"),
                "stream_path is \"stream\": it takes a path such as /stream: segments of letters, digits, - . _ ~, no slash at the end",
            ),
            (
                config().token_key("short"),
                "token_key is too short or too long: it takes 32 to 1024 bytes",
            ),
            (
                config().allowed_origins(["app.example.com"]),
                "allowed_origins is \"app.example.com\": it takes origins such as https://app.example.com, without a path",
            ),
            (
                config().trusted_proxies(["10.0.0.0/33"]),
                "trusted_proxies is \"10.0.0.0/33\": it takes addresses and networks such as 10.0.0.0/8",
            ),
            (
                config().ws_ping_interval(Duration::from_secs(90)),
                "ws_timeout is 1m30s: it takes more than ws_ping_interval, which is 1m30s",
            ),
            (
                config().api_path("/stream/api"),
                "api_path is \"/stream/api\": it takes a path outside of stream_path, which is \"/stream\"",
            ),
            (
                config().dashboard_path("/ws"),
                "dashboard_path is \"/ws\": it takes a path outside of ws_path, which is \"/ws\"",
            ),
        ] {
            assert_eq!(refusal(config), message);
        }
        assert!(
            refusal(config().prices(PriceTable::new().model("m", crate::Price::new(-1.0, 0.0))))
                .starts_with("prices: input_per_million of \"m\" is -1")
        );
    }

    #[test]
    fn other_paths_may_lie_below_the_dashboard() {
        let config = config()
            .dashboard_path("/ops")
            .stream_path("/ops/stream")
            .ws_path("/ops/ws")
            .api_path("/ops/api");
        assert!(config.validate().is_ok());
        assert!(
            self::config()
                .stream_path("/streams")
                .ws_path("/stream")
                .validate()
                .is_ok()
        );
    }

    #[test]
    fn debug_names_every_setting_and_no_secret() {
        let config = RealtimeConfig::new(Access::bearer("viewer-secret").admin("admin-secret"))
            .token_key("key-secret-key-secret-key-secret-key-secret");
        let text = format!("{config:?}");
        assert!(!text.contains("secret"), "{text}");
        for setting in settings::SETTINGS {
            assert!(text.contains(setting.name), "{}", setting.name);
        }
        assert!(text.contains("heartbeat_interval: 15s"));
        assert!(text.contains("bearer"));
    }
}
