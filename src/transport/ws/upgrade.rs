//! Upgrade: from a request to a connection.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request::Parts};
use hyper::{ext::Protocol, upgrade::OnUpgrade};

use super::{
    codec::{
        extensions::Deflate,
        handshake::{self, Accepted, Encoding},
    },
    reading::Reading,
    session::{Lobby, Opening, Session, Terms},
};
use crate::{
    access::Principal,
    hub::{Form, Start},
    middleware::OwnBody,
    transport::{
        answer::{Answer, Refusal},
        forms::{WS_DEFLATED_FORM, WS_PACKED_FORM, WS_TEXT_FORM},
        params,
        query::{self, Query},
        router::Shared,
        sse,
        stream::Wanted,
    },
};

/// `/ws…`: answers with the handshake, and leaves a connection behind.
pub(crate) async fn open(
    shared: &Arc<Shared>,
    parts: &Parts,
    rest: &str,
    query: Query,
) -> Result<Answer, Refusal> {
    let protocol = parts.extensions.get::<Protocol>().map(Protocol::as_str);
    let accepted = handshake::accept(&parts.method, parts.version, protocol, &parts.headers, true)?;
    let (mut names, tenant) = place(rest)?;
    if names.is_empty() {
        let listed = query
            .get_text("channels")
            .or_else(|| query.get_text("metrics"));
        names = params::list(listed).map(ToOwned::to_owned).collect();
    }
    let Some(upgrade) = parts.extensions.get::<OnUpgrade>().cloned() else {
        return Err(Refusal::new(
            StatusCode::NOT_IMPLEMENTED,
            "no_upgrades",
            "the server hands over no upgraded connections (hyper: serve_connection_with_upgrades, or with_upgrades)",
        ));
    };

    let principal = match &accepted.bearer {
        Some(token) => Some(shared.gate.admit_token(parts, &token.0).await?),
        None => match shared.gate.admit(parts).await {
            Ok(principal) => Some(principal),
            // No credentials: they may come in the first message. Wrong ones are refused.
            Err(refusal) if refusal.code() == "unauthorized" => None,
            Err(refusal) => return Err(refusal.into()),
        },
    };
    let terms = Terms {
        encoding: accepted.encoding,
        deflate: accepted.deflate.is_some(),
    };
    let form = form_of(accepted.encoding, accepted.deflate);
    let mut reading = Reading::new(names, &query, tenant.clone(), form);
    let mut start = params::start(&parts.headers, &query);

    let opening = match principal {
        None => Opening::Lobby(Lobby::enter(&shared.runtime).ok_or_else(|| {
            Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too_many_clients",
                "too many connections have yet to authenticate",
            )
            .with_header(header::RETRY_AFTER, HeaderValue::from_static("5"))
        })?),
        Some(principal) => {
            if let Some(token) = query.get_text("token") {
                (reading, start) = resumed(
                    shared, &principal, token, &query, parts, reading, tenant, form,
                )?;
            }
            let spec = reading.spec(&shared.runtime, &principal)?;
            let address = shared.gate.client_ip(parts);
            let subscription = reading
                .enter(shared, &principal, address, spec, start)
                .map_err(|refusal| later(refusal, shared))?;
            Opening::Known {
                principal,
                subscription,
            }
        }
    };
    let (answer, session) = {
        let mut answer = handshake_answer(&accepted);
        let session = Session::new(
            shared.clone(),
            upgrade,
            terms,
            reading,
            start,
            slim(parts),
            opening,
        );
        if let Some(Ok(token)) = session.reconnect_token().map(HeaderValue::try_from) {
            answer.headers_mut().insert("x-reconnect-token", token);
        }
        (answer, session)
    };
    shared.runtime.spawn(session);
    Ok(answer)
}

/// What the path asks for: channels, and the only tenant.
fn place(rest: &str) -> Result<(Vec<String>, Option<Arc<str>>), Refusal> {
    let nothing = || Refusal::not_found("there is nothing at this path");
    let segment = rest.trim_start_matches('/');
    if segment.is_empty() {
        return Ok((Vec::new(), None));
    }
    match segment.split_once('/') {
        None if segment != "tenant" => Ok((vec![segment.to_owned()], None)),
        Some(("tenant", id)) if !id.is_empty() && !id.contains('/') => {
            let id = query::decode(&id.replace('+', "%2B")).ok_or_else(nothing)?;
            Ok((vec!["all".to_owned()], Some(id.into())))
        }
        _ => Err(nothing()),
    }
}

/// What a reconnect token says. One that is no good any more gives a fresh session, which says that the old one is lost.
#[allow(clippy::too_many_arguments)]
fn resumed(
    shared: &Shared,
    principal: &Principal,
    token: &str,
    query: &Query,
    parts: &Parts,
    reading: Reading,
    tenant: Option<Arc<str>>,
    form: Form,
) -> Result<(Reading, Start), Refusal> {
    match shared.gate.reconnect_tokens().verify(principal, token) {
        Ok(resume) => {
            let wanted = Wanted::resumed(resume, query, parts)?;
            Ok((
                Reading::new(wanted.selection.names, &wanted.query, tenant, form),
                wanted.start,
            ))
        }
        Err(_) => Ok((reading, Start::Unknown)),
    }
}

/// Readers whose window is too small for what is deflated for everybody get plain frames.
fn form_of(encoding: Encoding, deflate: Option<Deflate>) -> Form {
    match (encoding, deflate) {
        (Encoding::MessagePack, _) => WS_PACKED_FORM,
        (Encoding::Json, Some(deflate)) if deflate.takes(usize::MAX) => WS_DEFLATED_FORM,
        (Encoding::Json, _) => WS_TEXT_FORM,
    }
}

fn handshake_answer(accepted: &Accepted) -> Answer {
    let mut answer = Response::new(OwnBody::empty());
    *answer.status_mut() = accepted.status();
    accepted.write_headers(answer.headers_mut());
    answer
}

/// The head as a later `auth` needs it: without what only this request was about. It is kept as long as the
/// connection, so it is kept small.
fn slim(parts: &Parts) -> Parts {
    let mut slim = parts.clone();
    slim.extensions.remove::<OnUpgrade>();
    let about_this = |name: &header::HeaderName| {
        let name = name.as_str();
        name.starts_with("sec-websocket-")
            || name.starts_with("accept")
            || [
                "connection",
                "upgrade",
                "cookie",
                "authorization",
                "cache-control",
                "pragma",
                "user-agent",
            ]
            .contains(&name)
    };
    let kept: Vec<_> = parts
        .headers
        .iter()
        .filter(|(name, _)| !about_this(name))
        .collect();
    let mut headers = HeaderMap::with_capacity(kept.len());
    for (name, value) in kept {
        headers.append(name.clone(), value.clone());
    }
    slim.headers = headers;
    slim
}

fn later(refusal: Refusal, shared: &Shared) -> Refusal {
    let seconds = sse::RETRY
        .pick(shared.runtime.clock.now_us())
        .as_secs()
        .max(1);
    refusal.with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
}

impl From<handshake::Refusal> for Refusal {
    fn from(refusal: handshake::Refusal) -> Self {
        let mut headers = HeaderMap::new();
        refusal.write_headers(&mut headers);
        let mut answer = Self::new(refusal.status, refusal.code, refusal.message);
        for (name, value) in &headers {
            answer = answer.with_header(name.clone(), value.clone());
        }
        answer
    }
}
