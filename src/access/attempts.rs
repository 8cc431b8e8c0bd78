//! Attempts: how many wrong credentials one address may try, before nobody there is listened to for a while.

use std::{collections::HashSet, net::IpAddr, time::Duration};

use http::{HeaderMap, header};
use sha2::{Digest, Sha256};

use super::rate::Rates;
use crate::{
    clock::Clock,
    sync::{Mutex, lock},
};

/// Credentials that were good lately and are remembered as such, at least; twice as many at most, 32 bytes each.
const REMEMBERED: usize = 4096;

/// Counts wrong credentials by the address that they came from.
///
/// Whoever has tried too many is refused before the credentials are looked at: an answer, whichever, would tell a good
/// guess from a bad one. Others behind the same address must not be kept out by that, so credentials that were good
/// before are looked at all the same. They are remembered as digests, and it makes nobody good: they are checked as ever.
#[derive(Debug)]
pub(super) struct Attempts {
    rates: Rates,
    good: Mutex<Good>,
}

/// Two generations, the newer one filled up to its bound: no use has to be noted while nothing is forgotten.
#[derive(Debug, Default)]
struct Good {
    newer: HashSet<[u8; 32]>,
    older: HashSet<[u8; 32]>,
}

impl Attempts {
    pub(super) fn new(a_minute: usize, clock: Clock) -> Self {
        Self {
            rates: Rates::new(a_minute, clock),
            good: Mutex::default(),
        }
    }

    /// How long until somebody at this address is listened to again; `None` for at once.
    pub(super) fn wait(&self, address: IpAddr, headers: &HeaderMap) -> Option<Duration> {
        let wait = self.rates.wait_at(address)?;
        let is_good = digest(headers).is_some_and(|digest| lock(&self.good).has(&digest));
        (!is_good).then_some(wait)
    }

    /// The credentials were wrong.
    pub(super) fn failed(&self, address: IpAddr) {
        // Those that were under way while the last one failed are more than are left, which is no news.
        let _ = self.rates.take_at(address);
    }

    /// The credentials were good.
    pub(super) fn succeeded(&self, headers: &HeaderMap) {
        if let Some(digest) = digest(headers) {
            lock(&self.good).add(digest);
        }
    }
}

impl Good {
    fn has(&self, digest: &[u8; 32]) -> bool {
        self.newer.contains(digest) || self.older.contains(digest)
    }

    fn add(&mut self, digest: [u8; 32]) {
        if self.newer.contains(&digest) {
            return;
        }
        if self.newer.len() >= REMEMBERED {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(digest);
    }
}

/// Of what usually carries credentials; `None` where nothing does.
fn digest(headers: &HeaderMap) -> Option<[u8; 32]> {
    let mut hasher = Sha256::new();
    let mut found = false;
    for name in [header::AUTHORIZATION, header::COOKIE] {
        for value in headers.get_all(&name) {
            found = true;
            hasher.update(name.as_str());
            hasher.update((value.len() as u64).to_le_bytes());
            hasher.update(value.as_bytes());
        }
    }
    found.then(|| hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn bearer(token: &str) -> HeaderMap {
        let value = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
        HeaderMap::from_iter([(header::AUTHORIZATION, value)])
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_wrong_ones_close_an_address_but_not_to_who_was_good_before() {
        let attempts = Attempts::new(60, Clock::new());
        let (here, there) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        attempts.succeeded(&bearer("good"));
        for _ in 0..60 {
            assert_eq!(attempts.wait(here, &bearer("guess")), None);
            attempts.failed(here);
        }
        let wait = attempts.wait(here, &bearer("guess")).unwrap();
        assert!(wait <= Duration::from_secs(1), "{wait:?}");
        assert!(attempts.wait(here, &HeaderMap::new()).is_some());
        assert_eq!(attempts.wait(here, &bearer("good")), None);
        assert_eq!(attempts.wait(there, &bearer("guess")), None);
        tokio::time::advance(wait).await;
        assert_eq!(attempts.wait(here, &bearer("guess")), None);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_newest_is_among_it() {
        let mut good = Good::default();
        for n in 0..10 * REMEMBERED {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&n.to_le_bytes());
            good.add(digest);
            assert!(good.has(&digest));
            assert!(good.newer.len() + good.older.len() <= 2 * REMEMBERED);
        }
    }
}
