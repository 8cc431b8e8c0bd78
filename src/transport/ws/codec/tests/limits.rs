//! Autobahn 9 (limits) and 10, and what a connection may cost.

use super::support::*;
use crate::transport::ws::codec::decoder::{Decoder, Inbound, Message};

fn up_to(max_message: usize) -> Inbound {
    Inbound {
        max_message,
        ..INBOUND
    }
}

#[test]
fn large_messages_where_they_are_allowed() {
    for (case, len) in [("9.1", 1 << 18), ("9.2", 1 << 20)] {
        let payload = vec![b'*'; len];
        let whole = decode(up_to(len), &text(&payload), &[]);
        assert_eq!(whole, [Got::Text("*".repeat(len))], "case {case}");
        check(
            case,
            up_to(len),
            &[fragmented(BINARY, &payload, 1 << 14)],
            &[Got::Binary(payload)],
        );
    }
}

#[test]
fn small_fragments_and_small_reads() {
    let payload: Vec<u8> = (0..1 << 16).map(|n: u32| (n % 253) as u8).collect();
    for size in [64, 256, 1 << 10] {
        let bytes = fragmented(BINARY, &payload, size);
        let ends: Vec<usize> = (0..bytes.len()).step_by(size).collect();
        assert_eq!(
            decode(INBOUND, &bytes, &ends),
            [Got::Binary(payload.clone())],
            "9.3-8"
        );
    }
    let payload = "a".repeat(65_536);
    check(
        "10.1",
        INBOUND,
        &[fragmented(TEXT, payload.as_bytes(), 1_300)],
        &[Got::Text(payload)],
    );
}

#[test]
fn a_message_over_the_limit_is_refused_by_its_head() {
    check(
        "exactly",
        up_to(100),
        &[text([b'x'; 100])],
        &[Got::Text("x".repeat(100))],
    );
    check("one more", up_to(100), &[text([b'x'; 101])], &[TOO_BIG]);
    assert_eq!(fails_after(up_to(100), &text([b'x'; 101])), Some(6));
    assert_eq!(fails_after(INBOUND, &binary(vec![0; 65_537])), Some(14));
    let mut endless = vec![0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
    endless.extend([1, 2, 3, 4]);
    check("2^63 - 1", up_to(usize::MAX - 1), &[endless.clone()], &[]);
    check("2^63 - 1", INBOUND, &[endless], &[TOO_BIG]);
}

#[test]
fn fragments_count_together() {
    let frames = [
        frame(TEXT, [b'x'; 60]),
        frame(CONTINUATION, [b'x'; 40]),
        frame(FIN, "x"),
    ];
    check("101 in three", up_to(100), &frames, &[TOO_BIG]);
    let bytes = frames.concat();
    assert_eq!(
        fails_after(up_to(100), &bytes),
        Some(bytes.len() - 1),
        "by the head of the third"
    );
    let cut_character = [frame(TEXT, b"ab\xE2\x82"), frame(FIN, b"\xAC")];
    check(
        "a cut character counts",
        up_to(5),
        &cut_character,
        &[Got::text("ab€")],
    );
    check(
        "a cut character counts",
        up_to(4),
        &cut_character,
        &[TOO_BIG],
    );
}

#[test]
fn control_frames_are_outside_the_limit() {
    check(
        "ping",
        up_to(10),
        &[ping([7; 125])],
        &[Got::Ping(vec![7; 125])],
    );
}

#[test]
fn an_idle_connection_owns_nothing() {
    assert!(size_of::<Decoder>() <= 160, "{}", size_of::<Decoder>());
    let mut decoder = Decoder::new(INBOUND);
    let quiet = format!("{:?}", Decoder::new(INBOUND));
    let frames = [
        frame(TEXT, "frag"),
        ping("ping"),
        frame(FIN, "ment"),
        binary([1; 300]),
    ];
    for mut bytes in frames {
        let mut rest = &mut bytes[..];
        while !rest.is_empty() {
            let (used, _) = decoder.decode(rest).unwrap();
            rest = &mut rest[used..];
        }
    }
    assert!(decoder.holds_nothing(), "{decoder:?} was {quiet}");
    assert_eq!(decoder.take_frames(), 4);
    assert_eq!(decoder.take_frames(), 0);
}

#[test]
fn an_announced_length_costs_nothing() {
    let mut decoder = Decoder::new(INBOUND);
    let mut head = binary(vec![0; 60_000]);
    head.truncate(8);
    assert_eq!(decoder.decode(&mut head), Ok((8, None)));
    assert!(decoder.held() == 0, "{decoder:?}");
}

#[test]
fn a_connection_that_failed_or_closed_owns_nothing() {
    for last in [vec![0x83, 0x80], close(1000, "")] {
        let mut decoder = Decoder::new(INBOUND);
        let mut bytes = frame(TEXT, [b'x'; 5_000]);
        assert_eq!(decoder.decode(&mut bytes).unwrap().1, None);
        assert!(decoder.held() >= 5_000);
        let mut last = last;
        let ended = decoder.decode(&mut last);
        assert!(
            matches!(ended, Err(_) | Ok((_, Some(Message::Close(_))))),
            "{ended:?}"
        );
        assert!(decoder.holds_nothing());
        assert_eq!(decoder.decode(&mut [1, 2, 3]), Ok((3, None)));
        assert!(decoder.holds_nothing());
    }
}
