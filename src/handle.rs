//! The handle: everything a host does besides being recorded.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;

use crate::{
    aggregator::{ProviderInfo, ProviderStatus, Snapshot, Window},
    error::{Error, Kind},
    hub::{
        ChannelConfig, ChannelSet, Filter, Leases, Level, Position, Read, Start, Subscription,
        ViewSpec,
    },
    publish::{Event, LogLine},
    runtime::Keeper,
    transport,
};

/// Publishes, subscribes, registers, drains. Cheap to clone; every method can be called from anywhere.
///
/// The tasks behind it end with the last layer, service and handle.
#[derive(Clone, Debug)]
pub struct RealtimeHandle {
    keeper: Arc<Keeper>,
}

impl RealtimeHandle {
    pub(crate) fn new(keeper: Arc<Keeper>) -> Self {
        Self { keeper }
    }

    #[cfg(feature = "axum")]
    pub(crate) fn config(&self) -> &crate::RealtimeConfig {
        &self.keeper.runtime.config
    }

    #[cfg(feature = "axum")]
    pub(crate) fn shutdown_token(&self) -> &tokio_util::sync::CancellationToken {
        self.keeper.runtime.shutdown_token()
    }

    #[cfg(feature = "axum")]
    pub(crate) fn warnings(&self) -> &crate::telemetry::Warnings {
        &self.keeper.runtime.warnings
    }

    /// Describes a provider; nothing happens before [`upsert`](ProviderBuilder::upsert).
    ///
    /// Providers that only show up in traffic are listed, too; registering one gives it a name, a kind and what it
    /// can do, and lets the host set its status. What the host says of a provider, also that it is there, is for the
    /// viewers of all tenants; a provider that only shows up in traffic is for those whose traffic it is.
    pub fn provider(&self, id: impl Into<String>) -> ProviderBuilder {
        let info = ProviderInfo {
            id: id.into(),
            ..ProviderInfo::default()
        };
        ProviderBuilder {
            keeper: self.keeper.clone(),
            info,
        }
    }

    /// Registers a channel. A channel of the same name is kept as it is.
    ///
    /// # Errors
    /// [`is_invalid`](Error::is_invalid): the name is not 1 to 64 characters of `a-z`, `0-9`, `_`, `-`, `.`, is
    /// reserved, or would be more than [`max_channels`](crate::RealtimeConfig::max_channels).
    pub fn channel(&self, name: &str, config: ChannelConfig) -> Result<(), Error> {
        self.keeper.runtime.hub.channel(name, config).map(|_| ())
    }

    /// Hands an event to the hub. Never blocks and never awaits; the hub's task delivers it.
    ///
    /// The channel is one that was registered, or `alerts`, which is there for it.
    ///
    /// # Errors
    /// - [`is_unknown_channel`](Error::is_unknown_channel): the channel was not registered,
    /// - [`is_invalid`](Error::is_invalid): the type or the data is not taken, or the channel is one of ours
    ///   (`stats`, `logs`, `providers`, `requests`, `system`) that the crate fills itself,
    /// - [`is_full`](Error::is_full): the hub's inbox is full; counted as `refused` in `hub/stats`,
    /// - [`is_closed`](Error::is_closed): the hub has been shut down.
    pub fn publish(&self, event: Event) -> Result<(), Error> {
        let runtime = &self.keeper.runtime;
        runtime.start();
        let (channel, source) = runtime.checked(event)?;
        runtime.hub.publish(channel, source)
    }

    /// Publishes an application log line as a `log` event on the channels `logs` and `all`. What the hub's inbox
    /// does not take is counted there.
    pub fn log(&self, level: Level, component: impl Into<String>, message: impl Into<String>) {
        self.log_line(LogLine::new(level, component, message));
    }

    /// As [`log`](Self::log), with a provider, a request, a tenant or fields.
    pub fn log_line(&self, line: LogLine) {
        let runtime = &self.keeper.runtime;
        runtime.start();
        let line = line.stamp(runtime.clock.unix_ms());
        let _ = runtime.hub.publish(runtime.built_in.logs, Arc::new(line));
    }

    /// A layer for the host's [`tracing`](https://docs.rs/tracing) subscriber: every line of `level` and above becomes
    /// a `log` event on the channels `logs` and `all`, with the target as `component`, the fields of the line and of
    /// its spans as `fields` with their types, and `provider_id` and `request_id` where a field has that name. A line
    /// without a `request_id` has that of the request whose handler or body is being polled: its `x-request-id`, or, where
    /// it came without one, the `id` that its record will have. What a handler spawns as a task of its own says it by a
    /// field or a span. Following requests costs each poll of one a reference count, from the first layer on.
    /// Lines of the `log` crate come through its bridge, with their own target.
    ///
    /// ```
    /// # use tower_realtime::{Access, Level, RealtimeConfig, RealtimeLayer};
    /// # let realtime = RealtimeLayer::new(RealtimeConfig::new(Access::loopback()));
    /// use tracing_subscriber::{Layer as _, filter::EnvFilter, layer::SubscriberExt as _};
    ///
    /// let rt = realtime.handle();
    /// let subscriber = tracing_subscriber::registry()
    ///     .with(tracing_subscriber::fmt::layer().with_filter(EnvFilter::from_default_env()))
    ///     .with(rt.tracing_layer(Level::Info));
    /// # drop(subscriber);
    /// // then: subscriber.init()
    /// ```
    ///
    /// The level is a filter of this layer alone; further ones (`.with_filter(EnvFilter::…)`) narrow it. Spans below
    /// the level are not looked at, so their fields are not told.
    ///
    /// Publishing never blocks, so lines can be lost: those that come while the hub's inbox
    /// ([`inbox_capacity`](crate::RealtimeConfig::inbox_capacity)) is more than half full. They take the first half
    /// only, so that a flood of them keeps no event out. A line that is lost is lost whole: it never was an event and
    /// has no position, so no viewer is told of it by a `gap`. It is counted in `hub.refused` of `hub/stats`, with all
    /// else that found no room there. A viewer that falls behind, on the other hand, is told by a `gap` what it missed
    /// of the lines that got in.
    ///
    /// Of a line, at most 8 KiB of message and 32 fields of 512 bytes are told; the rest of it is cut without a count.
    /// Lines have no tenant: viewers of a tenant do not see them.
    ///
    /// So that it does not feed on itself, these are not told: the crate's own targets; what is logged while a line is
    /// made; what is logged by the task that polls a stream or a socket of ours; and what `hyper`, `h2`, `tokio`, `mio`,
    /// `rustls` and their like say below `info`.
    ///
    /// Over HTTP/1.1 and its WebSockets that is all that happens in a delivery. Over HTTP/2 it is not: another task writes
    /// for all streams of a connection, and nothing tells it from the host's own tasks. What says a line there for each
    /// write, at `info` and above (a wrapper of the host's around the socket), is told, and is the cause of the next
    /// delivery as long as somebody reads `logs`: each reader's connection says its lines once every
    /// [`flush_interval`](crate::RealtimeConfig::flush_interval), without end, though never more. Such a target has to be
    /// left out by name:
    ///
    /// ```
    /// # use tower_realtime::{Access, Level, RealtimeConfig, RealtimeLayer};
    /// # use tracing_subscriber::{Layer as _, filter::EnvFilter, layer::SubscriberExt as _};
    /// # let rt = RealtimeLayer::new(RealtimeConfig::new(Access::loopback())).handle();
    /// let lines = rt.tracing_layer(Level::Info);
    /// let lines = lines.with_filter(EnvFilter::new("info,my_host::socket=off"));
    /// # drop(tracing_subscriber::registry().with(lines));
    /// ```
    ///
    /// A host that reads `logs` in process ([`subscribe`](Self::subscribe)) and logs each of them has made a circle of its
    /// own.
    ///
    /// The layer does not keep the background tasks alive. `S` and the return type are those of
    /// `tracing-subscriber` 0.3.
    #[cfg(feature = "tracing")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tracing")))]
    pub fn tracing_layer<S>(
        &self,
        level: Level,
    ) -> impl tracing_subscriber::Layer<S> + Send + Sync + 'static + use<S>
    where
        S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
    {
        let runtime = &self.keeper.runtime;
        crate::middleware::follow();
        let sink = crate::telemetry::tracing::Sink {
            hub: Arc::downgrade(&runtime.hub),
            channel: runtime.built_in.logs,
            clock: runtime.clock,
            request_id: crate::middleware::request_id,
        };
        crate::telemetry::tracing::layer(sink, level)
    }

    /// Registers a gauge: its value stands in every `system` event and in `/overview`. Read every
    /// [`system_interval`](crate::RealtimeConfig::system_interval) by a background task, so it must be quick; one that panics or is not
    /// finite reads as `null`. A gauge of the same name is replaced.
    ///
    /// # Errors
    /// [`is_invalid`](Error::is_invalid): a name of 0 or more than 128 bytes, or more than 256 gauges.
    pub fn gauge(
        &self,
        name: impl Into<String>,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) -> Result<(), Error> {
        self.keeper
            .runtime
            .gauges
            .insert(name.into(), Arc::new(read))
    }

    /// The same events in process, from now on.
    ///
    /// A consumer may take its time: it holds no socket, so it is never let go for that. One that falls behind is
    /// stepped down like any other reader, and told by [`Received::Gap`] what it does not get.
    ///
    /// # Errors
    /// As [`subscribe_from`](Self::subscribe_from).
    pub fn subscribe<'a>(
        &self,
        channels: impl IntoIterator<Item = &'a str>,
        filter: Filter,
    ) -> Result<Events, Error> {
        self.subscribe_from(channels, filter, Start::Latest)
    }

    /// The same events in process, from a position on. `all` stands for every channel.
    ///
    /// # Errors
    /// [`is_unknown_channel`](Error::is_unknown_channel), [`is_full`](Error::is_full) where
    /// [`max_clients`](crate::RealtimeConfig::max_clients) are there already, [`is_closed`](Error::is_closed).
    pub fn subscribe_from<'a>(
        &self,
        channels: impl IntoIterator<Item = &'a str>,
        filter: Filter,
        start: Start,
    ) -> Result<Events, Error> {
        let runtime = &self.keeper.runtime;
        runtime.start();
        let mut ids = Vec::new();
        let mut all = false;
        for name in channels {
            if name == "all" {
                all = true;
                continue;
            }
            let unknown = || {
                Error::new(
                    Kind::UnknownChannel,
                    format!("channel {name:.64?} is not registered"),
                )
            };
            ids.push(runtime.hub.channel_id(name).ok_or_else(unknown)?);
        }
        ids.sort_unstable();
        ids.dedup();
        let spec = ViewSpec {
            channels: if all {
                ChannelSet::All
            } else {
                ChannelSet::Some(ids.into())
            },
            filter,
            tenant: None,
            form: transport::RECORD_FORM,
            leases: Leases::default(),
        };
        let subscription = runtime
            .hub
            .subscribe(spec, start)
            .map_err(|refused| match refused {
                crate::hub::Refused::Full => Error::new(
                    Kind::Full,
                    "as many readers as max_clients allows are there",
                ),
                crate::hub::Refused::Closed => {
                    Error::new(Kind::Closed, "the hub has been shut down")
                }
            })?;
        subscription.reader().stay_in_process();
        Ok(Events {
            subscription,
            chunk: Bytes::new(),
        })
    }

    /// The aggregated numbers of a window, every request that has ended until now included.
    pub fn snapshot(&self, window: Window) -> Snapshot {
        self.keeper.runtime.aggregator.refresh();
        self.keeper.runtime.aggregator.snapshot(window, None)
    }

    /// Closes every stream with a `drain` event, evenly over a window, refuses new ones, turns readiness to 503,
    /// then ends the background tasks. Returns when everybody has left, at the latest a second after the window: at
    /// once where nobody is there.
    ///
    /// Whoever has not been sent away yet is told what comes: publishing works until the window is over. Time in which
    /// the process stands still is not made up for, as that would send away at once whom it should have sent away
    /// meanwhile: the window is longer by it.
    ///
    /// Call it before the server's own shutdown: a balancer is still answered then, and learns of the 503. That shutdown
    /// takes a limit of its own: see [`shutdown`](crate::RealtimeConfig::shutdown).
    ///
    /// Cancel safe: what has begun goes on.
    pub async fn drain(&self, window: Duration) {
        self.keeper.runtime.drain(window).await;
    }

    /// Ends every stream with a `drain` event now, and the background tasks. Does not wait.
    pub fn shutdown(&self) {
        self.keeper.runtime.end();
    }
}

/// A provider that is being described. Made by [`RealtimeHandle::provider`].
#[derive(Debug)]
#[must_use = "nothing happens before `upsert`"]
pub struct ProviderBuilder {
    keeper: Arc<Keeper>,
    info: ProviderInfo,
}

impl ProviderBuilder {
    /// The name that people read. Defaults to the id.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.info.name = Some(name.into());
        self
    }

    /// `free`, `paid`, `local`: whatever the host sorts by. The field `type` in `providers`.
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.info.kind = Some(kind.into());
        self
    }

    /// How many models it offers.
    pub fn models(mut self, count: u32) -> Self {
        self.info.models = Some(count);
        self
    }

    /// Whether it can stream answers.
    pub fn supports_streaming(mut self, supports: bool) -> Self {
        self.info.supports_streaming = Some(supports);
        self
    }

    /// Whether it can call tools.
    pub fn supports_tools(mut self, supports: bool) -> Self {
        self.info.supports_tools = Some(supports);
        self
    }

    /// The status, instead of the one that its traffic shows.
    pub fn status(mut self, status: ProviderStatus) -> Self {
        self.info.status = Some(status);
        self
    }

    /// A sentence for people, shown beside the status.
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.info.message = message.into();
        self
    }

    /// Registers it, or replaces what was said of it before. `false` where there are 256 providers already and this
    /// one is new.
    pub fn upsert(self) -> bool {
        self.keeper.runtime.aggregator.upsert_provider(self.info)
    }
}

/// A subscription in process. Dropping it leaves the hub.
///
/// Cancel safe: [`next`](Self::next) loses nothing when its future is dropped.
#[derive(Debug)]
pub struct Events {
    subscription: Subscription,
    /// What has been read and not yet been given out: lines of the record form.
    chunk: Bytes,
}

/// What a subscription in process yields.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Received {
    /// An event.
    Event {
        /// Its position.
        id: Position,
        /// The channel's name.
        channel: String,
        /// The event's type.
        kind: String,
        /// The data, as JSON.
        data: Bytes,
    },
    /// Events that this reader does not get.
    Gap {
        /// The channel's name.
        channel: String,
        /// How many; `None` where it can't be known.
        missed: Option<u64>,
    },
}

impl Events {
    /// The next event; `None` after shutdown, and for nothing else: not for having been away for long.
    pub async fn next(&mut self) -> Option<Received> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Where this reader stands; give it to [`subscribe_from`](RealtimeHandle::subscribe_from) to go on here.
    pub fn position(&self) -> Position {
        self.subscription.position()
    }

    /// As [`next`](Self::next), for hand-written futures and streams.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Received>> {
        loop {
            if let Some(event) = transport::next_record(&mut self.chunk) {
                return Poll::Ready(Some(event));
            }
            match self.subscription.poll_read(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Read::Events(bytes))) => self.chunk = bytes,
                Poll::Ready(Some(Read::Gap(gap))) => {
                    return Poll::Ready(Some(Received::Gap {
                        channel: gap.channel,
                        missed: gap.missed,
                    }));
                }
                Poll::Ready(Some(Read::Heartbeat(_))) => {}
                Poll::Ready(Some(Read::Closed(_)) | None) => return Poll::Ready(None),
            }
        }
    }
}
