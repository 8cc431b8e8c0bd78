//! Draining: readers are sent away evenly over a window. Those who are still there are told what comes.

use std::time::Duration;

use tokio::time::Instant;

use super::{CloseReason, Hub};
use crate::sync::{Ordering, lock};

/// How often a share is closed.
const TICK: Duration = Duration::from_millis(20);
/// What one tick counts for at most. A task that comes later than that was not let run, and closes nobody for the time:
/// whoever would have been closed meanwhile would be closed all at once, which is what a window is there against.
const MAX_STEP: Duration = TICK.saturating_mul(2);

/// A drain under way.
pub(super) struct Drain {
    window: Duration,
    /// How much of the window has passed, by its ticks.
    passed: Duration,
    ticked: Instant,
    total: usize,
    closed: usize,
}

impl Drain {
    /// How long until the next share is due.
    pub(super) fn wait(&self) -> Duration {
        TICK.saturating_sub(self.ticked.elapsed())
    }

    /// Moves on where a share is due, be it the last.
    pub(super) fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let since = now - self.ticked;
        if since >= TICK {
            self.passed += since.min(MAX_STEP);
            self.ticked = now;
        }
        since >= TICK || self.is_over()
    }

    pub(super) fn is_over(&self) -> bool {
        self.passed >= self.window
    }

    /// How many are to be closed by now, of those who were there when it began.
    fn target(&self) -> usize {
        let share = self.passed.as_secs_f64() / self.window.as_secs_f64();
        (self.total as f64 * share) as usize
    }
}

impl Hub {
    /// Whether the end has begun, and nobody can join any more.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Neither readers nor events from now on.
    pub(super) fn refuse_all(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Refuses newcomers from now on, and ends every subscription over a window, evenly. Then the task ends.
    pub(crate) fn drain(&self, window: Duration) {
        lock(&self.drain_window).get_or_insert(window);
        self.draining.store(true, Ordering::SeqCst);
        // Where the inbox is full, the task has a turn to take anyway, and sees it then.
        if self.inbox.try_send(super::Message::Drain).is_err() && self.inbox.is_closed() {
            self.close_all(CloseReason::Shutdown);
        }
    }

    /// The drain that was asked for.
    pub(super) fn begin_drain(&self) -> Option<Drain> {
        let window = (*lock(&self.drain_window))?;
        Some(Drain {
            window,
            passed: Duration::ZERO,
            ticked: Instant::now(),
            total: self.active(),
            closed: 0,
        })
    }

    /// Closes as many readers as what has passed is worth of the window. The last of them the end closes.
    pub(super) fn close_share(&self, drain: &mut Drain) {
        let target = drain.target();
        for view in self.views() {
            view.for_each_reader(|reader| {
                if drain.closed < target && reader.closing().is_none() {
                    drain.closed += 1;
                    reader.close(CloseReason::Shutdown);
                }
            });
        }
    }

    /// Resolves when everybody has been told of the end, or nobody is there who would tell. Cancel safe.
    pub(crate) async fn closed(&self) {
        self.inbox.closed().await;
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
        self.refuse_all();
        for view in self.views() {
            view.seal();
            view.for_each_reader(|reader| reader.close(reason));
        }
        self.left.notify_waiters();
    }
}
