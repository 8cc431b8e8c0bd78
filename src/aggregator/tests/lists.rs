use super::*;
use crate::{
    aggregator::{LogsBatch, rows::RowRef},
    hub::{Dialect, Filter, Narrowed, Source},
};

fn ids(rows: &[RowRef]) -> Vec<String> {
    rows.iter().map(|row| row.view().id()).collect()
}

#[test]
fn one_request_has_one_id_everywhere() {
    let mut house = House::new();
    house.finish(|_, record| {
        record.success = false;
        record.extra = Some(Box::new(Extra {
            request_id: Some("host-7".into()),
            ..Extra::default()
        }));
    });
    house.finish(|_, record| record.success = false);
    let rows = house.rows();
    let mut from_channel = Vec::new();
    let logs = LogsBatch::split(1, rows.clone()).remove(0);
    for index in 0..rows[0].len() {
        let mut json = Vec::new();
        rows[0].write_json(index, Dialect::Stream, &mut json);
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        from_channel.push(json["id"].as_str().unwrap().to_owned());
    }
    let mut json = Vec::new();
    logs.write_json(0, Dialect::Stream, &mut json);
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let from_logs: Vec<_> = (0..2)
        .map(|at| json["logs"][at]["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(from_logs, from_channel);
    assert_eq!(from_channel[0], "host-7");
    let (prefix, number) = from_channel[1].split_once('-').unwrap();
    assert_eq!((prefix.len(), number), (8, "2"));
    let newest_first: Vec<_> = from_channel.iter().rev().cloned().collect();
    let everything = Filter::default();
    assert_eq!(
        ids(&house.state.recent(&everything, 10).requests),
        newest_first
    );
    assert_eq!(
        ids(&house.state.errors(&everything, 10).errors),
        newest_first
    );
    let mut slow = ids(&house.state.slow(Window::OneMinute, &everything, 10).slow);
    slow.sort();
    let mut all = from_channel.clone();
    all.sort();
    assert_eq!(slow, all);
}

#[test]
fn lists_are_bounded_newest_first_and_filtered() {
    let mut house = House::new();
    for index in 0..1_000u64 {
        house.finish(|collector, record| {
            let labels = collector.labels();
            record.tenant = labels
                .tenant
                .intern(if index % 2 == 0 { "acme" } else { "globex" });
            record.route = labels.route.intern("/v1/models/{id}");
            record.success = index % 3 != 0;
            record.latency_us = index;
        });
    }
    house.pump();
    let everything = Filter::default();
    let requests = house.state.recent(&everything, 10_000);
    assert_eq!((requests.requests.len(), requests.count), (500, 500));
    let numbers: Vec<_> = requests
        .requests
        .iter()
        .map(|row| row.row().number)
        .collect();
    assert!(numbers.is_sorted_by(|a, b| a > b) && numbers[0] == 1_000);
    assert_eq!(house.state.recent(&everything, 7).count, 7);

    let errors = house.state.errors(&everything, 10);
    assert_eq!((errors.errors.len(), errors.total), (10, 100));
    let acme = Filter {
        tenant: Some("acme".into()),
        ..Filter::default()
    };
    assert_eq!(house.state.errors(&acme, 1_000).total, 50);
    assert!(
        house
            .state
            .recent(&acme, 1_000)
            .requests
            .iter()
            .all(|row| row.view().tenant() == Some("acme"))
    );
    assert_eq!(house.state.recent(&acme, 1_000).count, 250);
    let failed = Filter {
        only_errors: true,
        route: Some("/v1/models/{id}".into()),
        ..Filter::default()
    };
    assert!(
        house
            .state
            .recent(&failed, 1_000)
            .requests
            .iter()
            .all(|row| !row.row().record.success)
    );
}

#[test]
fn the_slowest_of_a_window_are_kept_through_all_slots() {
    let mut house = House::new();
    // The slowest come early: they have to survive two foldings.
    for second in 0..4_000u64 {
        for part in 0..3 {
            house.finish(|_, record| record.latency_us = 10_000_000 - second * 1_000 - part);
        }
        house.pass(1.0);
    }
    let everything = Filter::default();
    let of = |house: &House, window| -> Vec<u64> {
        let slow = house.state.slow(window, &everything, 100).slow;
        slow.iter().map(RowRef::latency_us).collect()
    };
    let day = of(&house, Window::Day);
    let expected: Vec<u64> = (0..20)
        .map(|at| 10_000_000 - at / 3 * 1_000 - at % 3)
        .collect();
    assert_eq!(day, expected);
    let hour = of(&house, Window::OneHour);
    assert_eq!(hour.len(), 20);
    assert!(hour[0] < day[19] && hour.is_sorted_by(|a, b| a >= b));
    assert!(hour[0] >= 10_000_000 - 401 * 1_000);
    assert_eq!(house.state.slow(Window::Day, &everything, 5).slow.len(), 5);
}

#[test]
fn rows_wait_for_the_publisher_only_so_long() {
    let mut house = House::new();
    for _ in 0..10 {
        house.finish_many(1_000);
        house.pump();
    }
    let summary = house.snapshot(Window::OneMinute).summary;
    let feed = summary.feed.unwrap();
    assert_eq!(summary.total_requests, 10_000);
    assert!(feed.pending <= 8_192 && feed.skipped >= 1_808);
    let rows: usize = house.rows().iter().map(|rows| rows.rows.len()).sum();
    assert_eq!(rows as u64 + feed.skipped, 10_000);
    assert!(house.rows().is_empty());
    house.finish_many(300);
    let batches: Vec<_> = house.rows().iter().map(|rows| rows.rows.len()).collect();
    assert_eq!(batches, [128, 128, 44]);
}

#[test]
fn logs_keep_below_the_length_of_a_line_and_lose_nothing() {
    let nasty = "\"\\\u{1}\u{2028}é".repeat(2_000);
    for text in ["short", &"x".repeat(10_240), &nasty] {
        let mut house = House::new();
        for index in 0..150 {
            house.finish(|collector, record| {
                record.route = collector.labels().route.intern(text);
                record.success = false;
                record.extra = Some(Box::new(Extra {
                    request_id: Some(format!("{index}").into()),
                    error_message: Some(text.into()),
                    user: Some(text.into()),
                    labels: (0..12)
                        .map(|label| (format!("{label}{text}").into(), text.into()))
                        .collect(),
                }));
            });
        }
        let rows = house.rows();
        for dialect in [Dialect::Stream, Dialect::Envelope] {
            for batch in &rows {
                for index in 0..batch.len() {
                    let mut json = Vec::new();
                    batch.write_json(index, dialect, &mut json);
                    assert!(json.len() < 59_900, "{}", json.len());
                    if dialect == Dialect::Stream {
                        assert!(json.len() <= batch.view(index).max_len());
                    }
                }
            }
        }
        let mut seen = Vec::new();
        for logs in LogsBatch::split(7, rows) {
            let mut json = Vec::new();
            logs.write_json(0, Dialect::Stream, &mut json);
            assert!(json.len() < 59_900, "{}", json.len());
            assert!(!json.contains(&b'\n'));
            let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
            let list = json["logs"].as_array().unwrap();
            assert_eq!(
                (json["timestamp"].as_u64(), json["count"].as_u64()),
                (Some(7), Some(list.len() as u64))
            );
            seen.extend(
                list.iter()
                    .map(|row| row["id"].as_str().unwrap().parse::<usize>().unwrap()),
            );
        }
        assert_eq!(seen, (0..150).collect::<Vec<_>>());
    }
    assert!(LogsBatch::split(7, Vec::new()).is_empty());
}

#[test]
fn logs_are_narrowed_to_the_rows_that_a_reader_wants_and_may_see() {
    let mut house = House::new();
    for index in 0..9 {
        house.finish(|collector, record| {
            let labels = collector.labels();
            record.tenant = labels.tenant.intern(["acme", "globex", ""][index % 3]);
            record.provider = labels.provider.intern("openai");
            record.model = labels.model.intern(["a", "b"][index % 2]);
            record.success = index % 3 == 0;
        });
    }
    let logs = LogsBatch::split(7, house.rows()).remove(0);
    let left = |filter: &Filter, tenant: Option<&str>| match logs.narrow(filter, tenant) {
        Narrowed::Rows(rows) => {
            let mut json = Vec::new();
            rows.write_json(0, Dialect::Stream, &mut json);
            let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
            let models = json["logs"].as_array().unwrap().iter();
            models
                .map(|row| row["model_id"].as_str().unwrap().to_owned())
                .collect()
        }
        Narrowed::Nothing => Vec::new(),
        Narrowed::Whole => panic!("logs are made of rows"),
    };
    let everything = Filter::default();
    assert_eq!(left(&everything, Some("acme")), ["a", "b", "a"]);
    assert_eq!(left(&everything, None).len(), 9);
    let failed = Filter {
        only_errors: true,
        ..Filter::default()
    };
    assert!(left(&failed, Some("acme")).is_empty());
    assert_eq!(left(&failed, Some("globex")).len(), 3);
}

#[test]
fn a_failure_says_what_happened() {
    let mut house = House::new();
    for (status, outcome) in [
        (Some(503), Outcome::Completed),
        (None, Outcome::ServiceError),
        (Some(200), Outcome::BodyError),
        (None, Outcome::DroppedBeforeResponse),
        (Some(200), Outcome::DroppedInBody),
        (None, Outcome::Panicked),
        (Some(200), Outcome::Completed),
    ] {
        house.finish(|_, record| {
            record.status = status;
            record.outcome = outcome;
            record.success = false;
        });
    }
    let rows = house.rows();
    let json = serde_json::to_value(house.state.recent(&Filter::default(), 10)).unwrap();
    let messages: Vec<_> = (0..7)
        .rev()
        .map(|at| json["requests"][at]["error_message"].as_str().unwrap())
        .collect();
    assert_eq!(
        messages,
        [
            "503 Service Unavailable",
            "the service returned an error",
            "the response body failed",
            "the client left before the response",
            "the client left before the end of the response",
            "the handler panicked",
            "the handler reported a failure",
        ]
    );
    assert_eq!(json["requests"][2]["aborted"], true);
    assert_eq!(json["requests"][1]["status_code"], serde_json::Value::Null);
    assert!((0..7).all(|index| rows[0].tags(index).error));
    let summary = house.snapshot(Window::OneMinute).summary;
    assert_eq!((summary.aborted_requests, summary.server_errors), (2, 3));
}

#[test]
fn requests_of_tenants_beyond_the_limit_are_no_tenants() {
    let mut house = House::new();
    house.finish(|_, record| record.tenant = LabelId::OTHER);
    let rows = house.rows();
    assert_eq!(rows[0].view(0).tenant(), Some("other"), "as people see it");
    assert_eq!(
        rows[0].view(0).tags("requests").tenant,
        None,
        "a tenant of that name must not see it"
    );
    assert_eq!(
        house
            .state
            .snapshot(&house.settings, Window::OneHour, Some("other"))
            .summary
            .total_requests,
        0
    );
}
