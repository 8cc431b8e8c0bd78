//! Telemetry: the process's own state, for the `system` channel.

mod gauges;
mod process;

pub(crate) use gauges::{Gauges, SystemEvent};
