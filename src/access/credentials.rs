//! Where a request carries its credentials.

use http::{HeaderMap, header};

/// The cookie that carries a token: `EventSource` and browsers' WebSockets send cookies, and no headers.
pub(crate) const COOKIE: &str = "realtime_token";

/// Cookies of the same name can exist for several paths and domains, and the browser sends them all.
const MAX_COOKIES: usize = 4;

/// The tokens that a request presents, best first: that of the `Authorization` header, or those of the cookie.
#[derive(Debug)]
pub(super) struct Credentials<'a> {
    tokens: Vec<&'a str>,
    from_header: bool,
}

impl<'a> Credentials<'a> {
    /// A bearer token in the header is the request's whole statement; without one, the cookies are asked. Another
    /// scheme (a proxy's `Basic`) is not ours, and does not hide the cookie.
    pub(super) fn of(headers: &'a HeaderMap) -> Self {
        let mut bearers = headers
            .get_all(header::AUTHORIZATION)
            .iter()
            .filter_map(|value| bearer(value.to_str().ok()?));
        if let Some(token) = bearers.next() {
            // Two different statements are none.
            let tokens = match bearers.next() {
                None => vec![token],
                Some(_) => vec![""],
            };
            return Self {
                tokens,
                from_header: true,
            };
        }
        let tokens = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim_matches([' ', '\t']).split_once('='))
            .filter(|(name, value)| *name == COOKIE && !value.is_empty())
            .map(|(_, value)| unquoted(value))
            .take(MAX_COOKIES)
            .collect();
        Self {
            tokens,
            from_header: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    pub(super) fn tokens(&self) -> &[&'a str] {
        &self.tokens
    }

    /// A header that no page of another origin can add without having been allowed to.
    pub(super) fn is_explicit(&self) -> bool {
        self.from_header
    }
}

/// The token of `Bearer <token>`; the scheme's case does not matter (RFC 9110, section 11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_matches(' '))
}

/// RFC 6265 lets a cookie's value stand in quotes.
fn unquoted(value: &str) -> &str {
    value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
        .unwrap_or(value)
}

/// Whether a text can be a token: what fits into a header and, unquoted, into a cookie.
pub(super) fn is_token(text: &str) -> bool {
    (1..=4096).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[track_caller]
    fn found(pairs: &[(&'static str, &str)], tokens: &[&str], from_header: bool) {
        let headers = headers(pairs);
        let credentials = Credentials::of(&headers);
        assert_eq!(credentials.tokens(), tokens);
        assert_eq!(credentials.is_explicit(), from_header);
    }

    #[test]
    fn the_header_first_then_the_cookies() {
        found(&[("authorization", "Bearer abc")], &["abc"], true);
        found(&[("authorization", "bEARER  abc ")], &["abc"], true);
        found(
            &[
                ("authorization", "Bearer abc"),
                ("cookie", "realtime_token=xyz"),
            ],
            &["abc"],
            true,
        );
        found(&[("cookie", "realtime_token=xyz")], &["xyz"], false);
        found(
            &[("cookie", "a=b; realtime_token=\"xyz\" ;c=d")],
            &["xyz"],
            false,
        );
        found(
            &[
                ("cookie", "realtime_token=x=y=="),
                ("cookie", "realtime_token=z"),
            ],
            &["x=y==", "z"],
            false,
        );
        found(
            &[
                ("authorization", "Basic YTpi"),
                ("cookie", "realtime_token=xyz"),
            ],
            &["xyz"],
            false,
        );
        found(
            &[(
                "cookie",
                "realtime_token=1;realtime_token=2;realtime_token=3;realtime_token=4;realtime_token=5",
            )],
            &["1", "2", "3", "4"],
            false,
        );
    }

    #[test]
    fn what_is_no_token() {
        found(&[], &[], false);
        found(&[("authorization", "Bearer")], &[], false);
        found(&[("authorization", "Basic abc")], &[], false);
        found(&[("cookie", "realtime_token=")], &[], false);
        found(
            &[("cookie", "xrealtime_token=a; Realtime_Token=b")],
            &[],
            false,
        );
        // A double statement is one that matches nothing.
        found(&[("authorization", "Bearer  ")], &[], false);
        found(
            &[("authorization", "Bearer a"), ("authorization", "Bearer b")],
            &[""],
            true,
        );
    }

    #[test]
    fn tokens_fit_into_headers_and_cookies() {
        for token in ["a", "s3cret-._~+/=!#$%&'()*", "eyJ0.eyJ1.c2ln"] {
            assert!(is_token(token), "{token}");
        }
        for token in ["", "a b", "a;b", "a,b", "\"a\"", "a\\b", "ü", "a\n", "\0"] {
            assert!(!is_token(token), "{token:?}");
        }
        assert!(!is_token(&"a".repeat(4097)));
    }

    proptest! {
        #[test]
        fn no_header_panics(authorization in prop::collection::vec(32_u8..=255, 0..64), cookie in prop::collection::vec(32_u8..=255, 0..128)) {
            let mut headers = HeaderMap::new();
            for (name, value) in [(header::AUTHORIZATION, authorization), (header::COOKIE, cookie)] {
                if let Ok(value) = HeaderValue::from_bytes(&value) {
                    headers.append(name, value);
                }
            }
            let _ = Credentials::of(&headers).tokens();
        }

        #[test]
        fn every_token_is_read_back(token in "[!#-+\\--:<-\\[\\]-~]{1,64}") {
            prop_assert!(is_token(&token));
            let by_header = headers(&[("authorization", &format!("Bearer {token}"))]);
            let found = Credentials::of(&by_header);
            prop_assert_eq!(found.tokens(), [token.as_str()]);
            let by_cookie = headers(&[("cookie", &format!("a=1; {COOKIE}={token}; b=2"))]);
            let found = Credentials::of(&by_cookie);
            prop_assert_eq!(found.tokens(), [token.as_str()]);
        }
    }
}
