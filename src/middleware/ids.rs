//! Ids of requests that came without one, for the lines that are logged inside them.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
#[cfg(feature = "tracing")]
use std::sync::{LazyLock, atomic::AtomicU64};

/// Whether somebody may ask. Relaxed: it says from when on requests are followed, and orders nothing.
static FOLLOWED: AtomicBool = AtomicBool::new(false);

/// From now on requests that came without an id can be asked for one, too.
#[cfg(feature = "tracing")]
pub(crate) fn follow() {
    FOLLOWED.store(true, Relaxed);
}

#[inline]
pub(super) fn is_followed() -> bool {
    cfg!(feature = "tracing") && FOLLOWED.load(Relaxed)
}

/// An id for a request that came without one and is asked for it before there is a record. Most records get theirs when
/// they are told, from a number in hexadecimal: no such id has the `r` of these.
#[cfg(feature = "tracing")]
pub(super) fn give_id() -> String {
    static PREFIX: LazyLock<u32> = LazyLock::new(|| {
        let mut random = [0; 4];
        match getrandom::fill(&mut random) {
            Ok(()) => u32::from_be_bytes(random),
            // The ids of two processes may be alike then; within one they never are.
            Err(_) => std::process::id(),
        }
    });
    static GIVEN: AtomicU64 = AtomicU64::new(0);
    format!("{:08x}-r{:x}", *PREFIX, GIVEN.fetch_add(1, Relaxed))
}
