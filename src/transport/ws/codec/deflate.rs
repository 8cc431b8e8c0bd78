//! permessage-deflate (RFC 7692 section 7.2), each message by itself.
//!
//! We negotiate that no side keeps its window from one message to the next. So a deflated event is the same bytes for
//! every reader, wherever in the stream that reader came in, and a connection holds neither compressor nor inflater:
//! both belong to the thread (about 320 KB and 45 KB, made when first needed) and are reset for each message.
//!
//! Compression shortens what is guessed right: do not negotiate it for a channel whose events mix a secret with text
//! that an attacker chooses (CRIME, BREACH; RFC 7692 section 8).

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// What a sync flush ends with and what RFC 7692 section 7.2.1 takes off: an empty stored block.
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// An empty stored block that says it is the last (RFC 1951 section 3.2.4).
const LAST_BLOCK: [u8; 5] = [0x01, 0x00, 0x00, 0xFF, 0xFF];

thread_local! {
    static DEFLATE: RefCell<Compress> = RefCell::new(Compress::new(Compression::default(), false));
    static INFLATE: RefCell<Decompress> = RefCell::new(Decompress::new(false));
}

/// Deflates a message with a window of its own. `None` where that would not make it shorter.
pub(super) fn deflate(message: &[u8]) -> Option<Vec<u8>> {
    DEFLATE.with_borrow_mut(|deflate| {
        let deflated = deflate_with(deflate, message);
        deflate.reset();
        deflated
    })
}

fn deflate_with(deflate: &mut Compress, message: &[u8]) -> Option<Vec<u8>> {
    // Room for the tail and one byte to tell "done" from "full"; what does not fit is not shorter than the message.
    let mut out = Vec::with_capacity(message.len() + TAIL.len());
    loop {
        let done = usize::try_from(deflate.total_in()).ok()?;
        deflate
            .compress_vec(message.get(done..)?, &mut out, FlushCompress::Sync)
            .ok()?;
        if out.len() == out.capacity() {
            return None;
        }
        // With room to spare, all input is taken and the flush is complete.
        if deflate.total_in() == message.len() as u64 {
            break;
        }
        if deflate.total_in() == done as u64 {
            return None;
        }
    }
    if !out.ends_with(&TAIL) {
        return None;
    }
    out.truncate(out.len() - TAIL.len());
    (out.len() < message.len()).then_some(out)
}

/// Why a deflated message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InflateError {
    Corrupt,
    TooLong,
}

/// How often a message may say that it is over and go on; each time costs a reset of the inflater.
const MAX_RESTARTS: usize = 16;

/// Inflates a message to at most `max` bytes. A bomb costs no more memory and time than a message that fits.
///
/// The message becomes a complete deflate stream with [`TAIL`] put back and an empty last block behind it. So all of it
/// is inflated in one step into one buffer: a reference to before the message has nothing to point at and is an error
/// (a client that kept its window although it agreed not to), and so is a message that stops inside a block.
pub(super) fn inflate(mut deflated: Vec<u8>, max: usize) -> Result<Vec<u8>, InflateError> {
    // Some send nothing at all for an empty message, where section 7.2.3.6 has one byte.
    if deflated.is_empty() {
        return Ok(deflated);
    }
    let message_len = deflated.len();
    deflated.extend_from_slice(&TAIL);
    deflated.extend_from_slice(&LAST_BLOCK);

    let mut out = vec![0; max.saturating_add(1)];
    let (mut taken, mut made) = (0, 0);
    for _ in 0..=MAX_RESTARTS {
        let (status, step) = INFLATE.with_borrow_mut(|inflate| {
            inflate.reset(false);
            let status = inflate.decompress(
                &deflated[taken..],
                &mut out[made..],
                FlushDecompress::Finish,
            );
            (
                status,
                (inflate.total_in() as usize, inflate.total_out() as usize),
            )
        });
        taken += step.0;
        made += step.1;
        if made > max {
            return Err(InflateError::TooLong);
        }
        if !matches!(status, Ok(Status::StreamEnd)) {
            return Err(InflateError::Corrupt);
        }
        if taken == deflated.len() || taken == message_len {
            out.truncate(made);
            out.shrink_to_fit();
            return Ok(out);
        }
        // Section 7.2.3.4 allows a block that calls itself the last one, with more blocks behind it.
    }
    Err(InflateError::Corrupt)
}
