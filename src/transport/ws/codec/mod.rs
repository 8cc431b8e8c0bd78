//! A server's half of RFC 6455 and RFC 7692, without I/O.
//!
//! | file | job |
//! |---|---|
//! | `handshake` | may this request become a WebSocket, and what is answered (RFC 6455 section 4.2, RFC 8441) |
//! | `extensions` | which offer of permessage-deflate is taken (RFC 7692 section 7.1) |
//! | `frame` | the head of a frame, and the mask (RFC 6455 section 5.2, 5.3) |
//! | `decoder` | bytes of a client become messages (RFC 6455 section 5.4, 5.5) |
//! | `message` | fragments become one message, with its limits |
//! | `text` | UTF-8 across fragments (RFC 6455 section 8.1) |
//! | `deflate` | permessage-deflate, each message alone (RFC 7692 section 7.2) |
//! | `encoder` | frames to clients |
//! | `close` | close codes, and whether to come back (RFC 6455 section 7.4) |
//! | `msgpack` | JSON as MessagePack and back |
//!
//! Why our own: a frame of a server is not masked, so the same bytes serve every reader. We encode and deflate an
//! event once, keep it as [`bytes::Bytes`], and a delivery is a reference count; a general library copies the
//! payload into each connection's buffer and compresses it again for each. The decoder holds no buffer while no
//! frame is under way, which is what keeps an idle connection small.

pub(crate) mod close;
pub(crate) mod decoder;
pub(crate) mod deflate;
pub(crate) mod encoder;
pub(crate) mod extensions;
pub(crate) mod frame;
pub(crate) mod handshake;
mod message;
pub(crate) mod msgpack;
mod text;

#[cfg(test)]
mod tests;
