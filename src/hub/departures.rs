//! Departures: how far the number of readers has fallen of late, and how many of those are still to come back.

/// Notes who leaves and who comes back, over the last [`MEMORY_US`] microseconds and up to as many before.
#[derive(Debug, Default)]
pub(super) struct Departures {
    began_us: u64,
    current: Noted,
    previous: Noted,
}

#[derive(Clone, Copy, Debug, Default)]
struct Noted {
    /// The most readers there were at once.
    peak: usize,
    /// The deepest fall from the highest peak that was remembered then.
    fall: usize,
    back: usize,
}

/// How long a storm is remembered: clients come back within 1 to 3 seconds, those with a back-off a little later.
const MEMORY_US: u64 = 5_000_000;

impl Departures {
    /// One has left, and so many are there still.
    pub(super) fn left(&mut self, now_us: u64, active: usize) {
        self.turn(now_us);
        // Between two departures the number can only grow, so every peak is seen here.
        self.current.peak = self.current.peak.max(active + 1);
        let peak = self.current.peak.max(self.previous.peak);
        self.current.fall = self.current.fall.max(peak - active);
    }

    /// One that goes on where it was has a place again.
    pub(super) fn back(&mut self, now_us: u64) {
        self.turn(now_us);
        self.current.back += 1;
    }

    /// How many of the places are not for newcomers now. Where more than a tenth of all places became free of late, and
    /// more than one, a proxy was restarted or a network blinked: every one of those places is kept until its reader has
    /// come back, or the storm is forgotten. In quiet times a newcomer may have the last place.
    ///
    /// There is no cap below that. A newcomer has nothing to lose by the few seconds that it is told to wait, while one
    /// that finds its place taken may lose events for ever. Nor can anybody keep others out by it who could not by
    /// staying: what counts is how many were there at once, however often one of them comes and goes.
    pub(super) fn reserve(&mut self, now_us: u64, places: usize) -> usize {
        self.turn(now_us);
        let fall = self.current.fall.max(self.previous.fall);
        if fall <= (places / 10).max(1) {
            return 0;
        }
        let back = self.current.back + self.previous.back;
        fall.saturating_sub(back).min(places)
    }

    fn turn(&mut self, now_us: u64) {
        let passed_us = now_us.saturating_sub(self.began_us);
        if passed_us < MEMORY_US {
            return;
        }
        self.previous = if passed_us < 2 * MEMORY_US {
            self.current
        } else {
            Noted::default()
        };
        self.current = Noted::default();
        self.began_us = now_us;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of so many, so many leave.
    fn storm(departures: &mut Departures, now_us: u64, of: usize, leave: usize) {
        for gone in 1..=leave {
            departures.left(now_us, of - gone);
        }
    }

    #[test]
    fn places_are_kept_after_a_storm_and_for_a_while_only() {
        let mut departures = Departures::default();
        storm(&mut departures, 1, 500, 100);
        assert_eq!(departures.reserve(2, 1000), 0, "a tenth is no storm");
        departures.left(3, 399);
        assert_eq!(departures.reserve(4, 1000), 101);
        assert_eq!(departures.reserve(4, 50), 50);
        assert_eq!(departures.reserve(MEMORY_US + 1, 1000), 101);
        assert_eq!(departures.reserve(2 * MEMORY_US + 2, 1000), 0);
    }

    #[test]
    fn who_has_come_back_is_waited_for_no_more_and_the_last_one_as_much_as_the_first() {
        let mut departures = Departures::default();
        // Some are back before the end of their old connection is noticed.
        departures.back(1);
        storm(&mut departures, 1, 20, 20);
        for n in (0..19).rev() {
            departures.back(MEMORY_US + 2);
            assert_eq!(departures.reserve(MEMORY_US + 2, 100), n);
        }
        departures.back(MEMORY_US + 3);
        assert_eq!(departures.reserve(MEMORY_US + 3, 100), 0);
    }

    #[test]
    fn newcomers_do_not_count_as_those_who_come_back() {
        let mut departures = Departures::default();
        storm(&mut departures, 1, 50, 50);
        // Forty came meanwhile, and one of them leaves.
        departures.left(2, 39);
        assert_eq!(departures.reserve(3, 100), 50);
    }

    #[test]
    fn one_that_comes_and_goes_keeps_nobody_out() {
        let mut departures = Departures::default();
        for n in 0..10_000 {
            departures.left(n, 3);
        }
        assert_eq!(departures.reserve(10_000, 100), 0);
    }

    #[test]
    fn few_places_are_kept_as_well_but_not_for_one_that_leaves() {
        let mut departures = Departures::default();
        departures.left(1, 1);
        assert_eq!(departures.reserve(1, 5), 0);
        departures.left(1, 0);
        assert_eq!(departures.reserve(1, 5), 2);
    }

    #[test]
    fn a_fall_over_the_turn_of_a_window_is_one() {
        let mut departures = Departures::default();
        storm(&mut departures, MEMORY_US - 1, 40, 8);
        storm(&mut departures, MEMORY_US + 1, 32, 8);
        assert_eq!(departures.reserve(MEMORY_US + 2, 100), 16);
    }
}
