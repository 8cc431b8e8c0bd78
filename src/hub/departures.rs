//! Departures: how many readers have left of late, and how many places are kept for their return.

/// Counts who leaves, over about the last [`MEMORY_US`] microseconds.
#[derive(Debug, Default)]
pub(super) struct Departures {
    began_us: u64,
    current: usize,
    previous: usize,
}

/// How long a storm is remembered: clients come back within 1 to 3 seconds, those with a back-off a little later.
const MEMORY_US: u64 = 5_000_000;

impl Departures {
    pub(super) fn count(&mut self, now_us: u64) {
        self.turn(now_us);
        self.current += 1;
    }

    /// How many of the places are not for newcomers now. Where more than a tenth of all places became free of late,
    /// a proxy was restarted or a network blinked: the last twentieth is then kept for those who come back and can
    /// go on where they were. In quiet times a newcomer may have the last place.
    pub(super) fn reserve(&mut self, now_us: u64, places: usize) -> usize {
        self.turn(now_us);
        if self.current + self.previous > places / 10 {
            places / 20
        } else {
            0
        }
    }

    fn turn(&mut self, now_us: u64) {
        let passed_us = now_us.saturating_sub(self.began_us);
        if passed_us < MEMORY_US {
            return;
        }
        self.previous = if passed_us < 2 * MEMORY_US {
            self.current
        } else {
            0
        };
        self.current = 0;
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
            departures.count(1);
        }
        assert_eq!(departures.reserve(2, 1000), 0, "a tenth is no storm");
        departures.count(3);
        assert_eq!(departures.reserve(4, 1000), 50);
        assert_eq!(departures.reserve(MEMORY_US + 1, 1000), 50);
        assert_eq!(departures.reserve(2 * MEMORY_US + 2, 1000), 0);
        departures.count(9 * MEMORY_US);
        assert_eq!(
            departures.reserve(9 * MEMORY_US, 19),
            0,
            "few places are too few to keep any"
        );
    }
}
