//! Envelopes: how every message looks.

use bytes::Bytes;
use serde::Serialize;

use super::codec::{
    encoder::{encode_binary, encode_text as text_frame, write_deflated, write_frame},
    frame::Opcode,
    handshake::Encoding,
    msgpack,
};
use crate::{
    aggregator::rfc3339,
    hub::{Dialect, Frame, Position},
};

/// Appends one event as a text frame.
pub(crate) fn encode_text(frame: &Frame<'_>, out: &mut Vec<u8>) {
    write_frame(out, Opcode::Text, &payload(frame, true));
}

/// The same, deflated where that is shorter.
pub(crate) fn encode_deflated(frame: &Frame<'_>, out: &mut Vec<u8>) {
    write_deflated(out, Opcode::Text, &payload(frame, true));
}

/// Appends one event as MessagePack in a binary frame.
pub(crate) fn encode_packed(frame: &Frame<'_>, out: &mut Vec<u8>) {
    write_frame(out, Opcode::Binary, &packed(frame));
}

/// The same, deflated where that is shorter.
pub(crate) fn encode_packed_deflated(frame: &Frame<'_>, out: &mut Vec<u8>) {
    write_deflated(out, Opcode::Binary, &packed(frame));
}

fn packed(frame: &Frame<'_>) -> Vec<u8> {
    msgpack::from_json(&payload(frame, true))
        // JSON that is nested deeper than we read; without its data the client still learns of the event.
        .or_else(|_| msgpack::from_json(&payload(frame, false)))
        .unwrap_or_default()
}

/// Names of types and channels are checked when they are given, and need no escapes.
fn payload(frame: &Frame<'_>, with_data: bool) -> Vec<u8> {
    let name = frame.source.name(frame.index, Dialect::Envelope);
    let mut payload = Vec::with_capacity(512);
    payload.extend_from_slice(b"{\"type\":\"");
    payload.extend_from_slice(name.as_bytes());
    payload.extend_from_slice(b"\",\"timestamp\":\"");
    payload.extend_from_slice(rfc3339(frame.unix_ms).as_bytes());
    payload.extend_from_slice(b"\",\"data\":");
    match with_data {
        true => frame
            .source
            .write_json(frame.index, Dialect::Envelope, &mut payload),
        false => payload.extend_from_slice(b"null"),
    }
    // Writing to a vector does not fail.
    let _ = std::io::Write::write_fmt(
        &mut payload,
        format_args!(
            ",\"id\":\"{}\",\"channel\":\"{}\"}}",
            frame.position, frame.channel
        ),
    );
    payload
}

/// A message that is not an event.
#[derive(Debug, Serialize)]
pub(super) struct Control<'a, T> {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    #[serde(serialize_with = "as_rfc3339")]
    pub(super) timestamp: u64,
    pub(super) data: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<Position>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) channel: Option<&'a str>,
}

fn as_rfc3339<S: serde::Serializer>(unix_ms: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*unix_ms))
}

impl<T: Serialize> Control<'_, T> {
    pub(super) fn frame(&self, encoding: Encoding) -> Bytes {
        // Our own structs serialise.
        let json = serde_json::to_vec(self).unwrap_or_default();
        match encoding {
            Encoding::Json => text_frame(&json),
            Encoding::MessagePack => encode_binary(&msgpack::from_json(&json).unwrap_or_default()),
        }
    }
}
