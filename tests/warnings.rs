//! What a host is warned of: once each, in its own log and on the channel `logs`.
#![cfg(all(feature = "axum", feature = "tracing"))]

mod support;

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Body, http::Response};
use support::config;
use tower::ServiceExt;
use tower_realtime::{
    Events, Filter, Level, RealtimeConfig, RealtimeHandle, RealtimeLayer, Received,
};
use tracing_subscriber::{Layer, layer::SubscriberExt};

/// The crate's own warnings as the host's subscriber gets them.
#[derive(Clone, Default)]
struct Warned(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> Layer<S> for Warned {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let metadata = event.metadata();
        if metadata.target() == "tower_realtime" && *metadata.level() == tracing::Level::WARN {
            let mut text = Text(String::new());
            event.record(&mut text);
            self.0.lock().unwrap().push(text.0);
        }
    }
}

impl Warned {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// A layer whose own log goes back into it, as a host sets it up.
fn start(config: RealtimeConfig) -> (Router, RealtimeHandle, Events, Warned, impl Sized) {
    let realtime = RealtimeLayer::new(config);
    let rt = realtime.handle();
    let warned = Warned::default();
    let subscriber = tracing_subscriber::registry()
        .with(warned.clone())
        .with(rt.tracing_layer(Level::Trace));
    let default = tracing::subscriber::set_default(subscriber);
    let events = rt.subscribe(["logs"], Filter::default()).unwrap();
    (Router::new().layer(realtime), rt, events, warned, default)
}

async fn open(app: &Router) -> Response<Body> {
    let request = support::get("/stream/stats");
    let answer = app.clone().oneshot(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    answer
}

/// The warnings on `logs` up to now.
async fn lines(events: &mut Events) -> Vec<String> {
    let mut lines = Vec::new();
    let mut next = async || loop {
        match events.next().await {
            Some(Received::Event { kind, data, .. }) if kind == "log" => {
                let line: serde_json::Value = serde_json::from_slice(&data).unwrap();
                if line["level"] == "warn" {
                    return line["message"].as_str().unwrap().to_owned();
                }
            }
            Some(_) => {}
            None => panic!("the hub has been shut down"),
        }
    };
    // Time stands still but for this wait, so what has been published arrives before it is over.
    while let Ok(line) = tokio::time::timeout(Duration::from_secs(1), next()).await {
        lines.push(line);
    }
    lines
}

/// Time in which somebody reads `logs`, so that nobody but the streams is stuck.
async fn pass(events: &mut Events, seconds: u64) -> Vec<String> {
    let mut all = Vec::new();
    for _ in 0..seconds {
        all.extend(lines(events).await);
    }
    all
}

#[tokio::test(start_paused = true)]
async fn the_guard_is_named_the_first_time_that_it_is_missed() {
    let (app, _rt, mut events, warned, _default) = start(config());
    let stuck = [open(&app).await, open(&app).await];
    let lines = pass(&mut events, 60).await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("rt.guard(listener)"), "{lines:?}");
    assert_eq!(warned.take(), lines);
    let again = open(&app).await;
    assert!(pass(&mut events, 60).await.is_empty());
    assert!(warned.take().is_empty());
    drop((stuck, again));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_said_where_there_is_a_guard_or_no_socket() {
    let (app, rt, mut events, warned, _default) = start(config());
    // A reader in process that does not read has no socket to be guarded.
    let stuck = rt.subscribe(["stats"], Filter::default()).unwrap();
    assert!(pass(&mut events, 60).await.is_empty());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _guarded = rt.guard(listener);
    let stream = open(&app).await;
    assert!(pass(&mut events, 60).await.is_empty());
    assert!(warned.take().is_empty());
    drop((stuck, stream));
}

#[tokio::test(start_paused = true)]
async fn connect_info_is_named_the_first_time_that_an_address_is_missed() {
    let (app, _rt, mut events, warned, _default) = start(config().max_clients_per_ip(5));
    let streams = [open(&app).await, open(&app).await];
    let lines = lines(&mut events).await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    let named = "into_make_service_with_connect_info";
    assert!(lines[0].contains(named), "{lines:?}");
    assert_eq!(warned.take(), lines);
    drop(streams);

    let (app, _rt, mut events, warned, _default) = start(config());
    let stream = open(&app).await;
    assert!(self::lines(&mut events).await.is_empty());
    assert!(warned.take().is_empty());
    drop(stream);
}
