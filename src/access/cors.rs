//! CORS: which pages of other origins may read our answers.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::SerializeMap};

use super::origin::is_origin;
use crate::error::{Error, Kind};

const METHODS: &str = "GET, HEAD, POST, PUT, DELETE";
const REQUEST_HEADERS: &str = "authorization, cache-control, content-type, last-event-id";
const RESPONSE_HEADERS: &str = "retry-after, x-reconnect-token, x-realtime-denied";
/// Ten minutes, more than which Chromium does not keep a preflight's answer by much.
const MAX_AGE: &str = "600";

/// Which pages of other origins may read the streams and the API.
///
/// It only concerns our own paths. A host that has a CORS layer of its own around everything leaves this off; a header
/// that is already there is never doubled.
///
/// In a configuration file: `"off"`, `"any"`, a list of origins, or
/// `{"origins": ["https://app.example.com"], "credentials": true}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    origins: Allowed,
    credentials: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Allowed {
    #[default]
    None,
    Any,
    List(Vec<String>),
}

impl Cors {
    /// No page of another origin. The default.
    pub fn off() -> Self {
        Self::default()
    }

    /// Every page, without credentials: a page then needs a token of its own, or a service that is open anyway.
    pub fn any() -> Self {
        Self {
            origins: Allowed::Any,
            credentials: false,
        }
    }

    /// The pages of these origins (`https://app.example.com`, with the port unless it is the default one).
    pub fn list<T: Into<String>>(origins: impl IntoIterator<Item = T>) -> Self {
        Self {
            origins: Allowed::List(origins.into_iter().map(Into::into).collect()),
            credentials: false,
        }
    }

    /// Whether these pages may have the browser send the user's cookies. Only with [`list`](Self::list). Defaults to
    /// `false`.
    #[must_use]
    pub fn credentials(mut self, allowed: bool) -> Self {
        self.credentials = allowed;
        self
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        let wrong = |message: String| Err(Error::new(Kind::Config, message));
        match &self.origins {
            Allowed::List(origins) => {
                if let Some(origin) = origins.iter().find(|origin| !is_origin(origin)) {
                    return wrong(format!(
                        "cors has the origin {origin:?}: it takes origins such as https://app.example.com, without a path"
                    ));
                }
            }
            Allowed::None | Allowed::Any if self.credentials => {
                return wrong("cors takes credentials with a list of origins only".to_owned());
            }
            Allowed::None | Allowed::Any => {}
        }
        Ok(())
    }

    /// The origins that were named one by one.
    pub(crate) fn listed(&self) -> &[String] {
        match &self.origins {
            Allowed::List(origins) => origins,
            Allowed::None | Allowed::Any => &[],
        }
    }

    /// Adds to an answer what lets the asking page read it.
    pub(crate) fn apply(&self, request: &HeaderMap, response: &mut HeaderMap) {
        if self.origins == Allowed::None {
            return;
        }
        if matches!(self.origins, Allowed::List(_)) {
            vary_by_origin(response);
        }
        if response.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
            return;
        }
        let Some(allowed) = self.allowed_origin(request) else {
            return;
        };
        response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.credentials {
            response.insert(
                header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            );
        }
        response.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static(RESPONSE_HEADERS),
        );
    }

    /// The answer to a preflight; `None` where the request is none, or nothing is allowed at all. An origin that is
    /// not allowed gets an answer without the headers, which the browser takes as a no.
    pub(crate) fn preflight(&self, parts: &Parts) -> Option<Response<Bytes>> {
        let is_preflight = parts.method == Method::OPTIONS
            && parts.headers.contains_key(header::ORIGIN)
            && parts
                .headers
                .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if !is_preflight || self.origins == Allowed::None {
            return None;
        }
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        self.apply(&parts.headers, headers);
        headers.remove(header::ACCESS_CONTROL_EXPOSE_HEADERS);
        if headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
            for (name, value) in [
                (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
                (header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS),
                (header::ACCESS_CONTROL_MAX_AGE, MAX_AGE),
            ] {
                headers.insert(name, HeaderValue::from_static(value));
            }
        }
        Some(response)
    }

    fn allowed_origin(&self, request: &HeaderMap) -> Option<HeaderValue> {
        let origin = request.get(header::ORIGIN)?;
        match &self.origins {
            Allowed::None => None,
            Allowed::Any => Some(HeaderValue::from_static("*")),
            Allowed::List(origins) => origins
                .iter()
                .any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(origin.as_bytes()))
                .then(|| origin.clone()),
        }
    }
}

/// The answer depends on the page, also where this page gets nothing: a cache must know.
fn vary_by_origin(response: &mut HeaderMap) {
    let known = response
        .get_all(header::VARY)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|name| name.trim() == "*" || name.trim().eq_ignore_ascii_case("origin"));
    if !known {
        response.append(header::VARY, HeaderValue::from_static("Origin"));
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum File {
    Word(String),
    Origins(Vec<String>),
    Full(Full),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Full {
    origins: Vec<String>,
    #[serde(default)]
    credentials: bool,
}

impl<'de> Deserialize<'de> for Cors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let takes = || {
            D::Error::custom(
                r#"cors takes "off", "any", a list of origins, or {"origins": […], "credentials": true}"#,
            )
        };
        let cors = match File::deserialize(deserializer).map_err(|_| takes())? {
            File::Word(word) if word == "off" => Self::off(),
            File::Word(word) if word == "any" => Self::any(),
            File::Word(_) => return Err(takes()),
            File::Origins(origins) => Self::list(origins),
            File::Full(full) => Self::list(full.origins).credentials(full.credentials),
        };
        cors.validate().map_err(D::Error::custom)?;
        Ok(cors)
    }
}

impl Serialize for Cors {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.origins {
            Allowed::None => serializer.serialize_str("off"),
            Allowed::Any => serializer.serialize_str("any"),
            Allowed::List(origins) if !self.credentials => origins.serialize(serializer),
            Allowed::List(origins) => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("origins", origins)?;
                map.serialize_entry("credentials", &true)?;
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
    fn wrong_ones_are_named() {
        for (cors, message) in [
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
        ] {
            assert_eq!(serde_json::from_str::<Cors>(json).unwrap(), cors);
            assert_eq!(serde_json::to_string(&cors).unwrap(), json);
        }
        for json in [r#""all""#, "1", r#"{"origin": []}"#, r#"["*"]"#] {
            let error = serde_json::from_str::<Cors>(json).unwrap_err().to_string();
            assert!(error.starts_with("cors "), "{error}");
        }
    }
}
