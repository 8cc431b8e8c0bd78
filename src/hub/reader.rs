//! Readers: what the hub's task and one subscription share.

use std::{
    fmt,
    task::{Context, Waker},
};

use super::spec::ViewSpec;
use crate::sync::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Mutex, Ordering, lock};

/// Why the hub ends a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum CloseReason {
    /// The host shuts down.
    Shutdown = 1,
    /// It has read nothing for the stall timeout although there was something to read.
    Stalled = 2,
    /// It has reached its age.
    MaxAge = 3,
    /// An admin ended it.
    Kicked = 4,
    /// Its credentials ran out.
    Expired = 5,
    /// The same session came back on another connection.
    Replaced = 6,
}

impl CloseReason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Shutdown => "shutdown",
            Self::Stalled => "stalled",
            Self::MaxAge => "max_age",
            Self::Kicked => "kicked",
            Self::Expired => "expired",
            Self::Replaced => "replaced",
        }
    }

    #[inline]
    fn from_u8(value: u8) -> Option<Self> {
        // Asked at every poll, and nearly always nothing.
        if value == 0 {
            return None;
        }
        [
            Self::Shutdown,
            Self::Stalled,
            Self::MaxAge,
            Self::Kicked,
            Self::Expired,
            Self::Replaced,
        ]
        .into_iter()
        .find(|reason| *reason as u8 == value)
    }
}

/// How many marks of a reader's way are kept, so that the oldest is between three and four times as old as they are
/// apart.
pub(super) const MARKS: usize = 4;

/// One reader. About 230 bytes; there is no queue in it.
pub(crate) struct Reader {
    pub(crate) id: u64,
    waker: Mutex<Option<Waker>>,
    /// The reader has found nothing and wants to be woken.
    armed: AtomicBool,
    beat_due: AtomicBool,
    /// It is the host's own and holds no socket: however long it stays away, it takes nothing from anybody. Set once,
    /// before it can have been away; relaxed.
    in_process: AtomicBool,
    closing: AtomicU8,
    /// When it was polled last, by the hub's coarse clock.
    polled_us: AtomicU64,
    /// Up to when it is excused for not having come: it waited for news, or the hub itself stood still.
    excused_us: AtomicU64,
    next_beat_us: AtomicU64,
    /// Behind which event it stands. What it has read ahead and waits to be handed over lies before it.
    pub(crate) cursor: AtomicU64,
    /// Up to where its client has been told: from here a reconnect token goes on.
    pub(crate) told: AtomicU64,
    pub(crate) events: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) missed: AtomicU64,
    pub(crate) gaps: AtomicU32,
    /// Its place in its view's list; meaningful under that list's lock only.
    pub(crate) place: AtomicU32,
    /// When it has reached its age, and when its credentials run out; `u64::MAX` for never.
    ages_us: AtomicU64,
    expires_us: AtomicU64,
    /// It wants compressed blocks; meaningful under its view's list's lock only.
    pub(super) compresses: AtomicBool,
    has_wish: AtomicBool,
    /// It has skipped something that it was not told of yet. Relaxed: who sets it looks again at every wake.
    owed_gaps: AtomicBool,
    rare: Mutex<Rare>,
}

/// What is needed now and then, under one lock.
struct Rare {
    /// Up to where it had been told when the hub marked it last, the latest first.
    marks: [u64; MARKS],
    /// What it shall read from now on; its subscription sees to it when it is polled next.
    /// Boxed, because few readers ever have one.
    wish: Option<Box<ViewSpec>>,
    seat: Seat,
}

/// What is given back when a reader leaves, however it does.
enum Seat {
    Empty,
    Held(Box<dyn Send + Sync>),
    Left,
}

impl Reader {
    pub(crate) fn new(id: u64, now_us: u64, next_beat_us: u64) -> Self {
        Self {
            id,
            waker: Mutex::new(None),
            armed: AtomicBool::new(false),
            beat_due: AtomicBool::new(false),
            in_process: AtomicBool::new(false),
            closing: AtomicU8::new(0),
            polled_us: AtomicU64::new(now_us),
            excused_us: AtomicU64::new(0),
            next_beat_us: AtomicU64::new(next_beat_us),
            cursor: AtomicU64::new(0),
            told: AtomicU64::new(0),
            events: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            gaps: AtomicU32::new(0),
            place: AtomicU32::new(0),
            ages_us: AtomicU64::new(u64::MAX),
            expires_us: AtomicU64::new(u64::MAX),
            compresses: AtomicBool::new(false),
            has_wish: AtomicBool::new(false),
            owed_gaps: AtomicBool::new(false),
            rare: Mutex::new(Rare {
                marks: [0; MARKS],
                wish: None,
                seat: Seat::Empty,
            }),
        }
    }

    /// It begins there, or begins again.
    pub(super) fn begin_at(&self, told: u64) {
        let mut rare = lock(&self.rare);
        self.told.store(told, Ordering::Relaxed);
        rare.marks = [told; MARKS];
    }

    /// Remembers up to where it has been told. The hub does so from time to time.
    pub(super) fn mark(&self) {
        let mut rare = lock(&self.rare);
        rare.marks.rotate_right(1);
        rare.marks[0] = self.told.load(Ordering::Relaxed);
    }

    /// Up to where its client has surely been told. What was handed over after that may be on its way still, or have
    /// been lost with the connection: nobody here can know.
    pub(crate) fn surely_told(&self) -> u64 {
        let rare = lock(&self.rare);
        rare.marks[MARKS - 1].min(self.told.load(Ordering::Relaxed))
    }

    /// Drops this when the reader leaves the hub; at once where it has left already.
    pub(crate) fn hold(&self, seat: Box<dyn Send + Sync>) {
        let mut rare = lock(&self.rare);
        if !matches!(rare.seat, Seat::Left) {
            rare.seat = Seat::Held(seat);
        }
    }

    /// It has left. The seat is handed to the caller, who drops it outside of any lock.
    pub(super) fn vacate(&self) -> Option<Box<dyn Send + Sync>> {
        match std::mem::replace(&mut lock(&self.rare).seat, Seat::Left) {
            Seat::Held(seat) => Some(seat),
            Seat::Empty | Seat::Left => None,
        }
    }

    /// It reads in process: it is never taken for stuck.
    pub(crate) fn stay_in_process(&self) {
        self.in_process.store(true, Ordering::Relaxed);
    }

    /// Ends it at this time of the hub's clock, because it is old.
    pub(crate) fn age_at(&self, us: u64) {
        self.ages_us.store(us, Ordering::Relaxed);
    }

    /// Ends it at this time of the hub's clock, because its credentials run out.
    pub(crate) fn expire_at(&self, us: u64) {
        self.expires_us.store(us, Ordering::Relaxed);
    }

    /// Makes it read something else, from where it is; the newest wish counts.
    pub(crate) fn wish(&self, spec: ViewSpec) {
        lock(&self.rare).wish = Some(Box::new(spec));
        self.has_wish.store(true, Ordering::SeqCst);
        self.wake();
    }

    #[inline]
    pub(super) fn take_wish(&self) -> Option<ViewSpec> {
        if !self.has_wish.load(Ordering::Relaxed) || !self.has_wish.swap(false, Ordering::SeqCst) {
            return None;
        }
        lock(&self.rare).wish.take().map(|spec| *spec)
    }

    /// Has it woken at every sweep: nothing else may wake it for a gap that is told after a while.
    pub(super) fn set_owed_gaps(&self, owed: bool) {
        self.owed_gaps.store(owed, Ordering::Relaxed);
    }

    /// Asks to be woken. The caller looks once more for news afterwards: either it sees them, or whoever makes
    /// them sees `armed`. Both sides store, then load what the other stored, hence `SeqCst` on all four.
    ///
    /// `known` is the caller's copy of the waker that is here: while it is polled by the same task, no lock is taken.
    #[inline]
    pub(crate) fn arm(&self, cx: &Context<'_>, known: &mut Option<Waker>) {
        match known {
            Some(known) if known.will_wake(cx.waker()) => {}
            _ => {
                *known = Some(cx.waker().clone());
                *lock(&self.waker) = Some(cx.waker().clone());
            }
        }
        self.armed.store(true, Ordering::SeqCst);
    }

    #[inline]
    pub(super) fn is_armed(&self) -> bool {
        self.armed.load(Ordering::SeqCst)
    }

    pub(crate) fn disarm(&self) {
        self.armed.store(false, Ordering::SeqCst);
    }

    /// Wakes it if it waits. Whoever is being polled, or whose socket is full, is not armed and costs nothing.
    pub(crate) fn wake(&self) -> bool {
        // The plain load first: a swap would take the cache line from a reader that is busy.
        if !self.armed.load(Ordering::SeqCst) || !self.armed.swap(false, Ordering::SeqCst) {
            return false;
        }
        if let Some(waker) = lock(&self.waker).as_ref() {
            waker.wake_by_ref();
        }
        true
    }

    pub(crate) fn has_signal(&self) -> bool {
        self.beat_due.load(Ordering::SeqCst)
            || self.closing.load(Ordering::SeqCst) != 0
            || self.has_wish.load(Ordering::SeqCst)
    }

    pub(crate) fn take_beat(&self) -> bool {
        self.beat_due.load(Ordering::Relaxed) && self.beat_due.swap(false, Ordering::SeqCst)
    }

    /// It has been sent a heartbeat that was made at this time, due or not.
    pub(super) fn has_beaten(&self, made_us: u64, beat_interval_us: u64) {
        let due_us = made_us + beat_interval_us;
        if due_us > self.next_beat_us.load(Ordering::Relaxed) {
            self.next_beat_us.store(due_us, Ordering::Relaxed);
            self.beat_due.store(false, Ordering::SeqCst);
        }
    }

    pub(crate) fn closing(&self) -> Option<CloseReason> {
        CloseReason::from_u8(self.closing.load(Ordering::SeqCst))
    }

    /// Ends it; the first reason stands.
    pub(crate) fn close(&self, reason: CloseReason) {
        let _ = self
            .closing
            .compare_exchange(0, reason as u8, Ordering::SeqCst, Ordering::SeqCst);
        self.wake();
    }

    pub(crate) fn polled(&self, now_us: u64) {
        self.polled_us.store(now_us, Ordering::Relaxed);
    }

    /// Sets the heartbeat off when it is due, and tells whether the reader has been away for longer than
    /// `stall_us` although it is behind `head`. What the hub itself stood still is no time for a reader.
    pub(crate) fn sweep(
        &self,
        now_us: u64,
        stood_still_us: u64,
        beat_interval_us: u64,
        stall_us: u64,
        head: u64,
    ) -> Sweep {
        if self.is_armed() {
            self.excused_us.store(now_us, Ordering::Relaxed);
        } else if stood_still_us > 0 {
            let excused_us = self.came_us() + stood_still_us;
            self.excused_us.store(excused_us, Ordering::Relaxed);
        }
        let due = self.next_beat_us.load(Ordering::Relaxed);
        if now_us >= due {
            // Kept in step with its own connect time, so that the beats of many readers stay spread out.
            let missed_beats = (now_us - due) / beat_interval_us;
            self.next_beat_us.store(
                due + (missed_beats + 1) * beat_interval_us,
                Ordering::Relaxed,
            );
            self.beat_due.store(true, Ordering::SeqCst);
            self.wake();
        }
        if self.owed_gaps.load(Ordering::Relaxed) {
            self.wake();
        }
        if now_us >= self.expires_us.load(Ordering::Relaxed) {
            self.close(CloseReason::Expired);
        } else if now_us >= self.ages_us.load(Ordering::Relaxed) {
            self.close(CloseReason::MaxAge);
        }
        match self.is_stuck(now_us, stall_us, head) {
            true => Sweep::Stalled,
            false => Sweep::Alive,
        }
    }

    /// Whether there is something for it that it has not come for in so long.
    pub(super) fn is_stuck(&self, now_us: u64, for_us: u64, head: u64) -> bool {
        let waits = self.is_armed();
        let behind =
            self.cursor.load(Ordering::Relaxed) < head || self.beat_due.load(Ordering::Relaxed);
        let away = now_us.saturating_sub(self.came_us()) > for_us;
        !waits && behind && away && !self.in_process.load(Ordering::Relaxed)
    }

    /// Since when it may be asked where it stays.
    fn came_us(&self) -> u64 {
        let excused_us = self.excused_us.load(Ordering::Relaxed);
        excused_us.max(self.polled_us.load(Ordering::Relaxed))
    }

    /// How long ago it was polled last.
    pub(crate) fn idle_us(&self, now_us: u64) -> u64 {
        now_us.saturating_sub(self.polled_us.load(Ordering::Relaxed))
    }
}

/// What a sweep found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sweep {
    Alive,
    Stalled,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
