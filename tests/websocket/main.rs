//! WebSocket, through real sockets and a stranger's client: every message, every error, every close code.
#![cfg(all(feature = "axum", feature = "ws"))]

#[path = "../support/mod.rs"]
mod support;

mod ends;
mod events;
mod frames;
mod identity;
mod messages;
mod slow_checks;
mod upgrade;
mod ways;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{Router, http::StatusCode, routing::get};
use serde_json::{Value, json};
use support::{Closed, Host, Socket, assert_fields, config, get as get_request, request, soon};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};
use tokio_tungstenite::tungstenite::Message;
use tower_realtime::{
    Access, ChannelConfig, Denied, Event, Level, LogLine, Principal, ProviderStatus,
    RealtimeConfig, RequestMeter,
};

fn app() -> Router {
    async fn chat(meter: RequestMeter) -> &'static str {
        meter.provider("openai").model("gpt").tenant("acme");
        "hello"
    }
    async fn broken(meter: RequestMeter) -> StatusCode {
        meter.provider("groq").model("llama");
        StatusCode::BAD_GATEWAY
    }
    Router::new()
        .route("/chat", get(chat))
        .route("/broken", get(broken))
}

async fn host() -> Host {
    let host = Host::start(app()).await;
    host.rt.channel("news", ChannelConfig::stream()).unwrap();
    host
}

async fn host_with(config: RealtimeConfig) -> Host {
    let host = Host::configured(config, app()).await;
    host.rt.channel("news", ChannelConfig::stream()).unwrap();
    host
}

fn publish(host: &Host, n: usize) {
    host.rt
        .publish(Event::new("news", "Item", &json!({"n": n})))
        .unwrap();
}

/// The numbers of the next so many items.
async fn items(socket: &mut Socket, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        numbers.push(socket.wait_for("Item").await["data"]["n"].as_u64().unwrap());
    }
    numbers
}

fn types(envelopes: &[Value]) -> Vec<&str> {
    envelopes
        .iter()
        .map(|envelope| envelope["type"].as_str().unwrap())
        .collect()
}
