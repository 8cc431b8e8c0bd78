//! Views: what all readers of the same channels, filter and wire form share.
//!
//! A view is handed each event that its readers want, once. At a flush what has come since becomes one chunk,
//! encoded by the first reader that takes it and shared by all that stand at the same place. A reader that has
//! fallen behind the last few chunks reads the logs instead; nothing is queued for it here.

use std::{collections::VecDeque, fmt, sync::Arc};

use super::{
    compression::{Beat, Compressor, Groups, Link, Linked, Step, Wanted},
    entry::{Encoder, Entry},
    packed::{Item, Packed, pack_first},
    reader::Reader,
    spec::ViewSpec,
};
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering, lock};

/// How much a view keeps for readers that are a little behind.
const MAX_TAIL_BYTES: usize = 256 * 1024;
const MAX_TAIL_CHUNKS: usize = 64;

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
    /// How many of the readers want compressed blocks. Changed under their list's lock; relaxed, as it says only what
    /// a block is worth.
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
        let wanted = Wanted {
            plain: &chunk.bytes,
            from: cursor,
            to: chunk.to,
            // At least the one that asks: it may have been let go meanwhile.
            readers: self.compressing.load(Ordering::Relaxed).max(1),
            now_us,
        };
        // A group costs a compressor; those who want something special share with too few to be worth one.
        let (step, made) = match self.spec.filter.is_empty() {
            true => self.groups.next(wanted, forms, link, compressor),
            false => forms.alone(wanted, compressor),
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
        reader.place.store(readers.len() as u32, Ordering::Relaxed);
        readers.push(reader);
    }

    /// Takes a reader off the list; true when it was the last. Harmless when it is not on it.
    pub(crate) fn leave(&self, reader: &Reader) -> bool {
        let mut readers = lock(&self.readers);
        if is_among(&readers, reader) {
            let place = reader.place.load(Ordering::Relaxed);
            readers.swap_remove(place as usize);
            if let Some(moved) = readers.get(place as usize) {
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
        .get(place as usize)
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
