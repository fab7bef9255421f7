//! A secret that Warden itself was given: read from a private file, shown nowhere.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, ensure};

/// Far longer than any token.
const LONGEST_BYTES: u64 = 4096;

pub struct Secret(String);

impl Secret {
    /// The first line of `path`, a regular file that only its owner may read.
    pub fn read(path: &Path) -> anyhow::Result<Secret> {
        let shown = path.display();
        let file = std::fs::File::open(path).with_context(|| format!("cannot open the secret in {shown}"))?;
        let metadata = file.metadata().with_context(|| format!("cannot look at {shown}"))?;
        ensure!(metadata.is_file(), "{shown} is not a regular file");
        let open_to_others = metadata.permissions().mode() & 0o077 != 0;
        ensure!(!open_to_others, "others may read the secret in {shown}; run: chmod 600 {shown}");
        let mut text = String::new();
        let read = file.take(LONGEST_BYTES).read_to_string(&mut text);
        read.with_context(|| format!("cannot read the secret in {shown}"))?;
        let line = text.lines().next().unwrap_or_default().trim();
        ensure!(!line.is_empty(), "{shown} is empty");
        ensure!(line.bytes().all(|byte| byte.is_ascii_graphic()), "the first line of {shown} is no token");
        Ok(Secret(line.to_owned()))
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_file_must_be_private_and_hold_a_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let with = |content: &str, mode| {
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            Secret::read(&path)
        };
        assert_eq!(with("iggy-token\n", 0o600).unwrap().expose(), "iggy-token");
        let error = with("iggy-token\n", 0o640).unwrap_err().to_string();
        assert!(error.starts_with("others may read the secret in "), "{error}");
        assert!(with("", 0o600).is_err() && with("two words\n", 0o600).is_err());
        assert_eq!(format!("{:?}", with("iggy-token", 0o400).unwrap()), "Secret(..)");
    }
}
