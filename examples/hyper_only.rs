//! The layer around a bare hyper service, without axum: HTTP/1.1 and HTTP/2 on one port.
//!
//! Run with: `cargo run --example hyper_only --no-default-features`, then
//! `curl http://127.0.0.1:3000/` and `curl http://127.0.0.1:3000/api/realtime/metrics`.
#![allow(clippy::print_stdout)]

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tower::{Layer, ServiceExt, service_fn};
use tower_realtime::{Access, PeerAddr, RealtimeConfig, RealtimeLayer};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    // There are no route templates here: a few labels of our own stand for them.
    let config = RealtimeConfig::new(Access::loopback()).route_label(|parts| {
        Some(match parts.uri.path() {
            "/" => "/".into(),
            _ => "everything else".into(),
        })
    });
    let service = RealtimeLayer::new(config).layer(service_fn(hello));

    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://127.0.0.1:3000/api/realtime/info (loopback only)");
    loop {
        let (socket, peer) = listener.accept().await?;
        // Small events should not wait for each other.
        socket.set_nodelay(true)?;
        let service = service
            .clone()
            .map_request(move |mut request: Request<Incoming>| {
                // How the policy knows who is on this machine.
                request.extensions_mut().insert(PeerAddr(peer));
                request
            });
        tokio::spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            let service = TowerToHyperService::new(service);
            // A client that leaves is an error to hyper, and none to us.
            let _ = server
                .serve_connection_with_upgrades(TokioIo::new(socket), service)
                .await;
        });
    }
}

async fn hello(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let text = format!("hello from {}\n", request.uri().path());
    Ok(Response::new(Full::from(text)))
}
