//! A small random number generator (SplitMix64): believable traffic needs variety, not secrecy.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// A generator unlike the others of this process; the same ones in every run.
    pub(crate) fn fresh() -> Self {
        static NEXT_SEED: AtomicU64 = AtomicU64::new(0x7ea1_71de);
        Self(Self(NEXT_SEED.fetch_add(1, Ordering::Relaxed)).next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 (inclusive) to 1 (exclusive).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// 0 (inclusive) to `end` (exclusive).
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.unit() * end as f64) as usize
    }

    /// Few are picked often and many seldom, as with users and models.
    pub(crate) fn favourite<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let skewed = self.unit().powi(2);
        &items[(skewed * items.len() as f64) as usize]
    }

    /// The time to the next of independent events: Poisson arrivals.
    pub(crate) fn pause(&mut self, rate_per_second: f64) -> Duration {
        Duration::from_secs_f64(-(1.0 - self.unit()).ln() / rate_per_second)
    }

    /// Around `median`, seldom much more, as latencies and lengths of answers are.
    pub(crate) fn around(&mut self, median: f64) -> f64 {
        let bell = (0..4).map(|_| self.unit()).sum::<f64>() - 2.0;
        median * (bell * 0.9).exp()
    }
}
