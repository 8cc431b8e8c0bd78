//! What a reading takes when every label table is full, and what it does to requests meanwhile.
//!
//! ```sh
//! cargo bench --bench reading                  # both tables
//! cargo bench --bench reading -- windows       # one of them, by its name
//! cargo bench --bench reading -- requests
//! ```
//!
//! - `windows`: an hour in which every route, model, provider, tenant and user of the tables is in use in every slot,
//!   and a day before it, under a clock that is moved on. For each window, `rt.snapshot`: *first* when nobody has ever
//!   asked for it, *again* right after that, and *closed* as the first one after a slot of the window has closed, with
//!   the mean and the worst of them. And `GET /api/realtime/metrics`, the JSON included.
//! - `requests`: a request through the layer, with nobody reading and while another thread reads the hour all the time.
//!
//! Milliseconds and nanoseconds of the measuring thread's CPU time: what the machine does besides does not count.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod names;

use std::{
    cell::Cell,
    convert::Infallible,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    response::Response,
};
use futures_util::{FutureExt, future::join_all};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_realtime::{
    Access, RealtimeConfig, RealtimeHandle, RealtimeLayer, RequestMeter, Usage, Window,
};

/// More users than have a row, and more than there are labels of the other kinds.
const REQUESTS: u32 = 1_100;
/// Hosts that are asked for a window for the first time: each can be asked only once.
const HOSTS: usize = 3;
/// Slots that close.
const CLOSED: usize = 60;

fn main() {
    let usage = "usage: cargo bench --bench reading -- [windows] [requests]\n";
    for table in names::chosen(&["windows", "requests"], usage) {
        match table {
            "windows" => windows(),
            _ => requests(),
        }
    }
}

fn config() -> RealtimeConfig {
    // What is published on its own account is no part of a reading.
    let hour = Duration::from_secs(3_600);
    RealtimeConfig::new(Access::public())
        .stats_interval(hour)
        .logs_interval(hour)
        .providers_interval(hour)
        .system_interval(hour)
}

/// Answers after up to three seconds, by the number in the path, and says all that there is to say.
async fn hello(request: Request) -> Result<Response, Infallible> {
    let n: u32 = request.uri().path()[1..].parse().unwrap_or_default();
    let meter = request.extensions().get::<RequestMeter>().unwrap().clone();
    let name = |kind: &str, of: u32| format!("{kind}-{}", n % of);
    meter
        .provider(name("provider", 70))
        .model(name("model", 300));
    meter
        .user(name("user", REQUESTS))
        .tenant(name("tenant", 300));
    meter.route(name("/v1/route", 300));
    meter.tokens(Usage {
        input: 812,
        output: 340,
        cached: 0,
    });
    Ok(Response::new(Body::from("hello")))
}

async fn slowly(request: Request) -> Result<Response, Infallible> {
    let n: u64 = request.uri().path()[1..].parse().unwrap_or_default();
    tokio::time::sleep(Duration::from_millis(1 + n * 7_919 % 3_000)).await;
    hello(request).await
}

async fn exchange<S>(service: S, n: u32)
where
    S: Service<
            Request,
            Response = Response<tower_realtime::ResponseBody<Body>>,
            Error = Infallible,
        >,
{
    let request = Request::builder().uri(format!("/{n}"));
    let request = request.body(Body::empty()).unwrap();
    let response = service.oneshot(request).await.unwrap();
    let body = Body::new(response.into_body());
    black_box(to_bytes(body, 1024).await.unwrap());
}

/// A host whose clock is moved on, after a day of full tables.
struct Host {
    tokio: Runtime,
    layer: RealtimeLayer,
    rt: RealtimeHandle,
    sent: Cell<u64>,
}

impl Host {
    fn new() -> Self {
        let tokio = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        let guard = tokio.enter();
        let layer = RealtimeLayer::new(config());
        drop(guard);
        let host = Self {
            rt: layer.handle(),
            tokio,
            layer,
            sent: Cell::new(0),
        };
        // Slots of half an hour, of a minute, and of about ten seconds.
        for (slots, seconds) in [(47, 1_800), (61, 60), (36, 14)] {
            for _ in 0..slots {
                host.requests();
                host.jump(seconds - 14);
                host.pass(10);
            }
        }
        host
    }

    /// In four seconds of its clock.
    fn requests(&self) {
        self.sent.set(self.sent.get() + u64::from(REQUESTS));
        let service = self.layer.layer(service_fn(slowly));
        self.tokio.block_on(async {
            let ends = tokio::time::Instant::now() + Duration::from_secs(4);
            join_all((0..REQUESTS).map(|n| exchange(service.clone(), n))).await;
            tokio::time::sleep_until(ends).await;
        });
    }

    /// Without the ticks in between.
    fn jump(&self, seconds: u64) {
        self.tokio
            .block_on(async { tokio::time::advance(Duration::from_secs(seconds)).await });
    }

    fn pass(&self, seconds: u64) {
        self.tokio
            .block_on(async { tokio::time::sleep(Duration::from_secs(seconds)).await });
    }

    fn read(&self, window: Window) -> f64 {
        // Outside of its runtime, a host has another clock.
        let _guard = self.tokio.enter();
        let began = thread_cpu();
        let snapshot = black_box(self.rt.snapshot(window));
        let took = thread_cpu() - began;
        let seen = snapshot.summary.lifetime.unwrap().total_requests;
        assert_eq!(seen, self.sent.get(), "every request is counted");
        assert_eq!(snapshot.users.len(), 21, "twenty by name, and the others");
        assert!(snapshot.routes.len() > 255 && snapshot.models.len() > 255);
        took.as_secs_f64() * 1e3
    }

    fn get(&self, window: Window) -> f64 {
        let service = self.layer.layer(service_fn(hello));
        self.tokio.block_on(async {
            let uri = format!("/api/realtime/metrics?window={window}");
            let request = Request::builder().uri(uri).body(Body::empty()).unwrap();
            let began = thread_cpu();
            let answer = service.oneshot(request).await.unwrap();
            assert_eq!(answer.status(), 200);
            let body = Body::new(answer.into_body());
            black_box(to_bytes(body, 1 << 22).await.unwrap());
            (thread_cpu() - began).as_secs_f64() * 1e3
        })
    }
}

fn windows() {
    let hosts: Vec<Host> = (0..HOSTS).map(|_| Host::new()).collect();
    println!("ms, full tables    first   worst   again   closed   worst     GET");
    for window in Window::ALL {
        let first: Vec<f64> = hosts.iter().map(|host| host.read(window)).collect();
        let again: Vec<f64> = hosts.iter().map(|host| host.read(window)).collect();
        let get: Vec<f64> = hosts.iter().map(|host| host.get(window)).collect();
        let closed: Vec<f64> = (0..CLOSED)
            .map(|_| {
                hosts[0].requests();
                hosts[0].pass(6);
                hosts[0].read(window)
            })
            .collect();
        println!(
            "{:<16} {:>7.2} {:>7.2} {:>7.2} {:>8.2} {:>7.2} {:>7.2}",
            window.as_str(),
            mean(&first),
            worst(&first),
            mean(&again),
            mean(&closed),
            worst(&closed),
            mean(&get),
        );
    }
}

/// Batches with and without a reader in turn, so that a machine that gets slower does so for both.
fn requests() {
    const BATCH: u32 = 2_000;
    const BATCHES: usize = 100;
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let _guard = tokio.enter();
    let layer = RealtimeLayer::new(config());
    let service = layer.layer(service_fn(hello));
    let batch = || {
        let began = thread_cpu();
        for n in 0..BATCH {
            let done = exchange(service.clone(), n).now_or_never();
            done.expect("no request waits");
        }
        let took = (thread_cpu() - began).as_nanos() as f64 / f64::from(BATCH);
        std::thread::sleep(Duration::from_millis(20));
        took
    };
    batch();
    let reading = Arc::new(AtomicBool::new(false));
    let ended = Arc::new(AtomicBool::new(false));
    let reader = {
        let (rt, reading, ended) = (layer.handle(), reading.clone(), ended.clone());
        std::thread::spawn(move || {
            let mut reads = 0_u64;
            while !ended.load(Ordering::Relaxed) {
                if reading.load(Ordering::Relaxed) {
                    black_box(rt.snapshot(Window::OneHour));
                    reads += 1;
                } else {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            reads
        })
    };
    let mut took = [Vec::new(), Vec::new()];
    for _ in 0..BATCHES {
        for (reads, took) in [false, true].into_iter().zip(&mut took) {
            reading.store(reads, Ordering::Relaxed);
            took.push(batch());
        }
    }
    ended.store(true, Ordering::Relaxed);
    let reads = reader.join().unwrap();
    let rt = layer.handle();
    let sent = u64::from(BATCH) * (2 * BATCHES as u64 + 1);
    let summary = rt.snapshot(Window::OneHour).summary;
    assert_eq!(summary.total_requests, sent, "every request is counted");
    println!("\nns a request        quickest batch   median");
    for (name, mut took) in ["nobody reads", "somebody always does"]
        .into_iter()
        .zip(took)
    {
        took.sort_by(f64::total_cmp);
        println!("{name:<20} {:>13.0} {:>8.0}", took[0], took[took.len() / 2]);
    }
    println!("{reads} readings");
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn worst(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
