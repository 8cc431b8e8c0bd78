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
};
use crate::{
    access::{Principal, Resume},
    aggregator::Window,
    hub::{ChannelId, ChannelSet, Form, Hub, Refused, Start, ViewSpec},
    middleware::OwnBody,
    runtime::{Runtime, Variant},
    telemetry::QuietBody,
};

/// What a stream is asked for.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(super) selection: Selection,
    query: Query,
    pub(super) start: Start,
    /// Of the token that it goes on with.
    pub(super) session: Option<Session>,
}

impl Wanted {
    pub(crate) fn new(names: Vec<String>, query: Query, query_text: &str, parts: &Parts) -> Self {
        let start = params::start(&parts.headers, &query);
        let names = without_repeats(names);
        let selection = Selection {
            names,
            query: lasting(query_text),
            tenant: None,
        };
        Self {
            selection,
            query,
            start,
            session: None,
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
        let session = session_of(&resume.subscription);
        let selection = Selection {
            names,
            query: lasting(&resume.subscription),
            tenant: None,
        };
        Ok(Self {
            selection,
            query,
            start,
            session,
        })
    }

    /// The token is not good any more: a fresh session that says so.
    pub(crate) fn lost(mut self) -> Self {
        self.start = Start::Unknown;
        self
    }
}

/// The session in what a token says. Nobody but us has written it there: [`lasting`] leaves out a client's own.
pub(crate) fn session_of(subscription: &str) -> Option<Session> {
    subscription
        .split('&')
        .find_map(|pair| pair.strip_prefix("session="))
        .and_then(Session::parse)
}

/// A name that is said twice is told once.
fn without_repeats(names: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    let new = |name: &String| seen.insert(name.clone());
    names.into_iter().filter(new).collect()
}

/// The query without credentials and positions.
pub(super) fn lasting(query: &str) -> String {
    const FLEETING: [&str; 7] = [
        "since",
        "lastEventId",
        "token",
        "ticket",
        "channels",
        "metrics",
        "session",
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
    let Wanted {
        selection,
        query,
        start,
        session,
    } = wanted;
    if selection.names.is_empty() {
        return Err(Refusal::bad_request(
            "channels",
            "takes a comma-separated list of channels",
        ));
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
    let wait = sse::RETRY.pick(runtime.clock.now_us());
    let connections = caller.connections;
    // First of all, so that the new stream may have the old one's place.
    if let Some(session) = session {
        connections.take_over(&runtime.hub, session, principal);
    }
    let seat = match connections.admission.admit(principal, caller.address) {
        Ok(seat) => seat,
        Err(refusal) => return refuse(refusal, parts, wait),
    };
    let mut subscription = match runtime.hub.subscribe(spec, start) {
        Ok(subscription) => subscription,
        Err(refused) => return refuse(full_or_closed(refused), parts, wait),
    };
    if let Some(rate) = max_rate {
        subscription.limit_rate(rate);
    }
    let is_gzip = gzip.is_some() && subscription.compress();
    let session = session.unwrap_or_else(|| Session::random(runtime.clock));
    let position = subscription.position().to_string();
    let token = tokens.issue(principal, &selection.to_query(session), &position);
    let names = selection.names.clone();
    let newcomer = Newcomer {
        transport: "sse",
        principal,
        address: caller.address,
        session,
        selection,
    };
    let connection = connections.enter(seat, &subscription, newcomer);
    let first = Established {
        connection_id: &connection.name(),
        reconnect_token: token.as_deref(),
        channels: &names,
        heartbeat_ms: runtime.config.heartbeat_interval.as_millis() as u64,
        instance: &runtime.config.instance,
        resume: subscription.resume(),
        timestamp: runtime.clock.unix_seconds(),
    };
    let first = sse::established(&first, &subscription);
    let body = SseBody::new(first, subscription, gzip);
    Ok(head(
        OwnBody::stream(QuietBody::new(body)),
        token.as_deref(),
        is_gzip,
    ))
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
    let all = selection.names.iter().any(|name| name == "all");
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
    let names = if all {
        runtime.hub.channel_names()
    } else {
        selection.names.clone()
    };
    for name in &names {
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

pub(crate) fn unknown_channel(hub: &Hub, name: &str) -> Refusal {
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
fn refuse(refusal: Refusal, parts: &Parts, wait: Duration) -> Result<Answer, Refusal> {
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
