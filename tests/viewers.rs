//! What a viewer is promised whatever it comes by: each test is run over SSE and over WebSocket.

mod support;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use axum::{Extension, Json, Router, routing::post};
use serde_json::{Value, json};
use support::{Host, Transport, assert_fields, config, get, over_both, soon};
use tower_realtime::{Access, ChannelConfig, Event, Principal, RealtimeConfig, RequestMeter};

over_both! {
    one_position_resumes_any_set_of_channels
    replay_and_live_are_one_sequence
    what_is_no_longer_held_is_a_gap_and_unknown_positions_are_lost
    a_window_that_reaches_too_far_back_says_what_is_gone
    what_a_rate_leaves_out_is_added_up
    a_reconnect_token_restores_subscription_and_place
    a_tenants_viewer_sees_its_tenant_and_nothing_else
    a_drain_says_so_and_when_to_come_back
    one_that_does_not_read_costs_nobody_and_is_let_go
    one_that_reads_too_slowly_has_or_is_told_of_every_event
    a_tenants_viewer_that_comes_back_is_told_nothing_of_others
}

fn app() -> Router {
    async fn chat(Extension(meter): Extension<RequestMeter>, Json(said): Json<Value>) {
        let text = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
        meter
            .provider(text("provider"))
            .user(text("user"))
            .tenant(text("tenant"));
    }
    Router::new().route("/chat", post(chat))
}

async fn host(config: RealtimeConfig) -> Host {
    let host = Host::configured(config, app()).await;
    for channel in ["a", "b"] {
        host.rt.channel(channel, ChannelConfig::stream()).unwrap();
    }
    host
}

fn tick(channel: &'static str, n: u64) -> Event {
    Event::new(channel, "Tick", &json!({"n": n}))
}

fn verdict(viewer: &support::Viewer) -> &Value {
    &viewer.established.data["resume"]["verdict"]
}

async fn one_position_resumes_any_set_of_channels(by: Transport) {
    let host = host(config()).await;
    let mut viewer = by.open(&host, "channels=a").await;
    assert_eq!(verdict(&viewer), "fresh");
    for n in 1..=10 {
        let channel = if n % 2 == 1 { "a" } else { "b" };
        host.rt.publish(tick(channel, n)).unwrap();
    }
    assert_eq!(viewer.ticks(3).await, [1, 3, 5]);
    let seventh = viewer.next().await;
    assert_eq!(seventh.data["n"], 7);
    let id = seventh.id.unwrap();
    drop(viewer);
    // The header wins over a stale query.
    let header = [("last-event-id", id.as_str())];
    let mut back = by
        .open_with(&host, "channels=b,a&since=earliest", &header)
        .await;
    assert_eq!(
        back.established.data["resume"],
        json!({"verdict": "full", "replayed": 3, "missed_channels": []})
    );
    assert_eq!(back.established.id.as_deref(), Some(id.as_str()));
    assert_eq!(back.ticks(3).await, [8, 9, 10]);
    host.rt.publish(tick("a", 11)).unwrap();
    assert_eq!(back.ticks(1).await, [11]);

    for (query, expected) in [
        (format!("channels=b&lastEventId={id}"), vec![8, 10]),
        (format!("channels=b&since={id}"), vec![8, 10]),
        ("channels=a,b&since=n:2".to_owned(), vec![10, 11]),
        ("channels=a,b&since=5m".to_owned(), (1..=11).collect()),
        ("channels=a,b&since=earliest".to_owned(), (1..=11).collect()),
    ] {
        let mut viewer = by.open(&host, &query).await;
        assert_eq!(viewer.ticks(expected.len()).await, expected, "{query}");
    }
}

/// However often it goes and comes back while events are published, it gets each of them once and in order.
async fn replay_and_live_are_one_sequence(by: Transport) {
    const LAST: u64 = 2_000;
    let host = host(config()).await;
    let rt = host.rt.clone();
    let publisher = tokio::spawn(async move {
        for n in 1..=LAST {
            rt.publish(tick(if n % 3 == 0 { "a" } else { "b" }, n))
                .unwrap();
            if n % 7 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    let mut next = 1;
    let mut id: Option<String> = None;
    let mut comebacks = 0;
    while next <= LAST {
        let since = match &id {
            None => "earliest",
            Some(id) => id,
        };
        let mut viewer = by.open(&host, &format!("channels=a,b&since={since}")).await;
        assert_eq!(
            viewer.established.data["resume"]["missed_channels"],
            json!([])
        );
        for _ in 0..97 {
            if next > LAST {
                break;
            }
            let told = viewer.next().await;
            assert_eq!(
                (told.name.as_str(), &told.data["n"]),
                ("Tick", &json!(next))
            );
            id = told.id;
            next += 1;
        }
        comebacks += 1;
    }
    assert!(comebacks > 20);
    publisher.await.unwrap();
}

async fn what_is_no_longer_held_is_a_gap_and_unknown_positions_are_lost(by: Transport) {
    let host = Host::configured(config(), app()).await;
    let short = ChannelConfig::stream().retain(3);
    host.rt.channel("a", short).unwrap();
    let mut viewer = by.open(&host, "channels=a").await;
    host.rt.publish(tick("a", 0)).unwrap();
    let id = viewer.next().await.id.unwrap();
    for n in 1..=5 {
        host.rt.publish(tick("a", n)).unwrap();
    }
    viewer.ticks(5).await;
    let mut back = by.open(&host, &format!("channels=a&since={id}")).await;
    assert_eq!(verdict(&back), "partial");
    assert_eq!(
        back.established.data["resume"]["missed_channels"],
        json!(["a"])
    );
    let gap = back.next().await;
    assert_eq!(gap.name, "gap");
    assert_fields(
        &gap.data,
        json!({"channel": "a", "missed": 2, "reason": "evicted"}),
    );
    assert_eq!(back.ticks(3).await, [3, 4, 5]);

    for id in [
        "1-1",
        "nonsense",
        "99999999999999999999-1",
        "1738723890-1-1",
    ] {
        let mut lost = by
            .open(&host, &format!("channels=a,stats&since={id}"))
            .await;
        assert_eq!(verdict(&lost), "lost", "{id}");
        let gap = lost.wait_for("gap").await;
        assert_fields(&gap.data, json!({"channel": "a", "missed": null}));
        lost.wait_for("stats").await;
    }
}

async fn a_window_that_reaches_too_far_back_says_what_is_gone(by: Transport) {
    let host = Host::configured(config(), app()).await;
    let short = ChannelConfig::stream().retain(3);
    host.rt.channel("a", short).unwrap();
    let mut witness = by.open(&host, "channels=a").await;
    for n in 1..=10 {
        host.rt.publish(tick("a", n)).unwrap();
    }
    witness.ticks(10).await;
    for (since, missed) in [("n:5", 2), ("n:5000", 7), ("5m", 7), ("1h", 7), ("1d", 7)] {
        let mut viewer = by.open(&host, &format!("channels=a&since={since}")).await;
        assert_eq!(
            viewer.established.data["resume"],
            json!({"verdict": "partial", "replayed": 3, "missed_channels": ["a"]}),
            "{since}"
        );
        let gap = viewer.next().await;
        assert_eq!(gap.name, "gap", "{since}");
        assert_fields(
            &gap.data,
            json!({"channel": "a", "missed": missed, "reason": "evicted"}),
        );
        assert_eq!(viewer.ticks(3).await, [8, 9, 10], "{since}");
    }
    for since in ["n:3", "earliest"] {
        let mut viewer = by.open(&host, &format!("channels=a&since={since}")).await;
        assert_eq!(verdict(&viewer), "full", "{since}");
        assert_eq!(viewer.ticks(3).await, [8, 9, 10], "{since}");
    }
    let mut filtered = by.open(&host, "channels=a&type=Tick&since=n:5").await;
    assert_eq!(verdict(&filtered), "partial");
    let gap = filtered.next().await;
    assert_fields(&gap.data, json!({"channel": "a", "missed": null}));
    assert_eq!(filtered.ticks(3).await, [8, 9, 10]);
}

async fn what_a_rate_leaves_out_is_added_up(by: Transport) {
    const LAST: u64 = 200;
    let host = host(config().flush_interval(Duration::from_millis(1))).await;
    let mut witness = by.open(&host, "channels=a").await;
    let mut slow = by.open(&host, "channels=a&max_rate=1").await;
    let began = Instant::now();
    for n in 1..=LAST {
        host.rt.publish(tick("a", n)).unwrap();
        // So that each of them is a read of its own.
        assert_eq!(witness.ticks(1).await, [n]);
    }
    let (mut next, mut gaps, mut id) = (1, 0, None);
    while next <= LAST {
        let told = slow.next().await;
        match told.name.as_str() {
            "Tick" => {
                assert_eq!(told.data["n"], next);
                next += 1;
            }
            "gap" => {
                assert_eq!(told.data["reason"], "rate");
                next += told.data["missed"].as_u64().unwrap();
                gaps += 1;
            }
            _ => panic!("{told:?}"),
        }
        id = told.id;
    }
    assert_eq!(next, LAST + 1, "each is delivered or reported, once");
    // One before each that passes, and one a second.
    let most = 2 * (began.elapsed().as_secs() + 1);
    assert!((1..=most).contains(&gaps), "{gaps} gaps, {most} at most");
    let id = id.unwrap();
    let mut back = by.open(&host, &format!("channels=a&since={id}")).await;
    assert_eq!(back.established.data["resume"]["replayed"], 0);
    host.rt.publish(tick("a", LAST + 1)).unwrap();
    assert_eq!(back.ticks(1).await, [LAST + 1]);
}

async fn a_reconnect_token_restores_subscription_and_place(by: Transport) {
    let host = host(config()).await;
    let first = by.open(&host, "channels=a,b&only_errors=false").await;
    let token = first.established.data["reconnect_token"]
        .as_str()
        .unwrap()
        .to_owned();
    drop(first);
    host.rt.publish(tick("a", 1)).unwrap();
    host.rt.publish(tick("b", 2)).unwrap();
    for _ in 0..2 {
        let mut back = by.open(&host, &format!("token={token}")).await;
        assert_eq!(back.established.data["channels"], json!(["a", "b"]));
        assert_eq!(verdict(&back), "full");
        assert_eq!(back.ticks(2).await, [1, 2]);
    }
    let forged = by.open(&host, "channels=a&token=AAAA").await;
    assert_eq!(verdict(&forged), "lost");
}

async fn a_tenants_viewer_sees_its_tenant_and_nothing_else(by: Transport) {
    let access = Access::check(|parts| async move {
        let header = parts.headers.get("x-tenant");
        let tenant = header.and_then(|tenant| tenant.to_str().ok());
        Ok(match tenant {
            Some(tenant) => Principal::viewer("v").tenant(tenant.to_owned()),
            None => Principal::admin("root"),
        })
    });
    let host = host(RealtimeConfig::new(access)).await;
    let acme = [("x-tenant", "acme")];
    let mut viewer = by
        .open_with(&host, "channels=all&interval=1&window=1m", &acme)
        .await;
    for (tenant, user) in [("other", "eve"), ("acme", "ana")] {
        let said = json!({"provider": "p", "user": user, "tenant": tenant}).to_string();
        let mut chat = support::post("/chat", said);
        let json = "application/json".parse().unwrap();
        chat.headers_mut().insert("content-type", json);
        assert_eq!(host.send(chat).await.status, 200);
        host.rt.publish(tick("a", 1).tenant(tenant)).unwrap();
    }
    // Of nobody, so not for a tenant either.
    host.rt.publish(tick("a", 9)).unwrap();
    let mut seen = BTreeSet::new();
    while !["requests", "logs", "Tick", "stats"]
        .iter()
        .all(|name| seen.contains(*name))
    {
        let told = viewer.next().await;
        let text = told.data.to_string();
        assert!(!text.contains("eve") && !text.contains("other"), "{told:?}");
        if told.name == "Tick" {
            assert_eq!(told.data["n"], 1);
        }
        if told.name == "stats" && told.data["total_requests"] != 1 {
            assert_eq!(told.data["total_requests"], 0, "{told:?}");
            continue;
        }
        seen.insert(told.name);
    }
    // REST knows it by the same name.
    let read = async |path: &str| {
        let mut ask = get(path);
        ask.headers_mut()
            .insert("x-tenant", "acme".parse().unwrap());
        host.send(ask).await.data()
    };
    assert_eq!(read("/api/realtime/metrics").await["total_requests"], 1);
    assert_eq!(read("/api/realtime/requests").await["count"], 1);
    let stats = read("/api/realtime/hub/stats").await;
    assert_eq!(
        (&stats["tenant_id"], &stats["total_clients"]),
        (&json!("acme"), &json!(1))
    );
    assert!(stats.get("collector").is_none(), "{stats:#}");
}

async fn a_drain_says_so_and_when_to_come_back(by: Transport) {
    let host = host(config()).await;
    let ready = "/api/realtime/health/ready";
    assert_eq!(host.get(ready).await.status, 200);
    let viewer = by.open(&host, "channels=all").await;
    let idle = by.open(&host, "channels=a").await;
    host.rt.publish(tick("a", 1)).unwrap();
    soon("the drain", host.rt.drain(Duration::ZERO)).await;
    for viewer in [viewer, idle] {
        let mut told = viewer.rest().await;
        let last = told.pop().unwrap();
        assert_eq!(last.name, "drain", "{told:?}");
        assert_eq!(last.data["reason"], "shutdown");
        assert!(last.data["retry_ms"].as_u64().is_some(), "{last:?}");
        // What was published before is told before, once.
        let ticks: Vec<_> = told.iter().filter(|told| told.name == "Tick").collect();
        assert_eq!(ticks.len(), 1, "{told:?}");
        assert_eq!(ticks[0].data["n"], 1);
        assert_eq!(
            ticks[0].id, last.id,
            "the place to come back to is behind it"
        );
    }
    host.get(ready).await.refusal(503);
    assert_eq!(host.get("/api/realtime/health/live").await.status, 200);
    assert_eq!(by.refused(&host).await, 503);
    assert_eq!(host.get("/nothing").await.status, 404, "the host goes on");
}

async fn one_that_does_not_read_costs_nobody_and_is_let_go(by: Transport) {
    let host = host(config().stall_timeout(Duration::from_secs(1))).await;
    let mut witness = by.open(&host, "channels=a").await;
    let stuck = by.open(&host, "channels=a").await;
    let padding = ".".repeat(50_000);
    let mut n = 0;
    let gone = async {
        while host.data("/api/realtime/hub/stats").await["total_clients"] != 1 {
            let tick = Event::new("a", "Tick", &json!({"n": n, "padding": padding}));
            host.rt.publish(tick).unwrap();
            assert_eq!(witness.ticks(1).await, [n]);
            n += 1;
        }
    };
    soon("the stuck one to be let go", gone).await;
    assert!(n > 0);
    let stats = host.data("/api/realtime/hub/stats").await;
    assert_eq!(stats["hub"]["stalled"], 1, "{stats:#}");
    drop(stuck);
}

/// It reads nothing while more is published than the log and its socket hold, then everything.
async fn one_that_reads_too_slowly_has_or_is_told_of_every_event(by: Transport) {
    const LAST: u64 = 400;
    let host = Host::configured(config().flush_interval(Duration::from_millis(1)), app()).await;
    let short = ChannelConfig::stream().retain(20);
    host.rt.channel("a", short).unwrap();
    let mut witness = by.open(&host, "channels=a").await;
    let mut slow = by.open(&host, "channels=a").await;
    let padding = ".".repeat(50_000);
    for n in 1..=LAST {
        let tick = Event::new("a", "Tick", &json!({"n": n, "padding": padding}));
        host.rt.publish(tick).unwrap();
        // Nobody waits for the slow one.
        assert_eq!(witness.ticks(1).await, [n]);
    }
    let (mut next, mut gaps, mut position) = (1, 0, 0);
    while next <= LAST {
        let told = slow.next().await;
        let id = told.id.unwrap();
        let seq = id.split_once('-').unwrap().1.parse::<u64>().unwrap();
        assert!(seq >= position, "{seq} after {position}");
        position = seq;
        match told.name.as_str() {
            "Tick" => {
                assert_eq!(told.data["n"], next, "in order, once");
                next += 1;
            }
            "gap" => {
                assert_fields(&told.data, json!({"channel": "a", "reason": "lagged"}));
                next += told.data["missed"].as_u64().unwrap();
                gaps += 1;
            }
            "heartbeat" => {}
            name => panic!("{name}: {:.100}", told.data),
        }
    }
    assert_eq!(next, LAST + 1);
    assert!(gaps > 0, "nothing was let go: it was not slow");
    let stats = host.data("/api/realtime/hub/stats").await;
    assert_eq!(stats["total_clients"], 2, "{stats:#}");
    host.rt.publish(tick("a", LAST + 1)).unwrap();
    assert_eq!(slow.ticks(1).await, [LAST + 1], "it goes on");
}

async fn a_tenants_viewer_that_comes_back_is_told_nothing_of_others(by: Transport) {
    let access = Access::check(|parts| async move {
        let tenant = parts
            .headers
            .get("x-tenant")
            .and_then(|it| it.to_str().ok());
        let tenant = tenant.unwrap_or_default().to_owned();
        Ok(Principal::viewer("v").tenant(tenant))
    });
    let host = Host::configured(RealtimeConfig::new(access), app()).await;
    let short = ChannelConfig::stream().retain(6);
    host.rt.channel("a", short).unwrap();
    let acme = [("x-tenant", "acme")];
    let mut viewer = by.open_with(&host, "channels=a", &acme).await;
    host.rt.publish(tick("a", 1).tenant("acme")).unwrap();
    let id = viewer.next().await.id.unwrap();
    for n in 2..=5 {
        let tenant = if n % 2 == 0 { "other" } else { "acme" };
        host.rt.publish(tick("a", n).tenant(tenant)).unwrap();
    }
    assert_eq!(viewer.ticks(2).await, [3, 5]);
    let query = format!("channels=a&since={id}");
    let mut back = by.open_with(&host, &query, &acme).await;
    assert_eq!(
        back.established.data["resume"],
        json!({"verdict": "full", "replayed": 2, "missed_channels": []})
    );
    assert_eq!(back.ticks(2).await, [3, 5]);
    // Whose they were that are gone is not for it to know, nor how many.
    for n in 6..=9 {
        host.rt.publish(tick("a", n).tenant("other")).unwrap();
    }
    host.rt.publish(tick("a", 10).tenant("acme")).unwrap();
    assert_eq!(viewer.ticks(1).await, [10]);
    for query in [
        query,
        "channels=a&since=1h".to_owned(),
        "channels=a&since=n:50".to_owned(),
    ] {
        let mut back = by.open_with(&host, &query, &acme).await;
        assert_eq!(verdict(&back), "partial", "{query}");
        let gap = back.next().await;
        assert_fields(
            &gap.data,
            json!({"channel": "a", "missed": null, "reason": "evicted"}),
        );
        assert_eq!(back.ticks(2).await, [5, 10], "{query}");
    }
    // The other one sees its own, and only that.
    let other = [("x-tenant", "other")];
    let mut theirs = by
        .open_with(&host, "channels=a&since=earliest", &other)
        .await;
    assert_eq!(theirs.ticks(4).await, [6, 7, 8, 9]);
}
