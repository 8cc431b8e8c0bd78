//! Guides: what needs more than the documentation of one item. They are there for readers of the documentation, and
//! compiled for it and for its tests only.
//!
//! - [Behind a proxy](behind_a_proxy): nginx, Caddy, HAProxy, Cloudflare.
//! - [Who may look](who_may_look): policies, tickets, tenants, origins, and what they are there against.
//! - [Slow readers](slow_readers): what becomes of a client that does not keep up, and of everybody else.
//! - [WebSocket](websocket): its events, its messages, and how it differs from a stream.

#[doc = include_str!("behind_a_proxy.md")]
pub mod behind_a_proxy {}

#[doc = include_str!("who_may_look.md")]
pub mod who_may_look {}

#[doc = include_str!("slow_readers.md")]
pub mod slow_readers {}

#[doc = include_str!("websocket.md")]
pub mod websocket {}
