//! Blocks: what is made of bytes, and what makes them.

use std::fmt;

use bytes::Bytes;

/// Makes compressed blocks. Each ends on a byte and can be decoded as soon as it is there.
pub(crate) trait Compressor: Send + Sync {
    /// The checksum of these bytes by themselves.
    fn sum(&self, plain: &[u8]) -> u32;

    /// Whether so many bytes may be compressed for so many readers now; what is granted counts as done.
    fn affords(&self, bytes: usize, readers: usize, now_us: u64) -> bool;

    /// A block that refers to nothing before it.
    fn alone(&self, plain: &[u8]) -> Block;

    /// The bytes as they are, as a block. It costs next to nothing.
    fn stored(&self, plain: &[u8]) -> Block;

    /// What makes a group; `None` when there are as many as there may be for views with so many readers.
    fn chain(&self, readers: usize) -> Option<Box<dyn Chain>>;

    /// What was made so far.
    fn made(&self) -> Made;
}

/// Makes the blocks of one group, one after the other; the first is the keyframe.
pub(crate) trait Chain: Send {
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
    /// Left as they were, because enough was compressed at the time.
    pub(crate) stored: u64,
    pub(crate) chains: usize,
    pub(crate) plain_bytes: u64,
    pub(crate) compressed_bytes: u64,
}

impl dyn Compressor {
    /// A block that refers to nothing before it: compressed where that is affordable for so many readers.
    pub(crate) fn alone_or_stored(&self, plain: &[u8], readers: usize, now_us: u64) -> Block {
        match self.affords(plain.len(), readers, now_us) {
            true => self.alone(plain),
            false => self.stored(plain),
        }
    }
}

impl fmt::Debug for dyn Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Compressor").field(&self.made()).finish()
    }
}
