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
mod merged;
mod points;
mod provider_reading;
mod providers;
mod reading;
mod ring;
mod rows;
mod series;
mod slot;
mod snapshot;
mod state;
mod tenant_health;
#[cfg(all(test, not(loom)))]
mod tests;
mod timeline;
mod users;
mod window;

pub(crate) use aggregate::{Aggregator, Settings};
pub(crate) use breakdown::Breakdown;
pub use breakdown::{BreakdownRow, ProviderStats};
pub(crate) use events::{ProvidersEvent, StatsEvent};
pub use health::ProviderStatus;
#[cfg(feature = "ws")]
pub(crate) use json::rfc3339;
pub(crate) use logs::LogsBatch;
pub(crate) use memory::memory_ceiling;
pub(crate) use providers::{
    ProviderInfo, ProviderStatusEvent, ProviderView, ProvidersSnapshot, StatusChanges,
};
pub(crate) use rows::{Errors, Requests, Rows, Slow};
pub(crate) use series::Series;
pub use series::SeriesPoint;
pub(crate) use slot::Dimension;
pub use snapshot::{
    Capabilities, Feed, Latencies, Lifetime, Percentiles, SeriesUse, Snapshot, StatusCode, Summary,
    TableUse,
};
pub use window::Window;
