//! Times: which event came when, roughly, also of those that no log holds any more.

use std::collections::VecDeque;

/// How many marks there are at most; then every other one goes. 64 KiB.
const MAX_MARKS: usize = 4096;
/// How far marks are apart at first.
const STEP_US: u64 = 1_000_000;

/// Marks in the hub's sequence, a second apart; further where it is old. The first stays.
#[derive(Debug)]
pub(super) struct Times {
    /// When, and the first number then.
    marks: VecDeque<(u64, u64)>,
    step_us: u64,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            marks: VecDeque::new(),
            step_us: STEP_US,
        }
    }
}

impl Times {
    /// `seq` comes now, behind all others.
    #[inline]
    pub(super) fn note(&mut self, now_us: u64, seq: u64) {
        let newest = self.marks.back();
        if newest.is_some_and(|(at_us, _)| now_us < at_us + self.step_us) {
            return;
        }
        self.marks.push_back((now_us, seq));
        if self.marks.len() > MAX_MARKS {
            self.step_us *= 2;
            let mut keep = false;
            self.marks.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }

    /// A number behind which everything is that came at or after a time, and as little else as is known.
    pub(super) fn before(&self, at_us: u64) -> u64 {
        let earlier = self.marks.partition_point(|(mark_us, _)| *mark_us < at_us);
        match earlier.checked_sub(1).and_then(|at| self.marks.get(at)) {
            Some((_, seq)) => *seq,
            None => self.marks.front().map_or(0, |(_, seq)| seq - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_found_to_the_second_and_later_to_a_part_of_what_has_passed() {
        let mut times = Times::default();
        assert_eq!(times.before(5), 0);
        // Ten events a second.
        let mut seq = 0;
        let at_us = |seq: u64| seq * 100_000;
        for _ in 0..30_000 {
            seq += 1;
            times.note(at_us(seq), seq);
        }
        for wanted in [1, 11, 555, 29_999] {
            let before = times.before(at_us(wanted));
            assert!(
                before < wanted && wanted - before <= 11,
                "{wanted}: {before}"
            );
        }
        assert_eq!(times.before(0), 0);
        for _ in 0..300_000 {
            seq += 1;
            times.note(at_us(seq), seq);
        }
        assert!(times.marks.len() <= MAX_MARKS && times.marks.len() > MAX_MARKS / 2 - 1);
        for wanted in [1, 2_000, 150_000, seq] {
            let before = times.before(at_us(wanted));
            assert!(
                before < wanted && wanted - before <= 161,
                "{wanted}: {before}"
            );
        }
    }
}
