//! Autobahn 6 (UTF-8).

use super::support::*;

/// As one frame, cut in two at every place, and in fragments of one byte.
fn check_text(case: &str, bytes: &[u8]) {
    let expected = match str::from_utf8(bytes) {
        Ok(valid) => Got::text(valid),
        Err(_) => INVALID,
    };
    let expected = [expected];
    check(case, INBOUND, &[text(bytes)], &expected);
    check(case, INBOUND, &[fragmented(TEXT, bytes, 1)], &expected);
    for cut in 0..=bytes.len() {
        let (head, tail) = bytes.split_at(cut);
        check(
            case,
            INBOUND,
            &[frame(TEXT, head), frame(FIN, tail)],
            &expected,
        );
    }
}

#[test]
fn empty_texts() {
    check("6.1.1", INBOUND, &[text("")], &[Got::text("")]);
    check(
        "6.1.2",
        INBOUND,
        &[frame(TEXT, ""), frame(CONTINUATION, ""), frame(FIN, "")],
        &[Got::text("")],
    );
    check(
        "6.1.3",
        INBOUND,
        &[
            frame(TEXT, ""),
            frame(CONTINUATION, "middle frame payload"),
            frame(FIN, ""),
        ],
        &[Got::text("middle frame payload")],
    );
}

#[test]
fn valid_texts() {
    for (case, text) in [
        ("6.2", "Hello-µ@ßöäüàá-UTF-8!!"),
        ("6.5", "κόσμε"),
        ("6.7", "\0 \u{80} \u{800} \u{10000}"),
        ("6.9", "\u{7F} \u{7FF} \u{FFFF} \u{10FFFF}"),
        ("6.11", "\u{D7FF} \u{E000} \u{FFFD}"),
        ("6.22", "\u{FFFE} \u{FFFF} \u{1FFFE} \u{1FFFF} \u{10FFFE}"),
        ("6.23", "\u{FEFF}"),
    ] {
        check_text(case, text.as_bytes());
    }
}

#[test]
fn invalid_texts() {
    for (case, bytes) in [
        (
            "6.3",
            &b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited"[..],
        ),
        ("6.6.1", b"\xce"),
        ("6.6.3", b"\xce\xba\xe1"),
        ("6.6.4", b"\xce\xba\xe1\xbd"),
        ("6.8.1", b"\xf8\x88\x80\x80\x80"),
        ("6.8.2", b"\xfc\x84\x80\x80\x80\x80"),
        ("6.10.1", b"\xf7\xbf\xbf\xbf"),
        ("6.10.2", b"\xfb\xbf\xbf\xbf\xbf"),
        ("6.10.3", b"\xfd\xbf\xbf\xbf\xbf\xbf"),
        ("6.11.5", b"\xf4\x90\x80\x80"),
        ("6.12.1", b"\x80"),
        ("6.12.2", b"\xbf"),
        ("6.12.5", b"\x80\xbf\x80\xbf\x80\xbf"),
        ("6.13.1", b"\xc0 \xc1 \xc2 "),
        ("6.13.3", b"\xe0 \xe1 \xe2 "),
        ("6.14.1", b"\xc0"),
        ("6.14.2", b"\xe0\x80"),
        ("6.14.3", b"\xf0\x80\x80"),
        ("6.14.7", b"\xef\xbf"),
        ("6.14.8", b"\xf7\xbf\xbf"),
        (
            "6.15",
            b"\xc0\xe0\x80\xf0\x80\x80\xf8\x80\x80\x80\xfc\x80\x80\x80\x80",
        ),
        ("6.16.1", b"\xfe"),
        ("6.16.2", b"\xff"),
        ("6.17.1", b"\xc0\xaf"),
        ("6.17.2", b"\xe0\x80\xaf"),
        ("6.17.3", b"\xf0\x80\x80\xaf"),
        ("6.18.1", b"\xc1\xbf"),
        ("6.18.2", b"\xe0\x9f\xbf"),
        ("6.18.3", b"\xf0\x8f\xbf\xbf"),
        ("6.19.1", b"\xc0\x80"),
        ("6.20.1", b"\xed\xa0\x80"),
        ("6.20.7", b"\xed\xbf\xbf"),
        ("6.21.1", b"\xed\xa0\x80\xed\xb0\x80"),
        ("6.21.8", b"\xed\xaf\xbf\xed\xbf\xbf"),
    ] {
        assert!(str::from_utf8(bytes).is_err(), "case {case} is not one");
        check_text(case, bytes);
    }
}

#[test]
fn a_wrong_byte_fails_at_once() {
    let valid = "κόσμε".as_bytes();
    let wrong = b"\xf4\x90\x80\x80edited";
    // The head of a short masked frame is six bytes.
    let bytes = [
        frame(TEXT, valid),
        frame(CONTINUATION, wrong),
        frame(FIN, "never read"),
    ]
    .concat();
    let expected = 6 + valid.len() + 6 + 2;
    assert_eq!(fails_after(INBOUND, &bytes), Some(expected), "6.4.1, 6.4.3");

    let bytes = text([valid, wrong].concat());
    assert_eq!(
        fails_after(INBOUND, &bytes),
        Some(6 + valid.len() + 2),
        "6.4.2, 6.4.4"
    );
}

#[test]
fn binary_is_not_looked_at() {
    let bytes = b"\xff\xfe\xed\xa0\x80".to_vec();
    check("binary", INBOUND, &[binary(&bytes)], &[Got::Binary(bytes)]);
}
