//! Ed25519 signatures (RFC 8032) with keys in the files that `openssl genpkey -algorithm ed25519` writes.

use std::fmt;

use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use sha2::{Digest, Sha256};
use warden_platform::sha256::hex;

/// A key file is a few hundred bytes; a larger one is something else.
pub const KEY_FILE_BYTES: u64 = 64 << 10;

/// Of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// What stands before the 32 bytes of an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410, section 4).
const PUBLIC_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

const PUBLIC_BYTES: usize = 32;

pub struct SigningKey(Ed25519KeyPair);

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; PUBLIC_BYTES]);

impl SigningKey {
    /// From PKCS#8 PEM.
    pub fn from_pem(text: &str) -> anyhow::Result<SigningKey> {
        let (label, der) = pem(text)?;
        match label {
            "PRIVATE KEY" => {}
            "ENCRYPTED PRIVATE KEY" => {
                bail!("the key has a passphrase; `openssl pkey -in KEY -out PLAIN` writes it without one")
            }
            "PUBLIC KEY" => bail!("this is the public half; signing needs the private key"),
            other => bail!("this is a {other}, not a PRIVATE KEY in PKCS#8 form"),
        }
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| {
            anyhow::anyhow!("this is no Ed25519 key; `openssl genpkey -algorithm ed25519 -out KEY` makes one")
        })?;
        Ok(SigningKey(pair))
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }

    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; PUBLIC_BYTES];
        bytes.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(bytes)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SigningKey of {}", self.public().fingerprint())
    }
}

impl PublicKey {
    /// From SubjectPublicKeyInfo PEM, as `openssl pkey -pubout` writes it.
    pub fn from_pem(text: &str) -> anyhow::Result<PublicKey> {
        let (label, der) = pem(text)?;
        match label {
            "PUBLIC KEY" => PublicKey::from_der(&der),
            label if label.ends_with("PRIVATE KEY") => bail!(
                "this is a private key, which must stay where it signs; `openssl pkey -in KEY -pubout` writes the \
                 public half"
            ),
            other => bail!("this is a {other}, not a PUBLIC KEY"),
        }
    }

    /// From the base64 of a SubjectPublicKeyInfo.
    pub fn from_base64(text: &str) -> anyhow::Result<PublicKey> {
        PublicKey::from_der(&STANDARD.decode(text).context("not base64")?)
    }

    fn from_der(der: &[u8]) -> anyhow::Result<PublicKey> {
        let key = der.strip_prefix(&PUBLIC_PREFIX).and_then(|key| key.try_into().ok());
        key.map(PublicKey).context("this is no Ed25519 public key")
    }

    fn der(&self) -> Vec<u8> {
        [&PUBLIC_PREFIX[..], &self.0[..]].concat()
    }

    pub fn to_base64(self) -> String {
        STANDARD.encode(self.der())
    }

    /// SHA-256 of the SubjectPublicKeyInfo in hex: `openssl pkey -pubin -in KEY -outform DER | sha256sum`.
    pub fn fingerprint(&self) -> String {
        hex(&Sha256::digest(self.der()))
    }

    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "PublicKey {}", self.fingerprint())
    }
}

/// Label and content of the first block (RFC 7468). Text around it is no part of it.
fn pem(text: &str) -> anyhow::Result<(&str, Vec<u8>)> {
    const NOT_PEM: &str = "this is no PEM file: there is no `-----BEGIN ...-----` in it";
    let (_, rest) = text.split_once("-----BEGIN ").context(NOT_PEM)?;
    let (label, rest) = rest.split_once("-----").context(NOT_PEM)?;
    ensure!(
        label.len() < 64
            && label.bytes().all(|byte| byte.is_ascii_uppercase() || b" 0123456789".contains(&byte)),
        NOT_PEM
    );
    let (body, _) =
        rest.split_once(&format!("-----END {label}-----")).context("this PEM file ends too early")?;
    let body: String = body.split_whitespace().collect();
    let der = STANDARD.decode(body).context("what this PEM file holds is not base64")?;
    Ok((label, der))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8410, section 10.3 and 10.1.
    const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
        -----END PRIVATE KEY-----\n";
    const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
        -----END PUBLIC KEY-----\n";

    #[test]
    fn the_keys_of_the_standard_are_read_and_belong_together() {
        let key = SigningKey::from_pem(&format!("Bag Attributes\n{PRIVATE}")).unwrap();
        let public = PublicKey::from_pem(PUBLIC).unwrap();
        assert_eq!(key.public(), public);
        assert_eq!(PublicKey::from_base64(&public.to_base64()).unwrap(), public);
        let signature = key.sign(b"manifest");
        assert_eq!(signature.len(), SIGNATURE_BYTES);
        assert!(public.verifies(b"manifest", &signature));
        assert!(!public.verifies(b"manifesT", &signature));
        assert!(!public.verifies(b"manifest", &signature[1..]));
        assert!(!format!("{key:?}").contains("1O5y"), "a private key is never shown");
    }

    #[test]
    fn what_is_no_such_key_says_what_it_is() {
        let private = |text: &str| SigningKey::from_pem(text).unwrap_err().to_string();
        let public = |text: &str| PublicKey::from_pem(text).unwrap_err().to_string();
        assert_eq!(private("x"), "this is no PEM file: there is no `-----BEGIN ...-----` in it");
        assert_eq!(private(PUBLIC), "this is the public half; signing needs the private key");
        assert!(public(PRIVATE).starts_with("this is a private key, which must stay where it signs"));
        assert!(
            private("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----")
                .starts_with("the key has a passphrase")
        );
        assert!(
            private("-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----")
                .starts_with("this is no Ed25519 key")
        );
        assert_eq!(
            public("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----"),
            "this is a CERTIFICATE, not a PUBLIC KEY"
        );
        assert_eq!(
            public("-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----"),
            "this is no Ed25519 public key"
        );
        assert_eq!(private("-----BEGIN PRIVATE KEY-----\nMC4C"), "this PEM file ends too early");
    }
}
