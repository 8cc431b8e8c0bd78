//! Who gets past the gate, and what is said to the others.

use http::Request;

use super::*;
use crate::access::{Denied, PeerAddr};

fn gate(access: Access) -> Gate {
    gate_with(access, Cors::off(), &[])
}

fn gate_with(access: Access, cors: Cors, allowed_origins: &[String]) -> Gate {
    let settings = GateSettings {
        access: &access,
        cors: &cors,
        allowed_origins,
        trusted_proxies: &[],
        token_key: None,
        denials_per_minute: Some(3),
    };
    Gate::new(&settings, Clock::new()).unwrap()
}

fn request(method: Method, uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn get(uri: &str, headers: &[(&str, &str)]) -> Parts {
    request(Method::GET, uri, headers)
}

/// Lets in whoever may.
async fn admit(gate: &Gate, parts: &Parts) -> Result<Principal, Refusal> {
    let admitted = gate.admit(parts).await?;
    if let Some(ticket) = admitted.ticket {
        ticket.spend();
    }
    Ok(admitted.principal)
}

#[track_caller]
fn refused(result: Result<Principal, Refusal>, status: u16, code: &str) {
    let refusal = result.unwrap_err();
    assert_eq!((refusal.status().as_u16(), refusal.code()), (status, code));
}

#[tokio::test(start_paused = true)]
async fn a_ticket_opens_once_and_a_cookie_still_does() {
    let gate = gate(Access::bearer("see-me"));
    let viewer = admit(
        &gate,
        &get("/stream", &[("authorization", "Bearer see-me")]),
    )
    .await
    .unwrap();
    let (ticket, ttl) = gate.issue_ticket(&viewer, None, None).unwrap();
    assert_eq!(ttl, Duration::from_secs(30));
    let uri = format!("/stream?channels=stats&ticket={ticket}");
    assert_eq!(admit(&gate, &get(&uri, &[])).await.unwrap(), viewer);
    refused(admit(&gate, &get(&uri, &[])).await, 401, "invalid_ticket");
    let with_cookie = get(&uri, &[("cookie", "realtime_token=see-me")]);
    assert_eq!(admit(&gate, &with_cookie).await.unwrap(), viewer);
    refused(
        admit(&gate, &get("/stream?xticket=1", &[])).await,
        401,
        "unauthorized",
    );
}

#[tokio::test(start_paused = true)]
async fn a_ticket_is_no_way_around_loopback() {
    let gate = gate(Access::loopback());
    let (ticket, _) = gate
        .issue_ticket(&Principal::admin("loopback"), None, None)
        .unwrap();
    let mut parts = get(&format!("/stream?ticket={ticket}"), &[]);
    parts
        .extensions
        .insert(PeerAddr("192.0.2.1:4000".parse().unwrap()));
    refused(admit(&gate, &parts).await, 403, "not_loopback");
}

#[tokio::test(start_paused = true)]
async fn a_foreign_page_opens_no_socket_and_changes_nothing() {
    let gate = gate(Access::bearer("see-me"));
    let foreign = [
        ("host", "h"),
        ("origin", "https://evil.example"),
        ("cookie", "realtime_token=see-me"),
    ];
    let own = [
        ("host", "h"),
        ("origin", "https://h"),
        ("cookie", "realtime_token=see-me"),
    ];
    let upgrade = |headers: &[(&'static str, &'static str)]| {
        let mut headers = headers.to_vec();
        headers.push(("upgrade", "websocket"));
        get("/ws", &headers)
    };
    refused(admit(&gate, &upgrade(&foreign)).await, 403, "cross_origin");
    assert!(admit(&gate, &upgrade(&own)).await.is_ok());
    let post = request(Method::POST, "/api/realtime/ticket", &foreign);
    refused(admit(&gate, &post).await, 403, "cross_origin");
    let delete = request(Method::DELETE, "/api/realtime/widgets/1", &own);
    assert!(admit(&gate, &delete).await.is_ok());
    // Reading is what CORS decides about.
    assert!(admit(&gate, &get("/stream", &foreign)).await.is_ok());
    // A token in the header was put there on purpose, but no browser puts one on a socket.
    let mut with_header = foreign.to_vec();
    with_header[2] = ("authorization", "Bearer see-me");
    let post = request(Method::POST, "/api/realtime/ticket", &with_header);
    assert!(admit(&gate, &post).await.is_ok());
    refused(
        admit(&gate, &upgrade(&with_header)).await,
        403,
        "cross_origin",
    );
    // A ticket is not used up by a request that is refused anyway.
    let (ticket, _) = gate
        .issue_ticket(&Principal::viewer("ana"), None, None)
        .unwrap();
    let mut parts = upgrade(&foreign);
    parts.uri = format!("/ws?ticket={ticket}").parse().unwrap();
    refused(admit(&gate, &parts).await, 403, "cross_origin");
    let again = get(&format!("/ws?ticket={ticket}"), &[]);
    assert!(admit(&gate, &again).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn named_origins_are_trusted_and_any_is_not() {
    let upgrade = get(
        "/ws",
        &[
            ("host", "h"),
            ("origin", "https://app.example"),
            ("upgrade", "websocket"),
        ],
    );
    let app = ["https://app.example".to_owned()];
    for (cors, allowed_origins, admitted) in [
        (Cors::off(), &app[..], true),
        (Cors::list(["https://app.example"]), &[], true),
        (Cors::any(), &[], false),
        (Cors::list(["https://other.example"]), &[], false),
    ] {
        let gate = gate_with(Access::public(), cors, allowed_origins);
        assert_eq!(admit(&gate, &upgrade).await.is_ok(), admitted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_can_bring_the_token() {
    let gate = gate(Access::bearer("see-me").admin("rule-me"));
    let upgrade = get("/ws", &[("host", "h"), ("upgrade", "websocket")]);
    assert!(
        gate.admit_token(&upgrade, "rule-me")
            .await
            .unwrap()
            .is_admin()
    );
    assert!(
        !gate
            .admit_token(&upgrade, "see-me")
            .await
            .unwrap()
            .is_admin()
    );
    for token in ["", "no", "see me", "see-me\r\nx: y", &"s".repeat(5000)] {
        refused(
            gate.admit_token(&upgrade, token).await,
            401,
            "invalid_token",
        );
    }
    // The token of the message stands, not the credentials of the upgrade.
    let upgrade = get("/ws", &[("authorization", "Bearer rule-me")]);
    assert!(
        !gate
            .admit_token(&upgrade, "see-me")
            .await
            .unwrap()
            .is_admin()
    );
}

#[tokio::test(start_paused = true)]
async fn credentials_that_have_run_out_are_refused() {
    let expires = SystemTime::now() + Duration::from_secs(60);
    let gate = gate(Access::check(move |_| async move {
        Ok::<_, Denied>(Principal::viewer("ana").expires_at(expires))
    }));
    let viewer = admit(&gate, &get("/stream", &[])).await.unwrap();
    assert_eq!(viewer.expiry(), Some(expires));
    tokio::time::advance(Duration::from_secs(50)).await;
    let (ticket, _) = gate.issue_ticket(&viewer, None, None).unwrap();
    tokio::time::advance(Duration::from_secs(11)).await;
    refused(
        admit(&gate, &get("/stream", &[])).await,
        401,
        "token_expired",
    );
    // A ticket lives no longer than what it stands for.
    let by_ticket = get(&format!("/stream?ticket={ticket}"), &[]);
    refused(admit(&gate, &by_ticket).await, 401, "token_expired");
}

#[cfg(feature = "jwt")]
#[tokio::test(start_paused = true)]
async fn a_signed_token_ends_what_it_opened_when_it_expires_by_header_and_by_message() {
    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
    let gate = gate(Access::jwt(crate::JwtConfig::new(crate::JwtKey::hs256(
        SECRET,
    ))));
    let now = gate.clock.unix_seconds();
    for (exp, end) in [(now + 60, now + 60), (now - 10, now + 20)] {
        let token = jsonwebtoken::encode(
            &jsonwebtoken::Header::default(),
            &serde_json::json!({"sub": "ana", "role": "viewer", "exp": exp}),
            &jsonwebtoken::EncodingKey::from_secret(SECRET),
        )
        .unwrap();
        let bearer = format!("Bearer {token}");
        let asked = get("/stream", &[("authorization", &bearer)]);
        let bare = get("/ws", &[("host", "h"), ("upgrade", "websocket")]);
        for admitted in [
            admit(&gate, &asked).await,
            gate.admit_token(&bare, &token).await,
        ] {
            assert_eq!(
                admitted.unwrap().expiry(),
                Some(UNIX_EPOCH + Duration::from_secs(end))
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn guesses_are_bounded_for_each_address_and_keep_nobody_out_who_was_in() {
    let gate = gate(Access::bearer("see-me").admin("rule-me"));
    let from = |peer: &str, token: Option<&str>| {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = bearer
            .iter()
            .map(|bearer| ("authorization", bearer.as_str()))
            .collect();
        let mut parts = get("/stream", &headers);
        let peer = PeerAddr(format!("{peer}:4000").parse().unwrap());
        parts.extensions.insert(peer);
        parts
    };
    let (here, there) = ("192.0.2.1", "192.0.2.2");
    assert!(admit(&gate, &from(here, Some("see-me"))).await.is_ok());
    for n in 0..3 {
        let guess = format!("guess-{n}");
        refused(
            admit(&gate, &from(here, Some(&guess))).await,
            401,
            "invalid_token",
        );
        // No credentials are no guess.
        refused(admit(&gate, &from(here, None)).await, 401, "unauthorized");
    }
    let refusal = admit(&gate, &from(here, Some("rule-me")))
        .await
        .unwrap_err();
    assert_eq!(
        (refusal.status().as_u16(), refusal.code()),
        (429, "too_many_attempts")
    );
    assert_eq!(refusal.header("retry-after"), Some("21"));
    let upgrade = from(here, None);
    refused(
        gate.admit_token(&upgrade, "rule-me").await,
        429,
        "too_many_attempts",
    );
    assert!(admit(&gate, &from(here, Some("see-me"))).await.is_ok());
    assert!(admit(&gate, &from(there, Some("rule-me"))).await.is_ok());
    // Good from anywhere, so it is no guess here either.
    assert!(admit(&gate, &from(here, Some("rule-me"))).await.is_ok());
    tokio::time::advance(Duration::from_secs(21)).await;
    refused(
        admit(&gate, &from(here, Some("guess"))).await,
        401,
        "invalid_token",
    );
    // Where nobody says the address, nobody is kept out.
    let nameless = get("/stream", &[("authorization", "Bearer guess")]);
    for _ in 0..9 {
        refused(admit(&gate, &nameless).await, 401, "invalid_token");
    }
}

#[tokio::test(start_paused = true)]
async fn the_future_can_be_sent() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let gate = gate(Access::public());
    let parts = get("/", &[]);
    assert!(is_send(gate.admit(&parts)).await.is_ok());
    assert!(is_send(gate.admit_token(&parts, "x")).await.is_ok());
}
