//! Which tokens are taken, and what they say.

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
    let refusal = config.verify(token, SystemTime::now()).unwrap_err();
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
            let result = config.verify(token, SystemTime::now());
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
    assert!(
        tokens
            .iter()
            .all(|(_, token)| all.verify(token, SystemTime::now()).is_ok())
    );
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
    let principal = config()
        .verify(&token(json!({"exp": exp})), SystemTime::now())
        .unwrap();
    assert_eq!(
        principal.expiry(),
        Some(UNIX_EPOCH + Duration::from_secs(exp))
    );
    // What the leeway alone lets in ends with the leeway.
    let exp = now() - 10;
    let late = config().verify(&token(json!({"exp": exp})), SystemTime::now());
    assert_eq!(
        late.unwrap().expiry(),
        Some(UNIX_EPOCH + Duration::from_secs(exp) + JwtConfig::DEFAULT_LEEWAY)
    );
    refused(
        &config(),
        &token(json!({"exp": now() - 60})),
        "token_expired",
    );
    assert!(
        config()
            .verify(&token(json!({"exp": now() - 10})), SystemTime::now())
            .is_ok()
    );
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
    assert!(
        config()
            .verify(&token(json!({"nbf": now() + 10})), SystemTime::now())
            .is_ok()
    );
    for exp in [json!(null), json!("tomorrow"), json!(-1), json!({})] {
        refused(&config(), &token(json!({"exp": exp})), "invalid_token");
    }
    refused(
        &config(),
        &sign(json!({"sub": "ana", "role": "viewer"})),
        "invalid_token",
    );
    // The end of time is no panic.
    let forever = config().verify(&token(json!({"exp": u64::MAX})), SystemTime::now());
    assert_eq!(forever.unwrap().expiry(), None);
}

#[test]
fn issuer_and_audience_are_checked_where_they_are_expected() {
    let strict = config()
        .issuer("https://id.example.com")
        .audience("realtime");
    let good = json!({"iss": "https://id.example.com", "aud": ["app", "realtime"]});
    assert!(strict.verify(&token(good), SystemTime::now()).is_ok());
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
    assert!(
        config()
            .verify(&token(json!({"iss": "anybody"})), SystemTime::now())
            .is_ok()
    );
}

#[test]
fn keys_change_while_tokens_live() {
    let next = "another secret another secret 32";
    let both = config().key(JwtKey::hs256(next));
    let claims = json!({"sub": "ana", "role": "viewer", "exp": now() + 600});
    let header = Header::new(Algorithm::HS256);
    for secret in [SECRET, next] {
        assert!(
            both.verify(&sign_with(&header, secret, &claims), SystemTime::now())
                .is_ok()
        );
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
    assert!(
        named
            .verify(&with_kid(Some("2026-1")), SystemTime::now())
            .is_ok()
    );
    assert!(named.verify(&with_kid(None), SystemTime::now()).is_ok());
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
        .verify(&token(json!({"role": "customer"})), SystemTime::now())
        .unwrap_err();
    assert_eq!(
        (refusal.status().as_u16(), refusal.code()),
        (403, "forbidden")
    );
    let open = config().every_token_views(true);
    assert!(
        open.verify(&token(json!({"role": "customer"})), SystemTime::now())
            .is_ok()
    );
    let named = config()
        .user_claim("uid")
        .role_claim("scope")
        .viewer_role("realtime:read")
        .admin_role("realtime:admin")
        .tenant_claim("org");
    let claims = json!({"uid": 7, "scope": "openid realtime:read", "org": "acme"});
    let principal = named.verify(&token(claims), SystemTime::now()).unwrap();
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
        config
            .verify(&sign(claims), SystemTime::now())
            .unwrap()
            .expires_at(UNIX_EPOCH),
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
        assert!(
            config.verify(&forged, SystemTime::now()).is_err(),
            "{place}"
        );
    }
    refused(&config, &"A".repeat(MAX_TOKEN_LEN + 1), "invalid_token");
}

proptest! {
    #[test]
    fn no_text_panics_or_passes(text in "[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,80}|.{0,100}") {
        prop_assert!(config().verify(&text, SystemTime::now()).is_err());
    }
}
