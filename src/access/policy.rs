//! The policy: who may look.

use std::{fmt, future::Future, net::IpAddr, pin::Pin, sync::Arc};

use http::request::Parts;
use serde::{Deserialize, Deserializer, de::Error as _};
#[cfg(feature = "jwt")]
use serde_json::Value;

#[cfg(feature = "jwt")]
use super::jwt::JwtConfig;
use super::{
    credentials::{Credentials, is_token},
    denied::Denied,
    origin::{Origins, host_of},
    peer::{forwarding_header, peer_ip},
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
                let credentials = needed(parts)?;
                if let Some(admin) = self.admin_of(&credentials) {
                    return Ok(admin);
                }
                if is_any_of(viewer.as_ref(), &credentials) {
                    return Ok(Principal::viewer("viewer"));
                }
                Err(invalid_token())
            }
            Policy::Check(check) => Ok(check(parts.clone()).await?),
            #[cfg(feature = "jwt")]
            Policy::Jwt(config) => {
                let credentials = needed(parts)?;
                let mut result = Err(invalid_token());
                for token in credentials.tokens() {
                    result = config.verify(token);
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
    if parts.version < http::Version::HTTP_11 {
        return Err(Refusal::not_loopback(
            "forwarded",
            "Access::loopback() lets in no HTTP/1.0 request, as nginx forwards them by default: behind a proxy, \
             configure Access::bearer(viewer_token)",
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
mod tests {
    #[cfg(feature = "axum")]
    use std::net::SocketAddr;

    use http::Request;

    use super::*;
    use crate::access::PeerAddr;

    const LOCAL: &str = "127.0.0.1:4000";

    fn request(peer: Option<&str>, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::get("/stream/stats");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        if let Some(peer) = peer {
            parts.extensions.insert(PeerAddr(peer.parse().unwrap()));
        }
        parts
    }

    async fn ask(access: &Access, parts: &Parts) -> Result<Principal, Refusal> {
        access.authorize(parts, &Origins::default()).await
    }

    #[track_caller]
    fn refused(result: Result<Principal, Refusal>, status: u16, code: &str) -> Refusal {
        let refusal = result.unwrap_err();
        assert_eq!((refusal.status().as_u16(), refusal.code()), (status, code));
        refusal
    }

    #[tokio::test]
    async fn loopback_lets_this_machine_in_as_admin() {
        for (peer, headers) in [
            (LOCAL, vec![]),
            (LOCAL, vec![("host", "localhost:3000")]),
            (LOCAL, vec![("host", "LOCALHOST")]),
            ("127.3.4.5:1", vec![("host", "127.0.0.1:3000")]),
            ("[::1]:4000", vec![("host", "[::1]:3000")]),
            ("[::1]:4000", vec![("host", "[::1]")]),
            ("[::ffff:127.0.0.1]:4000", vec![("host", "localhost")]),
            (
                LOCAL,
                vec![
                    ("host", "localhost:3000"),
                    ("origin", "http://localhost:3000"),
                ],
            ),
        ] {
            let principal = ask(&Access::loopback(), &request(Some(peer), &headers))
                .await
                .unwrap();
            assert!(principal.is_admin());
            assert_eq!(principal.id(), "loopback");
        }
        let http2 = Request::get("http://localhost:3000/stream")
            .body(())
            .unwrap();
        let (mut parts, ()) = http2.into_parts();
        parts.extensions.insert(PeerAddr(LOCAL.parse().unwrap()));
        assert!(ask(&Access::loopback(), &parts).await.is_ok());
    }

    #[cfg(feature = "axum")]
    #[tokio::test]
    async fn loopback_reads_the_connect_info_of_axum() {
        for (peer, allowed) in [(LOCAL, true), ("192.0.2.1:4000", false)] {
            let mut parts = request(None, &[]);
            let peer: SocketAddr = peer.parse().unwrap();
            parts.extensions.insert(axum::extract::ConnectInfo(peer));
            assert_eq!(ask(&Access::loopback(), &parts).await.is_ok(), allowed);
        }
    }

    #[tokio::test]
    async fn loopback_takes_http_1_0_for_a_proxy() {
        let mut parts = request(Some(LOCAL), &[("host", "127.0.0.1:3000")]);
        assert!(ask(&Access::loopback(), &parts).await.is_ok());
        parts.version = http::Version::HTTP_10;
        let refusal = ask(&Access::loopback(), &parts).await.unwrap_err();
        assert_eq!(
            (refusal.status().as_u16(), refusal.code()),
            (403, "forwarded")
        );
    }

    #[tokio::test]
    async fn loopback_refuses_everything_else_and_says_why() {
        let local = |headers: &[(&str, &str)]| request(Some(LOCAL), headers);
        for (parts, code, advice) in [
            (
                request(None, &[]),
                "peer_unknown",
                "into_make_service_with_connect_info::<SocketAddr>()",
            ),
            (
                request(Some("192.0.2.1:4000"), &[]),
                "not_loopback",
                "Access::bearer(viewer_token)",
            ),
            (
                request(Some("[::ffff:192.0.2.1]:4000"), &[]),
                "not_loopback",
                "127.0.0.1",
            ),
            (
                local(&[("x-forwarded-for", "")]),
                "forwarded",
                "x-forwarded-for",
            ),
            (
                local(&[("host", "example.com")]),
                "host_not_local",
                "localhost",
            ),
            (
                local(&[("host", "localhost.evil.example")]),
                "host_not_local",
                "",
            ),
            (
                local(&[("host", "localhost:80.evil.example")]),
                "host_not_local",
                "",
            ),
            (
                local(&[("host", "127.0.0.1.evil.example")]),
                "host_not_local",
                "",
            ),
            (local(&[("host", "")]), "host_not_local", ""),
            (local(&[("host", "[::1")]), "host_not_local", ""),
            (local(&[("host", "0.0.0.0")]), "host_not_local", ""),
            (
                local(&[("host", "localhost"), ("host", "evil.example")]),
                "host_not_local",
                "",
            ),
            (
                local(&[("host", "localhost"), ("origin", "https://evil.example")]),
                "cross_origin",
                "allowed_origins",
            ),
            (
                local(&[
                    ("host", "localhost:3000"),
                    ("origin", "http://localhost:5173"),
                ]),
                "cross_origin",
                "",
            ),
            (
                local(&[("host", "localhost"), ("origin", "null")]),
                "cross_origin",
                "",
            ),
        ] {
            let refusal = refused(ask(&Access::loopback(), &parts).await, 403, code);
            assert!(
                refusal.sentence().contains(advice),
                "{}",
                refusal.sentence()
            );
            assert_eq!(refusal.header("x-realtime-denied"), Some("not-loopback"));
            assert_eq!(refusal.header("www-authenticate"), None);
        }
        for name in [
            "forwarded",
            "via",
            "x-real-ip",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-forwarded-anything",
            "x-client-ip",
            "cf-connecting-ip",
            "true-client-ip",
            "x-envoy-external-address",
        ] {
            let parts = local(&[(name, "127.0.0.1"), ("host", "localhost")]);
            refused(ask(&Access::loopback(), &parts).await, 403, "forwarded");
        }
        let authority = Request::get("http://evil.example/stream")
            .header("host", "localhost")
            .body(())
            .unwrap();
        let (mut parts, ()) = authority.into_parts();
        parts.extensions.insert(PeerAddr(LOCAL.parse().unwrap()));
        refused(
            ask(&Access::loopback(), &parts).await,
            403,
            "host_not_local",
        );
    }

    #[tokio::test]
    async fn loopback_lets_in_a_page_whose_origin_is_allowed() {
        let origins = Origins::new(&["http://localhost:5173".to_owned()]);
        let headers = [
            ("host", "localhost:3000"),
            ("origin", "http://localhost:5173"),
        ];
        let parts = request(Some(LOCAL), &headers);
        assert!(Access::loopback().authorize(&parts, &origins).await.is_ok());
    }

    #[tokio::test]
    async fn bearer_tells_viewers_from_admins() {
        let access = Access::bearer("see-me").admin("rule-me");
        for (name, value, admin) in [
            ("authorization", "Bearer see-me", false),
            ("authorization", "Bearer rule-me", true),
            ("cookie", "realtime_token=see-me", false),
            (
                "cookie",
                "realtime_token=stale; realtime_token=rule-me",
                true,
            ),
        ] {
            let principal = ask(&access, &request(None, &[(name, value)]))
                .await
                .unwrap();
            assert_eq!(principal.is_admin(), admin, "{value}");
            assert_eq!(principal.id(), if admin { "admin" } else { "viewer" });
            assert!(!principal.is_anonymous());
        }
    }

    #[tokio::test]
    async fn bearer_refuses_without_and_with_a_wrong_token() {
        let access = Access::bearer("see-me").admin("rule-me");
        for headers in [
            vec![],
            vec![("authorization", "Basic c2VlLW1l")],
            vec![("authorization", "Bearer  ")],
            vec![("cookie", "other=see-me")],
        ] {
            let refusal = refused(
                ask(&access, &request(None, &headers)).await,
                401,
                "unauthorized",
            );
            assert_eq!(
                refusal.header("www-authenticate"),
                Some("Bearer realm=\"realtime\"")
            );
            assert_eq!(refusal.header("x-realtime-denied"), None);
        }
        for headers in [
            vec![("authorization", "Bearer see-mE")],
            vec![("authorization", "Bearer see-me ruled")],
            vec![("cookie", "realtime_token=see")],
            // A wrong header is not saved by a right cookie.
            vec![
                ("authorization", "Bearer no"),
                ("cookie", "realtime_token=see-me"),
            ],
            vec![
                ("authorization", "Bearer see-me"),
                ("authorization", "Bearer see-me"),
            ],
        ] {
            let refusal = refused(
                ask(&access, &request(None, &headers)).await,
                401,
                "invalid_token",
            );
            assert_eq!(
                refusal.header("www-authenticate"),
                Some("Bearer realm=\"realtime\", error=\"invalid_token\"")
            );
            assert!(!refusal.sentence().contains("see"));
        }
        // Without an admin's token there is no admin.
        let parts = request(None, &[("authorization", "Bearer rule-me")]);
        refused(
            ask(&Access::bearer("see-me"), &parts).await,
            401,
            "invalid_token",
        );
    }

    #[tokio::test]
    async fn public_knows_nobody_but_the_admin() {
        let with_token = request(None, &[("authorization", "Bearer rule-me")]);
        let nobody = ask(&Access::public(), &with_token).await.unwrap();
        assert!(nobody.is_anonymous() && !nobody.is_admin());
        let access = Access::public().admin("rule-me");
        assert!(ask(&access, &with_token).await.unwrap().is_admin());
        // A token of the layers that guard us is not ours.
        let other = request(None, &[("authorization", "Bearer theirs")]);
        assert!(ask(&access, &other).await.unwrap().is_anonymous());
    }

    #[tokio::test]
    async fn the_hook_decides() {
        let access = Access::check(|parts| async move {
            match parts
                .headers
                .get("x-user")
                .and_then(|user| user.to_str().ok())
            {
                Some("down") => Err(Denied::unavailable()),
                Some("mallory") => Err(Denied::forbidden().message("not you")),
                Some(user) => Ok(Principal::viewer(user).tenant("acme")),
                None => Err(Denied::unauthenticated()),
            }
        });
        let as_user = |user: &str| request(None, &[("x-user", user)]);
        let ana = ask(&access, &as_user("ana")).await.unwrap();
        assert_eq!((ana.id(), ana.tenant_id()), ("ana", Some("acme")));
        assert!(!ana.is_admin());
        let forbidden = refused(ask(&access, &as_user("mallory")).await, 403, "forbidden");
        assert_eq!(forbidden.sentence(), "not you");
        refused(
            ask(&access, &as_user("down")).await,
            503,
            "access_unavailable",
        );
        refused(ask(&access, &request(None, &[])).await, 401, "unauthorized");
    }

    #[cfg(feature = "jwt")]
    #[tokio::test]
    async fn signed_tokens_come_in_the_header_and_in_the_cookie() {
        use crate::access::JwtKey;

        let key = JwtKey::hs256("0123456789abcdef0123456789abcdef");
        let access = Access::jwt(JwtConfig::new(key));
        assert!(access.validate().is_ok());
        assert_eq!(format!("{access:?}"), "Access::jwt(…)");
        // {"alg":"HS256"} {"sub":"ana","role":"admin","exp":4102444800}
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbmEiLCJyb2xlIjoiYWRtaW4iLCJleHAiOjQxMDI0NDQ4MDB9.fJ8LKXsr\
            yC0uiNcudCFsVUIqEz4XpVdjqMuDt8zdWjQ";
        let header = format!("Bearer {token}");
        let cookies = format!("realtime_token=stale; realtime_token={token}");
        for (name, value) in [("authorization", &header), ("cookie", &cookies)] {
            let ana = ask(&access, &request(None, &[(name, value)]))
                .await
                .unwrap();
            assert_eq!(ana.id(), "ana");
            assert!(ana.is_admin() && ana.expiry().is_some());
        }
        refused(ask(&access, &request(None, &[])).await, 401, "unauthorized");
        let wrong = [("authorization", "Bearer a.b.c")];
        refused(
            ask(&access, &request(None, &wrong)).await,
            401,
            "invalid_token",
        );
        assert!(access.admin("rule-me").validate().is_err());
        let short = Access::jwt(JwtConfig::new(JwtKey::hs256("s3cret")));
        assert_eq!(
            short.validate().unwrap_err().to_string(),
            "access takes an HS256 secret of at least 32 bytes"
        );
        let file = r#"{"jwt": {"algorithm": "HS256", "key": "0123456789abcdef0123456789abcdef"}}"#;
        let access: Access = serde_json::from_str(file).unwrap();
        assert_eq!(format!("{access:?}"), "Access::jwt(…)");
        let wrong =
            serde_json::from_str::<Access>(r#"{"jwt": {"algorithm": "HS256", "key": "s3cret"}}"#);
        let error = wrong.unwrap_err().to_string();
        assert!(error.starts_with("access takes an HS256 secret"), "{error}");
    }

    #[test]
    fn what_is_given_wrong_is_found_without_naming_a_token() {
        let long = "s".repeat(5000);
        for (access, problem) in [
            (
                Access::bearer(""),
                "access takes tokens of 1 to 4096 visible ASCII",
            ),
            (
                Access::bearer("s3cret s3cret"),
                "access takes tokens of 1 to 4096",
            ),
            (Access::bearer(&long), "access takes tokens of 1 to 4096"),
            (
                Access::public().admin("s3cret;"),
                "access takes tokens of 1 to 4096",
            ),
            (
                Access::bearer("s3cret").admin("s3cret"),
                "access takes different tokens",
            ),
            (
                Access::loopback().admin("s3cret"),
                "access takes an admin token with bearer and with public only",
            ),
            (
                Access::check(|_| async { Err(Denied::forbidden()) }).admin("s3cret"),
                "access takes an admin token with bearer and with public only",
            ),
        ] {
            let error = access.validate().unwrap_err();
            assert!(error.is_config());
            let text = error.to_string();
            assert!(text.starts_with(problem), "{text}");
            assert!(
                !text.contains("s3cret") && !format!("{access:?} {error:?}").contains("s3cret")
            );
        }
        assert!(Access::bearer("a").admin("b").validate().is_ok());
    }

    #[test]
    fn a_file_says_it_in_words() {
        let read = |json: &str| serde_json::from_str::<Access>(json);
        for (json, access) in [
            (r#""loopback""#, "Access::loopback"),
            (r#""public""#, "Access::public"),
            (
                r#"{"bearer": {"viewer_token": "see"}}"#,
                "Access::bearer(…)",
            ),
            (
                r#"{"bearer": {"viewer_token": "see", "admin_token": "rule"}}"#,
                "Access::bearer(…).admin(…)",
            ),
        ] {
            assert_eq!(format!("{:?}", read(json).unwrap()), access);
        }
        for json in [
            r#""s3cret""#,
            r#"{"bearer": "s3cret"}"#,
            r#"{"bearer": {"viewer_token": 53}}"#,
            r#"{"bearer": {"token": "s3cret"}}"#,
            r#"{"bearer": {"viewer_token": "see", "s3cret": "x"}}"#,
            r#"{"bearer": {"admin_token": "s3cret"}}"#,
            r#"{"bearer": {"viewer_token": "s3cret", "admin_token": "s3cret"}}"#,
            r#"{"s3cret": {}}"#,
            "null",
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.starts_with("access takes "), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
