//! The past of one reader.

use std::sync::Arc;

use super::{
    block::{Check, Compressor},
    groups::Link,
};

/// What a reader of compressed blocks remembers of its past.
#[derive(Debug)]
pub(in crate::hub) struct Compressed {
    pub(in crate::hub) compressor: Arc<dyn Compressor>,
    /// It has got everything of the view's group up to there, and nothing else since the keyframe.
    pub(in crate::hub) link: Option<Link>,
    /// Where it was when it was told to make a heartbeat.
    pub(in crate::hub) link_before_beat: Option<Link>,
    /// Of what it was handed last.
    pub(in crate::hub) check: Check,
}

impl Compressed {
    /// One that has got nothing yet.
    pub(in crate::hub) fn new(compressor: Arc<dyn Compressor>) -> Self {
        Self {
            compressor,
            link: None,
            link_before_beat: None,
            check: Check::default(),
        }
    }
}
