//! Collector: what the request path writes, lock-free and bounded.

mod labels;
mod record;

pub(crate) use labels::{LabelId, LabelTable};
pub(crate) use record::{Extra, Method, Outcome, Record};
