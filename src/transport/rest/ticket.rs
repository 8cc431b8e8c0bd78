//! Tickets: for those who can send no header, EventSource, and WebSocket in browsers.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use crate::{
    middleware::OwnRequestBody,
    runtime::Runtime,
    transport::{
        answer::{self, Answer, Refusal},
        body::{self, Fields},
        caller::Caller,
        stream::require,
    },
};

/// The most channels that a ticket is confined to. Each takes room for as long as the ticket waits.
const MAX_CHANNELS: usize = 32;

/// A ticket for everything that the caller may read, or for the `channels` of the body alone. Counted before anything
/// else is looked at, so that calls that fail are bounded as well.
pub(crate) async fn ticket(
    runtime: &Runtime,
    caller: &Caller<'_>,
    body: &mut OwnRequestBody,
) -> Result<Answer, Refusal> {
    let rates = &caller.connections.ticket_rates;
    rates
        .take(&caller.principal, caller.address)
        .map_err(|wait| {
            let sentence = "more tickets a minute than ten times inbound_per_minute";
            // Rounded up, so that it is not too early then.
            Refusal::too_many("rate_limited", sentence)
                .with_retry_after(wait + Duration::from_secs(1))
        })?;
    let fields = body::optional_fields(body).await?;
    fields.deny_others(&["channels"])?;
    let channels = confined_to(runtime, caller, &fields)?;
    let (ticket, lifetime) =
        caller
            .gate
            .issue_ticket(&caller.principal, caller.address, channels.as_deref())?;
    Ok(answer::data(json!({
        "ticket": ticket,
        "expires_in": lifetime.as_secs(),
        "channels": channels,
    })))
}

/// The channels that the body names, each of which the caller may read. `None` for all of those: where it names none,
/// or `all`.
fn confined_to(
    runtime: &Runtime,
    caller: &Caller<'_>,
    fields: &Fields,
) -> Result<Option<Vec<Arc<str>>>, Refusal> {
    let Some(names) = fields.channels(&["channels"], MAX_CHANNELS)? else {
        return Ok(None);
    };
    for name in names.iter().filter(|name| *name != "all") {
        require(&runtime.hub, &caller.principal, name)
            .map_err(|refusal| refusal.of_field("channels"))?;
    }
    if names.iter().any(|name| name == "all") {
        return Ok(None);
    }
    Ok(Some(names.into_iter().map(Arc::from).collect()))
}
