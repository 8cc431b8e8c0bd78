//! Tickets over HTTP: what they are confined to, and what is refused when one is asked for.

mod support;

use axum::Router;
use serde_json::{Value, json};
use support::{Answer, Host, Stream, assert_fields, get, post, soon};
use tower_realtime::{Access, ChannelConfig, Denied, Event, Principal, RealtimeConfig};

const TICKET: &str = "/api/realtime/ticket";

/// `x-user: ana` may read three channels, anybody else with a name all of them.
async fn host() -> Host {
    let access = Access::check(|parts| async move {
        let name = parts
            .headers
            .get("x-user")
            .and_then(|name| name.to_str().ok());
        let name = name.ok_or_else(Denied::unauthenticated)?.to_owned();
        Ok(match name.as_str() {
            "ana" => Principal::viewer(name).channels(["a", "b", "stats"]),
            _ => Principal::viewer(name),
        })
    });
    let host = Host::configured(RealtimeConfig::new(access), Router::new()).await;
    for channel in ["a", "b", "c"] {
        host.rt.channel(channel, ChannelConfig::stream()).unwrap();
    }
    host
}

async fn ask(host: &Host, user: &str, body: impl Into<axum::body::Bytes>) -> Answer {
    let mut ask = post(TICKET, body);
    ask.headers_mut().insert("x-user", user.parse().unwrap());
    host.send(ask).await
}

async fn ticket(host: &Host, user: &str, body: Value) -> String {
    let data = ask(host, user, body.to_string()).await.data();
    assert_eq!(data["expires_in"], 30);
    data["ticket"].as_str().unwrap().to_owned()
}

fn publish(host: &Host, channel: &'static str) {
    host.rt
        .publish(Event::new(channel, "Tick", &json!({"on": channel})))
        .unwrap();
}

/// The answer to a stream that is not to open: one that does has no end.
async fn refused(host: &Host, path: &str) -> Answer {
    soon("the refusal", host.get(path)).await
}

fn code(answer: &Answer, status: u16) -> Value {
    answer.refusal(status);
    answer.json()["code"].clone()
}

#[tokio::test]
async fn a_ticket_for_some_channels_opens_no_other() {
    let host = host().await;
    for path in [
        "/stream/b",
        "/stream?channels=a,b",
        "/stream?channels=all,b",
        "/stream/stats",
    ] {
        let confined = ticket(&host, "ben", json!({"channels": ["a"]})).await;
        let joint = if path.contains('?') { '&' } else { '?' };
        let answer = refused(&host, &format!("{path}{joint}ticket={confined}")).await;
        assert_eq!(code(&answer, 403), "channel_forbidden", "{path}");
    }
    // Of everything, what it is for.
    let confined = ticket(&host, "ben", json!({"channels": ["a"]})).await;
    let mut stream = host.stream(&format!("/stream/all?ticket={confined}")).await;
    publish(&host, "b");
    publish(&host, "a");
    assert_eq!(stream.wait_for("Tick").await.data["on"], "a");

    // Nor later: the stream keeps its bounds, also where its owner asks with all of its rights.
    let path = |stream: &Stream| {
        let id = stream.established.data["connection_id"].as_str().unwrap();
        format!("/api/realtime/connections/{id}/subscribe")
    };
    let mut change = post(&path(&stream), r#"{"channels": ["b"]}"#);
    change
        .headers_mut()
        .insert("x-user", "ben".parse().unwrap());
    assert_eq!(code(&host.send(change).await, 403), "channel_forbidden");

    // Nor by the token of a stream that read more.
    let mut open = get("/stream?channels=a,b");
    open.headers_mut().insert("x-user", "ben".parse().unwrap());
    let wide = host.connect().await.stream(open).await;
    let token = wide.headers["x-reconnect-token"].to_str().unwrap();
    let confined = ticket(&host, "ben", json!({"channels": ["a"]})).await;
    let path = format!("/stream/reconnect?token={token}&ticket={confined}");
    let answer = refused(&host, &path).await;
    assert_eq!(code(&answer, 403), "channel_forbidden");
}

/// An EventSource that is told to come back does so with the same URL.
#[tokio::test]
async fn a_ticket_is_used_up_by_what_it_opens_and_by_nothing_else() {
    let access = Access::bearer("see-me");
    let limited = RealtimeConfig::new(access).max_clients(30);
    let host = Host::configured(limited, Router::new()).await;
    host.rt.channel("a", ChannelConfig::stream()).unwrap();
    let with_token = |mut request: support::Request| {
        let token = "Bearer see-me".parse().unwrap();
        request.headers_mut().insert("authorization", token);
        request
    };
    let issue = async || {
        let issued = host.send(with_token(post(TICKET, ""))).await.data();
        issued["ticket"].as_str().unwrap().to_owned()
    };
    let ticket = issue().await;
    let path = format!("/stream/a?ticket={ticket}");
    let event_source = || {
        let mut request = get(&path);
        let headers = request.headers_mut();
        headers.insert("accept", "text/event-stream".parse().unwrap());
        headers.insert("sec-fetch-mode", "cors".parse().unwrap());
        request
    };
    let mut held = Vec::new();
    for _ in 0..30 {
        let open = with_token(get("/stream/a"));
        held.push(host.connect().await.stream(open).await);
    }
    for _ in 0..3 {
        let busy = host.send(event_source()).await;
        assert!(busy.text().contains("event: busy"), "{}", busy.text());
    }
    refused(&host, &format!("/stream/nothing?ticket={ticket}"))
        .await
        .refusal(404);
    // A tenth of all places is no storm: none is kept for those who might come back.
    held.truncate(27);
    let clients = async || {
        let ask = with_token(get("/api/realtime/hub/stats"));
        host.send(ask).await.data()["total_clients"].clone()
    };
    let free = async { while clients().await != 27 {} };
    soon("the places to be free", free).await;
    // There is room for three, and the ticket opens one.
    let asked = (0..16).map(|_| async {
        let mut connection = host.connect().await;
        let answer = connection.open(get(&path)).await;
        (connection, answer)
    });
    let answers = futures_util::future::join_all(asked).await;
    let opened = answers.iter().filter(|(_, answer)| answer.status() == 200);
    assert_eq!(opened.count(), 1);
    let again = refused(&host, &path).await;
    assert_eq!(code(&again, 401), "invalid_ticket");
}

#[tokio::test]
async fn without_channels_a_ticket_is_worth_what_its_holder_is() {
    let host = host().await;
    for body in [
        "",
        "{}",
        r#"{"channels": ["all"]}"#,
        r#"{"channels": "all,a"}"#,
    ] {
        let data = ask(&host, "ben", body).await.data();
        assert_eq!(data["channels"], Value::Null, "{body}");
        let ticket = data["ticket"].as_str().unwrap();
        host.stream(&format!("/stream?channels=a,b,c&ticket={ticket}"))
            .await;
    }
    let data = ask(&host, "ana", r#"{"channels": ["all"]}"#).await.data();
    let ticket = data["ticket"].as_str().unwrap();
    let answer = refused(&host, &format!("/stream/c?ticket={ticket}")).await;
    assert_eq!(code(&answer, 403), "channel_forbidden");
    let some = ask(&host, "ana", r#"{"channels": "b,a,b"}"#).await.data();
    assert_fields(&some, json!({"channels": ["b", "a"], "expires_in": 30}));
}

#[tokio::test]
async fn what_is_no_ticket_is_refused_by_the_name_of_the_field() {
    let host = host().await;
    let many: Vec<String> = (0..33).map(|n| format!("c{n}")).collect();
    for (body, status, code, names) in [
        (json!({"channel": ["a"]}), 400, "bad_request", "'channel'"),
        (
            json!({"channels": ["a"], "ttl": 9}),
            400,
            "bad_request",
            "'ttl'",
        ),
        (json!({"channels": []}), 400, "bad_request", "'channels'"),
        (json!({"channels": ""}), 400, "bad_request", "'channels'"),
        (json!({"channels": null}), 400, "bad_request", "'channels'"),
        (json!({"channels": 7}), 400, "bad_request", "'channels'"),
        (
            json!({"channels": {"a": 1}}),
            400,
            "bad_request",
            "'channels'",
        ),
        (
            json!({"channels": ["a", 7]}),
            400,
            "bad_request",
            "'channels'",
        ),
        (
            json!({"channels": ["a", ""]}),
            400,
            "bad_request",
            "'channels'",
        ),
        (json!({"channels": many}), 400, "bad_request", "'channels'"),
        (json!(["a"]), 400, "bad_json", "object"),
        (
            json!({"channels": ["a", "nope"]}),
            403,
            "channel_forbidden",
            "'channels'",
        ),
        (
            json!({"channels": ["all", "nope"]}),
            403,
            "channel_forbidden",
            "'nope'",
        ),
        (
            json!({"channels": ["a", "c"]}),
            403,
            "channel_forbidden",
            "'channels'",
        ),
        (
            json!({"channels": ["all", "c"]}),
            403,
            "channel_forbidden",
            "'c'",
        ),
    ] {
        let answer = ask(&host, "ana", body.to_string()).await;
        let said = answer.refusal(status);
        assert_eq!(answer.json()["code"], code, "{body}: {said}");
        assert!(said.contains(names), "{body}: {said}");
    }
    ask(&host, "ana", "{").await.refusal(400);
    ask(&host, "ana", "channels=a").await.refusal(400);
    ask(&host, "ana", " ".repeat(65 * 1024)).await.refusal(413);
    // What is asked for in the query would not be heard.
    let mut by_query = post(&format!("{TICKET}?channels=a"), "");
    by_query
        .headers_mut()
        .insert("x-user", "ana".parse().unwrap());
    assert!(
        host.send(by_query)
            .await
            .refusal(400)
            .contains("'channels'")
    );
    // Who may read all of them is told that this is none.
    let answer = ask(&host, "ben", r#"{"channels": ["nope"]}"#).await;
    assert!(answer.refusal(404).contains("'channels'"));
    let stranger = host.send(post(TICKET, r#"{"channels": ["nope"]}"#)).await;
    stranger.refusal(401);
}

#[tokio::test]
async fn calls_that_fail_are_counted_as_well() {
    let access = Access::bearer("see-me");
    let config = RealtimeConfig::new(access).inbound_per_minute(1);
    let host = Host::configured(config, Router::new()).await;
    let ask = async || {
        let mut ask = post(TICKET, r#"{"channels": 7}"#);
        let token = "Bearer see-me".parse().unwrap();
        ask.headers_mut().insert("authorization", token);
        host.send(ask).await
    };
    for _ in 0..10 {
        ask().await.refusal(400);
    }
    let answer = ask().await;
    assert_eq!(code(&answer, 429), "rate_limited");
    assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
}

#[cfg(feature = "ws")]
#[tokio::test]
async fn a_socket_of_a_ticket_for_some_channels_gets_no_other_later() {
    use support::Socket;

    let host = host().await;
    let confined = ticket(&host, "ben", json!({"channels": ["a"]})).await;
    let foreign = Socket::try_open(host.address, &format!("/ws/b?ticket={confined}"), &[]).await;
    assert_eq!(foreign.err().unwrap().0, 403);

    let confined = ticket(&host, "ben", json!({"channels": ["a"]})).await;
    let mut socket = Socket::open(host.address, &format!("/ws?ticket={confined}")).await;
    socket.wait_for("connection_established").await;
    for channels in [json!(["b"]), json!(["a", "b"]), json!(["all", "b"])] {
        socket.ask("subscribe", json!({"channels": channels})).await;
        let error = socket.wait_for("error").await;
        assert_eq!(error["data"]["code"], "channel_forbidden");
    }
    socket.ask("subscribe", json!({"channels": ["all"]})).await;
    socket.wait_for("subscribed").await;
    publish(&host, "b");
    publish(&host, "a");
    let tick = socket.wait_for("Tick").await;
    assert_eq!(tick["data"]["on"], "a");
}

#[tokio::test]
async fn whether_a_channel_is_there_is_told_to_those_who_may_read_it() {
    let host = host().await;
    let told = async |user: &str, name: &str| {
        let mut ask = get(&format!("/stream/{name}"));
        ask.headers_mut().insert("x-user", user.parse().unwrap());
        soon("the refusal", host.send(ask)).await
    };
    let answer = told("ben", "nope").await;
    assert_eq!(code(&answer, 404), "unknown_channel");
    let known: Vec<String> = serde_json::from_value(answer.json()["channels"].clone()).unwrap();
    for name in ["a", "c", "logs", "all"] {
        assert!(known.iter().any(|known| known == name), "{known:?}");
    }
    // What ana may not read is forbidden, be it there or not.
    for name in ["c", "nope"] {
        let answer = told("ana", name).await;
        assert_eq!(code(&answer, 403), "channel_forbidden");
        assert!(answer.json()["channels"].is_null());
    }
}
