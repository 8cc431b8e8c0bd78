//! `/stream`: from a request to a stream of events.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Method, StatusCode, header, request::Parts};

use super::{
    answer::{Answer, Refusal},
    caller::Caller,
    compress::{self, GzipStream},
    connections::{Newcomer, Selection, Session},
    forms::SSE_FORM,
    params,
    query::Query,
    sse::{self, Established, SseBody},
    wanted::Wanted,
};
use crate::{
    access::{Principal, TokenError},
    aggregator::Window,
    hub::{ChannelId, ChannelSet, Form, Hub, Leases, Refused, ViewSpec},
    middleware::OwnBody,
    runtime::{Runtime, Variant},
    telemetry::quiet,
};

/// Answers with a stream; nothing in it waits.
pub(crate) fn open(
    runtime: &Arc<Runtime>,
    caller: &Caller<'_>,
    parts: &Parts,
    wanted: Wanted,
) -> Result<Answer, Refusal> {
    let principal = &caller.principal;
    let Wanted {
        selection,
        query,
        start,
        session,
        refused,
    } = wanted;
    // A token that is taken may stand for nothing, once everything was taken from its stream.
    if selection.names.is_empty() && session.is_none() {
        return Err(match refused {
            Some(why) => session_lost(why),
            None => Refusal::bad_request("channels", "takes a comma-separated list of channels"),
        });
    }
    let spec = view_spec(runtime, principal, &selection, &query, SSE_FORM)?;
    let max_rate = params::max_rate(&query)?;
    let gzip = GzipStream::wanted(&runtime.hub, &parts.headers);
    let tokens = caller.gate.reconnect_tokens();
    if parts.method == Method::HEAD {
        let session = session.unwrap_or_else(|| Session::random(runtime.clock));
        let position = runtime.hub.position().to_string();
        let token = tokens.issue(principal, &selection.to_query(session), &position);
        return Ok(head(OwnBody::untold(), token.as_deref(), gzip.is_some()));
    }
    let connections = caller.connections;
    let session = session.unwrap_or_else(|| Session::random(runtime.clock));
    // First of all, so that the new stream may have the old one's place.
    let claim = connections.claim(&runtime.hub, session);
    let seat = connections.admission.admit(principal, caller.address)?;
    let subscribed = runtime.hub.subscribe(spec, start);
    let mut subscription = subscribed.map_err(full_or_closed)?;
    if let Some(rate) = max_rate {
        subscription.limit_rate(rate);
    }
    let is_gzip = gzip.is_some() && subscription.compress();
    let position = subscription.position().to_string();
    let token = tokens.issue(principal, &selection.to_query(session), &position);
    let names = selection.names.clone();
    let newcomer = Newcomer {
        principal,
        address: caller.address,
        claim,
        selection,
    };
    let connection = connections.enter(&runtime.hub, seat, &subscription, newcomer);
    let first = Established {
        connection_id: &connections.name_of(&connection),
        reconnect_token: token.as_deref(),
        channels: &names,
        heartbeat_ms: runtime.config.heartbeat_interval.as_millis() as u64,
        instance: &runtime.config.instance,
        resume: subscription.resume(),
        token_refused: refused.map(TokenError::as_str),
        timestamp: runtime.clock.unix_seconds(),
    };
    let first = sse::established(&first, &subscription);
    let body = SseBody::new(first, subscription, gzip);
    Ok(head(
        OwnBody::stream(quiet(body)),
        token.as_deref(),
        is_gzip,
    ))
}

/// 410 for a token that stands for nothing any more, on a request that asks for nothing else. An EventSource repeats its
/// URL, so a stream without channels would come again and again: this ends it, and its page can open another.
fn session_lost(why: TokenError) -> Refusal {
    let why = why.as_str();
    Refusal::new(
        StatusCode::GONE,
        "session_lost",
        format!("the reconnect token is {why}: open a stream by its channels"),
    )
    .with_details(serde_json::json!({"token_refused": why}))
}

/// The head of a stream that may begin, around a body.
fn head(body: OwnBody, token: Option<&str>, is_gzip: bool) -> Answer {
    let mut answer = sse::answer(body);
    let headers = answer.headers_mut();
    if let Some(Ok(token)) = token.map(HeaderValue::try_from) {
        headers.insert("x-reconnect-token", token);
    }
    if is_gzip {
        compress::say_gzip(headers);
    }
    answer
}

/// Checks the names, the caller's right to them, and the parameters in `query`, which are those of the selection.
pub(crate) fn view_spec(
    runtime: &Arc<Runtime>,
    principal: &Principal,
    selection: &Selection,
    query: &Query,
    form: Form,
) -> Result<ViewSpec, Refusal> {
    let stats = params::stats(query)?.or_usual_of(form);
    let filter = params::filter(query)?;
    let tenant = match (principal.tenant_arc(), &selection.tenant) {
        (Some(own), Some(asked)) if own != asked => {
            let sentence = "the principal belongs to another tenant";
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "foreign_tenant",
                sentence,
            ));
        }
        (own, asked) => own.or(asked.as_ref()).cloned(),
    };
    let mut leases = Leases::default();
    let all = selection.names.iter().any(|name| name == "all");
    // Also those that `all` would hide: a selection is kept, and goes into a token, so it holds nothing but channels.
    for name in selection.names.iter().filter(|name| *name != "all") {
        require(&runtime.hub, principal, name)?;
    }
    if all && principal.may_read("all") {
        let mut replaced = Vec::new();
        for id in [runtime.built_in.stats, runtime.built_in.providers] {
            let variant = variant_of(runtime, id, &stats, tenant.as_ref(), &mut leases)?;
            if variant != id {
                replaced.push((id, variant));
            }
        }
        let channels = match replaced.is_empty() {
            true => ChannelSet::All,
            false => ChannelSet::AllBut(replaced.into()),
        };
        return Ok(ViewSpec {
            channels,
            filter,
            tenant,
            form,
            leases,
        });
    }
    let mut ids = Vec::new();
    let mut names = if all {
        runtime.hub.channel_names()
    } else {
        selection.names.clone()
    };
    names.retain(|name| principal.may_read(name));
    for id in names.iter().filter_map(|name| runtime.hub.channel_id(name)) {
        ids.push(variant_of(
            runtime,
            id,
            &stats,
            tenant.as_ref(),
            &mut leases,
        )?);
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ViewSpec {
        channels: ChannelSet::Some(ids.into()),
        filter,
        tenant,
        form,
        leases,
    })
}

/// The channel itself, or the variant of it that the parameters or the tenant ask for.
fn variant_of(
    runtime: &Arc<Runtime>,
    id: ChannelId,
    stats: &params::StatsParams,
    tenant: Option<&Arc<str>>,
    leases: &mut Leases,
) -> Result<ChannelId, Refusal> {
    let variant = if id == runtime.built_in.stats {
        let window = stats.window.unwrap_or_default();
        let interval = stats.interval.unwrap_or(runtime.config.stats_interval);
        let usual = window == Window::default() && interval == runtime.config.stats_interval;
        if usual && tenant.is_none() {
            return Ok(id);
        }
        Variant::Stats {
            window,
            interval,
            tenant: tenant.cloned(),
        }
    } else if let Some(tenant) = tenant.filter(|_| id == runtime.built_in.providers) {
        Variant::Providers {
            tenant: tenant.clone(),
        }
    } else {
        return Ok(id);
    };
    runtime.variant(variant, leases).map_err(|error| {
        Refusal::new(
            http::StatusCode::SERVICE_UNAVAILABLE,
            "too_many_variants",
            error.to_string(),
        )
        .with_header(header::RETRY_AFTER, HeaderValue::from_static("60"))
    })
}

/// Whether there is the channel, and whether the principal may read it. What it may not read is forbidden whether it is
/// there or not: that is not to be found out.
pub(crate) fn require(hub: &Hub, principal: &Principal, name: &str) -> Result<(), Refusal> {
    principal.require_channel(name)?;
    match hub.channel_id(name) {
        Some(_) => Ok(()),
        None => Err(unknown_channel(hub, principal, name)),
    }
}

/// Names the channels that there are, as far as the principal may know of them.
pub(crate) fn unknown_channel(hub: &Hub, principal: &Principal, name: &str) -> Refusal {
    let mut known = hub.channel_names();
    known.retain(|name| principal.may_read(name));
    known.push("all".to_owned());
    let name: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
    Refusal::new(
        http::StatusCode::NOT_FOUND,
        "unknown_channel",
        format!(
            "channel '{name}' is not known; known are {}",
            known.join(", ")
        ),
    )
    .with_details(serde_json::json!({"channels": known}))
}

/// The one way in which a stream is refused, whoever does it. A browser's EventSource closes for good at any status but
/// 200, so one that may succeed later gets a stream that says when to come back.
pub(super) fn refuse(refusal: Refusal, parts: &Parts, seed: u64) -> Result<Answer, Refusal> {
    let Some(wait) = wait(&refusal, seed) else {
        return Err(refusal);
    };
    let accepts = parts
        .headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    let event_source = accepts.is_some_and(|accept| accept.contains("text/event-stream"))
        && parts.headers.contains_key("sec-fetch-mode");
    if event_source {
        return Ok(sse::busy(wait));
    }
    Err(refusal.with_retry_after(wait))
}

/// Says when to come back, where that is a matter of time.
#[cfg(feature = "ws")]
pub(super) fn retry_later(refusal: Refusal, seed: u64) -> Refusal {
    match wait(&refusal, seed) {
        Some(wait) => refusal.with_retry_after(wait),
        None => refusal,
    }
}

/// No sooner than the refusal says, and not all at once; `None` where coming back would not help.
fn wait(refusal: &Refusal, seed: u64) -> Option<Duration> {
    let base = refusal.retry_after().unwrap_or(sse::RETRY.base);
    let retry = sse::Retry { base, ..sse::RETRY };
    refusal.is_temporary().then(|| retry.pick(seed))
}

pub(super) fn full_or_closed(refused: Refused) -> Refusal {
    let (code, sentence) = match refused {
        Refused::Full => (
            "too_many_clients",
            "as many clients as max_clients allows are connected",
        ),
        Refused::Closed => ("shutting_down", "the server is shutting down"),
    };
    Refusal::new(http::StatusCode::SERVICE_UNAVAILABLE, code, sentence)
}
