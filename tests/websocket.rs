//! WebSocket, through real sockets and a stranger's client: every message, every error, every close code.
#![cfg(all(feature = "axum", feature = "ws"))]

mod support;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{Router, http::StatusCode, routing::get};
use serde_json::{Value, json};
use support::{Closed, Host, Socket, assert_fields, config, get as get_request, request, soon};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};
use tokio_tungstenite::tungstenite::Message;
use tower_realtime::{
    Access, ChannelConfig, Denied, Event, Level, LogLine, Principal, ProviderStatus,
    RealtimeConfig, RequestMeter,
};

fn app() -> Router {
    async fn chat(meter: RequestMeter) -> &'static str {
        meter.provider("openai").model("gpt").tenant("acme");
        "hello"
    }
    async fn broken(meter: RequestMeter) -> StatusCode {
        meter.provider("groq").model("llama");
        StatusCode::BAD_GATEWAY
    }
    Router::new()
        .route("/chat", get(chat))
        .route("/broken", get(broken))
}

async fn host() -> Host {
    let host = Host::start(app()).await;
    host.rt.channel("news", ChannelConfig::stream()).unwrap();
    host
}

async fn host_with(config: RealtimeConfig) -> Host {
    let host = Host::configured(config, app()).await;
    host.rt.channel("news", ChannelConfig::stream()).unwrap();
    host
}

fn publish(host: &Host, n: usize) {
    host.rt
        .publish(Event::new("news", "Item", &json!({"n": n})))
        .unwrap();
}

/// The numbers of the next so many items.
async fn items(socket: &mut Socket, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        numbers.push(socket.wait_for("Item").await["data"]["n"].as_u64().unwrap());
    }
    numbers
}

fn types(envelopes: &[Value]) -> Vec<&str> {
    envelopes
        .iter()
        .map(|envelope| envelope["type"].as_str().unwrap())
        .collect()
}

// The handshake.

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

// What comes.

#[tokio::test]
async fn the_first_message_has_the_fields_of_a_stream() {
    let host = host().await;
    let mut socket = Socket::open(host.address, "/ws/news").await;
    let first = socket.next().await;
    let stream = host.stream("/stream/news").await;
    let fields = |data: &Value| {
        data.as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(first["type"], "connection_established");
    assert_eq!(fields(&first["data"]), fields(&stream.established.data));
    assert_eq!(first["data"]["channels"], json!(["news"]));
    assert_eq!(first["data"]["resume"]["verdict"], "fresh");
    assert!(first["id"].as_str().unwrap().contains('-'), "{first:#}");
    let stats = host.data("/api/realtime/hub/stats").await;
    assert_eq!(stats["transports"], json!({"sse": 1, "websocket": 1}));
    let info = host.data("/api/realtime/info").await;
    assert_eq!(
        info["transports"]["websocket"],
        json!({"enabled": true, "endpoint": "/ws"})
    );
}

#[tokio::test]
async fn events_are_as_seed_001_prints_them() {
    let host = host().await;
    host.rt
        .provider("openai")
        .name("OpenAI Free")
        .status(ProviderStatus::Healthy)
        .upsert();
    let mut socket = Socket::open(host.address, "/ws/all").await;
    host.get("/chat").await;
    host.rt.log_line(
        LogLine::new(Level::Info, "router", "Request completed")
            .provider("openai")
            .request("r-1")
            .field("key", "value"),
    );

    let request = socket.wait_for("request").await;
    assert_eq!(request["channel"], "requests");
    assert_fields(
        &request["data"],
        json!({"provider_id": "openai", "provider_name": "OpenAI Free", "model_name": "gpt", "method": "GET",
            "endpoint": "/chat", "status_code": 200, "success": true}),
    );
    for field in ["request_id", "latency_ms", "input_tokens", "output_tokens"] {
        assert!(
            request["data"].get(field).is_some(),
            "{field} of {request:#}"
        );
    }
    let mut socket = Socket::open(host.address, "/ws/logs?since=earliest").await;
    let log = socket.wait_for("log").await;
    assert_fields(
        &log["data"],
        json!({"level": "info", "message": "Request completed", "component": "router", "provider_id": "openai",
            "request_id": "r-1", "fields": {"key": "value"}}),
    );
    let logs = socket.wait_for("logs").await;
    assert_eq!(logs["data"]["count"], 1);

    let mut socket = Socket::open(host.address, "/ws/stats").await;
    let stats = socket.wait_for("stats_update").await;
    for field in [
        "total_requests",
        "total_tokens",
        "success_rate",
        "avg_latency_ms",
        "requests_per_min",
        "provider_stats",
        "calculated_at",
    ] {
        assert!(stats["data"].get(field).is_some(), "{field} of {stats:#}");
    }
    assert_eq!(
        (&stats["data"]["time_window"], &stats["channel"]),
        (&json!("5m"), &json!("stats"))
    );
    let mut socket = Socket::open(host.address, "/ws/stats?window=1m&interval=1").await;
    assert_eq!(
        socket.wait_for("stats_update").await["data"]["time_window"],
        "1m"
    );
    // The next one comes by itself.
    socket.wait_for("stats_update").await;
}

#[tokio::test]
async fn the_status_of_every_provider_comes_on_subscribe_then_changes() {
    let host = host().await;
    for (id, status) in [("a", ProviderStatus::Healthy), ("b", ProviderStatus::Down)] {
        host.rt
            .provider(id)
            .name(id.to_uppercase())
            .status(status)
            .upsert();
    }
    // Until both are in the hub.
    let mut watch = host.stream("/stream/providers").await;
    let mut seen = std::collections::HashSet::new();
    while seen.len() < 2 {
        seen.insert(
            watch.wait_for("provider_status").await.data["provider_id"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    let mut socket = Socket::open(host.address, "/ws").await;
    socket
        .ask("subscribe", json!({"channels": ["providers"]}))
        .await;
    let mut current = Vec::new();
    for _ in 0..2 {
        let status = socket.wait_for("provider_status").await["data"].clone();
        for field in [
            "provider_name",
            "available",
            "latency_ms",
            "success_rate",
            "message",
        ] {
            assert!(status.get(field).is_some(), "{field} of {status:#}");
        }
        current.push((status["provider_id"].clone(), status["status"].clone()));
    }
    current.sort_by_key(|status| status.0.to_string());
    assert_eq!(
        current,
        [(json!("a"), json!("healthy")), (json!("b"), json!("down"))]
    );
    host.rt
        .provider("a")
        .name("A")
        .status(ProviderStatus::Degraded)
        .upsert();
    let change = socket.wait_for("provider_status").await;
    assert_fields(
        &change["data"],
        json!({"provider_id": "a", "status": "degraded"}),
    );
}

#[tokio::test]
async fn newcomers_are_told_a_providers_numbers_as_they_are() {
    let host = host_with(config().providers_interval(Duration::from_millis(100))).await;
    host.rt
        .provider("openai")
        .status(ProviderStatus::Healthy)
        .upsert();
    let mut reader = host.stream("/stream/providers").await;
    let first = reader.wait_for("provider_status").await;
    assert_eq!(first.data["success_rate"], Value::Null);
    for _ in 0..20 {
        host.get("/chat").await;
    }
    // Its numbers, not its status, have changed since: whoever comes now gets the new ones, by either transport.
    let fresh = async {
        loop {
            let mut socket = Socket::open(host.address, "/ws/providers").await;
            let status = socket.wait_for("provider_status").await["data"].clone();
            if status["success_rate"] == 1.0 {
                return status;
            }
        }
    };
    let status = soon("fresh numbers", fresh).await;
    assert_fields(
        &status,
        json!({"provider_id": "openai", "status": "healthy"}),
    );
    assert!(status["latency_ms"].as_f64().is_some(), "{status}");
    let mut stream = host.stream("/stream/providers").await;
    let status = stream.wait_for("provider_status").await;
    assert_eq!(status.data["success_rate"], 1.0);
    // And whoever was there has been told no change that was none.
    host.rt
        .provider("openai")
        .status(ProviderStatus::Down)
        .upsert();
    loop {
        let status = reader.wait_for("provider_status").await.data;
        if status["status"] == "down" {
            break;
        }
        assert_eq!(status["success_rate"], Value::Null, "of the beginning");
    }
}

#[tokio::test]
async fn filters_are_those_of_streams() {
    let host = host().await;
    let mut errors = Socket::open(host.address, "/ws/requests?only_errors=true").await;
    let mut of_provider =
        Socket::open(host.address, "/ws/requests?provider_id=openai&model_id=gpt").await;
    let mut warnings = Socket::open(host.address, "/ws/logs?level=warn&component=router").await;
    for socket in [&mut errors, &mut of_provider, &mut warnings] {
        socket.wait_for("connection_established").await;
    }
    for path in ["/chat", "/broken", "/chat"] {
        host.get(path).await;
    }
    host.rt.log(Level::Info, "router", "no");
    host.rt.log(Level::Error, "cache", "no");
    host.rt.log(Level::Error, "router", "yes");
    assert_eq!(
        errors.wait_for("request").await["data"]["provider_id"],
        "groq"
    );
    for _ in 0..2 {
        assert_eq!(
            of_provider.wait_for("request").await["data"]["provider_id"],
            "openai"
        );
    }
    assert_eq!(warnings.wait_for("log").await["data"]["message"], "yes");
    for mut socket in [errors, of_provider] {
        assert_eq!(types(&socket.until_pong().await), [""; 0]);
    }
}

// What is sent.

#[tokio::test]
async fn subscribing_and_unsubscribing_takes_effect_at_once() {
    let host = host().await;
    let mut socket = Socket::open(host.address, "/ws").await;
    assert_eq!(socket.next().await["data"]["channels"], json!([]));
    publish(&host, 0);
    assert_eq!(types(&socket.until_pong().await), [""; 0]);
    for (member, channels) in [
        ("channels", json!(["news"])),
        ("metrics", json!(["alerts"])),
        ("rooms", json!(["news", "logs"])),
    ] {
        socket.ask("subscribe", json!({member: channels})).await;
    }
    assert_eq!(
        socket.wait_for("subscribed").await["data"]["channels"],
        json!(["news"])
    );
    assert_eq!(
        socket.wait_for("subscribed").await["data"]["channels"],
        json!(["news", "alerts"])
    );
    assert_eq!(
        socket.wait_for("subscribed").await["data"]["channels"],
        json!(["news", "alerts", "logs"])
    );
    publish(&host, 1);
    assert_eq!(items(&mut socket, 1).await, [1]);
    socket
        .ask("unsubscribe", json!({"channels": ["news", "alerts"]}))
        .await;
    assert_eq!(
        socket.wait_for("unsubscribed").await["data"]["channels"],
        json!(["logs"])
    );
    publish(&host, 2);
    host.rt.log(Level::Info, "a", "b");
    assert_eq!(socket.next().await["type"], "log");
    socket.ask("subscribe", json!({"channels": ["all"]})).await;
    socket.wait_for("subscribed").await;
    socket
        .ask("unsubscribe", json!({"channels": ["logs"]}))
        .await;
    let left = socket.wait_for("unsubscribed").await["data"]["channels"].clone();
    assert!(
        left.as_array().unwrap().contains(&json!("news"))
            && !left.as_array().unwrap().contains(&json!("logs")),
        "{left}"
    );
    socket
        .ask("unsubscribe", json!({"channels": ["all"]}))
        .await;
    assert_eq!(
        socket.wait_for("unsubscribed").await["data"]["channels"],
        json!([])
    );
}

#[tokio::test]
async fn a_subscription_brings_its_filter() {
    let host = host().await;
    let mut socket = Socket::open(host.address, "/ws").await;
    let filter = json!({"only_errors": true, "provider_id": "groq"});
    socket
        .ask(
            "subscribe",
            json!({"channels": ["requests"], "filter": filter}),
        )
        .await;
    assert_eq!(
        socket.wait_for("subscribed").await["data"]["filter"],
        json!({"only_errors": "true", "provider_id": "groq"})
    );
    host.get("/chat").await;
    host.get("/broken").await;
    assert_eq!(
        socket.wait_for("request").await["data"]["provider_id"],
        "groq"
    );
    socket
        .ask("subscribe", json!({"channels": ["requests"], "filter": {}}))
        .await;
    assert_eq!(
        socket.wait_for("subscribed").await["data"]["filter"],
        json!({})
    );
    host.get("/chat").await;
    assert_eq!(
        socket.wait_for("request").await["data"]["provider_id"],
        "openai"
    );
}

#[tokio::test]
async fn what_is_wrong_is_answered_and_the_connection_stays() {
    let host = host().await;
    let mut socket = Socket::open(host.address, "/ws/news").await;
    socket.wait_for("connection_established").await;
    for (message, code) in [
        ("no json", "bad_json"),
        ("[]", "bad_message"),
        (r#"{"type":"dance"}"#, "unknown_type"),
        (r#"{"type":"subscribe","data":{}}"#, "bad_message"),
        (
            r#"{"type":"subscribe","data":{"channels":["nonsense"]}}"#,
            "unknown_channel",
        ),
        (
            r#"{"type":"subscribe","data":{"channels":["all","nonsense"]}}"#,
            "unknown_channel",
        ),
        (
            r#"{"type":"subscribe","data":{"channels":["stats"],"filter":{"window":"2m"}}}"#,
            "bad_request",
        ),
    ] {
        socket.send_raw(Message::text(message)).await;
        let error = socket.next().await;
        assert_eq!(
            (&error["type"], &error["data"]["code"]),
            (&json!("error"), &json!(code)),
            "{message}: {error:#}"
        );
        assert!(
            !error["data"]["message"].as_str().unwrap().is_empty(),
            "{error:#}"
        );
    }
    let bomb = "[".repeat(60_000);
    socket.send_raw(Message::text(bomb)).await;
    assert_eq!(socket.next().await["data"]["code"], "bad_json");
    publish(&host, 7);
    assert_eq!(items(&mut socket, 1).await, [7]);
}

#[tokio::test]
async fn pings_of_both_kinds_are_answered() {
    let host = host().await;
    let mut socket = Socket::open(host.address, "/ws").await;
    socket.wait_for("connection_established").await;
    socket.ask("ping", json!({"n": 7})).await;
    let pong = socket.next().await;
    assert_eq!(
        (&pong["type"], &pong["data"]),
        (&json!("pong"), &json!({"n": 7}))
    );
    socket.ask("pong", json!({})).await;
    socket.send_raw(Message::Ping("abc".into())).await;
    assert_eq!(socket.next_raw().await, Some(Message::Pong("abc".into())));
}

#[tokio::test]
async fn heartbeats_come_as_pings_with_the_clients_own_position() {
    let host = host_with(config().heartbeat_interval(Duration::from_millis(100))).await;
    let mut socket = Socket::open(host.address, "/ws/news").await;
    publish(&host, 1);
    let item = socket.wait_for("Item").await;
    let ping = socket.wait_for("ping").await;
    let seq = |envelope: &Value| {
        envelope["id"]
            .as_str()
            .unwrap()
            .split('-')
            .next_back()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    assert!(seq(&ping) >= seq(&item), "{ping:#}");
}

#[tokio::test]
async fn a_message_resumes_as_the_url_does() {
    let host = host().await;
    let mut socket = Socket::open(host.address, "/ws/news").await;
    socket.wait_for("connection_established").await;
    for n in 0..5 {
        publish(&host, n);
    }
    let mut last = Value::Null;
    for _ in 0..3 {
        last = socket.wait_for("Item").await["id"].clone();
    }
    drop(socket);
    for n in 5..8 {
        publish(&host, n);
    }
    let since = last.as_str().unwrap();
    let mut by_message = Socket::open(host.address, "/ws/news").await;
    by_message.ask("resume", json!({"since": since})).await;
    let subscribed = by_message.wait_for("subscribed").await;
    assert_eq!(subscribed["data"]["resume"]["verdict"], "full");
    assert_eq!(items(&mut by_message, 5).await, [3, 4, 5, 6, 7]);
    by_message.ask("resume", json!({"since": "7-7"})).await;
    let subscribed = by_message.wait_for("subscribed").await;
    assert_eq!(subscribed["data"]["resume"]["verdict"], "lost");
    let gap = by_message.wait_for("gap").await;
    assert_fields(
        &gap["data"],
        json!({"channel": "news", "missed": null, "reason": "evicted"}),
    );
    publish(&host, 8);
    assert_eq!(items(&mut by_message, 1).await, [8]);
}

#[tokio::test]
async fn a_reconnect_token_brings_back_channels_filter_and_position() {
    let host = host().await;
    let mut socket = Socket::open(host.address, "/ws").await;
    socket.wait_for("connection_established").await;
    socket
        .ask(
            "subscribe",
            json!({"channels": ["news", "requests"], "filter": {"type": ["Item", "requests"]}}),
        )
        .await;
    let token = socket.wait_for("subscribed").await["data"]["reconnect_token"]
        .as_str()
        .unwrap()
        .to_owned();
    drop(socket);
    publish(&host, 1);
    let mut socket = Socket::open(host.address, &format!("/ws?token={token}")).await;
    let first = socket.next().await;
    assert_eq!(first["data"]["channels"], json!(["news", "requests"]));
    assert_eq!(first["data"]["resume"]["verdict"], "full");
    assert_eq!(items(&mut socket, 1).await, [1]);
}

// Who asks.

#[tokio::test]
async fn credentials_come_in_five_ways() {
    let host = host_with(RealtimeConfig::new(Access::bearer("see-me"))).await;
    let mut request = request(axum::http::Method::POST, "/api/realtime/ticket");
    request
        .headers_mut()
        .insert("authorization", "Bearer see-me".parse().unwrap());
    let ticket = host.send(request).await.data()["ticket"]
        .as_str()
        .unwrap()
        .to_owned();
    let by_ticket = format!("/ws/news?ticket={ticket}");
    for (path, headers) in [
        ("/ws/news", vec![("authorization", "Bearer see-me")]),
        ("/ws/news", vec![("cookie", "realtime_token=see-me")]),
        (&by_ticket, vec![]),
        (
            "/ws/news",
            vec![("sec-websocket-protocol", "bearer.see-me, json")],
        ),
    ] {
        let mut socket = Socket::open_with(host.address, path, &headers).await;
        assert_eq!(
            socket.next().await["type"],
            "connection_established",
            "{headers:?}"
        );
    }
    let mut socket = Socket::open(host.address, "/ws/news").await;
    socket.ask("ping", json!({})).await;
    socket
        .ask("subscribe", json!({"channels": ["requests"]}))
        .await;
    socket.ask("auth", json!({"token": "see-me"})).await;
    assert_eq!(socket.next().await["type"], "pong");
    assert_eq!(socket.next().await["data"]["code"], "unauthorized");
    let first = socket.next().await;
    assert_eq!(
        (&first["type"], &first["data"]["channels"]),
        (&json!("connection_established"), &json!(["news"]))
    );
    publish(&host, 1);
    assert_eq!(items(&mut socket, 1).await, [1]);

    for headers in [
        ("authorization", "Bearer no"),
        ("sec-websocket-protocol", "bearer.no, json"),
    ] {
        let (status, _) = Socket::try_open(host.address, "/ws/news", &[headers])
            .await
            .err()
            .unwrap();
        assert_eq!(status, 401);
    }
    let mut socket = Socket::open(host.address, "/ws/news").await;
    socket.ask("auth", json!({"token": "no"})).await;
    let (envelopes, closed) = socket.rest().await;
    assert_eq!(types(&envelopes), ["error"]);
    assert_eq!(closed.code, Some(4001));
}

#[tokio::test]
async fn messages_behind_a_slow_check_keep_their_order() {
    let (asked, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let access = {
        let (asked, answer) = (asked.clone(), answer.clone());
        Access::check(move |parts| {
            let (asked, answer) = (asked.clone(), answer.clone());
            async move {
                if parts.headers.get("authorization").is_none() {
                    return Err(Denied::unauthenticated());
                }
                asked.notify_one();
                answer.notified().await;
                Ok(Principal::viewer("ana"))
            }
        })
    };
    let host = host_with(RealtimeConfig::new(access)).await;
    let mut socket = Socket::open(host.address, "/ws").await;
    socket.ask("auth", json!({"token": "any"})).await;
    socket.ask("subscribe", json!({"channels": ["news"]})).await;
    socket.ask("ping", json!({})).await;
    socket.ask("auth", json!({"token": "again"})).await;
    socket
        .ask("unsubscribe", json!({"channels": ["news"]}))
        .await;
    soon("the check to begin", asked.notified()).await;
    // A protocol ping does not wait for it.
    socket.send_raw(Message::Ping("x".into())).await;
    assert_eq!(socket.next_raw().await, Some(Message::Pong("x".into())));
    answer.notify_one();
    soon("the second check to begin", asked.notified()).await;
    for kind in ["connection_established", "subscribed", "pong"] {
        assert_eq!(socket.next().await["type"], kind);
    }
    answer.notify_one();
    for kind in ["subscribed", "unsubscribed"] {
        assert_eq!(socket.next().await["type"], kind);
    }
}

#[tokio::test]
async fn a_path_shows_one_tenant_and_a_message_does_not_widen_it() {
    let access = Access::check(|parts| async move {
        let who = parts
            .headers
            .get("x-who")
            .and_then(|who| who.to_str().ok())
            .unwrap_or("")
            .to_owned();
        match who.as_str() {
            "root" => Ok(Principal::admin("root")),
            "narrow" => Ok(Principal::viewer("narrow").channels(["stats"])),
            tenant => Ok(Principal::viewer("v").tenant(tenant)),
        }
    });
    let host = host_with(RealtimeConfig::new(access)).await;
    let mut by_path =
        Socket::open_with(host.address, "/ws/tenant/acme", &[("x-who", "acme")]).await;
    let mut root = Socket::open_with(host.address, "/ws/tenant/acme", &[("x-who", "root")]).await;
    for socket in [&mut by_path, &mut root] {
        socket.wait_for("connection_established").await;
    }
    host.get("/broken").await;
    host.get("/chat").await;
    host.rt
        .publish(Event::new("news", "Item", &json!({"n": 1})))
        .unwrap();
    host.rt
        .publish(Event::new("news", "Item", &json!({"n": 2})).tenant("other"))
        .unwrap();
    host.rt
        .publish(Event::new("news", "Item", &json!({"n": 3})).tenant("acme"))
        .unwrap();
    for socket in [&mut by_path, &mut root] {
        let mut seen = (false, false);
        while seen != (true, true) {
            let envelope = socket.next().await;
            match envelope["type"].as_str().unwrap() {
                "request" => {
                    assert_eq!(envelope["data"]["tenant_id"], "acme", "{envelope:#}");
                    seen.0 = true;
                }
                "Item" => {
                    assert_eq!(envelope["data"]["n"], 3, "{envelope:#}");
                    seen.1 = true;
                }
                "stats_update" => assert_eq!(envelope["data"]["tenant_id"], "acme", "{envelope:#}"),
                "providers" | "subscribed" => {}
                kind => panic!("{kind}: {envelope:#}"),
            }
        }
    }
    let (status, body) = Socket::try_open(host.address, "/ws/tenant/acme", &[("x-who", "other")])
        .await
        .err()
        .unwrap();
    assert_eq!(
        (status.as_u16(), &body["code"]),
        (403, &json!("foreign_tenant"))
    );
    // A message does not widen it.
    let mut narrow = Socket::open_with(host.address, "/ws/stats", &[("x-who", "narrow")]).await;
    narrow.wait_for("connection_established").await;
    narrow
        .ask("subscribe", json!({"channels": ["requests"]}))
        .await;
    assert_eq!(
        narrow.wait_for("error").await["data"]["code"],
        "channel_forbidden"
    );
}

#[tokio::test]
async fn credentials_that_run_out_end_the_connection() {
    let access = Access::check(|_| async {
        Ok::<_, Denied>(
            Principal::viewer("ana").expires_at(SystemTime::now() + Duration::from_millis(300)),
        )
    });
    let host = host_with(RealtimeConfig::new(access)).await;
    let (envelopes, closed) = Socket::open(host.address, "/ws").await.rest().await;
    assert_eq!(types(&envelopes), ["connection_established", "drain"]);
    assert_eq!(envelopes[1]["data"]["reason"], "expired");
    assert_eq!(closed.code, Some(4001));
}

#[tokio::test]
async fn a_socket_is_a_connection_like_a_stream() {
    let access = Access::check(|parts| async move {
        let name = parts
            .headers
            .get("x-user")
            .and_then(|name| name.to_str().ok());
        let name = name.ok_or_else(Denied::unauthenticated)?.to_owned();
        Ok(match name.as_str() {
            "root" => Principal::admin(name),
            _ => Principal::viewer(name),
        })
    });
    let host = host_with(RealtimeConfig::new(access).max_clients_per_user(2)).await;
    let ana = [("x-user", "ana")];
    let mut socket = Socket::open_with(host.address, "/ws/news", &ana).await;
    let first = socket.next().await;
    let (id, token) = (
        &first["data"]["connection_id"],
        &first["data"]["reconnect_token"],
    );
    let id = id.as_str().unwrap();
    let ask = async |method: &str, path: &str, body: Value| {
        let mut request = support::post(&format!("/api/realtime/{path}"), body.to_string());
        *request.method_mut() = method.parse().unwrap();
        request
            .headers_mut()
            .insert("x-user", "root".parse().unwrap());
        host.send(request).await.data()
    };
    let listed = ask("GET", "connections", json!({})).await["connections"][0].clone();
    assert_fields(
        &listed,
        json!({"id": id, "transport": "websocket", "user_id": "ana", "channels": ["news"]}),
    );

    // What is changed from outside and what is changed by a message are the same.
    let change = |kind: &str| format!("connections/{id}/{kind}");
    ask(
        "POST",
        &change("subscribe"),
        json!({"channels": ["logs"], "filter": {"level": "warn"}}),
    )
    .await;
    socket
        .ask("subscribe", json!({"channels": ["alerts"]}))
        .await;
    let subscribed = socket.wait_for("subscribed").await["data"].clone();
    assert_fields(
        &subscribed,
        json!({"channels": ["news", "logs", "alerts"], "filter": {"level": "warn"}}),
    );
    host.rt.log(Level::Error, "a", "yes");
    assert_eq!(socket.wait_for("log").await["data"]["message"], "yes");
    ask(
        "POST",
        &change("unsubscribe"),
        json!({"channels": ["logs"]}),
    )
    .await;
    let listed = ask("GET", "connections", json!({})).await["connections"][0].clone();
    assert_eq!(listed["channels"], json!(["news", "alerts"]));

    // The same session on another connection ends this one, and takes its place.
    let again = format!("/ws?token={}", token.as_str().unwrap());
    let other = Socket::open_with(host.address, "/ws", &ana).await;
    let (status, body) = Socket::try_open(host.address, "/ws", &ana)
        .await
        .err()
        .unwrap();
    assert_eq!(
        (status.as_u16(), &body["code"]),
        (429, &json!("too_many_clients_of_user"))
    );
    let mut taken = Socket::open_with(host.address, &again, &ana).await;
    let (envelopes, closed) = socket.rest().await;
    assert_eq!(envelopes.last().unwrap()["data"]["reason"], "replaced");
    assert_eq!(closed.code, Some(4009));
    drop(other);

    let id = taken.next().await["data"]["connection_id"].clone();
    ask(
        "DELETE",
        &format!("connections/{}", id.as_str().unwrap()),
        json!({}),
    )
    .await;
    let (envelopes, closed) = taken.rest().await;
    assert_eq!(envelopes.last().unwrap()["data"]["reason"], "kicked");
    assert_eq!(closed.code, Some(4008));
}

#[tokio::test]
async fn a_new_token_for_the_same_one_prolongs_and_one_for_another_does_not() {
    let access = Access::check(|parts| async move {
        let token = parts
            .headers
            .get("authorization")
            .and_then(|token| token.to_str().ok());
        let lifetime = match token {
            Some("Bearer short") => Duration::from_millis(1500),
            Some("Bearer long") => Duration::from_secs(3600),
            Some(_) => return Ok(Principal::viewer("bob")),
            None => return Err(Denied::unauthenticated()),
        };
        Ok(Principal::viewer("ana").expires_at(SystemTime::now() + lifetime))
    });
    let host = host_with(RealtimeConfig::new(access)).await;
    let short = [("authorization", "Bearer short")];
    let mut kept = Socket::open_with(host.address, "/ws/news", &short).await;
    let mut ended = Socket::open_with(host.address, "/ws/news", &short).await;
    kept.ask("auth", json!({"token": "long"})).await;
    kept.wait_for("subscribed").await;
    ended.ask("auth", json!({"token": "bob"})).await;
    assert_eq!(
        ended.wait_for("error").await["data"]["code"],
        "another_principal"
    );
    assert_eq!(ended.rest().await.1.code, Some(4001));
    publish(&host, 1);
    assert_eq!(items(&mut kept, 1).await, [1]);
}

// The end.

#[tokio::test]
async fn a_shutdown_says_so_and_waits_for_nobody() {
    let host = host_with(RealtimeConfig::new(Access::bearer("see-me"))).await;
    let known = Socket::open_with(
        host.address,
        "/ws/news",
        &[("authorization", "Bearer see-me")],
    )
    .await;
    let unknown = Socket::open(host.address, "/ws/news").await;
    // One that never reads, nor closes.
    let deaf = Socket::open_with(
        host.address,
        "/ws/news",
        &[("authorization", "Bearer see-me")],
    )
    .await;
    publish(&host, 1);
    let rt = host.rt.clone();
    let drained = tokio::spawn(async move { rt.drain(Duration::from_millis(50)).await });
    let (envelopes, closed) = known.rest().await;
    assert_eq!(
        types(&envelopes),
        ["connection_established", "Item", "drain"]
    );
    assert!(
        envelopes[2]["data"]["retry_ms"].as_u64().is_some(),
        "{envelopes:#?}"
    );
    assert_eq!(
        closed,
        Closed {
            code: Some(1001),
            reason: "shutdown".into()
        }
    );
    let (envelopes, closed) = unknown.rest().await;
    assert_eq!(
        (types(&envelopes), closed.code),
        (vec!["drain"], Some(1001))
    );
    soon("the drain to end", drained).await.unwrap();
    drop(deaf);
}

#[tokio::test]
async fn one_that_sends_too_much_is_let_go() {
    let host = host_with(config().inbound_per_minute(20)).await;
    let mut witness = Socket::open(host.address, "/ws/news").await;
    witness.wait_for("connection_established").await;
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
    assert_eq!(envelopes.last().unwrap()["data"]["code"], "rate_limited");
    assert_eq!(closed.code, Some(4102));
    // Frames that are no messages cost as well.
    let mut socket = Socket::open(host.address, "/ws").await;
    for _ in 0..300 {
        socket.send_raw(Message::Ping("".into())).await;
    }
    assert_eq!(socket.rest().await.1.code, Some(4102));
    publish(&host, 1);
    assert_eq!(items(&mut witness, 1).await, [1]);
}

#[tokio::test]
async fn broken_rules_close_with_their_code() {
    let host = host().await;
    let mut socket = Socket::open(host.address, "/ws").await;
    socket
        .send_raw(Message::text("x".repeat(1024 * 1024)))
        .await;
    assert_eq!(socket.rest().await.1.code, Some(1009));
    let mut socket = Socket::open(host.address, "/ws").await;
    socket.send_raw(Message::binary(vec![1, 2, 3])).await;
    assert_eq!(socket.rest().await.1.code, Some(1003));
    for (bytes, code) in [
        (&[0x81, 0x02, b'h', b'i'][..], 1002_u16),
        (&[0xC1, 0x80, 0, 0, 0, 0], 1002),
        (&[0x83, 0x80, 0, 0, 0, 0], 1002),
        (&[0x80, 0x80, 0, 0, 0, 0], 1002),
        (&[0x81, 0x81, 0, 0, 0, 0, 0xFF], 1007),
        (&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xED], 1002),
        (&[0x88, 0x82, 0, 0, 0, 0, 0x0F, 0xA0], 4000),
    ] {
        let mut socket = TcpStream::connect(host.address).await.unwrap();
        let head = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: test\r\n\r\n";
        socket
            .write_all(&[head.as_bytes(), bytes].concat())
            .await
            .unwrap();
        let mut answer = Vec::new();
        let tail = [&[0x88][..], &[0][..0]].concat();
        let close = async {
            loop {
                let mut piece = [0; 4096];
                let len = socket.read(&mut piece).await.unwrap();
                answer.extend_from_slice(&piece[..len]);
                let found = answer.windows(4).any(|window| {
                    window[0] == tail[0] && window[1] < 126 && window[2..] == code.to_be_bytes()
                });
                if found || len == 0 {
                    return found;
                }
            }
        };
        assert!(soon("the Close frame", close).await, "{bytes:x?}: {code}");
    }
}

#[tokio::test]
async fn silence_is_pinged_then_ended() {
    let quick = config()
        .ws_ping_interval(Duration::from_millis(100))
        .ws_timeout(Duration::from_millis(400));
    let host = host_with(quick).await;
    let mut answering = Socket::open(host.address, "/ws").await;
    // Half-open: it reads, so that it sees the end, and answers nothing.
    let mut silent = TcpStream::connect(host.address).await.unwrap();
    let head = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: test\r\n\r\n";
    silent.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let both = async {
        let ended = silent.read_to_end(&mut answer);
        tokio::pin!(ended);
        loop {
            tokio::select! {
                ended = &mut ended => return ended.unwrap(),
                // Reading answers the pings.
                message = answering.next_raw() => assert!(message.is_some(), "the one that answers was let go"),
            }
        }
    };
    soon("the silent one to be let go", both).await;
    assert!(
        answer.windows(2).any(|window| window == [0x89, 0]),
        "pinged"
    );
    assert!(
        answer
            .windows(4)
            .any(|window| window[0] == 0x88 && window[2..] == 4101_u16.to_be_bytes()),
        "closed"
    );
    answering.until_pong().await;
}

// Other ways to get there.

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

#[tokio::test]
async fn switched_off_the_path_is_the_hosts() {
    let host = host_with(config().ws_enabled(false)).await;
    assert_eq!(host.send(get_request("/ws/stats")).await.status, 404);
    let info = host.data("/api/realtime/info").await;
    assert_eq!(info["transports"]["websocket"]["enabled"], false);
}
