//! What things are called, and where they are.

use std::{borrow::Cow, sync::Arc};

use super::super::RealtimeConfig;

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
