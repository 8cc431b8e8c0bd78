//! The service: hands our own paths to whoever answers them, and records the others.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use axum_core::BoxError;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower::Service;

use super::{
    body::ResponseBody,
    future::ResponseFuture,
    own::{Own, OwnRequestBody},
    recorder::Recorder,
    recording::Recording,
};

/// Watches the requests to a service: what [`RealtimeLayer`](crate::RealtimeLayer) makes.
///
/// The inner service gets the request as it came, with a [`RequestMeter`](crate::RequestMeter) in its extensions.
/// Its errors pass through unchanged, and its responses change only in the type of their body. Readiness is the
/// inner service's, for our own paths as well.
#[derive(Clone)]
pub struct RealtimeService<S> {
    inner: S,
    watch: Arc<Watch>,
}

/// What all services of a layer share. One pointer, because axum clones the service for every request.
pub(crate) struct Watch {
    recorder: Arc<Recorder>,
    own: Option<Arc<dyn Own>>,
}

impl Watch {
    /// Records with `recorder`, and answers the paths that `own` claims.
    pub(crate) fn new(recorder: Arc<Recorder>, own: Option<Arc<dyn Own>>) -> Self {
        Self { recorder, own }
    }

    pub(crate) fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("recorder", &self.recorder)
            .field("answers", &self.own.is_some())
            .finish()
    }
}

impl<S> RealtimeService<S> {
    pub(crate) fn new(inner: S, watch: Arc<Watch>) -> Self {
        Self { inner, watch }
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
        let recorder = &self.watch.recorder;
        recorder.touch();
        if let Some(own) = &self.watch.own
            && own.claims(request.uri().path())
        {
            let (parts, body) = request.into_parts();
            return ResponseFuture::own(own.call(parts, OwnRequestBody::new(body)));
        }
        let mut route = None;
        if let Some(hook) = recorder.hook() {
            // The hook looks at a request's head, which is only to be had by taking the request apart.
            let (parts, body) = request.into_parts();
            route = hook(&parts);
            request = Request::from_parts(parts, body);
        }
        let recording = Recording::begin(recorder, &mut request, route);
        // The recording is ours while the inner service is called: should the call panic, it is dropped and records.
        let future = self.inner.call(request);
        ResponseFuture::host(future, recording)
    }
}

impl<S: fmt::Debug> fmt::Debug for RealtimeService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RealtimeService")
            .field("inner", &self.inner)
            .field("watch", &self.watch)
            .finish()
    }
}
