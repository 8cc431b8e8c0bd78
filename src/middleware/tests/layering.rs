//! Several layers, own paths, routes, and axum around it all.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body::Body;
use http_body_util::{BodyExt, Empty, Full};

use super::support::{Failure, Observed, ReqBody, Scripted, Step, answers, call, frame, get, poll};
use crate::{
    collector::Limits,
    middleware::{
        Own, OwnBody, OwnRequestBody, OwnStream, RealtimeService, RequestMeter, Usage, Watch,
        own::OwnFuture,
    },
};

/// A handler that attributes its request.
fn attributing()
-> impl tower::Service<Request<ReqBody>, Response = Response<Empty<Bytes>>, Error = Failure> + Clone
{
    tower::service_fn(|request: Request<ReqBody>| {
        let meter: &RequestMeter = request.extensions().get().unwrap();
        meter.provider("openai").tokens(Usage {
            input: 3,
            ..Usage::default()
        });
        std::future::ready(Ok::<_, Failure>(Response::new(Empty::new())))
    })
}

#[test]
fn applied_twice_it_records_once() {
    let observed = Observed::new();
    let mut service = observed.layer(observed.layer(attributing()));
    call(&mut service, get("/")).unwrap();
    let record = observed.one();
    assert_eq!(record.input_tokens, Some(3));
    assert_eq!(observed.collector.totals().recorded, 1);
}

#[test]
fn two_recorders_record_both_and_both_hear_the_handler() {
    let (outer, inner) = (Observed::new(), Observed::new());
    let mut service = outer.layer(inner.layer(outer.layer(attributing())));
    call(&mut service, get("/")).unwrap();
    for observed in [&outer, &inner] {
        let record = observed.one();
        let providers = &observed.collector.labels().provider;
        assert_eq!(providers.resolve(record.provider), Some("openai"));
        assert_eq!(record.input_tokens, Some(3));
    }
}

/// Goes on for one chunk.
struct Once(Option<&'static str>);

impl OwnStream for Once {
    fn poll_bytes(&mut self, _: &mut Context<'_>) -> Poll<Option<Bytes>> {
        Poll::Ready(
            self.0
                .take()
                .map(|text| Bytes::from_static(text.as_bytes())),
        )
    }
}

struct Pages;

impl Own for Pages {
    fn claims(&self, path: &str) -> bool {
        path.starts_with("/own/")
    }

    fn call(&self, parts: Parts, body: OwnRequestBody) -> OwnFuture {
        Box::pin(async move {
            let asked = body.collect().await.unwrap().to_bytes();
            Response::new(match parts.uri.path() {
                "/own/echo" => OwnBody::full(asked),
                "/own/stream" => OwnBody::stream(Once(Some("streamed"))),
                _ => OwnBody::empty(),
            })
        })
    }
}

#[tokio::test]
async fn own_paths_are_answered_and_not_recorded() {
    let observed = Observed::new();
    let host = answers(|| Ok(Response::new(Full::new(Bytes::from_static(b"host")))));
    let service = RealtimeService::new(
        host,
        Arc::new(Watch::new(observed.recorder.clone(), Some(Arc::new(Pages)))),
    );
    for (path, answer) in [
        ("/own/echo", "asked"),
        ("/own/stream", "streamed"),
        ("/own/", ""),
    ] {
        let request = Request::post(path).body(ReqBody::from("asked")).unwrap();
        let body = tower::ServiceExt::oneshot(service.clone(), request)
            .await
            .unwrap()
            .into_body();
        let told = (path != "/own/stream").then_some(answer.len() as u64);
        assert_eq!(body.size_hint().exact(), told);
        assert_eq!(body.is_end_stream(), answer.is_empty());
        assert_eq!(body.collect().await.unwrap().to_bytes(), answer);
    }
    assert!(observed.records().is_empty());
    assert_eq!(observed.collector.take_peak(), 0);

    let mut service = service;
    let mut body = call(&mut service, get("/owner")).unwrap().into_body();
    assert!(matches!(frame(&mut body), Poll::Ready(Some(Ok(_)))));
    assert_eq!(observed.one().response_bytes, 4);
}

#[test]
fn a_hook_names_the_route_and_the_handler_has_the_last_word() {
    let observed = Observed::with(&Limits::default(), |recorder| {
        recorder.route_hook(Arc::new(|parts: &Parts| {
            let known = parts.uri.path().starts_with("/users/");
            known.then_some("/users/{id}".into())
        }))
    });
    let mut service = observed.layer(tower::service_fn(|request: Request<ReqBody>| {
        if request.uri().path() == "/users/me" {
            let meter: &RequestMeter = request.extensions().get().unwrap();
            meter.route("/users/me");
        }
        std::future::ready(Ok::<_, Failure>(Response::new(Empty::<Bytes>::new())))
    }));
    for (path, route) in [
        ("/users/7", Some("/users/{id}")),
        ("/users/me", Some("/users/me")),
        ("/secret/7", None),
    ] {
        call(&mut service, get(path)).unwrap();
        assert_eq!(observed.route(&observed.one()), route);
    }
}

#[test]
fn the_first_use_is_tried_until_it_succeeds() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let observed = Observed::with(&Limits::default(), |recorder| {
        recorder.on_first_use(move || counted.fetch_add(1, Ordering::Relaxed) == 2)
    });
    let mut service = observed.layer(answers(|| Ok(Response::new(Empty::<Bytes>::new()))));
    for _ in 0..10 {
        call(&mut service, get("/")).unwrap();
    }
    assert_eq!(tries.load(Ordering::Relaxed), 3);
    assert_eq!(observed.records().len(), 10);
}

#[test]
fn the_size_of_the_request_is_its_bodys_exact_one() {
    let observed = Observed::new();
    let mut service = observed.layer(answers(|| Ok(Response::new(Empty::<Bytes>::new()))));
    let request = Request::post("/").body(ReqBody::from("12345")).unwrap();
    call(&mut service, request).unwrap();
    assert_eq!(observed.one().request_bytes, Some(5));

    // A body that does not know how long it will be.
    let mut service = observed.layer(tower::service_fn(|_: Request<Scripted>| {
        std::future::ready(Ok::<_, Failure>(Response::new(Empty::<Bytes>::new())))
    }));
    let request = Request::new(Scripted::new([Step::Data("12345")]));
    let mut future = Box::pin(tower::Service::call(&mut service, request));
    assert!(poll(future.as_mut()).is_ready());
    assert_eq!(observed.one().request_bytes, None);
}

#[cfg(feature = "axum")]
mod axum {
    use ::axum::{Extension, Router, routing};
    use http::StatusCode;
    use tower::{ServiceExt, layer::layer_fn};

    use super::*;
    use crate::collector::Outcome;

    async fn attributing(meter: RequestMeter) -> &'static str {
        meter.model("gpt-4o").user("ana");
        "hello"
    }

    async fn request(router: Router, path: &str) -> (StatusCode, Option<u64>, Bytes) {
        let request = Request::get(path)
            .body(axum_core::body::Body::empty())
            .unwrap();
        let response = router.oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let exact = body.size_hint().exact();
        (
            parts.status,
            exact,
            body.collect().await.unwrap().to_bytes(),
        )
    }

    #[tokio::test]
    async fn the_matched_path_is_the_route() {
        let observed = Observed::new();
        let recorder = observed.recorder.clone();
        let router = Router::new()
            .route("/models/{id}", routing::get(attributing))
            .route(
                "/extension",
                routing::get(async |meter: Extension<RequestMeter>| {
                    meter.provider("local");
                }),
            )
            .layer(layer_fn(move |inner| {
                RealtimeService::new(inner, Arc::new(Watch::new(recorder.clone(), None)))
            }));

        let answer = request(router.clone(), "/models/7?key=secret").await;
        assert_eq!(
            answer,
            (StatusCode::OK, Some(5), Bytes::from_static(b"hello"))
        );
        let record = observed.one();
        assert_eq!(observed.route(&record), Some("/models/{id}"));
        assert_eq!(record.outcome, Outcome::Completed);
        assert_eq!(record.response_bytes, 5);
        let labels = observed.collector.labels();
        assert_eq!(observed.text(&labels.model, record.model), Some("gpt-4o"));
        assert_eq!(observed.text(&labels.user, record.user), Some("ana"));

        request(router.clone(), "/extension").await;
        let record = observed.one();
        assert_eq!(
            observed.text(&labels.provider, record.provider),
            Some("local")
        );

        let (status, ..) = request(router, "/nothing/here").await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        let record = observed.one();
        assert_eq!((observed.route(&record), record.success), (None, false));
    }

    #[tokio::test]
    async fn without_a_layer_the_meter_is_detached() {
        let router = Router::new().route("/", routing::get(attributing));
        assert_eq!(request(router, "/").await.2, "hello");
    }
}
