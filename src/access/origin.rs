//! Origins: which pages a browser's request comes from.

use http::{Method, header, request::Parts};

use crate::refusal::Refusal;

/// The origins besides our own whose pages are trusted, in lower case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origins(Vec<String>);

impl Origins {
    pub(crate) fn new<'a>(origins: impl IntoIterator<Item = &'a String>) -> Self {
        Self(
            origins
                .into_iter()
                .map(|origin| origin.to_ascii_lowercase())
                .collect(),
        )
    }

    /// Refuses what the page of another origin makes a browser send. A request without an `Origin` comes from no
    /// page, or changes nothing.
    pub(super) fn check(&self, parts: &Parts) -> Result<(), Refusal> {
        if self.allows(parts) {
            return Ok(());
        }
        Err(Refusal::forbidden(
            "cross_origin",
            "the request comes from a page of another origin; if that page is trusted, add its origin to allowed_origins",
        ))
    }

    fn allows(&self, parts: &Parts) -> bool {
        let headers = &parts.headers;
        let Some(origin) = headers.get(header::ORIGIN) else {
            return match headers.get("sec-fetch-site") {
                Some(site) => matches!(site.as_bytes(), b"same-origin" | b"none"),
                None => true,
            };
        };
        let Ok(origin) = origin.to_str() else {
            return false;
        };
        if headers.get_all(header::ORIGIN).iter().count() > 1 {
            return false;
        }
        let origin = origin.to_ascii_lowercase();
        if self.0.contains(&origin) {
            return true;
        }
        // A page cannot set this header, and it is right behind proxies that rewrite `Host`.
        if let Some(site) = headers.get("sec-fetch-site")
            && site == "same-origin"
        {
            return true;
        }
        host_of(parts).is_some_and(|host| is_same(&origin, host))
    }
}

/// Whether the page of another origin could make a browser send this request with the user's cookies, to any effect:
/// a WebSocket, which no CORS guards, or a method that changes something.
pub(super) fn needs_check(parts: &Parts) -> bool {
    let changes = !matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
    changes || is_upgrade(parts)
}

/// A WebSocket over HTTP/1.1, or over HTTP/2 (RFC 8441).
pub(super) fn is_upgrade(parts: &Parts) -> bool {
    parts.method == Method::CONNECT
        || parts.headers.contains_key(header::UPGRADE)
        || parts.headers.contains_key(header::SEC_WEBSOCKET_KEY)
}

/// The authority that the client asked for: that of the target, which wins where there is one (RFC 9112, section
/// 3.2.2, and HTTP/2), else the only `Host`.
pub(super) fn host_of(parts: &Parts) -> Option<&str> {
    if let Some(authority) = parts.uri.authority() {
        return Some(authority.as_str());
    }
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = hosts.next()?.to_str().ok()?;
    hosts.next().is_none().then_some(host)
}

/// Whether `scheme://host:port` in lower case and a host belong together. Behind a proxy that speaks TLS for us the
/// scheme is not known here, so it is only used for the default port.
fn is_same(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let bare = |authority: &str| {
        let authority = authority.to_ascii_lowercase();
        match authority.strip_suffix(default_port) {
            Some(host) => host.to_owned(),
            None => authority,
        }
    };
    !authority.is_empty() && bare(authority) == bare(host)
}

/// `https://app.example.com`, `http://localhost:5173`: a scheme, a host, perhaps a port, nothing else.
pub(crate) fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else {
        return false;
    };
    let scheme_fits = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let Ok(parsed) = authority.parse::<http::uri::Authority>() else {
        return false;
    };
    text.len() <= 256 && scheme_fits && !authority.contains(['@', '*']) && !parsed.host().is_empty()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn an_origin_is_a_scheme_and_a_host() {
        for origin in [
            "https://app.example.com",
            "http://localhost:5173",
            "http://[::1]:80",
            "chrome-extension://abcdefgh",
        ] {
            assert!(is_origin(origin), "{origin}");
        }
        for origin in [
            "",
            "null",
            "*",
            "app.example.com",
            "https://",
            "https://app.example.com/",
            "https://app.example.com/x",
            "https://a b",
            "https://*.example.com",
            "https://user@example.com",
            "://a",
            "1x://a",
        ] {
            assert!(!is_origin(origin), "{origin}");
        }
    }

    #[test]
    fn our_own_pages_and_allowed_ones_pass() {
        let origins = Origins::new(&["https://App.example.com".to_owned()]);
        for headers in [
            vec![],
            vec![("host", "h")],
            vec![("host", "h"), ("origin", "http://h")],
            vec![("host", "h:3000"), ("origin", "http://h:3000")],
            vec![("host", "H"), ("origin", "https://h")],
            vec![("host", "h:443"), ("origin", "https://h")],
            vec![("host", "h"), ("origin", "http://h:80")],
            vec![("host", "h"), ("origin", "https://app.example.com")],
            vec![
                ("host", "inside"),
                ("origin", "https://outside"),
                ("sec-fetch-site", "same-origin"),
            ],
            vec![("host", "h"), ("sec-fetch-site", "none")],
        ] {
            assert!(origins.check(&parts("/", &headers)).is_ok(), "{headers:?}");
        }
        let authority = parts(
            "http://h:1/stream",
            &[("host", "other"), ("origin", "http://h:1")],
        );
        assert!(origins.check(&authority).is_ok());
    }

    #[test]
    fn other_pages_do_not() {
        let origins = Origins::new(&["https://app.example.com".to_owned()]);
        for headers in [
            vec![("host", "h"), ("origin", "http://other")],
            vec![("host", "h:3000"), ("origin", "http://h:3001")],
            vec![("host", "h:443"), ("origin", "http://h")],
            vec![("host", "h"), ("origin", "null")],
            vec![("host", "h"), ("origin", "")],
            vec![("host", "h"), ("origin", "http://h.evil.example")],
            vec![("host", "h"), ("origin", "http://app.example.com")],
            vec![
                ("host", "h"),
                ("origin", "https://app.example.com.evil.example"),
            ],
            vec![("origin", "http://h")],
            vec![("host", "h"), ("host", "g"), ("origin", "http://h")],
            vec![
                ("host", "h"),
                ("origin", "http://h"),
                ("origin", "http://g"),
            ],
            vec![("host", "h"), ("sec-fetch-site", "cross-site")],
            vec![("host", "h"), ("sec-fetch-site", "same-site")],
        ] {
            let refusal = origins.check(&parts("/", &headers)).unwrap_err();
            assert_eq!(
                (refusal.status().as_u16(), refusal.code()),
                (403, "cross_origin"),
                "{headers:?}"
            );
        }
    }

    #[test]
    fn sockets_and_changes_are_checked() {
        assert!(!needs_check(&parts("/", &[])));
        assert!(needs_check(&parts("/", &[("upgrade", "websocket")])));
        assert!(needs_check(&parts("/", &[("sec-websocket-key", "x")])));
        for (method, checked) in [
            (Method::HEAD, false),
            (Method::OPTIONS, false),
            (Method::POST, true),
            (Method::DELETE, true),
            (Method::CONNECT, true),
        ] {
            let mut parts = parts("/", &[]);
            parts.method = method;
            assert_eq!(needs_check(&parts), checked);
        }
    }
}
