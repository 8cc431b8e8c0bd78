//! Entrance: the lobby, and the hub behind it.

use std::{net::IpAddr, pin::Pin, sync::Arc};

use http::request::Parts;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{AUTH_TIMEOUT, Reading, micros};
use crate::{
    access::Principal,
    hub::{Start, Subscription},
    refusal::Refusal,
    transport::{
        connections::{Connection, LobbySeat, Newcomer, Session as SessionId},
        router::Shared,
        stream::full_or_closed,
    },
};

/// How a connection begins.
#[derive(Debug)]
pub(in super::super) enum Opening {
    /// Credentials are still to come.
    Lobby(Lobby),
    Known(Entered),
}

/// A place among those whose credentials are still to come. They do not read the hub, and count among themselves.
#[derive(Debug)]
pub(in super::super) struct Lobby {
    _seat: LobbySeat,
    /// Nobody else would tell it.
    pub(super) shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
    pub(super) until_us: u64,
}

impl Lobby {
    /// `None` where it is full, or as much of it as one address may have.
    pub(in super::super) fn enter(shared: &Shared, address: Option<IpAddr>) -> Option<Self> {
        let runtime = &shared.runtime;
        Some(Self {
            _seat: shared.connections.enter_lobby(address)?,
            shutdown: Box::pin(runtime.shutdown_token().clone().cancelled_owned()),
            until_us: runtime.clock.now_us() + micros(AUTH_TIMEOUT),
        })
    }
}

/// A reader of the hub, and its entry among the connections.
#[derive(Debug)]
pub(in super::super) struct Entered {
    pub(super) subscription: Subscription,
    pub(super) connection: Arc<Connection>,
}

impl Entered {
    /// Joins the hub, within the limits. One that reads nothing yet begins when it does.
    pub(in super::super) fn enter(
        shared: &Shared,
        head: &Parts,
        principal: Principal,
        reading: &mut Reading,
        start: Start,
        session: Option<SessionId>,
    ) -> Result<Self, Refusal> {
        let runtime = &shared.runtime;
        let spec = reading.spec(runtime, &principal)?;
        let connections = &shared.connections;
        let session = session.unwrap_or_else(|| SessionId::random(runtime.clock));
        // First of all, so that the new one may have the old one's place.
        let claim = connections.claim(&runtime.hub, session);
        let address = shared.client_ip(head);
        let seat = connections.admission.admit(&principal, address)?;
        let start = match start {
            // A token that was not taken: said now, and again of what is subscribed to then.
            Start::Unknown => Start::Unknown,
            _ if reading.selection.names.is_empty() => Start::Latest,
            start => start,
        };
        let subscribed = runtime.hub.subscribe(spec, start);
        let mut subscription = subscribed.map_err(full_or_closed)?;
        reading.set_rate(&mut subscription);
        let newcomer = Newcomer {
            principal: &principal,
            address,
            claim,
            selection: reading.selection.clone(),
        };
        let connection = connections.enter(&runtime.hub, seat, &subscription, newcomer);
        Ok(Self {
            subscription,
            connection,
        })
    }
}
