//! Aggregator: turns records into windows, percentiles, breakdowns, providers and lists.
//!
//! Works the same with nobody watching. Everything is bounded: see [`memory_ceiling`].

mod aggregate;
mod breakdown;
mod cardinality;
mod counts;
mod events;
mod health;
mod histogram;
mod json;
mod logs;
mod memory;
mod points;
mod providers;
mod reading;
mod ring;
mod rows;
mod series;
mod slot;
mod snapshot;
mod state;
#[cfg(all(test, not(loom)))]
mod tests;
mod timeline;
mod users;
mod window;

pub(crate) use aggregate::{Aggregator, Settings};
pub use breakdown::{Breakdown, BreakdownRow, ProviderStats};
pub(crate) use events::{ProvidersEvent, StatsEvent};
#[cfg(feature = "ws")]
pub(crate) use json::rfc3339;
pub(crate) use logs::LogsBatch;
pub use providers::{
    ProviderInfo, ProviderStatus, ProviderStatusEvent, ProviderView, ProvidersSnapshot,
};
pub(crate) use rows::{Errors, Requests, Rows, Slow};
pub use series::{Series, SeriesPoint};
pub use slot::Dimension;
pub use snapshot::{
    Capabilities, Feed, Latencies, Lifetime, Percentiles, SeriesUse, Snapshot, StatusCode, Summary,
    TableUse,
};
pub use window::Window;
