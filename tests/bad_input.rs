//! What nobody should send: a refusal that says why, bounded memory, exact totals, never a panic.

mod support;

use axum::{
    Extension, Router,
    body::Body,
    http::{HeaderValue, Method, StatusCode},
    routing::get,
};
use futures_util::stream;
use serde_json::{Value, json};
use support::{Host, assert_fields, config, request};
use tower::ServiceExt;
use tower_realtime::{RealtimeLayer, RequestMeter, Usage};

#[tokio::test]
async fn an_unknown_channel_is_told_the_known_ones() {
    let host = Host::start(Router::new()).await;
    for path in [
        "/stream/nope",
        "/stream/%ff",
        "/stream/stats/more",
        "/stream?channels=stats,nope",
    ] {
        let sentence = host.get(path).await.refusal(404);
        assert!(
            sentence.contains("stats") || sentence.contains("path"),
            "{path}: {sentence}"
        );
    }
    for known in ["stats", "logs", "providers", "requests", "all"] {
        let sentence = host.get("/stream/nope").await.refusal(404);
        assert!(sentence.contains(known), "{sentence}");
    }
}

#[tokio::test]
async fn a_wrong_parameter_is_named_with_what_it_takes() {
    let host = Host::start(Router::new()).await;
    for (path, parameter) in [
        ("/stream/requests?only_errors=perhaps", "only_errors"),
        ("/stream/logs?level=loud", "level"),
        ("/stream/logs?level=info,loud", "level"),
        ("/stream/stats?window=2d", "window"),
        ("/stream", "channels"),
        ("/stream/?channels=,", "channels"),
        ("/stream/requests?user_id=%ff", "user_id"),
        ("/stream/requests?user_id=", "user_id"),
        ("/stream/requests?only_errors", "only_errors"),
        ("/stream/stats?window=", "window"),
        ("/stream/stats?window=1h&window=5m", "window"),
        ("/stream/stats?channels=logs", "channels"),
        ("/stream?channels=stats&channels=logs", "channels"),
        ("/stream/requests?limit=5", "limit"),
        ("/api/realtime/metrics?window=", "window"),
        ("/api/realtime/metrics?window=1h&window=5m", "window"),
        ("/api/realtime/series?step=", "step"),
        ("/api/realtime/breakdown?by=", "by"),
        ("/api/realtime/errors?provider_id=", "provider_id"),
        ("/stream/stats?interval=0", "interval"),
        ("/stream/stats?interval=3601", "interval"),
        ("/stream/stats?interval=soon", "interval"),
        ("/stream/requests?max_rate=-1", "max_rate"),
        ("/api/realtime/metrics?window=2d", "window"),
        ("/api/realtime/breakdown?by=colour&range=60", "by"),
        ("/api/realtime/breakdown?by=route&range=x", "range"),
        ("/api/realtime/series?range=60&step=7", "step"),
        ("/api/realtime/series?range=-1&step=1", "range"),
        ("/api/realtime/slow?range=99999999999999999999", "range"),
        ("/api/realtime/requests?limit=many", "limit"),
        ("/api/realtime/overview?window=zz", "window"),
        ("/api/realtime/requests?window=zz", "window"),
        ("/api/realtime/providers?window=1h", "window"),
        ("/api/realtime/metrics?provider_id=groq", "provider_id"),
        ("/api/realtime/series?window=1h", "window"),
        ("/api/realtime/info?limit=1", "limit"),
    ] {
        let sentence = host.get(path).await.refusal(400);
        assert!(sentence.contains(parameter), "{path}: {sentence}");
    }
}

#[tokio::test]
async fn a_parameter_that_means_nothing_is_nobodys_business() {
    let host = Host::start(Router::new()).await;
    for path in [
        "/api/realtime/metrics?_=1795236984&_=2&utm_source=mail",
        "/api/realtime/info?_=1",
    ] {
        host.get(path).await.data();
    }
    let long = "x".repeat(2000);
    let stream = host
        .stream(&format!("/stream/stats?_=1&_=2&junk={long}"))
        .await;
    // And it takes no room in what is kept for the stream.
    assert!(stream.established.data["reconnect_token"].is_string());
    let many = vec!["_=1"; 65].join("&");
    let sentence = host
        .get(&format!("/api/realtime/info?{many}"))
        .await
        .refusal(400);
    assert!(
        sentence.contains("'query'") && sentence.contains("64"),
        "{sentence}"
    );
}

#[tokio::test]
async fn a_list_of_channels_is_checked_to_its_end_and_bounded() {
    let host = Host::start(Router::new()).await;
    // `all` hides nothing.
    let answer = host.get("/stream?channels=all,nope");
    let sentence = support::soon("the refusal", answer).await.refusal(404);
    assert!(sentence.contains("'nope'"), "{sentence}");
    let many: Vec<String> = (0..257).map(|n| format!("c{n}")).collect();
    for list in [
        many.join(","),
        format!("all,{}", many.join(",")),
        "x".repeat(65),
    ] {
        let sentence = host
            .get(&format!("/stream?channels={list}"))
            .await
            .refusal(400);
        assert!(sentence.contains("'channels'"), "{sentence}");
    }
}

#[tokio::test]
async fn an_unknown_position_is_a_fresh_start_and_no_error() {
    let host = Host::start(Router::new()).await;
    let long = "9".repeat(10_000);
    let positions = [
        "garbage",
        "1-",
        "-1",
        "1-2-3",
        "18446744073709551616-1",
        "1738723890-1",
        "99999999999-99999999999",
        "%00",
        "%ff",
        "1-%ff",
        "n:",
        "n:-1",
        "5x",
        long.as_str(),
    ];
    for position in positions {
        let stream = host
            .stream(&format!("/stream/requests?since={position}"))
            .await;
        let resume = &stream.established.data["resume"];
        assert_eq!(resume["verdict"], "lost", "{position:.40}: {resume}");
    }
    for bytes in [&b"\xff\xfe"[..], b"garbage", b"", long.as_bytes()] {
        let mut request = support::get("/stream/requests");
        let header = HeaderValue::from_bytes(bytes).unwrap();
        request.headers_mut().insert("last-event-id", header);
        let stream = host.connect().await.stream(request).await;
        let verdict = stream.established.data["resume"]["verdict"].clone();
        // An empty header is what a client sends that has seen nothing yet.
        let expected = if bytes.is_empty() { "fresh" } else { "lost" };
        assert_eq!(verdict, expected, "{bytes:.40?}");
    }
}

#[tokio::test]
async fn another_method_is_told_the_allowed_ones() {
    let host = Host::start(Router::new()).await;
    for (method, path) in [
        (Method::POST, "/stream/stats"),
        (Method::DELETE, "/stream/stats"),
        (Method::PUT, "/api/realtime/metrics"),
        (Method::DELETE, "/api/realtime/info"),
    ] {
        let answer = host.send(request(method, path)).await;
        answer.refusal(405);
        assert!(answer.header("allow").contains("GET"), "{answer:#?}");
    }
    // OPTIONS and unusual methods are no reason to panic either.
    for method in ["OPTIONS", "TRACE", "BREW"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let answer = host.send(request(method, "/stream/stats")).await;
        assert!(answer.status.is_client_error() || answer.status.is_success());
    }
}

#[tokio::test]
async fn head_of_a_stream_is_the_head_alone() {
    let host = Host::start(Router::new()).await;
    let answer = host.send(request(Method::HEAD, "/stream/stats")).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("content-type"), "text/event-stream");
    assert_eq!(answer.body, b"");
}

#[tokio::test]
async fn an_unknown_path_of_ours_is_refused_in_our_shape() {
    let host = Host::start(Router::new()).await;
    for path in [
        "/api/realtime",
        "/api/realtime/",
        "/api/realtime/nope",
        "/api/realtime/providers/nobody",
        "/api/realtime/providers/nobody/metrics",
        "/api/realtime/hub",
        "/api/realtime/hub/stats/more",
        "/api/realtime//metrics",
    ] {
        host.get(path).await.refusal(404);
    }
}

#[tokio::test]
async fn oversized_heads_are_the_servers_to_refuse() {
    let host = Host::start(Router::new()).await;
    let head = format!(
        "GET /stream/stats HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-big: {}\r\n\r\n",
        "x".repeat(1 << 20)
    );
    let answer = host.raw(&head).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );
    let many = "x-many: 1\r\n".repeat(500);
    let head = format!("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{many}\r\n");
    let answer = host.raw(&head).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );
    // A long query is ours to read, and to say what is wrong with it.
    let path = format!("/stream/requests?user_id={}", "u".repeat(20_000));
    let said = host.get(&path).await.refusal(400);
    assert!(said.contains("user_id"), "{said}");
    let path = format!("/stream/requests?nobody-reads-this={}", "u".repeat(20_000));
    host.stream(&path).await;
    assert_eq!(host.get("/nowhere").await.status, 404);
}

#[tokio::test]
async fn bytes_that_are_not_utf8_are_survived() {
    let handler = |Extension(_): Extension<RequestMeter>| async {};
    let host = Host::start(Router::new().route("/", get(handler))).await;
    let mut rows = host.watch().await;
    let answer = host
        .raw(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: \xff\xfe\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let row = rows.next().await;
    assert!(
        row["id"].as_str().is_some_and(|id| !id.is_empty()),
        "{row:#}"
    );
    for path in [
        "/stream/requests?user_id=%ff",
        "/stream/requests?%ff=1",
        "/stream/requests?user_id=%",
        "/stream/requests?user_id=%zz",
        "/stream/requests?&&==&",
    ] {
        let (status, _) = host.connect().await.head(support::get(path)).await;
        assert!(status == 200 || status == 400, "{path}: {status}");
    }
    let answer = host
        .raw(b"GET /stream/requests?user_id=\xff HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await;
    assert!(!answer.contains("HTTP/1.1 5"), "{answer}");
}

#[tokio::test]
async fn texts_of_ten_kilobytes_are_cut() {
    let handler = |Extension(meter): Extension<RequestMeter>| async move {
        // Three bytes a character: the cut may not split one.
        let long = "\u{20ac}".repeat(4_000);
        meter
            .provider(&long)
            .model(&long)
            .user(&long)
            .tenant(&long)
            .label(&long, &long);
        meter.fail(&long);
    };
    let host = Host::start(Router::new().route("/", get(handler))).await;
    let mut rows = host.watch().await;
    let mut request = support::get("/");
    let id = HeaderValue::from_str(&"i".repeat(10_000)).unwrap();
    request.headers_mut().insert("x-request-id", id);
    host.send(request).await;
    let row = rows.next().await;
    for field in [
        "provider_id",
        "model_id",
        "user_id",
        "tenant_id",
        "id",
        "error_message",
    ] {
        let text = row[field].as_str().unwrap_or_default();
        assert!(
            !text.is_empty() && text.len() <= 512,
            "{field} of {} bytes",
            text.len()
        );
    }
    assert!(row.to_string().len() < 8_000, "{row:#}");
    assert_eq!(host.metrics().await["total_requests"], 1);
}

#[tokio::test]
async fn a_hundred_thousand_names_are_bounded_and_counted_exactly() {
    const REQUESTS: u64 = 100_000;

    let handler = |Extension(meter): Extension<RequestMeter>, uri: axum::http::Uri| async move {
        let name = uri.path();
        meter.provider(name).model(name).user(name).tenant(name);
        meter.tokens(Usage {
            input: 2,
            output: 1,
            cached: 0,
        });
    };
    let realtime = RealtimeLayer::new(config());
    // Without sockets: it is not their memory that is in question.
    let app = Router::new().fallback(handler).layer(realtime.clone());
    let ask = async |path: String| {
        let request = support::get(&path);
        let response = app.clone().oneshot(request).await.unwrap();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await;
        body.unwrap()
    };
    for number in 0..REQUESTS {
        ask(format!("/names/{number}")).await;
    }

    let answer = ask("/api/realtime/metrics".to_owned()).await;
    assert!(answer.len() < 1 << 20, "{} bytes", answer.len());
    let metrics = serde_json::from_slice::<Value>(&answer).unwrap()["data"].clone();
    assert_fields(
        &metrics,
        json!({
            "total_requests": REQUESTS,
            "successful_requests": REQUESTS,
            "total_tokens": 3 * REQUESTS,
            "in_flight": 0,
        }),
    );
    for (name, series) in metrics["series"].as_object().unwrap() {
        let (used, max) = (series["used"].as_u64(), series["max"].as_u64());
        assert!(used <= max && max.is_some(), "{name}: {series}");
    }
    for by in ["route", "provider", "model", "user", "tenant"] {
        let answer = ask(format!("/api/realtime/breakdown?by={by}&range=3600")).await;
        assert!(answer.len() < 1 << 20, "{by}: {} bytes", answer.len());
        let breakdown = serde_json::from_slice::<Value>(&answer).unwrap()["data"].clone();
        let rows = breakdown["rows"].as_array().unwrap();
        let sum = rows
            .iter()
            .map(|row| row["total_requests"].as_u64().unwrap())
            .sum::<u64>();
        assert_eq!(sum, REQUESTS, "{by}: {breakdown:.2000}");
        if by != "route" {
            let other = rows.iter().find(|row| row["key"] == "other");
            assert!(other.is_some(), "{by}: no row for the others");
        }
    }
}

#[tokio::test]
async fn a_body_that_panics_is_recorded_as_a_failure() {
    let panics = || async {
        Body::from_stream(stream::poll_fn(
            |_| -> std::task::Poll<Option<Result<axum::body::Bytes, std::io::Error>>> {
                panic!("a body of this test panics on purpose")
            },
        ))
    };
    let host = Host::start(Router::new().route("/", get(panics))).await;
    let mut rows = host.watch().await;
    host.connect().await.try_open(support::get("/")).await;
    assert_fields(
        &rows.next().await,
        json!({"success": false, "aborted": false}),
    );
    assert_eq!(host.metrics().await["in_flight"], 0);
    assert_eq!(host.get("/nowhere").await.status, 404);
}
