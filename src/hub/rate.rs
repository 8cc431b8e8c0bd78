//! Rates: how many events a second a reader wants, and what it was not told of for that.

use std::{num::NonZeroU32, sync::Arc};

use super::channel::{ChannelId, ChannelInfo};

/// A reader's own wish for fewer events (`max_rate`): a bucket of one second's worth.
#[derive(Debug)]
pub(super) struct RateLimit {
    a_second: f64,
    tokens: f64,
    filled_us: u64,
    /// What was skipped and not told yet, by channel, and since when.
    pub(super) skipped: Vec<Skipped>,
    pub(super) skipped_us: u64,
    /// What becomes of the events of the last read, as long as some of it waits to be handed over; ascending. Where
    /// they are read again, as what the reader reads changes, it stands: none is told twice, and none pays twice.
    pub(super) decided: Vec<Decided>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Decided {
    pub(super) seq: u64,
    pub(super) channel: ChannelId,
    pub(super) fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Passes,
    /// To be told by a gap.
    Skipped,
    /// The gap has been handed over.
    Told,
}

impl RateLimit {
    pub(super) fn new(events: NonZeroU32, now_us: u64) -> Self {
        let a_second = f64::from(events.get());
        Self {
            a_second,
            tokens: a_second,
            filled_us: now_us,
            skipped: Vec::new(),
            skipped_us: 0,
            decided: Vec::new(),
        }
    }

    pub(super) fn fate_of(&self, seq: u64) -> Option<Fate> {
        let place = self.decided.binary_search_by_key(&seq, |event| event.seq);
        place.ok().map(|place| self.decided[place].fate)
    }

    /// Whether one more event may pass.
    pub(super) fn take(&mut self, now_us: u64) -> bool {
        let passed = now_us.saturating_sub(self.filled_us) as f64 / 1e6;
        self.filled_us = now_us;
        self.tokens = (self.tokens + passed * self.a_second).min(self.a_second.max(1.0));
        let passes = self.tokens >= 1.0;
        self.tokens -= f64::from(u8::from(passes));
        passes
    }
}

/// Events of one channel that were skipped, to be told in one gap.
#[derive(Clone, Debug)]
pub(super) struct Skipped {
    pub(super) channel: Arc<ChannelInfo>,
    pub(super) all: Count,
    /// Those that are not read again, whatever the reader reads from now on: nothing of the channel that lies among
    /// them waits to be handed over.
    pub(super) settled: Count,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    pub(super) events: u64,
    pub(super) last: u64,
}

impl Skipped {
    /// The rest is read again; false where there is nothing but the rest.
    pub(super) fn keep_settled(&mut self) -> bool {
        self.all = self.settled;
        self.all.events > 0
    }
}

/// Adds to what was skipped of the channel.
pub(super) fn add<'a>(
    to: &'a mut Vec<Skipped>,
    channel: &Arc<ChannelInfo>,
    more: Count,
) -> &'a mut Skipped {
    let known = to
        .iter()
        .position(|skipped| skipped.channel.id == channel.id);
    let place = known.unwrap_or_else(|| {
        to.push(Skipped {
            channel: channel.clone(),
            all: Count::default(),
            settled: Count::default(),
        });
        to.len() - 1
    });
    let skipped = &mut to[place];
    skipped.all.events += more.events;
    skipped.all.last = more.last;
    skipped
}
