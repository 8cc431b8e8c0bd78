//! Close codes: which may travel, and what a client does when it gets one.

/// A status code of a Close frame (RFC 6455 section 7.4, and the registry that it opened).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct CloseCode(u16);

// The table is whole: what the server does not send yet, a client has to understand.
#[allow(dead_code)]
impl CloseCode {
    /// The purpose of the connection has been fulfilled.
    pub(crate) const NORMAL: Self = Self(1000);
    /// The server is shutting down.
    pub(crate) const GOING_AWAY: Self = Self(1001);
    /// The peer broke the framing rules.
    pub(crate) const PROTOCOL: Self = Self(1002);
    /// A kind of message that this connection does not take: binary without the subprotocol `msgpack`.
    pub(crate) const UNSUPPORTED: Self = Self(1003);
    /// The content does not match the kind of message: text that is not UTF-8, deflated data that does not inflate.
    pub(crate) const INVALID_PAYLOAD: Self = Self(1007);
    /// A rule of ours that no other code names.
    pub(crate) const POLICY: Self = Self(1008);
    /// A message over the inbound limit.
    pub(crate) const TOO_BIG: Self = Self(1009);
    /// Something unexpected on our side.
    pub(crate) const INTERNAL: Self = Self(1011);
    /// The server restarts. Only ever received: no server knows that it will come back, or that the client will not
    /// be better served elsewhere. 1001 and the `drain` before it, which says when to come back, are said instead.
    pub(crate) const RESTART: Self = Self(1012);
    /// The server has no room now.
    pub(crate) const TRY_LATER: Self = Self(1013);

    /// No credentials, or credentials that are no longer valid.
    pub(crate) const UNAUTHORISED: Self = Self(4001);
    /// Known, and not allowed.
    pub(crate) const FORBIDDEN: Self = Self(4003);
    /// An administrator ended the connection.
    pub(crate) const KICKED: Self = Self(4008);
    /// The same session came back on another connection.
    pub(crate) const REPLACED: Self = Self(4009);
    /// The client did not read what it was sent, or was silent for too long.
    pub(crate) const SLOW_CLIENT: Self = Self(4101);
    /// The client sent more messages than it may.
    pub(crate) const RATE_LIMIT: Self = Self(4102);
    /// The connection reached its maximum age; its place in the stream is kept.
    pub(crate) const ROTATED: Self = Self(4200);

    /// The code as a peer sent it, `None` where it must not be in a Close frame.
    ///
    /// 1004 has no meaning, 1005, 1006 and 1015 are for reports inside a program (RFC 6455 section 7.4.1), 1016 to
    /// 2999 belong to later standards and nothing below 1000 or above 4999 is defined (section 7.4.2). 1012 to 1014
    /// came with the registry.
    pub(crate) fn received(code: u16) -> Option<Self> {
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999).then_some(Self(code))
    }

    pub(crate) fn as_u16(self) -> u16 {
        self.0
    }

    /// What a client should do after a close with this code.
    pub(crate) fn come_back(self) -> ComeBack {
        match self.0 {
            // The same client would only do the same again.
            1000 | 1002 | 1003 | 1007..=1010 => ComeBack::Never,
            3000..=3999 => ComeBack::Never,
            4000..=4099 => ComeBack::Never,
            4200..=4299 => ComeBack::Now,
            // 1001, 1006, 1011 to 1015, 41xx and whatever is not known: trouble that passes.
            _ => ComeBack::Backoff,
        }
    }
}

/// Whether to connect again after a close.
#[allow(dead_code)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ComeBack {
    /// Connecting again without a change on the client's side would end the same way.
    Never,
    /// Connect again after a growing, jittered pause.
    Backoff,
    /// Connect again at once and resume.
    Now,
}

/// What a Close frame said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CloseFrame {
    pub(crate) code: CloseCode,
    pub(crate) reason: String,
}

impl CloseFrame {
    /// Reads the body of a Close frame: empty, or two bytes of code and a reason in UTF-8 (RFC 6455 section 5.5.1).
    pub(crate) fn parse(body: &[u8]) -> Result<Option<Self>, Violation> {
        let (code, reason) = match body {
            [] => return Ok(None),
            [_] => return Err(Violation::protocol("a close code has two bytes")),
            [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        };
        let code =
            CloseCode::received(code).ok_or(Violation::protocol("close code must not be sent"))?;
        let reason = str::from_utf8(reason)
            .map_err(|_| Violation::invalid("close reason is not UTF-8"))?
            .to_owned();
        Ok(Some(Self { code, reason }))
    }
}

/// Why a connection has to be failed (RFC 6455 section 7.1.7): the code and the reason for our Close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) code: CloseCode,
    pub(crate) reason: &'static str,
}

impl Violation {
    pub(crate) const fn protocol(reason: &'static str) -> Self {
        Self {
            code: CloseCode::PROTOCOL,
            reason,
        }
    }

    pub(crate) const fn unsupported(reason: &'static str) -> Self {
        Self {
            code: CloseCode::UNSUPPORTED,
            reason,
        }
    }

    pub(crate) const fn invalid(reason: &'static str) -> Self {
        Self {
            code: CloseCode::INVALID_PAYLOAD,
            reason,
        }
    }

    pub(crate) const fn too_big(reason: &'static str) -> Self {
        Self {
            code: CloseCode::TOO_BIG,
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_ours_may_travel() {
        for code in [
            CloseCode::NORMAL,
            CloseCode::GOING_AWAY,
            CloseCode::PROTOCOL,
            CloseCode::UNSUPPORTED,
            CloseCode::INVALID_PAYLOAD,
            CloseCode::POLICY,
            CloseCode::TOO_BIG,
            CloseCode::INTERNAL,
            CloseCode::RESTART,
            CloseCode::TRY_LATER,
            CloseCode::UNAUTHORISED,
            CloseCode::FORBIDDEN,
            CloseCode::KICKED,
            CloseCode::SLOW_CLIENT,
            CloseCode::RATE_LIMIT,
            CloseCode::ROTATED,
        ] {
            assert_eq!(CloseCode::received(code.as_u16()), Some(code));
        }
    }

    #[test]
    fn a_code_says_whether_to_come_back() {
        for code in [
            CloseCode::GOING_AWAY,
            CloseCode::RESTART,
            CloseCode::TRY_LATER,
        ] {
            assert_eq!(code.come_back(), ComeBack::Backoff, "{code:?}");
        }
        for code in [
            CloseCode::UNAUTHORISED,
            CloseCode::FORBIDDEN,
            CloseCode::KICKED,
        ] {
            assert_eq!(code.come_back(), ComeBack::Never, "{code:?}");
        }
        for code in [CloseCode::PROTOCOL, CloseCode::TOO_BIG, CloseCode::NORMAL] {
            assert_eq!(code.come_back(), ComeBack::Never, "{code:?}");
        }
        for code in [
            CloseCode::SLOW_CLIENT,
            CloseCode::RATE_LIMIT,
            CloseCode::INTERNAL,
        ] {
            assert_eq!(code.come_back(), ComeBack::Backoff, "{code:?}");
        }
        assert_eq!(CloseCode::ROTATED.come_back(), ComeBack::Now);
        assert_eq!(CloseCode(4299).come_back(), ComeBack::Now);
        assert_eq!(CloseCode(4100).come_back(), ComeBack::Backoff);
        assert_eq!(CloseCode(4099).come_back(), ComeBack::Never);
    }
}
