//! Views: what all readers of the same channels, filter and wire form share.
//!
//! A view is handed each event that its readers want, once. At a flush what has come since becomes one chunk,
//! encoded by the first reader that takes it and shared by all that stand at the same place. A reader that has
//! fallen behind the last few chunks reads the logs instead; nothing is queued for it here.

use std::{collections::VecDeque, fmt, ops::Range, sync::Arc};

use bytes::Bytes;

use super::{
    channel::{ChannelId, ChannelInfo},
    compression::{Beat, Compressor, Forms, Groups, Link, Linked, Step},
    entry::{Encoder, Entry, Form},
    event::Narrowed,
    filter::Filter,
    reader::Reader,
};
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering, lock};

/// The largest chunk that a reader is handed at once. hyper takes up to 16 buffers before it asks the socket, and
/// stops above about 400 KB, so this also bounds what a stalled client pins.
pub(crate) const MAX_CHUNK_BYTES: usize = 64 * 1024;

/// How much a view keeps for readers that are a little behind.
const MAX_TAIL_BYTES: usize = 256 * 1024;
const MAX_TAIL_CHUNKS: usize = 64;

/// Which channels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ChannelSet {
    /// All that are not hidden, those to come included.
    All,
    /// The same, with a variant in the place of each of some: `(instead of, variant)`.
    AllBut(Box<[(ChannelId, ChannelId)]>),
    /// Sorted, without repeats.
    Some(Box<[ChannelId]>),
}

/// What makes two readers share a view.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ViewSpec {
    pub(crate) channels: ChannelSet,
    pub(crate) filter: Filter,
    /// The reader's tenant: events that are not of this tenant do not exist for it.
    pub(crate) tenant: Option<Arc<str>>,
    pub(crate) form: Form,
}

impl ViewSpec {
    pub(crate) fn wants(&self, channel: &ChannelInfo) -> bool {
        match &self.channels {
            ChannelSet::All => !channel.hidden,
            ChannelSet::AllBut(replaced) => match channel.hidden {
                true => replaced.iter().any(|(_, variant)| *variant == channel.id),
                false => !replaced
                    .iter()
                    .any(|(instead_of, _)| *instead_of == channel.id),
            },
            ChannelSet::Some(ids) => ids.binary_search(&channel.id).is_ok(),
        }
    }

    /// Whether the reader wants any of an entry's events, and may see it.
    pub(crate) fn selects(&self, entry: &Arc<Entry>) -> bool {
        let mut wanted = VecDeque::new();
        self.select(entry, 0..entry.len, &mut wanted);
        !wanted.is_empty()
    }

    /// The runs of an entry's events, within `range`, that the reader wants and may see.
    pub(crate) fn select(&self, entry: &Arc<Entry>, range: Range<u32>, into: &mut VecDeque<Item>) {
        if self.tenant.is_none() && self.filter.is_empty() {
            if !range.is_empty() {
                into.push_back(Item {
                    entry: entry.clone(),
                    range,
                });
            }
            return;
        }
        match entry.source.narrow(&self.filter, self.tenant.as_deref()) {
            Narrowed::Whole => {}
            Narrowed::Nothing => return,
            Narrowed::Rows(source) => {
                let entry = Arc::new(entry.with_source(source));
                into.push_back(Item { entry, range });
                return;
            }
        }
        let mut run = range.start..range.start;
        for index in range {
            let tags = entry.source.tags(index as usize);
            let visible = self.tenant.is_none() || self.tenant.as_deref() == tags.tenant;
            if visible && self.filter.matches(&tags) {
                run.end = index + 1;
                continue;
            }
            if !run.is_empty() {
                into.push_back(Item {
                    entry: entry.clone(),
                    range: run,
                });
            }
            run = index + 1..index + 1;
        }
        if !run.is_empty() {
            into.push_back(Item {
                entry: entry.clone(),
                range: run,
            });
        }
    }
}

/// Some consecutive events of one entry.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) entry: Arc<Entry>,
    pub(crate) range: Range<u32>,
}

impl Item {
    fn last_seq(&self) -> u64 {
        self.entry.first + u64::from(self.range.end) - 1
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

/// See the module's documentation.
pub(crate) struct View {
    pub(crate) spec: ViewSpec,
    encoder: Encoder,
    /// Up to where readers may read: the end of the newest chunk.
    head: AtomicU64,
    tail: Mutex<Tail>,
    readers: Mutex<Vec<Arc<Reader>>>,
    /// Is on the hub's task's list. Only that task reads and writes it: relaxed.
    listed: AtomicBool,
    /// When it was sealed last; the hub's task's, too.
    shown_us: AtomicU64,
    compressor: Option<Arc<dyn Compressor>>,
    /// How many of the readers want compressed blocks. Changed under their list's lock, read by nobody else.
    compressing: AtomicUsize,
    groups: Groups,
}

struct Tail {
    /// Handed in since the last flush, not yet visible.
    pending: VecDeque<Item>,
    pending_to: u64,
    pending_weight: usize,
    /// Contiguous: each begins where the one before ends.
    chunks: VecDeque<Chunk>,
    weight: usize,
}

struct Chunk {
    from: u64,
    to: u64,
    weight: usize,
    content: Content,
}

enum Content {
    Lazy(VecDeque<Item>),
    Ready(Packed),
}

/// What a view has for a reader.
#[derive(Debug)]
pub(crate) enum ViewRead {
    /// It has seen everything.
    Empty,
    /// The next chunk.
    Chunk(Packed),
    /// It is too far behind for the view; the logs have what there is up to this place.
    Behind(u64),
}

impl View {
    pub(crate) fn new(
        spec: ViewSpec,
        encoder: Encoder,
        compressor: Option<Arc<dyn Compressor>>,
        head: u64,
    ) -> Self {
        Self {
            spec,
            encoder,
            head: AtomicU64::new(head),
            tail: Mutex::new(Tail {
                pending: VecDeque::new(),
                pending_to: head,
                pending_weight: 0,
                chunks: VecDeque::new(),
                weight: 0,
            }),
            readers: Mutex::new(Vec::new()),
            listed: AtomicBool::new(false),
            shown_us: AtomicU64::new(0),
            compressor,
            compressing: AtomicUsize::new(0),
            groups: Groups::default(),
        }
    }

    pub(crate) fn encoder(&self) -> Encoder {
        self.encoder
    }

    /// Up to where readers may read. `SeqCst`: see [`Reader::arm`].
    pub(crate) fn head(&self) -> u64 {
        self.head.load(Ordering::SeqCst)
    }

    /// Takes in an entry; true when there is something to flush now.
    pub(crate) fn push(&self, entry: &Arc<Entry>) -> bool {
        let mut tail = lock(&self.tail);
        let before = tail.pending.len();
        self.spec.select(entry, 0..entry.len, &mut tail.pending);
        if tail.pending.len() == before {
            return before > 0;
        }
        tail.pending_to = entry.last();
        tail.pending_weight += entry.weight;
        true
    }

    /// Makes what has come since the last flush visible, as one chunk.
    pub(crate) fn seal(&self) {
        let mut tail = lock(&self.tail);
        if tail.pending.is_empty() {
            return;
        }
        let items = std::mem::take(&mut tail.pending);
        let weight = std::mem::take(&mut tail.pending_weight);
        let chunk = Chunk {
            from: self.head(),
            to: tail.pending_to,
            weight,
            content: Content::Lazy(items),
        };
        let to = chunk.to;
        tail.weight += weight;
        tail.chunks.push_back(chunk);
        while tail.chunks.len() > 1
            && (tail.weight > MAX_TAIL_BYTES || tail.chunks.len() > MAX_TAIL_CHUNKS)
        {
            if let Some(oldest) = tail.chunks.pop_front() {
                tail.weight -= oldest.weight;
            }
        }
        self.head.store(to, Ordering::SeqCst);
    }

    /// Puts it on the hub's task's list: when it may be shown, or `None` when it is on the list already.
    pub(crate) fn list(&self, now_us: u64, flush_us: u64) -> Option<u64> {
        if self.listed.swap(true, Ordering::Relaxed) {
            return None;
        }
        // The first event after quiet goes out at once; what follows waits for company.
        let shown_us = self.shown_us.load(Ordering::Relaxed);
        let due_us = if shown_us == 0 {
            now_us
        } else {
            shown_us + flush_us
        };
        Some(due_us.max(now_us))
    }

    /// Takes it off that list and makes what it has visible.
    pub(crate) fn show(&self, now_us: u64) {
        self.listed.store(false, Ordering::Relaxed);
        self.shown_us.store(now_us.max(1), Ordering::Relaxed);
        self.seal();
    }

    /// What comes next for a reader that stands behind `cursor`.
    pub(crate) fn read(&self, cursor: u64) -> ViewRead {
        if self.head() <= cursor {
            return ViewRead::Empty;
        }
        let mut tail = lock(&self.tail);
        // Most readers keep up: theirs is the newest.
        let index = match tail.chunks.back() {
            Some(newest) if newest.from == cursor => tail.chunks.len() - 1,
            _ => tail.chunks.partition_point(|chunk| chunk.from < cursor),
        };
        if tail
            .chunks
            .get(index)
            .is_none_or(|chunk| chunk.from != cursor)
        {
            return ViewRead::Behind(self.head());
        }
        self.make_ready(&mut tail, index);
        match &tail.chunks[index].content {
            Content::Ready(packed) => ViewRead::Chunk(packed.clone()),
            Content::Lazy(_) => ViewRead::Behind(self.head()),
        }
    }

    /// Encodes a chunk; one that is too large for a write becomes several.
    fn make_ready(&self, tail: &mut Tail, index: usize) {
        let chunk = &mut tail.chunks[index];
        let Content::Lazy(items) = &mut chunk.content else {
            return;
        };
        let mut items = std::mem::take(items);
        let (mut from, end, old_weight) = (chunk.from, chunk.to, chunk.weight);
        let mut ready = Vec::with_capacity(1);
        while let Some(mut packed) = pack_first(&mut items, self.spec.form, self.encoder) {
            if items.is_empty() {
                packed.to = end;
            }
            packed.forms = self.compressor.is_some().then(Arc::default);
            let to = packed.to;
            ready.push(Chunk {
                from,
                to,
                weight: packed.bytes.len(),
                content: Content::Ready(packed),
            });
            from = to;
        }
        let new_weight: usize = ready.iter().map(|chunk| chunk.weight).sum();
        tail.weight = tail.weight - old_weight + new_weight;
        let after = tail.chunks.split_off(index + 1);
        tail.chunks.truncate(index);
        tail.chunks.extend(ready);
        tail.chunks.extend(after);
    }

    /// The next chunk behind `cursor` compressed, or a heartbeat that comes before it, for a reader that has got
    /// everything up to `link`. `None` where the chunk is not one of the view's.
    pub(super) fn compressed(
        &self,
        chunk: &Packed,
        cursor: u64,
        link: Option<Link>,
        now_us: u64,
    ) -> Option<Step> {
        let (forms, compressor) = (chunk.forms.as_ref()?, self.compressor.as_deref()?);
        // A group costs a compressor; those who want something special share with too few to be worth one.
        let (step, made) = match self.spec.filter.is_empty() {
            true => self
                .groups
                .next(chunk, forms, cursor, link, compressor, now_us),
            false => forms.alone(chunk, compressor),
        };
        if made > 0 {
            let mut tail = lock(&self.tail);
            let index = tail.chunks.partition_point(|chunk| chunk.from < cursor);
            // It may have gone meanwhile, and then nothing holds the bytes.
            if let Some(held) = tail
                .chunks
                .get_mut(index)
                .filter(|held| held.from == cursor)
            {
                held.weight += made;
                tail.weight += made;
            }
        }
        Some(step)
    }

    /// See [`Groups::beat_after`].
    pub(super) fn beat_after(&self, link: Link, since_us: u64) -> Option<Beat> {
        self.groups.beat_after(link, since_us)
    }

    /// See [`Groups::add_beat`].
    pub(super) fn add_beat(
        &self,
        link: Link,
        cursor: u64,
        told: u64,
        plain: &[u8],
        now_us: u64,
    ) -> Option<Linked> {
        self.groups.add_beat(link, cursor, told, plain, now_us)
    }

    /// From now on a reader wants compressed blocks.
    pub(super) fn begin_compressing(&self, reader: &Reader) {
        let readers = lock(&self.readers);
        // One that was let go meanwhile would never be counted off.
        if is_among(&readers, reader) && !reader.compresses.swap(true, Ordering::Relaxed) {
            self.compressing.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn join(&self, reader: Arc<Reader>) {
        let mut readers = lock(&self.readers);
        let compresses = usize::from(reader.compresses.load(Ordering::Relaxed));
        self.compressing.fetch_add(compresses, Ordering::Relaxed);
        reader.place.store(readers.len(), Ordering::Relaxed);
        readers.push(reader);
    }

    /// Takes a reader off the list; true when it was the last. Harmless when it is not on it.
    pub(crate) fn leave(&self, reader: &Reader) -> bool {
        let mut readers = lock(&self.readers);
        if is_among(&readers, reader) {
            let place = reader.place.load(Ordering::Relaxed);
            readers.swap_remove(place);
            if let Some(moved) = readers.get(place) {
                moved.place.store(place, Ordering::Relaxed);
            }
            if reader.compresses.load(Ordering::Relaxed)
                && self.compressing.fetch_sub(1, Ordering::Relaxed) == 1
            {
                self.groups.release();
            }
        }
        readers.is_empty()
    }

    pub(crate) fn has(&self, reader: &Reader) -> bool {
        is_among(&lock(&self.readers), reader)
    }

    /// Wakes up to `count` readers below the place `below`, and tells below which place to go on. In slices, so
    /// that joining and leaving never wait for ten thousand wakes. From the end down, because a reader that leaves
    /// is replaced by the last one: that one may then be woken twice, but none is ever passed over.
    pub(crate) fn wake_slice(&self, below: usize, count: usize) -> usize {
        let readers = lock(&self.readers);
        let end = below.min(readers.len());
        let start = end.saturating_sub(count);
        for reader in &readers[start..end] {
            reader.wake();
        }
        start
    }

    pub(crate) fn for_each_reader(&self, mut each: impl FnMut(&Arc<Reader>)) {
        for reader in lock(&self.readers).iter() {
            each(reader);
        }
    }

    pub(crate) fn reader_count(&self) -> usize {
        lock(&self.readers).len()
    }
}

fn is_among(readers: &[Arc<Reader>], reader: &Reader) -> bool {
    let place = reader.place.load(Ordering::Relaxed);
    readers
        .get(place)
        .is_some_and(|found| std::ptr::eq(&**found, reader))
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("spec", &self.spec)
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}
