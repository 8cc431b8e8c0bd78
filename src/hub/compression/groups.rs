//! Groups: the blocks of one view, each of which refers to those of its group before it.

use std::{collections::VecDeque, sync::OnceLock};

use super::block::{Block, Chain, Compressor};
use crate::sync::{Mutex, lock};

/// A group ends after so many blocks. More of them make it hardly any smaller, and fewer hardly any sooner joined.
pub(super) const GROUP_BLOCKS: u32 = 128;
/// And after so long: for no longer does a newcomer get blocks that stand alone.
const GROUP_US: u64 = 30_000_000;

/// The place of a block: its group, and its number there. A keyframe is number 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::hub) struct Link {
    group: u64,
    index: u32,
}

/// A block of a group.
#[derive(Clone, Debug)]
pub(in crate::hub) struct Linked {
    pub(in crate::hub) link: Link,
    pub(in crate::hub) block: Block,
}

/// The compressed forms of one chunk.
#[derive(Debug, Default)]
pub(in crate::hub) struct Forms {
    /// `None` inside: it is in no group.
    grouped: OnceLock<Option<Linked>>,
    alone: OnceLock<Block>,
}

/// A chunk that somebody wants compressed.
#[derive(Clone, Copy, Debug)]
pub(in crate::hub) struct Wanted<'a> {
    pub(in crate::hub) plain: &'a [u8],
    /// Behind which event it begins, and with which it ends.
    pub(in crate::hub) from: u64,
    pub(in crate::hub) to: u64,
    /// How many readers of the view get compressed blocks.
    pub(in crate::hub) readers: usize,
    pub(in crate::hub) now_us: u64,
}

impl Wanted<'_> {
    fn is_affordable(&self, compressor: &dyn Compressor) -> bool {
        compressor.affords(self.plain.len(), self.readers, self.now_us)
    }
}

impl Forms {
    /// The chunk as a block that stands alone, and how many bytes were made that have to be held now.
    pub(in crate::hub) fn alone(
        &self,
        wanted: Wanted<'_>,
        compressor: &dyn Compressor,
    ) -> (Step, usize) {
        self.alone_where(|| wanted.is_affordable(compressor), wanted, compressor)
    }

    fn alone_where(
        &self,
        is_affordable: impl FnOnce() -> bool,
        wanted: Wanted<'_>,
        compressor: &dyn Compressor,
    ) -> (Step, usize) {
        let mut made = 0;
        let alone = self.alone.get_or_init(|| {
            let block = match is_affordable() {
                true => compressor.alone(wanted.plain),
                false => compressor.stored(wanted.plain),
            };
            made = block.bytes.len();
            block
        });
        (Step::Chunk(alone.clone(), None), made)
    }
}

/// What a reader of compressed blocks takes next.
#[derive(Debug)]
pub(in crate::hub) enum Step {
    /// The chunk, as a block of a group or alone.
    Chunk(Block, Option<Link>),
    /// A heartbeat that its group had before the chunk.
    Beat(Beat),
}

/// A heartbeat in a group. It says where everybody stood who had read everything then.
#[derive(Clone, Debug)]
pub(in crate::hub) struct Beat {
    pub(in crate::hub) linked: Linked,
    pub(in crate::hub) made_us: u64,
    /// The position that it tells.
    pub(in crate::hub) told: u64,
}

/// The groups of one view. Nobody waits for this lock but readers of compressed blocks, and the last of them to leave.
#[derive(Default)]
pub(in crate::hub) struct Groups(Mutex<Current>);

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
    /// What a reader that is at `link` takes next, when this chunk is next. The second value: how many
    /// bytes were made that have to be held now.
    pub(in crate::hub) fn next(
        &self,
        wanted: Wanted<'_>,
        forms: &Forms,
        link: Option<Link>,
        compressor: &dyn Compressor,
    ) -> (Step, usize) {
        let mut made = 0;
        // What is granted for a group that then can't have the chunk does for the block that stands alone.
        let mut granted = None;
        let grouped = match forms.grouped.get() {
            Some(grouped) => grouped,
            None => {
                // Under the lock, so that blocks are made in the order of the chunks, and each once.
                let mut current = lock(&self.0);
                forms.grouped.get_or_init(|| {
                    let is_affordable = wanted.is_affordable(compressor);
                    let grouped = is_affordable
                        .then(|| current.extend(wanted, compressor))
                        .flatten();
                    match &grouped {
                        Some(linked) => made += linked.block.bytes.len(),
                        None => granted = Some(is_affordable),
                    }
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
        let is_affordable = || granted.unwrap_or_else(|| wanted.is_affordable(compressor));
        let (alone, more) = forms.alone_where(is_affordable, wanted, compressor);
        (alone, made + more)
    }

    /// The heartbeat that comes behind a block, if there is one that was made since then.
    pub(in crate::hub) fn beat_after(&self, link: Link, since_us: u64) -> Option<Beat> {
        let current = lock(&self.0);
        let mut beats = current.beats.iter();
        beats
            .find(|beat| beat.linked.link == link.next() && beat.made_us >= since_us)
            .cloned()
    }

    /// Adds a heartbeat for a reader that has got all of the group; the others of the view take it from here. `None`
    /// when the reader is not there any more, or the group is at its end.
    pub(in crate::hub) fn add_beat(
        &self,
        link: Link,
        cursor: u64,
        told: u64,
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
            told,
        };
        current.beats.push_back(beat);
        Some(linked)
    }

    /// Gives back what groups cost. The next block is a keyframe.
    pub(in crate::hub) fn release(&self) {
        let mut current = lock(&self.0);
        current.chain = None;
        current.beats = VecDeque::new();
    }
}

impl Current {
    fn is_full(&self, now_us: u64) -> bool {
        self.last.index + 1 >= GROUP_BLOCKS || now_us.saturating_sub(self.began_us) >= GROUP_US
    }

    /// The block of a chunk; `None` when the groups have passed that place already, and where there are enough groups.
    fn extend(&mut self, wanted: Wanted<'_>, compressor: &dyn Compressor) -> Option<Linked> {
        let is_under_way = self.chain.is_some();
        if is_under_way && wanted.from < self.at {
            return None;
        }
        let goes_on = is_under_way && wanted.from == self.at && !self.is_full(wanted.now_us);
        self.at = wanted.to;
        // Who has not got what lies between can't go on with the group, so nobody could.
        if goes_on {
            return self.push(wanted.plain);
        }
        self.last = Link {
            group: self.last.group + 1,
            index: 0,
        };
        self.began_us = wanted.now_us;
        self.beats.clear();
        // Given back before another is asked for: a view that has lost its readers may not get it again.
        self.chain = None;
        self.chain = Some(compressor.chain(wanted.readers)?);
        self.make(wanted.plain)
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
