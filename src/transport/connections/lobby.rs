//! The lobby: sockets that have yet to say who they are. They count among themselves.

use std::{net::IpAddr, sync::Arc};

use crate::{
    access::{Admission, Principal, Seat},
    sync::{AtomicUsize, Ordering},
};

/// The places of those who have yet to say who they are.
#[derive(Debug)]
pub(super) struct Lobby {
    most: usize,
    places: Arc<AtomicUsize>,
    admission: Arc<Admission>,
}

/// One of these places; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct LobbySeat {
    places: Arc<AtomicUsize>,
    _seat: Seat,
}

impl Lobby {
    pub(super) fn new(max_clients: usize) -> Self {
        let most = (max_clients / 10).clamp(16, 1024);
        Self {
            most,
            places: Arc::default(),
            // One address leaves room for others.
            admission: Admission::new(None, Some(most / 4), None),
        }
    }

    pub(super) fn enter(&self, address: Option<IpAddr>) -> Option<LobbySeat> {
        let seat = self
            .admission
            .admit(&Principal::anonymous(), address)
            .ok()?;
        let enter = |places: usize| (places < self.most).then_some(places + 1);
        self.places
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter)
            .ok()?;
        Some(LobbySeat {
            places: self.places.clone(),
            _seat: seat,
        })
    }
}

impl Drop for LobbySeat {
    fn drop(&mut self) {
        self.places.fetch_sub(1, Ordering::Relaxed);
    }
}
