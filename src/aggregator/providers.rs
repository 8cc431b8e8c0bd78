//! Providers: what the host says about them, and how they are doing.

use std::{collections::VecDeque, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::collector::LabelId;

use super::{
    health::{Health, ProviderStatus, Sample},
    json::{ms, plain_option, ratio},
    tenant_health::Own,
    window::Window,
};

/// Providers that are remembered, registered and seen in traffic together.
pub(crate) const MAX_PROVIDERS: usize = 256;
/// Status changes that wait to be published; beyond it the oldest are dropped, as the newest counts.
const MAX_CHANGES: usize = 256;

/// What the host says about a provider. `None` is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub(crate) struct ProviderInfo {
    /// As handlers give it to the meter.
    pub id: String,
    /// For people.
    pub name: Option<String>,
    /// `free`, `paid`, whatever the host distinguishes.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// How many models it offers.
    pub models: Option<u32>,
    /// Whether it streams answers.
    pub supports_streaming: Option<bool>,
    /// Whether its models call tools.
    pub supports_tools: Option<bool>,
    /// Overrules what is derived from traffic.
    pub status: Option<ProviderStatus>,
    /// For people, beside the status.
    pub message: String,
}

/// One provider, as seed 000 prints it, with percentiles. Numbers are those of the window.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
#[allow(missing_docs)]
pub(crate) struct ProviderView {
    pub id: String,
    /// The id where the host gave no name.
    pub name: String,
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub status: ProviderStatus,
    /// 0..1 over the last minute; `None` without requests, unless the host set a status.
    #[serde(serialize_with = "plain_option")]
    pub health_score: Option<f64>,
    #[serde(serialize_with = "plain_option")]
    pub avg_latency_ms: Option<f64>,
    pub supports_streaming: Option<bool>,
    pub supports_tools: Option<bool>,
    pub model_count: Option<u32>,
    /// When the status was last looked at, unix seconds.
    pub last_health_check: Option<u64>,
    pub realtime_requests: Option<u64>,
    #[serde(serialize_with = "plain_option")]
    pub realtime_success_rate: Option<f64>,
    pub realtime_errors: Option<u64>,
    #[serde(serialize_with = "plain_option")]
    pub p50_ms: Option<f64>,
    #[serde(serialize_with = "plain_option")]
    pub p95_ms: Option<f64>,
    #[serde(serialize_with = "plain_option")]
    pub p99_ms: Option<f64>,
    #[serde(serialize_with = "plain_option")]
    pub ttfb_p95_ms: Option<f64>,
    /// What the host says.
    pub message: String,
    /// Why the status is what it is.
    pub status_reason: String,
}

/// All providers: those that the host registered, and those that were seen in traffic. A tenant's are those that the
/// host registered and those in its own traffic.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub(crate) struct ProvidersSnapshot {
    /// Unix seconds.
    pub timestamp: u64,
    /// The window of the numbers: an hour. The status looks at the last minute.
    pub window: Window,
    /// In the order of their first appearance.
    pub providers: Vec<ProviderView>,
    /// How many there are.
    pub total: usize,
    /// Whose view it is; a tenant sees no numbers.
    #[serde(skip)]
    pub(crate) tenant: Option<String>,
}

/// A provider's status has changed, as seed 001 prints it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
#[allow(missing_docs)]
pub(crate) struct ProviderStatusEvent {
    pub provider_id: String,
    pub provider_name: String,
    pub status: ProviderStatus,
    pub previous_status: ProviderStatus,
    /// Neither down nor disabled.
    pub available: bool,
    /// The median of the last minute.
    #[serde(serialize_with = "plain_option")]
    pub latency_ms: Option<f64>,
    /// Of the last minute.
    #[serde(serialize_with = "plain_option")]
    pub success_rate: Option<f64>,
    /// What the host says.
    pub message: String,
    /// Why the status is what it is.
    pub status_reason: String,
    /// Unix seconds.
    pub timestamp: u64,
    /// By whose requests, and for whose eyes; `None` for everybody's.
    #[serde(skip)]
    pub(crate) tenant: Option<Arc<str>>,
}

/// What has become of statuses since somebody asked.
#[derive(Debug, Default)]
pub(crate) struct StatusChanges {
    /// By everybody's requests, oldest first.
    pub(crate) events: Vec<ProviderStatusEvent>,
    /// The host has said something, which every tenant may see.
    pub(crate) by_host: bool,
    /// Tenants for whom something has changed by their own requests.
    pub(crate) tenants: Vec<String>,
}

impl StatusChanges {
    /// Whether a tenant may see another status than before.
    pub(crate) fn concern(&self, tenant: &str) -> bool {
        self.by_host || self.tenants.iter().any(|changed| changed == tenant)
    }
}

/// One remembered provider.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) info: ProviderInfo,
    /// The host has named it, not only a request: then every tenant may know of it.
    pub(crate) registered: bool,
    pub(crate) label: LabelId,
    pub(crate) health: Health,
    /// The median of its last hour, in microseconds, where there is enough to tell.
    pub(crate) baseline_us: Option<f64>,
    sample: Sample,
    announced: ProviderStatus,
}

impl Provider {
    fn new(id: &str, label: LabelId) -> Self {
        Self {
            info: ProviderInfo {
                id: id.to_owned(),
                ..ProviderInfo::default()
            },
            registered: false,
            label,
            health: Health::default(),
            baseline_us: None,
            sample: Sample::default(),
            announced: ProviderStatus::default(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self.info.name.as_deref() {
            Some(name) if !name.is_empty() => name,
            _ => &self.info.id,
        }
    }

    /// By everybody's requests.
    pub(crate) fn standing(&self) -> Standing<'_> {
        Standing {
            provider: self,
            health: &self.health,
            sample: &self.sample,
        }
    }

    /// By one tenant's requests.
    pub(crate) fn standing_for<'a>(&'a self, own: Own<'a>) -> Standing<'a> {
        Standing {
            provider: self,
            health: own.health,
            sample: own.sample,
        }
    }
}

/// How a provider stands, by somebody's requests: everybody's, or one tenant's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing<'a> {
    pub(crate) provider: &'a Provider,
    pub(crate) health: &'a Health,
    sample: &'a Sample,
}

impl Standing<'_> {
    /// The host's word, else what was derived.
    pub(crate) fn status(&self) -> ProviderStatus {
        self.provider.info.status.unwrap_or(self.health.status)
    }

    pub(crate) fn reason(&self) -> String {
        match self.provider.info.status {
            Some(_) => "set by the host".to_owned(),
            None => self.health.reason.clone(),
        }
    }

    pub(crate) fn score(&self) -> Option<f64> {
        match (self.provider.info.status, self.health.score) {
            (Some(ProviderStatus::Disabled), _) => None,
            (Some(ProviderStatus::Down), _) => Some(0.0),
            (_, Some(score)) => Some(score),
            (Some(ProviderStatus::Healthy), None) => Some(1.0),
            (Some(ProviderStatus::Degraded), None) => Some(0.5),
            (_, None) => None,
        }
    }

    /// Its status as it is, as if it had just become it.
    pub(crate) fn event(&self, timestamp: u64) -> ProviderStatusEvent {
        let (provider, status) = (self.provider, self.status());
        ProviderStatusEvent {
            provider_id: provider.info.id.clone(),
            provider_name: provider.name().to_owned(),
            status,
            previous_status: status,
            available: status.is_available(),
            latency_ms: self.sample.p50_us.map(ms),
            success_rate: ratio(self.sample.success, self.sample.requests),
            message: provider.info.message.clone(),
            status_reason: self.reason(),
            timestamp,
            tenant: None,
        }
    }
}

/// The registry.
#[derive(Debug, Default)]
pub(crate) struct Providers {
    entries: Vec<Provider>,
    /// By label: has an entry.
    seen: Vec<bool>,
    changes: VecDeque<ProviderStatusEvent>,
    /// The host has said something since somebody asked.
    host_spoke: bool,
}

impl Providers {
    /// Sets what the host says. `false`: there are too many, and this one was not taken.
    pub(crate) fn upsert(&mut self, info: ProviderInfo, label: LabelId, now: u64) -> bool {
        if info.id.is_empty() {
            return false;
        }
        let known = self
            .entries
            .iter()
            .position(|entry| entry.info.id == info.id);
        let at = match known {
            Some(at) => at,
            None if self.entries.len() < MAX_PROVIDERS => {
                self.remember(&info.id, label);
                self.entries.len() - 1
            }
            None => return false,
        };
        self.entries[at].info = info;
        self.entries[at].registered = true;
        self.host_spoke = true;
        self.announce(at, now);
        true
    }

    /// A provider was named by a request; whether it is one of those that are remembered.
    #[inline]
    pub(crate) fn saw<'a>(&mut self, label: LabelId, id: impl FnOnce() -> Option<&'a str>) -> bool {
        if label.0 < LabelId::FIRST {
            return false;
        }
        if self.seen.get(label.0 as usize).copied().unwrap_or(false) {
            return true;
        }
        match id() {
            Some(id) if self.entries.len() < MAX_PROVIDERS => {
                self.remember(id, label);
                true
            }
            _ => false,
        }
    }

    /// Takes a new look at one provider.
    pub(crate) fn assess(&mut self, at: usize, sample: Sample, now: u64) {
        let entry = &mut self.entries[at];
        entry.health.update(&sample, entry.baseline_us, now);
        entry.sample = sample;
        self.announce(at, now);
    }

    pub(crate) fn entries(&self) -> &[Provider] {
        &self.entries
    }

    pub(crate) fn entries_mut(&mut self) -> &mut [Provider] {
        &mut self.entries
    }

    pub(crate) fn find(&self, id: &str) -> Option<&Provider> {
        self.entries.iter().find(|entry| entry.info.id == id)
    }

    pub(crate) fn take_changes(&mut self) -> Vec<ProviderStatusEvent> {
        self.changes.drain(..).collect()
    }

    /// Whether the host has said something since the last call.
    pub(crate) fn take_host_spoke(&mut self) -> bool {
        std::mem::take(&mut self.host_spoke)
    }

    fn remember(&mut self, id: &str, label: LabelId) {
        if label.0 >= LabelId::FIRST {
            let index = label.0 as usize;
            if index >= self.seen.len() {
                self.seen.resize(index + 1, false);
            }
            self.seen[index] = true;
        }
        self.entries.push(Provider::new(id, label));
    }

    fn announce(&mut self, at: usize, now: u64) {
        let entry = &mut self.entries[at];
        let status = entry.standing().status();
        if status == entry.announced {
            return;
        }
        let event = ProviderStatusEvent {
            previous_status: entry.announced,
            ..entry.standing().event(now)
        };
        entry.announced = status;
        if self.changes.len() == MAX_CHANGES {
            self.changes.pop_front();
        }
        self.changes.push_back(event);
    }
}
