//! The codec against the standards' cases, and against tungstenite.
//!
//! The cases follow the numbers of the Autobahn test suite, whose list is the field's measure. Every case is fed
//! whole, byte by byte, and in random pieces, and must come out the same.

mod close;
mod compression;
mod fragments;
mod frames;
mod limits;
mod oracle;
mod support;
mod utf8;
