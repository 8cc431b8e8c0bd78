//! The host's own log lines as `log` events: the layer of the feature `tracing`.
#![cfg(feature = "tracing")]

mod support;

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use axum::{Extension, Router, routing::get};
use serde_json::{Value, json};
use tower_realtime::{
    Access, Denied, Events, Filter, Level, Principal, RealtimeConfig, RealtimeHandle, Received,
    RequestMeter,
};
use tracing_subscriber::{Layer, filter::EnvFilter, layer::SubscriberExt};

use support::{Host, assert_fields, config, soon};

/// The next line.
async fn line(events: &mut Events) -> Value {
    loop {
        match soon("a line", events.next()).await {
            Some(Received::Event { kind, data, .. }) if kind == "log" => {
                return serde_json::from_slice(&data).unwrap();
            }
            Some(_) => {}
            None => panic!("the hub has been shut down"),
        }
    }
}

/// The lines up to one that says `end`, which is left out.
async fn lines(rt: &RealtimeHandle, events: &mut Events) -> Vec<Value> {
    rt.log(Level::Error, "test", "end");
    let mut lines = Vec::new();
    loop {
        match line(events).await {
            end if end["component"] == "test" && end["message"] == "end" => return lines,
            line => lines.push(line),
        }
    }
}

fn messages(lines: &[Value]) -> Vec<&str> {
    lines
        .iter()
        .map(|line| line["message"].as_str().unwrap())
        .collect()
}

fn realtime() -> RealtimeHandle {
    tower_realtime::RealtimeLayer::new(RealtimeConfig::new(Access::public())).handle()
}

#[tokio::test]
async fn a_line_has_its_level_target_message_and_typed_fields() {
    let rt = realtime();
    let mut events = rt.subscribe(["logs"], Filter::default()).unwrap();
    let subscriber = tracing_subscriber::registry().with(rt.tracing_layer(Level::Debug));
    let _default = tracing::subscriber::set_default(subscriber);
    let cause = std::io::Error::other("disk full");
    tracing::warn!(
        target: "router",
        attempt = 2_u64,
        delta = -3_i64,
        ratio = 0.5,
        endless = f64::INFINITY,
        cached = true,
        large = u128::MAX,
        model = "gpt-4o",
        shown = ?[1, 2],
        error = &cause as &dyn std::error::Error,
        provider_id = %"groq",
        request_id = 17,
        "fallback to {}",
        "groq"
    );
    tracing::debug!("plain");
    tracing::trace!("too fine");
    let first = line(&mut events).await;
    assert_fields(
        &first,
        json!({
            "level": "warn",
            "component": "router",
            "message": "fallback to groq",
            "provider_id": "groq",
            "request_id": "17",
            "fields": {
                "attempt": 2,
                "delta": -3,
                "ratio": 0.5,
                "endless": "inf",
                "cached": true,
                "large": u128::MAX.to_string(),
                "model": "gpt-4o",
                "shown": "[1, 2]",
                "error": "disk full",
            },
        }),
    );
    assert!(first["timestamp_ms"].as_u64().unwrap() > 1_700_000_000_000);
    let rest = lines(&rt, &mut events).await;
    assert_eq!(messages(&rest), ["plain"]);
    assert_fields(
        &rest[0],
        json!({"level": "debug", "component": "tracing", "provider_id": null, "request_id": null, "fields": {}}),
    );
}

#[tokio::test]
async fn spans_say_what_the_line_does_not() {
    let rt = realtime();
    let mut events = rt.subscribe(["logs"], Filter::default()).unwrap();
    let subscriber = tracing_subscriber::registry().with(rt.tracing_layer(Level::Info));
    let _default = tracing::subscriber::set_default(subscriber);
    let request = tracing::info_span!(
        "request",
        request_id = "r-1",
        model = "small",
        user = tracing::field::Empty,
        provider_id = tracing::field::Empty
    );
    let _request = request.enter();
    let _call = tracing::info_span!("call", model = "large", step = 1).entered();
    // Below the level, so it is not looked at.
    let _debug = tracing::debug_span!("hidden", secret = 1).entered();
    tracing::info!("before");
    request.record("user", "ana");
    request.record("provider_id", "openai");
    tracing::info!(step = 2, request_id = "r-2", "after");
    tracing::info!(parent: None, "alone");
    let lines = lines(&rt, &mut events).await;
    assert_fields(
        &lines[0],
        json!({"request_id": "r-1", "provider_id": null, "fields": {"model": "large", "step": 1}}),
    );
    assert_fields(
        &lines[1],
        json!({
            "request_id": "r-2",
            "provider_id": "openai",
            "fields": {"model": "large", "step": 2, "user": "ana"},
        }),
    );
    assert_fields(&lines[2], json!({"request_id": null, "fields": {}}));
}

#[tokio::test]
async fn texts_and_fields_are_cut_while_they_are_made() {
    /// Shows itself for ever.
    struct Endless;
    impl fmt::Debug for Endless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            loop {
                f.write_str("endless\u{1}")?;
            }
        }
    }
    let rt = realtime();
    let mut events = rt.subscribe(["logs"], Filter::default()).unwrap();
    let subscriber = tracing_subscriber::registry().with(rt.tracing_layer(Level::Info));
    let _default = tracing::subscriber::set_default(subscriber);
    macro_rules! many {
        ($($name:ident)*) => { tracing::info!($($name = ?Endless,)* "{:?}", Endless) };
    }
    many!(a00 a01 a02 a03 a04 a05 a06 a07 a08 a09 a10 a11 a12 a13 a14 a15 a16 a17 a18 a19 a20 a21 a22 a23 a24 a25 a26);
    let _outer = tracing::info_span!("outer", b0 = 0, b1 = 1, b2 = 2, b3 = 3, b4 = 4).entered();
    many!(a00 a01 a02 a03 a04 a05 a06 a07 a08 a09 a10 a11 a12 a13 a14 a15 a16 a17 a18 a19 a20 a21 a22 a23 a24 a25 a26 a27 a28 a29);
    let lines = lines(&rt, &mut events).await;
    for (line, fields) in lines.iter().zip([27, 32]) {
        let message = line["message"].as_str().unwrap();
        assert!(message.ends_with('…') && message.len() <= 8 * 1024 + 3);
        let of = line["fields"].as_object().unwrap();
        assert_eq!(of.len(), fields);
        let longest = of.values().filter_map(|value| value.as_str()).map(str::len);
        assert!(longest.max().unwrap() <= 512 + 3);
        assert!(line.to_string().len() < 60_000);
    }
    assert_eq!(lines[1]["fields"]["b1"], 1);
}

#[tokio::test]
async fn filters_of_each_layer_and_lines_of_the_log_crate() {
    let rt = realtime();
    let mut events = rt.subscribe(["logs"], Filter::default()).unwrap();
    let narrow = EnvFilter::new("warn,tracing=info,noisy=off");
    let subscriber = tracing_subscriber::registry()
        .with(
            tracing_subscriber::fmt::layer()
                .with_writer(std::io::sink)
                .with_filter(EnvFilter::new("off")),
        )
        .with(rt.tracing_layer(Level::Debug).with_filter(narrow));
    let default = tracing::subscriber::set_default(subscriber);
    tracing::info!("here");
    tracing::info!(target: "elsewhere", "hidden by the filter");
    tracing::error!(target: "noisy", "hidden by name");
    tracing::warn!(target: "elsewhere", "told");
    tracing::debug!("hidden by the filter");
    assert_eq!(messages(&lines(&rt, &mut events).await), ["here", "told"]);

    drop(default);
    let _ = tracing_log::LogTracer::init();
    let subscriber = tracing_subscriber::registry().with(rt.tracing_layer(Level::Info));
    let _default = tracing::subscriber::set_default(subscriber);
    log::warn!(target: "legacy::pool", "connection lost");
    log::warn!(target: "tower_realtime::hub", "our own");
    log::debug!(target: "legacy::pool", "too fine");
    let lines = lines(&rt, &mut events).await;
    assert_eq!(messages(&lines), ["connection lost"]);
    assert_fields(
        &lines[0],
        json!({"level": "warn", "component": "legacy::pool", "fields": {}}),
    );
}

#[tokio::test]
async fn what_is_ours_or_of_the_network_is_no_line() {
    let rt = realtime();
    let mut events = rt.subscribe(["logs"], Filter::default()).unwrap();
    let subscriber = tracing_subscriber::registry().with(rt.tracing_layer(Level::Trace));
    let _default = tracing::subscriber::set_default(subscriber);
    tracing::error!(target: "tower_realtime", "own");
    tracing::error!(target: "tower_realtime::transport::sse", "own");
    tracing::trace!(target: "hyper::proto::h1", "flushed");
    tracing::debug!(target: "h2::codec", "frame");
    tracing::info!(target: "hyper::server", "a host wants to know");
    tracing::trace!(target: "tower_realtime_demo", "somebody else's");
    tracing::trace!(target: "hyperion", "somebody else's");
    assert_eq!(
        messages(&lines(&rt, &mut events).await),
        ["a host wants to know", "somebody else's", "somebody else's"]
    );
}

#[tokio::test]
async fn a_line_inside_a_request_has_that_requests_id() {
    async fn handler() -> &'static str {
        tracing::info!("in the handler");
        tokio::task::yield_now().await;
        tracing::info!("later");
        "done"
    }
    let host = Host::configured(config(), Router::new().route("/", get(handler))).await;
    let mut rows = host.watch().await;
    let mut events = host.rt.subscribe(["logs"], Filter::default()).unwrap();
    let subscriber = tracing_subscriber::registry().with(host.rt.tracing_layer(Level::Info));
    let _default = tracing::subscriber::set_default(subscriber);
    let mut request = support::get("/");
    request
        .headers_mut()
        .insert("x-request-id", "r-77".parse().unwrap());
    assert_eq!(host.send(request).await.text(), "done");
    tracing::info!("outside");
    assert_eq!(host.get("/").await.text(), "done");
    let lines = lines(&host.rt, &mut events).await;
    let ids: Vec<_> = lines.iter().map(|line| &line["request_id"]).collect();
    let recorded = rows.take(2).await;
    // One that came without an id has the one that its record has.
    let given = &recorded[1]["id"];
    assert!(given.is_string(), "{recorded:?}");
    assert_eq!(
        ids,
        [&json!("r-77"), &json!("r-77"), &json!(null), given, given]
    );
    assert_eq!(recorded[0]["id"], "r-77");
}

#[tokio::test]
async fn requests_that_log_nothing_and_those_that_do_have_ids_of_their_own() {
    async fn handler(Extension(meter): Extension<RequestMeter>) {
        meter.label("before", "x");
        tracing::info!("one");
        meter.label("after", "y");
    }
    let router = Router::new()
        .route("/says", get(handler))
        .route("/silent", get(|| async {}));
    let host = Host::configured(config(), router).await;
    let mut rows = host.watch().await;
    let mut events = host.rt.subscribe(["logs"], Filter::default()).unwrap();
    let subscriber = tracing_subscriber::registry().with(host.rt.tracing_layer(Level::Info));
    let _default = tracing::subscriber::set_default(subscriber);
    for path in ["/says", "/silent", "/says", "/silent"] {
        host.get(path).await;
    }
    let recorded = rows.take(4).await;
    let ids: std::collections::HashSet<_> = recorded.iter().map(|row| row["id"].as_str()).collect();
    assert_eq!(ids.len(), 4, "{recorded:?}");
    // What was said beside is there as well.
    assert_fields(&recorded[0]["labels"], json!({"before": "x", "after": "y"}));
    let lines = lines(&host.rt, &mut events).await;
    for (line, row) in lines.iter().zip([&recorded[0], &recorded[2]]) {
        assert_eq!(line["request_id"], row["id"]);
    }
}

#[tokio::test]
async fn a_flood_leaves_half_of_the_inbox_and_is_counted() {
    let host = Host::configured(config().inbox_capacity(64), Router::new()).await;
    let subscriber = tracing_subscriber::registry().with(host.rt.tracing_layer(Level::Info));
    let _default = tracing::subscriber::set_default(subscriber);
    let mut events = host.rt.subscribe(["logs"], Filter::default()).unwrap();
    // Without an await: the hub's task gets no turn.
    for n in 0..1000 {
        tracing::info!(n, "flood");
    }
    for _ in 0..20 {
        host.rt.log(Level::Info, "host", "still fits");
    }
    let lines = lines(&host.rt, &mut events).await;
    let told = messages(&lines);
    let of = |wanted| told.iter().filter(|told| **told == wanted).count();
    assert!((16..=40).contains(&of("flood")), "{}", of("flood"));
    assert_eq!(of("still fits"), 20);
    let stats = host.data("/api/realtime/hub/stats").await;
    assert_eq!(
        stats["hub"]["refused"].as_u64().unwrap(),
        1000 - of("flood") as u64
    );
}

/// Writes down what the crate itself says.
#[derive(Clone, Default)]
struct Own(Arc<Mutex<Vec<(String, String)>>>);

impl<S: tracing::Subscriber> Layer<S> for Own {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        struct Fields(String);
        impl tracing::field::Visit for Fields {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
                self.0 += &format!("{field}={value:?} ");
            }
        }
        let target = event.metadata().target();
        if target.starts_with("tower_realtime") {
            let mut fields = Fields(String::new());
            event.record(&mut fields);
            self.0.lock().unwrap().push((target.to_owned(), fields.0));
        }
    }
}

#[tokio::test]
async fn what_an_admin_does_is_in_the_hosts_own_log_and_once_in_ours() {
    let access = Access::bearer("viewer-secret-viewer-secret").admin("admin-secret-admin-secret");
    let host = Host::configured(RealtimeConfig::new(access), Router::new()).await;
    let own = Own::default();
    let subscriber = tracing_subscriber::registry()
        .with(own.clone())
        .with(host.rt.tracing_layer(Level::Info));
    let _default = tracing::subscriber::set_default(subscriber);
    let mut events = host.rt.subscribe(["logs"], Filter::default()).unwrap();
    let line =
        json!({"channel": "logs", "type": "log", "data": {"level": "info", "message": "hello"}});
    let mut request = support::post("/api/realtime/broadcast", line.to_string());
    let token = "Bearer admin-secret-admin-secret".parse().unwrap();
    request.headers_mut().insert("authorization", token);
    assert_eq!(host.send(request).await.status, 201);
    let lines = lines(&host.rt, &mut events).await;
    let audits = lines.iter().filter(|line| line["component"] == "audit");
    assert_eq!(audits.count(), 1, "{lines:?}");
    let said = own.0.lock().unwrap();
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0].0, "tower_realtime::audit");
    assert!(said[0].1.contains("action=\"broadcast\""), "{said:?}");
    assert!(!said[0].1.contains("secret"), "{said:?}");
}

/// What a text log of the host has got.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn nobodys_name_adds_a_line_to_the_hosts_log() {
    let access = Access::check(|_| async {
        let named =
            Principal::admin("eve\n2026-01-01T00:00:00Z  INFO audit: root: kick \u{1b}[31mana");
        Ok::<_, Denied>(named.tenant("acme\rfoo"))
    });
    let host = Host::configured(RealtimeConfig::new(access), Router::new()).await;
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::registry().with(
        tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .with_filter(EnvFilter::new("tower_realtime=trace")),
    );
    let _default = tracing::subscriber::set_default(subscriber);
    let mut events = host.rt.subscribe(["logs"], Filter::default()).unwrap();
    let body =
        json!({"channel": "logs", "type": "log", "data": {"level": "info", "message": "hello"}});
    let request = support::post("/api/realtime/broadcast", body.to_string());
    assert_eq!(host.send(request).await.status, 201);
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text:?}");
    assert!(text.contains("eve\\n2026"), "{text:?}");
    assert!(!text.trim_end().contains(char::is_control), "{text:?}");
    let lines = lines(&host.rt, &mut events).await;
    let audit = lines.iter().find(|line| line["component"] == "audit");
    let message = audit.unwrap()["message"].as_str().unwrap();
    assert!(!message.contains(char::is_control), "{message:?}");
}

#[tokio::test]
async fn the_layer_outlives_the_hub_without_keeping_it() {
    let rt = realtime();
    let mut events = rt.subscribe(["logs"], Filter::default()).unwrap();
    let subscriber = tracing_subscriber::registry().with(rt.tracing_layer(Level::Info));
    let _default = tracing::subscriber::set_default(subscriber);
    drop(rt);
    assert_eq!(soon("the end", events.next()).await, None);
    drop(events);
    tracing::info!("to nobody");
}
