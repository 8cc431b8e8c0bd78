//! Sessions: what a reconnect token brings back, for how long, and who has a session that several come for at once.
#![cfg(feature = "axum")]

mod support;

use std::time::Duration;

use axum::{Router, body::Body, http::HeaderMap};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use support::{Connection, Event as Told, Host, config, get, soon};
use tokio::time::advance;
use tower::ServiceExt;
use tower_realtime::{ChannelConfig, Event, RealtimeConfig, RealtimeHandle, RealtimeLayer};

/// A host without sockets, so that time can be paused.
struct House {
    app: Router,
    rt: RealtimeHandle,
}

/// An open stream of it.
struct Line {
    headers: HeaderMap,
    established: Told,
    body: Body,
    text: String,
}

impl House {
    fn new() -> Self {
        Self::of(config().replay_age(Duration::from_secs(24 * 3600)))
    }

    fn of(config: RealtimeConfig) -> Self {
        let realtime = RealtimeLayer::new(config);
        let rt = realtime.handle();
        for name in ["a", "b"] {
            rt.channel(name, ChannelConfig::stream()).unwrap();
        }
        let app = Router::new().layer(realtime);
        Self { app, rt }
    }

    fn publish(&self, channel: &'static str, n: u64) {
        let event = Event::new(channel, "Tick", &json!({"n": n}));
        self.rt.publish(event).unwrap();
    }

    async fn ask(&self, request: support::Request) -> (u16, HeaderMap, Body) {
        let (head, body) = self
            .app
            .clone()
            .oneshot(request)
            .await
            .unwrap()
            .into_parts();
        (head.status.as_u16(), head.headers, body)
    }

    async fn refused(&self, path: &str) -> (u16, Value) {
        let (status, _, body) = self.ask(get(path)).await;
        assert_ne!(status, 200, "{path}");
        let body = body.collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn open(&self, path: &str) -> Line {
        self.open_with(path, None).await
    }

    async fn open_with(&self, path: &str, last_event_id: Option<&str>) -> Line {
        let mut request = get(path);
        if let Some(id) = last_event_id {
            let id = id.parse().unwrap();
            request.headers_mut().insert("last-event-id", id);
        }
        let (status, headers, body) = self.ask(request).await;
        assert_eq!(status, 200, "{path}");
        let mut line = Line {
            headers,
            established: Told {
                name: String::new(),
                id: None,
                retry: None,
                data: Value::Null,
            },
            body,
            text: String::new(),
        };
        line.established = line.next().await.unwrap();
        assert_eq!(line.established.name, "connection_established", "{path}");
        line
    }

    /// Comes back as one who knows nothing but the token.
    async fn back(&self, token: &str) -> Line {
        self.open(&format!("/stream/reconnect?token={token}")).await
    }

    async fn change(&self, line: &Line, what: &str, channels: Value) {
        let id = line.established.data["connection_id"].as_str().unwrap();
        let path = format!("/api/realtime/connections/{id}/{what}");
        let mut request = support::post(&path, json!({"channels": channels}).to_string());
        let token = line.headers["x-reconnect-token"].clone();
        request.headers_mut().insert("x-reconnect-token", token);
        assert_eq!(self.ask(request).await.0, 200);
    }
}

impl Line {
    fn token(&self) -> String {
        self.headers["x-reconnect-token"]
            .to_str()
            .unwrap()
            .to_owned()
    }

    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let told = support::parse(block).unwrap();
                self.text = rest.to_owned();
                return Some(told);
            }
            let frame = self.body.frame().await?.unwrap();
            let data = frame.into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&data).unwrap());
        }
    }

    async fn wait_for(&mut self, name: &str) -> Told {
        loop {
            let told = self.next().await.expect("an event, and not the end");
            if told.name == name {
                return told;
            }
        }
    }

    /// The numbers of the ticks up to this one.
    async fn ticks_to(&mut self, last: u64) -> Vec<u64> {
        let mut numbers = Vec::new();
        while numbers.last() != Some(&last) {
            numbers.push(self.wait_for("Tick").await.data["n"].as_u64().unwrap());
        }
        numbers
    }
}

/// What was handed over long ago has arrived; what was handed over just now may have been lost with the connection, and
/// who does not say where it is gets it again. Nothing is missing.
#[tokio::test(start_paused = true)]
async fn a_token_goes_on_near_where_its_session_was_and_not_where_that_began() {
    let house = House::new();
    let mut line = house.open("/stream/a").await;
    let token = line.token();
    for n in 0..600 {
        house.publish("a", n);
        assert_eq!(line.ticks_to(n).await, [n]);
        advance(Duration::from_secs(1)).await;
    }
    // Whether its stream is still there, or was left some time ago.
    for wait in [None, Some(Duration::from_secs(5 * 60))] {
        if let Some(wait) = wait {
            drop(line);
            advance(wait).await;
        }
        let mut back = house.back(&token).await;
        assert_eq!(back.established.data["resume"]["verdict"], "full");
        let again = back.ticks_to(599).await;
        // 35 seconds or up to a third more.
        assert!((35..=50).contains(&again.len()), "{again:?}");
        let contiguous = 600 - again.len() as u64..600;
        assert!(again.iter().copied().eq(contiguous), "{again:?}");
        line = back;
    }
    // A minute later all of that has arrived.
    for _ in 0..5 {
        line.wait_for("heartbeat").await;
    }
    drop(line);
    house.publish("a", 600);
    assert_eq!(house.back(&token).await.ticks_to(600).await, [600]);
}

#[tokio::test(start_paused = true)]
async fn a_position_that_the_client_brings_wins_over_that_of_its_session() {
    let house = House::new();
    let mut line = house.open("/stream/a").await;
    for n in 0..10 {
        house.publish("a", n);
    }
    line.ticks_to(6).await;
    let id = line.wait_for("Tick").await.id.unwrap();
    let path = format!("/stream/reconnect?token={}", line.token());
    drop(line);
    let mut back = house.open_with(&path, Some(&id)).await;
    assert_eq!(back.ticks_to(9).await, [8, 9]);
    let mut back = house.open(&format!("{path}&since={id}")).await;
    assert_eq!(back.ticks_to(9).await, [8, 9]);
    let mut back = house.open(&format!("{path}&since=latest")).await;
    house.publish("a", 10);
    assert_eq!(back.ticks_to(10).await, [10]);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_good_while_its_session_is_known() {
    let house = House::new();
    let line = house.open("/stream/a").await;
    let token = line.token();
    // A stream may be older than any token is good by itself.
    advance(Duration::from_secs(45 * 60)).await;
    drop(line);
    advance(Duration::from_secs(29 * 60)).await;
    house.publish("a", 1);
    let mut back = house.back(&token).await;
    assert_eq!(back.established.data["token_refused"], Value::Null);
    assert_eq!(back.ticks_to(1).await, [1]);
    drop(back);
    // Half an hour from when it was left, and not longer.
    advance(Duration::from_secs(31 * 60)).await;
    let (status, body) = house
        .refused(&format!("/stream/reconnect?token={token}"))
        .await;
    assert_eq!((status, &body["code"]), (410, &json!("session_lost")));
    assert_eq!(body["token_refused"], "expired");
    let named = format!("/stream/reconnect?token={token}&channels=a");
    let fresh = house.open(&named).await.established.data;
    assert_eq!(fresh["token_refused"], "expired");
    assert_eq!(fresh["resume"]["verdict"], "lost");
}

#[tokio::test(start_paused = true)]
async fn what_a_stream_was_made_to_read_it_reads_when_it_comes_back() {
    let house = House::new();
    let mut line = house.open("/stream/a").await;
    // That of the beginning: no later one reaches an EventSource.
    let path = format!("/stream/reconnect?token={}", line.token());
    house.change(&line, "subscribe", json!(["b"])).await;
    house.publish("b", 1);
    let id = line.wait_for("Tick").await.id.unwrap();
    drop(line);
    for id in [None, Some(id.as_str())] {
        let mut back = house.open_with(&path, id).await;
        assert_eq!(back.established.data["channels"], json!(["a", "b"]));
        house.publish("b", 2);
        back.ticks_to(2).await;
    }
    let back = house.open(&path).await;
    house.change(&back, "unsubscribe", json!(["a"])).await;
    // Taken over while it is there.
    let back = house.open(&path).await;
    assert_eq!(back.established.data["channels"], json!(["b"]));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_not_taken_takes_nothing_from_a_good_position() {
    let house = House::new();
    let mut line = house.open("/stream/a").await;
    for n in 0..6 {
        house.publish("a", n);
    }
    let id = line.wait_for("Tick").await.id.unwrap();
    for path in [
        "/stream/a?token=AAAA".to_owned(),
        "/stream/reconnect?token=AAAA&channels=a".to_owned(),
    ] {
        let mut back = house.open_with(&path, Some(&id)).await;
        let said = &back.established.data;
        assert_eq!(said["token_refused"], "invalid");
        assert_eq!(
            said["resume"],
            json!({"verdict": "full", "replayed": 5, "missed_channels": []})
        );
        assert_eq!(back.ticks_to(5).await, [1, 2, 3, 4, 5]);
        let mut back = house.open(&format!("{path}&since={id}")).await;
        assert_eq!(back.ticks_to(5).await, [1, 2, 3, 4, 5]);
        // Where nobody says from where on, something may be missing.
        let back = house.open(&path).await;
        assert_eq!(back.established.data["resume"]["verdict"], "lost");
    }
    // And where nobody says what to read either, there is nothing to stream: an EventSource would come again for ever.
    for path in ["/stream/reconnect?token=AAAA", "/stream?token=AAAA"] {
        let (status, body) = house.refused(path).await;
        assert_eq!((status, &body["code"]), (410, &json!("session_lost")));
        assert_eq!(body["token_refused"], "invalid");
    }
}

/// After a restart, or elsewhere, a token stands for what it says itself.
#[tokio::test(start_paused = true)]
async fn where_a_session_is_not_known_its_token_speaks_for_it() {
    let with_key = || config().token_key(b"0123456789abcdef0123456789abcdef");
    // Each has its own clock, which goes on from when it was made.
    let [house, other, later] = [(); 3].map(|()| House::of(with_key()));
    let line = house.open("/stream?channels=a,b&max_rate=7").await;
    let token = line.token();
    let back = other.back(&token).await.established.data;
    assert_eq!(back["channels"], json!(["a", "b"]));
    assert_eq!(back["resume"]["verdict"], "lost");
    advance(Duration::from_secs(31 * 60)).await;
    let path = format!("/stream/reconnect?token={token}");
    assert_eq!(later.refused(&path).await.0, 410);
}

/// However many come for a session at once, one of them has it in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_many_come_for_is_one_streams() {
    const COMERS: usize = 24;
    let host = Host::start(Router::new()).await;
    host.rt.channel("a", ChannelConfig::stream()).unwrap();
    let clients = async |wanted: usize| {
        let counted = async {
            loop {
                let stats = host.data("/api/realtime/hub/stats").await;
                if stats["total_clients"] == wanted {
                    return;
                }
            }
        };
        soon(&format!("{wanted} clients"), counted).await;
    };
    for _ in 0..20 {
        let first = host.stream("/stream/a").await;
        let token = first.headers["x-reconnect-token"].to_str().unwrap();
        let path = format!("/stream/reconnect?token={token}");
        let comers = (0..COMERS).map(|_| {
            let (address, path) = (host.address, path.clone());
            tokio::spawn(async move {
                let connection = Connection::http1(address).await;
                connection.stream(get(&path)).await
            })
        });
        let comers: Vec<_> = comers.collect();
        let mut streams = Vec::new();
        for comer in comers {
            streams.push(comer.await.unwrap());
        }
        clients(1).await;
        drop((first, streams));
        clients(0).await;
    }
}
