//! The users of one slot: the largest by name, the rest together in `other`.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
};

use super::counts::{Cell, Counts, Sample};

/// Buckets of a user's latency histogram: users are many, and 32 buckets hold two octaves at full precision.
pub(crate) const USER_BUCKETS: usize = 32;

/// A user, by the hash of the name. Hashes are 64 bits of a seeded hash: two users of one process never meet in practice.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) hash: u64,
    pub(crate) name: Arc<str>,
}

/// Whom a request is counted for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Who<'a> {
    /// The request named nobody.
    Nobody,
    /// The request named somebody, and the name is not known any more.
    Other,
    Named(&'a User),
}

/// At most `max` named rows. When one more user comes, the smallest eighth is put into `other`: sums stay exact,
/// and every row knows how much of it may have gone there earlier.
#[derive(Clone, Debug)]
pub(crate) struct UserRows {
    max: usize,
    pub(crate) none: Cell,
    pub(crate) other: Cell,
    places: HashMap<u64, u32, BuildHasherDefault<AlreadyHashed>>,
    /// The first `len` are in use, the others keep their memory for the next slot.
    rows: Vec<UserRow>,
    len: usize,
    /// No user without a row has more than so many requests in `other`.
    floor: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct UserRow {
    pub(crate) user: User,
    pub(crate) cell: Cell,
    /// `floor + bound` requests of this user may be in `other`. Relative to the floor, because then merging two
    /// slots is an addition: a slot in which the user has no row contributes 0.
    pub(crate) bound: i64,
}

impl UserRows {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max: max.max(1),
            none: Cell::default(),
            other: Cell::default(),
            places: HashMap::default(),
            rows: Vec::new(),
            len: 0,
            floor: 0,
        }
    }

    /// How many rows were put into `other` to make room.
    pub(crate) fn add(&mut self, who: Who<'_>, sample: &Sample) -> usize {
        match who {
            Who::Nobody => self.none.add(sample, USER_BUCKETS),
            Who::Other => self.other.add(sample, USER_BUCKETS),
            Who::Named(user) => {
                let (row, evicted) = self.row(user);
                row.cell.add(sample, USER_BUCKETS);
                return evicted;
            }
        }
        0
    }

    /// The numbers of rows that were dropped, of one user. They have no histogram.
    pub(crate) fn add_overflow(&mut self, who: Who<'_>, counts: &Counts) -> usize {
        match who {
            Who::Nobody => self.none.counts += counts,
            Who::Other => self.other.counts += counts,
            Who::Named(user) => {
                let (row, evicted) = self.row(user);
                row.cell.counts += counts;
                return evicted;
            }
        }
        0
    }

    fn row(&mut self, user: &User) -> (&mut UserRow, usize) {
        if let Some(&place) = self.places.get(&user.hash) {
            return (&mut self.rows[place as usize], 0);
        }
        let evicted = if self.len >= self.max {
            self.evict()
        } else {
            0
        };
        let place = self.len;
        self.len += 1;
        self.places.insert(user.hash, place as u32);
        match self.rows.get_mut(place) {
            Some(row) => {
                row.user = user.clone();
                row.cell.clear();
                row.bound = 0;
            }
            None => self.rows.push(UserRow {
                user: user.clone(),
                cell: Cell::default(),
                bound: 0,
            }),
        }
        (&mut self.rows[place], evicted)
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.none.merge(&other.none, USER_BUCKETS);
        self.other.merge(&other.other, USER_BUCKETS);
        self.floor += other.floor;
        for row in other.rows() {
            let (merged, _) = self.row(&row.user);
            merged.cell.merge(&row.cell, USER_BUCKETS);
            merged.bound += row.bound;
        }
    }

    pub(crate) fn get(&self, hash: u64) -> Option<&UserRow> {
        let place = *self.places.get(&hash)?;
        self.rows.get(place as usize)
    }

    pub(crate) fn rows(&self) -> &[UserRow] {
        &self.rows[..self.len]
    }

    pub(crate) fn floor(&self) -> u64 {
        self.floor
    }

    pub(crate) fn clear(&mut self) {
        self.none.clear();
        self.other.clear();
        self.places.clear();
        self.len = 0;
        self.floor = 0;
    }

    /// An eighth at a time, so that a flood of new names costs each of them little.
    #[cold]
    fn evict(&mut self) -> usize {
        let leaving = (self.max / 8).max(1).min(self.len);
        let kept = self.len - leaving;
        let rows = &mut self.rows[..self.len];
        rows.select_nth_unstable_by_key(kept, |row| std::cmp::Reverse(row.cell.counts.requests));
        let mut largest = 0;
        for row in &rows[kept..] {
            largest = largest.max(row.cell.counts.requests);
            self.other.merge(&row.cell, USER_BUCKETS);
        }
        self.floor += largest;
        self.places.clear();
        for (place, row) in rows[..kept].iter_mut().enumerate() {
            row.bound -= largest as i64;
            self.places.insert(row.user.hash, place as u32);
        }
        self.len = kept;
        leaving
    }
}

/// The keys are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
