//! What the hub carries: entries of one or more events, encoded lazily and at most once per wire form.

use std::{fmt, sync::Arc};

use super::{
    channel::Priority,
    filter::{Filter, Tags},
};

/// Where the events of one entry come from. One entry holds one event, or a batch that was published together;
/// every event of it has its own sequence number.
///
/// Nothing is encoded when an entry is published: an event that nobody reads costs no JSON.
pub(crate) trait Source: Send + Sync + fmt::Debug {
    /// How many events; at least 1.
    fn len(&self) -> usize {
        1
    }

    /// The event's type in a dialect: `requests` over SSE is `request` over WebSocket.
    fn name(&self, index: usize, dialect: Dialect) -> &str;

    /// Appends the event's data as one line of compact JSON.
    fn write_json(&self, index: usize, dialect: Dialect, out: &mut Vec<u8>);

    /// What filters look at.
    fn tags(&self, index: usize) -> Tags<'_>;

    /// For an event that is made of rows (`logs`): the same event with only the rows that a reader wants and may
    /// see. Events that are one thing answer [`Narrowed::Whole`] and are judged by their tags.
    fn narrow(&self, _filter: &Filter, _tenant: Option<&str>) -> Narrowed {
        Narrowed::Whole
    }

    /// In a state channel, which holds single events, the newest event of each key stands for all earlier ones. `""` is a key like any other.
    fn key(&self, _index: usize) -> &str {
        ""
    }

    /// Raises it above its channel's priority; a lower one changes nothing.
    fn priority(&self) -> Priority {
        Priority::Low
    }

    /// About how many bytes the entry keeps alive while a log holds it.
    fn weight(&self) -> usize;
}

/// What is left of an event for one kind of reader.
#[derive(Debug)]
pub(crate) enum Narrowed {
    /// It is not made of rows.
    Whole,
    /// No row is left.
    Nothing,
    /// The rows that are left, as one event.
    Rows(Arc<dyn Source>),
}

/// Which of the two printed shapes of an event is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Dialect {
    /// SSE and REST, as seed 000 prints: unix seconds.
    Stream,
    /// WebSocket envelopes, as seed 001 prints: RFC 3339.
    Envelope,
}
