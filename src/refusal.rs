//! Refusals: why a request gets no answer, whoever refuses it.

use std::{borrow::Cow, time::Duration};

use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

/// Says to a person, or to the page, why a request from elsewhere was refused.
const DENIED_HEADER: HeaderName = HeaderName::from_static("x-realtime-denied");

/// A status, a stable code for programs, a sentence for people, and what the status asks for in headers.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    code: &'static str,
    sentence: Cow<'static, str>,
    headers: Vec<(HeaderName, HeaderValue)>,
    details: Option<Box<Value>>,
}

impl Refusal {
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        sentence: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            code,
            sentence: sentence.into(),
            headers: Vec::new(),
            details: None,
        }
    }

    /// 400: names the parameter and what is wrong with it.
    pub(crate) fn bad_request(parameter: &str, what: &str) -> Self {
        let sentence = format!("parameter '{}': {what}", shown(parameter));
        Self::new(StatusCode::BAD_REQUEST, "bad_request", sentence)
    }

    /// The same with the field of a body at its head.
    pub(crate) fn of_field(mut self, field: &str) -> Self {
        self.sentence = format!("field '{field}': {}", self.sentence).into();
        self
    }

    /// 401 for missing credentials.
    pub(crate) fn unauthorized(code: &'static str, sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, sentence).with_header(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"realtime\""),
        )
    }

    /// 401 for credentials that are there and not good. RFC 6750, section 3.1.
    pub(crate) fn invalid_token(
        code: &'static str,
        sentence: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, sentence).with_header(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"realtime\", error=\"invalid_token\""),
        )
    }

    pub(crate) fn forbidden(code: &'static str, sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, sentence)
    }

    /// 403 of [`Access::loopback`](crate::Access::loopback).
    pub(crate) fn not_loopback(code: &'static str, sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::forbidden(code, sentence)
            .with_header(DENIED_HEADER, HeaderValue::from_static("not-loopback"))
    }

    pub(crate) fn not_found(sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", sentence)
    }

    /// 405 with the methods that are taken.
    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            format!("this path takes {allow}"),
        )
        .with_header(header::ALLOW, HeaderValue::from_static(allow))
    }

    /// 429: later, and not by waiting for somebody else.
    pub(crate) fn too_many(code: &'static str, sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, code, sentence)
            .with_retry_after(Duration::from_secs(5))
    }

    pub(crate) fn unavailable(code: &'static str, sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, sentence)
            .with_retry_after(Duration::from_secs(5))
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Says when to come back, in place of what was said before.
    pub(crate) fn with_retry_after(mut self, wait: Duration) -> Self {
        self.headers
            .retain(|(name, _)| *name != header::RETRY_AFTER);
        self.with_header(
            header::RETRY_AFTER,
            HeaderValue::from(wait.as_secs().max(1)),
        )
    }

    /// Further members of the JSON body.
    pub(crate) fn with_details(mut self, details: Value) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// Whether the same request may succeed later.
    pub(crate) fn is_temporary(&self) -> bool {
        matches!(
            self.status,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
        )
    }

    /// When to come back, where it says so.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let (_, value) = self
            .headers
            .iter()
            .find(|(name, _)| *name == header::RETRY_AFTER)?;
        value.to_str().ok()?.parse().ok().map(Duration::from_secs)
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    #[cfg(any(test, feature = "ws"))]
    pub(crate) fn sentence(&self) -> &str {
        &self.sentence
    }

    #[cfg(feature = "ws")]
    pub(crate) fn details(&self) -> Option<&Value> {
        self.details.as_deref()
    }

    /// What the status asks for: `www-authenticate`, `retry-after`, `allow`, `x-realtime-denied`.
    pub(crate) fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    #[cfg(test)]
    pub(crate) fn header(&self, wanted: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(name, _)| name == wanted);
        found.and_then(|(_, value)| value.to_str().ok())
    }

    /// `{"success": false, "error": "<sentence>", "code": "<stable_code>"}`, and the details.
    pub(crate) fn to_json(&self) -> Value {
        let mut body = json!({"success": false, "error": self.sentence, "code": self.code});
        if let (Some(body), Some(Value::Object(details))) =
            (body.as_object_mut(), self.details.as_deref())
        {
            body.extend(details.clone());
        }
        body
    }
}

/// A client's word as a sentence of ours may repeat it.
pub(crate) fn shown(word: &str) -> String {
    word.chars().filter(|c| !c.is_control()).take(64).collect()
}
