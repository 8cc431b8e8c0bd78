//! Behind a real nginx, with its default proxy settings: HTTP/1.0 upstream, buffering on.
//!
//! They need programs that not every machine has: `tests/run.sh clients` brings them and runs these tests.

mod support;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use axum::Router;
use serde_json::json;
use support::{Connection, Host, Stream, config, get, soon};
use tower_realtime::{ChannelConfig, Event};

/// An nginx with a configuration of its own, in a directory of its own. It ends with the test.
struct Nginx {
    /// One process: with a master and workers, killing the one would leave the others.
    child: Child,
    directory: PathBuf,
    http1: SocketAddr,
    http2: SocketAddr,
    tls: SocketAddr,
}

impl Nginx {
    async fn before(host: &Host, name: &str) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("nginx-{name}"));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        certificate(&directory);
        let [http1, http2, tls] = free_addresses();
        let upstream = host.address;
        let at = directory.display();
        let configuration = format!(
            r#"
daemon off;
master_process off;
pid {at}/pid;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {at}/body;
    proxy_temp_path {at}/proxy;
    fastcgi_temp_path {at}/fastcgi;
    uwsgi_temp_path {at}/uwsgi;
    scgi_temp_path {at}/scgi;
    ssl_certificate {at}/certificate.pem;
    ssl_certificate_key {at}/key.pem;
    map $http_upgrade $connection_upgrade {{
        default upgrade;
        '' close;
    }}
    server {{
        listen {http1};
        listen {http2} http2;
        listen {tls} ssl http2;
        location / {{
            proxy_pass http://{upstream};
        }}
        location /ws {{
            proxy_pass http://{upstream};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
        }}
    }}
}}
"#
        );
        let file = directory.join("nginx.conf");
        fs::write(&file, configuration).unwrap();
        let child = Command::new("nginx")
            .arg("-p")
            .arg(&directory)
            .arg("-c")
            .arg(&file)
            .arg("-e")
            .arg(directory.join("error.log"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut nginx = Self {
            child,
            directory,
            http1,
            http2,
            tls,
        };
        let listens = async {
            while tokio::net::TcpStream::connect(tls).await.is_err() {
                let exited = nginx.child.try_wait().unwrap();
                assert_eq!(exited, None, "nginx ended: {}", nginx.log());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        soon("nginx to listen", listens).await;
        nginx
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("error.log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nobody's just now. They are asked for together, so that they differ.
fn free_addresses() -> [SocketAddr; 3] {
    let listeners = [0; 3].map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}

fn certificate(directory: &Path) {
    let made = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        ])
        .args([
            "-subj",
            "/CN=localhost",
            "-keyout",
            "key.pem",
            "-out",
            "certificate.pem",
        ])
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
}

/// A host with a channel `news`, and an nginx before it.
async fn started(name: &str) -> (Host, Nginx) {
    let config = config().heartbeat_interval(Duration::from_secs(1));
    let host = Host::configured(config, Router::new()).await;
    host.rt.channel("news", ChannelConfig::stream()).unwrap();
    let nginx = Nginx::before(&host, name).await;
    (host, nginx)
}

fn publish(host: &Host, n: u32) {
    let event = Event::new("news", "Item", &json!({"n": n}));
    host.rt.publish(event).unwrap();
}

/// What has to hold for a client however it speaks to nginx.
async fn assert_is_live(host: &Host, connect: impl AsyncFn() -> Connection) {
    // The best of a few, because the machine may be busy: what is held back is held back every time.
    let mut first = Duration::MAX;
    let mut event = Duration::MAX;
    let mut stream = None;
    for n in 0..5 {
        let connection = connect().await;
        let asked = Instant::now();
        let mut opened = connection.stream(get("/stream/news")).await;
        first = first.min(asked.elapsed());
        let published = Instant::now();
        publish(host, n);
        opened.wait_for("Item").await;
        event = event.min(published.elapsed());
        stream = Some(opened);
    }
    let limit = Duration::from_millis(100);
    assert!(first < limit, "the first event after {first:?}");
    assert!(event < limit, "an event after {event:?}");

    let mut stream: Stream = stream.unwrap();
    for _ in 0..2 {
        let beat = stream.wait_for("heartbeat").await;
        assert!(beat.id.is_some(), "{beat:?}");
    }

    for n in 10..15 {
        publish(host, n);
        assert_eq!(stream.wait_for("Item").await.data["n"], n);
    }
    let position = stream.next().await.id.unwrap();
    drop(stream);
    for n in 15..20 {
        publish(host, n);
    }
    let mut request = get("/stream/news");
    let headers = request.headers_mut();
    headers.insert("last-event-id", position.parse().unwrap());
    let mut stream = connect().await.stream(request).await;
    assert_eq!(stream.established.data["resume"]["verdict"], "full");
    for n in 15..20 {
        assert_eq!(stream.next().await.data["n"], n);
    }
}

#[tokio::test]
#[ignore = "needs nginx and openssl"]
async fn streams_are_live_and_resume_behind_nginx() {
    let (host, nginx) = started("http1").await;
    assert_is_live(&host, async || Connection::http1(nginx.http1).await).await;
}

#[tokio::test]
#[ignore = "needs nginx and openssl"]
async fn streams_are_live_and_resume_over_http2_behind_nginx() {
    let (host, nginx) = started("http2").await;
    assert_is_live(&host, async || Connection::http2(nginx.http2).await).await;
}

#[tokio::test]
#[ignore = "needs nginx, openssl and curl"]
async fn curl_reads_a_stream_over_tls_and_http2_behind_nginx() {
    let (host, nginx) = started("tls").await;
    publish(&host, 1);
    let url = format!("https://{}/stream/news?since=earliest", nginx.tls);
    let curl = tokio::process::Command::new("curl")
        .args([
            "--silent",
            "--no-buffer",
            "--insecure",
            "--http2",
            "--max-time",
            "2",
        ])
        .args([
            "--write-out",
            "\nHTTP/%{http_version} first byte after %{time_starttransfer}\n",
        ])
        .arg(&url)
        .output();
    let output = soon("curl to have had enough", curl).await.unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    for expected in [
        "event: connection_established\n",
        "event: Item\ndata: {\"n\":1}\n",
        "event: heartbeat\n",
        "\nHTTP/2 first byte after 0.0",
    ] {
        assert!(printed.contains(expected), "no {expected:?} in {printed}");
    }
}

#[cfg(feature = "ws")]
#[tokio::test]
#[ignore = "needs nginx and openssl"]
async fn a_websocket_works_behind_nginx() {
    let (host, nginx) = started("ws").await;
    // A browser says where the page comes from, and that has to be where the request went.
    let origin = format!("http://{}", nginx.http1);
    let headers = [("origin", origin.as_str())];
    let opened = support::Socket::try_open(nginx.http1, "/ws/news", &headers).await;
    let mut socket = opened.unwrap_or_else(|(status, body)| panic!("{status} {body:#}"));
    publish(&host, 1);
    assert_eq!(socket.wait_for("Item").await["data"]["n"], 1);

    let foreign = [("origin", "http://elsewhere.example")];
    let refused = support::Socket::try_open(nginx.http1, "/ws/news", &foreign).await;
    assert_eq!(refused.err().map(|(status, _)| status.as_u16()), Some(403));
}
