//! The closed slots of a window, put together once and prepared ahead.
//!
//! A window of an hour is sixty slots, and with full label tables it takes some ten milliseconds to add them up. A
//! reader must not wait for that, nor keep the lock for so long. So the sum is kept; a slot that closes is added to
//! it; and the sum that will be needed when the oldest slot leaves is put together beforehand, a few slots at a time.

use std::ops::Range;

use super::{ring::Ring, slot::Slot};

/// Closed slots of one window, for whoever asks for it.
#[derive(Debug, Default)]
pub(super) struct Merged {
    sum: Sum,
    /// Without the oldest slot: what `sum` will be when the window moves on.
    next: Sum,
    /// When it was asked for last, by the slot then in progress. A window that nobody asks for is not prepared.
    asked: Option<u64>,
}

/// The sum of the slots of a range, so far.
#[derive(Debug, Default)]
struct Sum {
    range: Range<u64>,
    slot: Option<Box<Slot>>,
    #[cfg(test)]
    additions: usize,
}

/// A window that was asked for is prepared for so many more of its slots.
const KEEN: u64 = 2;

impl Merged {
    /// The sum of a range of closed slots; `None` where there is none. Adds up what is missing.
    pub(super) fn of(
        &mut self,
        range: Range<u64>,
        current: u64,
        slots: &Ring<Box<Slot>>,
        max_users: usize,
    ) -> Option<&Slot> {
        self.asked = Some(current);
        if !self.sum.continues_to(&range) && self.next.continues_to(&range) {
            std::mem::swap(&mut self.sum, &mut self.next);
        }
        if !self.sum.continues_to(&range) {
            self.sum.begin(range.start, max_users);
        }
        self.sum.extend(range.end, usize::MAX, slots);
        self.sum.slot.as_deref()
    }

    /// Adds a few slots to what will be needed next, where somebody seems to be going to need it. Says how many.
    pub(super) fn prepare(
        &mut self,
        current: u64,
        most: usize,
        slots: &Ring<Box<Slot>>,
        max_users: usize,
    ) -> usize {
        if self.asked.is_none_or(|asked| asked + KEEN < current) || self.sum.range.is_empty() {
            return 0;
        }
        let range = self.sum.range.start + 1..self.sum.range.end;
        if !self.next.continues_to(&range) {
            self.next.begin(range.start, max_users);
        }
        self.next.extend(range.end, most, slots)
    }
}

#[cfg(test)]
impl Merged {
    /// How many slots were ever added to a sum.
    pub(super) fn additions(&self) -> usize {
        self.sum.additions + self.next.additions
    }
}

impl Sum {
    /// Whether the sum of a range is this one and perhaps some newer slots.
    fn continues_to(&self, range: &Range<u64>) -> bool {
        self.slot.is_some() && self.range.start == range.start && self.range.end <= range.end
    }

    fn begin(&mut self, start: u64, max_users: usize) {
        self.range = start..start;
        self.slot
            .get_or_insert_with(|| Box::new(Slot::new(max_users)))
            .clear();
    }

    fn extend(&mut self, end: u64, most: usize, slots: &Ring<Box<Slot>>) -> usize {
        let Some(sum) = &mut self.slot else {
            return 0;
        };
        let mut added = 0;
        while self.range.end < end && added < most {
            if let Some(closed) = slots.get(self.range.end) {
                sum.merge(closed);
                added += 1;
            }
            self.range.end += 1;
        }
        #[cfg(test)]
        {
            self.additions += added;
        }
        added
    }
}
