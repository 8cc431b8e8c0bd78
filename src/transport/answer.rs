//! Answers: the two JSON shapes of the REST surface.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use crate::middleware::OwnBody;
pub(crate) use crate::refusal::Refusal;

/// Our own answer to a request.
pub(crate) type Answer = Response<OwnBody>;

impl Refusal {
    pub(crate) fn into_answer(self) -> Answer {
        let mut answer = json(self.status(), &self.to_json());
        for (name, value) in self.headers() {
            answer.headers_mut().append(name, value.clone());
        }
        answer
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
