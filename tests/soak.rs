//! For a while, everything that should leave nothing behind: clients that come and go in every way, floods of labels,
//! requests that are given up, connections that never say what they want. At the end files and tasks are as they were at
//! the beginning, and memory is as it was when everything had been seen once.
//!
//! And two producers at full speed, which the numbers keep up with to the last request.
//!
//! `TOWER_REALTIME_SECONDS` sets for how long, `TOWER_REALTIME_SEED` repeats what chance decided.
#![cfg(all(feature = "axum", feature = "ws", target_os = "linux"))]

mod support;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Path,
    http::{Request, Response},
    routing::{get, post},
};
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Empty, Full};
use support::{Held, Host, Random, config, tell, variable};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Mutex, watch},
    task::JoinSet,
};
use tokio_tungstenite::{client_async, tungstenite::Message};
use tower::{Layer, Service, service_fn};
use tower_realtime::{
    ChannelConfig, Event, Level, LogLine, RealtimeConfig, RequestMeter, Usage, Window,
};

/// What is measured is the whole process: one test at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

/// What the heap may have grown by without a leak: allocators do not give everything back, and the windows hold as many
/// slots as the test has seconds for.
const SLACK_KIB: u64 = 8 * 1024;

/// Small tables, and little patience.
fn small() -> RealtimeConfig {
    config()
        .stall_timeout(Duration::from_secs(2))
        .heartbeat_interval(Duration::from_millis(500))
        .replay_capacity(200)
        .max_users(100)
        .max_routes(50)
        .max_models(50)
}

async fn guarded(config: RealtimeConfig, app: Router) -> Host {
    let host = Host::guarded(config, app).await;
    host.rt.channel("ticks", ChannelConfig::stream()).unwrap();
    host
}

fn app(entered: Arc<AtomicU64>) -> Router {
    let count = move |request: axum::extract::Request| {
        entered.fetch_add(1, Ordering::Relaxed);
        request
    };
    let labelled = |Path(name): Path<String>, meter: RequestMeter| async move {
        meter.provider(&name).model(&name).user(&name).tenant(&name);
        meter.label(&name, &name).fail(&name);
        "done"
    };
    let endless = || async {
        let parts = futures_util::stream::repeat_with(|| {
            Ok::<_, Infallible>(Bytes::from_static(&[0; 1024]))
        });
        Body::from_stream(parts)
    };
    Router::new()
        .route("/labelled/{name}", get(labelled))
        .route("/endless", get(endless))
        .route(
            "/upload",
            post(|body: Bytes| async move { body.len().to_string() }),
        )
        .layer(tower::util::MapRequestLayer::new(count))
}

/// One client: comes in one of many ways, and leaves in one of many others. What the network says to it does not matter.
async fn client(address: SocketAddr, mut random: Random) {
    let _ = match random.below(10) {
        0..4 => viewer(address, &mut random).await,
        4..6 => socket(address, &mut random).await,
        6..9 => request(address, &mut random).await,
        _ => half(address, &mut random).await,
    };
}

async fn viewer(address: SocketAddr, random: &mut Random) -> std::io::Result<()> {
    let mut tcp = TcpStream::connect(address).await?;
    let path = random.pick(&[
        "/stream/ticks",
        "/stream/all",
        "/stream/all?since=earliest",
        "/stream/requests?user_id=a&max_rate=1",
        "/stream/stats?window=5m&interval=1s",
        "/stream?channels=logs,ticks&since=n:50",
        "/stream/nothing",
    ]);
    let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
    tcp.write_all(head.as_bytes()).await?;
    let mut buffer = [0; 4096];
    for _ in 0..random.below(20) {
        let read = tcp.read(&mut buffer);
        if matches!(
            tokio::time::timeout(random.millis(1, 200), read).await,
            Ok(Ok(0))
        ) {
            break;
        }
    }
    leave(tcp, random).await
}

async fn socket(address: SocketAddr, random: &mut Random) -> std::io::Result<()> {
    let tcp = TcpStream::connect(address).await?;
    let path = random.pick(&[
        "/ws",
        "/ws/all",
        "/ws/ticks",
        "/ws/tenant/acme",
        "/ws/nothing",
    ]);
    let opening = client_async(format!("ws://a{path}"), tcp);
    let Ok(Ok((mut socket, _))) = tokio::time::timeout(support::DEADLINE, opening).await else {
        return Ok(());
    };
    for _ in 0..random.below(20) {
        let sent = random.pick(&[
            r#"{"type": "subscribe", "data": {"channels": ["ticks", "logs"]}}"#,
            r#"{"type": "unsubscribe", "data": {"channels": ["all"]}}"#,
            r#"{"type": "resume", "data": {"since": "earliest"}}"#,
            r#"{"type": "ping", "data": {}}"#,
            r#"{"type": "what"}"#,
            "{",
        ]);
        if random.one_in(2) && socket.send(Message::text(sent)).await.is_err() {
            break;
        }
        let next = tokio::time::timeout(random.millis(1, 100), socket.next()).await;
        if matches!(next, Ok(None | Some(Err(_)))) {
            break;
        }
    }
    if random.one_in(3) {
        let _ = tokio::time::timeout(Duration::from_secs(1), socket.close(None)).await;
        return Ok(());
    }
    leave(socket.into_inner(), random).await
}

async fn request(address: SocketAddr, random: &mut Random) -> std::io::Result<()> {
    let mut tcp = TcpStream::connect(address).await?;
    let path = match random.below(6) {
        0 => "/endless".to_owned(),
        1 => "/api/realtime/overview".to_owned(),
        2 => "/api/realtime/metrics?window=24h".to_owned(),
        // A flood: names that are never seen again.
        _ => format!("/labelled/{:x}", random.next()),
    };
    tcp.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes())
        .await?;
    let mut buffer = [0; 16 * 1024];
    for _ in 0..random.below(4) {
        let read = tcp.read(&mut buffer);
        let _ = tokio::time::timeout(random.millis(1, 50), read).await;
    }
    leave(tcp, random).await
}

/// Half a head, half a body, half a handshake, half a frame.
async fn half(address: SocketAddr, random: &mut Random) -> std::io::Result<()> {
    let mut tcp = TcpStream::connect(address).await?;
    let whole = random.pick(&[
        "GET /stream/ticks HTTP/1.1\r\nhost: a\r\n",
        "POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nabc",
        "POST /api/realtime/test-connection HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n{\"a",
        "GET /ws/ticks HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\u{1}~",
        "",
    ]);
    tcp.write_all(
        &whole.as_bytes()[..whole.len() - random.below(2).min(whole.len() as u64) as usize],
    )
    .await?;
    tokio::time::sleep(random.millis(1, 300)).await;
    leave(tcp, random).await
}

/// Politely, at once, with a reset, or not reading for a while.
async fn leave(tcp: TcpStream, random: &mut Random) -> std::io::Result<()> {
    match random.below(4) {
        0 => tokio::io::AsyncWriteExt::shutdown(&mut { tcp }).await?,
        1 => reset(&tcp),
        2 => tokio::time::sleep(random.millis(1, 1_000)).await,
        _ => {}
    }
    Ok(())
}

#[allow(
    deprecated,
    reason = "zero never blocks, which is what the deprecation is about"
)]
fn reset(tcp: &TcpStream) {
    let _ = tcp.set_linger(Some(Duration::ZERO));
}

/// Clients come and go, at most so many at a time, while events, log lines and new labels are published.
async fn churn(host: &Host, random: &mut Random, lasts: Duration) -> u64 {
    let ends = Instant::now() + lasts;
    let mut clients = JoinSet::new();
    let mut came = 0;
    while Instant::now() < ends {
        while clients.len() < 100 {
            clients.spawn(client(host.address, Random(random.next())));
            came += 1;
        }
        let n = random.next();
        let tick = Event::new(
            "ticks",
            "Tick",
            &serde_json::json!({"n": n, "pad": ".".repeat(n as usize % 3000)}),
        );
        let _ = host
            .rt
            .publish(tick.user(format!("{n:x}")).tenant(format!("{n:x}")));
        host.rt.log_line(
            LogLine::new(Level::Warn, format!("part-{n:x}"), "something").field("n", n.to_string()),
        );
        clients.join_next().await;
    }
    while clients.join_next().await.is_some() {}
    came
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes 30 seconds: tests/run.sh runs it"]
async fn proof_clients_that_come_and_go_leave_nothing_behind() {
    let _alone = ALONE.lock().await;
    let seconds = variable("TOWER_REALTIME_SECONDS", 30);
    let seed = variable("TOWER_REALTIME_SEED", 1);
    tell(format_args!(
        "soak: TOWER_REALTIME_SEED={seed} TOWER_REALTIME_SECONDS={seconds}"
    ));
    let mut random = Random(seed);
    let entered = Arc::new(AtomicU64::new(0));
    let host = guarded(small(), app(entered.clone())).await;
    host.get("/api/realtime/info").await;
    let before = Held::now();
    // Tables fill, logs fill, the allocator takes what it will keep.
    let lasts = Duration::from_secs(seconds);
    let mut came = churn(&host, &mut random, lasts / 3).await;
    let warm = Held::returns(before).await;
    came += churn(&host, &mut random, lasts * 2 / 3).await;
    let after = Held::returns(before).await;
    let requests = entered.load(Ordering::Relaxed);
    let summary = host.rt.snapshot(Window::Day).summary;
    assert_eq!(summary.lifetime.unwrap().total_requests, requests);
    assert_eq!(summary.in_flight, Some(0));
    let stats = host.data("/api/realtime/hub/stats").await;
    assert_eq!(stats["total_clients"], 0, "{stats:#}");
    tell(format_args!(
        "soak: {came} clients, {requests} requests; {before:?}, warm {warm:?}, after {after:?}"
    ));
    assert!(
        after.rss_kib <= warm.rss_kib + warm.rss_kib / 10 + SLACK_KIB,
        "memory grew: {warm:?}, {after:?}"
    );
}

/// Two threads that record as fast as they can, twenty viewers of every request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute: tests/run.sh runs it"]
async fn proof_two_producers_at_full_speed_are_counted_to_the_last_request() {
    const VIEWERS: usize = 20;
    let _alone = ALONE.lock().await;
    let seconds = variable("TOWER_REALTIME_SECONDS", 60);
    // Small logs are full soon: what grows then, grows for ever.
    let config = config().replay_capacity(200).replay_bytes(1 << 20);
    let host = guarded(config, Router::new()).await;
    let mut viewers = JoinSet::new();
    let (all, told) = watch::channel(false);
    for _ in 0..VIEWERS {
        viewers.spawn(watched(host.address, told.clone()));
    }
    // Whoever comes later is not told of what was evicted before.
    let all_there = async {
        while host.data("/api/realtime/hub/stats").await["total_clients"] != VIEWERS {
            tokio::task::yield_now().await;
        }
    };
    support::soon("the viewers to come", all_there).await;
    let ends = Instant::now() + Duration::from_secs(seconds);
    let producers: Vec<_> = (0..2)
        .map(|_| {
            let realtime = host.realtime.clone();
            std::thread::spawn(move || produce(&realtime, ends))
        })
        .collect();
    // The most in each third: rows gather for a second and are gone, so one look says little.
    let third = Duration::from_secs(seconds) / 3;
    let mut peaks = [0; 3];
    for (index, peak) in peaks.iter_mut().enumerate() {
        while Instant::now() < ends - third * (2 - index as u32) {
            *peak = Held::now().rss_kib.max(*peak);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let mut sent = 0;
    for producer in producers {
        sent += producer.join().unwrap();
    }
    let summary = host.rt.snapshot(Window::Day).summary;
    let dropped = summary.dropped.unwrap();
    let skipped = summary.feed.unwrap().skipped;
    let lifetime = summary.lifetime.unwrap();
    assert_eq!(lifetime.total_requests, sent, "totals are exact");
    assert_eq!(lifetime.total_tokens, sent * 1_152);
    // What was neither dropped nor skipped was published, where the hub had room for it; and every viewer has had it or
    // was told that it has not: each accounts for the same.
    all.send_replace(true);
    let mut seen = Vec::new();
    while let Some(viewer) = support::soon("the viewers", viewers.join_next()).await {
        seen.push(viewer.unwrap());
    }
    let (rows, missed) = seen.iter().fold((0, 0), |(rows, missed), seen| {
        (rows + seen.0, missed + seen.1)
    });
    let published = seen[0].0 + seen[0].1;
    assert!(
        seen.iter().all(|seen| seen.0 + seen.1 == published),
        "{seen:?}"
    );
    let stats = host.data("/api/realtime/hub/stats").await;
    let refused = sent - dropped - skipped - published;
    // Other channels share the inbox.
    let all_refused = stats["hub"]["refused"].as_u64().unwrap();
    assert!(
        refused <= all_refused,
        "{refused} rows are missing, {all_refused} events were refused"
    );
    tell(format_args!(
        "producers: {sent} requests in {seconds} s ({} a second), all counted; {dropped} rows dropped, {skipped} skipped, {refused} refused; {VIEWERS} viewers \
         had {rows} rows and were told of {missed}; KiB at most in each third: {peaks:?}",
        sent / seconds,
    ));
    let [_, before, after] = peaks;
    assert!(
        after <= before + before / 10 + SLACK_KIB,
        "memory grew: {peaks:?}"
    );
}

/// Reads rows until none come any more: how many came, and how many it was told to have missed.
async fn watched(address: SocketAddr, over: watch::Receiver<bool>) -> (u64, u64) {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    // HTTP/1.0 has no chunks: what comes is the stream.
    let head = "GET /stream/requests?since=earliest HTTP/1.0\r\nhost: a\r\n\r\n";
    tcp.write_all(head.as_bytes()).await.unwrap();
    let (mut text, mut rows, mut missed) = (Vec::new(), 0, 0);
    loop {
        match tokio::time::timeout(Duration::from_secs(3), tcp.read_buf(&mut text)).await {
            Ok(read) => assert!(read.unwrap() > 0, "let go"),
            // Nothing has come for longer than anything takes.
            Err(_) if *over.borrow() => return (rows, missed),
            Err(_) => {}
        }
        let mut from = 0;
        while let Some(end) = text[from..].windows(2).position(|pair| pair == b"\n\n") {
            let block = std::str::from_utf8(&text[from..from + end]).unwrap();
            from += end + 2;
            rows += u64::from(block.contains("event: requests\n"));
            if block.contains("event: gap\n") {
                let gap = support::parse(block.trim_start()).unwrap();
                missed += gap.data["missed"].as_u64().unwrap();
            }
        }
        text.drain(..from);
    }
}

fn produce(realtime: &tower_realtime::RealtimeLayer, ends: Instant) -> u64 {
    let talking = |request: Request<Empty<Bytes>>| async move {
        let meter = request.extensions().get::<RequestMeter>().unwrap();
        meter.provider("openai").model("gpt-4o").user("ana");
        meter.tokens(Usage {
            input: 812,
            output: 340,
            cached: 0,
        });
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello"))))
    };
    let mut service = realtime.layer(service_fn(talking));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut sent = 0;
        while Instant::now() < ends {
            for _ in 0..100 {
                let Ok(response) = service.call(Request::new(Empty::new())).await;
                response.into_body().collect().await.unwrap();
                sent += 1;
            }
        }
        sent
    })
}
