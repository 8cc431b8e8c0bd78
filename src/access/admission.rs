//! Admission: how many streams and sockets one principal and one address may hold, and how often they may open one. The
//! newest is refused.
//!
//! `max_clients`, the bound for all, is the hub's own: it counts the readers in process, too.

use std::{collections::HashMap, hash::Hash, net::IpAddr, sync::Arc, time::Duration};

use super::{peer::household, principal::Principal, rate::Rates};
use crate::{
    refusal::Refusal,
    sync::{Mutex, lock},
};

/// Counts those who are there. Bounded by `max_clients`: whoever is refused there gives its seat back.
#[derive(Debug)]
pub(crate) struct Admission {
    max_of_user: Option<usize>,
    max_of_address: Option<usize>,
    /// Of openings, and of reads over REST. `None` for no bound.
    rates: Option<Rates>,
    counts: Mutex<Counts>,
}

/// A principal's id and tenant.
type Owner = (Arc<str>, Option<Arc<str>>);

#[derive(Debug, Default)]
struct Counts {
    users: HashMap<Owner, usize>,
    addresses: HashMap<IpAddr, usize>,
}

/// One admitted client; dropping it frees its place. Empty where no limit counts it, as an idle viewer shall be small.
#[derive(Debug)]
pub(crate) struct Seat {
    _counted: Option<Box<Counted>>,
}

#[derive(Debug)]
struct Counted {
    admission: Arc<Admission>,
    user: Option<Owner>,
    address: Option<IpAddr>,
}

impl Admission {
    pub(crate) fn new(
        max_of_user: Option<usize>,
        max_of_address: Option<usize>,
        rates: Option<Rates>,
    ) -> Arc<Self> {
        Arc::new(Self {
            max_of_user,
            max_of_address,
            rates,
            counts: Mutex::default(),
        })
    }

    /// A read over REST, or 429.
    pub(crate) fn read(
        &self,
        principal: &Principal,
        address: Option<IpAddr>,
    ) -> Result<(), Refusal> {
        let Some(rates) = &self.rates else {
            return Ok(());
        };
        rates.take(principal, address).map_err(|wait| {
            let sentence = "more reads and openings a minute than reads_per_minute allows";
            // Rounded up, so that it is not too early then.
            Refusal::too_many("rate_limited", sentence)
                .with_retry_after(wait + Duration::from_secs(1))
        })
    }

    /// A seat, or 429. It counts as a read, also where there is none. Anonymous principals share an id, so the bound for each user is not theirs; a client whose
    /// address nobody said is not counted by address.
    pub(crate) fn admit(
        self: &Arc<Self>,
        principal: &Principal,
        address: Option<IpAddr>,
    ) -> Result<Seat, Refusal> {
        self.read(principal, address)?;
        let user = Some(principal.owner())
            .filter(|_| self.max_of_user.is_some() && !principal.is_anonymous());
        let address = address
            .filter(|_| self.max_of_address.is_some())
            .map(household);
        if user.is_none() && address.is_none() {
            return Ok(Seat { _counted: None });
        }
        let mut counts = lock(&self.counts);
        let is_full = |held: Option<&usize>, max: Option<usize>| {
            max.is_some_and(|max| held.copied().unwrap_or(0) >= max)
        };
        if user
            .as_ref()
            .is_some_and(|user| is_full(counts.users.get(user), self.max_of_user))
        {
            return Err(Refusal::too_many(
                "too_many_clients_of_user",
                "this user has as many connections as max_clients_per_user allows",
            ));
        }
        if address
            .as_ref()
            .is_some_and(|address| is_full(counts.addresses.get(address), self.max_of_address))
        {
            return Err(Refusal::too_many(
                "too_many_clients_of_address",
                "this address has as many connections as max_clients_per_ip allows",
            ));
        }
        if let Some(user) = &user {
            *counts.users.entry(user.clone()).or_default() += 1;
        }
        if let Some(address) = address {
            *counts.addresses.entry(address).or_default() += 1;
        }
        let counted = Counted {
            admission: self.clone(),
            user,
            address,
        };
        Ok(Seat {
            _counted: Some(Box::new(counted)),
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = lock(&self.admission.counts);
        if let Some(user) = &self.user {
            give_back(&mut counts.users, user);
        }
        if let Some(address) = &self.address {
            give_back(&mut counts.addresses, address);
        }
    }
}

fn give_back<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn admission(max_of_user: Option<usize>, max_of_address: Option<usize>) -> Arc<Admission> {
        Admission::new(max_of_user, max_of_address, None)
    }

    fn code(result: Result<Seat, Refusal>) -> &'static str {
        let refusal = result.unwrap_err();
        assert_eq!(refusal.status(), 429);
        refusal.code()
    }

    #[test]
    fn the_newest_is_refused_until_another_leaves() {
        let admission = self::admission(Some(2), None);
        let ana = Principal::viewer("ana");
        let first = admission.admit(&ana, None).unwrap();
        let _second = admission.admit(&ana, None).unwrap();
        assert_eq!(
            code(admission.admit(&ana, None)),
            "too_many_clients_of_user"
        );
        let _namesake = admission.admit(&ana.clone().tenant("acme"), None).unwrap();
        drop(first);
        let _third = admission.admit(&ana, None).unwrap();
        let _crowd: Vec<_> = (0..9)
            .map(|_| admission.admit(&Principal::anonymous(), None).unwrap())
            .collect();
    }

    #[tokio::test(start_paused = true)]
    async fn openings_and_reads_have_a_rate_together() {
        let admission = Admission::new(None, None, Some(Rates::new(2, Clock::new())));
        let ana = Principal::viewer("ana");
        drop(admission.admit(&ana, None).unwrap());
        admission.read(&ana, None).unwrap();
        assert_eq!(code(admission.admit(&ana, None)), "rate_limited");
        let refusal = admission.read(&ana, None).unwrap_err();
        assert_eq!(refusal.header("retry-after"), Some("31"));
        admission.read(&Principal::viewer("bo"), None).unwrap();
    }

    #[test]
    fn addresses_are_counted_by_household_and_a_refusal_takes_no_seat() {
        let admission = self::admission(Some(9), Some(1));
        let ana = Principal::viewer("ana");
        let at = |address: &str| admission.admit(&ana, Some(address.parse().unwrap()));
        let one = at("2001:db8::1").unwrap();
        assert_eq!(code(at("2001:db8::ffff")), "too_many_clients_of_address");
        let _other = at("2001:db8:0:1::1").unwrap();
        let _v4 = at("192.0.2.1").unwrap();
        assert_eq!(code(at("::ffff:192.0.2.1")), "too_many_clients_of_address");
        assert_eq!(lock(&admission.counts).users.values().sum::<usize>(), 3);
        drop((one, _other, _v4));
        let counts = lock(&admission.counts);
        assert!(counts.users.is_empty() && counts.addresses.is_empty());
    }
}
