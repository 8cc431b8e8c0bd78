//! The smallest live service: two lines make it so.
//!
//! Run with: `cargo run --example quickstart`, open the page it prints, then
//! `curl http://127.0.0.1:3000/hello/you` a few times.
#![allow(clippy::print_stdout)]

use std::net::SocketAddr;

use axum::{Router, extract::Path, routing::get};
use tower_realtime::{Access, RealtimeConfig, RealtimeLayer};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let realtime = RealtimeLayer::new(RealtimeConfig::new(Access::loopback()));
    let rt = realtime.handle();
    let app = Router::new()
        .route("/hello/{name}", get(hello))
        .layer(realtime);

    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("tower-realtime dashboard: http://127.0.0.1:3000/realtime/ (loopback only)");
    // `guard` sets what long streams need of a socket; the connect info is how loopback is told from strangers.
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(rt.guard(listener), app).await
}

async fn hello(Path(name): Path<String>) -> String {
    format!("hello, {name}\n")
}
