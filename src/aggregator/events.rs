//! What the aggregator publishes: rows, logs, stats, providers and status changes as the hub's events.

use std::sync::Arc;

use serde::Serialize;

use crate::hub::{Dialect, Source, Tags};
use crate::json_line::escape_line_separators;

use super::{
    breakdown::{BreakdownRow, ProviderStats},
    json::rfc3339,
    providers::{ProviderStatusEvent, ProvidersSnapshot},
    rows::Rows,
    snapshot::{Snapshot, StatusCode, Summary},
};

/// Bytes of one event's data at most: a line of an SSE stream stays below 60,000 bytes with its field name, as clients
/// with a line buffer of 64 KiB die of longer ones.
pub(crate) const MAX_DATA: usize = 59_900;

impl Source for Rows {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn name(&self, _index: usize, dialect: Dialect) -> &str {
        match dialect {
            Dialect::Stream => "requests",
            Dialect::Envelope => "request",
        }
    }

    fn write_json(&self, index: usize, dialect: Dialect, out: &mut Vec<u8>) {
        match dialect {
            Dialect::Stream => write(out, &self.view(index)),
            Dialect::Envelope => write(out, &self.view(index).envelope()),
        }
    }

    fn tags(&self, index: usize) -> Tags<'_> {
        self.view(index).tags("requests")
    }

    fn weight(&self) -> usize {
        Rows::weight(self)
    }
}

/// A snapshot as a `stats` event.
#[derive(Debug)]
pub(crate) struct StatsEvent {
    snapshot: Arc<Snapshot>,
    key: String,
}

impl StatsEvent {
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Self {
        let window = snapshot.summary.window.as_str();
        let key = match &snapshot.summary.tenant_id {
            Some(tenant) => format!("{window}@{tenant}"),
            None => window.to_owned(),
        };
        Self { snapshot, key }
    }
}

/// A snapshot as a line: without users, and with only so many rows that it fits.
#[derive(Serialize)]
struct StatsLine<'a> {
    #[serde(flatten)]
    summary: &'a Summary,
    #[serde(skip_serializing_if = "Option::is_none")]
    providers: Option<&'a [ProviderStats]>,
    /// The name that seed 001 has for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    provider_stats: Option<&'a [ProviderStats]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    calculated_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_window: Option<&'a str>,
    routes: &'a [BreakdownRow],
    models: &'a [BreakdownRow],
    status_codes: &'a [StatusCode],
    #[serde(flatten)]
    cut: Option<CutRows>,
}

#[derive(Serialize)]
struct CutRows {
    truncated: bool,
    providers_total: usize,
    routes_total: usize,
    models_total: usize,
}

fn write_stats(snapshot: &Snapshot, dialect: Dialect, out: &mut Vec<u8>) {
    let start = out.len();
    let mut max_rows = usize::MAX;
    loop {
        let providers = first(&snapshot.providers, max_rows);
        let (routes, models) = (
            first(&snapshot.routes, max_rows),
            first(&snapshot.models, max_rows),
        );
        let whole = providers.len() == snapshot.providers.len()
            && routes.len() == snapshot.routes.len()
            && models.len() == snapshot.models.len();
        let envelope = dialect == Dialect::Envelope;
        let line = StatsLine {
            summary: &snapshot.summary,
            providers: (!envelope).then_some(providers),
            provider_stats: envelope.then_some(providers),
            calculated_at: envelope.then(|| rfc3339(snapshot.summary.timestamp_ms)),
            time_window: envelope.then(|| snapshot.summary.window.as_str()),
            routes,
            models,
            status_codes: &snapshot.status_codes,
            cut: (!whole).then_some(CutRows {
                truncated: true,
                providers_total: snapshot.providers.len(),
                routes_total: snapshot.routes.len(),
                models_total: snapshot.models.len(),
            }),
        };
        write(out, &line);
        if out.len() - start <= MAX_DATA || max_rows == 0 {
            return;
        }
        out.truncate(start);
        let longest = providers.len().max(routes.len()).max(models.len());
        // A third less each time: the longest lists give way first.
        max_rows = longest * 2 / 3;
    }
}

fn first<T>(rows: &[T], max: usize) -> &[T] {
    &rows[..rows.len().min(max)]
}

impl Source for StatsEvent {
    fn name(&self, _index: usize, dialect: Dialect) -> &str {
        match dialect {
            Dialect::Stream => "stats",
            Dialect::Envelope => "stats_update",
        }
    }

    fn write_json(&self, _index: usize, dialect: Dialect, out: &mut Vec<u8>) {
        write_stats(&self.snapshot, dialect, out);
    }

    fn tags(&self, _index: usize) -> Tags<'_> {
        Tags {
            kind: "stats",
            snapshot: true,
            tenant: self.snapshot.summary.tenant_id.as_deref(),
            ..Tags::default()
        }
    }

    /// The window, and the tenant whose view it is.
    fn key(&self, _index: usize) -> &str {
        &self.key
    }

    fn weight(&self) -> usize {
        let rows =
            self.snapshot.routes.len() + self.snapshot.models.len() + self.snapshot.users.len();
        size_of::<Snapshot>()
            + rows * (size_of::<BreakdownRow>() + 32)
            + self.snapshot.providers.len() * (size_of::<ProviderStats>() + 32)
    }
}

/// The providers as a `providers` event.
#[derive(Debug)]
pub(crate) struct ProvidersEvent(pub(crate) Arc<ProvidersSnapshot>);

impl Source for ProvidersEvent {
    fn name(&self, _index: usize, _dialect: Dialect) -> &str {
        "providers"
    }

    fn write_json(&self, _index: usize, _dialect: Dialect, out: &mut Vec<u8>) {
        let start = out.len();
        write(out, &*self.0);
        let mut shown = self.0.providers.len();
        while out.len() - start > MAX_DATA && shown > 0 {
            out.truncate(start);
            shown = shown * 2 / 3;
            #[derive(Serialize)]
            struct Cut<'a> {
                timestamp: u64,
                window: super::Window,
                providers: &'a [super::ProviderView],
                total: usize,
                truncated: bool,
            }
            let cut = Cut {
                timestamp: self.0.timestamp,
                window: self.0.window,
                providers: &self.0.providers[..shown],
                total: self.0.total,
                truncated: true,
            };
            write(out, &cut);
        }
    }

    fn tags(&self, _index: usize) -> Tags<'_> {
        Tags {
            kind: "providers",
            snapshot: true,
            tenant: self.0.tenant.as_deref(),
            ..Tags::default()
        }
    }

    fn weight(&self) -> usize {
        size_of::<Self>() + self.0.providers.len() * (size_of::<super::ProviderView>() + 128)
    }
}

impl Source for ProviderStatusEvent {
    fn name(&self, _index: usize, _dialect: Dialect) -> &str {
        "provider_status"
    }

    fn write_json(&self, _index: usize, _dialect: Dialect, out: &mut Vec<u8>) {
        write(out, self);
    }

    fn tags(&self, _index: usize) -> Tags<'_> {
        Tags {
            kind: "provider_status",
            provider: Some(&self.provider_id),
            tenant: self.tenant.as_deref(),
            error: self.status == super::ProviderStatus::Down,
            ..Tags::default()
        }
    }

    fn key(&self, _index: usize) -> &str {
        &self.provider_id
    }

    fn weight(&self) -> usize {
        size_of::<Self>()
            + self.provider_id.len()
            + self.provider_name.len()
            + self.message.len()
            + self.status_reason.len()
    }
}

/// Our own types have text keys only and no failing serializers, and a vector takes everything: it can't fail.
fn write(out: &mut Vec<u8>, value: &impl Serialize) {
    let start = out.len();
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(start);
        out.extend_from_slice(b"{}");
    }
    // Here, and not only where lines are made, because it decides how long a line becomes.
    escape_line_separators(out, start);
}
