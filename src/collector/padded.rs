//! A value on cache lines of its own.

/// Keeps what several threads write from sharing a cache line with anything else. 128 bytes: two lines, because
/// current x86 processors fetch them in pairs, and the line size of current Apple processors.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Padded<T>(pub(super) T);
