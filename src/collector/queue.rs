//! A bounded queue for any number of producers and consumers, after Dmitry Vyukov's array queue, in safe code.
//!
//! Every slot has a sequence number that says whose turn it is: `position` when the producer of that position may
//! write, `position + 1` when its consumer may read, `position + capacity` when the next lap's producer may write.
//! The values are plain words in atomics, so a slot can be written through a shared reference without unsafe code:
//! the sequence number already orders the accesses, the word accesses themselves are relaxed and cost what ordinary
//! stores cost. What is not a plain word is handed over as a box under a mutex of the slot; it is touched only when
//! there is a box, and by protocol by one thread at a time, so it is never waited for.
//!
//! A full queue refuses. It never overwrites, waits or grows.
//!
//! The models at the end are checked with
//! `RUSTFLAGS="--cfg loom" cargo test --release --no-default-features --lib loom --target-dir target/loom`.

use super::padded::Padded;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, lock};

/// `WORDS` plain words and at times a boxed `Rest`, first in, first out.
#[derive(Debug)]
pub(super) struct Queue<const WORDS: usize, Rest> {
    /// Next position to write; how many were ever accepted.
    tail: Padded<AtomicU64>,
    /// Next position to read.
    head: Padded<AtomicU64>,
    mask: u64,
    slots: Box<[Slot<WORDS, Rest>]>,
}

/// Aligned to cache lines, so that threads that write neighbouring positions do not share one. With 12 words a slot
/// fills two lines.
#[derive(Debug)]
#[repr(align(64))]
struct Slot<const WORDS: usize, Rest> {
    sequence: AtomicU64,
    words: [AtomicU64; WORDS],
    has_rest: AtomicBool,
    rest: Mutex<Option<Box<Rest>>>,
}

impl<const WORDS: usize, Rest> Queue<WORDS, Rest> {
    /// What an entry takes, in use or not.
    pub(super) const SLOT: usize = size_of::<Slot<WORDS, Rest>>();

    /// Holds `capacity` entries, rounded up to a power of two, at least 2: with one slot "written" and "free for
    /// the next lap" would be the same number.
    pub(super) fn new(capacity: usize) -> Self {
        let capacity = capacity.max(2).next_power_of_two() as u64;
        Self {
            tail: Padded(AtomicU64::new(0)),
            head: Padded(AtomicU64::new(0)),
            mask: capacity - 1,
            slots: (0..capacity).map(Slot::new).collect(),
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// Appends an entry, or gives the box back where the queue is full.
    pub(super) fn push(
        &self,
        words: &[u64; WORDS],
        rest: Option<Box<Rest>>,
    ) -> Result<(), Option<Box<Rest>>> {
        // Relaxed: only a guess, the slot's sequence number decides.
        let mut position = self.tail.0.load(Ordering::Relaxed);
        loop {
            let slot = &self.slots[(position & self.mask) as usize];
            // Acquire: pairs with the release in `pop`, so our writes come after the last lap's reads.
            let sequence = slot.sequence.load(Ordering::Acquire);
            if sequence == position {
                // The exchange only hands out the position, for which relaxed would do. Sequentially consistent
                // because of the sleeping drainer: see `Wake`. On x86 it is the same instruction.
                match self.tail.0.compare_exchange_weak(
                    position,
                    position + 1,
                    Ordering::SeqCst,
                    Ordering::Relaxed,
                ) {
                    Ok(_) => {
                        slot.write(words, rest);
                        // Release: publishes the words to the `pop` that acquires this number.
                        slot.sequence.store(position + 1, Ordering::Release);
                        return Ok(());
                    }
                    Err(current) => position = current,
                }
            } else if sequence < position {
                // The entry of the last lap has not been taken yet.
                return Err(rest);
            } else {
                position = self.tail.0.load(Ordering::Relaxed);
            }
        }
    }

    /// Takes the oldest entry. `None` where there is none, and where the oldest is still being written.
    pub(super) fn pop(&self) -> Option<([u64; WORDS], Option<Box<Rest>>)> {
        let mut position = self.head.0.load(Ordering::Relaxed);
        loop {
            let slot = &self.slots[(position & self.mask) as usize];
            // Acquire: pairs with the release in `push`, so the words that are read are the ones of this position.
            let sequence = slot.sequence.load(Ordering::Acquire);
            if sequence == position + 1 {
                // Relaxed: only hands out the position; the data is ordered by the sequence number.
                match self.head.0.compare_exchange_weak(
                    position,
                    position + 1,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                ) {
                    Ok(_) => {
                        let entry = slot.read();
                        // Release: the reads are over before a producer of the next lap may write.
                        slot.sequence
                            .store(position + self.mask + 1, Ordering::Release);
                        return Some(entry);
                    }
                    Err(current) => position = current,
                }
            } else if sequence <= position {
                return None;
            } else {
                position = self.head.0.load(Ordering::Relaxed);
            }
        }
    }

    /// How many entries were ever accepted, those still being written included.
    pub(super) fn pushed(&self) -> u64 {
        // Sequentially consistent for the sleeping drainer: see `Wake`. An ordinary load on x86.
        self.tail.0.load(Ordering::SeqCst)
    }

    /// How many entries were accepted and not yet taken.
    pub(super) fn len(&self) -> u64 {
        // The head first: it never passes the tail, so a later tail is never below it.
        let head = self.head.0.load(Ordering::Acquire);
        self.pushed().saturating_sub(head)
    }
}

impl<const WORDS: usize, Rest> Slot<WORDS, Rest> {
    fn new(position: u64) -> Self {
        Self {
            sequence: AtomicU64::new(position),
            words: std::array::from_fn(|_| AtomicU64::new(0)),
            has_rest: AtomicBool::new(false),
            rest: Mutex::new(None),
        }
    }

    fn write(&self, words: &[u64; WORDS], rest: Option<Box<Rest>>) {
        for (cell, word) in self.words.iter().zip(words) {
            cell.store(*word, Ordering::Relaxed);
        }
        self.has_rest.store(rest.is_some(), Ordering::Relaxed);
        if rest.is_some() {
            *lock(&self.rest) = rest;
        }
    }

    fn read(&self) -> ([u64; WORDS], Option<Box<Rest>>) {
        let words = std::array::from_fn(|index| self.words[index].load(Ordering::Relaxed));
        let rest = if self.has_rest.load(Ordering::Relaxed) {
            lock(&self.rest).take()
        } else {
            None
        };
        (words, rest)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::{
        sync::{Arc, atomic::AtomicUsize},
        thread,
    };

    use super::*;

    fn queue(capacity: usize) -> Queue<3, String> {
        Queue::new(capacity)
    }

    #[test]
    fn keeps_the_order_over_many_laps() {
        let queue = queue(4);
        let mut expected = 0;
        for round in 0..1000_u64 {
            let rest = (round % 3 == 0).then(|| Box::new(round.to_string()));
            queue.push(&[round, round * 2, round * 3], rest).unwrap();
            if round % 4 == 3 {
                while let Some((words, rest)) = queue.pop() {
                    assert_eq!(words, [expected, expected * 2, expected * 3]);
                    let text = (expected % 3 == 0).then(|| expected.to_string());
                    assert_eq!(rest.map(|rest| *rest), text);
                    expected += 1;
                }
            }
        }
        assert_eq!(expected, 1000);
        assert_eq!(queue.len(), 0);
        assert_eq!(queue.pushed(), 1000);
    }

    #[test]
    fn a_full_queue_refuses_and_gives_the_box_back() {
        let queue = queue(3);
        assert_eq!(queue.capacity(), 4);
        for value in 0..4 {
            queue.push(&[value; 3], None).unwrap();
        }
        let refused = queue.push(&[9; 3], Some(Box::new("kept".to_owned())));
        assert_eq!(refused.unwrap_err().as_deref().unwrap(), "kept");
        assert_eq!(queue.len(), 4);
        assert_eq!(queue.pop().unwrap().0, [0; 3]);
        queue.push(&[4; 3], None).unwrap();
        let left: Vec<u64> = std::iter::from_fn(|| queue.pop())
            .map(|(words, _)| words[0])
            .collect();
        assert_eq!(left, [1, 2, 3, 4]);
        assert!(queue.pop().is_none());
    }

    #[test]
    fn a_box_of_an_earlier_lap_is_never_seen_again() {
        let queue = queue(2);
        queue.push(&[1; 3], Some(Box::new("a".into()))).unwrap();
        assert!(queue.pop().unwrap().1.is_some());
        for _ in 0..4 {
            queue.push(&[2; 3], None).unwrap();
            assert!(queue.pop().unwrap().1.is_none());
        }
    }

    #[test]
    fn a_slot_of_a_record_fills_two_lines() {
        assert_eq!(size_of::<Slot<12, String>>(), 128);
    }

    /// Everything that was accepted arrives once, whole, and in the order of its producer.
    #[test]
    fn many_producers_one_consumer() {
        const PRODUCERS: u64 = 4;
        const EACH: u64 = 20_000;
        let queue = Arc::new(queue(64));
        let refused = Arc::new(AtomicUsize::new(0));
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|producer| {
                let (queue, refused) = (queue.clone(), refused.clone());
                thread::spawn(move || {
                    for value in 0..EACH {
                        let rest =
                            (value % 7 == 0).then(|| Box::new(format!("{producer}/{value}")));
                        let words = [producer, value, producer ^ value];
                        if queue.push(&words, rest).is_err() {
                            refused.fetch_add(1, Ordering::Relaxed);
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();

        let mut seen = 0;
        let mut last = [None; PRODUCERS as usize];
        let mut take = |([producer, value, check], rest): ([u64; 3], Option<Box<String>>)| {
            assert_eq!(check, producer ^ value);
            let text = (value % 7 == 0).then(|| format!("{producer}/{value}"));
            assert_eq!(rest.map(|rest| *rest), text);
            let last = &mut last[producer as usize];
            assert!(last.is_none_or(|last| last < value));
            *last = Some(value);
            seen += 1;
        };
        while !producers.iter().all(|producer| producer.is_finished()) {
            while let Some(entry) = queue.pop() {
                take(entry);
            }
        }
        for producer in producers {
            producer.join().unwrap();
        }
        while let Some(entry) = queue.pop() {
            take(entry);
        }
        let refused = refused.load(Ordering::Relaxed) as u64;
        assert_eq!(seen + refused, PRODUCERS * EACH);
        assert_eq!(queue.pushed(), seen);
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use loom::{sync::Arc, thread};

    use super::*;

    fn check(model: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(model);
    }

    /// Two producers against one consumer: nothing is lost, torn, or seen twice.
    #[test]
    fn loom_queue_two_producers_one_consumer() {
        check(|| {
            let queue = Arc::new(Queue::<2, u64>::new(2));
            let producers: Vec<_> = [1, 2]
                .map(|value| {
                    let queue = queue.clone();
                    thread::spawn(move || {
                        let rest = (value == 1).then(|| Box::new(value));
                        queue.push(&[value, value], rest).is_ok()
                    })
                })
                .into();
            let mut seen = Vec::new();
            let mut take = || {
                while let Some(([a, b], rest)) = queue.pop() {
                    assert_eq!(a, b);
                    assert_eq!(rest.is_some(), a == 1);
                    seen.push(a);
                }
            };
            take();
            for producer in producers {
                assert!(producer.join().unwrap());
            }
            take();
            seen.sort_unstable();
            assert_eq!(seen, [1, 2]);
        });
    }

    /// A producer that laps the queue while the consumer reads: a slot is never written under its reader.
    #[test]
    fn loom_queue_wraps_around() {
        check(|| {
            let queue = Arc::new(Queue::<1, u64>::new(2));
            queue.push(&[1], None).ok().unwrap();
            queue.push(&[2], None).ok().unwrap();
            let producer = {
                let queue = queue.clone();
                thread::spawn(move || queue.push(&[3], Some(Box::new(3))).is_ok())
            };
            let first = queue.pop().unwrap();
            assert_eq!(first.0, [1]);
            assert!(first.1.is_none());
            let accepted = producer.join().unwrap();
            let rest: Vec<_> = std::iter::from_fn(|| queue.pop())
                .map(|([value], _)| value)
                .collect();
            assert_eq!(rest, if accepted { vec![2, 3] } else { vec![2] });
        });
    }

    /// Two consumers never take the same entry.
    #[test]
    fn loom_queue_two_consumers() {
        check(|| {
            let queue = Arc::new(Queue::<1, u64>::new(2));
            queue.push(&[1], Some(Box::new(1))).ok().unwrap();
            queue.push(&[2], None).ok().unwrap();
            let other = {
                let queue = queue.clone();
                thread::spawn(move || queue.pop().map(|([value], _)| value))
            };
            let mine = queue.pop().map(|([value], _)| value);
            let mut seen: Vec<_> = [mine, other.join().unwrap()]
                .into_iter()
                .flatten()
                .collect();
            seen.sort_unstable();
            assert_eq!(seen, [1, 2]);
        });
    }
}
