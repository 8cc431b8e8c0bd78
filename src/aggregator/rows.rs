//! Finished requests as rows: what the `requests` and `logs` channels carry, and the lists of recent, failed and slow
//! ones.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, RwLock},
};

use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{
    collector::{Collector, LabelId, LabelTable, Method, Outcome, Record},
    hub::Tags,
};

use super::json::{cut, escaped_len, money, ms, plain, plain_option};

/// How many rows one batch holds at most.
pub(crate) const BATCH: usize = 128;

/// Bytes that one text of a row takes in JSON at most; longer ones are cut. With [`MAX_LABELS`] labels, the largest
/// possible row stays below the 60,000 bytes of a line.
const MAX_TEXT: usize = 2_000;
/// Labels of the host that a row shows.
const MAX_LABELS: usize = 8;

/// What all rows need to be read.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) collector: Arc<Collector>,
    /// Eight hexadecimal digits that tell the requests of one process from those of another.
    prefix: String,
    /// The names that the host gave its providers, by label.
    names: RwLock<HashMap<u32, Arc<str>>>,
}

impl Context {
    pub(crate) fn new(collector: Arc<Collector>) -> Self {
        let mut random = [0; 4];
        if getrandom::fill(&mut random).is_err() {
            // Without a source of randomness the ids of two processes may be alike; within one they never are.
            random = std::process::id().to_be_bytes();
        }
        Self {
            collector,
            prefix: format!("{:08x}", u32::from_be_bytes(random)),
            names: RwLock::default(),
        }
    }

    pub(crate) fn name_provider(&self, label: LabelId, name: &str) {
        let mut names = self.names.write().unwrap_or_else(|e| e.into_inner());
        names.insert(label.0, name.into());
    }

    fn provider_name(&self, label: LabelId) -> Option<Arc<str>> {
        let names = self.names.read().unwrap_or_else(|e| e.into_inner());
        names.get(&label.0).cloned()
    }
}

/// A record that has been counted, with its price in `cost_nanos` where there is one.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) record: Record,
    /// Numbers the rows of this process.
    pub(crate) number: u64,
    /// Wall time of the end, in microseconds since 1970.
    pub(crate) unix_us: u64,
}

/// A batch of rows, at most [`BATCH`], shared by everyone who shows them.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) context: Arc<Context>,
    pub(crate) rows: Vec<Row>,
}

impl Rows {
    /// About how many bytes it keeps alive.
    pub(crate) fn weight(&self) -> usize {
        let extras: usize = self.rows.iter().map(extra_weight).sum();
        size_of::<Self>() + self.rows.capacity() * size_of::<Row>() + extras
    }

    pub(crate) fn view(&self, index: usize) -> RowView<'_> {
        RowView {
            context: &self.context,
            row: &self.rows[index],
        }
    }
}

fn extra_weight(row: &Row) -> usize {
    let Some(extra) = &row.record.extra else {
        return 0;
    };
    let text = |text: &Option<Box<str>>| text.as_deref().map_or(0, str::len);
    let labels: usize = extra
        .labels
        .iter()
        .map(|(name, value)| name.len() + value.len() + 32)
        .sum();
    size_of_val(&**extra)
        + text(&extra.request_id)
        + text(&extra.error_message)
        + text(&extra.user)
        + labels
}

/// One row of a shared batch. Serializes as the object that seed 000 prints.
#[derive(Clone)]
pub(crate) struct RowRef {
    rows: Arc<Rows>,
    index: usize,
}

impl RowRef {
    pub(crate) fn new(rows: Arc<Rows>, index: usize) -> Self {
        Self { rows, index }
    }

    /// A row of its own: lists that live long must not keep whole batches alive.
    pub(crate) fn alone(context: &Arc<Context>, row: &Row) -> Self {
        Self {
            rows: Arc::new(Rows {
                context: Arc::clone(context),
                rows: vec![row.clone()],
            }),
            index: 0,
        }
    }

    pub(crate) fn row(&self) -> &Row {
        &self.rows.rows[self.index]
    }

    pub(crate) fn latency_us(&self) -> u64 {
        self.row().record.latency_us
    }

    pub(crate) fn view(&self) -> RowView<'_> {
        self.rows.view(self.index)
    }
}

impl fmt::Debug for RowRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.row().fmt(f)
    }
}

impl Serialize for RowRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.view().serialize(serializer)
    }
}

/// A row with its labels' texts within reach.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowView<'a> {
    context: &'a Context,
    row: &'a Row,
}

impl<'a> RowView<'a> {
    pub(crate) fn id(&self) -> String {
        let extra = self.row.record.extra.as_deref();
        match extra.and_then(|extra| extra.request_id.as_deref()) {
            Some(id) => cut(id, MAX_TEXT).into_owned(),
            None => format!("{}-{:x}", self.context.prefix, self.row.number),
        }
    }

    pub(crate) fn route(&self) -> &'a str {
        self.text(self.record().route, &self.context.collector.labels().route)
            .unwrap_or("(unmatched)")
    }

    pub(crate) fn provider(&self) -> Option<&'a str> {
        self.text(
            self.record().provider,
            &self.context.collector.labels().provider,
        )
    }

    pub(crate) fn model(&self) -> Option<&'a str> {
        self.text(self.record().model, &self.context.collector.labels().model)
    }

    pub(crate) fn tenant(&self) -> Option<&'a str> {
        self.text(
            self.record().tenant,
            &self.context.collector.labels().tenant,
        )
    }

    pub(crate) fn user(&self) -> Option<&'a str> {
        let extra = self.record().extra.as_deref();
        match extra.and_then(|extra| extra.user.as_deref()) {
            Some(user) => Some(user),
            None => self.text(self.record().user, &self.context.collector.labels().user),
        }
    }

    /// What filters look at; `kind` is the event's type.
    pub(crate) fn tags(&self, kind: &'a str) -> Tags<'a> {
        Tags {
            kind,
            provider: self.provider(),
            model: self.model(),
            user: self.user(),
            // The requests of all tenants beyond the table's limit share a label, so they are nobody's.
            tenant: self
                .tenant()
                .filter(|_| self.record().tenant != LabelId::OTHER),
            route: Some(self.route()),
            error: !self.record().success,
            ..Tags::default()
        }
    }

    /// An upper bound of the bytes that the row takes in JSON, without making it.
    pub(crate) fn max_len(&self) -> usize {
        /// Names, punctuation and the longest numbers.
        const FIXED: usize = 820;
        let capped = |text: &str| escaped_len(text, MAX_TEXT).min(MAX_TEXT);
        let texts: usize = [
            Some(self.route()),
            self.provider(),
            self.model(),
            self.tenant(),
            self.user(),
        ]
        .into_iter()
        .flatten()
        .map(capped)
        .sum();
        let extra = self.record().extra.as_deref().map_or(0, |extra| {
            let labels: usize = extra
                .labels
                .iter()
                .take(MAX_LABELS)
                .map(|(name, value)| capped(name) + capped(value) + 6)
                .sum();
            labels
                + extra.request_id.as_deref().map_or(0, capped)
                + extra.error_message.as_deref().map_or(0, capped)
        });
        FIXED + texts + extra
    }

    fn record(&self) -> &'a Record {
        &self.row.record
    }

    fn text<T>(&self, label: LabelId, table: &'a LabelTable<T>) -> Option<&'a str> {
        (label != LabelId::UNSET).then(|| table.resolve(label).unwrap_or("other"))
    }

    fn error_message(&self) -> std::borrow::Cow<'a, str> {
        let record = self.record();
        if record.success {
            return "".into();
        }
        let extra = record.extra.as_deref();
        if let Some(message) = extra.and_then(|extra| extra.error_message.as_deref()) {
            return cut(message, MAX_TEXT);
        }
        let text = match record.outcome {
            Outcome::Completed => match record.status.map(http::StatusCode::from_u16) {
                Some(Ok(status)) if status.as_u16() >= 400 => {
                    return status.to_string().into();
                }
                _ => "the handler reported a failure",
            },
            Outcome::ServiceError => "the service returned an error",
            Outcome::BodyError => "the response body failed",
            Outcome::DroppedBeforeResponse => "the client left before the response",
            Outcome::DroppedInBody => "the client left before the end of the response",
            Outcome::Panicked => "the handler panicked",
        };
        text.into()
    }

    fn values(&self) -> Values<'a> {
        let record = self.record();
        let text = |text: Option<&'a str>| text.map(|text| cut(text, MAX_TEXT));
        Values {
            provider_id: text(self.provider()),
            model_id: text(self.model()),
            user_id: text(self.user()),
            tenant_id: text(self.tenant()),
            method: method(record.method),
            endpoint: cut(self.route(), MAX_TEXT),
            status_code: record.status,
            latency_ms: ms(record.latency_us as f64),
            ttfb_ms: record.ttfb_us.map(|us| ms(us as f64)),
            input_tokens: record.input_tokens,
            output_tokens: record.output_tokens,
            cached_tokens: record.cached_tokens,
            success: record.success,
            aborted: record.outcome.is_aborted(),
            error_message: self.error_message(),
            estimated_cost: record.cost_nanos.map(money),
            request_bytes: record.request_bytes,
            response_bytes: record.response_bytes,
            labels: record
                .extra
                .as_deref()
                .map(|extra| Labels(&extra.labels))
                .filter(|labels| !labels.0.is_empty()),
            timestamp: self.row.unix_us / 1_000_000,
            timestamp_ms: self.row.unix_us / 1_000,
        }
    }

    /// As seed 001 prints a `request`.
    pub(crate) fn envelope(self) -> impl Serialize + 'a {
        let name = self
            .context
            .provider_name(self.record().provider)
            .map(|name| cut(&name, MAX_TEXT).into_owned())
            .or_else(|| self.provider().map(|id| cut(id, MAX_TEXT).into_owned()));
        let values = self.values();
        EnvelopeRow {
            request_id: self.id(),
            provider_name: name,
            model_name: values.model_id.clone(),
            values,
        }
    }
}

impl Serialize for RowView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        StreamRow {
            id: self.id(),
            values: self.values(),
        }
        .serialize(serializer)
    }
}

#[derive(Serialize)]
struct StreamRow<'a> {
    id: String,
    #[serde(flatten)]
    values: Values<'a>,
}

#[derive(Serialize)]
struct EnvelopeRow<'a> {
    request_id: String,
    provider_name: Option<String>,
    model_name: Option<std::borrow::Cow<'a, str>>,
    #[serde(flatten)]
    values: Values<'a>,
}

#[derive(Serialize)]
struct Values<'a> {
    provider_id: Option<std::borrow::Cow<'a, str>>,
    model_id: Option<std::borrow::Cow<'a, str>>,
    user_id: Option<std::borrow::Cow<'a, str>>,
    tenant_id: Option<std::borrow::Cow<'a, str>>,
    method: &'static str,
    endpoint: std::borrow::Cow<'a, str>,
    status_code: Option<u16>,
    #[serde(serialize_with = "plain")]
    latency_ms: f64,
    #[serde(serialize_with = "plain_option")]
    ttfb_ms: Option<f64>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cached_tokens: Option<u64>,
    success: bool,
    aborted: bool,
    error_message: std::borrow::Cow<'a, str>,
    #[serde(serialize_with = "plain_option")]
    estimated_cost: Option<f64>,
    request_bytes: Option<u64>,
    response_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<Labels<'a>>,
    timestamp: u64,
    timestamp_ms: u64,
}

struct Labels<'a>(&'a [(Box<str>, Box<str>)]);

impl Serialize for Labels<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let shown = &self.0[..self.0.len().min(MAX_LABELS)];
        let mut map = serializer.serialize_map(Some(shown.len()))?;
        for (name, value) in shown {
            map.serialize_entry(&*cut(name, MAX_TEXT), &*cut(value, MAX_TEXT))?;
        }
        map.end()
    }
}

fn method(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Patch => "PATCH",
        Method::Head => "HEAD",
        Method::Options => "OPTIONS",
        Method::Connect => "CONNECT",
        Method::Trace => "TRACE",
        Method::Other => "OTHER",
    }
}

/// REST's `/requests`: newest first.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Requests {
    pub(crate) requests: Vec<RowRef>,
    pub(crate) count: usize,
}

/// REST's `/errors`: newest first. `total` counts what is remembered, not what ever failed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Errors {
    pub(crate) errors: Vec<RowRef>,
    pub(crate) total: usize,
}

/// REST's `/slow`: slowest first.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Slow {
    pub(crate) slow: Vec<RowRef>,
}
