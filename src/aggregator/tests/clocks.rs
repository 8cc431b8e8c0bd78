//! Windows under clocks that do what clocks do: idle hours, steps forwards and back, a machine that was suspended.

use proptest::{collection::vec, prelude::*};

use super::*;

#[derive(Clone, Debug)]
enum Happens {
    Requests(usize),
    /// Time passes, and the process looks once at its end: milliseconds.
    Passes(u64),
    /// The wall clock moves against the monotonic one, by so many milliseconds: set right, set wrong, or the machine
    /// was asleep.
    Steps(i64),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        6 => (1usize..5).prop_map(Happens::Requests),
        6 => (0u64..12_000).prop_map(Happens::Passes),
        2 => (0u64..4_000_000).prop_map(Happens::Passes),
        1 => (0u64..100_000_000).prop_map(Happens::Passes),
        // Less than half a second is jitter.
        1 => (-499i64..499).prop_map(Happens::Steps),
        1 => (600i64..10_000).prop_map(Happens::Steps),
        1 => (600i64..30_000_000).prop_map(Happens::Steps),
        2 => (600i64..30_000_000).prop_map(|ms| Happens::Steps(-ms)),
    ]
}

/// How much earlier than its name says a window may begin: one of its slots.
fn slack_seconds(window: Window) -> u64 {
    match window {
        Window::OneMinute | Window::FiveMinutes => 10,
        Window::FifteenMinutes | Window::OneHour => 60,
        _ => 1_800,
    }
}

/// What the ladder's time should be, told in three lines.
#[derive(Debug)]
struct Ladder {
    now_us: u64,
    step_us: i64,
    /// The step that the ladder went along with: it follows forwards only.
    followed_us: i64,
}

impl Ladder {
    fn step(&mut self, by_us: i64) {
        self.step_us += by_us;
        let ahead = self.step_us - self.followed_us;
        if ahead >= 500_000 {
            self.now_us += ahead as u64;
            self.followed_us = self.step_us;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever the clocks do: a window has every request of its span, and none that is older than the span and one
    /// slot; wider windows have more; nothing is ever lost from the total; the process was there for as long as it ran.
    #[test]
    fn a_window_has_what_ended_in_it_whatever_the_clocks_do(steps in vec(happens(), 1..60)) {
        let mut house = House::new();
        let mut ladder = Ladder { now_us: house.unix_us, step_us: 0, followed_us: 0 };
        let mut ended: Vec<u64> = Vec::new();
        let mut ran_us = 0;
        for happens in &steps {
            match *happens {
                Happens::Requests(count) => {
                    house.finish_many(count);
                    ended.extend(std::iter::repeat_n(ladder.now_us, count));
                    house.pump();
                }
                Happens::Passes(ms) => {
                    ladder.now_us += ms * 1_000;
                    ran_us += ms * 1_000;
                    house.pass(ms as f64 / 1e3);
                }
                Happens::Steps(ms) => {
                    ladder.step(ms * 1_000);
                    house.step_us = ladder.step_us;
                    house.pump();
                }
            }
            let mut narrower = 0;
            for window in Window::ALL {
                let snapshot = house.snapshot(window);
                let total = snapshot.summary.total_requests;
                let within = |seconds: u64| {
                    let from = ladder.now_us - seconds * SECOND_US;
                    ended.iter().filter(|at| **at > from).count() as u64
                };
                let least = within(window.seconds());
                let most = within(window.seconds() + slack_seconds(window));
                prop_assert!(
                    (least..=most).contains(&total),
                    "{window}: {total}, not {least} to {most}, after {happens:?}"
                );
                prop_assert!(total >= narrower, "{window}: {total}, a narrower one has {narrower}");
                narrower = total;
                let lifetime = snapshot.summary.lifetime.as_ref().unwrap().total_requests;
                prop_assert_eq!(lifetime, ended.len() as u64);
                let covered = snapshot.summary.covered_seconds;
                let longest = (window.seconds() + slack_seconds(window)) as f64;
                prop_assert!((0.0..=longest).contains(&covered), "{window}: {covered} s");
                prop_assert!(covered <= ran_us as f64 / 1e6 + 0.001, "{window}: {covered} s of {ran_us} us");
                // The wall clock of the moment, give or take what is jitter.
                let wall = (house.unix_us as i64 + ladder.step_us) / SECOND_US as i64;
                let told = snapshot.summary.timestamp as i64;
                prop_assert!((told - wall).abs() <= 1, "{told} is not {wall}");
            }
        }
    }

    /// However the time between two looks is cut, the windows have the same.
    #[test]
    fn it_does_not_matter_how_often_one_looks(
        steps in vec((1usize..4, 0u64..400_000), 1..20), looks in 1u64..20
    ) {
        let mut seldom = House::new();
        let mut often = House::new();
        for (count, ms) in steps {
            for house in [&mut seldom, &mut often] {
                house.finish_many(count);
                house.pump();
            }
            seldom.pass(ms as f64 / 1e3);
            let before = often.unix_us;
            for look in 1..=looks {
                often.unix_us = before + ms * 1_000 * look / looks;
                often.pump();
            }
            often.unix_us = before + ms * 1_000;
            for window in Window::ALL {
                prop_assert_eq!(seldom.total(window), often.total(window), "{}", window);
                let [a, b] = [&mut seldom, &mut often].map(|house| house.snapshot(window).summary);
                prop_assert_eq!(a.covered_seconds, b.covered_seconds);
            }
        }
    }
}
