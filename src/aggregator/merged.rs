//! The closed slots of a window, put together once and prepared ahead.
//!
//! A window of an hour is sixty slots, and with full label tables it takes more than twenty milliseconds to add them
//! up. A reader must not wait for that, nor keep the lock for so long, whether or not somebody has asked for the window
//! before. So the sum of every window is kept; a slot that closes is added to it; and the sum that will be needed when
//! the oldest slot leaves is put together beforehand, a slot at a time.

use std::ops::Range;

use super::{ring::Ring, slot::Slot};

/// Closed slots of one window, for whoever asks for it.
#[derive(Debug, Default)]
pub(super) struct Merged {
    sum: Sum,
    /// Without the oldest slot: what `sum` will be when the window moves on.
    next: Sum,
}

/// The sum of the slots of a range, so far.
#[derive(Debug, Default)]
struct Sum {
    range: Range<u64>,
    slot: Option<Box<Slot>>,
    #[cfg(test)]
    additions: usize,
}

impl Merged {
    /// The sum of a range of closed slots; `None` where there is none. Adds up what is missing.
    pub(super) fn of(
        &mut self,
        range: Range<u64>,
        slots: &Ring<Box<Slot>>,
        max_users: usize,
    ) -> Option<&Slot> {
        while self.gather(&range, slots, max_users) {}
        self.sum.slot.as_deref()
    }

    /// Adds one slot to the sum of a range. `false`: it is whole.
    pub(super) fn gather(
        &mut self,
        range: &Range<u64>,
        slots: &Ring<Box<Slot>>,
        max_users: usize,
    ) -> bool {
        if !self.sum.continues_to(range) {
            if self.next.continues_to(range) {
                std::mem::swap(&mut self.sum, &mut self.next);
            } else {
                self.sum.begin(range.start, max_users);
            }
        }
        self.sum.extend(range.end, slots)
    }

    /// Adds one slot to the sum of a range, or to what will be needed when its oldest slot leaves. `false`: both are
    /// whole.
    pub(super) fn prepare(
        &mut self,
        range: &Range<u64>,
        slots: &Ring<Box<Slot>>,
        max_users: usize,
    ) -> bool {
        if self.gather(range, slots, max_users) {
            return true;
        }
        if range.is_empty() {
            return false;
        }
        let range = range.start + 1..range.end;
        if !self.next.continues_to(&range) {
            self.next.begin(range.start, max_users);
        }
        self.next.extend(range.end, slots)
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

    /// Adds the next slot before `end` that there is. `false`: there is none.
    fn extend(&mut self, end: u64, slots: &Ring<Box<Slot>>) -> bool {
        let Some(sum) = &mut self.slot else {
            return false;
        };
        while self.range.end < end {
            let closed = slots.get(self.range.end);
            self.range.end += 1;
            if let Some(closed) = closed {
                sum.merge(closed);
                #[cfg(test)]
                {
                    self.additions += 1;
                }
                return true;
            }
        }
        false
    }
}
