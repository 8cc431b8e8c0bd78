//! Reading the state: snapshots, breakdowns, lists.

use std::sync::Arc;

use crate::{
    collector::{self, LabelId, LabelTable},
    hub::Filter,
};

use super::{
    Settings,
    breakdown::{Breakdown, BreakdownRow, Line, MAX_ROWS, label_line, label_lines, user_lines},
    counts::Counts,
    histogram::Dense,
    json::rounded,
    rows::{Errors, Requests, RowRef, Slow},
    series::{Reader, Series},
    slot::{Dimension, SLOWEST, Slot, Slowest, Totals},
    snapshot::{
        Feed, Latencies, Lifetime, Percentiles, SeriesUse, Snapshot, StatusCode, Summary, TableUse,
    },
    state::State,
    timeline::SECOND_US,
    window::Window,
};

/// Users in a snapshot.
const TOP_USERS: usize = 20;
/// Status codes in a snapshot.
const TOP_CODES: usize = 10;

impl State {
    pub(crate) fn snapshot(
        &mut self,
        settings: &Settings,
        window: Window,
        tenant: Option<&str>,
    ) -> Snapshot {
        let mut snapshot = match tenant {
            Some(tenant) => self.tenant_snapshot(window, tenant),
            None => self.whole_snapshot(settings, window),
        };
        let summary = &mut snapshot.summary;
        let wall_us = self.time.wall_now_us();
        summary.timestamp = wall_us / SECOND_US;
        summary.timestamp_ms = wall_us / 1_000;
        summary.last_updated = summary.timestamp;
        summary.instance = settings.instance.clone();
        summary.currency = settings.currency.clone();
        summary.uptime_seconds = self.time.covered_us(0, u64::MAX) / SECOND_US;
        summary.started_at = self.time.start_us() / SECOND_US;
        snapshot
    }

    fn whole_snapshot(&mut self, settings: &Settings, window: Window) -> Snapshot {
        let latency = self.latencies(|slot, histogram| histogram.merge(&slot.totals.latency));
        let collector = Arc::clone(&self.context.collector);
        let labels = collector.labels();
        let view = self.ladder.view(window);
        let mut totals = Totals::default();
        for slot in &view.slots {
            totals.merge(&slot.totals);
        }
        let all = totals.counts.requests;
        let start_second = view.start_second;
        let row = |line: &Line<'_>| line.row(all);
        let slots = &view.slots[..];
        let providers = label_lines(
            slots,
            |slot| &slot.providers,
            &labels.provider,
            Dimension::Provider,
            MAX_ROWS,
            |line| line.provider(all),
        );
        let routes = label_lines(
            slots,
            |slot| &slot.routes,
            &labels.route,
            Dimension::Route,
            MAX_ROWS,
            row,
        );
        let models = label_lines(
            slots,
            |slot| &slot.models,
            &labels.model,
            Dimension::Model,
            MAX_ROWS,
            row,
        );
        let users = user_lines(slots, TOP_USERS, row);
        let used_users = slots
            .iter()
            .map(|slot| slot.users.rows().len())
            .max()
            .unwrap_or(0);
        let mut status_codes: Vec<StatusCode> = totals
            .codes
            .0
            .iter()
            .map(|&(code, count)| StatusCode::new((code > 0).then_some(code), count))
            .collect();
        status_codes.sort_by_key(|entry| std::cmp::Reverse(entry.count));
        status_codes.truncate(TOP_CODES);

        let covered_us = self.covered_us(start_second);
        let mut summary = Summary::of(
            window,
            covered_us,
            &totals.counts,
            &totals.latency,
            totals.ttfb.quantile(0.95),
        );
        summary.window_start = self.time.printed(start_second, 1);
        summary.requests_per_second = Some(self.requests_per_second());
        let (active, today) = (self.audience.active(), self.audience.today());
        summary.active_users = Some(active.count());
        summary.unique_users_today = Some(today.count());
        summary.unique_users_approximate = active.is_approximate() || today.is_approximate();
        let numbers = collector.totals();
        summary.in_flight = Some(numbers.in_flight);
        summary.in_flight_peak = Some(totals.in_flight_max.max(numbers.in_flight));
        summary.capabilities = self.capabilities;
        summary.recorded = Some(numbers.recorded);
        summary.dropped = Some(numbers.dropped);
        summary.feed = Some(Feed {
            capacity: numbers.feed_capacity,
            pending: numbers.feed_pending as usize + self.ready.rows(),
            skipped: self.ready.skipped,
        });
        summary.series = Some(SeriesUse {
            routes: table_use(numbers.routes),
            providers: table_use(numbers.providers),
            models: table_use(numbers.models),
            tenants: table_use(numbers.tenants),
            users: TableUse {
                used: used_users,
                max: settings.max_users.max(1),
                overflow: self.evicted_users,
            },
        });
        summary.lifetime = Some(lifetime(&self.ladder.lifetime()));
        summary.latency = latency;
        summary.point = Some(self.reader().last());
        Snapshot {
            summary,
            providers,
            routes,
            models,
            users,
            status_codes,
        }
    }

    fn tenant_snapshot(&mut self, window: Window, tenant: &str) -> Snapshot {
        let label = self.tenant_label(tenant);
        let latency = self.latencies(|slot, histogram| {
            if let Some(row) = label.and_then(|label| slot.tenants.get(label)) {
                histogram.merge_sparse(&row.cell.latency);
            }
        });
        let mut histogram = Dense::default();
        let mut counts = Counts::default();
        let view = self.ladder.view(window);
        for slot in &view.slots {
            if let Some(row) = label.and_then(|label| slot.tenants.get(label)) {
                counts += &row.cell.counts;
                histogram.merge_sparse(&row.cell.latency);
            }
        }
        let start_second = view.start_second;
        let covered_us = self.covered_us(start_second);
        let mut summary = Summary::of(window, covered_us, &counts, &histogram, None);
        summary.window_start = self.time.printed(start_second, 1);
        summary.tenant_id = Some(tenant.to_owned());
        summary.capabilities.tokens = counts.tokens() > 0;
        summary.capabilities.cost = counts.cost_nanos > 0;
        summary.latency = latency;
        Snapshot {
            summary,
            providers: Vec::new(),
            routes: Vec::new(),
            models: Vec::new(),
            users: Vec::new(),
            status_codes: Vec::new(),
        }
    }

    pub(crate) fn breakdown(
        &mut self,
        by: Dimension,
        window: Window,
        tenant: Option<&str>,
    ) -> Breakdown {
        let collector = Arc::clone(&self.context.collector);
        let labels = collector.labels();
        let own = tenant.map(|tenant| (self.tenant_label(tenant), tenant));
        let view = self.ladder.view(window);
        let start_second = view.start_second;
        let slots = &view.slots[..];
        let (totals, rows) = if let Some((label, tenant)) = own {
            // Of the others' rows a tenant sees none; of its own requests only the sum is known.
            let line =
                label.and_then(|label| label_line(slots, |slot| &slot.tenants, label, tenant));
            let totals = match &line {
                Some(line) => line.row(line.counts.requests),
                None => empty_line("total").row(0),
            };
            let rows = match (by, line) {
                (Dimension::Tenant, Some(_)) => vec![totals.clone()],
                _ => Vec::new(),
            };
            (totals, rows)
        } else {
            let mut totals = Totals::default();
            for slot in slots {
                totals.merge(&slot.totals);
            }
            let all = totals.counts.requests;
            let row = |line: &Line<'_>| line.row(all);
            let rows = match by {
                Dimension::Route => {
                    label_lines(slots, |slot| &slot.routes, &labels.route, by, MAX_ROWS, row)
                }
                Dimension::Model => {
                    label_lines(slots, |slot| &slot.models, &labels.model, by, MAX_ROWS, row)
                }
                Dimension::Provider => label_lines(
                    slots,
                    |slot| &slot.providers,
                    &labels.provider,
                    by,
                    MAX_ROWS,
                    row,
                ),
                Dimension::Tenant => label_lines(
                    slots,
                    |slot| &slot.tenants,
                    &labels.tenant,
                    by,
                    MAX_ROWS,
                    row,
                ),
                Dimension::User => user_lines(slots, MAX_ROWS, row),
            };
            let mut line = empty_line("total");
            line.counts = totals.counts;
            line.percentiles = totals.latency.quantiles([0.5, 0.95, 0.99]);
            (line.row(all), rows)
        };
        let mut totals: BreakdownRow = totals;
        totals.key = "total".to_owned();
        let covered_us = self.covered_us(start_second);
        Breakdown::new(by, window, covered_us, rows, totals)
    }

    pub(crate) fn series(&self, range: u64, step: u64) -> Series {
        self.reader().series(range, step)
    }

    pub(crate) fn recent(&self, filter: &Filter, limit: usize) -> Requests {
        let requests = newest(&self.recent, filter).take(limit).collect::<Vec<_>>();
        Requests {
            count: requests.len(),
            requests,
        }
    }

    pub(crate) fn errors(&self, filter: &Filter, limit: usize) -> Errors {
        let mut errors: Vec<RowRef> = newest(&self.errors, filter).collect();
        let total = errors.len();
        errors.truncate(limit);
        Errors { errors, total }
    }

    pub(crate) fn slow(&self, window: Window, filter: &Filter, limit: usize) -> Slow {
        let (slots, _) = self.ladder.slots(window);
        let mut slowest = Slowest::default();
        for row in slots.iter().flat_map(|slot| &slot.slowest.rows) {
            if slowest.wants(row.latency_us()) && filter.matches(&row.view().tags("requests")) {
                slowest.insert(row.clone());
            }
        }
        let mut slow = slowest.rows;
        slow.truncate(limit.min(SLOWEST));
        Slow { slow }
    }

    /// Finished in the last ten seconds, to the moment, divided by 10.
    fn requests_per_second(&self) -> f64 {
        let now_us = self.time.now_us();
        let now = now_us / SECOND_US;
        let requests = |second: u64| {
            let point = self.ladder.points.seconds.get(second);
            point.map_or(0, |point| point.requests) as f64
        };
        let newest: f64 = (now.saturating_sub(9)..=now).map(requests).sum();
        let rest = 1.0 - (now_us % SECOND_US) as f64 / SECOND_US as f64;
        rounded((newest + requests(now.saturating_sub(10)) * rest) / 10.0)
    }

    fn reader(&self) -> Reader<'_> {
        Reader::new(
            &self.ladder.points,
            &self.time,
            self.ladder.open_from_second(),
        )
    }

    fn covered_us(&self, start_second: u64) -> u64 {
        self.time.covered_us(start_second * SECOND_US, u64::MAX)
    }

    fn latencies(&self, add: impl Fn(&Slot, &mut Dense)) -> Latencies {
        let mut histogram = Dense::default();
        let mut of = |window: Window| {
            histogram.clear();
            for slot in self.ladder.slots(window).0 {
                add(slot, &mut histogram);
            }
            Percentiles::of(&histogram)
        };
        Latencies {
            one_minute: of(Window::OneMinute),
            five_minutes: of(Window::FiveMinutes),
            fifteen_minutes: of(Window::FifteenMinutes),
            one_hour: of(Window::OneHour),
        }
    }

    /// `None`: no request ever named it, or the label table had no room.
    pub(super) fn tenant_label(&self, tenant: &str) -> Option<LabelId> {
        find_label(&self.context.collector.labels().tenant, tenant)
    }
}

/// The label of a text, without giving it one: a viewer must not fill the host's table.
fn find_label<T>(table: &LabelTable<T>, text: &str) -> Option<LabelId> {
    let used = table.usage().used as u32;
    (LabelId::FIRST..LabelId::FIRST + used)
        .map(LabelId)
        .find(|&label| table.resolve(label) == Some(text))
}

fn newest<'a>(
    rows: &'a std::collections::VecDeque<RowRef>,
    filter: &'a Filter,
) -> impl Iterator<Item = RowRef> + 'a {
    rows.iter()
        .rev()
        .filter(|row| filter.matches(&row.view().tags("requests")))
        .cloned()
}

pub(super) fn empty_line(key: &str) -> Line<'_> {
    Line {
        key,
        counts: Counts::default(),
        percentiles: None,
        ttfb_p95: None,
        error_bound: 0,
    }
}

fn table_use(table: collector::TableUse) -> TableUse {
    TableUse {
        used: table.used,
        max: table.max,
        overflow: table.overflow,
    }
}

fn lifetime(counts: &Counts) -> Lifetime {
    Lifetime {
        total_requests: counts.requests,
        successful_requests: counts.success,
        failed_requests: counts.failed(),
        total_tokens: counts.tokens(),
        total_cost: super::json::money(counts.cost_nanos),
        unpriced_requests: counts.unpriced,
    }
}
