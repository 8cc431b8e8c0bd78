//! The layer: what a host adds to its service.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower::{BoxError, Service};
use tower_layer::Layer;

use crate::{
    config::RealtimeConfig,
    error::Error,
    handle::RealtimeHandle,
    middleware::{Own, RealtimeService, ResponseBody, Watch},
    runtime::{Keeper, Runtime},
    transport::Router,
};

/// Makes a service's traffic live: records every request, and answers the crate's own paths.
///
/// Works in [`axum::Router::layer`](https://docs.rs/axum/0.8/axum/struct.Router.html#method.layer), in
/// [`tower::ServiceBuilder`](https://docs.rs/tower/0.5/tower/struct.ServiceBuilder.html), around a bare hyper service
/// and around tonic. Add it last, on the outermost router: what is merged or nested afterwards, a later `.fallback`
/// and `route_layer` hide our paths (recording still works). Where the paths should be elsewhere, see
/// [`record_only`](Self::record_only) and [`routes`](Self::routes).
///
/// Cloning is cheap and shares everything. Applied twice around the same service, it records once.
#[derive(Clone, Debug)]
pub struct RealtimeLayer {
    watch: Arc<Watch>,
    router: Arc<Router>,
}

impl RealtimeLayer {
    /// Builds all parts. Inside a tokio runtime the background tasks start now, elsewhere with the first request or
    /// publication inside one.
    ///
    /// # Panics
    /// When a setting has a value that it does not take; [`try_new`](Self::try_new) returns that as an error.
    #[must_use]
    #[track_caller]
    pub fn new(config: RealtimeConfig) -> Self {
        match Self::try_new(config) {
            Ok(layer) => layer,
            Err(error) => panic!("tower-realtime: {error}"),
        }
    }

    /// As [`new`](Self::new).
    ///
    /// # Errors
    /// [`is_config`](Error::is_config): names the setting, its value and what it takes.
    pub fn try_new(config: RealtimeConfig) -> Result<Self, Error> {
        let answers = config.enabled;
        let runtime = Runtime::new(config)?;
        let recorder = Arc::new(runtime.recorder());
        let router = Arc::new(Router::new(Arc::new(Keeper { runtime }))?);
        let own = answers.then(|| router.clone() as Arc<dyn Own>);
        Ok(Self {
            watch: Arc::new(Watch::new(recorder, own)),
            router,
        })
    }

    /// The handle: publish, subscribe, register providers and channels, drain.
    pub fn handle(&self) -> RealtimeHandle {
        RealtimeHandle::new(self.router.keeper().clone())
    }

    /// The same layer without the paths: for services whose numbers are to be watched elsewhere.
    #[must_use]
    pub fn record_only(&self) -> Self {
        let recorder = self.watch.recorder().clone();
        Self {
            watch: Arc::new(Watch::new(recorder, None)),
            router: self.router.clone(),
        }
    }

    /// The paths alone, as a service: for an admin port, or for a nested router with the host's own guards.
    /// Everything that is not ours is a 404 in our JSON.
    pub fn routes(&self) -> RealtimeRoutes {
        RealtimeRoutes {
            router: self.router.clone(),
        }
    }
}

impl<S> Layer<S> for RealtimeLayer {
    type Service = RealtimeService<S>;

    /// Clones two `Arc`s: axum calls this for every route, and on an unresolved router for every request.
    fn layer(&self, inner: S) -> Self::Service {
        RealtimeService::new(inner, self.watch.clone())
    }
}

/// The crate's own paths as a service. Made by [`RealtimeLayer::routes`].
#[derive(Clone, Debug)]
pub struct RealtimeRoutes {
    router: Arc<Router>,
}

impl<B> Service<Request<B>> for RealtimeRoutes
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody<axum_core::body::Body>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let answer = self.router.call(parts, axum_core::body::Body::new(body));
        Box::pin(async move { Ok(answer.await.map(ResponseBody::own)) })
    }
}
