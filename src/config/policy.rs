//! `/etc/warden/policy.toml`: what this host's owner demands, whatever anybody asks for.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::snapshot::redact::AlsoMask;

/// Where the policy stands; a host without one has no demands.
pub const PLACE: &str = "/etc/warden/policy.toml";
/// A policy is some lines; what is larger is not one. In bytes.
const MOST_BYTES: u64 = 256 << 10;

#[derive(Debug, Default, Deserialize)]
struct Policy {
    #[serde(default)]
    redaction: Redaction,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Redaction {
    /// Texts, or regular expressions between slashes, that are masked besides what is masked anyway.
    #[serde(default)]
    also_mask: Vec<String>,
}

/// What the policies at `paths` mask besides what is masked anyway; they cannot mask less. A policy that is there and
/// cannot be read or understood is an error: without it nobody knows what may leave this host.
pub fn also_mask(paths: &[&Path]) -> anyhow::Result<AlsoMask> {
    let mut entries = Vec::new();
    for path in paths {
        entries.extend(read(path)?);
    }
    Ok(AlsoMask::new(&entries)?)
}

fn read(path: &Path) -> anyhow::Result<Vec<String>> {
    let mut text = String::new();
    match std::fs::File::open(path) {
        Ok(file) => {
            let read = file.take(MOST_BYTES + 1).read_to_string(&mut text);
            read.with_context(|| format!("cannot read the policy {}", path.display()))?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read the policy {}", path.display()));
        }
    }
    ensure!(text.len() as u64 <= MOST_BYTES, "the policy {} is larger than 256 KiB", path.display());
    parse(&text).with_context(|| {
        format!("nothing is collected while the policy {} is not understood; mend it", path.display())
    })
}

fn parse(text: &str) -> anyhow::Result<Vec<String>> {
    let policy: Policy = toml::from_str(text)?;
    AlsoMask::new(&policy.redaction.also_mask)?;
    Ok(policy.redaction.also_mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_may_widen_and_nothing_else() {
        assert!(
            parse("[redaction]\nalso_mask = [\"x-ray\", \"/a+b/\"]\n[actions]\nrestart = true\n").is_ok()
        );
        for wrong in [
            "[redaction]\nnever_mask = [\"x\"]\n",
            "[redaction]\nalso_mask = \"x\"\n",
            "[redaction\n",
            "[redaction]\nalso_mask = [\"/(/\"]",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_policy_is_no_demand_and_an_unreadable_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(also_mask(&[&folder.path().join("policy.toml")]).is_ok());
        let error = also_mask(&[folder.path()]).unwrap_err();
        assert!(format!("{error:#}").starts_with("cannot read the policy "), "{error:#}");
        let path = folder.path().join("odd.toml");
        std::fs::write(&path, "[redaction]\nalso_mask = 7\n").unwrap();
        let told = format!("{:#}", also_mask(&[&path]).unwrap_err());
        assert!(
            told.starts_with("nothing is collected while the policy ") && told.contains("also_mask = 7"),
            "{told}"
        );
    }
}
