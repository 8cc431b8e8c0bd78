//! Dashboard: the embedded live page and its files. It holds no data: everything that it shows it reads from the API
//! and the streams, where access is checked. So the page itself is given to anyone who asks, and can say to those who
//! may not look what they would need.

mod assets;
mod squeeze;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

use assets::{Assets, Body, INDEX};

/// Where the page stands, and what it is called.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mount {
    /// The page's own path, `/realtime`.
    pub(crate) page: String,
    /// `/api/realtime`.
    pub(crate) api: String,
    /// `/stream`.
    pub(crate) stream: String,
    /// The heading and the window's title.
    pub(crate) title: String,
    /// Where a link before the heading leads to, if there shall be one.
    pub(crate) back: Option<String>,
    /// Who may show the page in a frame, as CSP's `frame-ancestors` takes it; nobody if `None`.
    pub(crate) frame_ancestors: Option<String>,
    /// Whether its files are compressed for those who take them so.
    pub(crate) compressed: bool,
}

/// The page of one mount, ready to answer.
#[derive(Debug)]
pub(crate) struct Dashboard {
    /// The last segment of the page's path: the redirect to the page is relative, so that it is right behind any prefix.
    segment: String,
    html: Body,
    compressed: bool,
    policy: HeaderValue,
}

impl Dashboard {
    pub(crate) fn new(mount: &Mount) -> Self {
        let assets = Assets::get();
        let back = mount
            .back
            .as_deref()
            .map(|url| format!("<a class=\"button\" href=\"{}\">← Back</a>", escape(url)));
        let html = render(&squeeze::markup(INDEX), |name| match name {
            "api" => escape(&relative(&mount.page, &mount.api)),
            "stream" => escape(&relative(&mount.page, &mount.stream)),
            "title" => escape(&mount.title),
            "back" => back.clone().unwrap_or_default(),
            "script" => assets.script.path.clone(),
            "style" => assets.style.path.clone(),
            "icon" => assets.icon.path.clone(),
            _ => String::new(),
        });
        Self {
            segment: mount.page.rsplit('/').next().unwrap_or_default().to_owned(),
            html: Body::new(html),
            compressed: mount.compressed,
            policy: policy(mount.frame_ancestors.as_deref()),
        }
    }

    /// Answers a request for what lies behind the page's path: `rest` is empty or begins with `/`.
    pub(crate) fn respond(
        &self,
        method: &Method,
        rest: &str,
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> Response<Bytes> {
        if method != Method::GET && method != Method::HEAD {
            let mut answer = refusal(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "this path takes GET, HEAD",
            );
            answer
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        let assets = Assets::get();
        let mut answer = match rest.strip_prefix('/') {
            None => self.redirect(query),
            Some("") => self.file(&self.html, "text/html; charset=utf-8", "no-cache", headers),
            Some("favicon.svg") => self.file(
                &assets.icon.body,
                assets.icon.content_type,
                "no-cache",
                headers,
            ),
            Some(path) => match assets.all().into_iter().find(|asset| asset.path == path) {
                Some(asset) => self.file(
                    &asset.body,
                    asset.content_type,
                    "public, max-age=31536000, immutable",
                    headers,
                ),
                None => refusal(
                    StatusCode::NOT_FOUND,
                    "not_found",
                    "there is nothing at this path",
                ),
            },
        };
        if method == Method::HEAD {
            // The head that GET would give (RFC 9110, section 9.3.2).
            let len = HeaderValue::from(answer.body().len());
            answer.headers_mut().insert(header::CONTENT_LENGTH, len);
            *answer.body_mut() = Bytes::new();
        }
        answer
    }

    /// Relative links need the slash.
    fn redirect(&self, query: Option<&str>) -> Response<Bytes> {
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let mut answer = Response::new(Bytes::new());
        match HeaderValue::try_from(format!("./{}/{query}", self.segment)) {
            Ok(location) => {
                *answer.status_mut() = StatusCode::PERMANENT_REDIRECT;
                answer.headers_mut().insert(header::LOCATION, location);
                answer
            }
            Err(_) => refusal(
                StatusCode::NOT_FOUND,
                "not_found",
                "there is nothing at this path",
            ),
        }
    }

    fn file(
        &self,
        body: &Body,
        content_type: &'static str,
        cache: &'static str,
        headers: &HeaderMap,
    ) -> Response<Bytes> {
        let (bytes, encoding) = match self.compressed {
            true => encoded(body, headers),
            false => (body.plain.clone(), None),
        };
        let tag = HeaderValue::try_from(format!(
            "\"{}{}\"",
            body.hash,
            if encoding.is_some() { "-gzip" } else { "" }
        ));
        let mut answer = Response::new(bytes);
        let head = answer.headers_mut();
        head.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        head.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
        head.insert(header::CONTENT_SECURITY_POLICY, self.policy.clone());
        for (name, value) in SECURITY {
            head.insert(name.clone(), HeaderValue::from_static(value));
        }
        if self.compressed {
            head.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        }
        if let Some(encoding) = encoding {
            head.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        // A tag is hex digits: it is always a header.
        if let Ok(tag) = tag {
            if headers
                .get_all(header::IF_NONE_MATCH)
                .iter()
                .any(|wanted| names_tag(wanted, &tag))
            {
                *answer.status_mut() = StatusCode::NOT_MODIFIED;
                *answer.body_mut() = Bytes::new();
            }
            answer.headers_mut().insert(header::ETAG, tag);
        }
        answer
    }
}

/// What every file is sent with, beside its policy.
const SECURITY: [(HeaderName, &str); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

/// Scripts carry it as well: a SharedWorker obeys the policy that it came with.
fn policy(frame_ancestors: Option<&str>) -> HeaderValue {
    const REST: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                        worker-src 'self'; base-uri 'none'; form-action 'none'";
    let of =
        |ancestors: &str| HeaderValue::try_from(format!("{REST}; frame-ancestors {ancestors}"));
    // One word too many could be a policy of its own; what is not a list of sources is refused as a whole.
    let asked = frame_ancestors.filter(|ancestors| !ancestors.contains([';', ',']));
    asked
        .and_then(|ancestors| of(ancestors).ok())
        .or_else(|| of("'none'").ok())
        .unwrap_or_else(|| HeaderValue::from_static("default-src 'none'"))
}

#[cfg(feature = "compression")]
fn encoded(body: &Body, headers: &HeaderMap) -> (Bytes, Option<&'static str>) {
    if super::compress::accepts_gzip(headers) && !body.gzip.is_empty() {
        (body.gzip.clone(), Some("gzip"))
    } else {
        (body.plain.clone(), None)
    }
}

#[cfg(not(feature = "compression"))]
fn encoded(body: &Body, _headers: &HeaderMap) -> (Bytes, Option<&'static str>) {
    (body.plain.clone(), None)
}

/// RFC 9110, section 13.1.2: weak comparison.
fn names_tag(wanted: &HeaderValue, tag: &HeaderValue) -> bool {
    let (Ok(wanted), Ok(tag)) = (wanted.to_str(), tag.to_str()) else {
        return false;
    };
    wanted
        .split(',')
        .map(str::trim)
        .any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
}

fn refusal(status: StatusCode, code: &str, sentence: &str) -> Response<Bytes> {
    let body = serde_json::json!({"success": false, "error": sentence, "code": code});
    let mut answer = Response::new(Bytes::from(body.to_string()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    answer
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// The way from the page, which ends in a slash, to another of our paths. Prefixes that a nest or a proxy puts before
/// both, or takes away from both, do not matter to it.
fn relative(page: &str, to: &str) -> String {
    let segments = |path: &str| {
        path.split('/')
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let (page, to) = (segments(page), segments(to));
    let common = page.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = vec![".."; page.len() - common];
    let down = to[common..].iter().map(String::as_str);
    let way: Vec<&str> = up.into_iter().chain(down).collect();
    if way.first() == Some(&"..") {
        way.join("/")
    } else {
        format!("./{}", way.join("/"))
    }
}

/// Puts values in the places `{{name}}`; what the values hold is not looked at again.
fn render(template: &str, value: impl Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(template.len() + 256);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let (name, after) = after.split_once("}}").unwrap_or((after, ""));
        out.push_str(&value(name));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Text for HTML, in and out of attributes.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount() -> Mount {
        Mount {
            page: "/realtime".into(),
            api: "/api/realtime".into(),
            stream: "/stream".into(),
            title: "my-gateway".into(),
            ..Mount::default()
        }
    }

    fn get(rest: &str) -> Response<Bytes> {
        Dashboard::new(&mount()).respond(&Method::GET, rest, None, &HeaderMap::new())
    }

    fn text(answer: &Response<Bytes>) -> &str {
        std::str::from_utf8(answer.body()).expect("the page is text")
    }

    fn named<'a>(answer: &'a Response<Bytes>, name: &str) -> &'a str {
        answer
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    #[test]
    fn every_file_says_what_it_is() {
        let page = get("/");
        assert_eq!(named(&page, "content-type"), "text/html; charset=utf-8");
        assert_eq!(named(&page, "cache-control"), "no-cache");
        let types: Vec<String> = Assets::get()
            .all()
            .iter()
            .map(|asset| {
                assert!(text(&page).contains(&asset.path), "{}", asset.path);
                let file = get(&format!("/{}", asset.path));
                assert_eq!(file.status(), StatusCode::OK);
                assert_eq!(
                    named(&file, "cache-control"),
                    "public, max-age=31536000, immutable"
                );
                named(&file, "content-type").to_owned()
            })
            .collect();
        assert_eq!(
            types,
            [
                "text/javascript; charset=utf-8",
                "text/css; charset=utf-8",
                "image/svg+xml"
            ]
        );
        assert_eq!(named(&get("/favicon.svg"), "content-type"), "image/svg+xml");
    }

    #[test]
    fn every_file_is_sent_with_the_policy() {
        let script = format!("/{}", Assets::get().script.path);
        for rest in ["/", "/favicon.svg", &script] {
            let answer = get(rest);
            let policy = named(&answer, "content-security-policy");
            for part in [
                "default-src 'none'",
                "script-src 'self'",
                "style-src 'self'",
                "img-src 'self' data:",
                "connect-src 'self'",
                "worker-src 'self'",
                "base-uri 'none'",
                "form-action 'none'",
                "frame-ancestors 'none'",
            ] {
                assert!(
                    policy.split("; ").any(|has| has == part),
                    "{part} in {policy}"
                );
            }
            assert!(!policy.contains("unsafe"));
            assert_eq!(named(&answer, "x-content-type-options"), "nosniff");
            assert_eq!(named(&answer, "referrer-policy"), "no-referrer");
        }
    }

    #[test]
    fn frames_are_for_those_who_are_named() {
        let framed = |ancestors: &str| {
            let mount = Mount {
                frame_ancestors: Some(ancestors.into()),
                ..mount()
            };
            let answer = Dashboard::new(&mount).respond(&Method::GET, "/", None, &HeaderMap::new());
            named(&answer, "content-security-policy")
                .rsplit("; ")
                .next()
                .map(str::to_owned)
                .unwrap_or_default()
        };
        assert_eq!(
            framed("https://ops.example"),
            "frame-ancestors https://ops.example"
        );
        assert_eq!(framed("*; script-src *"), "frame-ancestors 'none'");
        assert_eq!(framed("a\r\nb: c"), "frame-ancestors 'none'");
    }

    #[test]
    fn ways_to_the_other_paths_are_relative() {
        let cases = [
            ("/realtime", "/api/realtime", "../api/realtime"),
            ("/realtime", "/stream", "../stream"),
            ("/", "/stream", "./stream"),
            ("", "/api/realtime", "./api/realtime"),
            ("/a/b/realtime", "/api/realtime", "../../../api/realtime"),
            ("/a/b/realtime", "/a/api", "../../api"),
            ("/ops", "/ops/api", "./api"),
            ("/ops/", "/ops/stream/", "./stream"),
        ];
        for (page, to, way) in cases {
            assert_eq!(relative(page, to), way, "from {page} to {to}");
        }
        let page = get("/");
        assert!(
            text(&page).contains("data-api=\"../api/realtime\"")
                && text(&page).contains("data-stream=\"../stream\"")
        );
        for absolute in ["href=\"/", "src=\"/"] {
            assert!(!text(&page).contains(absolute));
        }
    }

    #[test]
    fn the_missing_slash_is_added_relatively() {
        let page = Dashboard::new(&Mount {
            page: "/a/b/live".into(),
            ..mount()
        });
        let answer = page.respond(&Method::GET, "", None, &HeaderMap::new());
        assert_eq!(answer.status(), StatusCode::PERMANENT_REDIRECT);
        assert_eq!(named(&answer, "location"), "./live/");
        let answer = page.respond(&Method::GET, "", Some("embed=1"), &HeaderMap::new());
        assert_eq!(named(&answer, "location"), "./live/?embed=1");
    }

    #[test]
    fn head_is_get_without_a_body() {
        let page = Dashboard::new(&mount());
        let (get, head) = (Method::GET, Method::HEAD);
        for rest in ["", "/", "/favicon.svg", "/nothing"] {
            let got = page.respond(&get, rest, None, &HeaderMap::new());
            let headed = page.respond(&head, rest, None, &HeaderMap::new());
            assert_eq!(got.status(), headed.status());
            assert_eq!(
                named(&headed, "content-length"),
                got.body().len().to_string()
            );
            assert!(headed.body().is_empty());
        }
    }

    #[test]
    fn other_methods_and_paths_are_refused_in_json() {
        let page = Dashboard::new(&mount());
        let answer = page.respond(&Method::POST, "/", None, &HeaderMap::new());
        assert_eq!(
            (answer.status(), named(&answer, "allow")),
            (StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD")
        );
        for rest in [
            "/index.html",
            "/assets/app.js",
            "/assets/app.000000000000.js",
            "/../Cargo.toml",
            "//",
        ] {
            let answer = get(rest);
            assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{rest}");
            let body: serde_json::Value = serde_json::from_slice(answer.body()).expect("JSON");
            assert_eq!(body["code"], "not_found");
        }
    }

    #[test]
    fn an_unchanged_page_is_not_sent_again() {
        let page = Dashboard::new(&mount());
        let first = page.respond(&Method::GET, "/", None, &HeaderMap::new());
        let tag = named(&first, "etag").to_owned();
        for (sent, status) in [
            (tag.clone(), StatusCode::NOT_MODIFIED),
            (format!("\"x\", W/{tag}"), StatusCode::NOT_MODIFIED),
            ("\"x\"".to_owned(), StatusCode::OK),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(
                header::IF_NONE_MATCH,
                HeaderValue::try_from(sent).expect("a header"),
            );
            let answer = page.respond(&Method::GET, "/", None, &headers);
            assert_eq!(answer.status(), status);
            assert_eq!(answer.body().is_empty(), status == StatusCode::NOT_MODIFIED);
        }
        let renamed = Dashboard::new(&Mount {
            title: "other".into(),
            ..mount()
        });
        assert_ne!(
            named(
                &renamed.respond(&Method::GET, "/", None, &HeaderMap::new()),
                "etag"
            ),
            tag
        );
    }

    #[test]
    fn a_title_is_text() {
        let mount = Mount {
            title: "<script>\"{{api}}\" & 'co'".into(),
            back: Some("/\"><b>".into()),
            ..mount()
        };
        let answer = Dashboard::new(&mount).respond(&Method::GET, "/", None, &HeaderMap::new());
        let html = text(&answer);
        assert!(html.contains("<h1>&lt;script&gt;&quot;{{api}}&quot; &amp; &#39;co&#39;</h1>"));
        assert!(html.contains("href=\"/&quot;&gt;&lt;b&gt;\""));
        assert_eq!(html.matches("<script").count(), 1);
        assert!(!get("/").body().windows(2).any(|two| two == b"{{"));
    }

    #[cfg(feature = "compression")]
    #[test]
    fn compressed_files_decode_to_the_same_bytes() {
        use std::io::Read;

        let page = Dashboard::new(&Mount {
            compressed: true,
            ..mount()
        });
        let with = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accept));
            headers
        };
        let plain = page.respond(&Method::GET, "/", None, &HeaderMap::new());
        let squeezed = page.respond(&Method::GET, "/", None, &with("br, GZIP;q=0.5"));
        assert_eq!(
            (
                named(&squeezed, "content-encoding"),
                named(&squeezed, "vary")
            ),
            ("gzip", "accept-encoding")
        );
        assert_ne!(named(&squeezed, "etag"), named(&plain, "etag"));
        let mut decoded = Vec::new();
        flate2::read::GzDecoder::new(&squeezed.body()[..])
            .read_to_end(&mut decoded)
            .expect("gzip");
        assert_eq!(decoded, plain.body()[..]);
        for accept in ["identity", "gzip;q=0", "gzip; q=0.0, br"] {
            assert_eq!(
                named(
                    &page.respond(&Method::GET, "/", None, &with(accept)),
                    "content-encoding"
                ),
                ""
            );
        }
    }
}
