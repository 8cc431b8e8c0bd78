//! The books: what each reader has had and was told to have missed, held against what was published.

use std::collections::BTreeMap;

use super::{
    super::*,
    sleepers::{Asleep, Wakes},
    *,
};

/// A reader and what it should have.
pub(super) struct Watched {
    pub(super) subscription: Subscription,
    pub(super) spec: ViewSpec,
    pub(super) rated: bool,
    /// Events and gaps of other reasons, all in all.
    pub(super) passed: u64,
    /// A gap for its rate has come within a second of the one before: an event has to be behind it.
    pub(super) must_pass: bool,
    /// The highest position that it was told on the wire.
    pub(super) told: u64,
    pub(super) accounts: BTreeMap<usize, Account>,
    /// It has stopped reading for this many turns.
    pub(super) stalled: u64,
    /// Of a reader that gets compressed blocks.
    pub(super) inflater: Option<Inflater>,
    pub(super) wakes: Arc<Wakes>,
    pub(super) asleep: Option<Asleep>,
}

/// What a client does with compressed blocks: one inflater over all that it is sent.
pub(super) struct Inflater(Box<flate2::Decompress>);

impl Inflater {
    pub(super) fn new() -> Self {
        Self(Box::new(flate2::Decompress::new(false)))
    }

    /// All of it, at once.
    pub(super) fn take(&mut self, block: &[u8]) -> Vec<u8> {
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
    pub(super) fn take_stored(&mut self, plain: &[u8]) {
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
pub(super) struct Account {
    pub(super) from: u64,
    pub(super) last: u64,
    pub(super) delivered: u64,
    pub(super) missed: u64,
    /// There was a gap that did not say how many.
    pub(super) untold: bool,
    /// When the last gap for its rate came, and behind what.
    pub(super) thinned: Option<(tokio::time::Instant, u64)>,
    /// By user, in a state channel.
    pub(super) newest: BTreeMap<&'static str, u64>,
}

impl World {
    pub(super) fn read_some(&mut self) {
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
        let waits = self.random.of(2);
        while turns > 0 {
            turns -= 1;
            match self.next_of(&mut reader, waits) {
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
    pub(super) fn decode(&mut self, reader: &mut Watched, bytes: &[u8]) -> Vec<u8> {
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

    pub(super) fn beat(&mut self, reader: &mut Watched, position: u64) {
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

    pub(super) fn take(&mut self, reader: &mut Watched, bytes: &[u8]) {
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

    pub(super) fn take_gap(&mut self, reader: &mut Watched, gap: &Gap) {
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
    pub(super) fn check_everything(&self, reader: &mut Watched) {
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
                let most = self.at_most(&reader.spec, *place, from, to);
                // An evicted event may have been one that the filter would have left out.
                let exact = reader.spec.filter.is_empty() && reader.spec.tenant.is_none();
                let enough = match account.untold {
                    true => account.delivered <= wanted && accounted <= most,
                    false => {
                        accounted == wanted || (!exact && accounted > wanted && accounted <= most)
                    }
                };
                assert!(
                    enough,
                    "{}: {wanted} events in ({from}, {to}], {most} at most, {accounted} accounted for: {account:?}",
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

    pub(super) fn wanted(&self, spec: &ViewSpec, place: usize, from: u64, to: u64) -> u64 {
        let range = self.channels[place].between(from, to);
        range.filter(|sent| sent.is_for(spec)).count() as u64
    }

    /// A reader that was closed: whatever it did not get, what is critical it had, or was told to miss.
    pub(super) fn check_critical(&self, reader: &Watched) {
        for (place, account) in &reader.accounts {
            let channel = &self.channels[*place];
            let wanted = self.wanted(&reader.spec, *place, account.from, u64::MAX);
            let had = account.delivered + account.missed;
            assert!(
                channel.name != "critical" || account.untold || had >= wanted,
                "{wanted} critical events behind {}, {account:?}",
                account.from
            );
        }
    }

    /// The same with what was let go meanwhile: nobody knows any more whether a filter would have passed it.
    fn at_most(&self, spec: &ViewSpec, place: usize, from: u64, to: u64) -> u64 {
        let channel = &self.channels[place];
        let state = lock(&self.hub.state);
        let log = state.channels[channel.id.0 as usize].log.as_stream();
        let let_go = log.map_or(0, StreamLog::evicted_through);
        let may_count = |sent: &&Sent| sent.seq <= let_go || sent.is_for(spec);
        channel.between(from, to).filter(may_count).count() as u64
    }

    /// A reader that stops somewhere: what it was told to have passed, it has had or was told to miss; and so it is
    /// where others see it to be, who give it a token to go on from there.
    pub(super) fn check_no_silent_loss(&self, reader: &Watched) {
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
}
