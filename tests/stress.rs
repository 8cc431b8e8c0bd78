//! Everything at once, for a while, with the network at its worst: what each viewer was handed, together with the gaps
//! that it was told of, is what was published on its channels and passes its filter, in order, no event twice, however
//! often it was cut off and came back; every request is counted once; and at the end nothing is held that was not held
//! at the beginning.
//!
//! `TOWER_REALTIME_SECONDS` sets for how long, `TOWER_REALTIME_SEED` repeats what chance decided.
#![cfg(all(feature = "axum", feature = "ws", target_os = "linux"))]

mod support;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    routing::get,
};
use futures_util::StreamExt;
use serde_json::{Value, json};
use support::{
    Connection, Event as Frame, Flow, Held, Host, Proxy, Random, config, get as ask, parse, tell,
    variable,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
};
use tokio_tungstenite::{client_async, tungstenite::Message};
use tower_realtime::{
    ChannelConfig, Event, Filter, Priority, RealtimeHandle, Received, RequestMeter, Start, Window,
};

const CHANNELS: [&str; 4] = ["low", "normal", "high", "other"];
const USERS: [&str; 2] = ["ana", "ben"];
const VIEWERS: u64 = 24;

/// One event as it was numbered by the hub.
#[derive(Clone, Copy, Debug)]
struct Sent {
    seq: u64,
    channel: &'static str,
    user: &'static str,
}

/// One connection of a viewer, from its head to its end.
#[derive(Debug)]
struct Visit {
    what: String,
    channels: Vec<&'static str>,
    user: Option<&'static str>,
    /// Behind which event it asked to begin, and the last position that it was told.
    from: u64,
    told: u64,
    delivered: HashMap<&'static str, Vec<u64>>,
    missed: HashMap<&'static str, u64>,
    /// Up to where gaps may have told of.
    resumed: HashMap<&'static str, u64>,
    /// It has read to the end of everything.
    finished: bool,
}

impl Visit {
    fn take(&mut self, name: &str, channel: Option<&str>, id: &str, data: &Value) {
        let seq = seq_of(id);
        assert!(
            seq >= self.told,
            "{name} {seq} behind {}: {}",
            self.told,
            self.what
        );
        self.told = seq;
        let known = |name: &str| CHANNELS.into_iter().find(|known| *known == name).unwrap();
        match name {
            "Numbered" => {
                let channel = known(channel.or(data["channel"].as_str()).unwrap());
                assert!(self.channels.contains(&channel), "{}", self.what);
                if let Some(user) = self.user {
                    assert_eq!(data["user"], user, "{}", self.what);
                }
                assert!(seq > self.from, "{seq} again: {}", self.what);
                let delivered = self.delivered.entry(channel).or_default();
                assert!(
                    delivered.last().is_none_or(|last| *last < seq),
                    "{seq} again: {}",
                    self.what
                );
                delivered.push(seq);
            }
            "gap" => {
                let channel = known(data["channel"].as_str().unwrap());
                let missed = data["missed"].as_u64().unwrap();
                *self.missed.entry(channel).or_default() += missed;
                let resumed = self.resumed.entry(channel).or_default();
                *resumed = seq_of(data["resumed_at"].as_str().unwrap()).max(*resumed);
            }
            "connection_established" => {
                assert_ne!(data["resume"]["verdict"], "lost", "{}", self.what);
                // What it asked for is where it is; the first time it asked for the beginning.
                assert!(self.from == 0 || self.from == seq, "{}", self.what);
                self.from = seq;
            }
            "heartbeat" | "ping" | "drain" => {}
            _ => panic!("{name}: {}", self.what),
        }
    }

    /// The books of each channel balance with what was published.
    fn check(&self, sent: &[Sent]) {
        for channel in &self.channels {
            let begin = sent.partition_point(|sent| sent.seq <= self.from);
            let wanted = sent[begin..]
                .iter()
                .take_while(|sent| sent.seq <= self.told)
                .filter(|sent| {
                    sent.channel == *channel && self.user.is_none_or(|user| user == sent.user)
                })
                .map(|sent| sent.seq);
            let wanted: Vec<u64> = wanted.collect();
            let nothing = Vec::new();
            let delivered = self.delivered.get(channel).unwrap_or(&nothing);
            let missed = self.missed.get(channel).copied().unwrap_or(0);
            let accounted = delivered.len() as u64 + missed;
            let context = format!(
                "{channel}: {} wanted in ({}, {}], {} delivered, {missed} missed: {}",
                wanted.len(),
                self.from,
                self.told,
                delivered.len(),
                self.what
            );
            if missed == 0 {
                assert_eq!(*delivered, wanted, "{context}");
            } else if self.user.is_none() && self.resumed[channel] <= self.told {
                assert_eq!(accounted, wanted.len() as u64, "{context}");
            } else {
                // A gap may tell of what lies ahead of the position, or of what the filter would have left out.
                assert!(accounted >= wanted.len() as u64, "{context}");
            }
        }
    }
}

fn seq_of(position: &str) -> u64 {
    position.split_once('-').unwrap().1.parse().unwrap()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Transport {
    Sse,
    WebSocket,
}

struct Viewer {
    random: Random,
    transport: Transport,
    channels: Vec<&'static str>,
    user: Option<&'static str>,
    proxy: Proxy,
    /// The last position, as the client would remember it, and the token.
    place: Option<String>,
    token: Option<String>,
    visits: Vec<Visit>,
}

impl Viewer {
    async fn new(mut random: Random, host: SocketAddr) -> Self {
        let mut channels = CHANNELS.to_vec();
        let keep = random.below(CHANNELS.len() as u64 * 2) as usize;
        if keep < CHANNELS.len() {
            channels = vec![CHANNELS[keep]];
        }
        Self {
            transport: random.pick(&[Transport::Sse, Transport::WebSocket]),
            channels,
            user: random.one_in(3).then_some(USERS[0]),
            proxy: Proxy::to(host).await,
            place: None,
            token: None,
            visits: Vec::new(),
            random,
        }
    }

    /// Comes and goes until it has read everything up to the last event.
    async fn live(mut self, last: watch::Receiver<Option<u64>>) -> Vec<Visit> {
        let mut late = 0;
        loop {
            let end = *last.borrow();
            let what = format!(
                "{:?} {:?} {:?} from {:?}",
                self.transport, self.channels, self.user, self.place
            );
            let mut visit = Visit {
                what,
                channels: self.channels.clone(),
                user: self.user,
                from: self.place.as_deref().map_or(0, seq_of),
                told: 0,
                delivered: HashMap::new(),
                missed: HashMap::new(),
                resumed: HashMap::new(),
                finished: false,
            };
            let stays = match end {
                None => self.random.millis(20, 2_500),
                Some(_) => support::DEADLINE,
            };
            let path = self.path();
            let (transport, address) = (self.transport, self.proxy.address);
            let header = self.place.clone().filter(|_| self.random.one_in(2));
            let (place, token) = (&mut self.place, &mut self.token);
            let reading = async {
                let until = |visit: &Visit| end.is_some_and(|end| visit.told >= end);
                let mut take = |name: &str, channel: Option<&str>, id: &str, data: &Value| {
                    visit.take(name, channel, id, data);
                    *place = Some(id.to_owned());
                    if let Some(new) = data["reconnect_token"].as_str() {
                        *token = Some(new.to_owned());
                    }
                    visit.finished = until(&visit);
                    visit.finished
                };
                // However it ends: whoever is cut off comes back.
                match transport {
                    Transport::Sse => drop(sse(address, &path, header.as_deref(), &mut take).await),
                    Transport::WebSocket => drop(socket(address, &path, &mut take).await),
                }
            };
            let mut chance = Random(self.random.next());
            let network = async {
                if end.is_none() {
                    mischief(&self.proxy, &mut chance).await;
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                _ = tokio::time::timeout(stays, reading) => {}
                () = network => {}
            }
            self.proxy.set(Flow::Free);
            let finished = visit.finished;
            self.visits.push(visit);
            if finished {
                return self.visits;
            }
            late += u64::from(end.is_some());
            if self.random.one_in(6) {
                // Away for longer than the log reaches back.
                tokio::time::sleep(self.random.millis(1_000, 4_000)).await;
            }
            assert!(late < 5, "not at the end: {:?}", self.visits.last());
        }
    }

    fn path(&mut self) -> String {
        let base = match self.transport {
            Transport::Sse => "/stream",
            Transport::WebSocket => "/ws",
        };
        let place = self.place.clone().unwrap_or_else(|| "earliest".to_owned());
        match &self.token {
            Some(token) if self.random.one_in(2) && self.transport == Transport::Sse => {
                format!("/stream/reconnect?token={token}&since={place}")
            }
            Some(token) if self.random.one_in(2) => format!("{base}?token={token}&since={place}"),
            _ => {
                let user = self
                    .user
                    .map(|user| format!("&user_id={user}"))
                    .unwrap_or_default();
                format!(
                    "{base}?channels={}&since={place}{user}",
                    self.channels.join(",")
                )
            }
        }
    }
}

/// What networks do, sooner or later.
async fn mischief(proxy: &Proxy, random: &mut Random) {
    for _ in 0..random.below(4) {
        tokio::time::sleep(random.millis(5, 800)).await;
        match random.below(6) {
            0 => {
                proxy.set(Flow::Stalled);
                tokio::time::sleep(random.millis(10, 1_500)).await;
                proxy.set(Flow::Free);
            }
            1 => {
                let bytes = 1 + random.below(200) as usize;
                proxy.set(Flow::Drip(bytes, Duration::from_millis(2)));
                tokio::time::sleep(random.millis(10, 500)).await;
                proxy.set(Flow::Free);
            }
            2 => return proxy.strike(Flow::Cut).await,
            3 => return proxy.strike(Flow::HalfOpen).await,
            4 => return proxy.strike(Flow::Reset).await,
            _ => {}
        }
    }
}

type Take<'a> = dyn FnMut(&str, Option<&str>, &str, &Value) -> bool + Send + 'a;

/// Reads a stream over HTTP/1.0: no chunks, until the connection ends.
async fn sse(
    address: SocketAddr,
    path: &str,
    last_event_id: Option<&str>,
    take: &mut Take<'_>,
) -> std::io::Result<()> {
    let mut tcp = TcpStream::connect(address).await?;
    let header = last_event_id
        .map(|id| format!("last-event-id: {id}\r\n"))
        .unwrap_or_default();
    let request = format!("GET {path} HTTP/1.0\r\nhost: localhost\r\n{header}\r\n");
    tcp.write_all(request.as_bytes()).await?;
    let mut text = Vec::new();
    let mut in_head = true;
    loop {
        if tcp.read_buf(&mut text).await? == 0 {
            return Ok(());
        }
        while let Some(end) = find(&text, if in_head { b"\r\n\r\n" } else { b"\n\n" }) {
            let block: Vec<u8> = text.drain(..end + if in_head { 4 } else { 2 }).collect();
            let block = std::str::from_utf8(&block[..end]).unwrap();
            if std::mem::take(&mut in_head) {
                assert!(block.starts_with("HTTP/1.0 200"), "{path}: {block}");
            } else if let Some(Frame { name, id, data, .. }) = parse(block) {
                if name == "busy" {
                    return Ok(());
                }
                if take(&name, None, &id.unwrap(), &data) {
                    return Ok(());
                }
            }
        }
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

async fn socket(
    address: SocketAddr,
    path: &str,
    take: &mut Take<'_>,
) -> Result<(), tokio_tungstenite::tungstenite::Error> {
    let tcp = TcpStream::connect(address).await?;
    let (mut socket, _) = client_async(format!("ws://localhost{path}"), tcp).await?;
    while let Some(message) = socket.next().await {
        let Message::Text(text) = message? else {
            continue;
        };
        let envelope: Value = serde_json::from_str(&text).unwrap();
        let (kind, id) = (envelope["type"].as_str().unwrap(), envelope["id"].as_str());
        assert_ne!(kind, "error", "{path}: {envelope}");
        let Some(id) = id else {
            continue;
        };
        if take(kind, envelope["channel"].as_str(), id, &envelope["data"]) {
            return Ok(());
        }
    }
    Ok(())
}

/// Publishes until told to stop, at every pace; how many events were accepted.
async fn publish(rt: RealtimeHandle, mut random: Random, stop: watch::Receiver<bool>) -> u64 {
    let mut accepted = 0;
    while !*stop.borrow() {
        let burst = random.pick(&[1, 1, 1, 5, 40]);
        for _ in 0..burst {
            accepted += u64::from(numbered(&rt, &mut random));
        }
        tokio::time::sleep(random.millis(1, 40)).await;
    }
    for channel in CHANNELS {
        for user in USERS {
            // The last thing that anybody sees.
            while rt.publish(event(channel, user, 1)).is_err() {
                tokio::task::yield_now().await;
            }
            accepted += 1;
        }
    }
    accepted
}

fn numbered(rt: &RealtimeHandle, random: &mut Random) -> bool {
    let padding = random.pick(&[1, 1, 1, 200, 4_000]);
    let event = event(random.pick(&CHANNELS), random.pick(&USERS), padding);
    rt.publish(event).is_ok()
}

fn event(channel: &'static str, user: &'static str, padding: usize) -> Event {
    let data = json!({"channel": channel, "user": user, "padding": ".".repeat(padding)});
    Event::new(channel, "Numbered", &data).user(user)
}

/// Sends requests of every kind until told to stop: answered, failed, given up before the head and within the body.
async fn send(address: SocketAddr, mut random: Random, stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        let mut connection = Connection::http1(address).await;
        for _ in 0..random.below(50) {
            match random.below(20) {
                0 => {
                    let slow = connection.try_open(ask("/slow"));
                    let _ = tokio::time::timeout(random.millis(1, 30), slow).await;
                    break;
                }
                1 => {
                    drop(connection.try_open(ask("/endless")).await);
                    break;
                }
                n => {
                    let path = if n == 2 { "/nothing" } else { "/quick" };
                    connection.send(ask(path)).await;
                }
            }
        }
        connection.leave();
    }
}

fn app(entered: Arc<AtomicU64>) -> Router {
    let count = move |request: axum::extract::Request| {
        entered.fetch_add(1, Ordering::Relaxed);
        request
    };
    let endless = || async {
        let parts = futures_util::stream::repeat_with(|| {
            Ok::<_, std::io::Error>(Bytes::from_static(&[0; 512]))
        });
        Body::from_stream(parts.take(100_000))
    };
    let slow = || async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        "slow"
    };
    let quick = |meter: RequestMeter| async move {
        meter.provider("openai").model("gpt-4o").user("ana");
        "quick"
    };
    Router::new()
        .route("/quick", get(quick))
        .route("/slow", get(slow))
        .route("/endless", get(endless))
        .layer(tower::util::MapRequestLayer::new(count))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes 30 seconds: tests/run.sh runs it"]
async fn proof_nothing_is_lost_repeated_or_held_whatever_the_network_does() {
    let seconds = variable("TOWER_REALTIME_SECONDS", 30);
    let seed = variable("TOWER_REALTIME_SEED", 1);
    tell(format_args!(
        "stress: TOWER_REALTIME_SEED={seed} TOWER_REALTIME_SECONDS={seconds}"
    ));
    let mut random = Random(seed);
    let entered = Arc::new(AtomicU64::new(0));
    let config = config()
        .stall_timeout(Duration::from_secs(2))
        .heartbeat_interval(Duration::from_millis(300))
        .buffer_size(50)
        .replay_capacity(300);
    let counted = entered.clone();
    let host = Host::guarded(config, app(counted)).await;
    for (channel, priority) in CHANNELS.into_iter().zip([
        Priority::Low,
        Priority::Normal,
        Priority::High,
        Priority::Normal,
    ]) {
        host.rt
            .channel(channel, ChannelConfig::stream().priority(priority))
            .unwrap();
    }
    host.get("/quick").await;
    let before = Held::now();

    // A reader that misses nothing says which number each event has.
    let mut all = host
        .rt
        .subscribe_from(CHANNELS, Filter::default(), Start::Earliest)
        .unwrap();
    let (told, mut truth) = watch::channel((0, 0));
    let reference = tokio::spawn(async move {
        let mut sent = Vec::new();
        while let Some(received) = all.next().await {
            let Received::Event {
                id, channel, data, ..
            } = received
            else {
                panic!("{received:?}");
            };
            let user =
                serde_json::from_slice::<Value>(&data).unwrap()["user"].as_str() == Some(USERS[0]);
            let channel = CHANNELS
                .into_iter()
                .find(|known| *known == channel)
                .unwrap();
            sent.push(Sent {
                seq: id.seq,
                channel,
                user: USERS[usize::from(!user)],
            });
            if told.send((sent.len() as u64, id.seq)).is_err() {
                break;
            }
        }
        sent
    });

    let (stop, stopped) = watch::channel(false);
    let (end, last) = watch::channel(None);
    let mut viewers = Vec::new();
    for _ in 0..VIEWERS {
        let viewer = Viewer::new(Random(random.next()), host.address).await;
        viewers.push(tokio::spawn(viewer.live(last.clone())));
    }
    let publishers: Vec<_> = (0..2)
        .map(|_| {
            tokio::spawn(publish(
                host.rt.clone(),
                Random(random.next()),
                stopped.clone(),
            ))
        })
        .collect();
    let senders: Vec<_> = (0..3)
        .map(|_| tokio::spawn(send(host.address, Random(random.next()), stopped.clone())))
        .collect();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    stop.send_replace(true);
    let mut accepted = 0;
    for publisher in publishers {
        accepted += publisher.await.unwrap();
    }
    for sender in senders {
        sender.await.unwrap();
    }
    support::soon(
        "everything to be shown",
        truth.wait_for(|told| told.0 == accepted),
    )
    .await
    .unwrap();
    let head = truth.borrow().1;
    end.send_replace(Some(head));
    let mut visits = Vec::new();
    for viewer in viewers {
        visits.extend(viewer.await.unwrap());
    }
    drop(truth);
    host.rt.publish(event("low", "ana", 1)).unwrap();
    let sent = support::soon("the reference to end", reference)
        .await
        .unwrap();
    assert_eq!(sent.len() as u64, accepted + 1);
    assert!(sent.windows(2).all(|pair| pair[0].seq < pair[1].seq));

    let (mut delivered, mut missed, mut resumed) = (0, 0, 0);
    for visit in &visits {
        visit.check(&sent);
        delivered += visit.delivered.values().map(Vec::len).sum::<usize>();
        missed += visit.missed.values().sum::<u64>();
        resumed += u64::from(visit.from > 0);
    }
    // A run in which nothing happened shows nothing.
    assert!(
        delivered > 1_000 && resumed > VIEWERS && missed > 0,
        "{delivered} delivered, {missed} missed, {resumed} resumed"
    );

    let held = Held::returns(before).await;
    let requests = entered.load(Ordering::Relaxed);
    let snapshot = host.rt.snapshot(Window::Day);
    let lifetime = snapshot.summary.lifetime.unwrap();
    assert_eq!(lifetime.total_requests, requests, "{:?}", snapshot.summary);
    assert_eq!(snapshot.summary.in_flight, Some(0));
    let stats = host.data("/api/realtime/hub/stats").await;
    assert_eq!(stats["total_clients"], 0, "{stats:#}");
    tell(format_args!(
        "stress: {accepted} events, {} connections of {VIEWERS} viewers, {delivered} deliveries, {missed} reported \
         missing, {requests} requests; at the end {held:?}",
        visits.len()
    ));
}
