//! Upgrade: from a request to a connection.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header, request::Parts};
use hyper::{ext::Protocol, upgrade::OnUpgrade};

use super::{
    codec::handshake::{self, Accepted, Encoding},
    reading::Reading,
    session::{Entered, Lobby, Opening, Session, Terms},
};
use crate::{
    access::{Admitted, TokenError},
    hub::Form,
    middleware::OwnBody,
    transport::{
        answer::{Answer, Refusal},
        forms::{WS_DEFLATED_FORM, WS_PACKED_DEFLATED_FORM, WS_PACKED_FORM, WS_TEXT_FORM},
        params,
        query::{self, Query},
        router::Shared,
        stream::unknown_channel,
        wanted::Wanted,
    },
};

/// `/ws/reconnect`: no channel may have this name.
const RECONNECT: &str = "reconnect";

/// `/ws…`: answers with the handshake, and leaves a connection behind.
pub(crate) async fn open(
    shared: &Arc<Shared>,
    parts: &Parts,
    rest: &str,
    query: Query,
) -> Result<Answer, Refusal> {
    let protocol = parts.extensions.get::<Protocol>().map(Protocol::as_str);
    let (mut names, tenant) = place(rest)?;
    if names == [RECONNECT] {
        if query.get_text("token").is_none() {
            let what = "takes the reconnect token of an earlier connection";
            return Err(Refusal::bad_request("token", what));
        }
        names.clear();
    }
    if names.is_empty() {
        names = params::channels(&query)?;
    }
    let compression = shared.runtime.config.ws_deflate;
    let accepted = handshake::accept(
        &parts.method,
        parts.version,
        protocol,
        &parts.headers,
        compression,
    );
    let accepted = match accepted {
        Ok(accepted) => accepted,
        Err(refusal) => return Err(no_upgrade(shared, parts, &names, refusal).await),
    };
    // A layer has taken it out, or the server is none of hyper's. hyper itself puts it in with or without upgrades: where
    // it serves without, it answers the handshake and drops the connection, and the session ends with it.
    let Some(upgrade) = parts.extensions.get::<OnUpgrade>().cloned() else {
        return Err(Refusal::new(
            StatusCode::NOT_IMPLEMENTED,
            "no_upgrades",
            "the request came without the means to upgrade it (hyper's OnUpgrade, in its extensions)",
        ));
    };

    let (principal, ticket) = match &accepted.bearer {
        Some(token) => (Some(shared.gate.admit_token(parts, &token.0).await?), None),
        None => match shared.gate.admit(parts).await {
            Ok(Admitted { principal, ticket }) => (Some(principal), ticket),
            // No credentials: they may come in the first message. Wrong ones are refused.
            Err(refusal) if refusal.code() == "unauthorized" => (None, None),
            Err(refusal) => return Err(refusal),
        },
    };
    let form = form_of(accepted.encoding, accepted.deflate.is_some());
    let head = slim(parts);
    let caller = principal.map(|principal| shared.caller(principal, parts));
    let wanted = match (&caller, query.get_text("token")) {
        // Never a loop of failures: with a token that is not taken, a fresh session, which says that the old one is lost.
        (Some(caller), Some(token)) => {
            let hub = &shared.runtime.hub;
            Wanted::by_token(token, caller, hub, names, query.clone(), parts)?
        }
        _ => Wanted::new(names, query.clone(), parts),
    };
    let principal = caller.map(|caller| caller.principal);
    let terms = Terms {
        encoding: accepted.encoding,
        deflate: accepted.deflate.is_some(),
        token_refused: wanted.refused.map(TokenError::as_str),
    };
    let Wanted {
        mut selection,
        start,
        session,
        ..
    } = wanted;
    selection.tenant = tenant.or(selection.tenant);
    let mut reading = Reading::new(selection, form);
    let opening = match principal {
        None => {
            let address = shared.client_ip(parts);
            Opening::Lobby(Lobby::enter(shared, address).ok_or_else(lobby_full)?)
        }
        Some(principal) => {
            let entered = Entered::enter(shared, parts, principal, &mut reading, start, session);
            Opening::Known(entered?)
        }
    };
    // Nothing refuses it any more.
    if let Some(ticket) = ticket {
        ticket.spend();
    }
    let mut answer = handshake_answer(&accepted);
    let session = Session::new(
        shared.clone(),
        upgrade,
        terms,
        reading,
        start,
        head,
        opening,
    );
    if let Some(Ok(token)) = session.reconnect_token().map(HeaderValue::try_from) {
        answer.headers_mut().insert("x-reconnect-token", token);
    }
    shared.runtime.spawn(session);
    Ok(answer)
}

/// What to answer to a request that is none for a WebSocket. Whoever may know what is there is told first that the
/// channel is not, as a stream would tell: another method or header would not help.
async fn no_upgrade(
    shared: &Shared,
    parts: &Parts,
    names: &[String],
    refusal: handshake::Refusal,
) -> Refusal {
    let hub = &shared.runtime.hub;
    let unknown = names
        .iter()
        .find(|name| *name != "all" && hub.channel_id(name).is_none());
    let Some(name) = unknown else {
        return refusal.into();
    };
    match shared.gate.admit_without_ticket(parts).await {
        Ok(principal) => unknown_channel(hub, &principal, name),
        Err(_) => refusal.into(),
    }
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

fn form_of(encoding: Encoding, deflate: bool) -> Form {
    match (encoding, deflate) {
        (Encoding::Json, false) => WS_TEXT_FORM,
        (Encoding::Json, true) => WS_DEFLATED_FORM,
        (Encoding::MessagePack, false) => WS_PACKED_FORM,
        (Encoding::MessagePack, true) => WS_PACKED_DEFLATED_FORM,
    }
}

fn handshake_answer(accepted: &Accepted) -> Answer {
    let mut answer = Response::new(OwnBody::empty());
    *answer.status_mut() = accepted.status();
    accepted.write_headers(answer.headers_mut());
    answer
}

/// The head as a later `auth` needs it: without what only this request was about. It is kept as long as the
/// connection, so it is kept small, and copied: the values of the request are slices of the server's read buffer,
/// which a single one of them would keep.
fn slim(parts: &Parts) -> Parts {
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
        let name = header::HeaderName::from_bytes(name.as_str().as_bytes());
        let value = HeaderValue::from_bytes(value.as_bytes());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let (mut slim, ()) = Request::new(()).into_parts();
    slim.method = parts.method.clone();
    slim.version = parts.version;
    slim.uri = parts.uri.to_string().parse().unwrap_or_default();
    slim.extensions = parts.extensions.clone();
    slim.extensions.remove::<OnUpgrade>();
    slim.headers = headers;
    slim
}

fn lobby_full() -> Refusal {
    Refusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "too_many_clients",
        "too many connections, of all or of this address, have yet to say who they are",
    )
    .with_header(header::RETRY_AFTER, HeaderValue::from_static("5"))
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
