//! Deflate blocks (RFC 1951), each ended by a sync flush.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use flate2::{Compress, Compression, Crc, FlushCompress};

use super::{
    MAX_STORED,
    budget::{Budget, kept_from},
    push_stored,
};
use crate::hub::{Block, Chain, Check, Compressor, Made};

/// How many groups may be under way at a time: each keeps a compressor of about 320 KB. What is beyond that gets blocks
/// that stand alone. A view with one reader leaves half of them to those with more, one with two a third, and so on:
/// somebody who reads many sets of channels does not take them from a view that many watch.
const MAX_CHAINS: usize = 32;

thread_local! {
    /// For blocks that stand alone: one belongs to each thread that makes any.
    static ALONE: RefCell<Compress> = RefCell::new(compress());
}

fn compress() -> Compress {
    Compress::new(Compression::default(), false)
}

/// See the module's documentation.
pub(super) struct Deflate {
    counts: Arc<Counts>,
    budget: Budget,
}

/// Relaxed: they order nothing.
#[derive(Default)]
struct Counts {
    chains: AtomicUsize,
    keyframes: AtomicU64,
    grouped: AtomicU64,
    alone: AtomicU64,
    stored: AtomicU64,
    plain_bytes: AtomicU64,
    compressed_bytes: AtomicU64,
}

impl Counts {
    fn count(&self, of: &AtomicU64, block: &Block) {
        of.fetch_add(1, Ordering::Relaxed);
        self.plain_bytes
            .fetch_add(u64::from(block.check.len), Ordering::Relaxed);
        self.compressed_bytes
            .fetch_add(block.bytes.len() as u64, Ordering::Relaxed);
    }
}

impl Compressor for Deflate {
    fn sum(&self, plain: &[u8]) -> u32 {
        let mut crc = Crc::new();
        crc.update(plain);
        crc.sum()
    }

    fn affords(&self, bytes: usize, readers: usize, now_us: u64) -> bool {
        self.budget.take(bytes, readers, now_us)
    }

    fn alone(&self, plain: &[u8]) -> Block {
        let deflated = ALONE.with_borrow_mut(|compress| {
            compress.reset();
            deflate(compress, plain)
        });
        // What can't be made smaller goes out as it is.
        let bytes = deflated
            .filter(|deflated| deflated.len() <= plain.len() + 5)
            .unwrap_or_else(|| stored(plain));
        let block = block(bytes, plain);
        self.counts.count(&self.counts.alone, &block);
        block
    }

    fn stored(&self, plain: &[u8]) -> Block {
        self.counts.stored.fetch_add(1, Ordering::Relaxed);
        block(stored(plain), plain)
    }

    fn chain(&self, readers: usize) -> Option<Box<dyn Chain>> {
        let chains = &self.counts.chains;
        let places = MAX_CHAINS - kept_from(readers, MAX_CHAINS);
        if chains.fetch_add(1, Ordering::Relaxed) >= places {
            chains.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Box::new(Group {
            compress: compress(),
            is_new: true,
            counts: self.counts.clone(),
        }))
    }

    fn made(&self) -> Made {
        let counts = &self.counts;
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Made {
            keyframes: load(&counts.keyframes),
            grouped: load(&counts.grouped),
            alone: load(&counts.alone),
            stored: load(&counts.stored),
            chains: counts.chains.load(Ordering::Relaxed),
            plain_bytes: load(&counts.plain_bytes),
            compressed_bytes: load(&counts.compressed_bytes),
        }
    }
}

impl Deflate {
    pub(super) fn new() -> Self {
        Self {
            counts: Arc::default(),
            budget: Budget::new(),
        }
    }
}

fn block(bytes: Vec<u8>, plain: &[u8]) -> Block {
    let mut crc = Crc::new();
    crc.update(plain);
    Block {
        // Many of them lie in the tail of a view: none shall hold more than it has.
        bytes: Bytes::from(bytes.into_boxed_slice()),
        check: Check::of(crc.sum(), plain),
    }
}

fn stored(plain: &[u8]) -> Vec<u8> {
    let blocks = plain.len().div_ceil(MAX_STORED);
    let mut stored = Vec::with_capacity(plain.len() + 5 * blocks);
    push_stored(plain, &mut stored);
    stored
}

/// A window that goes on from block to block.
struct Group {
    compress: Compress,
    is_new: bool,
    counts: Arc<Counts>,
}

impl Chain for Group {
    fn next(&mut self, plain: &[u8]) -> Option<Block> {
        let deflated = deflate(&mut self.compress, plain)?;
        let block = block(deflated, plain);
        let counts = &self.counts;
        counts.count(&counts.grouped, &block);
        if std::mem::take(&mut self.is_new) {
            counts.keyframes.fetch_add(1, Ordering::Relaxed);
        }
        Some(block)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.counts.chains.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Deflates all of it and flushes. `None` does not happen with a compressor that is used as here.
fn deflate(compress: &mut Compress, plain: &[u8]) -> Option<Vec<u8>> {
    let begin = compress.total_in();
    let mut out = Vec::with_capacity(plain.len() / 3 + 64);
    loop {
        let done = usize::try_from(compress.total_in() - begin).ok()?;
        compress
            .compress_vec(plain.get(done..)?, &mut out, FlushCompress::Sync)
            .ok()?;
        // With room to spare, all input is taken and the flush is complete; asking again would flush again.
        if out.len() < out.capacity() {
            let done = compress.total_in() - begin;
            return (done == plain.len() as u64).then_some(out);
        }
        out.reserve(out.capacity());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_sets_that_one_reads_do_not_take_the_groups_from_those_who_share() {
        let deflate = Deflate::new();
        let all = |readers| std::iter::from_fn(|| deflate.chain(readers)).collect::<Vec<_>>();
        let lone = all(1);
        assert_eq!(lone.len(), 16);
        assert!(deflate.chain(1).is_none());
        let pairs = all(2);
        assert_eq!(pairs.len(), 6);
        let crowds = all(1000);
        assert_eq!(lone.len() + pairs.len() + crowds.len(), MAX_CHAINS);
        drop(lone);
        assert!(deflate.chain(2).is_some());
        drop((pairs, crowds));
        assert_eq!(deflate.made().chains, 0);
        assert_eq!(all(1).len(), 16);
    }

    #[test]
    fn what_is_stored_is_decoded_as_what_is_deflated() {
        let deflate = Deflate::new();
        let plain: Vec<u8> = (0..200_000).map(|n| (n / 7) as u8).collect();
        let mut inflate = flate2::Decompress::new(false);
        for block in [
            deflate.stored(&plain),
            deflate.alone(&plain),
            deflate.stored(b""),
        ] {
            let mut out = Vec::with_capacity(plain.len() + 1);
            let flush = flate2::FlushDecompress::Sync;
            inflate
                .decompress_vec(&block.bytes, &mut out, flush)
                .unwrap();
            assert_eq!(out.len() as u32, block.check.len);
            assert!(out.is_empty() || out == plain);
            assert_eq!(block.check.sum, deflate.sum(&out));
        }
        let made = deflate.made();
        assert_eq!((made.alone, made.stored), (1, 2));
    }
}
