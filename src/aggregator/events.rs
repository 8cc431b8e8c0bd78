//! What the aggregator publishes: rows, logs, stats, providers and status changes as the hub's events.

use std::sync::Arc;

use serde::{Serialize, ser::SerializeSeq};

use crate::hub::{Dialect, Source, Tags};

use super::{
    breakdown::{BreakdownRow, ProviderStats},
    json::{escape_separators, rfc3339},
    providers::{ProviderStatusEvent, ProvidersSnapshot},
    rows::{RowView, Rows},
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

/// The rows of a second or so as `logs` events: one for each tenant, so that a tenant's wall can let its own through,
/// and more where a line would become too long.
#[derive(Debug)]
pub(crate) struct LogsBatch {
    timestamp: u64,
    batches: Vec<Arc<Rows>>,
    parts: Vec<Part>,
    weight: usize,
}

/// One event: where its rows stand, as batch and place in it. Never empty.
#[derive(Debug)]
struct Part {
    rows: Vec<(u32, u32)>,
    len: usize,
}

impl LogsBatch {
    /// `None` where there are no rows.
    pub(crate) fn new(timestamp: u64, batches: Vec<Arc<Rows>>) -> Option<Self> {
        // `{"timestamp":18446744073709551615,"logs":[],"count":4294967295}`
        const AROUND: usize = 72;
        let mut parts: Vec<Part> = Vec::new();
        // The part that is being filled, by tenant.
        let mut open: Vec<(u32, usize)> = Vec::new();
        for (batch, rows) in batches.iter().enumerate() {
            for (index, row) in rows.rows.iter().enumerate() {
                let len = rows.view(index).max_len() + 1;
                let tenant = row.record.tenant.0;
                let filling = open.iter_mut().find(|(of, _)| *of == tenant);
                let place = (batch as u32, index as u32);
                match filling {
                    Some((_, part)) if parts[*part].len + len <= MAX_DATA => {
                        parts[*part].rows.push(place);
                        parts[*part].len += len;
                    }
                    other => {
                        match other {
                            Some((_, part)) => *part = parts.len(),
                            None => open.push((tenant, parts.len())),
                        }
                        parts.push(Part {
                            rows: vec![place],
                            len: AROUND + len,
                        });
                    }
                }
            }
        }
        if parts.is_empty() {
            return None;
        }
        let weight = batches.iter().map(|rows| rows.weight()).sum();
        Some(Self {
            timestamp,
            batches,
            parts,
            weight,
        })
    }

    fn rows(&self, index: usize) -> impl Iterator<Item = RowView<'_>> {
        self.parts[index]
            .rows
            .iter()
            .map(|&(batch, index)| self.batches[batch as usize].view(index as usize))
    }
}

impl Source for LogsBatch {
    fn len(&self) -> usize {
        self.parts.len()
    }

    fn name(&self, _index: usize, _dialect: Dialect) -> &str {
        "logs"
    }

    fn write_json(&self, index: usize, _dialect: Dialect, out: &mut Vec<u8>) {
        #[derive(Serialize)]
        struct Logs<T> {
            timestamp: u64,
            logs: T,
            count: usize,
        }
        struct List<'a>(&'a LogsBatch, usize);
        impl Serialize for List<'_> {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut list = serializer.serialize_seq(Some(self.0.parts[self.1].rows.len()))?;
                for row in self.0.rows(self.1) {
                    list.serialize_element(&row)?;
                }
                list.end()
            }
        }
        write(
            out,
            &Logs {
                timestamp: self.timestamp,
                logs: List(self, index),
                count: self.parts[index].rows.len(),
            },
        );
    }

    /// What all rows of the event have in common; a criterion that only some of them meet does not let it through.
    fn tags(&self, index: usize) -> Tags<'_> {
        let mut rows = self.rows(index);
        let Some(first) = rows.next() else {
            return Tags::default();
        };
        let mut common = first.tags("logs");
        for row in rows {
            let tags = row.tags("logs");
            let keep = |common: &mut Option<&str>, other: Option<&str>| {
                if *common != other {
                    *common = None;
                }
            };
            keep(&mut common.provider, tags.provider);
            keep(&mut common.model, tags.model);
            keep(&mut common.user, tags.user);
            keep(&mut common.tenant, tags.tenant);
            keep(&mut common.route, tags.route);
            common.error &= tags.error;
        }
        common
    }

    fn weight(&self) -> usize {
        let parts: usize = self.parts.iter().map(|part| part.rows.len() * 8 + 40).sum();
        size_of::<Self>() + parts + self.weight
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

    fn key(&self, _index: usize) -> &str {
        self.0.tenant.as_deref().unwrap_or("")
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
    escape_separators(out, start);
}
