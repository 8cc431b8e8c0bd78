//! The aggregator's state: what is counted, and how records get there.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, BuildHasherDefault},
    sync::Arc,
};

use rapidhash::quality::RandomState;

use crate::{
    collector::{self, Collector, LabelId, Overflow, Record},
    price::PriceTable,
};

use super::{
    Settings,
    cardinality::Audience,
    counts::{Counts, Sample},
    health,
    histogram::Dense,
    providers::Providers,
    rows::{BATCH, Context, Row, RowRef, Rows},
    slot::Keys,
    snapshot::Capabilities,
    tenant_health::TenantHealth,
    timeline::{SECOND_US, Timeline},
    users::{AlreadyHashed, User, Who},
    window::{Ladder, Window},
};

/// Records that one call takes at most: several full queues, and an end to it when producers never pause.
const DRAIN: usize = 65_536;
/// Rows that wait for the task that publishes them. Beyond it the oldest batches are skipped, and counted.
const MAX_READY: usize = 8_192;
/// Failed requests that are remembered.
pub(crate) const MAX_ERRORS: usize = 100;
/// Names of users beyond the label table that are remembered; then they are forgotten and read anew.
const MAX_STRANGERS: usize = 4_096;
/// A baseline changes slowly: it is looked at once a minute.
const BASELINE_SECONDS: u64 = 60;
/// Requests of the last hour that a provider's baseline needs.
const MIN_BASELINE: u64 = 100;

/// The clock, read once for everything that happens in one go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// Wall time without the steps of the wall clock, in microseconds.
    pub(crate) unix_us: u64,
    /// By how much it has stepped.
    pub(crate) step_us: i64,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) time: Timeline,
    pub(crate) ladder: Ladder,
    pub(crate) audience: Audience,
    pub(crate) providers: Providers,
    pub(crate) tenant_health: TenantHealth,
    pub(crate) context: Arc<Context>,
    pub(crate) capabilities: Capabilities,
    /// How often a user had to make room in a slot.
    pub(crate) evicted_users: u64,
    /// Newest last.
    pub(crate) recent: VecDeque<RowRef>,
    pub(crate) errors: VecDeque<RowRef>,
    pub(crate) ready: Ready,
    prices: PriceTable,
    max_recent: usize,
    known: Known,
    batch: Vec<Row>,
    number: u64,
    /// The second up to which the gauge is known.
    gauged: u64,
    assessed: u64,
    baselined: u64,
}

/// Rows that nobody has taken yet.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    batches: VecDeque<Arc<Rows>>,
    rows: usize,
    pub(crate) skipped: u64,
}

impl Ready {
    fn push(&mut self, rows: Arc<Rows>) {
        self.rows += rows.rows.len();
        self.batches.push_back(rows);
        while self.rows > MAX_READY
            && let Some(oldest) = self.batches.pop_front()
        {
            self.rows -= oldest.rows.len();
            self.skipped += oldest.rows.len() as u64;
        }
    }

    pub(crate) fn take(&mut self) -> Vec<Arc<Rows>> {
        self.rows = 0;
        self.batches.drain(..).collect()
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }
}

impl State {
    pub(crate) fn new(settings: &Settings, collector: Arc<Collector>, reading: Reading) -> Self {
        let time = Timeline::new(reading.unix_us, reading.step_us);
        let now = time.now_us();
        let mut audience = Audience::new(settings.user_timeout);
        audience.advance(now / SECOND_US, now / SECOND_US);
        Self {
            ladder: Ladder::new(
                now,
                settings.window_size,
                settings.window_count,
                settings.max_users,
            ),
            audience,
            providers: Providers::default(),
            tenant_health: TenantHealth::default(),
            context: Arc::new(Context::new(collector)),
            capabilities: Capabilities::default(),
            evicted_users: 0,
            recent: VecDeque::new(),
            errors: VecDeque::new(),
            ready: Ready::default(),
            prices: settings.prices.clone(),
            max_recent: settings.recent,
            known: Known::default(),
            batch: Vec::new(),
            number: 0,
            gauged: now / SECOND_US,
            assessed: 0,
            baselined: 0,
            time,
        }
    }

    /// Moves on to now, and takes everything that the collector has.
    pub(crate) fn pump(&mut self, reading: Reading) {
        let collector = Arc::clone(&self.context.collector);
        let now = self.time.observe(reading.unix_us, reading.step_us);
        self.ladder.advance(now);
        self.audience
            .advance(now / SECOND_US, self.time.wall_now_us() / SECOND_US);
        self.gauge(collector.take_peak());
        let origin_us = collector.clock().unix_us_of(0);
        collector.drain(DRAIN, |record| self.count(record, origin_us));
        collector.drain_overflow(|overflow| self.count_overflow(&overflow));
        self.finish_batch();
        self.assess_providers();
    }

    /// Counts one record and makes a row of it.
    fn count(&mut self, mut record: Record, origin_us: u64) {
        let now = self.time.now_us();
        let unix_us = origin_us + record.ended_us;
        if record.cost_nanos.is_none() && record.has_tokens() {
            record.cost_nanos = self.price(&record);
        }
        let sample = Sample::of(&record);
        self.capabilities.tokens |= record.has_tokens();
        self.capabilities.cost |= record.cost_nanos.is_some();
        self.capabilities.providers |= record.provider != LabelId::UNSET;
        let labels = self.context.collector.labels();
        let provider = record.provider;
        let is_listed = self
            .providers
            .saw(provider, || labels.provider.resolve(provider));
        if is_listed {
            let second = now / SECOND_US;
            self.tenant_health
                .add(record.tenant, provider, &sample.counts, second);
        }

        let text = record
            .extra
            .as_deref()
            .and_then(|extra| extra.user.as_deref());
        let user = self.known.user(record.user, text, &mut self.audience, || {
            labels.user.resolve(record.user)
        });
        self.capabilities.users |= !matches!(user, Who::Nobody);
        let keys = Keys {
            route: record.route,
            provider: record.provider,
            model: record.model,
            tenant: record.tenant,
            user,
            status: record.status,
        };
        let at = self.time.ladder_us(unix_us);
        let (slot, evicted) = self.ladder.add(at, now, &keys, &sample);
        self.evicted_users += evicted as u64;

        self.number += 1;
        let row = Row {
            record,
            number: self.number,
            unix_us: self.time.wall_us(unix_us),
        };
        if slot.slowest.wants(row.record.latency_us) {
            slot.slowest.insert(RowRef::alone(&self.context, &row));
        }
        if !row.record.success {
            if self.errors.len() == MAX_ERRORS {
                self.errors.pop_front();
            }
            self.errors.push_back(RowRef::alone(&self.context, &row));
        }
        self.batch.push(row);
        if self.batch.len() == BATCH {
            self.finish_batch();
        }
    }

    /// Adds the numbers of rows that were dropped to the slot in progress: when exactly they ended is not known.
    fn count_overflow(&mut self, overflow: &Overflow) {
        let counts = Counts::of_sums(&overflow.sums);
        let (label, latency) = (overflow.label, &overflow.latency[..]);
        let labels = self.context.collector.labels();
        let slot = match overflow.dimension {
            collector::Dimension::All => {
                self.capabilities.tokens |= counts.tokens() > 0;
                self.capabilities.cost |= counts.cost_nanos > 0;
                let second = self.time.now_us() / SECOND_US;
                self.ladder.points.add_overflow(second, &counts, latency);
                let slot = self.ladder.now();
                slot.add_overflow(&counts, latency, &overflow.status_codes);
                return;
            }
            collector::Dimension::Provider => {
                self.capabilities.providers |= label != LabelId::UNSET;
                self.providers.saw(label, || labels.provider.resolve(label));
                self.ladder.now()
            }
            _ => self.ladder.now(),
        };
        match overflow.dimension {
            collector::Dimension::Route => slot.routes.add_overflow(label, &counts, latency),
            collector::Dimension::Provider => slot.providers.add_overflow(label, &counts, latency),
            collector::Dimension::Model => slot.models.add_overflow(label, &counts, latency),
            collector::Dimension::Tenant => slot.tenants.add_overflow(label, &counts, latency),
            collector::Dimension::User => {
                let user = self.known.user(label, None, &mut self.audience, || {
                    labels.user.resolve(label)
                });
                self.capabilities.users |= !matches!(user, Who::Nobody);
                self.evicted_users += slot.users.add_overflow(user, &counts) as u64;
            }
            collector::Dimension::All => {}
        }
    }

    fn price(&self, record: &Record) -> Option<u64> {
        if record.model.0 < LabelId::FIRST {
            return None;
        }
        let model = self
            .context
            .collector
            .labels()
            .model
            .resolve(record.model)?;
        self.prices.cost_nanos(
            model,
            record.input_tokens.unwrap_or(0),
            record.output_tokens.unwrap_or(0),
            record.cached_tokens.unwrap_or(0),
        )
    }

    fn finish_batch(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        // Under load batches are full, and growing them step by step would copy every row several times.
        let room = if self.batch.len() == BATCH { BATCH } else { 0 };
        let rows = Arc::new(Rows {
            context: Arc::clone(&self.context),
            rows: std::mem::replace(&mut self.batch, Vec::with_capacity(room)),
        });
        let newest = rows.rows.len().saturating_sub(self.max_recent);
        for index in newest..rows.rows.len() {
            if self.recent.len() == self.max_recent {
                self.recent.pop_front();
            }
            self.recent.push_back(RowRef::new(Arc::clone(&rows), index));
        }
        self.ready.push(rows);
    }

    /// The largest number in flight, for every second since the last time: the peak may have been in any of them.
    fn gauge(&mut self, peak: u64) {
        let now = self.time.now_us() / SECOND_US;
        for second in self.gauged.max(now.saturating_sub(3_600))..=now {
            let start = second * SECOND_US;
            if second == now || self.time.covered_us(start, start + SECOND_US) > 0 {
                self.ladder.in_flight(second, peak);
            }
        }
        self.gauged = now;
    }

    fn assess_providers(&mut self) {
        let now = self.time.now_us() / SECOND_US;
        if now == self.assessed {
            return;
        }
        self.assessed = now;
        if now >= self.baselined + BASELINE_SECONDS {
            self.baselined = now;
            let (slots, _) = self.ladder.slots(Window::OneHour);
            let mut histogram = Dense::default();
            for provider in self.providers.entries_mut() {
                histogram.clear();
                for row in slots
                    .iter()
                    .filter_map(|slot| slot.providers.get(provider.label))
                {
                    histogram.merge_sparse(&row.cell.latency);
                }
                provider.baseline_us = (histogram.count() >= MIN_BASELINE)
                    .then(|| histogram.quantile(0.5))
                    .flatten();
            }
        }
        let timestamp = self.time.wall_now_us() / SECOND_US;
        self.tenant_health.assess(now, timestamp);
        let mut histogram = Dense::default();
        for at in 0..self.providers.entries().len() {
            let label = self.providers.entries()[at].label;
            histogram.clear();
            let mut sums = Counts::default();
            if label.0 >= LabelId::FIRST {
                let rows = self.ladder.newest(6);
                for row in rows.filter_map(|slot| slot.providers.get(label)) {
                    sums += &row.cell.counts;
                    histogram.merge_sparse(&row.cell.latency);
                }
            }
            let sample = health::Sample {
                requests: sums.requests,
                success: sums.success,
                faults: sums.faults,
                p50_us: histogram.quantile(0.5),
                p95_us: histogram.quantile(0.95),
            };
            self.providers.assess(at, sample, timestamp);
        }
    }
}

/// Users that were seen before: their hash and name, without hashing a text or allocating again.
#[derive(Debug, Default)]
struct Known {
    hasher: RandomState,
    /// By label.
    labelled: Vec<Option<Acquaintance>>,
    /// Beyond the label table.
    strangers: HashMap<u64, Acquaintance, BuildHasherDefault<AlreadyHashed>>,
}

#[derive(Debug)]
struct Acquaintance {
    user: User,
    /// The round in which the user was last counted as seen.
    counted: u64,
}

impl Known {
    /// Whom a request belongs to, by its label or by the text beside it, and counts the user as seen.
    fn user<'a, 'b>(
        &'a mut self,
        label: LabelId,
        text: Option<&str>,
        audience: &mut Audience,
        resolve: impl FnOnce() -> Option<&'b str>,
    ) -> Who<'a> {
        let acquaintance = if let Some(text) = text {
            let hash = self.hasher.hash_one(text);
            if self.strangers.len() >= MAX_STRANGERS && !self.strangers.contains_key(&hash) {
                self.strangers.clear();
            }
            self.strangers
                .entry(hash)
                .or_insert_with(|| Acquaintance::new(hash, text))
        } else if label == LabelId::UNSET {
            return Who::Nobody;
        } else if label.0 < LabelId::FIRST {
            return Who::Other;
        } else {
            let index = label.0 as usize;
            if index >= self.labelled.len() {
                self.labelled.resize_with(index + 1, || None);
            }
            let place = &mut self.labelled[index];
            if place.is_none() {
                let Some(text) = resolve() else {
                    return Who::Other;
                };
                *place = Some(Acquaintance::new(self.hasher.hash_one(text), text));
            }
            match place {
                Some(acquaintance) => acquaintance,
                None => return Who::Other,
            }
        };
        // Once a round is enough: sets only ask whether, not how often.
        if acquaintance.counted != audience.round() {
            acquaintance.counted = audience.round();
            audience.insert(acquaintance.user.hash);
        }
        Who::Named(&acquaintance.user)
    }
}

impl Acquaintance {
    fn new(hash: u64, name: &str) -> Self {
        Self {
            user: User {
                hash,
                name: name.into(),
            },
            counted: u64::MAX,
        }
    }
}
