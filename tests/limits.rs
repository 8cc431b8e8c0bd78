//! Who gets in, for how long, and how those who don't are told.

mod support;

use std::time::{Duration, SystemTime};

use axum::{Router, http::header};
use serde_json::json;
use support::{Answer, Host, Stream, assert_fields, config, get, soon};
use tower_realtime::{Access, ChannelConfig, Denied, Event, Principal, RealtimeConfig};

/// The user is whoever the header says.
fn named() -> RealtimeConfig {
    RealtimeConfig::new(Access::check(|parts| async move {
        let name = parts
            .headers
            .get("x-user")
            .and_then(|name| name.to_str().ok());
        let name = name.ok_or_else(Denied::unauthenticated)?.to_owned();
        Ok(match name.strip_prefix("admin-") {
            Some(_) => Principal::admin(name),
            None => Principal::viewer(name),
        })
    }))
}

fn ask(path: &str, user: &str) -> support::Request {
    let mut request = get(path);
    request
        .headers_mut()
        .insert("x-user", user.parse().unwrap());
    request
}

async fn stream(host: &Host, path: &str, user: &str) -> Stream {
    host.connect().await.stream(ask(path, user)).await
}

fn refused(answer: &Answer, status: u16, code: &str) {
    answer.refusal(status);
    assert_eq!(answer.json()["code"], code);
    let wait: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
}

/// As a browser's EventSource asks.
fn event_source(mut request: support::Request) -> support::Request {
    let headers = request.headers_mut();
    headers.insert(header::ACCEPT, "text/event-stream".parse().unwrap());
    headers.insert("sec-fetch-mode", "cors".parse().unwrap());
    request
}

/// Tells an EventSource when to come back, with the only status that does not end it, and returns that time.
#[track_caller]
fn is_busy(answer: &Answer) -> u64 {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let event = support::parse(answer.text().trim_end()).unwrap();
    assert_eq!(event.name, "busy");
    assert_eq!(event.retry, event.data["retry_ms"].as_u64());
    event.retry.unwrap()
}

#[tokio::test]
async fn one_user_has_so_many_streams_and_no_more() {
    let host = Host::configured(named().max_clients_per_user(2), Router::new()).await;
    let first = stream(&host, "/stream/stats", "ana").await;
    let _second = stream(&host, "/stream/stats", "ana").await;
    let answer = host.send(ask("/stream/stats", "ana")).await;
    refused(&answer, 429, "too_many_clients_of_user");
    is_busy(&host.send(event_source(ask("/stream/stats", "ana"))).await);
    let _other = stream(&host, "/stream/stats", "ben").await;
    // HEAD opens nothing, so it takes no place.
    let (status, _) = host
        .connect()
        .await
        .head({
            let mut head = ask("/stream/stats", "ana");
            *head.method_mut() = axum::http::Method::HEAD;
            head
        })
        .await;
    assert_eq!(status, 200);
    drop(first);
    let free = async {
        loop {
            let answer = host.connect().await.open(ask("/stream/stats", "ana")).await;
            if answer.status() == 200 {
                return;
            }
        }
    };
    soon("the place to be free", free).await;
}

#[tokio::test]
async fn one_address_has_so_many_streams_and_a_trusted_proxy_speaks_for_others() {
    let limited = config()
        .max_clients_per_ip(1)
        .trusted_proxies(["127.0.0.1"]);
    let host = Host::configured(limited, Router::new()).await;
    let from = |address: &str| {
        let mut request = get("/stream/stats");
        request
            .headers_mut()
            .insert("x-forwarded-for", address.parse().unwrap());
        request
    };
    let _one = host.connect().await.stream(from("192.0.2.1")).await;
    let answer = host.send(from("203.0.113.9, 192.0.2.1")).await;
    refused(&answer, 429, "too_many_clients_of_address");
    let _two = host.connect().await.stream(from("192.0.2.2")).await;
    let _direct = host.stream("/stream/stats").await;
    refused(
        &host.get("/stream/stats").await,
        429,
        "too_many_clients_of_address",
    );
}

#[tokio::test]
async fn a_stream_ends_at_its_age_and_is_resumed_from_its_last_word() {
    let aged = config()
        .max_age(Duration::from_secs(1))
        .heartbeat_interval(Duration::from_millis(100));
    let host = Host::configured(aged, Router::new()).await;
    host.rt.channel("ticks", ChannelConfig::stream()).unwrap();
    let mut stream = host.stream("/stream/ticks").await;
    host.rt.publish(Event::new("ticks", "Tick", &1)).unwrap();
    stream.wait_for("Tick").await;
    let drain = stream.wait_for("drain").await;
    assert_eq!(drain.data["reason"], "max_age");
    assert_eq!(drain.retry, drain.data["retry_ms"].as_u64());
    assert!(stream.next_or_end().await.is_none());
    host.rt.publish(Event::new("ticks", "Tick", &2)).unwrap();
    let mut again = get("/stream/ticks");
    again
        .headers_mut()
        .insert("last-event-id", drain.id.unwrap().parse().unwrap());
    let mut back = host.connect().await.stream(again).await;
    assert_eq!(back.wait_for("Tick").await.data, 2);
}

#[tokio::test]
async fn a_stream_ends_when_the_credentials_do() {
    let expires = SystemTime::now() + Duration::from_millis(1500);
    let access = Access::check(move |_| async move {
        Ok::<_, Denied>(Principal::viewer("ana").expires_at(expires))
    });
    let host = Host::configured(
        RealtimeConfig::new(access).heartbeat_interval(Duration::from_millis(100)),
        Router::new(),
    )
    .await;
    let mut stream = host.stream("/stream/stats").await;
    assert_eq!(stream.wait_for("drain").await.data["reason"], "expired");
    assert!(SystemTime::now() >= expires);
    assert!(stream.next_or_end().await.is_none());
    assert_eq!(
        host.get("/stream/stats").await.refusal(401),
        "the credentials have expired"
    );
}

#[tokio::test]
async fn a_token_takes_over_from_the_stream_that_still_reads() {
    let host = Host::configured(named().max_clients_per_user(1), Router::new()).await;
    host.rt.channel("ticks", ChannelConfig::stream()).unwrap();
    let mut old = stream(&host, "/stream/ticks", "ana").await;
    let token = old.established.data["reconnect_token"]
        .as_str()
        .unwrap()
        .to_owned();
    host.rt.publish(Event::new("ticks", "Tick", &1)).unwrap();
    old.wait_for("Tick").await;

    // Another viewer's token is worth nothing: a fresh session, and the old stream stays.
    let path = format!("/stream/reconnect?token={token}");
    let mut thief = stream(&host, &format!("{path}&channels=ticks"), "ben").await;
    assert_fields(
        &thief.established.data,
        json!({"channels": ["ticks"], "token_refused": "invalid"}),
    );
    assert_eq!(thief.established.data["resume"]["verdict"], "lost");
    // Nor does it open what its bringer did not ask for.
    for path in [&path, "/stream/reconnect?token=garbage", "/stream?token=x"] {
        let answer = host.send(ask(path, "cid")).await;
        answer.refusal(410);
        assert_eq!(answer.json()["token_refused"], "invalid");
    }
    host.rt.publish(Event::new("ticks", "Tick", &2)).unwrap();
    old.wait_for("Tick").await;

    // It has the only place that ana may have, and gives it to the new one.
    let mut new = stream(&host, &path, "ana").await;
    assert_eq!(new.established.data["channels"], json!(["ticks"]));
    assert_eq!(new.wait_for("Tick").await.data, 1);
    assert_eq!(new.wait_for("Tick").await.data, 2);
    assert_eq!(old.wait_for("drain").await.data["reason"], "replaced");
    assert!(old.next_or_end().await.is_none());

    // The same token again: the session is one, however often it moves.
    let _newer = stream(&host, &path, "ana").await;
    assert_eq!(new.wait_for("drain").await.data["reason"], "replaced");
    host.rt.publish(Event::new("ticks", "Tick", &3)).unwrap();
    thief.wait_for("Tick").await;
}

/// Whoever refuses a stream for now, an EventSource is told to come back.
#[tokio::test]
async fn an_event_source_that_may_succeed_later_is_busy_whoever_says_so() {
    let access = Access::check(|_| async { Err::<Principal, _>(Denied::unavailable()) });
    let host = Host::configured(RealtimeConfig::new(access), Router::new()).await;
    let plain = host.get("/stream/stats").await;
    refused(&plain, 503, "access_unavailable");
    let wait = is_busy(&host.send(event_source(get("/stream/stats"))).await);
    // As long as the refusal itself says, and not all at once.
    assert!((5_000..=7_000).contains(&wait), "{wait}");

    // What can never succeed is said as it is.
    let host = Host::configured(config(), Router::new()).await;
    let unknown = event_source(get("/stream/nothing"));
    host.send(unknown).await.refusal(404);
}

#[cfg(feature = "ws")]
#[tokio::test]
async fn a_socket_that_may_succeed_later_is_told_once_when() {
    let access = Access::check(|parts| async move {
        match parts.uri.path() {
            "/ws" => Err(Denied::unavailable()),
            _ => Ok(Principal::viewer("ana")),
        }
    });
    let limited = RealtimeConfig::new(access).max_clients_per_user(1);
    let host = Host::configured(limited, Router::new()).await;
    let _held = host.stream("/stream/stats").await;
    for (path, status, code) in [
        ("/ws", 503, "access_unavailable"),
        ("/ws/stats", 429, "too_many_clients_of_user"),
    ] {
        let mut ask = get(path);
        for (name, value) in [
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ] {
            ask.headers_mut().insert(name, value.parse().unwrap());
        }
        let answer = host.send(ask).await;
        refused(&answer, status, code);
        let told = answer.headers.get_all("retry-after").iter().count();
        assert_eq!(told, 1, "{path}");
    }
}

#[tokio::test]
async fn reads_and_openings_have_a_rate_for_each_viewer() {
    let host = Host::configured(named().reads_per_minute(3), Router::new()).await;
    const INFO: &str = "/api/realtime/info";
    host.send(ask(INFO, "ana")).await.data();
    host.send(ask("/api/realtime/breakdown", "ana"))
        .await
        .data();
    let open = stream(&host, "/stream/stats", "ana").await;
    for path in [INFO, "/stream/stats"] {
        refused(&host.send(ask(path, "ana")).await, 429, "rate_limited");
    }
    // An EventSource would never ask again.
    let mut event_source = ask("/stream/stats", "ana");
    let headers = event_source.headers_mut();
    headers.insert("accept", "text/event-stream".parse().unwrap());
    headers.insert("sec-fetch-mode", "cors".parse().unwrap());
    let busy = host.send(event_source).await;
    assert_eq!(busy.status, 200);
    assert!(busy.text().contains("event: busy"), "{busy:#?}");
    // Nobody else is the slower for it, and who asks for health is nobody.
    host.send(ask(INFO, "ben")).await.data();
    for _ in 0..5 {
        host.get("/api/realtime/health/live").await.data();
    }
    drop(open);
}

#[tokio::test]
async fn by_default_no_crowd_of_pages_is_limited() {
    let host = Host::configured(named(), Router::new()).await;
    let mut connection = host.connect().await;
    for _ in 0..1000 {
        connection
            .send(ask("/api/realtime/info", "ana"))
            .await
            .data();
    }
}

#[tokio::test]
async fn guesses_end_for_an_address_and_whoever_was_in_stays_in() {
    let config = RealtimeConfig::new(Access::bearer("see-me").admin("rule-me"));
    let host = Host::configured(config.denials_per_minute(2), Router::new()).await;
    let ask = |token: &str| {
        let mut request = get("/api/realtime/info");
        let bearer = format!("Bearer {token}").parse().unwrap();
        request.headers_mut().insert("authorization", bearer);
        request
    };
    host.send(ask("see-me")).await.data();
    for guess in ["a", "b"] {
        host.send(ask(guess)).await.refusal(401);
    }
    // Not even the right one is told from the wrong ones now.
    for guess in ["c", "rule-me"] {
        refused(&host.send(ask(guess)).await, 429, "too_many_attempts");
    }
    host.send(ask("see-me")).await.data();
    host.get("/api/realtime/info").await.refusal(401);
}
