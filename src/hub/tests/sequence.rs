//! One sequence: what is replayed, what is live, and what is missing of it.

use std::time::Duration;

use super::{
    super::{read::Verdict, *},
    *,
};

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
    assert!(hub.publish(a, batch(&["4", "5", "6"])).is_err());
    assert_eq!(hub.stats().refused, 4, "events, as `published` counts them");
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

#[tokio::test(start_paused = true)]
async fn what_a_reader_has_read_and_not_handed_over_is_not_told() {
    let house = House::new(settings());
    let a = house.stream("a");
    // Read as one, and larger than one write.
    let text = ".".repeat(30_000);
    house.publish(a, batch(&[text.as_str(); 4])).await;
    house.publish(a, line("last")).await;
    let mut reader = house.subscribe(&[a], Start::Earliest);
    // From the logs.
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
