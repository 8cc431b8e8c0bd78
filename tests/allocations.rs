//! What a request and a viewer cost in memory: exact numbers of allocations, in a bare tower stack, because a
//! framework around it has its own.

use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use allocation_counter::{AllocationInfo, measure};
use axum::{
    body::Bytes,
    http::{Request, Response},
};
use http_body_util::{BodyExt, Empty, Full};
use tower::{Layer, Service, service_fn};
use tower_realtime::{
    Access, ChannelConfig, Event, RealtimeConfig, RealtimeLayer, RequestMeter, Usage,
};

/// Polls what is never pending.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut cx = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut cx) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("pending"),
    }
}

type Asked = Request<Empty<Bytes>>;

fn request() -> Asked {
    let mut request = Request::new(Empty::new());
    // The server and the router have put something there: the map itself is theirs.
    request.extensions_mut().insert(());
    request
}

async fn silent(_: Asked) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(b"hello"))))
}

async fn talking(request: Asked) -> Result<Response<Full<Bytes>>, Infallible> {
    let meter = request.extensions().get::<RequestMeter>().unwrap();
    meter
        .provider("openai")
        .model("gpt-4o")
        .user("ana")
        .tenant("acme");
    meter
        .tokens(Usage {
            input: 812,
            output: 340,
            cached: 12,
        })
        .cost_usd(0.01)
        .success();
    silent(request).await
}

/// What one request costs, from the call to the end of its body.
fn cost<S, B>(service: &mut S) -> AllocationInfo
where
    S: Service<Asked, Response = Response<B>, Error = Infallible>,
    B: axum::body::HttpBody<Data = Bytes, Error: std::fmt::Debug>,
{
    let asked = request();
    measure(|| {
        let Ok(response) = now(service.call(asked));
        let mut body = pin!(response.into_body());
        while let Some(frame) = now(body.frame()) {
            assert!(frame.unwrap().is_data());
        }
    })
}

fn layer() -> RealtimeLayer {
    RealtimeLayer::new(
        RealtimeConfig::new(Access::public()).route_label(|_| Some("/v1/chat".into())),
    )
}

#[tokio::test(start_paused = true)]
async fn a_request_with_known_labels_allocates_what_its_extension_needs_and_nothing_else() {
    assert_eq!(
        cost(&mut service_fn(silent)).count_total,
        0,
        "the stack itself"
    );
    let layer = layer();
    let mut service = layer.layer(service_fn(talking));
    // New labels are given a number, and the thread its shard.
    for _ in 0..10 {
        cost(&mut service);
    }
    for _ in 0..1_000 {
        let cost = cost(&mut service);
        // What the meters and the recording share, and the box that http's extensions put around the meter.
        assert_eq!(cost.count_total, 2, "{cost:?}");
        // The request's own map, which was there before, has gone with it.
        assert_eq!(cost.count_current, -2, "{cost:?}");
    }
}

/// An idle viewer: its place in the hub and among the connections, and the body that the server holds. What the server
/// takes for the connection comes on top.
const VIEWER_BYTES: i64 = 720;

#[tokio::test(start_paused = true)]
async fn an_idle_viewer_costs_a_little_and_leaves_nothing() {
    const VIEWERS: usize = 1_000;
    let layer = RealtimeLayer::new(RealtimeConfig::new(Access::public()).max_clients(2 * VIEWERS));
    let mut service = layer.layer(service_fn(silent));
    let mut open = || {
        let mut asked = request();
        *asked.uri_mut() = "/stream/requests".parse().unwrap();
        let Ok(response) = now(service.call(asked));
        assert_eq!(response.status(), 200);
        let mut body = Box::pin(response.into_body());
        // The first frame, then nothing.
        assert!(now(body.frame()).unwrap().unwrap().is_data());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(pin!(body.frame()).poll(&mut cx).is_pending());
        body
    };
    // The tables grow with the first ones.
    let warm: Vec<_> = (0..VIEWERS).map(|_| open()).collect();
    drop(warm);
    let mut viewers = Vec::with_capacity(VIEWERS);
    let opened = measure(|| viewers.extend((0..VIEWERS).map(|_| open())));
    let each = opened.bytes_current / VIEWERS as i64;
    assert!(
        each <= VIEWER_BYTES,
        "{each} bytes and {} allocations a viewer",
        opened.count_current / VIEWERS as i64
    );
    let left = measure(|| drop(viewers));
    let kept = opened.bytes_current + left.bytes_current;
    assert!(kept < 64 * VIEWERS as i64, "{kept} bytes stay behind");
}

/// What a server holds for a socket that takes nothing: hyper's HTTP/1 asks for no more once it has so many pieces, or so
/// many bytes.
const HYPER_PIECES: usize = 16;
const HYPER_BYTES: usize = 408 * 1024;

#[test]
fn a_viewer_that_takes_nothing_keeps_less_than_512_kib() {
    const VIEWERS: usize = 10;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let (layer, rt) = runtime.block_on(async {
        let layer = RealtimeLayer::new(RealtimeConfig::new(Access::public()));
        let rt = layer.handle();
        rt.channel("heat", ChannelConfig::stream()).unwrap();
        (layer, rt)
    });
    let publish = async |times: usize| {
        let data = "*".repeat(59_000);
        for _ in 0..times {
            rt.publish(Event::new("heat", "Fire", &data)).unwrap();
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    };
    let mut service = layer.layer(service_fn(silent));
    let mut stall = async || {
        let mut asked = request();
        *asked.uri_mut() = "/stream/heat".parse().unwrap();
        let Ok(response) = now(service.call(asked));
        let mut body = Box::pin(response.into_body());
        publish(20).await;
        let mut next = || now(body.frame()).unwrap().unwrap().into_data().unwrap();
        // The first frame; then a part of the first event goes out, and the socket stands.
        next();
        let mut pieces = vec![next()];
        let written = pieces[0].len() - 1;
        let _ = pieces[0].split_to(written);
        let held = |pieces: &[Bytes]| pieces.iter().map(Bytes::len).sum::<usize>();
        while pieces.len() < HYPER_PIECES && held(&pieces) < HYPER_BYTES {
            pieces.push(next());
        }
        (pieces, body)
    };
    // The log is full before and after: what a viewer keeps of it in the end is its own.
    let mut warm = Vec::with_capacity(1);
    runtime.block_on(async {
        publish(200).await;
        warm.push(stall().await);
    });
    let mut stalled = Vec::with_capacity(VIEWERS);
    let kept = measure(|| {
        runtime.block_on(async {
            for _ in 0..VIEWERS {
                stalled.push(stall().await);
            }
            publish(200).await;
        });
    });
    let each = kept.bytes_current / VIEWERS as i64;
    assert!(each < 512 * 1024, "{each} bytes a viewer");
    assert!(each > 192 * 1024, "{each} bytes: they do not stall");
}
