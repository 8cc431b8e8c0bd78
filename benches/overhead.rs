//! What a layer adds to a request: in nanoseconds of this thread's CPU time, or in instructions under callgrind.
//!
//! ```sh
//! cargo bench --bench overhead                       # a table: bare, no-op, ours, ours with attribution
//! cargo bench --bench overhead -- attributed         # of some of them, by their names, beside the bare one
//! cargo bench --bench overhead -- attributed 4000    # that many requests through one layer, and nothing else
//! benches/instructions.sh                            # instructions a request, by the difference of two such runs
//! ```
//!
//! A request is `Router::clone().oneshot(request)` with the body read to its end, in turn `GET /`, `GET /items/42` and
//! `POST /echo` with 64 bytes. The layers:
//!
//! - `bare`: none.
//! - `noop`: one that passes everything on. That is axum's own price for one more boxed service.
//! - `recorded`: ours, with handlers that say nothing.
//! - `attributed`: ours, with handlers that say provider, model, user and tokens.
//!
//! What was recorded is drained by the layer's own task on another thread. Between batches the program leaves it the
//! time for that, so that no queue is full, and at the end it waits until the totals say that nothing is missing. The
//! nanoseconds are those of the thread of the requests; instructions are counted for both.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod names;

use std::{
    hint::black_box,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use axum::{
    Extension, Router,
    body::{Body, Bytes, HttpBody},
    extract::{Path, Request},
    routing::{get, post},
};
use futures_util::FutureExt;
use rustix::time::{ClockId, clock_gettime};
use tower::{Layer, Service, ServiceExt};
use tower_realtime::{
    Access, RealtimeConfig, RealtimeHandle, RealtimeLayer, RequestMeter, Usage, Window,
};

const USAGE: &str = "\
usage: cargo bench --bench overhead -- [LAYER…]      a table of these layers, of all without any
       cargo bench --bench overhead -- LAYER COUNT   as many requests through one, for callgrind

layers: bare, noop, recorded, attributed
";

const LAYERS: [&str; 4] = ["bare", "noop", "recorded", "attributed"];
/// Requests in a batch, and batches: the quickest batch is the one that nothing disturbed.
const BATCH: u64 = 2_000;
const BATCHES: usize = 200;
/// After each batch: the rows gather for 10 ms before they are drained.
const PAUSE: Duration = Duration::from_millis(20);

fn main() {
    // cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let _guard = tokio.enter();
    match &arguments[..] {
        [layer, count] if LAYERS.contains(&&**layer) && !count.starts_with('-') => {
            let Ok(mut left) = count.parse::<u64>() else {
                eprint!("COUNT takes a number of requests, not {count:?}\n\n{USAGE}");
                std::process::exit(2);
            };
            let mut subject = Subject::new(layer);
            while left > 0 {
                let batch = BATCH.min(left);
                subject.requests(batch);
                left -= batch;
                std::thread::sleep(PAUSE);
            }
            subject.wait_until_drained();
        }
        _ => {
            let mut layers = names::chosen(&LAYERS, USAGE);
            if !layers.is_empty() {
                layers.retain(|layer| *layer != LAYERS[0]);
                layers.insert(0, LAYERS[0]);
                table(&layers);
            }
        }
    }
}

/// Batches of the layers in turn, so that a machine that gets slower does so for all of them.
fn table(layers: &[&str]) {
    let mut subjects: Vec<Subject> = layers.iter().map(|layer| Subject::new(layer)).collect();
    let mut best = vec![f64::INFINITY; layers.len()];
    let mut middle = vec![Vec::new(); layers.len()];
    for _ in 0..BATCHES {
        for (index, subject) in subjects.iter_mut().enumerate() {
            let before = thread_cpu();
            subject.requests(BATCH);
            let took = (thread_cpu() - before).as_nanos() as f64 / BATCH as f64;
            best[index] = best[index].min(took);
            middle[index].push(took);
        }
        std::thread::sleep(PAUSE);
    }
    println!("layer        ns a request   added   median added");
    let median = |index: usize| {
        let mut batches = middle[index].clone();
        batches.sort_by(f64::total_cmp);
        batches[batches.len() / 2]
    };
    for (index, layer) in layers.iter().enumerate() {
        println!(
            "{layer:<12} {:>12.0} {:>7.0} {:>14.0}",
            best[index],
            best[index] - best[0],
            median(index) - median(0)
        );
    }
    for subject in &subjects {
        subject.wait_until_drained();
    }
}

struct Subject {
    app: Router,
    handle: Option<RealtimeHandle>,
    sent: u64,
}

impl Subject {
    fn new(layer: &str) -> Self {
        // What is published every few seconds is no part of a request.
        let hour = Duration::from_secs(3600);
        let realtime = || {
            let config = RealtimeConfig::new(Access::public())
                .stats_interval(hour)
                .logs_interval(hour)
                .providers_interval(hour)
                .system_interval(hour);
            RealtimeLayer::new(config)
        };
        let (app, handle) = match layer {
            "bare" => (silent(), None),
            "noop" => (silent().layer(Noop), None),
            "recorded" => {
                let realtime = realtime();
                (silent().layer(realtime.clone()), Some(realtime.handle()))
            }
            "attributed" => {
                let realtime = realtime();
                (telling().layer(realtime.clone()), Some(realtime.handle()))
            }
            _ => panic!("layer {layer:?} is not known; layers are {LAYERS:?}"),
        };
        Self {
            app,
            handle,
            sent: 0,
        }
    }

    fn requests(&mut self, count: u64) {
        let mut cx = Context::from_waker(Waker::noop());
        for index in 0..count {
            let response = self.app.clone().oneshot(request(index));
            let mut response = response.now_or_never().expect("no handler waits").unwrap();
            assert_eq!(response.status(), 200);
            let body = response.body_mut();
            loop {
                match Pin::new(&mut *body).poll_frame(&mut cx) {
                    Poll::Ready(None) => break,
                    Poll::Ready(Some(frame)) => drop(black_box(frame.unwrap())),
                    Poll::Pending => panic!("no body waits"),
                }
            }
        }
        self.sent += count;
    }

    /// Every request must have been counted.
    fn wait_until_drained(&self) {
        let Some(handle) = &self.handle else { return };
        let total =
            |handle: &RealtimeHandle| handle.snapshot(Window::OneHour).summary.total_requests;
        for _ in 0..200 {
            if total(handle) == self.sent {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{} of {} requests were counted", total(handle), self.sent);
    }
}

fn request(index: u64) -> Request {
    static BODY: [u8; 64] = [b'x'; 64];
    let request = Request::builder()
        .header("host", "127.0.0.1")
        .header("user-agent", "bench/1.0")
        .header("accept", "*/*");
    let request = match index % 3 {
        0 => request.uri("/").body(Body::empty()),
        1 => request.uri("/items/42").body(Body::empty()),
        _ => request
            .method("POST")
            .uri("/echo")
            .header("content-type", "text/plain")
            .header("content-length", "64")
            .body(Body::from(&BODY[..])),
    };
    request.unwrap()
}

fn silent() -> Router {
    Router::new()
        .route("/", get(|| async { "ok" }))
        .route(
            "/items/{id}",
            get(|Path(id): Path<u64>| async move { item(id) }),
        )
        .route("/echo", post(|body: Bytes| async move { body }))
}

fn telling() -> Router {
    type Meter = Extension<RequestMeter>;
    let root = |meter: Meter| async move {
        tell(&meter);
        "ok"
    };
    let items = |meter: Meter, Path(id): Path<u64>| async move {
        tell(&meter);
        item(id)
    };
    let echo = |meter: Meter, body: Bytes| async move {
        tell(&meter);
        body
    };
    Router::new()
        .route("/", get(root))
        .route("/items/{id}", get(items))
        .route("/echo", post(echo))
}

fn tell(meter: &RequestMeter) {
    meter.provider("openai").model("gpt-4o").user("ana");
    meter.tokens(Usage {
        input: 812,
        output: 340,
        cached: 0,
    });
}

fn item(id: u64) -> &'static str {
    if id == 0 { "zero" } else { "item" }
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[derive(Clone, Copy)]
struct Noop;

impl<S> Layer<S> for Noop {
    type Service = Forward<S>;

    fn layer(&self, inner: S) -> Forward<S> {
        Forward { inner }
    }
}

#[derive(Clone)]
struct Forward<S> {
    inner: S,
}

impl<S: Service<Request>> Service<Request> for Forward<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> S::Future {
        self.inner.call(request)
    }
}
