//! The gate: the one question that the router asks before it answers anything.

#[cfg(test)]
mod tests;

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, header, request::Parts};

use super::{
    admitted::{Admitted, Loan},
    attempts::Attempts,
    cors::Cors,
    credentials::{Credentials, is_token},
    origin::{Origins, is_upgrade, needs_check},
    peer::TrustedProxies,
    policy::Access,
    principal::Principal,
    reconnect::ReconnectTokens,
    secret::TokenKey,
    ticket::{TICKET_TTL, Tickets},
};
use crate::{clock::Clock, error::Error, refusal::Refusal};

/// Everything that stands between a request and an answer of ours.
#[derive(Debug)]
pub(crate) struct Gate {
    access: Access,
    origins: Origins,
    cors: Cors,
    proxies: TrustedProxies,
    tickets: Arc<Tickets>,
    reconnect: ReconnectTokens,
    attempts: Option<Attempts>,
    clock: Clock,
}

/// What a gate is made of.
#[derive(Clone, Debug)]
pub(crate) struct GateSettings<'a> {
    pub(crate) access: &'a Access,
    pub(crate) cors: &'a Cors,
    pub(crate) allowed_origins: &'a [String],
    pub(crate) trusted_proxies: &'a [String],
    pub(crate) token_key: Option<&'a TokenKey>,
    pub(crate) denials_per_minute: Option<usize>,
}

impl Gate {
    /// # Errors
    ///
    /// The system has no source of randomness.
    pub(crate) fn new(settings: &GateSettings<'_>, clock: Clock) -> Result<Self, Error> {
        let named = settings.allowed_origins.iter();
        Ok(Self {
            access: settings.access.clone(),
            origins: Origins::new(named.chain(settings.cors.listed())),
            cors: settings.cors.clone(),
            proxies: TrustedProxies::new(settings.trusted_proxies),
            tickets: Arc::new(Tickets::new(clock)),
            reconnect: ReconnectTokens::new(settings.token_key, clock)?,
            attempts: settings
                .denials_per_minute
                .map(|a_minute| Attempts::new(a_minute, clock)),
            clock,
        })
    }

    /// Who asks, or why not. Cancel safe: a ticket is lent, and used up by whoever is let in with it.
    pub(crate) async fn admit(&self, parts: &Parts) -> Result<Admitted, Refusal> {
        self.admit_by(parts, self.ticket_of(parts)).await
    }

    /// The same without tickets: they open streams and sockets, which can send no header, and nothing else. A URL in
    /// somebody's log must not be worth a new ticket, or an admin's act.
    pub(crate) async fn admit_without_ticket(&self, parts: &Parts) -> Result<Principal, Refusal> {
        Ok(self.admit_by(parts, None).await?.principal)
    }

    async fn admit_by(&self, parts: &Parts, ticket: Option<&str>) -> Result<Admitted, Refusal> {
        self.check_origin(parts)?;
        let admitted = match ticket.and_then(|text| Loan::take(&self.tickets, text)) {
            Some(admitted) => admitted,
            // A browser repeats its URL, used ticket and all, when it reconnects; a cookie may still let it in.
            None => match self.authorize(parts).await {
                Err(refusal) if ticket.is_some() && refusal.status() == 401 => {
                    return Err(Refusal::invalid_token(
                        "invalid_ticket",
                        "the ticket is unknown, used or older than 30 seconds: ask for a new one",
                    ));
                }
                result => Admitted {
                    principal: result?,
                    ticket: None,
                },
            },
        };
        self.check_expiry(&admitted.principal)?;
        Ok(admitted)
    }

    /// Asks the policy, unless too many wrong credentials have come from there.
    async fn authorize(&self, parts: &Parts) -> Result<Principal, Refusal> {
        let now = UNIX_EPOCH + Duration::from_millis(self.clock.unix_ms());
        let attempts = self.attempts.as_ref();
        let attempts = attempts.filter(|_| self.access.is_attempt(parts));
        // Where nobody says the address, all would be one, and one could keep out all.
        let attempts = attempts.zip(self.client_ip(parts));
        if let Some((attempts, address)) = attempts
            && let Some(wait) = attempts.wait(address, &parts.headers)
        {
            let sentence =
                "this address has tried more wrong credentials than denials_per_minute allows";
            // Rounded up, so that it is not too early then.
            return Err(Refusal::too_many("too_many_attempts", sentence)
                .with_retry_after(wait + Duration::from_secs(1)));
        }
        let result = self.access.authorize(parts, &self.origins, now).await;
        if let Some((attempts, address)) = attempts {
            match &result {
                Ok(_) => attempts.succeeded(&parts.headers),
                Err(refusal) if self.access.is_failed_attempt(refusal) => attempts.failed(address),
                Err(_) => {}
            }
        }
        result
    }

    /// The same with a token that came in a message, as a WebSocket's `auth` does, instead of the request's own
    /// credentials.
    #[cfg_attr(not(feature = "ws"), allow(dead_code))]
    pub(crate) async fn admit_token(
        &self,
        parts: &Parts,
        token: &str,
    ) -> Result<Principal, Refusal> {
        let invalid = || Refusal::invalid_token("invalid_token", "the token is not valid");
        if !is_token(token) {
            return Err(invalid());
        }
        let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| invalid())?;
        value.set_sensitive(true);
        let mut parts = parts.clone();
        parts.headers.insert(header::AUTHORIZATION, value);
        self.check_origin(&parts)?;
        let principal = self.authorize(&parts).await?;
        self.check_expiry(&principal)?;
        Ok(principal)
    }

    /// A ticket for the principal at this address, and how long it lives; `Err` (503) where the system has no randomness.
    pub(crate) fn issue_ticket(
        &self,
        principal: &Principal,
        address: Option<IpAddr>,
        channels: Option<&[Arc<str>]>,
    ) -> Result<(String, Duration), Refusal> {
        match self.tickets.issue(principal, address, channels) {
            Ok(text) => Ok((text, TICKET_TTL)),
            Err(error) => Err(Refusal::unavailable("no_randomness", error.to_string())),
        }
    }

    pub(crate) fn reconnect_tokens(&self) -> &ReconnectTokens {
        &self.reconnect
    }

    /// Drops the host's extensions of a head that is kept, except for who the peer is: they may hold anything, such as
    /// axum's copy of the target, which is a slice of the server's read buffer and keeps all of it.
    #[cfg(feature = "ws")]
    pub(crate) fn forget_extensions(parts: &mut Parts) {
        let peer = super::peer::peer_ip(parts);
        parts.extensions = http::Extensions::new();
        if let Some(ip) = peer {
            parts.extensions.insert(super::PeerAddr((ip, 0).into()));
        }
    }

    /// The address that limits for each address count by; `None` where nobody said it.
    pub(crate) fn client_ip(&self, parts: &Parts) -> Option<IpAddr> {
        self.proxies.client_ip(parts)
    }

    /// See [`Cors::preflight`]. A preflight carries no credentials, so it is answered before anybody is admitted.
    pub(crate) fn preflight(&self, parts: &Parts) -> Option<Response<Bytes>> {
        self.cors.preflight(parts)
    }

    /// See [`Cors::apply`]; for every answer, refusals too, so that a page can read why.
    pub(crate) fn apply_cors(&self, request: &HeaderMap, response: &mut HeaderMap) {
        self.cors.apply(request, response);
    }

    /// A page that could make the browser put an `Authorization` header on a request has been allowed to by CORS;
    /// sockets know neither.
    fn check_origin(&self, parts: &Parts) -> Result<(), Refusal> {
        let by_header = || Credentials::of(&parts.headers).is_explicit();
        if needs_check(parts) && (is_upgrade(parts) || !by_header()) {
            self.origins.check(parts)?;
        }
        Ok(())
    }

    /// With [`Access::loopback`] a ticket is no way around being on the machine.
    fn ticket_of<'a>(&self, parts: &'a Parts) -> Option<&'a str> {
        if self.access.is_loopback() || parts.method == Method::HEAD {
            return None;
        }
        parts
            .uri
            .query()?
            .split('&')
            .find_map(|pair| pair.strip_prefix("ticket="))
    }

    fn check_expiry(&self, principal: &Principal) -> Result<(), Refusal> {
        let now = UNIX_EPOCH + Duration::from_millis(self.clock.unix_ms());
        if principal
            .expiry()
            .is_some_and(|expiry: SystemTime| expiry <= now)
        {
            return Err(Refusal::invalid_token(
                "token_expired",
                "the credentials have expired",
            ));
        }
        Ok(())
    }
}
