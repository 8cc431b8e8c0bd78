//! WebSocket: the same events both ways.
//!
//! | file | job |
//! |---|---|
//! | `codec` | RFC 6455 and RFC 7692 without I/O |
//! | `upgrade` | from a request to a connection: the handshake, who asks, what for |
//! | `session` | one connection: its timers, its messages, its share of the hub |
//! | `wire` | bytes in and out of the upgraded connection |
//! | `reading` | which channels, with which filter; changed by `subscribe` and `unsubscribe` |
//! | `command` | a client's message becomes a command, or an error that says what is wrong |
//! | `envelope` | `{"type", "timestamp", "data", "id", "channel"}` |
//! | `pace` | how much a client may send |
//!
//! An event is framed, and deflated, once for all connections of a form; a connection writes the shared bytes. It
//! holds no buffer of its own: input is read into a buffer of the thread, and output waits only where a socket is full.

mod codec;
mod command;
pub(super) mod envelope;
mod pace;
mod reading;
mod session;
mod upgrade;
mod wire;

pub(super) use upgrade::open;
