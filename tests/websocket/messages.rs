//! What a client says, and what it is answered.

use super::*;

#[tokio::test]
async fn subscribing_and_unsubscribing_takes_effect_at_once() {
    let host = host().await;
    let mut socket = Socket::open(host.address, "/ws").await;
    assert_eq!(socket.next().await["data"]["channels"], json!([]));
    publish(&host, 0);
    assert_eq!(types(&socket.until_pong().await), [""; 0]);
    for (member, channels) in [
        ("channels", json!(["news"])),
        ("metrics", json!(["alerts"])),
        ("rooms", json!(["news", "logs"])),
    ] {
        socket.ask("subscribe", json!({member: channels})).await;
    }
    assert_eq!(
        socket.wait_for("subscribed").await["data"]["channels"],
        json!(["news"])
    );
    assert_eq!(
        socket.wait_for("subscribed").await["data"]["channels"],
        json!(["news", "alerts"])
    );
    assert_eq!(
        socket.wait_for("subscribed").await["data"]["channels"],
        json!(["news", "alerts", "logs"])
    );
    publish(&host, 1);
    assert_eq!(items(&mut socket, 1).await, [1]);
    socket
        .ask("unsubscribe", json!({"channels": ["news", "alerts"]}))
        .await;
    assert_eq!(
        socket.wait_for("unsubscribed").await["data"]["channels"],
        json!(["logs"])
    );
    publish(&host, 2);
    host.rt.log(Level::Info, "a", "b");
    assert_eq!(socket.next().await["type"], "log");
    socket.ask("subscribe", json!({"channels": ["all"]})).await;
    socket.wait_for("subscribed").await;
    socket
        .ask("unsubscribe", json!({"channels": ["logs"]}))
        .await;
    let left = socket.wait_for("unsubscribed").await["data"]["channels"].clone();
    assert!(
        left.as_array().unwrap().contains(&json!("news"))
            && !left.as_array().unwrap().contains(&json!("logs")),
        "{left}"
    );
    socket
        .ask("unsubscribe", json!({"channels": ["all"]}))
        .await;
    assert_eq!(
        socket.wait_for("unsubscribed").await["data"]["channels"],
        json!([])
    );
}

#[tokio::test]
async fn a_subscription_brings_its_filter() {
    let host = host().await;
    let mut socket = Socket::open(host.address, "/ws").await;
    let filter = json!({"only_errors": true, "provider_id": "groq"});
    socket
        .ask(
            "subscribe",
            json!({"channels": ["requests"], "filter": filter}),
        )
        .await;
    assert_eq!(
        socket.wait_for("subscribed").await["data"]["filter"],
        json!({"only_errors": "true", "provider_id": "groq"})
    );
    host.get("/chat").await;
    host.get("/broken").await;
    assert_eq!(
        socket.wait_for("request").await["data"]["provider_id"],
        "groq"
    );
    // It is one filter, of the connection: a subscription without leaves it, and one with another replaces it.
    socket.ask("subscribe", json!({"channels": ["news"]})).await;
    assert_eq!(
        socket.wait_for("subscribed").await["data"]["filter"],
        json!({"only_errors": "true", "provider_id": "groq"})
    );
    publish(&host, 1);
    assert_eq!(types(&socket.until_pong().await), [""; 0]);
    socket
        .ask(
            "unsubscribe",
            json!({"channels": ["news"], "filter": {"provider_id": "groq"}}),
        )
        .await;
    assert_fields(
        &socket.wait_for("unsubscribed").await["data"],
        json!({"channels": ["requests"], "filter": {"provider_id": "groq"}}),
    );
    socket
        .ask("subscribe", json!({"channels": ["requests"], "filter": {}}))
        .await;
    assert_eq!(
        socket.wait_for("subscribed").await["data"]["filter"],
        json!({})
    );
    host.get("/chat").await;
    assert_eq!(
        socket.wait_for("request").await["data"]["provider_id"],
        "openai"
    );
}

#[tokio::test]
async fn what_is_wrong_is_answered_and_the_connection_stays() {
    let host = host().await;
    let mut socket = Socket::open(host.address, "/ws/news").await;
    socket.wait_for("connection_established").await;
    for (message, code) in [
        ("no json", "bad_json"),
        ("[]", "bad_message"),
        (r#"{"type":"dance"}"#, "unknown_type"),
        (r#"{"type":"subscribe","data":{}}"#, "bad_message"),
        (
            r#"{"type":"subscribe","data":{"channels":["nonsense"]}}"#,
            "unknown_channel",
        ),
        (
            r#"{"type":"subscribe","data":{"channels":["all","nonsense"]}}"#,
            "unknown_channel",
        ),
        (
            r#"{"type":"subscribe","data":{"channels":["stats"],"filter":{"window":"2m"}}}"#,
            "bad_request",
        ),
        (
            r#"{"type":"subscribe","data":{"channels":["logs"],"filter":{"levle":"warn"}}}"#,
            "bad_message",
        ),
        (
            r#"{"type":"subscribe","data":{"channels":["logs"],"filters":{"level":"warn"}}}"#,
            "bad_message",
        ),
        (
            r#"{"type":"unsubscribe","data":{"channels":["nonsense"]}}"#,
            "unknown_channel",
        ),
        (
            r#"{"type":"unsubscribe","data":{"channels":["news","nonsense"]}}"#,
            "unknown_channel",
        ),
    ] {
        socket.send_raw(Message::text(message)).await;
        let error = socket.next().await;
        assert_eq!(
            (&error["type"], &error["data"]["code"]),
            (&json!("error"), &json!(code)),
            "{message}: {error:#}"
        );
        assert!(
            !error["data"]["message"].as_str().unwrap().is_empty(),
            "{error:#}"
        );
    }
    // Nothing of it has changed what is read.
    publish(&host, 7);
    assert_eq!(items(&mut socket, 1).await, [7]);
}

#[tokio::test]
async fn pings_of_both_kinds_are_answered() {
    let host = host().await;
    let mut socket = Socket::open(host.address, "/ws").await;
    socket.wait_for("connection_established").await;
    socket.ask("ping", json!({"n": 7})).await;
    let pong = socket.next().await;
    assert_eq!(
        (&pong["type"], &pong["data"]),
        (&json!("pong"), &json!({"n": 7}))
    );
    socket.ask("pong", json!({})).await;
    socket.send_raw(Message::Ping("abc".into())).await;
    assert_eq!(socket.next_raw().await, Some(Message::Pong("abc".into())));
}

#[tokio::test]
async fn a_message_resumes_as_the_url_does() {
    let host = host().await;
    let mut socket = Socket::open(host.address, "/ws/news").await;
    socket.wait_for("connection_established").await;
    for n in 0..5 {
        publish(&host, n);
    }
    let mut last = Value::Null;
    for _ in 0..3 {
        last = socket.wait_for("Item").await["id"].clone();
    }
    drop(socket);
    for n in 5..8 {
        publish(&host, n);
    }
    let since = last.as_str().unwrap();
    let mut by_message = Socket::open(host.address, "/ws/news").await;
    by_message.ask("resume", json!({"since": since})).await;
    let subscribed = by_message.wait_for("subscribed").await;
    assert_eq!(subscribed["data"]["resume"]["verdict"], "full");
    assert_eq!(items(&mut by_message, 5).await, [3, 4, 5, 6, 7]);
    by_message.ask("resume", json!({"since": "7-7"})).await;
    let subscribed = by_message.wait_for("subscribed").await;
    assert_eq!(subscribed["data"]["resume"]["verdict"], "lost");
    let gap = by_message.wait_for("gap").await;
    assert_fields(
        &gap["data"],
        json!({"channel": "news", "missed": null, "reason": "evicted"}),
    );
    publish(&host, 8);
    assert_eq!(items(&mut by_message, 1).await, [8]);
}

#[tokio::test]
async fn a_reconnect_token_brings_back_channels_filter_and_position() {
    let host = host().await;
    let mut socket = Socket::open(host.address, "/ws").await;
    socket.wait_for("connection_established").await;
    socket
        .ask(
            "subscribe",
            json!({"channels": ["news", "requests"], "filter": {"type": ["Item", "requests"]}}),
        )
        .await;
    let token = socket.wait_for("subscribed").await["data"]["reconnect_token"]
        .as_str()
        .unwrap()
        .to_owned();
    drop(socket);
    publish(&host, 1);
    let mut socket = Socket::open(host.address, &format!("/ws?token={token}")).await;
    let first = socket.next().await;
    assert_eq!(first["data"]["channels"], json!(["news", "requests"]));
    assert_eq!(first["data"]["resume"]["verdict"], "full");
    assert_eq!(items(&mut socket, 1).await, [1]);
}

#[tokio::test]
async fn a_position_in_the_url_holds_for_the_first_that_is_read() {
    let host = host().await;
    let mut socket = Socket::open(host.address, "/ws/news").await;
    publish(&host, 0);
    let since = socket.wait_for("Item").await["id"].clone();
    drop(socket);
    for n in 1..4 {
        publish(&host, n);
    }
    let path = format!("/ws?since={}", since.as_str().unwrap());
    let mut socket = Socket::open(host.address, &path).await;
    let first = socket.wait_for("connection_established").await;
    // Nothing is read yet, so nothing goes on either.
    assert_eq!(first["data"]["resume"]["verdict"], "fresh");
    let subscribe = json!({"channels": ["news"]});
    socket.ask("subscribe", subscribe.clone()).await;
    let subscribed = socket.wait_for("subscribed").await;
    assert_fields(
        &subscribed["data"]["resume"],
        json!({"verdict": "full", "replayed": 3}),
    );
    assert_eq!(items(&mut socket, 3).await, [1, 2, 3]);
    // Once: what is read later goes on from where it is.
    socket.ask("unsubscribe", subscribe.clone()).await;
    socket.wait_for("unsubscribed").await;
    socket.ask("subscribe", subscribe).await;
    let again = socket.wait_for("subscribed").await;
    assert!(again["data"]["resume"].is_null(), "{again}");
    publish(&host, 4);
    assert_eq!(items(&mut socket, 1).await, [4]);
}

#[tokio::test]
async fn a_position_in_a_message_holds_for_the_first_that_is_read_as_well() {
    let host = host().await;
    for n in 0..6 {
        publish(&host, n);
    }
    // The message is newer than the URL.
    for path in ["/ws", "/ws?since=n:2"] {
        let mut socket = Socket::open(host.address, path).await;
        socket.wait_for("connection_established").await;
        socket.ask("resume", json!({"since": "n:4"})).await;
        let kept = socket.wait_for("subscribed").await["data"].clone();
        assert_eq!(kept["channels"], json!([]), "{path}");
        // Nothing goes on yet, so there is no verdict about it.
        assert!(kept["resume"].is_null(), "{path}: {kept}");
        let subscribe = json!({"channels": ["news"]});
        socket.ask("subscribe", subscribe.clone()).await;
        let subscribed = socket.wait_for("subscribed").await;
        assert_fields(
            &subscribed["data"]["resume"],
            json!({"verdict": "full", "replayed": 4}),
        );
        assert_eq!(items(&mut socket, 4).await, [2, 3, 4, 5], "{path}");
        // Also where nothing is read any more.
        socket.ask("unsubscribe", subscribe.clone()).await;
        socket.wait_for("unsubscribed").await;
        socket.ask("resume", json!({"since": "n:1"})).await;
        socket.wait_for("subscribed").await;
        socket.ask("subscribe", subscribe).await;
        socket.wait_for("subscribed").await;
        assert_eq!(items(&mut socket, 1).await, [5], "{path}");
    }
}

#[tokio::test]
async fn a_reconnect_token_that_is_no_good_is_said_to_be_and_reads_what_the_url_names() {
    let host = host().await;
    for path in [
        "/ws/reconnect?token=abc&channels=news",
        "/ws/news?token=abc",
    ] {
        let mut socket = Socket::open(host.address, path).await;
        let first = socket.wait_for("connection_established").await;
        assert_fields(
            &first["data"],
            json!({"channels": ["news"], "token_refused": "invalid"}),
        );
        assert_eq!(first["data"]["resume"]["verdict"], "lost", "{path}");
    }
    let mut socket = Socket::open(host.address, "/ws/reconnect?token=abc").await;
    let first = socket.wait_for("connection_established").await;
    assert_eq!(first["data"]["channels"], json!([]));
    assert_eq!(first["data"]["resume"]["verdict"], "lost");
}
