//! How events reach their readers.

#[cfg(feature = "ws")]
mod ws;
