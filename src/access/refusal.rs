//! The answers to those who may not.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// Says to a person, or to the page, why a request from elsewhere was refused.
pub(crate) const DENIED_HEADER: HeaderName = HeaderName::from_static("x-realtime-denied");

/// Why an [`Access::check`](super::Access::check) lets somebody not in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    kind: DeniedKind,
    message: Cow<'static, str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DeniedKind {
    Unauthenticated,
    Forbidden,
    Unavailable,
}

impl Denied {
    /// There are no credentials, or wrong ones: 401.
    pub fn unauthenticated() -> Self {
        Self {
            kind: DeniedKind::Unauthenticated,
            message: "credentials are missing or not valid".into(),
        }
    }

    /// The credentials are good, but not for this: 403.
    pub fn forbidden() -> Self {
        Self {
            kind: DeniedKind::Forbidden,
            message: "the credentials do not allow this".into(),
        }
    }

    /// It cannot be found out now, because a service that would know does not answer: 503, and the client tries
    /// again.
    pub fn unavailable() -> Self {
        Self {
            kind: DeniedKind::Unavailable,
            message: "who may do this cannot be found out at the moment".into(),
        }
    }

    /// Replaces the sentence that the client gets.
    #[must_use]
    pub fn message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.message = message.into();
        self
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        match denied.kind {
            DeniedKind::Unauthenticated => Self::unauthorized("unauthorized", denied.message),
            DeniedKind::Forbidden => Self::forbidden("forbidden", denied.message),
            DeniedKind::Unavailable => Self::unavailable("access_unavailable", denied.message),
        }
    }
}

/// A refused request: a status, a stable code, a sentence, and headers.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: Cow<'static, str>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    /// 401 for missing credentials.
    pub(crate) fn unauthorized(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, message).with(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"realtime\""),
        )
    }

    /// 401 for credentials that are there and not good. RFC 6750, section 3.1.
    pub(crate) fn invalid_token(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, message).with(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"realtime\", error=\"invalid_token\""),
        )
    }

    pub(crate) fn forbidden(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    pub(crate) fn unavailable(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
            .with(header::RETRY_AFTER, HeaderValue::from_static("5"))
    }

    pub(crate) fn too_many(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, code, message)
            .with(header::RETRY_AFTER, HeaderValue::from_static("5"))
    }

    /// 403 of [`Access::loopback`](super::Access::loopback).
    pub(super) fn not_loopback(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::forbidden(code, message).with(DENIED_HEADER, HeaderValue::from_static("not-loopback"))
    }

    fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            headers: Vec::new(),
        }
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Adds what the status asks for: `www-authenticate`, `retry-after`, `x-realtime-denied`.
    pub(crate) fn write_headers(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
    }

    /// `{"success": false, "error": "<sentence>", "code": "<stable_code>"}`
    #[cfg(test)]
    pub(crate) fn body(&self) -> bytes::Bytes {
        let body = serde_json::json!({"success": false, "error": self.message, "code": self.code});
        body.to_string().into()
    }

    #[cfg(test)]
    pub(crate) fn to_response(&self) -> http::Response<bytes::Bytes> {
        let mut response = http::Response::new(self.body());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        self.write_headers(headers);
        response
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_response_says_what_and_why() {
        let response =
            Refusal::from(Denied::unauthenticated().message("log in first")).to_response();
        assert_eq!(response.status(), 401);
        assert_eq!(
            response.headers()["www-authenticate"],
            "Bearer realm=\"realtime\""
        );
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(response.headers()["cache-control"], "no-store");
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(
            body,
            json!({"success": false, "error": "log in first", "code": "unauthorized"})
        );
    }

    #[test]
    fn every_denial_has_its_status_and_code() {
        for (denied, status, code) in [
            (Denied::unauthenticated(), 401, "unauthorized"),
            (Denied::forbidden(), 403, "forbidden"),
            (Denied::unavailable(), 503, "access_unavailable"),
        ] {
            let refusal = Refusal::from(denied);
            assert_eq!((refusal.status().as_u16(), refusal.code()), (status, code));
            let headers = refusal.to_response().headers().clone();
            assert_eq!(headers.contains_key("www-authenticate"), status == 401);
            assert_eq!(headers.contains_key("retry-after"), status == 503);
        }
    }
}
