//! Middleware: one record of every request, at the end of its body.

mod body;
mod future;
mod meter;
mod own;
mod recorder;
mod service;

pub use body::ResponseBody;
pub use future::ResponseFuture;
pub use meter::{RequestMeter, Usage};
pub use own::OwnBody;
pub(crate) use own::{Own, OwnRequestBody};
pub(crate) use recorder::Recorder;
pub use service::RealtimeService;
