//! What must not grow: the cost of an event against the length of history, the number of channels and the number of
//! clients, over three decades each.
//!
//! ```sh
//! cargo bench --bench scaling                  # all tables
//! cargo bench --bench scaling -- channels      # some, by their names: history, channels, elsewhere, clients
//! ```
//!
//! A table each, in nanoseconds of CPU time of the whole process, by batches; the quickest batch counts, and every
//! batch ends when a reader on another channel has seen the marker that was published last, so that all of it has been
//! appended, shown and read.
//!
//! - *publish*: `rt.publish` and the hub's task together, with nobody reading the channel.
//! - *call*: `rt.publish` alone, on the caller's thread, which never waits for readers.
//! - *read*: handing an event to one reader and taking it there.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod names;

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use tokio::runtime::Runtime;
use tower_realtime::{
    Access, ChannelConfig, Event, Events, Filter, RealtimeConfig, RealtimeHandle, RealtimeLayer,
    Received, Start,
};

const DECADES: [usize; 4] = [10, 100, 1_000, 10_000];
/// Events in a batch: fewer than the inbox takes, so that none is refused.
const BATCH: usize = 2_000;
const BATCHES: usize = 15;

fn main() {
    let usage =
        "usage: cargo bench --bench scaling -- [history] [channels] [elsewhere] [clients]\n";
    // One thread, so that batches of readers do not depend on who steals whose work.
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio.block_on(async {});
    for table in names::chosen(&["history", "channels", "elsewhere", "clients"], usage) {
        match table {
            "history" => history(&tokio),
            "channels" => channels(&tokio),
            "elsewhere" => elsewhere(&tokio),
            _ => clients(&tokio),
        }
    }
}

fn columns(name: &str) {
    print!("\n{name:<44}");
    for decade in DECADES {
        print!("{decade:>9}");
    }
    println!();
}

fn history(tokio: &Runtime) {
    columns("events held by the channel");
    let hub = |held| Hub::new(held, 0, 0, held);
    row(tokio, "publish", hub, Hub::publish);
    row(tokio, "resume at the end of them, each", hub, Hub::resume);
}

fn channels(tokio: &Runtime) {
    columns("other channels");
    let hub = |channels| Hub::new(100, channels, 0, 0);
    row(tokio, "publish", hub, Hub::publish);
    row(tokio, "read, one channel of them", hub, Hub::read_one);
    row(tokio, "read, all of them (`all`)", hub, Hub::read_all);
}

fn elsewhere(tokio: &Runtime) {
    columns("clients of another channel");
    let hub = |clients| Hub::new(100, 1, clients, 0);
    row(tokio, "publish", hub, Hub::publish);
}

fn clients(tokio: &Runtime) {
    columns("clients of this channel");
    row(tokio, "call", Hub::with_readers, Hub::call);
    let each = "read, a client and event";
    row(tokio, each, Hub::with_readers, Hub::read_by_all);
}

/// One line: the cost at each decade.
fn row(
    tokio: &Runtime,
    name: &str,
    make: impl Fn(usize) -> Hub,
    mut measure: impl FnMut(&mut Hub, &Runtime) -> f64,
) {
    print!("{name:<44}");
    for decade in DECADES {
        let _guard = tokio.enter();
        let mut hub = make(decade);
        hub.fill(tokio);
        let best = (0..BATCHES).map(|_| measure(&mut hub, tokio));
        let best = best.fold(f64::INFINITY, f64::min);
        print!("{best:>9.0}");
    }
    println!("   ns");
}

struct Hub {
    rt: RealtimeHandle,
    /// Reads a channel of its own, on which the last event of a batch comes.
    marker: Events,
    /// Readers of the channel `bench`.
    readers: Vec<Events>,
    /// Readers of another one, which nothing comes on.
    _others: Vec<Events>,
    /// How many events the channel holds before it is measured.
    held: usize,
    _layer: RealtimeLayer,
}

#[derive(Serialize)]
struct Data {
    n: usize,
    text: &'static str,
}

const TEXT: &str = "about as long as the record of a request, which is what most events are: a route, a status, a \
    latency, a provider, a model, a user, tokens and a cost";

impl Hub {
    fn new(retain: usize, channels: usize, others: usize, held: usize) -> Self {
        let config = RealtimeConfig::new(Access::public())
            .max_channels(channels + 32)
            .max_clients(100_000)
            .inbox_capacity(BATCH * 8)
            .replay_bytes(1 << 30)
            // Readers are shown everything at once: what is measured is the work, not the wait for company.
            .flush_interval(Duration::ZERO);
        let layer = RealtimeLayer::new(config);
        let rt = layer.handle();
        rt.channel("bench", ChannelConfig::stream().retain(retain))
            .unwrap();
        rt.channel("marker", ChannelConfig::stream()).unwrap();
        for channel in 0..channels {
            rt.channel(&format!("other-{channel}"), ChannelConfig::stream())
                .unwrap();
        }
        let others = (0..others).map(|_| rt.subscribe(["other-0"], Filter::default()).unwrap());
        Self {
            marker: rt.subscribe(["marker"], Filter::default()).unwrap(),
            readers: Vec::new(),
            _others: others.collect(),
            held,
            rt,
            _layer: layer,
        }
    }

    fn with_readers(clients: usize) -> Self {
        let mut hub = Self::new(4096, 0, 0, 0);
        let readers = (0..clients).map(|_| hub.rt.subscribe(["bench"], Filter::default()).unwrap());
        hub.readers = readers.collect();
        hub
    }

    fn send(&self, channel: &'static str, n: usize) {
        let event = Event::new(channel, "Bench", &Data { n, text: TEXT });
        self.rt.publish(event).unwrap();
    }

    /// Waits until everything that was published has been appended.
    async fn settle(&mut self) {
        self.send("marker", 0);
        self.marker.next().await.unwrap();
    }

    fn fill(&mut self, tokio: &Runtime) {
        tokio.block_on(async {
            let mut left = self.held;
            while left > 0 {
                let batch = left.min(BATCH);
                (0..batch).for_each(|n| self.send("bench", n));
                self.settle().await;
                left -= batch;
            }
            self.settle().await;
        });
    }

    fn publish(&mut self, tokio: &Runtime) -> f64 {
        tokio.block_on(async {
            let before = cpu();
            (0..BATCH).for_each(|n| self.send("bench", n));
            self.settle().await;
            each(before, BATCH)
        })
    }

    fn call(&mut self, tokio: &Runtime) -> f64 {
        let count = 100;
        tokio.block_on(async {
            let before = cpu();
            (0..count).for_each(|n| self.send("bench", n));
            let each = each(before, count);
            self.settle().await;
            for reader in &mut self.readers {
                take(reader, count).await;
            }
            each
        })
    }

    /// Joins where the last event is, and leaves.
    fn resume(&mut self, tokio: &Runtime) -> f64 {
        tokio.block_on(async {
            let position = self.marker.position();
            let before = cpu();
            for _ in 0..100 {
                let start = Start::After(position);
                self.rt
                    .subscribe_from(["bench"], Filter::default(), start)
                    .unwrap();
            }
            each(before, 100)
        })
    }

    fn read_one(&mut self, tokio: &Runtime) -> f64 {
        self.read(tokio, "bench")
    }

    fn read_all(&mut self, tokio: &Runtime) -> f64 {
        self.read(tokio, "all")
    }

    /// Live, one event at a time.
    fn read(&mut self, tokio: &Runtime, channel: &str) -> f64 {
        let mut reader = self.rt.subscribe([channel], Filter::default()).unwrap();
        let count = 100;
        tokio.block_on(async {
            let before = cpu();
            for n in 0..count {
                self.send("bench", n);
                take(&mut reader, 1).await;
            }
            each(before, count)
        })
    }

    fn read_by_all(&mut self, tokio: &Runtime) -> f64 {
        let count = 20;
        tokio.block_on(async {
            let before = cpu();
            for n in 0..count {
                self.send("bench", n);
                self.settle().await;
                for reader in &mut self.readers {
                    take(reader, 1).await;
                }
            }
            each(before, count * self.readers.len())
        })
    }
}

/// So many events of the channel; snapshots of the built-in ones do not count.
async fn take(reader: &mut Events, mut count: usize) {
    while count > 0 {
        match reader.next().await.expect("nobody ends the hub") {
            Received::Event { kind, .. } if kind == "Bench" => count -= 1,
            Received::Gap { missed, .. } => panic!("{missed:?} events were missed"),
            _ => {}
        }
    }
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn each(before: Duration, count: usize) -> f64 {
    (cpu() - before).as_nanos() as f64 / count as f64
}
