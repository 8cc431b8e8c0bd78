//! Live traffic for any axum or tower service.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod aggregator;
mod clock;
mod collector;
mod error;
mod hub;
mod price;
mod sync;

pub use aggregator::{
    Breakdown, BreakdownRow, Capabilities, Dimension, Feed, Latencies, Lifetime, Percentiles,
    ProviderInfo, ProviderStats, ProviderStatus, ProviderStatusEvent, ProviderView,
    ProvidersSnapshot, Series, SeriesPoint, SeriesUse, Snapshot, StatusCode, Summary, TableUse,
    Window,
};
pub use error::Error;
pub use hub::{Filter, Level, LevelFilter};
pub use price::{Price, PriceTable};
