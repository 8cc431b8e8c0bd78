//! Broadcasts: what an admin says to everybody who reads a channel.

use std::sync::Arc;

use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use super::admin::audit;
use crate::{
    error::Error,
    hub::{ChannelId, Level, Priority, Published, Source},
    publish::{Event, FieldValue, LogLine},
    runtime::Runtime,
    transport::{
        answer::{self, Answer, Refusal},
        body::{Fields, wrong},
        caller::Caller,
        stream,
    },
};

/// What a broadcast is made of. Another member is refused: a `tenant_id` that is misspelt would be read by everybody.
const MEMBERS: [&str; 6] = ["channel", "type", "data", "priority", "key", "tenant_id"];

/// Publishes an event for everybody who reads its channel.
pub(crate) async fn broadcast(
    runtime: &Arc<Runtime>,
    caller: &Caller<'_>,
    mut fields: Fields,
) -> Result<Answer, Refusal> {
    caller.principal.require_admin()?;
    fields.deny_others(&MEMBERS)?;
    let channel = fields.text("channel")?.to_owned();
    let kind = fields.text("type")?.to_owned();
    let key = fields.optional_text("key")?.unwrap_or_default().to_owned();
    let tenant = fields.optional_text("tenant_id")?.map(ToOwned::to_owned);
    let priority = match fields.optional_text("priority")? {
        None => None,
        Some(text) => Some(priority(text)?),
    };
    let data = fields
        .take("data")
        .ok_or_else(|| wrong("data", "is needed"))?;
    if channel == "all" {
        let what = "takes one channel: 'all' is how a reader asks for every one";
        return Err(wrong("channel", what));
    }
    stream::require(&runtime.hub, &caller.principal, &channel)?;
    // What a tenant's admin says is for that tenant.
    let own = caller.principal.tenant_id().map(ToOwned::to_owned);
    let tenant = own.or(tenant);

    let (id, source): (ChannelId, Arc<dyn Source>) = if channel == "logs" {
        let mut line = log_line(&kind, data)?;
        if let Some(tenant) = tenant {
            line = line.tenant(tenant);
        }
        let line = line.stamp(runtime.clock.unix_ms());
        (runtime.built_in.logs, Arc::new(line))
    } else {
        crate::hub::check_event_type(&kind).map_err(|error| wrong("type", &error.to_string()))?;
        let mut event = Event::new(channel.clone(), kind.clone(), &data).key(key);
        if let Some(tenant) = tenant {
            event = event.tenant(tenant);
        }
        if let Some(priority) = priority {
            event = event.priority(priority);
        }
        runtime.checked(event).map_err(|error| {
            let field = if error.to_string().starts_with("data") {
                "data"
            } else {
                "channel"
            };
            wrong(field, &error.to_string())
        })?
    };
    let Published { position, readers } = runtime
        .hub
        .publish_and_wait(id, source)
        .await
        .map_err(not_published)?;
    audit(runtime, caller, "broadcast", &format!("{channel}/{kind}"));
    let mut answer = answer::data(
        json!({"position": position, "delivered_to": readers, "channel": channel, "type": kind}),
    );
    *answer.status_mut() = StatusCode::CREATED;
    Ok(answer)
}

fn not_published(error: Error) -> Refusal {
    let code = if error.is_full() {
        "inbox_full"
    } else {
        "shutting_down"
    };
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, code, error.to_string())
        .with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
}

fn priority(text: &str) -> Result<Priority, Refusal> {
    Ok(match text {
        "low" => Priority::Low,
        "normal" => Priority::Normal,
        "high" => Priority::High,
        "critical" => Priority::Critical,
        _ => return Err(wrong("priority", "takes low, normal, high or critical")),
    })
}

/// A line of the log, as seed 001 broadcasts it: the only thing that the channel takes from outside.
fn log_line(kind: &str, data: Value) -> Result<LogLine, Refusal> {
    if kind != "log" {
        return Err(wrong("type", "takes log on the channel logs"));
    }
    let Value::Object(mut data) = data else {
        return Err(wrong("data", "takes an object with level and message"));
    };
    let level = match text(&mut data, "level")? {
        None => Level::Info,
        Some(text) => text.parse().map_err(|_| {
            let what = "takes trace, debug, info, warn or error";
            wrong("data.level", what)
        })?,
    };
    let Some(message) = text(&mut data, "message")? else {
        return Err(wrong("data.message", "is needed, and takes a string"));
    };
    let component = text(&mut data, "component")?.unwrap_or_else(|| "broadcast".to_owned());
    let mut line = LogLine::new(level, component, message);
    if let Some(id) = text(&mut data, "provider_id")? {
        line = line.provider(id);
    }
    if let Some(id) = text(&mut data, "request_id")? {
        line = line.request(id);
    }
    match data.remove("fields") {
        None | Some(Value::Null) => {}
        Some(Value::Object(fields)) => {
            for (name, value) in fields {
                line.add_field(name, FieldValue::of_json(value));
            }
        }
        Some(_) => return Err(wrong("data.fields", "takes an object")),
    }
    match data.keys().next() {
        None => Ok(line),
        Some(name) => Err(wrong(
            &format!("data.{name}"),
            "is not known; known are level, message, component, provider_id, request_id, fields",
        )),
    }
}

fn text(data: &mut Map<String, Value>, name: &'static str) -> Result<Option<String>, Refusal> {
    match data.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong(&format!("data.{name}"), "takes a string")),
    }
}
