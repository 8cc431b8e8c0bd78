//! The server of a run: `serve WHAT BY`.
//!
//! WHAT:
//! - `realtime`: this crate's layer, with a channel `bench`.
//! - `shared-bytes`: the quickest that axum has without it. Each event is encoded once, `tokio::sync::broadcast` hands
//!   it to the streams, `Body::from_stream` to hyper.
//! - `silent`: streams that say one thing and then nothing. What they take is the server's own.
//! - `bare`, `recorded`: an application without streams, and with the layer around it.
//!
//! BY: `axum` (`axum::serve`, with `TCP_NODELAY`), `hyper` (`http1::Builder` by itself, or `http2::Builder` for whoever
//! begins with its preface).

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
    routing::get,
    serve::ListenerExt,
};
use futures_util::{StreamExt, stream};
use hyper::server::conn::{http1, http2};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use serde::Serialize;
use serde_json::json;
use tokio::{net::TcpListener, sync::broadcast, time::MissedTickBehavior};
use tokio_stream::wrappers::BroadcastStream;
use tower_realtime::{
    Access, ChannelConfig, Event, RealtimeConfig, RealtimeHandle, RealtimeLayer, RequestMeter,
    Usage,
};

use super::{child, system};

/// What is published: when, the how-manieth, and as much again as is missing to the length.
#[derive(Serialize)]
struct Payload<'a> {
    t: u64,
    n: u64,
    pad: &'a str,
}

pub(crate) fn run(arguments: &[String], processors: usize) {
    let [what, by] = arguments else {
        panic!("usage: serve WHAT BY");
    };
    system::raise_open_files();
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(processors)
        .enable_all()
        .build()
        .unwrap();
    let listener = tokio.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let _guard = tokio.enter();
    let (app, mut publisher) = subject(what);
    let handle = publisher.handle();
    match &**by {
        "axum" => tokio.spawn(by_axum(listener, app, handle)),
        "hyper" => tokio.spawn(by_hyper(listener, app)),
        _ => panic!("serve by axum or by hyper"),
    };
    child::reply(&json!({"address": address.to_string()}));
    for command in child::commands() {
        match command["do"].as_str() {
            Some("publish") => {
                let rate = command["rate"].as_f64().unwrap();
                let seconds = command["seconds"].as_f64().unwrap();
                let bytes = command["bytes"].as_u64().unwrap() as usize;
                let publishing = publisher.publish(rate, seconds, bytes);
                let refused = tokio.block_on(publishing);
                child::reply(&json!({"last": publisher.last, "refused": refused}));
            }
            Some("drain") => {
                let window = Duration::from_secs_f64(command["seconds"].as_f64().unwrap());
                let rt = publisher.handle().expect("only the layer drains");
                let began = system::now();
                tokio.block_on(rt.drain(window));
                child::reply(&json!({"began": began, "ended": system::now()}));
            }
            _ => break,
        }
    }
    // Connections that are open would be waited for.
    std::process::exit(0);
}

async fn by_axum(listener: TcpListener, app: Router, handle: Option<RealtimeHandle>) {
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let served = match handle {
        Some(rt) => axum::serve(rt.guard(listener), app).await,
        None => {
            let listener = listener.tap_io(|socket| {
                let _ = socket.set_nodelay(true);
            });
            axum::serve(listener, app).await
        }
    };
    served.unwrap();
}

async fn by_hyper(listener: TcpListener, app: Router) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let _ = socket.set_nodelay(true);
        let service = TowerToHyperService::new(app.clone());
        tokio::spawn(async move {
            let mut preface = [0; 3];
            let peeked = socket.peek(&mut preface).await.unwrap_or_default();
            // Tasks of their own: one that could be either would have room for both.
            if preface[..peeked] == *b"PRI" {
                let mut server = http2::Builder::new(TokioExecutor::new());
                server.timer(TokioTimer::new());
                tokio::spawn(server.serve_connection(TokioIo::new(socket), service));
            } else {
                let server = http1::Builder::new();
                tokio::spawn(server.serve_connection(TokioIo::new(socket), service));
            }
        });
    }
}

fn subject(what: &str) -> (Router, Publisher) {
    let (router, sink) = match what {
        "realtime" => {
            let config = RealtimeConfig::new(Access::public()).max_clients(100_000);
            let realtime = RealtimeLayer::new(config);
            let rt = realtime.handle();
            rt.channel("bench", ChannelConfig::stream()).unwrap();
            (Router::new().layer(realtime), Sink::Realtime(rt))
        }
        "shared-bytes" => {
            let (events, _) = broadcast::channel(4096);
            let router = Router::new().route("/stream/bench", get(shared_bytes));
            (router.with_state(events.clone()), Sink::Shared(events))
        }
        "silent" => (
            Router::new().route("/stream/bench", get(silence)),
            Sink::Nowhere,
        ),
        "bare" => (
            Router::new().route("/items/{id}", get(async |Path(id): Path<u64>| item(id))),
            Sink::Nowhere,
        ),
        "recorded" => {
            let realtime = RealtimeLayer::new(RealtimeConfig::new(Access::public()));
            let rt = realtime.handle();
            let router = Router::new().route("/items/{id}", get(metered_item));
            (router.layer(realtime), Sink::Realtime(rt))
        }
        _ => panic!("serve realtime, shared-bytes, silent, bare or recorded"),
    };
    (router, Publisher { sink, last: 0 })
}

async fn metered_item(meter: RequestMeter, Path(id): Path<u64>) -> &'static str {
    meter.provider("openai").model("gpt-4o").user("ana");
    meter.tokens(Usage {
        input: 812,
        output: 340,
        cached: 0,
    });
    item(id)
}

fn item(id: u64) -> &'static str {
    if id == 0 { "zero" } else { "item" }
}

const HEAD: [(header::HeaderName, &str); 2] = [
    (header::CONTENT_TYPE, "text/event-stream"),
    (header::CACHE_CONTROL, "no-cache"),
];

async fn shared_bytes(State(events): State<broadcast::Sender<Bytes>>) -> Response {
    let events = BroadcastStream::new(events.subscribe());
    let events = events.filter_map(|event| async { event.ok().map(Ok::<_, Infallible>) });
    (HEAD, Body::from_stream(events)).into_response()
}

async fn silence() -> Response {
    let first = Bytes::from_static(b"event: connection_established\ndata: {}\n\n");
    let events = stream::iter([Ok::<_, Infallible>(first)]).chain(stream::pending());
    (HEAD, Body::from_stream(events)).into_response()
}

enum Sink {
    Realtime(RealtimeHandle),
    Shared(broadcast::Sender<Bytes>),
    Nowhere,
}

struct Publisher {
    sink: Sink,
    last: u64,
}

impl Publisher {
    fn handle(&self) -> Option<RealtimeHandle> {
        match &self.sink {
            Sink::Realtime(rt) => Some(rt.clone()),
            _ => None,
        }
    }

    /// So many a second, evenly, for so long; how many were refused.
    async fn publish(&mut self, rate: f64, seconds: f64, bytes: usize) -> u64 {
        // No more than a thousand ticks a second: what is faster comes in bursts.
        let burst = (rate / 1000.0).ceil().max(1.0);
        let mut ticks = tokio::time::interval(Duration::from_secs_f64(burst / rate));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let pad = "x"
            .repeat(bytes.saturating_sub(r#"{"t":1738723890000000000,"n":100000,"pad":""}"#.len()));
        let mut refused = 0;
        for _ in 0..(rate * seconds / burst).round() as u64 {
            ticks.tick().await;
            for _ in 0..burst as u64 {
                self.last += 1;
                refused += u64::from(!self.publish_one(&pad));
            }
        }
        refused
    }

    fn publish_one(&self, pad: &str) -> bool {
        let n = self.last;
        let payload = Payload {
            t: system::now(),
            n,
            pad,
        };
        match &self.sink {
            Sink::Realtime(rt) => rt.publish(Event::new("bench", "bench", &payload)).is_ok(),
            Sink::Shared(events) => {
                let data = serde_json::to_string(&payload).unwrap();
                let frame = format!("id: 1738723890-{n}\nevent: bench\ndata: {data}\n\n");
                // Nobody listens yet, or not any more.
                let _ = events.send(frame.into());
                true
            }
            Sink::Nowhere => panic!("nothing can be published there"),
        }
    }
}
