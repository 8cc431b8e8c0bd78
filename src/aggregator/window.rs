//! The ladder of slots: 10 s, the window size (1 min) and 30 min, aligned to the wall clock.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::error::{Error, Kind};

use super::{
    counts::{Counts, Sample},
    merged::Merged,
    points::Points,
    ring::{Clear, Ring},
    slot::{Keys, Slot},
    timeline::SECOND_US,
};

/// Seconds of the finest slots.
pub(crate) const FINE: u64 = 10;
/// Seconds of the coarsest slots.
const COARSE: u64 = 1_800;
/// Five minutes and the slot in progress would be 31; a power of two for quick rings.
const FINE_SLOTS: usize = 32;
/// A day, and the slot in progress.
const COARSE_SLOTS: usize = 49;
/// In how many turns all that is to be prepared has to be, see [`Ladder::slots_a_turn`]. At ten turns a second that is
/// less than the ten seconds after which the shortest slot closes and there is more to prepare.
const TURNS: usize = 80;

/// A span that numbers are taken over, up to now.
///
/// A window is made of whole slots, so it begins up to one slot earlier than its name says: 10 s for `1m` and `5m`,
/// one window size (1 minute) for `15m` and `1h`, half an hour for `24h`. Nothing that ended within the named span
/// is ever missing, and `covered_seconds` says how long the span really was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Window {
    /// `1m`
    OneMinute,
    /// `5m`
    FiveMinutes,
    /// `15m`
    FifteenMinutes,
    /// `1h`, the default
    #[default]
    OneHour,
    /// `24h`
    Day,
}

impl Window {
    /// All of them, shortest first.
    pub const ALL: [Self; 5] = [
        Self::OneMinute,
        Self::FiveMinutes,
        Self::FifteenMinutes,
        Self::OneHour,
        Self::Day,
    ];

    /// As it stands in the `window` parameter.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OneMinute => "1m",
            Self::FiveMinutes => "5m",
            Self::FifteenMinutes => "15m",
            Self::OneHour => "1h",
            Self::Day => "24h",
        }
    }

    /// The named length.
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.seconds())
    }

    pub(crate) fn seconds(self) -> u64 {
        match self {
            Self::OneMinute => 60,
            Self::FiveMinutes => 300,
            Self::FifteenMinutes => 900,
            Self::OneHour => 3_600,
            Self::Day => 86_400,
        }
    }

    /// The shortest window that holds so many seconds, a day at most.
    pub(crate) fn covering(seconds: u64) -> Self {
        Self::ALL
            .into_iter()
            .find(|window| window.seconds() >= seconds)
            .unwrap_or(Self::Day)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Window {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|window| window.as_str() == text)
            .ok_or_else(|| Error::new(Kind::Invalid, "window takes 1m, 5m, 15m, 1h or 24h"))
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<str>::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

impl Clear for Box<Slot> {
    fn clear(&mut self) {
        Slot::clear(self);
    }
}

/// The slots of one size.
#[derive(Debug)]
struct Level {
    seconds: u64,
    slots: Ring<Box<Slot>>,
}

/// Every request is put into the finest slot only; when a slot can no longer change, it is folded into the two
/// coarser levels. The slot before the current one stays open, too: a request that ended in its last millisecond and
/// is drained in the next slot's first is counted where it belongs.
#[derive(Debug)]
pub(crate) struct Ladder {
    max_users: usize,
    fine: Level,
    middle: Level,
    coarse: Level,
    pub(crate) points: Points,
    /// The 10 s slot in progress.
    current: u64,
    /// All 10 s slots before this one are folded and closed.
    open_from: u64,
    /// Sums of all folded slots since the start.
    folded: Counts,
    merged: [Merged; Window::ALL.len()],
}

/// What a window consists of: slots that add up to it.
#[derive(Debug)]
pub(crate) struct View<'a> {
    pub(crate) slots: Vec<&'a Slot>,
    /// Where the oldest slot begins.
    pub(crate) start_second: u64,
}

impl Ladder {
    pub(crate) fn new(
        now_us: u64,
        window_size: Duration,
        window_count: usize,
        max_users: usize,
    ) -> Self {
        let current = now_us / SECOND_US / FINE;
        let seconds = middle_seconds(window_size);
        Self {
            max_users,
            fine: Level {
                seconds: FINE,
                slots: Ring::new(FINE_SLOTS),
            },
            middle: Level {
                seconds,
                slots: Ring::new(middle_slots(window_size, window_count)),
            },
            coarse: Level {
                seconds: COARSE,
                slots: Ring::new(COARSE_SLOTS),
            },
            points: Points::new(),
            current,
            open_from: current,
            folded: Counts::default(),
            merged: Default::default(),
        }
    }

    /// Moves on to a time; going back is ignored. However far it jumps, at most the two open slots are folded.
    pub(crate) fn advance(&mut self, now_us: u64) {
        let current = now_us / SECOND_US / FINE;
        if current <= self.current {
            return;
        }
        let open_from = current - 1;
        for number in self.open_from..open_from.min(self.current + 1) {
            self.fold(number);
        }
        self.open_from = open_from.max(self.open_from);
        self.current = current;
    }

    /// Counts a request in the slot of its end, or in the oldest open one. Returns the slot, and how many users had to
    /// make room in it.
    pub(crate) fn add(
        &mut self,
        at_us: u64,
        now_us: u64,
        keys: &Keys<'_>,
        sample: &Sample,
    ) -> (&mut Slot, usize) {
        let second = (at_us.min(now_us) / SECOND_US)
            .max(self.open_from * FINE)
            .min(self.current * FINE + FINE - 1);
        self.points.add(second, sample);
        let slot = self.open(second / FINE);
        let evicted = slot.add(keys, sample);
        (slot, evicted)
    }

    /// The slot in progress.
    pub(crate) fn now(&mut self) -> &mut Slot {
        self.open(self.current)
    }

    /// The largest number in flight during a second of an open slot.
    pub(crate) fn in_flight(&mut self, second: u64, in_flight: u64) {
        self.points
            .in_flight(second, in_flight, second < self.open_from * FINE);
        let number = (second / FINE).clamp(self.open_from, self.current);
        let totals = &mut self.open(number).totals;
        totals.in_flight_max = totals.in_flight_max.max(in_flight);
    }

    /// Seconds before this one can't change any more.
    pub(crate) fn open_from_second(&self) -> u64 {
        self.open_from * FINE
    }

    /// Since the start.
    pub(crate) fn lifetime(&self) -> Counts {
        let mut counts = self.folded;
        for number in self.open_from..=self.current {
            if let Some(slot) = self.fine.slots.get(number) {
                counts += &slot.totals.counts;
            }
        }
        counts
    }

    /// The newest 10 s slots: the one in progress and so many before it.
    pub(crate) fn newest(&self, closed: u64) -> impl Iterator<Item = &Slot> {
        (self.current.saturating_sub(closed)..=self.current)
            .filter_map(|number| self.fine.slots.get(number).map(|slot| &**slot))
    }

    /// Totals of a window without its rows: little enough to be put together each time.
    pub(crate) fn slots(&self, window: Window) -> (Vec<&Slot>, u64) {
        let (level, first, _, current) = self.range(window);
        let mut slots = Vec::new();
        for number in first..=current {
            if let Some(slot) = level.slots.get(number) {
                slots.push(&**slot);
            }
        }
        if level.seconds != FINE {
            slots.extend(unfolded(&self.fine, self.open_from, self.current));
        }
        (slots, first * level.seconds)
    }

    /// Everything of a window, with the closed slots put together.
    pub(crate) fn view(&mut self, window: Window) -> View<'_> {
        let (_, first, closed_to, current) = self.range(window);
        let range = first..closed_to.max(first);
        let level = level_of(window, [&self.fine, &self.middle, &self.coarse]);
        let merged = &mut self.merged[window as usize];
        let merged = merged.of(range.clone(), &level.slots, self.max_users);
        let mut slots: Vec<&Slot> = merged.into_iter().collect();
        for number in range.end..=current {
            slots.extend(level.slots.get(number).map(|slot| &**slot));
        }
        if level.seconds != FINE {
            slots.extend(unfolded(&self.fine, self.open_from, self.current));
        }
        View {
            slots,
            start_second: first * level.seconds,
        }
    }

    /// Adds one closed slot to what a window consists of. `false`: it is whole, and reading it adds nothing up.
    pub(crate) fn gather(&mut self, window: Window) -> bool {
        let (_, first, closed_to, _) = self.range(window);
        let level = level_of(window, [&self.fine, &self.middle, &self.coarse]);
        let merged = &mut self.merged[window as usize];
        merged.gather(&(first..closed_to.max(first)), &level.slots, self.max_users)
    }

    /// Adds one closed slot to what a window consists of, or will when its next slot closes, so that no reader has to
    /// wait for it. Windows that are always there cost a few additions a second; one that is only put together when
    /// somebody asks for it costs its first reader all of them. `false`: nothing is left to do.
    pub(crate) fn prepare(&mut self) -> bool {
        Window::ALL.into_iter().any(|window| {
            let (_, first, closed_to, _) = self.range(window);
            let level = level_of(window, [&self.fine, &self.middle, &self.coarse]);
            let merged = &mut self.merged[window as usize];
            merged.prepare(&(first..closed_to.max(first)), &level.slots, self.max_users)
        })
    }

    /// How often to [`prepare`](Self::prepare) in a turn, so that everything is prepared within [`TURNS`] turns however
    /// many slots the windows have.
    pub(crate) fn slots_a_turn(&self) -> usize {
        let slots = |window| {
            let (_, first, _, current) = self.range(window);
            // The sum of all but the oldest, and what closed since.
            (current - first) as usize + 1
        };
        let all: usize = Window::ALL.into_iter().map(slots).sum();
        all.div_ceil(TURNS)
    }

    #[cfg(test)]
    pub(crate) fn additions(&self) -> usize {
        self.merged.iter().map(Merged::additions).sum()
    }

    /// The level that a window is read from, its first slot, the first that may still change, and the one in progress.
    fn range(&self, window: Window) -> (&Level, u64, u64, u64) {
        let seconds = window.seconds();
        let level = level_of(window, [&self.fine, &self.middle, &self.coarse]);
        let current = self.current * FINE / level.seconds;
        let first = current.saturating_sub(seconds.div_ceil(level.seconds));
        (level, first, self.open_from * FINE / level.seconds, current)
    }

    fn open(&mut self, number: u64) -> &mut Slot {
        let max_users = self.max_users;
        self.fine
            .slots
            .open(number, || Box::new(Slot::new(max_users)))
    }

    fn fold(&mut self, number: u64) {
        let second = number * FINE;
        self.points.fold(second);
        let Some(slot) = self.fine.slots.get(number) else {
            return;
        };
        self.folded += &slot.totals.counts;
        let max_users = self.max_users;
        for level in [&mut self.middle, &mut self.coarse] {
            level
                .slots
                .open(second / level.seconds, || Box::new(Slot::new(max_users)))
                .merge(slot);
        }
    }
}

/// The finest level that reaches back far enough.
fn level_of(window: Window, levels: [&Level; 3]) -> &Level {
    let reaches =
        |level: &&Level| level.seconds * (level.slots.len() as u64 - 1) >= window.seconds();
    levels.into_iter().find(reaches).unwrap_or(levels[2])
}

/// The open slots, of which the coarser levels know nothing yet.
fn unfolded(fine: &Level, open_from: u64, current: u64) -> impl Iterator<Item = &Slot> {
    (open_from..=current).filter_map(|number| fine.slots.get(number).map(|slot| &**slot))
}

/// The window size in whole 10 s slots, from 10 s to 5 minutes.
fn middle_seconds(window_size: Duration) -> u64 {
    window_size
        .as_secs()
        .clamp(FINE, 300)
        .next_multiple_of(FINE)
}

/// As many as were asked for, an hour's worth at least and a day's at most, and the slot in progress.
fn middle_slots(window_size: Duration, window_count: usize) -> usize {
    let seconds = middle_seconds(window_size);
    let count = (window_count as u64).clamp(3_600u64.div_ceil(seconds), 86_400 / seconds);
    count as usize + 1
}

/// How many slots there can be at most, with the merged ones: two for each window.
pub(crate) fn slot_count(window_size: Duration, window_count: usize) -> usize {
    FINE_SLOTS + middle_slots(window_size, window_count) + COARSE_SLOTS + 2 * Window::ALL.len()
}
