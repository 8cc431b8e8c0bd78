//! Filters: which events of its channels a reader wants, and which it may see.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// Severity of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Finest.
    Trace,
    /// For developers.
    Debug,
    /// Normal operation.
    Info,
    /// Something to look at.
    Warn,
    /// Something failed.
    Error,
}

impl Level {
    /// The level's name in lower case, as it stands in events and in the `level` parameter.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Level {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [
            Self::Trace,
            Self::Debug,
            Self::Info,
            Self::Warn,
            Self::Error,
        ]
        .into_iter()
        .find(|level| level.as_str().eq_ignore_ascii_case(text))
        .ok_or_else(|| {
            crate::Error::new(
                crate::error::Kind::Invalid,
                "level takes trace, debug, info, warn or error",
            )
        })
    }
}

/// What a filter sees of one event. Text is borrowed: matching allocates nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tags<'a> {
    /// The event's type.
    pub(crate) kind: &'a str,
    /// Snapshots speak of everything at once: only `type` and the tenant's wall apply to them.
    pub(crate) snapshot: bool,
    pub(crate) provider: Option<&'a str>,
    pub(crate) model: Option<&'a str>,
    pub(crate) user: Option<&'a str>,
    pub(crate) tenant: Option<&'a str>,
    pub(crate) route: Option<&'a str>,
    /// A failed request, or a log line of level error.
    pub(crate) error: bool,
    pub(crate) level: Option<Level>,
    pub(crate) component: Option<&'a str>,
}

/// Which events a reader wants of its channels. The default wants them all.
///
/// A criterion drops every event that does not carry the field, except snapshots (`stats`, `providers`, `system`),
/// which pass. Criteria are combined with *and*.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Filter {
    /// `provider_id`: exact.
    pub provider: Option<Arc<str>>,
    /// `model_id`: exact.
    pub model: Option<Arc<str>>,
    /// `user_id`: exact.
    pub user: Option<Arc<str>>,
    /// `tenant_id`: exact.
    pub tenant: Option<Arc<str>>,
    /// `route`: the exact route template.
    pub route: Option<Arc<str>>,
    /// `only_errors`: failed requests and log lines of level error.
    pub only_errors: bool,
    /// `level`: see [`LevelFilter`].
    pub level: Option<LevelFilter>,
    /// `component`: exact.
    pub component: Option<Arc<str>>,
    /// `type`: exact event types, any of them.
    pub types: Vec<Arc<str>>,
}

/// Which severities of log lines a reader wants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LevelFilter {
    /// This one and everything more severe.
    AtLeast(Level),
    /// Exactly these.
    AnyOf(Vec<Level>),
}

impl LevelFilter {
    fn allows(&self, level: Level) -> bool {
        match self {
            Self::AtLeast(minimum) => level >= *minimum,
            Self::AnyOf(levels) => levels.contains(&level),
        }
    }
}

impl Filter {
    /// Wants everything.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn matches(&self, tags: &Tags<'_>) -> bool {
        if !self.types.is_empty() && !self.types.iter().any(|kind| **kind == *tags.kind) {
            return false;
        }
        if tags.snapshot {
            return true;
        }
        let exact = |wanted: &Option<Arc<str>>, has: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| has == Some(wanted))
        };
        exact(&self.provider, tags.provider)
            && exact(&self.model, tags.model)
            && exact(&self.user, tags.user)
            && exact(&self.tenant, tags.tenant)
            && exact(&self.route, tags.route)
            && exact(&self.component, tags.component)
            && (!self.only_errors || tags.error)
            && self
                .level
                .as_ref()
                .is_none_or(|wanted| tags.level.is_some_and(|level| wanted.allows(level)))
    }
}
