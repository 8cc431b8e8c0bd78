//! A recorder to look into, bodies that end as they are told, and requests.

use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use tower::Service;

use crate::{
    clock::Clock,
    collector::{Collector, LabelId, LabelTable, Limits, Record},
    middleware::{RealtimeService, Recorder, Watch},
};

pub(super) type ReqBody = http_body_util::Full<Bytes>;

/// What a handler may fail with.
#[derive(Debug, PartialEq)]
pub(super) struct Failure(pub(super) &'static str);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Failure {}

pub(super) struct Observed {
    pub(super) collector: Arc<Collector>,
    pub(super) recorder: Arc<Recorder>,
}

impl Observed {
    pub(super) fn new() -> Self {
        Self::with(&Limits::default(), |recorder| recorder)
    }

    pub(super) fn with(limits: &Limits, settings: impl FnOnce(Recorder) -> Recorder) -> Self {
        let clock = Clock::new();
        let collector = Arc::new(Collector::new(limits, clock));
        let recorder = Arc::new(settings(Recorder::new(collector.clone(), clock)));
        Self {
            collector,
            recorder,
        }
    }

    pub(super) fn layer<S>(&self, inner: S) -> RealtimeService<S> {
        RealtimeService::new(inner, Arc::new(Watch::new(self.recorder.clone(), None)))
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.collector.totals().in_flight
    }

    /// What has been recorded since the last call.
    pub(super) fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        self.collector
            .drain(usize::MAX, |record| records.push(record));
        records
    }

    /// The one record; nothing is in flight any more.
    #[track_caller]
    pub(super) fn one(&self) -> Record {
        let mut records = self.records();
        assert_eq!(records.len(), 1, "not exactly one record");
        assert_eq!(self.in_flight(), 0, "the gauge leaks");
        records.remove(0)
    }

    pub(super) fn route(&self, record: &Record) -> Option<&str> {
        self.collector.labels().route.resolve(record.route)
    }

    #[cfg_attr(not(feature = "axum"), allow(dead_code))]
    pub(super) fn text<'a, T>(&self, table: &'a LabelTable<T>, id: LabelId) -> Option<&'a str> {
        table.resolve(id)
    }
}

/// One step of a [`Scripted`] body.
pub(super) enum Step {
    Data(&'static str),
    Trailers(HeaderMap),
    Pending,
    Error,
    Panic,
}

/// A body that does what it is told, then ends.
#[derive(Default)]
pub(super) struct Scripted {
    steps: VecDeque<Step>,
    exact: Option<u64>,
    tells_its_end: bool,
    on_drop: Option<Box<dyn FnOnce() + Send>>,
}

impl Scripted {
    pub(super) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        let mut body = Self::default();
        body.steps.extend(steps);
        body
    }

    pub(super) fn exact(mut self, bytes: u64) -> Self {
        self.exact = Some(bytes);
        self
    }

    /// Says so when no step is left, instead of waiting for another poll.
    pub(super) fn tells_its_end(mut self) -> Self {
        self.tells_its_end = true;
        self
    }

    pub(super) fn on_drop(mut self, run: impl FnOnce() + Send + 'static) -> Self {
        self.on_drop = Some(Box::new(run));
        self
    }
}

impl Body for Scripted {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        Poll::Ready(match self.steps.pop_front() {
            None => None,
            Some(Step::Data(text)) => Some(Ok(Frame::data(Bytes::from_static(text.as_bytes())))),
            Some(Step::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Some(Step::Error) => Some(Err(Failure("body"))),
            Some(Step::Pending) => return Poll::Pending,
            Some(Step::Panic) => panic!("the body panics"),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.tells_its_end && self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.exact
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        if let Some(on_drop) = self.on_drop.take() {
            on_drop();
        }
    }
}

pub(super) fn get(path: &str) -> Request<ReqBody> {
    Request::get(path).body(ReqBody::default()).unwrap()
}

/// A service that answers every request in the same way.
pub(super) fn answers<B>(
    answer: impl Fn() -> Result<Response<B>, Failure> + Clone,
) -> impl Service<Request<ReqBody>, Response = Response<B>, Error = Failure, Future: Send> + Clone
where
    B: Send + 'static,
{
    tower::service_fn(move |_request| std::future::ready(answer()))
}

/// Polls once, as a server would, without a runtime.
pub(super) fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// The answer of a service that does not wait for anything.
#[track_caller]
pub(super) fn call<S, B>(
    service: &mut S,
    request: Request<ReqBody>,
) -> Result<Response<B>, S::Error>
where
    S: Service<Request<ReqBody>, Response = Response<B>>,
{
    let ready = service.poll_ready(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(ready, Poll::Ready(Ok(()))));
    let mut future = pin!(service.call(request));
    match poll(future.as_mut()) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("the service waits"),
    }
}

type Polled<B> = Poll<Option<Result<Frame<<B as Body>::Data>, <B as Body>::Error>>>;

/// The body's next frame.
pub(super) fn frame<B: Body + Unpin>(body: &mut B) -> Polled<B> {
    Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()))
}

/// Reads a body until it ends or fails, as a server that never asks for the end would not.
pub(super) fn read_to_end<B: Body + Unpin>(body: &mut B) -> usize {
    let mut frames = 0;
    while let Poll::Ready(Some(Ok(_))) = frame(body) {
        frames += 1;
    }
    frames
}

/// Runs what panics, without the message on the test's output.
pub(super) fn panics(run: impl FnOnce()) {
    assert!(
        catch_unwind(AssertUnwindSafe(run)).is_err(),
        "did not panic"
    );
}
