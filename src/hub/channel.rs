//! Channels: a name, a delivery class, and the bounds of a log.

use std::{fmt, time::Duration};

use crate::{
    error::{Error, Kind},
    sync::{AtomicU64, AtomicUsize, Ordering},
};

/// How a channel's events are kept and delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Class {
    /// Every event counts: replayed on resume, and what is skipped is reported as a `gap`.
    Stream,
    /// Only the newest event of each key counts; a reader that is behind gets just that one.
    State,
    /// As [`Class::Stream`], and kept longest.
    Critical,
}

/// What is given up first for a reader that falls behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
pub enum Priority {
    /// Given up first.
    Low,
    /// The usual.
    #[default]
    Normal,
    /// Given up last.
    High,
    /// Never skipped as long as the log holds it, be it for lag or for a reader's own `max_rate`.
    Critical,
}

/// Settings of one channel.
///
/// ```
/// use tower_realtime::{ChannelConfig, Priority};
///
/// let campaigns = ChannelConfig::stream().retain(4096).priority(Priority::High);
/// # let _ = campaigns;
/// ```
#[derive(Clone, Debug)]
pub struct ChannelConfig {
    pub(crate) class: Class,
    pub(crate) priority: Priority,
    pub(crate) retain: Option<usize>,
    pub(crate) retain_bytes: Option<usize>,
    pub(crate) retain_age: Option<Duration>,
    pub(crate) hidden_as: Option<&'static str>,
}

impl ChannelConfig {
    /// Every event counts. The default of a channel that is made by publishing to it… does not exist: channels
    /// are registered first, so that a typing error is an error.
    pub fn stream() -> Self {
        Self::new(Class::Stream, Priority::Normal)
    }

    /// Only the newest event of each [key](crate::Event::key) counts. Each tenant has its own keys.
    pub fn state() -> Self {
        Self::new(Class::State, Priority::Normal)
    }

    /// Every event counts, is kept longest and delivered first.
    pub fn critical() -> Self {
        Self::new(Class::Critical, Priority::Critical)
    }

    fn new(class: Class, priority: Priority) -> Self {
        Self {
            class,
            priority,
            retain: None,
            retain_bytes: None,
            retain_age: None,
            hidden_as: None,
        }
    }

    /// How many events are kept for readers that come back. Defaults to
    /// [`RealtimeConfig::replay_capacity`](crate::RealtimeConfig::replay_capacity).
    #[must_use]
    pub fn retain(mut self, events: usize) -> Self {
        self.retain = Some(events);
        self
    }

    /// About how many bytes of events are kept. Defaults to
    /// [`RealtimeConfig::replay_bytes`](crate::RealtimeConfig::replay_bytes).
    #[must_use]
    pub fn retain_bytes(mut self, bytes: usize) -> Self {
        self.retain_bytes = Some(bytes);
        self
    }

    /// How long events are kept. Defaults to [`RealtimeConfig::replay_age`](crate::RealtimeConfig::replay_age).
    #[must_use]
    pub fn retain_age(mut self, age: Duration) -> Self {
        self.retain_age = Some(age);
        self
    }

    /// What is given up first for a reader that falls behind. Defaults to [`Priority::Normal`].
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// A variant of a public channel (`stats` over another window): readers see the public name, lists and `all`
    /// do not show it.
    pub(crate) fn hidden_as(mut self, name: &'static str) -> Self {
        self.hidden_as = Some(name);
        self
    }
}

/// A channel's number in its hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ChannelId(pub(crate) u32);

/// What readers and the hub's task share of one channel.
pub(crate) struct ChannelInfo {
    pub(crate) id: ChannelId,
    /// The name that clients see.
    pub(crate) name: String,
    pub(crate) hidden: bool,
    pub(crate) class: Class,
    pub(crate) priority: Priority,
    /// Events that were handed to readers, all readers added up. A statistic: relaxed.
    pub(crate) delivered: AtomicU64,
    /// Readers that have it in their set now.
    pub(crate) readers: AtomicUsize,
}

impl ChannelInfo {
    /// What is given up first: a critical channel last, whatever its priority says.
    pub(crate) fn rank(&self) -> Priority {
        match self.class {
            Class::Critical => Priority::Critical,
            Class::Stream | Class::State => self.priority,
        }
    }

    pub(crate) fn has_readers(&self) -> bool {
        self.readers.load(Ordering::Relaxed) > 0
    }
}

impl fmt::Debug for ChannelInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelInfo")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The longest channel name and event type.
const MAX_NAME_BYTES: usize = 64;

/// Checks a channel's name: 1 to 64 of `a-z`, `0-9`, `_`, `-`, `.`, not one that the URLs use for themselves.
pub(crate) fn check_channel_name(name: &str) -> Result<(), Error> {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(allowed) {
        return Err(Error::new(
            Kind::Invalid,
            format!(
                "channel name {name:.64?} is not 1 to 64 characters of a-z, 0-9, '_', '-' or '.'"
            ),
        ));
    }
    if ["all", "reconnect", "tenant", ".", ".."].contains(&name) {
        return Err(Error::new(
            Kind::Invalid,
            format!("channel name {name:?} is reserved"),
        ));
    }
    Ok(())
}

/// Checks an event's type: 1 to 64 of letters, digits, `_`, `-`, `.`, `:`, and none that SSE or we use.
pub(crate) fn check_event_type(kind: &str) -> Result<(), Error> {
    const RESERVED: [&str; 24] = [
        "error",
        "open",
        "message",
        "server_error",
        "connection_established",
        "heartbeat",
        // What the crate itself says: a client that knows these would take a host's for ours.
        "stats",
        "stats_update",
        "logs",
        "log",
        "providers",
        "provider_status",
        "requests",
        "request",
        "system",
        "system_alert",
        "ping",
        "pong",
        "subscribed",
        "unsubscribed",
        "auth",
        "gap",
        "drain",
        "busy",
    ];
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
    if kind.is_empty() || kind.len() > MAX_NAME_BYTES || !kind.bytes().all(allowed) {
        return Err(Error::new(
            Kind::Invalid,
            format!(
                "event type {kind:.64?} is not 1 to 64 characters of letters, digits, '_', '-', '.' or ':'"
            ),
        ));
    }
    if RESERVED.contains(&kind) {
        return Err(Error::new(
            Kind::Invalid,
            format!("event type {kind:?} is reserved"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_break_a_url_or_a_frame_are_refused() {
        for name in [
            "",
            "Stats",
            "a b",
            "a\nb",
            "a\0",
            "ü",
            "a/b",
            "all",
            "..",
            &"x".repeat(65),
        ] {
            assert!(
                check_channel_name(name).unwrap_err().is_invalid(),
                "{name:?}"
            );
        }
        check_channel_name("campaigns").unwrap();
        for kind in [
            "",
            "a\r\ndata: x",
            "error",
            "message",
            "open",
            "heartbeat",
            "a b",
            &"x".repeat(65),
        ] {
            assert!(check_event_type(kind).unwrap_err().is_invalid(), "{kind:?}");
        }
        check_event_type("CampaignUpdate").unwrap();
    }
}
