//! Access: who may look, who may do what, and how a browser proves it.
// Not wired to a transport yet.
#![allow(dead_code, unused_imports)]

mod cors;
mod credentials;
mod origin;
mod peer;
mod policy;
mod principal;
mod refusal;
mod secret;

pub use cors::Cors;
pub(crate) use origin::{Origins, is_origin};
pub use peer::PeerAddr;
pub(crate) use peer::{TrustedProxies, is_network};
pub use policy::Access;
pub use principal::{Principal, Role};
pub use refusal::Denied;
pub(crate) use refusal::Refusal;
pub(crate) use secret::TokenKey;
