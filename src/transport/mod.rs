//! Transport: what clients see. It owns every wire format and knows every URL.

mod answer;
mod body;
mod caller;
mod compress;
mod connections;
#[cfg(feature = "dashboard")]
mod dashboard;
mod forms;
mod kinds;
mod names;
mod params;
mod query;
mod rest;
mod route;
mod router;
mod sse;
mod stream;
mod taken;
mod wanted;
#[cfg(feature = "ws")]
mod ws;

pub(crate) use compress::compressor;
pub(crate) use forms::{RECORD_FORM, SSE_FORM, encoders, next_record};
pub(crate) use router::Router;
