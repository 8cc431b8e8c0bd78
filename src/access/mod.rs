//! Access: who may look, who may do what, and how a browser proves it.

mod admission;
mod admitted;
mod attempts;
#[cfg(feature = "jwt")]
mod claims;
mod cors;
mod credentials;
mod denied;
mod encode;
mod gate;
#[cfg(feature = "jwt")]
mod jwt;
mod origin;
mod peer;
mod policy;
mod principal;
mod rate;
mod reconnect;
mod secret;
mod ticket;

pub(crate) use admission::{Admission, Seat};
pub(crate) use admitted::Admitted;
pub use cors::Cors;
pub use denied::Denied;
pub(crate) use gate::{Gate, GateSettings};
#[cfg(feature = "jwt")]
pub use jwt::{JwtConfig, JwtKey};
pub(crate) use origin::is_origin;
pub use peer::PeerAddr;
pub(crate) use peer::is_network;
pub use policy::Access;
pub use principal::{Principal, Role};
pub(crate) use rate::Rates;
pub(crate) use reconnect::{RECONNECT_TTL, Resume, TokenError};
pub(crate) use secret::TokenKey;
