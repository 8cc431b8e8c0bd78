//! Server-sent events: framing and the body of a stream (WHATWG HTML, section 9.2).

use std::{
    fmt::Write as _,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{BufMut, Bytes};
use http::{HeaderValue, Response, header};
use serde::Serialize;

use super::{answer::Answer, compress::GzipStream};
use crate::{
    hub::{Dialect, Frame, Gap, Position, Read, Subscription},
    json_line::escape_line_separators,
    middleware::{OwnBody, OwnStream},
};

/// Appends one event in the SSE wire form: `id`, `event` and `data` once each, one space behind the colon, LF.
pub(crate) fn encode(frame: &Frame<'_>, out: &mut Vec<u8>) {
    let name = frame.source.name(frame.index, Dialect::Stream);
    // Writing to a vector does not fail.
    let _ = std::io::Write::write_fmt(
        out,
        format_args!("id: {}\nevent: {name}\ndata: ", frame.position),
    );
    let start = out.len();
    frame.source.write_json(frame.index, Dialect::Stream, out);
    escape_line_separators(out, start);
    out.extend_from_slice(b"\n\n");
}

/// One frame of our own: `retry` and `id` where they are given.
fn control_frame(
    retry: Option<Duration>,
    id: Option<Position>,
    event: &str,
    data: &impl Serialize,
) -> Bytes {
    let mut head = String::new();
    if let Some(retry) = retry {
        let _ = writeln!(head, "retry: {}", retry.as_millis());
    }
    if let Some(id) = id {
        let _ = writeln!(head, "id: {id}");
    }
    let _ = write!(head, "event: {event}\ndata: ");
    let mut frame = head.into_bytes();
    // Our own structs serialise.
    let _ = serde_json::to_writer((&mut frame).writer(), data);
    escape_line_separators(&mut frame, 0);
    frame.extend_from_slice(b"\n\n");
    frame.into()
}

/// What the first frame says.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Established<'a> {
    pub(crate) connection_id: &'a str,
    pub(crate) reconnect_token: Option<&'a str>,
    pub(crate) channels: &'a [String],
    pub(crate) heartbeat_ms: u64,
    pub(crate) instance: &'a str,
    pub(crate) resume: &'a crate::hub::Resume,
    /// `invalid` or `expired`, where a reconnect token was brought and not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_refused: Option<&'static str>,
    pub(crate) timestamp: u64,
}

/// How long clients wait before they come back: a base with a random part, so that many do not come at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retry {
    pub(crate) base: Duration,
    pub(crate) jitter: Duration,
}

/// One to three seconds: a browser's own default is three to five, and a restart takes about one.
pub(crate) const RETRY: Retry = Retry {
    base: Duration::from_secs(1),
    jitter: Duration::from_secs(2),
};

impl Retry {
    /// Seeded by the connection: cheap, and different for each.
    pub(crate) fn pick(self, seed: u64) -> Duration {
        let jitter_ms = self.jitter.as_millis() as u64 + 1;
        self.base + Duration::from_millis(spread(seed) % jitter_ms)
    }
}

/// The finaliser of SplitMix64: neighbouring seeds land far apart.
pub(crate) fn spread(seed: u64) -> u64 {
    let mut spread = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    spread = (spread ^ (spread >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    spread = (spread ^ (spread >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    spread ^ (spread >> 31)
}

/// The body of a stream.
#[derive(Debug)]
pub(crate) struct SseBody {
    first: Option<Bytes>,
    subscription: Subscription,
    // Boxed, because most idle viewers have none.
    gzip: Option<Box<GzipStream>>,
}

/// The first frame: it sets the wait before a reconnect, and the position from which the client would resume.
pub(crate) fn established(first: &Established<'_>, subscription: &Subscription) -> Bytes {
    let wait = RETRY.pick(subscription.connection_id());
    control_frame(
        Some(wait),
        Some(subscription.position()),
        "connection_established",
        first,
    )
}

impl SseBody {
    pub(crate) fn new(first: Bytes, subscription: Subscription, gzip: Option<GzipStream>) -> Self {
        Self {
            first: Some(first),
            subscription,
            gzip: gzip.map(Box::new),
        }
    }

    #[cold]
    fn take_first(&mut self) -> Option<Bytes> {
        let first = self.first.take()?;
        Some(match &mut self.gzip {
            Some(gzip) => gzip.begin(&first),
            None => first,
        })
    }

    /// What the client is sent: the frame itself, or its place in a gzip stream.
    fn bytes(&mut self, read: Read) -> Bytes {
        let Some(mut gzip) = self.gzip.take() else {
            return self.frame(read);
        };
        let bytes = match read {
            Read::Events(block) => gzip.take(block, self.subscription.check()),
            Read::Gap(_) => gzip.stored(&self.frame(read)),
            Read::Heartbeat(_) => {
                let frame = self.frame(read);
                match self.subscription.compress_beat(&frame) {
                    Some(block) => gzip.take(block.bytes, block.check),
                    None => gzip.stored(&frame),
                }
            }
            Read::Closed(_) => gzip.end(&self.frame(read)),
        };
        self.gzip = Some(gzip);
        bytes
    }

    fn frame(&self, read: Read) -> Bytes {
        match read {
            Read::Events(bytes) => bytes,
            Read::Gap(gap) => self.gap_frame(&gap),
            Read::Heartbeat(position) => {
                let beat = Heartbeat {
                    timestamp: self.subscription.clock().unix_seconds(),
                };
                control_frame(None, Some(position), "heartbeat", &beat)
            }
            Read::Closed(reason) => {
                let now_us = self.subscription.clock().now_us();
                let wait = RETRY.pick(self.subscription.connection_id() ^ now_us);
                let drain = Drain {
                    reason: reason.as_str(),
                    retry_ms: wait.as_millis() as u64,
                };
                control_frame(
                    Some(wait),
                    Some(self.subscription.position()),
                    "drain",
                    &drain,
                )
            }
        }
    }

    fn gap_frame(&self, gap: &Gap) -> Bytes {
        control_frame(None, Some(self.subscription.position()), "gap", gap)
    }
}

#[derive(Serialize)]
struct Heartbeat {
    timestamp: u64,
}

#[derive(Serialize)]
struct Drain {
    reason: &'static str,
    retry_ms: u64,
}

impl OwnStream for SseBody {
    #[inline]
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.first.is_some() {
            return Poll::Ready(self.take_first());
        }
        let bytes = match ready!(self.subscription.poll_read(cx)) {
            // The usual one first.
            Some(Read::Events(bytes)) if self.gzip.is_none() => bytes,
            Some(read) => self.bytes(read),
            None => return Poll::Ready(None),
        };
        Poll::Ready(Some(bytes))
    }
}

/// The head of a stream, around a body.
pub(crate) fn answer(body: OwnBody) -> Answer {
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-transform"),
    );
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    answer
}

/// 200 for an EventSource that can't be admitted now: any other status closes it for good (WHATWG HTML 9.2.3).
pub(crate) fn busy(retry: Duration) -> Answer {
    #[derive(Serialize)]
    struct Busy {
        retry_ms: u64,
    }
    let busy = Busy {
        retry_ms: retry.as_millis() as u64,
    };
    answer(OwnBody::full(control_frame(
        Some(retry),
        None,
        "busy",
        &busy,
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_frame_has_every_field_once() {
        #[derive(Serialize)]
        struct Data {
            n: u8,
        }
        let position = Position { epoch: 7, seq: 3 };
        let frame = control_frame(
            Some(Duration::from_millis(1500)),
            Some(position),
            "drain",
            &Data { n: 1 },
        );
        assert_eq!(
            frame,
            "retry: 1500\nid: 7-3\nevent: drain\ndata: {\"n\":1}\n\n"
        );
    }

    #[test]
    fn retries_are_spread_over_the_jitter() {
        let retry = Retry {
            base: Duration::from_secs(1),
            jitter: Duration::from_secs(2),
        };
        let picks: std::collections::HashSet<_> = (0..100).map(|seed| retry.pick(seed)).collect();
        assert!(picks.len() > 80);
        assert!(
            picks
                .iter()
                .all(|pick| (1000..=3000).contains(&pick.as_millis()))
        );
    }
}
