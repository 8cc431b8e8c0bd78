//! The collector itself: what the request path calls, and what the aggregator drains.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use super::{
    counters::Counters,
    labels::{LabelTable, TableUse},
    overflow::{Cells, Labels, Overflow, Overflows},
    record::Record,
    shards::Shards,
    wake::Wake,
};
use crate::{clock::Clock, sync::Notify};

/// Prices tokens: model, input, output and cached tokens to nano-units of the currency. `None` where the model has
/// no price.
type Price = Box<dyn Fn(&str, u64, u64, u64) -> Option<u64> + Send + Sync>;

/// Bounds of a collector.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) routes: usize,
    pub(crate) providers: usize,
    pub(crate) models: usize,
    pub(crate) tenants: usize,
    /// User ids that get a number; further ones travel with their record.
    pub(crate) users: usize,
    /// Rows that wait for the drainer, in all shards; rounded up to a power of two. 128 bytes each.
    pub(crate) feed_capacity: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            routes: 256,
            providers: 64,
            models: 256,
            tenants: 256,
            users: 4096,
            feed_capacity: 8192,
        }
    }
}

/// Takes one record from every request and keeps it until it is drained.
///
/// Recording takes no lock, allocates nothing, never logs and never awaits. It is bounded: a record that finds no
/// room is dropped as a row, counted in [`Totals::dropped`], and its numbers are kept exactly until
/// [`drain_overflow`](Self::drain_overflow) takes them.
pub(crate) struct Collector {
    labels: Labels,
    shards: Shards,
    overflows: Overflows,
    counters: Counters,
    wake: Wake,
    clock: Clock,
    price: OnceLock<Price>,
}

/// The collector's own numbers. Read one after the other while requests go on: each is exact, two of them may be
/// a request apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Requests that were recorded, dropped rows included.
    pub(crate) recorded: u64,
    /// Rows that found no room.
    pub(crate) dropped: u64,
    /// Requests that have started and not ended.
    pub(crate) in_flight: u64,
    /// Calls of a meter after the record was made; ignored.
    pub(crate) late_calls: u64,
    /// Values that a handler gave and that can't be used; ignored.
    pub(crate) invalid_values: u64,
    /// How many rows fit.
    pub(crate) feed_capacity: usize,
    /// How many are waiting.
    pub(crate) feed_pending: u64,
    pub(crate) routes: TableUse,
    pub(crate) providers: TableUse,
    pub(crate) models: TableUse,
    pub(crate) tenants: TableUse,
    pub(crate) users: TableUse,
}

impl Collector {
    pub(crate) fn new(limits: &Limits, clock: Clock) -> Self {
        let with_histogram = || Box::new(Cells::with_histogram());
        let without_histogram = || Box::new(Cells::without_histogram());
        Self {
            labels: Labels {
                route: LabelTable::with_attached(limits.routes, with_histogram),
                provider: LabelTable::with_attached(limits.providers, with_histogram),
                model: LabelTable::with_attached(limits.models, with_histogram),
                tenant: LabelTable::with_attached(limits.tenants, without_histogram),
                user: LabelTable::with_attached(limits.users, without_histogram),
            },
            shards: Shards::new(limits.feed_capacity),
            overflows: Overflows::new(),
            counters: Counters::default(),
            wake: Wake::default(),
            clock,
            price: OnceLock::new(),
        }
    }

    /// Says how tokens are priced. Used only for records that do not fit: their cost must be known when they are
    /// added up, as the mix of models is not kept for every label. The first call counts.
    pub(crate) fn price_with(
        &self,
        price: impl Fn(&str, u64, u64, u64) -> Option<u64> + Send + Sync + 'static,
    ) {
        let _ = self.price.set(Box::new(price));
    }

    pub(crate) fn labels(&self) -> &Labels {
        &self.labels
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// A request has started: every call is followed by one of [`record`](Self::record).
    pub(crate) fn started(&self) {
        self.counters.started();
    }

    /// A request has ended. Queues its record, or, where the queue is full, adds its numbers to the overflow.
    #[inline]
    pub(crate) fn record(&self, mut record: Record) {
        if !self.shards.push(&mut record) {
            self.overflow(&record);
        }
        self.counters.ended();
        self.wake.appended();
    }

    /// Takes up to `max` rows and says how many there were. One consumer at a time.
    pub(crate) fn drain(&self, max: usize, each: impl FnMut(Record)) -> usize {
        self.shards.drain(max, each)
    }

    /// Takes the exact numbers of the rows that did not fit since the last call: the total, then every label of
    /// every dimension that has any, in one or two rounds. One consumer at a time.
    ///
    /// A round is whole: each dimension's sums are those of the total before it. `unpriced` and `cost_nanos` are as
    /// they would be for queued rows, if [`price_with`](Self::price_with) was called.
    pub(crate) fn drain_overflow(&self, each: impl FnMut(Overflow)) {
        self.overflows.take(&self.labels, each);
    }

    pub(crate) fn totals(&self) -> Totals {
        let dropped = self.overflows.dropped();
        Totals {
            recorded: self.shards.pushed() + dropped,
            dropped,
            in_flight: self.counters.in_flight(),
            late_calls: self.counters.late_calls(),
            invalid_values: self.counters.invalid_values(),
            feed_capacity: self.shards.capacity(),
            feed_pending: self.shards.pending(),
            routes: self.labels.route.usage(),
            providers: self.labels.provider.usage(),
            models: self.labels.model.usage(),
            tenants: self.labels.tenant.usage(),
            users: self.labels.user.usage(),
        }
    }

    /// The largest number of requests in flight since the last call.
    pub(crate) fn take_peak(&self) -> u64 {
        self.counters.take_peak()
    }

    /// The drainer waits here: [`arm`](Self::arm), then if [`is_empty`](Self::is_empty) wait for a notification, else
    /// drain. A drain that finds nothing although it was not empty met a row that is still being written: yield and
    /// look again.
    pub(crate) fn wake(&self) -> &Notify {
        self.wake.notify()
    }

    /// Asks for a notification at the next record; one arming, one notification.
    pub(crate) fn arm(&self) {
        self.wake.arm();
    }

    /// No rows are waiting, none is being written, and no numbers of dropped rows are left.
    pub(crate) fn is_empty(&self) -> bool {
        self.shards.pending() == 0 && self.overflows.is_empty()
    }

    /// Counts a meter's call that came too late.
    pub(crate) fn late_call(&self) {
        self.counters.late_call();
    }

    /// Counts a value that can't be used.
    pub(crate) fn invalid_value(&self) {
        self.counters.invalid_value();
    }

    #[cold]
    fn overflow(&self, record: &Record) {
        let cost_nanos = record.cost_nanos.or_else(|| self.price_of(record));
        self.overflows.add(record, cost_nanos, &self.labels);
    }

    fn price_of(&self, record: &Record) -> Option<u64> {
        if !record.has_tokens() {
            return None;
        }
        let price = self.price.get()?;
        let model = self.labels.model.resolve(record.model)?;
        price(
            model,
            record.input_tokens.unwrap_or(0),
            record.output_tokens.unwrap_or(0),
            record.cached_tokens.unwrap_or(0),
        )
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector")
            .field("totals", &self.totals())
            .finish_non_exhaustive()
    }
}

// The request path shares it between all threads.
const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Arc<Collector>>();
};

#[cfg(all(test, loom))]
mod loom_models {
    use loom::{future::block_on, sync::Arc, thread};
    use rapidhash::v3::DEFAULT_RAPID_SECRETS;

    use super::*;
    use crate::{
        collector::{LabelId, record::record_for_tests},
        sync::weakened,
    };

    fn check(model: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(2);
        builder.max_branches = 10_000;
        builder.check(model);
    }

    /// The real one, with room for two rows and without histograms: everything in it is made anew for each run.
    fn collector() -> Arc<Collector> {
        fn table() -> LabelTable<Box<Cells>> {
            let cells = || Box::new(Cells::without_histogram());
            LabelTable::with_secrets(1, cells, DEFAULT_RAPID_SECRETS)
        }
        Arc::new(Collector {
            labels: Labels {
                route: table(),
                provider: table(),
                model: table(),
                tenant: table(),
                user: table(),
            },
            shards: Shards::with_shards(2, 1),
            overflows: Overflows::with(Cells::without_histogram(), 0),
            counters: Counters::default(),
            wake: Wake::default(),
            clock: Clock::new(),
            price: OnceLock::new(),
        })
    }

    fn request(collector: &Collector) {
        collector.started();
        collector.record(record_for_tests(LabelId::UNSET));
    }

    /// Drains as the aggregator does until so many requests have come, as rows or in the overflow.
    fn drain_until(collector: &Collector, wanted: u64) {
        let mut seen = 0;
        loop {
            let before = seen;
            seen += collector.drain(usize::MAX, drop) as u64;
            collector.drain_overflow(|overflow| {
                if overflow.dimension == super::super::Dimension::All {
                    seen += overflow.sums.requests;
                }
            });
            if seen >= wanted {
                break;
            }
            collector.arm();
            if collector.is_empty() {
                block_on(collector.wake().notified());
            } else if seen == before {
                // It is still being written.
                thread::yield_now();
            }
        }
        assert_eq!(seen, wanted);
    }

    /// A drainer that finds nothing and sleeps, while a record comes: it is woken.
    fn a_record_meets_a_drainer_that_goes_to_sleep() {
        let collector = collector();
        let producer = {
            let collector = collector.clone();
            thread::spawn(move || request(&collector))
        };
        drain_until(&collector, 1);
        producer.join().unwrap();
    }

    /// Found: the flag raised after the look at the queue; the producer's look at the flag before the record is there;
    /// the queue's tail read or raised with less than sequential consistency, likewise the flag.
    #[test]
    fn loom_collector_record_meets_sleeper() {
        check(a_record_meets_a_drainer_that_goes_to_sleep);
    }

    /// The same without sequential consistency: each of the two misses what the other stored.
    #[test]
    #[should_panic = "deadlock"]
    fn loom_collector_record_meets_sleeper_needs_sequential_consistency() {
        weakened(|| check(a_record_meets_a_drainer_that_goes_to_sleep));
    }

    /// The same with a record that finds the queue full, which the drainer empties meanwhile.
    fn a_record_that_does_not_fit_meets_a_drainer_that_goes_to_sleep() {
        let collector = collector();
        request(&collector);
        request(&collector);
        let producer = {
            let collector = collector.clone();
            thread::spawn(move || request(&collector))
        };
        drain_until(&collector, 3);
        producer.join().unwrap();
    }

    /// Found: the number of dropped records raised with less than sequential consistency; a look that passes over the
    /// overflow.
    #[test]
    fn loom_collector_overflow_meets_sleeper() {
        check(a_record_that_does_not_fit_meets_a_drainer_that_goes_to_sleep);
    }

    /// The same without sequential consistency.
    #[test]
    #[should_panic = "deadlock"]
    fn loom_collector_overflow_meets_sleeper_needs_sequential_consistency() {
        weakened(|| check(a_record_that_does_not_fit_meets_a_drainer_that_goes_to_sleep));
    }
}
