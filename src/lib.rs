//! Live traffic for any axum or tower service.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod access;
mod clock;
mod collector;
mod config;
mod error;
mod hub;
mod price;
mod sync;

pub use access::{Access, Cors, Denied, PeerAddr, Principal, Role};
#[cfg(feature = "jwt")]
#[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
pub use access::{JwtConfig, JwtKey};
pub use config::RealtimeConfig;
pub use error::Error;
pub use hub::{Filter, Level, LevelFilter};
pub use price::{Price, PriceTable};
