//! Encryption to whoever may read a bundle, in the age format (age-encryption.org/v1).

use std::io::Write;

use age::x25519;
use anyhow::{Context, bail};

/// What every file in this format begins with.
pub const BEGINNING: &[u8] = b"age-encryption.org/";

/// Someone who may read: an X25519 key that `age-keygen` made.
#[derive(Clone)]
pub struct Recipient(x25519::Recipient);

impl Recipient {
    /// From `age1...`. What is no recipient is not repeated in the error: it may be the secret half.
    pub fn parse(text: &str) -> anyhow::Result<Recipient> {
        let text = text.trim();
        if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
            bail!(
                "this is the secret half of a key, which must stay with its owner; `age-keygen -y` tells the public one"
            );
        }
        let recipient = text.parse().map(Recipient).map_err(anyhow::Error::msg);
        recipient.context("this is no age recipient; one begins with `age1` and is what `age-keygen` tells")
    }
}

/// `content` as only `recipients`, one at least, can read it. Differs each time.
pub fn encrypt(content: &[u8], recipients: &[Recipient]) -> anyhow::Result<Vec<u8>> {
    let recipients = recipients.iter().map(|recipient| &recipient.0 as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(recipients).context("cannot encrypt")?;
    let mut output = Vec::with_capacity(content.len() + content.len() / 1024 + 1024);
    let mut writer = encryptor.wrap_output(&mut output).context("cannot encrypt")?;
    writer.write_all(content).context("cannot encrypt")?;
    writer.finish().context("cannot encrypt")?;
    Ok(output)
}
