//! Inbound rates: how often one principal may change something.
//!
//! A bucket of our own rather than `governor`'s keyed limiter: that one keeps every key it has seen until somebody
//! asks it to forget, has a clock of its own that tests can't pause, and brings a concurrent map and a random
//! generator with it, for a path that sees a hundred calls a minute. This table is bounded and forgets by itself.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use super::principal::Principal;
use crate::{
    clock::Clock,
    sync::{Mutex, lock},
};

/// At most this many principals are remembered. Where more are busy at the same time, those with the fullest buckets
/// are forgotten: they lose least by it.
const MAX_BUCKETS: usize = 4096;

/// A token bucket for each principal: a minute's worth at once, then at an even pace.
#[derive(Debug)]
pub(crate) struct Rates {
    a_minute: u32,
    /// Not only the anonymous are told apart by their address.
    by_address: bool,
    clock: Clock,
    buckets: Mutex<HashMap<Key, Bucket>>,
}

/// Id and tenant; anonymous principals are told apart by their address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    owner: (Arc<str>, Option<Arc<str>>),
    address: Option<IpAddr>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    filled_us: u64,
}

impl Rates {
    pub(crate) fn new(a_minute: usize, clock: Clock) -> Self {
        let a_minute = u32::try_from(a_minute).unwrap_or(u32::MAX).max(1);
        Self {
            a_minute,
            by_address: false,
            clock,
            buckets: Mutex::default(),
        }
    }

    /// For each principal at each address: where many hold one token, one of them shall not use up what is there for
    /// the others.
    pub(crate) fn by_address(a_minute: usize, clock: Clock) -> Self {
        Self {
            by_address: true,
            ..Self::new(a_minute, clock)
        }
    }

    /// Takes one; the error says how long until there is another.
    pub(crate) fn take(
        &self,
        principal: &Principal,
        address: Option<IpAddr>,
    ) -> Result<(), Duration> {
        let key = Key {
            owner: principal.owner(),
            address: address.filter(|_| self.by_address || principal.is_anonymous()),
        };
        let now_us = self.clock.now_us();
        let mut buckets = lock(&self.buckets);
        if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(&key) {
            self.forget(&mut buckets, now_us);
        }
        let full = Bucket {
            tokens: f64::from(self.a_minute),
            filled_us: now_us,
        };
        let bucket = buckets.entry(key).or_insert(full);
        bucket.tokens = self.level(bucket, now_us);
        bucket.filled_us = now_us;
        if bucket.tokens < 1.0 {
            let missing = 1.0 - bucket.tokens;
            return Err(Duration::from_secs_f64(
                missing * 60.0 / f64::from(self.a_minute),
            ));
        }
        bucket.tokens -= 1.0;
        Ok(())
    }

    fn level(&self, bucket: &Bucket, now_us: u64) -> f64 {
        let passed = now_us.saturating_sub(bucket.filled_us) as f64 / 60e6;
        let a_minute = f64::from(self.a_minute);
        (bucket.tokens + passed * a_minute).min(a_minute)
    }

    /// Makes room: a bucket that is full again says nothing; where none is, half of them go, the fullest first.
    fn forget(&self, buckets: &mut HashMap<Key, Bucket>, now_us: u64) {
        buckets.retain(|_, bucket| self.level(bucket, now_us) < f64::from(self.a_minute));
        if buckets.len() < MAX_BUCKETS {
            return;
        }
        let mut levels: Vec<f64> = buckets
            .values()
            .map(|bucket| self.level(bucket, now_us))
            .collect();
        levels.sort_unstable_by(f64::total_cmp);
        let median = levels[levels.len() / 2];
        buckets.retain(|_, bucket| self.level(bucket, now_us) < median);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_minutes_worth_at_once_then_one_at_a_time() {
        let rates = Rates::new(60, Clock::new());
        let ana = Principal::viewer("ana");
        for _ in 0..60 {
            rates.take(&ana, None).unwrap();
        }
        let wait = rates.take(&ana, None).unwrap_err();
        assert!(wait <= Duration::from_secs(1), "{wait:?}");
        rates.take(&Principal::viewer("bo"), None).unwrap();
        tokio::time::advance(wait).await;
        rates.take(&ana, None).unwrap();
        rates.take(&ana, None).unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_are_told_apart_by_address_and_the_table_is_bounded() {
        let rates = Rates::new(1, Clock::new());
        let at = |n: u32| rates.take(&Principal::anonymous(), Some(IpAddr::V4(n.into())));
        at(0).unwrap();
        assert!(at(0).is_err());
        for n in 1..3 * MAX_BUCKETS as u32 {
            at(n).unwrap();
            assert!(lock(&rates.buckets).len() <= MAX_BUCKETS);
        }
        // An account's own address is no way to more.
        let ana = Principal::viewer("ana");
        rates.take(&ana, Some(IpAddr::V4(1.into()))).unwrap();
        assert!(rates.take(&ana, Some(IpAddr::V4(2.into()))).is_err());
        let rates = Rates::by_address(1, Clock::new());
        rates.take(&ana, Some(IpAddr::V4(1.into()))).unwrap();
        rates.take(&ana, Some(IpAddr::V4(2.into()))).unwrap();
        assert!(rates.take(&ana, Some(IpAddr::V4(1.into()))).is_err());
    }
}
