//! What is added up: of one request, of a row of a breakdown, of everything.

use std::ops::AddAssign;

use crate::collector::{Record, Sums, bucket_of};

use super::histogram::Sparse;

/// Exact sums. Times in microseconds, money in nano-units of the currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    pub(crate) success: u64,
    /// By class of status. Without a status: a success in `class2`, a failure in `class5`, an abort in none.
    pub(crate) class2: u64,
    pub(crate) class3: u64,
    pub(crate) class4: u64,
    pub(crate) class5: u64,
    pub(crate) aborted: u64,
    /// Status 408 and 504.
    pub(crate) timeouts: u64,
    /// Status 429.
    pub(crate) quota: u64,
    /// Failures that speak against the provider, see [`is_fault`].
    pub(crate) faults: u64,
    pub(crate) latency_us: u64,
    pub(crate) ttfb_us: u64,
    pub(crate) ttfb_count: u64,
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) cached_tokens: u64,
    pub(crate) cost_nanos: u64,
    /// Tokens were used and nobody knows what they cost.
    pub(crate) unpriced: u64,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
}

impl Counts {
    pub(crate) fn of(record: &Record) -> Self {
        let mut counts = Self {
            requests: 1,
            success: u64::from(record.success),
            aborted: u64::from(record.outcome.is_aborted()),
            faults: u64::from(is_fault(record)),
            latency_us: record.latency_us,
            ttfb_us: record.ttfb_us.unwrap_or(0),
            ttfb_count: u64::from(record.ttfb_us.is_some()),
            input_tokens: record.input_tokens.unwrap_or(0),
            output_tokens: record.output_tokens.unwrap_or(0),
            cached_tokens: record.cached_tokens.unwrap_or(0),
            cost_nanos: record.cost_nanos.unwrap_or(0),
            unpriced: u64::from(record.cost_nanos.is_none() && record.has_tokens()),
            request_bytes: record.request_bytes.unwrap_or(0),
            response_bytes: record.response_bytes,
            ..Self::default()
        };
        match record.status {
            Some(..300) => counts.class2 = 1,
            Some(300..400) => counts.class3 = 1,
            Some(400..500) => counts.class4 = 1,
            Some(500..) => counts.class5 = 1,
            None if record.success => counts.class2 = 1,
            None if record.outcome.is_aborted() => {}
            None => counts.class5 = 1,
        }
        match record.status {
            Some(408 | 504) => counts.timeouts = 1,
            Some(429) => counts.quota = 1,
            _ => {}
        }
        counts
    }

    /// The numbers of rows that were dropped. Without a status, an abort can't be told from a failure in a sum: as many
    /// as were aborted are taken for aborts.
    pub(crate) fn of_sums(sums: &Sums) -> Self {
        let [unknown, class1, class2, class3, class4, class5] = sums.status_classes;
        let failed = sums.requests.saturating_sub(sums.successes);
        let client_errors = class4.saturating_sub(sums.quota_exhausted);
        Self {
            requests: sums.requests,
            success: sums.successes,
            class2: class1 + class2,
            class3,
            class4,
            class5: class5 + unknown.saturating_sub(sums.aborted),
            aborted: sums.aborted,
            timeouts: sums.timeouts,
            quota: sums.quota_exhausted,
            faults: failed
                .saturating_sub(sums.aborted)
                .saturating_sub(client_errors),
            latency_us: sums.latency_us,
            ttfb_us: sums.ttfb_us,
            ttfb_count: sums.heads,
            input_tokens: sums.input_tokens,
            output_tokens: sums.output_tokens,
            cached_tokens: sums.cached_tokens,
            cost_nanos: sums.cost_nanos,
            unpriced: sums.unpriced,
            request_bytes: sums.request_bytes,
            response_bytes: sums.response_bytes,
        }
    }

    pub(crate) fn failed(&self) -> u64 {
        self.requests.saturating_sub(self.success)
    }

    pub(crate) fn tokens(&self) -> u64 {
        self.input_tokens + self.output_tokens
    }

    #[inline]
    fn each(&mut self, other: &Self, mut apply: impl FnMut(&mut u64, u64)) {
        apply(&mut self.requests, other.requests);
        apply(&mut self.success, other.success);
        apply(&mut self.class2, other.class2);
        apply(&mut self.class3, other.class3);
        apply(&mut self.class4, other.class4);
        apply(&mut self.class5, other.class5);
        apply(&mut self.aborted, other.aborted);
        apply(&mut self.timeouts, other.timeouts);
        apply(&mut self.quota, other.quota);
        apply(&mut self.faults, other.faults);
        apply(&mut self.latency_us, other.latency_us);
        apply(&mut self.ttfb_us, other.ttfb_us);
        apply(&mut self.ttfb_count, other.ttfb_count);
        apply(&mut self.input_tokens, other.input_tokens);
        apply(&mut self.output_tokens, other.output_tokens);
        apply(&mut self.cached_tokens, other.cached_tokens);
        apply(&mut self.cost_nanos, other.cost_nanos);
        apply(&mut self.unpriced, other.unpriced);
        apply(&mut self.request_bytes, other.request_bytes);
        apply(&mut self.response_bytes, other.response_bytes);
    }
}

impl AddAssign<&Counts> for Counts {
    #[inline]
    fn add_assign(&mut self, other: &Counts) {
        // Wrapping: a host that reports absurd token counts gets absurd sums, not a panic in a debug build.
        self.each(other, |sum, more| *sum = sum.wrapping_add(more));
    }
}

/// Whether a failure says something about the provider: no answer, 5xx, 408, 429, a broken body, a handler's verdict.
/// Other 4xx are the client's doing, and a client that leaves is nobody's.
fn is_fault(record: &Record) -> bool {
    if record.success || record.outcome.is_aborted() {
        return false;
    }
    !matches!(record.status, Some(400..500)) || matches!(record.status, Some(408 | 429))
}

/// One request, ready to be added to every table that it belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) counts: Counts,
    pub(crate) latency: usize,
    pub(crate) ttfb: Option<usize>,
}

impl Sample {
    pub(crate) fn of(record: &Record) -> Self {
        Self {
            counts: Counts::of(record),
            latency: bucket_of(record.latency_us),
            ttfb: record.ttfb_us.map(bucket_of),
        }
    }
}

/// A row of a breakdown within one slot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    pub(crate) counts: Counts,
    pub(crate) latency: Sparse,
}

impl Cell {
    #[inline]
    pub(crate) fn add(&mut self, sample: &Sample, cap: usize) {
        self.counts += &sample.counts;
        self.latency.add(sample.latency, 1, cap);
    }

    /// Sums, and a histogram as buckets and counts.
    pub(crate) fn add_sums(&mut self, counts: &Counts, latency: &[(usize, u64)], cap: usize) {
        self.counts += counts;
        for &(bucket, times) in latency {
            let times = u32::try_from(times).unwrap_or(u32::MAX);
            self.latency.add(bucket, times, cap);
        }
    }

    pub(crate) fn merge(&mut self, other: &Self, cap: usize) {
        self.counts += &other.counts;
        self.latency.merge(&other.latency, cap);
    }

    pub(crate) fn clear(&mut self) {
        self.counts = Counts::default();
        self.latency.clear();
    }
}
