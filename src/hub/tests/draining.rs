//! The end, over a while.

use std::time::Duration;

use super::{super::*, *};

fn closed(readers: &[Subscription]) -> usize {
    let is_closed = |reader: &&Subscription| reader.reader.closing().is_some();
    readers.iter().filter(is_closed).count()
}

/// A thousand readers, and a drain over ten seconds.
fn many() -> (House, ChannelId, Vec<Subscription>) {
    let house = House::new(HubSettings {
        max_clients: 2000,
        ..settings()
    });
    let a = house.stream("a");
    let readers = (0..1000).map(|_| house.subscribe(&[a], Start::Latest));
    let readers = readers.collect();
    house.hub.drain(Duration::from_secs(10));
    (house, a, readers)
}

#[tokio::test(start_paused = true)]
async fn a_drain_closes_an_even_share_in_every_tick() {
    let (house, _, readers) = many();
    let mut before = 0;
    for slot in 0..99 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = closed(&readers);
        assert!(now - before <= 12, "slot {slot} closed {}", now - before);
        before = now;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(closed(&readers), 1000);
    house.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_the_process_stood_still_is_not_made_up_for_in_one_tick() {
    let (house, _, readers) = many();
    let mut before = 0;
    for slot in 0..120 {
        if slot == 30 || slot == 60 {
            tokio::time::advance(Duration::from_secs(3600)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = closed(&readers);
        assert!(now - before <= 14, "slot {slot} closed {}", now - before);
        before = now;
    }
    assert_eq!(before, 1000, "the window is longer by that, and ends");
    house.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_drain_goes_on_evenly_while_events_come() {
    let (house, a, readers) = many();
    let mut before = 0;
    for slot in 0..99 {
        for _ in 0..100 {
            house.hub.publish(a, line("x")).unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let now = closed(&readers);
        let share = now - before;
        assert!((8..=12).contains(&share), "slot {slot} closed {share}");
        before = now;
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_are_still_there_are_told_what_comes() {
    let house = House::new(settings());
    let (a, b) = (house.stream("a"), house.stream("b"));
    let mut readers = [(); 2].map(|()| house.subscribe(&[a, b], Start::Latest));
    house.hub.drain(Duration::from_secs(6));
    assert!(house.hub.is_draining());
    assert_eq!(
        house.hub.subscribe(spec(&[a]), Start::Latest).unwrap_err(),
        Refused::Closed,
        "before anything else has happened"
    );
    let mut told = [Vec::new(), Vec::new()];
    let mut read = || {
        for (reader, told) in readers.iter_mut().zip(&mut told) {
            if !reader.ended {
                told.extend(drain(reader));
            }
        }
    };
    for n in 0..6 {
        // In the middle of each second.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let published = house.hub.publish_and_wait(a, line(n.to_string())).await;
        assert_eq!(published.unwrap().readers, 2);
        tokio::time::sleep(Duration::from_millis(500)).await;
        read();
    }
    house.hub.publish(b, line("6")).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(house.hub.publish(b, line("7")).unwrap_err().is_closed());
    read();
    let all = [
        "a 1 0", "a 2 1", "a 3 2", "a 4 3", "a 5 4", "a 6 5", "b 7 6",
    ];
    // One was closed in the middle, and came a little later.
    assert_eq!(told[0], [&all[..4], &["closed shutdown"]].concat());
    assert_eq!(told[1], [&all[..], &["closed shutdown"]].concat());
    house.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_full_inbox_does_not_make_a_drain_an_end() {
    let house = House::new(HubSettings {
        inbox_capacity: 4,
        ..settings()
    });
    let a = house.stream("a");
    let mut readers = [(); 2].map(|()| house.subscribe(&[a], Start::Latest));
    while house.hub.publish(a, line("x")).is_ok() {}
    house.hub.drain(Duration::from_secs(2));
    tokio::time::sleep(Duration::from_millis(900)).await;
    for reader in &mut readers {
        assert_eq!(drain(reader).len(), 4);
    }
    assert_eq!(closed(&readers), 0);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(closed(&readers), 1);
    tokio::time::sleep(Duration::from_millis(1000)).await;
    assert_eq!(closed(&readers), 2);
    house.task.await.unwrap();
}
