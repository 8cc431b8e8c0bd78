//! The parts, one by one, with criterion's statistics and comparisons.
//!
//! ```sh
//! cargo bench --bench micro                             # all of them
//! cargo bench --bench micro -- record                   # some, by name
//! cargo bench --bench micro -- --save-baseline before   # and after a change: -- --baseline before
//! ```
//!
//! - `record`: a request through the layer around a service that does nothing, without axum: what recording takes.
//!   Its rows are drained between the batches, and the totals must be exact after each. CPU time of this thread.
//! - `publish`: `rt.publish` of a small event, with one reader that keeps up. CPU time of this thread.
//!
//! What a reading takes is measured by the bench `reading`.

use std::{convert::Infallible, hint::black_box, time::Duration};

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    response::Response,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::FutureExt;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use tokio::runtime::Runtime;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_realtime::{
    Access, ChannelConfig, Event, Filter, RealtimeConfig, RealtimeHandle, RealtimeLayer,
    RequestMeter, Usage, Window,
};

criterion_group!(benches, record, publish);
criterion_main!(benches);

/// Rows that fit into the queue between two drains.
const ROWS: u64 = 1_000;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

fn config() -> RealtimeConfig {
    RealtimeConfig::new(Access::public())
}

/// What the request says of itself.
#[derive(Clone)]
struct Says {
    provider: String,
    model: String,
    user: String,
    tenant: String,
    route: String,
}

async fn hello(request: Request) -> Result<Response, Infallible> {
    if let Some(says) = request.extensions().get::<Says>()
        && let Some(meter) = request.extensions().get::<RequestMeter>()
    {
        meter.provider(&says.provider).model(&says.model);
        meter
            .user(&says.user)
            .tenant(&says.tenant)
            .route(&says.route);
        meter.tokens(Usage {
            input: 812,
            output: 340,
            cached: 0,
        });
    }
    Ok(Response::new(Body::from("hello")))
}

fn request(says: Option<&Says>) -> Request {
    let mut request = Request::new(Body::empty());
    if let Some(says) = says {
        request.extensions_mut().insert(says.clone());
    }
    request
}

/// To the end of the body.
fn exchange<S>(service: &mut S, request: Request)
where
    S: Service<
            Request,
            Response = Response<tower_realtime::ResponseBody<Body>>,
            Error = Infallible,
        >,
{
    let response = service
        .ready()
        .now_or_never()
        .expect("it is always ready")
        .unwrap();
    let response = response.call(request);
    let response = response.now_or_never().expect("it does not wait").unwrap();
    let body = Body::new(response.into_body());
    black_box(to_bytes(body, 1024).now_or_never().expect("it is there")).unwrap();
}

/// Of this thread: what the machine does besides does not count.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn total(rt: &RealtimeHandle) -> u64 {
    rt.snapshot(Window::OneHour).summary.total_requests
}

fn record(criterion: &mut Criterion) {
    let tokio = runtime();
    let _guard = tokio.enter();
    let layer = RealtimeLayer::new(config());
    let rt = layer.handle();
    let mut bare = service_fn(hello);
    let mut recorded = layer.layer(service_fn(hello));
    let says = Says {
        provider: "openai".into(),
        model: "gpt-4o".into(),
        user: "ana".into(),
        tenant: "acme".into(),
        route: "/v1/chat/completions".into(),
    };
    let mut sent = 0;
    let mut group = criterion.benchmark_group("record");
    group.bench_function("nothing around it", |bencher| {
        bencher.iter_custom(|count| {
            let mut took = Duration::ZERO;
            for _ in 0..count.div_ceil(ROWS) {
                let requests: Vec<_> = (0..ROWS).map(|_| request(Some(&says))).collect();
                let began = thread_cpu();
                for request in requests {
                    let response = (&mut bare)
                        .oneshot(request)
                        .now_or_never()
                        .unwrap()
                        .unwrap();
                    black_box(to_bytes(response.into_body(), 1024).now_or_never().unwrap())
                        .unwrap();
                }
                took += thread_cpu() - began;
            }
            took.mul_f64(count as f64 / (count.div_ceil(ROWS) * ROWS) as f64)
        });
    });
    for (name, says) in [("says nothing", None), ("says all", Some(&says))] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                let mut took = Duration::ZERO;
                let mut left = count;
                while left > 0 {
                    let batch = left.min(ROWS);
                    let requests: Vec<_> = (0..batch).map(|_| request(says)).collect();
                    let began = thread_cpu();
                    for request in requests {
                        exchange(&mut recorded, request);
                    }
                    took += thread_cpu() - began;
                    left -= batch;
                    sent += batch;
                    // Drains what the batch left.
                    assert_eq!(total(&rt), sent, "every request is counted");
                }
                took
            });
        });
    }
    group.finish();
    let dropped = rt.snapshot(Window::OneHour).summary.dropped;
    assert_eq!(dropped, Some(0), "no queue was full");
}

fn publish(criterion: &mut Criterion) {
    let tokio = runtime();
    let _guard = tokio.enter();
    let layer = RealtimeLayer::new(config());
    let rt = layer.handle();
    rt.channel("bench", ChannelConfig::stream()).unwrap();
    let mut reader = rt.subscribe(["bench"], Filter::default()).unwrap();
    let data = json!({"campaign": "c-17", "sent": 120, "opened": 40, "clicked": 3});
    let mut group = criterion.benchmark_group("publish");
    group.throughput(Throughput::Elements(1));
    group.bench_function("call, and encoding of the data", |bencher| {
        bencher.iter_custom(|count| {
            let mut took = Duration::ZERO;
            let mut left = count;
            while left > 0 {
                let batch = left.min(ROWS);
                let began = thread_cpu();
                for _ in 0..batch {
                    rt.publish(Event::new("bench", "Bench", &data)).unwrap();
                }
                took += thread_cpu() - began;
                left -= batch;
                tokio.block_on(async {
                    for _ in 0..batch {
                        reader.next().await.unwrap();
                    }
                });
            }
            took
        });
    });
    group.finish();
}
