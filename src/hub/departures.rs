//! Departures: how many readers have left of late, and how many of them are still to come back.

/// Counts who leaves and who comes back, over the last [`MEMORY_US`] microseconds and up to as many before.
#[derive(Debug, Default)]
pub(super) struct Departures {
    began_us: u64,
    current: Count,
    previous: Count,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    left: usize,
    back: usize,
}

/// How long a storm is remembered: clients come back within 1 to 3 seconds, those with a back-off a little later.
const MEMORY_US: u64 = 5_000_000;

impl Departures {
    pub(super) fn left(&mut self, now_us: u64) {
        self.turn(now_us);
        self.current.left += 1;
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
    /// staying: to leave a place, one must have had it.
    pub(super) fn reserve(&mut self, now_us: u64, places: usize) -> usize {
        self.turn(now_us);
        let left = self.current.left + self.previous.left;
        if left <= (places / 10).max(1) {
            return 0;
        }
        let back = self.current.back + self.previous.back;
        left.saturating_sub(back).min(places)
    }

    fn turn(&mut self, now_us: u64) {
        let passed_us = now_us.saturating_sub(self.began_us);
        if passed_us < MEMORY_US {
            return;
        }
        self.previous = if passed_us < 2 * MEMORY_US {
            self.current
        } else {
            Count::default()
        };
        self.current = Count::default();
        self.began_us = now_us;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_kept_after_a_storm_and_for_a_while_only() {
        let mut departures = Departures::default();
        for _ in 0..100 {
            departures.left(1);
        }
        assert_eq!(departures.reserve(2, 1000), 0, "a tenth is no storm");
        departures.left(3);
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
        for _ in 0..20 {
            departures.left(1);
        }
        for n in (0..19).rev() {
            departures.back(MEMORY_US + 2);
            assert_eq!(departures.reserve(MEMORY_US + 2, 100), n);
        }
        departures.back(MEMORY_US + 3);
        assert_eq!(departures.reserve(MEMORY_US + 3, 100), 0);
    }

    #[test]
    fn few_places_are_kept_as_well_but_not_for_one_that_leaves() {
        let mut departures = Departures::default();
        departures.left(1);
        assert_eq!(departures.reserve(1, 5), 0);
        departures.left(1);
        assert_eq!(departures.reserve(1, 5), 2);
    }
}
