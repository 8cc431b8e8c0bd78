//! A client's frames, and what the decoder makes of them.

use crate::transport::ws::codec::{
    close::{CloseCode, CloseFrame},
    decoder::{Decoder, Inbound, Message},
};

pub(super) const FIN: u8 = 0x80;
pub(super) const RSV1: u8 = 0x40;
pub(super) const CONTINUATION: u8 = 0x0;
pub(super) const TEXT: u8 = 0x1;
pub(super) const BINARY: u8 = 0x2;
pub(super) const CLOSE: u8 = 0x8;
pub(super) const PING: u8 = 0x9;
pub(super) const PONG: u8 = 0xA;

/// What the cases are run with where they do not say otherwise.
pub(super) const INBOUND: Inbound = Inbound {
    max_message: 64 * 1024,
    binary: true,
    deflate: false,
};

/// A masked frame with this first byte, its length in the fewest bytes.
pub(super) fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut out = vec![first];
    match payload.len() {
        len @ 0..126 => out.push(0x80 | len as u8),
        len @ 126..65_536 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    // A mask whose bytes differ, from the frame itself, so that a wrong rotation shows.
    let mask = [0x37 ^ first, 0xFA, 0x21 ^ payload.len() as u8, 0x3D];
    out.extend_from_slice(&mask);
    out.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    out
}

pub(super) fn text(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(FIN | TEXT, payload)
}

pub(super) fn binary(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(FIN | BINARY, payload)
}

pub(super) fn ping(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(FIN | PING, payload)
}

pub(super) fn pong(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(FIN | PONG, payload)
}

pub(super) fn close(code: u16, reason: impl AsRef<[u8]>) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_ref());
    frame(FIN | CLOSE, payload)
}

/// The frames of a message in fragments of `size` bytes; `first` is the opcode, with RSV1 for a deflated one.
pub(super) fn fragmented(first: u8, payload: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let pieces = payload.len().div_ceil(size).max(1);
    for index in 0..pieces {
        let piece = &payload[index * size..((index + 1) * size).min(payload.len())];
        let opcode = if index == 0 { first } else { CONTINUATION };
        let fin = if index + 1 == pieces { FIN } else { 0 };
        out.extend(frame(fin | opcode, piece));
    }
    out
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Got {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
    /// The connection has to be failed with this code.
    Failed(u16),
}

impl Got {
    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Message> for Got {
    fn from(message: Message) -> Self {
        match message {
            Message::Text(text) => Self::Text(text),
            Message::Binary(bytes) => Self::Binary(bytes),
            Message::Ping(bytes) => Self::Ping(bytes),
            Message::Pong(bytes) => Self::Pong(bytes),
            Message::Close(frame) => {
                Self::Close(frame.map(|CloseFrame { code, reason }| (code.as_u16(), reason)))
            }
        }
    }
}

pub(super) const PROTOCOL: Got = Got::Failed(1002);
pub(super) const UNSUPPORTED: Got = Got::Failed(1003);
pub(super) const INVALID: Got = Got::Failed(1007);
pub(super) const TOO_BIG: Got = Got::Failed(1009);

/// Feeds `bytes` in pieces that end at `ends`, and at the end.
pub(super) fn decode(inbound: Inbound, bytes: &[u8], ends: &[usize]) -> Vec<Got> {
    let mut decoder = Decoder::new(inbound);
    let mut got = Vec::new();
    let mut start = 0;
    for &end in ends.iter().chain([&bytes.len()]) {
        let mut piece = bytes[start..end].to_vec();
        start = end;
        let mut rest = &mut piece[..];
        // An empty piece is a legal read too.
        loop {
            match decoder.decode(rest) {
                Ok((used, message)) => {
                    rest = &mut rest[used..];
                    match message {
                        Some(message) => got.push(message.into()),
                        None => assert!(rest.is_empty(), "bytes are left without a message"),
                    }
                }
                Err(violation) => {
                    assert!(CloseCode::received(violation.code.as_u16()).is_some());
                    got.push(Got::Failed(violation.code.as_u16()));
                    break;
                }
            }
            if rest.is_empty() {
                break;
            }
        }
    }
    got
}

/// Checks a case whole, byte by byte and in random pieces.
pub(super) fn check(case: &str, inbound: Inbound, frames: &[Vec<u8>], expected: &[Got]) {
    let bytes = frames.concat();
    assert_eq!(decode(inbound, &bytes, &[]), expected, "case {case}, whole");
    let each: Vec<usize> = (0..bytes.len()).collect();
    if bytes.len() <= 20_000 {
        assert_eq!(
            decode(inbound, &bytes, &each),
            expected,
            "case {case}, byte by byte"
        );
    }
    let mut random = bytes.len() as u64 ^ 0x9E37_79B9_7F4A_7C15;
    for _ in 0..8 {
        let mut ends = Vec::new();
        let mut end = 0;
        loop {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            end += (random >> 33) as usize % (bytes.len() / 3 + 2);
            if end >= bytes.len() {
                break;
            }
            ends.push(end);
        }
        assert_eq!(
            decode(inbound, &bytes, &ends),
            expected,
            "case {case}, ends {ends:?}"
        );
    }
}

/// After how many bytes the connection fails, fed one at a time.
pub(super) fn fails_after(inbound: Inbound, bytes: &[u8]) -> Option<usize> {
    let mut decoder = Decoder::new(inbound);
    bytes
        .iter()
        .position(|&byte| decoder.decode(&mut [byte]).is_err())
        .map(|index| index + 1)
}
