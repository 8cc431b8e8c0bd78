//! Sessions: what a reconnect token stands for. Which connection has each of them, and what is known of those that have
//! none at the moment.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{Connections, Kept, Selection};
use crate::{
    access::RECONNECT_TTL,
    clock::Clock,
    hub::{CloseReason, Hub},
    sync::lock,
    transport::sse::spread,
};

/// What is kept of all sessions without a connection: 16 of the usual size for each client that may be connected, and
/// not more than 20,000. Beyond it the oldest is forgotten: then what its token says itself is what it stands for, an
/// older place and the subscription of that time.
const MAX_DETACHED_BYTES: usize = 4 * 1024 * 1024;
const DETACHED_A_CLIENT: usize = 16;
/// What one of them takes beside the text of its selection.
const DETACHED_BYTES: usize = 200;

/// What a reconnect token stands for: at most one connection at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Session(u64);

impl Session {
    /// A new one.
    pub(crate) fn random(clock: Clock) -> Self {
        let mut bytes = [0; 8];
        Self(match getrandom::fill(&mut bytes) {
            Ok(()) => u64::from_le_bytes(bytes),
            // It is no secret: a token is signed.
            Err(_) => spread(clock.unix_us_of(clock.now_us())),
        })
    }

    /// As it stands in a token.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        u64::from_str_radix(text, 16).ok().map(Self)
    }
}

impl std::fmt::Display for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What is known of a session.
#[derive(Debug)]
pub(crate) struct Known {
    /// What it reads, with all changes.
    pub(crate) selection: Selection,
    /// Up to where its client has surely been told.
    pub(crate) told: u64,
}

/// The right to go on with a session, until somebody else claims it.
#[derive(Debug)]
pub(crate) struct Claim {
    connections: Arc<Connections>,
    pub(super) session: Session,
    pub(super) number: u64,
}

impl Claim {
    pub(crate) fn session(&self) -> Session {
        self.session
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut table = lock(&self.connections.table);
        table
            .sessions
            .release(self.session, Holder::Claim(self.number));
    }
}

impl Connections {
    /// What is known of a session, whether it has a connection or had one in the last 30 minutes. Whoever asks has shown
    /// a token of its own: those are signed for their viewer.
    pub(crate) fn recall(&self, session: Session) -> Option<Known> {
        let table = lock(&self.table);
        if let Some(Holder::Reader(id)) = table.sessions.holders.get(&session) {
            let connection = table.by_id.get(id)?.clone();
            drop(table);
            return Some(Known {
                selection: lock(&connection.selection).get(),
                told: connection.reader.surely_told(),
            });
        }
        let detached = table.sessions.detached.get(session, self.clock.now_us())?;
        Some(Known {
            selection: detached.kept.get(),
            told: detached.told,
        })
    }

    /// Takes a session over: ends the connection that has it, and lets the caller [enter](Connections::enter) with it,
    /// unless somebody else has claimed it by then. Of any number who come at once the last to claim it has it.
    pub(crate) fn claim(self: &Arc<Self>, hub: &Hub, session: Session) -> Claim {
        let mut locked = lock(&self.table);
        let table = &mut *locked;
        let old = match table.sessions.holders.get(&session) {
            Some(Holder::Reader(id)) => table.by_id.get(id).cloned(),
            _ => None,
        };
        if let Some(old) = &old {
            table
                .sessions
                .detached
                .put(session, old.detached(), self.clock.now_us());
        }
        table.sessions.claims += 1;
        let number = table.sessions.claims;
        table
            .sessions
            .holders
            .insert(session, Holder::Claim(number));
        drop(locked);
        if let Some(old) = old {
            hub.dismiss(&old.reader, CloseReason::Replaced);
        }
        Claim {
            connections: self.clone(),
            session,
            number,
        }
    }
}

/// Who has a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// Somebody who is about to enter.
    Claim(u64),
    /// An open connection, by its reader.
    Reader(u64),
}

/// All that is known of sessions.
#[derive(Debug)]
pub(super) struct Sessions {
    holders: HashMap<Session, Holder>,
    pub(super) detached: DetachedSessions,
    claims: u64,
}

impl Sessions {
    pub(super) fn new(max_clients: usize) -> Self {
        let bytes = max_clients.saturating_mul(DETACHED_A_CLIENT * DETACHED_BYTES);
        Self {
            holders: HashMap::new(),
            detached: DetachedSessions::new(bytes.min(MAX_DETACHED_BYTES)),
            claims: 0,
        }
    }

    /// The claim becomes a connection; false where somebody else has claimed the session since.
    pub(super) fn attach(&mut self, claim: &Claim, reader: u64) -> bool {
        match self.holders.get_mut(&claim.session) {
            Some(holder) if *holder == Holder::Claim(claim.number) => {
                *holder = Holder::Reader(reader);
                self.detached.forget(claim.session);
                true
            }
            _ => false,
        }
    }

    /// Nobody has it any more; false where it is somebody else's by now.
    pub(super) fn release(&mut self, session: Session, holder: Holder) -> bool {
        let is_held = self.holders.get(&session) == Some(&holder);
        if is_held {
            self.holders.remove(&session);
        }
        is_held
    }
}

/// A session without a connection.
#[derive(Debug)]
pub(super) struct Detached {
    pub(super) kept: Kept,
    pub(super) told: u64,
}

/// Those that lost their connection in the last 30 minutes, as far as there is room for them.
#[derive(Debug)]
pub(super) struct DetachedSessions {
    max_bytes: usize,
    by_session: HashMap<Session, (u64, Detached)>,
    /// Until when, by the number in `by_session`: all are kept equally long.
    by_age: BTreeMap<u64, (u64, Session)>,
    last: u64,
    bytes: usize,
}

impl DetachedSessions {
    fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            by_session: HashMap::new(),
            by_age: BTreeMap::new(),
            last: 0,
            bytes: 0,
        }
    }

    pub(super) fn put(&mut self, session: Session, detached: Detached, now_us: u64) {
        self.forget(session);
        self.last += 1;
        let until_us = now_us + RECONNECT_TTL.as_micros() as u64;
        self.bytes += detached.bytes();
        self.by_age.insert(self.last, (until_us, session));
        self.by_session.insert(session, (self.last, detached));
        while let Some((_, (until_us, oldest))) = self.by_age.first_key_value()
            && (*until_us <= now_us || self.bytes > self.max_bytes)
        {
            self.forget(*oldest);
        }
    }

    fn get(&self, session: Session, now_us: u64) -> Option<&Detached> {
        let (number, detached) = self.by_session.get(&session)?;
        let (until_us, _) = self.by_age.get(number)?;
        (now_us < *until_us).then_some(detached)
    }

    fn forget(&mut self, session: Session) {
        if let Some((number, detached)) = self.by_session.remove(&session) {
            self.by_age.remove(&number);
            self.bytes -= detached.bytes();
        }
    }
}

impl Detached {
    fn bytes(&self) -> usize {
        DETACHED_BYTES + self.kept.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL_US: u64 = RECONNECT_TTL.as_micros() as u64;

    fn of(name: &str, told: u64) -> Detached {
        let selection = Selection {
            names: vec![name.to_owned()],
            ..Selection::default()
        };
        Detached {
            kept: Kept::new(selection),
            told,
        }
    }

    #[test]
    fn a_session_is_known_for_half_an_hour_from_when_it_was_left() {
        let mut sessions = DetachedSessions::new(MAX_DETACHED_BYTES);
        let (ana, ben) = (Session(1), Session(2));
        sessions.put(ana, of("a", 7), 0);
        assert_eq!(sessions.get(ana, TTL_US - 1).unwrap().told, 7);
        assert!(sessions.get(ana, TTL_US).is_none());
        assert!(sessions.get(ben, 0).is_none());
        // Left again, it is known from then on, as it was then.
        sessions.put(ana, of("b", 9), 10);
        let known = sessions.get(ana, TTL_US).unwrap();
        assert_eq!((known.told, &*known.kept.get().names[0]), (9, "b"));
        // What is too old goes when another comes.
        sessions.put(ben, of("c", 1), TTL_US + 10);
        assert_eq!(sessions.by_session.len(), 1);
        sessions.forget(ben);
        assert!(sessions.by_age.is_empty());
        assert_eq!(sessions.bytes, 0);
    }

    #[test]
    fn there_is_room_for_so_much_and_the_oldest_goes() {
        let mut sessions = DetachedSessions::new(MAX_DETACHED_BYTES);
        let long = "x".repeat(1_000);
        for n in 0..20_000 {
            sessions.put(Session(n), of(&long, n), n);
            assert!(sessions.bytes <= MAX_DETACHED_BYTES);
        }
        let kept = MAX_DETACHED_BYTES / (DETACHED_BYTES + 1_000);
        assert_eq!(sessions.by_session.len(), kept);
        assert_eq!(sessions.by_age.len(), kept);
        assert!(sessions.get(Session(19_999), 20_000).is_some());
        assert!(sessions.get(Session(0), 20_000).is_none());
    }

    #[test]
    fn the_last_claim_has_the_session() {
        let mut sessions = Sessions::new(1);
        let session = Session(7);
        sessions.holders.insert(session, Holder::Claim(1));
        sessions.holders.insert(session, Holder::Claim(2));
        assert!(!sessions.release(session, Holder::Claim(1)));
        assert!(sessions.release(session, Holder::Claim(2)));
        assert!(sessions.holders.is_empty());
    }
}
