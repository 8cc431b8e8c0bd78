//! Streams and bodies compressed with gzip: the same events for those who ask for it, smaller.
#![cfg(all(feature = "axum", feature = "compression"))]

mod support;

use std::time::Duration;

use axum::{
    Router,
    http::{HeaderMap, Method, StatusCode},
};
use serde_json::{Value, json};
use support::{
    Connection, Event as Received, Flow, Host, Proxy, Request, Stream, config, get, gunzip,
    request, soon,
};
use tower_http::{compression::CompressionLayer, timeout::TimeoutLayer, trace::TraceLayer};
use tower_realtime::{Access, ChannelConfig, Denied, Event, Principal, RealtimeConfig};

fn accepting(mut request: Request, encodings: &str) -> Request {
    let encodings = encodings.parse().unwrap();
    request.headers_mut().insert("accept-encoding", encodings);
    request
}

/// As curl and the browsers ask.
fn gzip(request: Request) -> Request {
    accepting(request, "deflate, gzip, br, zstd")
}

async fn host() -> Host {
    host_with(config().flush_interval(Duration::from_millis(1))).await
}

async fn host_with(config: RealtimeConfig) -> Host {
    let host = Host::configured(config.compression(true), Router::new()).await;
    with_ticks(&host);
    host
}

fn with_ticks(host: &Host) {
    host.rt.channel("ticks", ChannelConfig::stream()).unwrap();
}

fn publish(host: &Host, n: u64) {
    let tick = json!({"n": n, "text": "what each of them says again"});
    let user = if n.is_multiple_of(2) { "even" } else { "odd" };
    host.rt
        .publish(Event::new("ticks", "Tick", &tick).user(user))
        .unwrap();
}

async fn stream(host: &Host, path: &str) -> Stream {
    let stream = host.connect().await.stream(gzip(get(path))).await;
    assert_eq!(stream.headers["content-encoding"], "gzip");
    stream
}

/// The numbers of the next `count` ticks.
async fn ticks(stream: &mut Stream, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let event = stream.wait_for("Tick").await;
        numbers.push(event.data["n"].as_u64().unwrap());
    }
    numbers
}

/// What was compressed so far. The test's own requests take no gzip.
async fn made(host: &Host) -> Value {
    host.data("/api/realtime/hub/stats").await["compression"].clone()
}

#[tokio::test]
async fn each_event_can_be_decoded_as_soon_as_it_is_there() {
    let host = host().await;
    let mut compressed = stream(&host, "/stream/ticks").await;
    let mut plain = host.stream("/stream/ticks").await;
    assert!(!plain.headers.contains_key("content-encoding"));
    for headers in [&compressed.headers, &plain.headers] {
        assert_eq!(headers["vary"], "accept-encoding");
        assert_eq!(headers["cache-control"], "no-cache, no-transform");
        assert!(headers.contains_key("x-reconnect-token"));
    }
    // More than a group, each waited for before the next is there.
    for n in 0..300 {
        publish(&host, n);
        let event = compressed.next().await;
        assert_eq!(event.data["n"], n);
        assert_eq!(event, plain.next().await);
    }
    let sent = made(&host).await;
    let bytes = |name: &str| sent[name].as_u64().unwrap();
    assert!(
        bytes("sent_compressed_bytes") * 3 < bytes("sent_plain_bytes"),
        "{sent:#}"
    );
}

#[tokio::test]
async fn readers_share_what_is_compressed() {
    let host = host().await;
    let mut readers = Vec::new();
    for _ in 0..5 {
        readers.push(stream(&host, "/stream/ticks").await);
    }
    for n in 0..20 {
        publish(&host, n);
        for reader in &mut readers {
            assert_eq!(ticks(reader, 1).await, [n]);
        }
    }
    let made = made(&host).await["made"].clone();
    assert_eq!(made["grouped"], 20, "{made:#}");
    assert_eq!(made["alone"], 0, "{made:#}");
    assert_eq!(made["chains"], 1, "{made:#}");
    drop(readers);
    let released = async {
        while self::made(&host).await["made"]["chains"] != 0 {
            tokio::task::yield_now().await;
        }
    };
    soon("the compressor to be given back", released).await;
}

#[tokio::test]
async fn those_who_do_not_ask_get_it_as_it_is() {
    let host = host().await;
    for encodings in ["identity", "gzip;q=0", "br", "*;q=0.5, gzip;q=0", ""] {
        let ask = accepting(get("/stream/ticks"), encodings);
        let stream = host.connect().await.stream(ask).await;
        assert!(
            !stream.headers.contains_key("content-encoding"),
            "{encodings}"
        );
        assert_eq!(stream.headers["vary"], "accept-encoding");
    }
    for encodings in ["gzip", "br, GZIP;q=0.1", "*"] {
        let ask = accepting(get("/stream/ticks"), encodings);
        let stream = host.connect().await.stream(ask).await;
        assert_eq!(stream.headers["content-encoding"], "gzip", "{encodings}");
    }
}

#[tokio::test]
async fn nothing_is_compressed_without_the_setting() {
    let host = Host::start(Router::new()).await;
    let stream = host
        .connect()
        .await
        .stream(gzip(get("/stream/stats")))
        .await;
    assert!(!stream.headers.contains_key("content-encoding"));
    assert!(!stream.headers.contains_key("vary"));
    for path in ["/api/realtime/info", "/realtime/"] {
        let answer = host.send(gzip(get(path))).await;
        assert!(!answer.headers.contains_key("content-encoding"), "{path}");
    }
    let info = host.data("/api/realtime/info").await;
    assert_eq!(info["transports"]["sse"]["encodings"], json!([]));
    assert_eq!(made(&host).await, Value::Null);
}

#[tokio::test]
async fn a_filter_and_a_rate_work_the_same() {
    let host = host().await;
    let mut odd = stream(&host, "/stream/ticks?user_id=odd").await;
    let mut slow = stream(&host, "/stream/ticks?max_rate=5").await;
    for n in 0..40 {
        publish(&host, n);
    }
    let expected: Vec<u64> = (0..20).map(|n| 2 * n + 1).collect();
    assert_eq!(ticks(&mut odd, 20).await, expected);
    let (mut delivered, mut missed) = (0, 0);
    while delivered + missed < 40 {
        let event = slow.next().await;
        match event.name.as_str() {
            "Tick" => delivered += 1,
            "gap" => {
                assert_eq!(event.data["reason"], "rate");
                missed += event.data["missed"].as_u64().unwrap();
            }
            _ => {}
        }
    }
    assert_eq!(delivered + missed, 40);
    assert!(missed > 0);
}

/// `(what was compressed, what was left as it is)`: bytes of the first, blocks of the second.
async fn work(host: &Host) -> (u64, u64) {
    let made = made(host).await["made"].clone();
    let number = |name: &str| made[name].as_u64().unwrap();
    (number("plain_bytes"), number("stored"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replays_are_compressed_as_far_as_the_host_has_time_to_spare() {
    const EVENTS: u64 = 1000;
    const READERS: u64 = 10;
    // See `transport::compress::budget`.
    const SAVED: f64 = 2_097_152.0;
    const A_SECOND: f64 = 4_194_304.0;

    let held = config()
        .replay_bytes(64 << 20)
        .replay_capacity(EVENTS as usize);
    let host = host_with(held.flush_interval(Duration::from_millis(1))).await;
    let text = "what each of them says again and at length, ".repeat(50);
    let mut live = host.stream("/stream/ticks").await;
    for n in 0..EVENTS {
        let tick = json!({"n": n, "text": text});
        host.rt.publish(Event::new("ticks", "Tick", &tick)).unwrap();
        assert_eq!(ticks(&mut live, 1).await, [n]);
    }
    drop(live);

    let start = std::time::Instant::now();
    let expected: Vec<u64> = (0..EVENTS).collect();
    let mut alone = stream(&host, "/stream/ticks?since=earliest").await;
    assert_eq!(ticks(&mut alone, expected.len()).await, expected);
    let (compressed, _) = work(&host).await;
    assert!(compressed > 900_000, "{compressed} of one that is alone");
    for _ in 1..READERS {
        let mut reader = stream(&host, "/stream/ticks?since=earliest").await;
        assert_eq!(ticks(&mut reader, expected.len()).await, expected);
    }
    let (compressed, stored) = work(&host).await;
    let most = SAVED + A_SECOND * start.elapsed().as_secs_f64();
    assert!(compressed as f64 <= most, "{compressed} of at most {most}");
    let all = READERS * EVENTS * text.len() as u64;
    assert!(
        compressed >= all || stored > 0,
        "{compressed}, {stored} stored"
    );
    // And the present is shared again.
    let mut other = stream(&host, "/stream/ticks").await;
    for n in EVENTS..EVENTS + 300 {
        publish(&host, n);
        assert_eq!(ticks(&mut alone, 1).await, [n]);
        assert_eq!(ticks(&mut other, 1).await, [n]);
    }
    let grouped = made(&host).await["made"]["grouped"].as_u64().unwrap();
    assert!(grouped >= 300 - 128, "{grouped}");
}

#[tokio::test]
async fn filters_that_only_one_reader_has_share_what_the_host_has_to_spare() {
    let host = host().await;
    let mut readers = Vec::new();
    for n in 0..20 {
        readers.push(stream(&host, &format!("/stream/ticks?type=Tick,other{n}")).await);
    }
    let start = std::time::Instant::now();
    let text = "what each of them says again and at length, ".repeat(400);
    for n in 0..60 {
        let tick = json!({"n": n, "text": text});
        host.rt.publish(Event::new("ticks", "Tick", &tick)).unwrap();
        for reader in &mut readers {
            assert_eq!(ticks(reader, 1).await, [n]);
        }
    }
    let made = made(&host).await["made"].clone();
    let number = |name: &str| made[name].as_u64().unwrap() as f64;
    assert_eq!(number("alone") + number("stored"), 20.0 * 60.0, "{made:#}");
    assert_eq!(made["chains"], 0, "{made:#}");
    // Each block costs a kilobyte beside its bytes.
    let most = 1_048_576.0 + 4_194_304.0 * start.elapsed().as_secs_f64();
    let cost = number("alone") * 1024.0 + number("plain_bytes");
    assert!(cost <= most, "{cost} of at most {most}");
}

#[tokio::test]
async fn a_stream_is_resumed_without_loss_or_repeat() {
    let host = host().await;
    let mut first = stream(&host, "/stream/ticks").await;
    let mut other = stream(&host, "/stream/ticks").await;
    for n in 0..10 {
        publish(&host, n);
    }
    assert_eq!(ticks(&mut other, 10).await.len(), 10);
    let mut place = None;
    for n in 0..4 {
        let event = first.wait_for("Tick").await;
        assert_eq!(event.data["n"], n);
        place = event.id;
    }
    drop(first);
    for n in 10..300 {
        publish(&host, n);
    }
    let mut ask = gzip(get("/stream/ticks"));
    let place = place.unwrap();
    ask.headers_mut()
        .insert("last-event-id", place.parse().unwrap());
    let mut again = host.connect().await.stream(ask).await;
    assert_eq!(again.established.data["resume"]["verdict"], "full");
    let expected: Vec<u64> = (4..300).collect();
    assert_eq!(ticks(&mut again, expected.len()).await, expected);
    // And from the seam on with the others.
    assert_eq!(ticks(&mut other, 290).await, expected[6..]);
    for n in 300..600 {
        publish(&host, n);
        assert_eq!(ticks(&mut again, 1).await, [n]);
        assert_eq!(ticks(&mut other, 1).await, [n]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_stalls_and_comes_back_decodes_what_it_gets() {
    /// SplitMix64, as text: nothing that compression makes small.
    fn noise(seed: u64, words: u64) -> String {
        let word = |n: u64| {
            let mut mixed = (seed * 10_000 + n).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            format!("{:016x}", mixed ^ (mixed >> 31))
        };
        (0..words).map(word).collect()
    }
    // Far more than sockets and the tail of a view hold.
    const BURST: u64 = 1200;

    let quickly = config().flush_interval(Duration::from_millis(1));
    let host = host_with(quickly.replay_bytes(64 << 20)).await;
    let proxy = Proxy::to(host.address).await;
    let ask = gzip(get("/stream/ticks"));
    let mut slow = Connection::http1(proxy.address).await.stream(ask).await;
    let mut quick = stream(&host, "/stream/ticks").await;
    publish(&host, 0);
    assert_eq!(ticks(&mut slow, 1).await, [0]);
    assert_eq!(ticks(&mut quick, 1).await, [0]);
    proxy.set(Flow::Stalled);
    for n in 1..=BURST {
        let tick = json!({"n": n, "noise": noise(n, 1250)});
        host.rt.publish(Event::new("ticks", "Tick", &tick)).unwrap();
        // The other one is held up by nothing.
        assert_eq!(ticks(&mut quick, 1).await, [n]);
    }
    proxy.set(Flow::Free);
    let (mut delivered, mut missed, mut last) = (0, 0, 0);
    while delivered + missed < BURST {
        let event = slow.next().await;
        match event.name.as_str() {
            "Tick" => {
                let n = event.data["n"].as_u64().unwrap();
                assert!(n > last, "{n} after {last}");
                assert_eq!(event.data["noise"], noise(n, 1250));
                (delivered, last) = (delivered + 1, n);
            }
            "gap" => missed += event.data["missed"].as_u64().unwrap(),
            _ => {}
        }
    }
    // And again in step with the others.
    for n in BURST + 1..BURST + 200 {
        publish(&host, n);
        assert_eq!(ticks(&mut slow, 1).await, [n]);
        assert_eq!(ticks(&mut quick, 1).await, [n]);
    }
}

#[tokio::test]
async fn heartbeats_come_in_time_and_their_position_never_goes_back() {
    let host = host_with(config().heartbeat_interval(Duration::from_millis(100))).await;
    let mut readers = [
        stream(&host, "/stream/ticks").await,
        stream(&host, "/stream/ticks").await,
        stream(&host, "/stream/all").await,
    ];
    let start = std::time::Instant::now();
    let mut last = [0; 3];
    let mut beats = [0; 3];
    for n in 0..30 {
        publish(&host, n);
        for (place, reader) in readers.iter_mut().enumerate() {
            loop {
                let event = reader.next().await;
                assert!(
                    event.seq() >= last[place],
                    "{event:?} after {}",
                    last[place]
                );
                last[place] = event.seq();
                match event.name.as_str() {
                    "heartbeat" => beats[place] += 1,
                    "Tick" => {
                        assert_eq!(event.data["n"], n);
                        break;
                    }
                    _ => {}
                }
            }
        }
        for (place, reader) in readers.iter_mut().enumerate() {
            if n % 10 == 0 {
                let beat = reader.wait_for("heartbeat").await;
                assert!(beat.seq() >= last[place]);
                last[place] = beat.seq();
                beats[place] += 1;
            }
        }
    }
    let most = start.elapsed().as_millis() as u64 / 100 + 3;
    for beats in beats {
        assert!((3..=most).contains(&beats), "{beats} of {most}");
    }
}

#[tokio::test]
async fn a_stream_that_is_ended_on_purpose_ends_as_gzip_does() {
    let host = host().await;
    let mut all = stream(&host, "/stream/all").await;
    let mut ticks = stream(&host, "/stream/ticks").await;
    for n in 0..20 {
        publish(&host, n);
        all.wait_for("Tick").await;
        ticks.wait_for("Tick").await;
    }
    host.shutdown_token().cancel();
    for stream in [all, ticks] {
        // The checksum and the length are compared at the end.
        let rest: Vec<Received> = stream.rest().await;
        let last = rest.last().unwrap();
        assert_eq!(last.name, "drain");
        assert_eq!(last.data["reason"], "shutdown");
        assert!(last.retry.is_some());
    }
    host.shutdown().await;
}

#[tokio::test]
async fn an_admin_ends_a_stream_and_tenants_see_their_own_alone() {
    let access = Access::check(|parts| async move {
        let name = parts.headers.get("x-user").cloned();
        let name = name.ok_or_else(Denied::unauthenticated)?;
        let name = name.to_str().unwrap_or_default().to_owned();
        Ok(match name.as_str() {
            "admin" => Principal::admin(name),
            _ => Principal::viewer(name.clone()).tenant(name),
        })
    });
    let host = host_with(RealtimeConfig::new(access)).await;
    let by = |mut request: Request, name: &str| {
        request
            .headers_mut()
            .insert("x-user", name.parse().unwrap());
        request
    };
    let mut streams = Vec::new();
    for tenant in ["acme", "umbrella", "acme"] {
        let ask = by(gzip(get("/stream/ticks")), tenant);
        streams.push(host.connect().await.stream(ask).await);
    }
    for n in 0..10 {
        let tenant = ["acme", "umbrella"][n % 2];
        host.rt
            .publish(Event::new("ticks", "Tick", &json!({"n": n})).tenant(tenant))
            .unwrap();
    }
    for (place, stream) in streams.iter_mut().enumerate() {
        let first = (place % 2) as u64;
        let expected: Vec<u64> = (0..5).map(|n| 2 * n + first).collect();
        assert_eq!(ticks(stream, 5).await, expected);
    }
    let id = streams[0].established.data["connection_id"].clone();
    let path = format!("/api/realtime/connections/{}", id.as_str().unwrap());
    let kicked = host.send(by(request(Method::DELETE, &path), "admin")).await;
    assert_eq!(kicked.status, StatusCode::OK);
    let rest = streams.remove(0).rest().await;
    assert_eq!(rest.last().unwrap().data["reason"], "kicked");
}

#[tokio::test]
async fn a_change_of_channels_goes_on_in_the_same_gzip_stream() {
    let access = Access::check(|_| async { Ok(Principal::admin("root")) });
    let host = host_with(RealtimeConfig::new(access)).await;
    host.rt.channel("more", ChannelConfig::stream()).unwrap();
    let mut reader = stream(&host, "/stream/ticks").await;
    let mut other = stream(&host, "/stream?channels=ticks,more").await;
    for n in 0..5 {
        publish(&host, n);
        assert_eq!(ticks(&mut reader, 1).await, [n]);
        assert_eq!(ticks(&mut other, 1).await, [n]);
    }
    let id = reader.established.data["connection_id"].clone();
    let path = format!(
        "/api/realtime/connections/{}/subscribe",
        id.as_str().unwrap()
    );
    let change = support::post(&path, json!({"channels": ["more"]}).to_string());
    assert_eq!(host.send(change).await.status, StatusCode::OK);
    for n in 5..200 {
        publish(&host, n);
        assert_eq!(ticks(&mut reader, 1).await, [n]);
        assert_eq!(ticks(&mut other, 1).await, [n]);
    }
    host.rt.publish(Event::new("more", "More", &1)).unwrap();
    reader.wait_for("More").await;
    other.wait_for("More").await;
}

#[tokio::test]
async fn bodies_of_a_kilobyte_are_compressed_and_small_ones_are_not() {
    let host = host().await;
    for path in ["/api/realtime/hub/stats", "/realtime/"] {
        let plain = host.get(path).await;
        let compressed = host.send(gzip(get(path))).await;
        assert_eq!(compressed.header("content-encoding"), "gzip", "{path}");
        for answer in [&plain, &compressed] {
            assert_eq!(answer.header("vary"), "accept-encoding", "{path}");
        }
        assert!(!plain.headers.contains_key("content-encoding"));
        assert!(compressed.body.len() * 10 < plain.body.len() * 7, "{path}");
        let decoded = gunzip(&compressed.body);
        match path {
            "/realtime/" => assert_eq!(decoded, plain.body),
            _ => {
                let json: Value = serde_json::from_slice(&decoded).unwrap();
                assert_eq!(json["success"], true);
            }
        }

        let mut head = gzip(get(path));
        *head.method_mut() = Method::HEAD;
        let head = host.send(head).await;
        assert_eq!(head.header("content-encoding"), "gzip", "{path}");
        assert_eq!(head.header("vary"), "accept-encoding", "{path}");
        assert!(head.body.is_empty());
    }
    let ticket = host
        .send(gzip(support::post("/api/realtime/ticket", "")))
        .await;
    assert!(!ticket.headers.contains_key("content-encoding"));
    let unknown = host.send(gzip(get("/stream/nope"))).await;
    unknown.refusal(404);
    let info = host.data("/api/realtime/info").await;
    assert_eq!(info["transports"]["sse"]["encodings"], json!(["gzip"]));
    let features = info["features"].as_array().unwrap();
    assert!(features.contains(&json!("compression")), "{features:?}");
}

#[tokio::test]
async fn head_of_a_stream_has_the_head_that_get_has() {
    let host = host().await;
    for encodings in ["gzip", "identity"] {
        let ask = || accepting(get("/stream/ticks"), encodings);
        let get = host.connect().await.stream(ask()).await;
        let mut head = ask();
        *head.method_mut() = Method::HEAD;
        let head = host.send(head).await;
        assert_eq!(head.status, StatusCode::OK);
        assert!(head.body.is_empty());
        let told = |headers: &HeaderMap| {
            let mut headers = headers.clone();
            assert!(headers.remove("x-reconnect-token").is_some(), "{headers:?}");
            headers.remove("date");
            // How a body that does not come would be framed is nothing to say.
            headers.remove("transfer-encoding");
            headers
        };
        assert_eq!(told(&head.headers), told(&get.headers));
        assert!(!head.headers.contains_key("content-length"));
    }
    // One connection goes on after a HEAD, and over HTTP/2 it is the same.
    let mut connection = host.connect().await;
    for _ in 0..2 {
        let head = connection
            .send(gzip(request(Method::HEAD, "/stream/ticks")))
            .await;
        assert_eq!(head.header("content-encoding"), "gzip");
    }
    let mut connection = host.connect_http2().await;
    let head = connection
        .send(gzip(request(Method::HEAD, "/stream/ticks")))
        .await;
    assert!(head.body.is_empty() && !head.headers.contains_key("content-length"));
    // The token of a HEAD opens what the stream would have been.
    let token = head.header("x-reconnect-token");
    let path = format!("/stream/reconnect?token={token}");
    let mut resumed = stream(&host, &path).await;
    assert_eq!(resumed.established.data["channels"], json!(["ticks"]));
    publish(&host, 1);
    assert_eq!(ticks(&mut resumed, 1).await, [1]);
}

#[tokio::test]
async fn http2_readers_get_it_too() {
    let host = host().await;
    let connection = host.connect_http2().await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        let ask = gzip(get("/stream/ticks"));
        streams.push(connection.share().stream(ask).await);
    }
    for n in 0..50 {
        publish(&host, n);
        for stream in &mut streams {
            assert_eq!(ticks(stream, 1).await, [n]);
        }
    }
}

/// The layers that hosts have around ours.
async fn layered(config: RealtimeConfig, timeout: Duration) -> Host {
    let host = Host::mounted(config, |realtime| {
        Router::new()
            .layer(realtime)
            .layer(TimeoutLayer::with_status_code(
                StatusCode::REQUEST_TIMEOUT,
                timeout,
            ))
            .layer(CompressionLayer::new())
            .layer(TraceLayer::new_for_http())
    })
    .await;
    with_ticks(&host);
    host
}

#[tokio::test]
async fn under_layers_of_the_host_nothing_stalls_or_doubles() {
    let timeout = Duration::from_millis(150);
    for compresses in [true, false] {
        let config = config()
            .compression(compresses)
            .heartbeat_interval(Duration::from_millis(100));
        let host = layered(config, timeout).await;
        let mut stream = host
            .connect()
            .await
            .stream(gzip(get("/stream/ticks")))
            .await;
        let count = |headers: &HeaderMap, name: &str| headers.get_all(name).iter().count();
        assert_eq!(
            count(&stream.headers, "content-encoding"),
            usize::from(compresses)
        );
        let mut beats = 0;
        for n in 0..20 {
            publish(&host, n);
            assert_eq!(ticks(&mut stream, 1).await, [n]);
            // Far beyond the time that the layer gives a response to begin.
            if n % 4 == 0 {
                stream.wait_for("heartbeat").await;
                beats += 1;
            }
        }
        assert_eq!(beats, 5);

        let answer = host.send(gzip(get("/api/realtime/hub/stats"))).await;
        assert_eq!(count(&answer.headers, "content-encoding"), 1);
        let mut decoder = flate2::read::GzDecoder::new(&answer.body[..]);
        let json: Value = serde_json::from_reader(&mut decoder).unwrap();
        assert_eq!(json["success"], true);
        let vary = answer.headers.get_all("vary").iter();
        let named: Vec<_> = vary
            .filter(|value| value.to_str().unwrap().contains("accept-encoding"))
            .collect();
        assert_eq!(named.len(), 1, "{:?}", answer.headers);
        // What waits in between is told at once, and the end is clean.
        host.shutdown_token().cancel();
        let rest = stream.rest().await;
        assert_eq!(rest.last().unwrap().name, "drain");
    }
}
