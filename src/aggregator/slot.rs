//! One slot of a window: everything that is known about the requests that ended in it.

use crate::collector::LabelId;

use super::{
    counts::{Cell, Counts, Sample},
    histogram::{Dense, Sparse},
    rows::RowRef,
    users::{UserRows, Who},
};

/// Buckets of the latency histogram of a route, a provider or a model.
pub(crate) const ROW_BUCKETS: usize = 128;
/// Buckets of the latency histogram of a tenant.
pub(crate) const TENANT_BUCKETS: usize = 64;
/// How many of the slowest requests a slot remembers.
pub(crate) const SLOWEST: usize = 20;

/// What requests are broken down by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub(crate) enum Dimension {
    /// The matched route template.
    Route,
    /// The model.
    Model,
    /// The user.
    User,
    /// The provider.
    Provider,
    /// The tenant.
    Tenant,
}

impl Dimension {
    /// As it stands in the `by` parameter.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Model => "model",
            Self::User => "user",
            Self::Provider => "provider",
            Self::Tenant => "tenant",
        }
    }
}

impl std::str::FromStr for Dimension {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [
            Self::Route,
            Self::Model,
            Self::User,
            Self::Provider,
            Self::Tenant,
        ]
        .into_iter()
        .find(|dimension| dimension.as_str() == text)
        .ok_or_else(|| {
            crate::Error::new(
                crate::error::Kind::Invalid,
                "by takes route, model, user, provider or tenant",
            )
        })
    }
}

/// What one request is counted for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys<'a> {
    pub(crate) route: LabelId,
    pub(crate) provider: LabelId,
    pub(crate) model: LabelId,
    pub(crate) tenant: LabelId,
    pub(crate) user: Who<'a>,
    pub(crate) status: Option<u16>,
}

#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) totals: Totals,
    pub(crate) routes: LabelRows,
    pub(crate) providers: LabelRows,
    pub(crate) models: LabelRows,
    pub(crate) tenants: LabelRows,
    pub(crate) users: UserRows,
    pub(crate) slowest: Slowest,
}

impl Slot {
    pub(crate) fn new(max_users: usize) -> Self {
        Self {
            totals: Totals::default(),
            routes: LabelRows::new(ROW_BUCKETS),
            providers: LabelRows::new(ROW_BUCKETS),
            models: LabelRows::new(ROW_BUCKETS),
            tenants: LabelRows::new(TENANT_BUCKETS),
            users: UserRows::new(max_users),
            slowest: Slowest::default(),
        }
    }

    /// Returns how many users had to make room.
    pub(crate) fn add(&mut self, keys: &Keys<'_>, sample: &Sample) -> usize {
        self.totals.add(sample);
        self.totals.codes.add(keys.status, 1);
        self.routes.add(keys.route, sample);
        self.providers.add_with_ttfb(keys.provider, sample);
        self.models.add(keys.model, sample);
        self.tenants.add(keys.tenant, sample);
        self.users.add(keys.user, sample)
    }

    /// The numbers of rows that were dropped, of all requests.
    pub(crate) fn add_overflow(
        &mut self,
        counts: &Counts,
        latency: &[(usize, u64)],
        codes: &[(u16, u64)],
    ) {
        self.totals.counts += counts;
        for &(bucket, times) in latency {
            self.totals.latency.add(bucket, times);
        }
        for &(code, times) in codes {
            self.totals.codes.add(Some(code), times);
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.totals.merge(&other.totals);
        self.routes.merge(&other.routes);
        self.providers.merge(&other.providers);
        self.models.merge(&other.models);
        self.tenants.merge(&other.tenants);
        self.users.merge(&other.users);
        self.slowest.merge(&other.slowest);
    }

    /// Empties it and keeps its memory: in steady state a new slot allocates nothing.
    pub(crate) fn clear(&mut self) {
        self.totals.clear();
        self.routes.clear();
        self.providers.clear();
        self.models.clear();
        self.tenants.clear();
        self.users.clear();
        self.slowest.rows.clear();
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) counts: Counts,
    pub(crate) latency: Dense,
    pub(crate) ttfb: Dense,
    pub(crate) in_flight_max: u64,
    pub(crate) codes: Codes,
}

impl Totals {
    fn add(&mut self, sample: &Sample) {
        self.counts += &sample.counts;
        self.latency.add(sample.latency, 1);
        if let Some(bucket) = sample.ttfb {
            self.ttfb.add(bucket, 1);
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.counts += &other.counts;
        self.latency.merge(&other.latency);
        self.ttfb.merge(&other.ttfb);
        self.in_flight_max = self.in_flight_max.max(other.in_flight_max);
        for &(code, count) in &other.codes.0 {
            self.codes.add((code > 0).then_some(code), count);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.counts = Counts::default();
        self.latency.clear();
        self.ttfb.clear();
        self.in_flight_max = 0;
        self.codes.0.clear();
    }
}

/// Requests by status code, sorted by code, 0 for none: at most the 900 codes that exist.
#[derive(Clone, Debug, Default)]
pub(crate) struct Codes(pub(crate) Vec<(u16, u64)>);

impl Codes {
    fn add(&mut self, code: Option<u16>, times: u64) {
        let code = code.unwrap_or(0);
        match self.0.binary_search_by_key(&code, |entry| entry.0) {
            Ok(at) => self.0[at].1 += times,
            Err(at) => self.0.insert(at, (code, times)),
        }
    }
}

/// The rows of one label table: found by the label's number, without hashing. Bounded by the table's cap.
#[derive(Clone, Debug)]
pub(crate) struct LabelRows {
    cap: usize,
    /// By label: 0 for no row, else its place + 1.
    places: Vec<u32>,
    /// The first `len` are in use, the others keep their memory for the next slot.
    rows: Vec<LabelRow>,
    len: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct LabelRow {
    pub(crate) label: LabelId,
    pub(crate) cell: Cell,
    /// Only providers have one.
    pub(crate) ttfb: Option<Box<Sparse>>,
}

impl LabelRows {
    fn new(cap: usize) -> Self {
        Self {
            cap,
            places: Vec::new(),
            rows: Vec::new(),
            len: 0,
        }
    }

    pub(crate) fn add(&mut self, label: LabelId, sample: &Sample) {
        let cap = self.cap;
        self.row(label).cell.add(sample, cap);
    }

    /// The numbers of rows that were dropped, of one label.
    pub(crate) fn add_overflow(
        &mut self,
        label: LabelId,
        counts: &Counts,
        latency: &[(usize, u64)],
    ) {
        let cap = self.cap;
        self.row(label).cell.add_sums(counts, latency, cap);
    }

    fn add_with_ttfb(&mut self, label: LabelId, sample: &Sample) {
        let cap = self.cap;
        let row = self.row(label);
        row.cell.add(sample, cap);
        if let Some(bucket) = sample.ttfb {
            row.ttfb.get_or_insert_default().add(bucket, 1, cap);
        }
    }

    #[inline]
    pub(crate) fn row(&mut self, label: LabelId) -> &mut LabelRow {
        let index = label.0 as usize;
        if index >= self.places.len() {
            self.places.resize(index + 1, 0);
        }
        if self.places[index] == 0 {
            if self.len == self.rows.len() {
                self.rows.push(LabelRow {
                    label,
                    cell: Cell::default(),
                    ttfb: None,
                });
            }
            self.rows[self.len].label = label;
            self.len += 1;
            self.places[index] = self.len as u32;
        }
        let place = self.places[index] as usize - 1;
        &mut self.rows[place]
    }

    pub(crate) fn get(&self, label: LabelId) -> Option<&LabelRow> {
        let place = *self.places.get(label.0 as usize)?;
        self.rows.get((place as usize).checked_sub(1)?)
    }

    pub(crate) fn rows(&self) -> &[LabelRow] {
        &self.rows[..self.len]
    }

    fn merge(&mut self, other: &Self) {
        let cap = self.cap;
        for row in other.rows() {
            let merged = self.row(row.label);
            merged.cell.merge(&row.cell, cap);
            if let Some(ttfb) = row.ttfb.as_deref().filter(|ttfb| !ttfb.is_empty()) {
                merged.ttfb.get_or_insert_default().merge(ttfb, cap);
            }
        }
    }

    fn clear(&mut self) {
        for row in &mut self.rows[..self.len] {
            self.places[row.label.0 as usize] = 0;
            row.cell.clear();
            if let Some(ttfb) = &mut row.ttfb {
                ttfb.clear();
            }
        }
        self.len = 0;
    }
}

/// The slowest requests, slowest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slowest {
    pub(crate) rows: Vec<RowRef>,
}

impl Slowest {
    /// Whether a request that took so long belongs to the slowest.
    pub(crate) fn wants(&self, latency_us: u64) -> bool {
        self.rows.len() < SLOWEST
            || self
                .rows
                .last()
                .is_some_and(|row| row.latency_us() < latency_us)
    }

    pub(crate) fn insert(&mut self, row: RowRef) {
        let latency = row.latency_us();
        let at = self.rows.partition_point(|row| row.latency_us() >= latency);
        self.rows.insert(at, row);
        self.rows.truncate(SLOWEST);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for row in &other.rows {
            if !self.wants(row.latency_us()) {
                break;
            }
            self.insert(row.clone());
        }
    }
}
