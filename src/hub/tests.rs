//! What the hub promises, on paused time.

use std::{future::poll_fn, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{read::Verdict, *};

/// An event that is its own JSON.
#[derive(Debug)]
struct Line {
    texts: Vec<String>,
    key: String,
    tenant: Option<String>,
}

impl Source for Line {
    fn len(&self) -> usize {
        self.texts.len()
    }
    fn name(&self, _: usize, _: Dialect) -> &str {
        "line"
    }
    fn write_json(&self, index: usize, _: Dialect, out: &mut Vec<u8>) {
        out.extend_from_slice(self.texts[index].as_bytes());
    }
    fn tags(&self, index: usize) -> Tags<'_> {
        Tags {
            kind: "line",
            user: Some(&self.texts[index]),
            tenant: self.tenant.as_deref(),
            ..Tags::default()
        }
    }
    fn key(&self, _: usize) -> &str {
        &self.key
    }
    fn weight(&self) -> usize {
        self.texts.iter().map(String::len).sum()
    }
}

pub(super) fn line(text: impl Into<String>) -> Arc<dyn Source> {
    Arc::new(Line {
        texts: vec![text.into()],
        key: String::new(),
        tenant: None,
    })
}

fn batch(texts: &[&str]) -> Arc<dyn Source> {
    Arc::new(Line {
        texts: texts.iter().map(ToString::to_string).collect(),
        key: String::new(),
        tenant: None,
    })
}

/// `channel seq text` a line.
fn encode(frame: &Frame<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{} {} ", frame.channel, frame.position.seq).as_bytes());
    frame.source.write_json(frame.index, Dialect::Stream, out);
    out.push(b'\n');
}

pub(super) fn settings() -> HubSettings {
    HubSettings {
        replay_capacity: 1000,
        replay_bytes: 1 << 20,
        replay_age: Duration::from_secs(3600),
        inbox_capacity: 1 << 16,
        max_channels: 64,
        max_clients: 100,
        flush_interval: Duration::from_millis(20),
        heartbeat_interval: Duration::from_secs(15),
        stall_timeout: Duration::from_secs(20),
        buffer_size: 100,
        encoders: [encode; FORMS],
        compressor: None,
    }
}

pub(super) struct House {
    pub(super) hub: Arc<Hub>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl House {
    pub(super) fn new(settings: HubSettings) -> Self {
        let (hub, inbox) = Hub::new(settings, Clock::new());
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(hub.clone().run(inbox, shutdown.clone()));
        Self {
            hub,
            shutdown,
            task,
        }
    }

    pub(super) fn stream(&self, name: &str) -> ChannelId {
        self.hub.channel(name, ChannelConfig::stream()).unwrap()
    }

    pub(super) fn subscribe(&self, channels: &[ChannelId], start: Start) -> Subscription {
        self.hub.subscribe(spec(channels), start).unwrap()
    }

    /// Publishes, and waits until it is visible.
    pub(super) async fn publish(&self, channel: ChannelId, source: Arc<dyn Source>) -> u64 {
        let seq = self
            .hub
            .publish_and_wait(channel, source)
            .await
            .unwrap()
            .position
            .seq;
        while self.hub.visible_head() < seq {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        seq
    }
}

pub(super) fn spec(channels: &[ChannelId]) -> ViewSpec {
    ViewSpec {
        channels: ChannelSet::Some(channels.into()),
        filter: Filter::default(),
        tenant: None,
        form: Form(0),
    }
}

pub(super) async fn next(subscription: &mut Subscription) -> Read {
    let read = poll_fn(|cx| subscription.poll_read(cx));
    tokio::time::timeout(Duration::from_secs(60), read)
        .await
        .expect("nothing came for a minute")
        .expect("the subscription has ended")
}

/// Everything that is there now, as lines; gaps as `gap channel missed reason`.
pub(super) fn drain(subscription: &mut Subscription) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(read) = subscription.try_read() {
        match read {
            Read::Events(bytes) => {
                lines.extend(
                    std::str::from_utf8(&bytes)
                        .unwrap()
                        .lines()
                        .map(ToOwned::to_owned),
                );
            }
            Read::Gap(gap) => {
                let missed = gap
                    .missed
                    .map_or("?".to_owned(), |missed| missed.to_string());
                lines.push(format!("gap {} {missed} {:?}", gap.channel, gap.reason));
            }
            Read::Heartbeat(position) => lines.push(format!("beat {}", position.seq)),
            Read::Closed(reason) => {
                lines.push(format!("closed {}", reason.as_str()));
                break;
            }
        }
    }
    lines
}

#[tokio::test(start_paused = true)]
async fn replay_and_live_are_one_sequence() {
    let house = House::new(settings());
    let (a, b) = (house.stream("a"), house.stream("b"));
    for n in 1..=3 {
        house.publish(a, line(format!("a{n}"))).await;
        house.publish(b, line(format!("b{n}"))).await;
    }
    let from = house.hub.position_of(2);
    let mut reader = house.subscribe(&[a, b], Start::After(from));
    assert_eq!(reader.resume().verdict, Verdict::Full);
    assert_eq!(reader.resume().replayed, 4);
    house.publish(a, line("a4")).await;
    assert_eq!(
        drain(&mut reader),
        ["a 3 a2", "b 4 b2", "a 5 a3", "b 6 b3", "a 7 a4"]
    );
    assert_eq!(reader.position().seq, 7);
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_one_channel_moves_past_the_others() {
    let house = House::new(settings());
    let (a, b) = (house.stream("a"), house.stream("b"));
    let mut reader = house.subscribe(&[a], Start::Latest);
    for _ in 0..5 {
        house.publish(b, line("b")).await;
    }
    assert!(drain(&mut reader).is_empty());
    assert_eq!(
        reader.position().seq,
        5,
        "what is not for it still moves its position"
    );
    let mut again = house.subscribe(&[a, b], Start::After(reader.position()));
    assert_eq!(again.resume().replayed, 0);
    assert!(drain(&mut again).is_empty());
}

#[tokio::test(start_paused = true)]
async fn readers_at_the_same_place_share_one_chunk() {
    let house = House::new(settings());
    let a = house.stream("a");
    let mut readers: Vec<_> = (0..3)
        .map(|_| house.subscribe(&[a], Start::Latest))
        .collect();
    house.publish(a, batch(&["x", "y"])).await;
    let mut chunks = Vec::new();
    for reader in &mut readers {
        match next(reader).await {
            Read::Events(bytes) => chunks.push(bytes),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(chunks[0], "a 1 x\na 2 y\n");
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk.as_ptr() == chunks[0].as_ptr())
    );
}

#[tokio::test(start_paused = true)]
async fn what_comes_within_the_flush_interval_goes_out_together() {
    let house = House::new(settings());
    let a = house.stream("a");
    let mut reader = house.subscribe(&[a], Start::Latest);
    house.hub.publish(a, line("1")).unwrap();
    let Read::Events(first) = next(&mut reader).await else {
        panic!()
    };
    assert_eq!(first, "a 1 1\n", "the first after quiet goes out at once");
    for n in 2..=10 {
        house.hub.publish(a, line(n.to_string())).unwrap();
        tokio::task::yield_now().await;
    }
    let Read::Events(rest) = next(&mut reader).await else {
        panic!()
    };
    assert_eq!(
        rest.iter().filter(|byte| **byte == b'\n').count(),
        9,
        "{rest:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_log_let_go_is_a_gap_and_the_verdict_says_so() {
    let house = House::new(HubSettings {
        replay_capacity: 3,
        ..settings()
    });
    let (a, b) = (house.stream("a"), house.stream("b"));
    for n in 1..=6 {
        house.publish(a, line(n.to_string())).await;
    }
    house.publish(b, line("b")).await;
    let mut reader = house.subscribe(&[a, b], Start::After(house.hub.position_of(1)));
    assert_eq!(reader.resume().verdict, Verdict::Partial);
    assert_eq!(reader.resume().missed_channels, ["a"]);
    assert_eq!(
        drain(&mut reader),
        ["gap a 2 Evicted", "a 4 4", "a 5 5", "a 6 6", "b 7 b"]
    );
    let mut earliest = house.subscribe(&[a, b], Start::Earliest);
    assert_eq!(earliest.resume().verdict, Verdict::Full);
    assert_eq!(drain(&mut earliest), ["a 4 4", "a 5 5", "a 6 6", "b 7 b"]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_told_what_it_missed_and_goes_on() {
    let house = House::new(HubSettings {
        replay_capacity: 5,
        ..settings()
    });
    let a = house.stream("a");
    let mut reader = house.subscribe(&[a], Start::Latest);
    // More chunks than a view keeps, more events than the log keeps.
    for n in 1..=200 {
        house.publish(a, line(n.to_string())).await;
        tokio::time::advance(Duration::from_millis(30)).await;
    }
    let lines = drain(&mut reader);
    assert_eq!(lines[0], "gap a 195 Lagged");
    assert_eq!(
        lines[1..],
        (196..=200)
            .map(|n| format!("a {n} {n}"))
            .collect::<Vec<_>>()
    );
    house.publish(a, line("201")).await;
    assert_eq!(drain(&mut reader), ["a 201 201"]);
}

#[tokio::test(start_paused = true)]
async fn unknown_positions_are_lost_never_an_error() {
    let house = House::new(settings());
    let a = house.stream("a");
    house.publish(a, line("1")).await;
    let foreign = Position { epoch: 1, seq: 1 };
    let future = house.hub.position_of(99);
    for start in [Start::Unknown, Start::After(foreign), Start::After(future)] {
        let mut reader = house.subscribe(&[a], start);
        assert_eq!(reader.resume().verdict, Verdict::Lost, "{start:?}");
        assert_eq!(reader.resume().missed_channels, ["a"]);
        assert_eq!(drain(&mut reader), ["gap a ? Evicted"]);
        assert_eq!(reader.position().seq, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_so_many_and_the_last_so_long() {
    let house = House::new(settings());
    let (a, b) = (house.stream("a"), house.stream("b"));
    for n in 1..=4 {
        house
            .publish(a, batch(&[&format!("a{n}"), &format!("A{n}")]))
            .await;
        house.publish(b, line(format!("b{n}"))).await;
        tokio::time::advance(Duration::from_secs(60)).await;
    }
    let mut reader = house.subscribe(&[a, b], Start::Last(4));
    assert_eq!(
        drain(&mut reader),
        ["b 9 b3", "a 10 a4", "a 11 A4", "b 12 b4"]
    );
    let mut reader = house.subscribe(&[a, b], Start::Last(0));
    assert!(drain(&mut reader).is_empty());
    let mut reader = house.subscribe(&[b], Start::Ago(Duration::from_secs(150)));
    assert_eq!(drain(&mut reader), ["b 9 b3", "b 12 b4"]);
    let mut reader = house.subscribe(&[a], Start::Last(100));
    assert_eq!(drain(&mut reader).len(), 8);
}

#[tokio::test(start_paused = true)]
async fn state_is_shown_at_once_and_only_its_newest() {
    let house = House::new(settings());
    let state = house.hub.channel("state", ChannelConfig::state()).unwrap();
    let stream = house.stream("stream");
    for n in 1..=3 {
        house.publish(state, line(format!("s{n}"))).await;
    }
    house.publish(stream, line("e")).await;
    let mut fresh = house.subscribe(&[state, stream], Start::Latest);
    assert_eq!(
        drain(&mut fresh),
        ["state 4 s3"],
        "the snapshot carries the reader's own position"
    );
    let mut back = house.subscribe(&[state, stream], Start::After(house.hub.position_of(1)));
    assert_eq!(
        back.resume().verdict,
        Verdict::Full,
        "skipped state is no loss"
    );
    assert_eq!(drain(&mut back), ["state 3 s3", "stream 4 e"]);
}

#[tokio::test(start_paused = true)]
async fn filters_drop_events_inside_a_batch_and_still_move_the_cursor() {
    let house = House::new(settings());
    let a = house.stream("a");
    let wanted = |user: &str| ViewSpec {
        filter: Filter {
            user: Some(user.into()),
            ..Filter::default()
        },
        ..spec(&[a])
    };
    let mut x = house.hub.subscribe(wanted("x"), Start::Latest).unwrap();
    let mut nobody = house.hub.subscribe(wanted("z"), Start::Latest).unwrap();
    house.publish(a, batch(&["x", "y", "x", "y"])).await;
    house.publish(a, batch(&["y", "y", "x"])).await;
    assert_eq!(drain(&mut x), ["a 1 x", "a 3 x", "a 7 x"]);
    assert!(drain(&mut nobody).is_empty());
    assert_eq!(nobody.position().seq, 7);
    let mut late = house
        .hub
        .subscribe(wanted("x"), Start::After(house.hub.position_of(2)))
        .unwrap();
    assert_eq!(late.resume().replayed, 2);
    assert_eq!(drain(&mut late), ["a 3 x", "a 7 x"]);
}

#[tokio::test(start_paused = true)]
async fn a_tenants_reader_sees_its_own_events_only() {
    let house = House::new(settings());
    let a = house.stream("a");
    let of = |tenant: Option<&str>, text: &str| -> Arc<dyn Source> {
        Arc::new(Line {
            texts: vec![text.into()],
            key: String::new(),
            tenant: tenant.map(ToOwned::to_owned),
        })
    };
    let acme = ViewSpec {
        tenant: Some("acme".into()),
        ..spec(&[a])
    };
    let mut reader = house.hub.subscribe(acme, Start::Latest).unwrap();
    house.publish(a, of(Some("acme"), "ours")).await;
    house.publish(a, of(Some("other"), "theirs")).await;
    house.publish(a, of(None, "nobody's")).await;
    assert_eq!(drain(&mut reader), ["a 1 ours"]);
}

#[tokio::test(start_paused = true)]
async fn all_has_the_channels_that_come_later_but_no_hidden_ones() {
    let house = House::new(settings());
    let all = ViewSpec {
        channels: ChannelSet::All,
        ..spec(&[])
    };
    let mut reader = house.hub.subscribe(all, Start::Latest).unwrap();
    let late = house.stream("late");
    let hidden = house
        .hub
        .channel("stats?1m", ChannelConfig::state().hidden_as("stats"))
        .unwrap();
    house.publish(hidden, line("h")).await;
    house.publish(late, line("l")).await;
    assert_eq!(drain(&mut reader), ["late 2 l"]);
    assert_eq!(house.hub.channel_names(), ["late"]);
    assert_eq!(house.hub.stats().channels[0].subscribers, 1);
    drop(reader);
    assert_eq!(house.hub.stats().channels[0].subscribers, 0);
    assert_eq!(house.hub.stats().views, 0);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_come_on_time_with_the_readers_own_position() {
    let house = House::new(settings());
    let a = house.stream("a");
    house.publish(a, line("1")).await;
    let mut reader = house.subscribe(&[a], Start::Latest);
    let start = tokio::time::Instant::now();
    for beat in 1..=3u64 {
        let Read::Heartbeat(position) = next(&mut reader).await else {
            panic!()
        };
        assert_eq!(position.seq, 1);
        let late = start.elapsed() - Duration::from_secs(15 * beat);
        assert!(late <= Duration::from_secs(1), "{late:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_not_polled_is_let_go_and_frees_its_place() {
    let house = House::new(HubSettings {
        max_clients: 1,
        ..settings()
    });
    let a = house.stream("a");
    let mut stuck = house.subscribe(&[a], Start::Latest);
    assert_eq!(
        house.hub.subscribe(spec(&[a]), Start::Latest).unwrap_err(),
        Refused::Full
    );
    for n in 0..30 {
        house.publish(a, line(n.to_string())).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(house.hub.active(), 0);
    assert_eq!(house.hub.stats().stalled, 1);
    let _good = house.subscribe(&[a], Start::Latest);
    assert_eq!(drain(&mut stuck), ["closed stalled"]);
    drop(stuck);
    assert_eq!(house.hub.active(), 1, "it is not counted out twice");
}

#[tokio::test(start_paused = true)]
async fn a_reader_whose_socket_is_given_up_first_is_counted_as_stalled_as_well() {
    for (away, stalled) in [(3, 0), (8, 1)] {
        let house = House::new(settings());
        let a = house.stream("a");
        let mut reader = house.subscribe(&[a], Start::Latest);
        assert!(drain(&mut reader).is_empty());
        let patient = house.subscribe(&[a], Start::Latest);
        house.publish(a, line("1")).await;
        tokio::time::sleep(Duration::from_secs(away)).await;
        drop(reader);
        assert_eq!(house.hub.stats().stalled, stalled, "{away} s");
        drop(patient);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_with_nothing_to_read_is_never_taken_for_stuck() {
    let house = House::new(settings());
    let a = house.stream("a");
    let mut idle = house.subscribe(&[a], Start::Latest);
    let reading = tokio::spawn(async move {
        for _ in 0..40 {
            assert!(matches!(next(&mut idle).await, Read::Heartbeat(_)));
        }
    });
    reading.await.unwrap();
    assert_eq!(house.hub.stats().stalled, 0);
}

#[tokio::test(start_paused = true)]
async fn shutdown_shows_what_has_come_then_ends_every_reader_and_the_task() {
    let house = House::new(settings());
    let a = house.stream("a");
    let mut readers: Vec<_> = (0..10)
        .map(|_| house.subscribe(&[a], Start::Latest))
        .collect();
    house.hub.publish(a, line("last words")).unwrap();
    house.shutdown.cancel();
    house.task.await.unwrap();
    for reader in &mut readers {
        assert_eq!(drain(reader), ["a 1 last words", "closed shutdown"]);
        assert!(poll_fn(|cx| reader.poll_read(cx)).await.is_none());
    }
    assert!(house.hub.publish(a, line("late")).unwrap_err().is_closed());
    assert_eq!(
        house.hub.subscribe(spec(&[a]), Start::Latest).unwrap_err(),
        Refused::Closed
    );
    readers.clear();
    tokio::time::timeout(Duration::from_secs(1), house.hub.deserted())
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_drain_closes_an_even_share_in_every_tick() {
    let house = House::new(HubSettings {
        max_clients: 2000,
        ..settings()
    });
    let a = house.stream("a");
    let readers: Vec<_> = (0..1000)
        .map(|_| house.subscribe(&[a], Start::Latest))
        .collect();
    house.hub.drain(Duration::from_secs(10));
    let closed = || {
        readers
            .iter()
            .filter(|reader| reader.reader.closing().is_some())
            .count()
    };
    let mut before = 0;
    for slot in 0..99 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = closed();
        assert!(now - before <= 12, "slot {slot} closed {}", now - before);
        before = now;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(closed(), 1000);
}

#[tokio::test(start_paused = true)]
async fn a_full_inbox_refuses_and_counts() {
    let (hub, _inbox) = Hub::new(
        HubSettings {
            inbox_capacity: 2,
            ..settings()
        },
        Clock::new(),
    );
    let a = hub.channel("a", ChannelConfig::stream()).unwrap();
    hub.publish(a, line("1")).unwrap();
    hub.publish(a, line("2")).unwrap();
    assert!(hub.publish(a, line("3")).unwrap_err().is_full());
    assert_eq!(hub.stats().refused, 1);
}

#[tokio::test(start_paused = true)]
async fn a_large_backlog_comes_in_bounded_chunks_in_order() {
    let house = House::new(HubSettings {
        replay_bytes: 64 << 20,
        ..settings()
    });
    let a = house.stream("a");
    let long = "x".repeat(30_000);
    let texts: Vec<_> = (0..100).map(|n| format!("{n}-{long}")).collect();
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    let mut live = house.subscribe(&[a], Start::Latest);
    house.publish(a, batch(&texts)).await;
    let mut late = house.subscribe(&[a], Start::Earliest);
    for reader in [&mut live, &mut late] {
        let mut seen = 0;
        while seen < 100 {
            let Read::Events(bytes) = next(reader).await else {
                panic!()
            };
            assert!(bytes.len() <= packed::MAX_CHUNK_BYTES, "{}", bytes.len());
            for line in std::str::from_utf8(&bytes).unwrap().lines() {
                seen += 1;
                assert!(line.starts_with(&format!("a {seen} {}-", seen - 1)));
            }
        }
    }
}

fn state(house: &House, name: &str) -> ChannelId {
    house.hub.channel(name, ChannelConfig::state()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_a_reader_reads_can_change_without_loss_or_repeat() {
    let house = House::new(settings());
    let (a, b, c) = (house.stream("a"), house.stream("b"), state(&house, "c"));
    house.publish(c, line("now")).await;
    let mut reader = house.subscribe(&[a], Start::Latest);
    house.publish(a, line("1")).await;
    house.publish(b, line("unread")).await;
    assert_eq!(drain(&mut reader), ["a 2 1"]);
    reader.retarget(spec(&[a, b, c]));
    // The snapshot comes with the reader's own position; what b had before is over.
    assert_eq!(drain(&mut reader), ["c 3 now"]);
    house.publish(a, line("2")).await;
    house.publish(b, line("3")).await;
    reader.retarget(spec(&[b, c]));
    assert_eq!(
        drain(&mut reader),
        ["b 5 3"],
        "a was taken away before it was handed over"
    );
    house.publish(a, line("4")).await;
    house.publish(b, line("5")).await;
    assert_eq!(drain(&mut reader), ["b 7 5"]);
    reader.retarget(spec(&[]));
    house.publish(b, line("6")).await;
    assert_eq!(drain(&mut reader), [""; 0]);
    // Not polled meanwhile: what was published before it came back is not its own.
    house.publish(b, line("7")).await;
    reader.retarget(spec(&[b]));
    assert_eq!(drain(&mut reader), [""; 0]);
    house.publish(b, line("8")).await;
    assert_eq!(drain(&mut reader), ["b 10 8"]);
    let readers = |id| {
        house
            .hub
            .channel_info(id)
            .unwrap()
            .readers
            .load(Ordering::Relaxed)
    };
    assert_eq!([readers(a), readers(b), readers(c)], [0, 1, 0]);
    drop(reader);
    assert_eq!([readers(a), readers(b), readers(c)], [0, 0, 0]);
    assert_eq!((house.hub.active(), house.hub.stats().views), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_change_in_the_middle_of_a_replay_loses_and_repeats_nothing() {
    let mut small = settings();
    small.replay_capacity = 10;
    let house = House::new(small);
    let (a, b) = (house.stream("a"), house.stream("b"));
    let start = house.hub.position();
    for n in 0..15 {
        house
            .publish(a, line(format!("{n}{}", "x".repeat(20_000))))
            .await;
        house.publish(b, line(n.to_string())).await;
    }
    let mut reader = house.subscribe(&[a], Start::After(start));
    let told = |read: Option<Read>| match read {
        Some(Read::Events(bytes)) => {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            text.lines()
                .map(|line| line.trim_end_matches('x').to_owned())
                .collect()
        }
        Some(Read::Gap(gap)) => vec![format!("gap {} {:?}", gap.channel, gap.missed)],
        None => vec![],
        other => panic!("{other:?}"),
    };
    let mut lines = told(reader.try_read());
    assert_eq!(lines, ["gap a Some(5)"]);
    reader.retarget(spec(&[a, b]));
    loop {
        let more = told(reader.try_read());
        if more.is_empty() {
            break;
        }
        lines.extend(more);
    }
    let of = |channel: &str| -> Vec<&str> {
        lines
            .iter()
            .filter(|line| line.split(' ').next() == Some(channel))
            .map(|line| line.rsplit(' ').next().unwrap())
            .collect()
    };
    let held = ["5", "6", "7", "8", "9", "10", "11", "12", "13", "14"];
    assert_eq!(of("a"), held);
    assert_eq!(of("b"), held);
    assert_eq!(
        of("gap"),
        ["Some(5)"],
        "told once, and not for a channel that was not read"
    );
    drop(house);
}

#[tokio::test(start_paused = true)]
async fn a_reader_can_begin_again_elsewhere() {
    let house = House::new(settings());
    let a = house.stream("a");
    let start = house.hub.position();
    let mut reader = house.subscribe(&[a], Start::Latest);
    house.publish(a, line("1")).await;
    assert_eq!(drain(&mut reader), ["a 1 1"]);
    reader.restart(spec(&[a]), Start::After(start));
    assert_eq!(
        (reader.resume().verdict, reader.resume().replayed),
        (Verdict::Full, 1)
    );
    assert_eq!(drain(&mut reader), ["a 1 1"]);
    reader.restart(spec(&[a]), Start::Unknown);
    assert_eq!(reader.resume().verdict, Verdict::Lost);
    assert_eq!(drain(&mut reader), ["gap a ? Evicted"]);
    house.publish(a, line("2")).await;
    assert_eq!(drain(&mut reader), ["a 2 2"]);
}

#[tokio::test(start_paused = true)]
async fn one_that_was_taken_out_stays_out_wherever_it_goes() {
    let house = House::new(settings());
    let (a, b) = (house.stream("a"), house.stream("b"));
    let mut reader = house.subscribe(&[a], Start::Latest);
    let (view, shared) = (reader.view.clone(), reader.reader.clone());
    reader.retarget(spec(&[b]));
    // The sweep had seen it in its former view.
    house.hub.leave(&view, &shared);
    assert_eq!(house.hub.active(), 1);
    let view = reader.view.clone();
    house.hub.leave(&view, &shared);
    reader.retarget(spec(&[a]));
    drop(reader);
    assert_eq!((house.hub.active(), house.hub.stats().views), (0, 0));
}

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
async fn places_are_kept_for_those_who_come_back_after_a_storm() {
    let house = House::new(HubSettings {
        max_clients: 100,
        ..settings()
    });
    let a = house.stream("a");
    let full: Vec<_> = (0..100)
        .map(|_| house.subscribe(&[a], Start::Latest))
        .collect();
    assert_eq!(
        house.hub.subscribe(spec(&[a]), Start::Latest).unwrap_err(),
        Refused::Full
    );
    let place = full[0].position();
    drop(full);
    let fresh: Vec<_> = (0..95)
        .map(|_| house.subscribe(&[a], Start::Latest))
        .collect();
    assert_eq!(
        house.hub.subscribe(spec(&[a]), Start::Latest).unwrap_err(),
        Refused::Full
    );
    let back: Vec<_> = (0..5)
        .map(|_| house.subscribe(&[a], Start::After(place)))
        .collect();
    assert_eq!(
        house
            .hub
            .subscribe(spec(&[a]), Start::After(place))
            .unwrap_err(),
        Refused::Full
    );
    drop(back);
    tokio::time::sleep(Duration::from_secs(11)).await;
    let _more: Vec<_> = (0..5)
        .map(|_| house.subscribe(&[a], Start::Latest))
        .collect();
    drop(fresh);
}

#[tokio::test(start_paused = true)]
async fn what_a_reader_has_read_and_not_handed_over_is_not_told() {
    let house = House::new(settings());
    let a = house.stream("a");
    for n in 0..4 {
        house
            .publish(a, line(format!("{n}{}", ".".repeat(60_000))))
            .await;
    }
    house.publish(a, line("last")).await;
    let mut reader = house.subscribe(&[a], Start::Earliest);
    // From the logs, and larger than one write.
    reader.limit_rate(std::num::NonZeroU32::MAX);
    let told = |reader: &Subscription| reader.reader().told.load(crate::sync::Ordering::Relaxed);
    assert_eq!(told(&reader), 0);
    let mut read_ahead = false;
    for _ in 1..=5 {
        assert!(matches!(reader.try_read(), Some(Read::Events(_))));
        assert_eq!(told(&reader), reader.position().seq);
        read_ahead |= reader.cursor > told(&reader);
        if reader.position().seq == 5 {
            break;
        }
    }
    assert!(read_ahead, "nothing waited");
    assert!(reader.try_read().is_none());
    assert_eq!(told(&reader), 5);
}
