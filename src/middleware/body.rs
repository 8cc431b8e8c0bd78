//! The response body: watches the host's, or is our own.

use std::{fmt, pin::Pin, sync::Arc, task::{Context, Poll, ready}};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{meter::State, own::OwnBody};
use crate::collector::Outcome;

pin_project! {
    /// The body of a response.
    pub struct ResponseBody<B> {
        #[pin]
        inner: Inner<B>,
    }
}

pin_project! {
    #[project = InnerProj]
    enum Inner<B> {
        Host { #[pin] body: B, guard: Option<Guard> },
        Own { #[pin] body: OwnBody },
    }
}

/// Records when the body has ended or is dropped.
pub(crate) struct Guard {
    pub(crate) state: Arc<State>,
    pub(crate) status: u16,
    pub(crate) head_us: u64,
    pub(crate) bytes: u64,
    /// The exact length, where it was known at the head.
    pub(crate) exact: Option<u64>,
    pub(crate) complete: bool,
    pub(crate) failed: bool,
    pub(crate) outcome: Option<Outcome>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let complete = self.complete || self.exact == Some(self.bytes);
        let outcome = match self.outcome {
            Some(outcome) => outcome,
            None if complete => Outcome::Completed,
            None if std::thread::panicking() => Outcome::Panicked,
            None => Outcome::DroppedInBody,
        };
        self.state.finish(outcome, Some(self.status), Some(self.head_us), self.bytes, self.failed);
    }
}

impl<B> ResponseBody<B> {
    pub(crate) fn host(body: B, guard: Option<Guard>) -> Self {
        Self { inner: Inner::Host { body, guard } }
    }

    pub(crate) fn own(body: OwnBody) -> Self {
        Self { inner: Inner::Own { body } }
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let (mut body, guard) = match self.project().inner.project() {
            InnerProj::Host { body, guard } => (body, guard),
            InnerProj::Own { body } => {
                return body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(|never| match never {})));
            }
        };
        let frame = ready!(body.as_mut().poll_frame(cx));
        if let Some(watched) = guard {
            match &frame {
                None => {
                    watched.complete = true;
                    *guard = None;
                }
                Some(Err(_)) => {
                    watched.outcome = Some(Outcome::BodyError);
                    *guard = None;
                }
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        watched.bytes += data.len() as u64;
                    } else if let Some(trailers) = frame.trailers_ref() {
                        watched.failed |= trailers.get("grpc-status").is_some_and(|status| status != "0");
                    }
                    if body.is_end_stream() {
                        watched.complete = true;
                        *guard = None;
                    }
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Host { body, .. } => body.is_end_stream(),
            Inner::Own { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Host { body, .. } => body.size_hint(),
            Inner::Own { body } => body.size_hint(),
        }
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseBody")
    }
}
