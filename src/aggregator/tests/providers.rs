use super::*;
use crate::aggregator::{ProviderInfo, ProviderStatus};

fn ask(house: &mut House, provider: &str, times: usize, status: u16) {
    for _ in 0..times {
        house.finish(|collector, record| {
            record.provider = collector.labels().provider.intern(provider);
            record.status = Some(status);
            record.success = status < 400;
        });
    }
}

fn upsert(house: &mut House, info: ProviderInfo) -> bool {
    let label = house.collector.labels().provider.intern(&info.id);
    house.state.providers.upsert(info, label, 0)
}

fn status(house: &House, id: &str) -> ProviderStatus {
    house.state.providers.find(id).unwrap().standing().status()
}

#[test]
fn a_status_follows_the_last_minute() {
    let mut house = House::new();
    ask(&mut house, "openai", 20, 200);
    house.run(1);
    assert_eq!(status(&house, "openai"), ProviderStatus::Healthy);
    ask(&mut house, "openai", 30, 503);
    house.run(1);
    assert_eq!(status(&house, "openai"), ProviderStatus::Down);
    // The failures leave the minute, and nothing has come since.
    house.run(75);
    assert_eq!(status(&house, "openai"), ProviderStatus::Idle);
    for _ in 0..10 {
        ask(&mut house, "openai", 5, 200);
        house.run(1);
    }
    assert_eq!(status(&house, "openai"), ProviderStatus::Healthy);
    let changes: Vec<_> = house
        .state
        .providers
        .take_changes()
        .into_iter()
        .map(|event| {
            (
                event.previous_status.as_str(),
                event.status.as_str(),
                event.available,
            )
        })
        .collect();
    assert_eq!(
        changes,
        [
            ("idle", "healthy", true),
            ("healthy", "down", false),
            ("down", "idle", true),
            ("idle", "healthy", true),
        ]
    );
    assert!(house.state.providers.take_changes().is_empty());
}

#[test]
fn the_clients_own_mistakes_do_not_speak_against_a_provider() {
    let mut house = House::new();
    ask(&mut house, "openai", 10, 200);
    ask(&mut house, "openai", 30, 404);
    ask(&mut house, "groq", 10, 200);
    ask(&mut house, "groq", 30, 429);
    for _ in 0..30 {
        house.finish(|collector, record| {
            record.provider = collector.labels().provider.intern("openai");
            record.outcome = Outcome::DroppedInBody;
            record.success = false;
        });
    }
    house.run(1);
    assert_eq!(status(&house, "openai"), ProviderStatus::Healthy);
    assert_eq!(status(&house, "groq"), ProviderStatus::Down);
    let groq = house.state.provider("groq", None).unwrap();
    assert_eq!(
        groq.status_reason,
        "error rate 75.0 % ≥ 50 % in the last minute"
    );
    assert_eq!(groq.health_score, Some(0.25));
}

#[test]
fn slowness_is_measured_against_the_providers_own_hour() {
    let mut house = House::new();
    for _ in 0..300 {
        ask(&mut house, "openai", 1, 200);
        house.run(1);
    }
    assert_eq!(status(&house, "openai"), ProviderStatus::Healthy);
    for _ in 0..40 {
        house.finish(|collector, record| {
            record.provider = collector.labels().provider.intern("openai");
            record.latency_us = 2_500_000;
        });
    }
    house.run(1);
    let view = house.state.provider("openai", None).unwrap();
    assert_eq!(
        view.status,
        ProviderStatus::Degraded,
        "{}",
        view.status_reason
    );
    assert!(
        view.status_reason.contains("median"),
        "{}",
        view.status_reason
    );
}

#[test]
fn the_hosts_word_wins() {
    let mut house = House::new();
    ask(&mut house, "openai", 20, 503);
    house.run(1);
    assert_eq!(status(&house, "openai"), ProviderStatus::Down);
    house.state.providers.take_changes();
    assert!(upsert(
        &mut house,
        ProviderInfo {
            id: "openai".into(),
            name: Some("OpenAI Free".into()),
            kind: Some("free".into()),
            models: Some(5),
            supports_streaming: Some(true),
            status: Some(ProviderStatus::Disabled),
            message: "maintenance".into(),
            ..ProviderInfo::default()
        }
    ));
    house.run(1);
    let view = house.state.provider("openai", None).unwrap();
    assert_eq!(
        (view.status, view.health_score),
        (ProviderStatus::Disabled, None)
    );
    assert_eq!(
        (view.name.as_str(), view.model_count),
        ("OpenAI Free", Some(5))
    );
    assert_eq!(
        view.realtime_requests,
        Some(20),
        "what was counted before stays"
    );
    let changes = house.state.providers.take_changes();
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].provider_name, "OpenAI Free");
    assert_eq!(changes[0].message, "maintenance");
    assert!(!changes[0].available);
    assert_eq!(house.state.providers(None).total, 1);
}

#[test]
fn providers_are_bounded_and_those_without_a_label_borrow_no_numbers() {
    let limits = Limits {
        providers: 2,
        ..Limits::default()
    };
    let mut house = House::with(Settings::default(), limits);
    ask(&mut house, "a", 1, 200);
    ask(&mut house, "b", 2, 200);
    ask(&mut house, "c", 4, 200);
    house.run(1);
    assert!(upsert(
        &mut house,
        ProviderInfo {
            id: "d".into(),
            ..ProviderInfo::default()
        }
    ));
    assert!(!upsert(&mut house, ProviderInfo::default()), "no id");
    let metrics = house.state.provider_metrics("d", Window::OneHour).unwrap();
    assert_eq!(
        (metrics.provider_id.as_str(), metrics.total_requests),
        ("d", 0)
    );
    assert_eq!(
        house
            .state
            .provider_metrics("b", Window::OneHour)
            .unwrap()
            .total_requests,
        2
    );
    assert!(house.state.provider_metrics("e", Window::OneHour).is_none());
    for number in 0..1_000 {
        upsert(
            &mut house,
            ProviderInfo {
                id: format!("registered-{number}"),
                ..ProviderInfo::default()
            },
        );
    }
    assert_eq!(house.state.providers(None).total, 256);
    let rows = house.snapshot(Window::OneHour).providers;
    let of = |id: &str| {
        rows.iter()
            .find(|row| row.provider_id == id)
            .unwrap()
            .total_requests
    };
    assert_eq!((of("a"), of("b"), of("other")), (1, 2, 4));
}
