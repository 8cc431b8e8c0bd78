//! How much memory the collector takes at most.

use super::{
    collect::{Collector, Limits},
    labels::LabelTable,
    overflow::{Cells, Overflows},
    shards::Shards,
};

/// The queue: reserved at the start, so that it takes as much at any time.
pub(crate) fn queue_ceiling(limits: &Limits) -> usize {
    Shards::ceiling(limits.feed_capacity)
}

/// How many rows the queue holds, each of which may carry texts.
pub(crate) fn queue_rows(limits: &Limits) -> usize {
    Shards::rows(limits.feed_capacity)
}

/// Everything beside it: the label tables, every label in use, each with the cells for what does not fit into the queue.
pub(crate) fn tables_ceiling(limits: &Limits) -> usize {
    let table = LabelTable::<Box<Cells>>::ceiling;
    let (with, without) = (size_of::<Cells>() + Cells::HISTOGRAMS, size_of::<Cells>());
    [limits.routes, limits.providers, limits.models]
        .map(|labels| table(labels, with))
        .into_iter()
        .chain([limits.tenants, limits.users].map(|labels| table(labels, without)))
        .sum::<usize>()
        + size_of::<Collector>()
        + Overflows::CEILING
}
