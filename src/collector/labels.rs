//! Label tables: text to small numbers, lock-free, with a cap and a visible `other`.
//!
//! A table has two arrays. The *index* is open addressing over words of `tag | id`: 32 bits of the text's hash and
//! the number of a *cell*. The cell holds the text, is written once and never changes, so its text can be lent out.
//! Looking a known text up is a hash, a probe and a compare.
//!
//! A new text claims a cell's number first, then exchanges it into the first free word of its probe sequence, then
//! writes the cell. Whoever finds a word with its own tag and an empty cell writes the cell itself instead of waiting:
//! almost certainly it has the same text in its hands, and if not, the one whose text was not taken goes on probing.
//! Words are never cleared, so two threads with one text meet at the same word: a text has one id. A number that was
//! claimed in vain is given back.
//!
//! Texts are cut to 128 bytes, and a probe looks at 128 words at most, twice as many as cells: with half of them
//! free a longer run does not occur, and a hostile one costs no more than that.
//!
//! The models at the end are checked with
//! `RUSTFLAGS="--cfg loom" cargo test --release --no-default-features --lib loom --target-dir target/loom`.

use std::{fmt, sync::OnceLock};

use rapidhash::v3::{RapidSecrets, rapidhash_v3_nano_inline};

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Longer texts are cut, at a character's end.
pub(crate) const MAX_LABEL_BYTES: usize = 128;

const PROBES: usize = 128;
const TAG: u64 = 0xffff_ffff_0000_0000;

/// A label of one table. Ids are dense: `FIRST..FIRST + len`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LabelId(pub(crate) u32);

impl LabelId {
    /// Nothing was said.
    pub(crate) const UNSET: Self = Self(0);
    /// The table was full.
    pub(crate) const OTHER: Self = Self(1);
    /// The first text that was interned.
    pub(crate) const FIRST: u32 = 2;
}

/// One table of interned labels, each with something attached that is made when the label is new.
///
/// Holds as many texts as it was made for; what comes after that is [`LabelId::OTHER`] and counted.
pub(crate) struct LabelTable<T = ()> {
    secrets: RapidSecrets,
    make: fn() -> T,
    /// `tag | id`, 0 where free. A power of two, at least twice the cells.
    index: Box<[AtomicU64]>,
    /// By `id - 1`: `other` is the first.
    cells: Box<[OnceLock<Cell<T>>]>,
    /// What belongs to [`LabelId::UNSET`].
    unset: T,
    /// One bit per id that is taken, from [`LabelId::FIRST`] on; the lowest free one is next.
    claimed: Box<[AtomicU64]>,
    /// How many bits were taken, so that a full table is known without a look at them.
    len: AtomicU32,
    overflow: AtomicU64,
}

struct Cell<T> {
    text: Box<str>,
    attached: T,
}

/// How full a table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TableUse {
    /// Texts that have an id.
    pub(crate) used: usize,
    /// How many fit.
    pub(crate) max: usize,
    /// How often a text found no room.
    pub(crate) overflow: u64,
}

impl LabelTable {
    #[cfg(test)]
    pub(crate) fn new(capacity: usize) -> Self {
        Self::with_attached(capacity, || ())
    }
}

impl<T> LabelTable<T> {
    /// What a full table takes on the heap at most, with so much behind what is attached to each text.
    pub(super) fn ceiling(capacity: usize, behind: usize) -> usize {
        let capacity = capacity.min(1 << 24);
        let cell = size_of::<OnceLock<Cell<T>>>() + MAX_LABEL_BYTES + behind;
        Self::words(capacity) * size_of::<AtomicU64>()
            + (capacity + 1) * cell
            + capacity.div_ceil(64) * size_of::<AtomicU64>()
            // What belongs to no label.
            + behind
    }

    /// Two words for every cell, `other` included.
    fn words(capacity: usize) -> usize {
        ((capacity + 1) * 2).next_power_of_two()
    }

    pub(super) fn with_attached(capacity: usize, make: fn() -> T) -> Self {
        Self::with_secrets(capacity, make, RapidSecrets::random())
    }

    pub(super) fn with_secrets(capacity: usize, make: fn() -> T, secrets: RapidSecrets) -> Self {
        let capacity = capacity.min(1 << 24);
        let table = Self {
            secrets,
            make,
            index: (0..Self::words(capacity))
                .map(|_| AtomicU64::new(0))
                .collect(),
            cells: (0..=capacity).map(|_| OnceLock::new()).collect(),
            unset: make(),
            claimed: (0..capacity.div_ceil(64))
                .map(|word| {
                    // The bits past the capacity are taken from the start.
                    let bits = (capacity - word * 64).min(64) as u32;
                    AtomicU64::new(!u64::MAX.checked_shr(64 - bits).unwrap_or(0))
                })
                .collect(),
            len: AtomicU32::new(0),
            overflow: AtomicU64::new(0),
        };
        // The literal text `other` is the row `other`, not a second one of that name.
        let hash = table.hash("other");
        table
            .entry(hash, 0)
            .store(hash & TAG | u64::from(LabelId::OTHER.0), Ordering::Relaxed);
        table.write(LabelId::OTHER, "other");
        table
    }

    /// The id of a text. Known text: a hash and a compare. New text: one allocation, once. A full table answers
    /// [`LabelId::OTHER`] and counts it. An empty text says nothing: [`LabelId::UNSET`].
    pub(crate) fn intern(&self, text: &str) -> LabelId {
        let text = cut(text, MAX_LABEL_BYTES);
        if text.is_empty() {
            return LabelId::UNSET;
        }
        let hash = self.hash(text);
        // Nearly every known text is found at the first look.
        //
        // Relaxed: the word itself is the whole message. Whether its cell has been written is asked of the cell,
        // which orders its own text, and a word that is wrongly seen free does not let the exchange succeed.
        let word = self.entry(hash, 0).load(Ordering::Relaxed);
        if word & TAG == hash & TAG
            && let Some(cell) = self.cell(id_of(word))
            && *cell.text == *text
        {
            return id_of(word);
        }
        self.search(text, hash)
    }

    /// The text of an id; `None` for [`LabelId::UNSET`], `other` for [`LabelId::OTHER`].
    pub(crate) fn resolve(&self, id: LabelId) -> Option<&str> {
        self.cell(id).map(|cell| &*cell.text)
    }

    pub(crate) fn usage(&self) -> TableUse {
        TableUse {
            used: self.len.load(Ordering::Relaxed) as usize,
            max: self.cells.len() - 1,
            overflow: self.overflow.load(Ordering::Relaxed),
        }
    }

    /// What is attached to an id; that of [`LabelId::UNSET`] for an id that this table never gave out.
    pub(super) fn attached(&self, id: LabelId) -> &T {
        self.cell(id).map_or(&self.unset, |cell| &cell.attached)
    }

    /// Every id of the table, [`LabelId::UNSET`] and [`LabelId::OTHER`] included, with what is attached.
    pub(super) fn each_attached(&self) -> impl Iterator<Item = (LabelId, &T)> {
        let cells = self.cells.iter().enumerate().filter_map(|(index, cell)| {
            let id = LabelId(index as u32 + LabelId::OTHER.0);
            cell.get().map(|cell| (id, &cell.attached))
        });
        std::iter::once((LabelId::UNSET, &self.unset)).chain(cells)
    }

    /// Looks at all words that the text may be at.
    fn search(&self, text: &str, hash: u64) -> LabelId {
        for probe in 0..PROBES.min(self.index.len()) {
            let word = self.entry(hash, probe).load(Ordering::Relaxed);
            if word == 0 {
                return self.insert(text, hash);
            }
            if word & TAG == hash & TAG && self.is(id_of(word), text) {
                return id_of(word);
            }
        }
        self.refuse()
    }

    #[cold]
    fn insert(&self, text: &str, hash: u64) -> LabelId {
        let Some(mut mine) = self.claim() else {
            return self.refuse();
        };
        for probe in 0..PROBES.min(self.index.len()) {
            let entry = self.entry(hash, probe);
            let word = hash & TAG | u64::from(mine.0);
            // Relaxed on both sides, for the reason given in `intern`; that only one thread wins a word is the
            // exchange's own doing, whatever the ordering.
            let found = match entry.compare_exchange(0, word, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => {
                    if self.is(mine, text) {
                        return mine;
                    }
                    // Another text with the same tag was quicker to write the cell: it has that id now.
                    match self.claim() {
                        Some(next) => mine = next,
                        None => return self.refuse(),
                    }
                    continue;
                }
                Err(found) => found,
            };
            if found & TAG == hash & TAG && self.is(id_of(found), text) {
                self.give_back(mine);
                return id_of(found);
            }
        }
        self.give_back(mine);
        self.refuse()
    }

    /// Whether a cell holds this text; an empty cell is given it.
    fn is(&self, id: LabelId, text: &str) -> bool {
        let known = self.cell(id).unwrap_or_else(|| self.write(id, text));
        *known.text == *text
    }

    /// Writes a cell, unless another thread is quicker. Two that do so at the same instant wait for each other's
    /// move of the finished value; that is all that is ever waited for here, and for new texts only.
    #[cold]
    fn write(&self, id: LabelId, text: &str) -> &Cell<T> {
        let cell = &self.cells[(id.0 - LabelId::OTHER.0) as usize];
        let fresh = Cell {
            text: text.into(),
            attached: (self.make)(),
        };
        let mut fresh = Some(fresh);
        cell.get_or_init(|| fresh.take().expect("runs once"))
    }

    #[inline]
    fn entry(&self, hash: u64, probe: usize) -> &AtomicU64 {
        &self.index[(hash as usize).wrapping_add(probe) & (self.index.len() - 1)]
    }

    #[inline]
    fn cell(&self, id: LabelId) -> Option<&Cell<T>> {
        let index = id.0.checked_sub(LabelId::OTHER.0)?;
        self.cells.get(index as usize)?.get()
    }

    /// The lowest id that is free.
    fn claim(&self) -> Option<LabelId> {
        let capacity = self.cells.len() as u32 - 1;
        // Acquire: pairs with the release in `give_back`. Whoever is counted in because a number came back sees its
        // bit cleared, so there is always a bit for us below. The bits themselves are relaxed: they only hand out
        // numbers, nothing is published by them, and a number that came back was never in the index.
        self.len
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |len| {
                (len < capacity).then_some(len + 1)
            })
            .ok()?;
        loop {
            for (index, word) in self.claimed.iter().enumerate() {
                let mut free = !word.load(Ordering::Relaxed);
                while free != 0 {
                    let bit = free.trailing_zeros();
                    let before = word.fetch_or(1 << bit, Ordering::Relaxed);
                    if before & 1 << bit == 0 {
                        return Some(LabelId(LabelId::FIRST + index as u32 * 64 + bit));
                    }
                    free = !before;
                }
            }
            std::hint::spin_loop();
        }
    }

    fn give_back(&self, id: LabelId) {
        let position = id.0 - LabelId::FIRST;
        self.claimed[position as usize / 64].fetch_and(!(1 << (position % 64)), Ordering::Relaxed);
        // Release: see `claim`.
        self.len.fetch_sub(1, Ordering::Release);
    }

    #[cold]
    fn refuse(&self) -> LabelId {
        self.overflow.fetch_add(1, Ordering::Relaxed);
        LabelId::OTHER
    }

    fn hash(&self, text: &str) -> u64 {
        rapidhash_v3_nano_inline::<true, false>(text.as_bytes(), &self.secrets)
    }
}

impl<T> fmt::Debug for LabelTable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the texts, which may name users, nor the seeds.
        f.debug_struct("LabelTable")
            .field("usage", &self.usage())
            .finish_non_exhaustive()
    }
}

/// The text, cut to at most `max` bytes at a character's end.
#[inline]
pub(crate) fn cut(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let mut end = max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn id_of(word: u64) -> LabelId {
    LabelId(word as u32)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::{
        collections::HashSet,
        sync::{Arc, Barrier},
        thread,
    };

    use super::*;

    #[test]
    fn a_text_has_one_id_and_an_id_one_text() {
        let table = LabelTable::new(100);
        for round in 0..2 {
            for number in 0..100_u32 {
                let id = table.intern(&format!("label {number}"));
                assert_eq!(id, LabelId(LabelId::FIRST + number), "round {round}");
                assert_eq!(table.resolve(id), Some(&*format!("label {number}")));
            }
        }
        assert_eq!(
            table.usage(),
            TableUse {
                used: 100,
                max: 100,
                overflow: 0
            }
        );
    }

    #[test]
    fn a_full_table_says_other_and_counts_it() {
        let table = LabelTable::new(3);
        for text in ["a", "b", "c"] {
            assert_ne!(table.intern(text), LabelId::OTHER);
        }
        assert_eq!(table.intern("d"), LabelId::OTHER);
        assert_eq!(table.intern("e"), LabelId::OTHER);
        assert_eq!(table.resolve(LabelId::OTHER), Some("other"));
        assert_eq!(table.intern("b"), LabelId(LabelId::FIRST + 1));
        assert_eq!(table.usage().overflow, 2);
        assert_eq!(table.usage().used, 3);
    }

    #[test]
    fn a_large_table_can_be_filled_to_the_last_place() {
        for capacity in [0, 1, 63, 64, 65, 4096] {
            let table = LabelTable::new(capacity);
            let ids: HashSet<_> = (0..capacity)
                .map(|number| table.intern(&format!("user-{number}")))
                .collect();
            assert_eq!(ids.len(), capacity);
            assert!(!ids.contains(&LabelId::OTHER));
            let highest = ids.iter().map(|id| id.0).max();
            assert_eq!(
                highest.unwrap_or(LabelId::OTHER.0),
                LabelId::OTHER.0 + capacity as u32
            );
            assert_eq!(table.intern("one more"), LabelId::OTHER);
            assert_eq!(table.usage().overflow, 1);
        }
    }

    #[test]
    fn the_text_other_is_the_row_other() {
        let table = LabelTable::new(4);
        assert_eq!(table.intern("other"), LabelId::OTHER);
        assert_eq!(
            table.usage(),
            TableUse {
                max: 4,
                ..TableUse::default()
            }
        );
    }

    #[test]
    fn nothing_said_is_unset() {
        let table = LabelTable::new(4);
        assert_eq!(table.intern(""), LabelId::UNSET);
        assert_eq!(table.resolve(LabelId::UNSET), None);
        assert_eq!(table.resolve(LabelId(77)), None);
        assert_eq!(table.resolve(LabelId(u32::MAX)), None);
    }

    #[test]
    fn long_texts_are_cut_at_a_characters_end() {
        let table = LabelTable::new(4);
        let long = "x".repeat(10 * 1024);
        let id = table.intern(&long);
        assert_eq!(table.resolve(id), Some(&long[..128]));
        assert_eq!(table.intern(&long[..128]), id);

        // 127 bytes, then a character of three: it does not fit.
        let euro = format!("{}€€", "y".repeat(127));
        let id = table.intern(&euro);
        assert_eq!(table.resolve(id), Some(&*"y".repeat(127)));
        // 32 characters of four bytes fit to the last byte.
        let emoji = "🦀".repeat(33);
        let id = table.intern(&emoji);
        assert_eq!(table.resolve(id), Some(&*"🦀".repeat(32)));
    }

    #[test]
    fn many_threads_agree_on_the_ids_of_new_texts() {
        const THREADS: usize = 8;
        const TEXTS: usize = 500;
        for _ in 0..5 {
            let table = Arc::new(LabelTable::new(TEXTS));
            let barrier = Arc::new(Barrier::new(THREADS));
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    let (table, barrier) = (table.clone(), barrier.clone());
                    thread::spawn(move || {
                        barrier.wait();
                        (0..TEXTS)
                            .map(|number| {
                                let text = format!("text {number}");
                                let id = table.intern(&text);
                                // With as many places as texts a thread may find the last ones claimed twice over
                                // for a moment; then it says `other`, never a wrong id.
                                assert!(id == LabelId::OTHER || table.resolve(id) == Some(&*text));
                                id
                            })
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            let seen: Vec<_> = threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect();
            let settled: Vec<_> = (0..TEXTS)
                .map(|number| table.intern(&format!("text {number}")))
                .collect();
            for ids in seen {
                for (id, settled) in ids.iter().zip(&settled) {
                    assert!(id == settled || *id == LabelId::OTHER);
                }
            }
            assert_eq!(settled.iter().collect::<HashSet<_>>().len(), TEXTS);
            assert_eq!(table.usage().used, TEXTS);
        }
    }

    /// All threads ask for one new text at the same moment, over and over.
    #[test]
    fn one_new_text_from_many_threads_gets_one_id() {
        const THREADS: usize = 4;
        const ROUNDS: usize = 2_000;
        let table = Arc::new(LabelTable::new(ROUNDS + THREADS));
        let barrier = Arc::new(Barrier::new(THREADS));
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let (table, barrier) = (table.clone(), barrier.clone());
                thread::spawn(move || {
                    (0..ROUNDS)
                        .map(|round| {
                            let text = format!("{round}");
                            barrier.wait();
                            table.intern(&text)
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let seen: Vec<_> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        for ids in &seen {
            assert_eq!(ids, &seen[0]);
            assert!(!ids.contains(&LabelId::OTHER));
        }
        assert_eq!(table.usage().used, ROUNDS);
        assert_eq!(table.usage().overflow, 0);
    }

    #[test]
    fn what_is_attached_is_made_once_for_each_label() {
        let table = LabelTable::with_attached(2, || AtomicU64::new(0));
        let a = table.intern("a");
        table.attached(a).fetch_add(1, Ordering::Relaxed);
        table
            .attached(table.intern("a"))
            .fetch_add(1, Ordering::Relaxed);
        table
            .attached(LabelId::UNSET)
            .fetch_add(5, Ordering::Relaxed);
        table
            .attached(LabelId::OTHER)
            .fetch_add(7, Ordering::Relaxed);
        let sums: Vec<_> = table
            .each_attached()
            .map(|(id, value)| (id.0, value.load(Ordering::Relaxed)))
            .collect();
        assert_eq!(sums, [(0, 5), (1, 7), (2, 2)]);
    }

    #[test]
    fn debug_names_no_text() {
        let table = LabelTable::new(2);
        table.intern("ana@example.org");
        assert!(!format!("{table:?}").contains("ana"));
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use loom::{sync::Arc, thread};
    use rapidhash::v3::DEFAULT_RAPID_SECRETS;

    use super::*;

    /// Fixed seeds: a model has to run the same way every time.
    fn table(capacity: usize) -> Arc<LabelTable> {
        Arc::new(LabelTable::with_secrets(
            capacity,
            || (),
            DEFAULT_RAPID_SECRETS,
        ))
    }

    /// Two threads with the same new text get one id, and no id is used up for nothing.
    #[test]
    fn loom_labels_same_new_text() {
        loom::model(|| {
            let table = table(2);
            let other = {
                let table = table.clone();
                thread::spawn(move || table.intern("a"))
            };
            let mine = table.intern("a");
            assert_eq!(mine, other.join().unwrap());
            assert_eq!(table.resolve(mine), Some("a"));
            assert_eq!(table.usage().used, 1);
            assert_eq!(table.intern("b").0 + mine.0, 2 * LabelId::FIRST + 1);
        });
    }

    /// Two threads with different texts get different ids, each with its own text.
    #[test]
    fn loom_labels_different_new_texts() {
        loom::model(|| {
            let table = table(2);
            let other = {
                let table = table.clone();
                thread::spawn(move || table.intern("b"))
            };
            let mine = table.intern("a");
            let other = other.join().unwrap();
            assert_ne!(mine, other);
            assert_eq!(table.resolve(mine), Some("a"));
            assert_eq!(table.resolve(other), Some("b"));
            assert_eq!(table.usage().used, 2);
        });
    }
}
