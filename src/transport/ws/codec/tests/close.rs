//! Autobahn 7 (close).

use super::support::*;

fn closed(code: u16, reason: &str) -> Got {
    Got::Close(Some((code, reason.to_owned())))
}

#[test]
fn nothing_is_read_behind_a_close() {
    let hello = Got::text("Hello World!");
    check(
        "7.1.1",
        INBOUND,
        &[text("Hello World!"), close(1000, "")],
        &[hello, closed(1000, "")],
    );
    check(
        "7.1.2",
        INBOUND,
        &[close(1000, ""), close(1000, "")],
        &[closed(1000, "")],
    );
    check(
        "7.1.3",
        INBOUND,
        &[close(1000, ""), ping("")],
        &[closed(1000, "")],
    );
    check(
        "7.1.4",
        INBOUND,
        &[close(1000, ""), text("late")],
        &[closed(1000, "")],
    );
    check(
        "7.1.5",
        INBOUND,
        &[
            frame(TEXT, "fragment1"),
            close(1000, ""),
            frame(FIN, "fragment2"),
        ],
        &[closed(1000, "")],
    );
    check(
        "not even wrong bytes",
        INBOUND,
        &[close(1000, ""), vec![0xFF; 50]],
        &[closed(1000, "")],
    );
}

#[test]
fn bodies_of_a_close() {
    check(
        "7.3.1",
        INBOUND,
        &[frame(FIN | CLOSE, "")],
        &[Got::Close(None)],
    );
    check("7.3.2", INBOUND, &[frame(FIN | CLOSE, "a")], &[PROTOCOL]);
    check("7.3.3", INBOUND, &[close(1000, "")], &[closed(1000, "")]);
    check(
        "7.3.4",
        INBOUND,
        &[close(1000, "Hello World!")],
        &[closed(1000, "Hello World!")],
    );
    let longest = "*".repeat(123);
    check(
        "7.3.5",
        INBOUND,
        &[close(1000, &longest)],
        &[closed(1000, &longest)],
    );
    check(
        "7.3.6",
        INBOUND,
        &[close(1000, "*".repeat(124))],
        &[PROTOCOL],
    );
    check(
        "7.5.1",
        INBOUND,
        &[close(1000, b"\xce\xba\xe1\xbd\xb9\xed\xa0\x80")],
        &[INVALID],
    );
    check(
        "a cut character",
        INBOUND,
        &[close(1000, b"\xce")],
        &[INVALID],
    );
}

#[test]
fn codes_that_may_travel() {
    for code in (1000..=1003)
        .chain(1007..=1014)
        .chain([3000, 3999, 4000, 4999])
    {
        check(
            &format!("7.7, {code}"),
            INBOUND,
            &[close(code, "")],
            &[closed(code, "")],
        );
    }
}

#[test]
fn codes_that_may_not() {
    for code in [
        0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535,
    ] {
        check(
            &format!("7.9, 7.13, {code}"),
            INBOUND,
            &[close(code, "reason")],
            &[PROTOCOL],
        );
    }
}
