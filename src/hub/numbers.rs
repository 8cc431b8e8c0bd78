//! Numbers of readers: each is given once, and none tells how many were given.
//!
//! They stand in the names of connections. Counted up, a viewer that connects twice could tell from its two how many
//! others came in between, whoever they were.

use std::hash::{BuildHasher, RandomState};

use crate::sync::{AtomicU64, Ordering};

/// Short, and a number that JavaScript can hold.
const HALF_BITS: u32 = 24;
const HALF_MASK: u64 = (1 << HALF_BITS) - 1;
/// So many make a permutation that can't be told from a random one (Luby and Rackoff).
const ROUNDS: u8 = 4;

/// A counter behind a permutation of 48 bits that nobody knows: a Feistel network around a keyed hash, which is one
/// to one whatever the hash is. So none comes twice before all 2^48 were given.
pub(super) struct Numbers {
    given: AtomicU64,
    key: RandomState,
}

impl Numbers {
    pub(super) fn new() -> Self {
        Self {
            given: AtomicU64::new(0),
            key: RandomState::new(),
        }
    }

    pub(super) fn next(&self) -> u64 {
        let count = self.given.fetch_add(1, Ordering::Relaxed);
        let (mut left, mut right) = (count >> HALF_BITS & HALF_MASK, count & HALF_MASK);
        for round in 0..ROUNDS {
            let mixed = left ^ self.key.hash_one((round, right)) & HALF_MASK;
            (left, right) = (right, mixed);
        }
        left << HALF_BITS | right
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_is_given_once_and_none_tells_how_many_were() {
        const COUNT: usize = 20_000;
        let numbers = Numbers::new();
        let given: Vec<_> = (0..COUNT).map(|_| numbers.next()).collect();
        assert_eq!(given.iter().collect::<HashSet<_>>().len(), COUNT);
        assert!(given.iter().all(|number| *number < 1 << 48));
        // As many go up as go down, and nobody else's are the same.
        let up = given.windows(2).filter(|pair| pair[0] < pair[1]).count();
        assert!((COUNT * 45 / 100..COUNT * 55 / 100).contains(&up), "{up}");
        let other = Numbers::new();
        let same = given.iter().filter(|number| **number == other.next());
        assert!(same.count() < 2);
    }
}
