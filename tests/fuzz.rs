//! Whatever strangers write, in every place where something is parsed: paths, queries, positions, tokens, tickets,
//! origins, forwarding headers, handshakes, JSON bodies, settings. Nothing panics, nothing is a 500, every refusal says
//! what is wrong, and every stream that opens begins as it should.
//!
//! `PROPTEST_CASES` asks for more.

mod support;

use std::{convert::Infallible, net::SocketAddr};

use axum::{
    body::{Body, Bytes},
    http::{Method, Request, Response, StatusCode},
};
use http_body_util::{BodyExt, Full};
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::Value;
use tower::{Layer, Service, service_fn};
use tower_realtime::{Access, Cors, PeerAddr, RealtimeConfig, RealtimeLayer};

/// `PROPTEST_CASES`, or so many. Failures are printed, and not written into the sources.
fn cases(usual: u32) -> ProptestConfig {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    ProptestConfig {
        cases: if asked {
            ProptestConfig::default().cases
        } else {
            usual
        },
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Mostly words that mean something somewhere, and now and then anything.
fn word() -> impl Strategy<Value = String> {
    let known = select(vec![
        "",
        "all",
        "stats",
        "logs",
        "requests",
        "providers",
        "reconnect",
        "tenant",
        "ticks",
        "earliest",
        "latest",
        "n:5",
        "n:99999999999",
        "5m",
        "90071992547409925m",
        "1m",
        "24h",
        "7-1",
        "0-0",
        "18446744073709551615-18446744073709551616",
        "true",
        "-1",
        "0",
        "1e9",
        "1000000",
        "warn",
        "warn,error",
        ",",
        "a&b",
        "%00",
        "%ff",
        "%",
        "../..",
        "null",
        "*",
        "\u{2028}",
    ]);
    prop_oneof![
        6 => known.prop_map(ToOwned::to_owned),
        1 => "[ -~]{0,40}",
        1 => "\\PC{0,40}",
        1 => "[0-9]{1,30}-[0-9]{1,30}",
        1 => "[A-Za-z0-9_-]{0,300}(\\.[A-Za-z0-9_-]{0,80}){0,2}",
    ]
}

fn path() -> impl Strategy<Value = String> {
    let known = select(vec![
        "/stream",
        "/stream/",
        "/stream/reconnect",
        "/stream/all",
        "/stream/stats",
        "/ws",
        "/ws/all",
        "/ws/tenant/acme",
        "/api/realtime/metrics",
        "/api/realtime/series",
        "/api/realtime/breakdown",
        "/api/realtime/errors",
        "/api/realtime/slow",
        "/api/realtime/requests",
        "/api/realtime/overview",
        "/api/realtime/providers",
        "/api/realtime/info",
        "/api/realtime/hub/stats",
        "/api/realtime/connections",
        "/api/realtime/broadcast",
        "/api/realtime/test-connection",
        "/api/realtime/ticket",
        "/api/realtime/health/live",
        "/api/realtime/health/ready",
        "/realtime/",
        "/realtime/app.js",
    ]);
    let placed = (
        select(vec![
            "/stream/",
            "/ws/",
            "/ws/tenant/",
            "/api/realtime/",
            "/api/realtime/providers/",
            "/api/realtime/connections/",
            "/realtime/",
        ]),
        "[ -~]{0,30}",
        select(vec!["", "/metrics", "/subscribe", "/unsubscribe", "/"]),
    );
    prop_oneof![
        3 => known.prop_map(ToOwned::to_owned),
        1 => placed.prop_map(|(before, name, after)| format!("{before}{name}{after}")),
    ]
}

fn query() -> impl Strategy<Value = String> {
    let names = select(vec![
        "channels",
        "metrics",
        "since",
        "lastEventId",
        "token",
        "ticket",
        "window",
        "interval",
        "provider_id",
        "model_id",
        "user_id",
        "tenant_id",
        "route",
        "only_errors",
        "level",
        "component",
        "type",
        "max_rate",
        "limit",
        "by",
        "range",
        "step",
        "sort",
        "offset",
        "session",
        "",
    ]);
    let pair = (names, word()).prop_map(|(name, value)| format!("{name}={value}"));
    prop_oneof![
        4 => vec(pair, 0..5).prop_map(|pairs| pairs.join("&")),
        1 => "[ -~]{0,80}",
    ]
}

fn header() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    let name = select(vec![
        "last-event-id",
        "origin",
        "host",
        "accept",
        "accept-encoding",
        "cookie",
        "authorization",
        "sec-fetch-site",
        "x-forwarded-for",
        "forwarded",
        "x-real-ip",
        "upgrade",
        "connection",
        "sec-websocket-key",
        "sec-websocket-version",
        "sec-websocket-protocol",
        "sec-websocket-extensions",
        "if-none-match",
        "access-control-request-method",
        "access-control-request-headers",
        "content-type",
        "content-length",
        "x-request-id",
    ]);
    let known = select(vec![
        "websocket",
        "Upgrade",
        "keep-alive, Upgrade",
        "13",
        "dGhlIHNhbXBsZSBub25jZQ==",
        "json, bearer.abc",
        "permessage-deflate; client_max_window_bits=99",
        "permessage-deflate",
        "http://localhost",
        "null",
        "https://app.example.com",
        "Bearer secret",
        "Bearer ",
        "Basic eDp5",
        "text/event-stream",
        "text/html;q=0.9,*/*",
        "gzip;q=1.5, br",
        "same-origin",
        "for=\"[2001:db8::1]:4711\"",
        "127.0.0.1, ::1, unknown",
        "GET",
        "earliest",
    ]);
    let value = prop_oneof![
        4 => known.prop_map(|text| text.as_bytes().to_vec()),
        1 => word().prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..60),
    ];
    (name, value)
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let member = (
        select(vec![
            "channel",
            "channels",
            "type",
            "data",
            "message",
            "filter",
            "priority",
            "key",
            "user_id",
            "tenant_id",
        ]),
        prop_oneof![
            word().prop_map(Value::from),
            vec(word(), 0..4).prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            Just(Value::Null),
            Just(serde_json::json!({"a": [{}]})),
        ],
    );
    let object = vec(member, 0..5).prop_map(|members| {
        let members = members
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        Value::Object(members.collect()).to_string().into_bytes()
    });
    prop_oneof![
        3 => object,
        1 => vec(any::<u8>(), 0..60),
        1 => Just(b"[".repeat(3_000)),
        1 => Just(Vec::new()),
    ]
}

#[derive(Debug)]
struct Asked {
    method: Method,
    path: String,
    query: String,
    headers: Vec<(&'static str, Vec<u8>)>,
    body: Vec<u8>,
}

fn asked() -> impl Strategy<Value = Asked> {
    let method = prop_oneof![
        6 => Just(Method::GET), 2 => Just(Method::POST), 1 => Just(Method::DELETE), 1 => Just(Method::OPTIONS),
        1 => Just(Method::HEAD), 1 => Just(Method::CONNECT),
    ];
    (method, path(), query(), vec(header(), 0..6), body()).prop_map(
        |(method, path, query, headers, body)| Asked {
            method,
            path,
            query,
            headers,
            body,
        },
    )
}

/// `None` where no server would hand it on: it is no URI or no header.
fn request(asked: &Asked) -> Option<Request<Full<Bytes>>> {
    let mut request = Request::builder()
        .method(asked.method.clone())
        .uri(format!("{}?{}", asked.path, asked.query));
    for (name, value) in &asked.headers {
        request = request.header(*name, &value[..]);
    }
    let peer: SocketAddr = "127.0.0.1:4711".parse().unwrap();
    request
        .extension(PeerAddr(peer))
        .body(Full::new(asked.body.clone().into()))
        .ok()
}

fn hosts() -> Vec<RealtimeLayer> {
    let public = RealtimeConfig::new(Access::public());
    let bearer = RealtimeConfig::new(Access::bearer("a-viewers-secret").admin("an-admins-secret"))
        .cors(Cors::list(["https://app.example.com"]).credentials(true))
        .trusted_proxies(["127.0.0.0/8", "::1"]);
    let loopback = RealtimeConfig::new(Access::loopback()).cors(Cors::any());
    [public, bearer, loopback]
        .into_iter()
        .map(RealtimeLayer::new)
        .collect()
}

async fn silent(_: Request<Full<Bytes>>) -> Result<Response<Body>, Infallible> {
    Ok(Response::new(Body::from("the host's")))
}

/// What must hold for every answer.
async fn look(layer: &RealtimeLayer, asked: &Asked) -> Result<(), TestCaseError> {
    let Some(request) = request(asked) else {
        return Ok(());
    };
    let Ok(response) = layer.layer(service_fn(silent)).call(request).await;
    let (head, mut body) = response.into_parts();
    let refused = [StatusCode::NOT_IMPLEMENTED, StatusCode::SERVICE_UNAVAILABLE];
    prop_assert!(
        !head.status.is_server_error() || refused.contains(&head.status),
        "{}",
        head.status
    );
    let kind = head
        .headers
        .get("content-type")
        .map(|kind| kind.to_str().unwrap().to_owned());
    let streams = kind.as_deref() == Some("text/event-stream");
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        bytes.extend_from_slice(&frame.unwrap().into_data().unwrap_or_default());
        if streams {
            break;
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    if asked.method == Method::HEAD {
        prop_assert!(bytes.is_empty() || text == "the host's");
    } else if streams {
        let first = support::parse(text.split("\n\n").next().unwrap()).unwrap();
        prop_assert!(
            ["connection_established", "busy"].contains(&first.name.as_str()),
            "{text}"
        );
    } else if head.status.is_client_error() && kind.as_deref() == Some("application/json") {
        let refusal: Value = serde_json::from_slice(&bytes).unwrap();
        prop_assert!(
            refusal["code"].is_string() && refusal["error"].is_string(),
            "{refusal:#}"
        );
    }
    // Nothing that would let a page of another origin read what it should not.
    let allowed = head.headers.get("access-control-allow-origin");
    let credentials = head.headers.get("access-control-allow-credentials");
    prop_assert!(
        credentials.is_none() || allowed.is_some_and(|origin| origin == "https://app.example.com")
    );
    Ok(())
}

#[test]
fn every_request_has_an_answer() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _inside = runtime.enter();
    let hosts = hosts();
    proptest!(cases(2_000), |(asked in asked())| {
        for host in &hosts {
            runtime.block_on(look(host, &asked))?;
        }
    });
}

fn setting() -> impl Strategy<Value = String> {
    select(vec![
        "heartbeat_interval",
        "client_timeout",
        "stall_timeout",
        "flush_interval",
        "buffer_size",
        "replay_capacity",
        "replay_bytes",
        "replay_age",
        "window_size",
        "window_count",
        "max_clients",
        "max_clients_per_user",
        "max_age",
        "max_users",
        "currency",
        "instance",
        "title",
        "stream_path",
        "ws_path",
        "api_path",
        "token_key",
        "trusted_proxies",
        "allowed_origins",
        "enabled",
        "prices",
        "cors",
        "access",
        "nothing",
    ])
    .prop_map(ToOwned::to_owned)
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        select(vec![
            "15s",
            "250ms",
            "1h",
            "0s",
            "8MiB",
            "1GiB",
            "-5",
            "true",
            "/a",
            "/stream",
            "a/b",
            "USD",
            "10.0.0.0/8",
            "",
            "99999999999999999999d",
            "1.5s",
            "{\"gpt\": [1, 2]}",
            "public",
            "loopback",
            "off",
            "any"
        ])
        .prop_map(Value::from),
        "\\PC{0,30}".prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        vec("\\PC{0,10}", 0..3).prop_map(Value::from),
        Just(Value::Null),
        Just(serde_json::json!({"bearer": "x"})),
    ]
}

proptest! {
    #![proptest_config(cases(1_000))]

    /// A file is taken as a whole or refused with the name of what is wrong.
    #[test]
    fn every_file_is_taken_or_refused(settings in vec((setting(), value()), 0..5), access in any::<bool>()) {
        let mut file: serde_json::Map<String, Value> = settings.into_iter().collect();
        if access {
            file.insert("access".to_owned(), "public".into());
        }
        let names: Vec<String> = file.keys().cloned().collect();
        match serde_json::from_value::<RealtimeConfig>(Value::Object(file)) {
            Ok(config) => prop_assert!(config.validate().is_ok()),
            Err(error) => {
                let error = error.to_string();
                let named = names.iter().any(|name| error.contains(name.as_str())) || error.contains("access");
                prop_assert!(named, "{error} names none of {names:?}");
            }
        }
    }

    /// So are variables.
    #[test]
    fn every_environment_is_taken_or_refused(vars in vec((setting(), value()), 0..5)) {
        let vars = vars.into_iter().map(|(name, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            (format!("REALTIME_{}", name.to_uppercase()), value)
        });
        let vars: Vec<_> = vars.collect();
        let config = RealtimeConfig::new(Access::public()).from_vars(vars.clone());
        if let Err(error) = config.and_then(|config| config.validate()) {
            let text = error.to_string();
            let known = |(name, _): &(String, String)| {
                let setting = name["REALTIME_".len()..].to_lowercase();
                text.contains(name.as_str()) || text.contains(&setting)
            };
            prop_assert!(error.is_config() && vars.iter().any(known), "{text} names none of {vars:?}");
        }
    }
}
