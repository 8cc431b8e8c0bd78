//! Streams as clients see them: heads, frames, resume, gaps, filters, limits, the end.
#![cfg(feature = "axum")]

mod support;

use std::time::Duration;

use axum::{
    Extension, Json, Router,
    http::Method,
    routing::{get, post},
};
use serde_json::{Value, json};
use support::{Event, Host, Stream, assert_fields, config, request, template};
use tower_realtime::{
    Access, ChannelConfig, Event as HostEvent, Filter, Level, LogLine, Received, RequestMeter,
    Start, Usage,
};

fn app() -> Router {
    Router::new()
        .route("/hello/{name}", get(|| async { "hello" }))
        .route(
            "/v1/chat",
            post(
                |Extension(meter): Extension<RequestMeter>, Json(body): Json<Value>| async move {
                    let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
                    meter
                        .provider(text("provider"))
                        .model("gpt-4o")
                        .user(text("user"))
                        .tenant(text("tenant"));
                    meter.tokens(Usage {
                        input: 100,
                        output: 150,
                        cached: 0,
                    });
                    if body["fail"] == true {
                        meter.fail("quota exceeded");
                    }
                    "done"
                },
            ),
        )
}

async fn chat(host: &Host, body: Value) {
    let mut ask = support::post("/v1/chat", body.to_string());
    ask.headers_mut()
        .insert("content-type", "application/json".parse().unwrap());
    assert_eq!(host.send(ask).await.status, 200);
}

fn numbered(channel: &'static str, n: u64) -> HostEvent {
    HostEvent::new(channel, "Tick", &json!({"n": n}))
}

/// The numbers of the next `count` ticks, and that nothing else comes between them.
async fn ticks(stream: &mut Stream, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let event = stream.next().await;
        assert_eq!(event.name, "Tick", "{event:?}");
        numbers.push(event.data["n"].as_u64().unwrap());
    }
    numbers
}

async fn resume(host: &Host, path: &str, id: &str) -> Stream {
    let mut ask = support::get(path);
    ask.headers_mut()
        .insert("last-event-id", id.parse().unwrap());
    host.connect().await.stream(ask).await
}

#[tokio::test]
async fn the_head_and_the_first_frame_are_as_promised() {
    let host = Host::start(app()).await;
    let stream = host.stream("/stream/stats").await;
    assert_eq!(stream.headers["cache-control"], "no-cache, no-transform");
    assert_eq!(stream.headers["x-accel-buffering"], "no");
    let token = stream.headers["x-reconnect-token"]
        .to_str()
        .unwrap()
        .to_owned();
    let first = &stream.established;
    assert!(
        first.id.is_some()
            && first
                .retry
                .is_some_and(|retry| (1000..=3000).contains(&retry)),
        "{first:?}"
    );
    assert_fields(
        &first.data,
        json!({
            "reconnect_token": token,
            "channels": ["stats"],
            "heartbeat_ms": 15_000,
            "resume": {"verdict": "fresh", "replayed": 0, "missed_channels": []},
        }),
    );
    assert!(
        first.data["connection_id"]
            .as_str()
            .is_some_and(|id| !id.is_empty())
    );
}

#[tokio::test]
async fn the_four_channels_of_seed_000_have_its_fields() {
    let host = Host::start(app()).await;
    host.rt
        .provider("openai")
        .name("OpenAI Free")
        .kind("free")
        .models(5)
        .supports_tools(true)
        .upsert();
    let mut all = host.stream("/stream/all").await;
    chat(
        &host,
        json!({"provider": "openai", "user": "ana", "tenant": "acme"}),
    )
    .await;

    let request = all.wait_for("requests").await;
    assert_fields(
        &request.data,
        json!({
            "provider_id": "openai", "model_id": "gpt-4o", "user_id": "ana", "tenant_id": "acme", "method": "POST",
            "endpoint": template("/v1/chat"), "status_code": 200, "input_tokens": 100, "output_tokens": 150, "success": true,
            "estimated_cost": null, "aborted": false, "error_message": "",
        }),
    );
    assert!(
        request.data["latency_ms"]
            .as_f64()
            .is_some_and(|ms| ms > 0.0),
        "{request:?}"
    );
    let logs = all.wait_for("logs").await;
    assert_eq!(logs.data["count"], 1);
    assert_eq!(
        logs.data["logs"][0], request.data,
        "the same record, with the same id"
    );
    let stats = all
        .wait_until("stats with the request", |event| {
            event.name == "stats" && event.data["total_requests"] == 1
        })
        .await;
    assert_fields(
        &stats.data,
        json!({"total_tokens": 250, "total_cost": 0, "unpriced_requests": 1}),
    );
    assert_fields(
        &stats.data["providers"][0],
        json!({
            "provider_id": "openai", "total_requests": 1, "success_rate": 1, "total_tokens": 250,
            "error_count": 0, "timeout_count": 0, "quota_exhausted": 0,
        }),
    );
    let providers = all
        .wait_until("providers with the request", |event| {
            event.name == "providers" && event.data["providers"][0]["realtime_requests"] == 1
        })
        .await;
    assert_fields(
        &providers.data["providers"][0],
        json!({
            "id": "openai", "name": "OpenAI Free", "type": "free", "supports_tools": true, "model_count": 5,
            "realtime_success_rate": 1, "realtime_errors": 0,
        }),
    );
    assert_eq!(providers.data["total"], 1);
}

#[tokio::test]
async fn state_is_there_at_once() {
    let host = Host::start(app()).await;
    for channel in ["stats", "providers", "system"] {
        let mut stream = host.stream(&format!("/stream/{channel}")).await;
        assert_eq!(stream.next().await.name, channel);
    }
}

#[tokio::test]
async fn the_hosts_own_channels_log_lines_and_gauges_come_over_sse() {
    let host = Host::start(app()).await;
    host.rt
        .channel("campaigns", ChannelConfig::stream())
        .unwrap();
    host.rt.gauge("db_connections", || 7.0).unwrap();
    let mut stream = host.stream("/stream?channels=campaigns,logs").await;
    host.rt.publish(numbered("campaigns", 1)).unwrap();
    host.rt.log(Level::Warn, "router", "fallback to groq");
    let tick = stream.next().await;
    assert_eq!((tick.name.as_str(), &tick.data), ("Tick", &json!({"n": 1})));
    let log = stream.next().await;
    assert_eq!(log.name, "log");
    assert_fields(
        &log.data,
        json!({"level": "warn", "component": "router", "message": "fallback to groq"}),
    );
    assert!(tick.seq() < log.seq());

    let mut system = host.stream("/stream/system").await;
    let gauge = |event: &Event| event.data["gauges"]["db_connections"] == 7.0;
    system.wait_until("the gauge", gauge).await;

    let unknown = host.rt.publish(numbered("nowhere", 1)).unwrap_err();
    assert!(unknown.is_unknown_channel(), "{unknown}");
    assert!(
        host.rt
            .publish(numbered("stats", 1))
            .unwrap_err()
            .is_invalid()
    );
}

#[tokio::test]
async fn heartbeats_carry_the_clients_own_position() {
    let config = config().heartbeat_interval(Duration::from_millis(200));
    let host = Host::configured(config, app()).await;
    host.rt.channel("a", ChannelConfig::stream()).unwrap();
    host.rt.channel("b", ChannelConfig::stream()).unwrap();
    let mut stream = host.stream("/stream/a").await;
    assert_eq!(stream.established.data["heartbeat_ms"], 200);
    host.rt.publish(numbered("a", 1)).unwrap();
    host.rt.publish(numbered("b", 2)).unwrap();
    let tick = stream.next().await;
    let beat = stream
        .wait_until("a heartbeat past b", |event| event.seq() > tick.seq())
        .await;
    assert_eq!(beat.name, "heartbeat");
    assert!(
        beat.data["timestamp"]
            .as_u64()
            .is_some_and(|seconds| seconds > 1_600_000_000),
        "{beat:?}"
    );
    let mut back = resume(&host, "/stream?channels=a,b", beat.id.as_deref().unwrap()).await;
    host.rt.publish(numbered("b", 3)).unwrap();
    assert_eq!(ticks(&mut back, 1).await, [3]);
}

#[tokio::test]
async fn filters_apply_to_rows_inside_batches_too() {
    let host = Host::start(app()).await;
    let mut ana = host
        .stream("/stream?channels=requests,logs&user_id=ana")
        .await;
    let mut failed = host.stream("/stream/requests?only_errors=true").await;
    let mut acme = host
        .stream("/stream/requests?tenant_id=acme&provider_id=p2")
        .await;
    for (provider, user, tenant, fail) in [
        ("p1", "bob", "acme", false),
        ("p1", "ana", "acme", false),
        ("p2", "bob", "acme", true),
        ("p2", "ana", "other", false),
    ] {
        chat(
            &host,
            json!({"provider": provider, "user": user, "tenant": tenant, "fail": fail}),
        )
        .await;
    }
    let mut requests = 0;
    let mut logged = 0;
    while requests < 2 || logged < 2 {
        let event = ana.next().await;
        match event.name.as_str() {
            "requests" => {
                assert_eq!(event.data["user_id"], "ana");
                requests += 1;
            }
            "logs" => {
                let rows = event.data["logs"].as_array().unwrap();
                assert!(rows.iter().all(|row| row["user_id"] == "ana"), "{event:?}");
                assert_eq!(event.data["count"], rows.len());
                logged += rows.len();
            }
            _ => {}
        }
    }
    let row = failed.next().await;
    assert_fields(
        &row.data,
        json!({"success": false, "error_message": "quota exceeded", "provider_id": "p2"}),
    );
    let row = acme.next().await;
    assert_fields(
        &row.data,
        json!({"tenant_id": "acme", "provider_id": "p2", "user_id": "bob"}),
    );
}

#[tokio::test]
async fn log_lines_are_filtered_by_level_and_component() {
    let host = Host::start(app()).await;
    let mut warn = host.stream("/stream/logs?level=warn").await;
    let mut exact = host
        .stream("/stream/logs?level=debug,error&component=router")
        .await;
    host.rt.log(Level::Info, "router", "1");
    host.rt.log(Level::Debug, "router", "2");
    host.rt.log(Level::Error, "cache", "3");
    host.rt.log_line(
        LogLine::new(Level::Error, "router", "4")
            .request("r-1")
            .field("a", "b"),
    );
    let mut messages = Vec::new();
    for stream in [&mut warn, &mut exact] {
        for _ in 0..2 {
            messages.push(
                stream.wait_for("log").await.data["message"]
                    .as_str()
                    .unwrap()
                    .to_owned(),
            );
        }
    }
    assert_eq!(messages, ["3", "4", "2", "4"]);
}

#[tokio::test]
async fn stats_come_over_the_asked_window_and_at_the_asked_pace() {
    let host = Host::start(app()).await;
    let mut stream = host.stream("/stream/stats?window=1m&interval=1").await;
    let first = stream.next().await;
    assert_eq!(
        (first.name.as_str(), &first.data["window"]),
        ("stats", &json!("1m"))
    );
    assert_eq!(
        host.data("/api/realtime/hub/stats").await["subscriptions"]["stats"],
        1
    );
    let mut usual = host.stream("/stream/stats").await;
    let position = |event: &Event| {
        let id = event.id.as_deref().unwrap();
        id.rsplit_once('-').unwrap().1.parse::<u64>().unwrap()
    };
    let (mut ends, mut asked) = (0, 0);
    for _ in 0..3 {
        ends = position(&usual.wait_for("stats").await);
    }
    while let next = stream.wait_for("stats").await
        && position(&next) < ends
    {
        assert_eq!(next.data["window"], "1m");
        asked += 1;
    }
    assert!(
        asked > 2,
        "{asked} in the time of two at the usual pace of two seconds"
    );
}

#[tokio::test]
async fn a_reader_that_wants_fewer_events_is_told_what_it_skipped() {
    let host = Host::start(app()).await;
    host.rt.channel("a", ChannelConfig::stream()).unwrap();
    let mut stream = host.stream("/stream/a?max_rate=5").await;
    for n in 0..100 {
        host.rt.publish(numbered("a", n)).unwrap();
    }
    let (mut delivered, mut skipped) = (0, 0);
    while delivered + skipped < 100 {
        let event = stream.next().await;
        match event.name.as_str() {
            "Tick" => delivered += 1,
            "gap" => {
                assert_eq!(event.data["reason"], "rate");
                skipped += event.data["missed"].as_u64().unwrap();
            }
            _ => {}
        }
    }
    assert_eq!(delivered + skipped, 100);
    assert!((1..=10).contains(&delivered), "{delivered}");
}

#[tokio::test]
async fn head_gives_the_head_and_other_methods_a_405() {
    let host = Host::start(app()).await;
    let head = host.send(request(Method::HEAD, "/stream/stats")).await;
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-type"), "text/event-stream");
    assert!(head.body.is_empty());
    for path in ["/stream/stats", "/stream", "/api/realtime/metrics"] {
        let refused = host.send(request(Method::DELETE, path)).await;
        refused.refusal(405);
        assert_eq!(refused.header("allow"), "GET, HEAD");
    }
    let html = {
        let mut ask = support::get("/stream/stats");
        ask.headers_mut()
            .insert("accept", "text/html".parse().unwrap());
        host.connect().await.stream(ask).await
    };
    assert_eq!(
        html.headers["content-type"], "text/event-stream",
        "never 406"
    );
}

#[tokio::test]
async fn too_many_clients_are_refused_in_the_way_they_understand() {
    let host = Host::configured(config().max_clients(1), app()).await;
    let first = host.stream("/stream/stats").await;
    let refused = host.get("/stream/stats").await;
    refused.refusal(503);
    assert!(refused.header("retry-after").parse::<u64>().is_ok());
    let mut browser = support::get("/stream/stats");
    browser
        .headers_mut()
        .insert("accept", "text/event-stream".parse().unwrap());
    browser
        .headers_mut()
        .insert("sec-fetch-mode", "cors".parse().unwrap());
    let busy = host.send(browser).await;
    assert_eq!(busy.status, 200);
    let event = support::parse(busy.text().trim_end()).unwrap();
    assert_eq!(event.name, "busy");
    assert_eq!(event.retry, event.data["retry_ms"].as_u64());
    drop(first);
    let free =
        async { while host.get("/api/realtime/hub/stats").await.data()["total_clients"] != 0 {} };
    support::soon("the place to be free", free).await;
    host.stream("/stream/stats").await;
}

#[tokio::test]
async fn a_path_of_its_own_takes_a_reconnect_token() {
    let host = Host::start(app()).await;
    host.rt.channel("a", ChannelConfig::stream()).unwrap();
    let first = host.stream("/stream/a").await;
    let token = first.headers["x-reconnect-token"].to_str().unwrap();
    let path = format!("/stream/reconnect?token={token}");
    host.rt.publish(numbered("a", 1)).unwrap();
    let mut back = host.stream(&path).await;
    assert_eq!(back.established.data["resume"]["verdict"], "full");
    assert_eq!(ticks(&mut back, 1).await, [1]);
    host.get("/stream/reconnect").await.refusal(400);
}

#[tokio::test]
async fn a_drain_sets_the_time_after_which_an_event_source_comes_back() {
    let host = Host::start(app()).await;
    let stream = host.stream("/stream/stats").await;
    let mut kept = host.connect().await;
    assert_eq!(kept.send(support::get("/hello/you")).await.status, 200);
    host.rt.drain(Duration::ZERO).await;
    let last = stream.rest().await.pop().unwrap();
    assert_eq!(last.name, "drain");
    assert_eq!(last.retry, last.data["retry_ms"].as_u64());
    // A connection that was there before is served on, and gets no new stream.
    assert_eq!(kept.send(support::get("/hello/you")).await.status, 200);
    let refused = kept.send(support::get("/stream/stats")).await;
    refused.refusal(503);
    assert!(refused.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn the_same_events_come_in_process() {
    let host = Host::start(app()).await;
    host.rt.channel("a", ChannelConfig::stream()).unwrap();
    let mut events = host
        .rt
        .subscribe(["a", "requests"], Filter::default())
        .unwrap();
    host.rt.publish(numbered("a", 1)).unwrap();
    let Some(Received::Event {
        id,
        channel,
        kind,
        data,
        ..
    }) = events.next().await
    else {
        panic!()
    };
    assert_eq!(
        (channel.as_str(), kind.as_str(), &data[..]),
        ("a", "Tick", &br#"{"n":1}"#[..])
    );
    host.get("/hello/you").await;
    let Some(Received::Event { kind, .. }) = events.next().await else {
        panic!()
    };
    assert_eq!(kind, "requests");
    let mut again = host
        .rt
        .subscribe_from(["a"], Filter::default(), Start::Earliest)
        .unwrap();
    let Some(Received::Event { id: first, .. }) = again.next().await else {
        panic!()
    };
    assert_eq!(first, id);
    assert!(
        host.rt
            .subscribe(["nowhere"], Filter::default())
            .unwrap_err()
            .is_unknown_channel()
    );
    host.rt.shutdown();
    assert_eq!(events.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_in_process_may_take_its_time_over_one_event() {
    let config = config().stall_timeout(Duration::from_secs(3));
    let realtime = tower_realtime::RealtimeLayer::new(config);
    let rt = realtime.handle();
    rt.channel("a", ChannelConfig::stream()).unwrap();
    let mut events = rt.subscribe(["a"], Filter::default()).unwrap();
    let of = |received| match received {
        Some(Received::Event { data, .. }) => String::from_utf8(data.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    };
    for n in 0..5 {
        rt.publish(numbered("a", n)).unwrap();
        if n == 0 {
            assert_eq!(of(events.next().await), r#"{"n":0}"#);
        }
        // It is still at the first one.
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    for n in 1..5 {
        assert_eq!(of(events.next().await), format!(r#"{{"n":{n}}}"#));
    }
    rt.shutdown();
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn a_ticket_opens_one_stream_and_nothing_else() {
    let access = Access::bearer("see-me").admin("rule-me");
    let host = Host::configured(tower_realtime::RealtimeConfig::new(access), app()).await;
    let ticket = async || {
        let mut ask = support::post("/api/realtime/ticket", "");
        let token = "Bearer rule-me".parse().unwrap();
        ask.headers_mut().insert("authorization", token);
        host.send(ask).await.data()["ticket"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let spent = ticket().await;
    host.stream(&format!("/stream/stats?ticket={spent}")).await;
    host.get(&format!("/stream/stats?ticket={spent}"))
        .await
        .refusal(401);

    // A URL in somebody's log must not be worth another ticket, a number or an act.
    let unspent = ticket().await;
    for path in ["/api/realtime/ticket", "/api/realtime/broadcast"] {
        let ask = support::post(&format!("{path}?ticket={unspent}"), "{}");
        host.send(ask).await.refusal(401);
    }
    host.get(&format!("/api/realtime/metrics?ticket={unspent}"))
        .await
        .refusal(401);
    host.send(request(
        Method::HEAD,
        &format!("/stream/stats?ticket={unspent}"),
    ))
    .await;
    host.stream(&format!("/stream/stats?ticket={unspent}"))
        .await;
}

#[tokio::test]
async fn names_are_told_once_and_criteria_are_short() {
    let host = Host::start(app()).await;
    let many = vec!["stats"; 5000].join(",");
    let stream = host.stream(&format!("/stream?channels={many},logs")).await;
    assert_eq!(
        stream.established.data["channels"],
        json!(["stats", "logs"])
    );
    let long = "x".repeat(257);
    let said = host
        .get(&format!("/stream/logs?provider_id={long}"))
        .await
        .refusal(400);
    assert!(
        said.contains("provider_id") && said.contains("256"),
        "{said}"
    );
}
