//! Hub: one sequence of events, a bounded log per channel, readers that hold cursors.

mod event;
mod filter;

pub(crate) use event::{Dialect, Source};
pub(crate) use filter::Tags;
pub use filter::{Filter, Level, LevelFilter};
