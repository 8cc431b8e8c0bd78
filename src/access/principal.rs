//! Who is asking.

use std::{
    sync::{Arc, LazyLock},
    time::SystemTime,
};

use crate::refusal::{Refusal, shown};

/// Who asks for a stream or calls the API, as [`Access`](super::Access) found out.
///
/// ```
/// # use tower_realtime::Principal;
/// let principal = Principal::viewer("ana").tenant("acme").channels(["stats", "requests"]);
/// assert!(principal.may_read("stats"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    id: Arc<str>,
    role: Role,
    tenant: Option<Arc<str>>,
    channels: Option<Arc<[Arc<str>]>>,
    expires_at: Option<SystemTime>,
    anonymous: bool,
    /// Its id stands for everybody who has the same secret.
    shared: bool,
}

/// One text for all of them: there may be one for each viewer.
static ANONYMOUS: LazyLock<Arc<str>> = LazyLock::new(|| "anonymous".into());

/// What a principal may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Look.
    Viewer,
    /// Look, and change what can be changed: broadcast, kick connections, edit rules.
    Admin,
}

impl Principal {
    /// Someone who may look. The id counts for limits for each user, and binds tickets and reconnect tokens: it
    /// should name one person or one program.
    pub fn viewer(id: impl Into<Arc<str>>) -> Self {
        Self {
            id: id.into(),
            role: Role::Viewer,
            tenant: None,
            channels: None,
            expires_at: None,
            anonymous: false,
            shared: false,
        }
    }

    /// Someone who may do everything.
    pub fn admin(id: impl Into<Arc<str>>) -> Self {
        Self {
            role: Role::Admin,
            ..Self::viewer(id)
        }
    }

    pub(crate) fn anonymous() -> Self {
        Self {
            anonymous: true,
            shared: true,
            ..Self::viewer(ANONYMOUS.clone())
        }
    }

    /// Confines the principal to one tenant: it sees nothing of others. Without one it sees all of them.
    #[must_use]
    pub fn tenant(mut self, id: impl Into<Arc<str>>) -> Self {
        self.tenant = Some(id.into());
        self
    }

    /// Confines the principal to these channels. Without it, it may read every one.
    #[must_use]
    pub fn channels<C: Into<Arc<str>>>(mut self, names: impl IntoIterator<Item = C>) -> Self {
        self.channels = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// When the credentials run out: streams that are still open then are ended.
    #[must_use]
    pub fn expires_at(mut self, time: SystemTime) -> Self {
        self.expires_at = Some(time);
        self
    }

    /// The id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it may do.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether it may change what can be changed.
    pub fn is_admin(&self) -> bool {
        self.role == Role::Admin
    }

    /// The only tenant that it sees; `None` for all of them.
    pub fn tenant_id(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// Whether it may read a channel.
    pub fn may_read(&self, channel: &str) -> bool {
        self.channels
            .as_deref()
            .is_none_or(|allowed| allowed.iter().any(|name| **name == *channel))
    }

    /// When its credentials run out; `None` for never.
    pub fn expiry(&self) -> Option<SystemTime> {
        self.expires_at
    }

    /// Nobody in particular: such principals share an id, so limits for each user do not apply to them.
    pub(crate) fn is_anonymous(&self) -> bool {
        self.anonymous
    }

    /// Somebody who is known by a secret that others have as well: the id tells them apart from nobody who has it.
    pub(super) fn of_shared_secret(self) -> Self {
        Self {
            shared: true,
            ..self
        }
    }

    /// Whether the id names one person or one program. That of anonymous viewers and of those who share a secret does
    /// not, so it is no proof of having opened a connection.
    pub(crate) fn is_individual(&self) -> bool {
        !self.shared
    }

    pub(crate) fn tenant_arc(&self) -> Option<&Arc<str>> {
        self.tenant.as_ref()
    }

    /// Id and tenant: whom tickets and limits count for.
    pub(crate) fn owner(&self) -> (Arc<str>, Option<Arc<str>>) {
        (self.id.clone(), self.tenant.clone())
    }

    /// Whether it is the same one with the same rights, for however long.
    #[cfg(feature = "ws")]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let expires_at = other.expires_at;
        Self {
            expires_at,
            ..self.clone()
        } == *other
    }

    pub(crate) fn require_admin(&self) -> Result<(), Refusal> {
        if self.is_admin() {
            return Ok(());
        }
        Err(Refusal::forbidden(
            "admin_required",
            "this needs an admin, and the credentials are a viewer's",
        ))
    }

    pub(crate) fn require_channel(&self, channel: &str) -> Result<(), Refusal> {
        if self.may_read(channel) {
            return Ok(());
        }
        Err(Refusal::forbidden(
            "channel_forbidden",
            format!("the credentials do not cover channel '{}'", shown(channel)),
        ))
    }

    /// Narrows what may be read to these channels, for a ticket; never widens it.
    pub(super) fn narrowed(mut self, channels: &[Arc<str>]) -> Self {
        let kept = channels
            .iter()
            .filter(|name| self.may_read(name))
            .cloned()
            .collect();
        self.channels = Some(kept);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn viewers_look_and_admins_do() {
        let viewer = Principal::viewer("ana").tenant("acme");
        assert_eq!(
            (viewer.id(), viewer.role(), viewer.tenant_id()),
            ("ana", Role::Viewer, Some("acme"))
        );
        let refusal = viewer.require_admin().unwrap_err();
        assert_eq!(
            (refusal.status().as_u16(), refusal.code()),
            (403, "admin_required")
        );
        assert!(Principal::admin("root").require_admin().is_ok());
        assert!(Principal::anonymous().require_admin().is_err());
    }

    #[test]
    fn an_id_is_one_persons_unless_many_share_the_secret() {
        let ana = Principal::viewer("ana").tenant("acme");
        assert!(ana.is_individual());
        assert!(!ana.of_shared_secret().is_individual());
        assert!(!Principal::anonymous().is_individual());
    }

    #[test]
    fn channels_can_only_be_narrowed() {
        let all = Principal::viewer("ana");
        assert!(all.may_read("anything"));
        let some = all.channels(["stats", "logs"]);
        assert!(some.may_read("stats") && !some.may_read("alerts"));
        assert_eq!(
            some.require_channel("alerts").unwrap_err().code(),
            "channel_forbidden"
        );
        let narrowed = some.narrowed(&["logs".into(), "alerts".into()]);
        assert!(narrowed.may_read("logs"));
        assert!(!narrowed.may_read("stats") && !narrowed.may_read("alerts"));
    }
}
