//! Checks of credentials that take their time, on a clock that nobody waits for.

use super::*;
use futures_util::{SinkExt, StreamExt};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{io::DuplexStream, time::Instant};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::client::IntoClientRequest};
use tower_realtime::{RealtimeHandle, RealtimeLayer};

/// A socket without a network: while all of it waits, the next thing that is due is due at once.
struct Quick {
    stream: WebSocketStream<DuplexStream>,
    began: Instant,
    _rt: RealtimeHandle,
}

impl Quick {
    async fn open(access: Access) -> Self {
        let realtime = RealtimeLayer::new(RealtimeConfig::new(access));
        let (client, server) = tokio::io::duplex(256 * 1024);
        let service = TowerToHyperService::new(realtime.routes());
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(server), service)
            .with_upgrades();
        tokio::spawn(async { drop(connection.await) });
        let request = "ws://host/ws".into_client_request().unwrap();
        let (stream, _) = client_async(request, client).await.unwrap();
        Self {
            stream,
            began: Instant::now(),
            _rt: realtime.handle(),
        }
    }

    async fn say(&mut self, message: Value) {
        let text = Message::text(message.to_string());
        self.stream.send(text).await.unwrap();
    }

    async fn auth(&mut self, token: &str) {
        self.say(json!({"type": "auth", "data": {"token": token}}))
            .await;
    }

    /// The next message's type and code, or the code of the Close frame, and after how many seconds it came.
    async fn next(&mut self) -> (String, u64) {
        loop {
            let what = match self.stream.next().await.unwrap().unwrap() {
                Message::Text(text) => {
                    let envelope: Value = serde_json::from_str(&text).unwrap();
                    match envelope["data"]["code"].as_str() {
                        Some(code) => code.to_owned(),
                        None => envelope["type"].as_str().unwrap().to_owned(),
                    }
                }
                Message::Close(frame) => u16::from(frame.unwrap().code).to_string(),
                _ => continue,
            };
            return (what, self.began.elapsed().as_secs());
        }
    }

    async fn expect(&mut self, expected: &[(&str, u64)]) {
        for (what, seconds) in expected {
            assert_eq!(self.next().await, ((*what).to_owned(), *seconds));
        }
    }
}

/// Takes so long, and then lets `good` in.
fn after(time: Duration) -> Access {
    Access::check(move |parts| async move {
        let Some(token) = parts.headers.get("authorization") else {
            return Err(Denied::unauthenticated());
        };
        tokio::time::sleep(time).await;
        match token.as_bytes() {
            b"Bearer good" => Ok(Principal::viewer("ana")),
            _ => Err(Denied::unauthenticated()),
        }
    })
}

const UNAVAILABLE: &str = "access_unavailable";

#[tokio::test(start_paused = true)]
async fn a_check_that_does_not_end_is_our_trouble_and_not_the_clients() {
    let mut at_once = Quick::open(after(Duration::from_secs(20))).await;
    at_once.auth("good").await;
    at_once.expect(&[(UNAVAILABLE, 10), ("1013", 10)]).await;

    let mut late = Quick::open(after(Duration::from_secs(20))).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    late.auth("good").await;
    late.expect(&[(UNAVAILABLE, 18), ("1013", 18)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_token_that_came_in_time_may_be_checked_past_it() {
    let mut socket = Quick::open(after(Duration::from_secs(4))).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    socket.auth("good").await;
    socket.expect(&[("connection_established", 12)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_stood_still_takes_nobody_for_silent() {
    let mut socket = Quick::open(Access::public()).await;
    assert_eq!(socket.next().await.0, "connection_established");
    for _ in 0..3 {
        tokio::time::advance(Duration::from_secs(3600)).await;
        socket.say(json!({"type": "ping"})).await;
        let mut answer = socket.next().await.0;
        while answer == "ping" {
            answer = socket.next().await.0;
        }
        assert_eq!(answer, "pong");
    }

    // Nor for one that has no token.
    let mut socket = Quick::open(after(Duration::ZERO)).await;
    tokio::time::advance(Duration::from_secs(3600)).await;
    socket.auth("good").await;
    assert_eq!(socket.next().await.0, "connection_established");
}

#[tokio::test(start_paused = true)]
async fn nobody_stays_without_a_good_token() {
    let mut silent = Quick::open(after(Duration::ZERO)).await;
    silent.expect(&[("unauthorized", 10), ("4001", 10)]).await;

    // The first that is wrong is the end: what is behind it is not looked at.
    let mut wrong = Quick::open(after(Duration::from_secs(9))).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    for _ in 0..3 {
        wrong.auth("bad").await;
    }
    wrong.expect(&[("unauthorized", 17), ("4001", 17)]).await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_a_check_is_bounded_and_said_to_be() {
    let mut socket = Quick::open(after(Duration::from_secs(5))).await;
    socket.auth("good").await;
    let padding = "x".repeat(50 * 1024);
    for _ in 0..3 {
        let ping = json!({"type": "ping", "data": {"padding": padding}}).to_string();
        socket.stream.send(Message::text(ping)).await.unwrap();
    }
    let text = match socket.stream.next().await.unwrap().unwrap() {
        Message::Text(text) => text,
        other => panic!("{other:?}"),
    };
    let error: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(error["data"]["code"], "rate_limited");
    let message = error["data"]["message"].as_str().unwrap();
    assert!(message.contains("128 KiB"), "{message}");
    socket.expect(&[("4102", 0)]).await;
}
