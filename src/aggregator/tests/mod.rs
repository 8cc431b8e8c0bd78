//! The aggregator as a whole, on a clock that the tests move by hand.

mod clocks;
mod lists;
mod load;
mod memory;
mod merged;
mod providers;
mod shapes;
mod sums;
mod tenants;
mod time;

use std::sync::Arc;

use crate::{
    clock::Clock,
    collector::{Collector, Extra, LabelId, Limits, Method, Outcome, Record},
};

use super::{
    Dimension, Settings, Snapshot, Window,
    rows::Rows,
    state::{Reading, State},
    timeline::SECOND_US,
};

/// A collector and an aggregator's state, at a time of its own.
struct House {
    settings: Settings,
    collector: Arc<Collector>,
    clock: Clock,
    state: State,
    /// Wall time without steps.
    unix_us: u64,
    step_us: i64,
}

impl House {
    fn new() -> Self {
        Self::with(Settings::default(), Limits::default())
    }

    /// Starts at midnight UTC, so that every slot begins there.
    fn with(settings: Settings, limits: Limits) -> Self {
        let clock = Clock::new();
        let day = 86_400 * SECOND_US;
        let unix_us = (clock.unix_us_of(0) / day + 1) * day;
        let collector = Arc::new(Collector::new(&limits, clock));
        let reading = Reading {
            unix_us,
            step_us: 0,
        };
        let state = State::new(&settings, Arc::clone(&collector), reading);
        Self {
            settings,
            collector,
            clock,
            state,
            unix_us,
            step_us: 0,
        }
    }

    fn pass(&mut self, seconds: f64) {
        self.unix_us += (seconds * 1e6).round() as u64;
        self.pump();
    }

    /// Passes the time as a running process does: looking every second.
    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.pass(1.0);
        }
    }

    fn pump(&mut self) {
        self.state.pump(Reading {
            unix_us: self.unix_us,
            step_us: self.step_us,
        });
    }

    fn record(&self) -> Record {
        Record {
            ended_us: self.unix_us - self.clock.unix_us_of(0),
            latency_us: 250_000,
            ttfb_us: Some(50_000),
            status: Some(200),
            method: Method::Post,
            outcome: Outcome::Completed,
            success: true,
            route: LabelId::UNSET,
            provider: LabelId::UNSET,
            model: LabelId::UNSET,
            tenant: LabelId::UNSET,
            user: LabelId::UNSET,
            input_tokens: None,
            output_tokens: None,
            cached_tokens: None,
            cost_nanos: None,
            request_bytes: None,
            response_bytes: 10,
            extra: None,
        }
    }

    /// A request ends now.
    fn finish(&mut self, change: impl FnOnce(&Collector, &mut Record)) {
        let mut record = self.record();
        change(&self.collector, &mut record);
        self.collector.started();
        self.collector.record(record);
    }

    fn finish_many(&mut self, times: usize) {
        for _ in 0..times {
            self.finish(|_, _| ());
        }
    }

    fn snapshot(&mut self, window: Window) -> Snapshot {
        self.pump();
        self.state.snapshot(&self.settings, window, None)
    }

    fn total(&mut self, window: Window) -> u64 {
        self.snapshot(window).summary.total_requests
    }

    fn rows(&mut self) -> Vec<Arc<Rows>> {
        self.pump();
        self.state.ready.take()
    }

    fn user(&mut self, name: &str) {
        self.finish(|collector, record| {
            record.user = collector.labels().user.intern(name);
            if record.user == LabelId::OTHER {
                record.extra = Some(Box::new(Extra {
                    user: Some(name.into()),
                    ..Extra::default()
                }));
            }
        });
    }
}
