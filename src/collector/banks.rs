//! Two banks of cells: writers fill one, the reader empties the other.
//!
//! What does not fit into the queue is added to many cells, one after the other. A reader that took them meanwhile
//! would find half of a request: in the total and not yet in its route's row. So there are two banks. A writer counts
//! itself into the active one and out again; the reader makes the other one active and takes the first when its last
//! writer has left. It does not wait for that: if a writer is still there, the numbers come with the next read.
//!
//! The models at the end are checked with
//! `RUSTFLAGS="--cfg loom" cargo test --release --no-default-features --lib loom --target-dir target/loom`.

use super::padded::Padded;
use crate::sync::{AtomicU64, Ordering};

/// Bit 0: the active bank. Then 31 bits for the writers of bank 0, and 31 for those of bank 1. In one word, so that
/// "this bank is active and I am in it" is one step.
#[derive(Debug, Default)]
pub(super) struct Banks(Padded<AtomicU64>);

const ACTIVE: u64 = 1;
const WRITER: [u64; 2] = [1 << 1, 1 << 32];
const WRITERS: [u64; 2] = [0x7fff_ffff << 1, 0x7fff_ffff << 32];

impl Banks {
    /// Counts a writer into the active bank, and out when `write` returns.
    pub(super) fn write(&self, write: impl FnOnce(usize)) {
        let mut state = self.0.0.load(Ordering::Relaxed);
        let bank = loop {
            let bank = (state & ACTIVE) as usize;
            // Acquire: pairs with the release in `take`, so what we add comes after the reader's zeros of this bank's
            // last turn. All changes of the word are read-modify-writes, which hand a release on.
            match self.0.0.compare_exchange_weak(
                state,
                state + WRITER[bank],
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => break bank,
                Err(current) => state = current,
            }
        };
        write(bank);
        // Release: what was written is there for the reader that sees the bank without writers.
        self.0.0.fetch_sub(WRITER[bank], Ordering::Release);
    }

    /// Hands over the bank that is not active, if its writers have left, then makes it the active one and hands over
    /// the other one likewise. One reader at a time.
    pub(super) fn take(&self, mut read: impl FnMut(usize)) {
        for _ in 0..2 {
            // Acquire: pairs with the release of the writers that left.
            let state = self.0.0.load(Ordering::Acquire);
            let idle = (state & ACTIVE ^ 1) as usize;
            if state & WRITERS[idle] != 0 {
                return;
            }
            read(idle);
            // Release: our zeros come before what is written from now on. The second turn only repeats the swap, so
            // that the banks are used alike.
            self.0.0.fetch_xor(ACTIVE, Ordering::Release);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn everything_is_handed_over_once_nobody_writes() {
        let banks = Banks::default();
        let cells = [AtomicU64::new(0), AtomicU64::new(0)];
        let mut taken = 0;
        for round in 1..=5 {
            banks.write(|bank| {
                cells[bank].fetch_add(round, Ordering::Relaxed);
            });
            banks.take(|bank| taken += cells[bank].swap(0, Ordering::Relaxed));
            assert_eq!(taken, round * (round + 1) / 2);
        }
    }

    #[test]
    fn a_bank_with_a_writer_is_left_for_later() {
        let banks = Banks::default();
        let cells = [AtomicU64::new(0), AtomicU64::new(0)];
        let taken = AtomicU64::new(0);
        let take = || {
            banks.take(|bank| {
                taken.fetch_add(cells[bank].swap(0, Ordering::Relaxed), Ordering::Relaxed);
            });
            taken.load(Ordering::Relaxed)
        };
        banks.write(|bank| {
            cells[bank].fetch_add(1, Ordering::Relaxed);
            assert_eq!(take(), 0);
            // Others go on in the other bank; they too are taken only as whole.
            banks.write(|bank| {
                cells[bank].fetch_add(10, Ordering::Relaxed);
            });
            assert_eq!(take(), 0);
        });
        assert_eq!(take(), 11);
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use loom::{sync::Arc, thread};

    use super::*;

    /// Two cells that a writer raises one after the other are never taken apart, and nothing is lost.
    #[test]
    fn loom_banks_take_whole_requests() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(|| {
            let banks = Arc::new(Banks::default());
            let cells = Arc::new([0; 4].map(|_: u8| AtomicU64::new(0)));
            let writers: Vec<_> = [1, 2]
                .map(|value| {
                    let (banks, cells) = (banks.clone(), cells.clone());
                    thread::spawn(move || {
                        banks.write(|bank| {
                            cells[bank * 2].fetch_add(value, Ordering::Relaxed);
                            cells[bank * 2 + 1].fetch_add(value, Ordering::Relaxed);
                        });
                    })
                })
                .into();
            let mut taken = 0;
            let mut take = || {
                banks.take(|bank| {
                    // Loads and stores: unlike exchanges they go wrong where the bank is not ours alone.
                    let [a, b] = [0, 1].map(|cell| {
                        let value = cells[bank * 2 + cell].load(Ordering::Relaxed);
                        cells[bank * 2 + cell].store(0, Ordering::Relaxed);
                        value
                    });
                    assert_eq!(a, b);
                    taken += a;
                });
            };
            take();
            for writer in writers {
                writer.join().unwrap();
            }
            take();
            assert_eq!(taken, 3);
        });
    }

    /// One writer that comes twice, with loads and stores in the place of additions. Those always go by the newest
    /// value, whatever was ordered; a load may see one from before the reader's zeros where nothing orders the two.
    ///
    /// Found: any of the word's four accesses with relaxed ordering.
    #[test]
    fn loom_banks_order_writers_behind_the_zeros() {
        loom::model(|| {
            let banks = Arc::new(Banks::default());
            let cells = Arc::new([0; 2].map(|_: u8| AtomicU64::new(0)));
            let writer = {
                let (banks, cells) = (banks.clone(), cells.clone());
                thread::spawn(move || {
                    for value in [1, 2] {
                        banks.write(|bank| {
                            let before = cells[bank].load(Ordering::Relaxed);
                            cells[bank].store(before + value, Ordering::Relaxed);
                        });
                    }
                })
            };
            let mut taken = 0;
            let mut take = || {
                banks.take(|bank| {
                    taken += cells[bank].load(Ordering::Relaxed);
                    cells[bank].store(0, Ordering::Relaxed);
                });
            };
            take();
            take();
            writer.join().unwrap();
            take();
            assert_eq!(taken, 3);
        });
    }
}
