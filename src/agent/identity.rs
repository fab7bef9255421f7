//! Who this node is: its id, its Supervisor, and the credential that proves it.

use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use warden_platform::atomic_file::{PRIVATE, replace};
use warden_platform::endpoint::Endpoint;
use warden_platform::secret::Secret;
use zeroize::Zeroizing;

/// The file in the state directory, and the name of the systemd credential (systemd.exec(5), `LoadCredential=`).
pub const FILE: &str = "identity";
pub const SYSTEMD_CREDENTIAL: &str = "warden-identity";
/// A credential that is drawn and not yet enrolled: an enrolment that was cut off goes on with it.
const PENDING: &str = "identity.pending";
/// What a credential begins with, so that whoever finds one knows what it is.
const PREFIX: &str = "wnode_";
/// Bytes; most of it would be certificates of authorities.
const SIZE_LIMIT: u64 = 256 << 10;

#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    pub node: u64,
    pub deployment: u64,
    pub supervisor: Endpoint,
    /// Certificates in PEM: what proved the Supervisor at enrolment, if not an authority this host trusts anyway.
    pub ca: Option<String>,
    pub credential: Secret,
}

#[derive(Serialize, Deserialize)]
struct Stored<C> {
    node: u64,
    deployment: u64,
    supervisor: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca: Option<String>,
    credential: C,
}

impl Identity {
    /// The identity of this host: systemd's credential if it gives one, else the file in the state directory; none
    /// when it was not enrolled.
    ///
    /// # Errors
    /// It is there and cannot be read, is damaged, or others may read it.
    pub fn read(state: &Path, credentials: Option<&Path>) -> anyhow::Result<Option<Identity>> {
        if let Some(credentials) = credentials {
            let given = read(&credentials.join(SYSTEMD_CREDENTIAL), false)?;
            if let Some(given) = given {
                return Ok(Some(given));
            }
        }
        read(&state.join(FILE), true)
    }

    pub fn write(&self, state: &Path) -> anyhow::Result<()> {
        let stored = Stored {
            node: self.node,
            deployment: self.deployment,
            supervisor: self.supervisor.to_string(),
            ca: self.ca.clone(),
            credential: self.credential.expose(),
        };
        let text = Zeroizing::new(serde_json::to_string_pretty(&stored)?);
        replace(&state.join(FILE), text.as_bytes(), PRIVATE)
    }
}

/// Where systemd puts the credentials of this unit.
pub fn credentials_directory() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

/// The credential to enrol with: the one of an enrolment that was cut off, or a new one, on disk before it is used.
/// The Supervisor may have taken it already, and then takes it again.
pub fn pending_credential(state: &Path) -> anyhow::Result<Secret> {
    let path = state.join(PENDING);
    match std::fs::read_to_string(&path) {
        Ok(text) if text.starts_with(PREFIX) => return Ok(Secret::new(text)),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
    let credential = Secret::draw(PREFIX)?;
    replace(&path, credential.expose().as_bytes(), PRIVATE)?;
    Ok(credential)
}

/// The enrolment ended: its credential is in the identity.
pub fn forget_pending(state: &Path) -> anyhow::Result<()> {
    let path = state.join(PENDING);
    std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
}

fn read(path: &Path, private: bool) -> anyhow::Result<Option<Identity>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let whose = || path.display();
    if private {
        let mode = file.metadata()?.permissions().mode();
        ensure!(mode & 0o077 == 0, "others may read {}: chmod 600 it, and enrol this host anew", whose());
    }
    let mut text = Zeroizing::new(String::new());
    file.take(SIZE_LIMIT).read_to_string(&mut text).with_context(|| format!("cannot read {}", whose()))?;
    // The error would repeat the text.
    let Ok(stored) = serde_json::from_str::<Stored<Secret>>(&text) else {
        bail!("{} is damaged: enrol this host anew with `warden enroll --replace`", whose());
    };
    let supervisor = stored.supervisor.parse().with_context(|| format!("{} is damaged", whose()))?;
    Ok(Some(Identity {
        node: stored.node,
        deployment: stored.deployment,
        supervisor,
        ca: stored.ca,
        credential: stored.credential,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(node: u64) -> Identity {
        Identity {
            node,
            deployment: 2,
            supervisor: "https://sup.example.com".parse().unwrap(),
            ca: Some("-----BEGIN CERTIFICATE-----\n".into()),
            credential: Secret::new("wnode_x"),
        }
    }

    #[test]
    fn an_identity_is_read_as_it_was_written_and_is_its_owners_alone() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(Identity::read(state.path(), None).unwrap(), None);
        sample(610_809_900_976_570_889).write(state.path()).unwrap();
        let read = Identity::read(state.path(), None).unwrap();
        assert_eq!(read, Some(sample(610_809_900_976_570_889)));
        let mode = std::fs::metadata(state.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert!(!format!("{read:?}").contains("wnode_x"));
    }

    #[test]
    fn the_credential_of_systemd_comes_first() {
        let (state, credentials) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        sample(1).write(state.path()).unwrap();
        let read = || Identity::read(state.path(), Some(credentials.path())).unwrap().unwrap().node;
        assert_eq!(read(), 1);
        sample(2).write(credentials.path()).unwrap();
        std::fs::rename(credentials.path().join(FILE), credentials.path().join(SYSTEMD_CREDENTIAL)).unwrap();
        assert_eq!(read(), 2);
    }

    #[test]
    fn an_identity_that_others_may_read_or_that_is_torn_is_refused_without_a_word_of_it() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join(FILE);
        sample(1).write(state.path()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = Identity::read(state.path(), None).unwrap_err().to_string();
        assert!(error.starts_with("others may read "), "{error}");
        replace(&path, br#"{"node":1,"credential":"wnode_canary"#, PRIVATE).unwrap();
        let error = format!("{:#}", Identity::read(state.path(), None).unwrap_err());
        assert!(error.contains("is damaged") && !error.contains("canary"), "{error}");
    }

    #[test]
    fn an_enrolment_that_was_cut_off_goes_on_with_its_credential() {
        let state = tempfile::tempdir().unwrap();
        let first = pending_credential(state.path()).unwrap();
        assert_eq!(pending_credential(state.path()).unwrap(), first);
        forget_pending(state.path()).unwrap();
        assert_ne!(pending_credential(state.path()).unwrap(), first);
    }
}
