//! What a page of another origin may do.

use http::Request;

use super::*;

const APP: &str = "https://app.example.com";

fn request(method: Method, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

/// What an answer to a request from this origin gets: allowed origin, credentials, vary.
fn answer(cors: &Cors, origin: Option<&str>) -> (Option<String>, bool, Option<String>) {
    let headers: Vec<_> = origin.iter().map(|origin| ("origin", *origin)).collect();
    let mut response = HeaderMap::new();
    cors.apply(&request(Method::GET, &headers).headers, &mut response);
    let text = |name| {
        response
            .get(name)
            .map(|value: &HeaderValue| value.to_str().unwrap().to_owned())
    };
    (
        text(header::ACCESS_CONTROL_ALLOW_ORIGIN),
        response.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS),
        text(header::VARY),
    )
}

#[test]
fn the_matrix() {
    let some = |text: &str| Some(text.to_owned());
    let list = Cors::list([APP, "http://localhost:5173"]);
    let with_credentials = list.clone().credentials(true);
    for (cors, origin, expected) in [
        (Cors::off(), Some(APP), (None, false, None)),
        (Cors::off(), None, (None, false, None)),
        (Cors::any(), Some(APP), (some("*"), false, None)),
        (Cors::any(), Some("null"), (some("*"), false, None)),
        (Cors::any(), None, (None, false, None)),
        (list.clone(), Some(APP), (some(APP), false, some("Origin"))),
        (
            list.clone(),
            Some("https://other.example"),
            (None, false, some("Origin")),
        ),
        (
            list.clone(),
            Some("https://app.example.com.evil.example"),
            (None, false, some("Origin")),
        ),
        (list, None, (None, false, some("Origin"))),
        (
            with_credentials.clone(),
            Some(APP),
            (some(APP), true, some("Origin")),
        ),
        (
            with_credentials,
            Some("null"),
            (None, false, some("Origin")),
        ),
    ] {
        assert_eq!(answer(&cors, origin), expected, "{cors:?} {origin:?}");
    }
}

#[test]
fn nothing_is_doubled() {
    let cors = Cors::list([APP]).credentials(true);
    let request = request(Method::GET, &[("origin", APP)]).headers;
    let mut response = HeaderMap::new();
    response.insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
    response.insert(
        header::VARY,
        HeaderValue::from_static("accept-encoding, origin"),
    );
    cors.apply(&request, &mut response);
    assert_eq!(response.len(), 2);
    assert_eq!(response[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    assert_eq!(response.get_all(header::VARY).iter().count(), 1);
    // Twice over the same answer is the same answer.
    let mut response = HeaderMap::new();
    cors.apply(&request, &mut response);
    let once = response.clone();
    cors.apply(&request, &mut response);
    assert_eq!(response, once);
    assert_eq!(
        response[header::ACCESS_CONTROL_EXPOSE_HEADERS],
        "retry-after, x-reconnect-token, x-realtime-denied"
    );
}

#[test]
fn preflights() {
    let ask = [("origin", APP), ("access-control-request-method", "POST")];
    let preflight = request(Method::OPTIONS, &ask);
    assert!(Cors::off().preflight(&preflight).is_none());
    assert!(
        Cors::any()
            .preflight(&request(Method::POST, &ask))
            .is_none()
    );
    assert!(
        Cors::any()
            .preflight(&request(Method::OPTIONS, &ask[..1]))
            .is_none()
    );
    assert!(
        Cors::any()
            .preflight(&request(Method::OPTIONS, &ask[1..]))
            .is_none()
    );
    for (cors, allowed) in [
        (Cors::any(), Some("*")),
        (Cors::list([APP]), Some(APP)),
        (Cors::list(["https://other.example"]), None),
    ] {
        let response = cors.preflight(&preflight).unwrap();
        assert_eq!(response.status(), 204);
        let headers = response.headers();
        let has = |name: &str| headers.contains_key(name);
        assert_eq!(
            headers
                .get("access-control-allow-origin")
                .map(|value| value.to_str().unwrap()),
            allowed
        );
        assert_eq!(has("access-control-allow-methods"), allowed.is_some());
        assert_eq!(has("access-control-allow-headers"), allowed.is_some());
        assert!(!has("access-control-allow-credentials"));
        assert!(!has("access-control-expose-headers"));
        assert_eq!(has("vary"), cors != Cors::any());
    }
}

#[test]
fn a_page_may_send_what_is_read_here_and_what_the_host_names() {
    let ask = [("origin", APP), ("access-control-request-method", "POST")];
    let preflight = request(Method::OPTIONS, &ask);
    let allowed = |cors: Cors| {
        let response = cors.preflight(&preflight).unwrap();
        let allowed = response.headers()["access-control-allow-headers"].clone();
        allowed.to_str().unwrap().to_owned()
    };
    let ours = "authorization, cache-control, content-type, last-event-id, x-reconnect-token";
    assert_eq!(allowed(Cors::list([APP])), ours);
    assert_eq!(
        allowed(Cors::any().headers(["X-Api-Key", "x-team"])),
        format!("{ours}, x-api-key, x-team")
    );
}

#[test]
fn wrong_ones_are_named() {
    for (cors, message) in [
        (
            Cors::any().headers(["x-api-key", "*"]),
            "cors has the header \"*\": it takes names of headers such as x-api-key",
        ),
        (
            Cors::any().headers(["x-a\r\nx-b"]),
            "cors has the header \"x-a\\r\\nx-b\": it takes names of headers such as x-api-key",
        ),
        (
            Cors::any().headers(vec!["x"; 65]),
            "cors has 65 headers: it takes at most 64",
        ),
        (
            Cors::any().credentials(true),
            "cors takes credentials with a list of origins only",
        ),
        (
            Cors::off().credentials(true),
            "cors takes credentials with a list of origins only",
        ),
        (
            Cors::list(["https://a.example/"]),
            "cors has the origin \"https://a.example/\": it takes origins such as https://app.example.com, without a path",
        ),
    ] {
        assert_eq!(cors.validate().unwrap_err().to_string(), message);
    }
    assert!(Cors::off().credentials(false).validate().is_ok());
}

#[test]
fn serde_round_trip() {
    for (json, cors) in [
        (r#""off""#, Cors::off()),
        (r#""any""#, Cors::any()),
        (r#"["https://app.example.com"]"#, Cors::list([APP])),
        (
            r#"{"origins":["https://app.example.com"],"credentials":true}"#,
            Cors::list([APP]).credentials(true),
        ),
        (
            r#"{"origins":["https://app.example.com"],"credentials":true,"headers":["x-api-key"]}"#,
            Cors::list([APP]).credentials(true).headers(["x-api-key"]),
        ),
        (
            r#"{"origins":"any","headers":["x-api-key"]}"#,
            Cors::any().headers(["x-api-key"]),
        ),
    ] {
        assert_eq!(serde_json::from_str::<Cors>(json).unwrap(), cors);
        assert_eq!(serde_json::to_string(&cors).unwrap(), json);
    }
    for json in [
        r#""all""#,
        "1",
        r#"{"origin": []}"#,
        r#"["*"]"#,
        r#"{"origins": "off", "headers": ["x-api-key"]}"#,
        r#"{"origins": "any", "headers": ["a b"]}"#,
    ] {
        let error = serde_json::from_str::<Cors>(json).unwrap_err().to_string();
        assert!(error.starts_with("cors "), "{error}");
    }
}
