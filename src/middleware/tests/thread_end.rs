//! A host drops a response, or logs, from the destructor of a thread-local: ours may be gone by then.

use std::{cell::RefCell, sync::Arc, thread};

use super::support::Observed;
use crate::{
    collector::Method,
    middleware::{
        current::{Entered, request_id},
        ids::follow,
        meter::{MeterState, RequestHead},
    },
};

/// Works for a request once more when the thread ends.
struct Late(Arc<MeterState>);

impl Drop for Late {
    fn drop(&mut self) {
        let entered = Entered::enter(&self.0);
        // In one order it is still known, in the other it is not. A panic would end the process here.
        let _ = request_id();
        drop(entered);
        assert_eq!(request_id(), None);
    }
}

thread_local! {
    static LATE: RefCell<Option<Late>> = const { RefCell::new(None) };
}

#[test]
fn the_end_of_a_thread_is_survived_in_either_order() {
    let observed = Observed::new();
    let head = RequestHead {
        method: Method::Get,
        http2: false,
        bytes: None,
        route: observed.recorder.route(None, &http::Extensions::new()),
        request_id: Some("r-1".into()),
    };
    let state = Arc::new(MeterState::new(observed.recorder.clone(), None, head));
    for ours_first in [false, true] {
        let state = state.clone();
        let thread = thread::spawn(move || {
            let work = || {
                let _entered = Entered::enter(&state);
                assert_eq!(request_id().as_deref(), Some("r-1"));
            };
            if ours_first {
                work();
            }
            LATE.set(Some(Late(state.clone())));
            work();
        });
        thread.join().unwrap();
    }
}

#[test]
fn a_request_without_an_id_is_given_one_that_its_record_has() {
    let observed = Observed::new();
    let begin = || {
        let head = RequestHead {
            method: Method::Get,
            http2: false,
            bytes: None,
            route: observed.recorder.route(None, &http::Extensions::new()),
            request_id: None,
        };
        Arc::new(MeterState::new(observed.recorder.clone(), None, head))
    };
    follow();
    let (asked, other, late) = (begin(), begin(), begin());
    let id_of = |state: &Arc<MeterState>| {
        let _entered = Entered::enter(state);
        request_id()
    };
    let id = id_of(&asked);
    assert!(id.is_some());
    assert_eq!(id_of(&asked), id);
    assert_ne!(id_of(&other), id);
    let recorded = asked.close().extra.and_then(|extra| extra.request_id);
    assert_eq!(recorded.as_deref(), id.as_deref());
    // Nobody would find what is given after the record.
    assert!(late.close().extra.is_none());
    assert_eq!(id_of(&late), None);
}
