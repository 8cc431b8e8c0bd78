//! Positions: where in the hub's one sequence a reader stands.

use std::{fmt, str::FromStr, time::Duration};

/// An event's id: `<epoch>-<seq>`, decimal digits on both sides.
///
/// `epoch` names one life of one hub; `seq` is one strictly increasing number over all channels, so a single
/// position resumes any set of channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The hub's life: unix seconds of its start followed by six random digits.
    pub epoch: u64,
    /// The sequence number; the first event of a life is 1.
    pub seq: u64,
}

/// The longest text that is read as a position; longer ones are unknown.
const MAX_POSITION_BYTES: usize = 64;

impl Position {
    /// `None` where the text is not a position. Callers treat that as an unknown position, never as an error.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_POSITION_BYTES {
            return None;
        }
        let (epoch, seq) = text.split_once('-')?;
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| digits.parse().ok()).flatten()
        };
        Some(Self {
            epoch: number(epoch)?,
            seq: number(seq)?,
        })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.seq)
    }
}

impl serde::Serialize for Position {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Where a reader asks to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// With what is published from now on.
    Latest,
    /// With the oldest event that is still held.
    Earliest,
    /// With the last so many events. Those of them that are no longer held are reported as missing; through a filter,
    /// or for a tenant, without saying how many.
    Last(u32),
    /// With the events of the last so much time. What of it is no longer held is reported as missing; the window then
    /// begins up to a second earlier, and further where it lies more than an hour back.
    Ago(Duration),
    /// Behind this event.
    After(Position),
    /// A position was given, but it is none that this hub knows.
    Unknown,
}

impl Start {
    /// Reads the value of `Last-Event-ID`, `since` or `lastEventId`. Whatever is not understood is
    /// [`Start::Unknown`]: a client with a stale or mangled id gets a stream, not a failure.
    pub(crate) fn parse(text: &str) -> Self {
        match text {
            "latest" => return Self::Latest,
            "earliest" => return Self::Earliest,
            _ => {}
        }
        if let Some(count) = text.strip_prefix("n:") {
            return count.parse().map_or(Self::Unknown, Self::Last);
        }
        if let Some(ago) = parse_ago(text) {
            return Self::Ago(ago);
        }
        Position::parse(text).map_or(Self::Unknown, Self::After)
    }
}

impl FromStr for Start {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::parse(text))
    }
}

/// `90s`, `5m`, `2h`, `1d`.
fn parse_ago(text: &str) -> Option<Duration> {
    let unit = match text.as_bytes().last()? {
        b's' => 1,
        b'm' => 60,
        b'h' => 3600,
        b'd' => 86_400,
        _ => return None,
    };
    let count: u32 = text[..text.len() - 1].parse().ok()?;
    Some(Duration::from_secs(u64::from(count) * unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_position_prints_and_parses_as_seed_000_shows() {
        let position = Position {
            epoch: 1_738_723_890,
            seq: 1,
        };
        assert_eq!(position.to_string(), "1738723890-1");
        assert_eq!(Position::parse("1738723890-1"), Some(position));
    }

    #[test]
    fn what_is_not_a_position_is_unknown() {
        let long = format!("1-{}", "1".repeat(63));
        for text in [
            "",
            "-",
            "1-",
            "-1",
            "1-2-3",
            "+1-2",
            "1-+2",
            "1 -2",
            "a-b",
            "é-1",
            "1-99999999999999999999",
            &long,
        ] {
            assert_eq!(Start::parse(text), Start::Unknown, "{text:?}");
        }
    }

    #[test]
    fn every_way_to_say_where_to_begin() {
        assert_eq!(Start::parse("latest"), Start::Latest);
        assert_eq!(Start::parse("earliest"), Start::Earliest);
        assert_eq!(Start::parse("n:50"), Start::Last(50));
        assert_eq!(Start::parse("5m"), Start::Ago(Duration::from_secs(300)));
        assert_eq!(Start::parse("n:-1"), Start::Unknown);
        assert_eq!(Start::parse("m"), Start::Unknown);
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in ".{0,80}") {
            let _ = Start::parse(&text);
        }

        #[test]
        fn positions_round_trip(epoch: u64, seq: u64) {
            let position = Position { epoch, seq };
            prop_assert_eq!(Position::parse(&position.to_string()), Some(position));
        }
    }
}
