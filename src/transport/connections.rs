//! Connections: who is connected, with what, and how far behind; one seat for each, given back when it leaves.

#[cfg(feature = "ws")]
mod lobby;
mod sessions;
mod tally;

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{Arc, Weak},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

#[cfg(feature = "ws")]
pub(crate) use lobby::LobbySeat;
pub(crate) use sessions::{Claim, Known, Session};
use sessions::{Detached, Holder, Sessions};

use super::{forms, params, query, sse::spread};
use crate::{
    access::{Admission, Principal, Rates, Seat},
    clock::Clock,
    hub::{CloseReason, Form, Hub, Reader, Subscription},
    runtime::Runtime,
    sync::{Mutex, Ordering, lock},
};

/// Tickets for each call a minute that `inbound_per_minute` allows: many holders of one token may be behind one address,
/// and come back at once.
const TICKETS_A_CALL: usize = 10;

/// The table of open streams and sockets. Of one that has left it holds what its session needs to go on.
#[derive(Debug)]
pub(crate) struct Connections {
    pub(crate) admission: Arc<Admission>,
    pub(crate) rates: Rates,
    pub(crate) ticket_rates: Rates,
    instance: String,
    clock: Clock,
    max_age: Option<Duration>,
    table: Mutex<Table>,
    /// Sockets that have yet to say who they are.
    #[cfg(feature = "ws")]
    lobby: lobby::Lobby,
}

#[derive(Debug)]
struct Table {
    by_id: HashMap<u64, Arc<Connection>>,
    sessions: Sessions,
}

/// One open stream or socket.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) principal: Principal,
    pub(crate) session: Session,
    pub(crate) reader: Arc<Reader>,
    pub(crate) selection: Mutex<Kept>,
    form: Form,
    address: Option<IpAddr>,
    since_us: u64,
}

/// What it reads, in the client's words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    /// Public names, `all` included.
    pub(crate) names: Vec<String>,
    /// Criteria and pace as a query that we encoded, without the channels.
    pub(crate) query: String,
    /// Of `/ws/tenant/{id}`: nothing of others exists for this connection.
    pub(crate) tenant: Option<Arc<str>>,
}

/// A selection as a connection keeps it. It is there for as long as the connection is and seldom asked for, so it is
/// one text: names with commas between them, a question mark, the query.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    text: Box<str>,
    tenant: Option<Arc<str>>,
}

/// What a newcomer brings.
#[derive(Debug)]
pub(crate) struct Newcomer<'a> {
    pub(crate) principal: &'a Principal,
    pub(crate) address: Option<IpAddr>,
    pub(crate) claim: Claim,
    pub(crate) selection: Selection,
}

impl Selection {
    /// Those that are new, behind the others.
    pub(crate) fn add(&mut self, names: Vec<String>) {
        let held: HashSet<_> = self.names.iter().cloned().collect();
        let new = names.into_iter().filter(|name| !held.contains(name));
        self.names.extend(new);
    }

    /// `all` takes everything away; taking something from `all` leaves the others that there are now.
    pub(crate) fn remove(&mut self, names: &[String], hub: &Hub, principal: &Principal) {
        let names: HashSet<_> = names.iter().map(String::as_str).collect();
        if names.contains("all") {
            self.names.clear();
            return;
        }
        if self.names.iter().any(|name| name == "all") {
            self.names = hub.channel_names();
            self.names.retain(|name| principal.may_read(name));
        }
        self.names.retain(|name| !names.contains(name.as_str()));
    }

    /// For a reconnect token. What a client wrote is encoded, so that it can add no pair of its own.
    pub(crate) fn to_query(&self, session: Session) -> String {
        let mut text = format!("session={session}&channels=");
        for (n, name) in self.names.iter().enumerate() {
            if n > 0 {
                text.push(',');
            }
            query::encode(name, &mut text);
        }
        if let Some(tenant) = &self.tenant {
            text.push_str("&tenant=");
            query::encode(tenant, &mut text);
        }
        if !self.query.is_empty() {
            text.push('&');
            text.push_str(&self.query);
        }
        text
    }
}

impl Kept {
    pub(crate) fn new(selection: Selection) -> Self {
        let mut text = selection.names.join(",");
        if !selection.query.is_empty() {
            text.push('?');
            text.push_str(&selection.query);
        }
        Self {
            text: text.into(),
            tenant: selection.tenant,
        }
    }

    /// How long its text is.
    fn len(&self) -> usize {
        self.text.len()
    }

    pub(crate) fn get(&self) -> Selection {
        // No name of a channel has either sign in it.
        let (names, query) = self.text.split_once('?').unwrap_or((&self.text, ""));
        Selection {
            names: params::list(Some(names)).map(ToOwned::to_owned).collect(),
            query: query.to_owned(),
            tenant: self.tenant.clone(),
        }
    }

    pub(crate) fn set(&mut self, selection: Selection) {
        *self = Self::new(selection);
    }
}

impl Connections {
    pub(crate) fn new(runtime: &Runtime) -> Arc<Self> {
        let config = &runtime.config;
        Arc::new(Self {
            admission: Admission::new(
                config.max_clients_per_user,
                config.max_clients_per_ip,
                Some(Rates::new(config.reads_a_minute(), runtime.clock)),
            ),
            rates: Rates::new(config.inbound_per_minute, runtime.clock),
            ticket_rates: Rates::new(
                config.inbound_per_minute.saturating_mul(TICKETS_A_CALL),
                runtime.clock,
            ),
            instance: config.instance.clone(),
            clock: runtime.clock,
            max_age: config.max_age,
            table: Mutex::new(Table {
                by_id: HashMap::new(),
                sessions: Sessions::new(config.max_clients),
            }),
            #[cfg(feature = "ws")]
            lobby: lobby::Lobby::new(config.max_clients),
        })
    }

    /// Enters a subscription that has a seat; both are given back when it leaves the hub, whoever ends it. One whose
    /// session was claimed by another meanwhile is ended at once.
    pub(crate) fn enter(
        self: &Arc<Self>,
        hub: &Hub,
        seat: Seat,
        subscription: &Subscription,
        newcomer: Newcomer<'_>,
    ) -> Arc<Connection> {
        let reader = subscription.reader();
        let now_us = self.clock.now_us();
        if let Some(max_age) = self.max_age {
            // Up to a tenth less: clients that came together shall not come back together.
            let age_us = max_age.as_micros() as u64;
            reader.age_at(now_us + age_us - spread(now_us ^ reader.id << 32) % (age_us / 10 + 1));
        }
        self.expire(reader, newcomer.principal.expiry());
        let connection = Arc::new(Connection {
            principal: newcomer.principal.clone(),
            session: newcomer.claim.session(),
            reader: reader.clone(),
            selection: Mutex::new(Kept::new(newcomer.selection)),
            form: subscription.spec().form,
            address: newcomer.address,
            since_us: now_us,
        });
        let mut table = lock(&self.table);
        table.by_id.insert(reader.id, connection.clone());
        let has_session = table.sessions.attach(&newcomer.claim, reader.id);
        drop(table);
        let connections = Arc::downgrade(self);
        reader.hold(Box::new(Presence {
            connections,
            id: reader.id,
            _seat: seat,
        }));
        if !has_session {
            hub.dismiss(reader, CloseReason::Replaced);
        }
        connection
    }

    /// Lets in one that has yet to say who it is; `None` where a tenth as many as there may be clients are there, or
    /// a quarter of those from the same address.
    #[cfg(feature = "ws")]
    pub(crate) fn enter_lobby(&self, address: Option<IpAddr>) -> Option<LobbySeat> {
        self.lobby.enter(address)
    }

    /// Ends the reader when the credentials run out.
    pub(crate) fn expire(&self, reader: &Reader, expiry: Option<SystemTime>) {
        let Some(expiry) = expiry else {
            return;
        };
        let unix_us = expiry
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_micros() as u64;
        let left_us = unix_us.saturating_sub(self.clock.unix_ms() * 1000);
        reader.expire_at(self.clock.now_us() + left_us);
    }

    /// How clients and admins call it: `<instance>-<number>`. The number says nothing of others.
    pub(crate) fn name_of(&self, connection: &Connection) -> String {
        format!("{}-{}", self.instance, connection.reader.id)
    }

    /// By its name.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Connection>> {
        let number = name.strip_prefix(&self.instance)?.strip_prefix('-')?;
        let found = lock(&self.table).by_id.get(&number.parse().ok()?).cloned();
        found.filter(|connection| self.name_of(connection) == name)
    }

    /// What an admin sees of them, oldest first; a tenant's admin sees that tenant's.
    pub(crate) fn list(&self, hub: &Hub, tenant: Option<&str>) -> Vec<Shown> {
        let mut connections: Vec<_> = lock(&self.table).by_id.values().cloned().collect();
        connections
            .retain(|connection| tenant.is_none() || connection.principal.tenant_id() == tenant);
        connections.sort_unstable_by_key(|connection| (connection.since_us, connection.reader.id));
        let lags = hub.lags();
        let now_us = self.clock.now_us();
        let now = self.clock.unix_seconds();
        connections
            .iter()
            .map(|connection| connection.show(self.name_of(connection), &lags, now_us, now))
            .collect()
    }
}

/// Takes a connection out of the table when its reader leaves.
struct Presence {
    connections: Weak<Connections>,
    id: u64,
    _seat: Seat,
}

impl Drop for Presence {
    fn drop(&mut self) {
        let Some(connections) = self.connections.upgrade() else {
            return;
        };
        let mut table = lock(&connections.table);
        let Some(connection) = table.by_id.remove(&self.id) else {
            return;
        };
        let session = connection.session;
        // It is somebody else's by now where it was taken over.
        if table.sessions.release(session, Holder::Reader(self.id)) {
            let now_us = connections.clock.now_us();
            let detached = &mut table.sessions.detached;
            detached.put(session, connection.detached(), now_us);
        }
    }
}

/// One row of the inspector.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    id: String,
    transport: &'static str,
    user_id: Option<String>,
    tenant_id: Option<String>,
    role: &'static str,
    channels: Vec<String>,
    filter: String,
    /// Events that are there for it and that it has not taken.
    lag: u64,
    sent_events: u64,
    sent_bytes: u64,
    gaps: u64,
    missed_events: u64,
    connected_at: u64,
    age_seconds: u64,
    /// Since it took something, or found that there is nothing.
    last_progress_ms: u64,
    ip: Option<IpAddr>,
}

impl Connection {
    /// The wire form that it reads in.
    pub(crate) fn reader_form(&self) -> Form {
        self.form
    }

    /// What is kept of it for its session.
    fn detached(&self) -> Detached {
        Detached {
            kept: lock(&self.selection).clone(),
            told: self.reader.surely_told(),
        }
    }

    fn show(&self, id: String, lags: &HashMap<u64, u64>, now_us: u64, now: u64) -> Shown {
        let selection = lock(&self.selection).get();
        let reader = &*self.reader;
        let read = |counter: &crate::sync::AtomicU64| counter.load(Ordering::Relaxed);
        let age_seconds = now_us.saturating_sub(self.since_us) / 1_000_000;
        let user = Some(&self.principal).filter(|principal| !principal.is_anonymous());
        Shown {
            id,
            transport: forms::transport(self.form),
            user_id: user.map(|principal| principal.id().to_owned()),
            tenant_id: self.principal.tenant_id().map(ToOwned::to_owned),
            role: if self.principal.is_admin() {
                "admin"
            } else {
                "viewer"
            },
            channels: selection.names,
            filter: selection.query,
            lag: lags.get(&reader.id).copied().unwrap_or(0),
            sent_events: read(&reader.events),
            sent_bytes: read(&reader.bytes),
            gaps: reader.gaps.load(Ordering::Relaxed).into(),
            missed_events: read(&reader.missed),
            connected_at: now.saturating_sub(age_seconds),
            age_seconds,
            last_progress_ms: reader.idle_us(now_us) / 1000,
            ip: self.address,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_is_kept_as_it_was() {
        for (names, query) in [
            (&["stats", "a.b-c_d"][..], "route=%2Fa%3Fb%2Cc&max_rate=5"),
            (&["all"], ""),
            (&[], ""),
            (&[], "user_id=a?b,c"),
        ] {
            let selection = Selection {
                names: names.iter().map(ToString::to_string).collect(),
                query: query.to_owned(),
                tenant: Some("acme".into()),
            };
            let kept = Kept::new(selection).get();
            assert_eq!(kept.names, names);
            assert_eq!(kept.query, query);
            assert_eq!(kept.tenant.as_deref(), Some("acme"));
        }
    }
}
