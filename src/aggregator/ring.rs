//! A ring of slots that are found by their number in time.

/// Emptied in place, with its memory kept.
pub(crate) trait Clear {
    fn clear(&mut self);
}

/// Remembers which slot stands at a place: one that is out of range is simply not found. A jump of hours therefore
/// clears nothing and costs nothing; a place is emptied when it is used again.
#[derive(Debug)]
pub(crate) struct Ring<T> {
    places: Vec<Option<(u64, T)>>,
}

impl<T: Clear> Ring<T> {
    pub(crate) fn new(len: usize) -> Self {
        Self {
            places: (0..len.max(1)).map(|_| None).collect(),
        }
    }

    pub(crate) fn get(&self, number: u64) -> Option<&T> {
        match self.places.get(self.place(number)) {
            Some(Some((found, slot))) if *found == number => Some(slot),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn open(&mut self, number: u64, make: impl FnOnce() -> T) -> &mut T {
        let place = self.place(number);
        let (found, slot) = self.places[place].get_or_insert_with(|| (number, make()));
        if *found != number {
            *found = number;
            slot.clear();
        }
        slot
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    fn place(&self, number: u64) -> usize {
        let len = self.places.len() as u64;
        // Every request looks into three rings, and a division takes as long as the rest of the look.
        let place = if len.is_power_of_two() {
            number & (len - 1)
        } else {
            number % len
        };
        place as usize
    }
}
