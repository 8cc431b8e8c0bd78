//! Answers: the two JSON shapes of the REST surface, and what a refusal says.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use crate::middleware::OwnBody;

/// Our own answer to a request.
pub(crate) type Answer = Response<OwnBody>;

/// Why a request gets no answer: a status, a stable code for programs, a sentence for people.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    code: &'static str,
    sentence: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    details: Option<serde_json::Value>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &'static str, sentence: impl Into<String>) -> Self {
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
        let parameter: String = parameter
            .chars()
            .filter(|c| !c.is_control())
            .take(64)
            .collect();
        Self::new(
            StatusCode::BAD_REQUEST,
            "bad_request",
            format!("parameter '{parameter}': {what}"),
        )
    }

    pub(crate) fn not_found(what: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", what)
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

    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Says when to come back, in place of what was said before.
    pub(crate) fn with_retry_after(mut self, wait: std::time::Duration) -> Self {
        self.headers
            .retain(|(name, _)| *name != header::RETRY_AFTER);
        self.with_header(
            header::RETRY_AFTER,
            HeaderValue::from(wait.as_secs().max(1)),
        )
    }

    /// Further members of the JSON body.
    pub(crate) fn with_details(mut self, details: serde_json::Value) -> Self {
        self.details = Some(details);
        self
    }

    #[cfg(feature = "ws")]
    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    #[cfg(feature = "ws")]
    pub(crate) fn details(&self) -> Option<&serde_json::Value> {
        self.details.as_ref()
    }

    #[cfg(any(test, feature = "ws"))]
    pub(crate) fn sentence(&self) -> &str {
        &self.sentence
    }

    pub(crate) fn into_answer(self) -> Answer {
        let mut body =
            serde_json::json!({"success": false, "error": self.sentence, "code": self.code});
        if let (Some(body), Some(serde_json::Value::Object(details))) =
            (body.as_object_mut(), self.details)
        {
            body.extend(details);
        }
        let mut answer = json(self.status, &body);
        for (name, value) in self.headers {
            answer.headers_mut().append(name, value);
        }
        answer
    }
}

impl From<crate::access::Refusal> for Refusal {
    fn from(refusal: crate::access::Refusal) -> Self {
        let mut headers = http::HeaderMap::new();
        refusal.write_headers(&mut headers);
        let named = headers
            .into_iter()
            .filter_map(|(name, value)| Some((name?, value)));
        let headers = named.collect();
        Self {
            headers,
            ..Self::new(refusal.status(), refusal.code(), refusal.message())
        }
    }
}

/// `{"success": true, "data": …}`.
pub(crate) fn data(data: impl Serialize) -> Answer {
    #[derive(Serialize)]
    struct Success<T> {
        success: bool,
        data: T,
    }
    json(
        StatusCode::OK,
        &Success {
            success: true,
            data,
        },
    )
}

/// A JSON body that no cache may keep.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    let body = match serde_json::to_vec(body) {
        Ok(body) => Bytes::from(body),
        Err(_) => Bytes::from_static(
            br#"{"success":false,"error":"the answer is not JSON","code":"internal"}"#,
        ),
    };
    let mut answer = Response::new(OwnBody::full(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
