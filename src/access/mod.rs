//! Access: who may look, who may do what, and how a browser proves it.
// Not wired to a transport yet.
#![allow(dead_code, unused_imports)]

#[cfg(feature = "jwt")]
mod claims;
mod cors;
mod credentials;
mod encode;
mod gate;
#[cfg(feature = "jwt")]
mod jwt;
mod origin;
mod peer;
mod policy;
mod principal;
mod reconnect;
mod refusal;
mod secret;
mod ticket;

pub use cors::Cors;
pub(crate) use credentials::COOKIE;
pub(crate) use gate::{Gate, GateSettings};
#[cfg(feature = "jwt")]
pub use jwt::{JwtConfig, JwtKey};
pub(crate) use origin::{Origins, is_origin};
pub use peer::PeerAddr;
pub(crate) use peer::{TrustedProxies, is_network};
pub use policy::Access;
pub use principal::{Principal, Role};
pub(crate) use reconnect::{RECONNECT_TTL, ReconnectTokens, Resume, TokenError};
pub use refusal::Denied;
pub(crate) use refusal::Refusal;
pub(crate) use secret::TokenKey;
pub(crate) use ticket::TICKET_TTL;
