//! Wire forms: the table of encoders that the hub is built with, and the form for readers in process.

use bytes::Bytes;

use super::sse;
use crate::{
    handle::Received,
    hub::{Dialect, Encoder, FORMS, Form, Frame, Position},
};

/// Server-sent events.
pub(crate) const SSE_FORM: Form = Form(0);

/// What carries a form, for the inspector.
pub(crate) fn transport(form: Form) -> &'static str {
    match form {
        SSE_FORM => "sse",
        _ => "websocket",
    }
}
/// Lines for readers in process.
pub(crate) const RECORD_FORM: Form = Form(1);

/// Envelopes in text frames.
#[cfg(feature = "ws")]
pub(crate) const WS_TEXT_FORM: Form = Form(2);
/// The same, deflated where that makes them shorter.
#[cfg(feature = "ws")]
pub(crate) const WS_DEFLATED_FORM: Form = Form(3);
/// Envelopes as MessagePack in binary frames.
#[cfg(feature = "ws")]
pub(crate) const WS_PACKED_FORM: Form = Form(4);
/// The same, deflated where that makes them shorter.
#[cfg(feature = "ws")]
pub(crate) const WS_PACKED_DEFLATED_FORM: Form = Form(5);

/// What a WebSocket gets by default.
#[cfg(feature = "ws")]
pub(crate) const WEBSOCKET_FORM: Form = WS_TEXT_FORM;
/// There are none, and nobody reads in it.
#[cfg(not(feature = "ws"))]
pub(crate) const WEBSOCKET_FORM: Form = RECORD_FORM;

/// The encoders, by form.
#[cfg(not(feature = "ws"))]
pub(crate) fn encoders() -> [Encoder; FORMS] {
    [sse::encode, encode_record]
}

/// The encoders, by form.
#[cfg(feature = "ws")]
pub(crate) fn encoders() -> [Encoder; FORMS] {
    use super::ws::envelope::{
        encode_deflated, encode_packed, encode_packed_deflated, encode_text,
    };
    [
        sse::encode,
        encode_record,
        encode_text,
        encode_deflated,
        encode_packed,
        encode_packed_deflated,
    ]
}

/// `id TAB channel TAB type TAB data LF`: names contain no tab, and JSON no line feed.
fn encode_record(frame: &Frame<'_>, out: &mut Vec<u8>) {
    let name = frame.source.name(frame.index, Dialect::Stream);
    // Writing to a vector does not fail.
    let _ = std::io::Write::write_fmt(
        out,
        format_args!("{}\t{}\t{name}\t", frame.position, frame.channel),
    );
    frame.source.write_json(frame.index, Dialect::Stream, out);
    out.push(b'\n');
}

/// Takes the next line off a chunk; its data is a slice of the chunk.
pub(crate) fn next_record(chunk: &mut Bytes) -> Option<Received> {
    let end = chunk.iter().position(|byte| *byte == b'\n')?;
    let line = chunk.split_to(end + 1).slice(..end);
    let mut fields = line.splitn(4, |byte| *byte == b'\t');
    let mut text = || std::str::from_utf8(fields.next()?).ok();
    let (id, channel, kind) = (text()?, text()?, text()?);
    let data_start = id.len() + channel.len() + kind.len() + 3;
    Some(Received::Event {
        id: Position::parse(id)?,
        channel: channel.to_owned(),
        kind: kind.to_owned(),
        data: line.slice(data_start..),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_off_a_chunk_one_by_one() {
        let mut chunk = Bytes::from_static(b"7-1\ta\tA\t{\"x\":\"\\t\"}\n7-2\tb\tB\t2\n");
        let data = |received: Option<Received>| match received {
            Some(Received::Event {
                id,
                channel,
                kind,
                data,
            }) => (id.seq, channel, kind, data),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            data(next_record(&mut chunk)),
            (1, "a".into(), "A".into(), "{\"x\":\"\\t\"}".into())
        );
        assert_eq!(
            data(next_record(&mut chunk)),
            (2, "b".into(), "B".into(), "2".into())
        );
        assert_eq!(next_record(&mut chunk), None);
    }
}
