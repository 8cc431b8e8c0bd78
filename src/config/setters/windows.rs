//! What is aggregated, over how long, and how often it is told.

use std::time::Duration;

use super::super::RealtimeConfig;
use crate::price::PriceTable;

/// Numbers.
impl RealtimeConfig {
    /// See [`window_size`](Self::window_size).
    pub const DEFAULT_WINDOW_SIZE: Duration = Duration::from_secs(60);
    /// See [`window_count`](Self::window_count).
    pub const DEFAULT_WINDOW_COUNT: usize = 60;
    /// See [`user_timeout`](Self::user_timeout).
    pub const DEFAULT_USER_TIMEOUT: Duration = Duration::from_secs(5 * 60);
    /// See [`stats_interval`](Self::stats_interval).
    pub const DEFAULT_STATS_INTERVAL: Duration = Duration::from_secs(2);
    /// See [`logs_interval`](Self::logs_interval).
    pub const DEFAULT_LOGS_INTERVAL: Duration = Duration::from_secs(1);
    /// See [`providers_interval`](Self::providers_interval).
    pub const DEFAULT_PROVIDERS_INTERVAL: Duration = Duration::from_secs(5);
    /// See [`system_interval`](Self::system_interval).
    pub const DEFAULT_SYSTEM_INTERVAL: Duration = Duration::from_secs(5);
    /// See [`currency`](Self::currency).
    pub const DEFAULT_CURRENCY: &str = "USD";

    /// The length of one window of the aggregates. Takes 1 s to 1 h. Defaults to 1 min.
    ///
    /// Shorter windows follow faster and cost memory: each of the [`window_count`](Self::window_count) windows has
    /// its own numbers and histograms of every route, model and provider that was seen in it.
    #[must_use]
    pub fn window_size(mut self, size: Duration) -> Self {
        self.window_size = size;
        self
    }

    /// How many windows are kept. Takes 1 to 1440. Defaults to 60, which with the default size is an hour.
    #[must_use]
    pub fn window_count(mut self, count: usize) -> Self {
        self.window_count = count;
        self
    }

    /// For how long after the last request a user counts as active. Takes 1 s to 1 d. Defaults to 5 min.
    #[must_use]
    pub fn user_timeout(mut self, timeout: Duration) -> Self {
        self.user_timeout = timeout;
        self
    }

    /// How often `stats` is published. Takes 100 ms to 1 h. Defaults to 2 s.
    ///
    /// Shorter: livelier pages, for one encoding of the snapshot each time and its bytes to every reader.
    #[must_use]
    pub fn stats_interval(mut self, interval: Duration) -> Self {
        self.stats_interval = interval;
        self
    }

    /// How often the new requests are published as one `logs` event. Takes 100 ms to 1 h. Defaults to 1 s.
    ///
    /// Longer: fewer and larger events; above 60,000 bytes they are split.
    #[must_use]
    pub fn logs_interval(mut self, interval: Duration) -> Self {
        self.logs_interval = interval;
        self
    }

    /// How often `providers` is published; a change of a provider's status is published at once. Takes 100 ms to 1 h.
    /// Defaults to 5 s.
    #[must_use]
    pub fn providers_interval(mut self, interval: Duration) -> Self {
        self.providers_interval = interval;
        self
    }

    /// How often `system` is published, and the host's gauges are asked. Takes 100 ms to 1 h. Defaults to 5 s.
    #[must_use]
    pub fn system_interval(mut self, interval: Duration) -> Self {
        self.system_interval = interval;
        self
    }

    /// What models cost. Defaults to an empty table: requests that do not say what they cost are then unpriced.
    #[must_use]
    pub fn prices(mut self, prices: PriceTable) -> Self {
        self.prices = prices;
        self
    }

    /// The currency of prices and costs, as its three-letter code. Nothing is converted. Defaults to `USD`.
    #[must_use]
    pub fn currency(mut self, code: impl Into<String>) -> Self {
        self.currency = code.into();
        self
    }
}
