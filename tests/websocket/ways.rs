//! Other ways to get there: compressed, packed, over HTTP/2, without axum.

use super::*;
use support::frames::{BINARY, Frames, TEXT, frame};

#[tokio::test]
async fn one_that_negotiates_compression_gets_the_same_smaller() {
    use flate2::{Decompress, FlushDecompress};

    let host = host().await;
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let mut frames = Frames::open_with(host.address, "/ws/news", offer).await;
    assert_eq!(frames.message().await["type"], "connection_established");
    let mut plain = Frames::open(host.address, "/ws/news").await;
    plain.message().await;
    // One inflater over all of them, as a client has it that keeps its window.
    let mut inflate = Decompress::new(false);
    for n in 0..3 {
        let long = json!({"n": n, "text": "x".repeat(10_000)});
        host.rt.publish(Event::new("news", "Item", &long)).unwrap();
        // RSV1 is set on the frame of a message that was deflated.
        let (first, mut payload) = frames.next().await.unwrap();
        assert_eq!(first, TEXT | 0x40);
        assert!(payload.len() < 1000, "{} bytes for 10,000", payload.len());
        payload.extend_from_slice(&[0, 0, 0xFF, 0xFF]);
        let mut message = Vec::with_capacity(20_000);
        inflate
            .decompress_vec(&payload, &mut message, FlushDecompress::Sync)
            .unwrap();
        let message: Value = serde_json::from_slice(&message).unwrap();
        assert_eq!(message["data"], long);
        assert_eq!(message, plain.message().await);
    }
}

/// What a deflated frame's payload says, as a client inflates it that keeps no window.
fn inflated(mut payload: Vec<u8>) -> Vec<u8> {
    use flate2::{Decompress, FlushDecompress};

    payload.extend_from_slice(&[0, 0, 0xFF, 0xFF]);
    let mut message = Vec::with_capacity(64 * 1024);
    Decompress::new(false)
        .decompress_vec(&payload, &mut message, FlushDecompress::Sync)
        .unwrap();
    message
}

#[tokio::test]
async fn the_window_that_is_asked_for_is_the_whole_one_or_the_next_offer_is_taken() {
    let host = host().await;
    let whole = "permessage-deflate; server_max_window_bits=15";
    let fallback = "permessage-deflate; server_max_window_bits=10, permessage-deflate";
    let small = "permessage-deflate; server_max_window_bits=10";
    for (offer, answer, first) in [
        (whole, "; server_max_window_bits=15\r\n", TEXT | 0x40),
        (fallback, "client_no_context_takeover\r\n", TEXT | 0x40),
        (small, "", TEXT),
    ] {
        let offered = format!("Sec-WebSocket-Extensions: {offer}\r\n");
        let mut frames = Frames::open_with(host.address, "/ws/news", &offered).await;
        let agreed = frames.head.contains("sec-websocket-extensions");
        assert_eq!(agreed, !answer.is_empty(), "{offer}: {}", frames.head);
        assert!(frames.head.contains(answer), "{offer}: {}", frames.head);
        frames.message().await;
        let long = json!({"text": "x".repeat(10_000)});
        host.rt.publish(Event::new("news", "Item", &long)).unwrap();
        assert_eq!(frames.next().await.unwrap().0, first, "{offer}");
    }
}

#[tokio::test]
async fn messagepack_is_deflated_where_that_was_agreed_on() {
    let host = host().await;
    let agreed =
        "Sec-WebSocket-Protocol: msgpack\r\nSec-WebSocket-Extensions: permessage-deflate\r\n";
    let mut packed = Frames::open_with(host.address, "/ws/news", agreed).await;
    assert!(packed.head.contains("sec-websocket-extensions"));
    packed.next().await.unwrap();
    let mut plain = Frames::open(host.address, "/ws/news").await;
    plain.message().await;
    for text in ["x".repeat(10_000), "short".to_owned()] {
        let data = json!({"text": text});
        host.rt.publish(Event::new("news", "Item", &data)).unwrap();
        let (first, payload) = packed.next().await.unwrap();
        let item: Value = match first {
            BINARY => rmp_serde::from_slice(&payload).unwrap(),
            _ => rmp_serde::from_slice(&inflated(payload)).unwrap(),
        };
        let deflates = text.len() > 1000;
        assert_eq!(first, BINARY | if deflates { 0x40 } else { 0 });
        assert_eq!(item, plain.message().await);
    }
}

#[tokio::test]
async fn messagepack_by_subprotocol() {
    let host = host().await;
    let mut plain = Frames::open(host.address, "/ws/news").await;
    plain.message().await;
    let agreed = "Sec-WebSocket-Protocol: msgpack\r\n";
    let mut packed = Frames::open_with(host.address, "/ws", agreed).await;
    assert!(
        packed
            .head
            .contains("\r\nsec-websocket-protocol: msgpack\r\n")
    );
    async fn next(packed: &mut Frames) -> Value {
        let (first, payload) = packed.next().await.unwrap();
        assert_eq!(first, BINARY);
        rmp_serde::from_slice(&payload).unwrap()
    }
    assert_eq!(next(&mut packed).await["type"], "connection_established");
    let subscribe = json!({"type": "subscribe", "data": {"channels": ["news"]}});
    let subscribe = rmp_serde::to_vec_named(&subscribe).unwrap();
    packed.send(&frame(BINARY, &subscribe)).await;
    let subscribed = next(&mut packed).await;
    assert_eq!(subscribed["data"]["channels"], json!(["news"]));
    let every_kind =
        json!({"n": 1, "text": "é", "null": null, "list": [true, -1, 0.5], "large": u64::MAX});
    host.rt
        .publish(Event::new("news", "Item", &every_kind))
        .unwrap();
    let item = next(&mut packed).await;
    assert_eq!(item["data"], every_kind);
    assert_eq!(
        item,
        plain.message().await,
        "the same event, position and all"
    );
    // What it can't read is answered in the same way.
    packed.send(&frame(BINARY, &[0xC1])).await;
    assert_eq!(next(&mut packed).await["data"]["code"], "bad_msgpack");
    // Text is JSON still.
    packed.send(&frame(TEXT, br#"{"type":"ping"}"#)).await;
    assert_eq!(next(&mut packed).await["type"], "pong");
}

#[tokio::test]
async fn over_http2_by_extended_connect() {
    use futures_util::{SinkExt, StreamExt};
    use http_body_util::Empty;
    use hyper::{client::conn::http2, ext::Protocol};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};

    let host = host().await;
    let tcp = TokioIo::new(TcpStream::connect(host.address).await.unwrap());
    let (mut sender, driver) = http2::handshake(TokioExecutor::new(), tcp).await.unwrap();
    let driver = tokio::spawn(driver);
    soon("the settings", sender.ready()).await.unwrap();
    // The server's settings, which allow it, come with the first answer.
    let plain = hyper::Request::get(format!("http://{}/ws/news", host.address))
        .body(Empty::<axum::body::Bytes>::new())
        .unwrap();
    assert_eq!(
        soon("426", sender.send_request(plain))
            .await
            .unwrap()
            .status(),
        426
    );
    let mut connect = hyper::Request::connect(format!("http://{}/ws/news", host.address))
        .header("sec-websocket-version", "13")
        .body(Empty::<axum::body::Bytes>::new())
        .unwrap();
    connect
        .extensions_mut()
        .insert(Protocol::from_static("websocket"));
    let answer = soon("the answer", sender.send_request(connect))
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let upgraded = soon("the upgrade", hyper::upgrade::on(answer))
        .await
        .unwrap();
    let mut socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
    let first = soon("the first message", socket.next())
        .await
        .unwrap()
        .unwrap();
    assert!(first.to_text().unwrap().contains("connection_established"));
    publish(&host, 1);
    let item = soon("the event", socket.next()).await.unwrap().unwrap();
    assert!(item.to_text().unwrap().contains("\"n\":1"));
    soon("to send", socket.send(Message::text(r#"{"type":"ping"}"#)))
        .await
        .unwrap();
    let pong = soon("the pong", socket.next()).await.unwrap().unwrap();
    assert!(pong.to_text().unwrap().contains("\"pong\""));
    driver.abort();
}

#[tokio::test]
async fn around_bare_hyper_and_by_the_paths_alone() {
    use axum::{
        body::Body,
        http::{Request, Response},
    };
    use hyper::body::Incoming;
    use hyper_util::{
        rt::{TokioExecutor, TokioIo},
        server::conn::auto,
        service::TowerToHyperService,
    };
    use std::convert::Infallible;
    use tower::{Layer, service_fn};

    for alone in [false, true] {
        let host = Host::serving(config(), move |realtime, listener, _| async move {
            let inner = service_fn(|_: Request<Incoming>| async {
                Ok::<_, Infallible>(Response::new(Body::empty()))
            });
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let builder = auto::Builder::new(TokioExecutor::new());
                if alone {
                    let service = TowerToHyperService::new(realtime.routes());
                    tokio::spawn(async move {
                        drop(
                            builder
                                .serve_connection_with_upgrades(TokioIo::new(tcp), service)
                                .await,
                        )
                    });
                } else {
                    let service = TowerToHyperService::new(realtime.layer(inner));
                    tokio::spawn(async move {
                        drop(
                            builder
                                .serve_connection_with_upgrades(TokioIo::new(tcp), service)
                                .await,
                        )
                    });
                }
            }
        })
        .await;
        host.rt.channel("news", ChannelConfig::stream()).unwrap();
        let mut socket = Socket::open(host.address, "/ws/news").await;
        socket.wait_for("connection_established").await;
        publish(&host, 1);
        assert_eq!(items(&mut socket, 1).await, [1]);
    }
}
