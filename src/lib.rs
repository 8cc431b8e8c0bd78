//! Live traffic for any axum or tower service.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod access;
mod aggregator;
mod clock;
mod collector;
mod config;
mod error;
#[cfg(feature = "axum")]
mod guard;
mod handle;
mod hub;
mod layer;
mod middleware;
mod price;
mod publish;
mod runtime;
mod sync;
mod telemetry;
mod transport;

pub use access::{Access, Cors, Denied, PeerAddr, Principal, Role};
#[cfg(feature = "jwt")]
pub use access::{JwtConfig, JwtKey};
pub use aggregator::{ProviderStatus, Snapshot, Window};
pub use config::RealtimeConfig;
pub use error::Error;
#[cfg(feature = "axum")]
pub use guard::Guarded;
pub use handle::{Events, ProviderBuilder, RealtimeHandle, Received};
pub use hub::{ChannelConfig, Class, Filter, Level, LevelFilter, Position, Priority, Start};
pub use layer::{RealtimeLayer, RealtimeRoutes};
pub use middleware::{RealtimeService, RequestMeter, ResponseBody, ResponseFuture, Usage};
pub use price::{Price, PriceTable};
pub use publish::{Event, LogLine, MAX_EVENT_BYTES};

/// What a [`Snapshot`] is made of.
pub mod snapshot {
    pub use crate::aggregator::{
        BreakdownRow, Capabilities, Feed, Latencies, Lifetime, Percentiles, ProviderStats,
        SeriesPoint, SeriesUse, StatusCode, Summary, TableUse,
    };
}
