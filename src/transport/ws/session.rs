//! Session: one connection, as one future.
//!
//! It is polled when the socket, the hub, a pending check of credentials or its one timer has something. The hub is
//! read only while nothing waits for the socket, so a client that does not read falls behind in the hub, where that
//! costs nothing, and is let go there like any other slow reader.

mod deadlines;
mod entrance;
mod hearing;
mod identity;
mod saying;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::request::Parts;
use hyper::upgrade::OnUpgrade;
use serde_json::json;
use tokio::time::Sleep;

pub(super) use entrance::{Entered, Lobby, Opening};
use hearing::TooMuch;
use identity::Pending;

use super::{
    codec::{
        close::CloseCode,
        decoder::{Decoder, Inbound},
        encoder::encode_pong,
        handshake::Encoding,
    },
    pace::Pace,
    reading::Reading,
    wire::Wire,
};
use crate::{
    access::Gate,
    hub::{CloseReason, Position, Read, Start},
    runtime::Runtime,
    telemetry::Quiet,
    transport::router::Shared,
};

/// The longest message of a client, over all its fragments and inflated.
const MAX_INBOUND_BYTES: usize = 64 * 1024;
/// Frames for each message that a client may send: fragments and control frames cost work as well.
const FRAMES_A_MESSAGE: usize = 10;
/// How long a client may take to say who it is, and how long finding that out may take.
const AUTH_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to answer our Close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Input is not read while this much waits for the socket: whoever asks has to read the answers.
const MAX_QUEUED_BYTES: usize = 64 * 1024;
/// Chunks of the hub are gathered up to here before they are written.
const GATHER_BYTES: usize = 32 * 1024;
/// After so many rounds other tasks get a turn.
const ROUNDS: usize = 32;

/// What the handshake agreed on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) encoding: Encoding,
    pub(super) deflate: bool,
    /// Why the reconnect token that was brought is not taken.
    pub(super) token_refused: Option<&'static str>,
}

#[derive(Debug)]
enum Link {
    /// The handshake's answer is on its way.
    Upgrading(OnUpgrade),
    Open(Wire),
}

#[derive(Clone, Copy, Debug)]
struct Closing {
    until_us: u64,
    /// The client's Close frame has come.
    heard: bool,
    /// It never will: what comes after broken rules is not read.
    deaf: bool,
}

/// See the module's documentation.
pub(super) struct Session {
    shared: Arc<Shared>,
    link: Link,
    terms: Terms,
    decoder: Decoder,
    reading: Reading,
    /// Where to begin once it is known who asks, and for what.
    start: Option<Start>,
    head: Box<Parts>,
    lobby: Option<Lobby>,
    feed: Option<Entered>,
    pending: Option<Box<Pending>>,
    /// The payload of the last ping that was not answered yet: section 5.5.3 of RFC 6455 asks for no more.
    pong: Option<Vec<u8>>,
    messages: Pace,
    frames: Pace,
    heard_us: u64,
    ping_us: u64,
    /// Since when the socket takes nothing; 0 while it does.
    blocked_us: u64,
    closing: Option<Closing>,
    timer: Pin<Box<Sleep>>,
    timer_us: u64,
}

/// The connection is over.
struct Over;

impl Session {
    pub(super) fn new(
        shared: Arc<Shared>,
        upgrade: OnUpgrade,
        terms: Terms,
        reading: Reading,
        start: Start,
        head: Parts,
        opening: Opening,
    ) -> Self {
        let runtime = &shared.runtime;
        let now_us = runtime.clock.now_us();
        let a_minute = runtime.config.inbound_per_minute;
        let inbound = Inbound {
            max_message: MAX_INBOUND_BYTES,
            binary: terms.encoding == Encoding::MessagePack,
            deflate: terms.deflate,
        };
        let (lobby, feed) = match opening {
            Opening::Lobby(lobby) => (Some(lobby), None),
            Opening::Known(entered) => (None, Some(entered)),
        };
        let mut head = head;
        // Whoever decides about a first `auth` sees them still.
        if feed.is_some() {
            Gate::forget_extensions(&mut head);
        }
        let mut session = Self {
            link: Link::Upgrading(upgrade),
            terms,
            decoder: Decoder::new(inbound),
            reading,
            start: Some(start),
            head: Box::new(head),
            lobby,
            feed,
            pending: None,
            pong: None,
            messages: Pace::new(a_minute, now_us),
            frames: Pace::new(a_minute.saturating_mul(FRAMES_A_MESSAGE), now_us),
            heard_us: now_us,
            ping_us: now_us + micros(runtime.config.ws_ping_interval),
            blocked_us: 0,
            closing: None,
            timer: Box::pin(tokio::time::sleep(AUTH_TIMEOUT)),
            timer_us: now_us + micros(AUTH_TIMEOUT),
            shared,
        };
        session.rearm(now_us);
        session.begin();
        session
    }

    /// Whoever reads has begun where it wanted to.
    fn begin(&mut self) {
        if self.feed.is_some() && !self.reading.selection.names.is_empty() {
            self.start = None;
        }
    }

    fn runtime(&self) -> &Arc<Runtime> {
        &self.shared.runtime
    }

    fn now_us(&self) -> u64 {
        self.runtime().clock.now_us()
    }

    fn position(&self) -> Option<Position> {
        self.feed.as_ref().map(|feed| feed.subscription.position())
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<Over> {
        if let Link::Upgrading(upgrade) = &mut self.link {
            match Pin::new(upgrade).poll(cx) {
                Poll::Ready(Ok(upgraded)) => {
                    self.link = Link::Open(Wire::new(upgraded));
                    self.heard_us = self.now_us();
                    self.establish();
                }
                // The handshake's answer did not get out.
                Poll::Ready(Err(_)) => return Poll::Ready(Over),
                Poll::Pending => {
                    return match self.poll_timer(cx) {
                        Err(over) => Poll::Ready(over),
                        Ok(()) => Poll::Pending,
                    };
                }
            }
        }
        for _ in 0..ROUNDS {
            if let Err(over) = self.poll_timer(cx) {
                return Poll::Ready(over);
            }
            let shutdown = self
                .lobby
                .as_mut()
                .is_some_and(|lobby| lobby.shutdown.as_mut().poll(cx).is_ready());
            if shutdown {
                self.let_go(CloseReason::Shutdown);
            }
            let mut moved = self.poll_check(cx);
            // The host's own check may say what it likes; what is logged about our bytes is no line.
            let _quiet = Quiet::enter();
            match self.poll_input(cx) {
                Poll::Ready(Ok(())) => moved = true,
                Poll::Ready(Err(over)) => return Poll::Ready(over),
                Poll::Pending => {}
            }
            match self.poll_output(cx) {
                Ok(wrote) => moved |= wrote,
                Err(over) => return Poll::Ready(over),
            }
            if !moved {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Over>> {
        let Link::Open(wire) = &mut self.link else {
            return Poll::Pending;
        };
        if wire.queued() > MAX_QUEUED_BYTES && self.closing.is_none() {
            return Poll::Pending;
        }
        let input = match wire.poll_read(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Over)),
            Poll::Ready(Ok(input)) if input.is_end() => return Poll::Ready(Err(Over)),
            Poll::Ready(Ok(input)) => input,
        };
        self.heard_us = self.now_us();
        input.with(|mut bytes| {
            while !bytes.is_empty() {
                let decoded = self.decoder.decode(bytes);
                let frames = self.decoder.take_frames();
                match decoded {
                    Ok((used, message)) => {
                        bytes = &mut bytes[used..];
                        if self.closing.is_none() && !self.frames.take(frames, self.heard_us) {
                            self.too_much(TooMuch::Frames);
                        }
                        if let Some(message) = message {
                            self.hear(message);
                        }
                    }
                    Err(violation) => {
                        self.close(violation.code, violation.reason, None);
                        if let Some(closing) = &mut self.closing {
                            closing.deaf = true;
                        }
                        return;
                    }
                }
            }
        });
        Poll::Ready(Ok(()))
    }

    fn poll_feed(&mut self, cx: &mut Context<'_>) {
        loop {
            let (Link::Open(wire), Some(feed)) = (&mut self.link, &mut self.feed) else {
                return;
            };
            if wire.queued() >= GATHER_BYTES {
                return;
            }
            match feed.subscription.poll_read(cx) {
                Poll::Pending => return,
                Poll::Ready(Some(Read::Events(bytes))) => wire.push(bytes),
                Poll::Ready(Some(Read::Gap(gap))) => self.say_gap(&gap),
                // Seen by programs that are not told of the protocol's own pings, as those in browsers.
                Poll::Ready(Some(Read::Heartbeat(_))) => self.send("ping", None, json!({})),
                Poll::Ready(Some(Read::Closed(reason))) => self.let_go(reason),
                Poll::Ready(None) => self.close(CloseCode::GOING_AWAY, "", None),
            }
        }
    }

    /// True when bytes moved.
    fn poll_output(&mut self, cx: &mut Context<'_>) -> Result<bool, Over> {
        let Link::Open(wire) = &mut self.link else {
            return Ok(false);
        };
        let free = wire.queued() == 0;
        if wire.queued() < MAX_QUEUED_BYTES
            && let Some(payload) = self.pong.take()
        {
            wire.push(encode_pong(&payload));
        }
        if free {
            self.poll_feed(cx);
        }
        let Link::Open(wire) = &mut self.link else {
            return Ok(false);
        };
        let moved = match wire.poll_write(cx) {
            Poll::Ready(Ok(moved)) => moved,
            Poll::Ready(Err(_)) => return Err(Over),
            Poll::Pending => false,
        };
        let (waits, flushed) = (wire.queued() > 0, wire.is_flushed());
        // Section 7.1.1 of RFC 6455: the server ends the connection first. Towards one whose Close can't be heard, its own
        // half of it, so that what was said last arrives.
        if let Some(closing) = self.closing
            && (closing.heard || closing.deaf)
            && flushed
            && wire.poll_shutdown(cx).is_ready()
            && closing.heard
        {
            return Err(Over);
        }
        if waits && (moved || self.blocked_us == 0) {
            self.blocked_us = self.now_us();
            self.rearm(self.blocked_us);
        } else if !waits {
            self.blocked_us = 0;
        }
        Ok(moved)
    }
}

impl Future for Session {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.turn(cx).map(|Over| ())
    }
}

fn micros(duration: Duration) -> u64 {
    duration.as_micros() as u64
}
