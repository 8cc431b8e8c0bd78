//! Waking the drainer, only when it asked for it.

use super::padded::Padded;
use crate::sync::{AtomicBool, Notify, Ordering};

/// A flag that a sleeper raises before it sleeps, and that the next producer takes down and then notifies.
///
/// The sleeper raises the flag, then looks whether the queue is empty; a producer appends, then looks at the flag.
/// One of them must see the other, or a record would wait for the next one: so the flag's accesses and those of the
/// queue's tail are sequentially consistent, that is, in one order for all threads. On x86 the producer's side costs
/// an ordinary load, and the line is only written around a sleep.
#[derive(Debug, Default)]
pub(super) struct Wake {
    armed: Padded<AtomicBool>,
    notify: Notify,
}

impl Wake {
    pub(super) fn arm(&self) {
        self.armed.0.store(true, Ordering::SeqCst);
    }

    /// Called after an append.
    pub(super) fn appended(&self) {
        if self.armed.0.load(Ordering::SeqCst) && self.armed.0.swap(false, Ordering::SeqCst) {
            self.notify.notify_one();
        }
    }

    pub(super) fn notify(&self) -> &Notify {
        &self.notify
    }
}
