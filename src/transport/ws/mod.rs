//! WebSocket: the same events both ways.
// The session that drives the codec comes with the hub; until then only tests call it.
#![allow(dead_code)]

pub(crate) mod codec;
