//! May this request become a WebSocket, and what is answered (RFC 6455 section 4.2; RFC 8441 for HTTP/2).
//!
//! Who the viewer is, and whether the origin is allowed, is decided elsewhere.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use sha1::{Digest, Sha1};

use super::extensions::{self, Deflate};

/// What both sides agreed on.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// The answer to `Sec-WebSocket-Key`; HTTP/2 has none.
    accept: Option<HeaderValue>,
    /// The subprotocol to answer with.
    subprotocol: Option<HeaderValue>,
    pub(crate) encoding: Encoding,
    /// The token of a subprotocol `bearer.<token>`: browsers cannot send an `Authorization` header with a WebSocket.
    pub(crate) bearer: Option<Bearer>,
    pub(crate) deflate: Option<Deflate>,
}

/// A token, which `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Bearer(pub(crate) String);

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(…)")
    }
}

/// How messages are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// JSON in text messages: subprotocol `json`, and without one.
    #[default]
    Json,
    /// MessagePack in binary messages: subprotocol `msgpack`.
    MessagePack,
}

/// Decides about an upgrade over HTTP/1.1, or an extended CONNECT over HTTP/2 whose `:protocol` is `protocol`.
/// `compression` says whether permessage-deflate may be negotiated.
///
/// # Errors
/// The refusal says what to answer: 426 to a request that is no upgrade at all or speaks another version of the
/// protocol, 400 to one that tries and gets it wrong, 405 to another method, 501 to a CONNECT for another protocol.
pub(crate) fn accept(
    method: &Method,
    version: Version,
    protocol: Option<&str>,
    headers: &HeaderMap,
    compression: bool,
) -> Result<Accepted, Refusal> {
    let http2 = version >= Version::HTTP_2;
    match protocol {
        Some(protocol) if http2 && method == Method::CONNECT => {
            // The value is compared as RFC 8441 section 4 has it: with the names of the Upgrade registry.
            if !protocol.eq_ignore_ascii_case("websocket") {
                return Err(Refusal::OTHER_PROTOCOL);
            }
        }
        _ if method != Method::GET => return Err(Refusal::METHOD),
        _ if http2 => return Err(Refusal::NO_UPGRADE_HTTP2),
        _ => {
            let asks = has_token(headers, &header::UPGRADE, "websocket")
                && has_token(headers, &header::CONNECTION, "upgrade");
            // RFC 9110 section 7.8: an Upgrade in HTTP/1.0 is ignored.
            if !asks || version < Version::HTTP_11 {
                return Err(Refusal::NO_UPGRADE);
            }
        }
    }

    if single(headers, &header::SEC_WEBSOCKET_VERSION) != Some("13") {
        return Err(Refusal::VERSION);
    }
    let accept = match http2 {
        true => None,
        false => {
            let key = single(headers, &header::SEC_WEBSOCKET_KEY)
                .filter(|key| is_key(key))
                .ok_or(Refusal::KEY)?;
            Some(accept_of(key))
        }
    };
    let deflate = match compression {
        true => extensions::negotiate(headers).map_err(|_| Refusal::EXTENSIONS)?,
        false => None,
    };
    let Subprotocols {
        answer,
        encoding,
        bearer,
    } = Subprotocols::choose(headers);
    Ok(Accepted {
        accept,
        subprotocol: answer,
        encoding,
        bearer,
        deflate,
    })
}

impl Accepted {
    /// 101 over HTTP/1.1; over HTTP/2 a CONNECT is answered with 200.
    pub(crate) fn status(&self) -> StatusCode {
        match self.accept {
            Some(_) => StatusCode::SWITCHING_PROTOCOLS,
            None => StatusCode::OK,
        }
    }

    /// Adds the headers of the answer.
    pub(crate) fn write_headers(&self, headers: &mut HeaderMap) {
        if let Some(accept) = &self.accept {
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept.clone());
        }
        if let Some(subprotocol) = &self.subprotocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol.clone());
        }
        if let Some(deflate) = self.deflate {
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, deflate.to_header());
        }
    }
}

/// Why a request does not become a WebSocket, as an HTTP answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// The stable code for the error's body.
    pub(crate) code: &'static str,
    /// The sentence for the error's body.
    pub(crate) message: &'static str,
    headers: &'static [(HeaderName, &'static str)],
}

impl Refusal {
    const NO_UPGRADE: Self = Self {
        status: StatusCode::UPGRADE_REQUIRED,
        code: "upgrade_required",
        message: "this is a WebSocket endpoint: connect with ws:// or wss://",
        // RFC 9110 section 15.5.22 requires Upgrade, section 7.8 the Connection that goes with it.
        headers: &[
            (header::UPGRADE, "websocket"),
            (header::CONNECTION, "Upgrade"),
        ],
    };
    /// HTTP/2 has neither header (RFC 9113 section 8.2.2), and treats an answer with them as malformed.
    const NO_UPGRADE_HTTP2: Self = Self {
        headers: &[],
        ..Self::NO_UPGRADE
    };
    const METHOD: Self = Self {
        status: StatusCode::METHOD_NOT_ALLOWED,
        code: "method_not_allowed",
        message: "a WebSocket is opened with GET",
        headers: &[(header::ALLOW, "GET")],
    };
    /// RFC 8441 leaves the answer open; RFC 9220 section 3 names 501.
    const OTHER_PROTOCOL: Self = Self {
        status: StatusCode::NOT_IMPLEMENTED,
        code: "unknown_protocol",
        message: "the only :protocol here is websocket",
        headers: &[],
    };
    /// RFC 6455 section 4.4.
    const VERSION: Self = Self {
        status: StatusCode::UPGRADE_REQUIRED,
        code: "unsupported_websocket_version",
        message: "Sec-WebSocket-Version must be 13",
        headers: &[(header::SEC_WEBSOCKET_VERSION, "13")],
    };
    const KEY: Self = Self {
        status: StatusCode::BAD_REQUEST,
        code: "bad_websocket_key",
        message: "Sec-WebSocket-Key must be given once, as 1 to 128 visible ASCII characters",
        headers: &[],
    };
    const EXTENSIONS: Self = Self {
        status: StatusCode::BAD_REQUEST,
        code: "bad_websocket_extensions",
        message: "Sec-WebSocket-Extensions is malformed",
        headers: &[],
    };

    /// Adds the headers that go with the status.
    pub(crate) fn write_headers(&self, headers: &mut HeaderMap) {
        for (name, value) in self.headers {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

/// RFC 6455 section 4.2.1 wants base64 of 16 bytes here. Nothing is gained by holding a client to that: the key proves
/// to the *client* that its answer comes from a WebSocket server, and the curl line that this crate's users are given
/// sends `test`. So any text is hashed, up to a length that keeps it a key.
fn is_key(key: &str) -> bool {
    (1..=128).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
}

/// RFC 6455 section 4.2.2, step 5.4.
fn accept_of(key: &str) -> HeaderValue {
    let digest = Sha1::new()
        .chain_update(key)
        .chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
        .finalize();
    // Base64 is visible ASCII.
    HeaderValue::try_from(STANDARD.encode(digest)).unwrap_or(HeaderValue::from_static(""))
}

struct Subprotocols {
    answer: Option<HeaderValue>,
    encoding: Encoding,
    bearer: Option<Bearer>,
}

impl Subprotocols {
    /// The first of `json` and `msgpack` in the client's order, and the first `bearer.<token>`.
    ///
    /// A browser that offered something drops a connection whose answer names nothing of it. So when a token was all
    /// that it offered, the token is the answer, and goes back to where it came from; clients that offer `json` beside
    /// it do not see it again.
    fn choose(headers: &HeaderMap) -> Self {
        let mut encoding = None;
        let mut bearer = None;
        for offer in elements(headers, &header::SEC_WEBSOCKET_PROTOCOL) {
            let known = match offer {
                "json" => Some(Encoding::Json),
                "msgpack" => Some(Encoding::MessagePack),
                _ => None,
            };
            encoding = encoding.or(known);
            if bearer.is_none()
                && let Some(token) = offer.strip_prefix("bearer.")
                && !token.is_empty()
                && token.chars().all(extensions::is_token)
            {
                bearer = Some(token);
            }
        }
        let answer = match (encoding, bearer) {
            (Some(Encoding::Json), _) => Some(HeaderValue::from_static("json")),
            (Some(Encoding::MessagePack), _) => Some(HeaderValue::from_static("msgpack")),
            (None, Some(token)) => {
                HeaderValue::try_from(format!("bearer.{token}"))
                    .ok()
                    .map(|mut value| {
                        value.set_sensitive(true);
                        value
                    })
            }
            (None, None) => None,
        };
        Self {
            answer,
            encoding: encoding.unwrap_or_default(),
            bearer: bearer.map(|token| Bearer(token.to_owned())),
        }
    }
}

/// The value of a header that must be there once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?.trim();
    values.next().is_none().then_some(value)
}

/// The elements of a list header, over all its lines.
fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    elements(headers, name).any(|element| element.eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455 section 1.2, with some lines changed; `""` removes one.
    fn upgrade(changes: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let example = [
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
        ];
        for (name, value) in example.iter().chain(changes) {
            match *value {
                "" => drop(headers.remove(*name)),
                value => drop(headers.insert(*name, HeaderValue::from_static(value))),
            }
        }
        headers
    }

    fn over_http1(headers: &HeaderMap) -> Result<Accepted, Refusal> {
        accept(&Method::GET, Version::HTTP_11, None, headers, true)
    }

    fn answered(accepted: &Accepted) -> HeaderMap {
        let mut headers = HeaderMap::new();
        accepted.write_headers(&mut headers);
        headers
    }

    #[test]
    fn the_rfcs_example() {
        let accepted = over_http1(&upgrade(&[])).unwrap();
        assert_eq!(accepted.status(), StatusCode::SWITCHING_PROTOCOLS);
        let headers = answered(&accepted);
        assert_eq!(
            headers["sec-websocket-accept"],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert_eq!(headers["upgrade"], "websocket");
        assert_eq!(headers["connection"], "Upgrade");
        assert!(!headers.contains_key("sec-websocket-protocol"));
        assert!(!headers.contains_key("sec-websocket-extensions"));
        assert_eq!(accepted.encoding, Encoding::Json);
    }

    #[test]
    fn keys_of_any_content_are_hashed_as_a_client_would() {
        for key in ["test", "dGhlIHNhbXBsZSBub25jZQ=="] {
            let headers = answered(&over_http1(&upgrade(&[("sec-websocket-key", key)])).unwrap());
            let oracle = tungstenite::handshake::derive_accept_key(key.as_bytes());
            assert_eq!(headers["sec-websocket-accept"], oracle);
        }
    }

    #[test]
    fn firefox_and_proxies_write_the_lists_their_way() {
        let headers = upgrade(&[
            ("connection", "keep-alive, UPGRADE"),
            ("upgrade", "h2c, WebSocket"),
        ]);
        assert!(over_http1(&headers).is_ok());
    }

    #[test]
    fn a_plain_get_is_told_to_upgrade() {
        for headers in [
            HeaderMap::new(),
            upgrade(&[("upgrade", "")]),
            upgrade(&[("connection", "keep-alive")]),
            upgrade(&[("upgrade", "h2c")]),
        ] {
            let refusal = over_http1(&headers).unwrap_err();
            assert_eq!(refusal.status, StatusCode::UPGRADE_REQUIRED);
            let mut answer = HeaderMap::new();
            refusal.write_headers(&mut answer);
            assert_eq!(answer["upgrade"], "websocket");
            assert_eq!(answer["connection"], "Upgrade");
        }
        let old = accept(&Method::GET, Version::HTTP_10, None, &upgrade(&[]), true);
        assert_eq!(old.unwrap_err().status, StatusCode::UPGRADE_REQUIRED);
        let http2 =
            accept(&Method::GET, Version::HTTP_2, None, &HeaderMap::new(), true).unwrap_err();
        assert_eq!(http2.status, StatusCode::UPGRADE_REQUIRED);
        let mut answer = HeaderMap::new();
        http2.write_headers(&mut answer);
        assert!(
            answer.is_empty(),
            "connection headers are illegal in HTTP/2"
        );
    }

    #[test]
    fn another_version_is_told_which_one() {
        for version in ["8", "", "13, 8", "013"] {
            let refusal = over_http1(&upgrade(&[("sec-websocket-version", version)])).unwrap_err();
            assert_eq!(refusal.status, StatusCode::UPGRADE_REQUIRED, "{version:?}");
            let mut answer = HeaderMap::new();
            refusal.write_headers(&mut answer);
            assert_eq!(answer["sec-websocket-version"], "13");
        }
    }

    #[test]
    fn a_key_must_be_there_once() {
        let long: &'static str = "k".repeat(129).leak();
        for key in ["", "two words", long] {
            let refusal = over_http1(&upgrade(&[("sec-websocket-key", key)])).unwrap_err();
            assert_eq!(refusal, Refusal::KEY, "{key:?}");
        }
        let mut twice = upgrade(&[]);
        twice.append("sec-websocket-key", HeaderValue::from_static("again"));
        assert_eq!(over_http1(&twice).unwrap_err(), Refusal::KEY);
        let mut opaque = upgrade(&[]);
        opaque.insert(
            "sec-websocket-key",
            HeaderValue::from_bytes(b"\xFFkey").unwrap(),
        );
        assert_eq!(over_http1(&opaque).unwrap_err(), Refusal::KEY);
        assert!(over_http1(&upgrade(&[("sec-websocket-key", &long[1..])])).is_ok());
    }

    #[test]
    fn other_methods_are_refused() {
        for method in [Method::POST, Method::HEAD, Method::CONNECT] {
            let refusal = accept(&method, Version::HTTP_11, None, &upgrade(&[]), true).unwrap_err();
            assert_eq!(refusal.status, StatusCode::METHOD_NOT_ALLOWED);
            let mut answer = HeaderMap::new();
            refusal.write_headers(&mut answer);
            assert_eq!(answer["allow"], "GET");
        }
    }

    #[test]
    fn extended_connect_needs_no_key() {
        let headers = upgrade(&[
            ("upgrade", ""),
            ("connection", ""),
            ("sec-websocket-key", ""),
            ("sec-websocket-protocol", "msgpack"),
        ]);
        let connect =
            |protocol| accept(&Method::CONNECT, Version::HTTP_2, protocol, &headers, true);
        let accepted = connect(Some("websocket")).unwrap();
        assert_eq!(accepted.status(), StatusCode::OK);
        let answer = answered(&accepted);
        assert_eq!(answer.len(), 1, "no header of HTTP/1.1: {answer:?}");
        assert_eq!(answer["sec-websocket-protocol"], "msgpack");

        assert_eq!(
            connect(Some("connect-udp")).unwrap_err().status,
            StatusCode::NOT_IMPLEMENTED
        );
        assert_eq!(
            connect(None).unwrap_err().status,
            StatusCode::METHOD_NOT_ALLOWED
        );
    }

    #[test]
    fn subprotocols() {
        let chosen = |offer: &'static str| {
            let accepted = over_http1(&upgrade(&[("sec-websocket-protocol", offer)])).unwrap();
            let answer = answered(&accepted)
                .get("sec-websocket-protocol")
                .map(|value| value.to_str().unwrap().to_owned());
            let bearer = accepted.bearer.map(|Bearer(token)| token);
            (answer, accepted.encoding, bearer)
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(chosen("json"), (some("json"), Encoding::Json, None));
        assert_eq!(
            chosen("msgpack, json"),
            (some("msgpack"), Encoding::MessagePack, None)
        );
        assert_eq!(chosen("json,msgpack"), (some("json"), Encoding::Json, None));
        assert_eq!(chosen("graphql-ws"), (None, Encoding::Json, None));
        assert_eq!(
            chosen("bearer.eyJ.abc-_, msgpack"),
            (some("msgpack"), Encoding::MessagePack, some("eyJ.abc-_")),
            "the token is not sent back where there is something else to answer"
        );
        assert_eq!(
            chosen("bearer.t1"),
            (some("bearer.t1"), Encoding::Json, some("t1"))
        );
        assert_eq!(chosen("bearer., bearer.a b"), (None, Encoding::Json, None));

        let mut two_lines = upgrade(&[("sec-websocket-protocol", "bearer.t2")]);
        two_lines.append("sec-websocket-protocol", HeaderValue::from_static("json"));
        let accepted = over_http1(&two_lines).unwrap();
        assert_eq!(answered(&accepted)["sec-websocket-protocol"], "json");
        assert_eq!(accepted.bearer, Some(Bearer("t2".to_owned())));
    }

    #[test]
    fn an_echoed_token_is_marked_sensitive() {
        let accepted = over_http1(&upgrade(&[("sec-websocket-protocol", "bearer.t1")])).unwrap();
        assert!(answered(&accepted)["sec-websocket-protocol"].is_sensitive());
        assert!(!format!("{accepted:?}").contains("t1"), "{accepted:?}");
    }

    #[test]
    fn compression_is_a_choice_of_both_sides() {
        let offer = upgrade(&[("sec-websocket-extensions", "permessage-deflate")]);
        let accepted = over_http1(&offer).unwrap();
        assert!(accepted.deflate.is_some());
        assert!(answered(&accepted).contains_key("sec-websocket-extensions"));

        let accepted = accept(&Method::GET, Version::HTTP_11, None, &offer, false).unwrap();
        assert!(accepted.deflate.is_none());
        assert!(!answered(&accepted).contains_key("sec-websocket-extensions"));

        let malformed = upgrade(&[("sec-websocket-extensions", "permessage-deflate;;")]);
        assert_eq!(over_http1(&malformed).unwrap_err(), Refusal::EXTENSIONS);
    }
}
