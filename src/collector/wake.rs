//! Waking the drainer, only when it asked for it.

use tokio::sync::Notify;

use super::padded::Padded;
use crate::sync::{AtomicBool, Ordering};

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

#[cfg(all(test, loom))]
mod loom_models {
    use loom::{future::block_on, sync::Arc, thread};

    use super::*;
    use crate::{collector::queue::Queue, sync::weakened};

    /// A drainer that finds the queue empty and sleeps, while a producer appends: it is woken.
    fn an_append_meets_a_drainer_that_goes_to_sleep() {
        let queue = Arc::new(Queue::<1, u64>::new(2));
        let wake = Arc::new(Wake::default());
        let producer = {
            let (queue, wake) = (queue.clone(), wake.clone());
            thread::spawn(move || {
                queue.push(&[1], None).ok().unwrap();
                wake.appended();
            })
        };
        loop {
            wake.arm();
            if queue.len() == 0 {
                block_on(wake.notify().notified());
            }
            if let Some((value, _)) = queue.pop() {
                assert_eq!(value, [1]);
                break;
            }
            thread::yield_now();
        }
        producer.join().unwrap();
    }

    /// Found: the flag raised after the look at the queue.
    #[test]
    fn loom_wake_append_meets_sleeper() {
        loom::model(an_append_meets_a_drainer_that_goes_to_sleep);
    }

    /// The same without sequential consistency: each of the two misses what the other stored.
    #[test]
    #[should_panic = "deadlock"]
    fn loom_wake_needs_sequential_consistency() {
        weakened(|| loom::model(an_append_meets_a_drainer_that_goes_to_sleep));
    }
}
