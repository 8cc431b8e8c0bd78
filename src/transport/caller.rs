//! Who asks: what the router has found out before any surface is reached.

use std::{net::IpAddr, sync::Arc};

use super::connections::Connections;
use crate::access::{Gate, Principal};

/// Who asks, as the gate sees it.
#[derive(Debug)]
pub(crate) struct Caller<'a> {
    pub(crate) principal: Principal,
    pub(crate) gate: &'a Gate,
    pub(crate) connections: &'a Arc<Connections>,
    /// The address that limits count by; `None` where nobody said it.
    pub(crate) address: Option<IpAddr>,
}
