//! The guarded listener: sockets that a vanished or stalled peer can't hold for ever.

mod socket;

use std::{io, time::Duration};

use axum::serve::{Listener, ListenerExt, TapIo};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

pub use self::socket::GuardedSocket;
use crate::handle::RealtimeHandle;

/// The send buffer that is asked for; Linux doubles it for its own book-keeping. Left alone it grows to megabytes
/// for a peer that does not read.
const SEND_BUFFER_BYTES: usize = 128 * 1024;
/// When a silent connection is probed first, and how often then.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// A TCP listener for [`axum::serve()`] whose connections are set up for streams. Made by [`RealtimeHandle::guard`].
///
/// axum's own wrapper is around ours, because axum knows the peer's address behind it:
/// `into_make_service_with_connect_info::<SocketAddr>()` works as with the bare listener.
pub type Guarded = TapIo<GuardedListener, fn(&mut GuardedSocket)>;

/// What [`Guarded`] accepts from.
#[derive(Debug)]
pub struct GuardedListener {
    listener: TcpListener,
    user_timeout: Duration,
    shutdown: CancellationToken,
}

impl Listener for GuardedListener {
    type Io = GuardedSocket;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (GuardedSocket, Self::Addr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        // An option that is refused leaves a connection as it would be without the guard.
        let _ = set_up(&stream, self.user_timeout);
        (GuardedSocket::new(stream, self.shutdown.clone()), address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

impl RealtimeHandle {
    /// Wraps a listener so that every connection
    /// - sends small events at once (`TCP_NODELAY`; `axum::serve` leaves Nagle's algorithm on, which makes an event
    ///   wait for the acknowledgement of the one before),
    /// - is closed by the kernel when a peer has acknowledged nothing, or had no room for a segment, for
    ///   [`stall_timeout`](crate::RealtimeConfig::stall_timeout) although there is something to send
    ///   (`TCP_USER_TIMEOUT`, RFC 5482; Linux and Android): hyper stops asking for events while a socket is full, so
    ///   nothing above the kernel would notice,
    /// - is closed sooner once the host shuts down: when it has taken nothing for 2 s from then on, so that a viewer that
    ///   does not read holds up no graceful shutdown. Shut down means that the token of
    ///   [`shutdown`](crate::RealtimeConfig::shutdown) was cancelled or a [`drain`](Self::drain) is over; it concerns the
    ///   host's own answers on these sockets as well,
    /// - is probed after 30 s of silence (`SO_KEEPALIVE`),
    /// - keeps at most about 256 KiB in the kernel for a peer that does not read (`SO_SNDBUF`). What the process itself
    ///   keeps for it, less than 512 KiB, is not counted in that.
    ///
    /// Without it everything works but that, and the first time a stream is let go because its viewer takes nothing, a
    /// warning says so: a line on `logs`, and with the feature `tracing` one of `tracing`, target `tower_realtime`.
    ///
    /// A client that has yet to send its whole request head is the server's to end; `axum::serve` has no timeout for
    /// that.
    ///
    /// ```no_run
    /// # async fn serve(app: axum::Router, realtime: tower_realtime::RealtimeLayer) -> std::io::Result<()> {
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    /// axum::serve(realtime.handle().guard(listener), app).await
    /// # }
    /// ```
    pub fn guard(&self, listener: TcpListener) -> Guarded {
        self.warnings().guarded();
        let guarded = GuardedListener {
            listener,
            user_timeout: self.config().stall_timeout,
            shutdown: self.shutdown_token().clone(),
        };
        guarded.tap_io(|_| {})
    }
}

fn set_up(stream: &TcpStream, user_timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE),
    )?;
    #[cfg(any(target_os = "android", target_os = "linux"))]
    socket.set_tcp_user_timeout(Some(user_timeout))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Access, RealtimeConfig, RealtimeLayer};

    #[tokio::test]
    async fn connections_have_the_options() {
        let config = RealtimeConfig::new(Access::public()).stall_timeout(Duration::from_secs(7));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut guarded = RealtimeLayer::new(config).handle().guard(listener);
        let address = Listener::local_addr(&guarded).unwrap();
        let (_client, (stream, _)) = tokio::join!(
            async { TcpStream::connect(address).await.unwrap() },
            Listener::accept(&mut guarded)
        );
        let socket = SockRef::from(stream.get_ref());
        assert!(stream.get_ref().nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert!(socket.send_buffer_size().unwrap() <= 2 * SEND_BUFFER_BYTES);
        #[cfg(target_os = "linux")]
        assert_eq!(
            socket.tcp_user_timeout().unwrap(),
            Some(Duration::from_secs(7))
        );
    }
}
