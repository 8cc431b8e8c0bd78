//! Reading: what a view no longer has comes from the logs, with the gaps between.

use std::{collections::VecDeque, sync::Arc};

use super::{
    Hub,
    channel::Class,
    entry::Entry,
    joining::evicted,
    log::Log,
    packed::pack_first,
    read::{Gap, GapReason},
    subscription::{Queued, Subscription},
};
use crate::sync::{Ordering, lock};

/// How much a read of the logs takes at once, about.
pub(super) const READ_BYTES: usize = 64 * 1024;

impl Hub {
    /// Reads what a view no longer has: queues gaps and events for a subscription and moves its cursor behind them.
    pub(super) fn read_logs(&self, subscription: &mut Subscription, limit: u64) {
        let spec = subscription.view.spec.clone();
        let state = lock(&self.state);
        subscription.forget_done();
        self.step_down(&state, subscription, limit);
        let cursor = subscription.cursor;
        let channels = || {
            state
                .channels
                .iter()
                .filter(|channel| spec.wants(&channel.info))
        };

        let mut to = limit;
        let mut entries: Vec<Arc<Entry>> = Vec::new();
        for channel in channels() {
            match &channel.log {
                Log::State(log) => entries.extend(log.after(cursor)),
                Log::Stream(log) => {
                    let mut weight = 0;
                    for entry in log.after(subscription.done_of(channel.info.id)) {
                        weight += entry.weight;
                        if entry.first > to {
                            break;
                        }
                        entries.push(entry.clone());
                        if weight > READ_BYTES {
                            to = to.min(entry.last());
                            break;
                        }
                    }
                }
            }
        }
        entries.sort_unstable_by_key(|entry| entry.first);
        let mut weight = 0;
        for entry in &entries {
            weight += entry.weight;
            if weight > READ_BYTES {
                to = to.min(entry.last());
                break;
            }
        }
        entries.retain(|entry| entry.first <= to);

        for channel in channels() {
            let Some(log) = channel.log.as_stream() else {
                continue;
            };
            let from = subscription.told_of(channel.info.id);
            let through = log.evicted_through().min(to);
            // What was told to be skipped is not told again as let go.
            let told = subscription.told_skips(channel.info.id, from, through);
            let missed = log.missed(from, to).saturating_sub(told);
            if missed > 0 {
                let lagged = through > subscription.start_head;
                subscription.queue.push_back(Queued::Gap {
                    gap: Gap {
                        channel: channel.info.name.clone(),
                        missed: evicted(&spec, missed),
                        reason: if lagged {
                            GapReason::Lagged
                        } else {
                            GapReason::Evicted
                        },
                        resumed_at: self.position_of(log.first_seq().unwrap_or(to)),
                    },
                    of: channel.info.id,
                    through: Some(through),
                });
            }
        }
        drop(state);

        let mut items = VecDeque::new();
        for entry in &entries {
            let done = match entry.channel.class {
                Class::State => cursor,
                Class::Stream | Class::Critical => subscription.done_of(entry.channel.id),
            };
            spec.select(entry, entry.range_after(done), &mut items);
        }
        self.thin_out(subscription, &mut items);
        while let Some(mut packed) = pack_first(&mut items, spec.form, subscription.view.encoder())
        {
            if items.is_empty() {
                packed.to = to;
            }
            subscription.queue.push_back(Queued::Packed(packed));
        }
        subscription.cursor = to;
        subscription.reader.cursor.store(to, Ordering::Relaxed);
    }
}
