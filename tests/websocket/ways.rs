//! Other ways to get there: compressed, packed, over HTTP/2, without axum.

use super::*;

#[tokio::test]
async fn one_that_negotiates_compression_gets_the_same_smaller() {
    let host = host().await;
    let mut socket = TcpStream::connect(host.address).await.unwrap();
    let head = "GET /ws/news HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                Sec-WebSocket-Key: test\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    // RSV1 is set on the frame of a message that was deflated.
    let deflated = async {
        let mut published = false;
        loop {
            let mut piece = [0; 4096];
            let len = socket.read(&mut piece).await.unwrap();
            assert!(len > 0);
            read.extend_from_slice(&piece[..len]);
            if !published
                && read
                    .windows(22)
                    .any(|window| window == b"connection_established")
            {
                published = true;
                host.rt
                    .publish(Event::new("news", "Item", &"x".repeat(10_000)))
                    .unwrap();
                read.clear();
            }
            if let Some(at) = read.iter().position(|byte| *byte == 0xC1) {
                return at;
            }
        }
    };
    soon("a deflated frame", deflated).await;
    assert!(read.len() < 1000, "{} bytes for 10,000", read.len());
}

#[tokio::test]
async fn messagepack_by_subprotocol() {
    let host = host().await;
    let mut socket = Socket::open_with(
        host.address,
        "/ws",
        &[("sec-websocket-protocol", "msgpack")],
    )
    .await;
    assert_eq!(socket.head.headers()["sec-websocket-protocol"], "msgpack");
    // {"type":"subscribe","channels":["news"]}
    let packed = [
        &[0x82, 0xA4][..],
        b"type",
        &[0xA9],
        b"subscribe",
        &[0xA8],
        b"channels",
        &[0x91, 0xA4],
        b"news",
    ]
    .concat();
    socket.send_raw(Message::binary(packed)).await;
    let mut kinds = Vec::new();
    while kinds.len() < 3 {
        let Some(Message::Binary(bytes)) = socket.next_raw().await else {
            panic!("{kinds:?}")
        };
        for kind in ["connection_established", "subscribed", "Item"] {
            if bytes
                .windows(kind.len())
                .any(|window| window == kind.as_bytes())
            {
                kinds.push(kind);
            }
        }
        if kinds.len() == 2 {
            publish(&host, 1);
        }
    }
    assert_eq!(kinds, ["connection_established", "subscribed", "Item"]);
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
