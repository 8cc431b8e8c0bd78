//! Clients that keep the gateway busy, much as people do: in waves, with favourites, some impatient, some wrong.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{Method, Request, Response, header},
};
use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::json;
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{
    provider::{PROVIDERS, Provider},
    random::Random,
};

/// Requests under way through sockets. A process may often open 1,024 files only and each such request takes two, so
/// what goes beyond this is handed to the router without a socket.
const MAX_SOCKETS: usize = 300;
const TENANTS: [&str; 5] = ["acme", "globex", "initech", "umbrella", "hooli"];

#[derive(Clone)]
pub(crate) struct Clients {
    address: SocketAddr,
    http: Client<HttpConnector, Body>,
    sockets: Arc<Semaphore>,
    router: Router,
}

/// Sends `rate` requests a second on average until the end.
pub(crate) async fn run(rate: f64, clients: Clients, shutdown: CancellationToken) {
    let mut random = Random::fresh();
    let start = Instant::now();
    let mut next = start;
    loop {
        next += random.pause(rate * tide(start.elapsed().as_secs_f64()));
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = shutdown.cancelled() => return,
        }
        let clients = clients.clone();
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = clients.ask() => {}
                () = shutdown.cancelled() => {}
            }
        });
    }
}

/// A day in three minutes, and a burst of five seconds every forty; 1 on average.
fn tide(seconds: f64) -> f64 {
    let day = 1.0 + 0.35 * (seconds * std::f64::consts::TAU / 180.0).sin();
    let burst = if seconds % 40.0 > 35.0 { 1.7 } else { 0.9 };
    day * burst
}

impl Clients {
    pub(crate) fn new(address: SocketAddr, router: Router) -> Self {
        Self {
            address,
            http: Client::builder(TokioExecutor::new())
                .pool_idle_timeout(Duration::from_secs(10))
                .build_http(),
            sockets: Arc::new(Semaphore::new(MAX_SOCKETS)),
            router,
        }
    }

    /// One client's request and how it reads the answer.
    async fn ask(&self) {
        let mut random = Random::fresh();
        let request = self.request(&mut random);
        let impatient = random.chance(0.03);
        let patience = Duration::from_secs_f64(0.4 + 1.5 * random.unit());

        let permit = self.sockets.try_acquire();
        let response = if permit.is_ok() {
            let response = self.http.request(request).await;
            response.ok().map(|response| response.map(Body::new))
        } else {
            self.router.clone().oneshot(request).await.ok()
        };
        let Some(response) = response else { return };
        if impatient {
            // Leaves in the middle: dropping the response is what closing the tab does.
            let _ = tokio::time::timeout(patience, read(response)).await;
        } else {
            read(response).await;
        }
    }

    fn request(&self, random: &mut Random) -> Request<Body> {
        let providers: Vec<&Provider> = PROVIDERS.iter().collect();
        let provider = *random.favourite(&providers);
        let chat_models = provider
            .models
            .iter()
            .filter(|model| !model.id.contains("embedding"));
        let model = random.favourite(&chat_models.collect::<Vec<_>>()).id;
        let user = (random.unit().powi(2) * 60.0) as usize;
        let question = "Why is it slow? ".repeat(1 + random.below(120));

        let (method, path, body) = match random.below(100) {
            0..=52 => {
                let body = json!({"model": model, "user": format!("user-{user}"), "stream": true,
                    "messages": [{"role": "user", "content": question}]});
                (Method::POST, "/v1/chat/completions", body.to_string())
            }
            53..=70 => {
                let body = json!({"model": model, "user": format!("user-{user}"), "max_tokens": 90,
                    "messages": [{"role": "user", "content": question}]});
                (Method::POST, "/v1/chat/completions", body.to_string())
            }
            71..=84 => {
                let body = json!({"model": "text-embedding-3-small", "user": format!("user-{user}"),
                    "input": question});
                (Method::POST, "/v1/embeddings", body.to_string())
            }
            85..=91 => (Method::GET, "/v1/models", String::new()),
            92..=95 => (Method::GET, "/v1/models/gpt-4o", String::new()),
            96 => (Method::GET, "/v1/models/gpt-7", String::new()),
            97 => (
                Method::POST,
                "/v1/chat/completions",
                "{\"model\":".to_owned(),
            ),
            98 => (Method::GET, "/v1/completion", String::new()),
            _ => (Method::GET, "/wp-login.php", String::new()),
        };
        let mut request = Request::new(Body::from(body));
        *request.method_mut() = method;
        // An address and a path that are both known to be good.
        *request.uri_mut() = format!("http://{}{path}", self.address)
            .parse()
            .unwrap_or_default();
        let headers = request.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("application/json"),
        );
        let tenant = header::HeaderValue::from_static(TENANTS[user % TENANTS.len()]);
        headers.insert("openai-organization", tenant);
        request
    }
}

async fn read(response: Response<Body>) {
    let mut body = response.into_body();
    while let Some(Ok(_)) = body.frame().await {}
}
