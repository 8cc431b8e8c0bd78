//! Runtime: builds the parts, and runs the background tasks until shutdown. The one place that spawns.

mod variants;

use std::{collections::HashSet, fmt, sync::Arc, time::Duration};

use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    aggregator::{
        self, Aggregator, LogsBatch, MAX_UNLOGGED, ProvidersEvent, Rows, StatsEvent, Window,
    },
    clock::Clock,
    collector::{self, Collector},
    config::RealtimeConfig,
    error::{Error, Kind},
    hub::{ChannelConfig, ChannelId, Encoder, FORMS, Hub, HubSettings, Inbox, Source},
    middleware::Recorder,
    publish::Event,
    sync::{AtomicBool, Mutex, Ordering, lock},
    telemetry::{Gauges, SystemEvent, Warning, Warnings},
    transport,
};

pub(crate) use variants::Variant;
use variants::{Variants, max_variants};

/// How long rows gather before the collector is emptied again: long enough to share the work, short enough for
/// "at once".
const DRAIN_INTERVAL: Duration = Duration::from_millis(10);

/// The channels that are always there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BuiltIn {
    pub(crate) stats: ChannelId,
    pub(crate) logs: ChannelId,
    pub(crate) providers: ChannelId,
    pub(crate) requests: ChannelId,
    pub(crate) system: ChannelId,
}

/// All parts of one realtime layer.
pub(crate) struct Runtime {
    pub(crate) config: RealtimeConfig,
    pub(crate) clock: Clock,
    pub(crate) collector: Arc<Collector>,
    pub(crate) aggregator: Arc<Aggregator>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) built_in: BuiltIn,
    pub(crate) gauges: Gauges,
    pub(crate) warnings: Warnings,
    variants: Variants,
    /// The host's own token, or one of ours: ends everything.
    shutdown: CancellationToken,
    /// Ends the hub's task, after the aggregator has handed over its last rows.
    hub_shutdown: CancellationToken,
    tasks: TaskTracker,
    started: AtomicBool,
    inbox: Mutex<Option<Inbox>>,
}

/// Rows that are to be published as lines of `logs`: at most [`MAX_UNLOGGED`] and a batch, however long the pace.
#[derive(Default)]
struct Unlogged {
    batches: Vec<Arc<Rows>>,
    rows: usize,
}

/// Owned by layers, services and handles; the tasks do not own it, so that they end with the last of those.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) runtime: Arc<Runtime>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.runtime.end();
    }
}

impl Runtime {
    pub(crate) fn new(config: RealtimeConfig) -> Result<Arc<Self>, Error> {
        config.validate()?;
        let clock = Clock::new();
        let limits = limits_of(&config);
        let collector = Arc::new(Collector::new(&limits, clock));
        let aggregator = Arc::new(Aggregator::new(
            settings_of(&config),
            collector.clone(),
            clock,
        ));
        let settings = HubSettings {
            replay_capacity: config.replay_capacity,
            replay_bytes: config.replay_bytes,
            replay_age: config.replay_age,
            inbox_capacity: config.inbox_capacity,
            // One is the probe's.
            max_channels: config.max_channels + max_variants(&config) + 1,
            max_clients: config.max_clients,
            flush_interval: config.flush_interval,
            heartbeat_interval: config.heartbeat_interval,
            stall_timeout: config.stall_timeout.min(config.client_timeout),
            buffer_size: config.buffer_size,
            encoders: encoders(),
            compressor: transport::compressor(&config),
        };
        let (hub, inbox) = Hub::new(settings, clock);
        let built_in = BuiltIn {
            stats: hub.channel("stats", ChannelConfig::state())?,
            logs: hub.channel("logs", ChannelConfig::stream())?,
            providers: hub.channel("providers", ChannelConfig::state())?,
            requests: hub.channel("requests", ChannelConfig::stream())?,
            system: hub.channel("system", ChannelConfig::state())?,
        };
        hub.channel("alerts", ChannelConfig::critical())?;
        // A child: that the last layer is dropped must not cancel the host's token.
        let shutdown = config.shutdown.child_token();
        let variants = Variants::new(&config);
        let runtime = Arc::new(Self {
            config,
            clock,
            collector,
            aggregator,
            hub,
            built_in,
            gauges: Gauges::default(),
            warnings: Warnings::default(),
            variants,
            shutdown,
            hub_shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
            started: AtomicBool::new(false),
            inbox: Mutex::new(Some(inbox)),
        });
        runtime.start();
        Ok(runtime)
    }

    /// What the request path needs of all this.
    pub(crate) fn recorder(self: &Arc<Self>) -> Recorder {
        // Weak: services must not keep the tasks alive by themselves, the keeper does.
        let runtime = Arc::downgrade(self);
        let recorder = Recorder::new(self.collector.clone(), self.clock)
            .currency(&self.config.currency)
            .enabled(self.config.enabled)
            .on_first_use(move || runtime.upgrade().is_none_or(|runtime| runtime.start()));
        match &self.config.route_label {
            Some(hook) => recorder.route_hook(hook.clone()),
            None => recorder,
        }
    }

    /// Starts the tasks if they do not run yet and this is inside a tokio runtime; true when they run. Costs a load
    /// then.
    #[inline]
    pub(crate) fn start(self: &Arc<Self>) -> bool {
        self.started.load(Ordering::Relaxed) || self.start_slow()
    }

    #[cold]
    fn start_slow(self: &Arc<Self>) -> bool {
        let Ok(tokio) = tokio::runtime::Handle::try_current() else {
            return false;
        };
        let Some(inbox) = lock(&self.inbox).take() else {
            // Another thread is about to say so.
            return true;
        };
        self.started.store(true, Ordering::Relaxed);
        self.tasks.spawn_on(
            self.hub.clone().run(inbox, self.hub_shutdown.clone()),
            &tokio,
        );
        self.tasks.spawn_on(self.clone().aggregate(), &tokio);
        self.tasks.close();
        true
    }

    /// Runs a connection of ours until it ends by itself; [`drain`](Self::drain) waits for it.
    #[cfg(feature = "ws")]
    pub(crate) fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(connection);
    }

    /// Is cancelled when the shutdown begins, and when a drain is over.
    #[cfg(any(feature = "axum", feature = "ws"))]
    pub(crate) fn shutdown_token(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Ends the tasks and every stream. Idempotent.
    pub(crate) fn end(&self) {
        self.shutdown.cancel();
        if !self.started.load(Ordering::Relaxed) {
            self.hub.close_all(crate::hub::CloseReason::Shutdown);
        }
    }

    /// Closes every stream, evenly over a window, then ends the tasks. Cancel safe: what has begun goes on.
    pub(crate) async fn drain(self: &Arc<Self>, window: Duration) {
        if !self.start() {
            return self.end();
        }
        self.hub.drain(window);
        let all_are_told = async {
            self.hub.closed().await;
            // A stalled client can hold its stream for longer; it is not waited for.
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        tokio::select! {
            () = self.hub.deserted() => {}
            () = all_are_told => {}
        }
        self.end();
        self.tasks.wait().await;
    }

    pub(crate) fn is_shutting_down(&self) -> bool {
        self.hub.is_draining() || self.shutdown.is_cancelled()
    }

    /// An event of the host and the channel that it goes to; see [`RealtimeHandle::publish`](crate::RealtimeHandle::publish).
    pub(crate) fn checked(&self, event: Event) -> Result<(ChannelId, Arc<dyn Source>), Error> {
        let Some(channel) = self.hub.channel_id(&event.channel) else {
            return Err(Error::new(
                Kind::UnknownChannel,
                format!("channel {:.64?} is not registered", event.channel),
            ));
        };
        let built_in = self.built_in;
        if [
            built_in.stats,
            built_in.logs,
            built_in.providers,
            built_in.requests,
            built_in.system,
        ]
        .contains(&channel)
        {
            return Err(Error::new(
                Kind::Invalid,
                format!(
                    "channel {:?} is filled by the crate; register one of your own",
                    event.channel
                ),
            ));
        }
        Ok((channel, Arc::new(event.into_source()?)))
    }

    /// Over SSE nobody but the kernel notices a peer that does not read. A socket of our own ends itself.
    fn warn_of_stalls(&self) {
        let streams = self.hub.let_go(transport::SSE_FORM);
        self.warn(self.warnings.stalled(streams, self.config.stall_timeout));
    }

    /// Tells a warning whose time has come.
    pub(crate) fn warn(&self, warning: Option<Warning>) {
        if let Some(warning) = warning {
            warning.tell(&self.hub, self.built_in.logs, self.clock.unix_ms());
        }
    }

    /// What does not fit into the hub's inbox is counted there.
    fn publish(&self, channel: ChannelId, source: Arc<dyn Source>) {
        let _ = self.hub.publish(channel, source);
    }

    /// The aggregator's task: empties the collector and publishes at its paces.
    async fn aggregate(self: Arc<Self>) {
        let mut stats = every(self.config.stats_interval);
        let mut logs = every(self.config.logs_interval);
        let mut providers = every(self.config.providers_interval);
        let mut system = every(self.config.system_interval);
        let mut tenth = every(Duration::from_millis(100));
        let mut unlogged = Unlogged::default();
        let mut announced = HashSet::new();
        let mut resting = Instant::now();
        loop {
            let rests = Instant::now() < resting;
            if !rests {
                self.collector.arm();
            }
            let rows_wait = async {
                if rests {
                    tokio::time::sleep_until(resting).await;
                } else if self.collector.is_empty() {
                    self.collector.wake().notified().await;
                }
            };
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => break,
                _ = stats.tick() => {
                    self.collect(&mut unlogged);
                    self.publish(self.built_in.stats, stats_event(&self.aggregator, Window::default(), None));
                }
                _ = logs.tick() => self.publish_logs(&mut unlogged),
                _ = providers.tick() => {
                    self.announce_providers(&mut announced);
                    self.collect(&mut unlogged);
                    self.publish(self.built_in.providers, providers_event(&self.aggregator, None));
                }
                _ = system.tick() => self.publish(self.built_in.system, Arc::new(self.system_event())),
                _ = tenth.tick() => {
                    self.aggregator.prepare();
                    self.publish_variants();
                    self.warn_of_stalls();
                }
                () = rows_wait => {
                    if !rests {
                        self.collect(&mut unlogged);
                        resting = Instant::now() + DRAIN_INTERVAL;
                    }
                }
            }
        }
        self.collect(&mut unlogged);
        self.publish_logs(&mut unlogged);
        self.hub_shutdown.cancel();
    }

    /// Empties the collector and publishes the rows.
    fn collect(&self, unlogged: &mut Unlogged) {
        for rows in self.aggregator.drain() {
            unlogged.rows += rows.rows.len();
            unlogged.batches.push(rows.clone());
            if unlogged.rows >= MAX_UNLOGGED {
                self.publish_logs(unlogged);
            }
            self.publish(self.built_in.requests, rows);
        }
        let changes = self.aggregator.take_status_changes();
        self.publish_own_statuses(&changes);
        for change in changes.events {
            self.publish(self.built_in.providers, Arc::new(change));
        }
    }

    /// Whoever subscribes gets the status of every provider, as it is: a provider's first one is told although it has
    /// not changed, and what newcomers get is brought up to date.
    fn announce_providers(&self, announced: &mut HashSet<String>) {
        for status in self.aggregator.current_statuses(None) {
            let is_new = announced.insert(status.provider_id.clone());
            let status = Arc::new(status);
            match is_new {
                true => self.publish(self.built_in.providers, status),
                false => self.hub.refresh(self.built_in.providers, status),
            }
        }
    }

    fn publish_logs(&self, unlogged: &mut Unlogged) {
        let unix_ms = self.clock.unix_ms();
        let batches = std::mem::take(unlogged).batches;
        for batch in LogsBatch::split(unix_ms / 1000, batches) {
            self.publish(self.built_in.logs, Arc::new(batch));
        }
    }

    pub(crate) fn system_event(&self) -> SystemEvent {
        SystemEvent::read(
            &self.gauges,
            self.clock.unix_ms(),
            self.clock.now_us() / 1_000_000,
            &self.config.instance,
            self.hub.active(),
            self.collector.totals().in_flight,
        )
    }
}

impl RealtimeConfig {
    /// How many bytes recording and the aggregated numbers take at most: every table full, every label in use in every
    /// slot of every window, latencies as scattered as can be, the queue and every list full of requests to which
    /// the host has attached all that it may. Real traffic stays far below.
    ///
    /// The factors are the limits of labels (`max_users` above all), `window_count`, and
    /// [`feed_capacity`](Self::feed_capacity): 128 bytes a row, reserved at the start, and 3 KB more for a row that
    /// waits with eight labels, a reason and an id as long as they may be.
    ///
    /// What is kept for readers that come back is bounded for each channel by
    /// [`replay_bytes`](Self::replay_bytes), and comes on top; so do what the host says of its providers, its prices,
    /// and an answer while it is written.
    pub fn memory_ceiling(&self) -> usize {
        aggregator::memory_ceiling(&settings_of(self), &limits_of(self))
    }
}

fn limits_of(config: &RealtimeConfig) -> collector::Limits {
    collector::Limits {
        routes: config.max_routes,
        providers: config.max_providers,
        models: config.max_models,
        tenants: config.max_tenants,
        // Those that come back soon need no text in their record, although only `max_users` have a row.
        users: config.max_users * 4,
        feed_capacity: config.feed_capacity,
    }
}

fn settings_of(config: &RealtimeConfig) -> aggregator::Settings {
    aggregator::Settings {
        window_size: config.window_size,
        window_count: config.window_count,
        user_timeout: config.user_timeout,
        max_users: config.max_users,
        prices: config.prices.clone(),
        currency: config.currency.clone(),
        instance: config.instance.clone(),
        ..aggregator::Settings::default()
    }
}

fn stats_event(aggregator: &Aggregator, window: Window, tenant: Option<&str>) -> Arc<dyn Source> {
    Arc::new(StatsEvent::new(Arc::new(
        aggregator.snapshot(window, tenant),
    )))
}

fn providers_event(aggregator: &Aggregator, tenant: Option<&str>) -> Arc<dyn Source> {
    Arc::new(ProvidersEvent(Arc::new(aggregator.providers(tenant))))
}

/// Ticks at once, then at a pace. After a pause of the machine it goes on at its pace: nobody wants the snapshots
/// of the past.
fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

fn encoders() -> [Encoder; FORMS] {
    transport::encoders()
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("hub", &self.hub)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
