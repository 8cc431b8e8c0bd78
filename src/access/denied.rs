//! What an [`Access::check`](super::Access::check) says of those whom it lets not in.

use std::borrow::Cow;

use crate::refusal::Refusal;

/// Why an [`Access::check`](super::Access::check) lets somebody not in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    kind: DeniedKind,
    message: Cow<'static, str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DeniedKind {
    Unauthenticated,
    Forbidden,
    Unavailable,
}

impl Denied {
    /// There are no credentials, or wrong ones: 401.
    pub fn unauthenticated() -> Self {
        Self {
            kind: DeniedKind::Unauthenticated,
            message: "credentials are missing or not valid".into(),
        }
    }

    /// The credentials are good, but not for this: 403.
    pub fn forbidden() -> Self {
        Self {
            kind: DeniedKind::Forbidden,
            message: "the credentials do not allow this".into(),
        }
    }

    /// It cannot be found out now, because a service that would know does not answer: 503, and the client tries
    /// again.
    pub fn unavailable() -> Self {
        Self {
            kind: DeniedKind::Unavailable,
            message: "who may do this cannot be found out at the moment".into(),
        }
    }

    /// Replaces the sentence that the client gets.
    #[must_use]
    pub fn message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.message = message.into();
        self
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        match denied.kind {
            DeniedKind::Unauthenticated => Self::unauthorized("unauthorized", denied.message),
            DeniedKind::Forbidden => Self::forbidden("forbidden", denied.message),
            DeniedKind::Unavailable => Self::unavailable("access_unavailable", denied.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_refusal_says_what_and_why() {
        let refusal = Refusal::from(Denied::unauthenticated().message("log in first"));
        assert_eq!(refusal.status(), 401);
        assert_eq!(
            refusal.header("www-authenticate"),
            Some("Bearer realm=\"realtime\"")
        );
        assert_eq!(
            refusal.to_json(),
            json!({"success": false, "error": "log in first", "code": "unauthorized"})
        );
    }

    #[test]
    fn every_denial_has_its_status_and_code() {
        for (denied, status, code) in [
            (Denied::unauthenticated(), 401, "unauthorized"),
            (Denied::forbidden(), 403, "forbidden"),
            (Denied::unavailable(), 503, "access_unavailable"),
        ] {
            let refusal = Refusal::from(denied);
            assert_eq!((refusal.status().as_u16(), refusal.code()), (status, code));
            let has = |name| refusal.header(name).is_some();
            assert_eq!(has("www-authenticate"), status == 401);
            assert_eq!(has("retry-after"), status == 503);
        }
    }
}
