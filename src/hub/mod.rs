//! Hub: one sequence of events, a bounded log per channel, readers that hold cursors.
//!
//! One task appends and wakes ([`run`](Hub::run)); publishers only hand it things. Replay and live are the same
//! read, so there is no seam between them. The hub moves bytes: it knows no metrics, no HTTP and no viewer.

mod beginning;
mod channel;
mod compression;
mod delivery;
mod departures;
mod draining;
mod entry;
mod event;
mod filter;
mod joining;
mod ladder;
mod lag;
mod log;
mod numbers;
mod packed;
mod position;
mod rate;
mod read;
mod reader;
mod reading;
mod spec;
mod stats;
mod subscription;
mod task;
mod thinning;
mod times;
mod view;

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};

pub use channel::{ChannelConfig, Class, Priority};
pub(crate) use channel::{ChannelId, ChannelInfo, check_channel_name, check_event_type};
#[cfg(feature = "compression")]
pub(crate) use compression::{Block, Chain};
pub(crate) use compression::{Check, Compressor, Made};
pub(crate) use entry::{Encoder, FORMS, Form, Frame};
pub(crate) use event::{Dialect, Narrowed, Source};
pub(crate) use filter::Tags;
pub use filter::{Filter, Level, LevelFilter};
pub use position::{Position, Start};
pub(crate) use read::{Gap, Read, Resume};
pub(crate) use reader::{CloseReason, Reader};
pub(crate) use spec::{ChannelSet, Lease, Leases, ViewSpec};
pub(crate) use stats::{ChannelStats, HubStats, ResumeStats};
pub(crate) use subscription::Subscription;

use crate::{
    clock::Clock,
    error::{Error, Kind},
    sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, Notify, Ordering, lock},
};
use departures::Departures;
use entry::Entry;
use log::{Bounds, Log, StateLog, StreamLog};
use numbers::Numbers;
use times::Times;
use view::View;

/// What the hub needs to know.
#[derive(Clone, Debug)]
pub(crate) struct HubSettings {
    pub(crate) replay_capacity: usize,
    pub(crate) replay_bytes: usize,
    pub(crate) replay_age: Duration,
    pub(crate) inbox_capacity: usize,
    pub(crate) max_channels: usize,
    pub(crate) max_clients: usize,
    pub(crate) flush_interval: Duration,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) stall_timeout: Duration,
    /// How many events a slow reader may be behind before the less important ones are skipped.
    pub(crate) buffer_size: usize,
    pub(crate) encoders: [Encoder; FORMS],
    /// For readers that want compressed blocks; without one they get them as they are.
    pub(crate) compressor: Option<Arc<dyn Compressor>>,
}

/// See the module's documentation.
pub(crate) struct Hub {
    epoch: u64,
    clock: Clock,
    settings: HubSettings,
    state: Mutex<State>,
    inbox: mpsc::Sender<Message>,
    /// The last number up to which every view shows what it has.
    visible_head: AtomicU64,
    /// The hub's time as of the last turn of its task: good enough to see who has been away, and free to read.
    coarse_us: AtomicU64,
    /// When readers were marked last.
    marked_us: AtomicU64,
    /// Newcomers are refused. Set before `closed` is.
    draining: AtomicBool,
    /// Over how long a drain goes, where one was asked for.
    drain_window: Mutex<Option<Duration>>,
    /// What is published is refused as well.
    closed: AtomicBool,
    active: AtomicUsize,
    departures: Mutex<Departures>,
    /// Somebody left, or the hub was closed.
    left: Notify,
    readers: Numbers,
    counters: Counters,
}

/// Sums since the start; relaxed, they order nothing.
#[derive(Debug, Default)]
struct Counters {
    published: AtomicU64,
    refused: AtomicU64,
    gaps: AtomicU64,
    stalled: AtomicU64,
    /// Those of them whose subscription was still there, by form: nothing else had given them up.
    let_go: [AtomicU64; FORMS],
    joined: AtomicU64,
    /// To those who have left.
    left_bytes: AtomicU64,
    resumes: [AtomicU64; 4],
    /// What readers of compressed blocks were sent: as it would have been, and as it was.
    sent_plain: AtomicU64,
    sent_compressed: AtomicU64,
}

struct State {
    channels: Vec<Channel>,
    /// Numbers of channels that were given up, to be used again.
    retired: Vec<ChannelId>,
    by_name: HashMap<String, ChannelId>,
    views: Views,
    last_seq: u64,
    times: Times,
}

/// By what they show. Tests repeat a run by its seed: for them it is in the same order each time.
#[cfg(not(test))]
type Views = HashMap<ViewSpec, Arc<View>>;
#[cfg(test)]
type Views = HashMap<
    ViewSpec,
    Arc<View>,
    std::hash::BuildHasherDefault<std::collections::hash_map::DefaultHasher>,
>;

struct Channel {
    info: Arc<ChannelInfo>,
    log: Log,
    views: Vec<Arc<View>>,
    published: u64,
}

impl Channel {
    /// Who reads it and may see this. What a tenant's admin is told of others' viewers is nothing.
    fn readers_of(&self, entry: &Entry) -> usize {
        let tenant = entry.source.tags(0).tenant;
        self.views
            .iter()
            .filter(|view| view.spec.may_see(tenant))
            .map(|view| view.reader_count())
            .sum()
    }
}

/// What goes through the inbox.
enum Message {
    Publish {
        channel: ChannelId,
        source: Arc<dyn Source>,
        reply: Option<oneshot::Sender<Published>>,
    },
    /// Sees to what stands in `drain_window`.
    Drain,
}

/// Where an event went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Published {
    pub(crate) position: Position,
    /// Readers that have the channel in their set, and are not of another tenant than the event.
    pub(crate) readers: usize,
}

/// Why nobody can join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// `max_clients` are there already.
    Full,
    /// The hub is shutting down.
    Closed,
}

/// The receiving end of the inbox; [`Hub::run`] takes it.
pub(crate) struct Inbox(mpsc::Receiver<Message>);

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inbox")
    }
}

impl Hub {
    pub(crate) fn new(settings: HubSettings, clock: Clock) -> (Arc<Self>, Inbox) {
        let (inbox, receiver) = mpsc::channel(settings.inbox_capacity.max(1));
        let hub = Self {
            epoch: new_epoch(&clock),
            clock,
            state: Mutex::new(State {
                channels: Vec::new(),
                retired: Vec::new(),
                by_name: HashMap::new(),
                views: Views::default(),
                last_seq: 0,
                times: Times::default(),
            }),
            inbox,
            visible_head: AtomicU64::new(0),
            coarse_us: AtomicU64::new(clock.now_us()),
            marked_us: AtomicU64::new(clock.now_us()),
            draining: AtomicBool::new(false),
            drain_window: Mutex::new(None),
            closed: AtomicBool::new(false),
            active: AtomicUsize::new(0),
            departures: Mutex::new(Departures::default()),
            left: Notify::new(),
            readers: Numbers::new(),
            counters: Counters::default(),
            settings,
        };
        (Arc::new(hub), Inbox(receiver))
    }

    pub(crate) fn position_of(&self, seq: u64) -> Position {
        Position {
            epoch: self.epoch,
            seq,
        }
    }

    /// A position up to which everything published is visible.
    pub(crate) fn position(&self) -> Position {
        self.position_of(self.visible_head())
    }

    fn visible_head(&self) -> u64 {
        self.visible_head.load(Ordering::SeqCst)
    }

    fn now_us(&self) -> u64 {
        self.clock.now_us()
    }

    fn coarse_now_us(&self) -> u64 {
        self.coarse_us.load(Ordering::Relaxed)
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// How many readers of this form were let go because they took nothing, and would have stayed otherwise.
    pub(crate) fn let_go(&self, form: Form) -> u64 {
        self.counters.let_go[form.0].load(Ordering::Relaxed)
    }

    pub(crate) fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// What makes compressed blocks, if somebody may have them.
    pub(crate) fn compressor(&self) -> Option<&Arc<dyn Compressor>> {
        self.settings.compressor.as_ref()
    }

    fn count_compressed(&self, plain: usize, compressed: usize) {
        let Counters {
            sent_plain,
            sent_compressed,
            ..
        } = &self.counters;
        sent_plain.fetch_add(plain as u64, Ordering::Relaxed);
        sent_compressed.fetch_add(compressed as u64, Ordering::Relaxed);
    }

    fn count_gap(&self) {
        self.counters.gaps.fetch_add(1, Ordering::Relaxed);
    }

    /// Registers a channel. One of the same name is kept as it is, and its number returned.
    ///
    /// # Errors
    /// An invalid name; more channels than `max_channels`.
    pub(crate) fn channel(&self, name: &str, config: ChannelConfig) -> Result<ChannelId, Error> {
        if config.hidden_as.is_none() {
            check_channel_name(name)?;
        }
        let mut state = lock(&self.state);
        if let Some(id) = state.by_name.get(name) {
            return Ok(*id);
        }
        if state.channels.len() - state.retired.len() >= self.settings.max_channels {
            return Err(Error::new(
                Kind::Invalid,
                format!(
                    "channel {name:?} would be more than max_channels ({})",
                    self.settings.max_channels
                ),
            ));
        }
        let bounds = Bounds {
            events: config.retain.unwrap_or(self.settings.replay_capacity),
            bytes: config.retain_bytes.unwrap_or(self.settings.replay_bytes),
            age_us: config
                .retain_age
                .unwrap_or(self.settings.replay_age)
                .as_micros() as u64,
        };
        let id = state
            .retired
            .pop()
            .unwrap_or(ChannelId(state.channels.len() as u32));
        let info = Arc::new(ChannelInfo {
            id,
            name: config.hidden_as.unwrap_or(name).to_owned(),
            hidden: config.hidden_as.is_some(),
            class: config.class,
            priority: config.priority,
            delivered: AtomicU64::new(0),
            readers: AtomicUsize::new(0),
        });
        let views: Vec<_> = state
            .views
            .values()
            .filter(|view| view.spec.wants(&info))
            .cloned()
            .collect();
        let readers = views.iter().map(|view| view.reader_count()).sum();
        info.readers.store(readers, Ordering::Relaxed);
        let log = match config.class {
            Class::State => Log::State(StateLog::new(bounds)),
            Class::Stream | Class::Critical => Log::Stream(StreamLog::new(bounds)),
        };
        let channel = Channel {
            info,
            log,
            views,
            published: 0,
        };
        match state.channels.get_mut(id.0 as usize) {
            Some(retired) => *retired = channel,
            None => state.channels.push(channel),
        }
        state.by_name.insert(name.to_owned(), id);
        Ok(id)
    }

    /// Gives up a hidden channel that nobody reads, with what it holds; false when somebody does. Its number may
    /// be used again.
    pub(crate) fn retire(&self, id: ChannelId) -> bool {
        let mut state = lock(&self.state);
        let Some(channel) = state.channels.get_mut(id.0 as usize) else {
            return true;
        };
        if channel.info.has_readers() || !channel.info.hidden {
            return false;
        }
        channel.log = Log::State(StateLog::new(Bounds {
            events: 1,
            bytes: 0,
            age_us: 0,
        }));
        state.by_name.retain(|_, named| *named != id);
        state.retired.push(id);
        true
    }

    /// The channel that hosts and clients call so. Hidden ones have names as well, but they are nobody's to say.
    pub(crate) fn channel_id(&self, name: &str) -> Option<ChannelId> {
        let state = lock(&self.state);
        let id = *state.by_name.get(name)?;
        let channel = state.channels.get(id.0 as usize)?;
        (!channel.info.hidden).then_some(id)
    }

    #[cfg(test)]
    pub(crate) fn channel_info(&self, id: ChannelId) -> Option<Arc<ChannelInfo>> {
        lock(&self.state)
            .channels
            .get(id.0 as usize)
            .map(|channel| channel.info.clone())
    }

    /// The names that clients can ask for, in the order of registration.
    pub(crate) fn channel_names(&self) -> Vec<String> {
        let state = lock(&self.state);
        let public = state.channels.iter().filter(|channel| !channel.info.hidden);
        public.map(|channel| channel.info.name.clone()).collect()
    }

    /// Hands events to the hub's task. Never blocks, never awaits; what does not fit is refused and counted.
    pub(crate) fn publish(&self, channel: ChannelId, source: Arc<dyn Source>) -> Result<(), Error> {
        self.send(Message::Publish {
            channel,
            source,
            reply: None,
        })
    }

    /// Whether what others must not wait behind may be published: it takes the first half of the inbox only. `false`
    /// is counted as refused.
    #[cfg(feature = "tracing")]
    pub(crate) fn has_room_to_spare(&self) -> bool {
        let has_room = self.inbox.capacity() * 2 >= self.inbox.max_capacity();
        if !has_room {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
        }
        has_room
    }

    /// Tells newcomers of a state channel how things stand now, without telling those who read it already: for what
    /// is published when it changes in kind, and whose numbers change all the time. Nothing happens where nothing of
    /// the key was published.
    pub(crate) fn refresh(&self, channel: ChannelId, source: Arc<dyn Source>) {
        let unix_ms = self.clock.unix_ms();
        let mut state = lock(&self.state);
        let channel = state.channels.get_mut(channel.0 as usize);
        if let Some(Log::State(log)) = channel.map(|channel| &mut channel.log) {
            log.refresh(source, unix_ms);
        }
    }

    /// As [`publish`](Self::publish), and tells where the event went.
    pub(crate) async fn publish_and_wait(
        &self,
        channel: ChannelId,
        source: Arc<dyn Source>,
    ) -> Result<Published, Error> {
        let (reply, published) = oneshot::channel();
        self.send(Message::Publish {
            channel,
            source,
            reply: Some(reply),
        })?;
        published
            .await
            .map_err(|_| Error::new(Kind::Closed, "the hub has been shut down"))
    }

    fn send(&self, message: Message) -> Result<(), Error> {
        if self.is_closed() {
            return Err(Error::new(Kind::Closed, "the hub has been shut down"));
        }
        self.inbox.try_send(message).map_err(|refused| {
            let (message, error) = match refused {
                mpsc::error::TrySendError::Full(message) => (
                    message,
                    Error::new(
                        Kind::Full,
                        "the hub's inbox is full (setting inbox_capacity)",
                    ),
                ),
                mpsc::error::TrySendError::Closed(message) => (
                    message,
                    Error::new(Kind::Closed, "the hub has been shut down"),
                ),
            };
            if let Message::Publish { source, .. } = message {
                let events = source.len() as u64;
                self.counters.refused.fetch_add(events, Ordering::Relaxed);
            }
            error
        })
    }

    fn views(&self) -> Vec<Arc<View>> {
        lock(&self.state).views.values().cloned().collect()
    }
}

/// Unix seconds followed by six random digits: two hubs that start in the same second differ, and a restarted
/// one differs from its former self.
fn new_epoch(clock: &Clock) -> u64 {
    let mut random = [0; 8];
    // Without a source of randomness the microseconds of the start have to do.
    let random = match getrandom::fill(&mut random) {
        Ok(()) => u64::from_le_bytes(random),
        Err(_) => clock.unix_us_of(0),
    };
    clock.unix_seconds() * 1_000_000 + random % 1_000_000
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("epoch", &self.epoch)
            .field("active", &self.active())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, loom))]
mod loom_models;
#[cfg(all(test, not(loom)))]
mod properties;
#[cfg(all(test, not(loom)))]
mod tests;
