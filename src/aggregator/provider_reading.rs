//! Reading the state: providers, as everybody's requests have them stand, or as one tenant's do.

use std::sync::Arc;

use crate::collector::LabelId;

use super::{
    breakdown::{Line, ProviderStats, label_line},
    providers::{
        Provider, ProviderStatusEvent, ProviderView, ProvidersSnapshot, Standing, StatusChanges,
    },
    reading::empty_line,
    slot::Slot,
    state::State,
    timeline::SECOND_US,
    window::Window,
};

impl State {
    pub(crate) fn providers(&mut self, tenant: Option<&str>) -> ProvidersSnapshot {
        let window = Window::OneHour;
        let now = self.time.wall_now_us() / SECOND_US;
        let providers: Vec<ProviderView> = match tenant {
            // Numbers of an hour are not kept for each tenant, and others' are none of its business.
            Some(tenant) => self
                .standings_for(tenant)
                .map(|standing| provider_view(standing, None))
                .collect(),
            None => {
                let slots = self.ladder.view(window).slots;
                let entries = self.providers.entries().iter();
                entries
                    .map(|provider| provider_view(provider.standing(), Some(&slots)))
                    .collect()
            }
        };
        ProvidersSnapshot {
            timestamp: now,
            window,
            total: providers.len(),
            providers,
            tenant: tenant.map(str::to_owned),
        }
    }

    pub(crate) fn provider(&mut self, id: &str, tenant: Option<&str>) -> Option<ProviderView> {
        if let Some(tenant) = tenant {
            let standing = self
                .standings_for(tenant)
                .find(|standing| standing.provider.info.id == id)?;
            return Some(provider_view(standing, None));
        }
        let slots = self.ladder.view(Window::OneHour).slots;
        let provider = self.providers.find(id)?;
        Some(provider_view(provider.standing(), Some(&slots)))
    }

    /// The current status of each provider, as if it had just changed: for a subscriber who has seen none yet.
    pub(crate) fn statuses(&self, tenant: Option<&str>, now: u64) -> Vec<ProviderStatusEvent> {
        let Some(tenant) = tenant else {
            let entries = self.providers.entries().iter();
            return entries
                .map(|provider| provider.standing().event(now))
                .collect();
        };
        let whose: Arc<str> = tenant.into();
        self.standings_for(tenant)
            .map(|standing| ProviderStatusEvent {
                tenant: Some(whose.clone()),
                ..standing.event(now)
            })
            .collect()
    }

    pub(crate) fn take_status_changes(&mut self) -> StatusChanges {
        let labels = self.context.collector.labels();
        let changed = self.tenant_health.take_changed();
        StatusChanges {
            events: self.providers.take_changes(),
            by_host: self.providers.take_host_spoke(),
            tenants: changed
                .filter_map(|label| labels.tenant.resolve(label).map(str::to_owned))
                .collect(),
        }
    }

    /// The providers that a tenant may know of, as they stand by its own requests: those that the host registered,
    /// and those that it has used.
    fn standings_for(&self, tenant: &str) -> impl Iterator<Item = Standing<'_>> {
        let label = self.tenant_label(tenant);
        self.providers.entries().iter().filter_map(move |provider| {
            let unused = || provider.registered.then(|| self.tenant_health.unused());
            let own = self.tenant_health.of(label, provider.label);
            own.or_else(unused).map(|own| provider.standing_for(own))
        })
    }

    pub(crate) fn provider_metrics(&mut self, id: &str, window: Window) -> Option<ProviderStats> {
        let slots = self.ladder.view(window).slots;
        let provider = self.providers.find(id)?;
        let all = slots.iter().map(|slot| slot.totals.counts.requests).sum();
        Some(provider_line(provider, &slots).provider(all))
    }
}

fn provider_view(standing: Standing<'_>, slots: Option<&[&Slot]>) -> ProviderView {
    let provider = standing.provider;
    let id = &provider.info.id;
    let stats = slots.map(|slots| provider_line(provider, slots).provider(0));
    let stats = stats.as_ref();
    ProviderView {
        id: id.clone(),
        name: provider.name().to_owned(),
        kind: provider.info.kind.clone(),
        status: standing.status(),
        health_score: standing.score(),
        avg_latency_ms: stats.and_then(|stats| stats.avg_latency_ms),
        supports_streaming: provider.info.supports_streaming,
        supports_tools: provider.info.supports_tools,
        model_count: provider.info.models,
        last_health_check: standing.health.checked,
        realtime_requests: stats.map(|stats| stats.total_requests),
        realtime_success_rate: stats.and_then(|stats| stats.success_rate),
        realtime_errors: stats.map(|stats| stats.error_count),
        p50_ms: stats.and_then(|stats| stats.p50_ms),
        p95_ms: stats.and_then(|stats| stats.p95_ms),
        p99_ms: stats.and_then(|stats| stats.p99_ms),
        ttfb_p95_ms: stats.and_then(|stats| stats.ttfb_p95_ms),
        message: provider.info.message.clone(),
        status_reason: standing.reason(),
    }
}

/// Without a label of its own, a provider's requests are in `other` and can't be told apart.
fn provider_line<'a>(provider: &'a Provider, slots: &[&Slot]) -> Line<'a> {
    let id = &provider.info.id;
    (provider.label.0 >= LabelId::FIRST)
        .then(|| label_line(slots, |slot| &slot.providers, provider.label, id))
        .flatten()
        .unwrap_or_else(|| empty_line(id))
}
