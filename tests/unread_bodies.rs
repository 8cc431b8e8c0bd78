//! Bodies that nobody reads: a request that is refused for its head still has one, and the next request on the
//! connection stands behind it.

mod support;

use std::time::Duration;

use axum::Router;
use support::{Host, soon};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower_realtime::{Access, RealtimeConfig};

const BROADCAST: &str = "POST /api/realtime/broadcast HTTP/1.1\r\nhost: x\r\n";

async fn host() -> Host {
    let config = RealtimeConfig::new(Access::bearer("see-me").admin("rule-me"));
    Host::configured(config.inbound_per_minute(2), Router::new()).await
}

/// The next answer on a connection, and whether it says that it is the last one.
async fn answer(socket: &mut TcpStream) -> Option<(u16, bool)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match soon("an answer", socket.read_u8()).await {
            Ok(byte) => head.push(byte),
            Err(_) => return None,
        }
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let len = head.split("content-length: ").nth(1).unwrap();
    let mut body = vec![0; len.split("\r\n").next().unwrap().parse().unwrap()];
    soon("its body", socket.read_exact(&mut body))
        .await
        .unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Some((status, head.contains("connection: close")))
}

#[tokio::test]
async fn every_refused_call_on_a_connection_gets_its_answer() {
    let host = host().await;
    let body = r#"{"channel": "alerts", "type": "alert", "data": {}}"#;
    let mut socket = TcpStream::connect(host.address).await.unwrap();
    let calls = [
        ("nobody", 401),
        ("see-me", 403),
        ("rule-me", 201),
        ("rule-me", 201),
        ("rule-me", 429),
        ("rule-me", 429),
        ("nobody", 401),
    ];
    for (token, expected) in calls {
        for framing in [
            format!("content-length: {}\r\n\r\n{body}", body.len()),
            format!(
                "transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                body.len()
            ),
        ] {
            if expected == 201 && framing.starts_with('t') {
                continue;
            }
            let call = format!("{BROADCAST}authorization: Bearer {token}\r\n{framing}");
            let (head, body) = call.split_once("\r\n\r\n").unwrap();
            // As many clients send it: the head by itself.
            socket.write_all(head.as_bytes()).await.unwrap();
            socket.write_all(b"\r\n\r\n").await.unwrap();
            tokio::time::sleep(Duration::from_millis(30)).await;
            let _ = socket.write_all(body.as_bytes()).await;
            let Some((status, is_last)) = answer(&mut socket).await else {
                panic!("no answer to {token}: {head}");
            };
            assert_eq!(status, expected);
            if is_last {
                socket = TcpStream::connect(host.address).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_body_that_is_not_read_ends_the_connection_and_the_answer_says_so() {
    let host = host().await;
    for framing in [
        // More than anybody would read here.
        "content-length: 1000000\r\n",
        // Sent when it is asked for, which it is not.
        "content-length: 10\r\nexpect: 100-continue\r\n",
        // Never sent.
        "content-length: 10\r\n",
        "transfer-encoding: chunked\r\n",
    ] {
        let answer = host.raw(format!("{BROADCAST}{framing}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{framing}{answer}");
        assert!(
            answer.to_ascii_lowercase().contains("connection: close"),
            "{framing}{answer}"
        );
    }
    // Nothing is left of a call without a body.
    let mut socket = TcpStream::connect(host.address).await.unwrap();
    for _ in 0..2 {
        socket
            .write_all(format!("{BROADCAST}\r\n").as_bytes())
            .await
            .unwrap();
        assert_eq!(answer(&mut socket).await, Some((401, false)));
    }
}
