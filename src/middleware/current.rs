//! Current: for which request this thread works, while its future or its body is being polled.
//!
//! A host may drop a response, or log, from the destructor of a thread-local of its own, when ours is gone already: then
//! nothing is known, and nothing is kept. Asking for it all the same would end the process.

use std::{cell::RefCell, sync::Arc};

use super::meter::MeterState;

thread_local! {
    static CURRENT: RefCell<Option<Arc<MeterState>>> = const { RefCell::new(None) };
}

/// Until it is dropped, the thread works for a request; then for the one before again, if any.
#[must_use]
pub(super) struct Entered {
    /// `None`: nobody asks for the request, and what was before stays.
    before: Option<Option<Arc<MeterState>>>,
}

impl Entered {
    /// Costs a load where no line is looked at and the request came without an id, a reference count where lines are,
    /// and nothing without the feature `tracing`.
    #[inline]
    pub(super) fn enter(state: &Arc<MeterState>) -> Self {
        let named = cfg!(feature = "tracing") && state.may_be_asked();
        let before = match named {
            true => replace(Some(state.clone())),
            false => None,
        };
        Self { before }
    }
}

impl Drop for Entered {
    #[inline]
    fn drop(&mut self) {
        if let Some(before) = self.before.take() {
            // What is replaced is dropped outside of the borrow.
            drop(replace(before));
        }
    }
}

/// `None` where the thread is past keeping anything.
fn replace(with: Option<Arc<MeterState>>) -> Option<Option<Arc<MeterState>>> {
    CURRENT.try_with(|current| current.replace(with)).ok()
}

/// The id of the request at hand: what it came with, or else what its record will have.
#[cfg(feature = "tracing")]
pub(crate) fn request_id() -> Option<String> {
    let current = CURRENT.try_with(|current| current.borrow().as_ref()?.request_id());
    current.ok().flatten()
}
