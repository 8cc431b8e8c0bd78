//! What the request path needs, and nothing else.

use std::{fmt, sync::Arc};

use crate::{clock::Clock, collector::Collector, config::RouteLabel};

/// Shared by every service that one layer made.
pub(crate) struct Recorder {
    pub(crate) collector: Arc<Collector>,
    pub(crate) clock: Clock,
    /// The host's own way to name a route.
    pub(crate) route: Option<RouteLabel>,
    /// Starts the background tasks where they do not run yet.
    pub(crate) start: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recorder")
    }
}
