//! A text that must not be seen: a credential, a token, a key.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::sha256::hex;

/// Random bytes of a secret of ours: beyond guessing, so a plain hash of it may be stored.
const RANDOM_BYTES: usize = 32;

/// Shows nothing of itself, and is wiped from memory when it goes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(Zeroizing::new(text.into()))
    }

    /// A new one: `prefix`, which tells what it is for to whoever finds it, and 43 random characters.
    ///
    /// # Errors
    /// The kernel gives no randomness.
    pub fn draw(prefix: &str) -> anyhow::Result<Secret> {
        let mut bytes = Zeroizing::new([0; RANDOM_BYTES]);
        SystemRandom::new()
            .fill(bytes.as_mut())
            .map_err(|_| anyhow::anyhow!("the kernel gives no random bytes"))?;
        Ok(Secret::new(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(*bytes))))
    }

    /// The text itself. Where this is called, the text must not go into a log or an error.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What may be stored in its stead: SHA-256, 64 hex digits.
    pub fn hash(&self) -> String {
        hex(&Sha256::digest(self.0.as_bytes()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret]")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_nothing_and_hashes_as_sha256_does() {
        let secret = Secret::new("abc");
        assert_eq!(format!("{secret:?}"), "[secret]");
        assert_eq!(secret.hash(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(secret.expose(), "abc");
    }

    #[test]
    fn two_drawn_secrets_differ() {
        let (one, other) = (Secret::draw("wn_").unwrap(), Secret::draw("wn_").unwrap());
        assert_ne!(one, other);
        assert_eq!((one.expose().len(), &one.expose()[..3]), (46, "wn_"));
    }
}
