//! What changes connections. Each call is rate limited, and what an admin does is told in the log.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderValue, StatusCode, header, request::Parts};
use serde_json::{Value, json};

use crate::{
    access::Principal,
    hub::CloseReason,
    one_line::OneLine,
    publish::LogLine,
    refusal::shown,
    runtime::Runtime,
    sync::lock,
    transport::{
        answer::{self, Answer, Refusal},
        body::{Fields, wrong},
        caller::Caller,
        connections::{Connection, Connections},
        names::MAX_NAMES,
        params::{self, CRITERIA},
        query::{self, Query},
        stream, wanted,
    },
};

/// The most connections that one answer lists.
const MAX_LISTED: u64 = 10_000;

/// 429 where the caller has read too much in a short time.
pub(crate) fn limit_reads(caller: &Caller<'_>) -> Result<(), Refusal> {
    let Caller {
        principal,
        connections,
        address,
        ..
    } = caller;
    connections.admission.read(principal, *address)
}

/// 429 where the caller has changed too much in a short time.
pub(crate) fn limit_rate(caller: &Caller<'_>) -> Result<(), Refusal> {
    caller
        .connections
        .rates
        .take(&caller.principal, caller.address)
        .map_err(|wait| {
            let seconds = wait.as_secs() + 1;
            Refusal::new(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limited",
                "more calls a minute than inbound_per_minute allows",
            )
            .with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
        })
}

/// Who is connected.
pub(crate) fn connections(
    runtime: &Runtime,
    caller: &Caller<'_>,
    query: &Query,
) -> Result<Answer, Refusal> {
    caller.principal.require_admin()?;
    let limit = params::number(query, "limit", 1000, 1, MAX_LISTED)? as usize;
    let mut shown = caller
        .connections
        .list(&runtime.hub, caller.principal.tenant_id());
    let total = shown.len();
    shown.truncate(limit);
    Ok(answer::data(json!({"connections": shown, "total": total})))
}

/// Ends a connection with `drain` and the reason `kicked`, and frees its place at once.
pub(crate) fn kick(runtime: &Runtime, caller: &Caller<'_>, id: &str) -> Result<Answer, Refusal> {
    caller.principal.require_admin()?;
    let connection = find(caller.connections, &caller.principal, id)?;
    runtime.hub.dismiss(&connection.reader, CloseReason::Kicked);
    audit(
        runtime,
        caller,
        "kick",
        &caller.connections.name_of(&connection),
    );
    Ok(answer::data(
        json!({"id": caller.connections.name_of(&connection), "kicked": true}),
    ))
}

/// Whether channels come or go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Subscribe,
    Unsubscribe,
}

/// Changes what an open connection reads; it takes effect with the next thing that is written to it.
pub(crate) fn change(
    runtime: &Arc<Runtime>,
    caller: &Caller<'_>,
    parts: &Parts,
    id: &str,
    change: Change,
    fields: &Fields,
) -> Result<Answer, Refusal> {
    const LISTS: [&str; 3] = ["channels", "metrics", "rooms"];
    let connection = owned(caller, parts, id, fields)?;
    fields.deny_others(&["channels", "metrics", "rooms", "filter", "reconnect_token"])?;
    let named = fields
        .channels(&LISTS, MAX_NAMES)?
        .ok_or_else(|| wrong("channels", "is needed, and takes a list of strings"))?;
    let filter = fields.get("filter").map(filter_query).transpose()?;
    let tokens = caller.gate.reconnect_tokens();

    // Held until the wish is told, so that two changes at once are told in the order in which they were made.
    let mut kept = lock(&connection.selection);
    let mut wanted = kept.get();
    if let Some(filter) = filter {
        wanted.query = with_rate_of(&wanted.query, filter);
    }
    match change {
        Change::Subscribe => wanted.add(named),
        Change::Unsubscribe => wanted.remove(&named, &runtime.hub, &connection.principal),
    }
    // By the rights of whoever reads, also where an admin asks.
    let query = Query::parse(Some(&wanted.query))?;
    let spec = stream::view_spec(
        runtime,
        &connection.principal,
        &wanted,
        &query,
        connection.reader_form(),
    )?;
    // Not from its cursor: what lies before that may wait to be handed over, or to be told of.
    let position = runtime
        .hub
        .position_of(connection.reader.told.load(crate::sync::Ordering::Relaxed));
    let token = tokens.issue(
        &connection.principal,
        &wanted.to_query(connection.session),
        &position.to_string(),
    );
    connection.reader.wish(spec);
    kept.set(wanted.clone());
    drop(kept);

    if connection.principal.owner() != caller.principal.owner() {
        let action = if change == Change::Subscribe {
            "subscribe"
        } else {
            "unsubscribe"
        };
        audit(
            runtime,
            caller,
            action,
            &caller.connections.name_of(&connection),
        );
    }
    Ok(answer::data(json!({
        "id": caller.connections.name_of(&connection),
        "channels": wanted.names,
        "filter": wanted.query,
        "reconnect_token": token,
    })))
}

/// A filter with the `max_rate` that the connection was opened with, which lasts as long as the connection.
fn with_rate_of(query: &str, mut filter: String) -> String {
    let rate = query.split('&').find(|pair| pair.starts_with("max_rate="));
    if let Some(rate) = rate {
        if !filter.is_empty() {
            filter.push('&');
        }
        filter.push_str(rate);
    }
    filter
}

/// An object of criteria as the query that says the same.
fn filter_query(filter: &Value) -> Result<String, Refusal> {
    let Value::Object(criteria) = filter else {
        return Err(wrong("filter", "takes an object"));
    };
    let mut pairs = Vec::new();
    for (name, value) in criteria {
        if name == "max_rate" {
            let what = "does not change on an open connection: open another one with it";
            return Err(wrong("filter.max_rate", what));
        }
        if !CRITERIA.contains(&name.as_str()) && !["window", "interval"].contains(&name.as_str()) {
            let known = CRITERIA.join(", ");
            let what = format!("is not known; known are {known}, window, interval");
            return Err(wrong(&format!("filter.{}", shown(name)), &what));
        }
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            Value::Array(members) if members.iter().all(Value::is_string) => {
                let texts: Vec<_> = members.iter().filter_map(Value::as_str).collect();
                texts.join(",")
            }
            _ => {
                return Err(wrong(
                    &format!("filter.{name}"),
                    "takes a string, a number, true or false",
                ));
            }
        };
        let mut pair = String::new();
        query::encode(name, &mut pair);
        pair.push('=');
        query::encode(&text, &mut pair);
        pairs.push(pair);
    }
    Ok(pairs.join("&"))
}

/// The connection, where the caller may see it: a tenant's principals see their own tenant's.
fn find(
    connections: &Connections,
    principal: &Principal,
    id: &str,
) -> Result<Arc<Connection>, Refusal> {
    let visible = |connection: &Arc<Connection>| {
        principal
            .tenant_id()
            .is_none_or(|tenant| connection.principal.tenant_id() == Some(tenant))
    };
    connections
        .find(id)
        .filter(visible)
        .ok_or_else(unknown_connection)
}

fn unknown_connection() -> Refusal {
    Refusal::not_found("there is no such connection")
}

/// For an admin, for whoever opened it, and for a viewer of a shared id that shows the connection's reconnect token:
/// all anonymous viewers are one principal, and so are all who have the viewers' token of a policy, while connections
/// have names that can be guessed. To everybody else it does not exist.
fn owned(
    caller: &Caller<'_>,
    parts: &Parts,
    id: &str,
    fields: &Fields,
) -> Result<Arc<Connection>, Refusal> {
    let connection = find(caller.connections, &caller.principal, id)?;
    if caller.principal.is_admin() {
        return Ok(connection);
    }
    let same = connection.principal.owner() == caller.principal.owner();
    if same && caller.principal.is_individual() {
        return Ok(connection);
    }
    let header = parts
        .headers
        .get("x-reconnect-token")
        .and_then(|token| token.to_str().ok());
    let shown = match header {
        Some(token) => Some(token),
        None => fields.optional_text("reconnect_token")?,
    };
    let verified = shown.and_then(|token| {
        caller
            .gate
            .reconnect_tokens()
            .verify(&caller.principal, token)
            .ok()
    });
    match verified.and_then(|resume| wanted::session_of(&resume.subscription)) {
        Some(session) if same && session == connection.session => Ok(connection),
        _ => Err(unknown_connection()),
    }
}

/// Tells in the log what an admin did.
pub(super) fn audit(runtime: &Runtime, caller: &Caller<'_>, action: &str, target: &str) {
    let actor = caller.principal.id();
    let address = caller.address.map_or_else(
        || "unknown".to_owned(),
        |address: IpAddr| address.to_string(),
    );
    // An id can be what somebody has called himself elsewhere, so it must not be able to begin a line of its own.
    let (shown_actor, shown_target) = (OneLine(actor).to_string(), OneLine(target).to_string());
    let message = format!("{shown_actor}: {action} {shown_target}");
    // For the host's own log as well. The layer that turns that into events leaves our targets out.
    #[cfg(feature = "tracing")]
    tracing::info!(
        target: "tower_realtime::audit",
        actor = shown_actor,
        action,
        target = shown_target,
        ip = address,
        tenant = caller.principal.tenant_id().map(|tenant| OneLine(tenant).to_string()),
        "{message}"
    );
    let mut line = LogLine::new(crate::hub::Level::Info, "audit", message)
        .field("actor", actor)
        .field("action", action)
        .field("target", target)
        .field("ip", address);
    if let Some(tenant) = caller.principal.tenant_id() {
        line = line.tenant(tenant);
    }
    // What the inbox does not take is counted there.
    let _ = runtime.hub.publish(
        runtime.built_in.logs,
        Arc::new(line.stamp(runtime.clock.unix_ms())),
    );
}
