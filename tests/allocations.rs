//! What a request and a viewer cost in memory: exact numbers of allocations, in a bare tower stack, because a
//! framework around it has its own; and in axum's router, over what that has.

use std::{
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use allocation_counter::{AllocationInfo, measure};
use axum::{
    body::Bytes,
    http::{Request, Response},
};
use http_body::Frame;
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

/// How a request goes on after its head was read.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    /// So many frames, and the end.
    Frames(usize),
    /// So many frames, and then the body breaks.
    BodyError(usize),
    /// The client leaves after so many of four frames.
    DroppedInBody(usize),
    /// The client leaves before there is a head.
    DroppedBefore,
    ServiceError,
}

const ENDINGS: [Ending; 8] = [
    Ending::Frames(0),
    Ending::Frames(1),
    Ending::Frames(4),
    Ending::Frames(100),
    Ending::BodyError(2),
    Ending::DroppedInBody(2),
    Ending::DroppedBefore,
    Ending::ServiceError,
];

/// A body that allocates nothing by itself.
struct Parts {
    left: usize,
    breaks: bool,
}

impl Parts {
    fn of(ending: Ending) -> Self {
        match ending {
            Ending::Frames(left) => Self {
                left,
                breaks: false,
            },
            Ending::BodyError(left) => Self { left, breaks: true },
            _ => Self {
                left: 4,
                breaks: false,
            },
        }
    }
}

impl http_body::Body for Parts {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.left > 0 {
            self.left -= 1;
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"part")))));
        }
        Poll::Ready(std::mem::take(&mut self.breaks).then_some(Err(Broken)))
    }
}

#[derive(Debug)]
struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken")
    }
}

impl std::error::Error for Broken {}

async fn answer<B>(ending: Ending, request: Request<B>) -> Result<Response<Parts>, Broken> {
    if let Some(meter) = request.extensions().get::<RequestMeter>() {
        meter.provider("openai").model("gpt-4o").user("ana");
    }
    match ending {
        Ending::DroppedBefore => std::future::pending().await,
        Ending::ServiceError => Err(Broken),
        _ => Ok(Response::new(Parts::of(ending))),
    }
}

/// What a request costs that goes on like that.
fn cost_of<S, R, B>(service: &mut S, asked: R, ending: Ending) -> AllocationInfo
where
    S: Service<R, Response = Response<B>>,
    B: http_body::Body<Data = Bytes>,
{
    measure(|| {
        let called = service.call(asked);
        if ending == Ending::DroppedBefore {
            let mut cx = Context::from_waker(Waker::noop());
            assert!(pin!(called).poll(&mut cx).is_pending());
            return;
        }
        let Ok(response) = now(called) else {
            assert_eq!(ending, Ending::ServiceError);
            return;
        };
        let mut body = pin!(response.into_body());
        let read = match ending {
            Ending::DroppedInBody(read) => read,
            _ => usize::MAX,
        };
        let frames = (0..read).map_while(|_| now(body.frame())).count();
        match ending {
            Ending::BodyError(parts) => assert_eq!(frames, parts + 1),
            Ending::Frames(parts) | Ending::DroppedInBody(parts) => assert_eq!(frames, parts),
            _ => {}
        }
    })
}

#[tokio::test(start_paused = true)]
async fn however_a_request_ends_it_costs_no_more() {
    for ending in ENDINGS {
        let inner = move |request: Asked| answer(ending, request);
        let bare = cost_of(&mut service_fn(inner), request(), ending);
        assert_eq!(bare.count_total, 0, "{ending:?}: the stack itself");
        let mut service = layer().layer(service_fn(inner));
        for _ in 0..10 {
            cost_of(&mut service, request(), ending);
        }
        for _ in 0..100 {
            let cost = cost_of(&mut service, request(), ending);
            assert_eq!(cost.count_total, 2, "{ending:?}: {cost:?}");
            assert_eq!(cost.count_current, -2, "{ending:?}: {cost:?}");
        }
    }
}

/// What a request costs in axum 0.8's router over one with an idle layer, as measured: two as in a bare stack, and two more
/// on the way to the handler.
#[cfg(feature = "axum")]
const ROUTED: u64 = 4;

/// In axum's router, which boxes each layer's future and body: against one with a layer that wraps the body and does
/// nothing else. The route's label is axum's own template.
#[cfg(feature = "axum")]
#[tokio::test(start_paused = true)]
async fn in_a_router_a_request_costs_the_same_however_long_and_however_it_ends() {
    use axum::{Router, body::Body, routing::any};
    use tower::util::MapResponseLayer;

    let endings = ENDINGS.into_iter();
    for ending in endings.filter(|ending| *ending != Ending::ServiceError) {
        let handler = move |request: Request<Body>| async move {
            // The router has no errors.
            answer(ending, request).await.map_err(|_| ())
        };
        let router = || {
            let answered = move |request: Request<Body>| async move {
                let Ok(response) = handler(request).await else {
                    unreachable!("it does not fail before its head");
                };
                response.map(Body::new)
            };
            Router::new().route("/v1/{name}", any(answered))
        };
        let asked = || {
            let mut request = Request::new(Body::empty());
            *request.uri_mut() = "/v1/chat".parse().unwrap();
            request.extensions_mut().insert(());
            request
        };
        let idle = MapResponseLayer::new(|response: Response<Body>| {
            response.map(|body| http_body_util::Limited::new(body, usize::MAX))
        });
        let mut without = router().layer(idle);
        let realtime = RealtimeLayer::new(RealtimeConfig::new(Access::public()));
        let mut with = router().layer(realtime);
        for _ in 0..10 {
            cost_of(&mut without, asked(), ending);
            cost_of(&mut with, asked(), ending);
        }
        for _ in 0..100 {
            let theirs = cost_of(&mut without, asked(), ending);
            let ours = cost_of(&mut with, asked(), ending);
            assert_eq!(
                ours.count_total,
                theirs.count_total + ROUTED,
                "{ending:?}: {ours:?}, without {theirs:?}"
            );
            assert_eq!(ours.count_current, theirs.count_current, "{ending:?}");
        }
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
    // What is remembered of those who may come back makes room for what is remembered of the others.
    tokio::time::advance(Duration::from_secs(31 * 60)).await;
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
