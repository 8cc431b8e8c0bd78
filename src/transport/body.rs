//! Bodies of requests to us: JSON, small, and soon. Those that nobody wants are read as well, or the connection ends.

use std::{future::poll_fn, pin::Pin, time::Duration};

use http::{HeaderValue, StatusCode, Version, header, request::Parts};
use http_body::Body;
use serde_json::{Map, Value};

use super::{
    answer::{Answer, Refusal},
    names,
};
use crate::middleware::OwnRequestBody;

/// The largest body that is read.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// How long a body may take to arrive: one that drips in holds a task for no longer.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// And one that nobody looks at. It holds up an answer that is ready: long enough for a body that was sent with its head,
/// or right after it.
const UNWANTED_TIMEOUT: Duration = Duration::from_secs(1);

/// The members of a JSON object.
#[derive(Debug)]
pub(crate) struct Fields(Map<String, Value>);

/// Reads a body that has to be a JSON object.
pub(crate) async fn fields(body: &mut OwnRequestBody) -> Result<Fields, Refusal> {
    parse(&bytes(body).await?)
}

/// The same where everything in it has a default: nothing at all is as good as `{}`.
pub(crate) async fn optional_fields(body: &mut OwnRequestBody) -> Result<Fields, Refusal> {
    let bytes = bytes(body).await?;
    match bytes.is_empty() {
        true => Ok(Fields(Map::new())),
        false => parse(&bytes),
    }
}

/// Sees to what is left of a body when its answer is there. Over HTTP/1 the next request stands behind it: a server that
/// gets the answer first closes the connection, and a client that has not been told so loses its next request, or, where
/// bytes are still on their way, this answer. So what is small and there is read, and otherwise the answer says that it is
/// the last one (RFC 9112, section 9.6). HTTP/2 has a stream for each request.
pub(super) async fn leave_none(parts: &Parts, body: &mut OwnRequestBody, answer: &mut Answer) {
    let goes_on = answer.body().full_len().is_none() || answer.status().is_informational();
    if goes_on || parts.version > Version::HTTP_11 || body.is_end_stream() {
        return;
    }
    // Whoever waits for leave to send it has sent nothing yet, and is not to be asked for it now.
    let waits = parts.headers.contains_key(header::EXPECT);
    let is_large = body.size_hint().lower() > MAX_BODY_BYTES as u64;
    let is_read = !waits
        && !is_large
        && matches!(
            tokio::time::timeout(UNWANTED_TIMEOUT, drop_all(body)).await,
            Ok(true)
        );
    if !is_read {
        answer
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Reads a body of no more than the usual size to its end; false where it is none.
async fn drop_all(body: &mut OwnRequestBody) -> bool {
    let mut left = MAX_BODY_BYTES;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
        let Ok(frame) = frame else { return false };
        let len = frame.data_ref().map_or(0, |data| data.len());
        match left.checked_sub(len) {
            Some(rest) => left = rest,
            None => return false,
        }
    }
    true
}

async fn bytes(body: &mut OwnRequestBody) -> Result<Vec<u8>, Refusal> {
    match tokio::time::timeout(BODY_TIMEOUT, read(body)).await {
        Ok(bytes) => bytes,
        Err(_) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_timeout",
            "the body did not arrive within 10 seconds",
        )),
    }
}

fn parse(bytes: &[u8]) -> Result<Fields, Refusal> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(fields)) => Ok(Fields(fields)),
        Ok(_) => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "bad_json",
            "the body takes a JSON object",
        )),
        Err(error) => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "bad_json",
            format!(
                "the body is not JSON: line {}, column {}",
                error.line(),
                error.column()
            ),
        )),
    }
}

async fn read(body: &mut OwnRequestBody) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
        let Ok(frame) = frame else {
            *body = OwnRequestBody::empty();
            return Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                "bad_body",
                "the body broke off",
            ));
        };
        let data = frame.into_data().unwrap_or_default();
        if bytes.len() + data.len() > MAX_BODY_BYTES {
            return Err(Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                format!("the body takes at most {MAX_BODY_BYTES} bytes"),
            ));
        }
        bytes.extend_from_slice(&data);
    }
    // Nobody is to ask one that has ended again: not every body bears that.
    *body = OwnRequestBody::empty();
    Ok(bytes)
}

impl Fields {
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name)
    }

    /// Refuses the first member that is not among these.
    pub(crate) fn deny_others(&self, known: &[&str]) -> Result<(), Refusal> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => {
                let what = format!("is not known; known are {}", known.join(", "));
                Err(wrong(&crate::refusal::shown(name), &what))
            }
        }
    }

    /// A text that has to be there.
    pub(crate) fn text(&self, name: &'static str) -> Result<&str, Refusal> {
        self.optional_text(name)?
            .ok_or_else(|| wrong(name, "is needed, and takes a string"))
    }

    pub(crate) fn optional_text(&self, name: &'static str) -> Result<Option<&str>, Refusal> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(name, "takes a string")),
        }
    }

    /// A list of channels, or one text with commas, under the first of the names that is there; `None` where none is.
    pub(crate) fn channels(
        &self,
        names: &[&'static str],
        most: usize,
    ) -> Result<Option<Vec<String>>, Refusal> {
        let what = "takes a list of strings";
        let Some((name, value)) = names
            .iter()
            .find_map(|name| Some((*name, self.0.get(*name)?)))
        else {
            return Ok(None);
        };
        let listed: Vec<&str> = match value {
            Value::String(text) => super::params::list(Some(text)).collect(),
            Value::Array(members) => {
                let texts = members.iter().map(Value::as_str);
                let texts: Option<_> = texts.collect();
                texts.ok_or_else(|| wrong(name, what))?
            }
            _ => return Err(wrong(name, what)),
        };
        if listed.is_empty() {
            return Err(wrong(name, "takes at least one channel"));
        }
        let listed = names::bounded(listed, most).map_err(|what| wrong(name, &what))?;
        Ok(Some(listed))
    }
}

/// 400: names the field and what is wrong with it.
pub(crate) fn wrong(field: &str, what: &str) -> Refusal {
    Refusal::new(
        StatusCode::BAD_REQUEST,
        "bad_request",
        format!("field '{field}': {what}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sentence(body: impl Into<OwnRequestBody>) -> String {
        let refused = fields(&mut body.into()).await.unwrap_err();
        refused.sentence().to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_small_object_is_refused() {
        assert!(sentence("").await.contains("not JSON"));
        assert!(sentence("[1]").await.contains("object"));
        assert!(sentence("{\"a\":\n x}").await.contains("line 2"));
        assert!(
            sentence(" ".repeat(MAX_BODY_BYTES + 1))
                .await
                .contains("65536")
        );
        let largest = format!("{{{}}}", " ".repeat(MAX_BODY_BYTES - 2));
        assert!(fields(&mut largest.into()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn fields_are_named_when_they_are_wrong() {
        let body =
            r#"{"n": 1, "list": ["a", "b"], "commas": "a, b", "mixed": ["a", 1], "empty": []}"#;
        let fields = fields(&mut body.into()).await.unwrap();
        let ab = || Some(vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(fields.channels(&["nothing", "list"], 2).unwrap(), ab());
        assert_eq!(fields.channels(&["commas"], 2).unwrap(), ab());
        assert_eq!(fields.channels(&["nothing"], 2).unwrap(), None);
        for (name, most) in [
            ("n", 9),
            ("mixed", 9),
            ("empty", 9),
            ("list", 1),
            ("commas", 1),
        ] {
            let refusal = fields.channels(&[name], most).unwrap_err();
            assert!(
                refusal.sentence().contains(&format!("'{name}'")),
                "{}",
                refusal.sentence()
            );
        }
        assert!(fields.text("n").unwrap_err().sentence().contains("'n'"));
        assert!(
            fields
                .text("nothing")
                .unwrap_err()
                .sentence()
                .contains("needed")
        );
    }
}
