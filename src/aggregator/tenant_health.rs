//! How providers are doing for each tenant, by that tenant's own requests and nobody else's.
//!
//! What a tenant is told of a provider must not follow from others' requests: neither that they use it, nor how often
//! it fails them. So there is a status for each pair of a tenant and a provider that it has used, by the same rules as
//! everybody's (see [`health`](super::health)), from the failures of the last 60 to 70 s. Slowness is not judged: that
//! takes an hour of latencies for each pair, or the others' for a yardstick. Rows that were dropped under overload
//! are in sums of tenants and of providers, not of pairs, and don't count here.
//!
//! A pair takes some 300 bytes and stays. There are as many as tenants with a label times providers that are
//! remembered, at most; one that is idle costs a look a second.

use std::collections::{HashMap, HashSet};

use rapidhash::quality::RandomState;

use crate::collector::LabelId;

use super::{
    counts::Counts,
    health::{Health, ProviderStatus, Sample},
    window::FINE,
};

/// The slot in progress and the six before it, as everybody's status looks at.
const SLOTS: usize = 7;

#[derive(Debug, Default)]
pub(crate) struct TenantHealth {
    pairs: HashMap<(LabelId, LabelId), Pair, RandomState>,
    /// Tenants for whom a status has changed since somebody asked.
    changed: HashSet<LabelId>,
    /// What there is to say of a provider that a tenant has never used.
    unused: Pair,
}

#[derive(Debug, Default)]
struct Pair {
    health: Health,
    sample: Sample,
    /// The number of the slot in progress when it was looked at last.
    newest: u64,
    /// A request has come since it was looked at last.
    touched: bool,
    /// Newest first.
    slots: [Tally; SLOTS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    requests: u32,
    success: u32,
    faults: u32,
}

/// What a tenant's own requests say of a provider.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own<'a> {
    pub(crate) health: &'a Health,
    pub(crate) sample: &'a Sample,
}

impl TenantHealth {
    /// Bytes of one pair, with its place in the map and its reason.
    pub(crate) const PAIR_BYTES: usize = 2 * size_of::<((LabelId, LabelId), Pair)>() + 96;

    /// Counts a request that ended now. Without a label a tenant is one of several, and nothing is its own.
    #[inline]
    pub(crate) fn add(
        &mut self,
        tenant: LabelId,
        provider: LabelId,
        counts: &Counts,
        now_second: u64,
    ) {
        if tenant.0 < LabelId::FIRST {
            return;
        }
        let pair = self.pairs.entry((tenant, provider)).or_default();
        pair.advance(now_second);
        pair.touched = true;
        let [newest, ..] = &mut pair.slots;
        let add = |sum: &mut u32, count: u64| *sum = sum.saturating_add(count as u32);
        add(&mut newest.requests, counts.requests);
        add(&mut newest.success, counts.success);
        add(&mut newest.faults, counts.faults);
    }

    /// Takes a new look at all. To be called every second, as a status gets better with time.
    pub(crate) fn assess(&mut self, now_second: u64, timestamp: u64) {
        for ((tenant, _), pair) in &mut self.pairs {
            if pair.assess(now_second, timestamp) {
                self.changed.insert(*tenant);
            }
        }
    }

    /// `None`: the tenant has never used it.
    pub(crate) fn of(&self, tenant: Option<LabelId>, provider: LabelId) -> Option<Own<'_>> {
        self.pairs.get(&(tenant?, provider)).map(Pair::own)
    }

    /// Of a provider that a tenant knows of and has never used.
    pub(crate) fn unused(&self) -> Own<'_> {
        self.unused.own()
    }

    /// Tenants for whom a status has changed since the last call.
    pub(crate) fn take_changed(&mut self) -> impl Iterator<Item = LabelId> {
        self.changed.drain()
    }
}

impl Pair {
    fn own(&self) -> Own<'_> {
        Own {
            health: &self.health,
            sample: &self.sample,
        }
    }

    /// Whether its status is another one.
    fn assess(&mut self, now_second: u64, timestamp: u64) -> bool {
        if self.health.status == ProviderStatus::Idle && self.sample.requests == 0 && !self.touched
        {
            // Nothing has come since it became so.
            self.health.checked = Some(timestamp);
            return false;
        }
        self.touched = false;
        self.advance(now_second);
        self.sample = Sample::default();
        for slot in &self.slots {
            self.sample.requests += u64::from(slot.requests);
            self.sample.success += u64::from(slot.success);
            self.sample.faults += u64::from(slot.faults);
        }
        let before = self.health.status;
        self.health.update(&self.sample, None, timestamp);
        self.health.status != before
    }

    fn advance(&mut self, now_second: u64) {
        let number = now_second / FINE;
        let passed = number.saturating_sub(self.newest).min(SLOTS as u64) as usize;
        if passed > 0 {
            self.slots.rotate_right(passed);
            self.slots[..passed].fill(Tally::default());
            self.newest = number;
        }
    }
}
