//! Strangers' clients, as the API's documentation prints them, against a started gateway.
//!
//! They need programs that not every machine has: `tests/run.sh clients` brings them and runs these tests.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

/// Where `tests/run.sh` puts the packages and programs of the clients.
const TOOLS: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/tools");
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");
/// Seconds after which a client that still waits has failed.
const PATIENCE: &str = "60";

/// A running gateway; it ends with the test.
struct Gateway {
    child: Running,
    /// `127.0.0.1:PORT`.
    address: String,
}

impl Gateway {
    fn start(flags: &[&str], env: &[(&str, &str)]) -> Self {
        let mut child = Command::new(gateway())
            .args(["--addr", "127.0.0.1:0"])
            .args(flags)
            .envs(env.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let address = line
            .strip_prefix("tower-realtime dashboard: http://")
            .and_then(|rest| rest.strip_suffix("/realtime/ (loopback only)\n"))
            .unwrap_or_else(|| panic!("the gateway printed {line:?}"))
            .to_owned();
        Self {
            child: Running(child),
            address,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// A process that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The example beside this test's own program.
fn gateway() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let gateway = profile.join("examples").join("gateway");
    assert!(
        gateway.exists(),
        "{} is missing: cargo build --example gateway",
        gateway.display()
    );
    gateway
}

/// Runs a client to its end and gives what it printed.
#[track_caller]
fn output(command: &mut Command) -> String {
    let mut limited = Command::new("timeout");
    limited
        .arg(PATIENCE)
        .arg(command.get_program())
        .args(command.get_args());
    let output = limited.output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{printed:.2000}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
    );
    printed
}

#[test]
#[ignore = "needs a Python with sseclient-py and requests"]
fn python_prints_stats_and_heartbeats() {
    let gateway = Gateway::start(&[], &[("REALTIME_HEARTBEAT_INTERVAL", "1s")]);
    let printed = output(
        Command::new(format!("{TOOLS}/venv/bin/python"))
            .arg(format!("{SOURCES}/stats.py"))
            .args([&gateway.url("/stream/stats"), "3", "2"]),
    );
    let stats: Vec<_> = printed
        .lines()
        .filter(|line| line.starts_with("Stats: ") && line.ends_with(" cost"))
        .collect();
    assert!(stats.len() >= 3, "{printed}");
    assert!(
        printed.lines().filter(|line| *line == "♥").count() >= 2,
        "{printed}"
    );
    let requests = |line: &str| line.split(' ').nth(1).unwrap().parse::<u64>().unwrap();
    assert!(requests(stats[0]) < requests(stats[2]), "{printed}");
}

/// What the gateway's readers were sent, plain and compressed.
#[cfg(feature = "compression")]
fn sent(gateway: &Gateway) -> (u64, u64) {
    let url = gateway.url("/api/realtime/hub/stats");
    let answer = output(Command::new("curl").args(["--silent", "--compressed", &url]));
    let stats = &serde_json::from_str::<Value>(&answer).unwrap()["data"]["compression"];
    let bytes = |name: &str| stats[name].as_u64().unwrap_or_default();
    (bytes("sent_plain_bytes"), bytes("sent_compressed_bytes"))
}

#[cfg(feature = "compression")]
#[test]
#[ignore = "needs a Python with sseclient-py and requests, and curl"]
fn python_reads_a_compressed_stream_without_knowing() {
    let gateway = Gateway::start(&[], &[("REALTIME_HEARTBEAT_INTERVAL", "1s")]);
    output(
        Command::new(format!("{TOOLS}/venv/bin/python"))
            .arg(format!("{SOURCES}/stats.py"))
            .args([&gateway.url("/stream/stats"), "6", "6"]),
    );
    let (plain, compressed) = sent(&gateway);
    assert!(
        compressed > 0 && compressed * 3 < plain,
        "{plain} bytes compressed to {compressed}"
    );
}

#[cfg(feature = "compression")]
#[test]
#[ignore = "needs Node.js with the package eventsource, and curl"]
fn node_has_compressed_events_at_once() {
    let gateway = Gateway::start(&["--traffic", "50"], &[]);
    let printed = output(
        Command::new("node")
            .arg(format!("{SOURCES}/compressed.mjs"))
            .args([TOOLS, &gateway.url("/stream/requests"), "requests", "300"]),
    );
    let result: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(result["encoding"], "gzip");
    for client in ["fetch", "eventsource"] {
        let mut ages: Vec<_> = result[client]
            .as_array()
            .unwrap()
            .iter()
            .map(|age| age.as_i64().unwrap())
            .collect();
        ages.sort_unstable();
        // A decoder that waits for more would be behind by many of them. A busy machine may hold up a few.
        let median = ages[ages.len() / 2];
        assert!(median < 500, "{client}: {median} ms");
    }
    let (plain, compressed) = sent(&gateway);
    assert!(
        compressed * 3 < plain,
        "{plain} bytes compressed to {compressed}"
    );
}

#[cfg(feature = "compression")]
#[test]
#[ignore = "needs curl"]
fn curl_reads_a_compressed_stream_line_by_line() {
    let gateway = Gateway::start(&["--traffic", "20"], &[]);
    let url = gateway.url("/stream/requests");
    let mut child = Command::new("curl")
        .args(["--silent", "--no-buffer", "--compressed", "--include"])
        .args(["--max-time", PATIENCE, &url])
        .stdout(Stdio::piped())
        .spawn()
        .map(Running)
        .unwrap();
    let stdout = BufReader::new(child.0.stdout.take().unwrap());
    let mut lines = stdout.lines().map(Result::unwrap);
    assert!(lines.any(|line| line.eq_ignore_ascii_case("content-encoding: gzip")));
    let requests = lines.filter(|line| line == "event: requests").take(50);
    assert_eq!(requests.count(), 50);
    drop(child);
    let clients_are = |count: u32| {
        let begun = std::time::Instant::now();
        let stats = gateway.url("/api/realtime/hub/stats");
        let told = format!("\"total_clients\":{count},");
        while !output(Command::new("curl").args(["--silent", &stats])).contains(&told) {
            assert!(begun.elapsed().as_secs() < 60, "never {count} clients");
        }
    };
    clients_are(0);
    // And to the end, which is one that curl finds right.
    let stream = Command::new("curl")
        .args(["--silent", "--show-error", "--fail", "--compressed", &url])
        .args(["--max-time", PATIENCE])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    clients_are(1);
    let id = gateway.child.0.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-s", "TERM", &id])
            .status()
            .unwrap()
            .success()
    );
    let ended = stream.wait_with_output().unwrap();
    let printed = String::from_utf8(ended.stdout).unwrap();
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{}: {errors}", ended.status);
    assert!(printed.contains("event: drain\n"), "{printed}");
}

#[test]
#[ignore = "needs Node.js with the package eventsource, and the Go scanner client, built"]
fn eventsource_resumes_without_loss_or_repeat() {
    let gateway = Gateway::start(&["--traffic", "200"], &[]);
    let printed = output(
        Command::new("node")
            .arg(format!("{SOURCES}/eventsource.mjs"))
            .args([TOOLS, &gateway.url("/stream/requests"), "requests", "400"]),
    );
    let result: Value = serde_json::from_str(&printed).unwrap();
    let verdicts: Vec<_> = result["verdicts"].as_array().unwrap().iter().collect();
    assert_eq!(verdicts, ["fresh", "full"], "{result}");
    let seqs: Vec<u64> = result["ids"].as_array().unwrap().iter().map(seq).collect();
    assert!(
        seqs.is_sorted_by(|a, b| a < b),
        "out of order or repeated: {seqs:?}"
    );

    // The same stretch, read again in one go by another client: nothing was missing at the seam.
    let first = result["ids"][0].as_str().unwrap();
    let url = gateway.url(&format!("/stream/requests?since={first}"));
    let wanted = (seqs.len() - 1).to_string();
    let again = output(Command::new(format!("{TOOLS}/scanner")).args([&url, "requests", &wanted]));
    let expected: Vec<u64> = again
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["type"] == "requests")
        .map(|event| seq(&event["id"]))
        .collect();
    assert_eq!(seqs[1..], expected);
}

/// The second half of a position.
fn seq(id: &Value) -> u64 {
    let (_, seq) = id.as_str().unwrap().split_once('-').unwrap();
    seq.parse().unwrap()
}

#[test]
#[ignore = "needs the Go scanner client, built"]
fn go_scanner_reads_long_batches_of_logs() {
    // A thousand rows a second are far more than a line of 64 KiB.
    let gateway = Gateway::start(&["--traffic", "1000"], &[]);
    let printed = output(Command::new(format!("{TOOLS}/scanner")).args([
        &gateway.url("/stream/all"),
        "logs",
        "12",
    ]));
    let events: Vec<Value> = printed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let logs: Vec<_> = events
        .iter()
        .filter(|event| event["type"] == "logs")
        .collect();
    assert_eq!(logs.len(), 12);
    assert!(
        logs.iter()
            .any(|event| event["bytes"].as_u64() > Some(30_000)),
        "no long batch among {logs:?}"
    );
    for name in [
        "connection_established",
        "stats",
        "providers",
        "requests",
        "logs",
    ] {
        assert!(
            events.iter().any(|event| event["type"] == name),
            "no {name}"
        );
    }
}

#[test]
#[ignore = "needs curl"]
fn the_printed_curl_lines_work() {
    let gateway = Gateway::start(&[], &[]);
    // As printed, but for the port, which is one of our own, and for an end.
    for (line, expected) in [
        (
            r#"curl -N -H "Accept: text/event-stream" \
  http://localhost:8080/stream/stats"#,
            "event: stats\n",
        ),
        (
            r#"curl -N -H "Accept: text/event-stream" \
  http://localhost:8080/stream/logs"#,
            "event: logs\n",
        ),
        (
            r#"curl -N -H "Accept: text/event-stream" \
  http://localhost:8080/stream/all"#,
            "event: requests\n",
        ),
        (
            "curl http://localhost:8080/api/realtime/hub/stats",
            r#""success":true"#,
        ),
        #[cfg(feature = "ws")]
        (
            r#"curl -i -N \
  -H "Connection: Upgrade" \
  -H "Upgrade: websocket" \
  -H "Sec-WebSocket-Version: 13" \
  -H "Sec-WebSocket-Key: test" \
  http://localhost:8080/ws/logs"#,
            r#""type":"logs""#,
        ),
        (
            r#"curl -X POST http://localhost:8080/admin/ws/broadcast \
  -H "Content-Type: application/json" \
  -d '{
    "channel": "logs",
    "type": "log",
    "data": {
      "level": "info",
      "message": "Test message"
    }
  }'"#,
            r#""channel":"logs","delivered_to":"#,
        ),
    ] {
        let line = line.replace("localhost:8080", &gateway.address).replace(
            "curl ",
            &format!("exec curl --silent --max-time {PATIENCE} "),
        );
        let mut child = Command::new("bash")
            .args(["-c", &line])
            .stdout(Stdio::piped())
            .spawn()
            .map(Running)
            .unwrap();
        let mut stdout = BufReader::new(child.0.stdout.take().unwrap());
        // Frames are no text, and have no lines.
        let mut printed = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&printed);
            if text.contains(expected) {
                break;
            }
            let read = stdout.fill_buf().unwrap();
            assert!(
                !read.is_empty(),
                "{line}\nended without {expected:?}:\n{text}"
            );
            let len = read.len();
            printed.extend_from_slice(read);
            stdout.consume(len);
        }
    }
}

#[test]
#[ignore = "needs curl, and the gateway, built"]
fn the_gateway_passes_requests_on_to_an_upstream() {
    let upstream = Gateway::start(&["--traffic", "0"], &[]);
    let gateway = Gateway::start(&["--upstream", &upstream.url("/v1")], &[]);
    let chat = gateway.url("/v1/chat/completions");
    let ask = |body: &str| {
        let json = "content-type: application/json";
        output(Command::new("curl").args([
            "--silent",
            "--no-buffer",
            "-H",
            json,
            "-d",
            body,
            &chat,
        ]))
    };
    let answer = ask(r#"{"model": "gpt-4o", "user": "ana", "max_tokens": 20, "messages": []}"#);
    let usage = &serde_json::from_str::<Value>(&answer).unwrap()["usage"];
    let streamed = ask(
        r#"{"model": "gpt-4o", "user": "ana", "max_tokens": 20, "messages": [], "stream": true}"#,
    );
    assert!(streamed.ends_with("data: [DONE]\n\n"), "{streamed}");

    let rows =
        output(Command::new("curl").args(["--silent", &gateway.url("/api/realtime/requests")]));
    let rows = &serde_json::from_str::<Value>(&rows).unwrap()["data"]["requests"];
    assert_eq!(rows.as_array().map(Vec::len), Some(2), "{rows:#}");
    for row in rows.as_array().unwrap() {
        for (field, expected) in [
            ("provider_id", &Value::from(upstream.address.as_str())),
            ("model_id", &Value::from("gpt-4o")),
            ("user_id", &Value::from("ana")),
            ("endpoint", &Value::from("/v1/chat/completions")),
            ("success", &Value::from(true)),
            ("output_tokens", &usage["completion_tokens"]),
        ] {
            assert_eq!(&row[field], expected, "{field} of {row:#}");
        }
        assert!(row["estimated_cost"].as_f64() > Some(0.0), "{row:#}");
    }
}

#[test]
#[ignore = "needs the gateway, built"]
fn the_gateway_explains_wrong_flags() {
    for (flags, names) in [
        (&["--nope"][..], "--nope"),
        (&["--traffic", "many"], "--traffic"),
        (&["--addr", "somewhere"], "--addr"),
        (&["--upstream", "https://example.com"], "--upstream"),
        (&["--admin-token", "a"], "--token"),
        (&["--max-clients"], "--max-clients"),
    ] {
        let output = Command::new(gateway()).args(flags).output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {message}");
        assert!(message.contains(names), "{flags:?}: {message}");
        assert!(output.stdout.is_empty(), "{flags:?}");
    }
    let output = Command::new(gateway())
        .env("REALTIME_HEARTBEAT_INTERVAL", "often")
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("REALTIME_HEARTBEAT_INTERVAL"), "{message}");
}

#[cfg(unix)]
#[test]
#[ignore = "needs the gateway, built"]
fn the_gateway_ends_soon_after_a_signal() {
    for signal in ["INT", "TERM"] {
        let gateway = Gateway::start(&["--traffic", "100"], &[]);
        let mut stream = Command::new("curl")
            .args(["--silent", "--no-buffer", &gateway.url("/stream/all")])
            .stdout(Stdio::piped())
            .spawn()
            .map(Running)
            .unwrap();
        let mut stdout = BufReader::new(stream.0.stdout.take().unwrap());
        let mut first = String::new();
        stdout.read_line(&mut first).unwrap();
        let id = gateway.child.0.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", signal, &id])
                .status()
                .unwrap()
                .success()
        );
        let (ended_tx, ended) = std::sync::mpsc::channel();
        let mut child = gateway.child;
        std::thread::spawn(move || ended_tx.send(child.0.wait()));
        let ended = ended.recv_timeout(std::time::Duration::from_secs(20));
        let status = ended.expect("the gateway to end").unwrap();
        assert!(status.success(), "{signal}: {status}");
        let rest = std::io::read_to_string(stdout).unwrap();
        assert!(rest.contains("event: drain\n"), "{signal}: {rest}");
    }
}
