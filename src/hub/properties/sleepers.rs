//! Sleepers: readers that were told to wait, and have to be woken for what comes.

use std::{
    sync::atomic::AtomicUsize,
    task::{Context, Poll, Wake, Waker},
};

use super::{super::*, *};

/// A sweep comes after so long at the latest.
const SWEEP_US: u64 = 1_000_000;

/// How often a reader was woken.
#[derive(Default)]
pub(super) struct Wakes(AtomicUsize);

impl Wakes {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A reader that was told to wait, and has not been polled since.
pub(super) struct Asleep {
    wakes: usize,
    since_us: u64,
    /// What it has been through.
    through: u64,
}

impl Watched {
    /// It was told to wait, and nobody has woken it.
    fn asleep(&self) -> Option<&Asleep> {
        self.asleep
            .as_ref()
            .filter(|asleep| self.wakes.count() == asleep.wakes)
    }
}

impl World {
    /// The next thing for a reader, as a body asks for it or as somebody who does not wait.
    pub(super) fn next_of(&mut self, reader: &mut Watched, waits: bool) -> Option<Read> {
        reader.asleep = None;
        if !waits {
            // As `poll_read` does: a reader that is polled makes progress.
            reader.subscription.reader.polled(self.hub.coarse_now_us());
            return reader.subscription.try_read();
        }
        if self.random.of(4) {
            // Another task has it now, and the one before is not to be woken for it.
            reader.wakes = Arc::default();
        }
        let wakes = reader.wakes.count();
        let waker = Waker::from(reader.wakes.clone());
        match reader
            .subscription
            .poll_read(&mut Context::from_waker(&waker))
        {
            Poll::Ready(read) => Some(read.expect("the last thing is the end")),
            Poll::Pending => {
                reader.asleep = Some(Asleep {
                    wakes,
                    since_us: self.hub.now_us(),
                    through: reader.subscription.cursor,
                });
                None
            }
        }
    }

    /// Nobody sleeps who has something to read, of what was published up to there and has been shown by now.
    pub(super) fn check_sleepers(&self, shown: u64) {
        let now_us = self.hub.now_us();
        let beat_us = self.hub.settings.heartbeat_interval.as_micros() as u64;
        for reader in &self.readers {
            let Some(asleep) = reader.asleep() else {
                continue;
            };
            let subscription = &reader.subscription;
            for place in reader.accounts.keys() {
                assert_eq!(
                    self.wanted(&reader.spec, *place, asleep.through, shown),
                    0,
                    "{}: a reader at {} sleeps on, and {shown} is there",
                    self.channels[*place].name,
                    asleep.through
                );
            }
            assert!(subscription.reader.closing().is_none(), "sleeps at its end");
            let slept_us = now_us - asleep.since_us;
            assert!(slept_us < beat_us + 2 * SWEEP_US, "sleeps without a beat");
            assert!(
                slept_us < 2 * SWEEP_US || !subscription.is_owed_gaps(),
                "sleeps on what was skipped"
            );
        }
    }

    /// Nobody sleeps on: everybody has been told of something.
    pub(super) fn check_nobody_sleeps(&self) {
        let sleeps = self.readers.iter().any(|reader| reader.asleep().is_some());
        assert!(!sleeps, "a reader sleeps on");
    }
}

/// A reader that was told of something directly is awake.
pub(super) fn check_awake(reader: &Watched) {
    assert!(reader.asleep().is_none(), "a reader sleeps on");
}
