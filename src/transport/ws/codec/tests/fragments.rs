//! Autobahn 5 (fragmentation).

use super::support::*;

#[test]
fn control_frames_are_never_fragmented() {
    check(
        "5.1",
        INBOUND,
        &[frame(PING, "one"), frame(FIN, "two")],
        &[PROTOCOL],
    );
    check(
        "5.2",
        INBOUND,
        &[frame(PONG, "one"), frame(FIN, "two")],
        &[PROTOCOL],
    );
    check("close", INBOUND, &[frame(CLOSE, [3, 232])], &[PROTOCOL]);
}

#[test]
fn fragments_are_joined() {
    let joined = [Got::text("fragment1fragment2")];
    check(
        "5.3-5",
        INBOUND,
        &[frame(TEXT, "fragment1"), frame(FIN, "fragment2")],
        &joined,
    );
    check(
        "5.6-8",
        INBOUND,
        &[
            frame(TEXT, "fragment1"),
            ping("ping"),
            frame(FIN, "fragment2"),
        ],
        &[Got::Ping(b"ping".to_vec()), joined[0].clone()],
    );
    check(
        "5.19",
        INBOUND,
        &[
            frame(TEXT, "fragment1"),
            frame(CONTINUATION, "fragment2"),
            ping("pongme 1!"),
            frame(CONTINUATION, "fragment3"),
            frame(CONTINUATION, "fragment4"),
            ping("pongme 2!"),
            frame(FIN, "fragment5"),
        ],
        &[
            Got::Ping(b"pongme 1!".to_vec()),
            Got::Ping(b"pongme 2!".to_vec()),
            Got::text("fragment1fragment2fragment3fragment4fragment5"),
        ],
    );
    check(
        "empty fragments",
        INBOUND,
        &[frame(TEXT, ""), frame(CONTINUATION, ""), frame(FIN, "")],
        &[Got::text("")],
    );
    let payload: Vec<u8> = (0..1000u32).map(|n| (n % 251) as u8).collect();
    for size in [1, 7, 8, 9, 125, 126, 999] {
        let frames = fragmented(BINARY, &payload, size);
        check(
            &format!("fragments of {size}"),
            INBOUND,
            &[frames],
            &[Got::Binary(payload.clone())],
        );
    }
}

#[test]
fn a_close_may_come_between_fragments() {
    check(
        "close inside",
        INBOUND,
        &[
            frame(TEXT, "never "),
            close(1000, "bye"),
            frame(FIN, "finished"),
        ],
        &[Got::Close(Some((1000, "bye".to_owned())))],
    );
}

#[test]
fn continuations_of_nothing() {
    let hello = text("Hello");
    check(
        "5.9-11",
        INBOUND,
        &[frame(FIN, "lost"), hello.clone()],
        &[PROTOCOL],
    );
    check(
        "5.12-14",
        INBOUND,
        &[frame(CONTINUATION, "lost"), hello],
        &[PROTOCOL],
    );
    check(
        "5.15",
        INBOUND,
        &[
            frame(TEXT, "fragment1"),
            frame(FIN, "fragment2"),
            frame(CONTINUATION, "fragment3"),
            frame(FIN | TEXT, "fragment4"),
        ],
        &[Got::text("fragment1fragment2"), PROTOCOL],
    );
    check(
        "5.16-17",
        INBOUND,
        &[
            frame(CONTINUATION, "lost"),
            frame(TEXT, "fragment1"),
            frame(FIN, "fragment2"),
        ],
        &[PROTOCOL],
    );
}

#[test]
fn messages_do_not_nest() {
    check(
        "5.18",
        INBOUND,
        &[frame(TEXT, "fragment1"), text("fragment2")],
        &[PROTOCOL],
    );
    check(
        "binary inside",
        INBOUND,
        &[frame(TEXT, "a"), frame(BINARY, "b")],
        &[PROTOCOL],
    );
}
