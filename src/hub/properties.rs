//! The one property that everything else rests on, under random schedules: what a reader is handed, together with
//! the gaps that it is told of, is what was published on its channels: in order, no event twice, none unaccounted
//! for.
//!
//! `TOWER_REALTIME_STEPS` sets the number of steps, `TOWER_REALTIME_SEED` repeats a run that failed.

use std::{collections::HashMap, num::NonZeroU32, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    read::{GapReason, Verdict},
    *,
};
use crate::{Access, RealtimeConfig, transport};

const STEPS: u64 = 200_000;
/// After so many steps everything begins anew, with other bounds.
const STEPS_OF_A_HOUSE: u64 = 4_000;
const MAX_READERS: usize = 12;
/// Positions further back may be behind more evictions than a log remembers one by one.
const RECENT: u64 = 2_000;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn of(&mut self, chance: u64) -> bool {
        self.below(chance) == 0
    }
}

/// `x` or `y`, and a number that no other event of the channel has.
#[derive(Debug)]
struct Numbered {
    texts: Vec<String>,
    users: Vec<&'static str>,
    tenants: Vec<&'static str>,
    priority: Priority,
}

impl Source for Numbered {
    fn len(&self) -> usize {
        self.texts.len()
    }
    fn name(&self, _: usize, _: Dialect) -> &str {
        "numbered"
    }
    fn write_json(&self, index: usize, _: Dialect, out: &mut Vec<u8>) {
        out.extend_from_slice(self.texts[index].as_bytes());
    }
    fn tags(&self, index: usize) -> Tags<'_> {
        Tags {
            kind: "numbered",
            user: Some(self.users[index]),
            tenant: Some(self.tenants[index]),
            ..Tags::default()
        }
    }
    fn key(&self, _: usize) -> &str {
        self.users[0]
    }
    fn priority(&self) -> Priority {
        self.priority
    }
    fn weight(&self) -> usize {
        self.texts.iter().map(String::len).sum()
    }
}

/// `channel seq text`, the text padded so that a read takes several turns.
fn encode(frame: &Frame<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{} {} ", frame.channel, frame.position.seq).as_bytes());
    frame.source.write_json(frame.index, Dialect::Stream, out);
    out.push(b'\n');
}

/// What was published, by the number in its text.
#[derive(Clone, Copy)]
struct Sent {
    seq: u64,
    user: &'static str,
    tenant: &'static str,
}

impl Sent {
    fn is_for(&self, spec: &ViewSpec) -> bool {
        let user = spec.filter.user.as_deref();
        let tenant = spec.tenant.as_deref();
        user.is_none_or(|user| user == self.user)
            && tenant.is_none_or(|tenant| tenant == self.tenant)
    }
}

struct Channel {
    id: ChannelId,
    name: &'static str,
    is_state: bool,
    events: Vec<Sent>,
}

struct World {
    random: Random,
    hub: Arc<Hub>,
    channels: Vec<Channel>,
    readers: Vec<Watched>,
    last_seq: u64,
    task: tokio::task::JoinHandle<()>,
    shutdown: CancellationToken,
    gaps: u64,
    aheads: u64,
    /// Compressed bytes that were decoded.
    decoded: u64,
    /// Heartbeats that came as blocks of a group.
    shared_beats: u64,
    kicks: u64,
    restarts: u64,
    /// Gaps of readers with a rate of their own, and what was skipped.
    thinned: (u64, u64),
    /// Gaps of readers that are not told how many events they missed, as that is not theirs to know.
    untold: u64,
}

/// A reader and what it should have.
struct Watched {
    subscription: Subscription,
    spec: ViewSpec,
    rated: bool,
    /// Events and gaps of other reasons, all in all.
    passed: u64,
    /// A gap for its rate has come within a second of the one before: an event has to be behind it.
    must_pass: bool,
    /// The highest position that it was told on the wire.
    told: u64,
    accounts: HashMap<usize, Account>,
    /// It has stopped reading for this many turns.
    stalled: u64,
    /// Of a reader that gets compressed blocks.
    inflater: Option<Inflater>,
}

/// What a client does with compressed blocks: one inflater over all that it is sent.
struct Inflater(Box<flate2::Decompress>);

impl Inflater {
    fn new() -> Self {
        Self(Box::new(flate2::Decompress::new(false)))
    }

    /// All of it, at once.
    fn take(&mut self, block: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(block.len() * 4 + 64);
        let begin = self.0.total_in();
        loop {
            let (done, had) = ((self.0.total_in() - begin) as usize, out.len());
            self.0
                .decompress_vec(&block[done..], &mut out, flate2::FlushDecompress::Sync)
                .expect("a block that refers to what this reader has had");
            let taken = (self.0.total_in() - begin) as usize;
            if taken == block.len() && out.len() < out.capacity() {
                return out;
            }
            assert!(taken > done || out.len() > had, "it is not whole");
            out.reserve(1024);
        }
    }

    /// A frame of the client's own, as it is.
    fn take_stored(&mut self, plain: &[u8]) {
        let len = plain.len() as u16;
        let mut block = vec![0];
        block.extend_from_slice(&len.to_le_bytes());
        block.extend_from_slice(&(!len).to_le_bytes());
        block.extend_from_slice(plain);
        assert_eq!(self.take(&block), plain);
    }
}

/// One channel of a reader: from where on, what came, what was reported as missing.
#[derive(Debug, Default)]
struct Account {
    from: u64,
    last: u64,
    delivered: u64,
    missed: u64,
    /// There was a gap that did not say how many.
    untold: bool,
    /// When the last gap for its rate came, and behind what.
    thinned: Option<(tokio::time::Instant, u64)>,
    /// By user, in a state channel.
    newest: HashMap<&'static str, u64>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let settings = HubSettings {
            replay_capacity: [5, 40, 300][random.below(3) as usize],
            replay_bytes: [4_000, 1 << 20][random.below(2) as usize],
            replay_age: Duration::from_secs([30, 3600][random.below(2) as usize]),
            inbox_capacity: 1 << 16,
            max_channels: 64,
            max_clients: 100,
            flush_interval: Duration::from_millis(20),
            heartbeat_interval: Duration::from_secs([2, 15][random.below(2) as usize]),
            stall_timeout: Duration::from_secs([4, 20][random.below(2) as usize]),
            buffer_size: [1, 8, 50][random.below(3) as usize],
            encoders: [encode; FORMS],
            compressor: transport::compressor(
                &RealtimeConfig::new(Access::public()).compression(true),
            ),
        };
        let (hub, inbox) = Hub::new(settings, Clock::new());
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(hub.clone().run(inbox, shutdown.clone()));
        let stream = ChannelConfig::stream;
        let configs = [
            ("low", stream().priority(Priority::Low)),
            ("normal", stream()),
            ("other", stream()),
            ("high", stream().priority(Priority::High)),
            ("critical", ChannelConfig::critical()),
            ("state", ChannelConfig::state()),
        ];
        let channels = configs.into_iter().map(|(name, config)| Channel {
            id: hub.channel(name, config).unwrap(),
            name,
            is_state: name == "state",
            events: Vec::new(),
        });
        let channels = channels.collect();
        Self {
            random,
            hub,
            channels,
            readers: Vec::new(),
            last_seq: 0,
            task,
            shutdown,
            gaps: 0,
            aheads: 0,
            decoded: 0,
            shared_beats: 0,
            kicks: 0,
            restarts: 0,
            thinned: (0, 0),
            untold: 0,
        }
    }

    async fn step(&mut self) {
        if self.random.of(100) {
            self.spend();
        }
        match self.random.below(100) {
            0..45 => self.publish().await,
            45..50 => self.pause().await,
            50..90 => self.read_some(),
            90..93 => self.join(),
            93..95 => self.come_back(),
            95..97 => self.retarget(),
            97 => self.stall(),
            98 => match self.random.below(3) {
                0 => self.restart(),
                1 => self.kick(),
                _ => self.close(),
            },
            _ => self.wish(),
        }
    }

    /// Others have had compressed what may be compressed for now.
    fn spend(&self) {
        let now_us = self.hub.coarse_now_us();
        if let Some(compressor) = self.hub.compressor() {
            while compressor.affords(60_000, 9, now_us) {}
        }
    }

    async fn publish(&mut self) {
        let place = self.random.below(self.channels.len() as u64) as usize;
        // Bursts now and then, so that there is a lag and not only an eviction.
        let times = if self.random.of(20) { 30 } else { 1 };
        for _ in 0..times {
            let is_state = self.channels[place].is_state;
            let count = if is_state || self.random.of(2) {
                1
            } else {
                1 + self.random.below(5)
            };
            let padding = if self.random.of(50) { 9_000 } else { 1 };
            let priority = if self.random.of(10) {
                Priority::High
            } else {
                Priority::Low
            };
            let mut source = Numbered {
                texts: Vec::new(),
                users: Vec::new(),
                tenants: Vec::new(),
                priority,
            };
            for n in 0..count {
                let user = if self.random.of(2) { "x" } else { "y" };
                let number = self.channels[place].events.len() as u64;
                source
                    .texts
                    .push(format!("{number} {}", ".".repeat(padding)));
                let tenant = if self.random.of(3) { "acme" } else { "zeta" };
                source.users.push(user);
                source.tenants.push(tenant);
                self.channels[place].events.push(Sent {
                    seq: self.last_seq + 1 + n,
                    user,
                    tenant,
                });
            }
            let id = self.channels[place].id;
            let published = self
                .hub
                .publish_and_wait(id, Arc::new(source))
                .await
                .unwrap();
            self.last_seq += count;
            assert_eq!(published.position.seq, self.last_seq);
        }
    }

    async fn pause(&mut self) {
        let millis = [1, 25, 1_000, 6_000][self.random.below(4) as usize];
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    fn spec(&mut self) -> ViewSpec {
        // Readers that share a view share what is compressed.
        if !self.readers.is_empty() && self.random.of(2) {
            let place = self.random.below(self.readers.len() as u64) as usize;
            return self.readers[place].spec.clone();
        }
        let mut channels: Vec<_> = self.channels.iter().map(|channel| channel.id).collect();
        channels.retain(|_| self.random.of(2));
        let channels = match self.random.of(6) {
            true => ChannelSet::All,
            false => ChannelSet::Some(channels.into()),
        };
        let filter = match self.random.of(4) {
            true => Filter {
                user: Some("x".into()),
                ..Filter::default()
            },
            false => Filter::default(),
        };
        let tenant = self.random.of(6).then(|| "acme".into());
        ViewSpec {
            channels,
            filter,
            tenant,
            form: Form(0),
        }
    }

    fn join(&mut self) {
        if self.readers.len() == MAX_READERS {
            return;
        }
        let spec = self.spec();
        let start = self.start();
        let rate = self
            .random
            .of(3)
            .then(|| NonZeroU32::new(1 + self.random.below(20) as u32))
            .flatten();
        let reader = self.open(spec, start, rate);
        self.readers.push(reader);
    }

    fn start(&mut self) -> Start {
        match self.random.below(7) {
            0 => Start::Latest,
            1 => Start::Earliest,
            2 => Start::Last(self.random.below(30) as u32),
            3 => Start::Ago(Duration::from_secs(self.random.below(10))),
            4 => Start::Unknown,
            _ => {
                let back = self.random.below(self.last_seq.min(RECENT) + 1);
                Start::After(self.hub.position_of(self.last_seq - back))
            }
        }
    }

    fn open(&mut self, spec: ViewSpec, start: Start, rate: Option<NonZeroU32>) -> Watched {
        let mut subscription = self.hub.subscribe(spec.clone(), start).unwrap();
        if let Some(rate) = rate {
            subscription.limit_rate(rate);
        }
        let compresses = self.random.of(2) && subscription.compress();
        let mut inflater = compresses.then(Inflater::new);
        if let Some(inflater) = &mut inflater {
            inflater.take_stored(b"connection_established\n");
        }
        let told = subscription.position().seq;
        let what_is_held = matches!(start, Start::Earliest);
        let accounts = self.accounts(&spec, told, |_| what_is_held);
        Watched {
            subscription,
            spec,
            rated: rate.is_some(),
            passed: 0,
            must_pass: false,
            told,
            accounts,
            stalled: 0,
            inflater,
        }
    }

    /// Fresh accounts. Where a reader asks for what is held, evictions before it are no loss.
    fn accounts(
        &self,
        spec: &ViewSpec,
        told: u64,
        what_is_held: impl Fn(ChannelId) -> bool,
    ) -> HashMap<usize, Account> {
        let state = lock(&self.hub.state);
        let mut accounts = HashMap::new();
        for (place, channel) in self.channels.iter().enumerate() {
            let inner = &state.channels[channel.id.0 as usize];
            if spec.wants(&inner.info) {
                let evicted = inner.log.as_stream().map_or(0, StreamLog::evicted_through);
                let from = if what_is_held(channel.id) {
                    told.max(evicted)
                } else {
                    told
                };
                accounts.insert(
                    place,
                    Account {
                        from,
                        last: told,
                        ..Account::default()
                    },
                );
            }
        }
        accounts
    }

    /// The same client on a new connection, with the last position that it was told.
    fn come_back(&mut self) {
        if self.readers.is_empty() {
            return;
        }
        let place = self.random.below(self.readers.len() as u64) as usize;
        let old = self.readers.swap_remove(place);
        if self.last_seq - old.told > RECENT {
            return;
        }
        self.check_no_silent_loss(&old);
        let start = Start::After(self.hub.position_of(old.told));
        let spec = old.spec.clone();
        drop(old);
        let reader = self.open(spec, start, None);
        assert_ne!(reader.subscription.resume().verdict, Verdict::Lost);
        self.readers.push(reader);
    }

    fn retarget(&mut self) {
        let mut spec = self.spec();
        if self.readers.is_empty() {
            return;
        }
        let place = self.random.below(self.readers.len() as u64) as usize;
        let mut reader = self.readers.swap_remove(place);
        // A connection has one tenant.
        spec.tenant = reader.spec.tenant.clone();
        // A reader that has left can't be changed.
        if reader.subscription.reader.closing().is_none() {
            self.check_no_silent_loss(&reader);
            reader.must_pass = false;
            reader.subscription.retarget(spec.clone());
            let position = reader.subscription.position().seq;
            assert!(
                position >= reader.told,
                "a change of channels went back from {} to {position}",
                reader.told
            );
            let fresh = self.accounts(&spec, position, |_| true);
            let same_filter = spec.filter == reader.spec.filter;
            let mut old = std::mem::take(&mut reader.accounts);
            for (channel, account) in fresh {
                let kept = old.remove(&channel).filter(|_| same_filter);
                let mut account = kept.unwrap_or(account);
                account.thinned = None;
                reader.accounts.insert(channel, account);
            }
            reader.spec = spec;
            if !same_filter {
                // What was skipped or came ahead under the other filter is not told twice: begin again.
                let what_is_held = self.accounts(&reader.spec, position, |_| true);
                reader.accounts = what_is_held;
                for account in reader.accounts.values_mut() {
                    account.delivered = u64::MAX / 2;
                }
            }
        }
        self.readers.push(reader);
    }

    /// The same through the reader's handle, as an admin does it: seen to when it reads next.
    fn wish(&mut self) {
        let spec = self.spec();
        if self.readers.is_empty() {
            return;
        }
        let place = self.random.below(self.readers.len() as u64) as usize;
        let reader = self.readers[place].subscription.reader();
        // Two wishes in a row: the newest counts, and here that is to go on as it is.
        reader.wish(spec);
        reader.wish(self.readers[place].spec.clone());
    }

    /// Begins somewhere else on the same connection, as a WebSocket's `resume` does.
    fn restart(&mut self) {
        let (mut spec, start) = (self.spec(), self.start());
        if self.readers.is_empty() {
            return;
        }
        let place = self.random.below(self.readers.len() as u64) as usize;
        let mut reader = self.readers.swap_remove(place);
        spec.tenant = reader.spec.tenant.clone();
        if reader.subscription.reader.closing().is_none() {
            self.restarts += 1;
            self.check_no_silent_loss(&reader);
            reader.must_pass = false;
            reader.subscription.restart(spec.clone(), start);
            let told = reader.subscription.position().seq;
            let what_is_held = matches!(start, Start::Earliest);
            reader.accounts = self.accounts(&spec, told, |_| what_is_held);
            reader.spec = spec;
            reader.told = told;
        }
        self.readers.push(reader);
    }

    /// Ended by an admin, or by the same session on another connection: what it had not read it gets when it comes back.
    fn kick(&mut self) {
        if self.readers.is_empty() {
            return;
        }
        self.kicks += 1;
        let place = self.random.below(self.readers.len() as u64) as usize;
        let mut old = self.readers.swap_remove(place);
        let active = self.hub.active();
        let was_closing = old.subscription.reader.closing().is_some();
        self.hub
            .dismiss(old.subscription.reader(), CloseReason::Replaced);
        if !was_closing {
            assert_eq!(self.hub.active(), active - 1, "its place is free at once");
            let end = old.subscription.try_read();
            assert!(matches!(end, Some(Read::Closed(CloseReason::Replaced))));
        }
        if self.last_seq - old.told > RECENT {
            return;
        }
        self.check_no_silent_loss(&old);
        let start = Start::After(self.hub.position_of(old.told));
        let reader = self.open(old.spec.clone(), start, None);
        drop(old);
        self.readers.push(reader);
    }

    fn stall(&mut self) {
        if !self.readers.is_empty() {
            let place = self.random.below(self.readers.len() as u64) as usize;
            self.readers[place].stalled = self.random.below(400);
        }
    }

    fn close(&mut self) {
        if !self.readers.is_empty() && self.random.of(2) {
            let place = self.random.below(self.readers.len() as u64) as usize;
            let reader = self.readers.swap_remove(place);
            self.check_no_silent_loss(&reader);
        }
    }

    fn read_some(&mut self) {
        if self.readers.is_empty() {
            return;
        }
        let place = self.random.below(self.readers.len() as u64) as usize;
        let mut reader = self.readers.swap_remove(place);
        if reader.stalled > 0 {
            reader.stalled -= 1;
            self.readers.push(reader);
            return;
        }
        let all = self.random.of(2);
        let mut turns = if all {
            u64::MAX
        } else {
            1 + self.random.below(3)
        };
        // As `poll_read` does: a reader that is polled makes progress.
        reader.subscription.reader.polled(self.hub.coarse_now_us());
        while turns > 0 {
            turns -= 1;
            match reader.subscription.try_read() {
                None => {
                    assert!(!reader.must_pass, "a gap too many");
                    self.check_everything(&mut reader);
                    break;
                }
                Some(Read::Events(bytes)) => self.take(&mut reader, &bytes),
                Some(Read::Gap(gap)) => self.take_gap(&mut reader, &gap),
                Some(Read::Heartbeat(position)) => self.beat(&mut reader, position.seq),
                Some(Read::Closed(reason)) => {
                    assert_eq!(reason, CloseReason::Stalled);
                    let start = Start::After(self.hub.position_of(reader.told));
                    let recent = self.last_seq - reader.told <= RECENT;
                    let spec = reader.spec.clone();
                    self.check_no_silent_loss(&reader);
                    drop(reader);
                    if recent {
                        let back = self.open(spec, start, None);
                        self.readers.push(back);
                    }
                    return;
                }
            }
        }
        self.readers.push(reader);
    }

    /// The plain bytes: exactly those that the block says it stands for.
    fn decode(&mut self, reader: &mut Watched, bytes: &[u8]) -> Vec<u8> {
        let Some(inflater) = &mut reader.inflater else {
            return bytes.to_vec();
        };
        let plain = inflater.take(bytes);
        let check = reader.subscription.check();
        let mut crc = flate2::Crc::new();
        crc.update(&plain);
        assert_eq!((check.sum, check.len), (crc.sum(), crc.amount()));
        self.decoded += bytes.len() as u64;
        plain
    }

    fn beat(&mut self, reader: &mut Watched, position: u64) {
        assert!(position >= reader.told);
        reader.told = position;
        let Some(inflater) = &mut reader.inflater else {
            return;
        };
        let frame = format!("beat {position}\n");
        match reader.subscription.compress_beat(frame.as_bytes()) {
            Some(block) => assert_eq!(inflater.take(&block.bytes), frame.as_bytes()),
            None => inflater.take_stored(frame.as_bytes()),
        }
    }

    fn take(&mut self, reader: &mut Watched, bytes: &[u8]) {
        let plain = self.decode(reader, bytes);
        for line in std::str::from_utf8(&plain).unwrap().lines() {
            if let Some(position) = line.strip_prefix("beat ") {
                let position = position.parse().unwrap();
                assert!(position >= reader.told, "{line}: from {}", reader.told);
                reader.told = position;
                self.shared_beats += 1;
                continue;
            }
            let mut words = line.split(' ');
            let mut word = || words.next().unwrap();
            let (name, wire): (&str, u64) = (word(), word().parse().unwrap());
            let number: usize = word().parse().unwrap();
            let place = self
                .channels
                .iter()
                .position(|channel| channel.name == name)
                .unwrap();
            let channel = &self.channels[place];
            let sent = channel.events[number];
            let Sent { seq, user, .. } = sent;
            assert!(
                wire >= reader.told,
                "{line:.60}: the position went back from {}",
                reader.told
            );
            assert!(
                wire <= seq || channel.is_state,
                "{line:.60}: ahead of event {seq}"
            );
            reader.told = wire;
            reader.passed += 1;
            reader.must_pass = false;
            assert!(sent.is_for(&reader.spec), "{line:.60}: not asked for");
            let Some(account) = reader.accounts.get_mut(&place) else {
                panic!("{line:.60}: a channel that was not asked for");
            };
            if channel.is_state {
                account.newest.insert(user, seq);
                continue;
            }
            assert!(
                seq > account.last,
                "{line:.60}: event {seq} after {}",
                account.last
            );
            account.last = seq;
            // The view may still have what the log let go.
            account.delivered += u64::from(seq > account.from);
            self.aheads += u64::from(wire < seq);
        }
    }

    fn take_gap(&mut self, reader: &mut Watched, gap: &Gap) {
        self.gaps += 1;
        if let Some(inflater) = &mut reader.inflater {
            inflater.take_stored(b"gap\n");
        }
        let place = self
            .channels
            .iter()
            .position(|channel| channel.name == gap.channel)
            .unwrap();
        let account = reader
            .accounts
            .get_mut(&place)
            .expect("a gap of a channel that was asked for");
        match gap.reason {
            GapReason::Rate => {
                let now = tokio::time::Instant::now();
                if let Some((before, passed)) = account.thinned.replace((now, reader.passed)) {
                    let waited = now - before >= Duration::from_secs(1);
                    reader.must_pass |= !waited && reader.passed == passed;
                }
                assert!(reader.rated);
                self.thinned.0 += 1;
                self.thinned.1 += gap.missed.unwrap();
            }
            _ => reader.passed += 1,
        }
        match gap.missed {
            Some(missed) => {
                assert!(missed > 0);
                account.missed += missed;
            }
            None if reader.spec.tenant.is_some() => {
                account.untold = true;
                self.untold += 1;
            }
            // It asked for the last so many through a filter, be it another one than it has now.
            None if reader.subscription.resume().verdict == Verdict::Partial => {
                account.untold = true;
            }
            None => assert_eq!(reader.subscription.resume().verdict, Verdict::Lost),
        }
        assert!(gap.resumed_at.seq <= self.last_seq);
        let position = reader.subscription.position().seq;
        assert!(position >= reader.told);
        reader.told = position;
    }

    /// A reader that has read everything: the books balance.
    fn check_everything(&self, reader: &mut Watched) {
        // Its position stays before what is still to be told, and the account is for more than that.
        if reader.subscription.is_owed_gaps() {
            self.check_no_silent_loss(reader);
            return;
        }
        let to = reader.subscription.position().seq;
        // What it stands at: further than what it was told on the wire, where nothing in between was for it.
        assert!(to >= reader.told);
        for (place, account) in &mut reader.accounts {
            let channel = &self.channels[*place];
            if channel.is_state {
                continue;
            }
            let Account { from, last, .. } = *account;
            let wanted = self.wanted(&reader.spec, *place, from, to);
            if account.delivered < u64::MAX / 2 {
                let accounted = account.delivered + account.missed;
                // An evicted event may have been one that the filter would have left out.
                let exact = reader.spec.filter.is_empty() && reader.spec.tenant.is_none();
                let enough = match account.untold {
                    true => account.delivered <= wanted,
                    false => accounted == wanted || (!exact && accounted > wanted),
                };
                assert!(
                    enough,
                    "{}: {wanted} events in ({from}, {to}], {accounted} accounted for: {account:?}",
                    channel.name
                );
            }
            let newest = last.max(to);
            *account = Account {
                from: to,
                last: newest,
                thinned: account.thinned,
                ..Account::default()
            };
        }
        if reader.spec.filter.is_empty()
            && reader.spec.tenant.is_none()
            && let Some((place, account)) = reader
                .accounts
                .iter_mut()
                .find(|(place, _)| self.channels[**place].is_state)
        {
            for user in ["x", "y"] {
                let events = &self.channels[*place].events;
                let newest = events
                    .iter()
                    .rev()
                    .find(|sent| sent.user == user)
                    .map(|sent| sent.seq);
                // One that is not visible yet has already taken the place of the one before.
                if let Some(newest) = newest.filter(|seq| *seq > account.from && *seq <= to) {
                    assert_eq!(
                        account.newest.get(user),
                        Some(&newest),
                        "the newest state of {user}"
                    );
                }
            }
            account.from = to;
        }
    }

    fn wanted(&self, spec: &ViewSpec, place: usize, from: u64, to: u64) -> u64 {
        let events = &self.channels[place].events;
        let start = events.partition_point(|sent| sent.seq <= from);
        let range = events[start..].iter().take_while(|sent| sent.seq <= to);
        range.filter(|sent| sent.is_for(spec)).count() as u64
    }

    /// A reader that stops somewhere: what it was told to have passed, it has had or was told to miss; and so it is
    /// where others see it to be, who give it a token to go on from there.
    fn check_no_silent_loss(&self, reader: &Watched) {
        let Watched { subscription, .. } = reader;
        let seen = subscription
            .reader
            .told
            .load(crate::sync::Ordering::Relaxed);
        assert_eq!(seen, subscription.position().seq);
        let to = reader.told.max(seen);
        for (place, account) in &reader.accounts {
            if self.channels[*place].is_state {
                continue;
            }
            let wanted = self.wanted(&reader.spec, *place, account.from, to);
            assert!(
                account.untold || account.delivered + account.missed >= wanted,
                "{}: {wanted} events in ({}, {}], {account:?}",
                self.channels[*place].name,
                account.from,
                to
            );
        }
    }

    /// Everybody reads to the end.
    async fn end(&mut self) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        for reader in &mut self.readers {
            reader.stalled = 0;
        }
        for _ in 0..500 {
            self.read_some();
        }
        if self.random.of(2) {
            self.drain().await;
        }
        self.readers.clear();
        assert_eq!(self.hub.active(), 0);
        assert!(self.hub.lags().is_empty());
        let state_is_empty = {
            let state = lock(&self.hub.state);
            state.views.is_empty()
                && state
                    .channels
                    .iter()
                    .all(|channel| !channel.info.has_readers())
        };
        assert!(state_is_empty, "somebody is still counted");
        self.shutdown.cancel();
        (&mut self.task).await.unwrap();
    }
}

impl World {
    /// The host shuts down: who keeps up gets what was accepted before, then the end; and nobody else comes.
    async fn drain(&mut self) {
        let window = Duration::from_millis(self.random.below(2_000));
        for _ in 0..10 {
            self.publish().await;
        }
        self.hub.drain(window);
        tokio::time::sleep(window + Duration::from_millis(100)).await;
        let spec = self.spec();
        let refused = self.hub.subscribe(spec, Start::Latest);
        assert_eq!(refused.unwrap_err(), Refused::Closed);
        for mut reader in std::mem::take(&mut self.readers) {
            let mut turns = 0;
            let reason = loop {
                match reader.subscription.try_read() {
                    Some(Read::Events(bytes)) => self.take(&mut reader, &bytes),
                    Some(Read::Gap(gap)) => self.take_gap(&mut reader, &gap),
                    Some(Read::Heartbeat(_)) => {}
                    Some(Read::Closed(reason)) => break reason,
                    None => panic!("a reader that was not told of the end"),
                }
                turns += 1;
            };
            assert!(matches!(
                reason,
                CloseReason::Shutdown | CloseReason::Stalled
            ));
            assert!(
                turns <= usize::from(subscription::CHUNKS_AFTER_CLOSE),
                "{turns}"
            );
            self.check_no_silent_loss(&reader);
        }
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test(start_paused = true)]
async fn what_is_delivered_and_what_is_reported_missing_is_what_was_published() {
    let steps = variable("TOWER_REALTIME_STEPS").unwrap_or(STEPS);
    let mut seed = variable("TOWER_REALTIME_SEED").unwrap_or(1);
    let (mut gaps, mut aheads, mut delivered) = (0, 0, 0);
    let (mut decoded, mut shared_beats, mut grouped, mut stored) = (0, 0, 0, 0);
    let mut others = [0; 3];
    let mut thinned = (0, 0);
    let mut done = 0;
    while done < steps {
        /// Says with which seed to look again.
        struct Told(u64);
        impl Drop for Told {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    // The test's own output: there is nobody else to tell.
                    let _ = std::io::Write::write_fmt(
                        &mut std::io::stderr(),
                        format_args!(
                            "repeat with TOWER_REALTIME_SEED={} TOWER_REALTIME_STEPS=1\n",
                            self.0
                        ),
                    );
                }
            }
        }
        let _told = Told(seed);
        let mut world = World::new(seed);
        for _ in 0..STEPS_OF_A_HOUSE {
            world.step().await;
        }
        world.end().await;
        done += STEPS_OF_A_HOUSE;
        seed += 1;
        gaps += world.gaps;
        aheads += world.aheads;
        decoded += world.decoded;
        shared_beats += world.shared_beats;
        if let Some(compression) = world.hub.stats().compression {
            assert_eq!(
                compression.made.chains, 0,
                "a compressor is held for nobody"
            );
            grouped += compression.made.grouped - compression.made.keyframes;
            stored += compression.made.stored;
        }
        others[0] += world.kicks;
        others[1] += world.restarts;
        others[2] += world.untold;
        thinned.0 += world.thinned.0;
        thinned.1 += world.thinned.1;
        delivered += world
            .hub
            .stats()
            .channels
            .iter()
            .map(|channel| channel.delivered)
            .sum::<u64>();
    }
    // A run in which nothing happened shows nothing.
    assert!(
        delivered > 0 && gaps > 0,
        "{delivered} events, {gaps} gaps, {aheads} ahead"
    );
    if steps >= STEPS {
        assert!(
            gaps > 1000 && aheads > 1000,
            "{delivered} events, {gaps} gaps, {aheads} ahead"
        );
        if cfg!(feature = "compression") {
            assert!(
                decoded > 1 << 20 && shared_beats > 0 && grouped > 1000 && stored > 100,
                "{decoded} bytes decoded, {shared_beats} heartbeats shared, {grouped} blocks that refer back, {stored} stored"
            );
        }
        assert!(
            others.iter().all(|times| *times > 100),
            "kicks, restarts, gaps of tenants: {others:?}"
        );
        assert!(
            thinned.0 > 100 && thinned.1 > 2 * thinned.0,
            "gaps for a rate, events in them: {thinned:?}"
        );
    }
}
