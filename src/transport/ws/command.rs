//! Commands: what a client's message asks for.

use serde_json::{Map, Value};

use super::codec::msgpack;
use crate::{
    refusal::shown,
    transport::{
        kinds::MESSAGES_IN,
        names::{MAX_NAMES, bounded},
        params::{CRITERIA, PACE},
        query::Query,
    },
};

/// A message of a client, understood.
#[derive(Debug)]
pub(super) enum Command {
    Subscribe {
        names: Vec<String>,
        filter: Option<Query>,
    },
    Unsubscribe {
        names: Vec<String>,
        filter: Option<Query>,
    },
    /// With what the answer carries back.
    Ping(Value),
    Pong,
    Auth {
        token: String,
    },
    Resume {
        since: String,
    },
}

/// Why a message does nothing: a stable code, and a sentence.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Fault {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new("bad_message", message)
    }
}

/// The longest data of a `ping` that comes back.
const MAX_ECHO_BYTES: usize = 1024;

impl Command {
    pub(super) fn from_text(text: &str) -> Result<Self, Fault> {
        match serde_json::from_str(text) {
            Ok(value) => Self::from_value(value),
            Err(error) => Err(Fault::new(
                "bad_json",
                format!("the message is not JSON: {error}"),
            )),
        }
    }

    pub(super) fn from_packed(bytes: &[u8]) -> Result<Self, Fault> {
        match msgpack::to_json(bytes) {
            Ok(value) => Self::from_value(value),
            Err(error) => Err(Fault::new("bad_msgpack", error.to_string())),
        }
    }

    fn from_value(value: Value) -> Result<Self, Fault> {
        let Value::Object(mut message) = value else {
            return Err(Fault::bad("the message is not an object"));
        };
        let Some(Value::String(kind)) = message.remove("type") else {
            return Err(Fault::bad("the message has no text 'type'"));
        };
        // Members may stand in `data`, as seed 001 prints, or beside `type`.
        let (mut data, in_data) = match message.remove("data") {
            Some(Value::Object(data)) => (data, true),
            _ => (message, false),
        };
        Ok(match kind.as_str() {
            "subscribe" => {
                let (names, filter) = wanted(data, in_data)?;
                Self::Subscribe { names, filter }
            }
            "unsubscribe" => {
                let (names, filter) = wanted(data, in_data)?;
                Self::Unsubscribe { names, filter }
            }
            "ping" => Self::Ping(echo(data)),
            "pong" => Self::Pong,
            "auth" => Self::Auth {
                token: text(&mut data, "token")?,
            },
            "resume" => Self::Resume {
                since: text(&mut data, "since")?,
            },
            _ => {
                let kind = shown(&kind);
                return Err(Fault::new(
                    "unknown_type",
                    format!(
                        "type '{kind}' is not known; known are {}",
                        MESSAGES_IN.join(", ")
                    ),
                ));
            }
        })
    }
}

fn text(data: &mut Map<String, Value>, name: &str) -> Result<String, Fault> {
    match data.remove(name) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(Fault::bad(format!("'{name}' takes a text"))),
    }
}

/// The members of an envelope that may stand beside those of its data.
const ENVELOPE: [&str; 3] = ["channel", "id", "timestamp"];

/// The channels and the filter, and nothing else: a member that is passed over in silence looks as if it worked.
fn wanted(
    mut data: Map<String, Value>,
    in_data: bool,
) -> Result<(Vec<String>, Option<Query>), Fault> {
    let wanted = (names(&mut data)?, filter(&mut data)?);
    if !in_data {
        data.retain(|name, _| !ENVELOPE.contains(&name.as_str()));
    }
    match unknown(data.keys()) {
        Some(names) => Err(Fault::bad(format!(
            "{names} not taken here; taken are 'channels' (or 'metrics', or 'rooms') and 'filter'"
        ))),
        None => Ok(wanted),
    }
}

/// How many names are told at most.
const MAX_TOLD: usize = 5;

/// The names, for the beginning of a sentence; `None` where there is none.
fn unknown<'a>(names: impl Iterator<Item = &'a String>) -> Option<String> {
    let names: Vec<String> = names
        .take(MAX_TOLD)
        .map(|name| format!("'{}'", shown(name)))
        .collect();
    match names.len() {
        0 => None,
        1 => Some(format!("{} is", names[0])),
        _ => Some(format!("{} are", names.join(", "))),
    }
}

/// What the list of channels may be called.
const NAMES: [&str; 3] = ["channels", "metrics", "rooms"];

/// `channels`, or one of its other names.
fn names(data: &mut Map<String, Value>) -> Result<Vec<String>, Fault> {
    let wrong = || Fault::bad("'channels' takes a list of channels");
    let given: Vec<&str> = NAMES
        .into_iter()
        .filter(|name| data.contains_key(*name))
        .collect();
    if let [first, others @ .., last] = &given[..] {
        let others: String = others.iter().map(|name| format!(", '{name}'")).collect();
        return Err(Fault::bad(format!(
            "'{first}'{others} and '{last}' are names of one member: give one of them"
        )));
    }
    let listed = given.first().and_then(|name| data.remove(*name));
    let names: Vec<String> = match listed {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => {
            let text = |name| match name {
                Value::String(name) => Ok(name),
                _ => Err(wrong()),
            };
            names.into_iter().map(text).collect::<Result<_, _>>()?
        }
        _ => return Err(wrong()),
    };
    if names.is_empty() {
        return Err(wrong());
    }
    bounded(names.iter().map(String::as_str), MAX_NAMES)
        .map_err(|what| Fault::bad(format!("'channels' {what}")))
}

/// The members of a filter as the pairs of a query: there is one reader of filters.
fn filter(data: &mut Map<String, Value>) -> Result<Option<Query>, Fault> {
    let members = match data.remove("filter") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(members)) => members,
        Some(_) => return Err(Fault::bad("'filter' takes an object")),
    };
    let known = [&CRITERIA[..], &PACE].concat();
    let is_unknown = |name: &&String| !known.contains(&name.as_str());
    if let Some(names) = unknown(members.keys().filter(is_unknown)) {
        return Err(Fault::bad(format!(
            "{names} not known in 'filter', which takes {}",
            known.join(", ")
        )));
    }
    let mut pairs = Vec::new();
    for (name, value) in members {
        let Some(text) = plain(&value) else {
            let name = shown(&name);
            return Err(Fault::bad(format!(
                "'{name}' in 'filter' takes a text, a number, true, false or a list of texts"
            )));
        };
        if value != Value::Null {
            pairs.push((name, text));
        }
    }
    Ok(Some(Query::of(pairs)))
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Array(members) => {
            let texts: Option<Vec<&str>> = members.iter().map(Value::as_str).collect();
            texts.map(|texts| texts.join(","))
        }
        Value::Object(_) => None,
    }
}

fn echo(data: Map<String, Value>) -> Value {
    let data = Value::Object(data);
    match data.to_string().len() {
        0..=MAX_ECHO_BYTES => data,
        _ => Value::Object(Map::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_message_that_is_wrong_says_how() {
        for (text, code) in [
            ("", "bad_json"),
            ("{", "bad_json"),
            ("[]", "bad_message"),
            ("1", "bad_message"),
            ("{}", "bad_message"),
            (r#"{"type":1}"#, "bad_message"),
            (r#"{"type":"dance"}"#, "unknown_type"),
            (r#"{"type":"subscribe"}"#, "bad_message"),
            (
                r#"{"type":"subscribe","data":{"channels":[]}}"#,
                "bad_message",
            ),
            (
                r#"{"type":"subscribe","data":{"channels":[1]}}"#,
                "bad_message",
            ),
            (
                r#"{"type":"subscribe","data":{"channels":["a"],"filter":7}}"#,
                "bad_message",
            ),
            (
                r#"{"type":"subscribe","data":{"channels":["a"],"filter":{"level":{}}}}"#,
                "bad_message",
            ),
            (
                r#"{"type":"subscribe","data":{"channels":["a"],"filters":{}}}"#,
                "bad_message",
            ),
            (
                r#"{"type":"subscribe","channels":["a"],"filters":{}}"#,
                "bad_message",
            ),
            (r#"{"type":"auth","data":{}}"#, "bad_message"),
            (r#"{"type":"resume","data":{"since":7}}"#, "bad_message"),
        ] {
            assert_eq!(Command::from_text(text).unwrap_err().code, code, "{text}");
        }
        let deep = format!("{{\"type\":{}", "[".repeat(60_000));
        assert_eq!(Command::from_text(&deep).unwrap_err().code, "bad_json");
        assert_eq!(
            Command::from_packed(&[0xC1]).unwrap_err().code,
            "bad_msgpack"
        );
    }

    #[test]
    fn what_is_not_known_is_named_with_what_is() {
        let message = |text: &str| Command::from_text(text).unwrap_err().message;
        let said = message(
            r#"{"type":"subscribe","data":{"channels":["a"],"filter":{"levle":"warn","since":"1-1","level":"warn"}}}"#,
        );
        assert!(
            said.starts_with(
                "'levle', 'since' are not known in 'filter', which takes provider_id, "
            ),
            "{said}"
        );
        assert!(said.contains("max_rate"), "{said}");
        for kind in ["subscribe", "unsubscribe"] {
            let said = message(&format!(
                r#"{{"type":"{kind}","data":{{"channels":["a"],"filters":{{}}}}}}"#
            ));
            assert!(
                said.starts_with("'filters' is not taken here; taken are 'channels'"),
                "{said}"
            );
        }
        let said = message(r#"{"type":"subscribe","data":{"channels":["a"],"metrics":["b"]}}"#);
        assert_eq!(
            said,
            "'channels' and 'metrics' are names of one member: give one of them"
        );
        let long = format!(
            r#"{{"type":"subscribe","data":{{"channels":["a"],"{}":1}}}}"#,
            "x".repeat(9_000)
        );
        assert!(message(&long).len() < 300);
        // What an envelope has may stand beside what is asked.
        let whole = r#"{"type":"unsubscribe","channels":["a"],"id":"1","timestamp":"","channel":"","filter":{"level":"warn"}}"#;
        let Ok(Command::Unsubscribe {
            filter: Some(_), ..
        }) = Command::from_text(whole)
        else {
            panic!()
        };
    }

    #[test]
    fn channels_have_three_names_and_two_places() {
        for text in [
            r#"{"type":"subscribe","data":{"channels":["a","b"]}}"#,
            r#"{"type":"subscribe","data":{"metrics":["a","b"]}}"#,
            r#"{"type":"subscribe","data":{"rooms":["a","b"]}}"#,
            r#"{"type":"subscribe","channels":["a","b"]}"#,
        ] {
            let Ok(Command::Subscribe {
                names,
                filter: None,
            }) = Command::from_text(text)
            else {
                panic!("{text}");
            };
            assert_eq!(names, ["a", "b"], "{text}");
        }
    }

    #[test]
    fn a_filter_is_a_query_by_another_way() {
        let text = r#"{"type":"subscribe","data":{"channels":"a","filter":
            {"only_errors":true,"level":["warn","error"],"interval":7,"provider_id":"p","model_id":null}}}"#;
        let Ok(Command::Subscribe {
            filter: Some(query),
            ..
        }) = Command::from_text(text)
        else {
            panic!();
        };
        let mut pairs: Vec<_> = query.pairs().collect();
        pairs.sort_unstable();
        assert_eq!(
            pairs,
            [
                ("interval", "7"),
                ("level", "warn,error"),
                ("only_errors", "true"),
                ("provider_id", "p")
            ]
        );
    }

    #[test]
    fn a_long_ping_comes_back_empty() {
        let Ok(Command::Ping(echo)) = Command::from_text(r#"{"type":"ping","data":{"n":1}}"#)
        else {
            panic!()
        };
        assert_eq!(echo, serde_json::json!({"n": 1}));
        let long = format!(r#"{{"type":"ping","data":{{"n":"{}"}}}}"#, "x".repeat(2000));
        let Ok(Command::Ping(echo)) = Command::from_text(&long) else {
            panic!()
        };
        assert_eq!(echo, serde_json::json!({}));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,80}|[\\[{\"a:,1}\\]]{0,40}") {
            let _ = Command::from_text(&text);
        }
    }
}
