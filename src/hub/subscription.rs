//! Subscriptions: a reader's cursor over its view, and the order in which it is told things.

use std::{
    collections::VecDeque,
    fmt,
    num::NonZeroU32,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

use super::{
    Hub,
    channel::{ChannelId, ChannelInfo},
    compression::{Compressed, Step},
    entry::Entry,
    packed::Packed,
    position::{Position, Start},
    rate::{RateLimit, Skipped},
    read::{Gap, Read, Resume, Verdict},
    reader::{CloseReason, Reader},
    spec::ViewSpec,
    view::{View, ViewRead},
};
use crate::{clock::Clock, sync::Ordering};

/// After a close, a reader still gets this many chunks of what it has not read, behind all that is critical of it: enough
/// for one that keeps up, and no more, because the host waits. The rest lies behind the position that it is told with
/// the end.
pub(super) const CHUNKS_AFTER_CLOSE: u8 = 4;

/// A reader of the hub. Dropping it leaves the hub at once.
pub(crate) struct Subscription {
    pub(super) hub: Arc<Hub>,
    pub(super) view: Arc<View>,
    pub(super) reader: Arc<Reader>,
    /// Everything up to here that the view wants has been read or reported.
    pub(super) cursor: u64,
    /// The highest number of which the client has been told; never below the cursor's start. Others see it in the
    /// reader: see `set_told`.
    pub(super) told: u64,
    /// `None`: fresh, and nothing to say of it, as with nearly all of them.
    pub(super) resume: Option<Box<Resume>>,
    /// Read already, to be yielded first.
    pub(super) queue: VecDeque<Queued>,
    /// Up to where each channel's evictions do not concern this reader.
    pub(super) floors: Vec<(ChannelId, u64)>,
    /// Events of a channel up to there were handed over ahead of their turn, or reported as skipped.
    pub(super) done: Vec<(ChannelId, u64)>,
    /// Evictions up to here happened before the reader came.
    pub(super) start_head: u64,
    pub(super) chunks_after_close: u8,
    /// It has been seen to be closed.
    pub(super) is_ending: bool,
    pub(super) ended: bool,
    pub(super) rate: Option<Box<RateLimit>>,
    pub(super) compressed: Option<Box<Compressed>>,
    /// The verdict said that events are missing, so what is missing is told from the logs, even where the view
    /// happens to have it still.
    pub(super) from_logs: bool,
    /// The waker that its reader has.
    pub(super) waker: Option<Waker>,
}

/// Results of a read that gave more than one.
#[derive(Debug)]
pub(super) enum Queued {
    Gap {
        gap: Gap,
        of: ChannelId,
        /// Up to where it tells of evictions; `None` where it speaks of a position that is not known.
        through: Option<u64>,
    },
    Skipped(Skipped),
    Packed(Packed),
    /// State that is older than the cursor: it moves nothing.
    Preface {
        entry: Arc<Entry>,
        bytes: Bytes,
    },
    /// Events ahead of their turn: they move nothing either. The channel was done up to `since` before.
    Ahead {
        channel: Arc<ChannelInfo>,
        bytes: Bytes,
        count: u64,
        since: u64,
    },
}

impl Queued {
    /// How to take it back.
    pub(super) fn undo(&self) -> Option<(ChannelId, u64)> {
        match self {
            Self::Ahead { channel, since, .. } => Some((channel.id, *since)),
            _ => None,
        }
    }
}

impl Subscription {
    pub(crate) fn resume(&self) -> &Resume {
        const FRESH: &Resume = &Resume {
            verdict: Verdict::Fresh,
            replayed: 0,
            missed_channels: Vec::new(),
        };
        self.resume.as_deref().unwrap_or(FRESH)
    }

    /// Where the client stands: everything up to here has been told, filtered out, or reported as a gap.
    pub(crate) fn position(&self) -> Position {
        self.hub.position_of(self.told)
    }

    /// The client has been told up to there.
    #[inline]
    pub(super) fn set_told(&mut self, told: u64) {
        self.told = told;
        self.reader.told.store(told, Ordering::Relaxed);
    }

    /// At most so many events of stream channels a second; the rest is skipped and reported.
    pub(crate) fn limit_rate(&mut self, events: NonZeroU32) {
        self.tell_skipped();
        let mut rate = RateLimit::new(events, self.hub.now_us());
        if let Some(before) = &mut self.rate {
            rate.decided = std::mem::take(&mut before.decided);
        }
        self.rate = Some(Box::new(rate));
    }

    /// As many events as there are, again.
    #[cfg(feature = "ws")]
    pub(crate) fn lift_rate(&mut self) {
        self.tell_skipped();
        self.rate = None;
    }

    pub(crate) fn clock(&self) -> Clock {
        self.hub.clock
    }

    pub(crate) fn connection_id(&self) -> u64 {
        self.reader.id
    }

    /// What others may see and change of it.
    pub(crate) fn reader(&self) -> &Arc<Reader> {
        &self.reader
    }

    /// What it reads.
    pub(crate) fn spec(&self) -> &ViewSpec {
        &self.view.spec
    }

    /// Reads something else from where it is. What both have goes on without loss or repeat; what was not yet handed
    /// over of the rest is not; snapshots that are new to the reader come first. Poll it afterwards: nobody wakes it.
    pub(crate) fn retarget(&mut self, spec: ViewSpec) {
        // Whoever asks now knows of what was wished before.
        drop(self.reader.take_wish());
        if spec != self.view.spec {
            self.hub.clone().retarget(self, spec);
        }
    }

    /// Begins again somewhere else, as [`Hub::subscribe`] would: [`resume`](Self::resume) tells how that went. Poll it
    /// afterwards: nobody wakes it.
    #[cfg_attr(not(feature = "ws"), allow(dead_code))]
    pub(crate) fn restart(&mut self, spec: ViewSpec, start: Start) {
        drop(self.reader.take_wish());
        self.hub.clone().restart(self, spec, start);
    }

    /// Reads from another view. Blocks of its groups mean nothing there.
    pub(super) fn look_at(&mut self, view: Arc<View>) {
        self.view = view;
        self.lose_link();
    }

    /// Evictions up to there do not concern the reader any more.
    pub(super) fn set_floor(&mut self, channel: ChannelId, through: u64) {
        if through == 0 {
            return;
        }
        match self.floors.iter_mut().find(|(id, _)| *id == channel) {
            Some((_, floor)) => *floor = through.max(*floor),
            None => self.floors.push((channel, through)),
        }
    }

    /// Up to where a channel's events have been handed over or reported.
    pub(super) fn done_of(&self, channel: ChannelId) -> u64 {
        place_of(&self.done, channel).max(self.cursor)
    }

    /// Up to where a channel's evictions do not concern the reader. Where it stands may be further than its cursor:
    /// nothing in between was for it.
    pub(super) fn told_of(&self, channel: ChannelId) -> u64 {
        let done = self.done_of(channel).max(self.told);
        place_of(&self.floors, channel).max(done)
    }

    pub(super) fn set_done(&mut self, channel: ChannelId, through: u64) {
        match self.done.iter_mut().find(|(id, _)| *id == channel) {
            Some((_, done)) => *done = through.max(*done),
            None => self.done.push((channel, through)),
        }
    }

    pub(super) fn undo(&mut self, channel: ChannelId, since: u64) {
        for (_, through) in self.done.iter_mut().filter(|(id, _)| *id == channel) {
            *through = since;
        }
    }

    /// Forgets what the client's own position says by now. Not the cursor: a change of what is read goes back to
    /// that position.
    pub(super) fn forget_done(&mut self) {
        let told = self.told;
        self.done.retain(|(_, through)| *through > told);
    }

    fn is_ahead(&self) -> bool {
        self.done.iter().any(|(_, through)| *through > self.cursor)
    }

    /// It has come for more of what it was handed, as [`poll_read`](Self::poll_read) notes by itself.
    pub(crate) fn makes_progress(&self) {
        self.reader.polled(self.hub.coarse_now_us());
    }

    /// The next thing for this reader. Cancel safe. Yields [`Read::Closed`] once, then `None`.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<Read>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.still_waits(cx) {
            return Poll::Pending;
        }
        self.makes_progress();
        loop {
            if let Some(spec) = self.reader.take_wish() {
                self.retarget(spec);
            }
            if !self.is_idle()
                && let Some(read) = self.try_read()
            {
                return Poll::Ready(Some(read));
            }
            self.reader.arm(cx, &mut self.waker);
            if self.view.head() <= self.cursor && !self.reader.has_signal() {
                return Poll::Pending;
            }
            self.reader.disarm();
        }
    }

    /// Whether it waits already and nobody has woken it: servers poll once more than they have to. Whoever has news for
    /// it wakes it after that.
    #[inline]
    fn still_waits(&self, cx: &Context<'_>) -> bool {
        let known = self.waker.as_ref();
        self.reader.is_armed()
            && known.is_some_and(|waker| waker.will_wake(cx.waker()))
            // What its owner has changed since: nobody wakes it for that.
            && self.queue.is_empty()
            && self.view.head() <= self.cursor
    }

    /// Whether there is nothing for it: what every second poll finds, as a server polls until it has to wait.
    #[inline]
    fn is_idle(&mut self) -> bool {
        // Before the view is asked: what is published later may be missing from the answer.
        let head = self.hub.visible_head();
        if !self.queue.is_empty() || self.view.head() > self.cursor || self.reader.has_signal() {
            return false;
        }
        if self.is_owed_gaps() {
            return !self.gaps_are_due();
        }
        self.has_all(head);
        true
    }

    /// Nothing lies before it up to there.
    #[inline]
    fn has_all(&mut self, head: u64) {
        self.set_told(self.told.max(head).max(self.cursor));
        if let Some(rate) = &mut self.rate {
            rate.decided = Vec::new();
        }
    }

    /// As [`poll_read`](Self::poll_read), without waiting.
    pub(crate) fn try_read(&mut self) -> Option<Read> {
        let closing = self.reader.closing();
        if let Some(reason) = closing
            && (self.chunks_after_close == 0 || reason != CloseReason::Shutdown)
        {
            return Some(self.end(reason));
        }
        if closing.is_some() && !self.is_ending {
            self.is_ending = true;
            if !self.is_at_its_last() {
                self.hub.clone().begin_end(self);
            }
        }
        if let Some(read) = self.next_queued() {
            return Some(read);
        }
        // Before the view is asked: what is published later may be missing from the answer.
        let head = self.hub.visible_head();
        loop {
            let read = match self.view.read(self.cursor) {
                // Which events pass is this reader's own matter: it can't share a chunk.
                ViewRead::Chunk(_) if self.rate.is_some() || self.from_logs || self.is_ahead() => {
                    ViewRead::Behind(self.view.head())
                }
                // It may be time to spare it something.
                ViewRead::Chunk(packed) if self.hub.is_late(packed.at_us) => {
                    ViewRead::Behind(self.view.head())
                }
                read => read,
            };
            match read {
                ViewRead::Chunk(packed) => {
                    self.count_chunk();
                    return Some(match self.compressed_step(&packed) {
                        Some(Step::Beat(beat)) => self.hand_over_beat(beat),
                        Some(Step::Chunk(block, link)) => self.deliver(packed, Some((block, link))),
                        None => self.deliver(packed, None),
                    });
                }
                ViewRead::Behind(limit) => {
                    self.hub.clone().read_logs(self, limit);
                    self.from_logs &= self.cursor < self.start_head;
                    if let Some(read) = self.next_queued() {
                        return Some(read);
                    }
                    // Nothing in there was for this reader; there may be more behind it.
                }
                // What is behind the cursor has all been told, be it by a gap that had no event after it.
                ViewRead::Empty if !self.is_owed_gaps() => {
                    self.has_all(head);
                    break;
                }
                ViewRead::Empty => {
                    if closing.is_some() || self.gaps_are_due() {
                        self.tell_skipped();
                        return self.next_queued();
                    }
                    break;
                }
            }
        }
        if let Some(reason) = closing {
            return Some(self.end(reason));
        }
        self.reader.take_beat().then(|| self.beat())
    }

    /// Whether the next chunk is all that there is for it.
    fn is_at_its_last(&self) -> bool {
        let next = self.view.read(self.cursor);
        let is_last = match next {
            ViewRead::Empty => true,
            ViewRead::Chunk(packed) => packed.to == self.view.head(),
            ViewRead::Behind(_) => false,
        };
        is_last && self.queue.is_empty()
    }

    /// After a close, one chunk less.
    #[inline]
    fn count_chunk(&mut self) {
        self.chunks_after_close -= u8::from(self.is_ending);
    }

    fn next_queued(&mut self) -> Option<Read> {
        Some(match self.queue.pop_front()? {
            Queued::Gap { gap, of, through } => {
                self.set_floor(of, through.unwrap_or(0));
                self.hand_over_gap(gap)
            }
            Queued::Skipped(skipped) => {
                self.note_told(&skipped);
                self.hand_over_gap(self.gap_of(skipped))
            }
            Queued::Packed(packed) => {
                self.count_chunk();
                self.deliver(packed, None)
            }
            Queued::Ahead {
                channel,
                bytes,
                count,
                ..
            } => {
                channel.delivered.fetch_add(count, Ordering::Relaxed);
                self.reader.events.fetch_add(count, Ordering::Relaxed);
                self.hand_over(bytes, None)
            }
            Queued::Preface { bytes, .. } => {
                self.count_chunk();
                self.hand_over(bytes, None)
            }
        })
    }

    fn hand_over_gap(&mut self, gap: Gap) -> Read {
        self.reader
            .missed
            .fetch_add(gap.missed.unwrap_or(0), Ordering::Relaxed);
        // Written by this subscription alone.
        let gaps = self.reader.gaps.load(Ordering::Relaxed);
        self.reader
            .gaps
            .store(gaps.saturating_add(1), Ordering::Relaxed);
        self.hub.count_gap();
        self.lose_link();
        if self.queue.is_empty() && !self.is_owed_gaps() {
            // Nothing else lies before the cursor: whoever comes back with the gap's own position is not told again.
            self.set_told(self.told.max(self.cursor));
        }
        Read::Gap(gap)
    }

    fn end(&mut self, reason: CloseReason) -> Read {
        self.ended = true;
        self.queue.clear();
        Read::Closed(reason)
    }
}

/// Of a list of channels with a place each; 0 where the channel has none.
pub(super) fn place_of(places: &[(ChannelId, u64)], channel: ChannelId) -> u64 {
    places
        .iter()
        .find(|(id, _)| *id == channel)
        .map_or(0, |(_, place)| *place)
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.leave(&self.view, &self.reader);
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("id", &self.reader.id)
            .field("cursor", &self.cursor)
            .field("resume", self.resume())
            .finish_non_exhaustive()
    }
}
