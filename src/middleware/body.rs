//! The response body: the host's own, watched to its end, or that of one of our own paths.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::recording::Recording;
use crate::collector::Outcome;

/// A body of our own that goes on. Not `http_body::Body`: a frame takes room for trailers, which would be moved about in
/// every delivery.
pub(crate) trait OwnStream: Send {
    /// The next bytes; `None` at the end.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>>;
}

/// What our own paths answer with.
pub(crate) enum OwnBody {
    /// All of it at once; `None` when it has been handed over.
    Full(Option<Bytes>),
    Stream(Box<dyn OwnStream>),
}

impl OwnBody {
    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        Self::Full(Some(bytes.into()).filter(|bytes| !bytes.is_empty()))
    }

    #[cfg(any(all(test, not(loom)), feature = "ws"))]
    pub(crate) fn empty() -> Self {
        Self::Full(None)
    }

    pub(crate) fn stream(stream: impl OwnStream + 'static) -> Self {
        Self::Stream(Box::new(stream))
    }

    /// Nothing, and nothing is said about its length: for the head of something that goes on.
    pub(crate) fn untold() -> Self {
        Self::stream(Untold)
    }

    /// How many bytes it has, where that is known.
    pub(crate) fn full_len(&self) -> Option<usize> {
        match self {
            Self::Full(bytes) => Some(bytes.as_ref().map_or(0, Bytes::len)),
            Self::Stream(_) => None,
        }
    }
}

/// See [`OwnBody::untold`].
struct Untold;

impl OwnStream for Untold {
    fn poll_bytes(&mut self, _: &mut Context<'_>) -> Poll<Option<Bytes>> {
        Poll::Ready(None)
    }
}

impl fmt::Debug for OwnBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(bytes) => f.debug_tuple("Full").field(bytes).finish(),
            Self::Stream(_) => f.debug_tuple("Stream").finish_non_exhaustive(),
        }
    }
}

pin_project! {
    /// The body of a response of a [`RealtimeService`](crate::RealtimeService).
    ///
    /// Frames, size hint and errors of the host's body pass through unchanged. The request is recorded when the
    /// body ends or is dropped.
    pub struct ResponseBody<B> {
        #[pin]
        inner: Inner<B>,
    }
}

pin_project! {
    #[project = InnerProjection]
    enum Inner<B> {
        Host {
            // Dropped before the recording, so that what a stream says in its drop still counts.
            #[pin]
            body: B,
            recording: Recording,
        },
        Unrecorded {
            #[pin]
            body: B,
        },
        Own {
            body: OwnBody,
        },
    }
}

impl<B> ResponseBody<B> {
    pub(super) fn host(body: B, recording: Recording) -> Self {
        Self {
            inner: Inner::Host { body, recording },
        }
    }

    pub(super) fn unrecorded(body: B) -> Self {
        Self {
            inner: Inner::Unrecorded { body },
        }
    }

    pub(crate) fn own(body: OwnBody) -> Self {
        Self {
            inner: Inner::Own { body },
        }
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().inner.project() {
            InnerProjection::Host { body, recording } => poll_host(body, recording, cx),
            InnerProjection::Unrecorded { body } => body.poll_frame(cx),
            InnerProjection::Own { body } => match body {
                OwnBody::Full(bytes) => {
                    Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))))
                }
                OwnBody::Stream(stream) => match stream.poll_bytes(cx) {
                    Poll::Ready(Some(bytes)) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                    Poll::Ready(None) => Poll::Ready(None),
                    Poll::Pending => Poll::Pending,
                },
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Host { body, .. } | Inner::Unrecorded { body } => body.is_end_stream(),
            Inner::Own { body } => match body {
                OwnBody::Full(bytes) => bytes.is_none(),
                OwnBody::Stream(_) => false,
            },
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Host { body, .. } | Inner::Unrecorded { body } => body.size_hint(),
            Inner::Own { body } => match body {
                OwnBody::Full(bytes) => {
                    SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
                }
                OwnBody::Stream(_) => SizeHint::default(),
            },
        }
    }
}

fn poll_host<B: Body<Data = Bytes>>(
    mut body: Pin<&mut B>,
    recording: &Recording,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
    recording.set_polling(true);
    let entered = recording.enter();
    let polled = body.as_mut().poll_frame(cx);
    drop(entered);
    recording.set_polling(false);
    if let Poll::Ready(frame) = &polled
        && !recording.is_finished()
    {
        match frame {
            None => recording.finish(Outcome::Completed),
            Some(Err(_)) => recording.finish(Outcome::BodyError),
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    // Asked now, because the server may do the same and never poll again.
                    recording.data(data.len(), body.is_end_stream());
                } else if let Some(trailers) = frame.trailers_ref() {
                    recording.trailers(trailers);
                }
            }
        }
    }
    polled
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").finish_non_exhaustive()
    }
}
