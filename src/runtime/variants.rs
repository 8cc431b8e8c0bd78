//! Variants: snapshot channels other than the usual ones, made when somebody asks for them and given up when nobody
//! reads them.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::Runtime;
use crate::{
    aggregator::{
        ProviderStatus, ProviderStatusEvent, ProvidersEvent, Snapshot, StatsEvent, StatusChanges,
        Window,
    },
    config::RealtimeConfig,
    error::{Error, Kind},
    hub::{ChannelConfig, ChannelId, Lease, Leases},
    sync::{Mutex, lock},
};

/// A snapshot channel other than the default one: another window, another pace, one tenant's numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Variant {
    Stats {
        window: Window,
        interval: Duration,
        tenant: Option<Arc<str>>,
    },
    Providers {
        tenant: Arc<str>,
    },
}

/// How many that nobody reads are kept for those who come back. Beyond it the oldest of them goes first.
const MAX_UNREAD: usize = 64;
/// How long such a one is kept.
const LINGER: Duration = Duration::from_secs(60);

/// How many there may be: a client reads two at most, `stats` and `providers`. So no viewer can take what another one
/// needs, and what they cost is bounded by who is connected. Each takes the memory of one event. Those of the same
/// window and tenant come due together, and share their snapshot: intervals cost no more than one a second.
pub(super) fn max_variants(config: &RealtimeConfig) -> usize {
    config
        .max_clients
        .saturating_mul(2)
        .saturating_add(MAX_UNREAD)
}

#[derive(Debug)]
pub(super) struct Variants {
    /// From when intervals are counted.
    origin: Instant,
    max: usize,
    table: Mutex<HashMap<Variant, Active>>,
}

#[derive(Debug)]
struct Active {
    channel: ChannelId,
    lease: Lease,
    next: Instant,
    used: Instant,
    /// Of `providers`: the statuses that were told last, by provider.
    told: HashMap<String, ProviderStatus>,
}

impl Variants {
    pub(super) fn new(config: &RealtimeConfig) -> Self {
        Self {
            origin: Instant::now(),
            max: max_variants(config),
            table: Mutex::default(),
        }
    }

    /// When a variant is due next. Counted from one moment for all of the same window and tenant, so that these come
    /// due together, and from another for others, so that not all of them do.
    fn next_after(&self, now: Instant, variant: &Variant, config: &RealtimeConfig) -> Instant {
        let origin = self.origin + variant.phase();
        let interval = variant.interval(config).as_nanos().max(1);
        let passed = now.checked_duration_since(origin);
        let rounds = passed.map_or(0, |passed| passed.as_nanos() / interval + 1);
        origin + Duration::from_nanos(u64::try_from(rounds * interval).unwrap_or(u64::MAX))
    }
}

impl Runtime {
    /// The channel of a variant, which is there for as long as the lease that is added. Made on demand; given up when
    /// nobody has read it for a minute, or sooner for the sake of others.
    pub(crate) fn variant(
        &self,
        variant: Variant,
        leases: &mut Leases,
    ) -> Result<ChannelId, Error> {
        let now = Instant::now();
        let mut table = lock(&self.variants.table);
        // What it shows was not renewed while nobody read it: the first thing that a client sees is not to be old.
        let is_stale = |active: &Active| !active.lease.is_held() && now >= active.next;
        if let Some(stale) = table.get(&variant).filter(|active| is_stale(active))
            && self.hub.retire(stale.channel)
        {
            table.remove(&variant);
        }
        if let Some(active) = table.get_mut(&variant) {
            active.used = now;
            leases.add(active.lease.clone());
            return Ok(active.channel);
        }
        self.make_room(&mut table)?;
        let public = match &variant {
            Variant::Stats { .. } => "stats",
            Variant::Providers { .. } => "providers",
        };
        // Two spaces: no name that a host or a client can give.
        let name = format!("{public}  {variant:?}");
        let channel = self
            .hub
            .channel(&name, ChannelConfig::state().hidden_as(public))?;
        let mut active = Active {
            channel,
            lease: Lease::default(),
            next: self.variants.next_after(now, &variant, &self.config),
            used: now,
            told: HashMap::new(),
        };
        match &variant {
            Variant::Stats { window, tenant, .. } => {
                let snapshot = self.aggregator.snapshot(*window, tenant.as_deref());
                self.publish_stats(channel, Arc::new(snapshot));
            }
            Variant::Providers { tenant } => self.publish_providers(tenant, &mut active),
        }
        leases.add(active.lease.clone());
        table.insert(variant, active);
        Ok(channel)
    }

    /// Has place for one more: what nobody reads gives way, the one that has been unread for longest first.
    fn make_room(&self, table: &mut HashMap<Variant, Active>) -> Result<(), Error> {
        let max = self.variants.max;
        let unread = |table: &HashMap<Variant, Active>| {
            let unread = table.values().filter(|active| !active.lease.is_held());
            unread.count()
        };
        while table.len() >= max || unread(table) >= MAX_UNREAD {
            let oldest = table
                .iter()
                .filter(|(_, active)| !active.lease.is_held())
                .min_by_key(|(_, active)| active.used)
                .map(|(variant, active)| (variant.clone(), active.channel));
            match oldest {
                Some((variant, channel)) if self.hub.retire(channel) => {
                    table.remove(&variant);
                }
                _ if table.len() < max => break,
                _ => {
                    return Err(Error::new(
                        Kind::Full,
                        format!(
                            "more than {max} different windows, intervals and tenants are read (setting max_clients)"
                        ),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Publishes what is due, and gives up what nobody has read for a while.
    pub(super) fn publish_variants(&self) {
        let now = Instant::now();
        let mut due = Vec::new();
        lock(&self.variants.table).retain(|variant, active| {
            if !active.lease.is_held() {
                return now - active.used <= LINGER || !self.hub.retire(active.channel);
            }
            active.used = now;
            if now >= active.next {
                active.next = self.variants.next_after(now, variant, &self.config);
                due.push((active.channel, variant.clone()));
            }
            true
        });
        let mut snapshots: HashMap<_, Arc<Snapshot>> = HashMap::new();
        for (channel, variant) in due {
            match variant {
                Variant::Stats { window, tenant, .. } => {
                    let snapshot = match snapshots.entry((window, tenant)) {
                        Entry::Occupied(made) => made.into_mut(),
                        Entry::Vacant(wanted) => {
                            let (window, tenant) = wanted.key();
                            let snapshot = self.aggregator.snapshot(*window, tenant.as_deref());
                            wanted.insert(Arc::new(snapshot))
                        }
                    };
                    self.publish_stats(channel, snapshot.clone());
                }
                Variant::Providers { .. } => {
                    if let Some(active) = lock(&self.variants.table).get_mut(&variant)
                        && let Variant::Providers { tenant } = &variant
                    {
                        self.publish_providers(tenant, active);
                    }
                }
            }
        }
    }

    /// Tells the tenants whom they concern of changes of statuses.
    pub(super) fn publish_own_statuses(&self, changes: &StatusChanges) {
        if !changes.by_host && changes.tenants.is_empty() {
            return;
        }
        for (variant, active) in lock(&self.variants.table).iter_mut() {
            if let Variant::Providers { tenant } = variant
                && changes.concern(tenant)
            {
                self.publish_statuses(tenant, active);
            }
        }
    }

    fn publish_stats(&self, channel: ChannelId, snapshot: Arc<Snapshot>) {
        self.publish(channel, Arc::new(StatsEvent::new(snapshot)));
    }

    fn publish_providers(&self, tenant: &str, active: &mut Active) {
        self.publish_statuses(tenant, active);
        let providers = self.aggregator.providers(Some(tenant));
        self.publish(
            active.channel,
            Arc::new(ProvidersEvent(Arc::new(providers))),
        );
    }

    /// Tells what differs from what was told; what newcomers get is brought up to date.
    fn publish_statuses(&self, tenant: &str, active: &mut Active) {
        for status in self.aggregator.current_statuses(Some(tenant)) {
            let told = active.told.get(&status.provider_id).copied();
            if told == Some(status.status) {
                self.hub.refresh(active.channel, Arc::new(status));
                continue;
            }
            let id = status.provider_id.clone();
            active.told.insert(id, status.status);
            let previous_status = told.unwrap_or(status.status);
            let change = ProviderStatusEvent {
                previous_status,
                ..status
            };
            self.publish(active.channel, Arc::new(change));
        }
    }
}

impl Variant {
    fn interval(&self, config: &RealtimeConfig) -> Duration {
        match self {
            Self::Stats { interval, .. } => *interval,
            Self::Providers { .. } => config.providers_interval,
        }
    }

    /// Less than a second: the same for all of one window and tenant.
    fn phase(&self) -> Duration {
        // The same hash everywhere, as it shall be the same for all of these and nothing more.
        let mut hasher = DefaultHasher::new();
        match self {
            Self::Stats { window, tenant, .. } => (Some(window), tenant.as_deref()),
            Self::Providers { tenant } => (None, Some(&**tenant)),
        }
        .hash(&mut hasher);
        Duration::from_millis(hasher.finish() % 1_000)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::access::Access;

    fn stats(seconds: u64) -> Variant {
        Variant::Stats {
            window: Window::OneMinute,
            interval: Duration::from_secs(seconds),
            tenant: None,
        }
    }

    fn runtime() -> Arc<Runtime> {
        Runtime::new(RealtimeConfig::new(Access::public()).max_clients(3)).unwrap()
    }

    fn lease(runtime: &Runtime, variant: Variant) -> Result<(ChannelId, Leases), Error> {
        let mut leases = Leases::default();
        let channel = runtime.variant(variant, &mut leases)?;
        Ok((channel, leases))
    }

    #[test]
    fn what_nobody_reads_gives_way() {
        let runtime = runtime();
        let (first, held) = lease(&runtime, stats(1)).unwrap();
        for seconds in 2..=1000 {
            let (channel, _) = lease(&runtime, stats(seconds)).unwrap();
            assert_ne!(channel, first, "it is read");
        }
        let table = lock(&runtime.variants.table);
        assert!(table.len() <= MAX_UNREAD + 1, "{}", table.len());
        assert!(table.contains_key(&stats(1)) && table.contains_key(&stats(1000)));
        assert!(!table.contains_key(&stats(900)), "the oldest goes first");
        drop(table);
        assert_eq!(lease(&runtime, stats(1)).unwrap().0, first);
        drop(held);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_renewed_is_not_shown() {
        let runtime = runtime();
        // Nothing makes the rounds here: what is due stays due until it is made anew.
        let is_due = || lock(&runtime.variants.table)[&stats(5)].next <= Instant::now();
        let (_, held) = lease(&runtime, stats(5)).unwrap();
        tokio::time::advance(Duration::from_secs(6)).await;
        lease(&runtime, stats(5)).unwrap();
        assert!(is_due(), "it is read, and renewed by the next round");
        drop(held);
        let (_, _held) = lease(&runtime, stats(5)).unwrap();
        assert!(!is_due());
    }

    #[test]
    fn only_as_many_as_clients_may_read_at_once_are_too_many() {
        let runtime = runtime();
        let max = max_variants(&runtime.config) as u64;
        assert!(max >= 2 * 3);
        let mut held: Vec<_> = (1..=max)
            .map(|seconds| lease(&runtime, stats(seconds)).unwrap().1)
            .collect();
        let refused = lease(&runtime, stats(max + 1)).unwrap_err();
        assert!(refused.is_full() && refused.to_string().contains("max_clients"));
        lease(&runtime, stats(5)).expect("one that is there takes no place");
        held.pop();
        lease(&runtime, stats(max + 1)).unwrap();
    }

    #[test]
    fn those_of_one_window_come_due_together() {
        let config = RealtimeConfig::new(Access::public());
        let variants = Variants::new(&config);
        let origin = variants.origin + stats(1).phase();
        let at = |ms: u64| origin + Duration::from_millis(ms);
        let next = |ms, seconds| variants.next_after(at(ms), &stats(seconds), &config);
        assert_eq!(next(5_300, 2), at(6_000));
        assert_eq!(next(5_300, 3), at(6_000));
        assert_eq!(next(6_000, 3), at(9_000));
        assert_eq!(next(6_000, 3600), at(3_600_000));
        let early = variants.next_after(variants.origin, &stats(3600), &config);
        assert!(early <= at(0), "soon, and from then on at its pace");
        let phases = (0..100).map(|tenant: u32| {
            let tenant = tenant.to_string().into();
            Variant::Providers { tenant }.phase()
        });
        let phases: std::collections::HashSet<_> = phases.collect();
        assert!(phases.len() > 50, "tenants take turns: {}", phases.len());
    }
}
