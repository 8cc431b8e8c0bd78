//! Middleware: watches every request from its call to the end of its response body, and records it once.
//!
//! Nothing of the host's is delayed, boxed or changed but the type of its response body.

mod body;
mod current;
mod future;
mod ids;
mod meter;
mod own;
mod recorder;
mod recording;
mod seen;
mod service;
#[cfg(all(test, not(loom)))]
mod tests;

pub use body::ResponseBody;
pub(crate) use body::{OwnBody, OwnStream};
#[cfg(feature = "tracing")]
pub(crate) use current::request_id;
pub use future::ResponseFuture;
#[cfg(feature = "tracing")]
pub(crate) use ids::follow;
pub use meter::{RequestMeter, Usage};
pub(crate) use own::{Own, OwnRequestBody};
pub(crate) use recorder::Recorder;
pub use service::RealtimeService;
pub(crate) use service::Watch;
