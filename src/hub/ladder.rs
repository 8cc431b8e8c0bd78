//! The lag ladder: what a slow reader is spared, so that it comes back to the present.
//!
//! It is as if each reader had a queue of `buffer_size` events, and of a megabyte, from which the oldest of the least
//! important ones are dropped first, and in which the critical ones stand at the front. There is no such queue: when a
//! reader that is late asks for more, what it has not read is weighed. So it is when it is closed.

use std::{collections::VecDeque, sync::Arc};

use super::{
    Hub, State,
    channel::{ChannelInfo, Priority},
    entry::Frame,
    joining::evicted,
    log::StreamLog,
    packed::Item,
    read::{Gap, GapReason},
    reading::READ_BYTES,
    subscription::{Queued, Subscription},
};
use crate::sync::lock;

/// What a reader that is late may have before it beside `buffer_size`: a few large events are as far behind as many
/// small ones.
const BUFFER_BYTES: u64 = 1024 * 1024;

/// What is dropped, in this order, and which part of the buffer of it is kept, the newest: a flood of what matters more
/// must not starve it altogether.
const STEPS: [(Priority, u64); 2] = [(Priority::Low, 8), (Priority::Normal, 4)];

/// So many events, and what they weigh.
#[derive(Clone, Copy, Default)]
struct Amount {
    events: u64,
    bytes: u64,
}

impl Amount {
    fn add(&mut self, weight: u64) {
        self.events += 1;
        self.bytes += weight;
    }

    fn take(&mut self, weight: u64) {
        self.events = self.events.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(weight);
    }

    fn is_nothing(self) -> bool {
        self.events == 0 && self.bytes == 0
    }

    fn beyond(self, limit: Self) -> Self {
        Self {
            events: self.events.saturating_sub(limit.events),
            bytes: self.bytes.saturating_sub(limit.bytes),
        }
    }
}

/// What one channel has for a reader.
struct Backlog {
    channel: Arc<ChannelInfo>,
    items: VecDeque<Item>,
    dropped: u64,
    /// Up to where it has been weighed; 0 where nothing was.
    through: u64,
    ahead: Vec<(Item, u32)>,
}

impl Backlog {
    fn is_critical(&self) -> bool {
        self.channel.rank() == Priority::Critical
    }

    fn last_seq(&self) -> u64 {
        self.items.back().map_or(0, Item::last_seq)
    }
}

/// What is handed over in one turn ahead of the rest.
struct Room(u64);

impl Room {
    /// Whether it goes in; the first always does.
    fn take(&mut self, weight: u64) -> bool {
        let is_first = self.0 == READ_BYTES as u64;
        let fits = is_first || weight <= self.0;
        self.0 = if fits {
            self.0.saturating_sub(weight)
        } else {
            0
        };
        fits
    }
}

impl Hub {
    /// Whether an event that was appended then should have been read by now. Events alone say nothing: a burst puts
    /// every reader hundreds behind for a moment. A quarter of the stall timeout is long for a reader that reads.
    pub(super) fn is_late(&self, at_us: u64) -> bool {
        let patience_us = self.settings.stall_timeout.as_micros() as u64 / 4;
        self.coarse_now_us().saturating_sub(at_us) > patience_us
    }

    /// Where a reader is late or closed: hands it the critical events ahead of the rest. Where it is late and has more
    /// than the buffer before it, skips the oldest of low, then of normal priority, with one gap for each channel. High
    /// and critical ones are skipped by nothing but the log's own bounds. What is replayed on its wish is no lag.
    ///
    /// `true` where there are critical ones still that come before the rest.
    pub(super) fn step_down(
        &self,
        state: &State,
        subscription: &mut Subscription,
        limit: u64,
    ) -> bool {
        let spec = subscription.view.spec.clone();
        let logs = || {
            let wanted = state
                .channels
                .iter()
                .filter(|channel| spec.wants(&channel.info));
            wanted.filter_map(|channel| Some((&channel.info, channel.log.as_stream()?)))
        };
        let after = |info: &ChannelInfo| subscription.done_of(info.id);
        let replays = subscription.cursor < subscription.start_head;
        let is_late = !replays && {
            let oldest_us = |(info, log): (&Arc<ChannelInfo>, &StreamLog)| {
                Some(log.after(after(info)).next()?.at_us)
            };
            let oldest_us = logs().filter_map(oldest_us).min();
            oldest_us.is_some_and(|at_us| self.is_late(at_us))
        };
        if !is_late && !subscription.is_ending {
            return false;
        }
        let buffer = Amount {
            events: self.settings.buffer_size as u64,
            bytes: BUFFER_BYTES,
        };
        let is_far_behind = || {
            let held: u64 = logs().map(|(info, log)| log.held_after(after(info))).sum();
            let entries = || logs().flat_map(|(info, log)| log.after(after(info)));
            held > buffer.events
                || entries().map(|entry| entry.weight as u64).sum::<u64>() > buffer.bytes
        };
        let skips = is_late && is_far_behind();

        let mut backlogs: Vec<Backlog> = Vec::new();
        // Where what is not critical begins.
        let mut others_begin = u64::MAX;
        for (info, log) in logs() {
            let is_critical = info.rank() == Priority::Critical;
            let mut entries = log
                .after(after(info))
                .take_while(|entry| entry.first <= limit);
            if !is_critical && !skips {
                let first = entries.next().map_or(u64::MAX, |entry| entry.first);
                others_begin = others_begin.min(first);
                continue;
            }
            let mut items = VecDeque::new();
            for entry in entries {
                spec.select(entry, entry.range_after(after(info)), &mut items);
            }
            let items = subscription.without_told(items);
            if let Some(first) = items.front().filter(|_| !is_critical) {
                others_begin = others_begin.min(first.first_seq());
            }
            backlogs.push(Backlog {
                channel: info.clone(),
                items,
                dropped: 0,
                through: 0,
                ahead: Vec::new(),
            });
        }
        backlogs.sort_by_key(|backlog| !backlog.is_critical());

        let mut room = Room(READ_BYTES as u64);
        let all_fit = ahead_of_all(&mut backlogs, others_begin, &mut room);
        if skips && all_fit {
            let mut all = Amount::default();
            for item in backlogs.iter().flat_map(|backlog| &backlog.items) {
                item.range.clone().for_each(|_| all.add(item.weight_each()));
            }
            let mut excess = all.beyond(buffer);
            for (priority, part) in STEPS {
                let kept = Amount {
                    events: buffer.events / part,
                    bytes: buffer.bytes / part,
                };
                drop_oldest(&mut backlogs, priority, kept, &mut excess, &mut room);
            }
        }
        self.queue_first(state, subscription, &backlogs);
        !all_fit
    }

    /// Queues what was weighed before anything else.
    fn queue_first(&self, state: &State, subscription: &mut Subscription, backlogs: &[Backlog]) {
        let waiting = std::mem::take(&mut subscription.queue);
        let position = self.position_of(subscription.told);
        let encoder = subscription.view.encoder();
        for backlog in backlogs {
            let mut bytes = Vec::new();
            for (Item { entry, .. }, index) in &backlog.ahead {
                // The reader's own position, as snapshots from before its start carry it: a client that goes on from
                // an event that came ahead must not pass over what it has not had.
                let frame = Frame {
                    position,
                    channel: &entry.channel.name,
                    unix_ms: entry.unix_ms,
                    source: &*entry.source,
                    index: *index as usize,
                };
                encoder(&frame, &mut bytes);
            }
            if !bytes.is_empty() {
                // It may wait in the buffers of a socket that stands.
                bytes.shrink_to_fit();
                let channel = backlog.channel.clone();
                let since = subscription.done_of(channel.id);
                let count = backlog.ahead.len() as u64;
                subscription.queue.push_back(Queued::Ahead {
                    channel,
                    bytes: bytes.into(),
                    count,
                    since,
                });
            }
        }
        for backlog in backlogs.iter().filter(|backlog| backlog.through > 0) {
            let info = &backlog.channel;
            let channel = state.channels.get(info.id.0 as usize);
            let Some(log) = channel.and_then(|channel| channel.log.as_stream()) else {
                continue;
            };
            let from = subscription.told_of(info.id);
            let through = log.evicted_through().min(backlog.through);
            let told = subscription.told_skips(info.id, from, through);
            let gone = log.missed(from, backlog.through).saturating_sub(told);
            if gone + backlog.dropped > 0 {
                let missed = match gone {
                    0 => Some(backlog.dropped),
                    _ => evicted(&subscription.view.spec, gone + backlog.dropped),
                };
                let reason = match backlog.through > subscription.start_head {
                    true => GapReason::Lagged,
                    false => GapReason::Evicted,
                };
                let gap = Gap {
                    channel: info.name.clone(),
                    missed,
                    reason,
                    resumed_at: self.position_of(backlog.through),
                };
                subscription.queue.push_back(Queued::Gap {
                    gap,
                    of: info.id,
                    through: None,
                });
            }
            subscription.set_done(info.id, backlog.through);
        }
        subscription.queue.extend(waiting);
    }

    /// A reader is closed, and gets little more: the critical ones of what it has not had come first.
    pub(super) fn begin_end(&self, subscription: &mut Subscription) {
        // What it has read and not handed over goes back, as it does when a reader wants something else.
        let spec = subscription.view.spec.clone();
        self.retarget(subscription, spec);
        let limit = subscription.view.head();
        self.step_down(&lock(&self.state), subscription, limit);
    }
}

/// Takes critical channels' events ahead of the rest, as many as have room; whether that was all of them. A channel whose
/// events would overtake nothing keeps its turn.
fn ahead_of_all(backlogs: &mut [Backlog], others_begin: u64, room: &mut Room) -> bool {
    for backlog in backlogs
        .iter_mut()
        .filter(|backlog| backlog.is_critical() && backlog.last_seq() > others_begin)
    {
        for item in &backlog.items {
            for index in item.range.clone() {
                if !room.take(item.weight_each()) {
                    return false;
                }
                backlog.ahead.push((item.clone(), index));
                backlog.through = item.entry.first + u64::from(index);
            }
        }
    }
    true
}

/// Drops the oldest events of the channels of a priority until nothing is too much, but for those that are kept. An
/// event that was raised above its channel's priority is not dropped with the others around it, but taken ahead.
fn drop_oldest(
    backlogs: &mut [Backlog],
    priority: Priority,
    kept: Amount,
    excess: &mut Amount,
    room: &mut Room,
) {
    let mut oldest: Vec<(u64, usize, Item, u32)> = Vec::new();
    for (place, backlog) in backlogs
        .iter()
        .enumerate()
        .filter(|(_, backlog)| backlog.channel.rank() == priority)
    {
        for item in &backlog.items {
            let of = item.range.clone().map(|index| {
                (
                    item.entry.first + u64::from(index),
                    place,
                    item.clone(),
                    index,
                )
            });
            oldest.extend(of);
        }
    }
    oldest.sort_unstable_by_key(|(seq, ..)| *seq);
    let mut newest = Amount::default();
    let is_kept = |(_, _, item, _): &&(u64, usize, Item, u32)| {
        newest.add(item.weight_each());
        newest.beyond(kept).is_nothing()
    };
    let kept = oldest.iter().rev().take_while(is_kept).count();
    oldest.truncate(oldest.len() - kept);
    for (seq, place, item, index) in oldest {
        if excess.is_nothing() {
            return;
        }
        let backlog = &mut backlogs[place];
        if item.entry.source.priority() > priority {
            if !room.take(item.weight_each()) {
                return;
            }
            backlog.ahead.push((item, index));
        } else {
            backlog.dropped += 1;
            excess.take(item.weight_each());
        }
        backlog.through = seq;
    }
}
