//! Totals over time, in closed buckets that are aligned to the epoch.

use serde::Serialize;

use super::{
    histogram::Dense,
    json::{money, ms, plain, plain_option},
    points::{Point, Points, SPREAD_SECONDS},
    timeline::{SECOND_US, Timeline},
    window::FINE,
};

/// What a page draws.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub(crate) struct Series {
    /// The span in seconds, as it was asked for; at most a day.
    pub range: u64,
    /// The length of a bucket in seconds. Beyond an hour, whole minutes.
    pub step: u64,
    /// Where the first bucket begins, unix seconds.
    pub from: u64,
    /// Where the last bucket ends.
    pub to: u64,
    /// The server's clock, unix seconds.
    pub now: u64,
    /// Closed buckets, oldest first.
    pub points: Vec<SeriesPoint>,
}

/// One bucket. A bucket in which the process did not run has `covered` 0 and no numbers: that is a gap, not idleness.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
#[allow(missing_docs)]
pub struct SeriesPoint {
    /// Where it begins, unix seconds.
    pub t: u64,
    pub requests: Option<u64>,
    /// By class of status; a failure without a status is in `s5`, an abort without one in none.
    pub s2: Option<u64>,
    pub s3: Option<u64>,
    pub s4: Option<u64>,
    pub s5: Option<u64>,
    /// By the client; those that had a status are in its class, too.
    pub aborted: Option<u64>,
    pub input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    pub cached_tokens: Option<u64>,
    #[serde(serialize_with = "plain_option")]
    pub cost: Option<f64>,
    pub in_flight_max: Option<u64>,
    /// Percentiles are `None` without requests, and where a bucket of less than 5 s is older than five minutes.
    #[serde(serialize_with = "plain_option")]
    pub p50_ms: Option<f64>,
    #[serde(serialize_with = "plain_option")]
    pub p95_ms: Option<f64>,
    #[serde(serialize_with = "plain_option")]
    pub p99_ms: Option<f64>,
    #[serde(serialize_with = "plain_option")]
    pub ttfb_p95_ms: Option<f64>,
    pub response_bytes: Option<u64>,
    /// Seconds of it that the process was there to see.
    #[serde(serialize_with = "plain")]
    pub covered: f64,
}

/// Reads points; holds the scratch histograms.
pub(crate) struct Reader<'a> {
    points: &'a Points,
    time: &'a Timeline,
    /// Seconds before this one are in the coarser steps.
    open_from: u64,
    latency: Dense,
    ttfb: Dense,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(points: &'a Points, time: &'a Timeline, open_from: u64) -> Self {
        Self {
            points,
            time,
            open_from,
            latency: Dense::default(),
            ttfb: Dense::default(),
        }
    }

    pub(crate) fn series(&mut self, range: u64, step: u64) -> Series {
        let range = range.clamp(1, 86_400);
        let (step, minutes) = if range <= 3_600 {
            (step.clamp(1, 60), false)
        } else {
            (step.clamp(60, 3_600).next_multiple_of(60), true)
        };
        let now = self.time.now_us() / SECOND_US;
        // The second before now is the last closed one, and a bucket closes with its last second.
        let to = now / step * step;
        let from = to.saturating_sub(range.div_ceil(step) * step);
        let points = (from..to)
            .step_by(step as usize)
            .map(|start| {
                if minutes {
                    self.by_minutes(start, start + step)
                } else {
                    self.by_seconds(start, start + step)
                }
            })
            .collect();
        Series {
            range,
            step,
            from: self.time.printed(from, step),
            to: self.time.printed(to, step),
            now: self.time.wall_now_us() / SECOND_US,
            points,
        }
    }

    /// The last closed second.
    pub(crate) fn last(&mut self) -> SeriesPoint {
        let now = self.time.now_us() / SECOND_US;
        self.by_seconds(now.saturating_sub(1), now)
    }

    fn by_seconds(&mut self, start: u64, end: u64) -> SeriesPoint {
        let mut sum = Point::default();
        for second in start..end {
            if let Some(point) = self.points.seconds.get(second) {
                sum.merge(point);
            }
        }
        self.latency.clear();
        self.ttfb.clear();
        if sum.requests > 0 {
            self.spread(start, end);
        }
        self.point(start, end, sum)
    }

    fn by_minutes(&mut self, start: u64, end: u64) -> SeriesPoint {
        self.latency.clear();
        self.ttfb.clear();
        let mut sum = Point::default();
        for minute in start / 60..end / 60 {
            // A minute that is not wholly folded yet still has all its seconds.
            if (minute + 1) * 60 > self.open_from {
                for second in minute * 60..(minute + 1) * 60 {
                    if let Some(point) = self.points.seconds.get(second) {
                        sum.merge(point);
                    }
                }
                self.spread(minute * 60, (minute + 1) * 60);
                continue;
            }
            if let Some(point) = self.points.minutes.get(minute) {
                sum.merge(point);
            }
            if let Some(spread) = self.points.spread_minutes.get(minute) {
                self.latency.merge_sparse(&spread.latency);
                self.ttfb.merge_sparse(&spread.ttfb);
            }
        }
        self.point(start, end, sum)
    }

    /// Histograms of a span: by the second where they are still there, else by whole fives.
    fn spread(&mut self, start: u64, end: u64) {
        let now = self.time.now_us() / SECOND_US;
        let fine_from = (now + FINE).saturating_sub(SPREAD_SECONDS as u64);
        let mut second = start;
        while second < end {
            if second >= fine_from {
                if let Some(spread) = self.points.spread_seconds.get(second) {
                    self.latency.merge_sparse(&spread.latency);
                    self.ttfb.merge_sparse(&spread.ttfb);
                }
                second += 1;
            } else if second.is_multiple_of(5) && second + 5 <= end {
                if let Some(spread) = self.points.spread_fives.get(second / 5) {
                    self.latency.merge_sparse(&spread.latency);
                    self.ttfb.merge_sparse(&spread.ttfb);
                }
                second += 5;
            } else {
                // Half a histogram would be a wrong one.
                self.latency.clear();
                self.ttfb.clear();
                return;
            }
        }
    }

    fn point(&self, start: u64, end: u64, sum: Point) -> SeriesPoint {
        let covered_us = self.time.covered_us(start * SECOND_US, end * SECOND_US);
        let here = covered_us > 0 || sum.requests > 0;
        let seen = |value: u64| here.then_some(value);
        let percentiles = self.latency.quantiles([0.5, 0.95, 0.99]);
        let percentile = |at: usize| percentiles.map(|values| ms(values[at]));
        SeriesPoint {
            t: self.time.printed(start, end - start),
            requests: seen(sum.requests),
            s2: seen(sum.classes[0]),
            s3: seen(sum.classes[1]),
            s4: seen(sum.classes[2]),
            s5: seen(sum.classes[3]),
            aborted: seen(sum.aborted),
            input_tokens: seen(sum.input_tokens),
            output_tokens: seen(sum.output_tokens),
            cached_tokens: seen(sum.cached_tokens),
            cost: here.then(|| money(sum.cost_nanos)),
            in_flight_max: seen(sum.in_flight_max),
            p50_ms: percentile(0),
            p95_ms: percentile(1),
            p99_ms: percentile(2),
            ttfb_p95_ms: self.ttfb.quantile(0.95).map(ms),
            response_bytes: seen(sum.response_bytes),
            covered: (covered_us as f64 / 1e3).round() / 1e3,
        }
    }
}
