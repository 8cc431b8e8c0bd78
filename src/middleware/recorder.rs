//! Recorder: what every request's recording needs, shared by all services of a layer.

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use http::{Extensions, HeaderMap, HeaderName, header::HeaderValue};

use crate::{
    clock::Clock,
    collector::{Collector, Extra, LabelId, Method},
};

/// Names the route of a request by its head; `None` leaves it to axum's `MatchedPath`.
pub(crate) type RouteHook =
    Arc<dyn Fn(&http::request::Parts) -> Option<Cow<'static, str>> + Send + Sync>;

/// Starts what must run in the background; false where it could not be started here.
type FirstUse = Box<dyn Fn() -> bool + Send + Sync>;

const MAX_REQUEST_ID_BYTES: usize = Extra::MAX_VALUE_BYTES;
static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Where the requests of one layer are recorded, and how.
pub(crate) struct Recorder {
    collector: Arc<Collector>,
    clock: Clock,
    route_hook: Option<RouteHook>,
    counts_dollars: bool,
    enabled: bool,
    first_use: Option<FirstUse>,
    used: AtomicBool,
}

impl Recorder {
    /// Records into `collector`, in US dollars, with axum's `MatchedPath` as the route.
    pub(crate) fn new(collector: Arc<Collector>, clock: Clock) -> Self {
        Self {
            collector,
            clock,
            route_hook: None,
            counts_dollars: true,
            enabled: true,
            first_use: None,
            used: AtomicBool::new(false),
        }
    }

    #[must_use]
    pub(crate) fn route_hook(mut self, hook: RouteHook) -> Self {
        self.route_hook = Some(hook);
        self
    }

    /// The configured currency, by its code: `cost_usd` is heeded only where it is `USD`.
    #[must_use]
    pub(crate) fn currency(mut self, code: &str) -> Self {
        self.counts_dollars = code.eq_ignore_ascii_case("USD");
        self
    }

    /// Whether requests are recorded at all.
    #[must_use]
    pub(crate) fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// Called with every request until it returns true, by which time the background tasks run; perhaps by several
    /// threads at once. After that a request costs one load of a flag.
    #[must_use]
    pub(crate) fn on_first_use(mut self, start: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.first_use = Some(Box::new(start));
        self
    }

    pub(crate) fn collector(&self) -> &Collector {
        &self.collector
    }

    pub(super) fn now_us(&self) -> u64 {
        self.clock.now_us()
    }

    pub(super) fn counts_dollars(&self) -> bool {
        self.counts_dollars
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.enabled
    }

    pub(super) fn hook(&self) -> Option<&RouteHook> {
        self.route_hook.as_ref()
    }

    /// Runs the first use's hook where it has not succeeded yet.
    #[inline]
    pub(super) fn touch(&self) {
        // Relaxed: the flag spares calls, it publishes nothing.
        if !self.used.load(Ordering::Relaxed) {
            self.start();
        }
    }

    #[cold]
    fn start(&self) {
        if self.first_use.as_ref().is_none_or(|start| start()) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn route(
        &self,
        hooked: Option<Cow<'static, str>>,
        extensions: &Extensions,
    ) -> LabelId {
        let routes = &self.collector.labels().route;
        if let Some(route) = hooked {
            return routes.intern(&route);
        }
        matched_path(extensions).map_or(LabelId::UNSET, |route| routes.intern(route))
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("collector", &self.collector)
            .finish_non_exhaustive()
    }
}

pub(super) fn method(method: &http::Method) -> Method {
    match *method {
        http::Method::GET => Method::Get,
        http::Method::POST => Method::Post,
        http::Method::PUT => Method::Put,
        http::Method::DELETE => Method::Delete,
        http::Method::PATCH => Method::Patch,
        http::Method::HEAD => Method::Head,
        http::Method::OPTIONS => Method::Options,
        http::Method::CONNECT => Method::Connect,
        http::Method::TRACE => Method::Trace,
        _ => Method::Other,
    }
}

/// The host's own id of the request. Too long or not readable text: none, rather than half of one.
pub(super) fn request_id(headers: &HeaderMap) -> Option<Box<str>> {
    let id = headers.get(&X_REQUEST_ID).map(HeaderValue::as_bytes)?;
    if id.is_empty() || id.len() > MAX_REQUEST_ID_BYTES {
        return None;
    }
    let id = std::str::from_utf8(id).ok()?;
    (!id.contains(char::is_control)).then(|| id.into())
}

#[cfg(feature = "axum")]
fn matched_path(extensions: &Extensions) -> Option<&str> {
    extensions
        .get::<axum::extract::MatchedPath>()
        .map(|path| path.as_str())
}

#[cfg(not(feature = "axum"))]
fn matched_path(_extensions: &Extensions) -> Option<&str> {
    None
}
