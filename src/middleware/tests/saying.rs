//! What handlers say with their meter.

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Empty;

use super::support::{Failure, Observed, ReqBody, Scripted, Step, call, frame, get, read_to_end};
use crate::{
    collector::{LabelId, Limits, Outcome, Record},
    middleware::{RequestMeter, Usage},
};

fn meter(request: &Request<ReqBody>) -> RequestMeter {
    request.extensions().get::<RequestMeter>().unwrap().clone()
}

/// The record of a request whose handler says something and answers with a status.
fn recorded(
    observed: &Observed,
    status: StatusCode,
    say: impl Fn(&RequestMeter) + Clone,
) -> Record {
    let mut service = observed.layer(tower::service_fn(move |request: Request<ReqBody>| {
        say(&meter(&request));
        let mut response = Response::new(Empty::<Bytes>::new());
        *response.status_mut() = status;
        std::future::ready(Ok::<_, Failure>(response))
    }));
    call(&mut service, get("/")).unwrap();
    observed.one()
}

fn said(say: impl Fn(&RequestMeter) + Clone) -> Record {
    recorded(&Observed::new(), StatusCode::OK, say)
}

#[test]
fn everything_that_is_said_is_in_the_record() {
    let observed = Observed::new();
    let record = recorded(&observed, StatusCode::OK, |meter| {
        let owned = String::from("gpt-4o");
        meter
            .provider("openai")
            .model(&owned)
            .user(owned.clone())
            .tenant("acme")
            .route("/v1/{x}");
        meter
            .tokens(Usage {
                input: 812,
                output: 340,
                cached: 12,
            })
            .cost_usd(0.0021)
            .label("plan", "pro");
    });
    let labels = observed.collector.labels();
    assert_eq!(labels.provider.resolve(record.provider), Some("openai"));
    assert_eq!(labels.model.resolve(record.model), Some("gpt-4o"));
    assert_eq!(labels.user.resolve(record.user), Some("gpt-4o"));
    assert_eq!(labels.tenant.resolve(record.tenant), Some("acme"));
    assert_eq!(labels.route.resolve(record.route), Some("/v1/{x}"));
    assert_eq!(record.input_tokens, Some(812));
    assert_eq!(record.output_tokens, Some(340));
    assert_eq!(record.cached_tokens, Some(12));
    assert_eq!(record.cost_nanos, Some(2_100_000));
    let extra = record.extra.unwrap();
    assert_eq!(extra.labels, [("plan".into(), "pro".into())]);
    assert_eq!((extra.user, extra.error_message), (None, None));
}

#[test]
fn what_is_not_said_is_unknown() {
    let record = said(|_| {});
    for label in [
        record.provider,
        record.model,
        record.user,
        record.tenant,
        record.route,
    ] {
        assert_eq!(label, LabelId::UNSET);
    }
    assert_eq!(record.input_tokens, None);
    assert_eq!(record.output_tokens, None);
    assert_eq!(record.cached_tokens, None);
    assert_eq!(record.cost_nanos, None);
    assert!(record.extra.is_none());
}

#[test]
fn the_last_word_counts() {
    let observed = Observed::new();
    let record = recorded(&observed, StatusCode::OK, |meter| {
        meter.provider("a").provider("b").cost(1.0).cost(2.0);
        meter.model("m").model("");
        for input in 1..=3 {
            meter.tokens(Usage {
                input,
                ..Usage::default()
            });
        }
    });
    let labels = observed.collector.labels();
    assert_eq!(labels.provider.resolve(record.provider), Some("b"));
    assert_eq!(record.model, LabelId::UNSET);
    assert_eq!(
        (record.input_tokens, record.output_tokens),
        (Some(3), Some(0))
    );
    assert_eq!(record.cost_nanos, Some(2_000_000_000));
}

#[test]
fn the_handler_decides_about_success() {
    let observed = Observed::new();
    let record = recorded(&observed, StatusCode::OK, |meter| {
        meter.success().fail("quota");
    });
    assert!(!record.success);
    assert_eq!(
        record.extra.unwrap().error_message.as_deref(),
        Some("quota")
    );

    let record = recorded(&observed, StatusCode::NOT_FOUND, |meter| {
        meter.fail("not yet").success();
    });
    assert!(record.success);
    assert_eq!(record.extra.unwrap().error_message, None);

    let record = recorded(&observed, StatusCode::OK, |meter| {
        meter.fail("");
    });
    assert!(!record.success);
    assert_eq!(record.extra.unwrap().error_message, None);
}

/// A stream without an end is left by its client, and has succeeded; an error is an error.
#[test]
fn success_covers_a_client_that_leaves_but_no_error() {
    for (steps, outcome, success) in [
        (
            vec![Step::Data("a"), Step::Pending],
            Outcome::DroppedInBody,
            true,
        ),
        (
            vec![Step::Data("a"), Step::Error],
            Outcome::BodyError,
            false,
        ),
    ] {
        let observed = Observed::new();
        let steps = std::sync::Mutex::new(Some(steps));
        let mut service = observed.layer(tower::service_fn(|request: Request<ReqBody>| {
            meter(&request).success();
            let body = Scripted::new(steps.lock().unwrap().take().unwrap());
            std::future::ready(Ok::<_, Failure>(Response::new(body)))
        }));
        let mut body = call(&mut service, get("/")).unwrap().into_body();
        let _ = (frame(&mut body), frame(&mut body));
        drop(body);
        let record = observed.one();
        assert_eq!((record.outcome, record.success), (outcome, success));
    }
}

#[test]
fn reasons_and_labels_have_bounds() {
    let observed = Observed::new();
    let record = recorded(&observed, StatusCode::OK, |meter| {
        meter.fail(format!("{}é", "x".repeat(511)));
        for number in 0..10 {
            meter.label(number.to_string(), "v".repeat(1000));
        }
        meter.label("7", "again").label("", "nameless");
    });
    let extra = record.extra.unwrap();
    assert_eq!(extra.error_message.unwrap().len(), 511);
    assert_eq!(extra.labels.len(), 8);
    assert_eq!(extra.labels[0].1.len(), 128);
    assert_eq!(&*extra.labels[7].1, "again");
    assert_eq!(observed.collector.totals().invalid_values, 3);
}

#[test]
fn impossible_numbers_are_ignored_and_counted() {
    let observed = Observed::new();
    let record = recorded(&observed, StatusCode::OK, |meter| {
        meter.cost(0.5);
        for cost in [-0.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e7] {
            meter.cost(cost).cost_usd(cost);
        }
        meter.tokens(Usage {
            input: u64::MAX,
            ..Usage::default()
        });
    });
    assert_eq!(record.cost_nanos, Some(500_000_000));
    assert_eq!(record.input_tokens, None);
    assert_eq!(observed.collector.totals().invalid_values, 11);
    assert_eq!(
        said(|meter| drop(meter.cost(-0.0).clone())).cost_nanos,
        Some(0)
    );
}

#[test]
fn dollars_are_ignored_where_another_currency_is_configured() {
    let observed = Observed::with(&Limits::default(), |recorder| recorder.currency("EUR"));
    let record = recorded(&observed, StatusCode::OK, |meter| {
        meter.cost_usd(1.0);
    });
    assert_eq!(record.cost_nanos, None);
    assert_eq!(observed.collector.totals().invalid_values, 1);
    let record = recorded(&observed, StatusCode::OK, |meter| {
        meter.cost(1.0);
    });
    assert_eq!(record.cost_nanos, Some(1_000_000_000));
}

#[test]
fn a_user_beyond_the_table_stays_in_the_record() {
    let limits = Limits {
        users: 1,
        ..Limits::default()
    };
    let observed = Observed::with(&limits, |recorder| recorder);
    recorded(&observed, StatusCode::OK, |meter| {
        meter.user("first");
    });
    let record = recorded(&observed, StatusCode::OK, |meter| {
        meter.user("second");
    });
    assert_eq!(record.user, LabelId::OTHER);
    assert_eq!(record.extra.unwrap().user.as_deref(), Some("second"));
    let record = recorded(&observed, StatusCode::OK, |meter| {
        meter.user("second").user("first");
    });
    assert_ne!(record.user, LabelId::OTHER);
    assert_eq!(record.extra.unwrap().user, None);
    assert_eq!(observed.collector.totals().users.overflow, 2);
}

#[test]
fn late_calls_are_counted_and_ignored() {
    let observed = Observed::new();
    let mut service = observed.layer(tower::service_fn(|request: Request<ReqBody>| {
        let mut response = Response::new(Scripted::new([Step::Data("a")]));
        response.extensions_mut().insert(meter(&request));
        std::future::ready(Ok::<_, Failure>(response))
    }));
    let response = call(&mut service, get("/")).unwrap();
    let late = response.extensions().get::<RequestMeter>().unwrap().clone();
    late.provider("in time");
    assert!(format!("{late:?}").contains("recording: true"));
    let mut body = response.into_body();
    read_to_end(&mut body);
    late.provider("too late")
        .tokens(Usage::default())
        .cost(1.0)
        .fail("x")
        .success()
        .label("a", "b");
    assert!(format!("{late:?}").contains("recording: false"));

    let record = observed.one();
    let providers = &observed.collector.labels().provider;
    assert_eq!(providers.resolve(record.provider), Some("in time"));
    assert_eq!((record.input_tokens, record.cost_nanos), (None, None));
    assert!(record.success);
    assert!(record.extra.is_none());
    let totals = observed.collector.totals();
    assert_eq!(totals.late_calls, 6);
    assert_eq!(totals.providers.used, 1, "late texts get no number");
}

/// Whatever the moment: a call is in the record, or it is counted as late.
#[test]
fn a_call_at_the_moment_of_the_end_is_recorded_or_counted() {
    let observed = Observed::new();
    let mut service = observed.layer(tower::service_fn(|request: Request<ReqBody>| {
        let mut response = Response::new(Scripted::new([Step::Data("a")]));
        response.extensions_mut().insert(meter(&request));
        std::future::ready(Ok::<_, Failure>(response))
    }));
    let mut late_before = 0;
    for _ in 0..2_000 {
        let response = call(&mut service, get("/")).unwrap();
        let meter = response.extensions().get::<RequestMeter>().unwrap().clone();
        let said = std::thread::spawn(move || {
            meter.tokens(Usage {
                input: 7,
                output: 8,
                cached: 9,
            });
        });
        drop(response);
        said.join().unwrap();
        let record = observed.one();
        let late = observed.collector.totals().late_calls;
        let counted = late - late_before;
        late_before = late;
        match record.input_tokens {
            Some(7) => assert_eq!((record.cached_tokens, counted), (Some(9), 0)),
            None => assert_eq!(counted, 1),
            other => panic!("torn: {other:?}"),
        }
    }
}

#[test]
fn a_detached_meter_does_nothing() {
    let meter = RequestMeter::detached();
    meter.provider("a").cost(f64::NAN).fail("x");
    assert!(format!("{meter:?}").contains("recording: false"));
}

#[test]
fn the_hosts_request_id_is_kept_where_it_can_be_shown() {
    let long = "x".repeat(129);
    for (value, kept) in [
        (&b"01H-abc"[..], Some("01H-abc")),
        ("é".as_bytes(), Some("é")),
        (&long.as_bytes()[..128], Some(&long[..128])),
        (long.as_bytes(), None),
        (b"", None),
        (b"a\tb", None),
        (b"\xff\xfe", None),
    ] {
        let observed = Observed::new();
        let mut service = observed.layer(super::support::answers(|| {
            Ok(Response::new(Empty::<Bytes>::new()))
        }));
        let mut request = get("/");
        let value = HeaderValue::from_bytes(value).unwrap();
        request.headers_mut().insert("x-request-id", value);
        call(&mut service, request).unwrap();
        let extra = observed.one().extra;
        assert_eq!(extra.and_then(|extra| extra.request_id).as_deref(), kept);
    }
}
