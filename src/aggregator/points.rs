//! Totals in fine steps, for what is drawn over time: exact sums by the second for an hour and by the minute for a
//! day, latency histograms by the second for five minutes, by 5 s for an hour and by the minute for a day.

use super::{
    counts::{Counts, Sample},
    histogram::Sparse,
    ring::{Clear, Ring},
};

/// Buckets of a histogram of one point.
pub(crate) const POINT_BUCKETS: usize = 128;

// Powers of two where every request looks, see `Ring`.

/// An hour and the longest step, and what is still open.
pub(crate) const SECONDS: usize = 4_096;
/// Five minutes, and what is not folded yet.
pub(crate) const SPREAD_SECONDS: usize = 512;
/// An hour and the longest step.
pub(crate) const SPREAD_FIVES: usize = 3_700 / 5;
/// A day and the longest step.
pub(crate) const MINUTES: usize = 1_440 + 62;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) requests: u64,
    pub(crate) classes: [u64; 4],
    pub(crate) aborted: u64,
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) cached_tokens: u64,
    pub(crate) cost_nanos: u64,
    pub(crate) response_bytes: u64,
    pub(crate) in_flight_max: u64,
}

impl Point {
    pub(crate) fn add(&mut self, counts: &Counts) {
        self.requests += counts.requests;
        let classes = [counts.class2, counts.class3, counts.class4, counts.class5];
        for (sum, more) in self.classes.iter_mut().zip(classes) {
            *sum += more;
        }
        self.aborted += counts.aborted;
        self.input_tokens = self.input_tokens.wrapping_add(counts.input_tokens);
        self.output_tokens = self.output_tokens.wrapping_add(counts.output_tokens);
        self.cached_tokens = self.cached_tokens.wrapping_add(counts.cached_tokens);
        self.cost_nanos = self.cost_nanos.wrapping_add(counts.cost_nanos);
        self.response_bytes = self.response_bytes.wrapping_add(counts.response_bytes);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        for (sum, more) in self.classes.iter_mut().zip(other.classes) {
            *sum += more;
        }
        self.aborted += other.aborted;
        self.input_tokens = self.input_tokens.wrapping_add(other.input_tokens);
        self.output_tokens = self.output_tokens.wrapping_add(other.output_tokens);
        self.cached_tokens = self.cached_tokens.wrapping_add(other.cached_tokens);
        self.cost_nanos = self.cost_nanos.wrapping_add(other.cost_nanos);
        self.response_bytes = self.response_bytes.wrapping_add(other.response_bytes);
        self.in_flight_max = self.in_flight_max.max(other.in_flight_max);
    }
}

impl Clear for Point {
    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Latency and time to the head, of one point.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spread {
    pub(crate) latency: Sparse,
    pub(crate) ttfb: Sparse,
}

impl Spread {
    fn merge(&mut self, other: &Self) {
        self.latency.merge(&other.latency, POINT_BUCKETS);
        self.ttfb.merge(&other.ttfb, POINT_BUCKETS);
    }
}

impl Clear for Spread {
    fn clear(&mut self) {
        self.latency.clear();
        self.ttfb.clear();
    }
}

#[derive(Debug)]
pub(crate) struct Points {
    pub(crate) seconds: Ring<Point>,
    pub(crate) minutes: Ring<Point>,
    pub(crate) spread_seconds: Ring<Spread>,
    pub(crate) spread_fives: Ring<Spread>,
    pub(crate) spread_minutes: Ring<Spread>,
}

impl Points {
    pub(crate) fn new() -> Self {
        Self {
            seconds: Ring::new(SECONDS),
            minutes: Ring::new(MINUTES),
            spread_seconds: Ring::new(SPREAD_SECONDS),
            spread_fives: Ring::new(SPREAD_FIVES),
            spread_minutes: Ring::new(MINUTES),
        }
    }

    pub(crate) fn add(&mut self, second: u64, sample: &Sample) {
        self.seconds
            .open(second, Point::default)
            .add(&sample.counts);
        let spread = self.spread_seconds.open(second, Spread::default);
        spread.latency.add(sample.latency, 1, POINT_BUCKETS);
        if let Some(bucket) = sample.ttfb {
            spread.ttfb.add(bucket, 1, POINT_BUCKETS);
        }
    }

    /// `folded`: the second is closed already, so its minute has to be told as well.
    pub(crate) fn in_flight(&mut self, second: u64, in_flight: u64, folded: bool) {
        let point = self.seconds.open(second, Point::default);
        point.in_flight_max = point.in_flight_max.max(in_flight);
        if folded {
            let point = self.minutes.open(second / 60, Point::default);
            point.in_flight_max = point.in_flight_max.max(in_flight);
        }
    }

    /// The numbers of rows that were dropped.
    pub(crate) fn add_overflow(&mut self, second: u64, counts: &Counts, latency: &[(usize, u64)]) {
        self.seconds.open(second, Point::default).add(counts);
        let spread = self.spread_seconds.open(second, Spread::default);
        for &(bucket, times) in latency {
            let times = u32::try_from(times).unwrap_or(u32::MAX);
            spread.latency.add(bucket, times, POINT_BUCKETS);
        }
    }

    /// Puts ten closed seconds into the coarser steps.
    pub(crate) fn fold(&mut self, from: u64) {
        for second in from..from + 10 {
            if let Some(point) = self.seconds.get(second) {
                self.minutes.open(second / 60, Point::default).merge(point);
            }
            if let Some(spread) = self.spread_seconds.get(second) {
                self.spread_fives
                    .open(second / 5, Spread::default)
                    .merge(spread);
                self.spread_minutes
                    .open(second / 60, Spread::default)
                    .merge(spread);
            }
        }
    }
}
