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

use super::push_stored;
use crate::hub::{Block, Chain, Check, Compressor, Made};

/// How many groups may be under way at a time: each keeps a compressor of about 320 KB. What is beyond that gets blocks
/// that stand alone.
const MAX_CHAINS: usize = 32;

thread_local! {
    /// For blocks that stand alone: one belongs to each thread that makes any.
    static ALONE: RefCell<Compress> = RefCell::new(compress());
}

fn compress() -> Compress {
    Compress::new(Compression::default(), false)
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Deflate {
    counts: Arc<Counts>,
}

/// Relaxed: they order nothing.
#[derive(Default)]
struct Counts {
    chains: AtomicUsize,
    keyframes: AtomicU64,
    grouped: AtomicU64,
    alone: AtomicU64,
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

    fn alone(&self, plain: &[u8]) -> Block {
        let deflated = ALONE.with_borrow_mut(|compress| {
            compress.reset();
            deflate(compress, plain)
        });
        // What can't be made smaller goes out as it is.
        let bytes = deflated
            .filter(|deflated| deflated.len() <= plain.len() + 5)
            .unwrap_or_else(|| {
                let mut stored = Vec::with_capacity(plain.len() + 5);
                push_stored(plain, &mut stored);
                stored
            });
        let block = self.block(bytes, plain);
        self.counts.count(&self.counts.alone, &block);
        block
    }

    fn chain(&self) -> Option<Box<dyn Chain>> {
        let chains = &self.counts.chains;
        if chains.fetch_add(1, Ordering::Relaxed) >= MAX_CHAINS {
            chains.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Box::new(Group {
            compress: compress(),
            is_new: true,
            deflate: Self {
                counts: self.counts.clone(),
            },
        }))
    }

    fn made(&self) -> Made {
        let counts = &self.counts;
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Made {
            keyframes: load(&counts.keyframes),
            grouped: load(&counts.grouped),
            alone: load(&counts.alone),
            chains: counts.chains.load(Ordering::Relaxed),
            plain_bytes: load(&counts.plain_bytes),
            compressed_bytes: load(&counts.compressed_bytes),
        }
    }
}

impl Deflate {
    fn block(&self, deflated: Vec<u8>, plain: &[u8]) -> Block {
        Block {
            // Many of them lie in the tail of a view: none shall hold more than it has.
            bytes: Bytes::from(deflated.into_boxed_slice()),
            check: Check::of(self.sum(plain), plain),
        }
    }
}

/// A window that goes on from block to block.
struct Group {
    compress: Compress,
    is_new: bool,
    deflate: Deflate,
}

impl Chain for Group {
    fn begin(&mut self) {
        self.compress.reset();
        self.is_new = true;
    }

    fn next(&mut self, plain: &[u8]) -> Option<Block> {
        let deflated = deflate(&mut self.compress, plain)?;
        let block = self.deflate.block(deflated, plain);
        let counts = &self.deflate.counts;
        counts.count(&counts.grouped, &block);
        if std::mem::take(&mut self.is_new) {
            counts.keyframes.fetch_add(1, Ordering::Relaxed);
        }
        Some(block)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.deflate.counts.chains.fetch_sub(1, Ordering::Relaxed);
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
