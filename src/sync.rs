//! The concurrency primitives of the collector and the hub: those of std, or loom's when a model is checked.

#[cfg(not(loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

#[cfg(not(loom))]
pub(crate) use tokio::sync::Notify;

#[cfg(loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard, atomic::Ordering};
#[cfg(all(test, loom))]
pub(crate) use modelled::weakened;
#[cfg(loom)]
pub(crate) use modelled::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Notify};

/// Loom's atomics, with sequential consistency. Loom itself takes a `SeqCst` access for acquire and release only, and
/// would report a lost wake wherever two threads store and then look at what the other stored. Fences it takes for
/// what they are, so there is one between each `SeqCst` store and the same thread's next `SeqCst` load: where either
/// of the two is weaker, there is none.
#[cfg(loom)]
mod modelled {
    use std::cell::Cell;

    use loom::sync::atomic::{self as plain, Ordering, fence};

    thread_local! {
        /// A bug to be found. A model's threads all run on the thread that checks it.
        static WEAKENED: Cell<bool> = const { Cell::new(false) };
    }

    /// Checks a model as if every `SeqCst` were acquire and release only: one that needs more has to fail.
    #[cfg(test)]
    pub(crate) fn weakened(check: impl FnOnce()) {
        WEAKENED.set(true);
        check();
        WEAKENED.set(false);
    }

    loom::thread_local! {
        /// This thread has stored in the one order of all threads, and not loaded since.
        static STORED: Cell<bool> = Cell::new(false);
    }

    fn stored(order: Ordering) {
        if order == Ordering::SeqCst && !WEAKENED.get() {
            STORED.with(|stored| stored.set(true));
        }
    }

    fn loads(order: Ordering) {
        if order == Ordering::SeqCst && STORED.with(Cell::take) {
            fence(Ordering::SeqCst);
        }
    }

    macro_rules! atomic {
        ($name:ident, $value:ty) => {
            #[derive(Debug, Default)]
            pub(crate) struct $name(plain::$name);

            #[allow(dead_code)]
            impl $name {
                pub(crate) fn new(value: $value) -> Self {
                    Self(plain::$name::new(value))
                }

                #[track_caller]
                pub(crate) fn load(&self, order: Ordering) -> $value {
                    loads(order);
                    self.0.load(order)
                }

                #[track_caller]
                pub(crate) fn store(&self, value: $value, order: Ordering) {
                    self.0.store(value, order);
                    stored(order);
                }

                #[track_caller]
                pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                    loads(order);
                    let before = self.0.swap(value, order);
                    stored(order);
                    before
                }

                #[track_caller]
                pub(crate) fn compare_exchange(
                    &self,
                    current: $value,
                    new: $value,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$value, $value> {
                    loads(success);
                    let before = self.0.compare_exchange(current, new, success, failure);
                    stored(success);
                    before
                }

                #[track_caller]
                pub(crate) fn compare_exchange_weak(
                    &self,
                    current: $value,
                    new: $value,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$value, $value> {
                    self.compare_exchange(current, new, success, failure)
                }
            }

            /// What is done with weaker orderings only needs nothing more.
            impl std::ops::Deref for $name {
                type Target = plain::$name;

                fn deref(&self) -> &plain::$name {
                    &self.0
                }
            }
        };
    }

    macro_rules! arithmetic {
        ($name:ident, $value:ty, $($op:ident)*) => {
            #[allow(dead_code)]
            impl $name {
                $(
                    #[track_caller]
                    pub(crate) fn $op(&self, value: $value, order: Ordering) -> $value {
                        loads(order);
                        let before = self.0.$op(value, order);
                        stored(order);
                        before
                    }
                )*
            }
        };
    }

    atomic!(AtomicBool, bool);
    atomic!(AtomicU8, u8);
    atomic!(AtomicU32, u32);
    atomic!(AtomicU64, u64);
    atomic!(AtomicUsize, usize);
    arithmetic!(AtomicU64, u64, fetch_add fetch_sub fetch_max);
    arithmetic!(AtomicUsize, usize, fetch_add fetch_sub fetch_max);

    /// Tokio's, into which loom does not see: without a step of the model's before each call, no other thread could do
    /// anything between what a thread looks at and its call. The steps also order what tokio's own atomics order.
    #[derive(Debug, Default)]
    pub(crate) struct Notify {
        tokio: tokio::sync::Notify,
        steps: plain::AtomicUsize,
    }

    impl Notify {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn notified(&self) -> tokio::sync::futures::Notified<'_> {
            self.step();
            self.tokio.notified()
        }

        pub(crate) fn notify_one(&self) {
            self.step();
            self.tokio.notify_one();
        }

        pub(crate) fn notify_waiters(&self) {
            self.step();
            self.tokio.notify_waiters();
        }

        fn step(&self) {
            self.steps.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// Locks, and goes on with the data of a thread that panicked: our critical sections leave their data whole at
/// every point where they could unwind, and a poisoned statistic must not take the host down.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}
