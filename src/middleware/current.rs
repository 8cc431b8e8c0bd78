//! Current: for which request this thread works, while its future or its body is being polled.

use std::{cell::RefCell, sync::Arc};

use super::meter::MeterState;

thread_local! {
    static CURRENT: RefCell<Option<Arc<MeterState>>> = const { RefCell::new(None) };
}

/// Until it is dropped, the thread works for a request; then for the one before again, if any.
#[must_use]
pub(super) struct Entered {
    /// `None`: the request has nothing to be known by, and what was before stays.
    before: Option<Option<Arc<MeterState>>>,
}

impl Entered {
    /// Costs a load where the request came without an id, and nothing without the feature `tracing`.
    #[inline]
    pub(super) fn enter(state: &Arc<MeterState>) -> Self {
        let named = cfg!(feature = "tracing") && state.has_extra();
        let before = named.then(|| CURRENT.replace(Some(state.clone())));
        Self { before }
    }
}

impl Drop for Entered {
    #[inline]
    fn drop(&mut self) {
        if let Some(before) = self.before.take() {
            // What is replaced is dropped outside of the borrow.
            drop(CURRENT.replace(before));
        }
    }
}

/// The id that the host's request came with.
#[cfg(feature = "tracing")]
pub(crate) fn request_id() -> Option<String> {
    CURRENT.with_borrow(|current| current.as_ref()?.request_id())
}
