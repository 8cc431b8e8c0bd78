//! Hub: one sequence of events, a bounded log per channel, readers that hold cursors.
//!
//! One task appends and wakes ([`run`](Hub::run)); publishers only hand it things. Replay and live are the same
//! read, so there is no seam between them. The hub moves bytes: it knows no metrics, no HTTP and no viewer.

mod channel;
mod departures;
mod entry;
mod event;
mod filter;
mod ladder;
mod log;
mod position;
mod reader;
mod subscription;
mod task;
mod view;

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::Arc,
    time::Duration,
};

use tokio::sync::{Notify, mpsc, oneshot};

pub use channel::{ChannelConfig, Class, Priority};
pub(crate) use channel::{ChannelId, ChannelInfo, check_channel_name, check_event_type};
pub(crate) use entry::{Encoder, FORMS, Form, Frame};
pub(crate) use event::{Dialect, Narrowed, Source};
pub(crate) use filter::Tags;
pub use filter::{Filter, Level, LevelFilter};
pub use position::{Position, Start};
pub(crate) use reader::{CloseReason, Reader};
pub(crate) use subscription::{Gap, Read, Resume, Subscription, Verdict};
pub(crate) use view::{ChannelSet, ViewSpec};

use crate::{
    clock::Clock,
    error::{Error, Kind},
    sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering, lock},
};
use departures::Departures;
use entry::Entry;
use log::{Bounds, Log, StateLog, StreamLog};
use subscription::{GapReason, Queued};
use view::{Item, View, pack_first};

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
}

/// How much a read of the logs takes at once, about.
const READ_BYTES: usize = 64 * 1024;

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
    closed: AtomicBool,
    active: AtomicUsize,
    departures: Mutex<Departures>,
    /// Somebody left, or the hub was closed.
    left: Notify,
    next_reader: AtomicU64,
    counters: Counters,
}

/// Sums since the start; relaxed, they order nothing.
#[derive(Debug, Default)]
struct Counters {
    published: AtomicU64,
    refused: AtomicU64,
    gaps: AtomicU64,
    stalled: AtomicU64,
    joined: AtomicU64,
    resumes: [AtomicU64; 4],
}

struct State {
    channels: Vec<Channel>,
    /// Numbers of channels that were given up, to be used again.
    retired: Vec<ChannelId>,
    by_name: HashMap<String, ChannelId>,
    views: HashMap<ViewSpec, Arc<View>>,
    last_seq: u64,
}

struct Channel {
    info: Arc<ChannelInfo>,
    log: Log,
    views: Vec<Arc<View>>,
    published: u64,
}

/// What goes through the inbox.
enum Message {
    Publish {
        channel: ChannelId,
        source: Arc<dyn Source>,
        reply: Option<oneshot::Sender<Published>>,
    },
    Drain(Duration),
}

/// Where an event went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Published {
    pub(crate) position: Position,
    /// Readers that have the channel in their set.
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

/// Numbers of one channel, for `hub/stats`.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct ChannelStats {
    pub(crate) name: String,
    pub(crate) subscribers: usize,
    pub(crate) published: u64,
    pub(crate) delivered: u64,
    pub(crate) held: usize,
    pub(crate) held_bytes: usize,
    pub(crate) evicted: u64,
}

/// Numbers of the hub, for `hub/stats`.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct HubStats {
    pub(crate) total_clients: usize,
    pub(crate) channels: Vec<ChannelStats>,
    pub(crate) views: usize,
    pub(crate) published: u64,
    pub(crate) refused: u64,
    pub(crate) gaps: u64,
    pub(crate) stalled: u64,
    pub(crate) connections_total: u64,
    pub(crate) resumes: ResumeStats,
    pub(crate) inbox_used: usize,
    pub(crate) inbox_capacity: usize,
}

/// How subscriptions began, by verdict.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct ResumeStats {
    pub(crate) fresh: u64,
    pub(crate) full: u64,
    pub(crate) partial: u64,
    pub(crate) lost: u64,
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
                views: HashMap::new(),
                last_seq: 0,
            }),
            inbox,
            visible_head: AtomicU64::new(0),
            coarse_us: AtomicU64::new(clock.now_us()),
            closed: AtomicBool::new(false),
            active: AtomicUsize::new(0),
            departures: Mutex::new(Departures::default()),
            left: Notify::new(),
            next_reader: AtomicU64::new(1),
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

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    pub(crate) fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
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

    pub(crate) fn channel_id(&self, name: &str) -> Option<ChannelId> {
        lock(&self.state).by_name.get(name).copied()
    }

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
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            match refused {
                mpsc::error::TrySendError::Full(_) => Error::new(
                    Kind::Full,
                    "the hub's inbox is full (setting inbox_capacity)",
                ),
                mpsc::error::TrySendError::Closed(_) => {
                    Error::new(Kind::Closed, "the hub has been shut down")
                }
            }
        })
    }

    /// Ends every subscription over a window, evenly, then refuses new ones.
    pub(crate) fn drain(&self, window: Duration) {
        if self.inbox.try_send(Message::Drain(window)).is_err() {
            self.close_all(CloseReason::Shutdown);
        }
    }

    /// Resolves when nobody reads any more. Cancel safe.
    pub(crate) async fn deserted(&self) {
        loop {
            let left = self.left.notified();
            if self.active() == 0 {
                return;
            }
            left.await;
        }
    }

    /// Refuses newcomers and ends every subscription now. Idempotent; needs no task.
    pub(crate) fn close_all(&self, reason: CloseReason) {
        self.closed.store(true, Ordering::SeqCst);
        for view in self.views() {
            view.seal();
            view.for_each_reader(|reader| reader.close(reason));
        }
        self.left.notify_waiters();
    }

    fn views(&self) -> Vec<Arc<View>> {
        lock(&self.state).views.values().cloned().collect()
    }

    /// Joins the hub.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        spec: ViewSpec,
        start: Start,
    ) -> Result<Subscription, Refused> {
        if self.is_closed() {
            return Err(Refused::Closed);
        }
        let now_us = self.clock.now_us();
        let mut places = self.settings.max_clients;
        // What is no longer known at its arrival is found out below; that it was ours once is enough to go first.
        let comes_back = matches!(start, Start::After(position) if position.epoch == self.epoch);
        if !comes_back {
            places -= lock(&self.departures).reserve(now_us, places);
        }
        if self.active.fetch_add(1, Ordering::Relaxed) >= places {
            self.active.fetch_sub(1, Ordering::Relaxed);
            return Err(Refused::Full);
        }
        let beat_us = self.settings.heartbeat_interval.as_micros() as u64;
        let id = self.next_reader.fetch_add(1, Ordering::Relaxed);
        let reader = Arc::new(Reader::new(id, now_us, now_us + beat_us));

        let mut state = lock(&self.state);
        let view = state.view(&spec, self.settings.encoders[spec.form.0]);
        view.seal();
        let last_seq = state.last_seq;
        let begin = state.begin(&spec, start, self.epoch, now_us);
        let Opening {
            resume,
            queue,
            preface,
        } = self.opening(&state, &spec, &begin);
        for channel in state
            .channels
            .iter()
            .filter(|channel| spec.wants(&channel.info))
        {
            channel.info.readers.fetch_add(1, Ordering::Relaxed);
        }
        view.join(reader.clone());
        // A cursor beyond the view's head means that nothing in between concerns the view: standing at its head
        // lets the reader share its chunks.
        let cursor = begin.cursor.min(view.head());
        reader.cursor.store(cursor, Ordering::Relaxed);
        let from_logs = resume.verdict == Verdict::Partial;
        drop(state);

        if self.is_closed() {
            reader.close(CloseReason::Shutdown);
        }
        self.counters.joined.fetch_add(1, Ordering::Relaxed);
        self.counters.resumes[resume.verdict as usize].fetch_add(1, Ordering::Relaxed);
        let mut queue = queue;
        self.push_prefaces(&view, preface, begin.cursor, &mut queue);
        Ok(Subscription {
            hub: self.clone(),
            view,
            reader,
            cursor,
            told: begin.cursor,
            resume,
            queue,
            floors: begin.floors,
            done: Vec::new(),
            start_head: last_seq,
            chunks_after_close: subscription::CHUNKS_AFTER_CLOSE,
            ended: false,
            rate: None,
            from_logs,
        })
    }

    /// What a reader that begins there is told first.
    fn opening(&self, state: &State, spec: &ViewSpec, begin: &Begin) -> Opening {
        let mut opening = Opening {
            resume: Resume {
                verdict: begin.verdict,
                replayed: 0,
                missed_channels: Vec::new(),
            },
            queue: VecDeque::new(),
            preface: Vec::new(),
        };
        let last_seq = state.last_seq;
        let mut replay = VecDeque::new();
        for channel in state
            .channels
            .iter()
            .filter(|channel| spec.wants(&channel.info))
        {
            match &channel.log {
                // What is newer than the cursor comes by itself; what is older is shown all the same.
                Log::State(log) => {
                    let held = log
                        .after(0)
                        .into_iter()
                        .filter(|entry| entry.first <= begin.cursor);
                    opening.preface.extend(held);
                }
                Log::Stream(log) => {
                    let floor = begin.floor_of(channel.info.id).max(begin.cursor);
                    if begin.verdict == Verdict::Lost {
                        opening
                            .resume
                            .missed_channels
                            .push(channel.info.name.clone());
                        opening.queue.push_back(Queued::Gap {
                            gap: Gap {
                                channel: channel.info.name.clone(),
                                missed: None,
                                reason: GapReason::Evicted,
                                resumed_at: self.position_of(last_seq),
                            },
                            of: channel.info.id,
                            through: None,
                        });
                    } else if log.missed(floor, last_seq) > 0 {
                        opening
                            .resume
                            .missed_channels
                            .push(channel.info.name.clone());
                        opening.resume.verdict = Verdict::Partial;
                    }
                    for entry in log.after(begin.cursor) {
                        spec.select(entry, entry.range_after(begin.cursor), &mut replay);
                    }
                }
            }
        }
        opening.resume.replayed = replay.iter().map(|item| item.range.len() as u64).sum();
        opening
    }

    /// Snapshots from before the reader's start. They carry the reader's own position, so that the position a client
    /// remembers never goes back.
    fn push_prefaces(
        &self,
        view: &View,
        mut preface: Vec<Arc<Entry>>,
        cursor: u64,
        queue: &mut VecDeque<Queued>,
    ) {
        preface.sort_unstable_by_key(|entry| entry.first);
        for entry in preface {
            let mut wanted = VecDeque::new();
            view.spec.select(&entry, 0..entry.len, &mut wanted);
            if wanted.is_empty() {
                continue;
            }
            let mut bytes = Vec::new();
            let frame = Frame {
                position: self.position_of(cursor),
                channel: &entry.channel.name,
                unix_ms: entry.unix_ms,
                source: &*entry.source,
                index: 0,
            };
            view.encoder()(&frame, &mut bytes);
            queue.push_back(Queued::Preface {
                entry,
                bytes: bytes.into(),
            });
        }
    }

    /// See [`Subscription::retarget`].
    fn retarget(&self, subscription: &mut Subscription, spec: ViewSpec) {
        // Where the reader has seen everything, it stands at the end, and what is new to it begins now.
        let head = self.visible_head();
        let is_unread = |queued: &Queued| {
            matches!(
                queued,
                Queued::Packed(_)
                    | Queued::Ahead { .. }
                    | Queued::Gap {
                        through: Some(_),
                        ..
                    }
            )
        };
        let unread = subscription.queue.iter().any(is_unread);
        let mut place = subscription.told;
        if !unread {
            place = place.max(subscription.cursor);
            if subscription.view.head() <= subscription.cursor {
                place = place.max(head);
            }
        }

        let old = subscription.view.clone();
        let mut state = lock(&self.state);
        let Some(view) = self.transfer(&mut state, &old, &subscription.reader, &spec) else {
            return;
        };
        let mut preface = Vec::new();
        for channel in state
            .channels
            .iter()
            .filter(|channel| spec.wants(&channel.info))
        {
            let is_new = !old.spec.wants(&channel.info);
            if is_new {
                subscription.done.retain(|(id, _)| *id != channel.info.id);
            }
            match &channel.log {
                Log::State(log) => {
                    let held = log
                        .after(0)
                        .into_iter()
                        .filter(|entry| entry.first <= place);
                    preface.extend(held.filter(|entry| is_new || !old.spec.selects(entry)));
                }
                // What such a channel let go before is no loss for somebody who did not read it.
                Log::Stream(log) if is_new => {
                    subscription.set_floor(channel.info.id, log.evicted_through())
                }
                Log::Stream(_) => {}
            }
        }
        // What should have come ahead is weighed again, with the gap that goes with it.
        let undone: Vec<_> = subscription.queue.iter().filter_map(Queued::undo).collect();
        for (channel, since) in &undone {
            subscription.undo(*channel, *since);
        }
        let wants = |id: ChannelId| {
            state
                .channels
                .get(id.0 as usize)
                .is_some_and(|channel| spec.wants(&channel.info))
        };
        subscription.queue.retain(|queued| match queued {
            Queued::Packed(_) | Queued::Ahead { .. } => false,
            // What is read again from there is told again.
            Queued::Gap { of, through, .. } => {
                through.is_none() && wants(*of) && !undone.iter().any(|(channel, _)| channel == of)
            }
            // Its position is the one from before.
            Queued::Preface { entry, .. } => {
                if wants(entry.channel.id) && spec.selects(entry) {
                    preface.push(entry.clone());
                }
                false
            }
        });
        drop(state);

        self.push_prefaces(&view, preface, place, &mut subscription.queue);
        subscription.cursor = place.min(view.head());
        subscription.told = place;
        subscription.from_logs |= unread;
        subscription
            .reader
            .cursor
            .store(subscription.cursor, Ordering::Relaxed);
        subscription.view = view;
    }

    /// See [`Subscription::restart`].
    #[cfg_attr(not(feature = "ws"), allow(dead_code))]
    fn restart(&self, subscription: &mut Subscription, spec: ViewSpec, start: Start) {
        let old = subscription.view.clone();
        let mut state = lock(&self.state);
        let Some(view) = self.transfer(&mut state, &old, &subscription.reader, &spec) else {
            return;
        };
        let begin = state.begin(&spec, start, self.epoch, self.now_us());
        let Opening {
            resume,
            mut queue,
            preface,
        } = self.opening(&state, &spec, &begin);
        subscription.start_head = state.last_seq;
        drop(state);

        self.counters.resumes[resume.verdict as usize].fetch_add(1, Ordering::Relaxed);
        self.push_prefaces(&view, preface, begin.cursor, &mut queue);
        subscription.cursor = begin.cursor.min(view.head());
        subscription.told = begin.cursor;
        subscription.from_logs = resume.verdict == Verdict::Partial;
        subscription.floors = begin.floors;
        subscription.done.clear();
        subscription.queue = queue;
        subscription.resume = resume;
        subscription
            .reader
            .cursor
            .store(subscription.cursor, Ordering::Relaxed);
        subscription.view = view;
    }

    /// Takes a reader from its view to that of another spec; `None` when it has left the hub already.
    fn transfer(
        &self,
        state: &mut State,
        from: &Arc<View>,
        reader: &Arc<Reader>,
        spec: &ViewSpec,
    ) -> Option<Arc<View>> {
        if !from.has(reader) {
            return None;
        }
        let view = state.view(spec, self.settings.encoders[spec.form.0]);
        view.seal();
        for channel in &state.channels {
            match (from.spec.wants(&channel.info), spec.wants(&channel.info)) {
                (false, true) => drop(channel.info.readers.fetch_add(1, Ordering::Relaxed)),
                (true, false) => drop(channel.info.readers.fetch_sub(1, Ordering::Relaxed)),
                _ => {}
            }
        }
        if !Arc::ptr_eq(from, &view) {
            let deserted = from.leave(reader);
            view.join(reader.clone());
            if deserted {
                state.forget(from);
            }
        }
        Some(view)
    }

    /// Takes a reader out of the hub. Nothing happens where the view does not have it: one that is stuck is taken out
    /// before its subscription is dropped, so that it holds no place, and one may have gone to another view meanwhile.
    fn leave(&self, view: &Arc<View>, reader: &Reader) {
        let mut state = lock(&self.state);
        if !view.has(reader) {
            return;
        }
        let deserted = view.leave(reader);
        for channel in state
            .channels
            .iter()
            .filter(|channel| view.spec.wants(&channel.info))
        {
            channel.info.readers.fetch_sub(1, Ordering::Relaxed);
        }
        if deserted {
            state.forget(view);
        }
        drop(state);
        self.active.fetch_sub(1, Ordering::Relaxed);
        lock(&self.departures).count(self.now_us());
        drop(reader.vacate());
        self.left.notify_waiters();
    }

    /// Ends a reader and frees its place now, whether or not its subscription is ever polled again.
    pub(crate) fn dismiss(&self, reader: &Arc<Reader>, reason: CloseReason) {
        reader.close(reason);
        for view in self.views() {
            if view.has(reader) {
                self.leave(&view, reader);
            }
        }
    }

    /// Reads what a view no longer has: queues gaps and events for a subscription and moves its cursor behind them.
    fn read_logs(&self, subscription: &mut Subscription, limit: u64) {
        let spec = subscription.view.spec.clone();
        let state = lock(&self.state);
        subscription.forget_done();
        self.step_down(&state, subscription, limit);
        let cursor = subscription.cursor;
        let channels = || {
            state
                .channels
                .iter()
                .filter(|channel| spec.wants(&channel.info))
        };

        let mut to = limit;
        let mut entries: Vec<Arc<Entry>> = Vec::new();
        for channel in channels() {
            match &channel.log {
                Log::State(log) => entries.extend(log.after(cursor)),
                Log::Stream(log) => {
                    let mut weight = 0;
                    for entry in log.after(subscription.done_of(channel.info.id)) {
                        weight += entry.weight;
                        if entry.first > to {
                            break;
                        }
                        entries.push(entry.clone());
                        if weight > READ_BYTES {
                            to = to.min(entry.last());
                            break;
                        }
                    }
                }
            }
        }
        entries.sort_unstable_by_key(|entry| entry.first);
        let mut weight = 0;
        for entry in &entries {
            weight += entry.weight;
            if weight > READ_BYTES {
                to = to.min(entry.last());
                break;
            }
        }
        entries.retain(|entry| entry.first <= to);

        for channel in channels() {
            let Some(log) = channel.log.as_stream() else {
                continue;
            };
            let missed = log.missed(subscription.told_of(channel.info.id), to);
            if missed > 0 {
                let lagged = log.evicted_through().min(to) > subscription.start_head;
                subscription.queue.push_back(Queued::Gap {
                    gap: Gap {
                        channel: channel.info.name.clone(),
                        missed: evicted(&spec, missed),
                        reason: if lagged {
                            GapReason::Lagged
                        } else {
                            GapReason::Evicted
                        },
                        resumed_at: self.position_of(log.first_seq().unwrap_or(to)),
                    },
                    of: channel.info.id,
                    through: Some(log.evicted_through().min(to)),
                });
            }
        }
        drop(state);

        let mut items = VecDeque::new();
        for entry in &entries {
            let done = match entry.channel.class {
                Class::State => cursor,
                Class::Stream | Class::Critical => subscription.done_of(entry.channel.id),
            };
            spec.select(entry, entry.range_after(done), &mut items);
        }
        self.thin_out(subscription, &mut items);
        while let Some(mut packed) = pack_first(&mut items, spec.form, subscription.view.encoder())
        {
            if items.is_empty() {
                packed.to = to;
            }
            subscription.queue.push_back(Queued::Packed(packed));
        }
        subscription.cursor = to;
        subscription.reader.cursor.store(to, Ordering::Relaxed);
    }

    /// Takes out what a reader with a rate of its own does not want, and queues a gap for it.
    fn thin_out(&self, subscription: &mut Subscription, items: &mut VecDeque<Item>) {
        let Some(rate) = &mut subscription.rate else {
            return;
        };
        let now_us = self.now_us();
        let mut skipped: Vec<(Arc<ChannelInfo>, u64, u64)> = Vec::new();
        for Item { entry, range } in std::mem::take(items) {
            for index in range {
                if entry.channel.class != Class::Stream || rate.take(now_us) {
                    let range = index..index + 1;
                    items.push_back(Item {
                        entry: entry.clone(),
                        range,
                    });
                    continue;
                }
                let seq = entry.first + u64::from(index);
                match skipped
                    .iter_mut()
                    .find(|(channel, ..)| channel.id == entry.channel.id)
                {
                    Some((_, count, last)) => {
                        *count += 1;
                        *last = seq;
                    }
                    None => skipped.push((entry.channel.clone(), 1, seq)),
                }
            }
        }
        for (channel, missed, last) in skipped {
            subscription.queue.push_back(Queued::Gap {
                gap: Gap {
                    channel: channel.name.clone(),
                    missed: Some(missed),
                    reason: GapReason::Rate,
                    resumed_at: self.position_of(last),
                },
                of: channel.id,
                through: Some(0),
            });
        }
    }

    /// How many events each reader that is behind has before it, by the reader's number. Those of its channels are
    /// counted, whatever its filter; snapshots do not count.
    pub(crate) fn lags(&self) -> HashMap<u64, u64> {
        let mut behind = HashMap::new();
        let state = lock(&self.state);
        for view in state.views.values() {
            let head = view.head();
            let logs: Vec<_> = state
                .channels
                .iter()
                .filter(|channel| view.spec.wants(&channel.info))
                .filter_map(|channel| channel.log.as_stream())
                .collect();
            view.for_each_reader(|reader| {
                let cursor = reader.cursor.load(Ordering::Relaxed);
                if cursor < head {
                    let lag = logs
                        .iter()
                        .map(|log| log.held_after(cursor) + log.missed(cursor, head))
                        .sum();
                    behind.insert(reader.id, lag);
                }
            });
        }
        behind
    }

    pub(crate) fn stats(&self) -> HubStats {
        let state = lock(&self.state);
        let mut channels: Vec<ChannelStats> = Vec::new();
        for channel in &state.channels {
            let (held, held_bytes, evicted) = match &channel.log {
                Log::Stream(log) => (log.events(), log.bytes(), log.evicted_events()),
                Log::State(log) => (log.len(), log.bytes(), 0),
            };
            let subscribers = channel.info.readers.load(Ordering::Relaxed);
            let delivered = channel.info.delivered.load(Ordering::Relaxed);
            let named = channels
                .iter_mut()
                .find(|stats| stats.name == channel.info.name);
            // A variant counts with the channel whose name it bears.
            if let Some(stats) = named {
                stats.subscribers += subscribers;
                stats.published += channel.published;
                stats.delivered += delivered;
                stats.held += held;
                stats.held_bytes += held_bytes;
                continue;
            }
            channels.push(ChannelStats {
                name: channel.info.name.clone(),
                subscribers,
                published: channel.published,
                delivered,
                held,
                held_bytes,
                evicted,
            });
        }
        let resumes =
            |verdict: Verdict| self.counters.resumes[verdict as usize].load(Ordering::Relaxed);
        HubStats {
            total_clients: self.active(),
            channels,
            views: state.views.len(),
            published: self.counters.published.load(Ordering::Relaxed),
            refused: self.counters.refused.load(Ordering::Relaxed),
            gaps: self.counters.gaps.load(Ordering::Relaxed),
            stalled: self.counters.stalled.load(Ordering::Relaxed),
            connections_total: self.counters.joined.load(Ordering::Relaxed),
            resumes: ResumeStats {
                fresh: resumes(Verdict::Fresh),
                full: resumes(Verdict::Full),
                partial: resumes(Verdict::Partial),
                lost: resumes(Verdict::Lost),
            },
            inbox_used: self.inbox.max_capacity() - self.inbox.capacity(),
            inbox_capacity: self.inbox.max_capacity(),
        }
    }
}

/// What a subscription yields before anything else.
struct Opening {
    resume: Resume,
    queue: VecDeque<Queued>,
    /// The snapshots that are there already.
    preface: Vec<Arc<Entry>>,
}

/// How many evicted events a reader is told of. Whose they were is no longer known, and how many events other tenants
/// had is none of a tenant's business.
fn evicted(spec: &ViewSpec, missed: u64) -> Option<u64> {
    spec.tenant.is_none().then_some(missed)
}

/// Where a subscription begins.
struct Begin {
    cursor: u64,
    verdict: Verdict,
    /// Evictions up to these places are no loss for a reader that asked for what there is.
    floors: Vec<(ChannelId, u64)>,
}

impl Begin {
    fn floor_of(&self, id: ChannelId) -> u64 {
        self.floors
            .iter()
            .find(|(channel, _)| *channel == id)
            .map_or(0, |(_, floor)| *floor)
    }
}

impl State {
    /// The view of a spec; a new one begins at the end of the sequence.
    fn view(&mut self, spec: &ViewSpec, encoder: Encoder) -> Arc<View> {
        if let Some(view) = self.views.get(spec) {
            return view.clone();
        }
        let view = Arc::new(View::new(spec.clone(), encoder, self.last_seq));
        for channel in self
            .channels
            .iter_mut()
            .filter(|channel| spec.wants(&channel.info))
        {
            channel.views.push(view.clone());
        }
        self.views.insert(spec.clone(), view.clone());
        view
    }

    /// Drops a view that nobody reads.
    fn forget(&mut self, view: &Arc<View>) {
        self.views.remove(&view.spec);
        for channel in &mut self.channels {
            channel.views.retain(|other| !Arc::ptr_eq(other, view));
        }
    }

    fn begin(&self, spec: &ViewSpec, start: Start, epoch: u64, now_us: u64) -> Begin {
        let streams = || {
            let wanted = self
                .channels
                .iter()
                .filter(|channel| spec.wants(&channel.info));
            wanted.filter_map(|channel| Some((channel.info.id, channel.log.as_stream()?)))
        };
        let at = |cursor, verdict| Begin {
            cursor,
            verdict,
            floors: Vec::new(),
        };
        let what_is_held = |cursor| Begin {
            cursor,
            verdict: Verdict::Full,
            floors: streams()
                .map(|(id, log)| (id, log.evicted_through()))
                .collect(),
        };
        match start {
            Start::Latest => at(self.last_seq, Verdict::Fresh),
            Start::Unknown => at(self.last_seq, Verdict::Lost),
            Start::After(position) if position.epoch == epoch && position.seq <= self.last_seq => {
                at(position.seq, Verdict::Full)
            }
            Start::After(_) => at(self.last_seq, Verdict::Lost),
            Start::Earliest => {
                let first = streams().filter_map(|(_, log)| log.first_seq()).min();
                what_is_held(first.map_or(self.last_seq, |first| first - 1))
            }
            Start::Ago(ago) => {
                let since_us = now_us.saturating_sub(ago.as_micros() as u64);
                let first = streams()
                    .filter_map(|(_, log)| log.first_since(since_us))
                    .min();
                what_is_held(first.map_or(self.last_seq, |first| first - 1))
            }
            Start::Last(count) => {
                let count = count as usize;
                let mut newest = Vec::new();
                for (_, log) in streams() {
                    let mut items = VecDeque::new();
                    let mut taken = 0;
                    for entry in log.newest_first() {
                        if taken >= count {
                            break;
                        }
                        spec.select(entry, 0..entry.len, &mut items);
                        taken = items.iter().map(|item| item.range.len()).sum();
                    }
                    for Item { entry, range } in items {
                        newest.extend(range.map(|index| entry.first + u64::from(index)));
                    }
                }
                newest.sort_unstable();
                let first = newest.get(newest.len().saturating_sub(count));
                what_is_held(first.map_or(self.last_seq, |first| first - 1))
            }
        }
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

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
