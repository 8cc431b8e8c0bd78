//! Latency buckets: log-linear, shared by the overflow cells and the aggregator's histograms.
//!
//! Values below 32 µs have a bucket each; above, every octave is cut into 16 buckets of one width, so the middle of a
//! bucket is at most 1/32 (3.1 %) away from any value in it. The last bucket is open.

/// Buckets an octave.
const STEPS: u64 = 16;
/// Values below this one have a bucket of their own.
const LINEAR: u64 = 2 * STEPS;
/// Where the last octave ends: 2^36 µs, about 19 hours.
const OCTAVES_END: u32 = 36;

/// How many buckets there are.
pub(crate) const BUCKETS: usize =
    (LINEAR + (OCTAVES_END - LINEAR.trailing_zeros()) as u64 * STEPS) as usize;

/// The bucket of a value in microseconds.
pub(crate) fn bucket_of(us: u64) -> usize {
    if us < LINEAR {
        return us as usize;
    }
    let octave = us.ilog2();
    if octave >= OCTAVES_END {
        return BUCKETS - 1;
    }
    // The leading bit and the four below it: 16..32.
    let shift = octave - STEPS.ilog2();
    let leading = us >> shift;
    (shift as u64 * STEPS + leading) as usize
}

/// The values of a bucket in microseconds: the lowest, and the first that is above it. The last bucket ends at
/// [`u64::MAX`]; an index that is not a bucket's is taken for the last.
pub(crate) fn bucket_range(index: usize) -> (u64, u64) {
    let index = index.min(BUCKETS - 1) as u64;
    if index < LINEAR {
        return (index, index + 1);
    }
    let shift = index / STEPS - 1;
    let low = (index % STEPS + STEPS) << shift;
    let high = if index as usize == BUCKETS - 1 {
        u64::MAX
    } else {
        low + (1 << shift)
    };
    (low, high)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_values_are_exact() {
        for us in 0..32 {
            assert_eq!(bucket_of(us), us as usize);
            assert_eq!(bucket_range(us as usize), (us, us + 1));
        }
    }

    #[test]
    fn buckets_join_without_a_gap_and_without_an_overlap() {
        let mut next = 0;
        for index in 0..BUCKETS {
            let (low, high) = bucket_range(index);
            assert_eq!(low, next, "bucket {index}");
            assert!(high > low, "bucket {index}");
            assert_eq!(bucket_of(low), index);
            assert_eq!(bucket_of(high - 1), index);
            next = high;
        }
        assert_eq!(next, u64::MAX);
        assert_eq!(BUCKETS, 528);
    }

    #[test]
    fn the_last_bucket_is_open() {
        assert_eq!(bucket_of(1 << 36), BUCKETS - 1);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert_eq!(bucket_range(usize::MAX), bucket_range(BUCKETS - 1));
    }

    proptest! {
        #[test]
        fn a_value_lies_in_its_bucket_and_near_its_middle(exponent in 0_u32..36, fraction in 0.0_f64..1.0) {
            let us = ((1_u64 << exponent) as f64 * (1.0 + fraction)) as u64;
            let us = us.min((1 << 36) - 1);
            let index = bucket_of(us);
            let (low, high) = bucket_range(index);
            prop_assert!(low <= us && us < high);
            if index < BUCKETS - 1 && us > 0 {
                let middle = (low + high - 1) as f64 / 2.0;
                prop_assert!((middle - us as f64).abs() / us as f64 <= 0.032);
            }
        }

        #[test]
        fn larger_values_never_have_a_lower_bucket(a in any::<u64>(), b in any::<u64>(), shift in 0_u32..64) {
            let (a, b) = (a >> shift, b >> shift);
            let (small, large) = (a.min(b), a.max(b));
            prop_assert!(bucket_of(small) <= bucket_of(large));
            prop_assert!(bucket_of(large) < BUCKETS);
        }
    }
}
