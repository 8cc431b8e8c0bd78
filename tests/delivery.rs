//! Delivery when the network is bad: slow readers, dead ones, storms.
#![cfg(feature = "axum")]

mod support;

use std::time::Duration;

use axum::Router;
use serde_json::{Value, json};
use support::{Connection, DEADLINE, Flow, Host, Proxy, Stream, config, get, soon};
use tower_realtime::{ChannelConfig, Event, RealtimeConfig};

/// Behind the guarded listener, as the documentation asks for.
async fn guarded(config: RealtimeConfig) -> Host {
    let host = Host::serving(config, |realtime, listener, shutdown| {
        let rt = realtime.handle();
        let app = Router::new()
            .layer(realtime)
            .into_make_service_with_connect_info::<std::net::SocketAddr>();
        async move {
            let serve = axum::serve(rt.guard(listener), app)
                .with_graceful_shutdown(shutdown.cancelled_owned());
            serve.await.unwrap();
        }
    })
    .await;
    host.rt.channel("ticks", ChannelConfig::stream()).unwrap();
    host
}

fn publish(host: &Host, n: u64, padding: usize) {
    let tick = json!({"n": n, "padding": ".".repeat(padding)});
    host.rt.publish(Event::new("ticks", "Tick", &tick)).unwrap();
}

async fn through(proxy: &Proxy, last_event_id: Option<&str>) -> Stream {
    let mut request = get("/stream/ticks");
    if let Some(id) = last_event_id {
        request
            .headers_mut()
            .insert("last-event-id", id.parse().unwrap());
    }
    Connection::http1(proxy.address).await.stream(request).await
}

/// Reads ticks up to number `last`; nothing is missing, nothing comes twice, nothing is reported missing.
async fn ticks(stream: &mut Stream, mut next: u64, last: u64) {
    while next <= last {
        let event = stream.next().await;
        match event.name.as_str() {
            "Tick" => {
                assert_eq!(event.data["n"], next);
                next += 1;
            }
            "heartbeat" => {}
            _ => panic!("{event:?} instead of tick {next}"),
        }
    }
}

async fn clients(host: &Host) -> u64 {
    host.data("/api/realtime/hub/stats").await["total_clients"]
        .as_u64()
        .unwrap()
}

async fn clients_are(host: &Host, count: u64) {
    let mut now = clients(host).await;
    let reached = async {
        while now != count {
            tokio::time::sleep(Duration::from_millis(10)).await;
            now = clients(host).await;
        }
    };
    let in_time = tokio::time::timeout(DEADLINE, reached).await.is_ok();
    assert!(in_time, "{now} clients in the hub instead of {count}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_stall_take_nothing_from_the_others_and_are_let_go() {
    // Long enough for a busy machine: who reads is not to be taken for stuck.
    let quick = config()
        .stall_timeout(Duration::from_secs(5))
        .heartbeat_interval(Duration::from_millis(500));
    let host = guarded(quick).await;
    let proxy = Proxy::to(host.address).await;
    let mut stuck = Vec::new();
    for _ in 0..50 {
        stuck.push(through(&proxy, None).await);
    }
    proxy.set(Flow::Stalled);
    let mut good = Vec::new();
    for _ in 0..19 {
        let mut stream = host.stream("/stream/ticks").await;
        good.push(tokio::spawn(async move {
            ticks(&mut stream, 0, 149).await;
            stream
        }));
    }
    let mut witness = host.stream("/stream/ticks").await;
    clients_are(&host, 70).await;
    // More than the buffers between here and there take, as fast as it is read.
    for n in 0..150 {
        publish(&host, n, 8_000);
        ticks(&mut witness, n, n).await;
    }
    let mut streams = Vec::new();
    for reader in good {
        streams.push(
            soon("a good reader to have everything", reader)
                .await
                .unwrap(),
        );
    }
    clients_are(&host, 20).await;
    let stats = host.data("/api/realtime/hub/stats").await;
    assert_eq!(stats["hub"]["stalled"], 50, "{stats:#}");

    // The sockets are given up, too: whoever wakes up again finds the end.
    proxy.set(Flow::Free);
    for mut stream in stuck {
        while stream.next_or_cut().await.is_some() {}
    }
    drop((streams, witness));
    clients_are(&host, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_reconnects_loses_nothing_and_repeats_nothing() {
    const CLIENTS: usize = 500;
    let host = guarded(config()).await;
    let proxy = Proxy::to(host.address).await;
    let mut readers = Vec::new();
    for _ in 0..CLIENTS {
        let mut stream = through(&proxy, None).await;
        readers.push(tokio::spawn(async move {
            let mut next = 0;
            let mut place = stream.established.id.clone().unwrap();
            while let Some(event) = stream.next_or_cut().await {
                if event.name == "Tick" {
                    assert_eq!(event.data["n"], next);
                    next += 1;
                }
                place = event.id.unwrap();
            }
            (next, place)
        }));
    }
    for n in 0..100 {
        publish(&host, n, 100);
        tokio::task::yield_now().await;
    }
    proxy.strike(Flow::Cut).await;
    for n in 100..150 {
        publish(&host, n, 100);
    }
    let mut places = Vec::new();
    for reader in readers {
        places.push(soon("a reader to notice", reader).await.unwrap());
    }
    let mut back = Vec::new();
    for (next, place) in places {
        let address = proxy.address;
        back.push(tokio::spawn(async move {
            let mut request = get("/stream/ticks");
            request
                .headers_mut()
                .insert("last-event-id", place.parse().unwrap());
            let mut stream = Connection::http1(address).await.stream(request).await;
            assert_eq!(stream.established.data["resume"]["verdict"], "full");
            ticks(&mut stream, next, 199).await;
        }));
    }
    for n in 150..200 {
        publish(&host, n, 100);
        tokio::task::yield_now().await;
    }
    for reader in back {
        soon("a reader to have everything", reader).await.unwrap();
    }
    let stats = host.data("/api/realtime/hub/stats").await;
    assert_eq!(stats["hub"]["resumes"]["full"], CLIENTS, "{stats:#}");
    assert_eq!(stats["hub"]["gaps"], 0, "{stats:#}");
    clients_are(&host, 0).await;
}

#[tokio::test]
async fn a_reader_is_never_let_go_for_being_slow() {
    let quick = config()
        .stall_timeout(Duration::from_secs(1))
        .heartbeat_interval(Duration::from_millis(100));
    let host = guarded(quick).await;
    let proxy = Proxy::to(host.address).await;
    let mut stream = through(&proxy, None).await;
    proxy.set(Flow::Drip(100, Duration::from_millis(5)));
    for n in 0..200 {
        publish(&host, n, 100);
    }
    // 40 KB at 20 KB a second: twice as long as the stall timeout.
    ticks(&mut stream, 0, 199).await;
    assert_eq!(clients(&host).await, 1);
}

#[tokio::test]
async fn a_connection_that_is_reset_is_gone_at_once() {
    let host = guarded(config()).await;
    let proxy = Proxy::to(host.address).await;
    let mut stream = through(&proxy, None).await;
    clients_are(&host, 1).await;
    proxy.strike(Flow::Reset).await;
    assert!(stream.next_or_cut().await.is_none());
    clients_are(&host, 0).await;
}

#[tokio::test]
async fn whoever_comes_back_from_a_half_open_connection_takes_its_place() {
    let host = guarded(config().max_clients(1)).await;
    let proxy = Proxy::to(host.address).await;
    let mut stream = through(&proxy, None).await;
    let token = stream.established.data["reconnect_token"]
        .as_str()
        .unwrap()
        .to_owned();
    publish(&host, 0, 10);
    ticks(&mut stream, 0, 0).await;
    proxy.strike(Flow::HalfOpen).await;
    while stream.next_or_cut().await.is_some() {}
    publish(&host, 1, 10);
    // The host can't know: to it the old stream is alive, and has the only place.
    host.get("/stream/ticks").await.refusal(503);
    let mut back = host
        .stream(&format!("/stream/reconnect?token={token}"))
        .await;
    ticks(&mut back, 0, 1).await;
    assert_eq!(clients(&host).await, 1);
    let seen: Value = back.established.data["resume"]["verdict"].clone();
    assert_eq!(seen, "full");
}
