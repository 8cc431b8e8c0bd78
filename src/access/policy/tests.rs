//! Who is let in, policy by policy.

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
    access
        .authorize(parts, &Origins::default(), SystemTime::now())
        .await
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
    let now = SystemTime::now();
    assert!(
        Access::loopback()
            .authorize(&parts, &origins, now)
            .await
            .is_ok()
    );
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
        assert!(!text.contains("s3cret") && !format!("{access:?} {error:?}").contains("s3cret"));
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
