//! Reconnect tokens: a subscription and a position, signed, for the same viewer to go on with later.
//!
//! A token proves nothing about who brings it: the request is admitted by its own credentials first. It only says
//! what that viewer was reading. It therefore carries neither id nor rights; the viewer's id and tenant are signed
//! along with it, so that it is worth nothing to another, and a URL in a log gives nobody's name away.

use std::time::Duration;

use hmac::Mac;

use super::{
    encode::{base64url, from_base64url},
    principal::Principal,
    secret::{HmacSha256, MAC_LEN, TokenKey, mac},
};
use crate::{clock::Clock, error::Error};

/// How long a session is known after its last connection, and how long a token is good by itself where its session is
/// not known: after a restart, or on another instance.
pub(crate) const RECONNECT_TTL: Duration = Duration::from_secs(30 * 60);

/// The longest token, in characters.
pub(crate) const MAX_TOKEN_LEN: usize = 512;
const MAX_POSITION_LEN: usize = 64;

const VERSION: u8 = 1;
/// Version, expiry, length of the position.
const HEAD_LEN: usize = 1 + 8 + 1;

/// Signs and verifies reconnect tokens.
#[derive(Clone, Debug)]
pub(crate) struct ReconnectTokens {
    key: TokenKey,
    clock: Clock,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resume {
    /// Channels and filters as they stood in the query: `channels=stats,logs&only_errors=true`.
    pub(crate) subscription: String,
    /// From where on; `[0-9-]{1,64}`.
    pub(crate) position: String,
    /// It is too old to be taken at its word.
    pub(crate) is_expired: bool,
}

/// Why a token is not taken, as a stream's first event says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenError {
    /// No token of ours: too long, not our text, not signed with our key, or another viewer's.
    Invalid,
    /// It was good once, and its session is no longer known.
    Expired,
}

impl TokenError {
    /// As a stream's first event says it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Expired => "expired",
        }
    }
}

impl ReconnectTokens {
    /// With the key of the configuration, or a random one.
    pub(crate) fn new(key: Option<&TokenKey>, clock: Clock) -> Result<Self, Error> {
        let key = match key {
            Some(key) => key.clone(),
            None => TokenKey::random()?,
        };
        let key = TokenKey::new(&key.derive("tower-realtime reconnect token"));
        Ok(Self { key, clock })
    }

    /// A token of at most 512 URL-safe characters; `None` where the subscription is too long for one, or the
    /// position is none.
    pub(crate) fn issue(
        &self,
        principal: &Principal,
        subscription: &str,
        position: &str,
    ) -> Option<String> {
        if !is_position(position) {
            return None;
        }
        let expires = self.clock.unix_seconds() + RECONNECT_TTL.as_secs();
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&expires.to_be_bytes());
        bytes.push(position.len() as u8);
        bytes.extend_from_slice(position.as_bytes());
        bytes.extend_from_slice(subscription.as_bytes());
        let tag = self.sign(principal, &bytes).finalize().into_bytes();
        bytes.extend_from_slice(&tag);
        let text = base64url(&bytes);
        (text.len() <= MAX_TOKEN_LEN).then_some(text)
    }

    /// What the token says, if it is ours and this viewer's. How old it may be depends on whether its session is known.
    pub(crate) fn verify(&self, principal: &Principal, text: &str) -> Result<Resume, TokenError> {
        let invalid = TokenError::Invalid;
        if text.len() > MAX_TOKEN_LEN {
            return Err(invalid);
        }
        let bytes = from_base64url(text).ok_or(invalid)?;
        let (signed, tag) = bytes.split_last_chunk::<MAC_LEN>().ok_or(invalid)?;
        self.sign(principal, signed)
            .verify_slice(tag)
            .map_err(|_| invalid)?;

        // From here on it is what we wrote, though perhaps another version of us.
        let (head, rest) = signed.split_first_chunk::<HEAD_LEN>().ok_or(invalid)?;
        let [VERSION, expires @ .., position_len] = *head else {
            return Err(invalid);
        };
        let (position, subscription) = rest
            .split_at_checked(usize::from(position_len))
            .ok_or(invalid)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| invalid);
        let resume = Resume {
            subscription: text(subscription)?,
            position: text(position)?,
            is_expired: u64::from_be_bytes(expires) <= self.clock.unix_seconds(),
        };
        if !is_position(&resume.position) {
            return Err(invalid);
        }
        Ok(resume)
    }

    /// Lengths go in front of the texts, so that no two viewers can come to the same bytes.
    fn sign(&self, principal: &Principal, body: &[u8]) -> HmacSha256 {
        let mut mac = mac(self.key.bytes());
        for part in [Some(principal.id()), principal.tenant_id()] {
            match part {
                Some(text) => {
                    mac.update(&(text.len() as u64 + 1).to_be_bytes());
                    mac.update(text.as_bytes());
                }
                None => mac.update(&0_u64.to_be_bytes()),
            }
        }
        mac.update(body);
        mac
    }
}

/// `<epoch>-<seq>` to the hub; here only a short text of digits and dashes.
fn is_position(text: &str) -> bool {
    (1..=MAX_POSITION_LEN).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SUBSCRIPTION: &str = "channels=stats,logs&only_errors=true&provider_id=open%20ai";
    const POSITION: &str = "1738723890-42";

    fn tokens() -> ReconnectTokens {
        let key = TokenKey::new(b"0123456789abcdef0123456789abcdef");
        ReconnectTokens::new(Some(&key), Clock::new()).unwrap()
    }

    fn ana() -> Principal {
        Principal::viewer("ana").tenant("acme")
    }

    fn token() -> String {
        tokens().issue(&ana(), SUBSCRIPTION, POSITION).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_says_what_was_read_as_often_as_asked() {
        let text = token();
        assert!(text.len() <= MAX_TOKEN_LEN);
        assert!(
            text.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        );
        assert!(!text.contains("ana") && !text.contains(&base64url(b"ana")));
        for _ in 0..3 {
            // Another instance, or this one after a restart, with the same key.
            let resume = tokens().verify(&ana(), &text).unwrap();
            assert_eq!(resume.subscription, SUBSCRIPTION);
            assert_eq!(resume.position, POSITION);
        }
        let nothing = tokens().issue(&ana(), "", "1-2").unwrap();
        assert_eq!(tokens().verify(&ana(), &nothing).unwrap().subscription, "");
    }

    #[tokio::test(start_paused = true)]
    async fn the_role_is_not_in_it() {
        // Whoever brings the token has the rights of the request that brings it.
        let admin = Principal::admin("ana").tenant("acme");
        assert!(tokens().verify(&admin, &token()).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn one_changed_bit_anywhere_forges_nothing() {
        let (tokens, text) = (tokens(), token());
        for place in 0..text.len() {
            for bit in 0..7 {
                let mut bytes = text.clone().into_bytes();
                bytes[place] ^= 1 << bit;
                let forged = String::from_utf8(bytes).unwrap();
                assert_eq!(
                    tokens.verify(&ana(), &forged),
                    Err(TokenError::Invalid),
                    "{place} {bit}"
                );
            }
            assert!(tokens.verify(&ana(), &text[..place]).is_err());
        }
        for other in [
            format!("{text}A"),
            format!("{text}AAAA"),
            format!("A{text}"),
        ] {
            assert_eq!(tokens.verify(&ana(), &other), Err(TokenError::Invalid));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_worth_nothing_to_others() {
        for other in [
            Principal::viewer("ben").tenant("acme"),
            Principal::viewer("ana").tenant("umbrella"),
            Principal::viewer("ana"),
            Principal::viewer("anaacme"),
            Principal::viewer("ana").tenant(""),
            Principal::anonymous(),
        ] {
            assert_eq!(tokens().verify(&other, &token()), Err(TokenError::Invalid));
        }
        // No way of cutting the same letters into id and tenant is the same viewer.
        let token = tokens()
            .issue(&Principal::viewer("a").tenant("bc"), "", "1")
            .unwrap();
        let other = Principal::viewer("ab").tenant("c");
        assert_eq!(tokens().verify(&other, &token), Err(TokenError::Invalid));
    }

    #[tokio::test(start_paused = true)]
    async fn another_key_signs_other_tokens() {
        let clock = Clock::new();
        let other = TokenKey::new(b"another key another key another k");
        for others in [
            ReconnectTokens::new(Some(&other), clock).unwrap(),
            ReconnectTokens::new(None, clock).unwrap(),
        ] {
            assert_eq!(others.verify(&ana(), &token()), Err(TokenError::Invalid));
        }
        let random = ReconnectTokens::new(None, clock).unwrap();
        let text = random.issue(&ana(), SUBSCRIPTION, POSITION).unwrap();
        assert!(random.verify(&ana(), &text).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_expires() {
        let tokens = tokens();
        let text = tokens.issue(&ana(), SUBSCRIPTION, POSITION).unwrap();
        tokio::time::advance(RECONNECT_TTL - Duration::from_secs(2)).await;
        assert!(!tokens.verify(&ana(), &text).unwrap().is_expired);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(tokens.verify(&ana(), &text).unwrap().is_expired);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_fit_gets_no_token() {
        let tokens = tokens();
        // 512 characters are 384 bytes, of which 10 are the head and 32 the signature.
        let longest = "s".repeat(384 - 42 - POSITION.len());
        let text = tokens.issue(&ana(), &longest, POSITION).unwrap();
        assert_eq!(text.len(), MAX_TOKEN_LEN);
        assert_eq!(tokens.verify(&ana(), &text).unwrap().subscription, longest);
        assert_eq!(tokens.issue(&ana(), &format!("{longest}s"), POSITION), None);
        for position in ["", "latest", "1 2", "1_2", &"1".repeat(65)] {
            assert_eq!(tokens.issue(&ana(), "", position), None, "{position:?}");
        }
        assert!(tokens.issue(&ana(), "", &"1".repeat(64)).is_some());
        let oversized = "A".repeat(MAX_TOKEN_LEN + 4);
        assert_eq!(tokens.verify(&ana(), &oversized), Err(TokenError::Invalid));
    }

    #[tokio::test(start_paused = true)]
    async fn what_we_signed_but_would_not_write_is_refused() {
        let tokens = tokens();
        let far = (tokens.clock.unix_seconds() + 60).to_be_bytes();
        let signed = |body: &[u8]| {
            let mut bytes = body.to_vec();
            bytes.extend_from_slice(&tokens.sign(&ana(), body).finalize().into_bytes());
            base64url(&bytes)
        };
        let body = |version: u8, position_len: u8, rest: &[u8]| {
            [&[version][..], &far, &[position_len], rest].concat()
        };
        assert!(
            tokens
                .verify(&ana(), &signed(&body(VERSION, 1, b"1")))
                .is_ok()
        );
        for wrong in [
            body(2, 1, b"1"),
            body(VERSION, 2, b"1"),
            body(VERSION, 0, b""),
            body(VERSION, 1, b"x"),
            body(VERSION, 1, b"1\xff"),
            vec![VERSION],
            vec![],
        ] {
            assert_eq!(
                tokens.verify(&ana(), &signed(&wrong)),
                Err(TokenError::Invalid)
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_or_passes(text in "[A-Za-z0-9_-]{0,600}|.{0,100}") {
            prop_assert!(tokens().verify(&ana(), &text).is_err());
        }

        #[test]
        fn whatever_fits_is_read_back(id in ".{0,40}", subscription in ".{0,80}", position in "[0-9-]{1,64}") {
            let principal = Principal::viewer(id);
            if let Some(text) = tokens().issue(&principal, &subscription, &position) {
                let resume = tokens().verify(&principal, &text).unwrap();
                prop_assert_eq!(resume, Resume { subscription, position, is_expired: false });
            }
        }
    }
}
