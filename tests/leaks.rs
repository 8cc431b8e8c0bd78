//! What comes and goes leaves nothing behind, to the byte: clients of every kind come by the hundred, and what is
//! allocated when they have gone is what was allocated before. Host and clients share one thread, so that every
//! allocation is counted; a table that is still filling, or a window that begins, shows in one round, a leak in all.
#![cfg(all(feature = "axum", feature = "ws", target_os = "linux"))]

mod support;

use std::{convert::Infallible, future::Future, time::Duration};

use allocation_counter::measure;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::Path,
    routing::get,
};
use serde_json::json;
use support::{Held, Host, Socket, Stream, get as ask, post, soon, tell};
use tower_realtime::{Access, ChannelConfig, Event, Principal, RealtimeConfig, RequestMeter};

/// Clients in a round.
const CLIENTS: u64 = 100;
/// The first half fills what is filled once.
const ROUNDS: usize = 12;
/// What a client may leave behind: the lists of the last requests are now longer, now shorter.
const BYTES_EACH: i64 = 100;

/// Small logs and tables are full soon.
async fn host() -> Host {
    let access = Access::check(|parts| async move {
        let name = parts.headers.get("x-user");
        let name = name
            .and_then(|name| name.to_str().ok())
            .unwrap_or("somebody");
        Ok(Principal::viewer(name.to_owned()))
    });
    let config = RealtimeConfig::new(access)
        .compression(true)
        .replay_capacity(4)
        .logs_interval(Duration::from_millis(100))
        // Which is also how many that have left are remembered: 16 for each.
        .max_clients(50)
        .reads_per_minute(1_000_000)
        .max_users(20)
        .max_routes(10)
        .max_models(10)
        .max_clients_per_user(50)
        .max_clients_per_ip(50);
    let labelled = |Path(name): Path<String>, meter: RequestMeter| async move {
        meter.provider(&name).model(&name).user(&name).tenant(&name);
        "done"
    };
    let endless = || async {
        let part = || Ok::<_, Infallible>(Bytes::from_static(&[0; 1024]));
        Body::from_stream(futures_util::stream::repeat_with(part))
    };
    let app = Router::new()
        .route("/labelled/{name}", get(labelled))
        .route("/endless", get(endless));
    let host = Host::guarded(config, app).await;
    host.rt.channel("ticks", ChannelConfig::stream()).unwrap();
    host
}

/// Publishes, and waits until it has come.
async fn tick(host: &Host, stream: &mut Stream) {
    publish(host);
    stream.wait_for("Tick").await;
}

fn publish(host: &Host) {
    let event = Event::new("ticks", "Tick", &json!({"pad": ".".repeat(200)}));
    host.rt.publish(event).unwrap();
}

async fn request(host: &Host, n: u64) {
    let answer = host.get(&format!("/labelled/{}", n % 20)).await;
    assert_eq!(answer.status, 200);
}

/// Labels that are never seen again.
async fn flood(host: &Host, n: u64) {
    host.get(&format!("/labelled/{n}-{n}")).await;
}

async fn abort(host: &Host, _: u64) {
    let mut connection = host.connect().await;
    drop(connection.open(ask("/endless")).await);
}

async fn viewer(host: &Host, _: u64) {
    tick(host, &mut host.stream("/stream/ticks").await).await;
}

/// With a filter and a rate of its own, and from far back.
async fn picky_viewer(host: &Host, n: u64) {
    let path = format!("/stream/ticks?since=n:50&max_rate=1&user_id={}", n % 20);
    host.stream(&path).await;
    publish(host);
}

async fn compressed_viewer(host: &Host, _: u64) {
    let mut asked = ask("/stream/ticks");
    let gzip = "gzip".parse().unwrap();
    asked.headers_mut().insert("accept-encoding", gzip);
    let mut stream = host.connect().await.stream(asked).await;
    if cfg!(feature = "compression") {
        assert_eq!(stream.headers["content-encoding"], "gzip");
    }
    tick(host, &mut stream).await;
}

async fn http2_viewer(host: &Host, _: u64) {
    let connection = host.connect_http2().await;
    tick(host, &mut connection.stream(ask("/stream/ticks")).await).await;
}

async fn socket(host: &Host, _: u64) {
    let mut socket = Socket::open(host.address, "/ws/ticks").await;
    socket.send(json!({"type": "ping", "data": {}})).await;
    socket.wait_for("pong").await;
    publish(host);
    socket.wait_for("Tick").await;
}

async fn ticket(host: &Host, n: u64) {
    let mut asked = post("/api/realtime/ticket", r#"{"channels": ["ticks"]}"#);
    let user = format!("user-{}", n % 10).parse().unwrap();
    asked.headers_mut().insert("x-user", user);
    let data = host.send(asked).await.data();
    let ticket = data["ticket"].as_str().unwrap();
    host.stream(&format!("/stream/ticks?ticket={ticket}")).await;
}

async fn return_by_token(host: &Host, _: u64) {
    let stream = host.stream("/stream/ticks").await;
    let token = stream.headers["x-reconnect-token"]
        .to_str()
        .unwrap()
        .to_owned();
    drop(stream);
    host.stream(&format!("/stream/reconnect?token={token}"))
        .await;
}

/// One after the other, and then nobody is there.
async fn round<F: Future<Output = ()>>(
    host: &Host,
    before: Held,
    client: &impl Fn(u64) -> F,
    first: u64,
) {
    for n in first..first + CLIENTS {
        client(n).await;
    }
    Held::returns(before).await;
    let deserted = async {
        while host.data("/api/realtime/hub/stats").await["total_clients"] != 0 {
            tokio::task::yield_now().await;
        }
    };
    soon("the last client to be gone", deserted).await;
    Held::returns(before).await;
}

#[test]
#[ignore = "takes half a minute: tests/run.sh runs it"]
fn proof_no_client_leaves_a_byte_behind() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (host, before) = runtime.block_on(async {
        let host = host().await;
        host.get("/api/realtime/info").await;
        (host, Held::now())
    });
    macro_rules! leaves_nothing {
        ($($client:ident)*) => {$({
            let client = |n| $client(&host, n);
            let grown: Vec<i64> = (0..ROUNDS)
                .map(|index| {
                    let first = index as u64 * CLIENTS;
                    measure(|| runtime.block_on(round(&host, before, &client, first))).bytes_current
                })
                .collect();
            tell(format_args!("leaks: {}: bytes left in each round of {CLIENTS}: {grown:?}", stringify!($client)));
            // Half of the later rounds: in the others something may have been filled, or emptied.
            let mut later = grown[ROUNDS / 2..].to_vec();
            later.sort_unstable();
            let usual = later[(later.len() - 1) / 2];
            assert!(
                usual < BYTES_EACH * CLIENTS as i64,
                "each {} leaves some {} bytes: {grown:?}", stringify!($client), usual / CLIENTS as i64
            );
        })*};
    }
    leaves_nothing!(request flood abort viewer picky_viewer compressed_viewer http2_viewer socket ticket return_by_token);
    runtime.block_on(host.shutdown());
}
