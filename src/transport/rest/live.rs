//! What runs: the crate, its hub, and the one-look answer.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::json;

use super::{Ask, placed};
use crate::{
    aggregator::Window,
    hub::{ChannelStats, HubStats},
    transport::{
        answer::{Answer, Refusal, data},
        kinds, params,
    },
};

/// Seed 002's websocket-info, for everything there is.
pub(super) fn info(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let config = &ask.runtime.config;
    let mounts = ask.mounts;
    let mut channels = ask.runtime.hub.channel_names();
    channels.retain(|name| ask.caller.principal.may_read(name));
    let compresses = ask.runtime.hub.compressor().is_some();
    let encodings: &[&str] = if compresses { &["gzip"] } else { &[] };
    let deflates = mounts.ws.is_some() && config.ws_deflate;
    let extensions: &[&str] = if deflates {
        &["permessage-deflate"]
    } else {
        &[]
    };
    // What is compiled in. Whether it is switched on stands with the transports.
    let features: Vec<&str> = [
        ("axum", cfg!(feature = "axum")),
        ("compression", cfg!(feature = "compression")),
        ("dashboard", cfg!(feature = "dashboard")),
        ("jwt", cfg!(feature = "jwt")),
        ("tracing", cfg!(feature = "tracing")),
        ("ws", cfg!(feature = "ws")),
    ]
    .into_iter()
    .filter_map(|(name, on)| on.then_some(name))
    .collect();
    Ok(data(json!({
        "name": "tower-realtime",
        "version": env!("CARGO_PKG_VERSION"),
        "instance": config.instance,
        "title": config.title,
        "currency": config.currency,
        "position": ask.position,
        "channels": channels,
        "transports": {
            "sse": {
                "enabled": true,
                "endpoint": mounts.stream,
                "encodings": encodings,
                "event_types": kinds::EVENTS,
            },
            "websocket": {
                "enabled": mounts.ws.is_some(),
                "endpoint": mounts.ws,
                "subprotocols": ["json", "msgpack", "bearer.<token>"],
                "extensions": extensions,
                "message_types": {"in": kinds::MESSAGES_IN, "out": kinds::MESSAGES_OUT},
            },
        },
        "endpoints": {
            "stream": mounts.stream,
            "ws": mounts.ws,
            "api": mounts.api,
            "dashboard": mounts.page,
        },
        "principal": {
            "id": ask.caller.principal.id(),
            "admin": ask.caller.principal.is_admin(),
            "tenant_id": ask.caller.principal.tenant_id(),
        },
        "limits": {
            "max_clients": config.max_clients,
            "max_clients_per_user": config.max_clients_per_user,
            "max_clients_per_ip": config.max_clients_per_ip,
            "max_age_seconds": config.max_age.map(|age| age.as_secs()),
            "inbound_per_minute": config.inbound_per_minute,
            "reads_per_minute": config.reads_a_minute(),
            "denials_per_minute": config.denials_per_minute,
            "replay_capacity": config.replay_capacity,
            "heartbeat_ms": config.heartbeat_interval.as_millis() as u64,
            "stall_timeout_ms": config.stall_timeout.as_millis() as u64,
            "ws_ping_ms": config.ws_ping_interval.as_millis() as u64,
            "ws_timeout_ms": config.ws_timeout.as_millis() as u64,
            "max_event_bytes": crate::publish::MAX_EVENT_BYTES,
        },
        "features": features,
    })))
}

/// Seed 000's hub stats, and what a person needs who wonders why an event did not arrive. A tenant's principals see
/// their tenant's connections, and nothing that speaks of all.
pub(super) fn hub_stats(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let principal = &ask.caller.principal;
    let connections = ask.caller.connections;
    if let Some(tenant) = ask.tenant() {
        let tally = connections.tally(principal);
        return Ok(placed(
            ask,
            json!({
                "tenant_id": tenant,
                "total_clients": tally.sse + tally.websocket,
                "transports": {"sse": tally.sse, "websocket": tally.websocket},
                "users": tally.users,
                "users_total": tally.users_total,
                "instance": ask.runtime.config.instance,
            }),
        ));
    }
    let tally = connections.tally(principal);
    let hub = ask.runtime.hub.stats();
    let totals = ask.runtime.collector.totals();
    Ok(placed(
        ask,
        json!({
            "total_clients": hub.total_clients,
            "subscriptions": subscriptions(&hub.channels),
            "transports": {
                "sse": tally.sse,
                "websocket": tally.websocket,
            },
            "users": tally.users,
            "users_total": tally.users_total,
            "max_clients": ask.runtime.config.max_clients,
            "hub": Hub::from(&hub),
            "channels": hub.channels,
            "compression": hub.compression,
            "collector": {
                "recorded": totals.recorded,
                "dropped": totals.dropped,
                "in_flight": totals.in_flight,
                "late_calls": totals.late_calls,
                "invalid_values": totals.invalid_values,
                "feed_capacity": totals.feed_capacity,
                "feed_pending": totals.feed_pending,
            },
            "feed": {"sampling": 1.0, "pacing": null},
            "instance": ask.runtime.config.instance,
            "instances": [ask.runtime.config.instance],
        }),
    ))
}

fn subscriptions(channels: &[ChannelStats]) -> BTreeMap<&str, usize> {
    channels
        .iter()
        .map(|channel| (channel.name.as_str(), channel.subscribers))
        .collect()
}

#[derive(Serialize)]
struct Hub<'a> {
    views: usize,
    published: u64,
    refused: u64,
    gaps: u64,
    stalled: u64,
    evicted: u64,
    sent_bytes: u64,
    connections_total: u64,
    resumes: &'a crate::hub::ResumeStats,
    inbox_used: usize,
    inbox_capacity: usize,
}

impl<'a> From<&'a HubStats> for Hub<'a> {
    fn from(stats: &'a HubStats) -> Self {
        Self {
            views: stats.views,
            published: stats.published,
            refused: stats.refused,
            gaps: stats.gaps,
            stalled: stats.stalled,
            evicted: stats.evicted,
            sent_bytes: stats.sent_bytes,
            connections_total: stats.connections_total,
            resumes: &stats.resumes,
            inbox_used: stats.inbox_used,
            inbox_capacity: stats.inbox_capacity,
        }
    }
}

/// Is it up, is it fast, what does it cost: totals, rates, and the health of each part.
pub(super) fn overview(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let runtime = ask.runtime;
    let window = params::window(ask.query)?.unwrap_or(Window::FiveMinutes);
    let snapshot = runtime.aggregator.snapshot(window, ask.tenant());
    let providers = runtime.aggregator.providers(ask.tenant());
    let hub = runtime.hub.stats();
    let totals = runtime.collector.totals();
    let part = |ok: bool| if ok { "healthy" } else { "degraded" };
    let accepting = !runtime.is_shutting_down();
    let mut overview = json!({
        "status": part(accepting),
        "window": window.as_str(),
        "metrics": snapshot,
        "providers": providers,
        "alerts": [],
        "health": {"hub": part(accepting)},
    });
    // A tenant is told nothing that follows from what others do.
    if ask.tenant().is_none() {
        overview["health"] = json!({
            "hub": part(accepting && hub.inbox_used < hub.inbox_capacity),
            "collector": part(totals.dropped == 0),
        });
        overview["connections"] = json!(hub.total_clients);
        overview["system"] = json!(runtime.system_event());
    }
    Ok(placed(ask, overview))
}
