//! The ladder's time: wall time that never goes back, and what of it the process really saw.

use std::collections::VecDeque;

/// A wall clock that differs by less than this is jitter between two clock readings, not a step.
const STEP_US: i64 = 500_000;
/// Suspensions that are remembered, at most; beyond it the two oldest are joined.
const MAX_HOLES: usize = 64;

pub(crate) const SECOND_US: u64 = 1_000_000;

/// Maps monotonic time to slots that are aligned to the wall clock.
///
/// A wall clock that steps forward (a machine that was suspended, NTP) takes the ladder along and leaves a hole that
/// counts as not covered. One that steps back does not: the ladder runs on, so that no slot is ever filled twice, and
/// only what is printed is corrected (see [`printed`](Self::printed)).
#[derive(Clone, Debug)]
pub(crate) struct Timeline {
    /// What is added to the clock's unadjusted wall time.
    offset_us: i64,
    /// By how much the true wall clock is ahead of the ladder; below 0 after a step back.
    skew_us: i64,
    start_us: u64,
    now_us: u64,
    holes: VecDeque<(u64, u64)>,
}

impl Timeline {
    /// `unix_us` is the clock's wall time without the steps, `step_us` by how much the wall clock has stepped since.
    pub(crate) fn new(unix_us: u64, step_us: i64) -> Self {
        let offset_us = if step_us.abs() < STEP_US { 0 } else { step_us };
        let now_us = unix_us.saturating_add_signed(offset_us);
        Self {
            offset_us,
            skew_us: 0,
            start_us: now_us,
            now_us,
            holes: VecDeque::new(),
        }
    }

    /// Reads the clock; returns the ladder's now.
    pub(crate) fn observe(&mut self, unix_us: u64, step_us: i64) -> u64 {
        let behind = step_us - self.offset_us;
        if behind >= STEP_US {
            self.offset_us = step_us;
            self.skew_us = 0;
            let now = unix_us.saturating_add_signed(step_us).max(self.now_us);
            // What ran since the last reading lies at the end of the gap, where its requests are counted, too.
            let to = now.saturating_sub(
                now.saturating_sub(self.now_us)
                    .saturating_sub(behind as u64),
            );
            self.remember_hole(self.now_us, to);
            self.now_us = now;
        } else {
            self.skew_us = if behind <= -STEP_US { behind } else { 0 };
            self.now_us = self
                .now_us
                .max(unix_us.saturating_add_signed(self.offset_us));
        }
        self.now_us
    }

    /// The ladder's time of a reading of the clock.
    pub(crate) fn ladder_us(&self, unix_us: u64) -> u64 {
        unix_us.saturating_add_signed(self.offset_us)
    }

    /// The true wall time of a reading of the clock.
    pub(crate) fn wall_us(&self, unix_us: u64) -> u64 {
        unix_us.saturating_add_signed(self.offset_us + self.skew_us)
    }

    /// A slot's time as the corrected wall clock would name it, in seconds: moved by whole steps, so that slots stay
    /// aligned.
    pub(crate) fn printed(&self, second: u64, step: u64) -> u64 {
        let step_us = (step.max(1) * SECOND_US) as i64;
        let steps = (self.skew_us as f64 / step_us as f64).round() as i64;
        second.saturating_add_signed(steps * step.max(1) as i64)
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.now_us
    }

    pub(crate) fn wall_now_us(&self) -> u64 {
        self.now_us.saturating_add_signed(self.skew_us)
    }

    pub(crate) fn start_us(&self) -> u64 {
        self.start_us
    }

    /// How much of a span the process was there to see.
    pub(crate) fn covered_us(&self, from: u64, to: u64) -> u64 {
        let from = from.max(self.start_us);
        let to = to.min(self.now_us);
        let holes: u64 = self
            .holes
            .iter()
            .map(|&(start, end)| end.min(to).saturating_sub(start.max(from)))
            .sum();
        to.saturating_sub(from).saturating_sub(holes)
    }

    fn remember_hole(&mut self, from: u64, to: u64) {
        if to <= from {
            return;
        }
        if self.holes.len() == MAX_HOLES
            && let Some(oldest) = self.holes.pop_front()
            && let Some(next) = self.holes.front_mut()
        {
            next.0 = oldest.0;
        }
        self.holes.push_back((from, to));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: u64 = 1_738_723_890 * SECOND_US;
    const HOUR: i64 = 3_600 * SECOND_US as i64;

    #[test]
    fn covers_what_has_passed_since_the_start() {
        let mut time = Timeline::new(T0, 0);
        time.observe(T0 + 5 * SECOND_US, 120);
        assert_eq!(time.covered_us(0, u64::MAX), 5 * SECOND_US);
        assert_eq!(
            time.covered_us(T0 + SECOND_US, T0 + 3 * SECOND_US),
            2 * SECOND_US
        );
        assert_eq!(time.covered_us(0, T0), 0);
    }

    #[test]
    fn a_suspended_machine_leaves_a_hole() {
        let mut time = Timeline::new(T0, 0);
        time.observe(T0 + 10 * SECOND_US, 0);
        let now = time.observe(T0 + 12 * SECOND_US, 2 * HOUR);
        assert_eq!(now, T0 + 12 * SECOND_US + 2 * HOUR as u64);
        assert_eq!(time.covered_us(0, u64::MAX), 12 * SECOND_US);
        assert_eq!(time.covered_us(now - 2 * SECOND_US, now), 2 * SECOND_US);
        assert_eq!(time.covered_us(T0 + 10 * SECOND_US, now - 2 * SECOND_US), 0);
    }

    #[test]
    fn a_clock_that_is_set_back_changes_only_what_is_printed() {
        let mut time = Timeline::new(T0, 0);
        let now = time.observe(T0 + 10 * SECOND_US, -HOUR);
        assert_eq!(now, T0 + 10 * SECOND_US);
        assert_eq!(time.covered_us(0, u64::MAX), 10 * SECOND_US);
        assert_eq!(time.wall_now_us(), now - HOUR as u64);
        assert_eq!(time.printed(7_260, 60), 3_660);
        // And when it is set right again, nothing was missed.
        assert_eq!(time.observe(T0 + 11 * SECOND_US, 0), T0 + 11 * SECOND_US);
        assert_eq!(time.covered_us(0, u64::MAX), 11 * SECOND_US);
        assert_eq!(time.printed(7_260, 60), 7_260);
    }

    #[test]
    fn remembers_a_bounded_number_of_holes() {
        let mut time = Timeline::new(T0, 0);
        for step in 1..=1_000u64 {
            time.observe(T0 + step * SECOND_US, step as i64 * 2 * SECOND_US as i64);
        }
        assert_eq!(time.holes.len(), MAX_HOLES);
        assert!(time.covered_us(0, u64::MAX) <= 1_000 * SECOND_US);
    }
}
