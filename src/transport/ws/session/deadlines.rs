//! Deadlines: everything that happens because nothing else did, by one timer.

use std::{future::Future, task::Context, time::Duration};

use tokio::time::Instant;

use super::{
    super::codec::{close::CloseCode, encoder::encode_ping},
    AUTH_TIMEOUT, Link, Over, Session, micros,
};

/// What the hub's own sweep may be late by.
const SWEEP_SLACK: Duration = Duration::from_secs(2);
/// By how much a timer may be late before the process counts as having stood still. Busy machines are late by less.
const A_MOMENT: Duration = Duration::from_secs(1);

impl Session {
    /// When the timer has to look again.
    pub(super) fn due_us(&self) -> u64 {
        if let Some(closing) = self.closing {
            return closing.until_us;
        }
        let config = &self.runtime().config;
        let lobby = self.token_due_us();
        let check = self.pending.as_ref().map(|pending| pending.until_us);
        let blocked = (self.blocked_us > 0)
            .then(|| self.blocked_us + micros(config.stall_timeout + SWEEP_SLACK));
        let silence = self.heard_us + micros(config.ws_timeout);
        let dues = [Some(self.ping_us), Some(silence), lobby, check, blocked];
        dues.into_iter().flatten().min().unwrap_or(silence)
    }

    /// Until when a token has to come. While one is being checked it has come, and the check has a time of its own. That
    /// is no way to stay: a first token that is not good ends the connection, whatever waits behind it.
    fn token_due_us(&self) -> Option<u64> {
        let lobby = self.lobby.as_ref().filter(|_| self.pending.is_none());
        lobby.map(|lobby| lobby.until_us)
    }

    /// Sets the timer to an earlier time where one is due; a later one is found out when it fires.
    pub(super) fn rearm(&mut self, now_us: u64) {
        let due_us = self.due_us();
        if due_us < self.timer_us {
            self.set_timer(due_us, now_us);
        }
    }

    pub(super) fn set_timer(&mut self, due_us: u64, now_us: u64) {
        self.timer_us = due_us;
        self.timer
            .as_mut()
            .reset(Instant::now() + Duration::from_micros(due_us.saturating_sub(now_us)));
    }

    pub(super) fn poll_timer(&mut self, cx: &mut Context<'_>) -> Result<(), Over> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let now_us = self.now_us();
            let late_us = now_us.saturating_sub(self.timer_us);
            if late_us > micros(A_MOMENT) {
                // And a moment more, for what has come meanwhile and was not read yet.
                self.forgive(late_us + micros(A_MOMENT));
            }
            self.tick(now_us)?;
            // Rounded up to the timer's millisecond, so that it does not fire just before what is due.
            self.set_timer(self.due_us().max(now_us + 1000), now_us);
        }
        Ok(())
    }

    /// The process was stopped or starved for so long: what its clients said meanwhile was not heard, and what they were
    /// asked was not sent. All deadlines are as much later.
    fn forgive(&mut self, late_us: u64) {
        self.heard_us += late_us;
        if self.blocked_us > 0 {
            self.blocked_us += late_us;
        }
        let lobby = self.lobby.as_mut().map(|lobby| &mut lobby.until_us);
        let check = self.pending.as_mut().map(|pending| &mut pending.until_us);
        let closing = self.closing.as_mut().map(|closing| &mut closing.until_us);
        for until_us in [lobby, check, closing].into_iter().flatten() {
            *until_us += late_us;
        }
    }

    pub(super) fn tick(&mut self, now_us: u64) -> Result<(), Over> {
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
        } else if self.token_due_us().is_some_and(|due_us| now_us >= due_us) {
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
}
