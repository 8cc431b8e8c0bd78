//! CORS: which pages of other origins may read our answers.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request::Parts,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::SerializeMap};

use super::origin::is_origin;
use crate::error::{Error, Kind};

const METHODS: &str = "GET, HEAD, POST, PUT, DELETE";
/// What a page may send beside what every page may.
const REQUEST_HEADERS: &str =
    "authorization, cache-control, content-type, last-event-id, x-reconnect-token";
const RESPONSE_HEADERS: &str = "retry-after, x-reconnect-token, x-realtime-denied";
/// Ten minutes, more than which Chromium does not keep a preflight's answer by much.
const MAX_AGE: &str = "600";

/// Which pages of other origins may read the streams and the API.
///
/// It only concerns our own paths. **Either this, or a CORS layer of the host's own that wraps everything, not both:**
///
/// - A `CorsLayer` inside (on routes, or added before [`RealtimeLayer`](crate::RealtimeLayer)) never sees our paths. This
///   setting and that layer go together, each for its own.
/// - A `CorsLayer` outside (added after `RealtimeLayer`, or around the finished service) answers every preflight itself,
///   ours too, and changes our answers after us: it replaces `access-control-allow-origin`, leaves
///   `access-control-allow-credentials` as it finds it and adds a second `vary`. What comes out of both is neither's: with
///   `CorsLayer::permissive()` and a list with credentials here, an answer has the origin `*` beside credentials, which no
///   browser takes. Nothing tells us of a layer that is still to come, so leave this off there, and let that layer allow
///   the headers `authorization`, `cache-control`, `content-type`, `last-event-id` and `x-reconnect-token`, those that
///   [`Access::check`](crate::Access::check) reads, and expose `retry-after`, `x-reconnect-token` and `x-realtime-denied`.
///
/// In a configuration file: `"off"`, `"any"`, a list of origins, or
/// `{"origins": ["https://app.example.com"], "credentials": true, "headers": ["x-api-key"]}`, where `origins` may be
/// `"any"`, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    origins: Allowed,
    credentials: bool,
    headers: Vec<String>,
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
            ..Self::default()
        }
    }

    /// The pages of these origins (`https://app.example.com`, with the port unless it is the default one).
    pub fn list<T: Into<String>>(origins: impl IntoIterator<Item = T>) -> Self {
        Self {
            origins: Allowed::List(origins.into_iter().map(Into::into).collect()),
            ..Self::default()
        }
    }

    /// Whether these pages may have the browser send the user's cookies. Only with [`list`](Self::list). Defaults to
    /// `false`.
    #[must_use]
    pub fn credentials(mut self, allowed: bool) -> Self {
        self.credentials = allowed;
        self
    }

    /// Headers that these pages may send besides those that the crate reads itself: what
    /// [`Access::check`](crate::Access::check) looks at, such as `x-api-key`. Takes names of headers, at most 64, and no
    /// `*`, which does not stand for all where credentials are allowed. Defaults to none.
    #[must_use]
    pub fn headers<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.headers = names.into_iter().map(Into::into).collect();
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
        if let Some(name) = self.headers.iter().find(|name| !is_header(name)) {
            return wrong(format!(
                "cors has the header {name:?}: it takes names of headers such as x-api-key"
            ));
        }
        if self.headers.len() > MAX_HEADERS {
            return wrong(format!(
                "cors has {} headers: it takes at most {MAX_HEADERS}",
                self.headers.len()
            ));
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
                (
                    header::ACCESS_CONTROL_ALLOW_METHODS,
                    HeaderValue::from_static(METHODS),
                ),
                (header::ACCESS_CONTROL_ALLOW_HEADERS, self.request_headers()),
                (
                    header::ACCESS_CONTROL_MAX_AGE,
                    HeaderValue::from_static(MAX_AGE),
                ),
            ] {
                headers.insert(name, value);
            }
        }
        Some(response)
    }

    /// All that a page may send.
    fn request_headers(&self) -> HeaderValue {
        let ours = HeaderValue::from_static(REQUEST_HEADERS);
        if self.headers.is_empty() {
            return ours;
        }
        let all = format!("{REQUEST_HEADERS}, {}", self.headers.join(", "));
        // The names have been checked, so it is one.
        HeaderValue::try_from(all.to_ascii_lowercase()).unwrap_or(ours)
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

/// The most headers of the host's own.
const MAX_HEADERS: usize = 64;

/// `*` is a name as far as its characters go, and would mean every one, or only itself.
fn is_header(name: &str) -> bool {
    name != "*" && name.len() <= 128 && HeaderName::from_bytes(name.as_bytes()).is_ok()
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
    origins: Origins,
    #[serde(default)]
    credentials: bool,
    #[serde(default)]
    headers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Origins {
    Word(String),
    List(Vec<String>),
}

impl<'de> Deserialize<'de> for Cors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let takes = || {
            D::Error::custom(
                r#"cors takes "off", "any", a list of origins, or {"origins": […], "credentials": true, "headers": […]}"#,
            )
        };
        let cors = match File::deserialize(deserializer).map_err(|_| takes())? {
            File::Word(word) if word == "off" => Self::off(),
            File::Word(word) if word == "any" => Self::any(),
            File::Word(_) => return Err(takes()),
            File::Origins(origins) => Self::list(origins),
            File::Full(full) => match full.origins {
                Origins::List(origins) => Self::list(origins),
                Origins::Word(word) if word == "any" => Self::any(),
                Origins::Word(_) => return Err(takes()),
            }
            .credentials(full.credentials)
            .headers(full.headers),
        };
        cors.validate().map_err(D::Error::custom)?;
        Ok(cors)
    }
}

impl Serialize for Cors {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let plain = !self.credentials && self.headers.is_empty();
        match &self.origins {
            Allowed::None => serializer.serialize_str("off"),
            Allowed::Any if plain => serializer.serialize_str("any"),
            Allowed::List(origins) if plain => origins.serialize(serializer),
            origins => {
                let mut map = serializer.serialize_map(None)?;
                match origins {
                    Allowed::List(origins) => map.serialize_entry("origins", origins)?,
                    _ => map.serialize_entry("origins", "any")?,
                }
                if self.credentials {
                    map.serialize_entry("credentials", &true)?;
                }
                if !self.headers.is_empty() {
                    map.serialize_entry("headers", &self.headers)?;
                }
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests;
