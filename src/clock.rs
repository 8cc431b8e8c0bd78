//! Time: one monotonic origin for durations, and the wall clock derived from it.
//!
//! The request path reads only the monotonic clock. Wall time is the wall time of the start plus what has passed
//! since, plus the steps that the wall clock made against the monotonic one (NTP, a suspended machine). Under
//! `tokio::time::pause` both follow tokio's clock, so tests can move a day in a line.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A copyable clock; all copies share the origin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
    std_origin: std::time::Instant,
    unix_origin: Duration,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let unix_origin = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            origin: Instant::now(),
            std_origin: std::time::Instant::now(),
            unix_origin,
        }
    }

    /// Microseconds since the origin; the only reading on a request's path.
    pub(crate) fn now_us(&self) -> u64 {
        Instant::now()
            .saturating_duration_since(self.origin)
            .as_micros() as u64
    }

    /// Wall time of a monotonic reading, in microseconds since 1970, as things stood at the origin.
    pub(crate) fn unix_us_of(&self, now_us: u64) -> u64 {
        self.unix_origin.as_micros() as u64 + now_us
    }

    /// By how many microseconds the wall clock has stepped against the monotonic clock since the origin.
    pub(crate) fn wall_step_us(&self) -> i64 {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_micros() as i64
            - self.unix_origin.as_micros() as i64;
        wall - self.std_origin.elapsed().as_micros() as i64
    }

    /// Wall time now, in milliseconds since 1970.
    pub(crate) fn unix_ms(&self) -> u64 {
        let unix_us = self.unix_us_of(self.now_us()) as i64 + self.wall_step_us();
        unix_us.max(0) as u64 / 1000
    }

    /// Wall time now, in whole seconds since 1970.
    pub(crate) fn unix_seconds(&self) -> u64 {
        self.unix_ms() / 1000
    }
}
