//! The tally: who is connected, in numbers.

use std::{cmp::Reverse, collections::HashMap};

use serde::Serialize;

use super::Connections;
use crate::{
    access::Principal,
    sync::{AtomicU64, Ordering, lock},
    transport::forms::SSE_FORM,
};

/// The longest list of users: those with the most connections.
const MAX_USERS: usize = 50;

/// Who is connected, in numbers.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) sse: usize,
    pub(crate) websocket: usize,
    pub(crate) users: Vec<UserTally>,
    pub(crate) users_total: usize,
}

/// What one user has open at the moment.
#[derive(Debug, Serialize)]
pub(crate) struct UserTally {
    user_id: Option<String>,
    tenant_id: Option<String>,
    connections: usize,
    sent_events: u64,
    sent_bytes: u64,
}

impl UserTally {
    fn new(principal: &Principal) -> Self {
        let user = Some(principal).filter(|principal| !principal.is_anonymous());
        Self {
            user_id: user.map(|principal| principal.id().to_owned()),
            tenant_id: principal.tenant_id().map(ToOwned::to_owned),
            connections: 0,
            sent_events: 0,
            sent_bytes: 0,
        }
    }
}

impl Connections {
    /// How many there are, and whose: those of the caller's tenant, if it has one. Everybody sees its own; who the
    /// others are is for admins.
    pub(crate) fn tally(&self, caller: &Principal) -> Tally {
        let table = lock(&self.table);
        let tenant = caller.tenant_id();
        let visible = table
            .by_id
            .values()
            .filter(|connection| tenant.is_none() || connection.principal.tenant_id() == tenant);
        let mut tally = Tally::default();
        let mut users: HashMap<_, UserTally> = HashMap::new();
        for connection in visible {
            match connection.form {
                SSE_FORM => tally.sse += 1,
                _ => tally.websocket += 1,
            }
            let principal = &connection.principal;
            let user = users
                .entry(principal.owner())
                .or_insert_with(|| UserTally::new(principal));
            let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            user.connections += 1;
            user.sent_events += read(&connection.reader.events);
            user.sent_bytes += read(&connection.reader.bytes);
        }
        drop(table);
        tally.users_total = users.len();
        if !caller.is_admin() {
            users.retain(|owner, _| *owner == caller.owner());
        }
        tally.users = users.into_values().collect();
        tally
            .users
            .sort_by_key(|user| Reverse((user.connections, user.sent_bytes)));
        tally.users.truncate(MAX_USERS);
        tally
    }
}
