use super::*;
use crate::aggregator::memory::memory_ceiling;

/// Every label of every table in use, in every slot of the finest level and a few of the others.
fn full(settings: Settings, limits: Limits) -> House {
    let mut house = House::with(settings, limits.clone());
    let users = house.settings.max_users;
    let most = limits
        .routes
        .max(limits.models)
        .max(limits.tenants)
        .max(users);
    for round in 0..60u64 {
        for index in 0..most {
            house.finish(|collector, record| {
                let labels = collector.labels();
                let name = |kind: &str, max: usize| format!("{kind}-{}", index % max);
                record.route = labels.route.intern(&name("route", limits.routes));
                record.provider = labels.provider.intern(&name("provider", limits.providers));
                record.model = labels.model.intern(&name("model", limits.models));
                record.tenant = labels.tenant.intern(&name("tenant", limits.tenants));
                record.user = labels.user.intern(&name("user", users));
                record.latency_us = 1_000 * (1 + (index as u64 * 7_919 + round * 104_729) % 60_000);
                record.input_tokens = Some(10);
                record.cost_nanos = Some(5);
            });
        }
        house.pass(6.0);
        house.state.ready.take();
    }
    house
}

#[test]
fn full_tables_stay_full_and_whole() {
    let limits = Limits {
        routes: 20,
        providers: 5,
        models: 20,
        tenants: 10,
        ..Limits::default()
    };
    let settings = Settings {
        max_users: 50,
        ..Settings::default()
    };
    let ceiling = memory_ceiling(&settings, &limits);
    let mut house = full(settings.clone(), limits.clone());
    let snapshot = house.snapshot(Window::OneHour);
    assert_eq!(snapshot.summary.total_requests, 60 * 50);
    assert_eq!((snapshot.routes.len(), snapshot.models.len()), (20, 20));
    assert_eq!(snapshot.providers.len(), 5);
    // Twenty by name, and `other`.
    assert_eq!(snapshot.users.len(), 21);
    let more = Settings {
        max_users: 5_000,
        ..settings
    };
    assert!(memory_ceiling(&more, &limits) > 2 * ceiling);
}
