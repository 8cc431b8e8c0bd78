//! An answer that was read to its end.

use axum::http::{HeaderMap, StatusCode};
use serde_json::Value;

#[derive(Debug)]
pub struct Answer {
    /// What was asked, for messages.
    pub asked: String,
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
    /// The body ended because something broke.
    pub broken: bool,
}

impl Answer {
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        match self.headers.get(name).map(|value| value.to_str()) {
            Some(Ok(value)) => value,
            _ => panic!("{}: no readable header {name} in {self:#?}", self.asked),
        }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!(
                "{} {}: {error} in {:?}",
                self.asked,
                self.status,
                self.text()
            ),
        }
    }

    /// The `data` of an answer of ours that succeeded.
    #[track_caller]
    pub fn data(&self) -> Value {
        let json = self.json();
        assert_eq!(self.status, StatusCode::OK, "{}: {json:#}", self.asked);
        assert_eq!(json["success"], true, "{}: {json:#}", self.asked);
        json["data"].clone()
    }

    /// The sentence of a refusal of ours, whose shape is checked on the way.
    #[track_caller]
    pub fn refusal(&self, status: u16) -> String {
        let json = self.json();
        assert_eq!(self.status, status, "{}: {json:#}", self.asked);
        assert_eq!(json["success"], false, "{}: {json:#}", self.asked);
        let code = json["code"].as_str().unwrap_or_default();
        let stable = !code.is_empty() && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        assert!(stable, "{}: code in {json:#}", self.asked);
        let sentence = json["error"].as_str().unwrap_or_default().to_owned();
        assert!(!sentence.is_empty(), "{}: error in {json:#}", self.asked);
        sentence
    }

    /// Whether one of our own paths answered, rather than the host.
    pub fn is_ours(&self) -> bool {
        let json = serde_json::from_slice::<Value>(&self.body);
        json.is_ok_and(|json| json.get("success").is_some())
    }
}
