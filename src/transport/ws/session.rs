//! Session: one connection, as one future.
//!
//! It is polled when the socket, the hub, a pending check of credentials or its one timer has something. The hub is
//! read only while nothing waits for the socket, so a client that does not read falls behind in the hub, where that
//! costs nothing, and is let go there like any other slow reader.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::request::Parts;
use hyper::upgrade::OnUpgrade;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{
    codec::{
        close::CloseCode,
        decoder::{Decoder, Inbound, Message},
        encoder::{encode_close, encode_ping, encode_pong},
        handshake::Encoding,
    },
    command::Command,
    envelope::Control,
    pace::Pace,
    reading::Reading,
    wire::Wire,
};
use crate::{
    access::{Gate, Principal},
    hub::{CloseReason, Gap, Position, Read, Start, Subscription},
    runtime::Runtime,
    sync::lock,
    telemetry::Quiet,
    transport::{
        answer::Refusal,
        connections::{Connection, Connections, Newcomer, Session as SessionId},
        router::Shared,
        sse::{Established, RETRY},
        stream::full_or_closed,
    },
};

/// The longest message of a client, over all its fragments and inflated.
const MAX_INBOUND_BYTES: usize = 64 * 1024;
/// Frames for each message that a client may send: fragments and control frames cost work as well.
const FRAMES_A_MESSAGE: usize = 10;
/// How long a client may take to say who it is, and how long finding that out may take.
const AUTH_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to answer our Close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Messages that wait for a check of credentials, in bytes.
const MAX_WAITING_BYTES: usize = 128 * 1024;
/// Input is not read while this much waits for the socket: whoever asks has to read the answers.
const MAX_QUEUED_BYTES: usize = 64 * 1024;
/// Chunks of the hub are gathered up to here before they are written.
const GATHER_BYTES: usize = 32 * 1024;
/// After so many rounds other tasks get a turn.
const ROUNDS: usize = 32;
/// What the hub's own sweep may be late by.
const SWEEP_SLACK: Duration = Duration::from_secs(2);

/// What the handshake agreed on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) encoding: Encoding,
    pub(super) deflate: bool,
}

/// How a connection begins.
#[derive(Debug)]
pub(super) enum Opening {
    /// Credentials are still to come.
    Lobby(Lobby),
    Known(Entered),
}

/// A place among those whose credentials are still to come. They do not read the hub, and count among themselves.
#[derive(Debug)]
pub(super) struct Lobby {
    connections: Arc<Connections>,
    /// Nobody else would tell it.
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
    until_us: u64,
}

impl Lobby {
    /// `None` where it is full.
    pub(super) fn enter(shared: &Shared) -> Option<Self> {
        let runtime = &shared.runtime;
        if !shared.connections.enter_lobby(runtime.config.max_clients) {
            return None;
        }
        Some(Self {
            connections: shared.connections.clone(),
            shutdown: Box::pin(runtime.shutdown_token().clone().cancelled_owned()),
            until_us: runtime.clock.now_us() + micros(AUTH_TIMEOUT),
        })
    }
}

impl Drop for Lobby {
    fn drop(&mut self) {
        self.connections.leave_lobby();
    }
}

/// A reader of the hub, and its entry among the connections.
#[derive(Debug)]
pub(super) struct Entered {
    subscription: Subscription,
    connection: Arc<Connection>,
}

impl Entered {
    /// Joins the hub, within the limits.
    pub(super) fn enter(
        shared: &Shared,
        head: &Parts,
        principal: Principal,
        reading: &Reading,
        start: Start,
        session: Option<SessionId>,
    ) -> Result<Self, Refusal> {
        let runtime = &shared.runtime;
        let spec = reading.spec(runtime, &principal)?;
        let connections = &shared.connections;
        // First of all, so that the new one may have the old one's place.
        if let Some(session) = session {
            connections.take_over(&runtime.hub, session, &principal);
        }
        let address = shared.gate.client_ip(head);
        let seat = connections.admission.admit(&principal, address)?;
        let subscribed = runtime.hub.subscribe(spec, start);
        let mut subscription = subscribed.map_err(full_or_closed)?;
        reading.set_rate(&mut subscription);
        let newcomer = Newcomer {
            transport: "websocket",
            principal: &principal,
            address,
            session: session.unwrap_or_else(|| SessionId::random(runtime.clock)),
            selection: reading.selection.clone(),
        };
        let connection = connections.enter(seat, &subscription, newcomer);
        Ok(Self {
            subscription,
            connection,
        })
    }
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
}

type Check = Pin<Box<dyn Future<Output = Result<Principal, Refusal>> + Send>>;

/// A check of credentials that is under way, and what came behind it.
struct Pending {
    check: Check,
    until_us: u64,
    waiting: VecDeque<Message>,
    waiting_bytes: usize,
}

/// See the module's documentation.
pub(super) struct Session {
    shared: Arc<Shared>,
    link: Link,
    terms: Terms,
    decoder: Decoder,
    reading: Reading,
    /// Where to begin once it is known who asks.
    start: Start,
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
            start,
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
        session
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

    pub(super) fn reconnect_token(&self) -> Option<String> {
        let entered = self.feed.as_ref()?;
        let connection = &entered.connection;
        let position = entered.subscription.position().to_string();
        let wanted = lock(&connection.selection).to_query(connection.session);
        let tokens = self.shared.gate.reconnect_tokens();
        tokens.issue(&connection.principal, &wanted, &position)
    }

    // What is said.

    fn push(&mut self, bytes: bytes::Bytes) {
        if let Link::Open(wire) = &mut self.link {
            wire.push(bytes);
        }
    }

    fn send(&mut self, kind: &'static str, channel: Option<&str>, data: impl Serialize) {
        let control = Control {
            kind,
            timestamp: self.runtime().clock.unix_ms(),
            data,
            id: self.position(),
            channel,
        };
        let frame = control.frame(self.terms.encoding);
        self.push(frame);
    }

    fn error(&mut self, code: &str, message: &str, details: Option<&Value>) {
        let mut data = json!({"code": code, "message": message});
        if let (Some(data), Some(Value::Object(details))) = (data.as_object_mut(), details) {
            data.extend(details.clone());
        }
        self.send("error", None, data);
    }

    fn refuse(&mut self, refusal: &Refusal) {
        self.error(refusal.code(), refusal.sentence(), refusal.details());
    }

    /// The first message of one that reads.
    fn establish(&mut self) {
        let token = self.reconnect_token();
        let Some(entered) = &self.feed else {
            return;
        };
        let runtime = self.runtime();
        let first = Established {
            connection_id: &entered.connection.name,
            reconnect_token: token.as_deref(),
            channels: &self.reading.selection.names,
            heartbeat_ms: runtime.config.heartbeat_interval.as_millis() as u64,
            instance: &runtime.config.instance,
            resume: entered.subscription.resume(),
            timestamp: runtime.clock.unix_seconds(),
        };
        // Borrowed from the session, so it becomes a value before the session sends it.
        let first = json!(first);
        self.send("connection_established", None, first);
    }

    fn say_subscribed(&mut self, kind: &'static str, resumed: bool) {
        let mut data = json!({
            "channels": self.reading.selection.names,
            "filter": self.reading.filter(),
            "reconnect_token": self.reconnect_token(),
        });
        if resumed && let Some(feed) = &self.feed {
            data["resume"] = json!(feed.subscription.resume());
        }
        self.send(kind, None, data);
    }

    /// Begins the closing handshake (RFC 6455, section 7.1.2), after saying why where that is on purpose.
    fn close(&mut self, code: CloseCode, why: &str, drain: Option<&str>) {
        if self.closing.is_some() {
            return;
        }
        if let Some(reason) = drain {
            let id = self
                .feed
                .as_ref()
                .map_or(0, |feed| feed.subscription.connection_id());
            let wait = RETRY.pick(id ^ self.now_us());
            self.send(
                "drain",
                None,
                json!({"reason": reason, "retry_ms": wait.as_millis() as u64}),
            );
        }
        self.push(encode_close(Some(code), why));
        self.begin_closing(false);
    }

    fn begin_closing(&mut self, heard: bool) {
        let now_us = self.now_us();
        self.feed = None;
        self.lobby = None;
        self.pending = None;
        self.pong = None;
        self.closing = Some(Closing {
            until_us: now_us + micros(CLOSE_TIMEOUT),
            heard,
        });
        self.rearm(now_us);
    }

    // What is heard.

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
                            self.too_much();
                        }
                        if let Some(message) = message {
                            self.hear(message);
                        }
                    }
                    Err(violation) => {
                        self.close(violation.code, violation.reason, None);
                        return;
                    }
                }
            }
        });
        Poll::Ready(Ok(()))
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Close(frame) => match &mut self.closing {
                Some(closing) => closing.heard = true,
                None => {
                    self.push(encode_close(frame.map(|frame| frame.code), ""));
                    self.begin_closing(true);
                }
            },
            _ if self.closing.is_some() => {}
            Message::Ping(payload) => self.pong = Some(payload),
            Message::Pong(_) => {}
            Message::Text(_) | Message::Binary(_) if !self.messages.take(1, self.heard_us) => {
                self.too_much()
            }
            Message::Text(_) | Message::Binary(_) => match &mut self.pending {
                Some(pending) => {
                    pending.waiting_bytes += match &message {
                        Message::Text(text) => text.len(),
                        Message::Binary(bytes) => bytes.len(),
                        _ => 0,
                    };
                    pending.waiting.push_back(message);
                    if pending.waiting_bytes > MAX_WAITING_BYTES {
                        self.too_much();
                    }
                }
                None => self.obey(message),
            },
        }
    }

    fn too_much(&mut self) {
        let limit = self.runtime().config.inbound_per_minute;
        self.error(
            "rate_limited",
            &format!("more than {limit} messages a minute (setting inbound_per_minute)"),
            None,
        );
        self.close(CloseCode::RATE_LIMIT, "too many messages", None);
    }

    fn obey(&mut self, message: Message) {
        let command = match &message {
            Message::Text(text) => Command::from_text(text),
            Message::Binary(bytes) => Command::from_packed(bytes),
            _ => return,
        };
        let command = match command {
            Ok(command) => command,
            Err(fault) => return self.error(fault.code, &fault.message, None),
        };
        match (command, self.feed.is_some()) {
            (Command::Ping(echo), _) => self.send("pong", None, echo),
            (Command::Pong, _) => {}
            (Command::Auth { token }, _) => self.begin_check(token),
            (_, false) => self.error(
                "unauthorized",
                "say who you are first: {\"type\": \"auth\", \"data\": {\"token\": \"…\"}}",
                None,
            ),
            (Command::Subscribe { names, filter }, true) => {
                self.change("subscribed", |reading, _, _| {
                    reading.add(names);
                    if let Some(filter) = filter {
                        reading.set_filter(&filter);
                    }
                });
            }
            (Command::Unsubscribe { names }, true) => {
                self.change("unsubscribed", |reading, runtime, principal| {
                    reading.remove(&names, runtime, principal);
                });
            }
            (Command::Resume { since }, true) => self.resume(Start::parse(&since)),
        }
    }

    /// Reads something else from now on, or says why not.
    fn change(
        &mut self,
        kind: &'static str,
        edit: impl FnOnce(&mut Reading, &Runtime, &Principal),
    ) {
        let Some(entered) = &mut self.feed else {
            return;
        };
        let (runtime, connection) = (&self.shared.runtime, &entered.connection);
        // Held to the end: the same can be changed over REST.
        let mut selection = lock(&connection.selection);
        let mut reading = self.reading.clone();
        reading.selection = selection.clone();
        edit(&mut reading, runtime, &connection.principal);
        let refusal = match reading.spec(runtime, &connection.principal) {
            Ok(spec) => {
                entered.subscription.retarget(spec);
                reading.set_rate(&mut entered.subscription);
                *selection = reading.selection.clone();
                self.reading = reading;
                None
            }
            Err(refusal) => Some(refusal),
        };
        drop(selection);
        match refusal {
            None => self.say_subscribed(kind, false),
            Some(refusal) => self.refuse(&refusal),
        }
    }

    fn resume(&mut self, start: Start) {
        let Some(entered) = &mut self.feed else {
            return;
        };
        let connection = &entered.connection;
        let selection = lock(&connection.selection);
        self.reading.selection = selection.clone();
        let spec = self
            .reading
            .spec(&self.shared.runtime, &connection.principal);
        let refusal = spec
            .map(|spec| entered.subscription.restart(spec, start))
            .err();
        drop(selection);
        match refusal {
            None => self.say_subscribed("subscribed", true),
            Some(refusal) => self.refuse(&refusal),
        }
    }

    // Who asks.

    fn begin_check(&mut self, token: String) {
        let (shared, head) = (self.shared.clone(), self.head.clone());
        let now_us = self.now_us();
        self.pending = Some(Box::new(Pending {
            check: Box::pin(async move { shared.gate.admit_token(&head, &token).await }),
            until_us: now_us + micros(AUTH_TIMEOUT),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
        }));
        self.rearm(now_us);
    }

    /// True when a check has ended, and what waited for it was handled up to the next one.
    fn poll_check(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(pending) = &mut self.pending else {
            return false;
        };
        let Poll::Ready(result) = pending.check.as_mut().poll(cx) else {
            return false;
        };
        let mut waiting = std::mem::take(&mut pending.waiting);
        self.pending = None;
        self.checked(result);
        while let Some(message) = waiting.pop_front() {
            if self.closing.is_some() {
                break;
            }
            match &mut self.pending {
                None => self.obey(message),
                Some(pending) => {
                    pending.waiting.push_back(message);
                    pending.waiting.append(&mut waiting);
                }
            }
        }
        true
    }

    fn checked(&mut self, result: Result<Principal, Refusal>) {
        let principal = match result {
            Ok(principal) => principal,
            Err(denial) => {
                self.refuse(&denial);
                // Who was somebody stays who it was.
                if self.feed.is_none() {
                    let (code, why) = match denial.status().as_u16() {
                        403 => (CloseCode::FORBIDDEN, "not allowed"),
                        503 => (CloseCode::TRY_LATER, "credentials cannot be checked now"),
                        _ => (CloseCode::UNAUTHORISED, "credentials are not valid"),
                    };
                    self.close(code, why, None);
                }
                return;
            }
        };
        match &self.feed {
            None => self.enter(principal),
            Some(entered) if entered.connection.principal.is_same(&principal) => {
                let reader = &entered.connection.reader;
                self.shared.connections.expire(reader, principal.expiry());
                self.say_subscribed("subscribed", false);
            }
            Some(_) => self.error(
                "another_principal",
                "the token is that of somebody else, or has other rights: open another connection",
                None,
            ),
        }
    }

    /// Begins to read, now that it is known who asks.
    fn enter(&mut self, principal: Principal) {
        if let Err(refusal) = self.reading.spec(self.runtime(), &principal) {
            self.refuse(&refusal);
            if refusal.code() == "foreign_tenant" {
                return self.close(CloseCode::FORBIDDEN, "another tenant", None);
            }
            // The URL asks for what is not there: it stays, and may ask for something else.
            let selection = &mut self.reading.selection;
            selection.names.clear();
            selection.query.clear();
        }
        let (shared, reading) = (&self.shared, &self.reading);
        match Entered::enter(shared, &self.head, principal, reading, self.start, None) {
            Ok(entered) => {
                self.feed = Some(entered);
                self.lobby = None;
                Gate::forget_extensions(&mut self.head);
                self.establish();
            }
            Err(refusal) => {
                self.refuse(&refusal);
                let code = match refusal.code() {
                    "shutting_down" => CloseCode::GOING_AWAY,
                    _ => CloseCode::TRY_LATER,
                };
                self.close(code, refusal.code(), Some(refusal.code()));
            }
        }
        self.rearm(self.now_us());
    }

    // What the hub has.

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

    fn say_gap(&mut self, gap: &Gap) {
        self.send("gap", Some(&gap.channel), gap);
    }

    fn let_go(&mut self, reason: CloseReason) {
        let code = match reason {
            CloseReason::Shutdown => CloseCode::GOING_AWAY,
            CloseReason::Stalled => CloseCode::SLOW_CLIENT,
            CloseReason::MaxAge => CloseCode::ROTATED,
            CloseReason::Kicked => CloseCode::KICKED,
            CloseReason::Expired => CloseCode::UNAUTHORISED,
            CloseReason::Replaced => CloseCode::REPLACED,
        };
        self.close(code, reason.as_str(), Some(reason.as_str()));
    }

    // Time.

    /// When the timer has to look again.
    fn due_us(&self) -> u64 {
        if let Some(closing) = self.closing {
            return closing.until_us;
        }
        let config = &self.runtime().config;
        let lobby = self.lobby.as_ref().map(|lobby| lobby.until_us);
        let check = self.pending.as_ref().map(|pending| pending.until_us);
        let blocked = (self.blocked_us > 0)
            .then(|| self.blocked_us + micros(config.stall_timeout + SWEEP_SLACK));
        let silence = self.heard_us + micros(config.ws_timeout);
        let dues = [Some(self.ping_us), Some(silence), lobby, check, blocked];
        dues.into_iter().flatten().min().unwrap_or(silence)
    }

    /// Sets the timer to an earlier time where one is due; a later one is found out when it fires.
    fn rearm(&mut self, now_us: u64) {
        let due_us = self.due_us();
        if due_us < self.timer_us {
            self.set_timer(due_us, now_us);
        }
    }

    fn set_timer(&mut self, due_us: u64, now_us: u64) {
        self.timer_us = due_us;
        self.timer
            .as_mut()
            .reset(Instant::now() + Duration::from_micros(due_us.saturating_sub(now_us)));
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Result<(), Over> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let now_us = self.now_us();
            self.tick(now_us)?;
            // Rounded up to the timer's millisecond, so that it does not fire just before what is due.
            self.set_timer(self.due_us().max(now_us + 1000), now_us);
        }
        Ok(())
    }

    fn tick(&mut self, now_us: u64) -> Result<(), Over> {
        if matches!(self.link, Link::Upgrading(_)) && now_us >= self.heard_us + micros(AUTH_TIMEOUT)
        {
            return Err(Over);
        }
        if let Some(closing) = self.closing {
            return if now_us >= closing.until_us {
                Err(Over)
            } else {
                Ok(())
            };
        }
        let config = &self.runtime().config;
        let (ping, silence) = (micros(config.ws_ping_interval), micros(config.ws_timeout));
        let blocked = micros(config.stall_timeout + SWEEP_SLACK);
        if self.blocked_us > 0 && now_us >= self.blocked_us + blocked {
            // Nothing can be said to one that takes nothing.
            return Err(Over);
        }
        if now_us >= self.heard_us + silence {
            self.close(
                CloseCode::SLOW_CLIENT,
                "silent for too long",
                Some("timeout"),
            );
        } else if self
            .lobby
            .as_ref()
            .is_some_and(|lobby| now_us >= lobby.until_us)
        {
            self.error("unauthorized", "no valid token came in time", None);
            self.close(CloseCode::UNAUTHORISED, "no valid token came in time", None);
        } else if self
            .pending
            .as_ref()
            .is_some_and(|pending| now_us >= pending.until_us)
        {
            self.pending = None;
            self.error(
                "access_unavailable",
                "the credentials could not be checked in time",
                None,
            );
            self.close(
                CloseCode::TRY_LATER,
                "credentials cannot be checked now",
                None,
            );
        } else if now_us >= self.ping_us {
            self.ping_us = now_us + ping;
            self.push(encode_ping(b""));
        }
        Ok(())
    }

    // All of it.

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
        if self.closing.is_some_and(|closing| closing.heard)
            && flushed
            && wire.poll_shutdown(cx).is_ready()
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
