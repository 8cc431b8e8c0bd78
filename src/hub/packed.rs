//! Chunks: runs of events, put together for one write.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use bytes::Bytes;

use super::{
    channel::ChannelInfo,
    compression::Forms,
    entry::{Encoder, Entry, Form},
};

/// The largest chunk that a reader is handed at once, a single event that is larger aside. It is a part of what a stalled
/// client keeps in memory: what the server holds for its socket is 16 pieces of 16 KiB at most, of chunks the first of
/// which may be written in part and the last handed over in part, and one more chunk may have been read ahead of that from
/// the logs. Together that is 256 + 3 * 64 = 448 KiB, and as much of it as others stand at is theirs as well.
pub(crate) const MAX_CHUNK_BYTES: usize = 64 * 1024;

/// Some consecutive events of one entry.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) entry: Arc<Entry>,
    pub(crate) range: Range<u32>,
}

impl Item {
    pub(super) fn first_seq(&self) -> u64 {
        self.entry.first + u64::from(self.range.start)
    }

    pub(super) fn last_seq(&self) -> u64 {
        self.entry.first + u64::from(self.range.end) - 1
    }

    /// What one of its events weighs, about.
    pub(super) fn weight_each(&self) -> u64 {
        (self.entry.weight / self.entry.len.max(1) as usize) as u64
    }
}

/// Bytes for one write, and where they leave the reader.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    pub(crate) to: u64,
    /// When the first of its events was appended.
    pub(crate) at_us: u64,
    pub(crate) bytes: Bytes,
    pub(crate) counts: Arc<[(Arc<ChannelInfo>, u32)]>,
    /// Where it is shared, and somebody may want it compressed.
    pub(super) forms: Option<Arc<Forms>>,
}

/// Takes as many items from the front as fit into one chunk; at least one event.
pub(crate) fn pack_first(
    items: &mut VecDeque<Item>,
    form: Form,
    encoder: Encoder,
) -> Option<Packed> {
    let mut parts: Vec<Bytes> = Vec::new();
    let mut counts: Vec<(Arc<ChannelInfo>, u32)> = Vec::new();
    let mut total = 0;
    let mut to = None;
    let at_us = items.front()?.entry.at_us;
    while let Some(mut item) = items.pop_front() {
        let mut bytes = item.entry.bytes(form, encoder, item.range.clone());
        if total + bytes.len() > MAX_CHUNK_BYTES {
            let mut rest = item.clone();
            // Halving finds a prefix that fits in a few steps; entries hold 128 events at most.
            while total + bytes.len() > MAX_CHUNK_BYTES && item.range.len() > 1 {
                item.range.end = item.range.start + item.range.len() as u32 / 2;
                bytes = item.entry.bytes(form, encoder, item.range.clone());
            }
            if total > 0 && total + bytes.len() > MAX_CHUNK_BYTES {
                items.push_front(rest);
                break;
            }
            rest.range.start = item.range.end;
            if !rest.range.is_empty() {
                items.push_front(rest);
            }
        }
        total += bytes.len();
        to = Some(item.last_seq());
        match counts
            .iter_mut()
            .find(|(channel, _)| channel.id == item.entry.channel.id)
        {
            Some((_, count)) => *count += item.range.len() as u32,
            None => counts.push((item.entry.channel.clone(), item.range.len() as u32)),
        }
        parts.push(bytes);
        if total >= MAX_CHUNK_BYTES {
            break;
        }
    }
    let bytes = match parts.len() {
        1 => parts.swap_remove(0),
        _ => parts.concat().into(),
    };
    Some(Packed {
        to: to?,
        at_us,
        bytes,
        counts: counts.into(),
        forms: None,
    })
}
