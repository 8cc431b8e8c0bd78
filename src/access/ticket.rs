//! Tickets: what a browser puts into a URL where it cannot send a header.
//!
//! A ticket is worth one request within half a minute, so that one that ends up in an access log is worth nothing.

use std::{
    cmp::Reverse,
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use sha2::{Digest, Sha256};

use super::{encode::hex, peer::household, principal::Principal, secret::random};
use crate::{
    clock::Clock,
    error::Error,
    sync::{Mutex, lock},
};

/// How long a ticket can be redeemed.
pub(crate) const TICKET_TTL: Duration = Duration::from_secs(30);

/// Random bytes of a ticket; its text has twice as many hex digits.
const BYTES: usize = 16;
/// Tickets that wait to be redeemed, in all; about 300 bytes each, and 50 more for each channel that one is confined
/// to. Beyond it, a new one ends the oldest of the address that has most.
const MAX_TICKETS: usize = 16_384;
/// And of one holder: beyond it, a new ticket ends that holder's oldest, and nobody else's. All holders of one bearer
/// token are one principal, and those behind one address may come back all at once after a restart.
const MAX_OF_ONE: usize = 4_096;

/// The share of its tickets that a place gives up for room.
const ROOM_SHARE: usize = 64;

/// The tickets that this process has issued, and that wait to be redeemed.
#[derive(Debug)]
pub(crate) struct Tickets {
    clock: Clock,
    max: usize,
    max_of_one: usize,
    store: Mutex<Store>,
}

/// By its digest, so that looking one up tells nothing about the others, however long it takes.
pub(super) type Key = [u8; 32];

/// Whom tickets count for: a principal at a household. Where the address is not known, the principal alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Holder {
    place: Place,
    owner: Owner,
}

/// A principal's id and tenant.
type Owner = (Arc<str>, Option<Arc<str>>);

/// Where somebody asks from. Those whose address nobody said are each in a place of their own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Place {
    Household(IpAddr),
    Unknown(Owner),
}

impl Place {
    /// Where there is room to be made. Whoever has one IPv6 household may well have the 65,536 of a /48.
    fn site(&self) -> Self {
        match self {
            Self::Household(IpAddr::V6(address)) => {
                let network = address.to_bits() & (!0 << 80);
                Self::Household(Ipv6Addr::from_bits(network).into())
            }
            place => place.clone(),
        }
    }
}

#[derive(Debug, Default)]
struct Store {
    tickets: HashMap<Key, Ticket>,
    /// Oldest first; all live equally long, so this is the order in which they expire. What has been redeemed stays
    /// until its time, or until the queue is swept.
    queue: VecDeque<(u64, Key)>,
    /// Those that wait, for each holder, oldest first.
    of_one: HashMap<Holder, VecDeque<Key>>,
}

#[derive(Debug)]
struct Ticket {
    holder: Holder,
    principal: Principal,
    /// A request is being let in with it.
    is_lent: bool,
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
    /// principal may read.
    ///
    /// # Errors
    ///
    /// The system has no source of randomness.
    pub(crate) fn issue(
        &self,
        principal: &Principal,
        address: Option<IpAddr>,
        channels: Option<&[Arc<str>]>,
    ) -> Result<String, Error> {
        let text = hex(&random::<BYTES>()?);
        let owner = principal.owner();
        let place = match address {
            Some(address) => Place::Household(household(address)),
            None => Place::Unknown(owner.clone()),
        };
        let ticket = Ticket {
            holder: Holder { place, owner },
            principal: match channels {
                Some(channels) => principal.clone().narrowed(channels),
                None => principal.clone(),
            },
            is_lent: false,
        };
        let now_us = self.clock.now_us();
        let mut store = lock(&self.store);
        store.expire(now_us);
        if store.count_of(&ticket.holder) >= self.max_of_one {
            store.drop_oldest_of(&ticket.holder);
        } else if store.tickets.len() >= self.max {
            store.make_room();
        }
        if store.queue.len() >= 2 * self.max {
            store.sweep();
        }
        store.insert(
            digest(&text),
            ticket,
            now_us + TICKET_TTL.as_micros() as u64,
        );
        Ok(text)
    }

    /// Whom a ticket stands for, until it is [spent](Self::spend) or [given back](Self::give_back); `None` for one that
    /// is unknown, expired, used or lent already. It stays where it is meanwhile, with its time and its place in line.
    pub(super) fn lend(&self, text: &str) -> Option<(Principal, Key)> {
        if text.len() != 2 * BYTES {
            return None;
        }
        let key = digest(text);
        let mut store = lock(&self.store);
        store.expire(self.clock.now_us());
        let ticket = store.tickets.get_mut(&key)?;
        if ticket.is_lent {
            return None;
        }
        ticket.is_lent = true;
        Some((ticket.principal.clone(), key))
    }

    pub(super) fn spend(&self, key: &Key) {
        lock(&self.store).take(key);
    }

    pub(super) fn give_back(&self, key: &Key) {
        if let Some(ticket) = lock(&self.store).tickets.get_mut(key) {
            ticket.is_lent = false;
        }
    }

    /// How many wait to be redeemed.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        lock(&self.store).tickets.len()
    }
}

impl Store {
    fn insert(&mut self, key: Key, ticket: Ticket, expires_us: u64) {
        let keys = self.of_one.entry(ticket.holder.clone()).or_default();
        keys.push_back(key);
        self.queue.push_back((expires_us, key));
        self.tickets.insert(key, ticket);
    }

    fn take(&mut self, key: &Key) -> Option<Ticket> {
        let ticket = self.tickets.remove(key)?;
        if let Some(keys) = self.of_one.get_mut(&ticket.holder) {
            // Mostly one of the oldest.
            if let Some(place) = keys.iter().position(|held| held == key) {
                keys.remove(place);
            }
            if keys.is_empty() {
                self.of_one.remove(&ticket.holder);
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

    fn count_of(&self, holder: &Holder) -> usize {
        self.of_one.get(holder).map_or(0, VecDeque::len)
    }

    fn drop_oldest_of(&mut self, holder: &Holder) {
        let oldest = self.of_one.get(holder).and_then(|keys| keys.front());
        if let Some(key) = oldest.copied() {
            self.take(&key);
        }
    }

    /// Ends a ticket of the place that has most of them, and there of the holder who has most: whoever fills the store
    /// pays for it, and neither newcomers nor those who hold a few.
    ///
    /// Looking for them takes a while, so room is made for some of the next, too: a share of what that place has.
    fn make_room(&mut self) {
        let mut sites: HashMap<Place, usize> = HashMap::new();
        for (holder, keys) in &self.of_one {
            *sites.entry(holder.place.site()).or_default() += keys.len();
        }
        let fullest = sites.into_iter().max_by_key(|(_, count)| *count);
        let Some((site, count)) = fullest else {
            return;
        };
        let mut there: Vec<_> = self
            .of_one
            .iter()
            .filter(|(holder, _)| holder.place.site() == site)
            .map(|(holder, keys)| (keys.len(), holder.clone()))
            .collect();
        there.sort_unstable_by_key(|(count, _)| Reverse(*count));
        let mut left = (count / ROOM_SHARE).max(1);
        for (count, holder) in there {
            let some = left.min((count / ROOM_SHARE).max(1));
            for _ in 0..some {
                self.drop_oldest_of(&holder);
            }
            left -= some;
            if left == 0 {
                return;
            }
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

    impl Tickets {
        fn redeem(&self, text: &str) -> Option<Principal> {
            let (principal, key) = self.lend(text)?;
            self.spend(&key);
            Some(principal)
        }
    }

    fn issue(tickets: &Tickets, principal: &Principal) -> String {
        tickets.issue(principal, None, None).unwrap()
    }

    fn issue_at(tickets: &Tickets, principal: &Principal, address: &str) -> String {
        let address = Some(address.parse().unwrap());
        tickets.issue(principal, address, None).unwrap()
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
        let text = tickets.issue(&ana, None, Some(&wanted)).unwrap();
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
    async fn holders_of_one_token_push_out_their_own_households_only() {
        let tickets = Tickets::bounded(Clock::new(), 100, 10);
        let shared = Principal::viewer("bearer");
        let elsewhere = issue_at(&tickets, &shared, "192.0.2.1");
        let first = issue_at(&tickets, &shared, "2001:db8::1");
        for n in 2..=11 {
            issue_at(&tickets, &shared, &format!("2001:db8::{n:x}"));
        }
        assert_eq!(tickets.len(), 10 + 1);
        assert_eq!(tickets.redeem(&first), None);
        assert!(tickets.redeem(&elsewhere).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_fills_the_store_pays_for_it() {
        let tickets = Tickets::bounded(Clock::new(), 100, 30);
        let ana = Principal::viewer("ana");
        let of_ana = issue_at(&tickets, &ana, "192.0.2.1");
        // Many accounts at one address, each within its bound.
        let crowd = |n: u32| Principal::viewer(format!("user {n}"));
        for n in 0..300 {
            issue_at(&tickets, &crowd(n % 7), "192.0.2.2");
            assert!(tickets.len() <= 100);
        }
        // A newcomer is let in, at the crowd's cost.
        let of_ben = issue_at(&tickets, &Principal::viewer("ben"), "192.0.2.3");
        assert_eq!(tickets.len(), 100);
        // A neighbour of theirs holds fewer than they do.
        let of_cid = issue_at(&tickets, &Principal::viewer("cid"), "192.0.2.2");
        for n in 0..300 {
            issue_at(&tickets, &crowd(n % 7), "192.0.2.2");
        }
        for text in [of_ana, of_ben, of_cid] {
            assert!(tickets.redeem(&text).is_some());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_site_with_many_households_fills_the_store_at_its_own_cost() {
        let tickets = Tickets::bounded(Clock::new(), 1_000, 30);
        let shared = Principal::viewer("bearer");
        let others: Vec<_> = (0..20)
            .map(|n| issue_at(&tickets, &shared, &format!("192.0.2.{n}")))
            .collect();
        // A ticket from each of 3,000 households of one /48.
        for n in 0..3_000 {
            issue_at(&tickets, &shared, &format!("2001:db8:7:{n:x}::1"));
            assert!(tickets.len() <= 1_000);
        }
        for text in others {
            assert!(tickets.redeem(&text).is_some());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_store_is_bounded_and_recovers() {
        let tickets = Tickets::bounded(Clock::new(), 100, 10);
        for n in 0..200 {
            issue(&tickets, &Principal::viewer(format!("user {n}")));
        }
        assert_eq!(tickets.len(), 100);
        tokio::time::advance(TICKET_TTL).await;
        let ana = Principal::viewer("ana");
        let text = issue(&tickets, &ana);
        assert_eq!(tickets.len(), 1);
        assert!(tickets.redeem(&text).is_some());
        // What has been redeemed takes no room either.
        for _ in 0..5 * 100 {
            let text = issue(&tickets, &ana);
            assert!(tickets.redeem(&text).is_some());
        }
        let store = lock(&tickets.store);
        assert!(store.queue.len() <= 2 * 100 && store.of_one.is_empty());
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
