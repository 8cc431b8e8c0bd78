//! Saying: what the connection tells its client, events aside.

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    super::{
        codec::{
            close::{CloseCode, ComeBack},
            encoder::encode_close,
        },
        envelope::Control,
    },
    CLOSE_TIMEOUT, Closing, Link, Session, micros,
};
use crate::{
    hub::{CloseReason, Gap},
    refusal::Refusal,
    sync::lock,
    transport::sse::{Established, RETRY},
};

impl Session {
    pub(in super::super) fn reconnect_token(&self) -> Option<String> {
        let entered = self.feed.as_ref()?;
        let connection = &entered.connection;
        let position = entered.subscription.position().to_string();
        let wanted = lock(&connection.selection)
            .get()
            .to_query(connection.session);
        let tokens = self.shared.gate.reconnect_tokens();
        tokens.issue(&connection.principal, &wanted, &position)
    }

    pub(super) fn push(&mut self, bytes: bytes::Bytes) {
        if let Link::Open(wire) = &mut self.link {
            wire.push(bytes);
        }
    }

    pub(super) fn send(&mut self, kind: &'static str, channel: Option<&str>, data: impl Serialize) {
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

    pub(super) fn error(&mut self, code: &str, message: &str, details: Option<&Value>) {
        let mut data = json!({"code": code, "message": message});
        if let (Some(data), Some(Value::Object(details))) = (data.as_object_mut(), details) {
            data.extend(details.clone());
        }
        self.send("error", None, data);
    }

    pub(super) fn refuse(&mut self, refusal: &Refusal) {
        self.error(refusal.code(), refusal.sentence(), refusal.details());
    }

    /// The first message of one that reads.
    pub(super) fn establish(&mut self) {
        let token = self.reconnect_token();
        let Some(entered) = &self.feed else {
            return;
        };
        let runtime = self.runtime();
        let first = Established {
            connection_id: &self.shared.connections.name_of(&entered.connection),
            reconnect_token: token.as_deref(),
            channels: &self.reading.selection.names,
            heartbeat_ms: runtime.config.heartbeat_interval.as_millis() as u64,
            instance: &runtime.config.instance,
            resume: entered.subscription.resume(),
            token_refused: self.terms.token_refused,
            timestamp: runtime.clock.unix_seconds(),
        };
        // Borrowed from the session, so it becomes a value before the session sends it.
        let first = json!(first);
        self.send("connection_established", None, first);
    }

    pub(super) fn say_subscribed(&mut self, kind: &'static str, resumed: bool) {
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
    pub(super) fn close(&mut self, code: CloseCode, why: &str, drain: Option<&str>) {
        if self.closing.is_some() {
            return;
        }
        if let Some(reason) = drain {
            let id = self
                .feed
                .as_ref()
                .map_or(0, |feed| feed.subscription.connection_id());
            let mut data = json!({"reason": reason});
            // Whoever is not to come back is not told when.
            if code.come_back() != ComeBack::Never {
                let wait = RETRY.pick(id ^ self.now_us());
                data["retry_ms"] = json!(wait.as_millis() as u64);
            }
            self.send("drain", None, data);
        }
        self.push(encode_close(Some(code), why));
        self.begin_closing(false);
    }

    pub(super) fn begin_closing(&mut self, heard: bool) {
        let now_us = self.now_us();
        self.feed = None;
        self.lobby = None;
        self.pending = None;
        self.pong = None;
        self.closing = Some(Closing {
            until_us: now_us + micros(CLOSE_TIMEOUT),
            heard,
            deaf: false,
        });
        self.rearm(now_us);
    }

    pub(super) fn say_gap(&mut self, gap: &Gap) {
        self.send("gap", Some(&gap.channel), gap);
    }

    pub(super) fn let_go(&mut self, reason: CloseReason) {
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
}
