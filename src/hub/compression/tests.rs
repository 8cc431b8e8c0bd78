//! Blocks as clients get them: a toy compressor says what each refers to, and the client panics where it could not decode.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    super::{
        Filter, HubSettings, Read, Start, Subscription, ViewSpec,
        tests::{House, line, next, settings, spec},
    },
    groups::GROUP_BLOCKS,
    *,
};

/// Blocks that say what they refer to: `alone|…`, or the number of bytes that the group had before, `0|…` being a
/// keyframe.
struct Toy {
    counts: Arc<Counts>,
    /// How many chains there are for each reader of a view.
    chains: u64,
    /// How many bytes may be compressed for one reader, at a time.
    budget: Option<usize>,
}

impl Default for Toy {
    fn default() -> Self {
        Self {
            counts: Arc::default(),
            chains: u64::MAX / 1000,
            budget: None,
        }
    }
}

#[derive(Default)]
struct Counts {
    grouped: AtomicU64,
    keyframes: AtomicU64,
    alone: AtomicU64,
    stored: AtomicU64,
    chains: AtomicU64,
}

struct ToyChain {
    counts: Arc<Counts>,
    had: usize,
    is_new: bool,
}

fn block(refers_to: &str, plain: &[u8]) -> Block {
    let mut bytes = format!("{refers_to}|").into_bytes();
    bytes.extend_from_slice(plain);
    let check = Check {
        len: plain.len() as u32,
        ..Check::default()
    };
    Block {
        bytes: bytes.into(),
        check,
    }
}

impl Compressor for Toy {
    fn sum(&self, _: &[u8]) -> u32 {
        0
    }
    fn affords(&self, bytes: usize, readers: usize, _: u64) -> bool {
        let Some(budget) = self.budget else {
            return true;
        };
        bytes / readers <= budget
    }
    fn alone(&self, plain: &[u8]) -> Block {
        self.counts.alone.fetch_add(1, Ordering::Relaxed);
        block("alone", plain)
    }
    fn stored(&self, plain: &[u8]) -> Block {
        self.counts.stored.fetch_add(1, Ordering::Relaxed);
        block("stored", plain)
    }
    fn chain(&self, readers: usize) -> Option<Box<dyn Chain>> {
        let chains = self.counts.chains.fetch_add(1, Ordering::Relaxed);
        let chain = ToyChain {
            counts: self.counts.clone(),
            had: 0,
            is_new: true,
        };
        (chains < self.chains * readers as u64).then(|| Box::new(chain) as _)
    }
    fn made(&self) -> Made {
        Made {
            keyframes: self.counts.keyframes.load(Ordering::Relaxed),
            grouped: self.counts.grouped.load(Ordering::Relaxed),
            alone: self.counts.alone.load(Ordering::Relaxed),
            stored: self.counts.stored.load(Ordering::Relaxed),
            chains: self.counts.chains.load(Ordering::Relaxed) as usize,
            ..Made::default()
        }
    }
}

impl Chain for ToyChain {
    fn next(&mut self, plain: &[u8]) -> Option<Block> {
        if std::mem::take(&mut self.is_new) {
            self.counts.keyframes.fetch_add(1, Ordering::Relaxed);
        }
        self.counts.grouped.fetch_add(1, Ordering::Relaxed);
        let block = block(&self.had.to_string(), plain);
        self.had += plain.len();
        Some(block)
    }
}

impl Drop for ToyChain {
    fn drop(&mut self) {
        self.counts.chains.fetch_sub(1, Ordering::Relaxed);
    }
}

fn house() -> House {
    house_with(Toy::default())
}

fn house_with(toy: Toy) -> House {
    House::new(HubSettings {
        compressor: Some(Arc::new(toy)),
        ..settings()
    })
}

fn made(house: &House) -> Made {
    house.hub.compressor().unwrap().made()
}

/// A client that decodes, and so panics at a block that it could not decode.
struct Client {
    subscription: Subscription,
    /// How many bytes of a group it has had, with nothing else in between.
    had: Option<usize>,
    /// How each block came: `key`, `group`, or `alone`; frames of its own as `own …`.
    kinds: Vec<&'static str>,
}

impl Client {
    fn new(house: &House, spec: ViewSpec) -> Self {
        let mut subscription = house.hub.subscribe(spec, Start::Latest).unwrap();
        assert!(subscription.compress());
        Self {
            subscription,
            had: None,
            kinds: Vec::new(),
        }
    }

    async fn next(&mut self) -> String {
        let read = next(&mut self.subscription).await;
        self.decode(read)
    }

    fn decode(&mut self, read: Read) -> String {
        match read {
            Read::Events(bytes) => self.decode_block(&bytes),
            Read::Heartbeat(position) => {
                let frame = format!("beat {}\n", position.seq);
                match self.subscription.compress_beat(frame.as_bytes()) {
                    Some(block) => self.decode_block(&block.bytes),
                    None => {
                        self.had = None;
                        self.kinds.push("own beat");
                        frame
                    }
                }
            }
            other => {
                self.had = None;
                self.kinds.push("own");
                format!("{other:?}")
            }
        }
    }

    fn decode_block(&mut self, bytes: &[u8]) -> String {
        let text = std::str::from_utf8(bytes).unwrap();
        let (refers_to, plain) = text.split_once('|').unwrap();
        if let Some(kind) = ["alone", "stored"]
            .into_iter()
            .find(|kind| *kind == refers_to)
        {
            self.kinds.push(kind);
            self.had = None;
            return plain.to_owned();
        }
        let refers_to: usize = refers_to.parse().unwrap();
        if refers_to == 0 {
            self.kinds.push("key");
        } else {
            assert_eq!(self.had, Some(refers_to), "it can't decode {text:?}");
            self.kinds.push("group");
        }
        self.had = Some(refers_to + plain.len());
        plain.to_owned()
    }
}

#[tokio::test(start_paused = true)]
async fn readers_that_keep_up_share_one_group() {
    let house = house();
    let a = house.stream("a");
    let mut clients: Vec<_> = (0..3).map(|_| Client::new(&house, spec(&[a]))).collect();
    for n in 0..10 {
        house.publish(a, line(n.to_string())).await;
        for client in &mut clients {
            assert_eq!(client.next().await, format!("a {} {n}\n", n + 1));
        }
    }
    for client in &clients {
        assert_eq!(client.kinds[0], "key");
        assert_eq!(client.kinds[1..], ["group"; 9]);
    }
    let made = made(&house);
    assert_eq!((made.keyframes, made.grouped, made.alone), (1, 10, 0));
    let stats = house.hub.stats().compression.unwrap();
    assert_eq!(stats.sent_plain_bytes, 3 * (9 * 6 + 7));
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_gets_blocks_that_stand_alone_until_the_next_group() {
    let house = house();
    let a = house.stream("a");
    let mut first = Client::new(&house, spec(&[a]));
    house.publish(a, line("0")).await;
    first.next().await;
    let mut late = [0; 2].map(|_| Client::new(&house, spec(&[a])));
    for _ in 1..GROUP_BLOCKS + 2 {
        house.publish(a, line("n")).await;
        first.next().await;
        for late in &mut late {
            late.next().await;
        }
    }
    let last = GROUP_BLOCKS as usize;
    assert_eq!(first.kinds[1..last], vec!["group"; last - 1]);
    assert_eq!(first.kinds[last..], ["key", "group"]);
    for late in &late {
        assert_eq!(late.kinds[..last - 1], vec!["alone"; last - 1]);
        assert_eq!(late.kinds[last - 1..], ["key", "group"]);
    }
    // Those that stand alone are made once, too.
    assert_eq!(made(&house).alone, u64::from(GROUP_BLOCKS) - 1);
}

#[tokio::test(start_paused = true)]
async fn a_group_of_few_events_ends_in_time() {
    let house = house();
    let a = house.stream("a");
    let mut client = Client::new(&house, spec(&[a]));
    for _ in 0..32 {
        house.publish(a, line("n")).await;
        while client.next().await.starts_with("beat") {}
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let keys: Vec<_> = (0..client.kinds.len())
        .filter(|n| client.kinds[*n] == "key")
        .collect();
    assert_eq!(keys.len(), 3, "{:?}", client.kinds);
    assert!(!client.kinds.contains(&"alone"), "{:?}", client.kinds);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_is_made_once_and_breaks_no_group() {
    let house = house();
    let a = house.stream("a");
    let mut early = Client::new(&house, spec(&[a]));
    tokio::time::sleep(Duration::from_secs(7)).await;
    let mut late = Client::new(&house, spec(&[a]));
    let mut beats = [0, 0];
    let mut last_beat = [tokio::time::Instant::now(); 2];
    for n in 0..60 {
        house.publish(a, line(n.to_string())).await;
        for (place, client) in [&mut early, &mut late].into_iter().enumerate() {
            loop {
                let text = client.next().await;
                if !text.starts_with("beat") {
                    assert!(text.ends_with(&format!(" {n}\n")), "{text}");
                    break;
                }
                assert_eq!(text, format!("beat {n}\n"), "the client's own place");
                let apart = last_beat[place].elapsed();
                assert!(apart <= Duration::from_secs(18), "{apart:?}");
                last_beat[place] = tokio::time::Instant::now();
                beats[place] += 1;
            }
        }
        // They wait for what comes, and get what is due.
        let deadline = tokio::time::Instant::now() + Duration::from_secs(2);
        for (place, client) in [&mut early, &mut late].into_iter().enumerate() {
            let waits = std::future::poll_fn(|cx| client.subscription.poll_read(cx));
            if let Ok(read) = tokio::time::timeout_at(deadline, waits).await {
                assert_eq!(client.decode(read.unwrap()), format!("beat {}\n", n + 1));
                let apart = last_beat[place].elapsed();
                assert!(apart <= Duration::from_secs(18), "{apart:?}");
                last_beat[place] = tokio::time::Instant::now();
                beats[place] += 1;
            }
        }
        tokio::time::sleep_until(deadline).await;
    }
    for client in [&early, &late] {
        assert!(!client.kinds.contains(&"alone"), "{:?}", client.kinds);
    }
    assert!(beats[0] >= 7 && beats[1] >= 7, "{beats:?}");
    let made = made(&house);
    assert_eq!(made.alone, 0);
    // Both had about eight; only one of them made each.
    assert!(made.grouped <= 60 + 10, "{made:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_heartbeat_that_another_made_long_ago() {
    let house = house();
    let a = house.stream("a");
    let mut first = Client::new(&house, spec(&[a]));
    tokio::time::sleep(Duration::from_secs(8)).await;
    let mut second = Client::new(&house, spec(&[a]));
    house.publish(a, line("0")).await;
    first.next().await;
    second.next().await;
    assert_eq!(first.next().await, "beat 1\n");
    assert_eq!(second.next().await, "beat 1\n");
    assert_eq!(first.kinds, ["key", "group"]);
    assert_eq!(second.kinds, ["key", "own beat"]);
    house.publish(a, line("1")).await;
    assert_eq!(first.next().await, "a 2 1\n");
    assert_eq!(second.next().await, "a 2 1\n");
    assert_eq!(first.kinds[2..], ["group"]);
    assert_eq!(second.kinds[2..], ["alone"]);
}

#[tokio::test(start_paused = true)]
async fn a_position_that_a_shared_heartbeat_told_is_never_taken_back() {
    let house = house();
    let (a, b) = (house.stream("a"), house.stream("b"));
    let mut first = Client::new(&house, spec(&[a]));
    let mut second = Client::new(&house, spec(&[a]));
    house.publish(a, line("0")).await;
    first.next().await;
    second.next().await;
    house.publish(b, line("elsewhere")).await;
    assert_eq!(first.next().await, "beat 2\n");
    house.publish(a, line("1")).await;
    assert_eq!(second.next().await, "beat 2\n");
    assert_eq!(second.subscription.position().seq, 2);
    assert_eq!(second.next().await, "a 3 1\n");
    assert_eq!(second.kinds, ["key", "group", "group"]);
}

#[tokio::test(start_paused = true)]
async fn readers_with_a_filter_share_blocks_that_stand_alone() {
    let house = house();
    let a = house.stream("a");
    let filtered = || ViewSpec {
        filter: Filter {
            user: Some("x".into()),
            ..Filter::default()
        },
        ..spec(&[a])
    };
    let mut clients = [0; 2].map(|_| Client::new(&house, filtered()));
    for _ in 0..5 {
        house.publish(a, line("x")).await;
        house.publish(a, line("y")).await;
        for client in &mut clients {
            client.next().await;
        }
    }
    assert_eq!(clients[1].kinds, ["alone"; 5]);
    let made = made(&house);
    assert_eq!((made.alone, made.grouped, made.chains), (5, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_reader_with_a_rate_of_its_own_shares_nothing() {
    let house = house();
    let a = house.stream("a");
    let mut client = Client::new(&house, spec(&[a]));
    client.subscription.limit_rate(NonZeroU32::MIN);
    for _ in 0..3 {
        house.publish(a, line("n")).await;
    }
    assert!(client.next().await.contains("Rate"));
    assert_eq!(client.next().await, "a 1 n\n");
    assert_eq!(client.kinds, ["own", "alone"]);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_channels_begins_anew() {
    let house = house();
    let (a, b) = (house.stream("a"), house.stream("b"));
    let mut stays = Client::new(&house, spec(&[a, b]));
    let mut moves = Client::new(&house, spec(&[a]));
    for _ in 0..3 {
        house.publish(a, line("n")).await;
        stays.next().await;
        moves.next().await;
    }
    moves.subscription.retarget(spec(&[a, b]));
    house.publish(b, line("n")).await;
    stays.next().await;
    moves.next().await;
    assert_eq!(stays.kinds, ["key", "group", "group", "group"]);
    assert_eq!(moves.kinds, ["key", "group", "group", "alone"]);
    assert_eq!(made(&house).chains, 1, "the view that it left has none");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_compressed_when_nobody_reads_it_so() {
    let house = house();
    let a = house.stream("a");
    let mut plain = house.subscribe(&[a], Start::Latest);
    house.publish(a, line("0")).await;
    assert!(matches!(next(&mut plain).await, Read::Events(bytes) if bytes == "a 1 0\n"));
    assert_eq!(made(&house).chains, 0);
    let mut client = Client::new(&house, spec(&[a]));
    house.publish(a, line("1")).await;
    client.next().await;
    assert!(matches!(next(&mut plain).await, Read::Events(bytes) if bytes == "a 2 1\n"));
    assert_eq!(made(&house).chains, 1);
    drop(client);
    let before = made(&house);
    assert_eq!(before.chains, 0, "the last one has left");
    house.publish(a, line("2")).await;
    next(&mut plain).await;
    assert_eq!(made(&house).grouped + made(&house).alone, before.grouped);
    let mut again = Client::new(&house, spec(&[a]));
    house.publish(a, line("3")).await;
    again.next().await;
    assert_eq!(again.kinds, ["key"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_skipped_by_all_begins_a_new_group() {
    let house = house();
    let a = house.stream("a");
    let mut client = Client::new(&house, spec(&[a]));
    house.publish(a, line("0")).await;
    client.next().await;
    // Far more than a view keeps: the client reads the log, alone.
    let long = "x".repeat(20_000);
    for _ in 0..40 {
        house.publish(a, line(long.clone())).await;
    }
    let mut texts = String::new();
    while texts.matches('\n').count() < 40 {
        texts.push_str(&client.next().await);
    }
    house.publish(a, line("last")).await;
    assert_eq!(client.next().await, "a 42 last\n");
    client.kinds.dedup();
    assert_eq!(client.kinds, ["key", "alone", "key", "group"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_much_for_one_reader_goes_out_as_it_is() {
    let house = house_with(Toy {
        budget: Some(10),
        ..Toy::default()
    });
    let a = house.stream("a");
    let mut client = Client::new(&house, spec(&[a]));
    for text in ["0", "1", "far too long for one", "3", "4"] {
        house.publish(a, line(text)).await;
        assert!(client.next().await.ends_with(&format!(" {text}\n")));
    }
    assert_eq!(client.kinds, ["key", "group", "stored", "key", "group"]);
    // With nobody there who shares it: all from the log, at once.
    drop(client);
    house.publish(a, line("5")).await;
    house.publish(a, line("6")).await;
    let mut replay = Client {
        subscription: house.subscribe(&[a], Start::Earliest),
        had: None,
        kinds: Vec::new(),
    };
    assert!(replay.subscription.compress());
    let all = replay.next().await;
    assert!(all.starts_with("a 1 0\na 2 1\na 3 far"), "{all}");
    assert!(all.ends_with("a 7 6\n"), "{all}");
    assert_eq!(replay.kinds, ["stored"]);
    let made = made(&house);
    assert_eq!((made.alone, made.stored), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn many_readers_have_compressed_what_one_has_not() {
    let house = house_with(Toy {
        budget: Some(10),
        ..Toy::default()
    });
    let a = house.stream("a");
    let filtered = || ViewSpec {
        filter: Filter {
            user: Some("xxxxxxxxxx".into()),
            ..Filter::default()
        },
        ..spec(&[a])
    };
    let long = || line("x".repeat(30));
    let mut alone = Client::new(&house, spec(&[a]));
    house.publish(a, long()).await;
    alone.next().await;
    let mut others = [0; 3].map(|_| Client::new(&house, spec(&[a])));
    for _ in 0..2 {
        house.publish(a, long()).await;
        for client in others.iter_mut().chain([&mut alone]) {
            client.next().await;
        }
    }
    assert_eq!(alone.kinds, ["stored", "key", "group"]);
    drop(others);
    house.publish(a, long()).await;
    alone.next().await;
    assert_eq!(alone.kinds[3..], ["stored"]);

    let long = || line("x".repeat(10));
    let mut few = Client::new(&house, filtered());
    house.publish(a, long()).await;
    few.next().await;
    let mut two = Client::new(&house, filtered());
    house.publish(a, long()).await;
    few.next().await;
    two.next().await;
    assert_eq!(few.kinds, ["stored", "alone"]);
    assert_eq!(two.kinds, ["alone"]);
}

#[tokio::test(start_paused = true)]
async fn a_group_is_for_those_who_are_many_when_it_begins() {
    let house = house_with(Toy {
        chains: 1,
        ..Toy::default()
    });
    let (a, b) = (house.stream("a"), house.stream("b"));
    let mut first = Client::new(&house, spec(&[a]));
    let mut leaves = Client::new(&house, spec(&[a]));
    let mut other = Client::new(&house, spec(&[b]));
    house.publish(b, line("n")).await;
    other.next().await;
    house.publish(a, line("n")).await;
    first.next().await;
    leaves.next().await;
    assert_eq!(
        (&first.kinds[..], &leaves.kinds[..]),
        (&["key"][..], &["key"][..])
    );
    assert_eq!(made(&house).chains, 2);
    drop(leaves);
    // The group that is under way goes on; another one it does not get as long as there are enough.
    for _ in 0..GROUP_BLOCKS {
        house.publish(a, line("n")).await;
        first.next().await;
    }
    let last = GROUP_BLOCKS as usize;
    assert_eq!(first.kinds[1..last], vec!["group"; last - 1]);
    assert_eq!(first.kinds[last..], ["alone"]);
    assert_eq!(made(&house).chains, 1, "given back");
    drop(other);
    house.publish(a, line("n")).await;
    first.next().await;
    assert_eq!(first.kinds[last + 1..], ["key"]);
}

#[tokio::test(start_paused = true)]
async fn shared_heartbeats_are_counted() {
    let house = house();
    let a = house.stream("a");
    let mut clients = [0; 2].map(|_| Client::new(&house, spec(&[a])));
    house.publish(a, line("0")).await;
    let mut bytes = 0;
    for client in &mut clients {
        bytes += "0|".len() + client.next().await.len();
    }
    tokio::time::sleep(Duration::from_secs(16)).await;
    for client in &mut clients {
        bytes += "6|".len() + client.next().await.len();
    }
    for client in &clients {
        assert_eq!(client.kinds, ["key", "group"]);
        let sent = client.subscription.reader().bytes.load(Ordering::Relaxed);
        assert_eq!(sent, bytes as u64 / 2);
    }
    let stats = house.hub.stats();
    assert_eq!(stats.sent_bytes, bytes as u64);
    let compression = stats.compression.unwrap();
    assert_eq!(compression.sent_compressed_bytes, bytes as u64);
    assert_eq!(compression.sent_plain_bytes, bytes as u64 - 4 * 2);
}
