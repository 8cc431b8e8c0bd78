//! Secrets: kept as keyed digests where that is enough, compared in constant time, never shown.

use std::{fmt, sync::Arc};

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::error::{Error, Kind};

/// The bytes of a MAC.
pub(super) const MAC_LEN: usize = 32;

pub(super) type HmacSha256 = Hmac<Sha256>;

pub(super) fn mac(key: &[u8]) -> HmacSha256 {
    HmacSha256::new_from_slice(key).expect("HMAC takes keys of any length")
}

/// Bytes that nobody can guess.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::new(Kind::Config, "the system has no source of randomness")
            .with_source(error.to_string())
    })?;
    Ok(bytes)
}

/// A token of the configuration, as a digest under a key that lives as long as the process: a core dump or a
/// careless print shows nothing that opens anything.
#[derive(Clone)]
pub(super) struct TokenDigest {
    key: [u8; 32],
    tag: [u8; MAC_LEN],
}

impl TokenDigest {
    pub(super) fn new(token: &str) -> Result<Self, Error> {
        let key = random()?;
        let tag = mac(&key).chain_update(token).finalize().into_bytes();
        Ok(Self {
            key,
            tag: tag.into(),
        })
    }

    /// Takes the same time whichever byte differs.
    pub(super) fn matches(&self, candidate: &str) -> bool {
        mac(&self.key)
            .chain_update(candidate)
            .verify_slice(&self.tag)
            .is_ok()
    }
}

/// The key that signs reconnect tokens.
#[derive(Clone)]
pub(crate) struct TokenKey(Arc<[u8]>);

impl TokenKey {
    pub(crate) fn new(key: &[u8]) -> Self {
        Self(key.into())
    }

    pub(crate) fn random() -> Result<Self, Error> {
        Ok(Self::new(&random::<32>()?))
    }

    /// Shorter ones can be guessed, longer ones are a mistake.
    pub(crate) fn has_fitting_length(&self) -> bool {
        (32..=1024).contains(&self.0.len())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// A key of its own for each use, so that what is signed for one can never pass for another.
    pub(super) fn derive(&self, purpose: &str) -> [u8; MAC_LEN] {
        mac(&self.0)
            .chain_update(purpose)
            .finalize()
            .into_bytes()
            .into()
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_matches_its_token_only() {
        let digest = TokenDigest::new("s3cret").unwrap();
        assert!(digest.matches("s3cret"));
        for other in ["", "s3cre", "s3cret ", "S3cret", "s3cret\0"] {
            assert!(!digest.matches(other), "{other:?}");
        }
    }

    #[test]
    fn keys_are_not_shown_and_differ_by_purpose() {
        let key = TokenKey::new(b"0123456789abcdef0123456789abcdef");
        assert_eq!(format!("{key:?}"), "TokenKey(…)");
        assert_ne!(key.derive("a"), key.derive("b"));
        assert_eq!(key.derive("a"), key.clone().derive("a"));
        assert_ne!(
            TokenKey::random().unwrap().derive("a"),
            TokenKey::random().unwrap().derive("a")
        );
        assert!(!TokenKey::new(&[0; 31]).has_fitting_length());
        assert!(TokenKey::new(&[0; 32]).has_fitting_length());
        assert!(!TokenKey::new(&[0; 1025]).has_fitting_length());
    }
}
