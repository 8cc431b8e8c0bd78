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

/// An event that stands above others of its channel.
#[derive(Debug)]
struct Raised(Arc<dyn Source>, Priority);

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
        self.1
    }
    fn weight(&self) -> usize {
        self.0.weight()
    }
}

fn raised(event: Arc<dyn Source>, priority: Priority) -> Arc<dyn Source> {
    Arc::new(Raised(event, priority))
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
                match n {
                    3 => raised(event, Priority::High),
                    _ => event,
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
async fn a_readers_own_rate_spares_it_nothing_that_is_critical() {
    let house = House::new(settings());
    let [low, normal, _, alerts] = ladder(&house);
    let config = ChannelConfig::stream().priority(Priority::Critical);
    let vip = house.hub.channel("vip", config).unwrap();
    let mut reader = house.subscribe(&[low, normal, alerts, vip], Start::Latest);
    reader.limit_rate(std::num::NonZeroU32::MIN);
    for n in 0..10 {
        house.hub.publish(low, line(n.to_string())).unwrap();
        let critical = raised(line(n.to_string()), Priority::Critical);
        house.hub.publish(normal, critical).unwrap();
        let high = raised(line("99"), Priority::High);
        house.hub.publish(normal, high).unwrap();
        house.hub.publish(vip, line(n.to_string())).unwrap();
        house.hub.publish(alerts, line(n.to_string())).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let lines = drain(&mut reader);
    let expected: Vec<u64> = (0..10).collect();
    assert_eq!(numbers(&lines, "vip"), expected);
    assert_eq!(numbers(&lines, "critical"), expected);
    assert_eq!(numbers(&lines, "normal"), expected);
    // One of the others may pass; those that are merely high do not go beyond the rate.
    assert_eq!(lines[..2], ["gap normal 10 Rate", "gap low 9 Rate"]);
}

/// The first words of each line, without what it is padded with.
fn short(lines: &[String]) -> Vec<String> {
    let unpadded = |line: &String| line.trim_end_matches('.').to_owned();
    lines.iter().map(unpadded).collect()
}

fn large(n: u64) -> Arc<dyn Source> {
    line(format!("{n}{}", ".".repeat(59_000)))
}

fn roomy() -> HubSettings {
    HubSettings {
        replay_bytes: 16 << 20,
        ..settings()
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_critical_comes_first_where_a_reader_is_late_though_nothing_is_skipped() {
    let house = House::new(settings());
    let [_, normal, _, critical] = ladder(&house);
    let mut reader = house.subscribe(&[normal, critical], Start::Latest);
    for n in 1..=9 {
        let channel = if n % 4 == 0 { critical } else { normal };
        house.publish(channel, line(n.to_string())).await;
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    let told = drain(&mut reader);
    let expected = [
        "critical 0 4",
        "critical 0 8",
        "normal 1 1",
        "normal 2 2",
        "normal 3 3",
        "normal 5 5",
        "normal 6 6",
        "normal 7 7",
        "normal 9 9",
    ];
    assert_eq!(told, expected);
    assert_eq!(reader.position().seq, 9);

    // What overtakes nothing keeps its place, and its position.
    house.publish(critical, line("10")).await;
    house.publish(normal, line("11")).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(drain(&mut reader), ["critical 10 10", "normal 11 11"]);
}

#[tokio::test(start_paused = true)]
async fn a_few_large_events_are_as_far_behind_as_many_small_ones() {
    let house = House::new(roomy());
    let [low, normal, _, critical] = ladder(&house);
    let mut reader = house.subscribe(&[low, normal, critical], Start::Latest);
    for n in 1..=30 {
        house.publish(low, large(n)).await;
        house.publish(normal, large(n)).await;
    }
    house.publish(critical, line("now")).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    let told = short(&drain(&mut reader));
    assert_eq!(told[0], "critical 0 now");
    // 17 of them are a megabyte: two of low are kept, an eighth of it, and 15 of normal.
    assert_eq!(told[1..3], ["gap low 28 Lagged", "gap normal 15 Lagged"]);
    assert_eq!(numbers(&told, "low"), [29, 30]);
    assert_eq!(numbers(&told, "normal"), (16..=30).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn more_that_is_critical_than_one_turn_takes_comes_first_as_well() {
    let house = House::new(roomy());
    let [_, normal, _, critical] = ladder(&house);
    let mut reader = house.subscribe(&[normal, critical], Start::Latest);
    for n in 1..=8 {
        house.publish(normal, large(n)).await;
        house.publish(critical, large(n)).await;
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    let told = short(&drain(&mut reader));
    let expected = |name| (1..=8).map(move |n| format!("{name} {n}"));
    let told: Vec<_> = told
        .iter()
        .map(|line| {
            let mut words = line.split(' ');
            let (name, text) = (words.next().unwrap(), words.nth(1).unwrap());
            format!("{name} {text}")
        })
        .collect();
    let first_then_rest: Vec<_> = expected("critical").chain(expected("normal")).collect();
    assert_eq!(told, first_then_rest);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_closed_gets_what_is_critical_first() {
    let house = House::new(roomy());
    let [_, normal, _, critical] = ladder(&house);
    let mut readers = [0, 1, 2].map(|_| house.subscribe(&[normal, critical], Start::Latest));
    for n in 1..=30 {
        house.publish(normal, large(n)).await;
        if n % 10 == 0 {
            house.publish(critical, large(n)).await;
        }
    }
    // One has read nothing, one has begun, and one has read ahead what it was not handed yet.
    assert!(matches!(readers[1].try_read(), Some(Read::Events(_))));
    let limit = readers[2].view.head();
    house.hub.read_logs(&mut readers[2], limit);
    tokio::time::sleep(Duration::from_secs(1)).await;
    house.hub.drain(Duration::from_millis(500));
    tokio::time::sleep(Duration::from_millis(600)).await;
    for (begun, reader) in [0, 1, 0].into_iter().zip(&mut readers) {
        let told = short(&drain(reader));
        let before = begun;
        let mut expected: Vec<_> = [10, 20, 30]
            .map(|n| format!("critical {before} {n}"))
            .into();
        expected.extend((1..=4).map(|n| format!("normal {} {}", begun + n, begun + n)));
        expected.push("closed shutdown".to_owned());
        assert_eq!(told, expected);
        // What it did not get lies behind where it stands.
        assert_eq!(reader.position().seq, begun + 4);
    }
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
