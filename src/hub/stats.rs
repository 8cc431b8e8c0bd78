//! Statistics: the numbers of a hub, for `hub/stats`.

use super::{Hub, Made, log::Log, read::Verdict};
use crate::sync::{Ordering, lock};

/// Numbers of one channel, for `hub/stats`.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct ChannelStats {
    pub(crate) name: String,
    pub(crate) subscribers: usize,
    pub(crate) published: u64,
    pub(crate) delivered: u64,
    pub(crate) held: usize,
    pub(crate) held_bytes: usize,
    pub(crate) evicted: u64,
}

/// Numbers of the hub, for `hub/stats`.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct HubStats {
    pub(crate) total_clients: usize,
    pub(crate) channels: Vec<ChannelStats>,
    pub(crate) views: usize,
    pub(crate) published: u64,
    /// Events for which the inbox had no room.
    pub(crate) refused: u64,
    pub(crate) gaps: u64,
    pub(crate) stalled: u64,
    /// Events that logs have let go, be it for their number, their size or their age.
    pub(crate) evicted: u64,
    /// Handed to the sockets of all readers, those who have left included.
    pub(crate) sent_bytes: u64,
    pub(crate) connections_total: u64,
    pub(crate) resumes: ResumeStats,
    pub(crate) inbox_used: usize,
    pub(crate) inbox_capacity: usize,
    /// `None` where nothing is compressed.
    pub(crate) compression: Option<CompressionStats>,
}

/// What compression made of events, once each, and what its readers were sent of that.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct CompressionStats {
    pub(crate) made: Made,
    pub(crate) sent_plain_bytes: u64,
    pub(crate) sent_compressed_bytes: u64,
}

/// How subscriptions began, by verdict.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct ResumeStats {
    pub(crate) fresh: u64,
    pub(crate) full: u64,
    pub(crate) partial: u64,
    pub(crate) lost: u64,
}

impl Hub {
    pub(crate) fn stats(&self) -> HubStats {
        let state = lock(&self.state);
        let mut channels: Vec<ChannelStats> = Vec::new();
        for channel in &state.channels {
            let (held, held_bytes, evicted) = match &channel.log {
                Log::Stream(log) => (log.events(), log.bytes(), log.evicted_events()),
                Log::State(log) => (log.len(), log.bytes(), 0),
            };
            let subscribers = channel.info.readers.load(Ordering::Relaxed);
            let delivered = channel.info.delivered.load(Ordering::Relaxed);
            let named = channels
                .iter_mut()
                .find(|stats| stats.name == channel.info.name);
            // A variant counts with the channel whose name it bears.
            if let Some(stats) = named {
                stats.subscribers += subscribers;
                stats.published += channel.published;
                stats.delivered += delivered;
                stats.held += held;
                stats.held_bytes += held_bytes;
                continue;
            }
            channels.push(ChannelStats {
                name: channel.info.name.clone(),
                subscribers,
                published: channel.published,
                delivered,
                held,
                held_bytes,
                evicted,
            });
        }
        let evicted = channels.iter().map(|channel| channel.evicted).sum();
        let mut sent_bytes = self.counters.left_bytes.load(Ordering::Relaxed);
        for view in state.views.values() {
            view.for_each_reader(|reader| sent_bytes += reader.bytes.load(Ordering::Relaxed));
        }
        let resumes =
            |verdict: Verdict| self.counters.resumes[verdict as usize].load(Ordering::Relaxed);
        HubStats {
            total_clients: self.active(),
            channels,
            views: state.views.len(),
            published: self.counters.published.load(Ordering::Relaxed),
            refused: self.counters.refused.load(Ordering::Relaxed),
            gaps: self.counters.gaps.load(Ordering::Relaxed),
            stalled: self.counters.stalled.load(Ordering::Relaxed),
            evicted,
            sent_bytes,
            connections_total: self.counters.joined.load(Ordering::Relaxed),
            resumes: ResumeStats {
                fresh: resumes(Verdict::Fresh),
                full: resumes(Verdict::Full),
                partial: resumes(Verdict::Partial),
                lost: resumes(Verdict::Lost),
            },
            inbox_used: self.inbox.max_capacity() - self.inbox.capacity(),
            inbox_capacity: self.inbox.max_capacity(),
            compression: self.compressor().map(|compressor| CompressionStats {
                made: compressor.made(),
                sent_plain_bytes: self.counters.sent_plain.load(Ordering::Relaxed),
                sent_compressed_bytes: self.counters.sent_compressed.load(Ordering::Relaxed),
            }),
        }
    }
}
