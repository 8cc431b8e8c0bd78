//! How much of everything there may be.

use std::time::Duration;

use super::super::RealtimeConfig;

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
