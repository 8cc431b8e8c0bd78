use serde_json::{Value, json};

use super::*;
use crate::{
    aggregator::{ProviderInfo, ProvidersEvent, StatsEvent},
    hub::{Dialect, Source},
};

fn parsed(source: &dyn Source, index: usize, dialect: Dialect) -> Value {
    let mut out = b"kept".to_vec();
    source.write_json(index, dialect, &mut out);
    assert!(out.len() <= 4 + 59_900 && !out.contains(&b'\n'));
    assert_eq!(&out[..4], b"kept");
    serde_json::from_slice(&out[4..]).unwrap()
}

fn assert_fields(object: &Value, fields: &[&str]) {
    for field in fields {
        assert!(
            object.get(field).is_some(),
            "{field} is missing in {object}"
        );
    }
}

fn busy() -> House {
    let mut house = House::new();
    house.finish(|collector, record| {
        let labels = collector.labels();
        record.provider = labels.provider.intern("provider-uuid");
        record.model = labels.model.intern("gpt-3.5-turbo");
        record.user = labels.user.intern("user-uuid");
        record.route = labels.route.intern("/v1/chat/completions");
        record.input_tokens = Some(100);
        record.output_tokens = Some(150);
        record.cost_nanos = Some(2_000_000);
        record.extra = Some(Box::new(Extra {
            request_id: Some("request-uuid".into()),
            ..Extra::default()
        }));
    });
    house
}

#[test]
fn a_row_is_what_seed_000_prints() {
    let mut house = busy();
    let row = parsed(&*house.rows()[0], 0, Dialect::Stream);
    let timestamp = house.unix_us / SECOND_US;
    assert_eq!(
        row,
        json!({
            "id": "request-uuid", "provider_id": "provider-uuid", "model_id": "gpt-3.5-turbo", "user_id": "user-uuid",
            "tenant_id": null, "method": "POST", "endpoint": "/v1/chat/completions", "status_code": 200,
            "latency_ms": 250, "ttfb_ms": 50, "input_tokens": 100, "output_tokens": 150, "cached_tokens": null,
            "success": true, "aborted": false, "error_message": "", "estimated_cost": 0.002, "request_bytes": null,
            "response_bytes": 10, "timestamp": timestamp, "timestamp_ms": timestamp * 1_000,
        })
    );
}

#[test]
fn unknown_is_null_and_labels_are_shown_when_there_are_any() {
    let mut house = House::new();
    house.finish(|_, record| {
        record.status = None;
        record.ttfb_us = None;
        record.success = false;
        record.outcome = Outcome::ServiceError;
        record.latency_us = 350;
        record.extra = Some(Box::new(Extra {
            labels: vec![("plan".into(), "pro".into())],
            ..Extra::default()
        }));
    });
    let row = parsed(&*house.rows()[0], 0, Dialect::Stream);
    for field in [
        "provider_id",
        "model_id",
        "user_id",
        "tenant_id",
        "status_code",
        "ttfb_ms",
        "input_tokens",
        "estimated_cost",
    ] {
        assert_eq!(row[field], Value::Null, "{field}");
    }
    assert_eq!(row["endpoint"], "(unmatched)");
    assert_eq!(row["labels"], json!({"plan": "pro"}));
    assert_eq!(row["latency_ms"], 0.35);
}

#[test]
fn a_request_in_an_envelope_is_what_seed_001_prints() {
    let mut house = busy();
    let label = house.collector.labels().provider.intern("provider-uuid");
    house.state.context.name_provider(label, "OpenAI Free");
    let rows = house.rows();
    assert_eq!(rows[0].name(0, Dialect::Envelope), "request");
    assert_eq!(rows[0].name(0, Dialect::Stream), "requests");
    let row = parsed(&*rows[0], 0, Dialect::Envelope);
    assert_fields(
        &row,
        &[
            "request_id",
            "provider_id",
            "provider_name",
            "model_name",
            "method",
            "endpoint",
            "status_code",
            "latency_ms",
            "input_tokens",
            "output_tokens",
            "success",
            "ttfb_ms",
            "error_message",
            "tenant_id",
            "aborted",
        ],
    );
    assert_eq!(
        (
            &row["request_id"],
            &row["provider_name"],
            &row["model_name"]
        ),
        (
            &json!("request-uuid"),
            &json!("OpenAI Free"),
            &json!("gpt-3.5-turbo")
        )
    );
}

#[test]
fn stats_are_what_the_seeds_print() {
    let mut house = busy();
    house.pump();
    let snapshot = Arc::new(house.snapshot(Window::FiveMinutes));
    let event = StatsEvent::new(Arc::clone(&snapshot));
    assert_eq!(
        (
            event.name(0, Dialect::Stream),
            event.name(0, Dialect::Envelope)
        ),
        ("stats", "stats_update")
    );
    let stats = parsed(&event, 0, Dialect::Stream);
    assert_fields(
        &stats,
        &[
            "timestamp",
            "total_requests",
            "total_tokens",
            "total_cost",
            "providers",
            "routes",
            "models",
            "status_codes",
            "window",
            "in_flight",
            "p50_ms",
            "p95_ms",
            "p99_ms",
            "requests_per_min",
            "unpriced_requests",
            "point",
        ],
    );
    assert_fields(
        &stats["providers"][0],
        &[
            "provider_id",
            "total_requests",
            "success_rate",
            "avg_latency_ms",
            "total_tokens",
            "total_cost",
            "error_count",
            "timeout_count",
            "quota_exhausted",
            "p95_ms",
            "ttfb_p95_ms",
            "share",
        ],
    );
    assert_fields(
        &stats["routes"][0],
        &[
            "key",
            "total_requests",
            "failed_requests",
            "error_rate",
            "success_rate",
            "avg_latency_ms",
            "p50_ms",
            "p95_ms",
            "p99_ms",
            "total_tokens",
            "total_cost",
            "unpriced_requests",
            "share",
            "error_bound",
        ],
    );
    assert_eq!(
        (
            &stats["total_cost"],
            &stats["total_tokens"],
            &stats["window"]
        ),
        (&json!(0.002), &json!(250), &json!("5m"))
    );
    assert_eq!(stats["avg_latency_ms"], 250);
    assert!(
        stats.get("users").is_none()
            && stats.get("truncated").is_none()
            && stats.get("tenant_id").is_none()
    );
    assert!(stats.get("provider_stats").is_none());

    let update = parsed(&event, 0, Dialect::Envelope);
    assert_fields(
        &update,
        &[
            "total_requests",
            "total_tokens",
            "success_rate",
            "avg_latency_ms",
            "requests_per_min",
            "provider_stats",
            "calculated_at",
            "time_window",
        ],
    );
    assert_eq!(update["time_window"], "5m");
    assert!(update["calculated_at"].as_str().unwrap().ends_with("Z"));
    assert!(update.get("providers").is_none());
    assert!(event.tags(0).snapshot);

    let metrics = serde_json::to_value(&*snapshot).unwrap();
    assert_fields(
        &metrics,
        &[
            "total_requests",
            "successful_requests",
            "failed_requests",
            "avg_latency_ms",
            "avg_tokens_per_req",
            "avg_cost_per_req",
            "total_cost",
            "cost_per_minute",
            "estimated_hourly_cost",
            "active_users",
            "unique_users_today",
            "last_updated",
            "window_start",
            "providers",
            "timestamp_ms",
            "window_seconds",
            "covered_seconds",
            "instance",
            "currency",
            "uptime_seconds",
            "started_at",
            "success_rate",
            "error_rate",
            "client_errors",
            "server_errors",
            "aborted_requests",
            "timeout_count",
            "quota_exhausted",
            "avg_ttfb_ms",
            "ttfb_p95_ms",
            "requests_per_second",
            "input_tokens",
            "output_tokens",
            "cached_tokens",
            "request_bytes",
            "response_bytes",
            "unique_users_approximate",
            "in_flight_peak",
            "users",
            "status_codes",
            "capabilities",
            "recorded",
            "dropped",
            "feed",
            "series",
            "lifetime",
            "latency",
        ],
    );
    assert_eq!(
        metrics["capabilities"],
        json!({"tokens": true, "cost": true, "providers": true, "users": true})
    );
    assert_eq!(metrics["latency"]["3600"]["count"], 1);
    assert_eq!(
        metrics["series"]["routes"],
        json!({"used": 1, "max": 256, "overflow": 0})
    );
    assert_eq!(metrics["status_codes"], json!([{"code": 200, "count": 1}]));
    assert_fields(
        &metrics["point"],
        &[
            "t",
            "requests",
            "s2",
            "s3",
            "s4",
            "s5",
            "aborted",
            "input_tokens",
            "output_tokens",
            "cached_tokens",
            "cost",
            "in_flight_max",
            "p50_ms",
            "p95_ms",
            "p99_ms",
            "ttfb_p95_ms",
            "response_bytes",
            "covered",
        ],
    );
    assert_eq!(metrics["users"][0]["key"], "user-uuid");
}

#[test]
fn stats_that_are_too_long_keep_their_largest_rows() {
    let mut house = House::new();
    for route in 0..250usize {
        for _ in 0..=route / 50 {
            house.finish(|collector, record| {
                let name = format!("/{route}/{}", "ünïcödé\u{2028}".repeat(6));
                record.route = collector.labels().route.intern(&name);
                record.model = collector.labels().model.intern(&name);
            });
        }
    }
    let snapshot = Arc::new(house.snapshot(Window::OneMinute));
    assert_eq!(snapshot.routes.len(), 250);
    for dialect in [Dialect::Stream, Dialect::Envelope] {
        let stats = parsed(&StatsEvent::new(Arc::clone(&snapshot)), 0, dialect);
        assert_eq!(
            (
                &stats["truncated"],
                &stats["routes_total"],
                &stats["models_total"]
            ),
            (&json!(true), &json!(250), &json!(250))
        );
        let kept = stats["routes"].as_array().unwrap();
        assert!((20..250).contains(&kept.len()), "{}", kept.len());
        assert_eq!(kept[0]["total_requests"], 5);
        assert_eq!(stats["total_requests"], 750);
    }
}

#[test]
fn providers_are_what_seed_000_prints() {
    let mut house = busy();
    house.run(1);
    let label = house.collector.labels().provider.intern("provider-uuid");
    house.state.providers.upsert(
        ProviderInfo {
            id: "provider-uuid".into(),
            name: Some("OpenAI Free".into()),
            kind: Some("free".into()),
            models: Some(5),
            supports_streaming: Some(true),
            supports_tools: Some(true),
            ..ProviderInfo::default()
        },
        label,
        0,
    );
    let event = ProvidersEvent(Arc::new(house.state.providers(None)));
    let providers = parsed(&event, 0, Dialect::Stream);
    assert_fields(&providers, &["timestamp", "providers", "total"]);
    let provider = &providers["providers"][0];
    assert_fields(
        provider,
        &[
            "id",
            "name",
            "type",
            "status",
            "health_score",
            "avg_latency_ms",
            "supports_streaming",
            "supports_tools",
            "model_count",
            "last_health_check",
            "realtime_requests",
            "realtime_success_rate",
            "realtime_errors",
            "p50_ms",
            "p95_ms",
            "p99_ms",
            "ttfb_p95_ms",
            "message",
            "status_reason",
        ],
    );
    assert_eq!(
        (
            &provider["type"],
            &provider["status"],
            &provider["model_count"]
        ),
        (&json!("free"), &json!("healthy"), &json!(5))
    );
    assert_eq!(
        (
            &provider["health_score"],
            &provider["realtime_success_rate"]
        ),
        (&json!(1), &json!(1))
    );

    let change = house.state.providers.take_changes().remove(0);
    let status = parsed(&change, 0, Dialect::Envelope);
    assert_fields(
        &status,
        &[
            "provider_id",
            "provider_name",
            "status",
            "available",
            "latency_ms",
            "success_rate",
            "message",
        ],
    );
    assert_eq!(
        (&status["status"], &status["available"]),
        (&json!("healthy"), &json!(true))
    );
    assert_eq!(change.tags(0).provider, Some("provider-uuid"));
    assert_eq!(house.state.statuses(None, 9).len(), 1);
}

#[test]
fn too_many_providers_for_a_line_are_cut_and_the_total_is_said() {
    let mut house = House::new();
    for number in 0..256 {
        let info = ProviderInfo {
            id: format!("provider-{number}"),
            message: "\"x\"".repeat(100),
            ..ProviderInfo::default()
        };
        house.state.providers.upsert(info, LabelId::OTHER, 0);
    }
    let event = ProvidersEvent(Arc::new(house.state.providers(None)));
    let providers = parsed(&event, 0, Dialect::Stream);
    assert_eq!(
        (&providers["total"], &providers["truncated"]),
        (&json!(256), &json!(true))
    );
    assert!(providers["providers"].as_array().unwrap().len() >= 30);
}

#[test]
fn series_and_breakdowns_have_the_fields_of_the_page() {
    let mut house = busy();
    house.run(2);
    let series = serde_json::to_value(house.state.series(60, 1)).unwrap();
    assert_fields(&series, &["range", "step", "from", "to", "now", "points"]);
    assert_eq!(series["points"].as_array().unwrap().len(), 60);
    assert_eq!(series["points"][0]["requests"], Value::Null);
    assert_eq!(
        (
            &series["points"][58]["requests"],
            &series["points"][58]["covered"]
        ),
        (&json!(1), &json!(1))
    );
    let breakdown = serde_json::to_value(house.state.breakdown(
        Dimension::Model,
        Window::FiveMinutes,
        None,
    ))
    .unwrap();
    assert_eq!(
        (
            &breakdown["by"],
            &breakdown["range"],
            &breakdown["covered_seconds"]
        ),
        (&json!("model"), &json!(300), &json!(2))
    );
    assert_eq!(breakdown["rows"][0]["key"], "gpt-3.5-turbo");
    assert_eq!(breakdown["totals"]["total_requests"], 1);
}
