//! Where the layer may stand: what is answered, what is hidden, what the rows are called.
//!
//! The matrix behind the advice "add it last, on the outermost router".

mod support;

use std::convert::Infallible;

use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, Request, Response, StatusCode},
    routing::{get, post},
};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use serde_json::{Value, json};
use support::{Host, assert_fields, config, template};
use tower::{Layer, ServiceBuilder, service_fn};
use tower_realtime::RealtimeLayer;

fn app() -> Router {
    Router::new()
        .route("/hello/{name}", get(|| async { "hello" }))
        .route("/echo", post(|body: Bytes| async { body }))
}

/// Asks for a host's path and gives the row that it left.
async fn row_of(host: &Host, path: &str) -> Value {
    let mut rows = host.watch().await;
    host.get(path).await;
    rows.next().await
}

async fn assert_live(host: &Host) {
    let info = host.get("/api/realtime/info").await;
    assert!(info.is_ours(), "{info:#?}");
    host.stream("/stream/stats").await;
}

async fn assert_hidden(host: &Host) {
    for path in [
        "/api/realtime/info",
        "/stream/stats",
        "/api/realtime/metrics",
    ] {
        let answer = host.get(path).await;
        assert!(!answer.is_ours(), "{answer:#?}");
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn added_last_it_answers_its_paths_and_records_all_others() {
    let host = Host::start(app()).await;
    assert_live(&host).await;
    let row = row_of(&host, "/hello/ana").await;
    assert_fields(
        &row,
        json!({
            "endpoint": template("/hello/{name}"),
            "method": "GET",
            "status_code": 200,
            "success": true,
            "aborted": false,
            "response_bytes": 5,
        }),
    );
    let row = row_of(&host, "/no/such/path?secret=1").await;
    assert_fields(
        &row,
        json!({"endpoint": "(unmatched)", "status_code": 404, "success": false}),
    );
}

#[tokio::test]
async fn whole_segments_are_matched() {
    let router = Router::new()
        .route("/streams", get(|| async { "mine" }))
        .route("/stream-of-consciousness", get(|| async { "mine" }))
        .route("/api/realtimes", get(|| async { "mine" }))
        .route("/", get(|| async { "mine" }));
    let host = Host::start(router).await;
    for path in [
        "/streams",
        "/stream-of-consciousness",
        "/api/realtimes",
        "/",
    ] {
        assert_eq!(host.get(path).await.text(), "mine", "{path}");
    }
}

#[tokio::test]
async fn a_merge_afterwards_hides_its_paths_but_records_what_was_there() {
    let host = Host::mounted(config(), |realtime| {
        let admin = Router::new()
            .route("/late", get(|| async { "late" }))
            .nest_service("/live", realtime.routes());
        app().layer(realtime).merge(admin)
    })
    .await;
    assert_hidden(&host).await;
    let mut live = host.stream("/live/stream/requests").await;
    assert_eq!(host.get("/late").await.text(), "late");
    assert_eq!(host.get("/hello/ana").await.text(), "hello");
    let row = live.wait_for("requests").await.data;
    assert_eq!(row["endpoint"], template("/hello/{name}"), "{row:#}");
}

#[tokio::test]
async fn nested_it_hides_its_paths_but_records() {
    let host = Host::mounted(config(), |realtime| {
        let live = realtime.routes();
        Router::new()
            .nest("/v1", app().layer(realtime))
            .nest_service("/live", live)
    })
    .await;
    assert_hidden(&host).await;
    let mut live = host.stream("/live/stream/requests").await;
    host.get("/v1/hello/ana").await;
    let row = live.wait_for("requests").await.data;
    assert_eq!(row["endpoint"], template("/v1/hello/{name}"), "{row:#}");
}

#[tokio::test]
async fn around_nested_routers_the_whole_template_is_kept() {
    let router = Router::new().nest("/v1", Router::new().nest("/deep", app()));
    let host = Host::start(router).await;
    let row = row_of(&host, "/v1/deep/hello/ana").await;
    assert_eq!(
        row["endpoint"],
        template("/v1/deep/hello/{name}"),
        "{row:#}"
    );
}

#[tokio::test]
async fn as_route_layer_it_hides_its_paths_but_records() {
    let host = Host::mounted(config(), |realtime| {
        let live = realtime.routes();
        app().route_layer(realtime).nest_service("/live", live)
    })
    .await;
    assert_hidden(&host).await;
    let mut live = host.stream("/live/stream/requests").await;
    // The 404 is not a route's: `route_layer` does not see it.
    host.get("/nowhere").await;
    host.get("/hello/ana").await;
    let row = live.wait_for("requests").await.data;
    assert_eq!(row["endpoint"], template("/hello/{name}"), "{row:#}");
}

#[tokio::test]
async fn a_nested_service_is_recorded_without_a_template() {
    let router = Router::new().nest_service("/files", service_fn(plain::<Body>));
    let host = Host::start(router).await;
    assert_live(&host).await;
    let row = row_of(&host, "/files/a/b.txt").await;
    assert_fields(&row, json!({"endpoint": "(unmatched)", "status_code": 200}));
}

#[tokio::test]
async fn a_fallback_set_before_is_recorded_and_hides_nothing() {
    let router = app().fallback(|| async { (StatusCode::IM_A_TEAPOT, "mine") });
    let host = Host::start(router).await;
    assert_live(&host).await;
    let row = row_of(&host, "/nowhere").await;
    assert_fields(&row, json!({"endpoint": "(unmatched)", "status_code": 418}));
}

#[tokio::test]
async fn a_fallback_set_afterwards_hides_its_paths() {
    let host = Host::mounted(config(), |realtime| {
        let live = realtime.routes();
        app()
            .layer(realtime)
            .nest_service("/live", live)
            .fallback(|| async { StatusCode::NOT_FOUND })
    })
    .await;
    assert_hidden(&host).await;
    let mut live = host.stream("/live/stream/requests").await;
    host.get("/hello/ana").await;
    let row = live.wait_for("requests").await.data;
    assert_eq!(row["endpoint"], template("/hello/{name}"), "{row:#}");
}

#[tokio::test]
async fn its_paths_alone_live_under_a_prefix_and_record_nothing() {
    let host = Host::mounted(config(), |realtime| {
        app().nest_service("/admin/live", realtime.routes())
    })
    .await;
    let info = host.get("/admin/live/api/realtime/info").await;
    assert_eq!(info.data()["version"], env!("CARGO_PKG_VERSION"));
    let mut stream = host.stream("/admin/live/stream/stats").await;
    host.get("/hello/ana").await;
    let stats = stream.wait_for("stats").await.data;
    assert_eq!(stats["total_requests"], 0, "{stats:#}");
    // Below the prefix, too, an unknown path of ours is ours to refuse.
    host.get("/admin/live/api/realtime/nope").await.refusal(404);
}

#[tokio::test]
async fn record_only_leaves_every_path_to_the_host() {
    let host = Host::mounted(config(), |realtime| {
        let router = app().route("/stream/stats", get(|| async { "mine" }));
        router.layer(realtime.record_only())
    })
    .await;
    assert_eq!(host.get("/stream/stats").await.text(), "mine");
    assert_eq!(host.get("/api/realtime/info").await.status, 404);

    // The other half, on a port of its own.
    let realtime = host.realtime.clone();
    let admin = Router::new().fallback_service(realtime.routes());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, admin).await });
    let mut connection = support::Connection::http1(address).await;
    let metrics = connection.send(support::get("/api/realtime/metrics")).await;
    assert_eq!(metrics.data()["total_requests"], 2);
    server.abort();
}

#[tokio::test]
async fn around_the_finished_router_it_answers_everything() {
    let host = Host::serving(config(), |realtime, listener, shutdown| async move {
        // `axum::serve` wants axum's own body type back.
        let service = ServiceBuilder::new()
            .layer(axum::middleware::ResponseAxumBodyLayer)
            .layer(realtime)
            .service(app().fallback(|| async { StatusCode::NOT_FOUND }));
        let service = axum::ServiceExt::<Request<Body>>::into_make_service(service);
        axum::serve(listener, service)
            .with_graceful_shutdown(shutdown.cancelled_owned())
            .await
            .unwrap();
    })
    .await;
    assert_live(&host).await;
    let row = row_of(&host, "/hello/ana").await;
    assert_fields(&row, json!({"status_code": 200, "success": true}));
}

#[tokio::test]
async fn applied_twice_it_records_once() {
    let host = Host::mounted(config(), |realtime| {
        app().layer(realtime.clone()).layer(realtime)
    })
    .await;
    host.get("/hello/ana").await;
    host.get("/hello/ben").await;
    assert_fields(
        &host.metrics().await,
        json!({"total_requests": 2, "in_flight": 0}),
    );
}

#[tokio::test]
async fn two_layers_keep_two_books() {
    let other = RealtimeLayer::new(config());
    let inner = other.clone();
    let host = Host::mounted(config(), |realtime| {
        let inner = Router::new()
            .route("/inner", get(|| async { "inner" }))
            .layer(inner.record_only());
        app().merge(inner).layer(realtime)
    })
    .await;
    host.get("/hello/ana").await;
    host.get("/inner").await;
    assert_eq!(host.metrics().await["total_requests"], 2);
    let snapshot = other.handle().snapshot(tower_realtime::Window::OneHour);
    let snapshot = serde_json::to_value(&snapshot).unwrap();
    assert_eq!(snapshot["total_requests"], 1, "{snapshot:#}");
}

#[tokio::test]
async fn http2_is_served_and_recorded() {
    let host = Host::start(app()).await;
    let mut connection = host.connect_http2().await;
    let answer = connection.send(support::get("/hello/ana")).await;
    assert_eq!(answer.text(), "hello");
    let mut stream = connection
        .stream(support::get("/stream/requests?since=earliest"))
        .await;
    let row = stream.wait_for("requests").await.data;
    assert_fields(
        &row,
        json!({"endpoint": template("/hello/{name}"), "status_code": 200}),
    );
}

#[tokio::test]
async fn around_a_bare_hyper_service() {
    let host = Host::serving(config(), |realtime, listener, _| async move {
        serve_hyper(realtime.layer(service_fn(plain::<Incoming>)), listener).await;
    })
    .await;
    assert_live(&host).await;
    let row = row_of(&host, "/any/path").await;
    assert_fields(
        &row,
        json!({
            "endpoint": "(unmatched)",
            "method": "GET",
            "status_code": 200,
            "success": true,
            "response_bytes": 5,
        }),
    );
    let mut connection = host.connect_http2().await;
    assert_eq!(connection.send(support::get("/")).await.text(), "plain");
    assert_eq!(host.metrics().await["total_requests"], 2);
}

#[tokio::test]
async fn a_hook_names_the_routes_where_there_are_no_templates() {
    let config = config().route_label(|parts| {
        parts
            .uri
            .path()
            .starts_with("/files/")
            .then(|| "/files/{path}".into())
    });
    let host = Host::serving(config, |realtime, listener, _| async move {
        serve_hyper(realtime.layer(service_fn(plain::<Incoming>)), listener).await;
    })
    .await;
    let row = row_of(&host, "/files/a/b.txt").await;
    assert_eq!(row["endpoint"], "/files/{path}", "{row:#}");
    let row = row_of(&host, "/elsewhere").await;
    assert_eq!(row["endpoint"], "(unmatched)", "{row:#}");
}

#[tokio::test]
async fn around_tonic_a_call_fails_by_its_status() {
    let host = Host::serving(config(), |realtime, listener, shutdown| async move {
        let connections = tonic::transport::server::TcpIncoming::from(listener);
        // gRPC is HTTP/2 only; our own paths are read by HTTP/1.1 clients, too.
        tonic::transport::Server::builder()
            .accept_http1(true)
            .layer(realtime)
            .add_service(grpc_server::Greeter)
            .serve_with_incoming_shutdown(connections, shutdown.cancelled_owned())
            .await
            .unwrap();
    })
    .await;
    assert_live(&host).await;
    check_calls(&host).await;
}

#[tokio::test]
async fn a_grpc_stream_fails_by_its_trailers() {
    let host = Host::serving(config(), |realtime, listener, _| async move {
        serve_hyper(realtime.layer(service_fn(grpc)), listener).await;
    })
    .await;
    check_calls(&host).await;
}

/// One call that succeeds and one that fails, both with HTTP's status 200.
async fn check_calls(host: &Host) {
    let mut rows = host.watch().await;
    for (path, success) in [("/greeter/hello", true), ("/greeter/fail", false)] {
        let mut connection = host.connect_http2().await;
        let mut call = support::post(path, &b"\0\0\0\0\x02ok"[..]);
        let grpc = HeaderValue::from_static("application/grpc");
        call.headers_mut().insert("content-type", grpc);
        let answer = connection.send(call).await;
        // A call that fails before its first message says so in the head, others in the trailers.
        let said = answer.trailers.as_ref().unwrap_or(&answer.headers);
        assert_eq!(said["grpc-status"] == "0", success, "{answer:#?}");
        let row = rows.next().await;
        assert_fields(&row, json!({"status_code": 200, "success": success}));
    }
}

async fn plain<B>(_: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("plain")))
}

/// A gRPC service by hand: one message, the status in the trailers.
async fn grpc(
    request: Request<Incoming>,
) -> Result<Response<impl http_body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let status = if request.uri().path().ends_with("/fail") {
        "13"
    } else {
        "0"
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    let frames = [
        Ok(Frame::data(Bytes::from_static(b"\0\0\0\0\x02ok"))),
        Ok(Frame::trailers(trailers)),
    ];
    let body = StreamBody::new(futures_util::stream::iter(frames)).boxed();
    let mut response = Response::new(body);
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", grpc);
    Ok(response)
}

/// HTTP/1.1 and HTTP/2 on one port, as hyper-util serves them.
async fn serve_hyper<S, B>(service: S, listener: tokio::net::TcpListener)
where
    S: tower::Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + Sync,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            let connection = server.serve_connection_with_upgrades(TokioIo::new(socket), service);
            // A client that leaves is an error to hyper.
            let _ = connection.await;
        });
    }
}

/// tonic's own server, with a service as its generated code would be, but for bytes as they are.
mod grpc_server {
    use std::task::{Context, Poll};

    use bytes::{Buf, BufMut};
    use tonic::{
        Request, Response, Status,
        codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
        server::{Grpc, NamedService, UnaryService},
    };

    use super::*;

    #[derive(Clone)]
    pub(crate) struct Greeter;

    impl NamedService for Greeter {
        const NAME: &'static str = "greeter";
    }

    type Answer = std::pin::Pin<
        Box<dyn Future<Output = Result<http::Response<tonic::body::Body>, Infallible>> + Send>,
    >;

    impl tower::Service<http::Request<tonic::body::Body>> for Greeter {
        type Response = http::Response<tonic::body::Body>;
        type Error = Infallible;
        type Future = Answer;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: http::Request<tonic::body::Body>) -> Answer {
            let method = Hello {
                fails: request.uri().path().ends_with("/fail"),
            };
            Box::pin(async move { Ok(Grpc::new(Plain).unary(method, request).await) })
        }
    }

    struct Hello {
        fails: bool,
    }

    impl UnaryService<Bytes> for Hello {
        type Response = Bytes;
        type Future = std::future::Ready<Result<Response<Bytes>, Status>>;

        fn call(&mut self, request: Request<Bytes>) -> Self::Future {
            std::future::ready(if self.fails {
                Err(Status::internal("on purpose"))
            } else {
                Ok(Response::new(request.into_inner()))
            })
        }
    }

    struct Plain;

    impl Codec for Plain {
        type Encode = Bytes;
        type Decode = Bytes;
        type Encoder = Self;
        type Decoder = Self;

        fn encoder(&mut self) -> Self {
            Self
        }

        fn decoder(&mut self) -> Self {
            Self
        }
    }

    impl Encoder for Plain {
        type Item = Bytes;
        type Error = Status;

        fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
            buffer.put(item);
            Ok(())
        }
    }

    impl Decoder for Plain {
        type Item = Bytes;
        type Error = Status;

        fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
            let bytes = buffer.copy_to_bytes(buffer.remaining());
            Ok(Some(bytes))
        }
    }
}

#[tokio::test]
async fn switched_off_the_layer_hands_everything_through() {
    let config = config().enabled(false);
    let router = Router::new()
        .route("/", get(|| async { "hello" }))
        .fallback(|| async { (axum::http::StatusCode::IM_A_TEAPOT, "host") });
    let host = Host::configured(config, router).await;
    assert_eq!(host.get("/").await.text(), "hello");
    assert_eq!(
        host.get("/stream/stats").await.status,
        418,
        "the path is the host's"
    );
    assert_eq!(
        host.rt
            .snapshot(tower_realtime::Window::OneMinute)
            .summary
            .total_requests,
        0
    );
}
