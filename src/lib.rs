//! Live traffic for any axum or tower service.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod clock;
mod collector;
mod error;
mod hub;
mod sync;
mod transport;

pub use error::Error;
pub use hub::{Filter, Level, LevelFilter};
