//! Every way in which a request can end, and everything that can be said about it.

mod endings;
mod layering;
mod saying;
mod support;
#[cfg(feature = "tracing")]
mod thread_end;
