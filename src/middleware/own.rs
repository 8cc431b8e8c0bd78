//! Own paths: how the service hands them to whoever answers them.

use std::{future::Future, pin::Pin};

use http::Response;

use super::body::OwnBody;

/// The request body that our own paths get.
pub(crate) type OwnRequestBody = axum_core::body::Body;
/// The answer of our own paths.
pub(crate) type OwnFuture = Pin<Box<dyn Future<Output = Response<OwnBody>> + Send>>;

/// Answers our own paths. They are not recorded.
pub(crate) trait Own: Send + Sync {
    /// Whether the path is one of ours; asked for every request.
    fn claims(&self, path: &str) -> bool;

    fn call(&self, parts: http::request::Parts, body: OwnRequestBody) -> OwnFuture;
}
