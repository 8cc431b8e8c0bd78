//! Which offer of permessage-deflate is taken (RFC 6455 section 9.1, RFC 7692 sections 5 and 7.1).

use std::fmt::Write;

use http::{HeaderMap, HeaderValue, header};

/// The whole window of deflate, in bits. Our frames are deflated once for all readers, so there is no other one.
const WINDOW_BITS: u8 = 15;

/// permessage-deflate as it was agreed on: our window is the whole one, and neither side keeps it between messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deflate {
    /// The client named our window, so the answer has to (section 7.1.2.1).
    names_window: bool,
}

impl Deflate {
    /// The answer for `Sec-WebSocket-Extensions`. Section 7.1.1 lets a server put both `no_context_takeover`s into its
    /// answer although the client did not.
    pub(super) fn to_header(self) -> HeaderValue {
        let mut answer = String::from(
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        );
        if self.names_window {
            // Writing into a String does not fail.
            let _ = write!(answer, "; server_max_window_bits={WINDOW_BITS}");
        }
        HeaderValue::try_from(answer).unwrap_or(HeaderValue::from_static(""))
    }
}

/// The header does not follow the grammar of RFC 6455 section 9.1, which has the connection refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Takes the first acceptable offer of permessage-deflate; what is unknown or unacceptable is declined by silence.
pub(super) fn negotiate(headers: &HeaderMap) -> Result<Option<Deflate>, Malformed> {
    let mut taken = None;
    // Read to the end although an offer was taken: the rest must be well-formed too.
    for value in headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS) {
        let mut scanner = Scanner {
            rest: value.to_str().map_err(|_| Malformed)?,
        };
        loop {
            scanner.skip_empty_elements();
            if scanner.rest.is_empty() {
                break;
            }
            let offer = scanner.offer()?;
            if taken.is_none() {
                taken = offer.accept();
            }
        }
    }
    Ok(taken)
}

struct Offer<'a> {
    name: &'a str,
    parameters: Vec<(&'a str, Option<String>)>,
}

impl Offer<'_> {
    /// RFC 7692 section 7.1: an offer with a parameter that is unknown, given twice, or has a value that it does not
    /// take, is declined. So is one for a smaller window of ours than there is (section 7.1.2.1): clients that would do
    /// without that offer so behind it.
    fn accept(&self) -> Option<Deflate> {
        if self.name != "permessage-deflate" {
            return None;
        }
        let mut names_window = false;
        for (index, (name, value)) in self.parameters.iter().enumerate() {
            match (*name, value.as_deref()) {
                ("server_no_context_takeover" | "client_no_context_takeover", None) => {}
                ("server_max_window_bits", Some(bits)) => {
                    if window_bits(bits)? < WINDOW_BITS {
                        return None;
                    }
                    names_window = true;
                }
                // A hint that the client could use a smaller window; we need none of it, as each message starts over.
                ("client_max_window_bits", None) => {}
                ("client_max_window_bits", Some(bits)) => {
                    window_bits(bits)?;
                }
                _ => return None,
            }
            // There are four legal names, so this looks back at no more than four.
            if self.parameters[..index]
                .iter()
                .any(|(earlier, _)| earlier == name)
            {
                return None;
            }
        }
        Some(Deflate { names_window })
    }
}

/// Section 7.1.2: 8 to 15, "without leading zeroes".
fn window_bits(value: &str) -> Option<u8> {
    match value {
        "8" => Some(8),
        "9" => Some(9),
        "10" => Some(10),
        "11" => Some(11),
        "12" => Some(12),
        "13" => Some(13),
        "14" => Some(14),
        "15" => Some(15),
        _ => None,
    }
}

/// Reads visible ASCII from left to right.
struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    /// `extension = token *( ";" parameter )`, up to the comma or the end behind it.
    fn offer(&mut self) -> Result<Offer<'a>, Malformed> {
        let name = self.token()?;
        let mut parameters = Vec::new();
        while self.take(';') {
            let parameter = self.token()?;
            let value = match self.take('=') {
                true => Some(self.value()?),
                false => None,
            };
            parameters.push((parameter, value));
        }
        if !self.rest.is_empty() && !self.rest.starts_with(',') {
            return Err(Malformed);
        }
        Ok(Offer { name, parameters })
    }

    fn token(&mut self) -> Result<&'a str, Malformed> {
        self.skip_blanks();
        let end = self.rest.find(|c| !is_token(c)).unwrap_or(self.rest.len());
        if end == 0 {
            return Err(Malformed);
        }
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.skip_blanks();
        Ok(token)
    }

    /// A token, or a quoted string that is a token once the quotes are off.
    fn value(&mut self) -> Result<String, Malformed> {
        self.skip_blanks();
        let Some(quoted) = self.rest.strip_prefix('"') else {
            return self.token().map(str::to_owned);
        };
        let mut value = String::new();
        let mut characters = quoted.chars();
        loop {
            match characters.next() {
                Some('"') if !value.is_empty() => break,
                Some('\\') => match characters.next() {
                    Some(escaped) if is_token(escaped) => value.push(escaped),
                    _ => return Err(Malformed),
                },
                Some(c) if is_token(c) => value.push(c),
                _ => return Err(Malformed),
            }
        }
        self.rest = characters.as_str();
        self.skip_blanks();
        Ok(value)
    }

    fn take(&mut self, wanted: char) -> bool {
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    fn skip_empty_elements(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', ',']);
    }
}

/// RFC 9110 section 5.6.2.
pub(super) fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(offers: &[&'static str]) -> Result<Option<String>, Malformed> {
        let mut headers = HeaderMap::new();
        for offer in offers {
            headers.append(
                header::SEC_WEBSOCKET_EXTENSIONS,
                HeaderValue::from_static(offer),
            );
        }
        Ok(negotiate(&headers)?.map(|deflate| deflate.to_header().to_str().unwrap().to_owned()))
    }

    const PLAIN: &str =
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    #[test]
    fn what_browsers_and_libraries_offer_is_taken() {
        for offer in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=15",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            "permessage-deflate;client_max_window_bits = \"10\" ; server_no_context_takeover",
            ", permessage-deflate ,",
            "x-webkit-deflate-frame, permessage-deflate; client_max_window_bits",
        ] {
            assert_eq!(answer(&[offer]), Ok(Some(PLAIN.to_owned())), "{offer}");
        }
        assert_eq!(answer(&[]), Ok(None));
        assert_eq!(
            answer(&["foo", "permessage-deflate"]),
            Ok(Some(PLAIN.to_owned()))
        );
    }

    #[test]
    fn the_whole_window_is_agreed_to_by_name_and_a_smaller_one_is_not() {
        assert_eq!(
            answer(&["permessage-deflate; server_max_window_bits=15"]),
            Ok(Some(format!("{PLAIN}; server_max_window_bits=15")))
        );
        for bits in 8..15 {
            let offer = format!("permessage-deflate; server_max_window_bits={bits}").leak();
            assert_eq!(answer(&[offer]), Ok(None));
            // RFC 7692 section 7.1.3 has a client that would do without a limit say so behind it.
            assert_eq!(
                answer(&[offer, "permessage-deflate"]),
                Ok(Some(PLAIN.to_owned()))
            );
        }
    }

    #[test]
    fn offers_that_break_a_rule_are_declined() {
        for offer in [
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=09",
            "permessage-deflate; client_max_window_bits=0",
            "permessage-deflate; server_no_context_takeover=true",
            "permessage-deflate; client_no_context_takeover=1",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=9",
            "permessage-deflate; unheard_of",
            "permessage-bzip2",
        ] {
            assert_eq!(answer(&[offer]), Ok(None), "{offer}");
        }
    }

    #[test]
    fn the_first_acceptable_offer_wins() {
        let answer = answer(&[
            "permessage-deflate; unheard_of, permessage-deflate; server_max_window_bits=15",
            "permessage-deflate",
        ]);
        assert_eq!(
            answer,
            Ok(Some(format!("{PLAIN}; server_max_window_bits=15")))
        );
    }

    #[test]
    fn what_is_not_the_grammar_is_an_error() {
        for offer in [
            "permessage-deflate;",
            "permessage-deflate; =9",
            "permessage-deflate; server_max_window_bits=",
            "permessage-deflate; server_max_window_bits=\"\"",
            "permessage-deflate; server_max_window_bits=\"9",
            "permessage-deflate; server_max_window_bits=\"9 \"",
            "permessage-deflate server_max_window_bits",
            "permessage-deflate, foo bar",
            "(comment)",
        ] {
            assert_eq!(answer(&[offer]), Err(Malformed), "{offer}");
        }
    }

    proptest! {
        #[test]
        fn no_header_panics(value in "[ -~]{0,60}", tail in "(permessage-deflate|[;,= \"\\\\]|[a-z_]{1,5}|[0-9]){0,20}") {
            for text in [value, tail] {
                let mut headers = HeaderMap::new();
                headers.append(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::try_from(text).unwrap());
                let _ = negotiate(&headers);
            }
        }
    }
}
