//! Breakdowns: the rows of a window by route, model, user, provider or tenant.

use std::{collections::HashSet, hash::BuildHasherDefault};

use serde::Serialize;

use crate::collector::{LabelId, LabelTable};

use super::{
    counts::{Cell, Counts},
    histogram::Dense,
    json::{money, ms, plain, plain_option, ratio},
    slot::{Dimension, LabelRows, Slot},
    users::AlreadyHashed,
    window::Window,
};

/// Rows of a breakdown that are shown by name; the rest is in `other`.
pub(crate) const MAX_ROWS: usize = 256;

/// Requests without a label.
const NONE: &str = "(none)";
/// Requests that no route took.
const UNMATCHED: &str = "(unmatched)";
/// Labels that found their table full, and rows beyond those that are shown.
const OTHER: &str = "other";

/// One row of a breakdown over a window.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
#[allow(missing_docs)]
pub struct BreakdownRow {
    /// The label; `(none)`, for routes `(unmatched)`, where there was none; `other` for all that have no row.
    pub key: String,
    pub total_requests: u64,
    pub failed_requests: u64,
    #[serde(serialize_with = "plain_option")]
    pub error_rate: Option<f64>,
    #[serde(serialize_with = "plain_option")]
    pub success_rate: Option<f64>,
    #[serde(serialize_with = "plain_option")]
    pub avg_latency_ms: Option<f64>,
    #[serde(serialize_with = "plain_option")]
    pub p50_ms: Option<f64>,
    #[serde(serialize_with = "plain_option")]
    pub p95_ms: Option<f64>,
    #[serde(serialize_with = "plain_option")]
    pub p99_ms: Option<f64>,
    pub total_tokens: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    #[serde(serialize_with = "plain")]
    pub total_cost: f64,
    pub unpriced_requests: u64,
    /// Of all requests, 0..1.
    #[serde(serialize_with = "plain_option")]
    pub share: Option<f64>,
    /// So many more requests of this key may be in `other`; 0 means the row is exact.
    pub error_bound: u64,
}

/// One provider over a window, as seed 000 prints it, with percentiles.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
#[allow(missing_docs)]
pub struct ProviderStats {
    /// The provider; `(none)` where a request named none, `other` for those that have no row.
    pub provider_id: String,
    pub total_requests: u64,
    #[serde(serialize_with = "plain_option")]
    pub success_rate: Option<f64>,
    #[serde(serialize_with = "plain_option")]
    pub avg_latency_ms: Option<f64>,
    pub total_tokens: u64,
    #[serde(serialize_with = "plain")]
    pub total_cost: f64,
    pub error_count: u64,
    pub timeout_count: u64,
    pub quota_exhausted: u64,
    #[serde(serialize_with = "plain_option")]
    pub p50_ms: Option<f64>,
    #[serde(serialize_with = "plain_option")]
    pub p95_ms: Option<f64>,
    #[serde(serialize_with = "plain_option")]
    pub p99_ms: Option<f64>,
    #[serde(serialize_with = "plain_option")]
    pub ttfb_p95_ms: Option<f64>,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub unpriced_requests: u64,
    /// Of all requests, 0..1.
    #[serde(serialize_with = "plain_option")]
    pub share: Option<f64>,
}

/// The rows of a window by one dimension.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub(crate) struct Breakdown {
    /// `route`, `model`, `user`, `provider` or `tenant`.
    pub by: &'static str,
    /// The window's length in seconds.
    pub range: u64,
    /// How long the process really watched.
    #[serde(serialize_with = "plain")]
    pub covered_seconds: f64,
    /// Largest first. Their sums, `(none)` and `other` included, equal `totals`.
    pub rows: Vec<BreakdownRow>,
    /// All requests.
    pub totals: BreakdownRow,
}

/// A row before it is printed. The histogram is borrowed from a scratch one: hundreds of rows share it.
pub(crate) struct Line<'a> {
    pub(crate) key: &'a str,
    pub(crate) counts: Counts,
    pub(crate) percentiles: Option<[f64; 3]>,
    pub(crate) ttfb_p95: Option<f64>,
    pub(crate) error_bound: u64,
}

impl Line<'_> {
    pub(crate) fn row(&self, all_requests: u64) -> BreakdownRow {
        let counts = &self.counts;
        let percentile = |at: usize| self.percentiles.map(|values| ms(values[at]));
        BreakdownRow {
            key: self.key.to_owned(),
            total_requests: counts.requests,
            failed_requests: counts.failed(),
            error_rate: ratio(counts.failed(), counts.requests),
            success_rate: ratio(counts.success, counts.requests),
            avg_latency_ms: average_ms(counts),
            p50_ms: percentile(0),
            p95_ms: percentile(1),
            p99_ms: percentile(2),
            total_tokens: counts.tokens(),
            input_tokens: counts.input_tokens,
            output_tokens: counts.output_tokens,
            total_cost: money(counts.cost_nanos),
            unpriced_requests: counts.unpriced,
            share: ratio(counts.requests, all_requests),
            error_bound: self.error_bound,
        }
    }

    pub(crate) fn provider(&self, all_requests: u64) -> ProviderStats {
        let counts = &self.counts;
        let percentile = |at: usize| self.percentiles.map(|values| ms(values[at]));
        ProviderStats {
            provider_id: self.key.to_owned(),
            total_requests: counts.requests,
            success_rate: ratio(counts.success, counts.requests),
            avg_latency_ms: average_ms(counts),
            total_tokens: counts.tokens(),
            total_cost: money(counts.cost_nanos),
            error_count: counts.failed(),
            timeout_count: counts.timeouts,
            quota_exhausted: counts.quota,
            p50_ms: percentile(0),
            p95_ms: percentile(1),
            p99_ms: percentile(2),
            ttfb_p95_ms: self.ttfb_p95.map(ms),
            input_tokens: counts.input_tokens,
            output_tokens: counts.output_tokens,
            unpriced_requests: counts.unpriced,
            share: ratio(counts.requests, all_requests),
        }
    }
}

fn average_ms(counts: &Counts) -> Option<f64> {
    (counts.requests > 0).then(|| ms(counts.latency_us as f64 / counts.requests as f64))
}

/// The row of one label over all slots of a window; `None` where it has none.
pub(crate) fn label_line<'a>(
    slots: &[&Slot],
    rows_of: impl Fn(&Slot) -> &LabelRows,
    label: LabelId,
    key: &'a str,
) -> Option<Line<'a>> {
    let (mut scratch, mut ttfb) = (Dense::default(), Dense::default());
    let counts = gather(slots, rows_of, label, &mut scratch, &mut ttfb)?;
    Some(Line {
        key,
        counts,
        percentiles: scratch.quantiles([0.5, 0.95, 0.99]),
        ttfb_p95: ttfb.quantile(0.95),
        error_bound: 0,
    })
}

fn gather(
    slots: &[&Slot],
    rows_of: impl Fn(&Slot) -> &LabelRows,
    label: LabelId,
    latency: &mut Dense,
    ttfb: &mut Dense,
) -> Option<Counts> {
    let mut counts: Option<Counts> = None;
    for slot in slots {
        if let Some(row) = rows_of(slot).get(label) {
            *counts.get_or_insert_default() += &row.cell.counts;
            latency.merge_sparse(&row.cell.latency);
            if let Some(more) = &row.ttfb {
                ttfb.merge_sparse(more);
            }
        }
    }
    counts
}

/// All rows of a label table, largest first, at most `max` of them by name and the rest in `other`. Calls back for each
/// row.
pub(crate) fn label_lines<T, A>(
    slots: &[&Slot],
    rows_of: impl Fn(&Slot) -> &LabelRows,
    table: &LabelTable<A>,
    by: Dimension,
    max: usize,
    mut each: impl FnMut(&Line<'_>) -> T,
) -> Vec<T> {
    let mut labels: Vec<LabelId> = slots
        .iter()
        .flat_map(|slot| rows_of(slot).rows())
        .map(|row| row.label)
        .collect();
    labels.sort_unstable();
    labels.dedup();
    let requests = |label: LabelId| -> u64 {
        slots
            .iter()
            .filter_map(|slot| rows_of(slot).get(label))
            .map(|row| row.cell.counts.requests)
            .sum()
    };
    let mut named: Vec<(u64, LabelId)> = labels
        .iter()
        .filter(|label| label.0 >= LabelId::FIRST)
        .map(|&label| (requests(label), label))
        .collect();
    named.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    let shown = named.len().min(max);

    let (mut latency, mut ttfb) = (Dense::default(), Dense::default());
    let mut lines = Vec::with_capacity(shown + 2);
    let mut line = |key: &str, labels: &mut dyn Iterator<Item = LabelId>| {
        latency.clear();
        ttfb.clear();
        let mut counts = Counts::default();
        for label in labels {
            if let Some(more) = gather(slots, &rows_of, label, &mut latency, &mut ttfb) {
                counts += &more;
            }
        }
        if counts == Counts::default() {
            return;
        }
        let line = Line {
            key,
            counts,
            percentiles: latency.quantiles([0.5, 0.95, 0.99]),
            ttfb_p95: ttfb.quantile(0.95),
            error_bound: 0,
        };
        lines.push((counts.requests, each(&line)));
    };
    for &(_, label) in &named[..shown] {
        let key = table.resolve(label).unwrap_or(OTHER);
        line(key, &mut std::iter::once(label));
    }
    let none = if by == Dimension::Route {
        UNMATCHED
    } else {
        NONE
    };
    line(none, &mut std::iter::once(LabelId::UNSET));
    let rest = named[shown..].iter().map(|&(_, label)| label);
    line(OTHER, &mut rest.chain([LabelId::OTHER]));
    largest_first(lines)
}

/// The users of a window, largest first, at most `max` of them by name and the rest in `other`.
pub(crate) fn user_lines<T>(
    slots: &[&Slot],
    max: usize,
    mut each: impl FnMut(&Line<'_>) -> T,
) -> Vec<T> {
    let mut totals: std::collections::HashMap<u64, (u64, &str), BuildHasherDefault<AlreadyHashed>> =
        Default::default();
    let mut floor = 0;
    for slot in slots {
        floor += slot.users.floor();
        for row in slot.users.rows() {
            let (requests, _) = totals.entry(row.user.hash).or_insert((0, &row.user.name));
            *requests += row.cell.counts.requests;
        }
    }
    let mut largest: Vec<(u64, &str, u64)> = totals
        .iter()
        .map(|(&hash, &(requests, name))| (requests, name, hash))
        .collect();
    let order =
        |a: &(u64, &str, u64), b: &(u64, &str, u64)| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1));
    let shown = largest.len().min(max);
    if shown < largest.len() {
        largest.select_nth_unstable_by(shown, order);
        largest.truncate(shown);
    }
    largest.sort_unstable_by(order);

    let mut histogram = Dense::default();
    let mut lines = Vec::with_capacity(shown + 2);
    let mut push = |key: &str, counts: Counts, histogram: &Dense, error_bound: u64| {
        if counts == Counts::default() {
            return;
        }
        let line = Line {
            key,
            counts,
            percentiles: histogram.quantiles([0.5, 0.95, 0.99]),
            ttfb_p95: None,
            error_bound,
        };
        lines.push((counts.requests, each(&line)));
    };
    let sum = |cells: &mut dyn Iterator<Item = &Cell>, histogram: &mut Dense| {
        histogram.clear();
        let mut counts = Counts::default();
        for cell in cells {
            counts += &cell.counts;
            histogram.merge_sparse(&cell.latency);
        }
        counts
    };
    for &(_, name, hash) in &largest {
        let rows = || slots.iter().filter_map(|slot| slot.users.get(hash));
        let counts = sum(&mut rows().map(|row| &row.cell), &mut histogram);
        let bound: i64 = rows().map(|row| row.bound).sum();
        push(name, counts, &histogram, floor.saturating_add_signed(bound));
    }
    let counts = sum(
        &mut slots.iter().map(|slot| &slot.users.none),
        &mut histogram,
    );
    push(NONE, counts, &histogram, 0);
    let named: HashSet<u64, BuildHasherDefault<AlreadyHashed>> =
        largest.iter().map(|&(_, _, hash)| hash).collect();
    let unnamed = slots.iter().flat_map(|slot| {
        slot.users
            .rows()
            .iter()
            .filter(|row| !named.contains(&row.user.hash))
            .map(|row| &row.cell)
    });
    let counts = sum(
        &mut unnamed.chain(slots.iter().map(|slot| &slot.users.other)),
        &mut histogram,
    );
    push(OTHER, counts, &histogram, 0);
    largest_first(lines)
}

fn largest_first<T>(mut lines: Vec<(u64, T)>) -> Vec<T> {
    lines.sort_by_key(|&(requests, _)| std::cmp::Reverse(requests));
    lines.into_iter().map(|(_, line)| line).collect()
}

impl Breakdown {
    pub(crate) fn new(
        by: Dimension,
        window: Window,
        covered_us: u64,
        rows: Vec<BreakdownRow>,
        totals: BreakdownRow,
    ) -> Self {
        Self {
            by: by.as_str(),
            range: window.seconds(),
            covered_seconds: (covered_us as f64 / 1e3).round() / 1e3,
            rows,
            totals,
        }
    }
}
