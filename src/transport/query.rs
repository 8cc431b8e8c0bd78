//! Query strings: pairs, percent-decoded (WHATWG URL, application/x-www-form-urlencoded).

use std::fmt::Write as _;

use super::answer::Refusal;

/// The pairs of a query string, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

/// The most pairs.
const MAX_PAIRS: usize = 64;

/// Positions: one that is none is unknown, and never an error.
const POSITIONS: [&str; 2] = ["since", "lastEventId"];

impl Query {
    /// # Errors
    /// A pair that is not UTF-8 when decoded, the sentence names the parameter; more pairs than anybody means.
    pub(crate) fn parse(query: Option<&str>) -> Result<Self, Refusal> {
        let mut pairs = Vec::new();
        for pair in query
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty())
        {
            // What is not read can't be refused either, so nothing is left unread in silence.
            if pairs.len() == MAX_PAIRS {
                let what = format!("takes at most {MAX_PAIRS} pairs");
                return Err(Refusal::bad_request("query", &what));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(name) = decode(name) else {
                return Err(Refusal::bad_request(
                    "query",
                    "a parameter's name is not UTF-8",
                ));
            };
            let value = match decode(value) {
                Some(value) => value,
                None if POSITIONS.contains(&name.as_str()) => "\u{FFFD}".to_owned(),
                None => return Err(Refusal::bad_request(&name, "the value is not UTF-8")),
            };
            pairs.push((name, value));
        }
        Ok(Self { pairs })
    }

    /// Pairs that came in another way.
    #[cfg(feature = "ws")]
    pub(crate) fn of(pairs: Vec<(String, String)>) -> Self {
        Self { pairs }
    }

    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The first value of a name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The first value of a name, unless it is empty.
    pub(crate) fn get_text(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }
}

/// Percent-encodes everything but unreserved characters (RFC 3986, section 2.3) and commas.
pub(crate) fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b',' => {
                out.push(char::from(byte))
            }
            // Writing to a string does not fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
}

pub(crate) fn decode(text: &str) -> Option<String> {
    if !text.contains(['%', '+']) {
        return Some(text.to_owned());
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let hex = |at: usize| {
            bytes
                .get(at)
                .and_then(|byte| char::from(*byte).to_digit(16))
        };
        match bytes[index] {
            b'+' => decoded.push(b' '),
            b'%' => match (hex(index + 1), hex(index + 2)) {
                (Some(high), Some(low)) => {
                    decoded.push((high * 16 + low) as u8);
                    index += 2;
                }
                // A lone percent sign stands for itself, as in browsers.
                _ => decoded.push(b'%'),
            },
            byte => decoded.push(byte),
        }
        index += 1;
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_decoded_and_the_first_of_a_name_counts() {
        let query = Query::parse(Some("a=1&b=x%20y+z&a=2&flag&c=%zz%")).unwrap();
        assert_eq!(query.get("a"), Some("1"));
        assert_eq!(query.get("b"), Some("x y z"));
        assert_eq!(query.get("flag"), Some(""));
        assert_eq!(query.get_text("flag"), None);
        assert_eq!(query.get("c"), Some("%zz%"));
        assert_eq!(query.get("d"), None);
    }

    #[test]
    fn a_value_that_is_not_utf8_names_its_parameter() {
        let refusal = Query::parse(Some("user_id=%ff")).unwrap_err();
        assert!(
            refusal.sentence().contains("user_id"),
            "{}",
            refusal.sentence()
        );
        // A position that is none is an unknown one.
        let query = Query::parse(Some("since=%ff&lastEventId=1-%ff")).unwrap();
        assert_eq!(query.get("since"), query.get("lastEventId"));
    }

    #[test]
    fn more_pairs_than_are_read_are_refused() {
        let pairs = |count| vec!["_=1"; count].join("&");
        assert!(Query::parse(Some(&pairs(MAX_PAIRS))).is_ok());
        let refusal = Query::parse(Some(&pairs(MAX_PAIRS + 1))).unwrap_err();
        assert!(refusal.sentence().contains("at most 64"));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_to_the_same(text in ".{0,40}") {
            let mut encoded = String::new();
            encode(&text, &mut encoded);
            prop_assert!(encoded.bytes().all(|byte| byte.is_ascii_graphic() && !b"&=+#".contains(&byte)));
            prop_assert_eq!(decode(&encoded), Some(text));
        }

        #[test]
        fn parsing_never_panics(query in "[ -~]{0,200}") {
            let _ = Query::parse(Some(&query));
        }
    }
}
