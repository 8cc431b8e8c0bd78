//! What admins see and change: connections, broadcasts, the probe, and the trace that they leave.

mod support;

use axum::{Router, http::Method};
use serde_json::{Value, json};
use support::{Answer, Host, Request, Stream, assert_fields, get, request, soon};
use tower_realtime::{Access, ChannelConfig, Denied, Event, Principal, RealtimeConfig};

const BROADCAST: &str = "/api/realtime/broadcast";
const TICKET: &str = "/api/realtime/ticket";

/// `x-user: ana`, `x-user: ana@acme`, `x-user: admin-root`.
fn named() -> RealtimeConfig {
    RealtimeConfig::new(Access::check(|parts| async move {
        let name = parts
            .headers
            .get("x-user")
            .and_then(|name| name.to_str().ok());
        let name = name.ok_or_else(Denied::unauthenticated)?.to_owned();
        let (id, tenant) = match name.split_once('@') {
            Some((id, tenant)) => (id.to_owned(), Some(tenant.to_owned())),
            None => (name, None),
        };
        let principal = match id.starts_with("admin-") {
            true => Principal::admin(id),
            false => Principal::viewer(id),
        };
        Ok(match tenant {
            Some(tenant) => principal.tenant(tenant),
            None => principal,
        })
    }))
}

fn by(mut request: Request, user: &str) -> Request {
    request
        .headers_mut()
        .insert("x-user", user.parse().unwrap());
    request
}

async fn stream(host: &Host, path: &str, user: &str) -> Stream {
    host.connect().await.stream(by(get(path), user)).await
}

async fn read(host: &Host, path: &str, user: &str) -> Value {
    host.send(by(get(path), user)).await.data()
}

async fn post(host: &Host, path: &str, user: &str, body: Value) -> Answer {
    host.send(by(support::post(path, body.to_string()), user))
        .await
}

async fn delete(host: &Host, path: &str, user: &str) -> Answer {
    host.send(by(request(Method::DELETE, path), user)).await
}

fn id_of(stream: &Stream) -> String {
    stream.established.data["connection_id"]
        .as_str()
        .unwrap()
        .to_owned()
}

const CONNECTIONS: &str = "/api/realtime/connections";

async fn host() -> Host {
    let host = Host::configured(named(), Router::new()).await;
    for channel in ["a", "b"] {
        host.rt.channel(channel, ChannelConfig::stream()).unwrap();
    }
    host
}

fn publish(host: &Host, channel: &'static str, n: u64) {
    host.rt
        .publish(Event::new(channel, "Tick", &json!({"on": channel, "n": n})))
        .unwrap();
}

#[tokio::test]
async fn the_inspector_shows_who_reads_what_and_forgets_who_left() {
    let host = host().await;
    let mut ana = stream(&host, "/stream?channels=a,b&only_errors=false", "ana@acme").await;
    let ben = stream(&host, "/stream/b", "ben").await;
    host.rt
        .publish(Event::new("a", "Tick", &1).tenant("acme"))
        .unwrap();
    ana.wait_for("Tick").await;
    let seen = read(&host, CONNECTIONS, "admin-root").await;
    assert_eq!(seen["total"], 2);
    let row = &seen["connections"][0];
    assert_fields(
        row,
        json!({
            "id": id_of(&ana), "transport": "sse", "user_id": "ana", "tenant_id": "acme", "role": "viewer",
            "channels": ["a", "b"], "filter": "only_errors=false", "lag": 0, "sent_events": 1, "gaps": 0,
            "missed_events": 0,
            "ip": "127.0.0.1",
        }),
    );
    assert!(row["sent_bytes"].as_u64().unwrap() > 20);
    assert!(
        row["age_seconds"].is_u64()
            && row["last_progress_ms"].is_u64()
            && row["connected_at"].is_u64()
    );

    host.send(by(get(CONNECTIONS), "ana@acme"))
        .await
        .refusal(403);
    let of_tenant = read(&host, CONNECTIONS, "admin-of@acme").await;
    assert_eq!(of_tenant["total"], 1);
    assert_eq!(of_tenant["connections"][0]["user_id"], "ana");
    delete(
        &host,
        &format!("{CONNECTIONS}/{}", id_of(&ben)),
        "admin-of@acme",
    )
    .await
    .refusal(404);

    drop((ana, ben));
    let gone = async { while read(&host, CONNECTIONS, "admin-root").await["total"] != 0 {} };
    soon("the rows to go", gone).await;
}

#[tokio::test]
async fn a_kick_ends_the_stream_and_is_told_in_the_log() {
    let host = host().await;
    let mut logs = stream(&host, "/stream/logs?component=audit", "admin-root").await;
    let mut ana = stream(&host, "/stream/a", "ana").await;
    let path = format!("{CONNECTIONS}/{}", id_of(&ana));
    delete(&host, &path, "ana").await.refusal(403);
    let kicked = delete(&host, &path, "admin-root").await.data();
    assert_fields(&kicked, json!({"id": id_of(&ana), "kicked": true}));
    assert_eq!(ana.wait_for("drain").await.data["reason"], "kicked");
    assert!(ana.next_or_end().await.is_none());
    let line = logs.wait_for("log").await.data;
    assert_fields(&line, json!({"component": "audit", "level": "info"}));
    assert_fields(
        &line["fields"],
        json!({"actor": "admin-root", "action": "kick", "target": id_of(&ana)}),
    );
    delete(&host, &path, "admin-root").await.refusal(404);
    delete(&host, &format!("{CONNECTIONS}/nobody-1"), "admin-root")
        .await
        .refusal(404);
    let wrong = host.send(by(get(&path), "admin-root")).await;
    wrong.refusal(405);
    assert_eq!(wrong.header("allow"), "DELETE");
}

#[tokio::test]
async fn channels_come_and_go_while_the_stream_is_open() {
    let host = host().await;
    let mut ana = stream(&host, "/stream/a", "ana").await;
    let id = id_of(&ana);
    let subscribe = format!("{CONNECTIONS}/{id}/subscribe");
    let unsubscribe = format!("{CONNECTIONS}/{id}/unsubscribe");
    publish(&host, "b", 1);
    publish(&host, "a", 2);
    assert_eq!(ana.wait_for("Tick").await.data["n"], 2);

    let changed = post(
        &host,
        &subscribe,
        "ana",
        json!({"channels": ["b", "stats"]}),
    )
    .await
    .data();
    assert_eq!(changed["channels"], json!(["a", "b", "stats"]));
    ana.wait_for("stats").await;
    publish(&host, "b", 3);
    assert_eq!(ana.wait_for("Tick").await.data["n"], 3);

    post(
        &host,
        &unsubscribe,
        "admin-root",
        json!({"channels": ["a"]}),
    )
    .await
    .data();
    publish(&host, "a", 4);
    publish(&host, "b", 5);
    assert_eq!(ana.wait_for("Tick").await.data["n"], 5);

    // A token restores what its session reads by now, with what was changed after it was issued.
    let token = changed["reconnect_token"].as_str().unwrap();
    let back = stream(&host, &format!("/stream/reconnect?token={token}"), "ana").await;
    assert_eq!(back.established.data["channels"], json!(["b", "stats"]));
    assert_eq!(ana.wait_for("drain").await.data["reason"], "replaced");

    let path = format!("{CONNECTIONS}/{}/subscribe", id_of(&back));
    post(&host, &path, "ben", json!({"channels": ["b"]}))
        .await
        .refusal(404);
    let unknown = post(&host, &path, "ana", json!({"channels": ["nothing"]})).await;
    assert!(unknown.refusal(404).contains("nothing"));
    let wrong = post(&host, &path, "ana", json!({"channels": [7]})).await;
    assert!(wrong.refusal(400).contains("'channels'"));
    let wrong = post(
        &host,
        &path,
        "ana",
        json!({"channels": ["a"], "filter": {"level": "loud"}}),
    )
    .await;
    assert!(wrong.refusal(400).contains("'level'"));
    // The rate is the connection's, for as long as it lasts.
    let rate = json!({"channels": ["a"], "filter": {"max_rate": 5}});
    let wrong = post(&host, &path, "ana", rate).await;
    assert!(wrong.refusal(400).contains("'filter.max_rate'"));
    let slow = stream(&host, "/stream/a?max_rate=7&type=Tick", "ana").await;
    let path = format!("{CONNECTIONS}/{}/subscribe", id_of(&slow));
    let errors = json!({"channels": ["a"], "filter": {"only_errors": true}});
    let changed = post(&host, &path, "ana", errors).await.data();
    assert_eq!(changed["filter"], "only_errors=true&max_rate=7");
}

#[tokio::test]
async fn a_connection_is_given_channels_only_and_so_many() {
    let host = host().await;
    let mut ana = stream(&host, "/stream/all", "ana").await;
    let id = id_of(&ana);
    let path = |what: &str| format!("{CONNECTIONS}/{id}/{what}");
    let junk: Vec<String> = (0..257).map(|n| format!("junk-{n}")).collect();
    for (body, status, name) in [
        // What `all` hides is looked at all the same.
        (json!({"channels": ["all", "junk"]}), 404, "'junk'"),
        (json!({"channels": ["junk"]}), 404, "'junk'"),
        (json!({"channels": junk}), 400, "'channels'"),
        (json!({"metrics": junk}), 400, "'metrics'"),
        (json!({"channels": junk.join(",")}), 400, "'channels'"),
        (json!({"channels": ["x".repeat(65)]}), 400, "'channels'"),
        (json!({"channels": []}), 400, "'channels'"),
        (json!({}), 400, "'channels'"),
        (
            json!({"channels": ["a"], "chanels": ["b"]}),
            400,
            "'chanels'",
        ),
        (
            json!({"channels": ["a"], "filter": {"session": "7"}}),
            400,
            "'filter.session'",
        ),
        (
            json!({"channels": ["a"], "filter": {"provider_id": "x".repeat(257)}}),
            400,
            "'provider_id'",
        ),
    ] {
        let said = post(&host, &path("subscribe"), "ana", body)
            .await
            .refusal(status);
        assert!(said.contains(name), "{said}");
    }
    let kept = read(&host, CONNECTIONS, "admin-root").await["connections"][0].clone();
    assert_fields(&kept, json!({"channels": ["all"], "filter": ""}));
    // A thousand times the same is one.
    let many = json!({"channels": vec!["a"; 1000]});
    let changed = post(&host, &path("subscribe"), "ana", many.clone())
        .await
        .data();
    assert_eq!(changed["channels"], json!(["all", "a"]));
    let changed = post(&host, &path("unsubscribe"), "ana", many).await.data();
    let left = changed["channels"].as_array().unwrap();
    assert!(left.contains(&json!("b")) && !left.contains(&json!("a")));
    publish(&host, "a", 1);
    publish(&host, "b", 2);
    assert_eq!(ana.wait_for("Tick").await.data["n"], 2);
    let nothing = json!({"channels": ["all", "b"]});
    let changed = post(&host, &path("unsubscribe"), "ana", nothing)
        .await
        .data();
    assert_eq!(changed["channels"], json!([]));
}

#[tokio::test]
async fn an_anonymous_viewer_changes_its_own_stream_with_its_token_only() {
    let host = Host::start(Router::new()).await;
    let mut stream = host.stream("/stream/logs").await;
    let path = format!("{CONNECTIONS}/{}/subscribe", id_of(&stream));
    let body = json!({"channels": ["stats"]});
    host.send(support::post(&path, body.to_string()))
        .await
        .refusal(404);
    let other = host.stream("/stream/logs").await;
    let mut ask = support::post(&path, body.to_string());
    ask.headers_mut().insert(
        "x-reconnect-token",
        other.headers["x-reconnect-token"].clone(),
    );
    host.send(ask).await.refusal(404);
    let mut ask = support::post(&path, body.to_string());
    ask.headers_mut().insert(
        "x-reconnect-token",
        stream.headers["x-reconnect-token"].clone(),
    );
    host.send(ask).await.data();
    stream.wait_for("stats").await;
}

/// All holders of one token are one viewer, and names of connections can be guessed.
#[tokio::test]
async fn holders_of_one_token_change_their_own_streams_with_the_reconnect_token_only() {
    let access = Access::bearer("see-me").admin("rule-me");
    let host = Host::configured(RealtimeConfig::new(access), Router::new()).await;
    let with = |mut request: Request, token: &str| {
        let token = format!("Bearer {token}").parse().unwrap();
        request.headers_mut().insert("authorization", token);
        request
    };
    let open = async || {
        let request = with(get("/stream/logs"), "see-me");
        host.connect().await.stream(request).await
    };
    let (mut mine, theirs) = (open().await, open().await);
    let id = id_of(&mine);
    let path = |what: &str| format!("{CONNECTIONS}/{id}/{what}");
    let ask = async |what: &str, body: Value, token: &str| {
        let request = support::post(&path(what), body.to_string());
        host.send(with(request, token)).await
    };
    let logs = json!({"channels": ["logs"]});
    ask("unsubscribe", logs, "see-me").await.refusal(404);
    let shown = |stream: &Stream| {
        let token = stream.headers["x-reconnect-token"].to_str().unwrap();
        json!({"channels": ["stats"], "reconnect_token": token})
    };
    ask("subscribe", shown(&theirs), "see-me")
        .await
        .refusal(404);
    ask("subscribe", shown(&mine), "see-me").await.data();
    mine.wait_for("stats").await;
    let stats = json!({"channels": ["stats"]});
    let changed = ask("unsubscribe", stats, "rule-me").await.data();
    assert_eq!(changed["channels"], json!(["logs"]));
}

#[tokio::test]
async fn a_broadcast_reaches_everybody_who_reads_its_channel() {
    let host = host().await;
    let mut first = stream(&host, "/stream/a", "ana").await;
    let mut second = stream(&host, "/stream/all", "ben").await;
    let mut local = host
        .rt
        .subscribe(["a"], tower_realtime::Filter::default())
        .unwrap();
    let _other = stream(&host, "/stream/b", "ben").await;
    let path = "/api/realtime/broadcast";
    let body =
        json!({"channel": "a", "type": "Notice", "data": {"text": "hello"}, "priority": "high"});
    post(&host, path, "ana", body.clone()).await.refusal(403);
    let answer = post(&host, path, "admin-root", body).await;
    assert_eq!(answer.status, 201);
    let data = &answer.json()["data"];
    assert_eq!(data["delivered_to"], 3);
    for stream in [&mut first, &mut second] {
        let event = stream.wait_for("Notice").await;
        assert_eq!(event.data, json!({"text": "hello"}));
        assert_eq!(event.id.as_deref(), data["position"].as_str());
    }
    assert!(
        matches!(local.next().await, Some(tower_realtime::Received::Event { kind, .. }) if kind == "Notice")
    );

    for (body, names) in [
        (json!({"type": "T", "data": 1}), "'channel'"),
        (json!({"channel": "a", "data": 1}), "'type'"),
        (json!({"channel": "a", "type": "T"}), "'data'"),
        (json!({"channel": "a", "type": "gap", "data": 1}), "'type'"),
        (
            json!({"channel": "a", "type": "a\r\nb", "data": 1}),
            "'type'",
        ),
        (
            json!({"channel": "stats", "type": "T", "data": 1}),
            "'channel'",
        ),
        (
            json!({"channel": "a", "type": "T", "data": "x".repeat(60_000)}),
            "'data'",
        ),
        (
            json!({"channel": "a", "type": "T", "data": 1, "priority": "loud"}),
            "'priority'",
        ),
    ] {
        let sentence = post(&host, path, "admin-root", body).await.refusal(400);
        assert!(sentence.contains(names), "{sentence}");
    }
    for (body, name) in [
        (
            json!({"channel": "a", "type": "T", "data": 1, "tenant": "acme"}),
            "'tenant'",
        ),
        (
            json!({"channel": "all", "type": "T", "data": 1}),
            "'channel'",
        ),
        (
            json!({"channel": "logs", "type": "T", "data": {}}),
            "'type'",
        ),
        (
            json!({"channel": "logs", "type": "log", "data": {"level": "info"}}),
            "'data.message'",
        ),
        (
            json!({"channel": "logs", "type": "log", "data": {"level": "loud", "message": "m"}}),
            "'data.level'",
        ),
        (
            json!({"channel": "logs", "type": "log", "data": {"message": "m", "field": {}}}),
            "'data.field'",
        ),
    ] {
        let sentence = post(&host, path, "admin-root", body).await.refusal(400);
        assert!(sentence.contains(name), "{sentence}");
    }
    let unknown = json!({"channel": "nothing", "type": "T", "data": 1});
    assert!(
        post(&host, path, "admin-root", unknown)
            .await
            .refusal(404)
            .contains("nothing")
    );
    let large = by(support::post(path, " ".repeat(65 * 1024)), "admin-root");
    host.send(large).await.refusal(413);
}

#[tokio::test]
async fn a_log_line_can_be_broadcast_as_seed_001_prints_it() {
    let host = host().await;
    let mut logs = stream(&host, "/stream/logs?level=info", "ana").await;
    let mut inside = stream(&host, "/stream/logs", "ana@acme").await;
    let path = "/api/realtime/broadcast";
    let body = json!({"channel": "logs", "type": "log", "data": {"level": "info", "message": "Test message"}});
    assert_eq!(post(&host, path, "admin-root", body).await.status, 201);
    let line = logs.wait_for("log").await;
    assert_fields(
        &line.data,
        json!({"level": "info", "message": "Test message", "component": "broadcast"}),
    );
    let full = json!({"channel": "logs", "type": "log", "data": {
        "level": "warn", "message": "to acme", "component": "router", "provider_id": "p", "request_id": "r",
        "fields": {"n": 7, "ratio": 0.5, "on": true, "list": [1]},
    }});
    assert_eq!(post(&host, path, "admin-of@acme", full).await.status, 201);
    // Not the line for everybody: that one is no tenant's.
    let line = inside.wait_for("log").await;
    assert_fields(
        &line.data,
        json!({
            "level": "warn", "message": "to acme", "component": "router", "provider_id": "p", "request_id": "r",
            "fields": {"n": 7, "ratio": 0.5, "on": true, "list": "[1]"},
        }),
    );
}

#[tokio::test]
async fn the_hubs_numbers_name_users_to_admins_and_bound_the_list() {
    let host = host().await;
    let mut held = Vec::new();
    for user in ["ana", "ana", "ben", "cid@acme", "dot@acme"] {
        held.push(stream(&host, "/stream/a", user).await);
    }
    for n in 0..60 {
        held.push(stream(&host, "/stream/b", &format!("user-{n}@crowd")).await);
    }
    publish(&host, "a", 1);
    for stream in &mut held[..3] {
        stream.wait_for("Tick").await;
    }
    let path = "/api/realtime/hub/stats";
    let stats = read(&host, path, "admin-root").await;
    assert_fields(&stats, json!({"total_clients": 65, "users_total": 64}));
    let users = stats["users"].as_array().unwrap();
    assert_eq!(users.len(), 50);
    assert_fields(
        &users[0],
        json!({"user_id": "ana", "tenant_id": null, "connections": 2, "sent_events": 2}),
    );
    assert!(users[0]["sent_bytes"].as_u64().unwrap() > 50);
    let sent = stats["hub"]["sent_bytes"].as_u64().unwrap();
    assert!(sent >= 3 * 50, "{sent}");
    assert_eq!(stats["hub"]["evicted"], 0);

    // What was sent stays counted when its reader has left.
    held.clear();
    let gone = async { while read(&host, path, "ana").await["total_clients"] != 0 {} };
    soon("everybody to leave", gone).await;
    let stats = read(&host, path, "ana").await;
    assert!(stats["hub"]["sent_bytes"].as_u64().unwrap() >= sent);

    // A viewer sees itself, and a tenant's admin its tenant.
    let _held = [
        stream(&host, "/stream/a", "ana").await,
        stream(&host, "/stream/a", "ben").await,
        stream(&host, "/stream/a", "cid@acme").await,
    ];
    let users = read(&host, path, "ana").await["users"].clone();
    assert_eq!(users.as_array().unwrap().len(), 1);
    assert_eq!(users[0]["user_id"], "ana");
    let of_tenant = read(&host, path, "admin-of@acme").await;
    assert_fields(
        &of_tenant,
        json!({"total_clients": 1, "users_total": 1, "tenant_id": "acme"}),
    );
    assert_eq!(of_tenant["users"][0]["user_id"], "cid");
    assert!(of_tenant.get("hub").is_none() && of_tenant.get("channels").is_none());
}

#[tokio::test]
async fn tickets_have_a_rate_of_their_own() {
    let host = Host::configured(named().inbound_per_minute(2), Router::new()).await;
    for _ in 0..20 {
        post(&host, "/api/realtime/ticket", "ana", json!({}))
            .await
            .data();
    }
    let refused = post(&host, "/api/realtime/ticket", "ana", json!({})).await;
    refused.refusal(429);
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    post(&host, "/api/realtime/ticket", "ben", json!({}))
        .await
        .data();
    // And changing something is another matter.
    post(&host, "/api/realtime/test-connection", "ana", json!({}))
        .await
        .data();
}

#[tokio::test]
async fn a_tenants_admin_speaks_to_its_tenant() {
    let host = host().await;
    let mut inside = stream(&host, "/stream/a", "ana@acme").await;
    let mut outside = stream(&host, "/stream/a", "ben@other").await;
    let body = |to: &str| json!({"channel": "a", "type": "Notice", "data": to, "tenant_id": to});
    let path = "/api/realtime/broadcast";
    assert_eq!(
        post(&host, path, "admin-of@acme", body("other"))
            .await
            .status,
        201
    );
    assert_eq!(
        post(&host, path, "admin-root", body("other")).await.status,
        201
    );
    inside.wait_for("Notice").await;
    host.rt
        .publish(Event::new("a", "Notice", &"last").tenant("acme"))
        .unwrap();
    assert_eq!(inside.wait_for("Notice").await.data, "last");
    outside.wait_for("Notice").await;
    host.rt
        .publish(Event::new("a", "Notice", &"last").tenant("other"))
        .unwrap();
    assert_eq!(outside.wait_for("Notice").await.data, "last");
}

#[tokio::test]
async fn writes_are_rate_limited_for_each_principal() {
    let host = Host::configured(named().inbound_per_minute(3), Router::new()).await;
    let path = "/api/realtime/test-connection";
    for _ in 0..3 {
        let probe = post(&host, path, "ana", json!({"connection_type": "sse"}))
            .await
            .data();
        assert_eq!(probe["ok"], true, "{probe}");
        assert!(probe["latency_ms"].as_f64().unwrap() > 0.0);
    }
    let refused = post(&host, path, "ana", json!({})).await;
    refused.refusal(429);
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait));
    post(&host, path, "ben", json!({})).await.data();
    assert!(
        post(&host, path, "ben", json!({"connection_type": "pigeon"}))
            .await
            .refusal(400)
            .contains("connection_type")
    );
    // Reading is not writing.
    for _ in 0..5 {
        read(&host, "/api/realtime/info", "ana").await;
    }
}

#[tokio::test]
async fn holders_of_one_token_do_not_use_up_each_others_calls() {
    let config = RealtimeConfig::new(Access::bearer("see-me"))
        .inbound_per_minute(1)
        .trusted_proxies(["127.0.0.1"]);
    let host = Host::configured(config, Router::new()).await;
    for path in ["/api/realtime/test-connection", "/api/realtime/ticket"] {
        let from = async |address: &str| {
            let mut ask = support::post(path, "{}");
            for (name, value) in [
                ("authorization", "Bearer see-me"),
                ("x-forwarded-for", address),
            ] {
                ask.headers_mut().insert(name, value.parse().unwrap());
            }
            host.send(ask).await
        };
        let calls = if path.ends_with("ticket") { 10 } else { 1 };
        for _ in 0..calls {
            from("2001:db8::1").await.data();
        }
        from("2001:db8::1").await.refusal(429);
        // The next address of the same network is the same holder.
        from("2001:db8::2").await.refusal(429);
        from("2001:db8:0:1::1").await.data();
        from("192.0.2.1").await.data();
    }
}

#[tokio::test]
async fn the_info_lists_what_is_compiled_in_and_beside_it_what_is_on() {
    let config = named().ws_enabled(false).compression(false);
    let host = Host::configured(config, Router::new()).await;
    let info = read(&host, "/api/realtime/info", "ana").await;
    let compiled = [
        ("axum", cfg!(feature = "axum")),
        ("compression", cfg!(feature = "compression")),
        ("dashboard", cfg!(feature = "dashboard")),
        ("jwt", cfg!(feature = "jwt")),
        ("tracing", cfg!(feature = "tracing")),
        ("ws", cfg!(feature = "ws")),
    ];
    let names: Vec<_> = compiled
        .iter()
        .filter_map(|(name, on)| on.then_some(*name))
        .collect();
    assert_eq!(info["features"], json!(names));
    assert_eq!(info["transports"]["sse"]["encodings"], json!([]));
    assert_eq!(info["transports"]["websocket"]["enabled"], false);
}

#[tokio::test]
async fn the_probe_leaves_nothing_behind_and_is_in_no_list() {
    let host = host().await;
    let before = host.rt.clone();
    post(
        &host,
        "/api/realtime/test-connection",
        "ana",
        json!({"connection_type": "sse"}),
    )
    .await
    .data();
    let websocket = json!({"connection_type": "websocket"});
    let probe = post(&host, "/api/realtime/test-connection", "ana", websocket).await;
    assert_eq!(probe.data()["ok"], cfg!(feature = "ws"), "{probe:?}");
    let stats = read(&host, "/api/realtime/hub/stats", "ana").await;
    assert_eq!(stats["total_clients"], 0);
    // An empty body is as good as none of its fields, and a field that it does not know is told.
    let path = "/api/realtime/test-connection";
    for body in ["", "{}", r#"{"connection_type": null}"#] {
        let probe = host.send(by(support::post(path, body), "ana")).await.data();
        assert_fields(&probe, json!({"ok": true, "connection_type": "sse"}));
    }
    for (body, name) in [
        (json!({"connection_type": "sse", "timeout": 1}), "'timeout'"),
        (json!({"connection_type": 7}), "'connection_type'"),
        (json!({"connection_type": ""}), "'connection_type'"),
        (json!(["sse"]), "object"),
    ] {
        let said = post(&host, path, "ana", body).await.refusal(400);
        assert!(said.contains(name), "{said}");
    }
    let info = read(&host, "/api/realtime/info", "ana").await;
    assert!(
        !info["channels"]
            .as_array()
            .unwrap()
            .contains(&json!("probe"))
    );
    drop(before);
}

#[tokio::test]
async fn what_one_tenant_says_of_a_key_takes_nothing_from_another() {
    let host = Host::configured(named(), Router::new()).await;
    host.rt.channel("rooms", ChannelConfig::state()).unwrap();
    let said = |tenant: &'static str| {
        Event::new("rooms", "Room", &json!({"of": tenant}))
            .tenant(tenant)
            .key("1")
    };
    host.rt.publish(said("acme")).unwrap();
    let mut one = stream(&host, "/stream/rooms", "ana@acme").await;
    assert_eq!(one.wait_for("Room").await.data["of"], "acme");

    let body = json!({"channel": "rooms", "type": "Room", "key": "1", "data": {"of": "umbrella"}});
    let answer = post(&host, BROADCAST, "admin-eve@umbrella", body).await;
    // Of those who read the channel, none is told of it, and the admin is not told of them.
    assert_eq!(answer.json()["data"]["delivered_to"], 0);
    for (user, of) in [("ana@acme", "acme"), ("ben@umbrella", "umbrella")] {
        let mut late = stream(&host, "/stream/rooms", user).await;
        assert_eq!(late.wait_for("Room").await.data["of"], of);
    }
    let mut everything = stream(&host, "/stream/rooms", "cleo").await;
    for of in ["acme", "umbrella"] {
        assert_eq!(everything.wait_for("Room").await.data["of"], of);
    }
}

#[tokio::test]
async fn channels_that_are_not_listed_have_no_name_for_anybody() {
    let host = Host::configured(named(), Router::new()).await;
    // A variant of `providers`, and the channel of the probe.
    let _watching = stream(&host, "/stream?channels=providers", "ben@umbrella").await;
    let probe = post(&host, "/api/realtime/test-connection", "ana", json!({})).await;
    assert_eq!(probe.data()["ok"], true);

    let spy = stream(&host, "/stream?channels=requests", "eve@acme").await;
    let subscribe = format!("/api/realtime/connections/{}/subscribe", id_of(&spy));
    for name in ["probe  ", r#"providers  Providers { tenant: "umbrella" }"#] {
        let wanted = json!({"channels": [name]});
        for (path, user) in [(subscribe.as_str(), "eve@acme"), (TICKET, "eve@acme")] {
            let answer = post(&host, path, user, wanted.clone()).await;
            answer.refusal(404);
            assert_eq!(answer.json()["code"], "unknown_channel", "{path} {name}");
        }
        let forged = json!({"channel": name, "type": "Forged", "data": 1});
        let answer = post(&host, BROADCAST, "admin-eve", forged).await;
        answer.refusal(404);
    }
}

/// A token that comes with a change goes on from where the client has been told, not from where its reader has read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_comes_with_a_change_passes_over_nothing_that_was_not_told() {
    let host = Host::configured(named(), Router::new()).await;
    for name in ["a", "b"] {
        host.rt.channel(name, ChannelConfig::stream()).unwrap();
    }
    let mut thinned = stream(&host, "/stream/a?max_rate=1", "ana").await;
    publish(&host, "a", 1);
    thinned.wait_for("Tick").await;
    // Skipped, and within the second in which that is not told.
    for n in 2..=5 {
        publish(&host, "a", n);
    }
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let path = format!("{CONNECTIONS}/{}/subscribe", id_of(&thinned));
    let changed = post(&host, &path, "ana", json!({"channels": ["b"]}))
        .await
        .data();
    drop(thinned);
    let token = changed["reconnect_token"].as_str().unwrap();
    let mut back = stream(&host, &format!("/stream/reconnect?token={token}"), "ana").await;
    // What was handed over a moment ago may not have arrived, so the first comes as well.
    assert_eq!(back.established.data["resume"]["replayed"], 5);
    let mut told = 0;
    while told < 5 {
        let event = back.next().await;
        match event.name.as_str() {
            "Tick" => told += 1,
            "gap" => told += event.data["missed"].as_u64().unwrap(),
            _ => {}
        }
    }
    assert_eq!(told, 5, "each is delivered or reported");
}
