//! Tickets: what a browser puts into a URL where it cannot send a header.
//!
//! A ticket is worth one request within half a minute, so that one that ends up in an access log is worth nothing.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use sha2::{Digest, Sha256};

use super::{encode::hex, principal::Principal, secret::random};
use crate::{
    clock::Clock,
    error::Error,
    sync::{Mutex, lock},
};

/// How long a ticket can be redeemed.
pub(crate) const TICKET_TTL: Duration = Duration::from_secs(30);

/// Random bytes of a ticket; its text has twice as many hex digits.
const BYTES: usize = 16;
/// Tickets that wait to be redeemed, in all; about 250 bytes each.
const MAX_TICKETS: usize = 16_384;
/// And of one principal: beyond it, a new ticket ends that principal's oldest, and nobody else's. All holders of one
/// bearer token are one principal, and may come back all at once after a restart.
const MAX_OF_ONE: usize = 4_096;

/// The tickets that this process has issued, and that wait to be redeemed.
#[derive(Debug)]
pub(crate) struct Tickets {
    clock: Clock,
    max: usize,
    max_of_one: usize,
    store: Mutex<Store>,
}

/// By its digest, so that looking one up tells nothing about the others, however long it takes.
type Key = [u8; 32];

/// A principal's id and tenant.
type Owner = (Arc<str>, Option<Arc<str>>);

#[derive(Debug, Default)]
struct Store {
    tickets: HashMap<Key, Ticket>,
    /// Oldest first; all live equally long, so this is the order in which they expire. What has been redeemed stays
    /// until its time, or until the queue is swept.
    queue: VecDeque<(u64, Key)>,
    of_one: HashMap<Owner, usize>,
}

#[derive(Debug)]
struct Ticket {
    owner: Owner,
    principal: Principal,
}

impl Tickets {
    pub(crate) fn new(clock: Clock) -> Self {
        Self::bounded(clock, MAX_TICKETS, MAX_OF_ONE)
    }

    fn bounded(clock: Clock, max: usize, max_of_one: usize) -> Self {
        Self {
            clock,
            max,
            max_of_one,
            store: Mutex::default(),
        }
    }

    /// A ticket that stands for the principal; with channels, only for the right to read those of them that the
    /// principal may read. `Ok(None)`: too many wait already.
    pub(crate) fn issue(
        &self,
        principal: &Principal,
        channels: Option<&[Arc<str>]>,
    ) -> Result<Option<String>, Error> {
        let text = hex(&random::<BYTES>()?);
        let ticket = Ticket {
            owner: principal.owner(),
            principal: match channels {
                Some(channels) => principal.clone().narrowed(channels),
                None => principal.clone(),
            },
        };
        let now_us = self.clock.now_us();
        let mut store = lock(&self.store);
        store.expire(now_us);
        let is_full = store.tickets.len() >= self.max;
        if store.of_one.get(&ticket.owner).copied().unwrap_or(0) >= self.max_of_one {
            store.drop_oldest_of(&ticket.owner);
        } else if is_full {
            return Ok(None);
        }
        if store.queue.len() >= 2 * self.max {
            store.sweep();
        }
        store.insert(
            digest(&text),
            ticket,
            now_us + TICKET_TTL.as_micros() as u64,
        );
        Ok(Some(text))
    }

    /// Whom a ticket stands for, once; `None` for one that is unknown, expired or used.
    pub(crate) fn redeem(&self, text: &str) -> Option<Principal> {
        if text.len() != 2 * BYTES {
            return None;
        }
        let mut store = lock(&self.store);
        store.expire(self.clock.now_us());
        store.take(&digest(text)).map(|ticket| ticket.principal)
    }

    /// How many wait to be redeemed.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        lock(&self.store).tickets.len()
    }
}

impl Store {
    fn insert(&mut self, key: Key, ticket: Ticket, expires_us: u64) {
        *self.of_one.entry(ticket.owner.clone()).or_default() += 1;
        self.queue.push_back((expires_us, key));
        self.tickets.insert(key, ticket);
    }

    fn take(&mut self, key: &Key) -> Option<Ticket> {
        let ticket = self.tickets.remove(key)?;
        if let Some(count) = self.of_one.get_mut(&ticket.owner) {
            *count -= 1;
            if *count == 0 {
                self.of_one.remove(&ticket.owner);
            }
        }
        Some(ticket)
    }

    fn expire(&mut self, now_us: u64) {
        while let Some((expires_us, key)) = self.queue.front().copied()
            && expires_us <= now_us
        {
            self.queue.pop_front();
            self.take(&key);
        }
    }

    fn sweep(&mut self) {
        let tickets = &self.tickets;
        self.queue.retain(|(_, key)| tickets.contains_key(key));
    }

    fn drop_oldest_of(&mut self, owner: &Owner) {
        let oldest = self.queue.iter().map(|(_, key)| *key).find(|key| {
            self.tickets
                .get(key)
                .is_some_and(|ticket| ticket.owner == *owner)
        });
        if let Some(key) = oldest {
            self.take(&key);
        }
    }
}

fn digest(text: &str) -> Key {
    Sha256::digest(text).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tickets() -> Tickets {
        Tickets::new(Clock::new())
    }

    fn issue(tickets: &Tickets, principal: &Principal) -> String {
        tickets.issue(principal, None).unwrap().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticket_is_good_once() {
        let tickets = tickets();
        let ana = Principal::viewer("ana").tenant("acme");
        let text = issue(&tickets, &ana);
        assert_eq!(text.len(), 32);
        assert!(text.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(text, issue(&tickets, &ana));
        assert_eq!(tickets.redeem(&text), Some(ana));
        assert_eq!(tickets.redeem(&text), None);
        assert_eq!(tickets.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticket_expires() {
        let tickets = tickets();
        let ana = Principal::viewer("ana");
        let (early, late) = (issue(&tickets, &ana), issue(&tickets, &ana));
        tokio::time::advance(TICKET_TTL - Duration::from_millis(1)).await;
        assert!(tickets.redeem(&early).is_some());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(tickets.redeem(&late), None);
        assert_eq!(tickets.len(), 0);
        let store = lock(&tickets.store);
        assert!(store.queue.is_empty() && store.of_one.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticket_stands_for_its_principal_and_channels_only() {
        let tickets = tickets();
        let ana = Principal::viewer("ana").channels(["stats", "logs"]);
        let wanted = ["logs".into(), "alerts".into()];
        let text = tickets.issue(&ana, Some(&wanted)).unwrap().unwrap();
        let redeemed = tickets.redeem(&text).unwrap();
        assert_eq!(redeemed.id(), "ana");
        assert!(redeemed.may_read("logs"));
        assert!(!redeemed.may_read("stats") && !redeemed.may_read("alerts"));
        let admin = Principal::admin("root");
        let text = issue(&tickets, &admin);
        assert_eq!(tickets.redeem(&text), Some(admin));
    }

    #[tokio::test(start_paused = true)]
    async fn one_principal_pushes_out_its_own_only() {
        let tickets = Tickets::bounded(Clock::new(), 100, 10);
        let (ana, ben) = (Principal::viewer("ana"), Principal::viewer("ben"));
        let of_ben = issue(&tickets, &ben);
        let first = issue(&tickets, &ana);
        let second = issue(&tickets, &ana);
        for _ in 2..=10 {
            issue(&tickets, &ana);
        }
        assert_eq!(tickets.len(), 10 + 1);
        assert_eq!(tickets.redeem(&first), None);
        assert!(tickets.redeem(&second).is_some());
        assert!(tickets.redeem(&of_ben).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_store_is_bounded_and_recovers() {
        let tickets = Tickets::bounded(Clock::new(), 100, 10);
        for n in 0..100 {
            issue(&tickets, &Principal::viewer(format!("user {n}")));
        }
        let ana = Principal::viewer("ana");
        assert_eq!(tickets.issue(&ana, None).unwrap(), None);
        tokio::time::advance(TICKET_TTL).await;
        let text = issue(&tickets, &ana);
        assert_eq!(tickets.len(), 1);
        assert!(tickets.redeem(&text).is_some());
        // What has been redeemed takes no room either.
        for _ in 0..5 * 100 {
            let text = issue(&tickets, &ana);
            assert!(tickets.redeem(&text).is_some());
        }
        assert!(lock(&tickets.store).queue.len() <= 2 * 100);
    }

    proptest! {
        #[test]
        fn no_text_panics_or_passes(text in ".{0,64}") {
            let tickets = tickets();
            issue(&tickets, &Principal::viewer("ana"));
            prop_assert_eq!(tickets.redeem(&text), None);
        }
    }
}
