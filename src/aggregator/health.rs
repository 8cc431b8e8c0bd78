//! How a provider's status follows from its traffic.
//!
//! Looked at every second, over the last minute (60 to 70 s). A *fault* is a failure that speaks against the provider:
//! no answer, 5xx, 408, 429, a broken body, or the handler's own verdict; other 4xx and clients that leave are not.
//!
//! | status | begins | ends |
//! |---|---|---|
//! | `down` | 5 requests or more, half of them faults | less than a quarter faults, for 15 s |
//! | `degraded` by errors | 5 requests or more, at least 2 and 5 % faults | less than 2.5 %, for 15 s |
//! | `degraded` by latency | 20 requests or more, p95 ≥ 6 × or p50 ≥ 3 × the median of the hour, and p95 ≥ 100 ms | p95 < 4 × and p50 < 2 ×, for 15 s |
//! | `idle` | no request | the first request |
//!
//! Getting worse is taken at once, getting better only when it lasts, and with fewer than five requests nothing gets
//! better: so a status does not flap. The yardstick for latency is the provider's own median over the hour, because a
//! median does not move with a few bad minutes; twice the median stands for a usual p95, and three times that is slow.

use serde::{Deserialize, Serialize};

const MIN_REQUESTS: u64 = 5;
const MIN_TIMED: u64 = 20;
/// A handler of a millisecond that takes ten is slower, and nobody's trouble.
const MIN_SLOW_US: f64 = 100_000.0;
const RECOVERY_SECONDS: u64 = 15;

/// How a provider is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ProviderStatus {
    /// It answers as it usually does.
    Healthy,
    /// It fails or is slow more often than it should.
    Degraded,
    /// It fails at least every second time.
    Down,
    /// It has had no request for a minute.
    #[default]
    Idle,
    /// The host does not use it.
    Disabled,
    /// The host does not know.
    Unknown,
}

impl ProviderStatus {
    /// The status in lower case, as it stands in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Down => "down",
            Self::Idle => "idle",
            Self::Disabled => "disabled",
            Self::Unknown => "unknown",
        }
    }

    pub(super) fn is_available(self) -> bool {
        !matches!(self, Self::Down | Self::Disabled)
    }
}

/// A provider's last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sample {
    pub(crate) requests: u64,
    pub(crate) success: u64,
    pub(crate) faults: u64,
    pub(crate) p50_us: Option<f64>,
    pub(crate) p95_us: Option<f64>,
}

#[derive(Clone, Debug)]
pub(crate) struct Health {
    pub(crate) status: ProviderStatus,
    pub(crate) reason: String,
    /// 0..1: the share of requests without a fault, halved at most for being slow. `None` without requests.
    pub(crate) score: Option<f64>,
    /// Unix seconds.
    pub(crate) checked: Option<u64>,
    better_since: Option<u64>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            status: ProviderStatus::Idle,
            reason: "no requests yet".to_owned(),
            score: None,
            checked: None,
            better_since: None,
        }
    }
}

impl Health {
    pub(crate) fn update(&mut self, sample: &Sample, baseline_us: Option<f64>, now: u64) {
        self.checked = Some(now);
        self.score = score(sample, baseline_us);
        let (status, reason) = assess(self.status, sample, baseline_us);
        if severity(status) >= severity(self.status) || sample.requests == 0 {
            self.better_since = None;
            self.status = status;
            self.reason = reason;
            return;
        }
        let since = *self.better_since.get_or_insert(now);
        if now.saturating_sub(since) >= RECOVERY_SECONDS {
            self.better_since = None;
            self.status = status;
            self.reason = reason;
        } else {
            self.reason = format!("recovering: {reason}");
        }
    }
}

fn severity(status: ProviderStatus) -> u8 {
    match status {
        ProviderStatus::Degraded => 1,
        ProviderStatus::Down => 2,
        _ => 0,
    }
}

fn assess(
    current: ProviderStatus,
    sample: &Sample,
    baseline_us: Option<f64>,
) -> (ProviderStatus, String) {
    let Sample {
        requests, faults, ..
    } = *sample;
    if requests == 0 {
        return (
            ProviderStatus::Idle,
            "no requests in the last minute".to_owned(),
        );
    }
    if requests < MIN_REQUESTS {
        let status = match current {
            ProviderStatus::Degraded | ProviderStatus::Down => current,
            _ => ProviderStatus::Healthy,
        };
        return (
            status,
            format!("only {requests} requests in the last minute"),
        );
    }
    let rate = faults as f64 / requests as f64;
    let failing = |threshold: &str| {
        let percent = rate * 100.0;
        format!("error rate {percent:.1} % ≥ {threshold} in the last minute")
    };
    let was = severity(current);
    if rate >= if was == 2 { 0.25 } else { 0.5 } {
        let threshold = if was == 2 { "25 %" } else { "50 %" };
        return (ProviderStatus::Down, failing(threshold));
    }
    if faults >= 2 && rate >= if was >= 1 { 0.025 } else { 0.05 } {
        let threshold = if was >= 1 { "2.5 %" } else { "5 %" };
        return (ProviderStatus::Degraded, failing(threshold));
    }
    if let (Some(baseline), Some(p50), Some(p95)) = (baseline_us, sample.p50_us, sample.p95_us)
        && requests >= MIN_TIMED
        && p95 >= MIN_SLOW_US
        && baseline > 0.0
    {
        let (of_p95, of_p50) = if was >= 1 { (4.0, 2.0) } else { (6.0, 3.0) };
        for (name, value, times) in [("p95", p95, of_p95), ("p50", p50, of_p50)] {
            if value >= times * baseline {
                let reason = format!(
                    "{name} {:.0} ms ≥ {times} × the hour's median of {:.0} ms",
                    value / 1e3,
                    baseline / 1e3,
                );
                return (ProviderStatus::Degraded, reason);
            }
        }
    }
    let percent = rate * 100.0;
    (
        ProviderStatus::Healthy,
        format!("error rate {percent:.1} % in the last minute"),
    )
}

fn score(sample: &Sample, baseline_us: Option<f64>) -> Option<f64> {
    if sample.requests == 0 {
        return None;
    }
    let answered = 1.0 - sample.faults as f64 / sample.requests as f64;
    let pace = match (baseline_us, sample.p95_us) {
        (Some(baseline), Some(p95)) if sample.requests >= MIN_TIMED && p95 >= MIN_SLOW_US => {
            (4.0 * baseline / p95).clamp(0.5, 1.0)
        }
        _ => 1.0,
    };
    Some((answered * pace * 1e4).round() / 1e4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(requests: u64, faults: u64) -> Sample {
        timed(requests, faults, 200.0, 400.0)
    }

    fn timed(requests: u64, faults: u64, p50_ms: f64, p95_ms: f64) -> Sample {
        Sample {
            requests,
            success: requests - faults,
            faults,
            p50_us: Some(p50_ms * 1e3),
            p95_us: Some(p95_ms * 1e3),
        }
    }

    fn after(health: &mut Health, now: u64, sample: &Sample) -> ProviderStatus {
        health.update(sample, Some(200_000.0), now);
        health.status
    }

    #[test]
    fn thresholds_are_as_documented() {
        for (requests, faults, status) in [
            (4, 4, ProviderStatus::Healthy),
            (5, 1, ProviderStatus::Healthy),
            (40, 2, ProviderStatus::Degraded),
            (41, 2, ProviderStatus::Healthy),
            (6, 3, ProviderStatus::Down),
            (7, 3, ProviderStatus::Degraded),
            (0, 0, ProviderStatus::Idle),
        ] {
            let mut health = Health::default();
            assert_eq!(
                after(&mut health, 0, &sample(requests, faults)),
                status,
                "{faults} of {requests}: {}",
                health.reason
            );
        }
        let slow = |requests, p50, p95| {
            let mut health = Health::default();
            after(&mut health, 0, &timed(requests, 0, p50, p95))
        };
        assert_eq!(slow(20, 200.0, 1_200.0), ProviderStatus::Degraded);
        assert_eq!(slow(20, 600.0, 700.0), ProviderStatus::Degraded);
        assert_eq!(slow(19, 200.0, 1_200.0), ProviderStatus::Healthy);
        assert_eq!(slow(20, 200.0, 1_199.0), ProviderStatus::Healthy);
    }

    #[test]
    fn getting_worse_is_immediate_and_getting_better_takes_time() {
        let mut health = Health::default();
        assert_eq!(
            after(&mut health, 0, &sample(20, 0)),
            ProviderStatus::Healthy
        );
        assert_eq!(after(&mut health, 1, &sample(20, 10)), ProviderStatus::Down);
        // Between the thresholds nothing changes, however long it lasts.
        assert_eq!(after(&mut health, 2, &sample(20, 6)), ProviderStatus::Down);
        assert_eq!(after(&mut health, 90, &sample(20, 6)), ProviderStatus::Down);
        assert_eq!(after(&mut health, 91, &sample(20, 0)), ProviderStatus::Down);
        assert_eq!(
            after(&mut health, 105, &sample(20, 0)),
            ProviderStatus::Down
        );
        assert!(health.reason.starts_with("recovering"));
        assert_eq!(
            after(&mut health, 106, &sample(20, 0)),
            ProviderStatus::Healthy
        );
    }

    #[test]
    fn a_relapse_starts_the_recovery_again() {
        let mut health = Health::default();
        after(&mut health, 0, &sample(20, 10));
        after(&mut health, 10, &sample(20, 0));
        after(&mut health, 20, &sample(20, 10));
        assert_eq!(after(&mut health, 30, &sample(20, 0)), ProviderStatus::Down);
        assert_eq!(after(&mut health, 44, &sample(20, 0)), ProviderStatus::Down);
        assert_eq!(
            after(&mut health, 45, &sample(20, 0)),
            ProviderStatus::Healthy
        );
    }

    #[test]
    fn does_not_flap_around_a_threshold() {
        let mut health = Health::default();
        let mut changes = 0;
        let mut last = ProviderStatus::Healthy;
        for second in 0..600 {
            let status = after(&mut health, second, &sample(100, 4 + second % 3));
            changes += u32::from(status != last);
            last = status;
        }
        assert_eq!((changes, last), (1, ProviderStatus::Degraded));
    }

    #[test]
    fn few_requests_prove_no_recovery() {
        let mut health = Health::default();
        after(&mut health, 0, &sample(20, 20));
        for second in 1..60 {
            assert_eq!(
                after(&mut health, second, &sample(4, 0)),
                ProviderStatus::Down
            );
        }
        assert_eq!(after(&mut health, 61, &sample(0, 0)), ProviderStatus::Idle);
        assert_eq!(health.score, None);
    }

    #[test]
    fn the_score_falls_with_faults_and_slowness() {
        assert_eq!(score(&sample(100, 5), None), Some(0.95));
        assert_eq!(
            score(&timed(100, 0, 200.0, 1_000.0), Some(200_000.0)),
            Some(0.8)
        );
        assert_eq!(
            score(&timed(100, 0, 200.0, 9_000.0), Some(200_000.0)),
            Some(0.5)
        );
    }
}
