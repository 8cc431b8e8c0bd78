//! The vocabulary of the integration tests: start a host, send a request, open a stream, wait for an event.
//!
//! Everything goes through real sockets on port 0. Nothing sleeps: a test waits for an event, with a deadline whose
//! message says what was waited for and what came instead.
// Each test file is a crate of its own and uses its own part of this one.
#![allow(dead_code, unreachable_pub, unused_imports)]

mod answer;
mod chance;
mod client;
#[cfg(feature = "ws")]
pub mod frames;
mod gunzip;
mod proxy;
mod sse;
mod viewer;
#[cfg(feature = "ws")]
mod ws;

use std::{net::SocketAddr, time::Duration};

use axum::Router;
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tower_realtime::{Access, RealtimeConfig, RealtimeHandle, RealtimeLayer};

pub use answer::Answer;
pub use chance::{Held, Random, tell, variable};
pub use client::{Connection, Request, get, post, request};
pub use gunzip::gunzip;
pub use proxy::{Flow, Proxy};
pub use sse::{Event, Stream, parse};
pub(crate) use viewer::over_both;
pub use viewer::{Told, Transport, Viewer};
#[cfg(feature = "ws")]
pub use ws::{Closed, Socket};

/// How long anything may take that should happen at once. Generous: it is only ever waited out by a failing test.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits for what should happen at once.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {DEADLINE:?}"),
    }
}

/// The configuration of most tests: everybody may look.
pub fn config() -> RealtimeConfig {
    RealtimeConfig::new(Access::public())
}

/// A service that listens on a port of its own until it is dropped.
pub struct Host {
    pub address: SocketAddr,
    pub realtime: RealtimeLayer,
    pub rt: RealtimeHandle,
    shutdown: CancellationToken,
    server: JoinHandle<()>,
}

impl Host {
    /// The router with the layer added last, as the documentation says.
    pub async fn start(router: Router) -> Self {
        Self::configured(config(), router).await
    }

    pub async fn configured(config: RealtimeConfig, router: Router) -> Self {
        Self::mounted(config, |realtime| router.layer(realtime)).await
    }

    /// The router as `mount` puts it together.
    pub async fn mounted(
        config: RealtimeConfig,
        mount: impl FnOnce(RealtimeLayer) -> Router,
    ) -> Self {
        Self::serving(config, |realtime, listener, shutdown| {
            let router = mount(realtime);
            // With axum's feature the crate reads the connect info by itself.
            #[cfg(not(feature = "axum"))]
            let router = router.layer(tower::util::MapRequestLayer::new(with_peer));
            let app = router.into_make_service_with_connect_info::<SocketAddr>();
            async move {
                axum::serve(listener, app)
                    .with_graceful_shutdown(shutdown.cancelled_owned())
                    .await
                    .unwrap();
            }
        })
        .await
    }

    /// Any server: it gets the layer and the listener, and runs until the token is cancelled or it is aborted.
    pub async fn serving<F>(
        config: RealtimeConfig,
        serve: impl FnOnce(RealtimeLayer, TcpListener, CancellationToken) -> F,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let shutdown = CancellationToken::new();
        let realtime = RealtimeLayer::new(config.shutdown(shutdown.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(realtime.clone(), listener, shutdown.clone()));
        Self {
            address,
            rt: realtime.handle(),
            realtime,
            shutdown,
            server,
        }
    }

    /// As a host that follows the documentation to the end: guarded sockets, connect info, its own graceful shutdown.
    #[cfg(feature = "axum")]
    pub async fn guarded(config: RealtimeConfig, router: Router) -> Self {
        Self::serving(config, |realtime, listener, shutdown| {
            let rt = realtime.handle();
            let app = router
                .layer(realtime)
                .into_make_service_with_connect_info::<SocketAddr>();
            async move {
                let serve = axum::serve(rt.guard(listener), app);
                serve
                    .with_graceful_shutdown(shutdown.cancelled_owned())
                    .await
                    .unwrap();
            }
        })
        .await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(get(path)).await
    }

    /// Sends a request on a connection of its own and reads the answer to its end.
    pub async fn send(&self, request: Request) -> Answer {
        self.connect().await.send(request).await
    }

    /// Writes bytes as they are, for requests that no client would send, and reads until the server closes.
    pub async fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        client::raw(self.address, bytes.as_ref()).await
    }

    pub async fn connect(&self) -> Connection {
        Connection::http1(self.address).await
    }

    pub async fn connect_http2(&self) -> Connection {
        Connection::http2(self.address).await
    }

    /// Opens a stream of ours, and reads its first frame.
    pub async fn stream(&self, path: &str) -> Stream {
        self.connect().await.stream(get(path)).await
    }

    /// What the answer of one of our own paths says under `data`.
    pub async fn data(&self, path: &str) -> Value {
        self.get(path).await.data()
    }

    /// The numbers of the last hour.
    pub async fn metrics(&self) -> Value {
        self.data("/api/realtime/metrics").await
    }

    /// Watches the requests that are recorded from now on.
    pub async fn watch(&self) -> Watch {
        Watch {
            stream: self.stream("/stream/requests").await,
        }
    }

    /// Ends the streams and the server, and waits until it has ended.
    pub async fn shutdown(mut self) {
        self.shutdown.cancel();
        soon("the server to end", &mut self.server).await.unwrap();
    }

    pub fn shutdown_token(&self) -> &CancellationToken {
        &self.shutdown
    }
}

#[cfg(not(feature = "axum"))]
fn with_peer(mut request: axum::extract::Request) -> axum::extract::Request {
    let info = request.extensions().get();
    if let Some(axum::extract::ConnectInfo(peer)) = info.copied() {
        request
            .extensions_mut()
            .insert(tower_realtime::PeerAddr(peer));
    }
    request
}

impl Drop for Host {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.server.abort();
    }
}

/// The rows of the requests, as they end.
pub struct Watch {
    stream: Stream,
}

impl Watch {
    /// The next request's row.
    pub async fn next(&mut self) -> Value {
        self.stream.wait_for("requests").await.data
    }

    /// The next `count` rows.
    pub async fn take(&mut self, count: usize) -> Vec<Value> {
        let mut rows = Vec::with_capacity(count);
        for _ in 0..count {
            rows.push(self.next().await);
        }
        rows
    }
}

/// Asserts fields of a JSON object, and prints the whole of it where one differs.
#[track_caller]
pub fn assert_fields(object: &Value, expected: Value) {
    let expected = expected.as_object().expect("expected fields are an object");
    for (name, value) in expected {
        assert_eq!(object.get(name), Some(value), "field {name} of {object:#}");
    }
}

/// The label of a route template: the host's own where axum is known to the crate.
pub fn template(template: &str) -> &str {
    if cfg!(feature = "axum") {
        template
    } else {
        "(unmatched)"
    }
}
