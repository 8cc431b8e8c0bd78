//! What compression may cost: so that nobody can make the host compress without end.
//!
//! A thousand readers that share a block cost the host one compression, where writing it costs a thousand times as much
//! as for one. A reader that asks for what nobody else wants (a replay, a filter, a rate of its own) would have the host
//! compress for it alone, at more than ten times the price of writing. So what is compressed is paid from a budget, by
//! those who share it: many pay next to nothing each, and one alone gets what is to spare.

use crate::sync::{Mutex, lock};

/// How many bytes a second are compressed for a single reader; for n that share them, n times as many. Deflating them
/// takes about a twentieth of a core.
const BYTES_A_SECOND: usize = 4 << 20;

/// What is saved up at most, while nobody wants any.
const MAX_SAVED: usize = 2 << 20;

/// What a block costs beside its bytes: emptying the tables of a compressor takes as long as compressing this much.
const BLOCK: usize = 1024;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Budget(Mutex<Account>);

#[derive(Debug)]
struct Account {
    saved: usize,
    filled_us: u64,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Account {
            saved: MAX_SAVED,
            filled_us: 0,
        }))
    }

    /// Takes what compressing so many bytes costs; false, and nothing is taken, where that is too much now.
    pub(super) fn take(&self, bytes: usize, readers: usize, now_us: u64) -> bool {
        let cost = (bytes + BLOCK).div_ceil(readers.max(1));
        let mut account = lock(&self.0);
        account.fill(now_us);
        if account.saved < cost.saturating_add(kept_from(readers, MAX_SAVED)) {
            return false;
        }
        account.saved -= cost;
        true
    }
}

impl Account {
    fn fill(&mut self, now_us: u64) {
        // Not all who ask look at the same clock.
        let passed_us = now_us.saturating_sub(self.filled_us);
        let earned = u128::from(passed_us) * BYTES_A_SECOND as u128 / 1_000_000;
        if earned > 0 {
            let earned = usize::try_from(earned).unwrap_or(MAX_SAVED);
            self.saved = self.saved.saturating_add(earned).min(MAX_SAVED);
            self.filled_us = now_us;
        }
    }
}

/// How much of what there is so many readers leave to those who are more: half of it is out of reach for one, a third
/// for two. However many want something each for himself, those who share find something left.
pub(super) fn kept_from(readers: usize, all: usize) -> usize {
    all / readers.saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: usize = 64 * 1024;

    fn taken(budget: &Budget, readers: usize, now_us: u64) -> usize {
        (0..100_000)
            .take_while(|_| budget.take(CHUNK, readers, now_us))
            .count()
    }

    #[test]
    fn one_alone_gets_what_is_to_spare_and_leaves_half_of_it() {
        let budget = Budget::new();
        assert_eq!(taken(&budget, 1, 0), MAX_SAVED / 2 / (CHUNK + BLOCK));
        assert_eq!(taken(&budget, 1, 0), 0);
        assert!(taken(&budget, 2, 0) > 0, "two share it");
        assert!(taken(&budget, 1000, 0) > 1000, "these cost next to nothing");
    }

    #[test]
    fn what_is_earned_in_a_second_is_what_one_gets() {
        let budget = Budget::new();
        taken(&budget, 1, 0);
        let mut chunks = 0;
        for n in 1..=1000 {
            chunks += taken(&budget, 1, n * 1000);
        }
        let expected = BYTES_A_SECOND / (CHUNK + BLOCK);
        assert!(chunks.abs_diff(expected) <= 1, "{chunks} of {expected}");
        taken(&budget, 1, u64::MAX);
        assert_eq!(taken(&budget, 1, 5_000_000), 0, "a clock that is behind");
    }

    #[test]
    fn small_blocks_cost_what_they_take() {
        let budget = Budget::new();
        let blocks = (0..100_000).take_while(|_| budget.take(1, 1, 0)).count();
        assert_eq!(blocks, MAX_SAVED / 2 / (1 + BLOCK));
    }

    #[test]
    fn what_is_larger_than_all_savings_is_never_affordable() {
        let budget = Budget::new();
        for bytes in [MAX_SAVED, usize::MAX - BLOCK] {
            assert!(!budget.take(bytes, 1, u64::MAX));
        }
    }
}
