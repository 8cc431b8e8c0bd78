//! Telemetry: the process's own state for the `system` channel, the host's own log lines for `logs`, and what the host is
//! warned of.

mod gauges;
mod process;
#[cfg_attr(not(feature = "tracing"), allow(dead_code))]
mod quiet;
#[cfg(feature = "tracing")]
pub(crate) mod tracing;
mod warnings;

pub(crate) use gauges::{Gauges, SystemEvent};
#[cfg(feature = "ws")]
pub(crate) use quiet::Quiet;
pub(crate) use quiet::quiet;
pub(crate) use warnings::{Warning, Warnings};
