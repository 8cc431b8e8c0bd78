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
            for _ in 0..times {
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

/// What a slot's end costs its first reader: the slots that have closed, not all of the window.
#[test]
fn a_window_that_is_read_is_prepared_before_its_slot_closes() {
    let mut house = House::new();
    for _ in 0..90 {
        house.finish_many(1);
        house.pass(60.0);
        house.snapshot(Window::OneHour);
        for _ in 0..20 {
            house.state.ladder.prepare();
        }
    }
    let before = house.state.ladder.additions();
    // The window moves on, and ten seconds later its newest slot can't change any more.
    for seconds in [60.0, 10.0] {
        house.pass(seconds);
        assert_eq!(house.total(Window::OneHour), 59);
    }
    // The one that has closed since the last look, and the one that has closed now.
    assert_eq!(house.state.ladder.additions() - before, 2);
}

#[test]
fn a_window_that_nobody_reads_is_not_prepared() {
    let mut house = House::new();
    house.snapshot(Window::OneHour);
    for _ in 0..10 {
        house.finish_many(1);
        house.pass(60.0);
    }
    let before = house.state.ladder.additions();
    for _ in 0..100 {
        house.state.ladder.prepare();
    }
    assert_eq!(house.state.ladder.additions(), before);
}
