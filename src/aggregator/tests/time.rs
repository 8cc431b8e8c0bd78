use std::time::Duration;

use super::*;
use crate::aggregator::Aggregator;

const HOUR: i64 = 3_600 * SECOND_US as i64;

#[test]
fn a_request_is_in_the_very_next_snapshot() {
    let mut house = House::new();
    house.finish_many(1);
    let snapshot = house.snapshot(Window::OneMinute);
    assert_eq!(snapshot.summary.total_requests, 1);
    // A moment after the start, one request is not a rush.
    assert_eq!(snapshot.summary.requests_per_min, 1.0);
    assert_eq!(snapshot.summary.requests_per_second, Some(0.1));
    assert_eq!(snapshot.summary.estimated_hourly_cost, None);
    assert_eq!(snapshot.summary.covered_seconds, 0.0);
}

#[test]
fn an_empty_window_knows_nothing() {
    let mut house = House::new();
    house.pass(1.0);
    let summary = house.snapshot(Window::OneHour).summary;
    assert_eq!((summary.success_rate, summary.error_rate), (None, None));
    assert_eq!((summary.avg_latency_ms, summary.p95_ms), (None, None));
    assert_eq!(
        (summary.avg_tokens_per_req, summary.avg_cost_per_req),
        (None, None)
    );
    assert_eq!((summary.total_cost, summary.cost_per_minute), (0.0, 0.0));
}

#[test]
fn requests_leave_a_window_with_their_slot() {
    let mut house = House::new();
    house.finish_many(3);
    for (window, within, beyond) in [
        (Window::OneMinute, 60, 70),
        (Window::FiveMinutes, 300, 310),
        (Window::FifteenMinutes, 900, 960),
        (Window::OneHour, 3_600, 3_660),
        (Window::Day, 86_400, 88_200),
    ] {
        let start = house.unix_us;
        house.finish_many(1);
        house.pump();
        house.pass(within as f64);
        assert!(house.total(window) >= 1, "{window} at {within} s");
        house.unix_us = start;
        house.pass(beyond as f64);
        assert_eq!(house.total(window), 0, "{window} at {beyond} s");
        // Onto the next boundary of everything.
        house.unix_us = (house.unix_us / 86_400_000_000 + 1) * 86_400_000_000;
        house.pump();
    }
}

#[test]
fn a_window_says_how_long_it_is() {
    let mut house = House::new();
    house.finish_many(60);
    house.run(30);
    let summary = house.snapshot(Window::OneMinute).summary;
    assert_eq!(summary.covered_seconds, 30.0);
    assert_eq!(
        summary.requests_per_min, 60.0,
        "not 120: the minute is not over"
    );
    for _ in 0..600 {
        house.finish(|_, record| record.cost_nanos = Some(1_000_000_000));
        house.pass(1.0);
    }
    let summary = house.snapshot(Window::OneMinute).summary;
    assert!((60.0..=70.0).contains(&summary.covered_seconds));
    assert_eq!(summary.window_seconds, 60);
    assert_eq!(
        summary.timestamp - summary.window_start,
        summary.covered_seconds as u64
    );
    assert_eq!(summary.requests_per_min, 60.0);
    assert_eq!(summary.cost_per_minute, 60.0);
    assert_eq!(summary.estimated_hourly_cost, Some(3_600.0));
    assert_eq!(summary.requests_per_second, Some(1.0));
    assert_eq!(summary.uptime_seconds, 630);
}

#[test]
fn a_request_of_the_last_slot_that_comes_late_is_counted_there() {
    let mut house = House::new();
    house.run(19);
    house.finish_many(1);
    // It ended in second 19 and is drained in second 20, after the slot's end.
    house.pass(1.0);
    house.pass(1.0);
    let points = house.state.series(60, 1).points;
    let at = |second: u64| points.iter().find(|point| point.t % 60 == second).unwrap();
    assert_eq!(at(19).requests, Some(1));
    assert_eq!(at(20).requests, Some(0));
    let points = house.state.series(60, 10).points;
    assert_eq!(
        points
            .iter()
            .filter_map(|point| point.requests)
            .collect::<Vec<_>>(),
        [0, 1]
    );
}

#[test]
fn a_very_late_request_is_counted_all_the_same() {
    let mut house = House::new();
    let record = house.record();
    house.run(600);
    house.collector.started();
    house.collector.record(record);
    for window in Window::ALL {
        assert_eq!(house.total(window), 1, "{window}");
    }
}

#[test]
fn idleness_is_zeros_and_absence_is_a_gap() {
    let mut house = House::new();
    house.run(60);
    house.finish_many(2);
    house.run(60);
    // Suspended for two hours, then awake for a minute.
    house.step_us = 2 * HOUR;
    house.run(60);
    house.finish_many(1);
    house.run(30);
    let series = house.state.series(300, 10);
    let covered: f64 = series.points.iter().map(|point| point.covered).sum();
    assert_eq!(covered, 90.0);
    for point in &series.points {
        assert_eq!(point.requests.is_none(), point.covered == 0.0, "{point:?}");
    }
    let requests: Vec<_> = series
        .points
        .iter()
        .filter_map(|point| point.requests)
        .collect();
    assert_eq!(requests, [0, 0, 0, 0, 0, 0, 1, 0, 0]);
    let summary = house.snapshot(Window::OneHour).summary;
    assert_eq!((summary.total_requests, summary.covered_seconds), (1, 90.0));
    let summary = house.snapshot(Window::Day).summary;
    assert_eq!(
        (summary.total_requests, summary.covered_seconds),
        (3, 210.0)
    );
    assert_eq!(summary.uptime_seconds, 210);
}

#[test]
fn a_jump_of_hours_empties_what_is_out_of_range() {
    let mut house = House::new();
    house.finish_many(5);
    house.run(30);
    house.pass(7_200.0);
    for (window, total) in [
        (Window::OneMinute, 0),
        (Window::FiveMinutes, 0),
        (Window::FifteenMinutes, 0),
        (Window::OneHour, 0),
        (Window::Day, 5),
    ] {
        assert_eq!(house.total(window), total, "{window}");
    }
    house.finish_many(1);
    assert_eq!(house.total(Window::OneMinute), 1);
    assert_eq!(house.total(Window::Day), 6);
    let day: u64 = house
        .state
        .series(86_400, 1_800)
        .points
        .iter()
        .filter_map(|point| point.requests)
        .sum();
    assert_eq!(day, 5);
}

#[test]
fn a_wall_clock_that_is_set_back_moves_nothing_back() {
    let mut house = House::new();
    house.run(20);
    house.finish_many(2);
    house.run(5);
    let before = house.snapshot(Window::FiveMinutes).summary;
    house.step_us = -HOUR;
    house.finish_many(1);
    house.run(1);
    let after = house.snapshot(Window::FiveMinutes).summary;
    assert_eq!(after.total_requests, 3);
    assert_eq!(after.covered_seconds, before.covered_seconds + 1.0);
    assert_eq!(
        after.timestamp,
        before.timestamp + 1 - 3_600,
        "what is printed is the true time"
    );
    assert_eq!(after.window_start, before.window_start - 3_600);
    let series = house.state.series(60, 5);
    assert_eq!(series.now, after.timestamp);
    assert!(
        series
            .points
            .iter()
            .all(|point| point.t % 5 == 0 && point.t < series.now)
    );
    assert_eq!(
        series
            .points
            .iter()
            .filter_map(|point| point.requests)
            .sum::<u64>(),
        2
    );
    let newest = house.rows().last().unwrap().rows.last().unwrap().unix_us;
    assert_eq!(newest / SECOND_US, after.timestamp - 1);
}

#[test]
fn unique_users_begin_anew_at_midnight() {
    let mut house = House::new();
    house.pass(86_395.0);
    for user in ["ana", "ben", "ana"] {
        house.user(user);
    }
    let summary = house.snapshot(Window::OneMinute).summary;
    assert_eq!(
        (summary.unique_users_today, summary.active_users),
        (Some(2), Some(2))
    );
    house.run(10);
    house.user("ben");
    let summary = house.snapshot(Window::OneMinute).summary;
    assert_eq!(
        (summary.unique_users_today, summary.active_users),
        (Some(1), Some(2))
    );
    assert!(!summary.unique_users_approximate);
    house.run(6 * 60);
    let summary = house.snapshot(Window::OneMinute).summary;
    assert_eq!(
        (summary.unique_users_today, summary.active_users),
        (Some(1), Some(0))
    );
}

#[test]
fn the_peak_of_requests_in_flight_is_kept_by_the_second() {
    let mut house = House::new();
    house.run(3);
    for _ in 0..7 {
        house.collector.started();
    }
    house.run(2);
    for _ in 0..7 {
        let record = house.record();
        house.collector.record(record);
    }
    house.run(4);
    let summary = house.snapshot(Window::OneMinute).summary;
    assert_eq!(
        (summary.in_flight, summary.in_flight_peak),
        (Some(0), Some(7))
    );
    let points = house.state.series(60, 1).points;
    let peaks: Vec<_> = points
        .iter()
        .filter_map(|point| point.in_flight_max)
        .collect();
    assert_eq!(peaks[..3], [0, 0, 0]);
    assert_eq!(peaks[4], 7);
    assert_eq!(*peaks.last().unwrap(), 0);
}

#[test]
fn series_have_percentiles_at_every_age() {
    let mut house = House::new();
    for _ in 0..7_500 {
        house.finish(|_, record| record.latency_us = 100_000);
        house.pass(1.0);
    }
    for (range, step) in [
        (60, 1),
        (300, 5),
        (900, 15),
        (3_600, 60),
        (7_200, 60),
        (86_400, 1_800),
    ] {
        let series = house.state.series(range, step);
        let covered = series.points.iter().filter(|point| point.covered > 0.0);
        let mut seen = 0;
        for point in covered {
            assert_eq!(
                point.requests,
                Some(point.covered as u64),
                "{range}/{step}: {point:?}"
            );
            assert!(
                (point.p95_ms.unwrap() / 100.0 - 1.0).abs() < 0.032,
                "{range}/{step}: {point:?}"
            );
            assert!(point.ttfb_p95_ms.is_some());
            seen += 1;
        }
        assert!(
            seen as u64 >= (range / series.step).min(4),
            "{range}/{step}"
        );
    }
    // Seconds are too fine for what is older than five minutes: exact sums, no percentiles.
    let series = house.state.series(3_600, 1);
    assert_eq!(series.points.len(), 3_600);
    assert!(series.points[0].p50_ms.is_none() && series.points[0].requests == Some(1));
    assert!(series.points[3_599].p50_ms.is_some());
}

#[tokio::test(start_paused = true)]
async fn follows_tokios_clock() {
    let clock = Clock::new();
    let collector = Arc::new(Collector::new(&Limits::default(), clock));
    let aggregator = Aggregator::new(Settings::default(), Arc::clone(&collector), clock);
    let mut record = House::new().record();
    record.ended_us = clock.now_us();
    collector.started();
    collector.record(record);
    assert_eq!(
        aggregator
            .snapshot(Window::FiveMinutes, None)
            .summary
            .total_requests,
        1
    );
    assert_eq!(aggregator.drain().len(), 1, "reading left the rows");
    assert_eq!(aggregator.drain().len(), 0);
    tokio::time::advance(Duration::from_secs(2 * 3_600)).await;
    aggregator.refresh();
    let summary = aggregator.snapshot(Window::FiveMinutes, None).summary;
    assert_eq!(summary.total_requests, 0);
    assert_eq!(summary.uptime_seconds, 7_200);
    assert_eq!(
        aggregator
            .snapshot(Window::Day, None)
            .summary
            .total_requests,
        1
    );
}
