//! What is done to a bundle before it is written: signed by its maker, encrypted to its readers.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::verify;
use crate::snapshot::encryption::{ReadBack, Recipient, Sealed, encrypt, encrypting};
use crate::snapshot::signature::SigningKey;

/// The ending of what is encrypted.
const ENDING: &str = "age";

pub struct Seal {
    pub key: Option<SigningKey>,
    recipients: Vec<Recipient>,
}

impl Seal {
    /// Read before the work begins: what cannot sign or be read by anybody must not be found out a minute later.
    pub fn new(key: Option<&Path>, recipients: &[String], whole_bundle: bool) -> anyhow::Result<Seal> {
        ensure!(
            whole_bundle || key.is_none(),
            "only a whole bundle is signed; leave --sign out, or write a .zip"
        );
        let read_key = |path: &Path| {
            let key = verify::read_small(path).and_then(|text| SigningKey::from_pem(&text));
            key.with_context(|| format!("cannot sign with {}", path.display()))
        };
        let recipients =
            recipients.iter().map(|text| Recipient::parse(text)).collect::<anyhow::Result<_>>()?;
        Ok(Seal { key: key.map(read_key).transpose()?, recipients })
    }

    pub fn encrypts(&self) -> bool {
        !self.recipients.is_empty()
    }

    pub fn encrypt(&self, content: Vec<u8>) -> anyhow::Result<Vec<u8>> {
        if self.encrypts() { encrypt(&content, &self.recipients) } else { Ok(content) }
    }

    /// `out` as what is written reaches it, and what reads it back if that takes a key.
    pub fn wrap<W: Write>(&self, out: W) -> anyhow::Result<(Sealed<W>, Option<ReadBack>)> {
        if !self.encrypts() {
            return Ok((Sealed::Open(out), None));
        }
        let (writer, back) = encrypting(out, &self.recipients)?;
        Ok((Sealed::Encrypted(writer), Some(back)))
    }

    /// The name under which it is written: what is encrypted tells so.
    pub fn name(&self, path: PathBuf) -> PathBuf {
        if !self.encrypts() || without_ending(&path) != path {
            return path;
        }
        let mut name = OsString::from(path);
        name.push(".");
        name.push(ENDING);
        PathBuf::from(name)
    }
}

/// `a.html` of `a.html.age`.
pub fn without_ending(path: &Path) -> PathBuf {
    if path.extension().is_some_and(|ending| ending == ENDING) {
        path.with_extension("")
    } else {
        path.to_owned()
    }
}
