//! The service: hands our own paths to whoever answers them, and records the others.

use std::{
    borrow::Cow,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum_core::BoxError;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower::Service;

use super::{
    body::{OwnBody, ResponseBody},
    future::ResponseFuture,
    recorder::{Incoming, Recorder},
    recording::Recording,
};

/// The request body that our own paths get.
pub(crate) type OwnRequestBody = axum_core::body::Body;
/// The answer of our own paths.
pub(crate) type OwnFuture = Pin<Box<dyn Future<Output = Response<OwnBody>> + Send>>;

/// Answers our own paths. They are not recorded.
pub(crate) trait Own: Send + Sync {
    /// Whether the path is one of ours; asked for every request.
    fn claims(&self, path: &str) -> bool;

    fn call(&self, parts: http::request::Parts, body: OwnRequestBody) -> OwnFuture;
}

/// Watches the requests to a service: what [`RealtimeLayer`](crate::RealtimeLayer) makes.
///
/// The inner service gets the request as it came, with a [`RequestMeter`](crate::RequestMeter) in its extensions.
/// Its errors pass through unchanged, and its responses change only in the type of their body. Readiness is the
/// inner service's, for our own paths as well.
#[derive(Clone)]
pub struct RealtimeService<S> {
    inner: S,
    recorder: Arc<Recorder>,
    own: Option<Arc<dyn Own>>,
}

impl<S> RealtimeService<S> {
    pub(crate) fn new(inner: S, recorder: Arc<Recorder>, own: Option<Arc<dyn Own>>) -> Self {
        Self {
            inner,
            recorder,
            own,
        }
    }
}

impl<S, ReqB, ResB> Service<Request<ReqB>> for RealtimeService<S>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    ReqB: Body<Data = Bytes> + Send + 'static,
    ReqB::Error: Into<BoxError>,
    ResB: Body<Data = Bytes>,
{
    type Response = Response<ResponseBody<ResB>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqB>) -> Self::Future {
        self.recorder.touch();
        if let Some(own) = &self.own
            && own.claims(request.uri().path())
        {
            let (parts, body) = request.into_parts();
            return ResponseFuture::own(own.call(parts, OwnRequestBody::new(body)));
        }
        let mut route = None;
        if let Some(hook) = self.recorder.hook() {
            // The hook looks at a request's head, which is only to be had by taking the request apart.
            let (parts, body) = request.into_parts();
            route = hook(&parts);
            request = Request::from_parts(parts, body);
        }
        let recording = begin(&self.recorder, &mut request, route);
        // The recording is ours while the inner service is called: should the call panic, it is dropped and records.
        let future = self.inner.call(request);
        ResponseFuture::host(future, recording)
    }
}

impl<S: fmt::Debug> fmt::Debug for RealtimeService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RealtimeService")
            .field("inner", &self.inner)
            .field("recorder", &self.recorder)
            .finish_non_exhaustive()
    }
}

/// Begins the recording, and puts the meter into the request.
fn begin<B: Body>(
    recorder: &Arc<Recorder>,
    request: &mut Request<B>,
    route: Option<Cow<'static, str>>,
) -> Option<Recording> {
    let recording = recorder.begin(Incoming {
        method: request.method(),
        version: request.version(),
        headers: request.headers(),
        extensions: request.extensions(),
        bytes: request.body().size_hint().exact(),
        route,
    })?;
    request.extensions_mut().insert(recording.meter());
    Some(recording)
}
