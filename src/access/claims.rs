//! What the claims of a token say about its holder.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::principal::Principal;
use crate::refusal::Refusal;

pub(super) type Claims = Map<String, Value>;

/// Which claims tell who somebody is, and what they may do.
#[derive(Clone, Debug)]
pub(super) struct ClaimNames {
    pub(super) user: String,
    pub(super) role: String,
    pub(super) viewer_role: String,
    pub(super) admin_role: String,
    pub(super) every_token_views: bool,
    pub(super) tenant: Option<String>,
}

impl Default for ClaimNames {
    fn default() -> Self {
        Self {
            user: "sub".to_owned(),
            role: "role".to_owned(),
            viewer_role: "viewer".to_owned(),
            admin_role: "admin".to_owned(),
            every_token_views: false,
            tenant: None,
        }
    }
}

impl ClaimNames {
    /// The principal of verified claims.
    pub(super) fn principal(&self, claims: &Claims) -> Result<Principal, Refusal> {
        let Some(user) = find(claims, &self.user).and_then(text_of) else {
            return Err(Refusal::invalid_token(
                "invalid_token",
                "the token does not say whose it is, or not in printable characters",
            ));
        };
        let principal = if self.has_role(claims, &self.admin_role) {
            Principal::admin(user)
        } else if self.every_token_views || self.has_role(claims, &self.viewer_role) {
            Principal::viewer(user)
        } else {
            return Err(Refusal::forbidden(
                "forbidden",
                "the token is valid, but its role does not allow to look here",
            ));
        };
        let Some(claim) = &self.tenant else {
            return Ok(principal);
        };
        match find(claims, claim) {
            Some(value) => match text_of(value) {
                Some(tenant) => Ok(principal.tenant(tenant)),
                None => Err(no_tenant()),
            },
            // Who has no tenant sees all of them, and that is for admins.
            None if principal.is_admin() => Ok(principal),
            None => Err(no_tenant()),
        }
    }

    /// A role stands in a text, among others between spaces (as in `scope`), or in a list.
    fn has_role(&self, claims: &Claims, role: &str) -> bool {
        match find(claims, &self.role) {
            Some(Value::String(text)) => text.split_ascii_whitespace().any(|word| word == role),
            Some(Value::Array(list)) => list.iter().any(|member| member == role),
            _ => false,
        }
    }
}

fn no_tenant() -> Refusal {
    Refusal::forbidden(
        "forbidden",
        "the token is valid, but does not say for which tenant",
    )
}

/// A claim by its name, or, where that begins with a slash, by its place: `/realm_access/roles` (RFC 6901). `null` is
/// as good as absent.
fn find<'a>(claims: &'a Claims, name: &str) -> Option<&'a Value> {
    let value = match name.strip_prefix('/') {
        None => claims.get(name)?,
        Some(place) => {
            let (first, rest) = match place.find('/') {
                Some(slash) => place.split_at(slash),
                None => (place, ""),
            };
            let first = first.replace("~1", "/").replace("~0", "~");
            claims.get(&first)?.pointer(rest)?
        }
    };
    (!value.is_null()).then_some(value)
}

/// An id: a text that is not empty, or a whole number, which some services use for theirs. Not one with control
/// characters: nobody is called that, and a line break in a name is there to add a line to somebody's log.
fn text_of(value: &Value) -> Option<Arc<str>> {
    match value {
        Value::String(text) if !text.is_empty() && !text.contains(char::is_control) => {
            Some(text.as_str().into())
        }
        Value::Number(number) if !number.is_f64() => Some(number.to_string().into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(names: &ClaimNames, claims: Value) -> Result<Principal, (u16, &'static str)> {
        let claims = claims.as_object().unwrap();
        names
            .principal(claims)
            .map_err(|refusal| (refusal.status().as_u16(), refusal.code()))
    }

    #[test]
    fn a_role_is_needed() {
        let names = ClaimNames::default();
        let viewer = Ok(Principal::viewer("ana"));
        let admin = Ok(Principal::admin("ana"));
        let nobody = Err((403, "forbidden"));
        for (role, expected) in [
            (json!("viewer"), &viewer),
            (json!("admin"), &admin),
            (json!(["user", "viewer"]), &viewer),
            (json!(["viewer", "admin"]), &admin),
            (json!("openid viewer profile"), &viewer),
            (json!("user"), &nobody),
            (json!("administrator"), &nobody),
            (json!("Admin"), &nobody),
            (json!(["admin viewer"]), &nobody),
            (json!({"admin": true}), &nobody),
            (json!(true), &nobody),
            (json!(null), &nobody),
        ] {
            let claims = json!({"sub": "ana", "role": role});
            assert_eq!(&read(&names, claims), expected, "{role}");
        }
        assert_eq!(read(&names, json!({"sub": "ana"})), nobody);
        let open = ClaimNames {
            every_token_views: true,
            ..names
        };
        assert_eq!(read(&open, json!({"sub": "ana"})), viewer);
        assert_eq!(read(&open, json!({"sub": "ana", "role": "admin"})), admin);
    }

    #[test]
    fn claims_can_lie_anywhere() {
        let names = ClaimNames {
            user: "https://example.com/user".to_owned(),
            role: "/realm_access/roles".to_owned(),
            admin_role: "platform_admin".to_owned(),
            tenant: Some("/a~1b/0".to_owned()),
            ..ClaimNames::default()
        };
        let claims = json!({
            "https://example.com/user": 42,
            "realm_access": {"roles": ["platform_admin"]},
            "a/b": ["acme"],
        });
        assert_eq!(
            read(&names, claims),
            Ok(Principal::admin("42").tenant("acme"))
        );
    }

    #[test]
    fn who_it_is_has_to_be_said() {
        let names = ClaimNames::default();
        for sub in [
            json!(""),
            json!(null),
            json!(1.5),
            json!(["ana"]),
            json!({}),
            json!("ana\nroot: kick everybody"),
            json!("ana\u{85}"),
        ] {
            let claims = json!({"sub": sub, "role": "admin"});
            assert_eq!(read(&names, claims), Err((401, "invalid_token")), "{sub}");
        }
        assert_eq!(
            read(&names, json!({"role": "admin"})),
            Err((401, "invalid_token"))
        );
    }

    #[test]
    fn viewers_need_their_tenant() {
        let names = ClaimNames {
            tenant: Some("tenant".to_owned()),
            ..ClaimNames::default()
        };
        let with = |role: &str, tenant: Value| {
            read(
                &names,
                json!({"sub": "ana", "role": role, "tenant": tenant}),
            )
        };
        assert_eq!(
            with("viewer", json!("acme")),
            Ok(Principal::viewer("ana").tenant("acme"))
        );
        assert_eq!(
            with("admin", json!("acme")),
            Ok(Principal::admin("ana").tenant("acme"))
        );
        assert_eq!(with("admin", json!(null)), Ok(Principal::admin("ana")));
        for tenant in [
            json!(null),
            json!(""),
            json!(["acme"]),
            json!({}),
            json!("ac\0me"),
        ] {
            assert_eq!(with("viewer", tenant), Err((403, "forbidden")));
        }
        // One that is there and makes no sense does not widen what an admin sees either.
        assert_eq!(with("admin", json!("")), Err((403, "forbidden")));
    }
}
