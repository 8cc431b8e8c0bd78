//! The response future: waits for the head.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;

use super::{body::ResponseBody, own::OwnFuture, recording::Recording};
use crate::collector::Outcome;

pin_project! {
    /// The response of a [`RealtimeService`](crate::RealtimeService). Dropped before it is ready, the request is
    /// recorded as aborted.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: Inner<F>,
    }
}

pin_project! {
    #[project = InnerProjection]
    enum Inner<F> {
        Host {
            // Dropped before the recording, so that what the handler says in its drop still counts.
            #[pin]
            future: F,
            // `None`: the request is not recorded here, or the head has been handed over.
            recording: Option<Recording>,
        },
        Own {
            future: OwnFuture,
        },
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn host(future: F, recording: Option<Recording>) -> Self {
        Self {
            inner: Inner::Host { future, recording },
        }
    }

    pub(super) fn own(future: OwnFuture) -> Self {
        Self {
            inner: Inner::Own { future },
        }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Data = Bytes>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (future, recording) = match self.project().inner.project() {
            InnerProjection::Host { future, recording } => (future, recording),
            InnerProjection::Own { future } => {
                let response = ready!(future.as_mut().poll(cx));
                return Poll::Ready(Ok(response.map(ResponseBody::own)));
            }
        };
        let Some(watched) = recording else {
            let result = ready!(future.poll(cx));
            return Poll::Ready(result.map(|response| response.map(ResponseBody::unrecorded)));
        };
        watched.set_polling(true);
        let entered = watched.enter();
        let polled = future.poll(cx);
        drop(entered);
        watched.set_polling(false);
        let response = match ready!(polled) {
            Ok(response) => response,
            Err(error) => {
                watched.finish(Outcome::ServiceError);
                return Poll::Ready(Err(error));
            }
        };
        watched.head(&response);
        let recording = recording.take();
        Poll::Ready(Ok(response.map(|body| match recording {
            Some(recording) if !recording.is_finished() => ResponseBody::host(body, recording),
            _ => ResponseBody::unrecorded(body),
        })))
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
