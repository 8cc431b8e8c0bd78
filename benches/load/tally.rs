//! What clients saw: how much, in which order, how late.

use serde_json::{Value, json};

/// Of one process of clients.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) connected: usize,
    pub(crate) failed: usize,
    pub(crate) closed: usize,
    pub(crate) events: u64,
    pub(crate) reads: u64,
    pub(crate) bytes: u64,
    /// Numbers that a client did not see between two that it did.
    pub(crate) lost: u64,
    /// Numbers that it saw again, or after a higher one.
    pub(crate) repeated: u64,
    /// `gap` events.
    pub(crate) gaps: u64,
    /// When each client was told that its stream ends, in nanoseconds since 1970.
    pub(crate) endings: Vec<u64>,
    pub(crate) latency: Histogram,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            connected: 0,
            failed: 0,
            closed: 0,
            events: 0,
            reads: 0,
            bytes: 0,
            lost: 0,
            repeated: 0,
            gaps: 0,
            endings: Vec::new(),
            latency: Histogram::new(),
        }
    }

    /// Zero, but for the connections that there are.
    pub(crate) fn reset(&mut self) {
        *self = Self {
            connected: self.connected,
            failed: self.failed,
            ..Self::new()
        };
    }

    /// One event: its number, and when it was published.
    pub(crate) fn event(&mut self, last: &mut Option<u64>, number: u64, sent: u64, now: u64) {
        self.events += 1;
        self.latency.record(now.saturating_sub(sent));
        match *last {
            Some(before) if number <= before => self.repeated += 1,
            Some(before) => {
                self.lost += number - before - 1;
                *last = Some(number);
            }
            None => *last = Some(number),
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "connected": self.connected,
            "failed": self.failed,
            "closed": self.closed,
            "events": self.events,
            "reads": self.reads,
            "bytes": self.bytes,
            "lost": self.lost,
            "repeated": self.repeated,
            "gaps": self.gaps,
            "endings": self.endings,
            "latency": self.latency.counts,
        })
    }

    /// Adds what another process of clients reported.
    pub(crate) fn add(&mut self, report: &Value) {
        let number = |name: &str| report[name].as_u64().unwrap_or_default();
        self.connected += number("connected") as usize;
        self.failed += number("failed") as usize;
        self.closed += number("closed") as usize;
        self.events += number("events");
        self.reads += number("reads");
        self.bytes += number("bytes");
        self.lost += number("lost");
        self.repeated += number("repeated");
        self.gaps += number("gaps");
        let numbers = |name: &str| {
            let list = report[name].as_array().into_iter().flatten();
            list.filter_map(Value::as_u64)
        };
        self.endings.extend(numbers("endings"));
        for (count, more) in self.latency.counts.iter_mut().zip(numbers("latency")) {
            *count += more;
        }
    }
}

/// Sixteen buckets for each doubling of the time, from a microsecond to an hour.
#[derive(Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
}

const BUCKETS: usize = 16 * 32;

impl Histogram {
    fn new() -> Self {
        Self {
            counts: vec![0; BUCKETS],
        }
    }

    fn record(&mut self, nanoseconds: u64) {
        let units = nanoseconds / 1000 + 16;
        let doubling = units.ilog2() - 4;
        let index = doubling as usize * 16 + ((units >> doubling) as usize - 16);
        self.counts[index.min(BUCKETS - 1)] += 1;
    }

    /// The upper end of the bucket in which the quantile lies, in milliseconds.
    pub(crate) fn quantile_ms(&self, quantile: f64) -> f64 {
        let total: u64 = self.counts.iter().sum();
        let rank = (total as f64 * quantile).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank.max(1) {
                let (doubling, step) = (index / 16, index % 16);
                let units = ((step as u64 + 17) << doubling) - 16;
                return units as f64 / 1000.0;
            }
        }
        f64::NAN
    }
}
