//! The end: open streams do not hold it up, and nothing is left behind.

mod support;

use std::time::Duration;

use axum::{Router, routing::get};
use support::{Host, Stream, config, soon};
use tokio::runtime::Handle;
use tower::{Service as _, ServiceExt};
use tower_realtime::{ChannelConfig, Event, Filter, RealtimeLayer, Received};

/// Waits until only the tasks are left that there were before.
async fn tasks_are_back_to(before: usize) {
    let gone = async {
        while Handle::current().metrics().num_alive_tasks() > before {
            tokio::task::yield_now().await;
        }
    };
    soon("all tasks to end", gone).await;
}

async fn assert_drained(stream: Stream) {
    let events = stream.rest().await;
    let last = events.last().expect("a last event");
    assert_eq!(last.name, "drain", "{events:#?}");
    assert!(last.retry.is_some(), "{last:?}");
    assert!(last.data["retry_ms"].as_u64().is_some(), "{last:?}");
}

#[tokio::test]
async fn a_thousand_idle_streams_do_not_hold_up_a_graceful_shutdown() {
    let before = Handle::current().metrics().num_alive_tasks();
    let host = Host::start(Router::new().route("/", get(|| async {}))).await;
    let mut streams = Vec::new();
    // Each HTTP/1.1 stream takes two of the files that this process may open, so most come through HTTP/2.
    for _ in 0..200 {
        streams.push(host.stream("/stream/requests").await);
    }
    let mut connections = Vec::new();
    for _ in 0..8 {
        let connection = host.connect_http2().await;
        for _ in 0..100 {
            streams.push(
                connection
                    .share()
                    .stream(support::get("/stream/requests"))
                    .await,
            );
        }
        connections.push(connection);
    }
    let hub = host.data("/api/realtime/hub/stats").await;
    assert_eq!(hub["total_clients"], 1000, "{hub:#}");

    // It takes milliseconds; a stream that holds it up would hold it up for ever.
    host.shutdown().await;
    for stream in streams {
        assert_drained(stream).await;
    }
    drop(connections);
    tasks_are_back_to(before).await;
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn a_guarded_listener_serves_and_ends() {
    use std::net::SocketAddr;

    use support::Connection;
    use tokio::net::TcpListener;
    use tokio_util::sync::CancellationToken;

    let shutdown = CancellationToken::new();
    let realtime = RealtimeLayer::new(config().shutdown(shutdown.clone()));
    let rt = realtime.handle();
    let app = Router::new()
        .route("/", get(|| async { "hello" }))
        .layer(realtime);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(
        axum::serve(
            rt.guard(listener),
            app.into_make_service_with_connect_info::<SocketAddr>(),
        )
        .with_graceful_shutdown(shutdown.clone().cancelled_owned())
        .into_future(),
    );
    let stream = Connection::http1(address).await;
    let stream = stream.stream(support::get("/stream/all")).await;
    shutdown.cancel();
    soon("the server to end", server).await.unwrap().unwrap();
    assert_drained(stream).await;
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn a_viewer_that_does_not_read_holds_up_no_guarded_server() {
    use tokio::io::AsyncWriteExt;
    use tower_realtime::{ChannelConfig, Event};

    // Longer than the test waits: neither the hub nor the kernel ends it.
    let config = config().stall_timeout(std::time::Duration::from_secs(600));
    let host = Host::guarded(config, Router::new()).await;
    host.rt.channel("ticks", ChannelConfig::stream()).unwrap();
    let mut socket = tokio::net::TcpStream::connect(host.address).await.unwrap();
    let head = b"GET /stream/ticks HTTP/1.1\r\nhost: x\r\n\r\n";
    socket.write_all(head).await.unwrap();
    // More than the buffers of both sides hold.
    let filler = "x".repeat(50_000);
    let mut published = 0;
    while published < 400 {
        match host.rt.publish(Event::new("ticks", "Tick", &filler)) {
            Ok(()) => published += 1,
            Err(_) => tokio::task::yield_now().await,
        }
        if published % 20 == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    // It waits for everything that is open, with a deadline.
    host.shutdown().await;
    drop(socket);
}

#[tokio::test]
async fn a_subscription_in_process_ends_too() {
    let realtime = RealtimeLayer::new(config());
    let rt = realtime.handle();
    let mut events = rt.subscribe(["requests"], Filter::default()).unwrap();
    soon("the drain", rt.drain(Duration::ZERO)).await;
    let end = async { while events.next().await.is_some() {} };
    soon("the subscription to end", end).await;
}

#[tokio::test(start_paused = true)]
async fn until_a_drain_is_over_those_who_are_there_are_told_what_comes() {
    let before = Handle::current().metrics().num_alive_tasks();
    let realtime = RealtimeLayer::new(config());
    let rt = realtime.handle();
    rt.channel("news", ChannelConfig::stream()).unwrap();
    let mut app = Router::new().layer(realtime);
    let mut ask = async |path: &str| {
        let answer = app.call(support::get(path)).await.unwrap();
        answer.status().as_u16()
    };
    let mut events = rt.subscribe(["news"], Filter::default()).unwrap();
    assert_eq!(ask("/api/realtime/health/ready").await, 200);
    let draining = rt.clone();
    let drain = tokio::spawn(async move { draining.drain(Duration::from_secs(6)).await });
    for n in 0..5 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(ask("/api/realtime/health/ready").await, 503);
        assert_eq!(ask("/stream/news").await, 503);
        rt.publish(Event::new("news", "News", &n)).unwrap();
        let Some(Received::Event { data, .. }) = events.next().await else {
            panic!("nothing came of event {n}");
        };
        assert_eq!(data, n.to_string());
    }
    assert!(!drain.is_finished());
    assert_eq!(events.next().await, None);
    drop(events);
    soon("the drain", drain).await.unwrap();
    let late = rt.publish(Event::new("news", "News", &5));
    assert!(late.unwrap_err().is_closed());
    assert!(Handle::current().metrics().num_alive_tasks() <= before);
}

#[tokio::test]
async fn dropping_everything_ends_the_tasks() {
    let before = Handle::current().metrics().num_alive_tasks();
    let realtime = RealtimeLayer::new(config());
    let app = Router::new()
        .route("/", get(|| async {}))
        .layer(realtime.clone());
    app.oneshot(support::get("/")).await.unwrap();
    drop(realtime);
    tasks_are_back_to(before).await;
}

#[test]
fn a_layer_may_be_made_outside_a_runtime_and_outlive_one() {
    let realtime = RealtimeLayer::new(config());
    let app = Router::new()
        .route("/", get(|| async {}))
        .layer(realtime.clone());
    // Everything that can be called without a runtime.
    realtime
        .handle()
        .log(tower_realtime::Level::Info, "test", "before");
    for _ in 0..2 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let app = app.clone();
        runtime.block_on(async {
            let answer = app.oneshot(support::get("/")).await.unwrap();
            assert_eq!(answer.status(), 200);
        });
    }
    drop(app);
}
