//! Identity: who asks, found out while messages wait in their order.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use super::{
    super::codec::{close::CloseCode, decoder::Message},
    AUTH_TIMEOUT, Session,
    entrance::Entered,
    micros,
};
use crate::{
    access::{Gate, Principal},
    hub::Start,
    refusal::Refusal,
};

/// Messages that wait for a check of credentials, in bytes.
pub(super) const MAX_WAITING_BYTES: usize = 128 * 1024;

type Check = Pin<Box<dyn Future<Output = Result<Principal, Refusal>> + Send>>;

/// A check of credentials that is under way, and what came behind it.
pub(super) struct Pending {
    check: Check,
    pub(super) until_us: u64,
    waiting: VecDeque<Message>,
    waiting_bytes: usize,
}

impl Pending {
    /// Puts a message behind the check; false where too much waits.
    pub(super) fn put(&mut self, message: Message) -> bool {
        self.waiting_bytes += match &message {
            Message::Text(text) => text.len(),
            Message::Binary(bytes) => bytes.len(),
            _ => 0,
        };
        self.waiting.push_back(message);
        self.waiting_bytes <= MAX_WAITING_BYTES
    }
}

impl Session {
    pub(super) fn begin_check(&mut self, token: String) {
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
    pub(super) fn poll_check(&mut self, cx: &mut Context<'_>) -> bool {
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

    pub(super) fn checked(&mut self, result: Result<Principal, Refusal>) {
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
    pub(super) fn enter(&mut self, principal: Principal) {
        if let Err(refusal) = self.reading.spec(&self.shared.runtime, &principal) {
            self.refuse(&refusal);
            if refusal.code() == "foreign_tenant" {
                return self.close(CloseCode::FORBIDDEN, "another tenant", None);
            }
            // The URL asks for what is not there: it stays, and may ask for something else.
            let selection = &mut self.reading.selection;
            selection.names.clear();
            selection.query.clear();
        }
        let (shared, reading) = (&self.shared, &mut self.reading);
        let start = self.start.unwrap_or(Start::Latest);
        match Entered::enter(shared, &self.head, principal, reading, start, None) {
            Ok(entered) => {
                self.feed = Some(entered);
                self.lobby = None;
                self.begin();
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
}
