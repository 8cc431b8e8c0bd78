//! Signed tokens: who somebody is, as another service has written it down.

use std::{
    fmt,
    time::{Duration, UNIX_EPOCH},
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
/// audience is refused unless [`audience`](Self::audience) expects it (RFC 7519, section 4.1.3). Streams end when the
/// token does.
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

    /// Whose token it is, if it is good.
    pub(super) fn verify(&self, token: &str) -> Result<Principal, Refusal> {
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
                Ok(data) => return self.principal(&data.claims),
                Err(error) => refusal = refusal_of(error.kind()),
            }
        }
        Err(refusal)
    }

    fn principal(&self, claims: &Claims) -> Result<Principal, Refusal> {
        let principal = self.claims.principal(claims)?;
        let expires_at = claims
            .get("exp")
            .and_then(|exp| exp.as_f64())
            .and_then(|exp| Duration::try_from_secs_f64(exp).ok())
            .and_then(|exp| UNIX_EPOCH.checked_add(exp)?.checked_add(self.leeway));
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
mod tests {
    use std::time::SystemTime;

    use jsonwebtoken::{EncodingKey, encode};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    // Public keys of pairs that were made for this test and thrown away, each with a token for ana, a viewer, until 2100.
    const RS256_KEY: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAlNHjtzPso0fWEkq4XOlP
lASUnj/lF7roaFTGDA17n87it6DdW67/Vf/WujFm5U/pTXLii2UXo48ylWWVgbhC
BBtWPqnQlV58FJszR8zpyJorihxI4kCWhNsjTJ0M9cjvDiFSAcRONcrjk/PI7NAF
YpcHthTlXWljC2bhF1u47DYsVjywZ8mTnYfwWtDcvFtFtaNwT2h6sFVt675yWYh9
h6qMV/P8Ion4xtucl7T3xoS2UzfUWJu5e80bOBi+q9ZcedAWTmrusxmTb3als252
69QVgzzbOQDQhopW0ODmn8BLTsczpEBlSF0Y9tLx+v+VLKHydq5EXH14Ov3T38tb
LQIDAQAB
-----END PUBLIC KEY-----";
    const RS256_TOKEN: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbmEiLCJyb2xlIjoidmlld2VyIiwiZXhwIjo0MTAyNDQ0ODAwfQ.\
LNAK5F9atGS3lyLpsQCUYmPz8FLCDgE8F-YKz1r37GhpFT4g1uZRdE7OttYcyvF2cA5Bt3ocaQKxoYcOyV8Q_LUn1d22xQOT4VqJ\
JD3AA2PwNPqnLoBt5QNiTc2xcv0qQF8xRMHob21tPtr743EqCr5ckPZOfIPQ-ZR1BJPcJR2FPc2KMx7l990s2ApKe0Ihjw-772gf\
SRlvys_5pa_NG5idVoE796PMMLW0bDFUeX_BHBp30V9CMwVczhGuXkxj54ZnI1aqZMiOPFSHWKDZJEK5QnENWFReRocJp_7HDTIg\
g9XijYWX7O7CxvluiynUHFB7y0_IvAe_KdjEBb91hA";
    const ES256_KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAENCgF0FgHp4l+qn3c47pOsKw/50GU
YQ0ULY4eFk3n5QbRj2iQu9ncRrOJqypAW4xb8+Q1bZg4xvwWJkH+OZgkog==
-----END PUBLIC KEY-----";
    const ES256_TOKEN: &str = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbmEiLCJyb2xlIjoidmlld2VyIiwiZXhwIjo0MTAyNDQ0ODAwfQ.\
F1j1UtdZWeTzdOruhkMLmg5R0es2f-9wSTYepuBbSQT54CmfYX5o50zPsNM2QirRGcNNw1g1OeUU8HqKMB3UYg";
    const EDDSA_KEY: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAaHTMzOFnTs6b/8HUpkQXbdJ5PY7d7/S9qvzPpuTUwN0=
-----END PUBLIC KEY-----";
    const EDDSA_TOKEN: &str = "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbmEiLCJyb2xlIjoidmlld2VyIiwiZXhwIjo0MTAyNDQ0ODAwfQ.\
zBup_errffIttqnoxWM9SSiGeAlPjRcDfSTOM3bvQUizWbigojmBGlp5Lq0FHPGfHirmye7h6bGtMKm1WctFDA";

    fn config() -> JwtConfig {
        install_backend();
        JwtConfig::new(JwtKey::hs256(SECRET))
    }

    fn now() -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs()
    }

    fn sign_with(header: &Header, secret: &str, claims: &Value) -> String {
        install_backend();
        encode(header, claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    }

    fn sign(claims: Value) -> String {
        sign_with(&Header::new(Algorithm::HS256), SECRET, &claims)
    }

    /// A good token with some claims added or replaced.
    fn token(claims: Value) -> String {
        let mut all = json!({"sub": "ana", "role": "viewer", "exp": now() + 600});
        for (name, value) in claims.as_object().unwrap() {
            all[name] = value.clone();
        }
        sign(all)
    }

    #[track_caller]
    fn refused(config: &JwtConfig, token: &str, code: &str) {
        let refusal = config.verify(token).unwrap_err();
        assert_eq!((refusal.status().as_u16(), refusal.code()), (401, code));
        assert!(!refusal.sentence().contains(token));
    }

    #[test]
    fn every_algorithm_verifies_its_own_tokens_only() {
        install_backend();
        let keys = [
            ("HS256", JwtKey::hs256(SECRET)),
            ("RS256", JwtKey::rs256(RS256_KEY)),
            ("ES256", JwtKey::es256(ES256_KEY)),
            ("EdDSA", JwtKey::eddsa(EDDSA_KEY)),
        ];
        let hs256 = sign(json!({"sub": "ana", "role": "viewer", "exp": 4_102_444_800_u64}));
        let tokens = [
            ("HS256", hs256.as_str()),
            ("RS256", RS256_TOKEN),
            ("ES256", ES256_TOKEN),
            ("EdDSA", EDDSA_TOKEN),
        ];
        for (algorithm, key) in &keys {
            let config = JwtConfig::new(key.clone());
            assert_eq!(config.problem(), None, "{algorithm}");
            for (signed_by, token) in &tokens {
                let result = config.verify(token);
                assert_eq!(
                    result.is_ok(),
                    algorithm == signed_by,
                    "{algorithm} {signed_by}"
                );
                if let Ok(principal) = result {
                    assert_eq!(principal.id(), "ana");
                }
            }
        }
        let all = JwtConfig::new(keys[0].1.clone())
            .key(keys[1].1.clone())
            .key(keys[2].1.clone())
            .key(keys[3].1.clone());
        assert!(tokens.iter().all(|(_, token)| all.verify(token).is_ok()));
    }

    #[test]
    fn a_public_key_is_no_shared_secret() {
        // The classic: a token that is "signed" by HS256 with the public key that everybody has.
        let claims = json!({"sub": "mallory", "role": "admin", "exp": now() + 600});
        let forged = sign_with(&Header::new(Algorithm::HS256), RS256_KEY, &claims);
        refused(
            &JwtConfig::new(JwtKey::rs256(RS256_KEY)),
            &forged,
            "invalid_token",
        );
        // And one that is not signed at all: {"alg":"none"}.
        let (_, claims) = forged.split_once('.').unwrap();
        let (claims, _) = claims.split_once('.').unwrap();
        refused(
            &config(),
            &format!("eyJhbGciOiJub25lIn0.{claims}."),
            "invalid_token",
        );
        refused(
            &config(),
            &format!("eyJhbGciOiJIUzI1NiJ9.{claims}."),
            "invalid_token",
        );
    }

    #[test]
    fn times_are_checked_and_the_principal_expires() {
        let exp = now() + 600;
        let principal = config().verify(&token(json!({"exp": exp}))).unwrap();
        assert_eq!(
            principal.expiry(),
            Some(UNIX_EPOCH + Duration::from_secs(exp) + JwtConfig::DEFAULT_LEEWAY)
        );
        refused(
            &config(),
            &token(json!({"exp": now() - 60})),
            "token_expired",
        );
        assert!(config().verify(&token(json!({"exp": now() - 10}))).is_ok());
        refused(
            &config().leeway(Duration::ZERO),
            &token(json!({"exp": now() - 10})),
            "token_expired",
        );
        refused(
            &config(),
            &token(json!({"nbf": now() + 60})),
            "invalid_token",
        );
        assert!(config().verify(&token(json!({"nbf": now() + 10}))).is_ok());
        for exp in [json!(null), json!("tomorrow"), json!(-1), json!({})] {
            refused(&config(), &token(json!({"exp": exp})), "invalid_token");
        }
        refused(
            &config(),
            &sign(json!({"sub": "ana", "role": "viewer"})),
            "invalid_token",
        );
        // The end of time is no panic.
        let forever = config().verify(&token(json!({"exp": u64::MAX})));
        assert_eq!(forever.unwrap().expiry(), None);
    }

    #[test]
    fn issuer_and_audience_are_checked_where_they_are_expected() {
        let strict = config()
            .issuer("https://id.example.com")
            .audience("realtime");
        let good = json!({"iss": "https://id.example.com", "aud": ["app", "realtime"]});
        assert!(strict.verify(&token(good)).is_ok());
        for claims in [
            json!({}),
            json!({"iss": "https://id.example.com"}),
            json!({"aud": "realtime"}),
            json!({"iss": "https://evil.example", "aud": "realtime"}),
            json!({"iss": "https://id.example.com", "aud": "app"}),
            json!({"iss": "https://id.example.com", "aud": 5}),
        ] {
            refused(&strict, &token(claims), "invalid_token");
        }
        // A token for somebody else is not for us, though we expect nothing.
        refused(&config(), &token(json!({"aud": "app"})), "invalid_token");
        assert!(config().verify(&token(json!({"iss": "anybody"}))).is_ok());
    }

    #[test]
    fn keys_change_while_tokens_live() {
        let next = "another secret another secret 32";
        let both = config().key(JwtKey::hs256(next));
        let claims = json!({"sub": "ana", "role": "viewer", "exp": now() + 600});
        let header = Header::new(Algorithm::HS256);
        for secret in [SECRET, next] {
            assert!(both.verify(&sign_with(&header, secret, &claims)).is_ok());
        }
        refused(
            &config(),
            &sign_with(&header, next, &claims),
            "invalid_token",
        );
        let named = JwtConfig::new(JwtKey::hs256(SECRET).id("2026-1"));
        let with_kid = |kid: Option<&str>| {
            let header = Header {
                kid: kid.map(str::to_owned),
                ..Header::new(Algorithm::HS256)
            };
            sign_with(&header, SECRET, &claims)
        };
        assert!(named.verify(&with_kid(Some("2026-1"))).is_ok());
        assert!(named.verify(&with_kid(None)).is_ok());
        refused(&named, &with_kid(Some("2025-4")), "invalid_token");
    }

    #[test]
    fn extensions_that_must_be_understood_are_not() {
        let header = Header {
            crit: Some(vec!["b64".to_owned()]),
            ..Header::new(Algorithm::HS256)
        };
        let claims = json!({"sub": "ana", "role": "viewer", "exp": now() + 600});
        refused(
            &config(),
            &sign_with(&header, SECRET, &claims),
            "invalid_token",
        );
    }

    #[test]
    fn a_valid_token_without_the_role_is_forbidden() {
        let refusal = config()
            .verify(&token(json!({"role": "customer"})))
            .unwrap_err();
        assert_eq!(
            (refusal.status().as_u16(), refusal.code()),
            (403, "forbidden")
        );
        let open = config().every_token_views(true);
        assert!(open.verify(&token(json!({"role": "customer"}))).is_ok());
        let named = config()
            .user_claim("uid")
            .role_claim("scope")
            .viewer_role("realtime:read")
            .admin_role("realtime:admin")
            .tenant_claim("org");
        let claims = json!({"uid": 7, "scope": "openid realtime:read", "org": "acme"});
        let principal = named.verify(&token(claims)).unwrap();
        assert_eq!((principal.id(), principal.tenant_id()), ("7", Some("acme")));
        assert!(!principal.is_admin());
    }

    #[test]
    fn wrong_keys_and_names_are_found_before_the_first_token() {
        for (config, problem) in [
            (
                JwtConfig::new(JwtKey::hs256("short s3cret")),
                "takes an HS256 secret of at least 32 bytes",
            ),
            (
                JwtConfig::new(JwtKey::rs256("s3cret")),
                "takes an RSA public key in PEM for RS256",
            ),
            (
                JwtConfig::new(JwtKey::rs256(ES256_KEY)),
                "takes an RSA public key in PEM for RS256",
            ),
            (
                JwtConfig::new(JwtKey::es256(RS256_KEY)),
                "takes a P-256 public key in PEM for ES256",
            ),
            (
                JwtConfig::new(JwtKey::eddsa("")),
                "takes an Ed25519 public key in PEM for EdDSA",
            ),
            (
                config().key(JwtKey::hs256("")),
                "takes an HS256 secret of at least 32 bytes",
            ),
            (
                config().leeway(Duration::from_secs(601)),
                "takes a leeway of at most 10 minutes for signed tokens",
            ),
            (
                config().user_claim(""),
                "takes names for the claims of signed tokens that are not empty",
            ),
            (
                config().tenant_claim(""),
                "takes names for the claims of signed tokens that are not empty",
            ),
            (
                config().admin_role(""),
                "takes names for the roles of signed tokens that are not empty",
            ),
        ] {
            assert_eq!(config.problem(), Some(problem));
            let debug = format!("{config:?}");
            assert!(!debug.contains("s3cret") && !debug.contains(SECRET));
        }
    }

    #[test]
    fn a_file_says_it_in_words() {
        let json = json!({
            "algorithm": "HS256", "key": SECRET, "issuer": "i", "audience": "a", "leeway_seconds": 5,
            "user_claim": "u", "role_claim": "r", "viewer_role": "v", "admin_role": "w",
            "every_token_views": true, "tenant_claim": "t",
        });
        let config: JwtConfig = serde_json::from_value(json).unwrap();
        install_backend();
        let claims =
            json!({"iss": "i", "aud": "a", "u": "ana", "r": "w", "t": "acme", "exp": now() + 60});
        assert_eq!(
            config.verify(&sign(claims)).unwrap().expires_at(UNIX_EPOCH),
            Principal::admin("ana")
                .tenant("acme")
                .expires_at(UNIX_EPOCH)
        );
        assert_eq!(config.leeway, Duration::from_secs(5));
        for json in [
            json!({"algorithm": "HS256", "key": "s3cret"}),
            json!({"algorithm": "none", "key": "s3cret s3cret s3cret s3cret s3cret"}),
            json!({"algorithm": "HS256", "secret": "s3cret"}),
            json!("s3cret"),
            json!({"algorithm": "HS256"}),
        ] {
            let error = serde_json::from_value::<JwtConfig>(json)
                .unwrap_err()
                .to_string();
            assert!(error.starts_with("access"), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn one_changed_character_anywhere_forges_nothing() {
        let (config, token) = (config(), token(json!({})));
        for place in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(bytes).unwrap();
            assert!(config.verify(&forged).is_err(), "{place}");
        }
        refused(&config, &"A".repeat(MAX_TOKEN_LEN + 1), "invalid_token");
    }

    proptest! {
        #[test]
        fn no_text_panics_or_passes(text in "[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,80}|.{0,100}") {
            prop_assert!(config().verify(&text).is_err());
        }
    }
}
