//! `/etc/warden/policy.toml`: what this host's owner demands, whatever anybody asks for.

mod auto_snapshot;
mod parse;
mod rules;

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, ensure};
pub use auto_snapshot::Automatic;
use parse::parse;
pub use rules::{Asked, Denied, Done, Pattern, Rule, Span, Then, decide, looks_back};
use rustix::fs::OFlags;
use serde::Deserialize;
use warden_redact::AlsoMask;

/// Where the policy stands; a host without one has no demands.
pub const PLACE: &str = "/etc/warden/policy.toml";
/// A policy is some lines; what is larger is not one. In bytes.
const MOST_BYTES: u64 = 256 << 10;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Policy {
    redaction: Redaction,
    snapshot: Snapshots,
    rule: Vec<Rule>,
}

/// What this host lets its Supervisor have of snapshots, what may be in any of them, and when one is taken without being
/// asked for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Snapshots {
    /// Whether any are taken for it.
    pub allow: bool,
    /// Whether Iggy's data directory may be in them.
    pub include_iggy: bool,
    /// Hosts that archives may be sent to, beside the Supervisor itself. Absent: any, over TLS.
    pub upload_hosts: Option<Vec<String>>,
    /// Largest archive that may be sent, in MiB. Absent: any.
    pub largest_upload_mib: Option<u64>,
    /// Take Iggy's data directory as it is, whoever asks for it: metadata with password hashes and tokens, keys, and
    /// texts unmasked.
    pub include_secrets_of_iggy: bool,
    pub automatic: Automatic,
}

impl Default for Snapshots {
    fn default() -> Snapshots {
        Snapshots {
            allow: true,
            include_iggy: true,
            upload_hosts: None,
            largest_upload_mib: None,
            include_secrets_of_iggy: false,
            automatic: Automatic::default(),
        }
    }
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

/// What the policy at `path` says may be done on this host. Only root may have written it: whoever else could would
/// decide for the host.
///
/// # Errors
/// It is not understood, or others than root can write it. Then nothing may be done.
pub fn rules(path: &Path) -> anyhow::Result<Vec<Rule>> {
    Ok(of_root(path)?.rule)
}

/// What the policy at `path` says of snapshots, which only root may have written.
///
/// # Errors
/// It is not understood, or others than root can write it. Then none are taken.
pub fn snapshots(path: &Path) -> anyhow::Result<Snapshots> {
    Ok(of_root(path)?.snapshot)
}

fn of_root(path: &Path) -> anyhow::Result<Policy> {
    let Some((text, file)) = text(path)? else { return Ok(Policy::default()) };
    let about = file.metadata().with_context(|| format!("cannot look at the policy {}", path.display()))?;
    let writable = about.mode() & 0o002 != 0 || (about.mode() & 0o020 != 0 && about.gid() != 0);
    ensure!(
        about.uid() == 0 && !writable,
        "the policy {} must be root's, and nobody else may write it: chown root:root, chmod 644",
        path.display()
    );
    parse(&text).with_context(|| format!("the policy {} is not understood; mend it", path.display()))
}

/// Whether the policy at `path` lets Iggy's data directory be taken with the secrets in it. Only root may say so, and
/// nobody from elsewhere.
///
/// # Errors
/// It is not understood, or others than root can write it.
pub fn includes_secrets_of_iggy(path: &Path) -> anyhow::Result<bool> {
    Ok(of_root(path)?.snapshot.include_secrets_of_iggy)
}

fn read(path: &Path) -> anyhow::Result<Vec<String>> {
    let Some((text, _)) = text(path)? else { return Ok(Vec::new()) };
    let policy = parse(&text).with_context(|| {
        format!("nothing is collected while the policy {} is not understood; mend it", path.display())
    })?;
    ensure!(
        path == Path::new(PLACE) || !policy.snapshot.include_secrets_of_iggy,
        "only {PLACE} may say include_secrets_of_iggy, not {}",
        path.display()
    );
    Ok(policy.redaction.also_mask)
}

/// A host without a policy has no demands. That there is none is believed only when its name is not there either: behind
/// a link that leads nowhere, or on a mount that is away, there may be one.
fn text(path: &Path) -> anyhow::Result<Option<(String, File)>> {
    let unread = || format!("cannot read the policy {}", path.display());
    // Looked at before it is opened: to open a device may do something, and a fifo waits for somebody to write.
    let about = match std::fs::metadata(path) {
        Ok(about) => about,
        Err(error) if error.kind() == ErrorKind::NotFound && is_absent(path).with_context(unread)? => {
            return Ok(None);
        }
        Err(error) => return Err(error).with_context(unread),
    };
    let no_file = || format!("the policy {} is no regular file", path.display());
    ensure!(about.is_file(), no_file());
    let file = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path);
    let file = file.with_context(unread)?;
    ensure!(file.metadata().with_context(unread)?.is_file(), no_file());
    let mut text = String::new();
    (&file).take(MOST_BYTES + 1).read_to_string(&mut text).with_context(unread)?;
    ensure!(text.len() as u64 <= MOST_BYTES, "the policy {} is larger than 256 KiB", path.display());
    Ok(Some((text, file)))
}

/// Whether there is nothing of this name, and the folder that would have it is a folder, or is absent in the same way.
fn is_absent(path: &Path) -> std::io::Result<bool> {
    for (above, part) in path.ancestors().enumerate() {
        match std::fs::symlink_metadata(part) {
            Ok(_) if above == 0 => return Ok(false),
            // A link to a folder is one; a link to nothing is not.
            Ok(_) => return Ok(std::fs::metadata(part).is_ok_and(|about| about.is_dir())),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_may_widen_and_nothing_else() {
        assert!(
            parse(
                "[redaction]\nalso_mask = [\"x-ray\", \"/a+b/\"]\n[[rule]]\nname = \"a\"\nthen = \"deny\"\n"
            )
            .is_ok()
        );
        for wrong in [
            "[redaction]\nnever_mask = [\"x\"]\n",
            "[redaction]\nalso_mask = \"x\"\n",
            "[redaction\n",
            "[redaction]\nalso_mask = [\"/(/\"]",
            "[actions]\nrestart = true\n",
            "[[rule]]\nname = \"a\"\n",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_policy_is_no_demand_and_an_unreadable_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(also_mask(&[&folder.path().join("policy.toml")]).is_ok());
        let error = also_mask(&[folder.path()]).unwrap_err();
        assert!(format!("{error:#}").ends_with(" is no regular file"), "{error:#}");
        let path = folder.path().join("odd.toml");
        std::fs::write(&path, "[redaction]\nalso_mask = 7\n").unwrap();
        let told = format!("{:#}", also_mask(&[&path]).unwrap_err());
        assert!(
            told.starts_with("nothing is collected while the policy ")
                && told.contains("line 2, column 13: "),
            "{told}"
        );
    }

    #[test]
    fn only_a_policy_whose_name_is_not_there_is_none_and_a_fifo_or_a_device_is_refused_at_once() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        symlink("nowhere.toml", place("dangling.toml")).unwrap();
        symlink("loop.toml", place("loop.toml")).unwrap();
        symlink("nowhere", place("away")).unwrap();
        symlink("/dev/null", place("device.toml")).unwrap();
        std::fs::write(place("file"), "").unwrap();
        nix::unistd::mkfifo(&place("fifo.toml"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        for (path, told) in [
            ("dangling.toml", "cannot read the policy"),
            ("loop.toml", "cannot read the policy"),
            ("away/policy.toml", "cannot read the policy"),
            ("file/policy.toml", "cannot read the policy"),
            ("device.toml", "is no regular file"),
            ("fifo.toml", "is no regular file"),
        ] {
            let path = place(path);
            for refused in [
                rules(&path).err(),
                snapshots(&path).err(),
                includes_secrets_of_iggy(&path).err(),
                also_mask(&[&path]).err(),
            ] {
                let error = format!("{:#}", refused.unwrap());
                assert!(error.contains(told), "{}: {error}", path.display());
            }
        }
        symlink(folder.path(), place("here")).unwrap();
        for path in ["policy.toml", "no/such/folder/policy.toml", "here/policy.toml"] {
            assert_eq!(rules(&place(path)).unwrap(), [], "{path}");
        }
    }

    #[test]
    fn automatic_snapshots_are_on_within_limits_and_a_host_may_say_otherwise() {
        let of = |text: &str| {
            parse(text).map(|policy| policy.snapshot.automatic).map_err(|error| error.to_string())
        };
        let usual = Automatic::default();
        assert_eq!(of("").unwrap(), usual);
        assert!(usual.enabled && (usual.most_per_day, usual.same_reason_hours) == (3, 24));
        let own = of("[snapshot.automatic]\nmost_per_day = 1\nfilesystem_percent = 0\nunit_failed = false\n");
        assert_eq!(
            own.unwrap(),
            Automatic { most_per_day: 1, filesystem_percent: 0, unit_failed: false, ..usual }
        );
        for (wrong, told) in [
            ("most_per_day = 25", "most_per_day must be from 0 to 24"),
            ("same_reason_hours = 0", "same_reason_hours must be from 1 to 168"),
            ("filesystem_percent = 101", "filesystem_percent must be from 0 to 100"),
            ("certificate_days = 366", "certificate_days must be from 0 to 365"),
            ("enabeld = false", "unknown key `enabeld`"),
        ] {
            let error = of(&format!("[snapshot.automatic]\n{wrong}\n")).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn only_root_says_what_may_be_done() {
        use std::os::unix::fs::PermissionsExt;
        assert!(nix::unistd::geteuid().is_root(), "this test gives a file away: run it as root");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.toml");
        assert_eq!(rules(&path).unwrap(), []);
        std::fs::write(&path, "[[rule]]\nname = \"a\"\nthen = \"allow\"\n").unwrap();
        let with = |mode, owner, group| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            std::os::unix::fs::chown(&path, Some(owner), Some(group)).unwrap();
            assert_eq!(snapshots(&path).is_ok(), rules(&path).is_ok());
            rules(&path).map(|rules| rules.len()).map_err(|error| error.to_string())
        };
        assert_eq!(with(0o644, 0, 0), Ok(1));
        assert_eq!(with(0o664, 0, 0), Ok(1));
        for (mode, owner, group) in [(0o646, 0, 0), (0o664, 0, 1), (0o644, 1, 0)] {
            let told = with(mode, owner, group).unwrap_err();
            assert!(told.contains("must be root's, and nobody else may write it"), "{told}");
        }
        std::fs::write(&path, "[[rule]]\nname = 7\n").unwrap();
        let told = with(0o644, 0, 0).unwrap_err();
        assert!(told.starts_with("the policy /") && told.ends_with(" is not understood; mend it"), "{told}");
    }
}
