//! The policy: who may look.

mod loopback;

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::SystemTime};

use http::request::Parts;
use serde::{Deserialize, Deserializer, de::Error as _};
#[cfg(feature = "jwt")]
use serde_json::Value;

use self::loopback::loopback;
#[cfg(feature = "jwt")]
use super::jwt::JwtConfig;
use super::{
    credentials::{Credentials, is_token},
    denied::Denied,
    origin::Origins,
    principal::Principal,
    secret::TokenDigest,
};
use crate::{
    error::{Error, Kind},
    refusal::Refusal,
};

/// Who may look at the streams, the API and the page. There is no default.
///
/// Whatever the policy, changing something (broadcasting, kicking a connection, editing rules) takes an admin.
///
/// Tokens are presented in the header `Authorization: Bearer …`, or in the cookie `realtime_token` where a browser
/// cannot send headers. They are compared in constant time, kept as digests, and never logged.
///
/// In a configuration file: `"loopback"`, `"public"`, or
/// `{"bearer": {"viewer_token": "…", "admin_token": "…"}}`, where the admin's token may be left out. With the feature
/// `jwt` also `{"jwt": {"algorithm": "HS256", "key": "…"}}`, with the settings of `JwtConfig` as further members
/// (`issuer`, `audience`, `leeway_seconds`, `user_claim`, `role_claim`, `viewer_role`, `admin_role`, `every_token_views`,
/// `tenant_claim`); the algorithms are HS256, RS256, ES256 and EdDSA, the latter three with a public key in PEM.
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
    #[cfg(feature = "jwt")]
    Jwt(Arc<JwtConfig>),
}

type Check = Arc<
    dyn Fn(Parts) -> Pin<Box<dyn Future<Output = Result<Principal, Denied>> + Send>> + Send + Sync,
>;

impl Access {
    /// What a file's `access` takes.
    #[cfg(not(feature = "jwt"))]
    pub(crate) const TAKES: &str =
        r#""loopback", "public" or {"bearer": {"viewer_token": "…", "admin_token": "…"}}"#;
    /// What a file's `access` takes.
    #[cfg(feature = "jwt")]
    pub(crate) const TAKES: &str = r#""loopback", "public", {"bearer": {"viewer_token": "…", "admin_token": "…"}} or {"jwt": {"algorithm": "…", "key": "…"}}"#;

    /// Only programs and browsers on the same machine. They are admins.
    ///
    /// It has to be certain: the peer's address must be known
    /// (`into_make_service_with_connect_info::<SocketAddr>()`, or [`PeerAddr`](super::PeerAddr)) and a loopback one;
    /// a request that a proxy forwarded is refused, by its forwarding header or because it is HTTP/1.0, which hardly
    /// anything but a proxy speaks; and so is one whose `Host` is a name other than `localhost`, or that the page of
    /// another origin sends, since any web page can make the browser on this machine ask.
    ///
    /// A proxy on this machine that speaks HTTP/1.1, adds no forwarding header and replaces the `Host` (nginx with
    /// nothing but `proxy_pass` and `proxy_http_version 1.1`) can't be told from a local program: behind a proxy, use
    /// another policy.
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
    /// A WebSocket's message `auth` calls it again, with the message's token as `Authorization: Bearer …`, and with what
    /// is kept of the handshake's head as long as the socket is open: no cookies, no `user-agent`, no `accept` headers;
    /// the host's extensions at the first `auth` only, and from then on, when a token prolongs, none but the peer's
    /// address ([`PeerAddr`](super::PeerAddr)). It has ten seconds there.
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

    /// Those who bring a token that another service has signed, and that says who they are and what they may do.
    ///
    /// The library behind it, `jsonwebtoken`, has one backend for the whole process: unless the host has installed one
    /// before, this installs its RustCrypto backend.
    #[cfg(feature = "jwt")]
    #[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
    pub fn jwt(config: JwtConfig) -> Self {
        super::jwt::install_backend();
        let problem = config.problem();
        let mut access = Self::new(Policy::Jwt(Arc::new(config)));
        access.problem = problem;
        access
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
            _ => {
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

    /// Whether a request brings something that can be wrong. Of a hook of the host's nobody knows what it looks at.
    pub(super) fn is_attempt(&self, parts: &Parts) -> bool {
        match &self.policy {
            Policy::Loopback | Policy::Public => false,
            Policy::Check(_) => true,
            _ => !Credentials::of(&parts.headers).is_empty(),
        }
    }

    /// Whether a refusal says that credentials were tried that are not good. A hook of the host's does not say whether it
    /// found any.
    pub(super) fn is_failed_attempt(&self, refusal: &Refusal) -> bool {
        match refusal.code() {
            "invalid_token" => true,
            "unauthorized" => matches!(self.policy, Policy::Check(_)),
            // One that has expired was good once, so it is no guess.
            _ => false,
        }
    }

    /// Who the request's credentials stand for, as the policy sees it.
    #[cfg_attr(not(feature = "jwt"), allow(unused_variables))]
    pub(super) async fn authorize(
        &self,
        parts: &Parts,
        origins: &Origins,
        now: SystemTime,
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
                let credentials = needed(parts)?;
                if let Some(admin) = self.admin_of(&credentials) {
                    return Ok(admin);
                }
                if is_any_of(viewer.as_ref(), &credentials) {
                    return Ok(Principal::viewer("viewer").of_shared_secret());
                }
                Err(invalid_token())
            }
            Policy::Check(check) => Ok(check(parts.clone()).await?),
            #[cfg(feature = "jwt")]
            Policy::Jwt(config) => {
                let credentials = needed(parts)?;
                let mut result = Err(invalid_token());
                for token in credentials.tokens() {
                    result = config.verify(token, now);
                    if result.is_ok() {
                        break;
                    }
                }
                result
            }
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

fn needed(parts: &Parts) -> Result<Credentials<'_>, Refusal> {
    let credentials = Credentials::of(&parts.headers);
    if credentials.is_empty() {
        return Err(Refusal::unauthorized(
            "unauthorized",
            "a token is needed: in the header Authorization: Bearer, or in the cookie realtime_token",
        ));
    }
    Ok(credentials)
}

fn invalid_token() -> Refusal {
    Refusal::invalid_token("invalid_token", "the token is not valid")
}

fn is_any_of(token: Option<&TokenDigest>, credentials: &Credentials<'_>) -> bool {
    token.is_some_and(|token| {
        credentials
            .tokens()
            .iter()
            .any(|candidate| token.matches(candidate))
    })
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.policy {
            Policy::Loopback => "Access::loopback",
            Policy::Public => "Access::public",
            Policy::Bearer(_) => "Access::bearer(…)",
            Policy::Check(_) => "Access::check(…)",
            #[cfg(feature = "jwt")]
            Policy::Jwt(_) => "Access::jwt(…)",
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
            #[cfg(feature = "jwt")]
            Jwt(Value),
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
            #[cfg(feature = "jwt")]
            File::Jwt(value) => Self::jwt(serde_json::from_value(value).map_err(D::Error::custom)?),
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

#[cfg(test)]
mod tests;
