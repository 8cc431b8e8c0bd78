//! The queue of records, sharded by thread.

use std::{cell::Cell, sync::atomic::AtomicUsize, thread};

use super::{
    packed::{WORDS, pack, unpack},
    queue::Queue,
    record::{Extra, Record},
};
use crate::sync::Ordering;

/// More shards than this do not help: the one drainer visits them all.
const MAX_SHARDS: usize = 16;
/// Smaller shards fill up between two visits.
const MIN_SHARD_ROWS: usize = 64;

/// One queue for every thread or two, so that producers rarely touch the same cache lines.
///
/// A record goes to its thread's shard, or, where that is full, to the next one with room, so that one busy thread
/// can use all of the capacity. With no room at all it is refused.
#[derive(Debug)]
pub(super) struct Shards {
    /// A power of two.
    queues: Box<[Queue<WORDS, Extra>]>,
    /// Where the next drain begins, so that with a small `max` no shard is starved. Written by the drainer alone.
    next: AtomicUsize,
}

impl Shards {
    /// Room for `capacity` records in all, rounded up to a power of two.
    pub(super) fn new(capacity: usize) -> Self {
        let threads = thread::available_parallelism().map_or(1, |threads| threads.get());
        Self::with_shards(capacity, threads)
    }

    /// How many rows there is room for where so many were asked for.
    pub(super) fn rows(capacity: usize) -> usize {
        capacity.clamp(2, 1 << 24).next_power_of_two()
    }

    /// What the queue takes on the heap.
    pub(super) fn ceiling(capacity: usize) -> usize {
        Self::rows(capacity) * Queue::<WORDS, Extra>::SLOT
            + MAX_SHARDS * size_of::<Queue<WORDS, Extra>>()
    }

    pub(super) fn with_shards(capacity: usize, shards: usize) -> Self {
        let capacity = Self::rows(capacity);
        let useful = (capacity / MIN_SHARD_ROWS).clamp(1, MAX_SHARDS);
        let shards = shards.next_power_of_two().min(useful);
        Self {
            queues: (0..shards).map(|_| Queue::new(capacity / shards)).collect(),
            next: AtomicUsize::new(0),
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.queues.iter().map(Queue::capacity).sum()
    }

    /// Queues a record. False where there is no room: it is left as it was.
    #[inline]
    pub(super) fn push(&self, record: &mut Record) -> bool {
        let words = pack(record);
        let own = thread_number();
        let mut extra = record.extra.take();
        for offset in 0..self.queues.len() {
            let queue = &self.queues[(own + offset) & (self.queues.len() - 1)];
            match queue.push(&words, extra) {
                Ok(()) => return true,
                Err(returned) => extra = returned,
            }
        }
        record.extra = extra;
        false
    }

    /// Takes up to `max` records. The order is kept for each producing thread as long as its shard had room, not
    /// between threads.
    pub(super) fn drain(&self, max: usize, mut each: impl FnMut(Record)) -> usize {
        let first = self.next.load(Ordering::Relaxed);
        let mut taken = 0;
        for offset in 0..self.queues.len() {
            let shard = (first + offset) & (self.queues.len() - 1);
            let queue = &self.queues[shard];
            // No more than it held at the start, so that a shard that is filled as quickly as it is emptied does not
            // keep the others waiting.
            for _ in 0..queue.len().min((max - taken) as u64) {
                let Some((words, extra)) = queue.pop() else {
                    break;
                };
                taken += 1;
                each(unpack(&words, extra));
            }
            if taken == max {
                self.next.store(shard, Ordering::Relaxed);
                break;
            }
        }
        taken
    }

    /// How many records were ever accepted.
    pub(super) fn pushed(&self) -> u64 {
        self.queues.iter().map(Queue::pushed).sum()
    }

    /// How many are waiting, those that are just being written included.
    pub(super) fn pending(&self) -> u64 {
        self.queues.iter().map(Queue::len).sum()
    }
}

/// A small number of this thread, given out in the order in which threads first ask.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    NUMBER.with(|number| {
        if number.get() == usize::MAX {
            number.set(NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed) & (usize::MAX >> 1));
        }
        number.get()
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::collector::{LabelId, record::record_for_tests};

    fn record(number: u64) -> Record {
        let mut record = record_for_tests(LabelId::UNSET);
        record.latency_us = number;
        record
    }

    #[test]
    fn one_thread_can_fill_all_shards() {
        let shards = Shards::with_shards(1000, 4);
        assert_eq!((shards.capacity(), shards.queues.len()), (1024, 4));
        for number in 0..1024 {
            assert!(shards.push(&mut record(number)));
        }
        let mut refused = record(7);
        refused.extra = Some(Box::default());
        assert!(!shards.push(&mut refused));
        assert!(refused.extra.is_some());
        assert_eq!(shards.pending(), 1024);

        let mut seen = Vec::new();
        assert_eq!(
            shards.drain(usize::MAX, |record| seen.push(record.latency_us)),
            1024
        );
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..1024));
        assert_eq!((shards.pending(), shards.pushed()), (0, 1024));
    }

    #[test]
    fn a_small_drain_visits_every_shard_in_the_end() {
        let shards = Shards::with_shards(256, 4);
        for number in 0..256 {
            assert!(shards.push(&mut record(number)));
        }
        let mut seen = Vec::new();
        while shards.drain(10, |record| seen.push(record.latency_us)) > 0 {}
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..256));
        assert_eq!(shards.drain(0, |_| unreachable!()), 0);
    }

    #[test]
    fn the_capacity_is_kept_with_few_rows() {
        for (asked, got) in [(0, 2), (1, 2), (3, 4), (100, 128), (8192, 8192)] {
            assert_eq!(Shards::with_shards(asked, 8).capacity(), got);
        }
    }
}
