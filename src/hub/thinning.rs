//! Thinning: what a reader with a rate of its own (`max_rate`) does not want is skipped, added up and told.
//!
//! One gap a channel goes before the next event that passes; where none does, one a second. Until it is told, the
//! client's own position stays before what was skipped: whoever comes back from there is owed nothing.

use std::collections::VecDeque;

use super::{
    Hub,
    channel::{ChannelId, Class, Priority},
    packed::Item,
    rate::{Count, Decided, Fate, Skipped, add},
    read::{Gap, GapReason},
    subscription::{Queued, Subscription},
};

/// How long what was skipped may wait for an event that passes.
const PATIENCE_US: u64 = 1_000_000;

impl Hub {
    /// Takes out what is too much for the reader's rate.
    pub(super) fn thin_out(&self, subscription: &mut Subscription, items: &mut VecDeque<Item>) {
        let Some(rate) = &mut subscription.rate else {
            return;
        };
        let now_us = self.now_us();
        let told = subscription.told;
        rate.decided.retain(|event| event.seq > told);
        let mut decided = Vec::new();
        let mut skipped: Vec<Skipped> = Vec::new();
        for Item { entry, range } in std::mem::take(items) {
            for index in range {
                let seq = entry.first + u64::from(index);
                let passes = entry.channel.class != Class::Stream
                    || entry.priority() == Priority::Critical
                    || match rate.fate_of(seq) {
                        Some(Fate::Told) => continue,
                        Some(Fate::Passes) => true,
                        Some(Fate::Skipped) | None => {
                            let passes = rate.take(now_us);
                            let fate = if passes { Fate::Passes } else { Fate::Skipped };
                            let channel = entry.channel.id;
                            decided.push(Decided { seq, channel, fate });
                            passes
                        }
                    };
                if passes {
                    let range = index..index + 1;
                    items.push_back(Item {
                        entry: entry.clone(),
                        range,
                    });
                    continue;
                }
                let count = Count {
                    events: 1,
                    last: seq,
                };
                add(&mut skipped, &entry.channel, count);
            }
        }
        let nothing_waits = items.is_empty() && subscription.queue.is_empty();
        if !nothing_waits {
            rate.decided.extend(decided);
            rate.decided.sort_unstable_by_key(|event| event.seq);
        }
        if !skipped.is_empty() {
            // It has another past from here on than those who got everything.
            subscription.lose_link();
        }
        subscription.skip(skipped, nothing_waits, now_us);
        if !nothing_waits {
            subscription.tell_skipped();
        }
    }
}

impl Subscription {
    fn skip(&mut self, skipped: Vec<Skipped>, settled: bool, now_us: u64) {
        let Some(rate) = &mut self.rate else {
            return;
        };
        if rate.skipped.is_empty() {
            rate.skipped_us = now_us;
        }
        for Skipped { channel, all, .. } in &skipped {
            let sum = add(&mut rate.skipped, channel, *all);
            if settled {
                sum.settled = sum.all;
            }
        }
        if settled {
            for Skipped { channel, all, .. } in skipped {
                self.set_done(channel.id, all.last);
            }
        }
        self.note_owed();
    }

    /// Whether it was not told yet of something that was skipped.
    #[inline]
    pub(super) fn is_owed_gaps(&self) -> bool {
        let rate = self.rate.as_ref();
        rate.is_some_and(|rate| !rate.skipped.is_empty())
    }

    /// Whether what was skipped has waited long enough.
    pub(super) fn gaps_are_due(&self) -> bool {
        let Some(rate) = &self.rate else {
            return false;
        };
        !rate.skipped.is_empty() && self.hub.now_us() >= rate.skipped_us + PATIENCE_US
    }

    /// Queues a gap for each channel of which something was skipped.
    pub(super) fn tell_skipped(&mut self) {
        let skipped = match &mut self.rate {
            Some(rate) => std::mem::take(&mut rate.skipped),
            None => return,
        };
        self.queue.extend(skipped.into_iter().map(Queued::Skipped));
        self.note_owed();
    }

    /// Forgets what was skipped where `keep` says so.
    pub(super) fn retain_skipped(&mut self, keep: impl Fn(&Skipped) -> bool) {
        if let Some(rate) = &mut self.rate {
            rate.skipped.retain(keep);
            self.note_owed();
        }
    }

    /// Forgets what was decided of events where `keep` says so, and of those that were skipped and not told of: they
    /// are weighed anew.
    pub(super) fn retain_decided(&mut self, keep: impl Fn(ChannelId) -> bool) {
        if let Some(rate) = &mut self.rate {
            rate.decided
                .retain(|event| event.fate != Fate::Skipped && keep(event.channel));
        }
    }

    /// The gap for it is handed over.
    pub(super) fn note_told(&mut self, skipped: &Skipped) {
        let Some(rate) = &mut self.rate else {
            return;
        };
        let of = |event: &&mut Decided| {
            event.channel == skipped.channel.id && event.seq <= skipped.all.last
        };
        for event in rate.decided.iter_mut().filter(of) {
            if event.fate == Fate::Skipped {
                event.fate = Fate::Told;
            }
        }
    }

    /// How many events of a channel with numbers in `(after, up_to]` lie before the reader and were told to be skipped.
    pub(super) fn told_skips(&self, channel: ChannelId, after: u64, up_to: u64) -> u64 {
        let Some(rate) = &self.rate else {
            return 0;
        };
        let is_one = |event: &&Decided| {
            event.channel == channel
                && event.fate == Fate::Told
                && event.seq > after
                && event.seq <= up_to
        };
        rate.decided.iter().filter(is_one).count() as u64
    }

    /// Without those that were told to be skipped.
    pub(super) fn without_told(&self, items: VecDeque<Item>) -> VecDeque<Item> {
        let rate = self.rate.as_ref();
        let Some(rate) = rate.filter(|rate| !rate.decided.is_empty()) else {
            return items;
        };
        let mut left = VecDeque::new();
        for Item { entry, range } in items {
            let untold = range
                .filter(|index| rate.fate_of(entry.first + u64::from(*index)) != Some(Fate::Told));
            left.extend(untold.map(|index| Item {
                entry: entry.clone(),
                range: index..index + 1,
            }));
        }
        left
    }

    fn note_owed(&self) {
        self.reader.set_owed_gaps(self.is_owed_gaps());
    }

    pub(super) fn gap_of(&self, skipped: Skipped) -> Gap {
        Gap {
            channel: skipped.channel.name.clone(),
            missed: Some(skipped.all.events),
            reason: GapReason::Rate,
            resumed_at: self.hub.position_of(skipped.all.last),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::{num::NonZeroU32, time::Duration};

    use super::super::{
        ChannelId, HubSettings, Start, Subscription,
        read::{Read, Verdict},
        tests::{House, drain, line, next, settings, spec},
    };

    /// One event passes, and so many are skipped, each read by itself.
    async fn thinned(house: &House, of: ChannelId, skipped: u64) -> Subscription {
        let mut reader = house.subscribe(&[of], Start::Latest);
        reader.limit_rate(NonZeroU32::MIN);
        house.publish(of, line("1")).await;
        assert_eq!(drain(&mut reader), ["a 1 1"]);
        for n in 2..2 + skipped {
            house.publish(of, line(n.to_string())).await;
            assert!(drain(&mut reader).is_empty(), "event {n} by itself");
        }
        reader
    }

    #[tokio::test(start_paused = true)]
    async fn one_gap_goes_before_the_next_event_that_passes() {
        let house = House::new(settings());
        let (a, b) = (house.stream("a"), house.stream("b"));
        let mut reader = thinned(&house, a, 9).await;
        assert_eq!(reader.position().seq, 1, "nothing of it was told");
        tokio::time::advance(Duration::from_secs(1)).await;
        house.publish(a, line("11")).await;
        assert_eq!(drain(&mut reader), ["gap a 9 Rate", "a 11 11"]);
        assert_eq!(reader.position().seq, 11);

        // One for each channel, however they alternate.
        let mut both = house.subscribe(&[a, b], Start::Latest);
        both.limit_rate(NonZeroU32::MIN);
        house.publish(a, line("12")).await;
        assert_eq!(drain(&mut both), ["a 12 12"]);
        for n in 0..5 {
            house.publish([a, b][n % 2], line("x")).await;
            assert!(drain(&mut both).is_empty());
        }
        tokio::time::advance(Duration::from_millis(1001)).await;
        house.publish(b, line("18")).await;
        assert_eq!(
            drain(&mut both),
            ["gap a 3 Rate", "gap b 2 Rate", "b 18 18"]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn where_nothing_passes_it_is_told_once_a_second_and_by_itself() {
        let house = House::new(settings());
        let a = house.stream("a");
        let mut reader = house.subscribe(&[a], Start::Latest);
        reader.limit_rate(NonZeroU32::MIN);
        house.publish(a, line("1")).await;
        assert_eq!(drain(&mut reader), ["a 1 1"]);
        let mut gaps = Vec::new();
        for n in 0..3_000 {
            house.hub.publish(a, line("x")).unwrap();
            tokio::time::advance(Duration::from_millis(1)).await;
            tokio::task::yield_now().await;
            gaps.extend(drain(&mut reader).into_iter().map(|line| (n, line)));
        }
        let told = gaps.iter().filter(|(_, line)| line.starts_with("gap"));
        assert!((2..=5).contains(&told.count()), "{gaps:?}");

        // Nothing more comes at all.
        let mut reader = thinned_beside(&house, a).await;
        let position = reader.position();
        let began = tokio::time::Instant::now();
        let Read::Gap(gap) = next(&mut reader).await else {
            panic!("no gap");
        };
        let waited = began.elapsed();
        assert_eq!(gap.missed, Some(4));
        assert!(waited >= Duration::from_secs(1), "{waited:?}");
        assert!(waited <= Duration::from_millis(2_500), "{waited:?}");
        assert!(position.seq < reader.position().seq);
        assert_eq!(reader.position(), gap.resumed_at, "the gap's own position");
        let again = house.subscribe(&[a], Start::After(reader.position()));
        assert_eq!(
            again.resume().replayed,
            0,
            "what was told is not told again"
        );
    }

    async fn thinned_beside(house: &House, of: ChannelId) -> Subscription {
        let mut reader = house.subscribe(&[of], Start::Latest);
        reader.limit_rate(NonZeroU32::MIN);
        for _ in 0..5 {
            house.publish(of, line("y")).await;
            drain(&mut reader);
        }
        reader
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_comes_back_before_it_is_told_is_owed_nothing() {
        let house = House::new(settings());
        let a = house.stream("a");
        let reader = thinned(&house, a, 4).await;
        let mut again = house.subscribe(&[a], Start::After(reader.position()));
        assert_eq!(again.resume().verdict, Verdict::Full);
        assert_eq!(drain(&mut again), ["a 2 2", "a 3 3", "a 4 4", "a 5 5"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_of_what_is_read_or_of_the_rate_keeps_what_is_owed() {
        let house = House::new(settings());
        let (a, b) = (house.stream("a"), house.stream("b"));
        let mut reader = thinned(&house, a, 4).await;
        reader.retarget(spec(&[a, b]));
        assert_eq!(reader.position().seq, 1);
        house.publish(b, line("6")).await;
        assert!(drain(&mut reader).is_empty());
        tokio::time::advance(Duration::from_secs(1)).await;
        house.publish(b, line("7")).await;
        assert_eq!(
            drain(&mut reader),
            ["gap a 4 Rate", "gap b 1 Rate", "b 7 7"]
        );
        house.publish(a, line("8")).await;
        assert!(drain(&mut reader).is_empty());
        reader.limit_rate(NonZeroU32::MIN.saturating_add(99));
        house.publish(a, line("9")).await;
        assert_eq!(drain(&mut reader), ["gap a 1 Rate", "a 9 9"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_between_two_gaps_loses_none() {
        let house = House::new(settings());
        let (a, b) = (house.stream("a"), house.stream("b"));
        let mut reader = house.subscribe(&[a, b], Start::Latest);
        reader.limit_rate(NonZeroU32::MIN);
        for channel in [a, a, b, b] {
            house.publish(channel, line("x")).await;
            drain(&mut reader);
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        house.publish(b, line("5")).await;
        let Some(Read::Gap(gap)) = reader.try_read() else {
            panic!("no gap");
        };
        assert_eq!((gap.channel.as_str(), gap.missed), ("a", Some(1)));
        let c = house.stream("c");
        reader.retarget(spec(&[a, b, c]));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(drain(&mut reader), ["gap b 2 Rate", "b 5 5"]);
    }

    /// Two channels to change between, and a reader of the first that passes `rate` of what has come at once.
    async fn burst(texts: &[String], rate: u32) -> (House, [ChannelId; 2], Subscription) {
        let house = House::new(settings());
        let channels = [house.stream("a"), house.stream("b")];
        let mut reader = house.subscribe(&channels[..1], Start::Latest);
        reader.limit_rate(NonZeroU32::new(rate).unwrap());
        for text in texts {
            house.hub.publish(channels[0], line(text)).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        (house, channels, reader)
    }

    fn short(told: &[String]) -> Vec<String> {
        let first = |line: &String| line.split('.').next().unwrap().to_owned();
        told.iter().map(first).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_behind_a_gap_passes_after_a_change_as_well() {
        let texts: Vec<_> = (1..=10).map(|n| n.to_string()).collect();
        let (_house, [a, b], mut reader) = burst(&texts, 5).await;
        let Some(Read::Gap(gap)) = reader.try_read() else {
            panic!("no gap");
        };
        assert_eq!(gap.missed, Some(5));
        // As often as it likes.
        reader.retarget(spec(&[a, b]));
        reader.retarget(spec(&[a]));
        reader.limit_rate(NonZeroU32::MIN);
        reader.retarget(spec(&[a, b]));
        let passed = ["a 1 1", "a 2 2", "a 3 3", "a 4 4", "a 5 5"];
        assert_eq!(drain(&mut reader), passed);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(drain(&mut reader).is_empty());
        assert_eq!(reader.position().seq, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_behind_a_chunk_is_not_weighed_again() {
        let texts: Vec<_> = (1..=10)
            .map(|n| format!("{n}{}", ".".repeat(15_000)))
            .collect();
        let (house, [a, b], mut reader) = burst(&texts, 3).await;
        // The first read of the logs takes four, and lets pass three of them.
        assert!(matches!(reader.try_read(), Some(Read::Gap(_))));
        reader.retarget(spec(&[a, b]));
        let told = short(&drain(&mut reader));
        assert_eq!(told[..3], ["a 1 1", "a 2 2", "a 3 3"]);
        tokio::time::advance(Duration::from_secs(1)).await;
        house.publish(b, line("11")).await;
        let rest = short(&drain(&mut reader));
        assert_eq!(rest, ["gap a 6 Rate", "b 11 11"], "{told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_told_to_be_skipped_is_not_told_again_when_the_log_lets_it_go() {
        let house = House::new(HubSettings {
            replay_capacity: 10,
            ..settings()
        });
        let (a, b) = (house.stream("a"), house.stream("b"));
        let mut reader = house.subscribe(&[a], Start::Latest);
        reader.limit_rate(NonZeroU32::new(2).unwrap());
        for n in 1..=10 {
            house.hub.publish(a, line(n.to_string())).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let Some(Read::Gap(gap)) = reader.try_read() else {
            panic!("no gap");
        };
        assert_eq!(gap.missed, Some(8));
        reader.retarget(spec(&[a, b]));
        for n in 11..=15 {
            house.publish(a, line(n.to_string())).await;
        }
        // The two that would have passed, of the five that were let go; and of the five that have come none passes.
        assert_eq!(drain(&mut reader), ["gap a 2 Lagged", "gap a 5 Rate"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_tells_what_is_owed_first() {
        let house = House::new(settings());
        let a = house.stream("a");
        let mut reader = thinned(&house, a, 4).await;
        house.hub.close_all(super::super::CloseReason::Shutdown);
        assert_eq!(drain(&mut reader), ["gap a 4 Rate", "closed shutdown"]);
        assert_eq!(reader.position().seq, 5);
    }
}
