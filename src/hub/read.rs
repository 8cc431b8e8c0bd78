//! Reads: what a reader is told, and how it began.

use bytes::Bytes;
use serde::Serialize;

use super::{position::Position, reader::CloseReason};

/// What became of a reader's wish to go on where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// It did not ask, or asked for `latest`.
    Fresh,
    /// Nothing is missing.
    Full,
    /// Some events are no longer held; `gap`s say how many.
    Partial,
    /// The position is not known here.
    Lost,
}

/// How a subscription began.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Resume {
    pub(crate) verdict: Verdict,
    /// How many events of stream channels are replayed.
    pub(crate) replayed: u64,
    pub(crate) missed_channels: Vec<String>,
}

impl Resume {
    /// For as long as the reader stays.
    pub(super) fn kept(self) -> Option<Box<Self>> {
        (self.verdict != Verdict::Fresh || self.replayed > 0).then(|| Box::new(self))
    }
}

/// Events that this reader does not get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Gap {
    pub(crate) channel: String,
    /// `None` where it can't be known: the position is foreign.
    pub(crate) missed: Option<u64>,
    pub(crate) reason: GapReason,
    pub(crate) resumed_at: Position,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum GapReason {
    /// The reader was too slow.
    Lagged,
    /// It was away for longer than the log reaches back.
    Evicted,
    /// It asked for fewer events a second than there were.
    Rate,
}

/// What a subscription yields.
#[derive(Debug)]
pub(crate) enum Read {
    /// Events in the view's wire form; compressed for those who asked for it, and then heartbeats as well.
    Events(Bytes),
    Gap(Gap),
    /// A heartbeat is due; the position is the reader's own.
    Heartbeat(Position),
    /// The last thing that it yields.
    Closed(CloseReason),
}
