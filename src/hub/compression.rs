//! Compression: what a view hands out, compressed once for all readers that want it so.
//!
//! A compressed block may refer back to what its reader got before, which is what makes a stream of alike events
//! small. Readers of one view that keep up get the same bytes in the same order, so they can share such blocks: a
//! view's blocks come in *groups*. The first of a group, the keyframe, refers to nothing; the others refer to the
//! blocks of their group. A reader comes in at a keyframe. Whoever got anything else in between, be it one frame of its
//! own, has another past than the group has, and gets blocks that *stand alone* until the next keyframe; those are
//! shared as well. Both forms are made by the first reader that takes them.
//!
//! How blocks are made is the business of a [`Compressor`] that the hub is given; there is none where nobody wants any.

use std::{collections::VecDeque, fmt, sync::OnceLock};

use bytes::Bytes;

use super::view::Packed;
use crate::sync::{Mutex, lock};

/// A group ends after so many blocks. More of them make it hardly any smaller, and fewer hardly any sooner joined.
const GROUP_BLOCKS: u32 = 128;
/// And after so long: for no longer does a newcomer get blocks that stand alone.
const GROUP_US: u64 = 30_000_000;

/// Makes compressed blocks. Each ends on a byte and can be decoded as soon as it is there.
pub(crate) trait Compressor: Send + Sync {
    /// What whoever sums up a stream needs to know of these bytes.
    fn check(&self, plain: &[u8]) -> Check;

    /// A block that refers to nothing before it.
    fn alone(&self, plain: &[u8]) -> Block;

    /// The beginning of groups; `None` when there are as many as there may be.
    fn chain(&self) -> Option<Box<dyn Chain>>;

    /// What was made so far.
    fn made(&self) -> Made;
}

/// Makes the blocks of groups, one after the other.
pub(crate) trait Chain: Send {
    /// Forgets the past: what comes next is a keyframe.
    fn begin(&mut self);

    /// The next block; `None` when it can't be made, and nothing of this chain either then.
    fn next(&mut self, plain: &[u8]) -> Option<Block>;
}

/// Compressed bytes, and what to know of those that they stand for.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) bytes: Bytes,
    pub(crate) check: Check,
}

/// A checksum that those of a stream's parts add up to. The hub only hands it on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) sum: u32,
    /// What the sum of everything before is multiplied with.
    pub(crate) shift: u32,
    pub(crate) len: u32,
}

/// How many blocks were made of how many bytes.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Made {
    pub(crate) keyframes: u64,
    /// Those of groups, keyframes included.
    pub(crate) grouped: u64,
    pub(crate) alone: u64,
    pub(crate) chains: usize,
    pub(crate) plain_bytes: u64,
    pub(crate) compressed_bytes: u64,
}

/// The place of a block: its group, and its number there. A keyframe is number 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    group: u64,
    index: u32,
}

/// A block of a group.
#[derive(Clone, Debug)]
pub(super) struct Linked {
    pub(super) link: Link,
    pub(super) block: Block,
}

/// The compressed forms of one chunk.
#[derive(Debug, Default)]
pub(super) struct Forms {
    /// `None` inside: it is in no group.
    grouped: OnceLock<Option<Linked>>,
    alone: OnceLock<Block>,
}

impl Forms {
    /// The chunk as a block that stands alone, and how many bytes were made that have to be held now.
    pub(super) fn alone(&self, chunk: &Packed, compressor: &dyn Compressor) -> (Step, usize) {
        let mut made = 0;
        let alone = self.alone.get_or_init(|| {
            let block = compressor.alone(&chunk.bytes);
            made = block.bytes.len();
            block
        });
        (Step::Chunk(alone.clone(), None), made)
    }
}

/// What a reader of compressed blocks takes next.
#[derive(Debug)]
pub(super) enum Step {
    /// The chunk, as a block of a group or alone.
    Chunk(Block, Option<Link>),
    /// A heartbeat that its group had before the chunk.
    Beat(Beat),
}

/// A heartbeat in a group. It says where everybody stood who had read everything then.
#[derive(Clone, Debug)]
pub(super) struct Beat {
    pub(super) linked: Linked,
    pub(super) made_us: u64,
}

/// The groups of one view. Nobody waits for this lock but readers of compressed blocks, and the last of them to leave.
#[derive(Default)]
pub(super) struct Groups(Mutex<Current>);

#[derive(Default)]
struct Current {
    chain: Option<Box<dyn Chain>>,
    /// The newest block.
    last: Link,
    /// The event behind which a reader stands that has got all of the group.
    at: u64,
    began_us: u64,
    /// Those of the group; at most as many as it has blocks.
    beats: VecDeque<Beat>,
}

impl Groups {
    /// What a reader that is at `link` takes next, when the chunk behind `cursor` is next. The second value: how many
    /// bytes were made that have to be held now.
    pub(super) fn next(
        &self,
        chunk: &Packed,
        forms: &Forms,
        cursor: u64,
        link: Option<Link>,
        compressor: &dyn Compressor,
        now_us: u64,
    ) -> (Step, usize) {
        let mut made = 0;
        let grouped = match forms.grouped.get() {
            Some(grouped) => grouped,
            None => {
                // Under the lock, so that blocks are made in the order of the chunks, and each once.
                let mut current = lock(&self.0);
                forms.grouped.get_or_init(|| {
                    let grouped = current.extend(chunk, cursor, compressor, now_us);
                    made += grouped
                        .as_ref()
                        .map_or(0, |linked| linked.block.bytes.len());
                    grouped
                })
            }
        };
        if let Some(Linked { link: place, block }) = grouped {
            if place.index == 0 || link.map(Link::next) == Some(*place) {
                return (Step::Chunk(block.clone(), Some(*place)), made);
            }
            let is_before = |link: Link| link.group == place.group && link.index < place.index;
            if let Some(link) = link.filter(|link| is_before(*link))
                && let Some(beat) = self.beat_after(link, 0)
            {
                return (Step::Beat(beat), made);
            }
        }
        let (alone, more) = forms.alone(chunk, compressor);
        (alone, made + more)
    }

    /// The heartbeat that comes behind a block, if there is one that was made since then.
    pub(super) fn beat_after(&self, link: Link, since_us: u64) -> Option<Beat> {
        let current = lock(&self.0);
        let mut beats = current.beats.iter();
        beats
            .find(|beat| beat.linked.link == link.next() && beat.made_us >= since_us)
            .cloned()
    }

    /// Adds a heartbeat for a reader that has got all of the group; the others of the view take it from here. `None`
    /// when the reader is not there any more, or the group is at its end.
    pub(super) fn add_beat(
        &self,
        link: Link,
        cursor: u64,
        plain: &[u8],
        now_us: u64,
    ) -> Option<Linked> {
        let mut current = lock(&self.0);
        if current.last != link || current.at != cursor || current.is_full(now_us) {
            return None;
        }
        let linked = current.push(plain)?;
        let beat = Beat {
            linked: linked.clone(),
            made_us: now_us,
        };
        current.beats.push_back(beat);
        Some(linked)
    }

    /// Gives back what groups cost. The next block is a keyframe.
    pub(super) fn release(&self) {
        let mut current = lock(&self.0);
        current.chain = None;
        current.beats = VecDeque::new();
    }
}

impl Current {
    fn is_full(&self, now_us: u64) -> bool {
        self.last.index + 1 >= GROUP_BLOCKS || now_us.saturating_sub(self.began_us) >= GROUP_US
    }

    /// The block of the chunk behind `cursor`; `None` when the groups have passed that place already.
    fn extend(
        &mut self,
        chunk: &Packed,
        cursor: u64,
        compressor: &dyn Compressor,
        now_us: u64,
    ) -> Option<Linked> {
        let is_new = self.chain.is_none();
        if is_new {
            self.chain = Some(compressor.chain()?);
        } else if cursor < self.at {
            return None;
        }
        // Who has not got what lies between can't go on with the group, so nobody could.
        if is_new || cursor != self.at || self.is_full(now_us) {
            self.last = Link {
                group: self.last.group + 1,
                index: 0,
            };
            self.began_us = now_us;
            self.beats.clear();
            self.chain.as_mut()?.begin();
            self.at = chunk.to;
            return self.make(&chunk.bytes);
        }
        self.at = chunk.to;
        self.push(&chunk.bytes)
    }

    fn push(&mut self, plain: &[u8]) -> Option<Linked> {
        self.last = self.last.next();
        self.make(plain)
    }

    fn make(&mut self, plain: &[u8]) -> Option<Linked> {
        let Some(block) = self.chain.as_mut()?.next(plain) else {
            self.chain = None;
            return None;
        };
        Some(Linked {
            link: self.last,
            block,
        })
    }
}

impl Link {
    fn next(self) -> Self {
        Self {
            group: self.group,
            index: self.index + 1,
        }
    }
}

impl fmt::Debug for dyn Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Compressor").field(&self.made()).finish()
    }
}
