//! Collector: what the request path writes, lock-free and bounded.
//!
//! A request ends in one [`Record`], which goes into a bounded queue sharded by thread. Where there is no room its
//! numbers are added to cells, so that totals stay exact. Labels are interned to small numbers in capped tables.

mod banks;
mod buckets;
mod collect;
mod counters;
mod labels;
mod memory;
mod overflow;
mod packed;
mod padded;
mod queue;
mod record;
mod shards;
mod sums;
#[cfg(all(test, not(loom)))]
mod tests;
mod wake;

pub(crate) use buckets::{BUCKETS, bucket_of, bucket_range};
pub(crate) use collect::{Collector, Limits};
pub(crate) use labels::{LabelId, LabelTable, MAX_LABEL_BYTES, TableUse, cut};
pub(crate) use memory::{queue_ceiling, queue_rows, tables_ceiling};
pub(crate) use overflow::{Dimension, Overflow};
pub(crate) use record::{Extra, Method, Outcome, Record};
pub(crate) use sums::Sums;
