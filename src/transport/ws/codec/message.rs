//! Fragments become one message (RFC 6455 section 5.4), with its limits.

use super::{
    close::Violation,
    deflate::{self, InflateError},
    text::Text,
};

/// A data message whose frames are still coming.
#[derive(Debug)]
pub(super) enum Assembly {
    Text(Text),
    Binary(Vec<u8>),
    /// Kept deflated until the last byte is there: an inflater would pin 40 KB for as long as the client likes, the
    /// deflated bytes are bounded by the same limit as any other message.
    Deflated {
        text: bool,
        bytes: Vec<u8>,
    },
}

/// A whole data message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Data {
    Text(String),
    Binary(Vec<u8>),
}

impl Assembly {
    pub(super) fn new(text: bool, deflated: bool) -> Self {
        match (deflated, text) {
            (true, text) => Self::Deflated {
                text,
                bytes: Vec::new(),
            },
            (false, true) => Self::Text(Text::default()),
            (false, false) => Self::Binary(Vec::new()),
        }
    }

    /// Refuses a frame by the length in its head, before its payload has been sent.
    pub(super) fn admit(&self, len: u64, max: usize) -> Result<(), Violation> {
        let (held, max) = match self {
            Self::Text(text) => (text.len(), max),
            Self::Binary(bytes) => (bytes.len(), max),
            // What does not compress grows by a few bytes a block, and a message that fits must not be refused for that.
            Self::Deflated { bytes, .. } => (bytes.len(), max.saturating_add(max / 16 + 64)),
        };
        if len > max.saturating_sub(held) as u64 {
            return Err(TOO_BIG);
        }
        Ok(())
    }

    /// Takes the next bytes, unmasked. Memory grows with what has come, never with what a head announces.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<(), Violation> {
        match self {
            Self::Text(text) => text.push(chunk).map_err(|_| NOT_UTF8)?,
            Self::Binary(bytes) | Self::Deflated { bytes, .. } => bytes.extend_from_slice(chunk),
        }
        Ok(())
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        match self {
            Self::Text(text) => text.held(),
            Self::Binary(bytes) | Self::Deflated { bytes, .. } => bytes.capacity(),
        }
    }

    pub(super) fn finish(self, max: usize) -> Result<Data, Violation> {
        Ok(match self {
            Self::Text(text) => Data::Text(text.finish().map_err(|_| NOT_UTF8)?),
            Self::Binary(bytes) => Data::Binary(bytes),
            Self::Deflated { text, bytes } => {
                let inflated = deflate::inflate(bytes, max).map_err(|error| match error {
                    InflateError::Corrupt => CORRUPT,
                    InflateError::TooLong => TOO_BIG,
                })?;
                match text {
                    true => Data::Text(String::from_utf8(inflated).map_err(|_| NOT_UTF8)?),
                    false => Data::Binary(inflated),
                }
            }
        })
    }
}

const NOT_UTF8: Violation = Violation::invalid("text is not UTF-8");
const CORRUPT: Violation = Violation::invalid("compressed message does not inflate");
const TOO_BIG: Violation = Violation::too_big("message is longer than the limit");
