//! Distinct users: exact while they are few, a sketch of 4 KB once they are many.

use std::{collections::HashSet, hash::BuildHasherDefault};

use super::users::AlreadyHashed;

/// Exact up to so many.
const EXACT: usize = 256;
const PRECISION: u32 = 12;
const REGISTERS: usize = 1 << PRECISION;
/// Ranks that the bits beside the register's number can show.
const RANKS: usize = 64 - PRECISION as usize;

type Hashes = HashSet<u64, BuildHasherDefault<AlreadyHashed>>;

/// A set of hashes of which only the size is asked for: HyperLogLog with a standard error of 1.6 %, read with Ertl's
/// estimator (arXiv 1702.01284), which has no bias between small and large counts.
#[derive(Clone, Debug)]
pub(crate) enum Distinct {
    Exact(Hashes),
    Sketch(Box<[u8]>),
}

impl Default for Distinct {
    fn default() -> Self {
        Self::Exact(Hashes::default())
    }
}

impl Distinct {
    /// What one takes on the heap at most: a set of 256 hashes is a table of 512 places of 9 bytes.
    pub(crate) const CEILING: usize = 512 * 9 + 64;

    pub(crate) fn insert(&mut self, hash: u64) {
        match self {
            Self::Exact(hashes) => {
                hashes.insert(hash);
                if hashes.len() > EXACT {
                    let mut registers = vec![0; REGISTERS].into_boxed_slice();
                    for &hash in hashes.iter() {
                        raise(&mut registers, hash);
                    }
                    *self = Self::Sketch(registers);
                }
            }
            Self::Sketch(registers) => raise(registers, hash),
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        match other {
            Self::Exact(hashes) => {
                for &hash in hashes {
                    self.insert(hash);
                }
            }
            Self::Sketch(more) => {
                if let Self::Exact(hashes) = self {
                    let hashes = std::mem::take(hashes);
                    *self = Self::Sketch(more.clone());
                    for hash in hashes {
                        self.insert(hash);
                    }
                } else if let Self::Sketch(registers) = self {
                    for (register, more) in registers.iter_mut().zip(more) {
                        *register = (*register).max(*more);
                    }
                }
            }
        }
    }

    pub(crate) fn count(&self) -> u64 {
        match self {
            Self::Exact(hashes) => hashes.len() as u64,
            Self::Sketch(registers) => estimate(registers).round() as u64,
        }
    }

    pub(crate) fn is_approximate(&self) -> bool {
        matches!(self, Self::Sketch(_))
    }

    pub(crate) fn clear(&mut self) {
        match self {
            Self::Exact(hashes) => hashes.clear(),
            Self::Sketch(_) => *self = Self::default(),
        }
    }
}

fn raise(registers: &mut [u8], hash: u64) {
    let register = (hash >> (64 - PRECISION)) as usize;
    let rest = hash << PRECISION;
    let rank = (rest.leading_zeros() as usize).min(RANKS) + 1;
    registers[register] = registers[register].max(rank as u8);
}

fn estimate(registers: &[u8]) -> f64 {
    let mut ranks = [0u32; RANKS + 2];
    for &register in registers {
        ranks[register as usize] += 1;
    }
    let m = REGISTERS as f64;
    let mut z = m * tau(1.0 - f64::from(ranks[RANKS + 1]) / m);
    for rank in (1..=RANKS).rev() {
        z = 0.5 * (z + f64::from(ranks[rank]));
    }
    z += m * sigma(f64::from(ranks[0]) / m);
    m * m / (2.0 * std::f64::consts::LN_2 * z)
}

fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

/// Users who were seen within the user timeout, and since midnight UTC. Neither ever goes back in time.
#[derive(Debug)]
pub(crate) struct Audience {
    /// One set a minute, over the timeout.
    minutes: Vec<(u64, Distinct)>,
    today: Distinct,
    minute: u64,
    day: u64,
    round: u64,
}

impl Audience {
    pub(crate) fn new(user_timeout: std::time::Duration) -> Self {
        Self {
            minutes: (0..Self::minutes(user_timeout))
                .map(|_| (0, Distinct::default()))
                .collect(),
            today: Distinct::default(),
            minute: 0,
            day: 0,
            round: 0,
        }
    }

    /// The minutes of the timeout, rounded up, and the one in progress; at most a day.
    pub(crate) fn minutes(user_timeout: std::time::Duration) -> usize {
        (user_timeout.as_secs().div_ceil(60).clamp(1, 1_440) + 1) as usize
    }

    /// Changes with the minute and with the day: a user has to be inserted once in each round.
    pub(crate) fn round(&self) -> u64 {
        self.round
    }

    /// Moves on: minutes with the ladder, the day with the wall clock.
    pub(crate) fn advance(&mut self, ladder_seconds: u64, wall_seconds: u64) {
        let (minute, day) = (ladder_seconds / 60, wall_seconds / 86_400);
        if minute > self.minute {
            self.minute = minute;
            self.round += 1;
        }
        if day > self.day {
            self.day = day;
            self.today.clear();
            self.round += 1;
        }
    }

    pub(crate) fn insert(&mut self, hash: u64) {
        let at = (self.minute % self.minutes.len() as u64) as usize;
        let (minute, users) = &mut self.minutes[at];
        if *minute != self.minute {
            *minute = self.minute;
            users.clear();
        }
        users.insert(hash);
        self.today.insert(hash);
    }

    pub(crate) fn active(&self) -> Distinct {
        let oldest = (self.minute + 1).saturating_sub(self.minutes.len() as u64);
        let mut active = Distinct::default();
        for (minute, users) in &self.minutes {
            if *minute >= oldest {
                active.merge(users);
            }
        }
        active
    }

    pub(crate) fn today(&self) -> &Distinct {
        &self.today
    }
}

#[cfg(test)]
mod tests {
    use std::{hash::BuildHasher, time::Duration};

    use rapidhash::quality::SeedableState;

    use super::*;

    fn hash(seed: u64, user: u64) -> u64 {
        SeedableState::fixed().hash_one(format!("{seed}/user-{user}"))
    }

    #[test]
    fn counts_exactly_up_to_256() {
        let mut users = Distinct::default();
        for user in (0..256).chain(0..256) {
            users.insert(hash(0, user));
        }
        assert_eq!((users.count(), users.is_approximate()), (256, false));
        users.insert(hash(0, 256));
        assert!(users.is_approximate());
        assert!(users.count().abs_diff(257) <= 4);
    }

    #[test]
    fn the_sketch_stays_within_three_percent() {
        for n in [1_000u64, 3_000, 10_000, 20_000, 100_000] {
            let mut sum = 0.0;
            for seed in 0..10 {
                let mut users = Distinct::default();
                for user in 0..n {
                    users.insert(hash(seed, user));
                }
                let error = users.count() as f64 / n as f64 - 1.0;
                // One in ten thousand sketches may be four standard errors off; the seeds here are fixed.
                assert!(error.abs() < 0.05, "{error} at {n}");
                sum += error;
            }
            assert!(
                (sum / 10.0).abs() < 0.015,
                "biased by {} at {n}",
                sum / 10.0
            );
        }
        let mut users = Distinct::default();
        for user in 0..100_000 {
            users.insert(hash(99, user));
        }
        assert!((users.count() as f64 / 100_000.0 - 1.0).abs() < 0.03);
    }

    #[test]
    fn merging_is_the_union() {
        for (a, b) in [
            (0..100, 50..200),
            (0..100, 50..5_000),
            (0..4_000, 2_000..5_000),
            (0..4_000, 10..20),
        ] {
            let set = |range: std::ops::Range<u64>| {
                let mut users = Distinct::default();
                range.for_each(|user| users.insert(hash(1, user)));
                users
            };
            let mut merged = set(a.clone());
            merged.merge(&set(b.clone()));
            assert_eq!(merged.count(), set(a.start..b.end.max(a.end)).count());
        }
    }

    #[test]
    fn users_leave_after_the_timeout_and_at_midnight() {
        let mut audience = Audience::new(Duration::from_secs(300));
        let midnight = 86_400 * 20_000;
        audience.advance(midnight - 30, midnight - 30);
        audience.insert(1);
        audience.insert(2);
        audience.advance(midnight + 30, midnight + 30);
        audience.insert(2);
        assert_eq!(audience.today().count(), 1);
        assert_eq!(audience.active().count(), 2);
        // A clock that is set back does not bring yesterday back.
        audience.advance(midnight - 30, midnight - 30);
        audience.insert(3);
        assert_eq!(audience.today().count(), 2);
        audience.advance(midnight + 60 * 5 + 59, midnight + 60 * 5 + 59);
        assert_eq!(audience.active().count(), 2);
        audience.advance(midnight + 60 * 6, midnight + 60 * 6);
        assert_eq!(audience.active().count(), 0);
        assert_eq!(audience.today().count(), 2);
    }
}
