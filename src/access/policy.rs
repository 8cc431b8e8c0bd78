//! The policy: who may look.

use std::{fmt, future::Future, net::IpAddr, pin::Pin, sync::Arc};

use http::request::Parts;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{
    credentials::{Credentials, is_token},
    origin::{Origins, host_of},
    peer::{forwarding_header, peer_ip},
    principal::Principal,
    refusal::{Denied, Refusal},
    secret::TokenDigest,
};
use crate::error::{Error, Kind};

/// Who may look at the streams, the API and the page. There is no default.
///
/// Whatever the policy, changing something (broadcasting, kicking a connection, editing rules) takes an admin.
///
/// Tokens are presented in the header `Authorization: Bearer …`, or in the cookie `realtime_token` where a browser
/// cannot send headers. They are compared in constant time, kept as digests, and never logged.
///
/// In a configuration file: `"loopback"`, `"public"`, or
/// `{"bearer": {"viewer_token": "…", "admin_token": "…"}}`, where the admin's token may be left out.
#[derive(Clone)]
pub struct Access {
    policy: Policy,
    admin: Option<TokenDigest>,
    /// What is wrong with what was given; found when the configuration is checked.
    problem: Option<&'static str>,
}

#[derive(Clone)]
enum Policy {
    Loopback,
    Public,
    Bearer(Option<TokenDigest>),
    Check(Check),
}

type Check = Arc<
    dyn Fn(Parts) -> Pin<Box<dyn Future<Output = Result<Principal, Denied>> + Send>> + Send + Sync,
>;

impl Access {
    /// What a file's `access` takes.
    pub(crate) const TAKES: &str =
        r#""loopback", "public" or {"bearer": {"viewer_token": "…", "admin_token": "…"}}"#;

    /// Only programs and browsers on the same machine. They are admins.
    ///
    /// It has to be certain: the peer's address must be known
    /// (`into_make_service_with_connect_info::<SocketAddr>()`, or [`PeerAddr`](super::PeerAddr)) and a loopback one;
    /// a request that a proxy forwarded is refused; and so is one whose `Host` is a name other than `localhost`, or
    /// that the page of another origin sends, since any web page can make the browser on this machine ask.
    pub fn loopback() -> Self {
        Self::new(Policy::Loopback)
    }

    /// Everybody, as anonymous viewers: for services whose own layers guard these paths, or that have nothing to
    /// hide. Nobody is an admin, unless a token is given with [`admin`](Self::admin).
    pub fn public() -> Self {
        Self::new(Policy::Public)
    }

    /// Those who have the token may look; [`admin`](Self::admin) adds a token for those who may do more.
    ///
    /// A token takes 1 to 4096 visible ASCII characters without `"`, `,`, `;` and `\`. It should be long and random:
    /// `openssl rand -hex 32`.
    pub fn bearer(viewer_token: impl AsRef<str>) -> Self {
        let mut access = Self::new(Policy::Bearer(None));
        let token = access.digest(viewer_token.as_ref());
        access.policy = Policy::Bearer(token);
        access
    }

    /// Whatever the hook decides: a session, an API key, the host's own users.
    ///
    /// The hook is called once for each stream, socket and API call with a copy of the request's head, extensions
    /// included. Nothing is sent before it has decided, and its future is dropped when the client leaves.
    ///
    /// ```
    /// # use tower_realtime::{Access, Denied, Principal};
    /// let access = Access::check(|parts| async move {
    ///     match parts.headers.get("x-api-key") {
    ///         Some(key) if key == "ana's key" => Ok(Principal::viewer("ana").tenant("acme")),
    ///         Some(_) => Err(Denied::forbidden()),
    ///         None => Err(Denied::unauthenticated()),
    ///     }
    /// });
    /// ```
    pub fn check<F, Fut>(hook: F) -> Self
    where
        F: Fn(Parts) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Principal, Denied>> + Send + 'static,
    {
        Self::new(Policy::Check(Arc::new(move |parts| Box::pin(hook(parts)))))
    }

    /// Makes those admins who have this token. It goes with [`bearer`](Self::bearer) and [`public`](Self::public), and
    /// must differ from the viewers' token.
    #[must_use]
    pub fn admin(mut self, admin_token: impl AsRef<str>) -> Self {
        let token = admin_token.as_ref();
        match &self.policy {
            Policy::Bearer(Some(viewer)) if viewer.matches(token) => {
                self.reject("takes different tokens for viewers and for admins");
            }
            Policy::Bearer(_) | Policy::Public => {}
            Policy::Loopback | Policy::Check(_) => {
                self.reject("takes an admin token with bearer and with public only");
            }
        }
        self.admin = self.digest(token);
        self
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        match self.problem {
            Some(problem) => Err(Error::new(Kind::Config, format!("access {problem}"))),
            None => Ok(()),
        }
    }

    pub(super) fn is_loopback(&self) -> bool {
        matches!(self.policy, Policy::Loopback)
    }

    /// Who the request's credentials stand for, as the policy sees it.
    pub(super) async fn authorize(
        &self,
        parts: &Parts,
        origins: &Origins,
    ) -> Result<Principal, Refusal> {
        match &self.policy {
            Policy::Loopback => loopback(parts, origins),
            Policy::Public => {
                let credentials = Credentials::of(&parts.headers);
                // Others' credentials, of the layers that guard us, are none of our business.
                Ok(self
                    .admin_of(&credentials)
                    .unwrap_or_else(Principal::anonymous))
            }
            Policy::Bearer(viewer) => {
                let credentials = Credentials::of(&parts.headers);
                if credentials.is_empty() {
                    return Err(Refusal::unauthorized(
                        "unauthorized",
                        "a token is needed: in the header Authorization: Bearer, or in the cookie realtime_token",
                    ));
                }
                if let Some(admin) = self.admin_of(&credentials) {
                    return Ok(admin);
                }
                if is_any_of(viewer.as_ref(), &credentials) {
                    return Ok(Principal::viewer("viewer"));
                }
                Err(Refusal::invalid_token(
                    "invalid_token",
                    "the token is not valid",
                ))
            }
            Policy::Check(check) => Ok(check(parts.clone()).await?),
        }
    }

    fn admin_of(&self, credentials: &Credentials<'_>) -> Option<Principal> {
        is_any_of(self.admin.as_ref(), credentials).then(|| Principal::admin("admin"))
    }

    fn new(policy: Policy) -> Self {
        Self {
            policy,
            admin: None,
            problem: None,
        }
    }

    fn digest(&mut self, token: &str) -> Option<TokenDigest> {
        if !is_token(token) {
            self.reject(
                "takes tokens of 1 to 4096 visible ASCII characters without spaces, quotes, commas, semicolons and backslashes",
            );
            return None;
        }
        let digest = TokenDigest::new(token).ok();
        if digest.is_none() {
            self.reject("needs a source of randomness, and the system has none");
        }
        digest
    }

    fn reject(&mut self, problem: &'static str) {
        self.problem.get_or_insert(problem);
    }
}

fn is_any_of(token: Option<&TokenDigest>, credentials: &Credentials<'_>) -> bool {
    token.is_some_and(|token| {
        credentials
            .tokens()
            .iter()
            .any(|candidate| token.matches(candidate))
    })
}

fn loopback(parts: &Parts, origins: &Origins) -> Result<Principal, Refusal> {
    let Some(peer) = peer_ip(parts) else {
        return Err(Refusal::not_loopback(
            "peer_unknown",
            "Access::loopback() needs the peer's address: serve with \
             axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()), \
             or insert tower_realtime::PeerAddr into the request's extensions",
        ));
    };
    if !peer.is_loopback() {
        return Err(Refusal::not_loopback(
            "not_loopback",
            "Access::loopback() lets in this machine only: ask from 127.0.0.1, or configure \
             Access::bearer(viewer_token)",
        ));
    }
    if let Some(name) = forwarding_header(&parts.headers) {
        return Err(Refusal::not_loopback(
            "forwarded",
            format!(
                "Access::loopback() lets in no forwarded request, and this one has the header {name}: \
                 behind a proxy, configure Access::bearer(viewer_token)"
            ),
        ));
    }
    // A name that resolves to 127.0.0.1 makes a foreign page our own origin (DNS rebinding). No browser leaves the
    // host out, so a request without one comes from a program.
    let hosts = parts
        .headers
        .get_all(http::header::HOST)
        .iter()
        .map(|host| host.to_str().unwrap_or(""))
        .chain(host_of(parts));
    for host in hosts {
        if !is_local_host(host) {
            return Err(Refusal::not_loopback(
                "host_not_local",
                "Access::loopback() lets in requests to localhost, 127.0.0.1 and [::1] only, not to other names",
            ));
        }
    }
    if origins.check(parts).is_err() && parts.headers.contains_key(http::header::ORIGIN) {
        return Err(Refusal::not_loopback(
            "cross_origin",
            "Access::loopback() lets in no page of another origin; if that page is trusted, add its origin to allowed_origins",
        ));
    }
    Ok(Principal::admin("loopback"))
}

/// `localhost` or a loopback address, with or without a port.
fn is_local_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, port)) => (name, port),
            None => return false,
        },
        None => match host.find(':') {
            Some(colon) => host.split_at(colon),
            None => (host, ""),
        },
    };
    let port_fits = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    let local = name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback());
    port_fits && local
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.policy {
            Policy::Loopback => "Access::loopback",
            Policy::Public => "Access::public",
            Policy::Bearer(_) => "Access::bearer(…)",
            Policy::Check(_) => "Access::check(…)",
        })?;
        if self.admin.is_some() {
            f.write_str(".admin(…)")?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Access {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum File {
            Loopback,
            Public,
            Bearer(Bearer),
        }

        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Bearer {
            viewer_token: String,
            admin_token: Option<String>,
        }

        // serde's own messages quote what they found, and that may be a token in the wrong place.
        let file = File::deserialize(deserializer)
            .map_err(|_| D::Error::custom(format!("access takes {}", Self::TAKES)))?;
        let access = match file {
            File::Loopback => Self::loopback(),
            File::Public => Self::public(),
            File::Bearer(bearer) => {
                let access = Self::bearer(bearer.viewer_token);
                match bearer.admin_token {
                    Some(admin) => access.admin(admin),
                    None => access,
                }
            }
        };
        access.validate().map_err(D::Error::custom)?;
        Ok(access)
    }
}
