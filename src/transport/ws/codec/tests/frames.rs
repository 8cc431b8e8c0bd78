//! Autobahn 1 (framing), 2 (pings and pongs), 3 (reserved bits), 4 (opcodes).

use super::support::*;

#[test]
fn framing() {
    for (number, len) in [0, 125, 126, 127, 128, 65_535].into_iter().enumerate() {
        let payload = "*".repeat(len);
        check(
            &format!("1.1.{}", number + 1),
            INBOUND,
            &[text(&payload)],
            &[Got::Text(payload)],
        );
        let payload = vec![0xFE; len];
        check(
            &format!("1.2.{}", number + 1),
            INBOUND,
            &[binary(&payload)],
            &[Got::Binary(payload)],
        );
    }
    // The length at which the head needs eight bytes for it.
    let payload = "*".repeat(65_536);
    check("1.1.7", INBOUND, &[text(&payload)], &[Got::Text(payload)]);
    let payload = vec![0xFE; 65_536];
    check(
        "1.2.7",
        INBOUND,
        &[binary(&payload)],
        &[Got::Binary(payload)],
    );
}

#[test]
fn frames_that_are_not_masked() {
    check(
        "unmasked text",
        INBOUND,
        &[b"\x81\x05Hello".to_vec()],
        &[PROTOCOL],
    );
    check(
        "unmasked, empty",
        INBOUND,
        &[b"\x81\x00".to_vec()],
        &[PROTOCOL],
    );
    check(
        "unmasked ping",
        INBOUND,
        &[text("a"), b"\x89\x00".to_vec()],
        &[Got::text("a"), PROTOCOL],
    );
    check(
        "unmasked close",
        INBOUND,
        &[b"\x88\x02\x03\xe8".to_vec()],
        &[PROTOCOL],
    );
}

#[test]
fn lengths_that_are_not_minimal() {
    let short = [
        0x81,
        0xFE,
        0,
        5,
        1,
        2,
        3,
        4,
        b'H' ^ 1,
        b'e' ^ 2,
        b'l' ^ 3,
        b'l' ^ 4,
        b'o' ^ 1,
    ];
    check("five in 16 bits", INBOUND, &[short.to_vec()], &[PROTOCOL]);
    let long = [0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0, 126, 0, 0, 0, 0];
    check("126 in 64 bits", INBOUND, &[long.to_vec()], &[PROTOCOL]);
    let negative = [0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    check("top bit", INBOUND, &[negative.to_vec()], &[PROTOCOL]);
}

#[test]
fn pings_and_pongs() {
    let noise: Vec<u8> = (0..125).map(|n| 255 - n).collect();
    check("2.1", INBOUND, &[ping("")], &[Got::Ping(vec![])]);
    check(
        "2.2",
        INBOUND,
        &[ping("Hello, world!")],
        &[Got::Ping(b"Hello, world!".to_vec())],
    );
    check(
        "2.3",
        INBOUND,
        &[ping(b"\x00\xff\xfe\xfd")],
        &[Got::Ping(b"\x00\xff\xfe\xfd".to_vec())],
    );
    check("2.4", INBOUND, &[ping(&noise)], &[Got::Ping(noise.clone())]);
    check("2.5", INBOUND, &[ping([0xFE; 126])], &[PROTOCOL]);
    check("2.7", INBOUND, &[pong("")], &[Got::Pong(vec![])]);
    check(
        "2.8",
        INBOUND,
        &[pong("unsolicited")],
        &[Got::Pong(b"unsolicited".to_vec())],
    );
    check(
        "2.9",
        INBOUND,
        &[pong("unsolicited"), ping("payload")],
        &[
            Got::Pong(b"unsolicited".to_vec()),
            Got::Ping(b"payload".to_vec()),
        ],
    );
    let payloads: Vec<Vec<u8>> = (0..10)
        .map(|n| format!("payload-{n}").into_bytes())
        .collect();
    let frames: Vec<_> = payloads.iter().map(ping).collect();
    let expected: Vec<_> = payloads.into_iter().map(Got::Ping).collect();
    check("2.10", INBOUND, &frames, &expected);
    check("long pong", INBOUND, &[pong([0; 200])], &[PROTOCOL]);
}

#[test]
fn reserved_bits() {
    let hello = || text("Hello");
    let passed = Got::text("Hello");
    check(
        "3.1",
        INBOUND,
        &[frame(FIN | 0x40 | TEXT, "Hello")],
        &[PROTOCOL],
    );
    for (case, first) in [
        ("3.2", FIN | 0x20 | TEXT),
        ("3.3", FIN | 0x30 | TEXT),
        ("3.4", FIN | 0x40 | TEXT),
        ("3.5", FIN | 0x50 | BINARY),
        ("3.6", FIN | 0x60 | PING),
        ("3.7", FIN | 0x70 | CLOSE),
    ] {
        check(
            case,
            INBOUND,
            &[hello(), frame(first, "x"), ping("")],
            &[passed.clone(), PROTOCOL],
        );
    }
}

#[test]
fn opcodes_that_are_not_defined() {
    for opcode in (0x3..=0x7).chain(0xB..=0xF) {
        let case = format!("4, opcode {opcode:#x}");
        check(&case, INBOUND, &[frame(FIN | opcode, "")], &[PROTOCOL]);
        check(
            &case,
            INBOUND,
            &[frame(FIN | opcode, "reserved")],
            &[PROTOCOL],
        );
        check(
            &case,
            INBOUND,
            &[text("Hello"), frame(FIN | opcode, "reserved"), ping("")],
            &[Got::text("Hello"), PROTOCOL],
        );
        let inside = [
            frame(TEXT, "Hel"),
            frame(opcode, "reserved"),
            frame(FIN, "lo"),
        ];
        check(&case, INBOUND, &inside, &[PROTOCOL]);
    }
}

#[test]
fn binary_where_it_is_not_taken() {
    let json = crate::transport::ws::codec::decoder::Inbound {
        binary: false,
        ..INBOUND
    };
    check("text", json, &[text("{}")], &[Got::text("{}")]);
    check(
        "binary",
        json,
        &[text("{}"), binary(b"\x80")],
        &[Got::text("{}"), UNSUPPORTED],
    );
    // Known from the head: the payload need not come.
    assert_eq!(fails_after(json, &binary([0; 60_000])), Some(8));
}
