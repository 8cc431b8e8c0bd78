//! `/stream`: from a request to a stream of events.

use std::sync::Arc;

use http::{HeaderValue, Method, header, request::Parts};

use super::{
    answer::{Answer, Refusal},
    forms::SSE_FORM,
    params,
    query::Query,
    router::Caller,
    sse::{self, Established, Retry, SseBody},
};
use crate::{
    access::{Principal, Resume},
    aggregator::Window,
    hub::{ChannelId, ChannelSet, Form, Hub, Refused, Start, ViewSpec},
    middleware::OwnBody,
    runtime::{Runtime, Variant},
};

/// What a stream is asked for.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Public names, `all` included.
    pub(super) names: Vec<String>,
    pub(super) query: Query,
    /// Channels and filters as a query, for the reconnect token.
    subscription: String,
    pub(super) start: Start,
}

impl Wanted {
    pub(crate) fn new(names: Vec<String>, query: Query, query_text: &str, parts: &Parts) -> Self {
        let start = params::start(&parts.headers, &query);
        let subscription = format!("channels={}&{}", names.join(","), lasting(query_text));
        Self {
            names,
            query,
            subscription,
            start,
        }
    }

    /// What a reconnect token says; the position in the header or the query, which is newer, wins.
    pub(crate) fn resumed(resume: Resume, query: &Query, parts: &Parts) -> Result<Self, Refusal> {
        let start = match params::start(&parts.headers, query) {
            Start::Latest => Start::parse(&resume.position),
            newer => newer,
        };
        let query = Query::parse(Some(&resume.subscription))?;
        let names = params::list(query.get_text("channels"))
            .map(ToOwned::to_owned)
            .collect();
        Ok(Self {
            names,
            query,
            subscription: resume.subscription,
            start,
        })
    }

    /// The token is not good any more: a fresh session that says so.
    pub(crate) fn lost(mut self) -> Self {
        self.start = Start::Unknown;
        self
    }
}

/// The query without credentials and positions.
pub(super) fn lasting(query: &str) -> String {
    const FLEETING: [&str; 6] = [
        "since",
        "lastEventId",
        "token",
        "ticket",
        "channels",
        "metrics",
    ];
    let lasts = |pair: &&str| !FLEETING.contains(&pair.split('=').next().unwrap_or_default());
    let pairs: Vec<_> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .filter(lasts)
        .collect();
    pairs.join("&")
}

/// Answers with a stream; nothing in it waits.
pub(crate) fn open(
    runtime: &Arc<Runtime>,
    caller: &Caller<'_>,
    parts: &Parts,
    wanted: Wanted,
) -> Result<Answer, Refusal> {
    let principal = &caller.principal;
    let tenant = principal.tenant_arc().cloned();
    let stats = params::stats(&wanted.query)?;
    let spec = view_spec(
        runtime,
        principal,
        tenant,
        &wanted.names,
        stats,
        &wanted.query,
        SSE_FORM,
    )?;
    let max_rate = params::max_rate(&wanted.query)?;
    if parts.method == Method::HEAD {
        return Ok(sse::answer(OwnBody::full(bytes::Bytes::new())));
    }
    let retry = sse::RETRY;
    let mut subscription = match runtime.hub.subscribe(spec, wanted.start) {
        Ok(subscription) => subscription,
        Err(refused) => return refuse(refused, parts, retry, runtime.clock.now_us()),
    };
    if let Some(rate) = max_rate {
        subscription.limit_rate(rate);
    }
    let connection_id = format!(
        "{}-{}",
        runtime.config.instance,
        subscription.connection_id()
    );
    let position = subscription.position().to_string();
    let tokens = caller.gate.reconnect_tokens();
    let token = tokens.issue(principal, &wanted.subscription, &position);
    let first = Established {
        connection_id: &connection_id,
        reconnect_token: token.as_deref(),
        channels: &wanted.names,
        heartbeat_ms: runtime.config.heartbeat_interval.as_millis() as u64,
        instance: &runtime.config.instance,
        resume: subscription.resume(),
        timestamp: runtime.clock.unix_seconds(),
    };
    let first = sse::established(&first, &subscription, retry);
    let body = SseBody::new(first, subscription, runtime.clock, retry);
    let mut answer = sse::answer(OwnBody::stream(body));
    if let Some(Ok(token)) = token.map(HeaderValue::try_from) {
        answer.headers_mut().insert("x-reconnect-token", token);
    }
    Ok(answer)
}

/// Checks the names, the caller's right to them, and the parameters. `tenant` is the one whose events exist for the
/// reader: the principal's, where it has one.
pub(super) fn view_spec(
    runtime: &Arc<Runtime>,
    principal: &Principal,
    tenant: Option<Arc<str>>,
    names: &[String],
    stats: params::StatsParams,
    query: &Query,
    form: Form,
) -> Result<ViewSpec, Refusal> {
    let filter = params::filter(query)?;
    if names.is_empty() {
        return Err(Refusal::bad_request(
            "channels",
            "takes a comma-separated list of channels",
        ));
    }
    let all = names.iter().any(|name| name == "all");
    if all && principal.may_read("all") {
        let mut replaced = Vec::new();
        for id in [runtime.built_in.stats, runtime.built_in.providers] {
            let variant = variant_of(runtime, id, &stats, tenant.as_ref())?;
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
        });
    }
    let mut ids = Vec::new();
    let listed = if all {
        runtime.hub.channel_names()
    } else {
        names.to_vec()
    };
    for name in &listed {
        let id = runtime
            .hub
            .channel_id(name)
            .ok_or_else(|| unknown_channel(&runtime.hub, name))?;
        if !principal.may_read(name) {
            if all {
                continue;
            }
            principal.require_channel(name)?;
        }
        ids.push(variant_of(runtime, id, &stats, tenant.as_ref())?);
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ViewSpec {
        channels: ChannelSet::Some(ids.into()),
        filter,
        tenant,
        form,
    })
}

/// The channel itself, or the variant of it that the parameters or the tenant ask for.
fn variant_of(
    runtime: &Arc<Runtime>,
    id: ChannelId,
    stats: &params::StatsParams,
    tenant: Option<&Arc<str>>,
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
    runtime.variant(variant).map_err(|error| {
        Refusal::new(
            http::StatusCode::SERVICE_UNAVAILABLE,
            "too_many_variants",
            error.to_string(),
        )
        .with_header(header::RETRY_AFTER, HeaderValue::from_static("60"))
    })
}

pub(super) fn unknown_channel(hub: &Hub, name: &str) -> Refusal {
    let mut known = hub.channel_names();
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

/// A browser's EventSource closes for good at any status but 200, so one that may succeed later gets a stream that
/// says when to come back.
fn refuse(refused: Refused, parts: &Parts, retry: Retry, seed: u64) -> Result<Answer, Refusal> {
    let wait = retry.pick(seed);
    let accepts = parts
        .headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    let event_source = accepts.is_some_and(|accept| accept.contains("text/event-stream"))
        && parts.headers.contains_key("sec-fetch-mode");
    if event_source {
        return Ok(sse::busy(wait));
    }
    let (code, sentence) = match refused {
        Refused::Full => (
            "too_many_clients",
            "as many clients as max_clients allows are connected",
        ),
        Refused::Closed => ("shutting_down", "the server is shutting down"),
    };
    let seconds = wait.as_secs().max(1);
    Err(
        Refusal::new(http::StatusCode::SERVICE_UNAVAILABLE, code, sentence)
            .with_header(header::RETRY_AFTER, HeaderValue::from(seconds)),
    )
}
