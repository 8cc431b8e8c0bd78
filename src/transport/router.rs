//! Router: answers our own paths. Access is checked here, before any surface; a new one cannot forget it.

use std::{future::Future, net::IpAddr, pin::Pin, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header, request::Parts};

#[cfg(feature = "dashboard")]
use super::dashboard::{Dashboard, Mount as PageMount};
use super::{
    answer::{self, Answer, Refusal},
    body,
    caller::Caller,
    compress,
    connections::Connections,
    params,
    query::Query,
    rest,
    route::{Mounts, Route},
    stream, taken,
    wanted::Wanted,
};
use crate::{
    access::{Admitted, Gate, GateSettings, Principal},
    error::Error,
    middleware::{Own, OwnBody, OwnRequestBody},
    runtime::{Keeper, Runtime},
};

/// Our paths, ready to answer.
#[derive(Debug)]
pub(crate) struct Router {
    keeper: Arc<Keeper>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) mounts: Mounts,
    pub(crate) gate: Gate,
    pub(crate) connections: Arc<Connections>,
    #[cfg(feature = "dashboard")]
    page: Dashboard,
}

impl Router {
    pub(crate) fn new(keeper: Arc<Keeper>) -> Result<Self, Error> {
        let runtime = keeper.runtime.clone();
        let config = &runtime.config;
        let mounts = Mounts {
            stream: config.stream_path.clone(),
            ws: (cfg!(feature = "ws") && config.ws_enabled).then(|| config.ws_path.clone()),
            api: config.api_path.clone(),
            page: cfg!(feature = "dashboard").then(|| config.dashboard_path.clone()),
        };
        let settings = GateSettings {
            access: &config.access,
            cors: &config.cors,
            allowed_origins: &config.allowed_origins,
            trusted_proxies: &config.trusted_proxies,
            token_key: config.token_key.as_ref(),
            denials_per_minute: config.denials_per_minute,
        };
        let gate = Gate::new(&settings, runtime.clock)?;
        let connections = Connections::new(&runtime);
        #[cfg(feature = "dashboard")]
        let page = Dashboard::new(&PageMount {
            page: config.dashboard_path.clone(),
            api: mounts.api.clone(),
            stream: mounts.stream.clone(),
            title: config.title.clone(),
            compressed: runtime.hub.compressor().is_some(),
            ..PageMount::default()
        });
        let shared = Shared {
            #[cfg(feature = "dashboard")]
            page,
            runtime,
            mounts,
            gate,
            connections,
        };
        Ok(Self {
            keeper,
            shared: Arc::new(shared),
        })
    }

    pub(crate) fn keeper(&self) -> &Arc<Keeper> {
        &self.keeper
    }
}

impl Own for Router {
    #[inline]
    fn claims(&self, path: &str) -> bool {
        self.shared.mounts.claims(path)
    }

    fn call(
        &self,
        parts: Parts,
        body: OwnRequestBody,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        self.shared.runtime.start();
        let shared = self.shared.clone();
        Box::pin(shared.answer(parts, body))
    }
}

impl Shared {
    /// The one way from a request to an answer: preflight, route, access, surface, CORS.
    async fn answer(self: Arc<Self>, parts: Parts, mut body: OwnRequestBody) -> Answer {
        let mut answer = self.respond(&parts, &mut body).await;
        body::leave_none(&parts, &mut body, &mut answer).await;
        answer
    }

    /// The address that limits count by; `None` where nobody said it, which the host should know where it counts by it.
    pub(crate) fn client_ip(&self, parts: &Parts) -> Option<IpAddr> {
        let address = self.gate.client_ip(parts);
        if address.is_none() && self.runtime.config.max_clients_per_ip.is_some() {
            self.runtime.warn(self.runtime.warnings.nameless());
        }
        address
    }

    async fn respond(self: &Arc<Self>, parts: &Parts, body: &mut OwnRequestBody) -> Answer {
        if let Some(preflight) = self.gate.preflight(parts) {
            return preflight.map(OwnBody::full);
        }
        let is_head = parts.method == Method::HEAD;
        let mut answer = match self.route(parts, body).await {
            Ok(answer) => answer,
            Err(refusal) => refusal.into_answer(),
        };
        if let Some(compressor) = self.runtime.hub.compressor() {
            let now_us = self.runtime.clock.now_us();
            compress::compress(&**compressor, &parts.headers, &mut answer, now_us);
        }
        self.gate.apply_cors(&parts.headers, answer.headers_mut());
        if is_head {
            answer = without_body(answer);
        }
        answer
    }

    async fn route(
        self: &Arc<Self>,
        parts: &Parts,
        body: &mut OwnRequestBody,
    ) -> Result<Answer, Refusal> {
        let path = parts.uri.path();
        let Some(route) = self.mounts.route(path) else {
            return Err(Refusal::not_found("there is nothing at this path"));
        };
        // A probe has no credentials, and learns nothing but whether to send traffic.
        match route {
            Route::Live => {
                return read_only(parts, || {
                    Ok(answer::data(serde_json::json!({"status": "live"})))
                });
            }
            Route::Ready => return read_only(parts, || rest::ready(&self.runtime)),
            _ => {}
        }
        // The page holds no data, and tells those who may not look what they need.
        #[cfg(feature = "dashboard")]
        if let Route::Page(rest) = route {
            let answer = self
                .page
                .respond(&parts.method, rest, parts.uri.query(), &parts.headers);
            return Ok(answer.map(OwnBody::full));
        }
        let query = Query::parse(parts.uri.query())?;
        #[cfg(feature = "ws")]
        if let Route::Ws(rest) = route {
            taken::check(route, &query)?;
            let now_us = self.runtime.clock.now_us();
            let opened = super::ws::open(self, parts, rest, query).await;
            return opened.map_err(|refusal| stream::retry_later(refusal, now_us));
        }
        if let Route::Stream | Route::StreamChannel(_) | Route::StreamReconnect = route {
            let now_us = self.runtime.clock.now_us();
            return match self.stream(parts, route, query).await {
                Err(refusal) => stream::refuse(refusal, parts, now_us),
                answer => answer,
            };
        }
        let principal = self.gate.admit_without_ticket(parts).await?;
        taken::check(route, &query)?;
        let caller = self.caller(principal, parts);
        match route {
            Route::Ticket => {
                if parts.method != Method::POST {
                    return Err(Refusal::method_not_allowed("POST"));
                }
                rest::ticket(&self.runtime, &caller, body).await
            }
            Route::Connections => read_only(parts, || {
                rest::limit_reads(&caller)?;
                rest::connections(&self.runtime, &caller, &query)
            }),
            Route::Connection(_)
            | Route::Subscribe(_)
            | Route::Unsubscribe(_)
            | Route::Broadcast
            | Route::TestConnection => self.write(&caller, parts, route, body).await,
            _ => read_only(parts, || {
                rest::limit_reads(&caller)?;
                rest::answer(&self.runtime, &self.mounts, &caller, route, &query)
            }),
        }
    }

    /// What changes something, or costs something. Who may not is told before a body is read, and a call is counted
    /// before anything in it is looked at: those that fail cost work as well.
    async fn write(
        &self,
        caller: &Caller<'_>,
        parts: &Parts,
        route: Route<'_>,
        body: &mut OwnRequestBody,
    ) -> Result<Answer, Refusal> {
        let (method, name) = match route {
            Route::Connection(_) => (Method::DELETE, "DELETE"),
            _ => (Method::POST, "POST"),
        };
        if parts.method != method {
            return Err(Refusal::method_not_allowed(name));
        }
        if matches!(route, Route::Broadcast | Route::Connection(_)) {
            caller.principal.require_admin()?;
        }
        rest::limit_rate(caller)?;
        let runtime = &self.runtime;
        if let Route::Connection(id) = route {
            return rest::kick(runtime, caller, id);
        }
        let fields = match route {
            Route::TestConnection => body::optional_fields(body).await?,
            _ => body::fields(body).await?,
        };
        match route {
            Route::Subscribe(id) => {
                rest::change(runtime, caller, parts, id, rest::Change::Subscribe, &fields)
            }
            Route::Unsubscribe(id) => rest::change(
                runtime,
                caller,
                parts,
                id,
                rest::Change::Unsubscribe,
                &fields,
            ),
            Route::Broadcast => rest::broadcast(runtime, caller, fields).await,
            _ => rest::test_connection(runtime, &self.mounts, &fields).await,
        }
    }

    pub(super) fn caller(&self, principal: Principal, parts: &Parts) -> Caller<'_> {
        Caller {
            principal,
            gate: &self.gate,
            connections: &self.connections,
            address: self.client_ip(parts),
        }
    }

    /// A stream, or why not. What it was asked for with a ticket takes that ticket once it is open, and not before:
    /// whoever is told to come back does so with the same URL.
    async fn stream(
        &self,
        parts: &Parts,
        route: Route<'_>,
        query: Query,
    ) -> Result<Answer, Refusal> {
        let Admitted { principal, ticket } = self.gate.admit(parts).await?;
        taken::check(route, &query)?;
        let answer = self.open_stream(&self.caller(principal, parts), parts, route, query)?;
        if let Some(ticket) = ticket {
            ticket.spend();
        }
        Ok(answer)
    }

    fn open_stream(
        &self,
        caller: &Caller<'_>,
        parts: &Parts,
        route: Route<'_>,
        query: Query,
    ) -> Result<Answer, Refusal> {
        if parts.method != Method::GET && parts.method != Method::HEAD {
            return Err(Refusal::method_not_allowed("GET, HEAD"));
        }
        let token = query.get_text("token").map(ToOwned::to_owned);
        let names = match route {
            Route::StreamChannel(name) => vec![name.to_owned()],
            _ => params::channels(&query)?,
        };
        let Some(token) = token else {
            if route == Route::StreamReconnect {
                return Err(Refusal::bad_request(
                    "token",
                    "takes the reconnect token of an earlier stream",
                ));
            }
            let wanted = Wanted::new(names, query, parts);
            return stream::open(&self.runtime, caller, parts, wanted);
        };
        // Never a loop of failures: with a token that is not taken, a fresh session, which says that the old one is lost.
        let wanted = Wanted::by_token(&token, caller, &self.runtime.hub, names, query, parts)?;
        stream::open(&self.runtime, caller, parts, wanted)
    }
}

/// For paths that take GET and HEAD.
fn read_only(
    parts: &Parts,
    answer: impl FnOnce() -> Result<Answer, Refusal>,
) -> Result<Answer, Refusal> {
    if parts.method != Method::GET && parts.method != Method::HEAD {
        return Err(Refusal::method_not_allowed("GET, HEAD"));
    }
    answer()
}

/// The answer to HEAD: the head that GET would give (RFC 9110, section 9.3.2).
fn without_body(mut answer: Answer) -> Answer {
    let Some(len) = answer.body().full_len() else {
        // Of what goes on nobody knows the length; a server would call that of an empty body 0.
        *answer.body_mut() = OwnBody::untold();
        return answer;
    };
    if answer.status() != StatusCode::NO_CONTENT
        && !answer.headers().contains_key(header::CONTENT_LENGTH)
    {
        answer
            .headers_mut()
            .insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    }
    *answer.body_mut() = OwnBody::full(Bytes::new());
    answer
}
