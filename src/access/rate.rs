//! Inbound rates: how often one principal may read or change something, from one address.
//!
//! A bucket of our own rather than `governor`'s keyed limiter: that one keeps every key it has seen until somebody
//! asks it to forget, has a clock of its own that tests can't pause, and brings a concurrent map and a random
//! generator with it. This table is bounded and forgets by itself.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use super::{peer::household, principal::Principal};
use crate::{
    clock::Clock,
    sync::{Mutex, lock},
};

/// At most this many of them are remembered. Where more are busy at the same time, those with the fullest buckets
/// are forgotten: they lose least by it.
const MAX_BUCKETS: usize = 4096;

/// A token bucket for each principal at each address: a minute's worth at once, then at an even pace.
///
/// For the principal alone it would not do: all holders of one bearer token are one principal, and one of them would
/// use up what is there for the others. Whoever has many addresses can do as much from each of them.
#[derive(Debug)]
pub(crate) struct Rates {
    a_minute: u32,
    clock: Clock,
    buckets: Mutex<HashMap<Key, Bucket>>,
}

/// Id and tenant, where it is known who it is, and the household.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    owner: Option<(Arc<str>, Option<Arc<str>>)>,
    address: Option<IpAddr>,
}

impl Key {
    fn of(address: IpAddr) -> Self {
        Self {
            owner: None,
            address: Some(household(address)),
        }
    }
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
            clock,
            buckets: Mutex::default(),
        }
    }

    /// Takes one; the error says how long until there is another.
    pub(crate) fn take(
        &self,
        principal: &Principal,
        address: Option<IpAddr>,
    ) -> Result<(), Duration> {
        self.take_of(Key {
            owner: Some(principal.owner()),
            address: address.map(household),
        })
    }

    /// The same for all of an address.
    pub(super) fn take_at(&self, address: IpAddr) -> Result<(), Duration> {
        self.take_of(Key::of(address))
    }

    /// How long until there is one for this address; `None` where there is one. Takes none.
    pub(super) fn wait_at(&self, address: IpAddr) -> Option<Duration> {
        let now_us = self.clock.now_us();
        let tokens = lock(&self.buckets)
            .get(&Key::of(address))
            .map(|bucket| self.level(bucket, now_us))?;
        self.until_one(tokens)
    }

    fn take_of(&self, key: Key) -> Result<(), Duration> {
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
        match self.until_one(bucket.tokens) {
            Some(wait) => Err(wait),
            None => {
                bucket.tokens -= 1.0;
                Ok(())
            }
        }
    }

    fn until_one(&self, tokens: f64) -> Option<Duration> {
        let missing = 1.0 - tokens;
        let wait = || Duration::from_secs_f64(missing * 60.0 / f64::from(self.a_minute));
        (missing > 0.0).then(wait)
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
    }

    #[tokio::test(start_paused = true)]
    async fn holders_of_one_token_are_told_apart_by_household() {
        let rates = Rates::new(1, Clock::new());
        let take = |user: &str, address: &str| {
            rates
                .take(&Principal::viewer(user), Some(address.parse().unwrap()))
                .is_ok()
        };
        assert!(take("bearer", "192.0.2.1"));
        assert!(!take("bearer", "192.0.2.1"));
        assert!(!take("bearer", "::ffff:192.0.2.1"));
        assert!(take("bearer", "192.0.2.2"));
        assert!(take("other", "192.0.2.1"));
        // Another address of the same /64 is no way to more.
        assert!(take("bearer", "2001:db8::1"));
        assert!(!take("bearer", "2001:db8::2"));
        assert!(take("bearer", "2001:db8:0:1::1"));
    }
}
