//! Blocks: what is made of bytes, and what makes them.

use std::fmt;

use bytes::Bytes;

/// Makes compressed blocks. Each ends on a byte and can be decoded as soon as it is there.
pub(crate) trait Compressor: Send + Sync {
    /// The checksum of these bytes by themselves.
    fn sum(&self, plain: &[u8]) -> u32;

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

impl fmt::Debug for dyn Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Compressor").field(&self.made()).finish()
    }
}
