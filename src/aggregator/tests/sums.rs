use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    aggregator::{BreakdownRow, Summary},
    price::{Price, PriceTable},
};

/// What a generated request has; numbers of labels, 0 for none.
#[derive(Clone, Debug)]
struct Request {
    pause_ms: u64,
    latency_us: u64,
    status: Option<u16>,
    aborted: bool,
    labels: [u8; 5],
    tokens: Option<(u64, u64)>,
    cost: Option<u64>,
}

fn request() -> impl Strategy<Value = Request> {
    (
        prop_oneof![4 => 0u64..2_000, 1 => 2_000u64..90_000],
        1u64..30_000_000,
        prop_oneof![
            6 => Just(Some(200u16)), 1 => Just(Some(302)), 1 => Just(Some(404)), 1 => Just(Some(429)),
            1 => Just(Some(503)), 1 => Just(Some(504)), 1 => Just(None)
        ],
        prop::bool::weighted(0.1),
        prop::array::uniform5(0u8..12),
        prop::option::of((0u64..10_000, 0u64..10_000)),
        prop::option::of(0u64..1_000_000_000),
    )
        .prop_map(
            |(pause_ms, latency_us, status, aborted, labels, tokens, cost)| Request {
                pause_ms,
                latency_us,
                status,
                aborted,
                labels,
                tokens,
                cost,
            },
        )
}

/// Small tables: labels overflow and users are evicted.
fn small() -> House {
    let settings = Settings {
        max_users: 4,
        prices: PriceTable::new().model("model-3", Price::new(1.0, 2.0)),
        ..Settings::default()
    };
    let limits = Limits {
        routes: 5,
        providers: 4,
        models: 6,
        tenants: 3,
        users: 6,
        feed_capacity: 4_096,
    };
    House::with(settings, limits)
}

fn play(house: &mut House, requests: &[Request]) {
    for request in requests {
        house.unix_us += request.pause_ms * 1_000;
        house.finish(|collector, record| {
            let labels = collector.labels();
            let name = |kind: &str, number: u8| match number {
                0 => String::new(),
                number => format!("{kind}-{number}"),
            };
            record.route = labels.route.intern(&name("route", request.labels[0]));
            record.provider = labels.provider.intern(&name("provider", request.labels[1]));
            record.model = labels.model.intern(&name("model", request.labels[2]));
            record.tenant = labels.tenant.intern(&name("tenant", request.labels[3]));
            let user = name("user", request.labels[4]);
            record.user = labels.user.intern(&user);
            if record.user == LabelId::OTHER {
                record.extra = Some(Box::new(Extra {
                    user: Some(user.into()),
                    ..Extra::default()
                }));
            }
            record.latency_us = request.latency_us;
            record.status = request.status;
            if request.aborted {
                record.outcome = Outcome::DroppedInBody;
            }
            record.success = !request.aborted && request.status.is_some_and(|code| code < 400);
            record.input_tokens = request.tokens.map(|tokens| tokens.0);
            record.output_tokens = request.tokens.map(|tokens| tokens.1);
            record.cost_nanos = request.cost;
        });
        if request.pause_ms % 3 == 0 {
            house.pump();
        }
    }
    house.pump();
}

fn assert_sums(rows: &[BreakdownRow], summary: &Summary, by: &str) {
    let sum = |field: fn(&BreakdownRow) -> u64| rows.iter().map(field).sum::<u64>();
    assert_eq!(
        sum(|row| row.total_requests),
        summary.total_requests,
        "{by}"
    );
    assert_eq!(
        sum(|row| row.failed_requests),
        summary.failed_requests,
        "{by}"
    );
    assert_eq!(sum(|row| row.input_tokens), summary.input_tokens, "{by}");
    assert_eq!(sum(|row| row.output_tokens), summary.output_tokens, "{by}");
    assert_eq!(
        sum(|row| row.unpriced_requests),
        summary.unpriced_requests,
        "{by}"
    );
    let cost: f64 = rows.iter().map(|row| row.total_cost).sum();
    assert!((cost - summary.total_cost).abs() < 1e-6, "{by}");
    let share: f64 = rows.iter().filter_map(|row| row.share).sum();
    assert!(
        summary.total_requests == 0 || (share - 1.0).abs() < 1e-4,
        "{by}"
    );
}

const DIMENSIONS: [Dimension; 5] = [
    Dimension::Route,
    Dimension::Model,
    Dimension::User,
    Dimension::Provider,
    Dimension::Tenant,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rows_add_up_to_the_totals_in_every_window(requests in vec(request(), 1..250)) {
        let mut house = small();
        play(&mut house, &requests);
        for window in Window::ALL {
            let snapshot = house.snapshot(window);
            assert_sums(&snapshot.routes, &snapshot.summary, "routes");
            assert_sums(&snapshot.models, &snapshot.summary, "models");
            assert_sums(&snapshot.users, &snapshot.summary, "users");
            let providers: u64 = snapshot.providers.iter().map(|row| row.total_requests).sum();
            prop_assert_eq!(providers, snapshot.summary.total_requests);
            let codes: u64 = snapshot.status_codes.iter().map(|row| row.count).sum();
            prop_assert_eq!(codes, snapshot.summary.total_requests);
            for by in DIMENSIONS {
                let breakdown = house.state.breakdown(by, window, None);
                assert_sums(&breakdown.rows, &snapshot.summary, by.as_str());
                prop_assert_eq!(breakdown.totals.total_requests, snapshot.summary.total_requests);
                prop_assert_eq!(breakdown.totals.p95_ms, snapshot.summary.p95_ms);
            }
        }
        // Nothing is older than a day, so the day has all that ever was; and the sums are those of the records.
        let day = house.snapshot(Window::Day).summary;
        let lifetime = day.lifetime.unwrap();
        prop_assert_eq!(day.total_requests, requests.len() as u64);
        prop_assert_eq!(lifetime.total_requests, requests.len() as u64);
        prop_assert_eq!(lifetime.total_tokens, day.total_tokens);
        let tokens: u64 = requests.iter().filter_map(|request| request.tokens).map(|(input, output)| input + output).sum();
        prop_assert_eq!(day.total_tokens, tokens);
        let aborted = requests.iter().filter(|request| request.aborted).count() as u64;
        prop_assert_eq!(day.aborted_requests, aborted);
        let latency: u64 = requests.iter().map(|request| request.latency_us).sum();
        let average = latency as f64 / requests.len() as f64 / 1e3;
        prop_assert!((day.avg_latency_ms.unwrap() - average).abs() < 0.001);
    }

    #[test]
    fn points_add_up_to_the_totals(requests in vec(request(), 1..200), step in prop::sample::select(vec![1u64, 2, 5, 10, 15, 30, 60])) {
        let mut house = small();
        play(&mut house, &requests);
        house.pass(61.0);
        let lifetime = house.snapshot(Window::Day).summary.lifetime.unwrap();
        let seconds = house.state.ladder.points.seconds.len() as u64;
        let short = requests.iter().map(|request| request.pause_ms).sum::<u64>() / 1_000 + 130 < seconds.min(3_600);
        for (range, step) in [(3_600, step), (86_400, step * 60)] {
            if range == 3_600 && !short {
                continue;
            }
            let series = house.state.series(range, step);
            prop_assert_eq!(series.points.len() as u64, range.div_ceil(series.step));
            let sum = |field: fn(&super::super::SeriesPoint) -> Option<u64>| series.points.iter().filter_map(field).sum::<u64>();
            // The bucket in progress is not drawn: a step of up to an hour may still hold the newest.
            if series.step <= 60 {
                prop_assert_eq!(sum(|point| point.requests), lifetime.total_requests);
                prop_assert_eq!(sum(|point| point.aborted), requests.iter().filter(|request| request.aborted).count() as u64);
                let tokens = sum(|point| point.input_tokens) + sum(|point| point.output_tokens);
                prop_assert_eq!(tokens, lifetime.total_tokens);
                let no_class = requests.iter().filter(|request| request.aborted && request.status.is_none()).count() as u64;
                let classes = sum(|point| point.s2) + sum(|point| point.s3) + sum(|point| point.s4) + sum(|point| point.s5);
                prop_assert_eq!(classes + no_class, lifetime.total_requests);
            }
            for pair in series.points.windows(2) {
                prop_assert_eq!(pair[1].t - pair[0].t, series.step);
                prop_assert_eq!(pair[0].t % series.step, 0);
            }
        }
    }

    #[test]
    fn a_window_has_the_percentiles_of_its_requests(latencies in vec(1_000u64..60_000_000, 20..300)) {
        let mut house = House::new();
        for (index, &latency_us) in latencies.iter().enumerate() {
            house.finish(|collector, record| {
                record.latency_us = latency_us;
                record.route = collector.labels().route.intern("/a");
            });
            // Over several slots of every size, so that the answer is put together from parts.
            house.pass(if index % 50 == 0 { 61.0 } else { 0.2 });
        }
        let mut sorted = latencies.clone();
        sorted.sort_unstable();
        let summary = house.snapshot(Window::OneHour).summary;
        for (found, q) in [(summary.p50_ms, 0.5), (summary.p95_ms, 0.95), (summary.p99_ms, 0.99)] {
            let rank = (q * sorted.len() as f64).ceil() as usize;
            let exact = sorted[rank - 1] as f64 / 1e3;
            let found = found.unwrap();
            prop_assert!((found - exact).abs() <= exact * 0.032, "{} for {}", found, exact);
        }
        prop_assert_eq!(summary.latency.one_hour.count, latencies.len() as u64);
        prop_assert_eq!(summary.latency.one_hour.p95_ms, summary.p95_ms);
    }
}

#[test]
fn the_smallest_users_make_room_and_nothing_is_lost() {
    let mut house = House::with(
        Settings {
            max_users: 8,
            ..Settings::default()
        },
        Limits::default(),
    );
    for _ in 0..50 {
        house.user("ana");
        house.user("ben");
    }
    for stranger in 0..200 {
        house.user(&format!("stranger-{stranger}"));
    }
    let users = house.snapshot(Window::OneHour).users;
    let of = |key: &str| users.iter().find(|row| row.key == key);
    for name in ["ana", "ben"] {
        let row = of(name).expect("the largest stay");
        assert_eq!((row.total_requests, row.error_bound), (50, 0));
    }
    assert_eq!(users.iter().map(|row| row.total_requests).sum::<u64>(), 300);
    let named = users
        .iter()
        .filter(|row| row.key.starts_with("stranger"))
        .collect::<Vec<_>>();
    assert!(!named.is_empty() && named.len() <= 6);
    assert!(named.iter().any(|row| row.error_bound > 0));
    assert!(of("other").unwrap().total_requests >= 190);
    let series = house.snapshot(Window::OneHour).summary.series.unwrap();
    assert_eq!(series.users.max, 8);
    assert!(series.users.used <= 8 && series.users.overflow >= 190);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_users_true_count_lies_within_its_bound(names in vec(0u8..30, 1..400), pauses in vec(0u64..8, 1..20)) {
        let mut house = House::with(Settings { max_users: 5, ..Settings::default() }, Limits::default());
        for (index, name) in names.iter().enumerate() {
            house.user(&format!("user-{name}"));
            if index % 20 == 0 {
                house.pass(pauses[index / 20 % pauses.len()] as f64);
            }
        }
        house.pump();
        for window in Window::ALL {
            for row in house.state.breakdown(Dimension::User, window, None).rows {
                if row.key == "other" {
                    continue;
                }
                let exact = names.iter().filter(|name| format!("user-{name}") == row.key).count() as u64;
                prop_assert!(row.total_requests <= exact);
                if window == Window::Day {
                    prop_assert!(exact <= row.total_requests + row.error_bound, "{} of {exact}: {row:?}", row.total_requests);
                }
            }
        }
    }
}

#[test]
fn tokens_are_priced_from_the_table_or_counted_as_unpriced() {
    let settings = Settings {
        prices: PriceTable::new().model("gpt-*", Price::new(2.0, 10.0)),
        ..Settings::default()
    };
    let mut house = House::with(settings, Limits::default());
    let mut ask = |model: &str, tokens: Option<u64>, cost: Option<u64>| {
        house.finish(|collector, record| {
            record.model = collector.labels().model.intern(model);
            record.input_tokens = tokens;
            record.output_tokens = tokens;
            record.cost_nanos = cost;
        });
    };
    ask("gpt-4o", Some(1_000_000), None);
    ask("mystery", Some(10), None);
    ask("mystery", Some(10), Some(500_000_000));
    ask("mystery", None, None);
    ask("", Some(10), None);
    let snapshot = house.snapshot(Window::OneMinute);
    assert_eq!(snapshot.summary.total_cost, 12.5);
    assert_eq!(snapshot.summary.unpriced_requests, 2);
    let model = |key: &str| snapshot.models.iter().find(|row| row.key == key).unwrap();
    assert_eq!(model("gpt-4o").unpriced_requests, 0);
    assert_eq!(
        (
            model("mystery").total_cost,
            model("mystery").unpriced_requests
        ),
        (0.5, 1)
    );
    assert_eq!(model("(none)").unpriced_requests, 1);
    let costs: Vec<_> = house
        .rows()
        .iter()
        .flat_map(|rows| rows.rows.iter().map(|row| row.record.cost_nanos))
        .collect();
    assert_eq!(
        costs,
        [Some(12_000_000_000), None, Some(500_000_000), None, None]
    );
}

#[test]
fn what_was_never_seen_is_not_a_capability() {
    let mut house = House::new();
    house.finish(|_, _| ());
    let capabilities = house.snapshot(Window::OneMinute).summary.capabilities;
    assert_eq!(capabilities, super::super::Capabilities::default());
    house.finish(|collector, record| {
        record.provider = collector.labels().provider.intern("openai");
        record.output_tokens = Some(3);
    });
    house.user("ana");
    let capabilities = house.snapshot(Window::OneMinute).summary.capabilities;
    assert!(capabilities.tokens && capabilities.providers && capabilities.users);
    assert!(!capabilities.cost);
    house.finish(|_, record| record.cost_nanos = Some(1));
    assert!(house.snapshot(Window::OneMinute).summary.capabilities.cost);
}

#[test]
fn a_tenant_sees_its_own_sums_and_nobody_elses_anything() {
    let mut house = House::new();
    for tenant in ["acme", "acme", "globex"] {
        house.finish(|collector, record| {
            let labels = collector.labels();
            record.tenant = labels.tenant.intern(tenant);
            record.provider = labels.provider.intern("openai");
            record.user = labels.user.intern("ana");
            record.latency_us = if tenant == "acme" {
                1_000_000
            } else {
                9_000_000
            };
            record.success = tenant != "globex";
            record.cost_nanos = Some(1_000_000_000);
        });
    }
    house.pump();
    let settings = house.settings.clone();
    let snapshot = house
        .state
        .snapshot(&settings, Window::OneHour, Some("acme"));
    let summary = &snapshot.summary;
    assert_eq!((summary.total_requests, summary.failed_requests), (2, 0));
    assert_eq!(summary.total_cost, 2.0);
    assert!((summary.p99_ms.unwrap() / 1_000.0 - 1.0).abs() < 0.032);
    assert_eq!(summary.latency.one_hour.count, 2);
    assert_eq!(summary.tenant_id.as_deref(), Some("acme"));
    assert_eq!(
        (summary.in_flight, summary.active_users, summary.recorded),
        (None, None, None)
    );
    assert!(summary.lifetime.is_none() && summary.point.is_none() && summary.feed.is_none());
    let json = serde_json::to_string(&snapshot).unwrap();
    assert!(
        !json.contains("openai") && !json.contains("globex") && !json.contains("ana"),
        "{json}"
    );

    let nobody = house
        .state
        .snapshot(&settings, Window::OneHour, Some("unheard-of"));
    assert_eq!(nobody.summary.total_requests, 0);
    assert_eq!(
        house.collector.labels().tenant.usage().used,
        2,
        "looking fills no table"
    );

    let providers = house.state.providers(Some("acme"));
    assert_eq!(providers.providers[0].realtime_requests, None);
    let breakdown = house
        .state
        .breakdown(Dimension::Provider, Window::OneHour, Some("acme"));
    assert_eq!(
        (breakdown.rows.len(), breakdown.totals.total_requests),
        (0, 2)
    );
    let breakdown = house
        .state
        .breakdown(Dimension::Tenant, Window::OneHour, Some("acme"));
    assert_eq!(breakdown.rows[0].key, "acme");
}

#[test]
fn dropped_rows_are_in_every_number() {
    let limits = Limits {
        feed_capacity: 16,
        ..Limits::default()
    };
    let settings = Settings {
        prices: PriceTable::new().model("gpt", Price::new(1.0, 1.0)),
        ..Settings::default()
    };
    let mut house = House::with(settings.clone(), limits);
    let price = settings.prices.clone();
    house
        .collector
        .price_with(move |model, input, output, cached| {
            price.cost_nanos(model, input, output, cached)
        });
    for index in 0..500u64 {
        house.finish(|collector, record| {
            let labels = collector.labels();
            record.route = labels.route.intern(["/a", "/b", ""][index as usize % 3]);
            record.provider = labels
                .provider
                .intern(["openai", "groq"][index as usize % 2]);
            record.model = labels.model.intern("gpt");
            record.tenant = labels.tenant.intern("acme");
            record.user = labels.user.intern(&format!("user-{}", index % 10));
            record.latency_us = 1_000 * (index + 1);
            record.input_tokens = Some(1_000);
            record.output_tokens = Some(1_000);
            match index % 10 {
                0 => record.status = Some(503),
                1 => record.status = Some(429),
                _ => {}
            }
            record.success = index % 10 > 1;
        });
    }
    let snapshot = house.snapshot(Window::FiveMinutes);
    let summary = &snapshot.summary;
    assert!(summary.dropped.unwrap() >= 400);
    assert_eq!(summary.recorded, Some(500));
    assert_eq!(
        (summary.total_requests, summary.failed_requests),
        (500, 100)
    );
    assert_eq!((summary.server_errors, summary.client_errors), (50, 50));
    assert_eq!(summary.quota_exhausted, 50);
    assert_eq!(
        (summary.total_tokens, summary.unpriced_requests),
        (1_000_000, 0)
    );
    assert!((summary.total_cost - 1.0).abs() < 1e-9);
    for (found, exact) in [
        (summary.p50_ms, 250.0),
        (summary.p95_ms, 475.0),
        (summary.p99_ms, 495.0),
    ] {
        assert!((found.unwrap() / exact - 1.0).abs() < 0.032);
    }
    assert_eq!(summary.unique_users_today, Some(10));
    for rows in [&snapshot.routes, &snapshot.models, &snapshot.users] {
        assert_sums(rows, summary, "rows");
    }
    let openai = &snapshot.providers[0];
    assert_eq!((openai.total_requests, openai.error_count), (250, 50));
    assert!((openai.p50_ms.unwrap() / 250.0 - 1.0).abs() < 0.032);
    assert_eq!(
        snapshot
            .status_codes
            .iter()
            .map(|code| code.count)
            .sum::<u64>(),
        500
    );
    // The point of this second has them, too, and nothing is counted twice.
    house.pass(1.0);
    assert_eq!(
        house.state.series(60, 1).points.last().unwrap().requests,
        Some(500)
    );
    assert_eq!(house.total(Window::FiveMinutes), 500);
    assert_eq!(
        house
            .snapshot(Window::Day)
            .summary
            .lifetime
            .unwrap()
            .total_requests,
        500
    );
}
