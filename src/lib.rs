//! Live traffic for any axum or tower service.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod clock;
mod collector;
mod error;
mod hub;
mod middleware;
mod sync;

pub use error::Error;
pub use hub::{Filter, Level, LevelFilter};
pub use middleware::{RealtimeService, RequestMeter, ResponseBody, ResponseFuture, Usage};
