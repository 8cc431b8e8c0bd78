//! What is recorded of a request that went through a real server: each way to end, and what the handler said.

mod support;

use std::{io, time::Duration};

use axum::{
    Extension, Router,
    body::{Body, Bytes},
    http::{HeaderValue, Method, Response, StatusCode, header},
    routing::{any, get, post},
};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use support::{Host, assert_fields, config, request, soon};
use tokio::sync::mpsc;
use tower_realtime::{Price, PriceTable, RequestMeter, Usage};

/// A body that sends what it is told to, and never ends by itself.
fn told() -> (mpsc::UnboundedSender<Result<Bytes, io::Error>>, Body) {
    let (tx, rx) = mpsc::unbounded_channel();
    let stream = stream::unfold(rx, |mut rx| async move {
        let item: Option<Result<Bytes, io::Error>> = rx.recv().await;
        item.map(|item| (item, rx))
    });
    (tx, Body::from_stream(stream))
}

/// One GET of `/` answered by `answer`, and the row that it left.
async fn row_of<F>(answer: impl Fn() -> F + Clone + Send + Sync + 'static) -> Value
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let host = Host::start(Router::new().route("/", any(answer))).await;
    let mut rows = host.watch().await;
    host.connect().await.try_open(support::get("/")).await;
    let row = rows.next().await;
    assert_eq!(host.metrics().await["in_flight"], 0);
    row
}

#[tokio::test]
async fn a_short_answer() {
    let row = row_of(|| async { Response::new(Body::from("twelve bytes")) }).await;
    assert_fields(
        &row,
        json!({
            "method": "GET",
            "status_code": 200,
            "success": true,
            "aborted": false,
            "error_message": "",
            "response_bytes": 12,
            "provider_id": null,
            "model_id": null,
            "user_id": null,
            "tenant_id": null,
            "input_tokens": null,
            "output_tokens": null,
            "estimated_cost": null,
        }),
    );
    assert!(row.get("labels").is_none(), "{row:#}");
    assert!(
        row["id"].as_str().is_some_and(|id| !id.is_empty()),
        "{row:#}"
    );
    let (latency, ttfb) = (row["latency_ms"].as_f64(), row["ttfb_ms"].as_f64());
    assert!(latency >= ttfb && ttfb.is_some(), "{row:#}");
    let seconds = row["timestamp"].as_u64().unwrap();
    assert_eq!(row["timestamp_ms"].as_u64().unwrap() / 1000, seconds);
}

#[tokio::test]
async fn an_empty_answer() {
    let row = row_of(|| async { Response::new(Body::empty()) }).await;
    assert_fields(&row, json!({"success": true, "response_bytes": 0}));
}

#[tokio::test]
async fn answers_that_have_no_body_by_their_status() {
    for status in [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED] {
        let row = row_of(move || async move {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = status;
            response
        })
        .await;
        assert_fields(
            &row,
            json!({"status_code": status.as_u16(), "success": true, "aborted": false}),
        );
    }
}

#[tokio::test]
async fn failures_by_status() {
    for status in [400u16, 404, 408, 429, 500, 504] {
        let row = row_of(move || async move {
            let mut response = Response::new(Body::from("no"));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response
        })
        .await;
        assert_fields(
            &row,
            json!({"status_code": status, "success": false, "aborted": false}),
        );
        assert_ne!(row["error_message"], "", "{row:#}");
    }
}

#[tokio::test]
async fn a_stream_is_recorded_at_its_end_only() {
    let (tx, body) = told();
    let body = std::sync::Arc::new(std::sync::Mutex::new(Some(body)));
    let router = Router::new().route(
        "/",
        get(move || async move { body.lock().unwrap().take().unwrap() }),
    );
    let host = Host::start(router).await;
    let mut rows = host.watch().await;
    let mut connection = host.connect().await;
    tx.send(Ok(Bytes::from("first "))).unwrap();
    let response = connection.open(support::get("/")).await;
    assert_fields(
        &host.metrics().await,
        json!({"total_requests": 0, "in_flight": 1}),
    );

    tx.send(Ok(Bytes::from("last"))).unwrap();
    drop(tx);
    let body = soon(
        "the body",
        axum::body::to_bytes(Body::new(response.into_body()), 100),
    )
    .await;
    assert_eq!(body.unwrap(), "first last");
    let row = rows.next().await;
    assert_fields(
        &row,
        json!({"status_code": 200, "success": true, "aborted": false, "response_bytes": 10}),
    );
    assert_eq!(host.metrics().await["in_flight"], 0);
}

#[tokio::test]
async fn a_body_that_fails() {
    let row = row_of(|| async {
        let frames = [
            Ok(Bytes::from("half")),
            Err(io::Error::other("the provider hung up")),
        ];
        Response::new(Body::from_stream(stream::iter(frames)))
    })
    .await;
    assert_fields(
        &row,
        json!({"status_code": 200, "success": false, "aborted": false}),
    );
    assert_ne!(row["error_message"], "", "{row:#}");
}

#[tokio::test]
async fn a_client_that_leaves_in_the_body() {
    let endless = || async {
        let chunks = stream::iter(0..).then(|_| async {
            tokio::task::yield_now().await;
            Ok::<_, io::Error>(Bytes::from_static(&[b'x'; 1024]))
        });
        Response::new(Body::from_stream(chunks))
    };
    let host = Host::start(Router::new().route("/", get(endless))).await;
    let mut rows = host.watch().await;
    let mut connection = host.connect().await;
    let response = connection.open(support::get("/")).await;
    drop(response);
    connection.leave();
    let row = rows.next().await;
    assert_fields(
        &row,
        json!({"status_code": 200, "success": false, "aborted": true}),
    );
    assert_fields(
        &host.metrics().await,
        json!({"total_requests": 1, "aborted_requests": 1, "in_flight": 0}),
    );
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer() {
    let (arrived_tx, mut arrived) = mpsc::unbounded_channel();
    let router = Router::new().route(
        "/",
        get(move || async move {
            arrived_tx.send(()).unwrap();
            std::future::pending::<()>().await;
        }),
    );
    let host = Host::start(router).await;
    let mut rows = host.watch().await;
    let mut connection = host.connect().await;
    let asking = tokio::spawn(async move { connection.try_open(support::get("/")).await });
    soon("the request to arrive", arrived.recv()).await;
    assert_eq!(host.metrics().await["in_flight"], 1);
    asking.abort();
    let row = rows.next().await;
    assert_fields(
        &row,
        json!({"status_code": null, "ttfb_ms": null, "success": false, "aborted": true}),
    );
    assert_eq!(host.metrics().await["in_flight"], 0);
}

#[tokio::test]
async fn a_handler_that_panics_fails_and_the_panic_passes_through() {
    let host = Host::start(Router::new().route("/", get(panics))).await;
    let mut rows = host.watch().await;
    let answer = host.connect().await.try_open(support::get("/")).await;
    assert!(
        answer.is_none(),
        "hyper closes the connection of a handler that panicked"
    );
    let row = rows.next().await;
    assert_fields(&row, json!({"success": false, "aborted": false}));
    assert_ne!(row["error_message"], "", "{row:#}");
    assert_eq!(host.metrics().await["in_flight"], 0);
    // The host lives on.
    assert_eq!(host.get("/nowhere").await.status, 404);
}

async fn panics() -> &'static str {
    panic!("a handler of this test panics on purpose")
}

#[tokio::test]
async fn head_is_complete_without_a_body() {
    let host = Host::start(Router::new().route("/", get(|| async { "hello" }))).await;
    let mut rows = host.watch().await;
    host.send(request(Method::HEAD, "/")).await;
    assert_fields(
        &rows.next().await,
        json!({"method": "HEAD", "status_code": 200, "success": true, "aborted": false}),
    );
}

#[tokio::test]
async fn an_exact_length_that_is_never_polled_again_is_complete() {
    // The length is announced, the body says nothing about its end: hyper stops polling when it has all bytes.
    let row = row_of(|| async {
        let frames = stream::iter([Ok::<_, io::Error>(Bytes::from("12345"))]);
        let frames = frames.chain(stream::pending());
        Response::builder()
            .header(header::CONTENT_LENGTH, 5)
            .body(Body::from_stream(frames))
            .unwrap()
    })
    .await;
    assert_fields(
        &row,
        json!({"success": true, "aborted": false, "response_bytes": 5}),
    );
}

#[tokio::test]
async fn request_bytes_are_those_announced() {
    let host = Host::start(Router::new().route("/", post(|_: Bytes| async {}))).await;
    let mut rows = host.watch().await;
    host.send(support::post("/", "seven b")).await;
    assert_eq!(rows.next().await["request_bytes"], 7);
    host.send(request(Method::POST, "/")).await;
    assert_eq!(rows.next().await["request_bytes"], 0);
}

#[tokio::test]
async fn an_upgrade_is_recorded_and_works() {
    let upgrade = |mut request: axum::extract::Request| async move {
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut io = hyper_util::rt::TokioIo::new(upgraded.await.unwrap());
            tokio::io::AsyncWriteExt::write_all(&mut io, b"raw")
                .await
                .unwrap();
        });
        Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "raw")
            .body(Body::empty())
            .unwrap()
    };
    let host = Host::start(Router::new().route("/", get(upgrade))).await;
    let mut rows = host.watch().await;
    let answer = host
        .raw("GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: raw\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nraw"), "{answer}");
    assert_fields(
        &rows.next().await,
        json!({"status_code": 101, "success": true, "aborted": false}),
    );
}

#[tokio::test]
async fn a_timeout_layer_inside_is_a_408() {
    let slow = || async {
        std::future::pending::<()>().await;
    };
    let inside = tower::ServiceBuilder::new()
        .layer(axum::error_handling::HandleErrorLayer::new(
            |_: tower::BoxError| async { StatusCode::REQUEST_TIMEOUT },
        ))
        .layer(tower::timeout::TimeoutLayer::new(Duration::from_millis(1)));
    let host = Host::start(Router::new().route("/", get(slow)).layer(inside)).await;
    let mut rows = host.watch().await;
    host.get("/").await;
    assert_fields(
        &rows.next().await,
        json!({"status_code": 408, "success": false}),
    );
    assert_eq!(host.metrics().await["timeout_count"], 1);
}

#[tokio::test]
async fn what_the_handler_says_is_attributed_and_priced() {
    let handler = |Extension(meter): Extension<RequestMeter>| async move {
        meter
            .provider("openai")
            .model("gpt-4o")
            .user("ana")
            .tenant("acme")
            .label("plan", "pro");
        meter.tokens(Usage {
            input: 1000,
            output: 100,
            cached: 400,
        });
        "ok"
    };
    let prices = PriceTable::new().model("gpt-4o", Price::new(2.5, 10.0).cached(1.25));
    let router = Router::new().route("/", get(handler));
    let host = Host::configured(config().prices(prices), router).await;
    let mut rows = host.watch().await;
    host.get("/").await;
    let row = rows.next().await;
    assert_fields(
        &row,
        json!({
            "provider_id": "openai",
            "model_id": "gpt-4o",
            "user_id": "ana",
            "tenant_id": "acme",
            "input_tokens": 1000,
            "output_tokens": 100,
            "cached_tokens": 400,
            "labels": {"plan": "pro"},
            // 600 × 2.50 + 400 × 1.25 + 100 × 10.00 dollars a million.
            "estimated_cost": 0.003,
        }),
    );
    assert_fields(
        &host.metrics().await,
        json!({
            "total_tokens": 1100,
            "total_cost": 0.003,
            "unpriced_requests": 0,
            "active_users": 1,
        }),
    );
}

#[tokio::test]
async fn tokens_without_a_price_are_unpriced_not_free() {
    let handler = |Extension(meter): Extension<RequestMeter>| async move {
        meter.model("home-grown").tokens(Usage {
            input: 1,
            output: 1,
            cached: 0,
        });
    };
    let host = Host::start(Router::new().route("/", get(handler))).await;
    let mut rows = host.watch().await;
    host.get("/").await;
    assert_eq!(rows.next().await["estimated_cost"], Value::Null);
    assert_eq!(host.metrics().await["unpriced_requests"], 1);
}

#[tokio::test]
async fn tokens_are_taken_from_inside_the_stream_and_ignored_after_it() {
    let (kept_tx, mut kept) = mpsc::unbounded_channel();
    let handler = move |Extension(meter): Extension<RequestMeter>| async move {
        kept_tx.send(meter.clone()).unwrap();
        let chunks = stream::iter(0..3).map(move |chunk| {
            if chunk == 2 {
                meter.provider("late").tokens(Usage {
                    input: 5,
                    output: 7,
                    cached: 0,
                });
            }
            Ok::<_, io::Error>(Bytes::from("chunk"))
        });
        Body::from_stream(chunks)
    };
    let host = Host::start(Router::new().route("/", get(handler))).await;
    let mut rows = host.watch().await;
    host.get("/").await;
    assert_fields(
        &rows.next().await,
        json!({"provider_id": "late", "input_tokens": 5, "output_tokens": 7}),
    );
    let meter = kept.recv().await.unwrap();
    meter.tokens(Usage {
        input: 1_000_000,
        output: 0,
        cached: 0,
    });
    assert_eq!(host.metrics().await["input_tokens"], 5);
}

#[tokio::test]
async fn the_handler_has_the_last_word_on_success() {
    let router = Router::new()
        .route(
            "/failed",
            get(|Extension(meter): Extension<RequestMeter>| async move {
                meter.fail("quota");
                "an apology with status 200"
            }),
        )
        .route(
            "/fine",
            get(|Extension(meter): Extension<RequestMeter>| async move {
                meter.success();
                StatusCode::NOT_FOUND
            }),
        );
    let host = Host::start(router).await;
    let mut rows = host.watch().await;
    host.get("/failed").await;
    assert_fields(
        &rows.next().await,
        json!({"status_code": 200, "success": false, "error_message": "quota"}),
    );
    host.get("/fine").await;
    assert_fields(
        &rows.next().await,
        json!({"status_code": 404, "success": true, "error_message": ""}),
    );
}

#[tokio::test]
async fn the_hosts_request_id_is_kept() {
    let host = Host::start(Router::new().route("/", get(|| async {}))).await;
    let mut rows = host.watch().await;
    let mut request = support::get("/");
    let id = HeaderValue::from_static("trace-0815");
    request.headers_mut().insert("x-request-id", id);
    host.send(request).await;
    assert_eq!(rows.next().await["id"], "trace-0815");
    host.get("/").await;
    host.get("/").await;
    let rows = rows.take(2).await;
    assert_ne!(rows[0]["id"], rows[1]["id"]);
}

#[tokio::test]
async fn sums_of_all_rows_are_the_totals() {
    let router = Router::new()
        .route(
            "/named",
            get(|Extension(meter): Extension<RequestMeter>| async move {
                meter
                    .provider("p")
                    .model("m")
                    .user("u")
                    .tenant("t")
                    .tokens(Usage {
                        input: 3,
                        output: 4,
                        cached: 0,
                    });
            }),
        )
        .route("/plain", get(|| async {}));
    let host = Host::start(router).await;
    for path in ["/named", "/named", "/plain", "/nowhere"] {
        host.get(path).await;
    }
    for by in ["route", "model", "user", "provider", "tenant"] {
        let breakdown = host
            .data(&format!("/api/realtime/breakdown?by={by}&range=300"))
            .await;
        let rows = breakdown["rows"].as_array().unwrap();
        let sum = |field: &str| {
            rows.iter()
                .map(|row| row[field].as_u64().unwrap())
                .sum::<u64>()
        };
        assert_eq!(sum("total_requests"), 4, "{breakdown:#}");
        assert_eq!(sum("failed_requests"), 1, "{breakdown:#}");
        assert_eq!(sum("total_tokens"), 14, "{breakdown:#}");
        assert_eq!(breakdown["totals"]["total_requests"], 4, "{breakdown:#}");
    }
}

#[tokio::test]
async fn own_paths_are_not_recorded() {
    let host = Host::start(Router::new()).await;
    host.stream("/stream/all").await;
    host.get("/api/realtime/info").await;
    host.get("/api/realtime/nope").await;
    assert_eq!(host.metrics().await["total_requests"], 0);
}
