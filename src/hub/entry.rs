//! Entries: what a log holds, with each wire form made at most once.

use std::{
    fmt,
    ops::Range,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;

use super::{channel::ChannelInfo, event::Source, position::Position};

/// A wire form: the index of an encoder that the hub was built with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Form(pub(crate) usize);

/// How many wire forms there can be: SSE, records, and the four of WebSocket.
pub(crate) const FORMS: usize = if cfg!(feature = "ws") { 6 } else { 2 };

/// One event, as an encoder sees it.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) position: Position,
    pub(crate) channel: &'a str,
    #[cfg_attr(not(feature = "ws"), allow(dead_code))]
    pub(crate) unix_ms: u64,
    pub(crate) source: &'a dyn Source,
    pub(crate) index: usize,
}

/// Appends one event in a wire form.
pub(crate) type Encoder = fn(&Frame<'_>, &mut Vec<u8>);

/// Events that were published together, with consecutive numbers.
pub(crate) struct Entry {
    pub(crate) first: u64,
    pub(crate) len: u32,
    /// How many events its channel had before it.
    pub(crate) ordinal: u64,
    /// When it was appended: `Clock::now_us`.
    pub(crate) at_us: u64,
    pub(crate) unix_ms: u64,
    pub(crate) epoch: u64,
    pub(crate) channel: Arc<ChannelInfo>,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) weight: usize,
    encoded: [OnceLock<Encoded>; FORMS],
}

struct Encoded {
    bytes: Bytes,
    /// Where each event ends; empty where there is just one.
    ends: Box<[u32]>,
}

impl Entry {
    pub(crate) fn new(
        first: u64,
        epoch: u64,
        at_us: u64,
        unix_ms: u64,
        ordinal: u64,
        channel: Arc<ChannelInfo>,
        source: Arc<dyn Source>,
    ) -> Self {
        Self {
            first,
            ordinal,
            len: source.len() as u32,
            at_us,
            unix_ms,
            epoch,
            weight: source.weight() + size_of::<Self>(),
            channel,
            source,
            encoded: [const { OnceLock::new() }; FORMS],
        }
    }

    /// The same events, told by another source: fewer rows of the same batch.
    pub(crate) fn with_source(&self, source: Arc<dyn Source>) -> Self {
        let channel = self.channel.clone();
        Self::new(
            self.first,
            self.epoch,
            self.at_us,
            self.unix_ms,
            self.ordinal,
            channel,
            source,
        )
    }

    /// The number of the last event.
    pub(crate) fn last(&self) -> u64 {
        self.first + u64::from(self.len) - 1
    }

    /// Which of its events come behind `seq`.
    pub(crate) fn range_after(&self, seq: u64) -> Range<u32> {
        let start = (seq + 1)
            .saturating_sub(self.first)
            .min(u64::from(self.len));
        start as u32..self.len
    }

    /// The bytes of some of its events in a wire form. The first caller encodes them all; everybody shares.
    pub(crate) fn bytes(&self, form: Form, encoder: Encoder, range: Range<u32>) -> Bytes {
        let encoded = self.encoded[form.0].get_or_init(|| self.encode(encoder));
        if range == (0..self.len) {
            return encoded.bytes.clone();
        }
        if range.is_empty() {
            return Bytes::new();
        }
        let end_of = |index: u32| encoded.ends[index as usize] as usize;
        let start = if range.start == 0 {
            0
        } else {
            end_of(range.start - 1)
        };
        encoded.bytes.slice(start..end_of(range.end - 1))
    }

    fn encode(&self, encoder: Encoder) -> Encoded {
        let mut bytes = Vec::with_capacity(self.source.weight() + 64 * self.len as usize);
        let mut ends = Vec::with_capacity(if self.len > 1 { self.len as usize } else { 0 });
        for index in 0..self.len {
            let frame = Frame {
                position: self.position_of(index),
                channel: &self.channel.name,
                unix_ms: self.unix_ms,
                source: &*self.source,
                index: index as usize,
            };
            encoder(&frame, &mut bytes);
            if self.len > 1 {
                ends.push(bytes.len() as u32);
            }
        }
        bytes.shrink_to_fit();
        Encoded {
            bytes: bytes.into(),
            ends: ends.into(),
        }
    }

    pub(crate) fn position_of(&self, index: u32) -> Position {
        Position {
            epoch: self.epoch,
            seq: self.first + u64::from(index),
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("first", &self.first)
            .field("len", &self.len)
            .field("channel", &self.channel.name)
            .finish_non_exhaustive()
    }
}
