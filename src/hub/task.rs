//! The hub's task: appends what was published, makes it visible, wakes readers, beats, sweeps, drains.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{
    CloseReason, Hub, Inbox, Log, Message, Published,
    draining::Drain,
    entry::Entry,
    reader::{MARKS, Sweep},
    view::View,
};
use crate::sync::{Ordering, lock};

/// How many messages are appended in one turn.
const MESSAGES_A_TURN: usize = 1024;
/// How many readers are woken before others get a turn on this thread.
const WAKES_A_TURN: usize = 512;
/// By how much a sweep may be late before the process counts as having stood still. Busy machines are late by less.
const A_MOMENT: Duration = Duration::from_millis(100);
/// What timers of sockets and clients may be late by.
const A_WHILE: Duration = Duration::from_secs(5);

/// A view with something to show, and when it may show it.
pub(super) struct Dirty {
    view: Arc<View>,
    due_us: u64,
}

impl Hub {
    /// Runs until `shutdown`, or until a drain is over; then shows what has come, ends every subscription and returns.
    pub(crate) async fn run(self: Arc<Self>, inbox: Inbox, shutdown: CancellationToken) {
        let Inbox(mut inbox) = inbox;
        let sweep_interval = (self.settings.heartbeat_interval / 4)
            .min(self.settings.stall_timeout / 4)
            .clamp(Duration::from_millis(10), Duration::from_secs(1));
        let mut sweep = tokio::time::interval(sweep_interval);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut swept_us = self.clock.now_us();
        let mut messages = Vec::with_capacity(64);
        let mut dirty: Vec<Dirty> = Vec::new();
        let mut drain: Option<Drain> = None;

        loop {
            let now_us = self.clock.now_us();
            let next_show = dirty
                .iter()
                .map(|dirty| dirty.due_us.saturating_sub(now_us))
                .min();
            let next_show = next_show.map(Duration::from_micros);
            let timer = next_show
                .into_iter()
                .chain(drain.as_ref().map(Drain::wait))
                .min();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                _ = sweep.tick() => {
                    let now_us = self.clock.now_us();
                    let apart = Duration::from_micros(now_us.saturating_sub(swept_us));
                    swept_us = now_us;
                    // Stopped or starved, and its readers with it.
                    let late = apart.saturating_sub(sweep_interval);
                    self.sweep(if late > A_MOMENT { late } else { Duration::ZERO });
                }
                count = inbox.recv_many(&mut messages, MESSAGES_A_TURN) => if count == 0 { break },
                () = tokio::time::sleep(timer.unwrap_or_default()), if timer.is_some() => {}
            }
            let now_us = self.clock.now_us();
            self.coarse_us.store(now_us, Ordering::Relaxed);
            for message in messages.drain(..) {
                self.take_in(message, &mut dirty, now_us);
            }
            if drain.is_none() && self.is_draining() {
                drain = self.begin_drain();
            }
            let closes = drain.as_mut().is_some_and(Drain::is_due);
            // Whoever is about to be sent away is told first what has come.
            for view in self.show(&mut dirty, now_us, closes) {
                let mut below = usize::MAX;
                while below > 0 {
                    below = view.wake_slice(below, WAKES_A_TURN);
                    if below > 0 {
                        tokio::task::yield_now().await;
                    }
                }
            }
            match &mut drain {
                Some(drain) if drain.is_over() => break,
                Some(drain) if closes => self.close_share(drain),
                _ => {}
            }
        }

        self.finish(&mut inbox);
    }

    /// Appends what was published, and lists the views that have something to show by it.
    pub(super) fn take_in(&self, publish: Message, dirty: &mut Vec<Dirty>, now_us: u64) {
        let flush_us = self.settings.flush_interval.as_micros() as u64;
        self.append(publish, |view| {
            if let Some(due_us) = view.list(now_us, flush_us) {
                dirty.push(Dirty {
                    view: view.clone(),
                    due_us,
                });
            }
        });
    }

    /// Makes visible what is due, or all there is: the views whose readers are to be woken for it.
    pub(super) fn show(&self, dirty: &mut Vec<Dirty>, now_us: u64, all: bool) -> Vec<Arc<View>> {
        let is_due = |dirty: &Dirty| all || dirty.due_us <= now_us;
        let (due, wait): (Vec<_>, Vec<_>) = dirty.drain(..).partition(is_due);
        *dirty = wait;
        for Dirty { view, .. } in &due {
            view.show(now_us);
        }
        if dirty.is_empty() {
            let last_seq = lock(&self.state).last_seq;
            self.visible_head.store(last_seq, Ordering::SeqCst);
        }
        due.into_iter().map(|dirty| dirty.view).collect()
    }

    /// Shows what was accepted, then ends every subscription.
    pub(super) fn finish(&self, inbox: &mut mpsc::Receiver<Message>) {
        self.refuse_all();
        inbox.close();
        while let Ok(message) = inbox.try_recv() {
            if matches!(message, Message::Publish { .. }) {
                self.append(message, |_| {});
            }
        }
        self.close_all(CloseReason::Shutdown);
        let last_seq = lock(&self.state).last_seq;
        self.visible_head.store(last_seq, Ordering::SeqCst);
    }

    /// Gives events their numbers, puts them into their channel's log and hands them to its views.
    fn append(&self, message: Message, mut touched: impl FnMut(&Arc<View>)) {
        let Message::Publish {
            channel,
            source,
            reply,
        } = message
        else {
            return;
        };
        let now_us = self.clock.now_us();
        let unix_ms = self.clock.unix_ms();
        let mut state = lock(&self.state);
        let first = state.last_seq + 1;
        let Some(channel) = state.channels.get_mut(channel.0 as usize) else {
            return;
        };
        let entry = Arc::new(Entry::new(
            first,
            self.epoch,
            now_us,
            unix_ms,
            channel.published,
            channel.info.clone(),
            source,
        ));
        if entry.len == 0 {
            return;
        }
        let last = entry.last();
        channel.published += u64::from(entry.len);
        for view in &channel.views {
            if view.push(&entry) {
                touched(view);
            }
        }
        let readers = reply.as_ref().map(|_| channel.readers_of(&entry));
        self.counters
            .published
            .fetch_add(u64::from(entry.len), Ordering::Relaxed);
        channel.log.push(entry, now_us);
        state.last_seq = last;
        state.times.note(now_us, first);
        drop(state);
        if let Some(reply) = reply {
            let position = self.position_of(last);
            // Whoever asked may have gone.
            let readers = readers.unwrap_or_default();
            let _ = reply.send(Published { position, readers });
        }
    }

    /// Sets off heartbeats, lets go of readers that are stuck, and of events that are too old.
    fn sweep(&self, stood_still: Duration) {
        let stood_still_us = stood_still.as_micros() as u64;
        let now_us = self.clock.now_us();
        let beat_us = self.settings.heartbeat_interval.as_micros().max(1) as u64;
        let stall_us = self.settings.stall_timeout.as_micros() as u64;
        let marks = self.is_time_to_mark(now_us);
        for view in self.views() {
            let head = view.head();
            let mut stalled = Vec::new();
            view.for_each_reader(|reader| {
                if marks {
                    reader.mark();
                }
                if reader.sweep(now_us, stood_still_us, beat_us, stall_us, head) == Sweep::Stalled {
                    stalled.push(reader.clone());
                }
            });
            for reader in stalled {
                if reader.closing().is_none() {
                    self.counters.stalled.fetch_add(1, Ordering::Relaxed);
                    self.counters.let_go[view.spec.form.0].fetch_add(1, Ordering::Relaxed);
                    reader.close(CloseReason::Stalled);
                    self.leave(&view, &reader);
                }
            }
        }
        let mut state = lock(&self.state);
        for channel in &mut state.channels {
            if let Log::Stream(log) = &mut channel.log {
                log.evict(now_us);
            }
        }
    }

    /// Readers are marked so often that the oldest mark of each is at least as old as what may be on its way to its
    /// client: the kernel gives a guarded socket up when nothing was acknowledged for the stall timeout, and a client
    /// that listens for heartbeats gives up a connection on which two of them are missing.
    fn is_time_to_mark(&self, now_us: u64) -> bool {
        let settings = &self.settings;
        let on_its_way = settings.stall_timeout.max(2 * settings.heartbeat_interval) + A_WHILE;
        let apart_us = on_its_way.as_micros() as u64 / (MARKS as u64 - 1);
        // Written by this task alone.
        let is_time = now_us >= self.marked_us.load(Ordering::Relaxed) + apart_us;
        if is_time {
            self.marked_us.store(now_us, Ordering::Relaxed);
        }
        is_time
    }
}
