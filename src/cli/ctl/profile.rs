//! `warden ctl profile`: Supervisors by name, in `~/.config/warden/ctl.toml`.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Subcommand;
use serde::{Deserialize, Serialize};
use warden_client as client;

use super::context::Access;
use super::reference::Reference;
use crate::cli::output_file;
use crate::cli::terminal::{Painter, Style, harmless};
use crate::secret::Secret;
use crate::tls::Fingerprint;

/// A file with some profiles, or with a key, is smaller by far. In bytes.
const FILE_LIMIT: u64 = 64 << 10;

/// Set, list or choose profiles: a word for URL, CA, key file and deployment
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Set a profile, new or known: --url, --ca, --key-file, --deployment
    ///
    /// What is not given stays as it was. The first profile is the one in use.
    Set {
        /// Name of the profile: letters, digits, `-` and `_`
        name: String,

        /// Take the API key from standard input into a file that is yours alone, beside the profiles
        #[arg(long, conflicts_with = "key_file")]
        key_stdin: bool,

        /// Take the CA with this SHA-256 fingerprint out of what the Supervisor shows, into a file beside the profiles
        #[arg(long, value_name = "HEX", conflicts_with = "ca")]
        ca_fingerprint: Option<Fingerprint>,
    },
    /// List the profiles
    List {
        /// Print only their names, a line each
        #[arg(long, conflicts_with = "json")]
        names: bool,
    },
    /// Choose the profile that is used where none is named
    Use {
        /// Name of a profile
        name: String,
    },
}

/// One Supervisor.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    pub url: Option<String>,
    pub ca: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    pub deployment: Option<Reference>,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Profiles {
    current: Option<String>,
    profiles: BTreeMap<String, Profile>,
}

pub fn run(access: &Access, verb: &Verb) -> anyhow::Result<u8> {
    let place = place().context("neither XDG_CONFIG_HOME nor HOME is set: there is no place for profiles")?;
    let mut known = read(&place)?;
    match verb {
        Verb::Set { name, key_stdin, ca_fingerprint } => {
            set(&mut known, name, access)?;
            let profile = known.profiles.entry(name.clone()).or_default();
            if let (Some(fingerprint), Some(url)) = (ca_fingerprint, &profile.url) {
                let ca = folder_of(&place)?.join(format!("{name}.ca.pem"));
                let pem = client::authority_of(&client::base(url)?, *fingerprint)?;
                output_file::write_for(&ca, pem.as_bytes(), "--ca")?;
                profile.ca = Some(ca);
            }
            if *key_stdin {
                let key_file = folder_of(&place)?.join(format!("{name}.key"));
                output_file::write_for(
                    &key_file,
                    format!("{}\n", key_from_stdin()?.expose()).as_bytes(),
                    "--key-file",
                )?;
                known.profiles.entry(name.clone()).or_default().key_file = Some(key_file);
            }
            write(&place, &known)?;
        }
        Verb::Use { name } => {
            ensure!(known.profiles.contains_key(name), "there is no profile `{name}`; {}", names(&known));
            known.current = Some(name.clone());
            write(&place, &known)?;
        }
        Verb::List { names: true } => {
            let mut out = std::io::stdout().lock();
            known.profiles.keys().try_for_each(|name| writeln!(out, "{}", harmless(name)))?;
            return Ok(0);
        }
        Verb::List { names: false } => {}
    }
    let mut out = std::io::stdout().lock();
    if access.json {
        serde_json::to_writer_pretty(&mut out, &known)?;
        writeln!(out)?;
    } else {
        out.write_all(shown(&known, Painter::stdout()).as_bytes())?;
    }
    Ok(0)
}

/// The profile of that name, else the one in use; none where nothing was ever set.
pub fn chosen(name: Option<&str>) -> anyhow::Result<Option<Profile>> {
    let Some(place) = place() else { return Ok(None) };
    let mut known = read(&place)?;
    let Some(name) = name.map(str::to_owned).or_else(|| known.current.clone()) else { return Ok(None) };
    let found = known.profiles.remove(&name);
    ensure!(found.is_some(), "there is no profile `{name}`; {}", names(&known));
    Ok(found)
}

/// The first line of a file that only its owner may read.
pub fn read_key(path: &Path) -> anyhow::Result<Secret> {
    let shown = path.display();
    let file = std::fs::File::open(path).with_context(|| format!("cannot open the API key in {shown}"))?;
    let metadata = file.metadata().with_context(|| format!("cannot look at {shown}"))?;
    ensure!(metadata.is_file(), "{shown} is not a regular file");
    let others = metadata.permissions().mode() & 0o077 != 0;
    ensure!(!others, "others may read the API key in {shown}; run: chmod 600 {shown}");
    key_in(file).with_context(|| format!("{shown} holds no API key"))
}

fn key_from_stdin() -> anyhow::Result<Secret> {
    let stdin = std::io::stdin();
    ensure!(!stdin.is_terminal(), "a key that is typed is seen; pipe it in, or write the file yourself");
    key_in(stdin.lock()).context("standard input holds no API key")
}

fn key_in(from: impl Read) -> anyhow::Result<Secret> {
    let mut text = zeroize::Zeroizing::new(String::new());
    from.take(FILE_LIMIT).read_to_string(&mut text)?;
    let line = text.lines().next().unwrap_or_default().trim();
    ensure!(!line.is_empty(), "the first line is empty");
    ensure!(
        line.bytes().all(|byte| byte.is_ascii_graphic()),
        "the first line has blanks or strange characters"
    );
    Ok(Secret::new(line.to_owned()))
}

fn set(known: &mut Profiles, name: &str, access: &Access) -> anyhow::Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    ensure!(!name.is_empty() && name.chars().all(plain), "a profile's name has letters, digits, `-` and `_`");
    let profile = known.profiles.entry(name.to_owned()).or_default();
    if let Some(url) = &access.url {
        client::base(url)?;
        profile.url = Some(url.clone());
    }
    if let Some(ca) = &access.ca {
        profile.ca = Some(found(ca)?);
    }
    if let Some(key_file) = &access.key_file {
        read_key(key_file)?;
        profile.key_file = Some(found(key_file)?);
    }
    profile.deployment = access.deployment.clone().or(profile.deployment.take());
    ensure!(profile.url.is_some(), "a new profile needs --url");
    known.current.get_or_insert_with(|| name.to_owned());
    Ok(())
}

/// As it is found from any folder.
fn found(path: &Path) -> anyhow::Result<PathBuf> {
    path.canonicalize().with_context(|| format!("cannot find {}", path.display()))
}

fn names(known: &Profiles) -> String {
    if known.profiles.is_empty() {
        return "make one: warden ctl profile set NAME --url URL".to_owned();
    }
    format!("there are {}", known.profiles.keys().cloned().collect::<Vec<_>>().join(", "))
}

fn shown(known: &Profiles, paint: Painter) -> String {
    if known.profiles.is_empty() {
        return "no profiles; warden ctl profile set NAME --url URL makes one\n".to_owned();
    }
    let mut text = String::new();
    for (name, profile) in &known.profiles {
        let used = if known.current.as_ref() == Some(name) { "  (in use)" } else { "" };
        text += &format!("{}{used}\n", paint.paint(Style::Bold, &harmless(name)));
        let file = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        for (key, value) in [
            ("url", profile.url.clone()),
            ("ca", file(&profile.ca)),
            ("key file", file(&profile.key_file)),
            ("deployment", profile.deployment.as_ref().map(Reference::to_string)),
        ] {
            if let Some(value) = value {
                text += &format!("  {key:10}  {}\n", harmless(&value));
            }
        }
    }
    text
}

fn place() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = folder("XDG_CONFIG_HOME").or_else(|| folder("HOME").map(|home| home.join(".config")))?;
    Some(config.join("warden/ctl.toml"))
}

fn read(place: &Path) -> anyhow::Result<Profiles> {
    let shown = place.display();
    let file = match std::fs::File::open(place) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Profiles::default()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
    };
    // Whoever may write the URL may have the key.
    let mode = file.metadata()?.permissions().mode();
    ensure!(mode & 0o022 == 0, "others may write {shown}; look at it, then run: chmod 600 {shown}");
    let mut text = String::new();
    file.take(FILE_LIMIT).read_to_string(&mut text).with_context(|| format!("cannot read {shown}"))?;
    toml::from_str(&text).with_context(|| format!("cannot understand {shown}"))
}

fn write(place: &Path, known: &Profiles) -> anyhow::Result<()> {
    let mut text = String::new();
    if let Some(current) = &known.current {
        text += &format!("current = {}\n", quoted(current)?);
    }
    for (name, profile) in &known.profiles {
        text += &format!("\n[profiles.{name}]\n");
        if let Some(url) = &profile.url {
            text += &format!("url = {}\n", quoted(url)?);
        }
        for (key, path) in [("ca", &profile.ca), ("key_file", &profile.key_file)] {
            if let Some(path) = path {
                let path = path.to_str().with_context(|| format!("{} is no UTF-8", path.display()))?;
                text += &format!("{key} = {}\n", quoted(path)?);
            }
        }
        match &profile.deployment {
            Some(Reference::Id(id)) => text += &format!("deployment = {id}\n"),
            Some(Reference::Name(name)) => text += &format!("deployment = {}\n", quoted(name)?),
            None => {}
        }
    }
    folder_of(place)?;
    output_file::write_for(place, text.as_bytes(), "XDG_CONFIG_HOME")
}

/// A basic string of TOML: as JSON writes it, where there are no control characters.
fn quoted(text: &str) -> anyhow::Result<String> {
    if text.chars().any(char::is_control) {
        bail!("control characters are no part of a profile");
    }
    Ok(serde_json::to_string(text)?)
}

fn folder_of(place: &Path) -> anyhow::Result<&Path> {
    let folder = output_file::folder_of(place);
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Profiles {
        let prod = Profile {
            url: Some("https://warden.example.com".to_owned()),
            ca: Some("/etc/ssl/our \"own\" ca.pem".into()),
            key_file: Some("/home/ops/key".into()),
            deployment: Some(Reference::Id(611_298_765_432_109_056)),
        };
        let lab = Profile {
            url: Some("http://127.0.0.1:8080".to_owned()),
            deployment: Some(Reference::Name("events \"prod\"".to_owned())),
            ..Profile::default()
        };
        let profiles = [("prod".to_owned(), prod), ("lab-2".to_owned(), lab)].into();
        Profiles { current: Some("prod".to_owned()), profiles }
    }

    #[test]
    fn profiles_are_read_as_they_were_written_and_are_their_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("new/warden/ctl.toml");
        write(&place, &sample()).unwrap();
        assert_eq!(read(&place).unwrap(), sample());
        assert_eq!(std::fs::metadata(&place).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(std::fs::metadata(place.parent().unwrap()).unwrap().permissions().mode() & 0o7777, 0o700);
    }

    #[test]
    fn a_file_that_others_may_write_is_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("ctl.toml");
        write(&place, &sample()).unwrap();
        std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o620)).unwrap();
        let error = read(&place).unwrap_err().to_string();
        assert!(error.starts_with("others may write "), "{error}");
    }

    #[test]
    fn a_key_file_must_be_private_and_hold_a_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let with = |content: &str, mode| {
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            read_key(&path)
        };
        assert_eq!(with("wk_1_abc\n", 0o600).unwrap().expose(), "wk_1_abc");
        let error = with("wk_1_abc\n", 0o640).unwrap_err().to_string();
        assert!(error.starts_with("others may read the API key in "), "{error}");
        for wrong in ["", "\nwk", "two words\n", "é\n"] {
            assert!(with(wrong, 0o600).is_err(), "{wrong:?}");
        }
        assert!(read_key(folder.path()).is_err());
    }
}
