//! Joining: where a reader begins, how it changes what it reads, and how it leaves.

use std::{collections::VecDeque, sync::Arc};

use super::{
    CloseReason, Hub, HubSettings, Refused, Start, State,
    beginning::Begin,
    channel::{ChannelId, ChannelInfo},
    entry::{Entry, Frame},
    log::Log,
    position::Position,
    read::{Gap, GapReason, Resume, Verdict},
    reader::Reader,
    spec::ViewSpec,
    subscription::{self, Queued, Subscription, place_of},
    view::View,
};
use crate::sync::{Ordering, lock};

impl Hub {
    /// Joins the hub.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        spec: ViewSpec,
        start: Start,
    ) -> Result<Subscription, Refused> {
        if self.is_draining() {
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
        if comes_back {
            lock(&self.departures).back(now_us);
        }
        let beat_us = self.settings.heartbeat_interval.as_micros() as u64;
        let id = self.readers.next();
        let reader = Arc::new(Reader::new(id, now_us, now_us + beat_us));

        let mut state = lock(&self.state);
        let view = state.view(&spec, &self.settings);
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
        reader.begin_at(begin.cursor);
        let from_logs = resume.verdict == Verdict::Partial;
        drop(state);

        if self.is_draining() {
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
            resume: resume.kept(),
            queue,
            floors: begin.floors,
            done: Vec::new(),
            start_head: last_seq,
            chunks_after_close: subscription::CHUNKS_AFTER_CLOSE,
            is_ending: false,
            ended: false,
            rate: None,
            compressed: None,
            from_logs,
            waker: None,
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
                    let floor = place_of(&begin.floors, channel.info.id).max(begin.cursor);
                    if begin.verdict == Verdict::Lost {
                        opening.misses(&channel.info, Some(self.position_of(last_seq)));
                    } else if begin.reaches_back && log.evicted_through() > 0 {
                        // Which of what it let go passes the filter is not known any more, so neither is how many.
                        let first = log.first_seq().unwrap_or(last_seq);
                        opening.resume.verdict = Verdict::Partial;
                        opening.misses(&channel.info, Some(self.position_of(first)));
                    } else if log.missed(floor, last_seq) > 0 {
                        opening.resume.verdict = Verdict::Partial;
                        opening.misses(&channel.info, None);
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
            bytes.shrink_to_fit();
            queue.push_back(Queued::Preface {
                entry,
                bytes: bytes.into(),
            });
        }
    }

    /// See [`Subscription::retarget`].
    pub(super) fn retarget(&self, subscription: &mut Subscription, spec: ViewSpec) {
        // Where the reader has seen everything, it stands at the end, and what is new to it begins now.
        let head = self.visible_head();
        // A gap as well, wherever it comes from: who breaks off before it is told comes back from before it.
        let is_unread = |queued: &Queued| {
            matches!(
                queued,
                Queued::Packed(_) | Queued::Ahead { .. } | Queued::Skipped(_) | Queued::Gap { .. }
            )
        };
        let unread = subscription.queue.iter().any(is_unread) || subscription.is_owed_gaps();
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
        subscription.retain_skipped(|skipped| wants(skipped.channel.id));
        subscription.retain_decided(wants);
        subscription.queue.retain_mut(|queued| match queued {
            Queued::Packed(_) | Queued::Ahead { .. } => false,
            // The rest of it is read again.
            Queued::Skipped(skipped) => wants(skipped.channel.id) && skipped.keep_settled(),
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
        subscription.set_told(place);
        subscription.from_logs |= unread;
        subscription
            .reader
            .cursor
            .store(subscription.cursor, Ordering::Relaxed);
        subscription.look_at(view);
    }

    /// See [`Subscription::restart`].
    #[cfg_attr(not(feature = "ws"), allow(dead_code))]
    pub(super) fn restart(&self, subscription: &mut Subscription, spec: ViewSpec, start: Start) {
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
        subscription.reader.begin_at(begin.cursor);
        subscription.from_logs = resume.verdict == Verdict::Partial;
        subscription.floors = begin.floors;
        subscription.done.clear();
        subscription.retain_skipped(|_| false);
        subscription.retain_decided(|_| false);
        subscription.queue = queue;
        subscription.resume = resume.kept();
        subscription
            .reader
            .cursor
            .store(subscription.cursor, Ordering::Relaxed);
        subscription.look_at(view);
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
        let view = state.view(spec, &self.settings);
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
    pub(super) fn leave(&self, view: &Arc<View>, reader: &Reader) {
        let mut state = lock(&self.state);
        if !view.has(reader) {
            return;
        }
        let now_us = self.now_us();
        // The system may give up a socket that takes nothing before the hub does: it counts from when the peer's window
        // closed, and what lies between here and there takes some more after that.
        let patience_us = self.settings.stall_timeout.as_micros() as u64 / 4;
        if reader.closing().is_none() && reader.is_stuck(now_us, patience_us, view.head()) {
            self.counters.stalled.fetch_add(1, Ordering::Relaxed);
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
        let active = self.active.fetch_sub(1, Ordering::Relaxed) - 1;
        let bytes = reader.bytes.load(Ordering::Relaxed);
        self.counters.left_bytes.fetch_add(bytes, Ordering::Relaxed);
        lock(&self.departures).left(now_us, active);
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
}

/// What a subscription yields before anything else.
struct Opening {
    resume: Resume,
    queue: VecDeque<Queued>,
    /// The snapshots that are there already.
    preface: Vec<Arc<Entry>>,
}

impl Opening {
    /// Events of the channel are missing. Where nobody knows how many, they are told at once, by a gap up to there;
    /// otherwise the logs tell when they are read.
    fn misses(&mut self, channel: &ChannelInfo, resumed_at: Option<Position>) {
        self.resume.missed_channels.push(channel.name.clone());
        let gap = resumed_at.map(|resumed_at| Gap {
            channel: channel.name.clone(),
            missed: None,
            reason: GapReason::Evicted,
            resumed_at,
        });
        self.queue.extend(gap.map(|gap| Queued::Gap {
            gap,
            of: channel.id,
            through: None,
        }));
    }
}

/// How many evicted events a reader is told of. Whose they were is no longer known, and how many events other tenants
/// had is none of a tenant's business.
pub(super) fn evicted(spec: &ViewSpec, missed: u64) -> Option<u64> {
    spec.tenant.is_none().then_some(missed)
}

impl State {
    /// The view of a spec; a new one begins at the end of the sequence.
    fn view(&mut self, spec: &ViewSpec, settings: &HubSettings) -> Arc<View> {
        if let Some(view) = self.views.get(spec) {
            return view.clone();
        }
        let view = Arc::new(View::new(
            spec.clone(),
            settings.encoders[spec.form.0],
            settings.compressor.clone(),
            self.last_seq,
        ));
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
}
