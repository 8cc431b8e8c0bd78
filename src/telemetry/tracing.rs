//! The host's own log: a `tracing` layer that makes `log` events of its lines.
//!
//! Three things keep it from feeding on itself. Our own targets are no lines; nothing is while we deliver (see
//! [`quiet`](super::quiet), also for what that does not reach) or while a line is being made; and what libraries of the
//! network say below `info` is not: every delivery of a line makes some of that.

use std::{
    error::Error,
    fmt::{self, Write as _},
    sync::{Arc, Weak},
};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
    subscriber::Interest,
};
use tracing_subscriber::{
    Layer,
    layer::{Context, Filter},
    registry::LookupSpan,
};

use super::quiet::{self, Quiet};
use crate::{
    clock::Clock,
    hub::{ChannelId, Hub, Level},
    json_line::Short,
    publish::{FieldValue, LogLine, MAX_FIELD_BYTES, MAX_FIELDS, MAX_MESSAGE_BYTES},
};

/// Where lines go.
#[derive(Clone)]
pub(crate) struct Sink {
    /// A subscriber lives as long as the process; the hub goes with the last layer, service and handle.
    pub(crate) hub: Weak<Hub>,
    pub(crate) channel: ChannelId,
    pub(crate) clock: Clock,
    /// Of the request that the current task works for, where no field says it; what it came with, or what its record will
    /// have.
    pub(crate) request_id: fn() -> Option<String>,
}

/// A layer for lines of a level and above.
pub(crate) fn layer<S>(sink: Sink, level: Level) -> impl Layer<S> + Send + Sync + 'static
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    Lines { sink }.with_filter(Threshold(match level {
        Level::Trace => LevelFilter::TRACE,
        Level::Debug => LevelFilter::DEBUG,
        Level::Info => LevelFilter::INFO,
        Level::Warn => LevelFilter::WARN,
        Level::Error => LevelFilter::ERROR,
    }))
}

/// Decides for each place in the code, once: what is not wanted costs what a line without subscriber costs.
struct Threshold(LevelFilter);

impl Threshold {
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.0 && !is_own(metadata.target()) && !is_network(metadata)
    }
}

impl<S> Filter<S> for Threshold {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        match self.wants(metadata) {
            true => Interest::always(),
            false => Interest::never(),
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0)
    }
}

fn is_within(target: &str, module: &str) -> bool {
    target
        .strip_prefix(module)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn is_own(target: &str) -> bool {
    is_within(target, "tower_realtime")
}

/// What moves bytes to viewers, and tells of it.
const NETWORK: [&str; 9] = [
    "h2",
    "hyper",
    "hyper_util",
    "mio",
    "native_tls",
    "openssl",
    "rustls",
    "tokio",
    "tokio_rustls",
];

fn is_network(metadata: &Metadata<'_>) -> bool {
    *metadata.level() > tracing::Level::INFO
        && NETWORK
            .iter()
            .any(|module| is_within(metadata.target(), module))
}

struct Lines {
    sink: Sink,
}

impl<S> Layer<S> for Lines
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, cx: Context<'_, S>) {
        // What a value logs while it shows itself.
        let _quiet = Quiet::enter();
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = cx.span(id).filter(|_| !fields.is_empty()) {
            // Replaced, because two layers may look at one span; they see the same.
            span.extensions_mut().replace(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, cx: Context<'_, S>) {
        let _quiet = Quiet::enter();
        let mut later = Fields::default();
        values.record(&mut later);
        let Some(span) = cx.span(id) else {
            return;
        };
        let mut extensions = span.extensions_mut();
        match extensions.get_mut::<Fields>() {
            Some(fields) => fields.overwrite(later),
            None => drop(extensions.replace(later)),
        }
    }

    fn on_event(&self, event: &Event<'_>, cx: Context<'_, S>) {
        if quiet::is_quiet() {
            return;
        }
        let _quiet = Quiet::enter();
        let Some(hub) = self.sink.hub.upgrade() else {
            return;
        };
        // Before the work of making it.
        if !hub.has_room_to_spare() {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        // The `log` crate's records all have the same place; the true one stands in their fields.
        let target = match fields.log_target.take() {
            Some(target) if is_own(&target) => return,
            Some(target) => target,
            None => event.metadata().target().to_owned(),
        };
        for span in cx.event_scope(event).into_iter().flatten() {
            if let Some(of_span) = span.extensions().get::<Fields>() {
                fields.fill(of_span);
            }
        }
        let request_id = fields.request_id.take().or_else(self.sink.request_id);
        let message = fields.message.take().unwrap_or_default();
        let mut line = LogLine::new(level_of(event.metadata()), target, message);
        if let Some(id) = request_id {
            line = line.request(id);
        }
        if let Some(id) = fields.provider_id.take() {
            line = line.provider(id);
        }
        for (name, value) in fields.others {
            line.add_field(name.to_owned(), value);
        }
        let line = Arc::new(line.stamp(self.sink.clock.unix_ms()));
        // What does not fit is counted there.
        let _ = hub.publish(self.sink.channel, line);
    }
}

fn level_of(metadata: &Metadata<'_>) -> Level {
    match *metadata.level() {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::TRACE => Level::Trace,
    }
}

/// What a line or a span says, each text cut as it is made.
#[derive(Debug, Default)]
struct Fields {
    message: Option<String>,
    request_id: Option<String>,
    provider_id: Option<String>,
    log_target: Option<String>,
    others: Vec<(&'static str, FieldValue)>,
}

impl Fields {
    fn is_empty(&self) -> bool {
        self.request_id.is_none() && self.provider_id.is_none() && self.others.is_empty()
    }

    fn says(&self, name: &str) -> bool {
        self.others.iter().any(|(known, _)| *known == name)
    }

    /// Takes from an outer scope what nothing inside has said.
    fn fill(&mut self, outer: &Self) {
        if self.request_id.is_none() {
            self.request_id.clone_from(&outer.request_id);
        }
        if self.provider_id.is_none() {
            self.provider_id.clone_from(&outer.provider_id);
        }
        for (name, value) in &outer.others {
            if self.others.len() < MAX_FIELDS && !self.says(name) {
                self.others.push((name, value.clone()));
            }
        }
    }

    /// What is said later stands.
    fn overwrite(&mut self, later: Self) {
        self.request_id = later.request_id.or(self.request_id.take());
        self.provider_id = later.provider_id.or(self.provider_id.take());
        for (name, value) in later.others {
            self.put(name, value);
        }
    }

    fn put(&mut self, name: &'static str, value: FieldValue) {
        let is_full = self.others.len() >= MAX_FIELDS;
        match self.others.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None if is_full => {}
            None => self.others.push((name, value)),
        }
    }

    fn put_shown(&mut self, field: &Field, shown: fmt::Arguments<'_>) {
        let bytes = match field.name() {
            "message" => MAX_MESSAGE_BYTES,
            _ => MAX_FIELD_BYTES,
        };
        let mut text = Short::new(bytes);
        // An error is the end of what fits, or the value's own; what it has said until then is better than nothing.
        let _ = text.write_fmt(shown);
        let text = text.into_text();
        match field.name() {
            "message" => self.message = Some(text),
            "request_id" => self.request_id = Some(text),
            "provider_id" => self.provider_id = Some(text),
            "log.target" => self.log_target = Some(text),
            "log.module_path" | "log.file" => {}
            name => self.put(name, FieldValue::Text(text)),
        }
    }

    fn put_number(&mut self, field: &Field, number: FieldValue, shown: fmt::Arguments<'_>) {
        match field.name() {
            "log.line" => {}
            // Texts, whatever the host counts them with.
            "message" | "request_id" | "provider_id" => self.put_shown(field, shown),
            name => self.put(name, number),
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        match value.is_finite() {
            true => self.put_number(field, FieldValue::Float(value), format_args!("{value}")),
            // JSON has no other numbers.
            false => self.put_shown(field, format_args!("{value}")),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put_number(field, FieldValue::Signed(value), format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put_number(field, FieldValue::Unsigned(value), format_args!("{value}"));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        match i64::try_from(value) {
            Ok(value) => self.record_i64(field, value),
            // Readers of JSON do not agree on larger ones.
            Err(_) => self.put_shown(field, format_args!("{value}")),
        }
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        match u64::try_from(value) {
            Ok(value) => self.record_u64(field, value),
            Err(_) => self.put_shown(field, format_args!("{value}")),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put_number(field, FieldValue::Flag(value), format_args!("{value}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_shown(field, format_args!("{value}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.put_shown(field, format_args!("{}", Causes(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put_shown(field, format_args!("{value:?}"));
    }
}

/// An error and what it comes from.
struct Causes<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
