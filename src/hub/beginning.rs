//! Beginning: where in the sequence a subscription begins that asks for what has been.
//!
//! A window that reaches back to what the logs have let go begins there all the same: what is missing of it is reported
//! like what is missing behind a position.

use std::collections::VecDeque;

use super::{
    Start, State, channel::ChannelId, log::StreamLog, packed::Item, read::Verdict, spec::ViewSpec,
};

/// Where a subscription begins.
pub(super) struct Begin {
    pub(super) cursor: u64,
    pub(super) verdict: Verdict,
    /// Evictions up to these places are no loss for a reader that asked for what there is.
    pub(super) floors: Vec<(ChannelId, u64)>,
    /// It asked for more than there is that passes its filter: what was let go may have been the rest.
    pub(super) reaches_back: bool,
}

impl State {
    pub(super) fn begin(&self, spec: &ViewSpec, start: Start, epoch: u64, now_us: u64) -> Begin {
        let streams = || {
            let wanted = self
                .channels
                .iter()
                .filter(|channel| spec.wants(&channel.info));
            wanted.filter_map(|channel| Some((channel.info.id, channel.log.as_stream()?)))
        };
        let at = |cursor, verdict| Begin {
            cursor,
            verdict,
            floors: Vec::new(),
            reaches_back: false,
        };
        let before = |first: Option<u64>| first.map_or(self.last_seq, |first| first - 1);
        let let_go = || {
            let through = streams().map(|(id, log)| (id, log.evicted_through()));
            through.collect()
        };
        match start {
            Start::Latest => at(self.last_seq, Verdict::Fresh),
            Start::Unknown => at(self.last_seq, Verdict::Lost),
            Start::After(position) if position.epoch == epoch && position.seq <= self.last_seq => {
                at(position.seq, Verdict::Full)
            }
            Start::After(_) => at(self.last_seq, Verdict::Lost),
            Start::Earliest => {
                let first = streams().filter_map(|(_, log)| log.first_seq()).min();
                Begin {
                    // All that it asks for is what is held.
                    floors: let_go(),
                    ..at(before(first), Verdict::Full)
                }
            }
            Start::Ago(ago) => {
                let since_us =
                    now_us.saturating_sub(u64::try_from(ago.as_micros()).unwrap_or(u64::MAX));
                let first = streams().filter_map(|(_, log)| log.first_since(since_us));
                let cursor = before(first.min());
                match streams().any(|(_, log)| log.has_evicted_since(since_us)) {
                    true => at(self.times.before(since_us).min(cursor), Verdict::Full),
                    false => at(cursor, Verdict::Full),
                }
            }
            Start::Last(count) if spec.filter.is_empty() && spec.tenant.is_none() => {
                let logs: Vec<_> = streams().map(|(_, log)| log).collect();
                at(self.before_last(u64::from(count), &logs), Verdict::Full)
            }
            Start::Last(count) => {
                let count = count as usize;
                // The numbers of each log's newest that pass. Each entry is looked at once: this is under the hub's
                // lock.
                let mut newest: Vec<u64> = Vec::new();
                let mut items = VecDeque::new();
                for (_, log) in streams() {
                    let enough = newest.len().saturating_add(count);
                    for entry in log.newest_first() {
                        if newest.len() >= enough {
                            break;
                        }
                        spec.select(entry, 0..entry.len, &mut items);
                        for Item { entry, range } in items.drain(..) {
                            newest.extend(range.map(|index| entry.first + u64::from(index)));
                        }
                    }
                }
                let older = newest.len().saturating_sub(count);
                let first = match older < newest.len() {
                    true => Some(*newest.select_nth_unstable(older).1),
                    false => None,
                };
                let begin = at(before(first), Verdict::Full);
                match newest.len() < count {
                    true => Begin {
                        reaches_back: true,
                        floors: let_go(),
                        ..begin
                    },
                    false => begin,
                }
            }
        }
    }

    /// Behind which number the last `count` events of these logs are, with those that were let go.
    fn before_last(&self, count: u64, logs: &[&StreamLog]) -> u64 {
        let after = |seq| -> u64 {
            let of = |log: &&StreamLog| log.held_after(seq) + log.missed(seq, self.last_seq);
            logs.iter().map(of).sum()
        };
        // From each number to the next it falls by one at most.
        let count = count.min(after(0));
        let (mut low, mut high) = (0, self.last_seq);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            match after(middle) >= count {
                true => low = middle,
                false => high = middle - 1,
            }
        }
        low
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::super::{
        Filter, HubSettings, Start,
        read::Verdict,
        spec::LOOKED_AT,
        tests::{House, drain, line, settings, spec},
    };

    /// Two channels that hold three events each; `a` has had 10 in turn with 2 of `b`, just over a second apart.
    async fn house() -> (House, [super::ChannelId; 2]) {
        let house = House::new(HubSettings {
            replay_capacity: 3,
            ..settings()
        });
        let (a, b) = (house.stream("a"), house.stream("b"));
        for n in 1..=12 {
            let channel = if n % 6 == 0 { b } else { a };
            house.publish(channel, line(n.to_string())).await;
            tokio::time::sleep(Duration::from_millis(1050)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        (house, [a, b])
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_so_many_count_those_that_were_let_go() {
        let (house, channels) = house().await;
        let held = ["b 6 6", "a 9 9", "a 10 10", "a 11 11", "b 12 12"];
        for (count, verdict, gap, from) in [
            (0, Verdict::Full, None, 5),
            (3, Verdict::Full, None, 2),
            (4, Verdict::Full, None, 1),
            (5, Verdict::Partial, Some("gap a 1 Evicted"), 1),
            (7, Verdict::Partial, Some("gap a 2 Evicted"), 0),
            (12, Verdict::Partial, Some("gap a 7 Evicted"), 0),
            (5000, Verdict::Partial, Some("gap a 7 Evicted"), 0),
        ] {
            let mut reader = house.subscribe(&channels, Start::Last(count));
            assert_eq!(reader.resume().verdict, verdict, "{count}");
            let mut told = drain(&mut reader);
            if let Some(gap) = gap {
                assert_eq!(told.remove(0), gap, "{count}");
            }
            assert_eq!(told, held[from..], "{count}");
            assert_eq!(reader.resume().replayed, told.len() as u64, "{count}");
        }
        // Nothing was let go of `b`.
        let mut reader = house.subscribe(&channels[1..], Start::Last(5000));
        assert_eq!(reader.resume().verdict, Verdict::Full);
        assert_eq!(drain(&mut reader), ["b 6 6", "b 12 12"]);
    }

    #[tokio::test(start_paused = true)]
    async fn through_a_filter_nobody_knows_how_many() {
        let (house, channels) = house().await;
        let mut filtered = spec(&channels);
        filtered.filter = Filter {
            user: Some("10".into()),
            ..Filter::default()
        };
        let begin = |start| house.hub.subscribe(filtered.clone(), start).unwrap();
        let mut reader = begin(Start::Last(2));
        assert_eq!(reader.resume().verdict, Verdict::Partial);
        assert_eq!(reader.resume().missed_channels, ["a"]);
        assert_eq!(drain(&mut reader), ["gap a ? Evicted", "a 10 10"]);
        let mut reader = begin(Start::Last(1));
        assert_eq!(reader.resume().verdict, Verdict::Full);
        assert_eq!(drain(&mut reader), ["a 10 10"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_filtered_count_looks_at_each_event_once() {
        let events = 2_000;
        let house = House::new(HubSettings {
            replay_capacity: events,
            ..settings()
        });
        let a = house.stream("a");
        for _ in 0..events {
            house.hub.publish(a, line("z")).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
        let mut filtered = spec(&[a]);
        filtered.filter = Filter {
            user: Some("z".into()),
            ..Filter::default()
        };
        let before = LOOKED_AT.get();
        let reader = house.hub.subscribe(filtered, Start::Last(u32::MAX));
        assert_eq!(reader.unwrap().resume().replayed, events as u64);
        let looked_at = LOOKED_AT.get() - before;
        // Once to find where to begin, once to count what will be replayed.
        assert!(looked_at <= 2 * events, "{looked_at} of {events} events");
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_so_long_says_what_was_let_go_of_it() {
        let (house, channels) = house().await;
        // The 12th was published one second and a half ago.
        for (seconds, verdict, missed) in [
            (1, Verdict::Full, None),
            (5, Verdict::Full, None),
            (6, Verdict::Partial, Some(1)),
            (7, Verdict::Partial, Some(2)),
            (8, Verdict::Partial, Some(2)),
            (9, Verdict::Partial, Some(3)),
            (3600, Verdict::Partial, Some(7)),
        ] {
            let ago = Duration::from_secs(seconds);
            let mut reader = house.subscribe(&channels, Start::Ago(ago));
            assert_eq!(reader.resume().verdict, verdict, "{ago:?}");
            let told = drain(&mut reader);
            let gap = missed.map(|missed| format!("gap a {missed} Evicted"));
            let first = told.first().filter(|told| told.starts_with("gap"));
            assert_eq!(first, gap.as_ref(), "{ago:?}: {told:?}");
        }
        // Longer than microseconds can be counted.
        let mut ever = house.subscribe(&channels, Start::Ago(Duration::from_secs(u64::MAX)));
        assert_eq!(drain(&mut ever)[0], "gap a 7 Evicted");
        let mut ever = house.subscribe(&channels, Start::parse("213503983d"));
        assert_eq!(drain(&mut ever)[0], "gap a 7 Evicted");
        let mut reader = house.subscribe(&channels[1..], Start::Ago(Duration::from_secs(60)));
        assert_eq!(reader.resume().verdict, Verdict::Full);
        assert_eq!(drain(&mut reader), ["b 6 6", "b 12 12"]);
        // What is held is all that the earliest can be.
        let earliest = house.subscribe(&channels, Start::Earliest);
        assert_eq!(earliest.resume().verdict, Verdict::Full);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_old_to_be_held_is_missing_as_well() {
        let house = House::new(HubSettings {
            replay_age: Duration::from_secs(10),
            ..settings()
        });
        let a = house.stream("a");
        house.publish(a, line("1")).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        let of = |seconds| house.subscribe(&[a], Start::Ago(Duration::from_secs(seconds)));
        assert_eq!(of(15).resume().verdict, Verdict::Full);
        assert_eq!(of(30).resume().verdict, Verdict::Partial);
        assert_eq!(drain(&mut of(30)), ["gap a 1 Evicted"]);
    }
}
