//! What may happen in a step.

use std::{num::NonZeroU32, time::Duration};

use super::{super::*, sleepers::check_awake, *};

impl World {
    pub(super) async fn publish(&mut self) {
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
                    // Time stands still until everybody waits.
                    at_us: self.hub.now_us(),
                });
                self.times_us.push(self.hub.now_us());
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

    pub(super) async fn pause(&mut self) {
        let millis = [1, 25, 1_000, 6_000][self.random.below(4) as usize];
        let published = self.last_seq;
        tokio::time::sleep(Duration::from_millis(millis)).await;
        if millis > self.hub.settings.flush_interval.as_millis() as u64 {
            self.check_sleepers(published);
        }
    }

    pub(super) fn spec(&mut self) -> ViewSpec {
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
            leases: Leases::default(),
        }
    }

    pub(super) fn join(&mut self) {
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

    pub(super) fn start(&mut self) -> Start {
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

    pub(super) fn open(
        &mut self,
        spec: ViewSpec,
        start: Start,
        rate: Option<NonZeroU32>,
    ) -> Watched {
        let mut subscription = self.hub.subscribe(spec.clone(), start).unwrap();
        if let Some(rate) = rate {
            subscription.limit_rate(rate);
        }
        let compresses = self.random.of(2) && subscription.compress();
        let mut inflater = compresses.then(Inflater::new);
        if let Some(inflater) = &mut inflater {
            inflater.take_stored(b"connection_established\n");
        }
        let began = self.check_beginning(&subscription, start);
        let accounts = self.accounts(&spec, &began);
        Watched {
            subscription,
            spec,
            rated: rate.is_some(),
            passed: 0,
            must_pass: false,
            told: began.from,
            accounts,
            stalled: 0,
            inflater,
            wakes: Arc::default(),
            asleep: None,
        }
    }

    /// The same client on a new connection, with the last position that it was told.
    pub(super) fn come_back(&mut self) {
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
        self.readers.push(reader);
    }

    pub(super) fn retarget(&mut self) {
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
            reader.asleep = None;
            reader.subscription.retarget(spec.clone());
            let position = reader.subscription.position().seq;
            assert!(
                position >= reader.told,
                "a change of channels went back from {} to {position}",
                reader.told
            );
            let here = Began {
                from: position,
                only_held: true,
            };
            let fresh = self.accounts(&spec, &here);
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
                reader.accounts = self.accounts(&reader.spec, &here);
                for account in reader.accounts.values_mut() {
                    account.delivered = u64::MAX / 2;
                }
            }
        }
        self.readers.push(reader);
    }

    /// The same through the reader's handle, as an admin does it: seen to when it reads next.
    pub(super) fn wish(&mut self) {
        let spec = self.spec();
        if self.readers.is_empty() {
            return;
        }
        let place = self.random.below(self.readers.len() as u64) as usize;
        let reader = self.readers[place].subscription.reader();
        // Two wishes in a row: the newest counts, and here that is to go on as it is.
        reader.wish(spec);
        reader.wish(self.readers[place].spec.clone());
        check_awake(&self.readers[place]);
    }

    /// Begins somewhere else on the same connection, as a WebSocket's `resume` does.
    pub(super) fn restart(&mut self) {
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
            let began = self.check_beginning(&reader.subscription, start);
            reader.accounts = self.accounts(&spec, &began);
            reader.spec = spec;
            reader.told = began.from;
            // Whoever begins anew is polled.
            reader.asleep = None;
        }
        self.readers.push(reader);
    }

    /// Ended by an admin, or by the same session on another connection: what it had not read it gets when it comes back.
    pub(super) fn kick(&mut self) {
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
            check_awake(&old);
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

    pub(super) fn stall(&mut self) {
        if !self.readers.is_empty() {
            let place = self.random.below(self.readers.len() as u64) as usize;
            self.readers[place].stalled = self.random.below(400);
        }
    }

    pub(super) fn close(&mut self) {
        if !self.readers.is_empty() && self.random.of(2) {
            let place = self.random.below(self.readers.len() as u64) as usize;
            let reader = self.readers.swap_remove(place);
            self.check_no_silent_loss(&reader);
        }
    }
}
