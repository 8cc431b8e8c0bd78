//! The probe: does an event come out at the other end, and how long does it take.

use std::{future::poll_fn, sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::{
    hub::{ChannelConfig, ChannelSet, Filter, Form, Leases, Read, Start, ViewSpec},
    publish::Event,
    runtime::Runtime,
    transport::{
        answer::{self, Answer, Refusal},
        body::{Fields, wrong},
        forms::{SSE_FORM, WEBSOCKET_FORM},
        route::Mounts,
    },
};

/// How long a probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends a probe through the hub to a subscriber that is there for nothing else, in the wire form of the transport:
/// `connection_type`, `sse` where nothing is said.
pub(crate) async fn test_connection(
    runtime: &Arc<Runtime>,
    mounts: &Mounts,
    fields: &Fields,
) -> Result<Answer, Refusal> {
    fields.deny_others(&["connection_type", "connectionType"])?;
    let named = match fields.optional_text("connection_type")? {
        Some(text) => Some(text),
        None => fields.optional_text("connectionType")?,
    };
    let (form, looks_right): (Form, fn(&[u8]) -> bool) = match named {
        None | Some("sse") => (SSE_FORM, is_sse),
        Some("websocket") if mounts.ws.is_some() => (WEBSOCKET_FORM, is_websocket),
        Some("websocket") => {
            return Ok(answer::data(json!({
                "ok": false, "latency_ms": null, "connection_type": "websocket", "error": "websocket is not enabled",
            })));
        }
        Some(_) => return Err(wrong("connection_type", "takes sse or websocket")),
    };
    let started = runtime.clock.now_us();
    let probe = probe(runtime, form, looks_right);
    let result = match tokio::time::timeout(PROBE_TIMEOUT, probe).await {
        Ok(result) => result,
        Err(_) => Err("the probe did not arrive within 5 seconds"),
    };
    let latency_ms = result
        .is_ok()
        .then(|| (runtime.clock.now_us() - started) as f64 / 1000.0);
    Ok(answer::data(json!({
        "ok": result.is_ok(),
        "latency_ms": latency_ms,
        "connection_type": named.unwrap_or("sse"),
        "error": result.err(),
    })))
}

async fn probe(
    runtime: &Arc<Runtime>,
    form: Form,
    looks_right: fn(&[u8]) -> bool,
) -> Result<(), &'static str> {
    let full = "the hub takes no more subscribers";
    // Two spaces: no name that a host or a client can give.
    let config = ChannelConfig::stream().retain(1).hidden_as("probe");
    let channel = runtime.hub.channel("probe  ", config).map_err(|_| full)?;
    let spec = ViewSpec {
        channels: ChannelSet::Some([channel].into()),
        filter: Filter::default(),
        tenant: None,
        form,
        leases: Leases::default(),
    };
    let mut subscription = runtime
        .hub
        .subscribe(spec, Start::Latest)
        .map_err(|_| full)?;
    let source = Event::new("probe", "probe", &Value::Null).into_source();
    let source = source.map_err(|_| "the probe can't be made")?;
    let sent = runtime
        .hub
        .publish_and_wait(channel, Arc::new(source))
        .await;
    let position = sent.map_err(|_| "the hub's inbox is full")?.position;
    while subscription.position().seq < position.seq {
        match poll_fn(|cx| subscription.poll_read(cx)).await {
            Some(Read::Events(bytes)) if !looks_right(&bytes) => {
                return Err("the probe did not arrive in the form of the transport");
            }
            Some(Read::Closed(_)) | None => return Err("the hub is shutting down"),
            Some(_) => {}
        }
    }
    Ok(())
}

/// An event of a stream, whole.
fn is_sse(bytes: &[u8]) -> bool {
    bytes.starts_with(b"id: ") && bytes.ends_with(b"\n\n")
}

/// An unmasked text frame in one piece (RFC 6455, section 5.2), whole.
fn is_websocket(bytes: &[u8]) -> bool {
    let (head, len) = match bytes {
        [0x81, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([*high, *low]))),
        [0x81, len, ..] => (2, usize::from(*len)),
        _ => return false,
    };
    // Others may have sent a probe at the same time.
    bytes.len() >= head + len && bytes[head..].starts_with(b"{\"type\":\"probe\"")
}
