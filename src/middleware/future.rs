//! The response future.

use std::{fmt, future::Future, pin::Pin, sync::Arc, task::{Context, Poll, ready}};

use bytes::Bytes;
use http::{Response, Version};
use http_body::Body;
use pin_project_lite::pin_project;

use super::{body::{Guard, ResponseBody}, meter::State, own::OwnBody};
use crate::collector::{Method, Outcome};

pin_project! {
    /// The future of a response.
    pub struct ResponseFuture<F> {
        #[pin]
        inner: Inner<F>,
    }
}

pin_project! {
    #[project = InnerProj]
    enum Inner<F> {
        Host { #[pin] future: F, guard: Option<Pending> },
        Own { future: Pin<Box<dyn Future<Output = Response<OwnBody>> + Send>> },
    }
}

/// Records when the future is dropped before there is a response.
pub(crate) struct Pending {
    pub(crate) state: Option<Arc<State>>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(state) = self.state.take() {
            let outcome = if std::thread::panicking() { Outcome::Panicked } else { Outcome::DroppedBeforeResponse };
            state.finish(outcome, None, None, 0, true);
        }
    }
}

impl<F> ResponseFuture<F> {
    pub(crate) fn host(future: F, state: Option<Arc<State>>) -> Self {
        Self { inner: Inner::Host { future, guard: state.map(|state| Pending { state: Some(state) }) } }
    }

    pub(crate) fn own(future: Pin<Box<dyn Future<Output = Response<OwnBody>> + Send>>) -> Self {
        Self { inner: Inner::Own { future } }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Data = Bytes>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (future, guard) = match self.project().inner.project() {
            InnerProj::Own { future } => {
                return future.as_mut().poll(cx).map(|response| Ok(response.map(ResponseBody::own)));
            }
            InnerProj::Host { future, guard } => (future, guard),
        };
        let result = ready!(future.poll(cx));
        let Some(state) = guard.as_mut().and_then(|guard| guard.state.take()) else {
            return Poll::Ready(result.map(|response| response.map(|body| ResponseBody::host(body, None))));
        };
        let response = match result {
            Ok(response) => response,
            Err(error) => {
                state.finish(Outcome::ServiceError, None, None, 0, true);
                return Poll::Ready(Err(error));
            }
        };
        let status = response.status().as_u16();
        let bodyless = state.method == Method::Head || matches!(status, 101 | 204 | 304);
        let ended = response.body().is_end_stream();
        let failed = ended
            && response.version() == Version::HTTP_2
            && response.headers().get("grpc-status").is_some_and(|status| status != "0");
        let guard = Guard {
            head_us: state.recorder.clock.now_us(),
            status,
            bytes: 0,
            exact: response.body().size_hint().exact(),
            complete: bodyless || ended,
            failed,
            outcome: None,
            state,
        };
        Poll::Ready(Ok(response.map(|body| {
            let guard = if ended { drop(guard); None } else { Some(guard) };
            ResponseBody::host(body, guard)
        })))
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}
