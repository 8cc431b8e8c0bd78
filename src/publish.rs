//! What a host publishes: events of its own and log lines.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Serialize;

use crate::{
    error::{Error, Kind},
    hub::{Dialect, Level, Priority, Source, Tags, check_event_type},
    json_line::Short,
};

/// The longest data of an event, as JSON, in bytes: an SSE line must stay below 64 KiB, where Go's
/// `bufio.Scanner` ends.
pub const MAX_EVENT_BYTES: usize = 60_000 - "data: ".len();

/// An event of the host, for a channel that it has registered with
/// [`RealtimeHandle::channel`](crate::RealtimeHandle::channel).
///
/// ```
/// # use tower_realtime::Event;
/// let update = serde_json::json!({"campaign_id": "c-17", "sent": 120});
/// let event = Event::new("campaigns", "CampaignUpdate", &update).tenant("acme").key("c-17");
/// # let _ = event;
/// ```
#[derive(Debug)]
pub struct Event {
    pub(crate) channel: Cow<'static, str>,
    kind: Cow<'static, str>,
    data: Result<Box<str>, serde_json::Error>,
    key: Box<str>,
    tenant: Option<Box<str>>,
    user: Option<Box<str>>,
    provider: Option<Box<str>>,
    error: bool,
    priority: Priority,
}

impl Event {
    /// An event of a type, with data that is encoded here and now, once.
    ///
    /// What is wrong with it (the type, data that does not serialise or is larger than [`MAX_EVENT_BYTES`]) is said
    /// by [`publish`](crate::RealtimeHandle::publish).
    pub fn new(
        channel: impl Into<Cow<'static, str>>,
        kind: impl Into<Cow<'static, str>>,
        data: &impl Serialize,
    ) -> Self {
        Self {
            channel: channel.into(),
            kind: kind.into(),
            data: serde_json::to_string(data).map(String::into_boxed_str),
            key: Box::default(),
            tenant: None,
            user: None,
            provider: None,
            error: false,
            priority: Priority::Low,
        }
    }

    /// Raises it above its channel's [priority](crate::ChannelConfig::priority), for readers that have fallen
    /// behind. Defaults to the channel's; a lower one changes nothing.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// In a [state](crate::ChannelConfig::state) channel, the newest event of each key stands for all earlier
    /// ones of its [tenant](Self::tenant). Defaults to the empty key.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = key.into().into_boxed_str();
        self
    }

    /// Whose event it is: a viewer that belongs to a tenant sees its own tenant's events only, and none without a
    /// tenant.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into().into_boxed_str());
        self
    }

    /// What the filter `user_id` looks at.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into().into_boxed_str());
        self
    }

    /// What the filter `provider_id` looks at.
    #[must_use]
    pub fn provider(mut self, provider: impl Into<String>) -> Self {
        self.provider = Some(provider.into().into_boxed_str());
        self
    }

    /// Lets it through the filter `only_errors`.
    #[must_use]
    pub fn error(mut self) -> Self {
        self.error = true;
        self
    }

    pub(crate) fn into_source(self) -> Result<HostEvent, Error> {
        check_event_type(&self.kind)?;
        let data = self.data.map_err(|error| {
            Error::new(
                Kind::Invalid,
                format!("data of event {:?} does not serialise", self.kind),
            )
            .with_source(error)
        })?;
        if data.len() > MAX_EVENT_BYTES {
            return Err(Error::new(
                Kind::Invalid,
                format!(
                    "data of event {:?} has {} bytes, at most {MAX_EVENT_BYTES} are taken",
                    self.kind,
                    data.len()
                ),
            ));
        }
        Ok(HostEvent {
            kind: self.kind,
            data,
            key: self.key,
            tenant: self.tenant,
            user: self.user,
            provider: self.provider,
            error: self.error,
            priority: self.priority,
        })
    }
}

/// An event of the host, checked.
#[derive(Debug)]
pub(crate) struct HostEvent {
    kind: Cow<'static, str>,
    data: Box<str>,
    key: Box<str>,
    tenant: Option<Box<str>>,
    user: Option<Box<str>>,
    provider: Option<Box<str>>,
    error: bool,
    priority: Priority,
}

impl Source for HostEvent {
    fn priority(&self) -> Priority {
        self.priority
    }

    fn name(&self, _index: usize, _dialect: Dialect) -> &str {
        &self.kind
    }

    fn write_json(&self, _index: usize, _dialect: Dialect, out: &mut Vec<u8>) {
        out.extend_from_slice(self.data.as_bytes());
    }

    fn tags(&self, _index: usize) -> Tags<'_> {
        Tags {
            kind: &self.kind,
            tenant: self.tenant.as_deref(),
            user: self.user.as_deref(),
            provider: self.provider.as_deref(),
            error: self.error,
            ..Tags::default()
        }
    }

    fn key(&self, _index: usize) -> &str {
        &self.key
    }

    fn weight(&self) -> usize {
        self.data.len() + self.key.len() + size_of::<Self>()
    }
}

/// One line of the application's log, as seed 001's LogEvent.
///
/// ```
/// # use tower_realtime::{Level, LogLine};
/// let line = LogLine::new(Level::Warn, "router", "fallback").provider("groq").field("attempt", "2");
/// # let _ = line;
/// ```
#[derive(Clone, Debug, Serialize)]
pub struct LogLine {
    timestamp: u64,
    timestamp_ms: u64,
    level: Level,
    message: String,
    component: String,
    provider_id: Option<String>,
    request_id: Option<String>,
    fields: BTreeMap<String, FieldValue>,
    #[serde(skip)]
    tenant: Option<String>,
}

/// The longest message, in bytes as JSON has them; longer ones are cut. All the bounds together stay below
/// [`MAX_EVENT_BYTES`].
pub(crate) const MAX_MESSAGE_BYTES: usize = 8 * 1024;
/// The longest name and value of a field, and the longest component.
pub(crate) const MAX_FIELD_BYTES: usize = 512;
pub(crate) const MAX_FIELDS: usize = 32;

/// What a field of a line says, as JSON has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum FieldValue {
    Text(String),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Flag(bool),
}

impl LogLine {
    /// A line of a component. A message over 8 KiB and a component over 512 bytes are cut.
    pub fn new(level: Level, component: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            timestamp: 0,
            timestamp_ms: 0,
            level,
            message: Short::of(message.into(), MAX_MESSAGE_BYTES),
            component: Short::of(component.into(), MAX_FIELD_BYTES),
            provider_id: None,
            request_id: None,
            fields: BTreeMap::new(),
            tenant: None,
        }
    }

    /// The provider that it speaks of.
    #[must_use]
    pub fn provider(mut self, id: impl Into<String>) -> Self {
        self.provider_id = Some(Short::of(id.into(), MAX_FIELD_BYTES));
        self
    }

    /// The request that it speaks of.
    #[must_use]
    pub fn request(mut self, id: impl Into<String>) -> Self {
        self.request_id = Some(Short::of(id.into(), MAX_FIELD_BYTES));
        self
    }

    /// Whose line it is; see [`Event::tenant`].
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// A further field; at most 32, each at most 512 bytes.
    #[must_use]
    pub fn field(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let value = Short::of(value.into(), MAX_FIELD_BYTES);
        self.add_field(name.into(), FieldValue::Text(value));
        self
    }

    /// Adds one whose value is short; one of the same name stays as it is told last.
    pub(crate) fn add_field(&mut self, name: String, value: FieldValue) {
        if self.fields.len() < MAX_FIELDS {
            self.fields.insert(Short::of(name, MAX_FIELD_BYTES), value);
        }
    }

    pub(crate) fn stamp(mut self, unix_ms: u64) -> Self {
        self.timestamp = unix_ms / 1000;
        self.timestamp_ms = unix_ms;
        self
    }
}

impl Source for LogLine {
    fn name(&self, _index: usize, _dialect: Dialect) -> &str {
        "log"
    }

    fn write_json(&self, _index: usize, _dialect: Dialect, out: &mut Vec<u8>) {
        // Strings and numbers serialise.
        let _ = serde_json::to_writer(out, self);
    }

    fn tags(&self, _index: usize) -> Tags<'_> {
        Tags {
            kind: "log",
            provider: self.provider_id.as_deref(),
            tenant: self.tenant.as_deref(),
            error: self.level == Level::Error,
            level: Some(self.level),
            component: Some(&self.component),
            ..Tags::default()
        }
    }

    fn weight(&self) -> usize {
        let fields: usize = self
            .fields
            .iter()
            .map(|(name, value)| name.len() + value.weight() + 48)
            .sum();
        self.message.len() + self.component.len() + fields + size_of::<Self>()
    }
}

impl FieldValue {
    /// What is neither a text nor a number nor a flag is told as the JSON that it is, if it is short.
    pub(crate) fn of_json(value: serde_json::Value) -> Self {
        use serde_json::Value;

        match value {
            Value::Bool(flag) => Self::Flag(flag),
            Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Self::Signed(number),
                (_, Some(number)) => Self::Unsigned(number),
                _ => Self::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => Self::Text(Short::of(text, MAX_FIELD_BYTES)),
            other => Self::Text(Short::of(other.to_string(), MAX_FIELD_BYTES)),
        }
    }

    fn weight(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            _ => 8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_an_event_is_said_by_name() {
        let wrong_kind = Event::new("c", "a\r\nb", &1).into_source().unwrap_err();
        assert!(wrong_kind.is_invalid() && wrong_kind.to_string().contains("event type"));
        let large = Event::new("c", "Large", &"x".repeat(MAX_EVENT_BYTES))
            .into_source()
            .unwrap_err();
        assert!(large.to_string().contains("59994"), "{large}");
        let not_json = Event::new("c", "Map", &BTreeMap::from([(vec![1], 1)]))
            .into_source()
            .unwrap_err();
        assert!(std::error::Error::source(&not_json).is_some());
        assert!(
            Event::new("c", "Fits", &"x".repeat(MAX_EVENT_BYTES - 2))
                .into_source()
                .is_ok()
        );
    }

    #[test]
    fn a_log_line_has_the_fields_of_seed_001_and_stays_below_a_line() {
        let mut line = LogLine::new(Level::Info, "\u{1}".repeat(1000), "\u{1}é".repeat(10_000))
            .provider("\u{1}".repeat(1000))
            .request("\u{1}".repeat(1000));
        for n in 0..100 {
            line = line.field(
                format!("{n:03}{}", "\u{1}".repeat(1000)),
                "\u{1}".repeat(1000),
            );
        }
        let mut json = Vec::new();
        line.write_json(0, Dialect::Stream, &mut json);
        let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
        for field in [
            "level",
            "message",
            "component",
            "provider_id",
            "request_id",
            "fields",
        ] {
            assert!(!value[field].is_null(), "{field}");
        }
        assert_eq!(value["fields"].as_object().unwrap().len(), MAX_FIELDS);
        assert!(json.len() < MAX_EVENT_BYTES, "{}", json.len());
    }
}
