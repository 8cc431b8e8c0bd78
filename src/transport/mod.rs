//! Transport: what clients see. It owns every wire format and knows every URL.

mod answer;
mod query;
mod route;
mod router;
mod rest;
mod sse;
