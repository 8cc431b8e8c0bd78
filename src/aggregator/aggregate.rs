//! The aggregator as the other parts see it: one lock around the state.

use std::{sync::Arc, time::Duration};

use crate::{
    clock::Clock,
    collector::{Collector, LabelId},
    hub::Filter,
    price::PriceTable,
    sync::{Mutex, lock},
};

use super::{
    Breakdown, Dimension, Errors, ProviderInfo, ProviderStats, ProviderStatusEvent, ProviderView,
    ProvidersSnapshot, Requests, Rows, Series, Slow, Snapshot, StatusChanges, Window,
    state::{Reading, State},
};

/// What the aggregator needs to be told.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The length of a slot of the `15m` and `1h` windows; whole tens of seconds from 10 s to 5 minutes. Defaults to
    /// 1 minute.
    pub(crate) window_size: Duration,
    /// How many of them are kept: an hour's worth at least. Defaults to 60.
    pub(crate) window_count: usize,
    /// How long a user counts as active. Defaults to 5 minutes.
    pub(crate) user_timeout: Duration,
    /// Users with a row of their own in a slot. Defaults to 1,000.
    pub(crate) max_users: usize,
    /// Finished requests that are remembered. Defaults to 500.
    pub(crate) recent: usize,
    /// What tokens cost where the handler does not say it.
    pub(crate) prices: PriceTable,
    /// The currency of all costs. Defaults to `USD`.
    pub(crate) currency: String,
    /// Names this process in snapshots.
    pub(crate) instance: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            window_size: Duration::from_secs(60),
            window_count: 60,
            user_timeout: Duration::from_secs(300),
            max_users: 1_000,
            recent: 500,
            prices: PriceTable::new(),
            currency: "USD".to_owned(),
            instance: String::new(),
        }
    }
}

/// Counts what the collector takes, and answers what was counted.
///
/// Every reading first takes what the collector has: a request that has ended is in the very next answer. The lock is
/// held for as long as one drain or one answer takes, and never on a request's path.
#[derive(Debug)]
pub(crate) struct Aggregator {
    settings: Settings,
    collector: Arc<Collector>,
    clock: Clock,
    state: Mutex<State>,
}

impl Aggregator {
    pub(crate) fn new(settings: Settings, collector: Arc<Collector>, clock: Clock) -> Self {
        let prices = settings.prices.clone();
        collector.price_with(move |model, input, output, cached| {
            prices.cost_nanos(model, input, output, cached)
        });
        let state = State::new(&settings, Arc::clone(&collector), reading(&clock));
        Self {
            settings,
            collector,
            clock,
            state: Mutex::new(state),
        }
    }

    /// Takes everything that the collector has, and hands out the rows that nobody has taken yet, in batches of at most
    /// 128. To be called at least every few seconds, so that slots close on time.
    pub(crate) fn drain(&self) -> Vec<Arc<Rows>> {
        self.pumped(|state| {
            state.ladder.prepare();
            state.ready.take()
        })
    }

    /// Takes everything that the collector has, and leaves the rows for [`drain`](Self::drain).
    pub(crate) fn refresh(&self) {
        self.pumped(|_| ());
    }

    /// Every number of a window. With a tenant, only that tenant's.
    pub(crate) fn snapshot(&self, window: Window, tenant: Option<&str>) -> Snapshot {
        self.pumped(|state| state.snapshot(&self.settings, window, tenant))
    }

    /// All providers. With a tenant, those that the host registered and those that it has used, as they stand by its
    /// own requests, and without the numbers of the hour.
    pub(crate) fn providers(&self, tenant: Option<&str>) -> ProvidersSnapshot {
        self.pumped(|state| state.providers(tenant))
    }

    /// One provider; `None` where nobody knows it, or the tenant does not.
    pub(crate) fn provider(&self, id: &str, tenant: Option<&str>) -> Option<ProviderView> {
        self.pumped(|state| state.provider(id, tenant))
    }

    /// One provider's numbers; zeros where it had no requests, `None` where nobody knows it.
    pub(crate) fn provider_metrics(&self, id: &str, window: Window) -> Option<ProviderStats> {
        self.pumped(|state| state.provider_metrics(id, window))
    }

    /// Sets what the host says about a provider. `false`: there are 256 already and this one is new, or it has no id.
    pub(crate) fn upsert_provider(&self, mut info: ProviderInfo) -> bool {
        let providers = &self.collector.labels().provider;
        let label = providers.intern(&info.id);
        if label.0 >= LabelId::FIRST
            && let Some(id) = providers.resolve(label)
        {
            // A long id is cut for the table; requests will name the cut one.
            info.id = id.to_owned();
        }
        let mut state = lock(&self.state);
        state.capabilities.providers = true;
        if let Some(name) = &info.name
            && label.0 >= LabelId::FIRST
        {
            state.context.name_provider(label, name);
        }
        let now = self.clock.unix_seconds();
        state.providers.upsert(info, label, now)
    }

    /// What has become of providers' statuses since the last call.
    pub(crate) fn take_status_changes(&self) -> StatusChanges {
        self.pumped(State::take_status_changes)
    }

    /// The current status of every provider that a tenant may know of, or of all, for a subscriber who has seen none.
    pub(crate) fn current_statuses(&self, tenant: Option<&str>) -> Vec<ProviderStatusEvent> {
        let now = self.clock.unix_seconds();
        self.pumped(|state| state.statuses(tenant, now))
    }

    /// The newest requests that a filter wants, newest first.
    pub(crate) fn recent(&self, filter: &Filter, limit: usize) -> Requests {
        self.pumped(|state| state.recent(filter, limit))
    }

    /// The newest failed requests that a filter wants, newest first; the last 100 are remembered.
    pub(crate) fn errors(&self, filter: &Filter, limit: usize) -> Errors {
        self.pumped(|state| state.errors(filter, limit))
    }

    /// The slowest requests of a window that a filter wants, slowest first. The twenty slowest of each slot are
    /// remembered, whoever's they were.
    pub(crate) fn slow(&self, window: Window, filter: &Filter, limit: usize) -> Slow {
        self.pumped(|state| state.slow(window, filter, limit))
    }

    /// Totals over time: `range` and `step` in seconds. The answer names the step that was taken.
    pub(crate) fn series(&self, range: u64, step: u64) -> Series {
        self.pumped(|state| state.series(range, step))
    }

    /// The rows of a window. With a tenant, its own sum and nobody's rows.
    pub(crate) fn breakdown(
        &self,
        by: Dimension,
        window: Window,
        tenant: Option<&str>,
    ) -> Breakdown {
        self.pumped(|state| state.breakdown(by, window, tenant))
    }

    fn pumped<T>(&self, read: impl FnOnce(&mut State) -> T) -> T {
        let mut state = lock(&self.state);
        state.pump(reading(&self.clock));
        read(&mut state)
    }
}

fn reading(clock: &Clock) -> Reading {
    Reading {
        unix_us: clock.unix_us_of(clock.now_us()),
        step_us: clock.wall_step_us(),
    }
}
