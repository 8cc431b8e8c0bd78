//! The guarded socket: one whose peer takes nothing ends soon after the host has begun to shut down.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Sleep,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// For how long a peer may take nothing after the shutdown has begun: two round trips of a bad network, and a
/// retransmission.
const PATIENCE: Duration = Duration::from_secs(2);

/// A TCP connection of a [`Guarded`](super::Guarded) listener.
///
/// hyper does not ask for events while a socket takes none, and a graceful shutdown waits for every socket, so a viewer that
/// does not read would hold it up until the kernel gives up. A write that waits therefore waits for the shutdown as well,
/// and fails with [`TimedOut`](io::ErrorKind::TimedOut) when nothing was taken for 2 s from then on.
pub struct GuardedSocket {
    stream: TcpStream,
    shutdown: CancellationToken,
    /// Made when a write has to wait for the first time; most sockets never need it.
    patience: Option<Box<Patience>>,
}

struct Patience {
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
    /// While the peer takes nothing, after the shutdown.
    end: Option<Pin<Box<Sleep>>>,
}

impl GuardedSocket {
    pub(super) fn new(stream: TcpStream, shutdown: CancellationToken) -> Self {
        Self {
            stream,
            shutdown,
            patience: None,
        }
    }

    /// The connection itself, for its addresses and options.
    pub fn get_ref(&self) -> &TcpStream {
        &self.stream
    }

    /// What a write has come to.
    fn watched<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            if let Some(patience) = &mut self.patience {
                patience.end = None;
            }
            return written;
        }
        let shutdown = &self.shutdown;
        let patience = self.patience.get_or_insert_with(|| {
            Box::new(Patience {
                shutdown: Box::pin(shutdown.clone().cancelled_owned()),
                end: None,
            })
        });
        ready!(patience.poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the peer takes nothing, and the host shuts down",
        )))
    }
}

impl Patience {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Once it is ready it stays so.
        ready!(self.shutdown.as_mut().poll(cx));
        let end = || Box::pin(tokio::time::sleep(PATIENCE));
        self.end.get_or_insert_with(end).as_mut().poll(cx)
    }
}

impl AsyncRead for GuardedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for GuardedSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watched(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watched(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl fmt::Debug for GuardedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedSocket")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}
