//! `--upstream`: `/v1/*` is passed on to a real OpenAI-compatible server, and watched on its way back.

use std::{io, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, Uri, header, uri::PathAndQuery},
    response::{IntoResponse, Response},
    routing::any,
};
use futures_util::TryStreamExt;
use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use tower_realtime::{RealtimeHandle, RequestMeter, Usage};

use crate::reply::Failure;

/// What is kept of a request or an answer to look into; a longer one is passed on all the same.
const LOOK_INTO: usize = 8 << 20;
/// Meant for one connection only (RFC 9110, 7.6.1), so not passed on.
const HOP_BY_HOP: [header::HeaderName; 6] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::PROXY_AUTHORIZATION,
];

#[derive(Clone)]
struct Upstream {
    base: Uri,
    name: String,
    client: Client<HttpConnector, Body>,
}

pub(crate) fn router(base: &Uri, rt: &RealtimeHandle) -> Router {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(Duration::from_secs(10)));
    connector.set_nodelay(true);
    let name = base
        .authority()
        .map_or("upstream", |authority| authority.as_str());
    rt.provider(name)
        .name(name)
        .kind("upstream")
        .supports_streaming(true)
        .upsert();
    let upstream = Upstream {
        base: base.clone(),
        name: name.to_owned(),
        client: Client::builder(TokioExecutor::new()).build(connector),
    };
    // All go the same way; those that are named here are told apart on the page.
    let paths = [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/models",
        "/v1/models/{id}",
        "/v1/{*path}",
    ];
    paths
        .into_iter()
        .fold(Router::new(), |router, path| {
            router.route(path, any(forward))
        })
        .with_state(upstream)
}

async fn forward(
    State(upstream): State<Upstream>,
    meter: RequestMeter,
    request: Request,
) -> Result<Response, Failure> {
    meter.provider(&upstream.name);
    let (mut parts, body) = request.into_parts();
    parts.uri = upstream.locate(&parts.uri)?;
    parts.extensions.clear();
    strip(&mut parts.headers);
    parts.headers.remove(header::HOST);
    // Only an identity encoding can be looked into.
    parts.headers.remove(header::ACCEPT_ENCODING);

    let body = axum::body::to_bytes(body, LOOK_INTO)
        .await
        .map_err(|_| Failure::invalid("the request is too large or was not sent to its end"))?;
    if let Ok(question) = serde_json::from_slice::<Value>(&body) {
        if let Some(model) = question["model"].as_str() {
            meter.model(model);
        }
        if let Some(user) = question["user"].as_str() {
            meter.user(user);
        }
    }
    let request = Request::from_parts(parts, Body::from(body));
    let response = upstream.client.request(request).await.map_err(|error| {
        meter.fail("upstream_unreachable");
        Failure {
            status: StatusCode::BAD_GATEWAY,
            code: "upstream_unreachable",
            message: format!("{}: {error}", upstream.name),
        }
    })?;
    let (mut parts, body) = response.into_parts();
    strip(&mut parts.headers);
    let mut watch = Watch::new(meter, &parts.headers);
    let body = body
        .into_data_stream()
        .inspect_ok(move |bytes| watch.see(bytes))
        .map_err(io::Error::other);
    Ok((parts, Body::from_stream(body)).into_response())
}

impl Upstream {
    /// Both `http://host` and `http://host/v1` are common ways to say where such a server is.
    fn locate(&self, uri: &Uri) -> Result<Uri, Failure> {
        let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let base = self.base.path().trim_end_matches('/');
        let base = base.strip_suffix("/v1").unwrap_or(base);
        let mut parts = self.base.clone().into_parts();
        parts.path_and_query = format!("{base}{path}").parse().ok();
        Uri::from_parts(parts).map_err(|_| Failure::invalid("the path can't be passed on"))
    }
}

fn strip(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove("keep-alive");
}

/// Reads the usage out of an answer that passes by: from the lines of a stream as they come, from JSON at its end.
struct Watch {
    meter: RequestMeter,
    streams: bool,
    /// What still awaits its end: that of the line, or that of the JSON.
    rest: Vec<u8>,
}

impl Watch {
    fn new(meter: RequestMeter, headers: &HeaderMap) -> Self {
        let kind = headers.get(header::CONTENT_TYPE);
        Self {
            meter,
            streams: kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream")),
            rest: Vec::new(),
        }
    }

    fn see(&mut self, bytes: &Bytes) {
        if self.rest.len() + bytes.len() > LOOK_INTO {
            return;
        }
        self.rest.extend_from_slice(bytes);
        if self.streams {
            while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                if let Some(data) = line.strip_prefix(b"data:") {
                    self.read_usage(data);
                }
            }
        } else if self.rest.trim_ascii_end().ends_with(b"}") {
            // Any such piece may be the last one: JSON that is not whole yet does not parse.
            self.read_usage(&self.rest);
        }
    }

    fn read_usage(&self, json: &[u8]) {
        let Ok(answer) = serde_json::from_slice::<Value>(json) else {
            return;
        };
        let usage = &answer["usage"];
        if let Some(input) = usage["prompt_tokens"].as_u64() {
            self.meter.tokens(Usage {
                input,
                output: usage["completion_tokens"].as_u64().unwrap_or(0),
                cached: usage["prompt_tokens_details"]["cached_tokens"]
                    .as_u64()
                    .unwrap_or(0),
            });
        }
    }
}
