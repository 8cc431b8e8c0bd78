//! tungstenite as the second opinion: on random frames both sides must come to the same messages.

use std::io::{self, Cursor, Read, Write};

use proptest::prelude::*;
use tungstenite::{
    Message, WebSocket,
    protocol::{Role, WebSocketConfig},
};

use super::support::*;
use crate::transport::ws::codec::{close::CloseCode, decoder::Inbound, encoder};

/// A connection whose peer has sent all it will and takes whatever it gets.
struct Wire(Cursor<Vec<u8>>);

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Wire {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What tungstenite makes of the bytes, up to its first error or Close. The flag says whether it found fault with the
/// bytes; that they end is not a fault.
fn opinion(role: Role, bytes: &[u8], max: usize) -> (Vec<Got>, bool) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(max))
        .max_frame_size(Some(max.max(125)));
    let mut socket =
        WebSocket::from_raw_socket(Wire(Cursor::new(bytes.to_vec())), role, Some(config));
    let mut got = Vec::new();
    loop {
        got.push(match socket.read() {
            Ok(Message::Text(text)) => Got::Text(text.as_str().to_owned()),
            Ok(Message::Binary(bytes)) => Got::Binary(bytes.to_vec()),
            Ok(Message::Ping(bytes)) => Got::Ping(bytes.to_vec()),
            Ok(Message::Pong(bytes)) => Got::Pong(bytes.to_vec()),
            Ok(Message::Close(frame)) => {
                let frame =
                    frame.map(|frame| (frame.code.into(), frame.reason.as_str().to_owned()));
                got.push(Got::Close(frame));
                return (got, false);
            }
            Ok(Message::Frame(_)) => unreachable!("read gives whole messages"),
            Err(tungstenite::Error::Protocol(
                tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
            )) => return (got, false),
            Err(_) => return (got, true),
        });
    }
}

/// Frames of a client, mostly legal, so that there is something behind the first one.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        4 => "\\PC{0,20}".prop_map(String::into_bytes),
        2 => proptest::collection::vec(any::<u8>(), 0..200),
        1 => (120usize..140, any::<u8>()).prop_map(|(len, byte)| vec![byte & 0x7F; len]),
    ];
    let first = prop_oneof![
        6 => Just(FIN | TEXT),
        3 => Just(FIN | BINARY),
        4 => Just(TEXT),
        3 => Just(BINARY),
        6 => Just(CONTINUATION),
        6 => Just(FIN | CONTINUATION),
        3 => Just(FIN | PING),
        2 => Just(FIN | PONG),
        1 => Just(FIN | CLOSE),
        1 => any::<u8>(),
    ];
    let close = (
        prop_oneof![990u16..1020, 2990u16..5010, any::<u16>()],
        "\\PC{0,20}",
    )
        .prop_map(|(code, reason)| close(code, reason));
    prop_oneof![
        20 => (first, payload).prop_map(|(first, payload)| frame(first, payload)),
        1 => close,
    ]
}

/// Where the two are known to differ: tungstenite answers a close code that must not be sent, and takes the registered
/// 1014 for one, where it could refuse the frame. (It also takes lengths that are not minimal, which are not made here.)
fn is_known_difference(ours: &Got, theirs: &Got) -> bool {
    let answered =
        matches!(theirs, Got::Close(Some((1002, reason))) if reason == "Protocol violation");
    answered && matches!(ours, &PROTOCOL | Got::Close(Some((1014, _))))
}

fn compare(bytes: &[u8], ends: &[usize], max_message: usize) -> Result<(), TestCaseError> {
    let mut ours = decode(
        Inbound {
            max_message,
            ..INBOUND
        },
        bytes,
        ends,
    );
    let (mut theirs, refused) = opinion(Role::Server, bytes, max_message);
    if let (Some(our_last), Some(their_last)) = (ours.last(), theirs.last())
        && is_known_difference(our_last, their_last)
    {
        ours.pop();
        theirs.pop();
    }
    let failed = matches!(ours.last(), Some(Got::Failed(_)));
    if failed {
        ours.pop();
    }
    prop_assert_eq!(ours, theirs);
    prop_assert_eq!(failed, refused);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn random_frames(
        frames in proptest::collection::vec(any_frame(), 1..8),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        max in prop_oneof![Just(65_536usize), 100usize..400],
    ) {
        let bytes = frames.concat();
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        ends.sort_unstable();
        compare(&bytes, &ends, max)?;
    }

    #[test]
    fn frames_with_a_flipped_bit_or_a_cut(
        frames in proptest::collection::vec(any_frame(), 1..5),
        flip: prop::sample::Index,
        bit in 0u32..8,
        end: prop::sample::Index,
    ) {
        let mut bytes = frames.concat();
        let flip = flip.index(bytes.len());
        bytes[flip] ^= 1 << bit;
        bytes.truncate(end.index(bytes.len()) + 1);
        // Whatever the bytes are, the pieces they come in make no difference, and nothing panics.
        let whole = decode(INBOUND, &bytes, &[]);
        let each: Vec<usize> = (0..bytes.len()).collect();
        prop_assert_eq!(decode(INBOUND, &bytes, &each), whole);
    }

    #[test]
    fn arbitrary_bytes(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        deflate: bool,
        binary: bool,
    ) {
        let inbound = Inbound { deflate, binary, ..INBOUND };
        let whole = decode(inbound, &bytes, &[]);
        let each: Vec<usize> = (0..bytes.len()).collect();
        prop_assert_eq!(decode(inbound, &bytes, &each), whole);
    }

    #[test]
    fn what_we_send_is_read(
        text in "\\PC{0,300}",
        bytes in (prop_oneof![0usize..300, 65_530..65_540usize], any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
        payload in proptest::collection::vec(any::<u8>(), 0..125),
        reason in "\\PC{0,40}",
    ) {
        let sent = [
            encoder::encode_text(text.as_bytes()),
            encoder::encode_ping(&payload),
            encoder::encode_binary(&bytes),
            encoder::encode_pong(&payload),
            encoder::encode_close(Some(CloseCode::GOING_AWAY), &reason),
        ]
        .concat();
        let expected = vec![
            Got::Text(text),
            Got::Ping(payload.clone()),
            Got::Binary(bytes),
            Got::Pong(payload),
            Got::Close(Some((1001, reason))),
        ];
        prop_assert_eq!(opinion(Role::Client, &sent, 1 << 20), (expected, false));
    }
}
