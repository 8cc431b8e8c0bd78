//! Hearing: what a client's messages make the connection do.

use super::{
    super::{
        codec::{close::CloseCode, decoder::Message, encoder::encode_close},
        command::Command,
    },
    FRAMES_A_MESSAGE, Reading, Session,
    identity::MAX_WAITING_BYTES,
};
use crate::{access::Principal, hub::Start, refusal::Refusal, runtime::Runtime, sync::lock};

/// Which of its limits a client has passed.
#[derive(Clone, Copy, Debug)]
pub(super) enum TooMuch {
    Messages,
    Frames,
    /// Behind a check of credentials.
    Waiting,
}

impl Session {
    pub(super) fn hear(&mut self, message: Message) {
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
                self.too_much(TooMuch::Messages)
            }
            Message::Text(_) | Message::Binary(_) => match &mut self.pending {
                Some(pending) => {
                    if !pending.put(message) {
                        self.too_much(TooMuch::Waiting);
                    }
                }
                None => self.obey(message),
            },
        }
    }

    pub(super) fn too_much(&mut self, what: TooMuch) {
        let messages = self.runtime().config.inbound_per_minute;
        let (sentence, why) = match what {
            TooMuch::Messages => (
                format!("more than {messages} messages a minute (setting inbound_per_minute)"),
                "too many messages",
            ),
            TooMuch::Frames => (
                format!(
                    "more than {} frames a minute, fragments and control frames included: \
                     {FRAMES_A_MESSAGE} for each of the {messages} messages (setting inbound_per_minute)",
                    messages.saturating_mul(FRAMES_A_MESSAGE)
                ),
                "too many frames",
            ),
            TooMuch::Waiting => (
                format!(
                    "more than {} KiB of messages wait for the check of a token",
                    MAX_WAITING_BYTES / 1024
                ),
                "too much waits for a check",
            ),
        };
        self.error("rate_limited", &sentence, None);
        self.close(CloseCode::RATE_LIMIT, why, None);
    }

    pub(super) fn obey(&mut self, message: Message) {
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
                    reading.set_filter(filter);
                    Ok(())
                });
            }
            (Command::Unsubscribe { names, filter }, true) => {
                self.change("unsubscribed", |reading, runtime, principal| {
                    reading.remove(&names, runtime, principal)?;
                    reading.set_filter(filter);
                    Ok(())
                });
            }
            (Command::Resume { since }, true) => self.resume(Start::parse(&since)),
        }
    }

    /// Reads something else from now on, or says why not.
    pub(super) fn change(
        &mut self,
        kind: &'static str,
        edit: impl FnOnce(&mut Reading, &Runtime, &Principal) -> Result<(), Refusal>,
    ) {
        let Some(entered) = &mut self.feed else {
            return;
        };
        let (runtime, connection) = (&self.shared.runtime, &entered.connection);
        // Held to the end: the same can be changed over REST.
        let mut kept = lock(&connection.selection);
        let mut reading = self.reading.clone();
        reading.selection = kept.get();
        let reads_nothing = reading.selection.names.is_empty();
        let mut begins = false;
        let spec = edit(&mut reading, runtime, &connection.principal)
            .and_then(|()| reading.spec(runtime, &connection.principal));
        let refusal = match spec {
            Ok(spec) => {
                // The URL's position is that of the first that is read.
                let reads = !reading.selection.names.is_empty();
                match self.start.take_if(|_| reads) {
                    Some(start) if reads_nothing && start != Start::Latest => {
                        entered.subscription.restart(spec, start);
                        begins = true;
                    }
                    _ => entered.subscription.retarget(spec),
                }
                reading.set_rate(&mut entered.subscription);
                kept.set(reading.selection.clone());
                self.reading = reading;
                None
            }
            Err(refusal) => Some(refusal),
        };
        drop(kept);
        match refusal {
            None => self.say_subscribed(kind, begins),
            Some(refusal) => self.refuse(&refusal),
        }
    }

    /// Goes back, or keeps the place for the first that is read, as the URL's is kept.
    pub(super) fn resume(&mut self, start: Start) {
        let Some(entered) = &mut self.feed else {
            return;
        };
        let connection = &entered.connection;
        let kept = lock(&connection.selection);
        self.reading.selection = kept.get();
        if self.reading.selection.names.is_empty() {
            drop(kept);
            self.start = Some(start);
            return self.say_subscribed("subscribed", false);
        }
        let spec = self
            .reading
            .spec(&self.shared.runtime, &connection.principal);
        let refusal = spec
            .map(|spec| {
                self.start = None;
                entered.subscription.restart(spec, start);
            })
            .err();
        drop(kept);
        match refusal {
            None => self.say_subscribed("subscribed", true),
            Some(refusal) => self.refuse(&refusal),
        }
    }
}
