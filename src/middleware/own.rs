//! Our own answers, beside the host's.

use std::{convert::Infallible, fmt, future::Future, pin::Pin, task::{Context, Poll}};

use bytes::Bytes;
use http::{Response, request::Parts};
use http_body::{Body, Frame, SizeHint};

/// The body of a request to one of our own paths.
pub(crate) type OwnRequestBody = axum_core::body::Body;

/// Answers the paths that are ours.
pub(crate) trait Own: Send + Sync + fmt::Debug {
    /// Whether a path is ours; asked for every request.
    fn claims(&self, path: &str) -> bool;

    /// Answers a request to one of our paths.
    fn call(&self, parts: Parts, body: OwnRequestBody) -> Pin<Box<dyn Future<Output = Response<OwnBody>> + Send>>;
}

/// The body of an answer of the crate itself.
pub struct OwnBody {
    inner: Inner,
}

enum Inner {
    Full(Option<Bytes>),
    Stream(Pin<Box<dyn Body<Data = Bytes, Error = Infallible> + Send>>),
}

impl OwnBody {
    pub(crate) fn full(bytes: Bytes) -> Self {
        Self { inner: Inner::Full(Some(bytes).filter(|bytes| !bytes.is_empty())) }
    }

    pub(crate) fn stream(body: impl Body<Data = Bytes, Error = Infallible> + Send + 'static) -> Self {
        Self { inner: Inner::Stream(Box::pin(body)) }
    }

    /// How many bytes it has, where that is known.
    pub(crate) fn full_len(&self) -> Option<usize> {
        match &self.inner {
            Inner::Full(bytes) => Some(bytes.as_ref().map_or(0, Bytes::len)),
            Inner::Stream(_) => None,
        }
    }
}

impl Body for OwnBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.inner {
            Inner::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Inner::Stream(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Full(bytes) => bytes.is_none(),
            Inner::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Inner::Stream(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for OwnBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.inner {
            Inner::Full(_) => "OwnBody::Full",
            Inner::Stream(_) => "OwnBody::Stream",
        })
    }
}
