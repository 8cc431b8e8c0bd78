//! What comes: the events, as seed 001 prints them.

use super::*;

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
    assert_fields(
        &info["transports"]["websocket"],
        json!({
            "enabled": true, "endpoint": "/ws", "extensions": ["permessage-deflate"],
            "subprotocols": ["json", "msgpack", "bearer.<token>"],
        }),
    );
}

#[tokio::test]
async fn what_can_be_said_is_listed() {
    let host = host().await;
    let transports = host.data("/api/realtime/info").await["transports"].clone();
    let listed = |of: &Value| -> Vec<String> { serde_json::from_value(of.clone()).unwrap() };
    let types = &transports["websocket"]["message_types"];
    let (taken, told) = (listed(&types["in"]), listed(&types["out"]));
    let events = listed(&transports["sse"]["event_types"]);
    let mut socket = Socket::open(host.address, "/ws/all").await;
    let mut stream = host.stream("/stream/all").await;
    host.rt
        .provider("p")
        .status(ProviderStatus::Healthy)
        .upsert();
    host.rt.log(Level::Info, "a", "b");
    host.get("/chat").await;
    // Each of them does something, if only to be told what it lacks.
    for kind in &taken {
        socket.ask(kind, json!({"since": "earliest"})).await;
    }
    socket
        .ask("unsubscribe", json!({"channels": ["system"]}))
        .await;
    let mut seen = std::collections::HashSet::new();
    while ["request", "log", "provider_status", "unsubscribed", "error"]
        .iter()
        .any(|kind| !seen.contains(*kind))
    {
        let envelope = socket.next().await;
        let kind = envelope["type"].as_str().unwrap().to_owned();
        assert!(told.contains(&kind), "{kind} is not in {told:?}");
        assert_ne!(envelope["data"]["code"], "unknown_type", "{envelope:#}");
        seen.insert(kind);
    }
    stream
        .wait_until("the request", |event| {
            assert!(
                events.contains(&event.name),
                "{} is not in {events:?}",
                event.name
            );
            event.name == "requests"
        })
        .await;
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
