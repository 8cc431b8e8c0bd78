//! The one property that everything else rests on, under random schedules: what a reader is handed, together with
//! the gaps that it is told of, is what was published on its channels: in order, no event twice, none unaccounted
//! for.
//!
//! `TOWER_REALTIME_STEPS` sets the number of steps, `TOWER_REALTIME_SEED` repeats a run that failed.

mod beginnings;
mod books;
mod events;
mod moves;
mod sleepers;

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use self::{
    beginnings::Began,
    books::{Account, Inflater, Watched},
    events::{Channel, Numbered, Random, Sent, encode},
};
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

struct World {
    random: Random,
    hub: Arc<Hub>,
    channels: Vec<Channel>,
    readers: Vec<Watched>,
    last_seq: u64,
    /// When each event was published.
    times_us: Vec<u64>,
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
            times_us: Vec::new(),
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

    /// The host shuts down: who keeps up gets what was accepted before, then the end; and nobody else comes.
    async fn drain(&mut self) {
        let window = Duration::from_millis(self.random.below(2_000));
        for _ in 0..10 {
            self.publish().await;
        }
        self.hub.drain(window);
        tokio::time::sleep(window / 2).await;
        if window > Duration::from_millis(100) {
            self.publish().await;
        }
        tokio::time::sleep(window / 2 + Duration::from_millis(100)).await;
        self.check_nobody_sleeps();
        let spec = self.spec();
        let refused = self.hub.subscribe(spec, Start::Latest);
        assert_eq!(refused.unwrap_err(), Refused::Closed);
        for mut reader in std::mem::take(&mut self.readers) {
            let mut turns = 0;
            let reason = loop {
                match reader.subscription.try_read() {
                    Some(Read::Events(bytes)) => {
                        let aheads = self.aheads;
                        self.take(&mut reader, &bytes);
                        turns += usize::from(self.aheads == aheads);
                    }
                    Some(Read::Gap(gap)) => self.take_gap(&mut reader, &gap),
                    Some(Read::Heartbeat(_)) => {}
                    Some(Read::Closed(reason)) => break reason,
                    None => panic!("a reader that was not told of the end"),
                }
            };
            if reason == CloseReason::Shutdown {
                self.check_critical(&reader);
            }
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
