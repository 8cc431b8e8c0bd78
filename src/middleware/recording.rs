//! Recording: follows one request to its end, and makes one record of it.

use std::{
    borrow::Cow,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
};

use http::{HeaderMap, HeaderName, Request, Response, StatusCode, Version, header};
use http_body::Body;

use super::{
    current::Entered,
    meter::{MeterState, RequestHead, RequestMeter, Said},
    recorder::{self, Recorder},
    seen::{UNKNOWN, known},
};
use crate::collector::{Method, Outcome, Record};

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Lives in the response future, then in the response body. However the request ends, it is recorded once: by
/// [`finish`](Self::finish), or when this is dropped without.
///
/// What it has seen is kept in the state that it shares with the meters, so that the host's future and body grow by
/// one pointer.
pub(super) struct Recording {
    state: Arc<MeterState>,
}

impl Recording {
    /// Begins the recording of a request, and puts the meter into its extensions. `route` is what the host's hook
    /// said. `None` where recording is switched off, or this recorder watches the request already: the layer was
    /// added twice.
    #[inline]
    pub(super) fn begin<B: Body>(
        recorder: &Arc<Recorder>,
        request: &mut Request<B>,
        route: Option<Cow<'static, str>>,
    ) -> Option<Self> {
        if !recorder.is_enabled() {
            return None;
        }
        let head = RequestHead {
            method: recorder::method(request.method()),
            http2: request.version() == Version::HTTP_2,
            bytes: request.body().size_hint().exact(),
            route: recorder.route(route, request.extensions()),
            request_id: recorder::request_id(request.headers()),
        };
        let outer = request.extensions().get::<RequestMeter>();
        if outer.is_some_and(|outer| outer.belongs_to(recorder)) {
            return None;
        }
        let state = MeterState::new(recorder.clone(), outer.cloned(), head);
        let recording = Self::new(Arc::new(state));
        request.extensions_mut().insert(recording.meter());
        Some(recording)
    }

    pub(super) fn new(state: Arc<MeterState>) -> Self {
        state.recorder.collector().started();
        Self { state }
    }

    pub(super) fn meter(&self) -> RequestMeter {
        RequestMeter::new(self.state.clone())
    }

    /// For the time of a poll.
    #[inline]
    pub(super) fn enter(&self) -> Entered {
        Entered::enter(&self.state)
    }

    pub(super) fn is_finished(&self) -> bool {
        self.state.seen.finished.load(Relaxed)
    }

    #[inline]
    pub(super) fn set_polling(&self, polling: bool) {
        self.state.seen.polling.store(polling, Relaxed);
    }

    /// There is a response. Where nothing of its body will be sent, or it is at its end already, this is the
    /// request's end as well.
    pub(super) fn head<B: Body>(&self, response: &Response<B>) {
        let state = &*self.state;
        let now_us = state.recorder.now_us();
        let status = response.status();
        let ttfb_us = now_us.saturating_sub(state.started_us);
        state.seen.status.store(status.as_u16(), Relaxed);
        state.seen.ttfb_us.store(ttfb_us, Relaxed);

        let at_its_end = response.body().is_end_stream();
        if at_its_end && state.http2 {
            // gRPC without a message has its status in the head. Only HTTP/2 carries it, so that no other request
            // pays for the look.
            self.grpc_status(response.headers());
        }
        let never_sent = state.method == Method::Head
            || matches!(
                status,
                StatusCode::SWITCHING_PROTOCOLS | StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            );
        if at_its_end || never_sent {
            return self.finish_at(Outcome::Completed, now_us);
        }
        // A body that does not know its length may have it announced: what a proxy passes on. The server stops
        // polling when the announced bytes are sent, too.
        let expected_bytes =
            (response.body().size_hint().exact()).or_else(|| announced_bytes(response.headers()));
        if let Some(expected_bytes) = expected_bytes {
            state.seen.expected_bytes.store(expected_bytes, Relaxed);
            if expected_bytes == 0 {
                state.seen.complete_us.store(now_us, Relaxed);
            }
        }
    }

    /// Data was handed over; `at_its_end`: the body says that nothing follows, and may not be polled again.
    pub(super) fn data(&self, bytes: usize, at_its_end: bool) {
        let seen = &self.state.seen;
        let handed_over = seen.response_bytes.load(Relaxed) + bytes as u64;
        seen.response_bytes.store(handed_over, Relaxed);
        if at_its_end {
            self.finish(Outcome::Completed);
        } else if handed_over >= seen.expected_bytes.load(Relaxed)
            && seen.complete_us.load(Relaxed) == UNKNOWN
        {
            let now_us = self.state.recorder.now_us();
            seen.complete_us.store(now_us, Relaxed);
        }
    }

    /// Trailers end a body.
    pub(super) fn trailers(&self, trailers: &HeaderMap) {
        self.grpc_status(trailers);
        self.finish(Outcome::Completed);
    }

    /// The request has ended: makes the record, once.
    pub(super) fn finish(&self, outcome: Outcome) {
        if self.is_finished() {
            return;
        }
        let ended_us = match (outcome, known(&self.state.seen.complete_us)) {
            (Outcome::Completed, Some(complete_us)) => complete_us,
            _ => self.state.recorder.now_us(),
        };
        self.finish_at(outcome, ended_us);
    }

    fn finish_at(&self, outcome: Outcome, ended_us: u64) {
        let state = &*self.state;
        let seen = &state.seen;
        seen.finished.store(true, Relaxed);
        let status = Some(seen.status.load(Relaxed)).filter(|status| *status != 0);
        let Said {
            route,
            provider,
            model,
            tenant,
            user,
            usage,
            cost_nanos,
            success,
            mut extra,
        } = state.close();
        let success = match outcome {
            Outcome::ServiceError | Outcome::BodyError | Outcome::Panicked => false,
            Outcome::Completed => success.unwrap_or_else(|| {
                !seen.grpc_failed.load(Relaxed) && status.is_some_and(|status| status < 400)
            }),
            Outcome::DroppedBeforeResponse | Outcome::DroppedInBody => success.unwrap_or(false),
        };
        if success && let Some(extra) = &mut extra {
            // The reason of a failure that was taken back.
            extra.error_message = None;
        }
        state.recorder.collector().record(Record {
            ended_us,
            latency_us: ended_us.saturating_sub(state.started_us),
            ttfb_us: known(&seen.ttfb_us),
            status,
            method: state.method,
            outcome,
            success,
            route,
            provider,
            model,
            tenant,
            user,
            input_tokens: usage.map(|usage| usage.input),
            output_tokens: usage.map(|usage| usage.output),
            cached_tokens: usage.map(|usage| usage.cached),
            cost_nanos,
            request_bytes: state.request_bytes,
            response_bytes: seen.response_bytes.load(Relaxed),
            extra,
        });
    }

    #[cold]
    fn outcome_of_drop(&self) -> Outcome {
        let seen = &self.state.seen;
        if seen.polling.load(Relaxed) {
            Outcome::Panicked
        } else if seen.complete_us.load(Relaxed) != UNKNOWN {
            Outcome::Completed
        } else if thread::panicking() {
            // In the call that makes the future, or in a layer around us.
            Outcome::Panicked
        } else if seen.status.load(Relaxed) == 0 {
            Outcome::DroppedBeforeResponse
        } else {
            Outcome::DroppedInBody
        }
    }

    fn grpc_status(&self, headers: &HeaderMap) {
        let status = headers.get(&GRPC_STATUS);
        if status.is_some_and(|status| status.as_bytes() != b"0") {
            self.state.seen.grpc_failed.store(true, Relaxed);
        }
    }
}

fn announced_bytes(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

impl Drop for Recording {
    #[inline]
    fn drop(&mut self) {
        if !self.is_finished() {
            self.finish(self.outcome_of_drop());
        }
    }
}
