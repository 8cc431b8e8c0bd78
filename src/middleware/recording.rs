//! Recording: follows one request to its end, and makes one record of it.

use std::{sync::Arc, thread};

use http::{HeaderMap, HeaderName, Response, StatusCode, header};
use http_body::Body;

use super::{
    current::Entered,
    meter::{MeterState, RequestMeter, Said},
};
use crate::collector::{Method, Outcome, Record};

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Lives in the response future, then in the response body. However the request ends, it is recorded once: by
/// [`finish`](Self::finish), or when this is dropped without.
pub(super) struct Recording {
    state: Arc<MeterState>,
    ttfb_us: Option<u64>,
    response_bytes: u64,
    /// The body's length, where it is known beforehand.
    expected_bytes: Option<u64>,
    /// When the expected length had been handed over. The body is complete then, but is still looked at: trailers
    /// may follow.
    complete_us: Option<u64>,
    status: Option<StatusCode>,
    /// The host's future or body is being polled. Still set when this is dropped: the poll has panicked, and a layer
    /// outside may have caught it.
    polling: bool,
    grpc_failed: bool,
    finished: bool,
}

impl Recording {
    pub(super) fn new(state: Arc<MeterState>) -> Self {
        state.recorder.collector().started();
        Self {
            state,
            ttfb_us: None,
            response_bytes: 0,
            expected_bytes: None,
            complete_us: None,
            status: None,
            polling: false,
            grpc_failed: false,
            finished: false,
        }
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
        self.finished
    }

    pub(super) fn set_polling(&mut self, polling: bool) {
        self.polling = polling;
    }

    /// There is a response. Where nothing of its body will be sent, or it is at its end already, this is the
    /// request's end as well.
    pub(super) fn head<B: Body>(&mut self, response: &Response<B>) {
        let now_us = self.state.recorder.now_us();
        let status = response.status();
        self.status = Some(status);
        self.ttfb_us = Some(now_us.saturating_sub(self.state.started_us));

        let at_its_end = response.body().is_end_stream();
        if at_its_end && self.state.http2 {
            // gRPC without a message has its status in the head. Only HTTP/2 carries it, so that no other request
            // pays for the look.
            self.grpc_status(response.headers());
        }
        let never_sent = self.state.method == Method::Head
            || matches!(
                status,
                StatusCode::SWITCHING_PROTOCOLS | StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            );
        if at_its_end || never_sent {
            return self.finish_at(Outcome::Completed, now_us);
        }
        // A body that does not know its length may have it announced: what a proxy passes on. The server stops
        // polling when the announced bytes are sent, too.
        self.expected_bytes =
            (response.body().size_hint().exact()).or_else(|| announced_bytes(response.headers()));
        if self.expected_bytes == Some(0) {
            self.complete_us = Some(now_us);
        }
    }

    /// Data was handed over; `at_its_end`: the body says that nothing follows, and may not be polled again.
    pub(super) fn data(&mut self, bytes: usize, at_its_end: bool) {
        self.response_bytes += bytes as u64;
        if at_its_end {
            self.finish(Outcome::Completed);
        } else if self.complete_us.is_none()
            && self
                .expected_bytes
                .is_some_and(|expected| self.response_bytes >= expected)
        {
            self.complete_us = Some(self.state.recorder.now_us());
        }
    }

    /// Trailers end a body.
    pub(super) fn trailers(&mut self, trailers: &HeaderMap) {
        self.grpc_status(trailers);
        self.finish(Outcome::Completed);
    }

    /// The request has ended: makes the record, once.
    pub(super) fn finish(&mut self, outcome: Outcome) {
        if self.finished {
            return;
        }
        let ended_us = match (outcome, self.complete_us) {
            (Outcome::Completed, Some(complete_us)) => complete_us,
            _ => self.state.recorder.now_us(),
        };
        self.finish_at(outcome, ended_us);
    }

    fn finish_at(&mut self, outcome: Outcome, ended_us: u64) {
        self.finished = true;
        let state = &*self.state;
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
                !self.grpc_failed && self.status.is_some_and(|status| status.as_u16() < 400)
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
            ttfb_us: self.ttfb_us,
            status: self.status.map(|status| status.as_u16()),
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
            response_bytes: self.response_bytes,
            extra,
        });
    }

    fn grpc_status(&mut self, headers: &HeaderMap) {
        let status = headers.get(&GRPC_STATUS);
        self.grpc_failed |= status.is_some_and(|status| status.as_bytes() != b"0");
    }
}

fn announced_bytes(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

impl Drop for Recording {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let outcome = if self.polling {
            Outcome::Panicked
        } else if self.complete_us.is_some() {
            Outcome::Completed
        } else if thread::panicking() {
            // In the call that makes the future, or in a layer around us.
            Outcome::Panicked
        } else if self.status.is_none() {
            Outcome::DroppedBeforeResponse
        } else {
            Outcome::DroppedInBody
        };
        self.finish(outcome);
    }
}
