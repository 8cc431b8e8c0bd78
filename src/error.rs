//! The crate's one error type.

use std::{error::Error as StdError, fmt};

type Source = Box<dyn StdError + Send + Sync>;

/// What went wrong, as a sentence and a kind that can be asked for.
///
/// The message names the setting, header or field at fault and what it takes; it never contains a token.
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<Source>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Config,
    Full,
    Closed,
    Invalid,
    UnknownChannel,
}

impl Error {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    pub(crate) fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// A setting, an environment variable or a configuration file has a value that it does not take.
    pub fn is_config(&self) -> bool {
        self.kind == Kind::Config
    }

    /// The hub's inbox was full: the event was not taken, and was counted.
    pub fn is_full(&self) -> bool {
        self.kind == Kind::Full
    }

    /// The hub has been shut down.
    pub fn is_closed(&self) -> bool {
        self.kind == Kind::Closed
    }

    /// An argument has a value that is not taken: a channel name, an event type, a payload.
    pub fn is_invalid(&self) -> bool {
        self.kind == Kind::Invalid
    }

    /// The channel is not registered.
    pub fn is_unknown_channel(&self) -> bool {
        self.kind == Kind::UnknownChannel
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.kind)
            .field("message", &self.message)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_ref()
            .map(|source| source.as_ref() as &(dyn StdError + 'static))
    }
}
