//! One record at the end, whatever the end.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body;
use http_body_util::{BodyExt, Empty, Full};
use tower::{Service, ServiceExt};

use super::support::{
    Failure, Observed, ReqBody, Scripted, Step, answers, call, frame, get, panics, poll,
    read_to_end,
};
use crate::{
    collector::{Outcome, Record},
    middleware::RequestMeter,
};

/// Calls a service that answers with this body, and gives the watched body to `consume`.
fn with_body<B: Body<Data = Bytes> + Send + Unpin + 'static>(
    body: impl Fn() -> B + Clone,
    consume: impl FnOnce(crate::ResponseBody<B>, &Observed),
) -> Record {
    let observed = Observed::new();
    let mut service = observed.layer(answers(move || Ok(Response::new(body()))));
    let response = call(&mut service, get("/")).unwrap();
    consume(response.into_body(), &observed);
    observed.one()
}

fn grpc_status(code: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static(code),
    )])
}

#[test]
fn completed_with_unknown_length() {
    let record = with_body(
        || Scripted::new([Step::Data("abc"), Step::Data("de")]),
        |mut body, observed| {
            assert_eq!(body.size_hint().exact(), None);
            assert_eq!(observed.in_flight(), 1);
            assert_eq!(read_to_end(&mut body), 2);
            // At the end, not when the body is dropped.
            assert_eq!(observed.in_flight(), 0);
        },
    );
    assert_eq!(record.outcome, Outcome::Completed);
    assert!(record.success);
    assert_eq!(record.status, Some(200));
    assert_eq!(record.response_bytes, 5);
    assert!(record.ttfb_us.is_some_and(|ttfb| ttfb <= record.latency_us));
}

#[test]
fn a_server_that_does_not_poll_again_after_the_end_was_told() {
    let record = with_body(
        || Full::new(Bytes::from_static(b"hello")),
        |mut body, observed| {
            assert_eq!(body.size_hint().exact(), Some(5));
            assert!(!body.is_end_stream());
            assert!(matches!(frame(&mut body), Poll::Ready(Some(Ok(_)))));
            assert!(body.is_end_stream());
            assert_eq!(observed.in_flight(), 0, "recorded before the drop");
        },
    );
    assert_eq!(record.outcome, Outcome::Completed);
    assert_eq!(record.response_bytes, 5);
}

#[test]
fn exact_length_handed_over_and_never_polled_to_the_end() {
    let body = || Scripted::new([Step::Data("abc"), Step::Data("def"), Step::Pending]).exact(6);
    let record = with_body(body, |mut body, _| {
        assert_eq!(body.size_hint().exact(), Some(6));
        let _ = (frame(&mut body), frame(&mut body));
    });
    assert_eq!(record.outcome, Outcome::Completed);
    assert_eq!(record.response_bytes, 6);

    let record = with_body(body, |mut body, _| {
        let _ = frame(&mut body);
    });
    assert_eq!(record.outcome, Outcome::DroppedInBody);
    assert_eq!(record.response_bytes, 3);
    assert!(!record.success);
}

#[test]
fn a_body_of_the_exact_length_zero_is_complete_unread() {
    let record = with_body(|| Scripted::default().exact(0), |body, _| drop(body));
    assert_eq!(record.outcome, Outcome::Completed);
}

#[test]
fn an_empty_body_is_recorded_with_its_head() {
    let record = with_body(Empty::<Bytes>::new, |body, observed| {
        assert_eq!(observed.in_flight(), 0);
        assert!(body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(0));
    });
    assert_eq!(record.outcome, Outcome::Completed);
    assert_eq!(record.ttfb_us, Some(record.latency_us));
    assert_eq!(record.response_bytes, 0);
}

#[test]
fn responses_whose_body_is_never_sent_are_complete_with_their_head() {
    let cases = [
        (Method::HEAD, StatusCode::OK),
        (Method::GET, StatusCode::NO_CONTENT),
        (Method::GET, StatusCode::NOT_MODIFIED),
        (Method::GET, StatusCode::SWITCHING_PROTOCOLS),
    ];
    for (method, status) in cases {
        let observed = Observed::new();
        let mut service = observed.layer(answers(move || {
            let mut response = Response::new(Scripted::new([Step::Data("unsent")]));
            *response.status_mut() = status;
            Ok(response)
        }));
        let mut request = get("/");
        *request.method_mut() = method;
        let response = call(&mut service, request).unwrap();
        let record = observed.one();
        assert_eq!(record.outcome, Outcome::Completed, "{status}");
        assert_eq!(record.status, Some(status.as_u16()));
        assert!(record.success);
        drop(response);
        assert!(observed.records().is_empty());
    }
}

#[test]
fn a_service_error_passes_through() {
    let observed = Observed::new();
    let mut service = observed.layer(answers::<Empty<Bytes>>(|| Err(Failure("service"))));
    let error = call(&mut service, get("/")).unwrap_err();
    assert_eq!(error, Failure("service"));
    let record = observed.one();
    assert_eq!(record.outcome, Outcome::ServiceError);
    assert_eq!((record.status, record.ttfb_us), (None, None));
    assert!(!record.success);
}

#[test]
fn a_body_error_passes_through() {
    let record = with_body(
        || Scripted::new([Step::Data("abc"), Step::Error]),
        |mut body, _| {
            let _ = frame(&mut body);
            let Poll::Ready(Some(Err(error))) = frame(&mut body) else {
                panic!("no error");
            };
            assert_eq!(error, Failure("body"));
        },
    );
    assert_eq!(record.outcome, Outcome::BodyError);
    assert_eq!((record.status, record.response_bytes), (Some(200), 3));
    assert!(!record.success);
}

#[test]
fn a_future_that_is_dropped() {
    let observed = Observed::new();
    let pending = tower::service_fn(|_: Request<ReqBody>| {
        std::future::pending::<Result<Response<Empty<Bytes>>, Failure>>()
    });
    let mut service = observed.layer(pending);
    // Before the first poll, and while it waits.
    drop(service.call(get("/")));
    assert_eq!(observed.one().outcome, Outcome::DroppedBeforeResponse);
    {
        let mut future = pin!(service.call(get("/")));
        assert!(poll(future.as_mut()).is_pending());
        assert_eq!(observed.in_flight(), 1);
    }
    let record = observed.one();
    assert_eq!(record.outcome, Outcome::DroppedBeforeResponse);
    assert_eq!((record.status, record.ttfb_us), (None, None));
    assert!(!record.success);
}

#[test]
fn a_body_that_is_dropped_half_way() {
    let record = with_body(
        || Scripted::new([Step::Data("abc"), Step::Pending, Step::Data("never")]),
        |mut body, _| {
            let _ = frame(&mut body);
            assert!(frame(&mut body).is_pending());
        },
    );
    assert_eq!(record.outcome, Outcome::DroppedInBody);
    assert_eq!((record.status, record.response_bytes), (Some(200), 3));
    assert!(!record.success);

    let unread = with_body(|| Scripted::new([Step::Data("abc")]), |body, _| drop(body));
    assert_eq!(unread.outcome, Outcome::DroppedInBody);
}

#[test]
fn a_panic_in_the_call() {
    let observed = Observed::new();
    let panicking = tower::service_fn(
        |_: Request<ReqBody>| -> std::future::Ready<Result<Response<Empty<Bytes>>, Failure>> {
            panic!("the call panics")
        },
    );
    let mut service = observed.layer(panicking);
    panics(|| drop(service.call(get("/"))));
    let record = observed.one();
    assert_eq!((record.outcome, record.status), (Outcome::Panicked, None));
}

#[test]
fn a_panic_in_the_future() {
    let observed = Observed::new();
    let panicking = tower::service_fn(|_: Request<ReqBody>| async {
        if true {
            panic!("the handler panics");
        }
        Ok::<_, Failure>(Response::new(Empty::<Bytes>::new()))
    });
    let mut service = observed.layer(panicking);
    // Unwound with the panic, and caught around the poll and dropped later, as a layer that catches panics does.
    panics(|| {
        let mut future = pin!(service.call(get("/")));
        let _ = poll(future.as_mut());
    });
    assert_eq!(observed.one().outcome, Outcome::Panicked);

    let mut future = Box::pin(service.call(get("/")));
    panics(|| drop(poll(future.as_mut())));
    assert_eq!(observed.in_flight(), 1);
    drop(future);
    let record = observed.one();
    assert_eq!((record.outcome, record.status), (Outcome::Panicked, None));
    assert!(!record.success);
}

#[test]
fn a_panic_in_the_body() {
    let script = || Scripted::new([Step::Data("abc"), Step::Panic]);
    let record = with_body(script, |mut body, _| {
        let _ = frame(&mut body);
        panics(|| drop(frame(&mut body)));
    });
    assert_eq!(record.outcome, Outcome::Panicked);
    assert_eq!((record.status, record.response_bytes), (Some(200), 3));

    let record = with_body(script, |body, _| {
        panics(|| {
            let mut body = body;
            read_to_end(&mut body);
        });
    });
    assert_eq!(record.outcome, Outcome::Panicked);
    assert!(!record.success);
}

#[test]
fn trailers_end_the_body() {
    let record = with_body(
        || Scripted::new([Step::Data("abc"), Step::Trailers(HeaderMap::new())]),
        |mut body, observed| {
            let _ = (frame(&mut body), frame(&mut body));
            assert_eq!(observed.in_flight(), 0);
        },
    );
    assert_eq!(record.outcome, Outcome::Completed);
    assert!(record.success);
}

#[test]
fn trailers_after_the_exact_length_are_seen() {
    let record = with_body(
        || Scripted::new([Step::Data("abc"), Step::Trailers(grpc_status("14"))]).exact(3),
        |mut body, _| {
            read_to_end(&mut body);
        },
    );
    assert_eq!(record.outcome, Outcome::Completed);
    assert!(!record.success);
}

#[test]
fn grpc_status_in_the_trailers() {
    for (code, success) in [("0", true), ("13", false)] {
        let record = with_body(
            move || {
                Full::new(Bytes::from_static(b"m"))
                    .with_trailers(async move { Some(Ok(grpc_status(code))) })
                    .boxed()
            },
            |mut body, _| {
                read_to_end(&mut body);
            },
        );
        assert_eq!(record.outcome, Outcome::Completed);
        assert_eq!(
            (record.success, record.status),
            (success, Some(200)),
            "{code}"
        );
    }
}

#[test]
fn grpc_status_in_the_head_over_http2() {
    let cases = [
        (Version::HTTP_2, "5", false),
        (Version::HTTP_2, "0", true),
        (Version::HTTP_11, "5", true),
    ];
    for (version, code, success) in cases {
        let observed = Observed::new();
        let mut service = observed.layer(answers(move || {
            let mut response = Response::new(Empty::<Bytes>::new());
            response.headers_mut().extend(grpc_status(code));
            Ok(response)
        }));
        let mut request = get("/");
        *request.version_mut() = version;
        call(&mut service, request).unwrap();
        assert_eq!(observed.one().success, success, "{version:?} {code}");
    }
}

#[test]
fn a_status_of_400_and_more_is_a_failure() {
    for (status, success) in [
        (200, true),
        (304, true),
        (399, true),
        (400, false),
        (503, false),
    ] {
        let observed = Observed::new();
        let mut service = observed.layer(answers(move || {
            let response = Response::builder().status(status);
            Ok(response.body(Empty::<Bytes>::new()).unwrap())
        }));
        call(&mut service, get("/")).unwrap();
        assert_eq!(observed.one().success, success, "{status}");
    }
}

#[test]
fn frames_after_the_record_still_pass() {
    let record = with_body(
        || Scripted::new([Step::Data("a")]).tells_its_end(),
        |mut body, _| {
            assert_eq!(read_to_end(&mut body), 1);
            assert!(matches!(frame(&mut body), Poll::Ready(None)));
        },
    );
    assert_eq!(record.outcome, Outcome::Completed);
}

#[test]
fn the_record_is_made_though_all_meters_are_gone() {
    let observed = Observed::new();
    let mut service = observed.layer(tower::service_fn(|request: Request<ReqBody>| {
        let meter: &RequestMeter = request.extensions().get().unwrap();
        meter.provider("openai");
        drop(request);
        std::future::ready(Ok::<_, Failure>(Response::new(Empty::<Bytes>::new())))
    }));
    call(&mut service, get("/")).unwrap();
    let record = observed.one();
    let providers = &observed.collector.labels().provider;
    assert_eq!(providers.resolve(record.provider), Some("openai"));
}

#[test]
fn what_a_stream_says_when_it_is_dropped_still_counts() {
    let observed = Observed::new();
    let mut service = observed.layer(tower::service_fn(|request: Request<ReqBody>| {
        let meter = request.extensions().get::<RequestMeter>().unwrap().clone();
        let body = Scripted::new([Step::Data("a"), Step::Pending]).on_drop(move || {
            meter.label("dropped", "yes");
        });
        std::future::ready(Ok::<_, Failure>(Response::new(body)))
    }));
    let mut body = call(&mut service, get("/")).unwrap().into_body();
    let _ = frame(&mut body);
    drop(body);
    let record = observed.one();
    assert_eq!(record.outcome, Outcome::DroppedInBody);
    assert_eq!(record.extra.unwrap().labels.len(), 1);
    assert_eq!(observed.collector.totals().late_calls, 0);
}

/// Latency is to the last byte, the time to the first byte is to the head.
#[tokio::test(start_paused = true)]
async fn times_are_to_the_head_and_to_the_end() {
    let observed = Observed::new();
    let service = observed.layer(tower::service_fn(|_: Request<ReqBody>| async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        Ok::<_, Failure>(Response::new(
            Scripted::new([Step::Data("a"), Step::Data("b")]).exact(2),
        ))
    }));
    let mut body = service.oneshot(get("/")).await.unwrap().into_body();
    tokio::time::advance(Duration::from_millis(50)).await;
    let _ = frame(&mut body);
    tokio::time::advance(Duration::from_millis(20)).await;
    let _ = frame(&mut body);
    // The whole length has been handed over: how long the server keeps the body does not count.
    tokio::time::advance(Duration::from_secs(9)).await;
    drop(body);
    let record = observed.one();
    assert_eq!(record.outcome, Outcome::Completed);
    assert_eq!(record.ttfb_us, Some(30_000));
    assert_eq!(record.latency_us, 100_000);
}

#[test]
fn readiness_is_the_inner_services() {
    #[derive(Clone)]
    struct NotReady(Arc<()>);

    impl Service<Request<ReqBody>> for NotReady {
        type Response = Response<Empty<Bytes>>;
        type Error = Failure;
        type Future = std::future::Ready<Result<Self::Response, Failure>>;

        fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
            match Arc::strong_count(&self.0) {
                1 => Poll::Ready(Err(Failure("not ready"))),
                _ => Poll::Pending,
            }
        }

        fn call(&mut self, _request: Request<ReqBody>) -> Self::Future {
            unreachable!("never ready")
        }
    }

    let observed = Observed::new();
    let alive = Arc::new(());
    let mut service = observed.layer(NotReady(alive.clone()));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_pending());
    drop(alive);
    assert_eq!(
        service.poll_ready(&mut cx),
        Poll::Ready(Err(Failure("not ready")))
    );
    assert!(observed.records().is_empty());
}

/// The types are what axum and hyper need of them.
#[test]
fn futures_and_bodies_can_be_sent() {
    fn sent<T: Send + 'static>(_: &T) {}
    let observed = Observed::new();
    let mut service = observed.layer(answers(|| Ok(Response::new(Empty::<Bytes>::new()))));
    let future = service.call(get("/"));
    sent(&future);
    let mut future = Box::pin(future);
    let Poll::Ready(Ok(response)) = poll(Pin::new(&mut future)) else {
        panic!("no response");
    };
    sent(response.body());
    sent(&service);
}
