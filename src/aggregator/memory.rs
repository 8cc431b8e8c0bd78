//! How much memory the aggregator takes at most.

use std::sync::Arc;

use crate::collector::{self, BUCKETS, Extra, Limits, MAX_LABEL_BYTES, queue_rows, tables_ceiling};

use super::{
    aggregate::Settings,
    cardinality::{Audience, Distinct},
    histogram::Sparse,
    logs::MAX_UNLOGGED,
    points::{MINUTES, POINT_BUCKETS, Point, SECONDS, SPREAD_FIVES, SPREAD_SECONDS, Spread},
    providers::MAX_PROVIDERS,
    rows::{BATCH, Row, RowRef, Rows},
    slot::{LabelRow, ROW_BUCKETS, SLOWEST, Slot, TENANT_BUCKETS},
    state::{Acquaintance, MAX_ERRORS, MAX_READY, MAX_STRANGERS},
    tenant_health::TenantHealth,
    users::{USER_BUCKETS, UserRow},
    window::slot_count,
};

/// An upper bound in bytes, part by part: every label of every table used in every slot, with latencies so scattered
/// that every histogram is as large as it may become, and every list full of rows that carry all the texts that they
/// may. Real traffic stays far below, as a row that was not used in a slot takes nothing there, a histogram is as long
/// as its latencies are different, and few hosts attach anything.
///
/// What the host says of its providers, its price table, and an answer while it is written come on top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ceiling {
    /// Room for finished requests that wait: `feed_capacity`.
    pub(crate) queue: usize,
    /// The names of labels, and exact numbers for those that find the queue full: the limits of labels.
    pub(crate) tables: usize,
    /// The windows: `window_size`, `window_count` and the limits of labels.
    pub(crate) slots: usize,
    /// Totals by the second and by the minute.
    pub(crate) points: usize,
    /// Recent, failed and slow requests, and those that wait to be published.
    pub(crate) lists: usize,
    /// What hosts attached to the rows in the queue and in the lists.
    pub(crate) texts: usize,
    /// Who was seen when: `user_timeout`, and the names of users.
    pub(crate) users: usize,
    /// Statuses of providers, for each tenant its own.
    pub(crate) statuses: usize,
}

/// The sum of all parts.
pub(crate) fn memory_ceiling(settings: &Settings, limits: &Limits) -> usize {
    let ceiling = Ceiling::of(settings, limits);
    ceiling.queue
        + ceiling.tables
        + ceiling.slots
        + ceiling.points
        + ceiling.lists
        + ceiling.texts
        + ceiling.users
        + ceiling.statuses
}

impl Ceiling {
    pub(crate) fn of(settings: &Settings, limits: &Limits) -> Self {
        let slots = slot_count(settings.window_size, settings.window_count);
        let slowest = slots * SLOWEST;
        let listed = settings.recent + MAX_READY + MAX_UNLOGGED + 4 * BATCH;
        Self {
            queue: collector::queue_ceiling(limits),
            tables: tables_ceiling(limits),
            // A vector that doubles is there twice for a moment: one slot more is room for the largest.
            slots: (slots + 1) * slot(settings.max_users.max(1), limits),
            points: points(),
            lists: (slowest + MAX_ERRORS + listed) * row()
                // The places of the rows, in rings and vectors that double.
                + vec::<RowRef>(settings.recent)
                + vec::<RowRef>(MAX_ERRORS)
                + vec::<Arc<Rows>>(MAX_READY + 1)
                + vec::<Arc<Rows>>(MAX_UNLOGGED + 1),
            texts: (queue_rows(limits) + slowest + MAX_ERRORS + listed) * Extra::CEILING,
            // The day's, and one that is put together of the others.
            users: (Audience::minutes(settings.user_timeout) + 2)
                * (size_of::<(u64, Distinct)>() + Distinct::CEILING)
                + names(limits),
            statuses: limits.tenants
                * limits.providers.min(MAX_PROVIDERS)
                * TenantHealth::PAIR_BYTES,
        }
    }
}

/// Users that were seen before, with a label and beyond the table.
pub(crate) fn names(limits: &Limits) -> usize {
    vec::<Option<Acquaintance>>(limits.users + LABELS_BESIDE)
        + map::<(u64, Acquaintance)>(MAX_STRANGERS)
        + (limits.users + MAX_STRANGERS) * NAME
}

/// Beside those of a table there are rows for no label and for `other`.
const LABELS_BESIDE: usize = 2;
/// A shared name: two counters and the text.
const NAME: usize = 16 + MAX_LABEL_BYTES;

/// One slot with every label in use.
pub(crate) fn slot(max_users: usize, limits: &Limits) -> usize {
    let rows = |labels: usize, heap: usize| {
        let rows = labels + LABELS_BESIDE;
        // The places grow by doubling from wherever they are.
        vec::<LabelRow>(rows) + rows * heap + 2 * rows * size_of::<u32>()
    };
    let ttfb = size_of::<Sparse>() + Sparse::ceiling(ROW_BUCKETS);
    let users = vec::<UserRow>(max_users)
        + max_users * (Sparse::ceiling(USER_BUCKETS) + NAME)
        + map::<(u64, u32)>(max_users)
        + 2 * Sparse::ceiling(USER_BUCKETS);
    // Of status codes there are 900, and none.
    let totals = 2 * BUCKETS * size_of::<u64>() + vec::<(u16, u64)>(901);
    size_of::<Slot>()
        + rows(limits.routes, Sparse::ceiling(ROW_BUCKETS))
        + rows(limits.models, Sparse::ceiling(ROW_BUCKETS))
        + rows(limits.providers, Sparse::ceiling(ROW_BUCKETS) + ttfb)
        + rows(limits.tenants, Sparse::ceiling(TENANT_BUCKETS))
        + users
        + totals
        + vec::<RowRef>(SLOWEST + 1)
}

fn points() -> usize {
    let spread = size_of::<Option<(u64, Spread)>>() + 2 * Sparse::ceiling(POINT_BUCKETS);
    (SECONDS + MINUTES) * size_of::<Option<(u64, Point)>>()
        + (SPREAD_SECONDS + SPREAD_FIVES + MINUTES) * spread
}

/// A row in a batch of its own: with little traffic every batch is one, and lists that live long keep their rows so.
const fn row() -> usize {
    16 + size_of::<Rows>() + size_of::<Row>()
}

/// A vector that has grown to so many, by doubling.
fn vec<T>(len: usize) -> usize {
    len.next_power_of_two().max(4) * size_of::<T>()
}

/// A hash map that has grown to so many: at most seven eighths of its places are in use, each has a byte beside it, and
/// a group of bytes stands at the end.
fn map<T>(len: usize) -> usize {
    (len * 8 / 7 + 1).next_power_of_two().max(4) * (size_of::<T>() + 1) + 16
}
