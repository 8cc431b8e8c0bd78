//! Autobahn 12 and 13 (permessage-deflate), and RFC 7692's own examples.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use proptest::prelude::*;

use super::support::*;
use crate::transport::ws::codec::{
    decoder::Inbound,
    encoder::{self, deflate_message},
    frame::Opcode,
};

const INBOUND: Inbound = Inbound {
    deflate: true,
    ..super::support::INBOUND
};

/// What a client with a window of its own for each message sends: the sync flush without its tail.
fn deflated(payload: &[u8], level: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + payload.len() / 100 + 100);
    Compress::new(Compression::new(level), false)
        .compress_vec(payload, &mut out, FlushCompress::Sync)
        .unwrap();
    assert_eq!(out.split_off(out.len() - 4), [0, 0, 0xFF, 0xFF]);
    out
}

/// What a client reads out of our frame, which must be deflated and nothing but.
fn inflated(frame: &[u8]) -> Vec<u8> {
    assert_eq!(frame[0] & 0xF0, FIN | RSV1);
    let head = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let mut input = frame[head..].to_vec();
    input.extend([0, 0, 0xFF, 0xFF]);
    let mut out = Vec::with_capacity(1 << 20);
    let mut inflate = Decompress::new(false);
    inflate
        .decompress_vec(&input, &mut out, FlushDecompress::Sync)
        .unwrap();
    assert_eq!(inflate.total_in(), input.len() as u64);
    out
}

/// JSON as clients send it, of about this length.
fn json(len: usize) -> String {
    let mut text = String::from("[");
    for n in 0.. {
        if text.len() + 60 > len {
            break;
        }
        text += &format!(
            "{{\"type\":\"subscribe\",\"n\":{},\"c\":\"stats\"}},",
            n * 7919 % 1000
        );
    }
    text + "0]"
}

#[test]
fn the_examples_of_the_rfc() {
    let hello = [Got::text("Hello")];
    let whole = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    check(
        "7.2.3.1",
        INBOUND,
        &[frame(FIN | RSV1 | TEXT, whole)],
        &hello,
    );
    let two = [frame(RSV1 | TEXT, &whole[..3]), frame(FIN, &whole[3..])];
    check("7.2.3.1, two frames", INBOUND, &two, &hello);
    let stored = [
        0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00,
    ];
    check(
        "7.2.3.3",
        INBOUND,
        &[frame(FIN | RSV1 | TEXT, stored)],
        &hello,
    );
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    check(
        "7.2.3.4",
        INBOUND,
        &[frame(FIN | RSV1 | TEXT, last)],
        &hello,
    );
    check(
        "7.2.3.4, nothing behind it",
        INBOUND,
        &[frame(FIN | RSV1 | TEXT, &last[..7])],
        &hello,
    );
    let blocks = [
        0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
    ];
    check(
        "7.2.3.5",
        INBOUND,
        &[frame(FIN | RSV1 | TEXT, blocks)],
        &hello,
    );
    check(
        "7.2.3.6",
        INBOUND,
        &[frame(FIN | RSV1 | TEXT, [0])],
        &[Got::text("")],
    );
    check(
        "no byte at all",
        INBOUND,
        &[frame(FIN | RSV1 | TEXT, "")],
        &[Got::text("")],
    );
}

#[test]
fn a_window_does_not_outlive_its_message() {
    // RFC 7692 section 7.2.3.2: the second "Hello" refers to the first, which we have forbidden. What it refers to
    // could be another connection's message, as the inflater is the thread's.
    let first = frame(
        FIN | RSV1 | TEXT,
        [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
    );
    let second = frame(FIN | RSV1 | TEXT, [0xf2, 0x00, 0x11, 0x00, 0x00]);
    check(
        "7.2.3.2",
        INBOUND,
        &[first, second],
        &[Got::text("Hello"), INVALID],
    );
}

#[test]
fn messages_of_any_size_level_and_fragmentation() {
    for len in [16, 64, 256, 1 << 10, 1 << 12, 1 << 14, 1 << 16] {
        let payload = json(len);
        for level in [0, 1, 6, 9] {
            let deflated = deflated(payload.as_bytes(), level);
            let case = format!("12 and 13, {len} at level {level}");
            let expected = [Got::text(&payload)];
            check(
                &case,
                INBOUND,
                &[frame(FIN | RSV1 | TEXT, &deflated)],
                &expected,
            );
            check(
                &case,
                INBOUND,
                &[fragmented(RSV1 | TEXT, &deflated, 256)],
                &expected,
            );
        }
    }
}

#[test]
fn compressed_and_plain_messages_mix() {
    let payload = json(500);
    let small = deflated(payload.as_bytes(), 6);
    check(
        "mixed",
        INBOUND,
        &[
            text("plain"),
            frame(RSV1 | BINARY, &small[..9]),
            ping("between"),
            frame(FIN, &small[9..]),
            binary("plain"),
        ],
        &[
            Got::text("plain"),
            Got::Ping(b"between".to_vec()),
            Got::Binary(payload.into_bytes()),
            Got::Binary(b"plain".to_vec()),
        ],
    );
}

#[test]
fn the_compressed_bit_belongs_to_first_frames_of_data() {
    let whole = deflated(b"Hello", 6);
    check(
        "continuation",
        INBOUND,
        &[frame(RSV1 | TEXT, &whole), frame(FIN | RSV1, "")],
        &[PROTOCOL],
    );
    check(
        "plain, then set",
        INBOUND,
        &[frame(TEXT, "a"), frame(FIN | RSV1, "b")],
        &[PROTOCOL],
    );
    check(
        "ping",
        INBOUND,
        &[frame(FIN | RSV1 | PING, &whole)],
        &[PROTOCOL],
    );
    check(
        "close",
        INBOUND,
        &[frame(FIN | RSV1 | CLOSE, "")],
        &[PROTOCOL],
    );
    check(
        "RSV2",
        INBOUND,
        &[frame(FIN | 0x20 | TEXT, "a")],
        &[PROTOCOL],
    );
    check(
        "RSV3",
        INBOUND,
        &[frame(FIN | RSV1 | 0x10 | TEXT, "a")],
        &[PROTOCOL],
    );
}

#[test]
fn what_does_not_inflate() {
    let whole = deflated(json(300).as_bytes(), 6);
    check(
        "garbage",
        INBOUND,
        &[frame(FIN | RSV1 | BINARY, [0xFF; 40])],
        &[INVALID],
    );
    check(
        "cut",
        INBOUND,
        &[frame(FIN | RSV1 | BINARY, &whole[..whole.len() / 2])],
        &[INVALID],
    );
    check(
        "not UTF-8",
        INBOUND,
        &[frame(FIN | RSV1 | TEXT, deflated(b"\xED\xA0\x80", 6))],
        &[INVALID],
    );
    check(
        "not even deflated",
        INBOUND,
        &[frame(FIN | RSV1 | TEXT, "Hello")],
        &[INVALID],
    );
    // Empty blocks that call themselves the last, thousands of them: each would cost a reset.
    let restarts = [0x03, 0x00].repeat(5_000);
    check(
        "restarts",
        INBOUND,
        &[frame(FIN | RSV1 | BINARY, restarts)],
        &[INVALID],
    );
}

#[test]
fn a_bomb_ends_at_the_limit() {
    let bomb = deflated(&vec![0; 8 << 20], 6);
    assert!(bomb.len() < 10_000);
    let got = decode(INBOUND, &frame(FIN | RSV1 | BINARY, &bomb), &[]);
    assert_eq!(got, [TOO_BIG]);

    let exactly = deflated(&vec![b'x'; 65_536], 6);
    assert_eq!(
        decode(INBOUND, &frame(FIN | RSV1 | TEXT, exactly), &[]),
        [Got::Text("x".repeat(65_536))]
    );
    let one_more = deflated(&vec![b'x'; 65_537], 6);
    assert_eq!(
        decode(INBOUND, &frame(FIN | RSV1 | TEXT, one_more), &[]),
        [TOO_BIG]
    );
}

#[test]
fn the_limit_holds_for_the_deflated_bytes_too() {
    let small = Inbound {
        max_message: 1_000,
        ..INBOUND
    };
    // Stored blocks are longer than what they store, and that alone must not refuse a message that fits.
    let stored = deflated(&[7; 1_000], 0);
    assert!(stored.len() > 1_000);
    check(
        "stored",
        small,
        &[frame(FIN | RSV1 | BINARY, stored)],
        &[Got::Binary(vec![7; 1_000])],
    );
    let padded = [0x00, 0x00, 0x00, 0xFF, 0xFF].repeat(400);
    check(
        "padding",
        small,
        &[frame(FIN | RSV1 | BINARY, padded)],
        &[TOO_BIG],
    );
}

#[test]
fn our_messages_inflate_alone() {
    for len in [300, 1_700, 20_000, 200_000] {
        let payload = json(len);
        let frame = deflate_message(Opcode::Text, payload.as_bytes()).unwrap();
        assert_eq!(frame[0] & 0x0F, TEXT);
        assert_eq!(inflated(&frame), payload.as_bytes());
        assert!(frame.len() < payload.len());
        let again = deflate_message(Opcode::Text, payload.as_bytes()).unwrap();
        assert_eq!(frame, again, "a message does not depend on the one before");
    }
}

proptest! {
    #[test]
    fn there_and_back(
        words in proptest::collection::vec("[a-e]{1,9}|\\PC", 0..60),
        noise in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let mut payload = words.concat().into_bytes();
        payload.extend(noise);
        let plain = encoder::encode_binary(&payload);
        match deflate_message(Opcode::Binary, &payload) {
            Some(frame) => {
                prop_assert!(frame.len() < plain.len());
                prop_assert_eq!(inflated(&frame), payload);
            }
            None => prop_assert!(payload.len() < encoder::LEAST_DEFLATED || deflated(&payload, 6).len() >= payload.len()),
        }
    }

    #[test]
    fn no_deflated_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let got = decode(INBOUND, &frame(FIN | RSV1 | BINARY, bytes), &[]);
        prop_assert!(matches!(got[..], [Got::Binary(_)] | [INVALID] | [TOO_BIG]), "{got:?}");
    }
}
