//! `logs` events: the rows of about a second, a line's worth each.

use std::sync::Arc;

use serde::{Serialize, ser::SerializeSeq};

use crate::hub::{Dialect, Filter, Narrowed, Source, Tags};

use super::{
    events::MAX_DATA,
    rows::{RowView, Rows},
};

/// Rows that wait to be published as `logs` events. When there are as many, they are published before their time.
pub(crate) const MAX_UNLOGGED: usize = 8_192;

/// One `logs` event. It shares its rows with the `requests` events.
#[derive(Debug)]
pub(crate) struct LogsBatch {
    timestamp: u64,
    batches: Arc<[Arc<Rows>]>,
    /// Batch, and place in it. Never empty.
    rows: Vec<(u32, u32)>,
}

impl LogsBatch {
    /// Rows as events that each fit into a line.
    pub(crate) fn split(timestamp: u64, batches: Vec<Arc<Rows>>) -> Vec<Self> {
        /// `{"timestamp":18446744073709551615,"logs":[],"count":4294967295}`
        const AROUND: usize = 72;
        let batches: Arc<[_]> = batches.into();
        let mut events: Vec<Self> = Vec::new();
        let mut len = usize::MAX;
        for (batch, rows) in batches.iter().enumerate() {
            for index in 0..rows.rows.len() {
                let row_len = rows.view(index).max_len() + 1;
                if len.saturating_add(row_len) > MAX_DATA {
                    len = AROUND;
                    events.push(Self {
                        timestamp,
                        batches: batches.clone(),
                        rows: Vec::new(),
                    });
                }
                len += row_len;
                if let Some(event) = events.last_mut() {
                    event.rows.push((batch as u32, index as u32));
                }
            }
        }
        events
    }

    fn rows(&self) -> impl ExactSizeIterator<Item = RowView<'_>> {
        let view = |&(batch, index): &(u32, u32)| self.batches[batch as usize].view(index as usize);
        self.rows.iter().map(view)
    }
}

impl Source for LogsBatch {
    fn name(&self, _index: usize, _dialect: Dialect) -> &str {
        "logs"
    }

    fn write_json(&self, _index: usize, _dialect: Dialect, out: &mut Vec<u8>) {
        #[derive(Serialize)]
        struct Logs<'a> {
            timestamp: u64,
            logs: List<'a>,
            count: usize,
        }
        struct List<'a>(&'a LogsBatch);
        impl Serialize for List<'_> {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut list = serializer.serialize_seq(Some(self.0.rows.len()))?;
                for row in self.0.rows() {
                    list.serialize_element(&row)?;
                }
                list.end()
            }
        }
        let logs = Logs {
            timestamp: self.timestamp,
            logs: List(self),
            count: self.rows.len(),
        };
        // Strings and numbers serialise.
        let _ = serde_json::to_writer(out, &logs);
    }

    /// Of the event itself; its rows are judged one by one when it is narrowed.
    fn tags(&self, _index: usize) -> Tags<'_> {
        Tags {
            kind: "logs",
            ..Tags::default()
        }
    }

    fn narrow(&self, filter: &Filter, tenant: Option<&str>) -> Narrowed {
        let wants = |row: RowView<'_>| {
            let tags = row.tags("logs");
            (tenant.is_none() || tenant == tags.tenant) && filter.matches(&tags)
        };
        let rows: Vec<_> = self
            .rows
            .iter()
            .zip(self.rows())
            .filter(|(_, row)| wants(*row))
            .map(|(at, _)| *at)
            .collect();
        if rows.is_empty() {
            return Narrowed::Nothing;
        }
        Narrowed::Rows(Arc::new(Self {
            timestamp: self.timestamp,
            batches: self.batches.clone(),
            rows,
        }))
    }

    /// The rows themselves are held by the `requests` log as well; they count here for those it has let go.
    fn weight(&self) -> usize {
        const ROW: usize = 256;
        size_of::<Self>() + self.rows.len() * ROW
    }
}
