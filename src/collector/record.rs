//! One finished request, as plain values.

use super::labels::LabelId;

/// Everything that is known about one request when it has ended. Recorded once, self-contained.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// When it ended: microseconds of [`Clock::now_us`](crate::clock::Clock::now_us).
    pub(crate) ended_us: u64,
    /// From the call of the service to the last body byte, or the drop of the body; microseconds.
    pub(crate) latency_us: u64,
    /// From the call of the service to the response head; `None` where there was no head.
    pub(crate) ttfb_us: Option<u64>,
    /// `None` where the service gave no response.
    pub(crate) status: Option<u16>,
    pub(crate) method: Method,
    pub(crate) outcome: Outcome,
    /// Status below 400 and completed, unless the handler said otherwise.
    pub(crate) success: bool,
    pub(crate) route: LabelId,
    pub(crate) provider: LabelId,
    pub(crate) model: LabelId,
    pub(crate) tenant: LabelId,
    pub(crate) user: LabelId,
    pub(crate) input_tokens: Option<u64>,
    pub(crate) output_tokens: Option<u64>,
    /// Part of `input_tokens` that was read from a cache.
    pub(crate) cached_tokens: Option<u64>,
    /// What the handler said it cost, in nano-units of the currency. `None`: to be priced from the table.
    pub(crate) cost_nanos: Option<u64>,
    /// From the request body's exact size; `None` where it is not known beforehand.
    pub(crate) request_bytes: Option<u64>,
    pub(crate) response_bytes: u64,
    /// What few requests have; the only part that may have been allocated.
    pub(crate) extra: Option<Box<Extra>>,
}

impl Record {
    /// The handler said how many tokens there were, be it none.
    pub(crate) fn has_tokens(&self) -> bool {
        self.input_tokens.is_some() || self.output_tokens.is_some() || self.cached_tokens.is_some()
    }
}

/// The parts of a record that most requests do not have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extra {
    /// The host's own request id (`x-request-id`), at most 128 bytes; or one that a log line had to have.
    pub(crate) request_id: Option<Box<str>>,
    /// What the handler gave as the reason of a failure, at most 512 bytes.
    pub(crate) error_message: Option<Box<str>>,
    /// The user's id where the label table had no room for it.
    pub(crate) user: Option<Box<str>>,
    /// Labels of the host: name and value, at most 8.
    pub(crate) labels: Vec<(Box<str>, Box<str>)>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Outcome {
    /// The whole response was handed over.
    Completed = 0,
    /// The service returned an error instead of a response.
    ServiceError = 1,
    /// The response body failed.
    BodyError = 2,
    /// The response future was dropped before there was a response: the client left, or a timeout layer did it.
    DroppedBeforeResponse = 3,
    /// The body was dropped before its end.
    DroppedInBody = 4,
    /// The handler or the body panicked.
    Panicked = 5,
}

impl Outcome {
    /// The client left early.
    pub(crate) fn is_aborted(self) -> bool {
        matches!(self, Self::DroppedBeforeResponse | Self::DroppedInBody)
    }
}

/// The request's method; anything unusual is `Other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub(crate) enum Method {
    Get = 0,
    Post = 1,
    Put = 2,
    Delete = 3,
    Patch = 4,
    Head = 5,
    Options = 6,
    Connect = 7,
    Trace = 8,
    Other = 9,
}

/// A plain record of one completed request, all its labels the given one.
#[cfg(test)]
pub(crate) fn record_for_tests(label: LabelId) -> Record {
    Record {
        ended_us: 2_000,
        latency_us: 1_500,
        ttfb_us: Some(700),
        status: Some(200),
        method: Method::Post,
        outcome: Outcome::Completed,
        success: true,
        route: label,
        provider: label,
        model: label,
        tenant: label,
        user: label,
        input_tokens: Some(10),
        output_tokens: Some(20),
        cached_tokens: Some(5),
        cost_nanos: Some(1_000),
        request_bytes: Some(64),
        response_bytes: 128,
        extra: None,
    }
}
