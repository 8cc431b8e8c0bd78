//! Beginnings: where a reader has to begin and what it has to be told of that, by what was asked for, what was
//! published and what of it the logs have let go. The hub's own word for it is held against this.

use std::{collections::BTreeMap, ops::RangeInclusive};

use super::{super::*, *};

/// A stream channel that a reader asks for.
struct Wanted<'a> {
    events: &'a [Sent],
    /// The first so many of them.
    let_go: usize,
}

impl Wanted<'_> {
    fn held(&self) -> &[Sent] {
        &self.events[self.let_go..]
    }

    fn let_go(&self) -> &[Sent] {
        &self.events[..self.let_go]
    }
}

/// Where a reader has begun.
pub(super) struct Began {
    /// It is to be told of everything behind this.
    pub(super) from: u64,
    /// It asked for what is held: what was let go before is no loss.
    pub(super) only_held: bool,
}

impl World {
    /// Holds a subscription that has just begun against what it asked for.
    pub(super) fn check_beginning(&self, subscription: &Subscription, start: Start) -> Began {
        let spec = subscription.spec();
        let streams = self.streams(spec);
        let has_evicted = streams.iter().any(|stream| stream.let_go > 0);
        let (wanted, reaches_back) = self.beginning(spec, start, &streams);
        let from = subscription.position().seq;
        assert!(
            wanted.contains(&from),
            "{start:?} begins behind {from}, not {wanted:?} of {}",
            self.last_seq
        );
        let only_held = reaches_back || matches!(start, Start::Earliest);
        let misses = |stream: &Wanted<'_>| stream.let_go().last().is_some_and(|e| e.seq > from);
        let verdict = match start {
            Start::Latest => Verdict::Fresh,
            Start::Unknown => Verdict::Lost,
            _ if reaches_back && has_evicted => Verdict::Partial,
            _ if !only_held && streams.iter().any(misses) => Verdict::Partial,
            _ => Verdict::Full,
        };
        let held = streams.iter().flat_map(Wanted::held);
        let replayed = held
            .filter(|sent| sent.seq > from && sent.is_for(spec))
            .count() as u64;
        let resume = subscription.resume();
        assert_eq!(
            (resume.verdict, resume.replayed),
            (verdict, replayed),
            "{start:?} of {spec:?} behind {from}"
        );
        Began { from, only_held }
    }

    /// Behind which event it has to begin, and whether it asked for more than what is held can answer.
    fn beginning(
        &self,
        spec: &ViewSpec,
        start: Start,
        streams: &[Wanted<'_>],
    ) -> (RangeInclusive<u64>, bool) {
        let exactly = |seq: u64| seq..=seq;
        let before = |first: Option<u64>| first.map_or(self.last_seq, |first| first - 1);
        let newest = |mut seqs: Vec<u64>, count: u32| {
            seqs.sort_unstable();
            let older = seqs.len().saturating_sub(count as usize);
            exactly(before(seqs.get(older).copied()))
        };
        let seqs = |sent: &Sent| sent.seq;
        match start {
            Start::Latest | Start::Unknown => (exactly(self.last_seq), false),
            Start::After(position) => (exactly(position.seq), false),
            Start::Earliest => {
                let first = streams.iter().filter_map(|stream| stream.held().first());
                (exactly(before(first.map(seqs).min())), false)
            }
            Start::Last(count) if spec.filter.is_empty() && spec.tenant.is_none() => {
                let all = streams.iter().flat_map(|stream| stream.events);
                (newest(all.map(seqs).collect(), count), false)
            }
            Start::Last(count) => {
                let held = streams.iter().flat_map(Wanted::held);
                let passing: Vec<_> = held.filter(|sent| sent.is_for(spec)).map(seqs).collect();
                let reaches_back = passing.len() < count as usize;
                (newest(passing, count), reaches_back)
            }
            Start::Ago(ago) => {
                let since_us = self.hub.now_us().saturating_sub(ago.as_micros() as u64);
                let since = |sent: &&Sent| sent.at_us >= since_us;
                let first = streams
                    .iter()
                    .filter_map(|stream| stream.events.iter().find(since));
                let begin = before(first.map(seqs).min());
                let all_held = !streams
                    .iter()
                    .any(|stream| stream.let_go().iter().any(|e| since(&e)));
                if all_held {
                    return (exactly(begin), false);
                }
                // When what was let go came is known to the second.
                let earlier = self.times_us.partition_point(|at_us| *at_us < since_us);
                let too_early = earlier.checked_sub(1).map_or(0, |last| {
                    let a_second_before = |at_us: &u64| at_us + 1_000_000 <= self.times_us[last];
                    self.times_us.partition_point(a_second_before) as u64
                });
                (too_early.min(begin)..=begin, false)
            }
        }
    }

    fn streams(&self, spec: &ViewSpec) -> Vec<Wanted<'_>> {
        let state = lock(&self.hub.state);
        let mut streams = Vec::new();
        for channel in &self.channels {
            let inner = &state.channels[channel.id.0 as usize];
            if let Some(log) = inner.log.as_stream()
                && spec.wants(&inner.info)
            {
                let through = log.evicted_through();
                streams.push(Wanted {
                    events: &channel.events,
                    let_go: channel.events.partition_point(|sent| sent.seq <= through),
                });
            }
        }
        streams
    }

    /// Fresh accounts, of all that comes behind `from`.
    pub(super) fn accounts(&self, spec: &ViewSpec, began: &Began) -> BTreeMap<usize, Account> {
        let Began { from, only_held } = *began;
        let state = lock(&self.hub.state);
        let mut accounts = BTreeMap::new();
        for (place, channel) in self.channels.iter().enumerate() {
            let inner = &state.channels[channel.id.0 as usize];
            if !spec.wants(&inner.info) {
                continue;
            }
            let evicted = inner.log.as_stream().map_or(0, StreamLog::evicted_through);
            let account = Account {
                from: if only_held { from.max(evicted) } else { from },
                last: from,
                ..Account::default()
            };
            accounts.insert(place, account);
        }
        accounts
    }
}
