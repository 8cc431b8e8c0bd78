//! What a tenant is told of providers follows from its own requests and from the host's word.

use super::*;
use crate::aggregator::{ProviderInfo, ProviderStatus};

fn ask(house: &mut House, tenant: &str, provider: &str, times: usize, status: u16) {
    for _ in 0..times {
        house.finish(|collector, record| {
            record.tenant = collector.labels().tenant.intern(tenant);
            record.provider = collector.labels().provider.intern(provider);
            record.status = Some(status);
            record.success = status < 400;
        });
    }
}

fn register(house: &mut House, id: &str, status: Option<ProviderStatus>) {
    let info = ProviderInfo {
        id: id.to_owned(),
        status,
        ..ProviderInfo::default()
    };
    let label = house.collector.labels().provider.intern(id);
    assert!(house.state.providers.upsert(info, label, 0));
}

/// `id status score reason` a line.
fn seen(house: &mut House, tenant: Option<&str>) -> Vec<String> {
    let snapshot = house.state.providers(tenant);
    assert_eq!(snapshot.total, snapshot.providers.len());
    let lines = snapshot.providers.iter().map(|view| {
        let one = house.state.provider(&view.id, tenant).unwrap();
        assert_eq!(
            (one.status, one.health_score, &one.status_reason),
            (view.status, view.health_score, &view.status_reason)
        );
        let (id, status) = (&view.id, view.status.as_str());
        format!(
            "{id} {status} {:?}: {}",
            view.health_score, view.status_reason
        )
    });
    lines.collect()
}

#[test]
fn a_tenant_is_told_of_providers_by_its_own_requests() {
    let mut house = House::new();
    register(&mut house, "spare", None);
    register(&mut house, "closed", Some(ProviderStatus::Disabled));
    ask(&mut house, "globex", "openai", 60, 503);
    ask(&mut house, "globex", "secretprov", 5, 200);
    ask(&mut house, "globex", "spare", 10, 503);
    ask(&mut house, "acme", "openai", 9, 200);
    ask(&mut house, "acme", "openai", 1, 503);
    house.run(1);
    assert_eq!(
        seen(&mut house, Some("acme")),
        [
            "spare idle None: no requests yet",
            "closed disabled None: set by the host",
            "openai healthy Some(0.9): error rate 10.0 % in the last minute",
        ]
    );
    assert_eq!(
        seen(&mut house, Some("globex")),
        [
            "spare down Some(0.0): error rate 100.0 % ≥ 50 % in the last minute",
            "closed disabled None: set by the host",
            "openai down Some(0.0): error rate 100.0 % ≥ 50 % in the last minute",
            "secretprov healthy Some(1.0): error rate 0.0 % in the last minute",
        ]
    );
    assert_eq!(
        seen(&mut house, Some("unheard-of")),
        [
            "spare idle None: no requests yet",
            "closed disabled None: set by the host",
        ]
    );
    assert!(house.state.provider("secretprov", Some("acme")).is_none());
    assert!(house.state.provider("secretprov", None).is_some());
    assert_eq!(seen(&mut house, None).len(), 4);
    let unused = house.state.provider("spare", Some("acme")).unwrap();
    assert_eq!(unused.last_health_check, None);
    // What is published says the same, and whose it is.
    let statuses = house.state.statuses(Some("acme"), 9);
    let told: Vec<_> = statuses
        .iter()
        .map(|event| {
            (
                &*event.provider_id,
                event.status.as_str(),
                event.tenant.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("spare", "idle", Some("acme")),
            ("closed", "disabled", Some("acme")),
            ("openai", "healthy", Some("acme")),
        ]
    );
    assert_eq!(statuses[2].success_rate, Some(0.9));
}

#[test]
fn a_tenants_minute_passes_and_its_provider_stays() {
    let mut house = House::new();
    ask(&mut house, "acme", "openai", 10, 503);
    house.run(1);
    let status = |house: &mut House| house.state.provider("openai", Some("acme")).unwrap().status;
    assert_eq!(status(&mut house), ProviderStatus::Down);
    // Others' good minutes are not this tenant's.
    for _ in 0..59 {
        ask(&mut house, "globex", "openai", 50, 200);
        house.run(1);
    }
    assert_eq!(status(&mut house), ProviderStatus::Down);
    house.run(15);
    assert_eq!(status(&mut house), ProviderStatus::Idle);
    for _ in 0..20 {
        ask(&mut house, "acme", "openai", 5, 200);
        house.run(1);
    }
    assert_eq!(status(&mut house), ProviderStatus::Healthy);
    // Hours in which nobody looked are over at once.
    house.pass(7_200.0);
    assert_eq!(status(&mut house), ProviderStatus::Idle);
}

#[test]
fn a_change_names_the_tenants_whom_it_concerns() {
    let mut house = House::new();
    ask(&mut house, "globex", "openai", 10, 503);
    house.run(1);
    let changes = house.state.take_status_changes();
    assert!(changes.concern("globex") && !changes.concern("acme"));
    assert_eq!(changes.events.len(), 1, "everybody's");
    ask(&mut house, "acme", "openai", 10, 200);
    house.run(1);
    let changes = house.state.take_status_changes();
    assert!(changes.concern("acme") && !changes.concern("globex"));
    assert!(changes.events.is_empty(), "it is down as before");
    register(&mut house, "openai", Some(ProviderStatus::Disabled));
    let changes = house.state.take_status_changes();
    assert!(changes.concern("acme") && changes.concern("globex") && changes.concern("third"));
    house.run(1);
    assert!(!house.state.take_status_changes().concern("acme"));
}

#[test]
fn requests_that_share_a_label_are_no_tenants_own() {
    let limits = Limits {
        tenants: 1,
        providers: 1,
        ..Limits::default()
    };
    let mut house = House::with(Settings::default(), limits);
    ask(&mut house, "acme", "openai", 5, 200);
    ask(&mut house, "globex", "openai", 5, 200);
    ask(&mut house, "initech", "groq", 5, 503);
    house.run(1);
    assert_eq!(seen(&mut house, Some("acme")).len(), 1);
    assert!(seen(&mut house, Some("globex")).is_empty());
    assert!(seen(&mut house, Some("initech")).is_empty());
}
