//! Exact numbers of the records that did not fit into the queue.
//!
//! A full queue loses a row of a list, never a number: what the row would have added to the total and to the rows of
//! its labels is added to cells right away. Every label has its cells from the moment it is interned, so adding
//! allocates nothing. It is slower than queueing (some hundred nanoseconds) and happens under overload only.
//!
//! Bounds: one set of cells for each label that a table holds, twice (see [`Banks`]); about 0.4 KB, and 4.6 KB for
//! routes, providers and models, which keep a latency histogram.

use super::{
    banks::Banks,
    buckets::{BUCKETS, bucket_of},
    labels::{LabelId, LabelTable},
    padded::Padded,
    record::Record,
    sums::{FIELDS, Sums},
};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// The label tables of a collector.
#[derive(Debug)]
pub(crate) struct Labels {
    pub(crate) route: LabelTable<Box<Cells>>,
    pub(crate) provider: LabelTable<Box<Cells>>,
    pub(crate) model: LabelTable<Box<Cells>>,
    pub(crate) tenant: LabelTable<Box<Cells>>,
    pub(crate) user: LabelTable<Box<Cells>>,
}

/// Exact numbers of rows that did not fit, for one label of one dimension.
#[derive(Clone, Debug)]
pub(crate) struct Overflow {
    pub(crate) dimension: Dimension,
    /// [`LabelId::UNSET`] for [`Dimension::All`], and for the rows without such a label.
    pub(crate) label: LabelId,
    pub(crate) sums: Sums,
    /// Latencies: bucket (see [`bucket_of`]) and count, ascending. Empty for tenants and users.
    pub(crate) latency: Vec<(usize, u64)>,
    /// Status codes and counts, ascending; for [`Dimension::All`] only. Codes outside 100 to 599 are left out.
    pub(crate) status_codes: Vec<(u16, u64)>,
}

/// What an [`Overflow`] is about. In one reading the sums of every dimension are those of `All`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Dimension {
    All,
    Route,
    Provider,
    Model,
    Tenant,
    User,
}

/// The cells of one label.
#[derive(Debug)]
pub(crate) struct Cells {
    banks: [Bank; 2],
}

#[derive(Debug)]
struct Bank {
    sums: [AtomicU64; FIELDS],
    /// 32 bits: they are emptied every few seconds at most.
    latency: Box<[AtomicU32]>,
}

/// The cells of the total, and what keeps a reading whole.
#[derive(Debug)]
pub(super) struct Overflows {
    banks: Banks,
    all: Cells,
    status_codes: [Box<[AtomicU32]>; 2],
    /// How many records did not fit.
    dropped: Padded<AtomicU64>,
    /// How many of them were handed over; written by the one reader.
    taken: AtomicU64,
}

const FIRST_CODE: u16 = 100;
const CODES: usize = 500;

impl Overflows {
    /// What the cells of the total take on the heap, beside those of the labels.
    pub(super) const CEILING: usize = Cells::HISTOGRAMS + 2 * CODES * size_of::<AtomicU32>();

    pub(super) fn new() -> Self {
        Self::with(Cells::with_histogram(), CODES)
    }

    /// What does not fit into the cells of the total is left out.
    pub(super) fn with(all: Cells, codes: usize) -> Self {
        Self {
            banks: Banks::default(),
            all,
            status_codes: [(); 2].map(|()| zeros(codes)),
            dropped: Padded::default(),
            taken: AtomicU64::new(0),
        }
    }

    /// Adds a record that did not fit.
    pub(super) fn add(&self, record: &Record, cost_nanos: Option<u64>, labels: &Labels) {
        let numbers = Sums::of(record, cost_nanos).to_array();
        let bucket = bucket_of(record.latency_us);
        self.banks.write(|bank| {
            self.all.add(bank, &numbers, bucket);
            let code = record.status.and_then(|code| code.checked_sub(FIRST_CODE));
            if let Some(cell) = code.and_then(|code| self.status_codes[bank].get(usize::from(code)))
            {
                cell.fetch_add(1, Ordering::Relaxed);
            }
            for (table, label) in [
                (&labels.route, record.route),
                (&labels.provider, record.provider),
                (&labels.model, record.model),
                (&labels.tenant, record.tenant),
                (&labels.user, record.user),
            ] {
                table.attached(label).add(bank, &numbers, bucket);
            }
            // While the bank is still ours, so that no more is ever taken than was dropped. Sequentially consistent,
            // as is the load, for the sleeping drainer: see `Wake`.
            self.dropped.0.fetch_add(1, Ordering::SeqCst);
        });
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.0.load(Ordering::SeqCst)
    }

    /// Everything was handed over.
    pub(super) fn is_empty(&self) -> bool {
        self.taken.load(Ordering::Relaxed) == self.dropped()
    }

    /// Hands over what has been added since the last time, the total first. One reader at a time. What another
    /// thread is just adding comes the next time.
    pub(super) fn take(&self, labels: &Labels, mut each: impl FnMut(Overflow)) {
        let mut taken = self.taken.load(Ordering::Relaxed);
        if self.is_empty() {
            return;
        }
        self.banks.take(|bank| {
            let Some(mut all) = self.all.take(bank, Dimension::All, LabelId::UNSET) else {
                return;
            };
            taken += all.sums.requests;
            all.status_codes = take_counts(&self.status_codes[bank])
                .map(|(index, count)| (index as u16 + FIRST_CODE, count))
                .collect();
            each(all);
            for (dimension, table) in [
                (Dimension::Route, &labels.route),
                (Dimension::Provider, &labels.provider),
                (Dimension::Model, &labels.model),
                (Dimension::Tenant, &labels.tenant),
                (Dimension::User, &labels.user),
            ] {
                for (label, cells) in table.each_attached() {
                    if let Some(overflow) = cells.take(bank, dimension, label) {
                        each(overflow);
                    }
                }
            }
        });
        self.taken.store(taken, Ordering::Relaxed);
    }
}

impl Cells {
    /// What the histograms of those that have them take.
    pub(super) const HISTOGRAMS: usize = 2 * BUCKETS * size_of::<AtomicU32>();

    pub(super) fn with_histogram() -> Self {
        Self::new(BUCKETS)
    }

    pub(super) fn without_histogram() -> Self {
        Self::new(0)
    }

    fn new(buckets: usize) -> Self {
        Self {
            banks: [(); 2].map(|()| Bank {
                sums: std::array::from_fn(|_| AtomicU64::new(0)),
                latency: zeros(buckets),
            }),
        }
    }

    // Everything in a bank is relaxed: `Banks` orders the writers before the reader and the reader before the next
    // writers; among themselves the writers only add.

    fn add(&self, bank: usize, numbers: &[u64; FIELDS], bucket: usize) {
        let bank = &self.banks[bank];
        for (cell, number) in bank.sums.iter().zip(numbers) {
            if *number != 0 {
                cell.fetch_add(*number, Ordering::Relaxed);
            }
        }
        if let Some(cell) = bank.latency.get(bucket) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn take(&self, bank: usize, dimension: Dimension, label: LabelId) -> Option<Overflow> {
        let bank = &self.banks[bank];
        // The number of requests: without any, the others are 0 as well.
        if bank.sums[0].load(Ordering::Relaxed) == 0 {
            return None;
        }
        let numbers = std::array::from_fn(|index| bank.sums[index].swap(0, Ordering::Relaxed));
        Some(Overflow {
            dimension,
            label,
            sums: Sums::from_array(numbers),
            latency: take_counts(&bank.latency).collect(),
            status_codes: Vec::new(),
        })
    }
}

fn zeros(count: usize) -> Box<[AtomicU32]> {
    (0..count).map(|_| AtomicU32::new(0)).collect()
}

/// The cells that are not 0, set to 0.
fn take_counts(cells: &[AtomicU32]) -> impl Iterator<Item = (usize, u64)> {
    cells
        .iter()
        .map(|cell| match cell.load(Ordering::Relaxed) {
            0 => 0,
            _ => u64::from(cell.swap(0, Ordering::Relaxed)),
        })
        .enumerate()
        .filter(|(_, count)| *count != 0)
}
