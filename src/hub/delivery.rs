//! Delivery: how a subscription hands bytes over, as they are or compressed.

use bytes::Bytes;

use super::{
    compression::{Beat, Block, Check, Compressed, Link, Linked, Step},
    packed::Packed,
    read::Read,
    subscription::Subscription,
};
use crate::sync::Ordering;

/// How old a heartbeat of the group may be that a reader takes for its own.
const FRESH_BEAT_US: u64 = 3_000_000;

impl Subscription {
    /// From now on [`Read::Events`] are compressed blocks. Whatever else the client is sent has to stand alone, but for
    /// heartbeats, which are to be offered to [`compress_beat`](Self::compress_beat). False where nothing compresses.
    pub(crate) fn compress(&mut self) -> bool {
        let Some(compressor) = self.hub.compressor() else {
            return false;
        };
        self.compressed = Some(Box::new(Compressed::new(compressor.clone())));
        self.view.begin_compressing(&self.reader);
        true
    }

    /// What the last [`Read::Events`] stand for, where they are compressed.
    pub(crate) fn check(&self) -> Check {
        self.compressed
            .as_ref()
            .map_or_else(Check::default, |compressed| compressed.check)
    }

    /// A heartbeat that has just been asked for, as a block that all readers share where that is possible.
    pub(crate) fn compress_beat(&mut self, plain: &[u8]) -> Option<Block> {
        let compressed = self.compressed.as_mut()?;
        let link = compressed.link_before_beat.take()?;
        let now_us = self.hub.coarse_now_us();
        let linked = self
            .view
            .add_beat(link, self.cursor, self.told, plain, now_us)?;
        compressed.link = Some(linked.link);
        self.count_sent(&linked.block);
        Some(linked.block)
    }

    /// The heartbeat that is due: that of the group, where there is a fresh one.
    pub(super) fn beat(&mut self) -> Read {
        let link = self.lose_link();
        let since_us = self.hub.coarse_now_us().saturating_sub(FRESH_BEAT_US);
        if let Some(beat) = link.and_then(|link| self.view.beat_after(link, since_us)) {
            return self.hand_over_beat(beat);
        }
        if let Some(compressed) = &mut self.compressed {
            compressed.link_before_beat = link;
        }
        Read::Heartbeat(self.position())
    }

    /// What comes next of the view for a reader of compressed blocks.
    pub(super) fn compressed_step(&self, packed: &Packed) -> Option<Step> {
        let link = self.compressed.as_ref()?.link;
        let now_us = self.hub.coarse_now_us();
        self.view.compressed(packed, self.cursor, link, now_us)
    }

    /// Moves behind a chunk; the block is the view's, where it has one.
    pub(super) fn deliver(&mut self, packed: Packed, block: Option<(Block, Option<Link>)>) -> Read {
        // A read of the logs has moved the cursor already, to the end of what it queued.
        self.cursor = self.cursor.max(packed.to);
        self.set_told(self.told.max(packed.to));
        let mut events = 0;
        for (channel, count) in packed.counts.iter() {
            channel
                .delivered
                .fetch_add(u64::from(*count), Ordering::Relaxed);
            events += u64::from(*count);
        }
        let reader = &*self.reader;
        reader.cursor.store(packed.to, Ordering::Relaxed);
        // Written by this subscription alone: a load and a store cost less than an exchange.
        reader.events.store(
            reader.events.load(Ordering::Relaxed) + events,
            Ordering::Relaxed,
        );
        self.hand_over(packed.bytes, block)
    }

    /// Bytes as the reader wants them. What the view has no block for is this reader's own: it stands alone, and is
    /// compressed only as far as that costs the host no more than it has to spare.
    pub(super) fn hand_over(&mut self, plain: Bytes, block: Option<(Block, Option<Link>)>) -> Read {
        let Some(compressed) = &mut self.compressed else {
            self.count_bytes(plain.len());
            return Read::Events(plain);
        };
        let (block, link) = block.unwrap_or_else(|| {
            let now_us = self.hub.coarse_now_us();
            let compressor = &*compressed.compressor;
            (compressor.alone_or_stored(&plain, 1, now_us), None)
        });
        compressed.link = link;
        compressed.check = block.check;
        self.count_sent(&block);
        Read::Events(block.bytes)
    }

    fn count_sent(&self, block: &Block) {
        self.hub
            .count_compressed(block.check.len as usize, block.bytes.len());
        self.count_bytes(block.bytes.len());
    }

    fn count_bytes(&self, bytes: usize) {
        let sent = self.reader.bytes.load(Ordering::Relaxed) + bytes as u64;
        self.reader.bytes.store(sent, Ordering::Relaxed);
    }

    /// A heartbeat of the view's group.
    pub(super) fn hand_over_beat(&mut self, beat: Beat) -> Read {
        let interval_us = self.hub.settings.heartbeat_interval.as_micros() as u64;
        self.reader.has_beaten(beat.made_us, interval_us);
        // Everything of the view up to there has been read: the reader stands where the heartbeat was made.
        self.set_told(self.told.max(beat.told));
        let Linked { link, block } = beat.linked;
        if let Some(compressed) = &mut self.compressed {
            compressed.link = Some(link);
            compressed.check = block.check;
        }
        self.count_sent(&block);
        Read::Events(block.bytes)
    }

    /// The client gets something that others do not: it has another past than the group has.
    pub(super) fn lose_link(&mut self) -> Option<Link> {
        let compressed = self.compressed.as_mut()?;
        compressed.link_before_beat = None;
        compressed.link.take()
    }
}
