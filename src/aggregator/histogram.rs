//! Latency histograms on the collector's log-linear buckets: 16 to an octave, so a quantile is within ±3.1 % of a
//! value that was really recorded. Merging is exact and associative: percentiles of a window are those of its slots
//! put together, never an average of percentiles.

use crate::collector::{BUCKETS, bucket_range};

/// One counter for every bucket: for totals, and to merge into.
#[derive(Clone, Debug)]
pub(crate) struct Dense {
    counts: Box<[u64]>,
    count: u64,
    /// The buckets in use lie in `low..high`: clearing, merging and reading touch only these.
    low: usize,
    high: usize,
}

impl Default for Dense {
    fn default() -> Self {
        Self {
            counts: vec![0; BUCKETS].into_boxed_slice(),
            count: 0,
            low: BUCKETS,
            high: 0,
        }
    }
}

impl Dense {
    pub(crate) fn add(&mut self, bucket: usize, times: u64) {
        let bucket = bucket.min(BUCKETS - 1);
        self.counts[bucket] += times;
        self.count += times;
        self.low = self.low.min(bucket);
        self.high = self.high.max(bucket + 1);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        let range = other.low..other.high;
        for (count, more) in self.counts[range.clone()]
            .iter_mut()
            .zip(&other.counts[range])
        {
            *count += more;
        }
        self.count += other.count;
        self.low = self.low.min(other.low);
        self.high = self.high.max(other.high);
    }

    pub(crate) fn merge_sparse(&mut self, other: &Sparse) {
        let half = (1usize << other.shift) >> 1;
        for &(key, count) in &other.entries {
            self.add(((key as usize) << other.shift) + half, u64::from(count));
        }
    }

    pub(crate) fn clear(&mut self) {
        if self.count > 0 {
            self.counts[self.low..self.high].fill(0);
            self.count = 0;
        }
        self.low = BUCKETS;
        self.high = 0;
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The value of rank `ceil(quantile × count)`, in microseconds: the middle of its bucket. `None` while empty.
    pub(crate) fn quantile(&self, quantile: f64) -> Option<f64> {
        let [value] = self.quantiles([quantile])?;
        Some(value)
    }

    /// Several quantiles, in rising order, in one pass.
    pub(crate) fn quantiles<const N: usize>(&self, quantiles: [f64; N]) -> Option<[f64; N]> {
        if self.count == 0 {
            return None;
        }
        let mut values = [0.0; N];
        let mut bucket = self.low;
        let mut below = 0;
        for (value, quantile) in values.iter_mut().zip(quantiles) {
            let rank = ((quantile * self.count as f64).ceil() as u64).clamp(1, self.count);
            while below + self.counts[bucket] < rank {
                below += self.counts[bucket];
                bucket += 1;
            }
            *value = middle(bucket);
        }
        Some(values)
    }
}

/// The middle of a bucket, in microseconds; of the last one, which is open, its beginning.
fn middle(bucket: usize) -> f64 {
    let (low, high) = bucket_range(bucket);
    if bucket + 1 >= BUCKETS {
        return low as f64;
    }
    (low + high - 1) as f64 / 2.0
}

/// Only the buckets in use, sorted: for the rows of a breakdown, of which there are many.
///
/// Bounded: when a row would use more than its cap of buckets, pairs of neighbours are joined, which halves its
/// precision (16 → 8 → 4 buckets an octave) and never loses a count. Precision depends only on what was recorded, not
/// on the order of adding and merging. A counter stops at 4,294,967,295.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sparse {
    entries: Vec<(u16, u32)>,
    /// A key is the bucket's number shifted right by this.
    shift: u8,
}

impl Sparse {
    /// What a histogram of `cap` buckets takes on the heap at most.
    pub(crate) const fn ceiling(cap: usize) -> usize {
        // A vector doubles: it may hold a little under twice what it needs.
        cap.next_power_of_two() * size_of::<(u16, u32)>()
    }

    #[inline]
    pub(crate) fn add(&mut self, bucket: usize, times: u32, cap: usize) {
        let key = (bucket.min(BUCKETS - 1) >> self.shift) as u16;
        match self.find(key) {
            Ok(at) => self.entries[at].1 = self.entries[at].1.saturating_add(times),
            Err(at) if self.entries.len() < cap => self.entries.insert(at, (key, times)),
            Err(_) => {
                self.coarsen();
                self.add(bucket, times, cap);
            }
        }
    }

    /// Latencies of one row mostly lie close together, so its buckets are a run without gaps: then a key's place is its
    /// distance from the first. With gaps it is before that.
    #[inline]
    fn find(&self, key: u16) -> Result<usize, usize> {
        let Some(&(first, _)) = self.entries.first() else {
            return Err(0);
        };
        let guess = usize::from(key.saturating_sub(first));
        match self.entries.get(guess) {
            Some(entry) if entry.0 == key => Ok(guess),
            Some(_) => self.entries[..guess].binary_search_by_key(&key, |entry| entry.0),
            None => self.entries.binary_search_by_key(&key, |entry| entry.0),
        }
    }

    #[cfg(test)]
    pub(crate) fn add_us(&mut self, us: u64, cap: usize) {
        self.add(crate::collector::bucket_of(us), 1, cap);
    }

    pub(crate) fn merge(&mut self, other: &Self, cap: usize) {
        while self.shift < other.shift {
            self.coarsen();
        }
        let finer = self.shift - other.shift;
        // Once a slot has seen a row's usual latencies, nothing new comes: one pass over both lists, nothing moved.
        let mut at = 0;
        for &(key, count) in &other.entries {
            let key = key >> finer;
            while self.entries.get(at).is_some_and(|entry| entry.0 < key) {
                at += 1;
            }
            if let Some(entry) = self.entries.get_mut(at).filter(|entry| entry.0 == key) {
                entry.1 = entry.1.saturating_add(count);
            } else if self.entries.len() < cap {
                self.entries.insert(at, (key, count));
            } else {
                // Too many: join pairs, and put in what is left at the new precision.
                return self.merge_rest(other, key, finer, cap);
            }
        }
    }

    #[cold]
    fn merge_rest(&mut self, other: &Self, from: u16, finer: u8, cap: usize) {
        for &(key, count) in &other.entries {
            if key >> finer >= from {
                self.add((key as usize) << other.shift, count, cap);
            }
        }
    }

    fn coarsen(&mut self) {
        self.shift += 1;
        let mut kept = 0;
        for at in 0..self.entries.len() {
            let (key, count) = self.entries[at];
            let key = key >> 1;
            if kept > 0 && self.entries[kept - 1].0 == key {
                let total = &mut self.entries[kept - 1].1;
                *total = total.saturating_add(count);
            } else {
                self.entries[kept] = (key, count);
                kept += 1;
            }
        }
        self.entries.truncate(kept);
    }

    /// Empties it and keeps its memory for the next slot.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.shift = 0;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const CAP: usize = 128;

    fn sparse(values: &[u64], cap: usize) -> Sparse {
        let mut histogram = Sparse::default();
        for &us in values {
            histogram.add_us(us, cap);
        }
        histogram
    }

    fn dense(values: &[u64]) -> Dense {
        let mut histogram = Dense::default();
        for &us in values {
            histogram.add(crate::collector::bucket_of(us), 1);
        }
        histogram
    }

    fn exact(values: &[u64], quantile: f64) -> f64 {
        let mut sorted = values.to_vec();
        sorted.sort_unstable();
        let rank = ((quantile * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len());
        sorted[rank - 1] as f64
    }

    fn latency() -> impl Strategy<Value = u64> {
        (0u32..34, 0u64..1_000)
            .prop_map(|(octave, part)| (1u64 << octave) + ((part << octave) / 1_000))
    }

    proptest! {
        #[test]
        fn a_quantile_is_within_a_bucket_of_the_exact_one(values in vec(latency(), 1..400), q in 0.0f64..=1.0) {
            let found = dense(&values).quantile(q).unwrap();
            let exact = exact(&values, q);
            prop_assert!((found - exact).abs() <= exact * 0.032, "{found} for {exact}");
        }

        #[test]
        fn sparse_and_dense_agree_until_the_cap(values in vec(latency(), 1..100), q in 0.0f64..=1.0) {
            let mut merged = Dense::default();
            merged.merge_sparse(&sparse(&values, CAP));
            prop_assert_eq!(merged.quantile(q), dense(&values).quantile(q));
        }

        #[test]
        fn merging_is_associative_and_order_does_not_matter(
            a in vec(latency(), 0..80), b in vec(latency(), 0..80), c in vec(latency(), 0..80), cap in 8usize..40
        ) {
            let [x, y, z] = [&a, &b, &c].map(|values| sparse(values, cap));
            let merge = |a: &Sparse, b: &Sparse| {
                let mut merged = a.clone();
                merged.merge(b, cap);
                merged
            };
            let left = merge(&merge(&x, &y), &z);
            prop_assert_eq!(&left, &merge(&x, &merge(&y, &z)));
            prop_assert_eq!(&left, &merge(&merge(&z, &x), &y));
            let all: Vec<u64> = [a, b, c].concat();
            prop_assert_eq!(&left, &sparse(&all, cap));
            let mut counted = Dense::default();
            counted.merge_sparse(&left);
            prop_assert_eq!(counted.count(), all.len() as u64);
            prop_assert!(left.entries.len() <= cap);
        }

        #[test]
        fn totals_merge_in_any_order_and_in_any_grouping(
            a in vec(latency(), 0..80), b in vec(latency(), 0..80), c in vec(latency(), 0..80), q in 0.0f64..=1.0
        ) {
            let [x, y, z] = [&a, &b, &c].map(|values| dense(values));
            let merge = |a: &Dense, b: &Dense| {
                let mut merged = a.clone();
                merged.merge(b);
                merged
            };
            let left = merge(&merge(&x, &y), &z);
            let all: Vec<u64> = [a, b, c].concat();
            for other in [merge(&x, &merge(&y, &z)), merge(&merge(&z, &x), &y), dense(&all)] {
                prop_assert_eq!(&left.counts, &other.counts);
                prop_assert_eq!(left.count(), other.count());
                prop_assert_eq!(left.quantile(q), other.quantile(q));
            }
            // Never below, never beyond what was recorded, by more than half a bucket.
            if let Some([low, high]) = left.quantiles([0.0, 1.0]) {
                let (least, most) = (all.iter().min().unwrap(), all.iter().max().unwrap());
                prop_assert!(low >= *least as f64 * 0.968 && high <= *most as f64 * 1.032);
            }
        }

        #[test]
        fn a_cleared_histogram_is_a_new_one(values in vec(latency(), 0..80), others in vec(latency(), 1..80)) {
            let mut used = dense(&values);
            used.clear();
            used.merge(&dense(&others));
            prop_assert_eq!(&used.counts, &dense(&others).counts);
            let mut used = sparse(&values, 8);
            used.clear();
            used.merge(&sparse(&others, 8), 8);
            prop_assert_eq!(used, sparse(&others, 8));
        }

        #[test]
        fn coarse_quantiles_stay_within_their_precision(values in vec(latency(), 300..600), q in 0.0f64..=1.0) {
            let histogram = sparse(&values, CAP);
            let mut merged = Dense::default();
            merged.merge_sparse(&histogram);
            let exact = exact(&values, q);
            let found = merged.quantile(q).unwrap();
            // A joined bucket is `1 << shift` sixteenths of an octave wide.
            let width = f64::from(1u32 << histogram.shift) / 16.0;
            prop_assert!((found - exact).abs() <= exact * width + f64::from(1u32 << histogram.shift));
        }
    }

    #[test]
    fn the_empty_histogram_knows_no_quantile() {
        assert_eq!(Dense::default().quantile(0.5), None);
        let mut histogram = dense(&[5, 7]);
        histogram.clear();
        assert_eq!(histogram.quantile(0.5), None);
        assert_eq!(histogram.count(), 0);
    }

    #[test]
    fn a_value_beyond_the_last_bucket_is_counted_there() {
        let histogram = dense(&[u64::MAX]);
        assert!(histogram.quantile(1.0).unwrap() >= 3.0e10);
    }
}
