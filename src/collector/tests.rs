//! The collector as a whole.

use std::{collections::HashMap, sync::Arc, thread, time::Duration};

use super::{record::record_for_tests, *};
use crate::clock::Clock;

fn collector(feed_capacity: usize) -> Collector {
    let limits = Limits {
        feed_capacity,
        ..Limits::default()
    };
    Collector::new(&limits, Clock::new())
}

fn labelled(collector: &Collector, text: &str) -> Record {
    let labels = collector.labels();
    Record {
        route: labels.route.intern(text),
        provider: labels.provider.intern(text),
        model: labels.model.intern(text),
        tenant: labels.tenant.intern(text),
        user: labels.user.intern(text),
        ..record_for_tests(LabelId::UNSET)
    }
}

fn drained(collector: &Collector) -> Vec<Record> {
    let mut records = Vec::new();
    collector.drain(usize::MAX, |record| records.push(record));
    records
}

fn overflow(collector: &Collector) -> Vec<Overflow> {
    let mut overflow = Vec::new();
    collector.drain_overflow(|part| overflow.push(part));
    overflow
}

#[test]
fn what_is_recorded_is_drained_as_it_was() {
    let collector = collector(8);
    let mut record = labelled(&collector, "a");
    record.extra = Some(Box::new(Extra {
        request_id: Some("r-1".into()),
        ..Extra::default()
    }));
    collector.started();
    assert_eq!(collector.totals().in_flight, 1);
    assert!(collector.is_empty());
    collector.record(record.clone());
    assert!(!collector.is_empty());

    let records = drained(&collector);
    assert_eq!(records.len(), 1);
    assert_eq!(format!("{:?}", records[0]), format!("{record:?}"));
    assert_eq!(
        collector.labels().route.resolve(records[0].route),
        Some("a")
    );
    let totals = collector.totals();
    assert_eq!((totals.recorded, totals.dropped), (1, 0));
    assert_eq!((totals.in_flight, totals.feed_pending), (0, 0));
    assert_eq!(totals.routes.used, 1);
    assert!(collector.is_empty());
    assert!(overflow(&collector).is_empty());
    assert_eq!(collector.take_peak(), 1);
}

#[test]
fn a_row_that_does_not_fit_keeps_all_its_numbers() {
    let collector = collector(2);
    let mut record = labelled(&collector, "a");
    for _ in 0..2 {
        collector.started();
        collector.record(record.clone());
    }
    record.status = Some(504);
    record.success = false;
    record.latency_us = 40_000;
    record.user = LabelId::OTHER;
    record.tenant = LabelId::UNSET;
    collector.started();
    collector.record(record.clone());
    let totals = collector.totals();
    assert_eq!((totals.recorded, totals.dropped), (3, 1));
    assert_eq!((totals.in_flight, totals.feed_pending), (0, 2));
    assert_eq!(drained(&collector).len(), 2);
    assert!(!collector.is_empty());

    let parts = overflow(&collector);
    let found: Vec<_> = parts
        .iter()
        .map(|part| (part.dimension, part.label))
        .collect();
    assert_eq!(
        found,
        [
            (Dimension::All, LabelId::UNSET),
            (Dimension::Route, record.route),
            (Dimension::Provider, record.provider),
            (Dimension::Model, record.model),
            (Dimension::Tenant, LabelId::UNSET),
            (Dimension::User, LabelId::OTHER),
        ]
    );
    for part in &parts {
        assert_eq!(part.sums, Sums::of(&record, Some(1_000)));
        let has_histogram = !matches!(part.dimension, Dimension::Tenant | Dimension::User);
        let latency = vec![(bucket_of(40_000), 1)];
        assert_eq!(
            part.latency,
            if has_histogram { latency } else { Vec::new() }
        );
    }
    assert_eq!(parts[0].sums.timeouts, 1);
    assert_eq!(parts[0].sums.status_classes, [0, 0, 0, 0, 0, 1]);
    assert_eq!(parts[0].status_codes, [(504, 1)]);
    assert!(parts[1].status_codes.is_empty());
    assert!(collector.is_empty());
    assert!(overflow(&collector).is_empty());
}

#[test]
fn dropped_rows_are_priced_for_every_label() {
    let collector = collector(2);
    collector.price_with(|model, input, output, cached| {
        (model == "priced").then_some(input + 10 * output + 100 * cached)
    });
    for (model, cost) in [
        ("x", None),
        ("x", None),
        ("priced", None),
        ("free", None),
        ("free", Some(3)),
    ] {
        let mut record = labelled(&collector, "a");
        record.model = collector.labels().model.intern(model);
        record.cost_nanos = cost;
        collector.started();
        collector.record(record);
    }
    let parts = overflow(&collector);
    let provider = parts
        .iter()
        .find(|part| part.dimension == Dimension::Provider)
        .unwrap();
    assert_eq!(provider.sums.requests, 3);
    assert_eq!(provider.sums.cost_nanos, 10 + 200 + 500 + 3);
    assert_eq!((provider.sums.priced, provider.sums.unpriced), (2, 1));
}

/// Two threads flood a tiny queue while a third drains: what was drained and what the overflow says is together what
/// was recorded, in total, in every dimension and for every label; and every reading of the overflow is whole.
#[test]
fn numbers_are_exact_under_a_flood() {
    const EACH: u64 = 30_000;
    let collector = Arc::new(collector(4));
    let producers: Vec<_> = (0..2_u64)
        .map(|producer| {
            let collector = collector.clone();
            thread::spawn(move || {
                for number in 0..EACH {
                    let mut record = labelled(&collector, &format!("label {}", number % 5));
                    record.latency_us = number % 1000;
                    record.input_tokens = (number % 3 == 0).then_some(producer + 1);
                    record.status = Some(if number % 10 == 0 { 429 } else { 200 });
                    record.response_bytes = number;
                    collector.started();
                    collector.record(record);
                }
            })
        })
        .collect();

    let mut sums: HashMap<(Dimension, LabelId), Sums> = HashMap::new();
    let mut latency: HashMap<usize, u64> = HashMap::new();
    let mut rows = 0;
    let mut read = |collector: &Collector| {
        rows += collector.drain(7, |record| {
            for (dimension, label) in [
                (Dimension::All, LabelId::UNSET),
                (Dimension::Route, record.route),
                (Dimension::Provider, record.provider),
                (Dimension::Model, record.model),
                (Dimension::Tenant, record.tenant),
                (Dimension::User, record.user),
            ] {
                *sums.entry((dimension, label)).or_default() +=
                    Sums::of(&record, record.cost_nanos);
            }
            *latency.entry(bucket_of(record.latency_us)).or_default() += 1;
        });
        let mut whole: HashMap<Dimension, Sums> = HashMap::new();
        collector.drain_overflow(|part| {
            *whole.entry(part.dimension).or_default() += part.sums;
            *sums.entry((part.dimension, part.label)).or_default() += part.sums;
            let counted: u64 = part.latency.iter().map(|(_, count)| count).sum();
            if matches!(part.dimension, Dimension::Tenant | Dimension::User) {
                assert_eq!(counted, 0);
            } else {
                assert_eq!(counted, part.sums.requests);
            }
            if part.dimension == Dimension::All {
                for (bucket, count) in part.latency {
                    *latency.entry(bucket).or_default() += count;
                }
            }
        });
        if let Some(all) = whole.get(&Dimension::All) {
            assert_eq!(whole.len(), 6);
            assert!(whole.values().all(|sums| sums == all));
        }
        rows
    };
    while !producers.iter().all(|producer| producer.is_finished()) {
        read(&collector);
    }
    for producer in producers {
        producer.join().unwrap();
    }
    while !collector.is_empty() {
        read(&collector);
    }
    let rows = read(&collector) as u64;

    let totals = collector.totals();
    assert_eq!(totals.recorded, 2 * EACH);
    assert_eq!(rows + totals.dropped, 2 * EACH);
    assert!(totals.dropped > 0, "the flood was no flood");
    assert_eq!(totals.in_flight, 0);

    let all = sums[&(Dimension::All, LabelId::UNSET)];
    assert_eq!(all.requests, 2 * EACH);
    assert_eq!(all.quota_exhausted, 2 * EACH / 10);
    assert_eq!(all.input_tokens, EACH / 3 + 2 * (EACH / 3));
    assert_eq!(all.output_tokens, 2 * EACH * 20);
    assert_eq!(all.response_bytes, EACH * (EACH - 1));
    assert_eq!(all.latency_us, 2 * EACH * 999 / 2);
    for dimension in [
        Dimension::Route,
        Dimension::Provider,
        Dimension::Model,
        Dimension::Tenant,
        Dimension::User,
    ] {
        for label in 0..5 {
            let label = LabelId(LabelId::FIRST + label);
            assert_eq!(sums[&(dimension, label)].requests, 2 * EACH / 5);
        }
    }
    for value in 0..32 {
        assert_eq!(latency[&value], 2 * EACH / 1000);
    }
}

#[tokio::test]
async fn an_armed_drainer_is_notified_once() {
    let collector = collector(8);
    let push = || {
        collector.started();
        collector.record(record_for_tests(LabelId::UNSET));
    };
    let notified = async |limit: u64| {
        tokio::time::timeout(Duration::from_millis(limit), collector.wake().notified())
            .await
            .is_ok()
    };
    push();
    assert!(!notified(0).await, "nobody asked");
    collector.arm();
    push();
    push();
    assert!(notified(1000).await);
    assert!(!notified(0).await, "one arming, one notification");
    collector.arm();
    push();
    assert!(notified(1000).await);
}

/// The drainer sleeps whenever there is nothing, the producer pauses whenever it was seen: a wake-up that got lost
/// would be waited for in vain.
#[test]
fn no_wake_up_is_lost() {
    let collector = Arc::new(collector(64));
    let producer = {
        let collector = collector.clone();
        thread::spawn(move || {
            for _ in 0..20_000 {
                collector.started();
                collector.record(record_for_tests(LabelId::UNSET));
                // Nor for a drainer that has given up.
                while !collector.is_empty() && Arc::strong_count(&collector) > 1 {
                    thread::yield_now();
                }
            }
        })
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut seen = 0;
        while seen < 20_000 {
            collector.arm();
            if collector.is_empty() {
                // Far more than any machine takes: a wake that is lost never comes.
                tokio::time::timeout(Duration::from_secs(60), collector.wake().notified())
                    .await
                    .unwrap_or_else(|_| panic!("record {} has woken nobody", seen + 1));
            }
            seen += collector.drain(usize::MAX, drop);
        }
    });
    producer.join().unwrap();
}

#[test]
fn late_calls_and_invalid_values_are_counted() {
    let collector = collector(8);
    collector.late_call();
    collector.late_call();
    collector.invalid_value();
    let totals = collector.totals();
    assert_eq!((totals.late_calls, totals.invalid_values), (2, 1));
}
