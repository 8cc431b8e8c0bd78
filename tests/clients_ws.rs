//! Strangers' WebSocket clients. They need packages that not every machine has: `tests/run.sh clients` brings them and
//! runs these tests.
#![cfg(feature = "ws")]

mod support;

use axum::Router;
use serde_json::{Value, json};
use support::{Host, soon};
use tokio::process::Command;
use tower_realtime::{ChannelConfig, Event};

/// Where `tests/run.sh` puts the packages of the clients.
const TOOLS: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/tools");
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");

/// Long enough to be deflated, and longer than the two short forms of a frame's length.
fn item(n: usize) -> Value {
    json!({"n": n, "text": "é".repeat(10 * n)})
}

async fn assert_reads_all(command: impl FnOnce(&str) -> Command) {
    let host = Host::start(Router::new()).await;
    let channel = ChannelConfig::stream();
    host.rt.channel("news", channel).unwrap();
    for n in 0..300 {
        let event = Event::new("news", "Item", &item(n));
        host.rt.publish(event).unwrap();
    }
    let mut command = command(&format!("ws://{}/ws", host.address));
    command.args(["news", "Item", "300"]).kill_on_drop(true);
    let output = soon("the client to end", command.output()).await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();

    let expected: Vec<Value> = (0..300).map(item).collect();
    assert_eq!(printed["data"], json!(expected));
    assert!(
        printed["extensions"]
            .to_string()
            .contains("permessage-deflate"),
        "{}",
        printed["extensions"]
    );
    assert_eq!(printed["types"][0], "connection_established");
    assert_eq!(
        (&printed["pong"], &printed["closed"]),
        (&json!("protocol"), &json!(1000))
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node.js with the package ws"]
async fn npm_ws_reads_every_event_deflated() {
    assert_reads_all(|url| {
        let mut command = Command::new("node");
        command.arg(format!("{SOURCES}/ws.mjs")).args([TOOLS, url]);
        command
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Python with websockets"]
async fn python_websockets_reads_every_event_deflated() {
    assert_reads_all(|url| {
        let mut command = Command::new(format!("{TOOLS}/venv/bin/python"));
        command
            .arg(format!("{SOURCES}/websockets_client.py"))
            .arg(url);
        command
    })
    .await;
}
