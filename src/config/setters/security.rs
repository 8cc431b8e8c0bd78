//! Who may come from where.

use std::time::Duration;

use super::super::RealtimeConfig;
use crate::access::{Cors, TokenKey};

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
