//! URLs: the only file that knows them.

/// Where our paths begin. Whole segments: `/stream` is ours, `/streams` is the host's.
#[derive(Clone, Debug)]
pub(crate) struct Mounts {
    pub(crate) stream: String,
    pub(crate) ws: Option<String>,
    pub(crate) api: String,
    pub(crate) page: Option<String>,
}

/// What a path of ours stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// `/stream`: the channels are in the query.
    Stream,
    /// `/stream/{channel}`.
    StreamChannel(&'a str),
    /// `/stream/reconnect`: everything is in the token.
    StreamReconnect,
    /// `/ws…`: what comes behind the mount.
    Ws(&'a str),
    /// The page: what comes behind the mount.
    Page(&'a str),
    Info,
    Metrics,
    Series,
    Breakdown,
    Errors,
    Slow,
    Providers,
    Provider(&'a str),
    ProviderMetrics(&'a str),
    Overview,
    Requests,
    HubStats,
    Connections,
    Connection(&'a str),
    /// `/connections/{id}/subscribe`.
    Subscribe(&'a str),
    /// `/connections/{id}/unsubscribe`.
    Unsubscribe(&'a str),
    Broadcast,
    TestConnection,
    Ticket,
    Live,
    Ready,
}

impl Mounts {
    /// Whether a path is ours. Asked for every request of the host: a few compares of short prefixes.
    #[inline]
    pub(crate) fn claims(&self, path: &str) -> bool {
        // Most paths of the host differ in the letter behind the slash, and a look at it costs no call.
        let letter = path.as_bytes().get(1);
        let ours = |mount: &str| {
            let own = mount.as_bytes().get(1);
            (own.is_none() || own == letter) && below(path, mount).is_some()
        };
        ours(&self.stream)
            || ours(&self.api)
            || self.ws.as_deref().is_some_and(ours)
            || self.page.as_deref().is_some_and(ours)
    }

    /// What a path stands for; `None` where it stands for nothing.
    pub(crate) fn route<'a>(&self, path: &'a str) -> Option<Route<'a>> {
        if let Some(rest) = below(path, &self.api) {
            return api_route(rest);
        }
        if let Some(rest) = below(path, &self.stream) {
            return match rest {
                "" | "/" => Some(Route::Stream),
                "/reconnect" => Some(Route::StreamReconnect),
                _ => one_segment(rest).map(Route::StreamChannel),
            };
        }
        let ws = self.ws.as_deref().and_then(|mount| below(path, mount));
        let page = || self.page.as_deref().and_then(|mount| below(path, mount));
        ws.map(Route::Ws).or_else(|| page().map(Route::Page))
    }
}

fn api_route(rest: &str) -> Option<Route<'_>> {
    Some(match rest {
        "/info" => Route::Info,
        "/metrics" => Route::Metrics,
        "/series" => Route::Series,
        "/breakdown" => Route::Breakdown,
        "/errors" => Route::Errors,
        "/slow" => Route::Slow,
        "/providers" => Route::Providers,
        "/overview" => Route::Overview,
        "/requests" => Route::Requests,
        "/hub/stats" => Route::HubStats,
        "/connections" => Route::Connections,
        "/broadcast" => Route::Broadcast,
        "/test-connection" => Route::TestConnection,
        "/ticket" => Route::Ticket,
        "/health/live" => Route::Live,
        "/health/ready" => Route::Ready,
        _ if rest.starts_with("/connections/") => connection_route(&rest["/connections".len()..])?,
        _ => {
            let provider = rest.strip_prefix("/providers/")?;
            match provider.strip_suffix("/metrics") {
                Some(id) if !id.is_empty() && !id.contains('/') => Route::ProviderMetrics(id),
                _ if !provider.is_empty() && !provider.contains('/') => Route::Provider(provider),
                _ => return None,
            }
        }
    })
}

fn connection_route(rest: &str) -> Option<Route<'_>> {
    if let Some(id) = rest.strip_suffix("/subscribe") {
        return one_segment(id).map(Route::Subscribe);
    }
    if let Some(id) = rest.strip_suffix("/unsubscribe") {
        return one_segment(id).map(Route::Unsubscribe);
    }
    one_segment(rest).map(Route::Connection)
}

/// What comes behind a mount: nothing, or something that begins with `/`.
#[inline]
fn below<'a>(path: &'a str, mount: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(mount)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

fn one_segment(rest: &str) -> Option<&str> {
    let segment = rest.strip_prefix('/')?;
    (!segment.is_empty() && !segment.contains('/')).then_some(segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts() -> Mounts {
        Mounts {
            stream: "/stream".into(),
            ws: Some("/ws".into()),
            api: "/api/realtime".into(),
            page: Some("/realtime".into()),
        }
    }

    #[test]
    fn whole_segments_are_matched() {
        let mounts = mounts();
        for path in [
            "/stream",
            "/stream/",
            "/stream/stats",
            "/ws",
            "/api/realtime/nothing",
            "/realtime",
            "/realtime/",
        ] {
            assert!(mounts.claims(path), "{path}");
        }
        for path in [
            "/",
            "/streams",
            "/api",
            "/api/realtimes",
            "/v1/stream",
            "/realtime2",
            "",
        ] {
            assert!(!mounts.claims(path), "{path}");
        }
    }

    #[test]
    fn every_path_of_the_contract_has_its_route() {
        let mounts = mounts();
        let cases = [
            ("/stream", Some(Route::Stream)),
            ("/stream/stats", Some(Route::StreamChannel("stats"))),
            ("/stream/reconnect", Some(Route::StreamReconnect)),
            ("/stream/a/b", None),
            ("/ws/tenant/acme", Some(Route::Ws("/tenant/acme"))),
            ("/realtime", Some(Route::Page(""))),
            ("/realtime/assets/x.js", Some(Route::Page("/assets/x.js"))),
            ("/api/realtime", None),
            (
                "/api/realtime/providers/openai",
                Some(Route::Provider("openai")),
            ),
            (
                "/api/realtime/providers/openai/metrics",
                Some(Route::ProviderMetrics("openai")),
            ),
            ("/api/realtime/connections", Some(Route::Connections)),
            (
                "/api/realtime/connections/ab-7",
                Some(Route::Connection("ab-7")),
            ),
            (
                "/api/realtime/connections/ab-7/subscribe",
                Some(Route::Subscribe("ab-7")),
            ),
            (
                "/api/realtime/connections/ab-7/unsubscribe",
                Some(Route::Unsubscribe("ab-7")),
            ),
            ("/api/realtime/connections/", None),
            ("/api/realtime/connections//subscribe", None),
            ("/api/realtime/connections/a/b/subscribe", None),
            ("/api/realtime/providers/", None),
            ("/api/realtime/providers/a/b", None),
            ("/api/realtime/providers//metrics", None),
            ("/elsewhere", None),
        ];
        for (path, route) in cases {
            assert_eq!(mounts.route(path), route, "{path}");
        }
    }
}
