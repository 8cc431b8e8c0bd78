//! The service: records the host's requests and answers ours.

use std::{sync::Arc, task::{Context, Poll}};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower::{BoxError, Service};

use super::{body::ResponseBody, future::ResponseFuture, meter::{RequestMeter, State}, own::Own, recorder::Recorder};
use crate::collector::{Extra, LabelId, Method};

/// A service whose requests are recorded.
#[derive(Clone, Debug)]
pub struct RealtimeService<S> {
    inner: S,
    recorder: Arc<Recorder>,
    own: Option<Arc<dyn Own>>,
}

impl<S> RealtimeService<S> {
    pub(crate) fn new(inner: S, recorder: Arc<Recorder>, own: Option<Arc<dyn Own>>) -> Self {
        Self { inner, recorder, own }
    }

    fn route_of<B>(&self, request: &Request<B>) -> LabelId {
        #[cfg(feature = "axum")]
        if let Some(path) = request.extensions().get::<axum::extract::MatchedPath>() {
            return self.recorder.collector.labels().route.intern(path.as_str());
        }
        let _ = request;
        LabelId::UNSET
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
        if let Some(own) = &self.own
            && own.claims(request.uri().path())
        {
            let (parts, body) = request.into_parts();
            return ResponseFuture::own(own.call(parts, axum_core::body::Body::new(body)));
        }
        if request.extensions().get::<RequestMeter>().is_some_and(|meter| meter.belongs_to(&self.recorder)) {
            return ResponseFuture::host(self.inner.call(request), None);
        }
        (self.recorder.start)();
        let started_us = self.recorder.clock.now_us();
        self.recorder.collector.started();
        let id = request.headers().get("x-request-id").and_then(|id| id.to_str().ok());
        let id = id.filter(|id| !id.is_empty() && id.len() <= 128);
        let extra = id.map(|id| Box::new(Extra { request_id: Some(id.into()), ..Extra::default() }));
        let state = Arc::new(State::new(
            self.recorder.clone(),
            started_us,
            method_of(request.method()),
            request.body().size_hint().exact(),
            self.route_of(&request),
            extra,
        ));
        request.extensions_mut().insert(RequestMeter::new(state.clone()));
        ResponseFuture::host(self.inner.call(request), Some(state))
    }
}

fn method_of(method: &http::Method) -> Method {
    match *method {
        http::Method::GET => Method::Get,
        http::Method::POST => Method::Post,
        http::Method::PUT => Method::Put,
        http::Method::DELETE => Method::Delete,
        http::Method::PATCH => Method::Patch,
        http::Method::HEAD => Method::Head,
        http::Method::OPTIONS => Method::Options,
        http::Method::CONNECT => Method::Connect,
        http::Method::TRACE => Method::Trace,
        _ => Method::Other,
    }
}
