//! The setters, each with its default and with what turning it up and down costs.

mod delivery;
mod limits;
mod naming;
mod security;
mod windows;

use tokio_util::sync::CancellationToken;

use super::RealtimeConfig;

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
