//! A channel's log: the events it still holds, bounded by count, bytes and age, and what it let go.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::{entry::Entry, event::Source};

/// The bounds of one log. Whatever is reached first evicts the oldest entry; the newest is always kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
    pub(crate) age_us: u64,
}

/// How many runs of evicted numbers a log remembers, to tell a reader exactly how many it missed. Beyond, the
/// count is a lower bound. 96 KiB at most.
const MAX_EVICTED_RUNS: usize = 4096;

/// Every event counts: the log of the stream and critical classes.
#[derive(Debug)]
pub(crate) struct StreamLog {
    bounds: Bounds,
    entries: VecDeque<Arc<Entry>>,
    events: usize,
    bytes: usize,
    /// Ascending.
    evicted: VecDeque<Run>,
    evicted_events: u64,
    /// When the last one of them was appended.
    evicted_at_us: Option<u64>,
}

/// Evicted numbers without a gap.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: u64,
    len: u64,
    /// How many were evicted before.
    ordinal: u64,
}

impl Run {
    fn last(self) -> u64 {
        self.first + self.len - 1
    }
}

impl StreamLog {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            entries: VecDeque::new(),
            events: 0,
            bytes: 0,
            evicted: VecDeque::new(),
            evicted_events: 0,
            evicted_at_us: None,
        }
    }

    pub(crate) fn push(&mut self, entry: Arc<Entry>, now_us: u64) {
        self.events += entry.len as usize;
        self.bytes += entry.weight;
        self.entries.push_back(entry);
        self.evict(now_us);
    }

    /// Lets go of what is over a bound.
    pub(crate) fn evict(&mut self, now_us: u64) {
        while let Some(oldest) = self.entries.front() {
            let over_size = self.entries.len() > 1
                && (self.events > self.bounds.events || self.bytes > self.bounds.bytes);
            let over_age = now_us.saturating_sub(oldest.at_us) > self.bounds.age_us;
            if !over_size && !over_age {
                return;
            }
            if let Some(oldest) = self.entries.pop_front() {
                self.events -= oldest.len as usize;
                self.bytes -= oldest.weight;
                self.remember_evicted(oldest.first, u64::from(oldest.len));
                self.evicted_at_us = Some(oldest.at_us);
            }
        }
    }

    fn remember_evicted(&mut self, first: u64, len: u64) {
        let ordinal = self.evicted_events;
        self.evicted_events += len;
        match self.evicted.back_mut() {
            Some(run) if run.first + run.len == first => run.len += len,
            _ => self.evicted.push_back(Run {
                first,
                len,
                ordinal,
            }),
        }
        if self.evicted.len() > MAX_EVICTED_RUNS {
            self.evicted.pop_front();
        }
    }

    /// How many events with numbers in `(after, up_to]` it has let go. It takes no longer for many.
    pub(crate) fn missed(&self, after: u64, up_to: u64) -> u64 {
        let through = self.evicted_up_to(up_to);
        through.saturating_sub(self.evicted_up_to(after))
    }

    /// How many it has let go up to a number, those of runs that it has forgotten included.
    fn evicted_up_to(&self, seq: u64) -> u64 {
        let behind = self.evicted.partition_point(|run| run.first <= seq);
        match behind.checked_sub(1).and_then(|at| self.evicted.get(at)) {
            Some(run) => run.ordinal + (seq - run.first + 1).min(run.len),
            None => self.evicted.front().map_or(0, |run| run.ordinal),
        }
    }

    /// The number of the last event that it has let go; 0 where there is none.
    pub(crate) fn evicted_through(&self) -> u64 {
        self.evicted.back().map_or(0, |run| run.last())
    }

    /// Whether it has let go of anything that was appended at or after a time.
    pub(crate) fn has_evicted_since(&self, at_us: u64) -> bool {
        self.evicted_at_us.is_some_and(|evicted| evicted >= at_us)
    }

    pub(crate) fn evicted_events(&self) -> u64 {
        self.evicted_events
    }

    /// Entries with any event behind `seq`, oldest first.
    pub(crate) fn after(&self, seq: u64) -> impl DoubleEndedIterator<Item = &Arc<Entry>> {
        let from = self.entries.partition_point(|entry| entry.last() <= seq);
        self.entries.range(from..)
    }

    /// How many events it holds behind `seq`. By the entries' ordinals: it takes no longer for many.
    pub(crate) fn held_after(&self, seq: u64) -> u64 {
        let (Some(first), Some(newest)) = (self.after(seq).next(), self.entries.back()) else {
            return 0;
        };
        let skipped = (seq + 1).saturating_sub(first.first);
        newest.ordinal + u64::from(newest.len) - (first.ordinal + skipped)
    }

    pub(crate) fn first_seq(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.first)
    }

    /// The number of the first event that was appended at or after a time.
    pub(crate) fn first_since(&self, at_us: u64) -> Option<u64> {
        let from = self.entries.partition_point(|entry| entry.at_us < at_us);
        self.entries.get(from).map(|entry| entry.first)
    }

    pub(crate) fn newest_first(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.iter().rev()
    }

    pub(crate) fn events(&self) -> usize {
        self.events
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Only the newest event of each key counts: the log of the state class. Tenants have keys of their own: what one
/// publishes takes nothing from another.
#[derive(Debug)]
pub(crate) struct StateLog {
    max_keys: usize,
    len: usize,
    by_tenant: HashMap<Option<Box<str>>, Keys>,
}

type Keys = HashMap<Box<str>, Arc<Entry>>;

impl StateLog {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            max_keys: bounds.events.max(1),
            len: 0,
            by_tenant: HashMap::new(),
        }
    }

    /// State entries hold one event each. One key too many takes the place of the oldest of whoever has most.
    pub(crate) fn push(&mut self, entry: Arc<Entry>) {
        let (tenant, key) = owner(&*entry.source);
        let known = self.by_tenant.get_mut(&tenant);
        if let Some(held) = known.and_then(|keys| keys.get_mut(key)) {
            *held = entry;
            return;
        }
        if self.len >= self.max_keys {
            self.make_room();
        }
        let key = Box::from(key);
        self.by_tenant.entry(tenant).or_default().insert(key, entry);
        self.len += 1;
    }

    fn make_room(&mut self) {
        let most = self.by_tenant.iter_mut().max_by_key(|(_, keys)| keys.len());
        let Some((tenant, keys)) = most else {
            return;
        };
        let oldest = keys.iter().min_by_key(|(_, held)| held.first);
        if let Some(key) = oldest.map(|(key, _)| key.clone()) {
            keys.remove(&key);
            self.len -= 1;
        }
        if keys.is_empty() {
            let tenant = tenant.clone();
            self.by_tenant.remove(&tenant);
        }
    }

    /// Another source for what is held of a key, under the same number: newcomers are told as things stand now, and
    /// whoever has been told is told nothing.
    pub(crate) fn refresh(&mut self, source: Arc<dyn Source>, unix_ms: u64) {
        let (tenant, key) = owner(&*source);
        let known = self.by_tenant.get_mut(&tenant);
        if let Some(held) = known.and_then(|keys| keys.get_mut(key)) {
            *held = Arc::new(Entry::new(
                held.first,
                held.epoch,
                held.at_us,
                unix_ms,
                held.ordinal,
                held.channel.clone(),
                source,
            ));
        }
    }

    /// The newest of each key that come behind `seq`, oldest first.
    pub(crate) fn after(&self, seq: u64) -> Vec<Arc<Entry>> {
        let mut newest: Vec<_> = self
            .entries()
            .filter(|entry| entry.first > seq)
            .cloned()
            .collect();
        newest.sort_unstable_by_key(|entry| entry.first);
        newest
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn bytes(&self) -> usize {
        self.entries().map(|entry| entry.weight).sum()
    }

    fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.by_tenant.values().flat_map(HashMap::values)
    }
}

fn owner(source: &dyn Source) -> (Option<Box<str>>, &str) {
    (source.tags(0).tenant.map(Box::from), source.key(0))
}

/// The log of a channel of any class.
#[derive(Debug)]
pub(crate) enum Log {
    Stream(StreamLog),
    State(StateLog),
}

impl Log {
    pub(crate) fn push(&mut self, entry: Arc<Entry>, now_us: u64) {
        match self {
            Self::Stream(log) => log.push(entry, now_us),
            Self::State(log) => log.push(entry),
        }
    }

    pub(crate) fn as_stream(&self) -> Option<&StreamLog> {
        match self {
            Self::Stream(log) => Some(log),
            Self::State(_) => None,
        }
    }
}
