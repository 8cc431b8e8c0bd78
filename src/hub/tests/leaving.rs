//! Heartbeats, and the ways in which a reader ends.

use std::time::Duration;

use super::{super::*, *};

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

/// A reader with nothing to read stays for so many heartbeats.
async fn assert_hears_beats(house: &House, beats: usize) {
    let a = house.stream("a");
    let mut idle = house.subscribe(&[a], Start::Latest);
    let reading = tokio::spawn(async move {
        for _ in 0..beats {
            assert!(matches!(next(&mut idle).await, Read::Heartbeat(_)));
        }
    });
    reading.await.unwrap();
    assert_eq!(house.hub.stats().stalled, 0);
}

#[tokio::test(start_paused = true)]
async fn a_reader_with_nothing_to_read_is_never_taken_for_stuck() {
    let house = House::new(settings());
    assert_hears_beats(&house, 40).await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_is_not_taken_for_stuck_because_heartbeats_are_rarer_than_the_stall_timeout() {
    let house = House::new(HubSettings {
        heartbeat_interval: Duration::from_secs(50),
        ..settings()
    });
    assert_hears_beats(&house, 5).await;
}

#[tokio::test(start_paused = true)]
async fn time_in_which_the_process_stood_still_counts_for_no_reader() {
    let house = House::new(settings());
    let a = house.stream("a");
    let mut idle = house.subscribe(&[a], Start::Latest);
    // Woken, and not polled before the process stands still.
    let woken = house.subscribe(&[a], Start::Latest);
    house.publish(a, line("x")).await;
    assert_eq!(drain(&mut idle).len(), 1);
    for _ in 0..3 {
        tokio::time::advance(Duration::from_secs(3600)).await;
        tokio::task::yield_now().await;
        assert!(matches!(next(&mut idle).await, Read::Heartbeat(_)));
        assert_eq!((house.hub.active(), house.hub.stats().stalled), (2, 0));
    }
    // The time that went by is another matter.
    tokio::spawn(async move { while let Read::Heartbeat(_) = next(&mut idle).await {} });
    tokio::time::sleep(Duration::from_secs(22)).await;
    assert_eq!((house.hub.active(), house.hub.stats().stalled), (1, 1));
    assert_eq!(woken.reader().closing(), Some(CloseReason::Stalled));
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
    let fresh = || house.hub.subscribe(spec(&[a]), Start::Latest);
    drop(full);
    // Newcomers knock first, and all at once.
    for _ in 0..100 {
        assert_eq!(fresh().unwrap_err(), Refused::Full);
    }
    let mut back: Vec<_> = (0..99)
        .map(|_| house.subscribe(&[a], Start::After(place)))
        .collect();
    assert_eq!(fresh().unwrap_err(), Refused::Full);
    back.push(house.subscribe(&[a], Start::After(place)));
    assert_eq!(house.hub.active(), 100);
    drop(back);

    // Nobody comes this time: the places are anybody's after a while.
    tokio::time::sleep(Duration::from_secs(11)).await;
    let more: Vec<_> = (0..100).map(|_| fresh().unwrap()).collect();
    drop(more);
}

#[tokio::test(start_paused = true)]
async fn in_quiet_times_no_place_is_kept() {
    let house = House::new(HubSettings {
        max_clients: 100,
        ..settings()
    });
    let a = house.stream("a");
    let mut full: Vec<_> = (0..100)
        .map(|_| house.subscribe(&[a], Start::Latest))
        .collect();
    // Some come and go all the time, but never a tenth of them within seconds.
    for _ in 0..5 {
        full.truncate(98);
        full.push(house.subscribe(&[a], Start::Latest));
        full.push(house.subscribe(&[a], Start::Latest));
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
}
