//! Frames that break the rules, messages that make no sense, and too many of either: the first end the connection with
//! the right code, the second are answered, and nobody else notices.

use super::*;
use support::frames::{BINARY, CLOSE, Frames, PING, PONG, TEXT, frame};

/// Somebody else, who is told everything as before.
struct Witness {
    socket: Socket,
    n: usize,
}

impl Witness {
    async fn new(host: &Host) -> Self {
        let mut socket = Socket::open(host.address, "/ws/news").await;
        socket.wait_for("connection_established").await;
        Self { socket, n: 0 }
    }

    async fn notices_nothing(&mut self, host: &Host) {
        self.n += 1;
        publish(host, self.n);
        let item = self.socket.wait_for("Item").await;
        assert_eq!(item["data"]["n"], self.n);
    }
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(CLOSE, &[&code.to_be_bytes()[..], reason].concat())
}

#[tokio::test]
async fn broken_rules_close_with_their_code() {
    let host = host().await;
    let mut witness = Witness::new(&host).await;
    let long = vec![b'x'; 40 * 1024];
    // What it is, what is sent, and the code of section 7.4.1 of RFC 6455 that it ends with.
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("not masked", vec![TEXT, 0x02, b'h', b'i'], 1002),
        ("an empty frame, not masked", vec![TEXT, 0x00], 1002),
        ("RSV1 without an extension", frame(0xC1, b"{}"), 1002),
        ("RSV2", frame(0xA1, b"{}"), 1002),
        ("RSV3", frame(0x91, b"{}"), 1002),
        ("a data opcode that is not defined", frame(0x83, b""), 1002),
        (
            "a control opcode that is not defined",
            frame(0x8B, b""),
            1002,
        ),
        ("a continuation of nothing", frame(0x80, b"x"), 1002),
        (
            "a message within another",
            [frame(0x01, b"{"), frame(TEXT, b"}")].concat(),
            1002,
        ),
        ("a ping in fragments", frame(0x09, b""), 1002),
        ("a ping of 126 bytes", frame(PING, &[0; 126]), 1002),
        (
            "a length of 16 bits that needs 7",
            [&[TEXT, 0xFE, 0, 125, 0, 0, 0, 0][..], &[b' '; 125]].concat(),
            1002,
        ),
        (
            "a length of 64 bits that needs 16",
            vec![TEXT, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0, 0, 0],
            1002,
        ),
        (
            "a negative length",
            vec![TEXT, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            1002,
        ),
        (
            "a length of a terabyte",
            vec![TEXT, 0xFF, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            1009,
        ),
        ("no UTF-8", frame(TEXT, &[0xFF]), 1007),
        (
            "a character that does not end",
            frame(TEXT, &[0xE2, 0x82]),
            1007,
        ),
        (
            "half a surrogate pair",
            frame(TEXT, &[0xED, 0xA0, 0x80]),
            1007,
        ),
        (
            "no UTF-8 in the second fragment",
            [frame(0x01, b"{"), frame(0x80, &[0xC0])].concat(),
            1007,
        ),
        ("too long", frame(TEXT, &vec![b' '; 64 * 1024 + 1]), 1009),
        (
            "too long in fragments",
            [frame(0x01, &long), frame(0x80, &long)].concat(),
            1009,
        ),
        (
            "binary where text was agreed on",
            frame(BINARY, &[1, 2, 3]),
            1003,
        ),
        (
            "empty binary where text was agreed on",
            frame(BINARY, b""),
            1003,
        ),
        ("binary in fragments", frame(0x02, &[1]), 1003),
        ("a Close frame of one byte", frame(CLOSE, &[3]), 1002),
        ("a code that may not be sent", close(1005, b""), 1002),
        ("a code that is not defined", close(2999, b""), 1002),
        ("a reason that is no UTF-8", close(1000, &[0xFF]), 1007),
        ("a code of its own", close(4000, b"bye"), 4000),
        ("a normal end", close(1000, b""), 1000),
    ];
    for (what, bytes, code) in cases {
        let mut frames = Frames::open(host.address, "/ws").await;
        frames.send(&bytes).await;
        assert_eq!(frames.close_code().await, Some(code), "{what}");
        witness.notices_nothing(&host).await;
    }
}

#[tokio::test]
async fn deflated_frames_are_held_to_the_same_rules() {
    use flate2::{Compress, Compression, FlushCompress};

    /// As RFC 7692, section 7.2.1, has it.
    fn deflated(plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(plain.len() + 64);
        Compress::new(Compression::best(), false)
            .compress_vec(plain, &mut out, FlushCompress::Sync)
            .unwrap();
        out.truncate(out.len() - 4);
        out
    }

    let host = host().await;
    let mut witness = Witness::new(&host).await;
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let bomb = deflated(&vec![b' '; 16 * 1024 * 1024]);
    assert!(bomb.len() < 32 * 1024);
    for (what, bytes, code) in [
        ("a bomb", frame(0xC1, &bomb), 1009),
        ("no deflate", frame(0xC1, &[0xFF; 20]), 1007),
        ("no UTF-8 inside", frame(0xC1, &deflated(&[0xFF])), 1007),
        ("a deflated ping", frame(0xC9, b""), 1002),
        (
            "a bit on a continuation",
            [frame(0x41, b""), frame(0xC0, b"")].concat(),
            1002,
        ),
    ] {
        let mut frames = Frames::open_with(host.address, "/ws", offer).await;
        assert!(
            frames.head.contains("permessage-deflate"),
            "{}",
            frames.head
        );
        frames.send(&bytes).await;
        assert_eq!(frames.close_code().await, Some(code), "{what}");
        witness.notices_nothing(&host).await;
    }
    // And those that keep them are read.
    let mut frames = Frames::open_with(host.address, "/ws", offer).await;
    frames.message().await;
    frames
        .send(&frame(
            0xC1,
            &deflated(br#"{"type":"ping","data":{"n":1}}"#),
        ))
        .await;
    assert_eq!(frames.message().await["data"], json!({"n": 1}));
}

#[tokio::test]
async fn fragments_of_any_size_make_one_message_with_pings_between() {
    let host = host().await;
    let mut frames = Frames::open(host.address, "/ws").await;
    frames.message().await;
    let text = r#"{"type":"ping","data":{"n":"\u20ac €"}}"#.as_bytes();
    frames.send(&frame(0x01, &text[..1])).await;
    for (index, byte) in text[1..].iter().enumerate() {
        frames.send(&frame(0x00, &[*byte])).await;
        if index == 10 {
            frames.send(&frame(PING, b"between")).await;
            assert_eq!(frames.next().await, Some((PONG, b"between".to_vec())));
        }
    }
    frames.send(&frame(0x80, b"")).await;
    let pong = frames.message().await;
    assert_eq!(
        (&pong["type"], &pong["data"]),
        (&json!("pong"), &json!({"n": "€ €"}))
    );
    // One that comes byte by byte is the same.
    for byte in frame(TEXT, br#"{"type":"ping"}"#) {
        frames.send(&[byte]).await;
    }
    assert_eq!(frames.message().await["type"], "pong");
}

#[tokio::test]
async fn bombs_of_json_are_answered_and_the_connection_stays() {
    let host = host().await;
    let mut witness = Witness::new(&host).await;
    let mut socket = Socket::open(host.address, "/ws").await;
    socket.wait_for("connection_established").await;
    let names: Vec<_> = (0..8_000).map(|n| format!("n{n}")).collect();
    let members = (0..5_000)
        .map(|n| (format!("m{n}"), json!(0)))
        .collect::<serde_json::Map<_, _>>();
    for (bomb, code) in [
        ("[".repeat(60_000), "bad_json"),
        (format!("{{\"type\":{}", "[".repeat(60_000)), "bad_json"),
        ("{\"type\":".repeat(7_000), "bad_json"),
        (format!("[{}0]", "0,".repeat(30_000)), "bad_message"),
        ("9".repeat(60_000), "bad_json"),
        (format!("{{\"type\":\"{}\"}}", "x".repeat(60_000)), "unknown_type"),
        (json!({"type": "subscribe", "channels": names}).to_string(), "bad_message"),
        (json!({"type": "subscribe", "channels": ["x".repeat(60_000)]}).to_string(), "bad_message"),
        (json!({"type": "subscribe", "channels": ["news"], "filter": members}).to_string(), "bad_message"),
        (json!({"type": "subscribe", "channels": ["news"], "filter": {"user_id": "x".repeat(60_000)}}).to_string(), "bad_request"),
    ] {
        let shown: String = bomb.chars().take(40).collect();
        socket.send_raw(Message::text(bomb)).await;
        let error = socket.next().await;
        assert_eq!((&error["type"], &error["data"]["code"]), (&json!("error"), &json!(code)), "{shown}");
        assert!(error.to_string().len() < 2_000, "{shown}: {} bytes back", error.to_string().len());
        witness.notices_nothing(&host).await;
    }
    // The same in MessagePack: 60,000 lists, one in the other.
    let mut packed =
        Frames::open_with(host.address, "/ws", "Sec-WebSocket-Protocol: msgpack\r\n").await;
    let (first, _) = packed.next().await.unwrap();
    assert_eq!(first, BINARY);
    for bomb in [
        vec![0x91; 60_000],
        vec![0xDD, 0xFF, 0xFF, 0xFF, 0xFF],
        vec![0xDB, 0xFF, 0xFF, 0xFF, 0xFF],
    ] {
        packed.send(&frame(BINARY, &bomb)).await;
        let (first, answer) = packed.next().await.unwrap();
        let code = b"bad_msgpack";
        assert!(first == BINARY && answer.windows(code.len()).any(|bytes| bytes == code));
    }
    witness.notices_nothing(&host).await;
}

#[tokio::test]
async fn one_that_sends_too_much_is_let_go() {
    let host = host_with(config().inbound_per_minute(20)).await;
    let mut witness = Witness::new(&host).await;
    let mut socket = Socket::open(host.address, "/ws").await;
    for _ in 0..21 {
        socket.ask("ping", json!({})).await;
    }
    let (envelopes, closed) = socket.rest().await;
    let pongs = envelopes
        .iter()
        .filter(|envelope| envelope["type"] == "pong")
        .count();
    assert_eq!(pongs, 20);
    let said = |envelopes: &[Value], what: &str| {
        let error = &envelopes.last().unwrap()["data"];
        assert_eq!(error["code"], "rate_limited");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(what), "{message}");
    };
    said(&envelopes, "more than 20 messages a minute");
    assert_eq!(closed.code, Some(4102));
    // Frames that are no messages cost as well, and have a limit of their own.
    let mut socket = Socket::open(host.address, "/ws").await;
    for _ in 0..300 {
        socket.send_raw(Message::Ping("".into())).await;
    }
    let (envelopes, closed) = socket.rest().await;
    said(&envelopes, "more than 200 frames a minute");
    assert_eq!(closed.code, Some(4102));
    witness.notices_nothing(&host).await;
}

#[tokio::test]
async fn ten_thousand_messages_at_once_end_with_the_hundred_and_first() {
    let host = host().await;
    let mut witness = Witness::new(&host).await;
    let flood = frame(TEXT, br#"{"type":"ping"}"#).repeat(10_000);
    let mut frames = Frames::open(host.address, "/ws").await;
    frames.send(&flood).await;
    assert_eq!(frames.message().await["type"], "connection_established");
    for _ in 0..100 {
        assert_eq!(frames.message().await["type"], "pong");
    }
    assert_eq!(frames.message().await["data"]["code"], "rate_limited");
    assert_eq!(frames.close_code().await, Some(4102));
    witness.notices_nothing(&host).await;
    let stats = host.data("/api/realtime/hub/stats").await;
    assert_eq!(stats["total_clients"], 1, "{stats:#}");
}

#[tokio::test]
async fn after_a_broken_rule_nothing_more_is_sent_and_that_is_seen_at_once() {
    let host = host().await;
    let mut frames = Frames::open(host.address, "/ws").await;
    frames.send(&frame(0xA1, b"{}")).await;
    assert_eq!(frames.close_code().await, Some(1002));
    // Before the two seconds in which the client may end the connection, and although it says nothing.
    let end = tokio::time::timeout(Duration::from_secs(1), frames.next());
    assert_eq!(end.await.expect("the end"), None);
}
