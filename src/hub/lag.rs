//! Lag: how many events a reader has before it.

use std::collections::HashMap;

use super::{Hub, log::StreamLog, spec::ViewSpec, view::View};
use crate::sync::{Ordering, lock};

impl Hub {
    /// How many events each reader that is behind has before it, by the reader's number. Those of its channels are
    /// counted, whatever its filter; snapshots do not count. A tenant's reader has only its own before it: what the
    /// logs hold of them, as whose those were that they have let go is no longer known.
    pub(crate) fn lags(&self) -> HashMap<u64, u64> {
        let mut behind = HashMap::new();
        let state = lock(&self.state);
        for view in state.views.values() {
            let late = late_readers(view);
            let Some(first) = late.iter().map(|&(_, cursor)| cursor).min() else {
                continue;
            };
            let logs: Vec<_> = state
                .channels
                .iter()
                .filter(|channel| view.spec.wants(&channel.info))
                .filter_map(|channel| channel.log.as_stream())
                .collect();
            if view.spec.tenant.is_some() {
                let own = own_after(&view.spec, &logs, first);
                let before = |cursor| own.len() - own.partition_point(|seq| *seq <= cursor);
                behind.extend(late.iter().map(|&(id, cursor)| (id, before(cursor) as u64)));
                continue;
            }
            let head = view.head();
            behind.extend(late.iter().map(|&(id, cursor)| {
                let lags = logs
                    .iter()
                    .map(|log| log.held_after(cursor) + log.missed(cursor, head));
                (id, lags.sum())
            }));
        }
        behind
    }
}

/// Those that have something before them, by number, and where they stand.
fn late_readers(view: &View) -> Vec<(u64, u64)> {
    let head = view.head();
    let mut late = Vec::new();
    view.for_each_reader(|reader| {
        let cursor = reader.cursor.load(Ordering::Relaxed);
        if cursor < head {
            late.push((reader.id, cursor));
        }
    });
    late
}

/// The numbers of the events behind `seq` that exist for the readers of a spec, ascending. Looked at once for all
/// of a view's readers.
fn own_after(spec: &ViewSpec, logs: &[&StreamLog], seq: u64) -> Vec<u64> {
    let mut own: Vec<u64> = logs
        .iter()
        .flat_map(|log| log.after(seq))
        .flat_map(|entry| {
            spec.visible_in(entry)
                .map(|index| entry.first + u64::from(index))
        })
        .filter(|number| *number > seq)
        .collect();
    own.sort_unstable();
    own
}
