//! The lag ladder: what a slow reader is spared, so that it comes back to the present.
//!
//! It is as if each reader had a queue of `buffer_size` events from which the oldest of the least important ones are
//! dropped first. There is no such queue: when a reader that is late asks for more, what it has not read is weighed.

use std::{collections::VecDeque, sync::Arc};

use super::{
    Hub, State,
    channel::{ChannelInfo, Priority},
    entry::Frame,
    joining::evicted,
    packed::Item,
    read::{Gap, GapReason},
    reading::READ_BYTES,
    subscription::{Queued, Subscription},
};

/// What is dropped, in this order, and which part of `buffer_size` of it is kept, the newest: a flood of what matters
/// more must not starve it altogether.
const STEPS: [(Priority, usize); 2] = [(Priority::Low, 8), (Priority::Normal, 4)];

/// What one channel has for a reader.
struct Backlog {
    channel: Arc<ChannelInfo>,
    items: VecDeque<Item>,
    dropped: u64,
    /// Up to where it has been weighed; 0 where nothing was.
    through: u64,
    ahead: Vec<(Item, u32)>,
}

impl Hub {
    /// Whether an event that was appended then should have been read by now. Events alone say nothing: a burst puts
    /// every reader hundreds behind for a moment. A quarter of the stall timeout is long for a reader that reads.
    pub(super) fn is_late(&self, at_us: u64) -> bool {
        let patience_us = self.settings.stall_timeout.as_micros() as u64 / 4;
        self.coarse_now_us().saturating_sub(at_us) > patience_us
    }

    /// Where a reader is late and more than `buffer_size` events behind: hands it the critical ones ahead of the
    /// rest, and skips the oldest of low, then of normal priority, with one gap for each channel. High and critical
    /// ones are skipped by nothing but the log's own bounds. What is replayed on its wish is no lag.
    pub(super) fn step_down(&self, state: &State, subscription: &mut Subscription, limit: u64) {
        if subscription.cursor < subscription.start_head {
            return;
        }
        let buffer = self.settings.buffer_size as u64;
        let spec = subscription.view.spec.clone();
        let logs = || {
            let wanted = state
                .channels
                .iter()
                .filter(|channel| spec.wants(&channel.info));
            wanted.filter_map(|channel| Some((&channel.info, channel.log.as_stream()?)))
        };
        let after = |info: &ChannelInfo| subscription.done_of(info.id);
        let held: u64 = logs().map(|(info, log)| log.held_after(after(info))).sum();
        let oldest_us = logs()
            .filter_map(|(info, log)| Some(log.after(after(info)).next()?.at_us))
            .min();
        if held <= buffer || !oldest_us.is_some_and(|at_us| self.is_late(at_us)) {
            return;
        }

        let mut backlogs: Vec<Backlog> = Vec::new();
        for (info, log) in logs() {
            let mut items = VecDeque::new();
            for entry in log
                .after(after(info))
                .take_while(|entry| entry.first <= limit)
            {
                spec.select(entry, entry.range_after(after(info)), &mut items);
            }
            let items = subscription.without_told(items);
            let channel = info.clone();
            backlogs.push(Backlog {
                channel,
                items,
                dropped: 0,
                through: 0,
                ahead: Vec::new(),
            });
        }
        let count = |priority: Option<Priority>| -> u64 {
            let of = backlogs.iter().filter(|backlog| {
                priority.is_none_or(|priority| backlog.channel.rank() == priority)
            });
            of.flat_map(|backlog| &backlog.items)
                .map(|item| item.range.len() as u64)
                .sum()
        };
        let mut excess = count(None).saturating_sub(buffer);
        if excess == 0 {
            return;
        }
        let steps = STEPS.map(|(priority, part)| {
            let droppable = count(Some(priority)).saturating_sub(buffer / part as u64);
            let drop = excess.min(droppable);
            excess -= drop;
            (priority, drop)
        });
        let mut room = READ_BYTES;
        ahead_of_all(&mut backlogs, &mut room);
        for (priority, drop) in steps {
            drop_oldest(&mut backlogs, priority, drop, &mut room);
        }

        let position = self.position_of(subscription.told);
        let encoder = subscription.view.encoder();
        for backlog in &backlogs {
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
        for (backlog, (info, log)) in backlogs.iter().zip(logs()) {
            if backlog.through == 0 {
                continue;
            }
            let from = subscription.told_of(info.id);
            let told =
                subscription.told_skips(info.id, from, log.evicted_through().min(backlog.through));
            let gone = log.missed(from, backlog.through).saturating_sub(told);
            if gone + backlog.dropped > 0 {
                let missed = match gone {
                    0 => Some(backlog.dropped),
                    _ => evicted(&spec, gone + backlog.dropped),
                };
                let gap = Gap {
                    channel: info.name.clone(),
                    missed,
                    reason: GapReason::Lagged,
                    resumed_at: self.position_of(backlog.through),
                };
                subscription.queue.push_back(Queued::Gap {
                    gap,
                    of: info.id,
                    through: None,
                });
            }
        }
        for backlog in &backlogs {
            if backlog.through > 0 {
                subscription.set_done(backlog.channel.id, backlog.through);
            }
        }
    }
}

/// Takes critical channels' events ahead of the rest, as many as have room.
fn ahead_of_all(backlogs: &mut [Backlog], room: &mut usize) {
    for backlog in backlogs
        .iter_mut()
        .filter(|backlog| backlog.channel.rank() == Priority::Critical)
    {
        for item in &backlog.items {
            for index in item.range.clone() {
                if !take_room(item, room) {
                    return;
                }
                backlog.ahead.push((item.clone(), index));
                backlog.through = item.entry.first + u64::from(index);
            }
        }
    }
}

/// Drops so many of the oldest events of the channels of a priority. An event that was raised above its channel's
/// priority is not dropped with the others around it, but taken ahead.
fn drop_oldest(backlogs: &mut [Backlog], priority: Priority, mut count: u64, room: &mut usize) {
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
    for (seq, place, item, index) in oldest {
        if count == 0 {
            return;
        }
        let backlog = &mut backlogs[place];
        if item.entry.source.priority() > priority {
            if !take_room(&item, room) {
                return;
            }
            backlog.ahead.push((item, index));
        } else {
            backlog.dropped += 1;
            count -= 1;
        }
        backlog.through = seq;
    }
}

fn take_room(item: &Item, room: &mut usize) -> bool {
    let weight = item.entry.weight / item.entry.len.max(1) as usize;
    let fits = *room > 0;
    *room = room.saturating_sub(weight);
    fits
}
