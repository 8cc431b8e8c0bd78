//! What a reader that is behind is spared, and what it is not.

use std::time::Duration;

use super::{super::*, *};

/// The channels of the lag ladder, by priority.
fn ladder(house: &House) -> [ChannelId; 4] {
    let of = |name: &str, config: ChannelConfig| house.hub.channel(name, config).unwrap();
    [
        of("low", ChannelConfig::stream().priority(Priority::Low)),
        of("normal", ChannelConfig::stream()),
        of("high", ChannelConfig::stream().priority(Priority::High)),
        of("critical", ChannelConfig::critical()),
    ]
}

fn numbers(lines: &[String], channel: &str) -> Vec<u64> {
    let of = lines
        .iter()
        .filter_map(|line| line.strip_prefix(channel)?.strip_prefix(' '));
    of.map(|rest| rest.split(' ').nth(1).unwrap().parse().unwrap())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_late_reader_is_spared_the_least_important_first() {
    let house = House::new(HubSettings {
        buffer_size: 40,
        ..settings()
    });
    let [low, normal, high, critical] = ladder(&house);
    let mut reader = house.subscribe(&[low, normal, high, critical], Start::Latest);
    for n in 0..25 {
        for channel in [low, normal, high, critical] {
            house.publish(channel, line(n.to_string())).await;
        }
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    let lines = drain(&mut reader);
    // 100 events, 60 too many: all of low but an eighth of the buffer, 40 of normal but a quarter of it.
    assert_eq!(numbers(&lines, "low"), (20..25).collect::<Vec<_>>());
    assert_eq!(numbers(&lines, "normal"), (15..25).collect::<Vec<_>>());
    assert_eq!(numbers(&lines, "high"), (0..25).collect::<Vec<_>>());
    assert_eq!(numbers(&lines, "critical"), (0..25).collect::<Vec<_>>());
    let gaps: Vec<_> = lines
        .iter()
        .filter(|line| line.starts_with("gap"))
        .collect();
    assert_eq!(gaps, ["gap low 20 Lagged", "gap normal 15 Lagged"]);
    // Critical first, with the position that the reader had: whoever goes on from there misses nothing.
    assert!(
        lines[..25]
            .iter()
            .all(|line| line.starts_with("critical 0 ")),
        "{lines:?}"
    );
    let positions = lines
        .iter()
        .filter(|line| !line.starts_with("gap"))
        .map(|line| line.split(' ').nth(1).unwrap().parse::<u64>().unwrap());
    assert!(positions.is_sorted());
    house.publish(critical, line("25")).await;
    house.publish(low, line("25")).await;
    assert_eq!(
        drain(&mut reader),
        ["critical 101 25", "low 102 25"],
        "it is back in the present"
    );
}

#[tokio::test(start_paused = true)]
async fn a_burst_and_a_replay_reach_a_reader_whole() {
    let house = House::new(HubSettings {
        buffer_size: 10,
        ..settings()
    });
    let [low, ..] = ladder(&house);
    let mut reader = house.subscribe(&[low], Start::Latest);
    for n in 0..500 {
        house.hub.publish(low, line(n.to_string())).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(
        drain(&mut reader).len(),
        500,
        "it reads at once: it is not late"
    );
    tokio::time::sleep(Duration::from_secs(60)).await;
    let mut late = house.subscribe(&[low], Start::After(house.hub.position_of(100)));
    assert_eq!(drain(&mut late).len(), 400, "what it asks for is no lag");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_was_raised_is_not_dropped_with_its_channel() {
    #[derive(Debug)]
    struct Raised(Arc<dyn Source>);
    impl Source for Raised {
        fn name(&self, index: usize, dialect: Dialect) -> &str {
            self.0.name(index, dialect)
        }
        fn write_json(&self, index: usize, dialect: Dialect, out: &mut Vec<u8>) {
            self.0.write_json(index, dialect, out);
        }
        fn tags(&self, index: usize) -> Tags<'_> {
            self.0.tags(index)
        }
        fn priority(&self) -> Priority {
            Priority::High
        }
        fn weight(&self) -> usize {
            self.0.weight()
        }
    }
    let house = House::new(HubSettings {
        buffer_size: 8,
        ..settings()
    });
    let [low, ..] = ladder(&house);
    let mut reader = house.subscribe(&[low], Start::Latest);
    for n in 0..20 {
        let event = line(n.to_string());
        house
            .publish(
                low,
                if n == 3 {
                    Arc::new(Raised(event))
                } else {
                    event
                },
            )
            .await;
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    let lines = drain(&mut reader);
    assert_eq!(
        lines[..2],
        ["low 0 3".to_owned(), "gap low 12 Lagged".to_owned()]
    );
    assert_eq!(numbers(&lines, "low"), [3, 13, 14, 15, 16, 17, 18, 19]);
}

#[tokio::test(start_paused = true)]
async fn a_gap_through_a_filter_counts_nothing_from_before_the_readers_position() {
    let house = House::new(HubSettings {
        replay_capacity: 3,
        ..settings()
    });
    let a = house.stream("a");
    let filtered = ViewSpec {
        filter: Filter {
            user: Some("x".into()),
            ..Filter::default()
        },
        ..spec(&[a])
    };
    // Its view stands where it was made: nothing has passed since.
    let _first = house.hub.subscribe(filtered.clone(), Start::Latest);
    for _ in 0..10 {
        house.publish(a, line("y")).await;
    }
    let mut late = house.hub.subscribe(filtered, Start::Latest).unwrap();
    assert_eq!(late.position().seq, 10);
    for text in ["x", "y", "y", "y", "x"] {
        house.publish(a, line(text)).await;
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(drain(&mut late), ["gap a 2 Lagged", "a 15 x"]);
}
