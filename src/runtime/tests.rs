//! What the parts do together, and what they must not do to each other.

use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    sync::{Arc, mpsc},
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use axum_core::body::Body;
use http::{Request, Response};
use http_body_util::BodyExt;
use tower::{Layer, Service, ServiceExt, service_fn};

use super::*;
use crate::{
    Access, Filter, RealtimeLayer, Received, RequestMeter, Usage,
    middleware::{RealtimeService, ResponseBody, Watch},
};

async fn talking(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let meter = request.extensions().get::<RequestMeter>().unwrap();
    let user = request.uri().path();
    meter.provider("openai").model("gpt-4o").user(user);
    meter.label("kind", "test").fail("not today");
    meter.tokens(Usage {
        input: 812,
        output: 340,
        cached: 0,
    });
    Ok(Response::new(Body::from("hello")))
}

/// To the end of their bodies. Nothing in them waits, and nothing may.
fn requests<S>(service: &S, count: usize)
where
    S: Service<Request<Body>, Response = Response<ResponseBody<Body>>, Error = Infallible> + Clone,
{
    let mut cx = Context::from_waker(Waker::noop());
    for index in 0..count {
        let request = Request::builder().uri(format!("/{index}"));
        let request = request.body(Body::empty()).unwrap();
        let answer = service.clone().oneshot(request);
        let body = async { answer.await.unwrap().into_body().collect().await.unwrap() };
        let Poll::Ready(body) = pin!(body).poll(&mut cx) else {
            panic!("a request waited");
        };
        assert_eq!(body.to_bytes(), "hello");
    }
}

/// An answer is put together under the aggregator's lock. A request is recorded without it, in whatever way: with room
/// in the queue and without, for users that are known, new, and too many for their table.
#[test]
fn requests_are_recorded_while_a_reader_has_the_aggregator() {
    const COUNT: usize = 2_000;
    let config = RealtimeConfig::new(Access::public());
    let runtime = Runtime::new(config.feed_capacity(64).max_users(10)).unwrap();
    let watch = Arc::new(Watch::new(Arc::new(runtime.recorder()), None));
    let (done, all) = mpsc::channel();
    runtime.aggregator.while_reading(|| {
        thread::spawn(move || {
            requests(&RealtimeService::new(service_fn(talking), watch), COUNT);
            let _ = done.send(());
        });
        // Far more than it takes; whoever waits for the lock waits for ever.
        let waited = all.recv_timeout(Duration::from_secs(60));
        assert!(waited.is_ok(), "a request waited for the aggregator");
    });
    let summary = runtime.aggregator.snapshot(Window::OneHour, None).summary;
    assert_eq!(summary.total_requests, COUNT as u64);
    assert!(summary.dropped > Some(0), "the queue was full");
}

/// With a pace of an hour, lines come when there are many of them: they do not gather for an hour.
#[tokio::test(start_paused = true)]
async fn lines_that_are_many_do_not_wait_for_the_pace() {
    let hour = Duration::from_secs(3_600);
    let config = RealtimeConfig::new(Access::public()).logs_interval(hour);
    let layer = RealtimeLayer::new(config);
    let rt = layer.handle();
    let service = layer.layer(service_fn(talking));
    let began = tokio::time::Instant::now();
    let mut lines = rt.subscribe(["logs"], Filter::default()).unwrap();
    // The tasks have started, and the first tick of the pace has passed.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..10 {
        requests(&service, 1_000);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let first = loop {
        match lines.next().await.expect("nobody ends the hub") {
            Received::Event { kind, .. } if kind == "logs" => break began.elapsed(),
            _ => {}
        }
    };
    assert!(first < Duration::from_secs(60), "{first:?}");
}
