use proptest::{collection::vec, prelude::*};

use super::*;

fn play(house: &mut House, steps: &[(u64, u8)], mut looks: impl FnMut(&mut House)) {
    for &(pause_ms, label) in steps {
        house.unix_us += pause_ms * 1_000;
        house.finish(|collector, record| {
            let labels = collector.labels();
            record.route = labels.route.intern(&format!("route-{label}"));
            record.provider = labels.provider.intern(&format!("provider-{}", label % 3));
            record.user = labels.user.intern(&format!("user-{label}"));
            record.latency_us = u64::from(label) * 7_000 + pause_ms;
        });
        house.pump();
        looks(house);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whoever looks often, and so gets sums that were kept, extended and prepared, sees what somebody sees who has
    /// never looked before.
    #[test]
    fn a_kept_window_reads_as_a_new_one(
        steps in vec((prop_oneof![8 => 0u64..9_000, 1 => 9_000u64..200_000, 1 => Just(4_000_000)], 1u8..9), 1..120),
        looks in vec((0usize..5, 0usize..4), 120),
    ) {
        let settings = Settings { max_users: 4, ..Settings::default() };
        let mut often = House::with(settings.clone(), Limits::default());
        let mut once = House::with(settings, Limits::default());
        let mut turn = 0;
        play(&mut often, &steps, |house| {
            let (window, times) = looks[turn];
            turn += 1;
            for _ in 0..times * 3 {
                house.state.ladder.prepare();
            }
            house.snapshot(Window::ALL[window]);
        });
        once.clock = often.clock;
        play(&mut once, &steps, |_| ());
        for window in Window::ALL {
            for house in [&mut often, &mut once] {
                // Two houses begin a moment apart.
                house.unix_us = house.unix_us / SECOND_US * SECOND_US;
            }
            let rows = |house: &mut House| {
                let mut snapshot = house.snapshot(window);
                snapshot.summary.recorded = None;
                serde_json::to_value(&snapshot).unwrap()
            };
            prop_assert_eq!(rows(&mut often), rows(&mut once));
        }
    }
}

/// As many turns as the task has before the next slot of ten seconds closes; in the last one nothing is left to do.
fn turns(house: &mut House) {
    for _ in 0..95 {
        for _ in 0..house.state.ladder.slots_a_turn() {
            if !house.state.ladder.prepare() {
                return;
            }
        }
    }
    panic!("ten seconds are too short to prepare all windows");
}

/// What a read adds up: the slot that has closed since the last turn, whichever window it is, whether or not anybody
/// has ever asked for it, and however short or long its slots are.
#[test]
fn no_window_has_to_be_put_together_by_its_reader() {
    for seconds in [10, 60, 300] {
        let mut house = House::with(
            Settings {
                window_size: std::time::Duration::from_secs(seconds),
                ..Settings::default()
            },
            Limits::default(),
        );
        // A day, so that the longest window has all of its slots.
        for _ in 0..24 * 12 {
            house.finish_many(1);
            house.pass(300.0);
        }
        let mut asked = 0;
        for step in 0..400 {
            turns(&mut house);
            house.finish_many(1);
            house.pass(10.0);
            // Each window once in a while: nobody has asked for it for minutes.
            let window = Window::ALL[step / 40 % 5];
            if step % 40 == 39 {
                let before = house.state.ladder.additions();
                house.snapshot(window);
                let added = house.state.ladder.additions() - before;
                assert!(added <= 1, "{added} slots added up for {window}");
                asked += 1;
            }
        }
        assert_eq!(asked, 10);
        turns(&mut house);
        // A whole hour in slots of ten seconds, of which the aggregator has seen none.
        assert!(house.total(Window::OneHour) >= 350);
    }
}

/// What comes after a pause is put together a slot at a time, so that nobody has the lock for all of it.
#[test]
fn after_a_pause_a_window_is_gathered_slot_by_slot() {
    let mut house = House::new();
    for _ in 0..60 {
        house.finish_many(1);
        house.pass(60.0);
    }
    house.pass(300.0);
    let before = house.state.ladder.additions();
    let mut calls = 0;
    while house.state.ladder.gather(Window::OneHour) {
        calls += 1;
    }
    assert_eq!(house.state.ladder.additions() - before, calls);
    assert!(calls > 50, "{calls}");
    let gathered = house.state.ladder.additions();
    house.snapshot(Window::OneHour);
    assert_eq!(house.state.ladder.additions(), gathered);
}

#[test]
fn a_window_without_requests_leaves_nothing_to_prepare() {
    let mut house = House::new();
    house.pass(7_200.0);
    turns(&mut house);
    assert!(!house.state.ladder.prepare());
}
