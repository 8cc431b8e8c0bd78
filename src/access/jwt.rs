//! Signed tokens: who somebody is, as another service has written it down.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{
    Algorithm, DecodingKey, Header, Validation, crypto::rust_crypto, decode, decode_header,
    errors::ErrorKind,
};
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{
    claims::{ClaimNames, Claims},
    principal::Principal,
};
use crate::{
    error::{Error, Kind},
    refusal::Refusal,
};

/// Longer texts are not looked at.
const MAX_TOKEN_LEN: usize = 16 * 1024;
const MAX_LEEWAY: Duration = Duration::from_secs(10 * 60);

/// A key that tokens are verified with.
#[derive(Clone)]
pub struct JwtKey {
    algorithm: Algorithm,
    id: Option<String>,
    key: Result<DecodingKey, &'static str>,
}

impl JwtKey {
    /// HS256 with a shared secret of at least 32 bytes (RFC 7518, section 3.2).
    pub fn hs256(secret: impl AsRef<[u8]>) -> Self {
        let secret = secret.as_ref();
        let key = match secret.len() {
            32.. => Ok(DecodingKey::from_secret(secret)),
            _ => Err("takes an HS256 secret of at least 32 bytes"),
        };
        Self::new(Algorithm::HS256, key)
    }

    /// RS256 with an RSA public key in PEM.
    pub fn rs256(public_key_pem: impl AsRef<[u8]>) -> Self {
        let key = DecodingKey::from_rsa_pem(public_key_pem.as_ref())
            .map_err(|_| "takes an RSA public key in PEM for RS256");
        Self::new(Algorithm::RS256, key)
    }

    /// ES256 with a P-256 public key in PEM.
    pub fn es256(public_key_pem: impl AsRef<[u8]>) -> Self {
        let key = DecodingKey::from_ec_pem(public_key_pem.as_ref())
            .map_err(|_| "takes a P-256 public key in PEM for ES256");
        Self::new(Algorithm::ES256, key)
    }

    /// EdDSA with an Ed25519 public key in PEM.
    pub fn eddsa(public_key_pem: impl AsRef<[u8]>) -> Self {
        let key = DecodingKey::from_ed_pem(public_key_pem.as_ref())
            .map_err(|_| "takes an Ed25519 public key in PEM for EdDSA");
        Self::new(Algorithm::EdDSA, key)
    }

    /// Gives the key its `kid`: tokens that name another are not tried with it.
    #[must_use]
    pub fn id(mut self, kid: impl Into<String>) -> Self {
        self.id = Some(kid.into());
        self
    }

    /// What the algorithm cannot work with is found here, and not with the first token.
    fn new(algorithm: Algorithm, key: Result<DecodingKey, &'static str>) -> Self {
        let key = key.and_then(|key| {
            match (rust_crypto::DEFAULT_PROVIDER.verifier_factory)(&algorithm, &key) {
                Ok(_) => Ok(key),
                Err(_) => Err("takes a public key that belongs to its algorithm"),
            }
        });
        Self {
            algorithm,
            id: None,
            key,
        }
    }

    fn fits(&self, header: &Header) -> bool {
        let same_id = match (&self.id, &header.kid) {
            (Some(id), Some(kid)) => id == kid,
            _ => true,
        };
        self.algorithm == header.alg && same_id
    }
}

impl fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtKey")
            .field("algorithm", &self.algorithm)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Which signed tokens are taken, and what their claims mean.
///
/// A token must be signed with one of the keys, by the key's own algorithm, and carry `exp`. One that names an
/// audience is refused unless [`audience`](Self::audience) expects it (RFC 7519, section 4.1.3). Streams and sockets end
/// at the token's `exp`; one that is opened later, which the [`leeway`](Self::leeway) allows, when that is over, too.
///
/// ```
/// # use tower_realtime::{Access, JwtConfig, JwtKey};
/// # let secret = [0; 32];
/// let access = Access::jwt(
///     JwtConfig::new(JwtKey::hs256(secret))
///         .issuer("https://id.example.com")
///         .audience("realtime")
///         .role_claim("/realm_access/roles")
///         .admin_role("platform_admin")
///         .tenant_claim("tenant_id"),
/// );
/// ```
#[derive(Clone, Debug)]
pub struct JwtConfig {
    keys: Vec<JwtKey>,
    issuers: Vec<String>,
    audiences: Vec<String>,
    leeway: Duration,
    claims: ClaimNames,
}

impl JwtConfig {
    /// See [`leeway`](Self::leeway).
    pub const DEFAULT_LEEWAY: Duration = Duration::from_secs(30);

    /// Tokens that were signed with this key.
    pub fn new(key: JwtKey) -> Self {
        Self {
            keys: vec![key],
            issuers: Vec::new(),
            audiences: Vec::new(),
            leeway: Self::DEFAULT_LEEWAY,
            claims: ClaimNames::default(),
        }
    }

    /// Takes tokens of one more key: the next one, while keys are changed.
    #[must_use]
    pub fn key(mut self, key: JwtKey) -> Self {
        self.keys.push(key);
        self
    }

    /// Takes only tokens whose `iss` is this one, or another that was given. Defaults to any, and none.
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuers.push(issuer.into());
        self
    }

    /// Takes only tokens whose `aud` has this one, or another that was given. Defaults to tokens without `aud`.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// By how much the clocks of the two services may differ, for `exp` and `nbf`. Takes 0 to 10 min. Defaults to 30 s.
    ///
    /// It decides who is let in, and prolongs no stream that was opened in time.
    #[must_use]
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// The claim with the user's id. Defaults to `sub`.
    ///
    /// A name that begins with a slash is the place of a claim inside of others, here and below:
    /// `/realm_access/roles`.
    #[must_use]
    pub fn user_claim(mut self, name: impl Into<String>) -> Self {
        self.claims.user = name.into();
        self
    }

    /// The claim with the user's roles: a text, words between spaces, or a list. Defaults to `role`.
    #[must_use]
    pub fn role_claim(mut self, name: impl Into<String>) -> Self {
        self.claims.role = name.into();
        self
    }

    /// The role of those who may look. Defaults to `viewer`.
    #[must_use]
    pub fn viewer_role(mut self, role: impl Into<String>) -> Self {
        self.claims.viewer_role = role.into();
        self
    }

    /// The role of those who may do everything. Defaults to `admin`.
    #[must_use]
    pub fn admin_role(mut self, role: impl Into<String>) -> Self {
        self.claims.admin_role = role.into();
        self
    }

    /// Whether everybody with a valid token may look, whatever the role. Where the host's own customers have tokens of
    /// the same issuer, that is all of them. Defaults to `false`.
    #[must_use]
    pub fn every_token_views(mut self, yes: bool) -> Self {
        self.claims.every_token_views = yes;
        self
    }

    /// The claim with the only tenant whose traffic the user sees. With it, tokens without a tenant are an admin's or
    /// nobody's. Defaults to none: everybody sees all tenants.
    #[must_use]
    pub fn tenant_claim(mut self, name: impl Into<String>) -> Self {
        self.claims.tenant = Some(name.into());
        self
    }

    /// What is wrong with it, if anything.
    pub(super) fn problem(&self) -> Option<&'static str> {
        if self.leeway > MAX_LEEWAY {
            return Some("takes a leeway of at most 10 minutes for signed tokens");
        }
        let claims = &self.claims;
        if claims.user.is_empty() || claims.role.is_empty() || claims.tenant.as_deref() == Some("")
        {
            return Some("takes names for the claims of signed tokens that are not empty");
        }
        if claims.viewer_role.is_empty() || claims.admin_role.is_empty() {
            return Some("takes names for the roles of signed tokens that are not empty");
        }
        self.keys
            .iter()
            .find_map(|key| key.key.as_ref().err().copied())
    }

    /// Whose token it is, if it is good. `now` only tells for how long.
    pub(super) fn verify(&self, token: &str, now: SystemTime) -> Result<Principal, Refusal> {
        let invalid = |why: &'static str| Refusal::invalid_token("invalid_token", why);
        if token.len() > MAX_TOKEN_LEN {
            return Err(invalid("the token is too long"));
        }
        let header = decode_header(token).map_err(|_| invalid("the token is not valid"))?;
        // What must be understood and is not makes a token invalid (RFC 7515, section 4.1.11).
        if header.crit.is_some() {
            return Err(invalid(
                "the token needs an extension that is not known here",
            ));
        }
        let mut refusal = invalid("no key fits the token");
        let keys = self.keys.iter().filter(|key| key.fits(&header));
        for (algorithm, key) in keys.filter_map(|key| Some((key.algorithm, key.key.as_ref().ok()?)))
        {
            match decode::<Claims>(token, key, &self.validation(algorithm)) {
                Ok(data) => return self.principal(&data.claims, now),
                Err(error) => refusal = refusal_of(error.kind()),
            }
        }
        Err(refusal)
    }

    fn principal(&self, claims: &Claims, now: SystemTime) -> Result<Principal, Refusal> {
        let principal = self.claims.principal(claims)?;
        let exp = claims
            .get("exp")
            .and_then(|exp| exp.as_f64())
            .and_then(|exp| Duration::try_from_secs_f64(exp).ok())
            .and_then(|exp| UNIX_EPOCH.checked_add(exp));
        // The leeway lets in a token that our clock, but perhaps not its issuer's, sees as expired. What was let in by it
        // would end at once if it did not count for its end as well; everybody else has no need of it.
        let expires_at = match exp {
            Some(exp) if exp <= now => exp.checked_add(self.leeway),
            exp => exp,
        };
        // So far in the future that the clock cannot say it is as good as never.
        Ok(match expires_at {
            Some(time) => principal.expires_at(time),
            None => principal,
        })
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut required = vec!["exp"];
        let mut validation = Validation::new(algorithm);
        validation.leeway = self.leeway.as_secs();
        validation.validate_nbf = true;
        if !self.issuers.is_empty() {
            validation.set_issuer(&self.issuers);
            required.push("iss");
        }
        if !self.audiences.is_empty() {
            validation.set_audience(&self.audiences);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        validation
    }
}

/// The library asks for a backend of the process. A host that has chosen one keeps it.
pub(super) fn install_backend() {
    let _ = rust_crypto::DEFAULT_PROVIDER.install_default();
}

fn refusal_of(kind: &ErrorKind) -> Refusal {
    let (code, message) = match kind {
        ErrorKind::ExpiredSignature => ("token_expired", "the token has expired"),
        ErrorKind::ImmatureSignature => ("invalid_token", "the token is not valid yet"),
        ErrorKind::InvalidIssuer => ("invalid_token", "the token is of another issuer"),
        ErrorKind::InvalidAudience => ("invalid_token", "the token is for another audience"),
        ErrorKind::MissingRequiredClaim(_) => ("invalid_token", "the token lacks exp, iss or aud"),
        _ => ("invalid_token", "the token is not valid"),
    };
    Refusal::invalid_token(code, message)
}

impl<'de> Deserialize<'de> for JwtConfig {
    /// `{"algorithm": "HS256", "key": "…", "issuer": …}`. The messages quote nothing: it may be the key.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            algorithm: String,
            key: String,
            issuer: Option<String>,
            audience: Option<String>,
            leeway_seconds: Option<u32>,
            user_claim: Option<String>,
            role_claim: Option<String>,
            viewer_role: Option<String>,
            admin_role: Option<String>,
            #[serde(default)]
            every_token_views: bool,
            tenant_claim: Option<String>,
        }

        let file = File::deserialize(deserializer).map_err(|_| D::Error::custom(Self::TAKES))?;
        let key = match file.algorithm.as_str() {
            "HS256" => JwtKey::hs256(file.key),
            "RS256" => JwtKey::rs256(file.key),
            "ES256" => JwtKey::es256(file.key),
            "EdDSA" => JwtKey::eddsa(file.key),
            _ => return Err(D::Error::custom(Self::TAKES)),
        };
        let mut config = Self::new(key).every_token_views(file.every_token_views);
        config.issuers.extend(file.issuer);
        config.audiences.extend(file.audience);
        if let Some(seconds) = file.leeway_seconds {
            config.leeway = Duration::from_secs(seconds.into());
        }
        let claims = &mut config.claims;
        for (name, given) in [
            (&mut claims.user, file.user_claim),
            (&mut claims.role, file.role_claim),
            (&mut claims.viewer_role, file.viewer_role),
            (&mut claims.admin_role, file.admin_role),
        ] {
            if let Some(given) = given {
                *name = given;
            }
        }
        claims.tenant = file.tenant_claim;
        if let Some(problem) = config.problem() {
            return Err(D::Error::custom(Error::new(
                Kind::Config,
                format!("access {problem}"),
            )));
        }
        Ok(config)
    }
}

impl JwtConfig {
    /// What a file's `access.jwt` takes.
    pub(crate) const TAKES: &str = r#"access: jwt takes {"algorithm": "HS256"|"RS256"|"ES256"|"EdDSA", "key": "<secret or PEM>"} and, if wanted, issuer, audience, leeway_seconds, user_claim, role_claim, viewer_role, admin_role, every_token_views, tenant_claim"#;
}

#[cfg(test)]
mod tests;
