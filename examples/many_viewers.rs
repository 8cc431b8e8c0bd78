//! Thousands of idle viewers at a few kilobytes each: an axum application with the layer, served by hyper's own
//! builders in the place of `axum::serve`.
//!
//! Run with: `cargo run --release --example many_viewers`, then
//! `curl -N http://127.0.0.1:3000/stream/stats` or open `http://127.0.0.1:3000/realtime/`.
//!
//! What an idle stream takes of the server's memory; `cargo bench --bench load -- idle` measures it:
//!
//! | served by | a silent body | a stream of ours |
//! |---|---|---|
//! | `axum::serve` | 17.5 KB | 19.4 KB |
//! | `http1::Builder`, as here | 11.0 KB | 12.0 KB |
//! | `http2::Builder`, as here, 50 streams a connection | 1.5 KB | 2.5 KB |
//!
//! `axum::serve` makes every connection ready to be HTTP/1.1, HTTP/2 or a WebSocket. Here each is looked at first and
//! then gets a task that can be one of them.
#![allow(clippy::print_stdout)]

use std::{net::SocketAddr, time::Duration};

use axum::{Router, extract::Request, routing::get};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower_realtime::{Access, PeerAddr, RealtimeConfig, RealtimeLayer};

/// How HTTP/2 begins on a connection without TLS (RFC 9113, section 3.4): no HTTP/1.1 method does.
const PREFACE: &[u8] = b"PRI ";

/// Who has not said anything by then is not waited for.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let stop = CancellationToken::new();
    let config = RealtimeConfig::new(Access::loopback())
        .max_clients(15_000)
        .shutdown(stop.clone());
    let realtime = RealtimeLayer::new(config);
    let rt = realtime.handle();
    let app = Router::new()
        .route("/", get(async || "hello"))
        .layer(realtime);

    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://127.0.0.1:3000/realtime/ (loopback only)");
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, peer)) => drop(tokio::spawn(serve(socket, peer, app.clone()))),
                // No more files, most likely: those who leave give some back.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            _ = &mut interrupted => break,
        }
    }
    // Every stream ends with an event that says when to come back.
    rt.drain(Duration::from_secs(1)).await;
    Ok(())
}

/// Finds out what the client speaks, and hands the connection to a task of its own: one that could be either would
/// have the size of the larger.
async fn serve(socket: TcpStream, peer: SocketAddr, app: Router) {
    // Small events should not wait for each other. What `rt.guard` does besides is in its documentation.
    let _ = socket.set_nodelay(true);
    let mut first = [0; PREFACE.len()];
    let Ok(Ok(seen)) = tokio::time::timeout(PATIENCE, socket.peek(&mut first)).await else {
        return;
    };
    let service = app.map_request(move |mut request: Request<Incoming>| {
        // How the policy knows who is on this machine.
        request.extensions_mut().insert(PeerAddr(peer));
        request
    });
    let service = TowerToHyperService::new(service);
    let socket = TokioIo::new(socket);
    // A client that leaves is an error to hyper, and none to us.
    if first[..seen] == *PREFACE {
        let mut server = http2::Builder::new(TokioExecutor::new());
        server.timer(TokioTimer::new());
        tokio::spawn(server.serve_connection(socket, service));
    } else {
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new());
        // `.with_upgrades()` behind it where WebSockets are to be served, too.
        tokio::spawn(server.serve_connection(socket, service));
    }
}
