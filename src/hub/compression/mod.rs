//! Compression: what a view hands out, compressed once for all readers that want it so.
//!
//! A compressed block may refer back to what its reader got before, which is what makes a stream of alike events
//! small. Readers of one view that keep up get the same bytes in the same order, so they can share such blocks: a
//! view's blocks come in *groups*. The first of a group, the keyframe, refers to nothing; the others refer to the
//! blocks of their group. A reader comes in at a keyframe. Whoever got anything else in between, be it one frame of its
//! own, has another past than the group has, and gets blocks that *stand alone* until the next keyframe; those are
//! shared as well. Both forms are made by the first reader that takes them.
//!
//! A compressed block costs more than ten times as much as handing its bytes over, so whoever gets something that nobody
//! shares could have the host work for it alone. The [`Compressor`] is asked before each block whether so many bytes
//! are affordable for so many readers; where they are not, they go out as they are, as a block of their own kind.
//!
//! How blocks are made is the business of a [`Compressor`] that the hub is given; there is none where nobody wants any.

mod block;
mod groups;
mod past;

#[cfg(any(feature = "compression", all(test, not(loom))))]
pub(crate) use block::Chain;
pub(crate) use block::{Block, Check, Compressor, Made};
pub(super) use groups::{Beat, Forms, Groups, Link, Linked, Step, Wanted};
pub(super) use past::Compressed;

#[cfg(all(test, not(loom)))]
mod tests;
