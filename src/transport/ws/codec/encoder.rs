//! Frames to clients (RFC 6455 section 5.2; a server does not mask, section 5.1).
//!
//! A frame does not depend on the connection that it goes to, so all of these can be shared and joined: several
//! frames behind one another are one write.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    close::CloseCode,
    deflate,
    frame::{FIN, MAX_CONTROL, Opcode, RSV1},
};

/// Messages below this are not worth deflating: the flush costs a few bytes, the client an inflation, and the packet
/// is not the shorter for it.
pub(crate) const LEAST_DEFLATED: usize = 200;

/// The longest head of a server's frame.
const MAX_HEAD: usize = 10;

/// A text message in one frame. The payload is ours and UTF-8.
pub(crate) fn encode_text(payload: &[u8]) -> Bytes {
    encode(Opcode::Text, payload)
}

/// A binary message in one frame.
pub(crate) fn encode_binary(payload: &[u8]) -> Bytes {
    encode(Opcode::Binary, payload)
}

/// A text or binary message in one frame, deflated for every reader that negotiated permessage-deflate. `None` where the
/// plain frame is the better one.
#[cfg(test)]
pub(crate) fn deflate_message(opcode: Opcode, payload: &[u8]) -> Option<Bytes> {
    let deflated = deflate_payload(opcode, payload)?;
    let mut out = BytesMut::with_capacity(MAX_HEAD + deflated.len());
    write(&mut out, FIN | RSV1 | opcode as u8, &deflated);
    Some(out.freeze())
}

/// A ping; its payload is at most 125 bytes, what is longer is cut.
pub(crate) fn encode_ping(payload: &[u8]) -> Bytes {
    encode(Opcode::Ping, cut(payload))
}

/// The answer to a ping, with the ping's payload (RFC 6455 section 5.5.3).
pub(crate) fn encode_pong(payload: &[u8]) -> Bytes {
    encode(Opcode::Pong, cut(payload))
}

/// A Close frame, empty where there is no code. The reason is cut to what a control frame takes, between characters.
pub(crate) fn encode_close(code: Option<CloseCode>, reason: &str) -> Bytes {
    let Some(code) = code else {
        return encode(Opcode::Close, &[]);
    };
    let mut end = reason.len().min(MAX_CONTROL - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let reason = &reason[..end];
    let mut payload = Vec::with_capacity(2 + reason.len());
    payload.extend_from_slice(&code.as_u16().to_be_bytes());
    payload.extend_from_slice(reason.as_bytes());
    encode(Opcode::Close, &payload)
}

/// Appends a whole, plain frame: for those who join several.
pub(crate) fn write_frame(out: &mut impl BufMut, opcode: Opcode, payload: &[u8]) {
    write(out, FIN | opcode as u8, payload);
}

/// Appends a message deflated where [`deflate_message`] would, plain where it would not: for readers that negotiated
/// permessage-deflate.
pub(crate) fn write_deflated(out: &mut impl BufMut, opcode: Opcode, payload: &[u8]) {
    match deflate_payload(opcode, payload) {
        Some(deflated) => write(out, FIN | RSV1 | opcode as u8, &deflated),
        None => write_frame(out, opcode, payload),
    }
}

fn encode(opcode: Opcode, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(MAX_HEAD + payload.len());
    write(&mut out, FIN | opcode as u8, payload);
    out.freeze()
}

fn deflate_payload(opcode: Opcode, payload: &[u8]) -> Option<Vec<u8>> {
    debug_assert!(!opcode.is_control(), "control frames are never deflated");
    if payload.len() < LEAST_DEFLATED {
        return None;
    }
    deflate::deflate(payload)
}

fn write(out: &mut impl BufMut, first: u8, payload: &[u8]) {
    out.put_u8(first);
    // Section 5.2: the length in as few bytes as it takes.
    match payload.len() {
        len @ 0..126 => out.put_u8(len as u8),
        len @ 126..65_536 => {
            out.put_u8(126);
            out.put_u16(len as u16);
        }
        len => {
            out.put_u8(127);
            out.put_u64(len as u64);
        }
    }
    out.put_slice(payload);
}

fn cut(payload: &[u8]) -> &[u8] {
    &payload[..payload.len().min(MAX_CONTROL)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_as_few_bytes_as_they_need() {
        let head = |len: usize| {
            let frame = encode_text(&vec![b'x'; len]);
            frame[..frame.len() - len].to_vec()
        };
        assert_eq!(head(0), [0x81, 0]);
        assert_eq!(head(125), [0x81, 125]);
        assert_eq!(head(126), [0x81, 126, 0, 126]);
        assert_eq!(head(65_535), [0x81, 126, 0xFF, 0xFF]);
        assert_eq!(head(65_536), [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn control_frames_are_cut_to_what_they_may_hold() {
        assert_eq!(&encode_ping(b"x")[..], [0x89, 1, b'x']);
        assert_eq!(&encode_pong(b"")[..], [0x8A, 0]);
        assert_eq!(encode_ping(&[0; 300]).len(), 2 + 125);
        assert_eq!(&encode_close(None, "ignored")[..], [0x88, 0]);
        assert_eq!(
            &encode_close(Some(CloseCode::NORMAL), "")[..],
            [0x88, 2, 3, 232]
        );
        // 62 two-byte characters do not fit behind the code; the 62nd would be cut in two.
        let close = encode_close(Some(CloseCode::KICKED), &"é".repeat(62));
        assert_eq!(close.len(), 2 + 2 + 122);
        assert!(str::from_utf8(&close[4..]).is_ok());
    }

    #[test]
    fn joined_frames_are_the_frames() {
        let mut joined = BytesMut::new();
        write_frame(&mut joined, Opcode::Text, b"one");
        write_frame(&mut joined, Opcode::Binary, &[2; 200]);
        assert_eq!(
            joined,
            [encode_text(b"one"), encode_binary(&[2; 200])].concat()
        );
    }

    #[test]
    fn joined_messages_are_deflated_where_it_helps() {
        let long = [b'a'; 1_000];
        let mut joined = Vec::new();
        write_deflated(&mut joined, Opcode::Text, b"short");
        write_deflated(&mut joined, Opcode::Text, &long);
        let deflated = deflate_message(Opcode::Text, &long).unwrap();
        assert_eq!(joined, [encode_text(b"short"), deflated].concat());
    }

    #[test]
    fn short_and_incompressible_messages_stay_plain() {
        assert_eq!(
            deflate_message(Opcode::Text, &[b'a'; LEAST_DEFLATED - 1]),
            None
        );
        assert!(deflate_message(Opcode::Text, &[b'a'; LEAST_DEFLATED]).is_some());
        let mut state = 1u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(4096)
        .collect();
        assert_eq!(deflate_message(Opcode::Binary, &noise), None);
    }
}
