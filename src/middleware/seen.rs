//! Seen: what a recording has seen of its response, kept in the state that it shares with the meters.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering::Relaxed};

/// What a recording has seen of its response. Only the recording reads and writes it: all accesses are relaxed.
#[derive(Debug)]
pub(super) struct Seen {
    /// [`UNKNOWN`] until there is a head.
    pub(super) ttfb_us: AtomicU64,
    pub(super) response_bytes: AtomicU64,
    /// The body's length, where it is known beforehand.
    pub(super) expected_bytes: AtomicU64,
    /// When the expected length had been handed over. The body is complete then, but is still looked at: trailers
    /// may follow.
    pub(super) complete_us: AtomicU64,
    /// 0 until there is a head.
    pub(super) status: AtomicU16,
    /// The host's future or body is being polled. Still set when the recording is dropped: the poll has panicked, and
    /// a layer outside may have caught it.
    pub(super) polling: AtomicBool,
    pub(super) grpc_failed: AtomicBool,
    pub(super) finished: AtomicBool,
}

/// No length has so many bytes, and no reading of the clock so many microseconds.
pub(super) const UNKNOWN: u64 = u64::MAX;

pub(super) fn known(word: &AtomicU64) -> Option<u64> {
    Some(word.load(Relaxed)).filter(|value| *value != UNKNOWN)
}

impl Seen {
    pub(super) fn new() -> Self {
        Self {
            ttfb_us: AtomicU64::new(UNKNOWN),
            response_bytes: AtomicU64::new(0),
            expected_bytes: AtomicU64::new(UNKNOWN),
            complete_us: AtomicU64::new(UNKNOWN),
            status: AtomicU16::new(0),
            polling: AtomicBool::new(false),
            grpc_failed: AtomicBool::new(false),
            finished: AtomicBool::new(false),
        }
    }
}
