//! The snapshot: every number of a window at once.

use serde::Serialize;

use super::{
    breakdown::{BreakdownRow, ProviderStats},
    counts::Counts,
    histogram::Dense,
    json::{money, ms, plain, plain_option, ratio, rounded},
    series::SeriesPoint,
    window::Window,
};

/// Every number of a window, and the rows that it is made of. The sums of the rows equal the totals.
///
/// Seen through a tenant, it holds that tenant's own numbers; rows, status codes and everything else that would tell of
/// others are empty or `None`.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// The totals.
    #[serde(flatten)]
    pub summary: Summary,
    /// By provider, largest first; `(none)` for requests without one.
    pub providers: Vec<ProviderStats>,
    /// By route template, largest first; `(unmatched)` for requests that no route took.
    pub routes: Vec<BreakdownRow>,
    /// By model, largest first.
    pub models: Vec<BreakdownRow>,
    /// The twenty largest users, and `other`.
    pub users: Vec<BreakdownRow>,
    /// The ten most frequent status codes. A request whose row was dropped has no code here.
    pub status_codes: Vec<StatusCode>,
}

/// How often a status code was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StatusCode {
    /// `None`: there was no response.
    pub code: Option<u16>,
    /// Requests.
    pub count: u64,
}

impl StatusCode {
    pub(crate) fn new(code: Option<u16>, count: u64) -> Self {
        Self { code, count }
    }
}

/// The totals of a window. Latencies in milliseconds, money in the configured currency, rates 0..1; what is unknown is
/// `None`.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
#[allow(missing_docs)]
pub struct Summary {
    /// When it was taken, unix seconds.
    pub timestamp: u64,
    pub timestamp_ms: u64,
    pub last_updated: u64,
    /// Where the window's oldest slot begins, unix seconds; it may lie before the start of the process.
    pub window_start: u64,
    pub window: Window,
    /// The length that the window's name promises.
    pub window_seconds: u64,
    /// How long the process really watched since `window_start`: less than the window after a start or a suspension,
    /// up to one slot more otherwise.
    #[serde(serialize_with = "plain")]
    pub covered_seconds: f64,
    /// Which process speaks: numbers are those of one process.
    pub instance: String,
    pub currency: String,
    pub uptime_seconds: u64,
    pub started_at: u64,
    /// The tenant whose numbers these are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,

    pub total_requests: u64,
    pub successful_requests: u64,
    pub failed_requests: u64,
    #[serde(serialize_with = "plain_option")]
    pub success_rate: Option<f64>,
    #[serde(serialize_with = "plain_option")]
    pub error_rate: Option<f64>,
    pub client_errors: u64,
    pub server_errors: u64,
    pub aborted_requests: u64,
    pub timeout_count: u64,
    pub quota_exhausted: u64,

    #[serde(serialize_with = "plain_option")]
    pub avg_latency_ms: Option<f64>,
    #[serde(serialize_with = "plain_option")]
    pub p50_ms: Option<f64>,
    #[serde(serialize_with = "plain_option")]
    pub p95_ms: Option<f64>,
    #[serde(serialize_with = "plain_option")]
    pub p99_ms: Option<f64>,
    #[serde(serialize_with = "plain_option")]
    pub avg_ttfb_ms: Option<f64>,
    #[serde(serialize_with = "plain_option")]
    pub ttfb_p95_ms: Option<f64>,

    /// Finished in the last 10 s, divided by 10.
    #[serde(serialize_with = "plain_option")]
    pub requests_per_second: Option<f64>,
    /// Over the covered time; within the first minute, what has come so far.
    #[serde(serialize_with = "plain")]
    pub requests_per_min: f64,

    /// Input and output.
    pub total_tokens: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// Part of `input_tokens`.
    pub cached_tokens: u64,
    #[serde(serialize_with = "plain_option")]
    pub avg_tokens_per_req: Option<f64>,

    #[serde(serialize_with = "plain")]
    pub total_cost: f64,
    #[serde(serialize_with = "plain_option")]
    pub avg_cost_per_req: Option<f64>,
    /// Over the covered time; within the first minute, what has come so far.
    #[serde(serialize_with = "plain")]
    pub cost_per_minute: f64,
    /// `None` while less than a minute is covered.
    #[serde(serialize_with = "plain_option")]
    pub estimated_hourly_cost: Option<f64>,
    /// Requests that used tokens of which nobody knows the price.
    pub unpriced_requests: u64,

    pub request_bytes: u64,
    pub response_bytes: u64,

    /// Seen within the user timeout, to the minute.
    pub active_users: Option<u64>,
    /// Since midnight UTC.
    pub unique_users_today: Option<u64>,
    /// Exact up to 256 users, ±1.6 % beyond.
    pub unique_users_approximate: bool,

    pub in_flight: Option<u64>,
    pub in_flight_peak: Option<u64>,

    pub capabilities: Capabilities,
    /// Requests that were recorded since the start.
    pub recorded: Option<u64>,
    /// Requests that are in no list because the feed was full; every number counts them.
    pub dropped: Option<u64>,
    pub feed: Option<Feed>,
    pub series: Option<SeriesUse>,
    /// Since the start.
    pub lifetime: Option<Lifetime>,
    pub latency: Latencies,
    /// The last full second.
    pub point: Option<SeriesPoint>,
}

/// What the host reports at all: a page hides what was never seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Capabilities {
    /// A request had tokens.
    pub tokens: bool,
    /// A request had a cost.
    pub cost: bool,
    /// A request named a provider, or the host registered one.
    pub providers: bool,
    /// A request named a user.
    pub users: bool,
}

/// The way of rows from the requests to the lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Feed {
    /// Rows that fit.
    pub capacity: usize,
    /// Rows that wait.
    pub pending: usize,
    /// Rows that were never streamed, because whoever publishes them fell behind by 8,192.
    pub skipped: u64,
}

/// How full the label tables are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
#[allow(missing_docs)]
pub struct SeriesUse {
    pub routes: TableUse,
    pub providers: TableUse,
    pub models: TableUse,
    pub tenants: TableUse,
    pub users: TableUse,
}

/// How full one label table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TableUse {
    /// Labels of their own.
    pub used: usize,
    /// Labels that fit.
    pub max: usize,
    /// How often a label did not fit and went to `other`.
    pub overflow: u64,
}

/// Sums since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
#[allow(missing_docs)]
pub struct Lifetime {
    pub total_requests: u64,
    pub successful_requests: u64,
    pub failed_requests: u64,
    pub total_tokens: u64,
    #[serde(serialize_with = "plain")]
    pub total_cost: f64,
    pub unpriced_requests: u64,
}

/// Percentiles of the usual windows, whatever window the snapshot has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Latencies {
    /// One minute.
    #[serde(rename = "60")]
    pub one_minute: Percentiles,
    /// Five minutes.
    #[serde(rename = "300")]
    pub five_minutes: Percentiles,
    /// A quarter of an hour.
    #[serde(rename = "900")]
    pub fifteen_minutes: Percentiles,
    /// An hour.
    #[serde(rename = "3600")]
    pub one_hour: Percentiles,
}

/// Percentiles of the latency, in milliseconds, within ±3.1 %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
#[allow(missing_docs)]
pub struct Percentiles {
    #[serde(serialize_with = "plain_option")]
    pub p50_ms: Option<f64>,
    #[serde(serialize_with = "plain_option")]
    pub p95_ms: Option<f64>,
    #[serde(serialize_with = "plain_option")]
    pub p99_ms: Option<f64>,
    /// Of so many requests.
    pub count: u64,
}

impl Percentiles {
    pub(crate) fn of(histogram: &Dense) -> Self {
        match histogram.quantiles([0.5, 0.95, 0.99]) {
            Some([p50, p95, p99]) => Self {
                p50_ms: Some(ms(p50)),
                p95_ms: Some(ms(p95)),
                p99_ms: Some(ms(p99)),
                count: histogram.count(),
            },
            None => Self::default(),
        }
    }
}

impl Summary {
    /// The part that sums and histograms decide; the rest is filled in by who knows it.
    pub(crate) fn of(
        window: Window,
        covered_us: u64,
        counts: &Counts,
        latency: &Dense,
        ttfb_p95_us: Option<f64>,
    ) -> Self {
        let covered = covered_us as f64 / 1e6;
        // Dividing by a few seconds would turn one request after a start into a rush.
        let minutes = covered.max(60.0) / 60.0;
        let cost_per_minute = rounded_cost(counts.cost_nanos as f64 / minutes);
        let percentiles = Percentiles::of(latency);
        let average = |sum: u64, of: u64| (of > 0).then(|| sum as f64 / of as f64);
        Self {
            timestamp: 0,
            timestamp_ms: 0,
            last_updated: 0,
            window_start: 0,
            window,
            window_seconds: window.seconds(),
            covered_seconds: (covered * 1e3).round() / 1e3,
            instance: String::new(),
            currency: String::new(),
            uptime_seconds: 0,
            started_at: 0,
            tenant_id: None,
            total_requests: counts.requests,
            successful_requests: counts.success,
            failed_requests: counts.failed(),
            success_rate: ratio(counts.success, counts.requests),
            error_rate: ratio(counts.failed(), counts.requests),
            client_errors: counts.class4,
            server_errors: counts.class5,
            aborted_requests: counts.aborted,
            timeout_count: counts.timeouts,
            quota_exhausted: counts.quota,
            avg_latency_ms: average(counts.latency_us, counts.requests).map(ms),
            p50_ms: percentiles.p50_ms,
            p95_ms: percentiles.p95_ms,
            p99_ms: percentiles.p99_ms,
            avg_ttfb_ms: average(counts.ttfb_us, counts.ttfb_count).map(ms),
            ttfb_p95_ms: ttfb_p95_us.map(ms),
            requests_per_second: None,
            requests_per_min: rounded(counts.requests as f64 / minutes),
            total_tokens: counts.tokens(),
            input_tokens: counts.input_tokens,
            output_tokens: counts.output_tokens,
            cached_tokens: counts.cached_tokens,
            avg_tokens_per_req: average(counts.tokens(), counts.requests).map(rounded),
            total_cost: money(counts.cost_nanos),
            avg_cost_per_req: average(counts.cost_nanos, counts.requests).map(rounded_cost),
            cost_per_minute,
            estimated_hourly_cost: (covered >= 60.0)
                .then(|| rounded_cost(counts.cost_nanos as f64 / minutes * 60.0)),
            unpriced_requests: counts.unpriced,
            request_bytes: counts.request_bytes,
            response_bytes: counts.response_bytes,
            active_users: None,
            unique_users_today: None,
            unique_users_approximate: false,
            in_flight: None,
            in_flight_peak: None,
            capabilities: Capabilities::default(),
            recorded: None,
            dropped: None,
            feed: None,
            series: None,
            lifetime: None,
            latency: Latencies::default(),
            point: None,
        }
    }
}

/// Nano-units as a number with nine decimals.
fn rounded_cost(nanos: f64) -> f64 {
    nanos.round() / 1e9
}
