//! The setters, each with its default and with what turning it up and down costs.

use std::{borrow::Cow, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::RealtimeConfig;
use crate::{
    access::{Cors, TokenKey},
    price::PriceTable,
};

/// On, off, and the end.
impl RealtimeConfig {
    /// Whether the layer does anything. Off, it hands every request through: nothing is recorded, and its paths
    /// belong to the host. Defaults to `true`.
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// Whether WebSockets are served, where the crate was built with them. Off, [`ws_path`](Self::ws_path) answers
    /// 404. Defaults to `true`.
    #[must_use]
    pub fn ws_enabled(mut self, enabled: bool) -> Self {
        self.ws_enabled = enabled;
        self
    }

    /// Whether WebSockets may agree on compression (permessage-deflate, RFC 7692). An event is deflated once for all
    /// that read it, so it costs the server little; what it can cost is secrecy, where one event holds a secret and
    /// text of an attacker's choice (BREACH), and a proxy that should look into frames sees nothing. Defaults to
    /// `true`.
    #[must_use]
    pub fn ws_deflate(mut self, enabled: bool) -> Self {
        self.ws_deflate = enabled;
        self
    }

    /// The host's own signal to shut down: when it is cancelled, every stream gets a `drain` event and ends, so that no
    /// viewer that reads holds up a graceful shutdown of the server. The token is only listened to, never cancelled from
    /// here. Defaults to a token of its own, that nobody cancels.
    ///
    /// The server waits for more than that: for every socket that is open. A viewer that does not read can't be given its
    /// end; behind `RealtimeHandle::guard` its socket is closed 2 s after the token, without it never, and over HTTP/2,
    /// where the stream is held back and not the socket, when its connection ends. The host's own answers and clients that
    /// send half a request are waited for as well. So a limit belongs around the server's end:
    ///
    /// ```no_run
    /// # #[cfg(feature = "axum")]
    /// # async fn run(
    /// #     app: axum::Router,
    /// #     listener: tokio::net::TcpListener,
    /// # ) -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// # use tokio_util::sync::CancellationToken;
    /// # use tower_realtime::{Access, RealtimeConfig, RealtimeLayer};
    /// let token = CancellationToken::new();
    /// let config = RealtimeConfig::new(Access::loopback()).shutdown(token.clone());
    /// let realtime = RealtimeLayer::new(config);
    /// let rt = realtime.handle();
    /// let server = axum::serve(rt.guard(listener), app.layer(realtime))
    ///     .with_graceful_shutdown(token.clone().cancelled_owned());
    /// let out_of_patience = async {
    ///     token.cancelled().await;
    ///     tokio::time::sleep(Duration::from_secs(10)).await;
    /// };
    /// tokio::select! {
    ///     served = server => served?,
    ///     () = out_of_patience => eprintln!("answers under way were cut off"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn shutdown(mut self, token: CancellationToken) -> Self {
        self.shutdown = token;
        self
    }
}

/// Streams.
impl RealtimeConfig {
    /// See [`heartbeat_interval`](Self::heartbeat_interval).
    pub const DEFAULT_HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);
    /// See [`client_timeout`](Self::client_timeout).
    pub const DEFAULT_CLIENT_TIMEOUT: Duration = Duration::from_secs(5 * 60);
    /// See [`stall_timeout`](Self::stall_timeout).
    pub const DEFAULT_STALL_TIMEOUT: Duration = Duration::from_secs(20);
    /// See [`flush_interval`](Self::flush_interval).
    pub const DEFAULT_FLUSH_INTERVAL: Duration = Duration::from_millis(20);
    /// See [`buffer_size`](Self::buffer_size).
    pub const DEFAULT_BUFFER_SIZE: usize = 100;
    /// See [`replay_capacity`](Self::replay_capacity).
    pub const DEFAULT_REPLAY_CAPACITY: usize = 4096;
    /// See [`replay_bytes`](Self::replay_bytes).
    pub const DEFAULT_REPLAY_BYTES: usize = 8 << 20;
    /// See [`replay_age`](Self::replay_age).
    pub const DEFAULT_REPLAY_AGE: Duration = Duration::from_secs(60 * 60);
    /// See [`inbox_capacity`](Self::inbox_capacity).
    pub const DEFAULT_INBOX_CAPACITY: usize = 8192;

    /// How often each stream gets a `heartbeat` event. Takes 10 ms to 1 h. Defaults to 15 s.
    ///
    /// Longer: fewer bytes and wake-ups an idle stream, but proxies that cut idle connections (often after 30 or
    /// 60 s) may cut it, and a client that vanished is noticed later. Shorter: the other way round.
    #[must_use]
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.heartbeat_interval = interval;
        self
    }

    /// After how long a stream that has taken nothing at all, not even a heartbeat, is ended and its place given to
    /// others. Takes 100 ms to 1 d. Defaults to 5 min.
    ///
    /// Longer: a vanished client keeps its place for longer. Shorter: clients on bad networks have to reconnect more
    /// often. Below [`heartbeat_interval`](Self::heartbeat_interval) quiet streams end between two heartbeats.
    #[must_use]
    pub fn client_timeout(mut self, timeout: Duration) -> Self {
        self.client_timeout = timeout;
        self
    }

    /// After how long a reader is let go that has events waiting and takes none of them. Takes 100 ms to 1 h.
    /// Defaults to 20 s.
    ///
    /// Events are taken when a good part of the socket's buffer is free again: behind the guarded listener, a client
    /// that reads less than some 5 to 10 kB a second of a busy stream is let go although it reads. The guide on slow
    /// readers says more.
    ///
    /// Longer: a stalled reader keeps its connection, and the bytes that its socket has already been handed. Shorter:
    /// a laptop that sleeps for a moment has to reconnect and resume.
    #[must_use]
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall_timeout = timeout;
        self
    }

    /// For how long events are collected before they go out together. The first event after a quiet time goes out at
    /// once. Takes 0 to 1 min. Defaults to 20 ms.
    ///
    /// Longer: fewer writes (ten events in one write cost an eighth of ten writes), and events arrive later. `0`:
    /// every event is written as soon as it is there.
    #[must_use]
    pub fn flush_interval(mut self, interval: Duration) -> Self {
        self.flush_interval = interval;
        self
    }

    /// Whether streams, JSON answers and the page's files are compressed with gzip for clients that accept it, where the
    /// crate was built with the feature `compression`. Defaults to `false`.
    ///
    /// On: streams shrink to an eighth (snapshots 0.13 of the plain bytes, single requests 0.14, everything 0.11). Events
    /// are compressed once for all readers of the same channels, filter and tenant, so what it costs does not grow with
    /// them: one compressor of about 320 KB for each set of channels that is read compressed without a filter (32 at
    /// most; sets with one reader have half of them), and one a thread.
    ///
    /// What a reader has for itself is compressed only as far as the host has time to spare: 4 MiB of events a second
    /// for all such readers together, about a twentieth of a core, where those who share an event share its price. That
    /// concerns a replay (`since`, `Last-Event-ID`), a reader with a `max_rate` or a filter that nobody else has, one
    /// that is behind, and JSON answers (from 1 KiB on). Each begins with up to 1 MiB at once, so a short absence
    /// is replayed compressed. What is beyond goes out in the same gzip stream as it is, with 5 bytes for each 64 KiB:
    /// nobody can make the host compress without end. `compression.made.stored` in `hub/stats` counts such blocks. What a
    /// reader has for itself, and what has a filter, shares no past with other events, and shrinks less.
    ///
    /// # Secrets
    ///
    /// Compression shortens what is guessed right. Somebody who can make requests, so that text of their choice (a user's
    /// name, a model, an error message, a log line) appears in an event, and who also sees how many bytes a viewer's
    /// encrypted stream has, can guess, try by try, what other events of the same stream show (CRIME, BREACH). Events of
    /// up to 30 seconds, of all channels of a stream, are compressed together, `logs` and foreign text included: they are
    /// most of what there is to compress, and any channel of the host's can hold such text as well. What bounds it:
    ///
    /// - the crate compresses no secret of its own: reconnect tokens and tickets never are;
    /// - request events hold no headers, bodies, paths or queries; routes are templates;
    /// - a viewer who is bound to a tenant gets a stream with events of that tenant alone. Others' text meets a
    ///   tenant's events only in the streams of viewers who see all tenants.
    ///
    /// So leave it off where your own events or log lines hold secrets beside text of strangers: credentials that end up
    /// in an error message or a log line, say. A client that asks for no gzip (`Accept-Encoding: identity`) is never
    /// compressed. For WebSockets it is [`ws_deflate`](Self::ws_deflate) that decides.
    #[must_use]
    pub fn compression(mut self, on: bool) -> Self {
        self.compression = on;
        self
    }

    /// How many undelivered events a reader may have before it counts as lagging and loses the less important ones.
    /// Takes 1 to 1,000,000. Defaults to 100.
    ///
    /// It counts only for a reader that has let an event wait for a quarter of
    /// [`stall_timeout`](Self::stall_timeout), so bursts and replays reach everybody whole. Then the oldest events of
    /// [low](crate::Priority::Low), and after them of normal priority, are skipped and reported as `gap`; high and
    /// critical ones are not, and critical ones are handed over first. More than 1 MiB is too much as well, however few
    /// events it is.
    ///
    /// Higher: slow readers get more, and their streams run further behind. Lower: they see gaps sooner and stay closer
    /// to now. It reserves no memory: events lie in the log of their channel, once for all.
    #[must_use]
    pub fn buffer_size(mut self, events: usize) -> Self {
        self.buffer_size = events;
        self
    }

    /// How many events each channel keeps for readers that come back. Takes 1 to 10,000,000. Defaults to 4096.
    ///
    /// Higher: longer interruptions are resumed without a gap, for memory. The first of this,
    /// [`replay_bytes`](Self::replay_bytes) and [`replay_age`](Self::replay_age) that is reached decides.
    #[must_use]
    pub fn replay_capacity(mut self, events: usize) -> Self {
        self.replay_capacity = events;
        self
    }

    /// How many bytes of events each channel keeps: the ceiling of its memory. Takes 64 KiB to 1 GiB. Defaults to
    /// 8 MiB.
    #[must_use]
    pub fn replay_bytes(mut self, bytes: usize) -> Self {
        self.replay_bytes = bytes;
        self
    }

    /// For how long each channel keeps an event. Takes 1 s to 30 d. Defaults to 1 h.
    #[must_use]
    pub fn replay_age(mut self, age: Duration) -> Self {
        self.replay_age = age;
        self
    }

    /// How many published events may wait for the hub's task. Takes 16 to 1,000,000. Defaults to 8192.
    ///
    /// Publishing never waits: what finds the inbox full is refused and counted. Higher: larger bursts fit, for
    /// memory while they last.
    #[must_use]
    pub fn inbox_capacity(mut self, events: usize) -> Self {
        self.inbox_capacity = events;
        self
    }
}

/// Numbers.
impl RealtimeConfig {
    /// See [`window_size`](Self::window_size).
    pub const DEFAULT_WINDOW_SIZE: Duration = Duration::from_secs(60);
    /// See [`window_count`](Self::window_count).
    pub const DEFAULT_WINDOW_COUNT: usize = 60;
    /// See [`user_timeout`](Self::user_timeout).
    pub const DEFAULT_USER_TIMEOUT: Duration = Duration::from_secs(5 * 60);
    /// See [`stats_interval`](Self::stats_interval).
    pub const DEFAULT_STATS_INTERVAL: Duration = Duration::from_secs(2);
    /// See [`logs_interval`](Self::logs_interval).
    pub const DEFAULT_LOGS_INTERVAL: Duration = Duration::from_secs(1);
    /// See [`providers_interval`](Self::providers_interval).
    pub const DEFAULT_PROVIDERS_INTERVAL: Duration = Duration::from_secs(5);
    /// See [`system_interval`](Self::system_interval).
    pub const DEFAULT_SYSTEM_INTERVAL: Duration = Duration::from_secs(5);
    /// See [`currency`](Self::currency).
    pub const DEFAULT_CURRENCY: &str = "USD";

    /// The length of one window of the aggregates. Takes 1 s to 1 h. Defaults to 1 min.
    ///
    /// Shorter windows follow faster and cost memory: each of the [`window_count`](Self::window_count) windows has
    /// its own numbers and histograms of every route, model and provider that was seen in it.
    #[must_use]
    pub fn window_size(mut self, size: Duration) -> Self {
        self.window_size = size;
        self
    }

    /// How many windows are kept. Takes 1 to 1440. Defaults to 60, which with the default size is an hour.
    #[must_use]
    pub fn window_count(mut self, count: usize) -> Self {
        self.window_count = count;
        self
    }

    /// For how long after the last request a user counts as active. Takes 1 s to 1 d. Defaults to 5 min.
    #[must_use]
    pub fn user_timeout(mut self, timeout: Duration) -> Self {
        self.user_timeout = timeout;
        self
    }

    /// How often `stats` is published. Takes 100 ms to 1 h. Defaults to 2 s.
    ///
    /// Shorter: livelier pages, for one encoding of the snapshot each time and its bytes to every reader.
    #[must_use]
    pub fn stats_interval(mut self, interval: Duration) -> Self {
        self.stats_interval = interval;
        self
    }

    /// How often the new requests are published as one `logs` event. Takes 100 ms to 1 h. Defaults to 1 s.
    ///
    /// Longer: fewer and larger events; above 60,000 bytes they are split.
    #[must_use]
    pub fn logs_interval(mut self, interval: Duration) -> Self {
        self.logs_interval = interval;
        self
    }

    /// How often `providers` is published; a change of a provider's status is published at once. Takes 100 ms to 1 h.
    /// Defaults to 5 s.
    #[must_use]
    pub fn providers_interval(mut self, interval: Duration) -> Self {
        self.providers_interval = interval;
        self
    }

    /// How often `system` is published, and the host's gauges are asked. Takes 100 ms to 1 h. Defaults to 5 s.
    #[must_use]
    pub fn system_interval(mut self, interval: Duration) -> Self {
        self.system_interval = interval;
        self
    }

    /// What models cost. Defaults to an empty table: requests that do not say what they cost are then unpriced.
    #[must_use]
    pub fn prices(mut self, prices: PriceTable) -> Self {
        self.prices = prices;
        self
    }

    /// The currency of prices and costs, as its three-letter code. Nothing is converted. Defaults to `USD`.
    #[must_use]
    pub fn currency(mut self, code: impl Into<String>) -> Self {
        self.currency = code.into();
        self
    }
}

/// Reads a minute for each page that may be open, unless it is said otherwise.
pub(super) const READS_A_CLIENT: usize = 60;
/// Also where hardly any may: a page that opens asks for a dozen things at once.
pub(super) const LEAST_READS: usize = 6_000;

/// Bounds.
impl RealtimeConfig {
    /// See [`max_clients`](Self::max_clients).
    pub const DEFAULT_MAX_CLIENTS: usize = 1000;
    /// See [`max_channels`](Self::max_channels).
    pub const DEFAULT_MAX_CHANNELS: usize = 256;
    /// See [`feed_capacity`](Self::feed_capacity).
    pub const DEFAULT_FEED_CAPACITY: usize = 8192;
    /// See [`max_routes`](Self::max_routes).
    pub const DEFAULT_MAX_ROUTES: usize = 256;
    /// See [`max_models`](Self::max_models).
    pub const DEFAULT_MAX_MODELS: usize = 256;
    /// See [`max_providers`](Self::max_providers).
    pub const DEFAULT_MAX_PROVIDERS: usize = 64;
    /// See [`max_tenants`](Self::max_tenants).
    pub const DEFAULT_MAX_TENANTS: usize = 256;
    /// See [`max_users`](Self::max_users).
    pub const DEFAULT_MAX_USERS: usize = 1000;
    /// See [`inbound_per_minute`](Self::inbound_per_minute).
    pub const DEFAULT_INBOUND_PER_MINUTE: usize = 100;
    /// See [`denials_per_minute`](Self::denials_per_minute).
    pub const DEFAULT_DENIALS_PER_MINUTE: usize = 600;

    /// How many streams and sockets may be open at once. Takes 1 to 1,000,000. Defaults to 1000.
    ///
    /// WebSockets that have yet to send their token by `auth` are not among them: they have a tenth as many places
    /// (16 to 1024) of their own, one address a quarter of these; see the [guide](crate::guide::websocket#who-asks).
    ///
    /// One more is refused with 503, or told to come back if it is a browser. For 5 to 10 seconds after more than a tenth
    /// of them (and more than one) left at once, the places of those who left are kept for clients that come back to go on
    /// where they were, which they show by a position (`Last-Event-ID`, `since`) or a reconnect token; newcomers are told
    /// to come back meanwhile. An open stream costs about 20 KB with `axum::serve`, and every one of them a wake-up and a
    /// write an event. There is room for `stats` and `providers` of as many windows, intervals and tenants as so many
    /// clients can read at once.
    #[must_use]
    pub fn max_clients(mut self, clients: usize) -> Self {
        self.max_clients = clients;
        self
    }

    /// How many of them one principal may have. Takes 1 to 1,000,000, or `None` for no such bound. Defaults to `None`.
    ///
    /// All holders of one bearer token are one principal. Anonymous viewers are not counted.
    #[must_use]
    pub fn max_clients_per_user(mut self, clients: impl Into<Option<usize>>) -> Self {
        self.max_clients_per_user = clients.into();
        self
    }

    /// How many of them one address may have. Takes 1 to 1,000,000, or `None` for no such bound. Defaults to `None`.
    ///
    /// It needs the peer's address (`into_make_service_with_connect_info::<SocketAddr>()`, or
    /// [`PeerAddr`](crate::PeerAddr)), and behind a proxy [`trusted_proxies`](Self::trusted_proxies); many clients may
    /// share one address. Those whose address nobody says are not counted, and the first of them is told in a warning on
    /// `logs` and, with the feature `tracing`, in the host's own log.
    #[must_use]
    pub fn max_clients_per_ip(mut self, clients: impl Into<Option<usize>>) -> Self {
        self.max_clients_per_ip = clients.into();
        self
    }

    /// How many channels there may be, the built-in ones included. Takes 16 to 100,000. Defaults to 256.
    ///
    /// The memory of all logs is bounded by this times [`replay_bytes`](Self::replay_bytes).
    #[must_use]
    pub fn max_channels(mut self, channels: usize) -> Self {
        self.max_channels = channels;
        self
    }

    /// For how long one stream may last before it is ended with `drain`, and the client reconnects and resumes.
    /// Takes 1 s to 30 d, or `None` for no end. Defaults to `None`. Each stream ends up to a tenth sooner, so that those
    /// who came together do not come back together.
    ///
    /// Shorter: clients spread over the instances again sooner after a deployment, and lost rights end sooner, for
    /// one more reconnect each time.
    #[must_use]
    pub fn max_age(mut self, age: impl Into<Option<Duration>>) -> Self {
        self.max_age = age.into();
        self
    }

    /// How many finished requests may wait to be aggregated, in all. Takes 64 to 1,000,000. Defaults to 8192.
    ///
    /// Above it, rows are missing in the lists and counted as dropped; sums and percentiles stay exact. A row costs
    /// 128 bytes, reserved at the start; rows are rounded up to a power of two.
    #[must_use]
    pub fn feed_capacity(mut self, rows: usize) -> Self {
        self.feed_capacity = rows;
        self
    }

    /// How many routes have numbers of their own; the others share the row `other`. Takes 1 to 100,000. Defaults to
    /// 256. Higher: more memory, in each window.
    #[must_use]
    pub fn max_routes(mut self, routes: usize) -> Self {
        self.max_routes = routes;
        self
    }

    /// The same for models. Takes 1 to 100,000. Defaults to 256.
    #[must_use]
    pub fn max_models(mut self, models: usize) -> Self {
        self.max_models = models;
        self
    }

    /// The same for providers. Takes 1 to 100,000. Defaults to 64.
    #[must_use]
    pub fn max_providers(mut self, providers: usize) -> Self {
        self.max_providers = providers;
        self
    }

    /// The same for tenants. Takes 1 to 100,000. Defaults to 256.
    #[must_use]
    pub fn max_tenants(mut self, tenants: usize) -> Self {
        self.max_tenants = tenants;
        self
    }

    /// The same for users. Takes 1 to 100,000. Defaults to 1000. How many users were seen is counted beyond it.
    #[must_use]
    pub fn max_users(mut self, users: usize) -> Self {
        self.max_users = users;
        self
    }

    /// How many messages a minute one WebSocket may send, in ten times as many frames, control frames included; one that
    /// goes on is told so and closed. As many calls a minute that change something one principal may make over REST from
    /// one address (of IPv6, one /64 network), and ask for ten times as many tickets; then the answer is 429 with
    /// `Retry-After`. Takes 1 to 1,000,000. Defaults to 100.
    ///
    /// A call counts before its body is read, so one that is refused for what it says costs as much as one that is
    /// not. All holders of one bearer token are one principal, and only their addresses tell them apart: behind a proxy,
    /// name it in [`trusted_proxies`](Self::trusted_proxies).
    #[must_use]
    pub fn inbound_per_minute(mut self, messages: usize) -> Self {
        self.inbound_per_minute = messages;
        self
    }

    /// How often a minute one principal may read something over REST from one address (of IPv6, one /64 network), or open
    /// a stream or a socket, all together; then the answer is 429 with `Retry-After`, and a browser's EventSource is told
    /// to come back. Takes 1 to 1,000,000,000, or `None` for 60 for each of [`max_clients`](Self::max_clients), at least
    /// 6000. Defaults to `None`.
    ///
    /// By default it bounds what a program can ask for in a loop, and is more than all pages together need that can be
    /// open at once, should they be behind one address, share one token and come back at the same moment. Where each viewer
    /// has an id or an address of its own, a few hundred are plenty. Health checks and the page's own files do not count.
    #[must_use]
    pub fn reads_per_minute(mut self, reads: impl Into<Option<usize>>) -> Self {
        self.reads_per_minute = reads.into();
        self
    }

    /// How many wrong credentials a minute one address (of IPv6, one /64 network) may try; then what it brings is not
    /// looked at for a while, and the answer is 429 with `Retry-After`. Takes 1 to 1,000,000, or `None` for no such bound.
    /// Defaults to 600.
    ///
    /// Credentials that were good before, as they stand in `Authorization` and `Cookie`, are looked at all the same, so
    /// that somebody who guesses keeps nobody out who is behind the same address and has been in since the start. New ones
    /// are kept out with him: behind a proxy, name it in [`trusted_proxies`](Self::trusted_proxies). Wrong are tokens that
    /// [`Access::bearer`](crate::Access::bearer) and `Access::jwt` do not take, those that have expired aside, and whatever
    /// [`Access::check`](crate::Access::check) answers with `Denied::unauthenticated`. Where a request does not say its
    /// peer's address, nothing is counted.
    #[must_use]
    pub fn denials_per_minute(mut self, denials: impl Into<Option<usize>>) -> Self {
        self.denials_per_minute = denials.into();
        self
    }
}

/// Names and places.
impl RealtimeConfig {
    /// See [`title`](Self::title).
    pub const DEFAULT_TITLE: &str = "Realtime";
    /// See [`stream_path`](Self::stream_path).
    pub const DEFAULT_STREAM_PATH: &str = "/stream";
    /// See [`ws_path`](Self::ws_path).
    pub const DEFAULT_WS_PATH: &str = "/ws";
    /// See [`api_path`](Self::api_path).
    pub const DEFAULT_API_PATH: &str = "/api/realtime";
    /// See [`dashboard_path`](Self::dashboard_path).
    pub const DEFAULT_DASHBOARD_PATH: &str = "/realtime";

    /// The name of this process among others that serve the same: 1 to 64 letters, digits, `.`, `-` and `_`. It
    /// stands in snapshots and on the page. Defaults to four random hex digits.
    #[must_use]
    pub fn instance(mut self, name: impl Into<String>) -> Self {
        self.instance = name.into();
        self
    }

    /// The page's title, 1 to 128 bytes. Defaults to `Realtime`.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Where the event streams are: `/stream/{channel}`. Defaults to `/stream`.
    ///
    /// Paths are whole segments of letters, digits and `-._~`, without a slash at the end. None may lie below another,
    /// but all may lie below [`dashboard_path`](Self::dashboard_path).
    #[must_use]
    pub fn stream_path(mut self, path: impl Into<String>) -> Self {
        self.stream_path = path.into();
        self
    }

    /// Where the WebSockets are: `/ws/{channel}`. Defaults to `/ws`.
    #[must_use]
    pub fn ws_path(mut self, path: impl Into<String>) -> Self {
        self.ws_path = path.into();
        self
    }

    /// Where the JSON API is. Defaults to `/api/realtime`.
    #[must_use]
    pub fn api_path(mut self, path: impl Into<String>) -> Self {
        self.api_path = path.into();
        self
    }

    /// Where the page is. Defaults to `/realtime`; the page itself is at `/realtime/`.
    #[must_use]
    pub fn dashboard_path(mut self, path: impl Into<String>) -> Self {
        self.dashboard_path = path.into();
        self
    }

    /// Names the route of a request where the matched route is not known, or not wanted: behind a wrapped router,
    /// around a bare hyper service. `None` leaves it to the matched route, and without one to `(unmatched)`.
    ///
    /// The hook is called once for each request, on its path. It must return one of few names, never the raw
    /// path: names beyond [`max_routes`](Self::max_routes) share the row `other`. Defaults to no hook.
    #[must_use]
    pub fn route_label<F>(mut self, hook: F) -> Self
    where
        F: Fn(&http::request::Parts) -> Option<Cow<'static, str>> + Send + Sync + 'static,
    {
        self.route_label = Some(Arc::new(hook));
        self
    }
}

/// Tokens, origins and sockets.
impl RealtimeConfig {
    /// See [`ws_ping_interval`](Self::ws_ping_interval).
    pub const DEFAULT_WS_PING_INTERVAL: Duration = Duration::from_secs(30);
    /// See [`ws_timeout`](Self::ws_timeout).
    pub const DEFAULT_WS_TIMEOUT: Duration = Duration::from_secs(90);

    /// The secret that signs reconnect tokens, 32 to 1024 bytes. With the same key on every instance, a token is
    /// valid on all of them and after a restart. Defaults to a random key: tokens die with the process, and their
    /// holders start afresh with the verdict `lost`.
    #[must_use]
    pub fn token_key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.token_key = Some(TokenKey::new(key.as_ref()));
        self
    }

    /// How often a WebSocket is pinged. Takes 100 ms to 1 h, and less than [`ws_timeout`](Self::ws_timeout). Defaults
    /// to 30 s.
    #[must_use]
    pub fn ws_ping_interval(mut self, interval: Duration) -> Self {
        self.ws_ping_interval = interval;
        self
    }

    /// After how long without any frame from the client, pongs included, a WebSocket is closed. Takes 100 ms to 1 d.
    /// Defaults to 90 s.
    #[must_use]
    pub fn ws_timeout(mut self, timeout: Duration) -> Self {
        self.ws_timeout = timeout;
        self
    }

    /// Which pages of other origins may read the streams and the API. Defaults to [`Cors::off`].
    #[must_use]
    pub fn cors(mut self, cors: Cors) -> Self {
        self.cors = cors;
        self
    }

    /// The proxies, as addresses or networks (`10.0.0.0/8`), whose `x-forwarded-for` tells the client's address for
    /// [`max_clients_per_ip`](Self::max_clients_per_ip), and for all else that is counted by address. Everyone else's is
    /// ignored: anybody can send one. It opens nothing: [`Access::loopback`](crate::Access::loopback) refuses forwarded requests whoever forwards them.
    /// Defaults to none.
    #[must_use]
    pub fn trusted_proxies<T: Into<String>>(
        mut self,
        proxies: impl IntoIterator<Item = T>,
    ) -> Self {
        self.trusted_proxies = proxies.into_iter().map(Into::into).collect();
        self
    }

    /// The origins (`https://app.example.com`) besides our own whose pages may open WebSockets and send requests
    /// that change something with a cookie, or with the rights of the machine's own user. The origins of a
    /// [`Cors::list`] are allowed too. Defaults to none.
    #[must_use]
    pub fn allowed_origins<T: Into<String>>(
        mut self,
        origins: impl IntoIterator<Item = T>,
    ) -> Self {
        self.allowed_origins = origins.into_iter().map(Into::into).collect();
        self
    }
}
