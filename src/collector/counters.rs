//! The collector's gauges and counters that every request touches, or that count what was ignored.

use super::padded::Padded;
use crate::sync::{AtomicU64, Ordering};

/// Each on cache lines of its own: two are written by every request.
#[derive(Debug, Default)]
pub(super) struct Counters {
    in_flight: Padded<AtomicU64>,
    /// Read by every request, written only by those that raise it.
    peak: Padded<AtomicU64>,
    late_calls: Padded<AtomicU64>,
    invalid_values: AtomicU64,
}

impl Counters {
    /// One request more in flight.
    pub(super) fn started(&self) {
        // These four are sequentially consistent, as the peak's exactness needs a common order of "in flight up, then
        // read the peak" here and "reset the peak, then read what is in flight" in `take_peak`: with less, both could
        // read the old value, and a rise would be in neither interval. On x86 they cost what relaxed ones cost.
        let now = self.in_flight.0.fetch_add(1, Ordering::SeqCst) + 1;
        if now > self.peak.0.load(Ordering::SeqCst) {
            self.peak.0.fetch_max(now, Ordering::SeqCst);
        }
    }

    /// One request less in flight.
    pub(super) fn ended(&self) {
        // Relaxed: nothing is published by the gauge.
        self.in_flight.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.0.load(Ordering::Relaxed)
    }

    /// The largest number in flight since the last call. A request that is still running counts for both intervals.
    pub(super) fn take_peak(&self) -> u64 {
        let before = self.peak.0.swap(0, Ordering::SeqCst);
        let now = self.in_flight.0.load(Ordering::SeqCst);
        self.peak.0.fetch_max(now, Ordering::SeqCst);
        before.max(now)
    }

    /// A handler's word came after the record was made.
    pub(super) fn late_call(&self) {
        self.late_calls.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn late_calls(&self) -> u64 {
        self.late_calls.0.load(Ordering::Relaxed)
    }

    /// A handler gave a value that can't be used.
    pub(super) fn invalid_value(&self) {
        self.invalid_values.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn invalid_values(&self) -> u64 {
        self.invalid_values.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    #[test]
    fn the_peak_is_the_largest_since_the_last_take() {
        let counters = Counters::default();
        assert_eq!(counters.take_peak(), 0);
        for _ in 0..5 {
            counters.started();
        }
        for _ in 0..4 {
            counters.ended();
        }
        assert_eq!(counters.in_flight(), 1);
        assert_eq!(counters.take_peak(), 5);
        // The one that is still running.
        assert_eq!(counters.take_peak(), 1);
        counters.started();
        counters.ended();
        assert_eq!(counters.take_peak(), 2);
        counters.ended();
        assert_eq!(counters.take_peak(), 1);
        assert_eq!(counters.take_peak(), 0);
    }

    #[test]
    fn the_gauge_returns_to_zero_whatever_the_threads_do() {
        let counters = Arc::new(Counters::default());
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let counters = counters.clone();
                thread::spawn(move || {
                    for _ in 0..10_000 {
                        counters.started();
                        counters.ended();
                    }
                })
            })
            .collect();
        let mut highest = 0;
        while !threads.iter().all(|thread| thread.is_finished()) {
            highest = highest.max(counters.take_peak());
        }
        for thread in threads {
            thread.join().unwrap();
        }
        highest = highest.max(counters.take_peak());
        assert!((1..=4).contains(&highest));
        assert_eq!(counters.in_flight(), 0);
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use loom::{sync::Arc, thread};

    use super::*;
    use crate::sync::weakened;

    /// A request begins while the peak is taken, and goes on until it has been taken: it was in flight in the interval
    /// that began then.
    fn a_request_meets_a_take_and_outlives_it() {
        let counters = Arc::new(Counters::default());
        // One before it has left a peak that is no lower: only the gauge shows the second one, or its look at the peak.
        counters.started();
        counters.ended();
        let taker = {
            let counters = counters.clone();
            thread::spawn(move || counters.take_peak())
        };
        counters.started();
        assert_eq!(taker.join().unwrap(), 1);
        counters.ended();
        assert_eq!(counters.take_peak(), 1, "in neither interval");
    }

    /// Found: the gauge raised, and the peak read, with less than sequential consistency.
    #[test]
    fn loom_counters_request_meets_take() {
        loom::model(a_request_meets_a_take_and_outlives_it);
    }

    /// The same without sequential consistency: each of the two misses what the other stored.
    #[test]
    #[should_panic = "in neither interval"]
    fn loom_counters_request_meets_take_needs_sequential_consistency() {
        weakened(|| loom::model(a_request_meets_a_take_and_outlives_it));
    }
}
