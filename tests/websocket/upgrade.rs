//! The handshake: who gets a connection, and what the others are told.

use super::*;

#[tokio::test]
async fn the_curl_line_of_the_documentation_upgrades() {
    let host = host().await;
    let mut socket = TcpStream::connect(host.address).await.unwrap();
    let head = "GET /ws/logs HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: test\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = async {
        loop {
            let mut bytes = [0; 4096];
            let len = socket.read(&mut bytes).await.unwrap();
            answer.extend_from_slice(&bytes[..len]);
            if answer
                .windows(22)
                .any(|window| window == b"connection_established")
            {
                return;
            }
        }
    };
    soon("the first message", read).await;
    let text = String::from_utf8_lossy(&answer).to_lowercase();
    assert!(
        text.starts_with("http/1.1 101 switching protocols\r\n"),
        "{text}"
    );
    assert!(
        text.contains("upgrade: websocket\r\n") && text.contains("x-reconnect-token: "),
        "{text}"
    );
}

#[tokio::test]
async fn what_is_no_upgrade_is_told_so() {
    let host = host().await;
    for path in ["/ws/nonsense", "/ws?channels=stats,nonsense"] {
        let sentence = host.get(path).await.refusal(404);
        assert!(sentence.contains("nonsense") && sentence.contains("stats"));
    }
    for path in ["/ws", "/ws/stats", "/ws/all"] {
        let answer = host.get(path).await;
        answer.refusal(426);
        assert_eq!(
            (answer.header("upgrade"), answer.header("connection")),
            ("websocket", "Upgrade")
        );
    }
    let post = host
        .send(request(axum::http::Method::POST, "/ws/stats"))
        .await;
    post.refusal(405);
    assert_eq!(post.header("allow"), "GET");
    let head = host
        .send(request(axum::http::Method::HEAD, "/ws/stats"))
        .await;
    assert_eq!(head.status, 405);

    for (path, status, code) in [
        ("/ws/nonsense", 404, "unknown_channel"),
        ("/ws?channels=stats,nonsense", 404, "unknown_channel"),
        ("/ws/a/b", 404, "not_found"),
        ("/ws/tenant", 404, "not_found"),
        ("/ws/stats?window=2m", 400, "bad_request"),
        ("/ws/requests?only_errors=perhaps", 400, "bad_request"),
        ("/ws/requests?max_rate=0", 400, "bad_request"),
    ] {
        let (refused, body) = Socket::try_open(host.address, path, &[])
            .await
            .err()
            .unwrap();
        assert_eq!(
            (refused.as_u16(), &body["code"]),
            (status, &json!(code)),
            "{path}: {body:#}"
        );
    }
    let (status, _) = Socket::try_open(host.address, "/ws", &[("sec-websocket-version", "8")])
        .await
        .err()
        .unwrap();
    assert_eq!(status, 426);
}

#[tokio::test]
async fn a_page_of_another_origin_gets_no_socket() {
    let host =
        host_with(RealtimeConfig::new(Access::public()).allowed_origins(["https://app.example"]))
            .await;
    let address = host.address;
    let open = |origin: &'static str| async move {
        Socket::try_open(address, "/ws/stats", &[("origin", origin)]).await
    };
    let (status, body) = open("https://evil.example").await.err().unwrap();
    assert_eq!(
        (status.as_u16(), &body["code"]),
        (403, &json!("cross_origin"))
    );
    assert!(open("https://app.example").await.is_ok());
}

#[tokio::test]
async fn what_is_there_is_for_those_who_may_know() {
    let host = host_with(RealtimeConfig::new(Access::bearer("see-me"))).await;
    host.get("/ws/nonsense").await.refusal(426);
    let mut known = support::get("/ws/nonsense");
    let token = "Bearer see-me".parse().unwrap();
    known.headers_mut().insert("authorization", token);
    host.send(known).await.refusal(404);
}

#[tokio::test]
async fn one_address_leaves_room_for_others_among_those_without_credentials() {
    let config = RealtimeConfig::new(Access::bearer("see-me"))
        .max_clients(1)
        .trusted_proxies(["127.0.0.1"]);
    let host = host_with(config).await;
    let open = |from: &'static str| async move {
        Socket::try_open(host.address, "/ws", &[("x-forwarded-for", from)]).await
    };
    // A quarter of sixteen places.
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(open("192.0.2.1").await.ok().unwrap());
    }
    let (status, body) = open("192.0.2.1").await.err().unwrap();
    assert_eq!(
        (status.as_u16(), &body["code"]),
        (503, &json!("too_many_clients"))
    );
    for from in ["192.0.2.2", "192.0.2.3", "192.0.2.4"] {
        for _ in 0..4 {
            held.push(open(from).await.ok().unwrap());
        }
    }
    assert!(open("192.0.2.5").await.is_err());
    held.pop();
    let freed = async { while open("192.0.2.4").await.is_err() {} };
    soon("the place to be free", freed).await;
}

#[tokio::test]
async fn compression_can_be_refused() {
    let offer = [("sec-websocket-extensions", "permessage-deflate")];
    for (enabled, expected) in [(true, true), (false, false)] {
        let host = host_with(config().ws_deflate(enabled)).await;
        let mut request = support::get("/ws/stats");
        for (name, value) in [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            offer[0],
        ] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let (status, headers) = host.connect().await.head(request).await;
        assert_eq!(status, 101);
        assert_eq!(headers.contains_key("sec-websocket-extensions"), expected);
        let info = host.data("/api/realtime/info").await;
        let extensions = info["transports"]["websocket"]["extensions"].clone();
        assert_eq!(extensions == json!(["permessage-deflate"]), expected);
    }
}

#[tokio::test]
async fn a_server_without_room_says_so_before_the_upgrade() {
    let host = host_with(config().max_clients(1)).await;
    let first = Socket::open(host.address, "/ws").await;
    let (status, body) = Socket::try_open(host.address, "/ws", &[])
        .await
        .err()
        .unwrap();
    assert_eq!(
        (status.as_u16(), &body["code"]),
        (503, &json!("too_many_clients"))
    );
    let (_, closed) = {
        let mut first = first;
        first.send_raw(Message::Close(None)).await;
        first.rest().await
    };
    // An empty Close frame is answered with an empty one.
    assert_eq!(closed.code, None);
    let freed = async {
        while Socket::try_open(host.address, "/ws", &[]).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    soon("the place to be free", freed).await;
}

#[tokio::test]
async fn switched_off_the_path_is_the_hosts() {
    let host = host_with(config().ws_enabled(false)).await;
    assert_eq!(host.send(get_request("/ws/stats")).await.status, 404);
    let info = host.data("/api/realtime/info").await;
    assert_eq!(info["transports"]["websocket"]["enabled"], false);
}
