//! That reading the log does not fill it. In a program of its own: the subscriber is the one of the whole process, as
//! a host's is, because `tracing` itself breaks no circle there.
#![cfg(feature = "tracing")]

mod support;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use axum::{Router, body::Bytes, routing::get};
use http_body_util::BodyExt;
use tower_realtime::{Level, RealtimeConfig};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt, util::SubscriberInitExt};

use support::{Host, config};

static SEEN: AtomicU64 = AtomicU64::new(0);

/// Another layer of the host's, which has something to say about every line. Not about those of the network: this
/// program has the clients in it as well, and what they receive is theirs to tell.
struct Chatty;

impl<S: tracing::Subscriber> Layer<S> for Chatty {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if metadata.target() != "chatty" && *metadata.level() <= tracing::Level::INFO {
            SEEN.fetch_add(1, Ordering::Relaxed);
            tracing::info!(target: "chatty", "saw an event");
        }
    }
}

/// A value that logs when it is shown.
struct Talkative;

impl std::fmt::Debug for Talkative {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        tracing::info!(value = ?Talkative, "shown");
        f.write_str("talkative")
    }
}

fn published(stats: &serde_json::Value) -> u64 {
    let channels = stats["channels"].as_array().unwrap();
    let logs = channels.iter().find(|channel| channel["name"] == "logs");
    logs.unwrap()["published"].as_u64().unwrap()
}

/// As axum's example of `tower_http::trace` has it: each chunk of each body is a line, said outside of our layer.
fn logging_chunks(response: axum::response::Response) -> axum::response::Response {
    response.map(|body| {
        axum::body::Body::new(body.map_frame(|frame| {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            tracing::info!(target: "access", bytes, "sending a chunk");
            frame
        }))
    })
}

async fn hello() -> &'static str {
    tracing::info!(target: "handler", value = ?Talkative, "hello");
    "hello"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reads_the_log_does_not_fill_it() {
    let config: RealtimeConfig = config().flush_interval(Duration::from_millis(1));
    let host = Host::mounted(config, |realtime| {
        Router::new()
            .route("/hello", get(hello))
            .layer(realtime)
            .layer(axum::middleware::map_response(async |response| {
                logging_chunks(response)
            }))
    })
    .await;
    tracing_subscriber::registry()
        .with(host.rt.tracing_layer(Level::Trace))
        .with(Chatty)
        .init();
    // The client of the WebSocket tells what it reads through `log`, and in this program that is heard, too.
    log::set_max_level(log::LevelFilter::Off);
    let mut stream = host.stream("/stream/logs").await;
    let second = host.connect_http2().await;
    let mut shared = second.share().stream(support::get("/stream/all")).await;
    #[cfg(feature = "ws")]
    let mut socket = support::Socket::open(host.address, "/ws/logs").await;

    assert_eq!(host.get("/hello").await.text(), "hello");
    tracing::info!(target: "host", "one line");
    let is_it = |message: &serde_json::Value| message == "one line";
    stream
        .wait_until("the line", |event| is_it(&event.data["message"]))
        .await;
    shared
        .wait_until("the line", |event| is_it(&event.data["message"]))
        .await;
    #[cfg(feature = "ws")]
    while !is_it(&socket.wait_for("log").await["data"]["message"]) {}

    // Where there is a circle, it turns once a delivery. Each of these round trips makes the readers read.
    let before = published(&host.data("/api/realtime/hub/stats").await);
    assert!(SEEN.load(Ordering::Relaxed) > 3);
    for n in 0..50 {
        host.rt.log(Level::Info, "probe", n.to_string());
        let is_probe =
            |event: &support::Event| event.data["message"].as_str() == Some(&*n.to_string());
        stream.wait_until("the probe", is_probe).await;
        shared.wait_until("the probe", is_probe).await;
    }
    let after = published(&host.data("/api/realtime/hub/stats").await);
    // The probes, the lines about the two answers that were no stream, and batches of the recorded requests.
    let more = after - before - 50;
    assert!(more < 20, "{more} lines about {} probes", 50);

    // A connection that has served a stream is an ordinary one again.
    drop(stream);
    tracing::info!(target: "host", "the last line");
    shared
        .wait_until("the last line", |event| {
            event.data["message"] == "the last line"
        })
        .await;
}
