//! Load on loopback: a server in a process of its own, clients in others, and what it cost.
//!
//! ```sh
//! cargo bench --bench load -- fanout         # CPU and delay of a delivery, beside axum with shared bytes
//! cargo bench --bench load -- fanout --server-cpus 0,1 --client-cpus 0,1 --rates 10      # the delay on two cores
//! cargo bench --bench load -- fanout --transports sse,ws,http2 --features…               # the ways beside each other
//! cargo bench --bench load -- many           # 19,000 clients at an event a second, against 1,000
//! cargo bench --bench load -- stalled        # 1,000 that do not read beside 1,000 that do
//! cargo bench --bench load -- storm          # 5,000 dropped at once, back within three seconds
//! cargo bench --bench load -- drain          # 10,000 streams closed over ten seconds
//! cargo bench --bench load -- idle           # memory of a client that is only there
//! cargo bench --bench load -- instructions   # user instructions of a delivery (needs valgrind)
//! cargo bench --bench load -- requests       # requests a second against the bare application (needs wrk)
//! ```
//!
//! Options, with their defaults: `--clients`, `--rates 10,1000` (events a second), `--bytes 200,2100` (of an event's
//! data), `--seconds 5`, `--rounds 3`, `--transports sse`, `--server-cpus 0`, `--client-cpus 1`, and `--json` for lines
//! of JSON in the place of tables. What is not asked for (`-- fanout --bytes 200`) is not run.
//!
//! Two servers that are compared are up at once and take turns, so a machine that gets slower does so for both; figures
//! are the median of the rounds. A window ends when every client has everything. CPU time is what the scheduler gave
//! the server's threads, user and kernel, the loopback's work included: the kernel receives on behalf of whoever sends.
//! A delay is from before the publication to the client's read.
//!
//! A process may open 20,000 files on many machines, so clients live in as many processes as that takes. Linux only.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod child;
mod clients;
mod http2;
mod options;
mod server;
mod system;
mod table;
mod tally;
mod wire;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use child::Process;
use options::Options;
use table::Table;
use tally::Tally;

/// How many clients one process has at most.
const CLIENTS_A_PROCESS: usize = 9_500;
/// How long a window may go on after its last event.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() {
    let arguments = std::env::args().skip(1);
    let mut arguments: Vec<String> = arguments.filter(|argument| argument != "--bench").collect();
    if arguments.first().is_some_and(|first| first == "--on") {
        let processors = options::numbers(&arguments[1]).unwrap();
        system::pin(&processors);
        let rest = arguments.split_off(3);
        match &*arguments[2] {
            "serve" => server::run(&rest, processors.len()),
            "clients" => clients::run(&rest),
            "clients-http2" => http2::run(&rest),
            other => panic!("a process for {other:?}"),
        }
        return;
    }
    let asks = |argument: &String| argument == "--help" || argument == "-h";
    // Without a mode: `cargo bench` alone runs every bench of the package.
    if arguments.is_empty() || arguments.iter().any(asks) {
        print!("{}", options::USAGE);
        return;
    }
    let (mode, rest) = arguments.split_first().expect("there are some");
    let Some(run) = run_of(mode) else {
        eprint!("{mode:?} is not a mode\n\n{}", options::USAGE);
        // `cargo bench -- NAME` gives the name of another bench's table to this one, too.
        let elsewhere = rest.is_empty() && !mode.starts_with('-');
        std::process::exit(if elsewhere { 0 } else { 2 });
    };
    match Options::parse(rest) {
        Ok(options) => run(&options),
        Err(error) => {
            eprint!("{error}\n\n{}", options::USAGE);
            std::process::exit(2);
        }
    }
}

fn run_of(mode: &str) -> Option<fn(&Options)> {
    Some(match mode {
        "fanout" => fanout,
        "many" => many,
        "stalled" => stalled,
        "storm" => storm,
        "drain" => drain,
        "idle" => idle,
        "instructions" => instructions,
        "requests" => requests,
        _ => return None,
    })
}

/// A server, and clients that read it.
struct Run {
    server: Process,
    address: String,
    clients: Vec<Process>,
    readers: usize,
}

/// What one window gave.
struct Window {
    seen: Tally,
    published: u64,
    refused: u64,
    expected: u64,
    cpu: Duration,
    seconds: f64,
    peak_bytes: u64,
}

impl Run {
    fn start(options: &Options, what: &str, by: &str, under: &[String]) -> Self {
        let arguments = ["serve", what, by];
        let mut server = Process::start(&options.server_cpus, under, &arguments);
        let address = server.reply()["address"].as_str().unwrap().to_owned();
        Self {
            server,
            address,
            clients: Vec::new(),
            readers: 0,
        }
    }

    /// Connects clients, in as many processes as it takes.
    fn connect(&mut self, options: &Options, transport: &str, count: usize) {
        let mut left = count;
        while left > 0 {
            let here = left.min(CLIENTS_A_PROCESS);
            self.connect_some(options, transport, here, false);
            left -= here;
        }
        self.readers += count;
    }

    fn connect_stalled(&mut self, options: &Options, count: usize) {
        self.connect_some(options, "sse", count, true);
    }

    fn connect_some(&mut self, options: &Options, transport: &str, count: usize, stalled: bool) {
        let stalled = if stalled { count } else { 0 };
        let (count, stalled) = (count.to_string(), stalled.to_string());
        let path = if transport == "ws" {
            "/ws/bench"
        } else {
            "/stream/bench"
        };
        let arguments = match transport {
            "http2" => ["clients-http2", &self.address, "50", &count, &stalled, path],
            _ => ["clients", &self.address, transport, &count, &stalled, path],
        };
        let mut clients = Process::start(&options.client_cpus, &[], &arguments);
        let reply = clients.ask(&json!({"do": "connect"}));
        assert_eq!(
            reply["failed"], 0,
            "{transport}: {reply} (is the feature on?)"
        );
        self.clients.push(clients);
    }

    fn seen(&mut self) -> Tally {
        let mut seen = Tally::new();
        for clients in &mut self.clients {
            seen.add(&clients.ask(&json!({"do": "report"})));
        }
        seen
    }

    /// The last number that all readers have.
    fn reached(&mut self) -> u64 {
        let last = self
            .clients
            .iter_mut()
            .filter_map(|clients| clients.ask(&json!({"do": "report"}))["last_of_all"].as_u64());
        last.min().unwrap_or_default()
    }

    fn cpu(&self) -> Duration {
        system::cpu_time(self.server.id())
    }

    /// Publishes for a while, and waits until every reader has everything.
    fn window(&mut self, rate: f64, seconds: f64, bytes: usize) -> Window {
        for clients in &mut self.clients {
            clients.ask(&json!({"do": "reset"}));
        }
        let cpu = self.cpu();
        let began = Instant::now();
        let (published, refused) = self.publish(rate, seconds, bytes);
        let expected = (published - refused) * self.readers as u64;
        let mut peak_bytes = system::resident_bytes(self.server.id());
        let mut seen = self.seen();
        let patience = Instant::now() + PATIENCE;
        while seen.events < expected && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(20));
            seen = self.seen();
            peak_bytes = peak_bytes.max(system::resident_bytes(self.server.id()));
        }
        Window {
            seen,
            published,
            refused,
            expected,
            cpu: self.cpu() - cpu,
            seconds: began.elapsed().as_secs_f64(),
            peak_bytes,
        }
    }

    fn publish(&mut self, rate: f64, seconds: f64, bytes: usize) -> (u64, u64) {
        let command = json!({"do": "publish", "rate": rate, "seconds": seconds, "bytes": bytes});
        let reply = self.server.ask(&command);
        let refused = reply["refused"].as_u64().unwrap();
        ((rate * seconds).round() as u64, refused)
    }

    fn end(self) {
        for clients in self.clients {
            clients.end();
        }
        self.server.end();
    }
}

impl Window {
    fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.seen.events as f64
    }

    fn assert_complete(&self) {
        if self.seen.events != self.expected || self.seen.repeated > 0 || self.seen.lost > 0 {
            eprintln!(
                "not everything came: {} of {} deliveries, {} lost, {} repeated, {} gaps, {} refused of {} published",
                self.seen.events,
                self.expected,
                self.seen.lost,
                self.seen.repeated,
                self.seen.gaps,
                self.refused,
                self.published
            );
        }
    }
}

/// CPU and delay of a delivery, at each rate and size, beside axum with shared bytes.
fn fanout(options: &Options) {
    let count = options.clients.unwrap_or(1000);
    let mut subjects = vec![("axum, shared bytes", "shared-bytes", "axum", "sse")];
    for transport in &options.transports {
        subjects.push(match &**transport {
            "sse" => ("realtime, SSE", "realtime", "axum", "sse"),
            "ws" => ("realtime, WebSocket", "realtime", "axum", "ws"),
            "http2" => ("realtime, SSE on HTTP/2", "realtime", "hyper", "http2"),
            _ => panic!("transports are sse, ws and http2"),
        });
    }
    let started = subjects.iter().map(|(_, what, by, transport)| {
        let mut run = Run::start(options, what, by, &[]);
        run.connect(options, transport, count);
        run
    });
    let mut runs: Vec<Run> = started.collect();
    let mut table = Table::new(options.json);
    for bytes in &options.bytes {
        for rate in &options.rates {
            deliveries(options, &subjects, &mut runs, *bytes, *rate, &mut table);
        }
    }
    table.print();
    runs.into_iter().for_each(Run::end);
}

type Subject = (&'static str, &'static str, &'static str, &'static str);

/// One window of each subject a round, and a row for each.
fn deliveries(
    options: &Options,
    subjects: &[Subject],
    runs: &mut [Run],
    bytes: usize,
    rate: f64,
    table: &mut Table,
) {
    let mut windows: Vec<Vec<Window>> = subjects.iter().map(|_| Vec::new()).collect();
    for run in runs.iter_mut() {
        run.window(rate, 0.5, bytes);
    }
    for _ in 0..options.rounds {
        for (run, windows) in runs.iter_mut().zip(&mut windows) {
            let window = run.window(rate, options.seconds, bytes);
            window.assert_complete();
            windows.push(window);
        }
    }
    let peer = median(windows[0].iter().map(Window::cpu_us));
    for ((name, ..), (windows, run)) in subjects.iter().zip(windows.iter().zip(runs)) {
        let of = |value: fn(&Window) -> f64| median(windows.iter().map(value));
        let cpu = of(Window::cpu_us);
        table.row([
            ("clients", json!(run.readers)),
            ("bytes", json!(bytes)),
            ("events/s", json!(rate)),
            ("server", json!(name)),
            (
                "deliveries/s",
                json!(of(|w| w.seen.events as f64 / w.seconds).round()),
            ),
            ("CPU µs each", table::rounded(cpu, 2)),
            ("ratio", table::rounded(cpu / peer, 2)),
            (
                "CPU %",
                table::rounded(of(|w| 100.0 * w.cpu.as_secs_f64() / w.seconds), 0),
            ),
            (
                "events/read",
                table::rounded(of(|w| w.seen.events as f64 / w.seen.reads as f64), 1),
            ),
            (
                "p50 ms",
                table::rounded(of(|w| w.seen.latency.quantile_ms(0.5)), 1),
            ),
            (
                "p99 ms",
                table::rounded(of(|w| w.seen.latency.quantile_ms(0.99)), 1),
            ),
            (
                "lost",
                json!(
                    windows
                        .iter()
                        .map(|w| w.expected - w.seen.events)
                        .sum::<u64>()
                ),
            ),
        ]);
    }
}

/// As many clients as one server may have, against a thousand.
fn many(options: &Options) {
    let subjects: [Subject; 2] = [
        ("axum, shared bytes", "shared-bytes", "axum", "sse"),
        ("realtime, SSE", "realtime", "axum", "sse"),
    ];
    let mut table = Table::new(options.json);
    for count in [1000, options.clients.unwrap_or(19_000)] {
        let started = subjects.iter().map(|(_, what, by, transport)| {
            let mut run = Run::start(options, what, by, &[]);
            run.connect(options, transport, count);
            run
        });
        let mut runs: Vec<Run> = started.collect();
        deliveries(options, &subjects, &mut runs, 200, 1.0, &mut table);
        runs.into_iter().for_each(Run::end);
    }
    table.print();
}

/// Those who read, with and without as many beside them that do not.
fn stalled(options: &Options) {
    let count = options.clients.unwrap_or(1000);
    let (rate, bytes) = (100.0, 2100);
    let mut table = Table::new(options.json);
    let mut delays = [Vec::new(), Vec::new()];
    for round in 0..options.rounds {
        let mut runs = [0, 1].map(|_| Run::start(options, "realtime", "axum", &[]));
        for run in &mut runs {
            run.connect(options, "sse", count);
        }
        runs[1].connect_stalled(options, count);
        for (run, (name, delays)) in runs.iter_mut().zip(
            ["readers alone", "beside stalled ones"]
                .into_iter()
                .zip(&mut delays),
        ) {
            let idle = system::resident_bytes(run.server.id());
            // What the sockets of those who do not read take is half a megabyte at most; then they are full.
            run.window(rate, 4.0, bytes);
            let window = run.window(rate, options.seconds, bytes);
            window.assert_complete();
            let p99 = window.seen.latency.quantile_ms(0.99);
            delays.push(p99);
            table.row([
                ("round", json!(round + 1)),
                ("clients", json!(name)),
                ("events", json!(window.published)),
                ("deliveries", json!(window.seen.events)),
                ("missing", json!(window.expected - window.seen.events)),
                (
                    "p50 ms",
                    table::rounded(window.seen.latency.quantile_ms(0.5), 1),
                ),
                ("p99 ms", table::rounded(p99, 1)),
                (
                    "CPU %",
                    table::rounded(100.0 * window.cpu.as_secs_f64() / window.seconds, 0),
                ),
                ("memory before MB", table::rounded(idle as f64 / 1e6, 1)),
                (
                    "after MB",
                    table::rounded(window.peak_bytes as f64 / 1e6, 1),
                ),
            ]);
        }
        runs.into_iter().for_each(Run::end);
    }
    table.print();
    let [alone, beside] = delays.map(|delays| median(delays.into_iter()));
    println!(
        "p99 of those who read: {:.2} of what it is alone",
        beside / alone
    );
}

/// Everybody dropped at once, and back within a while, with events all along.
fn storm(options: &Options) {
    let count = options.clients.unwrap_or(5000);
    let mut run = Run::start(options, "realtime", "axum", &[]);
    run.connect(options, "sse", count);
    // Everybody has seen an event, and so has a position to come back with.
    run.window(10.0, 0.2, 200);
    let cpu = run.cpu();
    let (rate, seconds) = (10.0, 8.0);
    run.server
        .tell(&json!({"do": "publish", "rate": rate, "seconds": seconds, "bytes": 200}));
    std::thread::sleep(Duration::from_secs(2));
    for clients in &mut run.clients {
        clients.tell(&json!({"do": "storm", "within_ms": 3000}));
    }
    let mut slowest = 0.0;
    for clients in &mut run.clients {
        let back = clients.reply();
        assert_eq!(back["failed"], 0, "{back}");
        slowest = back["seconds"].as_f64().unwrap().max(slowest);
    }
    let last = run.server.reply()["last"].as_u64().unwrap();
    let patience = Instant::now() + PATIENCE;
    while run.reached() < last && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(50));
    }
    let reached = run.reached();
    let seen = run.seen();
    let mut table = Table::new(options.json);
    table.row([
        ("clients", json!(count)),
        ("back in s", table::rounded(slowest, 2)),
        ("events", json!(last)),
        ("everybody has", json!(reached)),
        ("lost", json!(seen.lost)),
        ("repeated", json!(seen.repeated)),
        ("gaps", json!(seen.gaps)),
        ("CPU s", table::rounded((run.cpu() - cpu).as_secs_f64(), 2)),
    ]);
    table.print();
    run.end();
}

/// How evenly a drain lets its clients go.
fn drain(options: &Options) {
    let count = options.clients.unwrap_or(10_000);
    let seconds = 10;
    let mut run = Run::start(options, "realtime", "axum", &[]);
    run.connect(options, "sse", count);
    let drained = run.server.ask(&json!({"do": "drain", "seconds": seconds}));
    let began = drained["began"].as_u64().unwrap();
    let ended = drained["ended"].as_u64().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let seen = run.seen();
    let share = count as f64 / (seconds * 10) as f64;
    let mut slots = vec![0_u32; seconds * 10 + 20];
    for ending in &seen.endings {
        let slot = ending.saturating_sub(began) / 100_000_000;
        let last = slots.len() - 1;
        slots[(slot as usize).min(last)] += 1;
    }
    let most = slots.iter().copied().max().unwrap_or_default();
    let mut table = Table::new(options.json);
    table.row([
        ("streams", json!(count)),
        ("told", json!(seen.endings.len())),
        ("closed", json!(seen.closed)),
        ("over s", table::rounded((ended - began) as f64 / 1e9, 2)),
        ("share of 100 ms", table::rounded(share, 0)),
        ("most in 100 ms", json!(most)),
        ("of its share", table::rounded(f64::from(most) / share, 2)),
        (
            "slots without",
            json!(
                slots[..seconds * 10]
                    .iter()
                    .filter(|slot| **slot == 0)
                    .count()
            ),
        ),
    ]);
    table.print();
    run.end();
}

/// Memory of a client that is there and hears nothing.
fn idle(options: &Options) {
    let count = options.clients.unwrap_or(4000);
    let ways = [
        ("axum::serve", "axum", "sse"),
        ("http1::Builder", "hyper", "sse"),
        ("HTTP/2, 50 streams", "hyper", "http2"),
        ("WebSocket, axum::serve", "axum", "ws"),
    ];
    let mut table = Table::new(options.json);
    for (name, by, transport) in ways {
        let websocket = transport == "ws";
        if websocket && !cfg!(feature = "ws") {
            continue;
        }
        let each = |what: &str| {
            let mut run = Run::start(options, what, by, &[]);
            // What the first ones set up once does not count.
            run.connect(options, transport, 200);
            std::thread::sleep(Duration::from_millis(500));
            let before = system::resident_bytes(run.server.id());
            run.connect(options, transport, count);
            std::thread::sleep(Duration::from_secs(2));
            let after = system::resident_bytes(run.server.id());
            run.end();
            after.saturating_sub(before) as f64 / count as f64
        };
        let floor = (!websocket).then(|| each("silent"));
        let ours = each("realtime");
        let or_null = |bytes: Option<f64>| bytes.map_or(Value::Null, |b| table::rounded(b, 0));
        table.row([
            ("server", json!(name)),
            ("bytes a silent stream", or_null(floor)),
            ("bytes a stream of ours", table::rounded(ours, 0)),
            ("added", or_null(floor.map(|floor| ours - floor))),
        ]);
    }
    table.print();
}

/// User instructions of a delivery: the difference between many and few events, to a hundred clients.
fn instructions(options: &Options) {
    let count = options.clients.unwrap_or(100);
    let file = std::env::temp_dir().join(format!("load-callgrind-{}", std::process::id()));
    let under = [
        "valgrind".to_owned(),
        "--quiet".to_owned(),
        "--tool=callgrind".to_owned(),
        format!("--callgrind-out-file={}", file.display()),
    ];
    let spent = |what: &str, bytes: usize, seconds: f64| {
        let mut run = Run::start(options, what, "axum", &under);
        run.connect(options, "sse", count);
        let window = run.window(10.0, seconds, bytes);
        window.assert_complete();
        run.end();
        let counts = std::fs::read_to_string(&file).unwrap();
        let _ = std::fs::remove_file(&file);
        let total = counts
            .lines()
            .find_map(|line| line.strip_prefix("totals: "));
        (
            total.unwrap().trim().parse::<f64>().unwrap(),
            window.seen.events as f64,
        )
    };
    let mut table = Table::new(options.json);
    for bytes in &options.bytes {
        for what in ["shared-bytes", "realtime"] {
            let (few, few_events) = spent(what, *bytes, 4.0);
            let (many, many_events) = spent(what, *bytes, 12.0);
            table.row([
                ("server", json!(what)),
                ("bytes", json!(bytes)),
                ("clients", json!(count)),
                (
                    "instructions a delivery",
                    table::rounded((many - few) / (many_events - few_events), 0),
                ),
            ]);
        }
    }
    table.print();
}

/// Requests a second of an application with the layer, against the same without; with and without viewers.
fn requests(options: &Options) {
    let mut table = Table::new(options.json);
    let page = "/stream?channels=stats,requests,providers,alerts&window=5m";
    for (viewers, path) in [(0, ""), (2, "/stream/stats"), (2, page)] {
        let mut runs = ["bare", "recorded"].map(|what| Run::start(options, what, "axum", &[]));
        if viewers > 0 {
            let viewers = viewers.to_string();
            let arguments = ["clients", &runs[1].address, "sse", &viewers, "0", path];
            let mut clients = Process::start(&options.client_cpus, &[], &arguments);
            assert_eq!(clients.ask(&json!({"do": "connect"}))["failed"], 0);
            runs[1].clients.push(clients);
        }
        let mut ratios = Vec::new();
        let mut costs = [Vec::new(), Vec::new()];
        for round in 0..options.rounds * 3 {
            let mut rates = [0.0; 2];
            for place in 0..2 {
                let which = (place + round) % 2;
                let before = runs[which].cpu();
                let (rate, count) = wrk(&options.client_cpus, &runs[which].address);
                rates[which] = rate;
                costs[which].push((runs[which].cpu() - before).as_secs_f64() * 1e6 / count);
            }
            ratios.push(rates[1] / rates[0]);
        }
        let [bare, ours] = costs.map(|costs| median(costs.into_iter()));
        table.row([
            ("viewers", json!(viewers)),
            ("of", json!(path)),
            (
                "of the bare application",
                table::rounded(median(ratios.into_iter()), 3),
            ),
            ("CPU µs a request, bare", table::rounded(bare, 2)),
            ("with the layer", table::rounded(ours, 2)),
        ]);
        runs.into_iter().for_each(Run::end);
    }
    table.print();
}

/// One second of wrk: requests a second, and how many there were.
fn wrk(processors: &str, address: &str) -> (f64, f64) {
    let output = std::process::Command::new("taskset")
        .args(["-c", processors, "wrk", "-t1", "-c32", "-d1s"])
        .arg(format!("http://{address}/items/42"))
        .output()
        .expect("this needs taskset and wrk");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!printed.contains("Non-2xx"), "{printed}");
    let word = |line: &str, place: usize| -> Option<f64> {
        line.split_whitespace().nth(place)?.parse().ok()
    };
    let rate = printed
        .lines()
        .find_map(|line| word(line.strip_prefix("Requests/sec:")?, 0));
    let count = printed
        .lines()
        .find(|line| line.contains(" requests in "))
        .and_then(|line| word(line, 0));
    (
        rate.expect("wrk printed a rate"),
        count.expect("wrk printed a count"),
    )
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
