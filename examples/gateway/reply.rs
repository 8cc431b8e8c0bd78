//! Answers in the shapes that OpenAI's clients read: completions, chunks of a stream, errors.

use std::{
    io,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Json,
    body::{Body, Bytes},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde_json::{Value, json};
use tower_realtime::{RequestMeter, Usage};

use crate::{provider::Answer, random::Random};

const WORDS: [&str; 12] = [
    "a ", "request ", "that ", "nobody ", "watches ", "still ", "costs ", "what ", "it ",
    "costs, ", "so ", "look. ",
];
/// Tokens that come in one chunk of a stream.
const CHUNK: u64 = 8;

/// A refusal or failure, with the code that clients and the page tell apart.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            code: "not_found",
            message: message.into(),
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code: "invalid_request_error",
            message: message.into(),
        }
    }

    pub(crate) fn quota(provider: &str) -> Self {
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            code: "quota_exceeded",
            message: format!("the quota of {provider} is used up; try again in a few seconds"),
        }
    }

    pub(crate) fn provider(status: StatusCode, provider: &str) -> Self {
        let what = match status {
            StatusCode::GATEWAY_TIMEOUT => "did not answer in time",
            StatusCode::BAD_GATEWAY => "closed the connection",
            _ => "is overloaded",
        };
        Self {
            status,
            code: "provider_error",
            message: format!("{provider} {what}"),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let error =
            json!({"error": {"message": self.message, "type": self.code, "code": self.code}});
        let mut response = (self.status, Json(error)).into_response();
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            let seconds = HeaderValue::from_static("5");
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

pub(crate) fn usage_json(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
    })
}

/// The whole answer at once.
pub(crate) async fn completion(meter: RequestMeter, model: String, answer: Answer) -> Response {
    let writing = answer.per_token * answer.usage.output as u32;
    tokio::time::sleep(answer.first_token + writing).await;
    let usage = usage_json(&answer.usage);
    meter.tokens(answer.usage);
    Json(json!({
        "id": completion_id(),
        "object": "chat.completion",
        "created": unix_seconds(),
        "model": model,
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": WORDS.concat()},
            "finish_reason": "stop",
        }],
        "usage": usage,
    }))
    .into_response()
}

/// The answer as it is written. What it used is known at its end only, long after the handler has returned: that is
/// when the meter is told.
pub(crate) async fn completion_stream(
    meter: RequestMeter,
    model: String,
    answer: Answer,
) -> Response {
    // A provider sends its head when it has the first token.
    tokio::time::sleep(answer.first_token).await;
    let (id, created) = (completion_id(), unix_seconds());
    let chunk = move |delta: Value, finish: Option<&str>, usage: Option<&Usage>| {
        let mut chunk = json!({
            "id": id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        });
        if let Some(usage) = usage {
            chunk["usage"] = usage_json(usage);
        }
        format!("data: {chunk}\n\n")
    };
    let total = answer.usage.output;
    let body = stream::try_unfold(Some(0), move |written: Option<u64>| {
        let bytes = match written {
            None => None,
            Some(written) if written < total => {
                let word = WORDS[(written / CHUNK) as usize % WORDS.len()];
                Some(chunk(json!({"content": word}), None, None))
            }
            Some(_) => {
                meter.tokens(answer.usage);
                let last = chunk(json!({}), Some("stop"), Some(&answer.usage));
                Some(last + "data: [DONE]\n\n")
            }
        };
        let pause = answer.per_token * CHUNK as u32;
        let breaks = answer.breaks && written.is_some_and(|written| written > total / 2);
        let next = written
            .filter(|written| *written < total)
            .map(|written| written + CHUNK);
        async move {
            let Some(bytes) = bytes else { return Ok(None) };
            tokio::time::sleep(pause).await;
            if breaks {
                return Err(io::Error::from(io::ErrorKind::ConnectionReset));
            }
            Ok(Some((Bytes::from(bytes), next)))
        }
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, Body::from_stream(body)).into_response()
}

fn completion_id() -> String {
    let random = Random::fresh().unit();
    format!("chatcmpl-{:010}", (random * 1e10) as u64)
}

fn unix_seconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}
