//! Recording: follows one request to its end, and makes one record of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering::Relaxed},
    },
    thread,
};

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
///
/// What it has seen is kept in the state that it shares with the meters, so that the host's future and body grow by
/// one pointer.
pub(super) struct Recording {
    state: Arc<MeterState>,
}

/// What a recording has seen of its response. Only the recording reads and writes it: all accesses are relaxed.
#[derive(Debug)]
pub(super) struct Seen {
    /// [`UNKNOWN`] until there is a head.
    ttfb_us: AtomicU64,
    response_bytes: AtomicU64,
    /// The body's length, where it is known beforehand.
    expected_bytes: AtomicU64,
    /// When the expected length had been handed over. The body is complete then, but is still looked at: trailers
    /// may follow.
    complete_us: AtomicU64,
    /// 0 until there is a head.
    status: AtomicU16,
    /// The host's future or body is being polled. Still set when the recording is dropped: the poll has panicked, and
    /// a layer outside may have caught it.
    polling: AtomicBool,
    grpc_failed: AtomicBool,
    finished: AtomicBool,
}

/// No length has so many bytes, and no reading of the clock so many microseconds.
const UNKNOWN: u64 = u64::MAX;

fn known(word: &AtomicU64) -> Option<u64> {
    Some(word.load(Relaxed)).filter(|value| *value != UNKNOWN)
}

impl Seen {
    pub(super) fn new() -> Self {
        Self {
            ttfb_us: AtomicU64::new(UNKNOWN),
            response_bytes: AtomicU64::new(0),
            expected_bytes: AtomicU64::new(UNKNOWN),
            complete_us: AtomicU64::new(UNKNOWN),
            status: AtomicU16::new(0),
            polling: AtomicBool::new(false),
            grpc_failed: AtomicBool::new(false),
            finished: AtomicBool::new(false),
        }
    }
}

impl Recording {
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
