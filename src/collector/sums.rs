//! The numbers of one or more requests, as they are added up.

use super::record::Record;

/// How many numbers a [`Sums`] has.
pub(super) const FIELDS: usize = 22;

/// Exact sums over requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) requests: u64,
    pub(crate) successes: u64,
    /// By the first digit of the status; index 0: there was no status.
    pub(crate) status_classes: [u64; 6],
    /// 408 and 504.
    pub(crate) timeouts: u64,
    /// 429.
    pub(crate) quota_exhausted: u64,
    /// The client left early.
    pub(crate) aborted: u64,
    pub(crate) latency_us: u64,
    /// Over the requests that had a response head, of which there are `heads`.
    pub(crate) ttfb_us: u64,
    pub(crate) heads: u64,
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) cached_tokens: u64,
    /// Over the requests with a known cost.
    pub(crate) cost_nanos: u64,
    /// Requests with a known cost.
    pub(crate) priced: u64,
    /// Requests with tokens and without a known cost.
    pub(crate) unpriced: u64,
    /// Over the requests whose size was known.
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
}

impl Sums {
    /// The numbers of one request. `cost_nanos` is the record's own cost, or what its tokens were priced at.
    pub(crate) fn of(record: &Record, cost_nanos: Option<u64>) -> Self {
        let status = record.status.unwrap_or(0);
        let mut status_classes = [0; 6];
        let class = usize::from(status / 100);
        status_classes[if class < 6 { class } else { 0 }] = 1;
        Self {
            requests: 1,
            successes: u64::from(record.success),
            status_classes,
            timeouts: u64::from(matches!(status, 408 | 504)),
            quota_exhausted: u64::from(status == 429),
            aborted: u64::from(record.outcome.is_aborted()),
            latency_us: record.latency_us,
            ttfb_us: record.ttfb_us.unwrap_or(0),
            heads: u64::from(record.ttfb_us.is_some()),
            input_tokens: record.input_tokens.unwrap_or(0),
            output_tokens: record.output_tokens.unwrap_or(0),
            cached_tokens: record.cached_tokens.unwrap_or(0),
            cost_nanos: cost_nanos.unwrap_or(0),
            priced: u64::from(cost_nanos.is_some()),
            unpriced: u64::from(cost_nanos.is_none() && record.has_tokens()),
            request_bytes: record.request_bytes.unwrap_or(0),
            response_bytes: record.response_bytes,
        }
    }

    pub(super) fn to_array(self) -> [u64; FIELDS] {
        let [s0, s1, s2, s3, s4, s5] = self.status_classes;
        [
            self.requests,
            self.successes,
            s0,
            s1,
            s2,
            s3,
            s4,
            s5,
            self.timeouts,
            self.quota_exhausted,
            self.aborted,
            self.latency_us,
            self.ttfb_us,
            self.heads,
            self.input_tokens,
            self.output_tokens,
            self.cached_tokens,
            self.cost_nanos,
            self.priced,
            self.unpriced,
            self.request_bytes,
            self.response_bytes,
        ]
    }

    pub(super) fn from_array(numbers: [u64; FIELDS]) -> Self {
        let [
            requests,
            successes,
            s0,
            s1,
            s2,
            s3,
            s4,
            s5,
            timeouts,
            quota_exhausted,
            aborted,
            latency_us,
            ttfb_us,
            heads,
            input_tokens,
            output_tokens,
            cached_tokens,
            cost_nanos,
            priced,
            unpriced,
            request_bytes,
            response_bytes,
        ] = numbers;
        Self {
            requests,
            successes,
            status_classes: [s0, s1, s2, s3, s4, s5],
            timeouts,
            quota_exhausted,
            aborted,
            latency_us,
            ttfb_us,
            heads,
            input_tokens,
            output_tokens,
            cached_tokens,
            cost_nanos,
            priced,
            unpriced,
            request_bytes,
            response_bytes,
        }
    }
}

impl std::ops::AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        let mut numbers = self.to_array();
        for (number, more) in numbers.iter_mut().zip(other.to_array()) {
            *number = number.saturating_add(more);
        }
        *self = Self::from_array(numbers);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::collector::{LabelId, Outcome, record::record_for_tests};

    #[test]
    fn every_number_has_its_own_place() {
        let numbers = std::array::from_fn(|index| index as u64 + 1);
        assert_eq!(Sums::from_array(numbers).to_array(), numbers);
        let mut twice = Sums::from_array(numbers);
        twice += Sums::from_array(numbers);
        assert_eq!(twice.to_array(), numbers.map(|number| number * 2));
    }

    #[test]
    fn a_record_is_counted_in_its_class() {
        let of = |status, outcome| {
            let mut record = record_for_tests(LabelId::UNSET);
            record.status = status;
            record.outcome = outcome;
            Sums::of(&record, None)
        };
        assert_eq!(of(Some(200), Outcome::Completed).status_classes[2], 1);
        assert_eq!(of(Some(408), Outcome::Completed).timeouts, 1);
        assert_eq!(of(Some(504), Outcome::Completed).timeouts, 1);
        assert_eq!(of(Some(429), Outcome::Completed).quota_exhausted, 1);
        assert_eq!(of(None, Outcome::ServiceError).status_classes[0], 1);
        // A status that HTTP has no class for.
        assert_eq!(of(Some(999), Outcome::Completed).status_classes[0], 1);
        assert_eq!(of(Some(200), Outcome::DroppedInBody).aborted, 1);
        assert_eq!(of(None, Outcome::DroppedBeforeResponse).aborted, 1);
        assert_eq!(of(None, Outcome::Panicked).aborted, 0);
    }

    #[test]
    fn tokens_without_a_price_are_unpriced_and_no_tokens_are_not() {
        let mut record = record_for_tests(LabelId::UNSET);
        record.input_tokens = None;
        record.output_tokens = None;
        record.cached_tokens = None;
        assert_eq!(Sums::of(&record, None).unpriced, 0);
        record.output_tokens = Some(0);
        assert_eq!(Sums::of(&record, None).unpriced, 1);
        let priced = Sums::of(&record, Some(7));
        assert_eq!(
            (priced.unpriced, priced.priced, priced.cost_nanos),
            (0, 1, 7)
        );
    }
}
