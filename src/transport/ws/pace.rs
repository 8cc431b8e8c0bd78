//! Pace: how much a client may send.

/// A bucket of one minute's worth, which fills evenly.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    a_minute: u32,
    tokens: f32,
    filled_us: u64,
}

impl Pace {
    pub(super) fn new(a_minute: usize, now_us: u64) -> Self {
        let a_minute = u32::try_from(a_minute).unwrap_or(u32::MAX);
        Self {
            a_minute,
            tokens: a_minute as f32,
            filled_us: now_us,
        }
    }

    /// Whether `count` more are within the limit.
    pub(super) fn take(&mut self, count: u32, now_us: u64) -> bool {
        let passed = now_us.saturating_sub(self.filled_us) as f32 / 60e6;
        self.filled_us = now_us;
        let limit = self.a_minute as f32;
        self.tokens = (self.tokens + passed * limit).min(limit);
        if self.tokens < count as f32 {
            return false;
        }
        self.tokens -= count as f32;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_worth_at_once_then_evenly() {
        let mut pace = Pace::new(100, 0);
        assert!((0..100).all(|_| pace.take(1, 0)));
        assert!(!pace.take(1, 0));
        assert!(pace.take(1, 700_000));
        assert!(!pace.take(1, 700_000));
        assert!(pace.take(100, 200_000_000) && !pace.take(1, 200_000_000));
    }
}
