//! The wall between tenants: what one's viewers are told follows from its own requests, and one's viewers take
//! nothing from another's.

mod support;

use std::{collections::BTreeMap, time::Duration};

use axum::{Extension, Json, Router, http::StatusCode, routing::post};
use serde_json::{Value, json};
use support::{Answer, Host, Transport, get, over_both, soon};
use tower_realtime::{Access, Principal, ProviderStatus, RealtimeConfig, RequestMeter};

over_both! {
    statuses_of_providers_follow_from_the_tenants_own_requests
}

/// Whoever says `x-tenant` is an admin of that tenant, everybody else an admin of all.
fn config() -> RealtimeConfig {
    RealtimeConfig::new(Access::check(|parts| async move {
        let header = parts.headers.get("x-tenant");
        Ok(match header.and_then(|tenant| tenant.to_str().ok()) {
            Some(tenant) => Principal::admin("v").tenant(tenant.to_owned()),
            None => Principal::admin("root"),
        })
    }))
}

fn app() -> Router {
    async fn chat(
        Extension(meter): Extension<RequestMeter>,
        Json(said): Json<Value>,
    ) -> StatusCode {
        let text = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
        meter.provider(text("provider")).tenant(text("tenant"));
        let status = said["status"].as_u64().unwrap_or(200) as u16;
        StatusCode::from_u16(status).unwrap()
    }
    Router::new().route("/chat", post(chat))
}

async fn chat(host: &Host, tenant: &str, provider: &str, times: usize, status: u16) {
    let mut connection = host.connect().await;
    for _ in 0..times {
        let said = json!({"tenant": tenant, "provider": provider, "status": status}).to_string();
        let mut chat = support::post("/chat", said);
        let json = "application/json".parse().unwrap();
        chat.headers_mut().insert("content-type", json);
        assert_eq!(connection.send(chat).await.status, status);
    }
}

async fn answer(host: &Host, path: &str, tenant: &str) -> Answer {
    let mut ask = get(path);
    let headers = ask.headers_mut();
    headers.insert("x-tenant", tenant.parse().unwrap());
    host.send(ask).await
}

async fn statuses_of_providers_follow_from_the_tenants_own_requests(by: Transport) {
    let config = config().providers_interval(Duration::from_millis(100));
    let host = Host::configured(config, app()).await;
    host.rt.provider("spare").name("Spare").upsert();
    let acme = [("x-tenant", "acme")];
    let mut viewer = by.open_with(&host, "channels=providers", &acme).await;
    let mut everybody = by.open(&host, "channels=providers").await;
    chat(&host, "globex", "openai", 40, 503).await;
    chat(&host, "globex", "secretprov", 5, 200).await;
    chat(&host, "globex", "spare", 5, 503).await;
    chat(&host, "acme", "openai", 10, 200).await;

    // What it is told, in order, each provider's status once for each change.
    let mut told: BTreeMap<String, Vec<(Value, Value)>> = BTreeMap::new();
    let mut until = async |provider: &str, status: &str| {
        let wanted = async {
            loop {
                let event = viewer.next().await;
                let text = event.data.to_string();
                for theirs in ["secretprov", "globex", "tenant"] {
                    assert!(!text.contains(theirs), "{event:?}");
                }
                if event.name == "providers" {
                    for row in event.data["providers"].as_array().unwrap() {
                        assert_eq!(row["realtime_requests"], Value::Null, "{row}");
                    }
                }
                if event.name != "provider_status" {
                    continue;
                }
                let data = &event.data;
                let id = data["provider_id"].as_str().unwrap().to_owned();
                let change = (data["previous_status"].clone(), data["status"].clone());
                let is_wanted = id == provider && change.1 == status;
                told.entry(id).or_default().push(change);
                if is_wanted {
                    return;
                }
            }
        };
        soon("a status", wanted).await;
    };
    until("openai", "healthy").await;
    let none = ProviderStatus::Disabled;
    host.rt
        .provider("spare")
        .name("Spare")
        .status(none)
        .upsert();
    until("spare", "disabled").await;
    chat(&host, "acme", "openai", 20, 503).await;
    until("openai", "down").await;
    let spare = [("idle", "idle"), ("idle", "disabled")];
    assert_eq!(
        told["spare"],
        spare.map(|(from, to)| (json!(from), json!(to))),
        "the others' failures are not told"
    );
    for pair in told["openai"].windows(2) {
        assert_eq!(pair[0].1, pair[1].0, "each goes on from the one before");
    }
    assert_eq!(told.len(), 2);

    // One that comes later is told how things stand, by either kind of answer.
    let mut late = by.open_with(&host, "channels=providers", &acme).await;
    let mut current = BTreeMap::new();
    while current.len() < 2 {
        let event = late.wait_for("provider_status").await;
        let id = event.data["provider_id"].as_str().unwrap().to_owned();
        current.insert(id, event.data["status"].clone());
    }
    assert_eq!(
        json!(current),
        json!({"openai": "down", "spare": "disabled"})
    );
    let listed = answer(&host, "/api/realtime/providers", "acme")
        .await
        .data();
    assert_eq!(listed["total"], 2, "{listed:#}");
    // Statuses are looked at once a second, which may have been in the middle of the failures.
    let by_all_of_them = async {
        loop {
            let one = answer(&host, "/api/realtime/providers/openai", "acme").await;
            let reason = one.data()["status_reason"].as_str().unwrap().to_owned();
            if reason.starts_with("error rate 66.7 %") {
                return;
            }
        }
    };
    soon("twenty failures of thirty", by_all_of_them).await;
    answer(&host, "/api/realtime/providers/secretprov", "acme")
        .await
        .refusal(404);
    let overview = answer(&host, "/api/realtime/overview", "acme").await.data();
    assert_eq!(overview["providers"]["total"], 2);
    // Who belongs to none sees everybody's.
    let seen = async {
        loop {
            let event = everybody.wait_for("provider_status").await;
            if event.data["provider_id"] == "openai" && event.data["status"] == "down" {
                return;
            }
        }
    };
    soon("everybody's status", seen).await;
    assert_eq!(host.data("/api/realtime/providers").await["total"], 3);
}

#[tokio::test]
async fn one_viewers_windows_and_paces_take_nobodys_place() {
    let host = Host::configured(config(), app()).await;
    let mut kept = host.stream("/stream/stats?window=1m&interval=3600").await;
    assert_eq!(kept.wait_for("stats").await.data["window"], "1m");
    for seconds in 1..=300 {
        let path = format!("/stream/stats?interval={seconds}");
        let opened = answer_head(&host, &path, "acme").await;
        assert_eq!(opened, 200, "{path}");
    }
    // As many tenants as there may be, each with two of its own.
    let mut open = Vec::new();
    for tenant in 0..150 {
        let name = format!("t{tenant}");
        let stream = Transport::Sse
            .open_with(&host, "channels=all", &[("x-tenant", &name)])
            .await;
        open.push((name, stream));
    }
    for (name, stream) in &mut open {
        let stats = stream.wait_for("stats").await;
        assert_eq!(stats.data["tenant_id"], **name);
    }
}

#[tokio::test]
async fn the_name_of_a_connection_tells_nothing_of_others() {
    let host = Host::configured(config(), app()).await;
    let acme = [("x-tenant", "acme")];
    let number = |id: &Value| -> i64 {
        let (_, number) = id.as_str().unwrap().rsplit_once('-').unwrap();
        number.parse().unwrap()
    };
    let mut numbers = Vec::new();
    let mut open = Vec::new();
    for _ in 0..4 {
        let viewer = Transport::Sse
            .open_with(&host, "channels=logs", &acme)
            .await;
        numbers.push(number(&viewer.established.data["connection_id"]));
        let between = [("x-tenant", "globex")];
        open.push(viewer);
        open.push(
            Transport::Sse
                .open_with(&host, "channels=logs", &between)
                .await,
        );
    }
    let steps = numbers.windows(2).map(|pair| pair[1] - pair[0]);
    let steps: Vec<_> = steps.collect();
    // Counted up, each would be 2.
    assert!(steps.iter().all(|step| step.abs() > 100), "{steps:?}");
    // The list has them as they came, and each is found by its name.
    let path = "/api/realtime/connections";
    let listed = answer(&host, path, "acme").await.data();
    let rows = listed["connections"].as_array().unwrap();
    let listed: Vec<_> = rows.iter().map(|row| number(&row["id"])).collect();
    assert_eq!(listed, numbers);
    for row in rows {
        let id = row["id"].as_str().unwrap();
        let mut kick = support::request(axum::http::Method::DELETE, &format!("{path}/{id}"));
        let headers = kick.headers_mut();
        headers.insert("x-tenant", "globex".parse().unwrap());
        host.send(kick).await.refusal(404);
    }
}

/// The status of a stream that is left as soon as it is there.
async fn answer_head(host: &Host, path: &str, tenant: &str) -> u16 {
    let mut ask = get(path);
    let headers = ask.headers_mut();
    headers.insert("x-tenant", tenant.parse().unwrap());
    host.connect().await.head(ask).await.0
}
