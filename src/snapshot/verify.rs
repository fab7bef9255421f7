//! Holds a bundle against its manifest: everything listed is there as it was, nothing else is, and who signed it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use warden_host::quantity;
use warden_platform::sha256::{self, Sha256};
use zip::{ZipArchive, ZipReadOptions};

use super::bundle::{ED25519, FileEntry, MANIFEST, MANIFEST_VERSION, SIGNATURE, Signer};
use super::signature::{PublicKey, SIGNATURE_BYTES};
use super::zip_end_record::{Encrypted, open_archive};

/// The manifest is the one file that is held in memory: 150 bytes a file.
const MANIFEST_BYTES: u64 = 32 << 20;
/// Read and hashed at a time.
const CHUNK: usize = 64 << 10;
/// Problems that are told one by one; a damaged archive has one for every file.
const PROBLEMS: usize = 100;
/// A data descriptor (APPNOTE.TXT 4.3.9) may stand between two entries, with its signature and 64-bit sizes.
const DESCRIPTOR_BYTES: u64 = 24;

/// What was found.
#[derive(Debug, Serialize)]
pub struct Verification {
    /// Whether every file that the manifest lists is there as it was, and nothing else is.
    pub whole: bool,
    /// What is not as it should be, a sentence each.
    pub problems: Vec<String>,
    /// Further problems, that are only counted.
    pub problems_left_out: u64,
    pub signature: Signature,
    /// As the manifest says; absent without one.
    pub about: Option<About>,
    /// Files that are as the manifest lists them, and the bytes in them.
    pub files: u64,
    pub bytes: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct About {
    pub host: String,
    /// RFC 3339 UTC.
    pub created_at: String,
    pub warden: String,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Signature {
    /// Nobody signed: the bundle is as its manifest says, and anybody may have written both.
    Unsigned,
    /// Good, and made by a key that was given. `by` is the name it was given under.
    Known {
        fingerprint: String,
        by: String,
    },
    /// Good, and made by a key that only the bundle itself brings.
    Unknown {
        fingerprint: String,
    },
    Bad {
        reason: String,
    },
}

impl Verification {
    /// Whether nothing speaks against the bundle. A signature is only asked for when keys were given.
    pub fn is_good(&self, keys_given: bool) -> bool {
        self.whole
            && match self.signature {
                Signature::Unsigned | Signature::Unknown { .. } => !keys_given,
                Signature::Known { .. } => true,
                Signature::Bad { .. } => false,
            }
    }
}

/// What verifying needs of a manifest, of any version that may be read.
#[derive(Deserialize)]
struct Manifest {
    version: u32,
    #[serde(flatten)]
    about: About,
    files: Vec<FileEntry>,
    #[serde(default)]
    signature: Option<Signer>,
}

/// Verifies the bundle at `path`. `keys` are public keys with the names to tell them by; `observe` hears how many
/// bytes of content were read. Fails only when it cannot be told: the file cannot be read, or is of a newer form.
pub fn verify(
    path: &Path,
    keys: &[(String, PublicKey)],
    observe: &mut dyn FnMut(u64),
) -> anyhow::Result<Verification> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot open {shown}"))?;
    let metadata = file.metadata().with_context(|| format!("cannot open {shown}"))?;
    ensure!(metadata.is_file(), "{shown} is no file; give a bundle as `warden snapshot` writes it");
    let mut examined = Examined::default();
    let about = match examine(BufReader::new(file), keys, &mut examined, observe) {
        Ok(about) => about,
        // What the disk says is not the bundle's fault.
        Err(error) if !is_of_the_content(&error) => return Err(error.context(format!("cannot read {shown}"))),
        Err(error) => {
            examined.problem(format!("{error:#}"));
            None
        }
    };
    Ok(Verification {
        whole: examined.problems.is_empty(),
        problems: examined.problems,
        problems_left_out: examined.problems_left_out,
        signature: examined.signature.unwrap_or(Signature::Unsigned),
        about,
        files: examined.files,
        bytes: examined.bytes,
    })
}

#[derive(Default)]
struct Examined {
    problems: Vec<String>,
    problems_left_out: u64,
    signature: Option<Signature>,
    files: u64,
    bytes: u64,
}

impl Examined {
    fn problem(&mut self, text: String) {
        if self.problems.len() < PROBLEMS {
            self.problems.push(text);
        } else {
            self.problems_left_out += 1;
        }
    }
}

/// A newer manifest, which this Warden cannot judge.
#[derive(Debug, thiserror::Error)]
#[error(
    "the manifest is of version {0}, and this warden knows up to {MANIFEST_VERSION}; verify it with a newer one"
)]
struct TooNew(u32);

fn is_of_the_content(error: &anyhow::Error) -> bool {
    let from_disk = |error: &std::io::Error| error.raw_os_error().is_some();
    !error.chain().any(|cause| {
        cause.is::<TooNew>()
            || cause.is::<Encrypted>()
            || cause.downcast_ref::<std::io::Error>().is_some_and(from_disk)
    })
}

fn examine<R: Read + Seek>(
    source: R,
    keys: &[(String, PublicKey)],
    examined: &mut Examined,
    observe: &mut dyn FnMut(u64),
) -> anyhow::Result<Option<About>> {
    let mut archive = open_archive(source)?;
    archive.validate_header_consistency().context("the archive contradicts itself")?;
    for problem in foreign_bytes(&mut archive)? {
        examined.problem(problem);
    }

    let Some(content) = small(&mut archive, MANIFEST, MANIFEST_BYTES)? else {
        bail!("there is no {MANIFEST} in it: this is no bundle");
    };
    let manifest: Manifest = serde_json::from_slice(&content).context("the manifest cannot be understood")?;
    if manifest.version > MANIFEST_VERSION {
        bail!(TooNew(manifest.version));
    }
    let signature = small(&mut archive, SIGNATURE, SIGNATURE_BYTES as u64)?;
    examined.signature = Some(judge(manifest.signature.as_ref(), signature.as_deref(), &content, keys));
    compare(&mut archive, &manifest.files, examined, observe)?;
    Ok(Some(manifest.about))
}

/// Bytes that belong to no entry: some programs would find something there.
fn foreign_bytes<R: Read + Seek>(archive: &mut ZipArchive<R>) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut ranges = Vec::with_capacity(archive.len());
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index)?;
        let start = entry.data_start().unwrap_or(entry.header_start());
        ranges.push((entry.header_start(), start.saturating_add(entry.compressed_size())));
    }
    ranges.sort_unstable();
    let mut end = 0;
    let directory = archive.central_directory_start();
    for (start, next_end) in ranges.into_iter().chain([(directory, directory)]) {
        let allowed = if end == 0 { 0 } else { DESCRIPTOR_BYTES };
        if start.saturating_sub(end) > allowed {
            found.push(format!("{} bytes from byte {end} on belong to no file of the archive", start - end));
        }
        end = next_end;
    }
    Ok(found)
}

/// A file that is held in memory; `None` when there is none.
fn small<R: Read + Seek>(
    archive: &mut ZipArchive<R>,
    name: &str,
    limit: u64,
) -> anyhow::Result<Option<Vec<u8>>> {
    let Some(index) = archive.index_for_name(name) else { return Ok(None) };
    let entry = archive.by_index(index).with_context(|| format!("cannot read {name}"))?;
    let mut content = Vec::new();
    entry.take(limit + 1).read_to_end(&mut content).with_context(|| format!("cannot read {name}"))?;
    let limit_shown = quantity::bytes(limit);
    ensure!(content.len() as u64 <= limit, "{name} is larger than {limit_shown}, which none of ours is");
    Ok(Some(content))
}

fn judge(
    signer: Option<&Signer>,
    signature: Option<&[u8]>,
    manifest: &[u8],
    keys: &[(String, PublicKey)],
) -> Signature {
    let bad = |reason: &str| Signature::Bad { reason: reason.to_owned() };
    let (signer, signature) = match (signer, signature) {
        (None, None) => return Signature::Unsigned,
        (Some(_), None) => return bad("the manifest names who signed it, and the signature is gone"),
        (None, Some(_)) => return bad("there is a signature, and the manifest does not name who signed"),
        (Some(signer), Some(signature)) => (signer, signature),
    };
    if signer.algorithm != ED25519 {
        return bad("it is of a kind that this warden does not know");
    }
    let Ok(key) = PublicKey::from_base64(&signer.public_key) else {
        return bad("the public key in the manifest is none");
    };
    let fingerprint = key.fingerprint();
    if signer.fingerprint != fingerprint {
        return bad("the manifest gives its key another fingerprint than it has");
    }
    if !key.verifies(manifest, signature) {
        return bad("it does not fit the manifest: one of them was changed");
    }
    match keys.iter().find(|(_, known)| *known == key) {
        Some((by, _)) => Signature::Known { fingerprint, by: by.clone() },
        None => Signature::Unknown { fingerprint },
    }
}

/// Every file of the archive against every file of the manifest.
fn compare<R: Read + Seek>(
    archive: &mut ZipArchive<R>,
    files: &[FileEntry],
    examined: &mut Examined,
    observe: &mut dyn FnMut(u64),
) -> anyhow::Result<()> {
    let mut listed: BTreeMap<&str, &FileEntry> = BTreeMap::new();
    for file in files {
        if !is_safe(&file.path) {
            examined.problem(format!("the manifest lists `{}`, which is no safe path", file.path));
        } else if listed.insert(&file.path, file).is_some() {
            examined.problem(format!("the manifest lists {} twice", file.path));
        }
    }
    for index in 0..archive.len() {
        let entry = archive.by_index_data(index)?;
        let Ok(name) = std::str::from_utf8(entry.name_raw()).map(str::to_owned) else {
            examined.problem(format!("`{}` is no name in UTF-8", entry.name_raw().escape_ascii()));
            continue;
        };
        if !is_safe(&name) {
            examined.problem(format!("`{name}` is in the archive, and is no safe path"));
        } else if !entry.is_file() || entry.is_symlink() {
            examined
                .problem(format!("{name} is a folder, a link or a special file; a bundle has only files"));
        } else if name == MANIFEST || name == SIGNATURE {
            examined.files += 1;
        } else if let Some(file) = listed.remove(name.as_str()) {
            match difference(archive, index, file, observe) {
                Ok(None) => {
                    examined.files += 1;
                    examined.bytes += file.bytes;
                }
                Ok(Some(problem)) => examined.problem(format!("{name} {problem}")),
                Err(error) if !is_of_the_content(&error) => return Err(error),
                Err(error) => examined.problem(format!("{name} is damaged: {error:#}")),
            }
        } else {
            examined.problem(format!("{name} is in the archive, and the manifest does not list it"));
        }
    }
    for path in listed.keys() {
        examined.problem(format!("{path} is missing"));
    }
    Ok(())
}

/// How a file differs from what the manifest says; never reads further than one byte past what that says.
fn difference<R: Read + Seek>(
    archive: &mut ZipArchive<R>,
    index: usize,
    file: &FileEntry,
    observe: &mut dyn FnMut(u64),
) -> anyhow::Result<Option<String>> {
    let options = ZipReadOptions::new();
    let entry = archive.by_index_with_options(index, options)?;
    let mut source = entry.take(file.bytes.saturating_add(1));
    let (mut digest, mut bytes, mut chunk) = (Sha256::default(), 0, vec![0; CHUNK]);
    loop {
        let count = source.read(&mut chunk)?;
        if count == 0 {
            break;
        }
        digest.update(&chunk[..count]);
        bytes += count as u64;
        observe(count as u64);
    }
    if bytes != file.bytes {
        let than = if bytes > file.bytes { "more than" } else { "instead of" };
        let has = if bytes > file.bytes { String::new() } else { format!("{bytes} bytes ") };
        return Ok(Some(format!("holds {has}{than} the {} bytes that the manifest says", file.bytes)));
    }
    Ok((sha256::hex(&digest.finish()) != file.sha256)
        .then(|| "was changed: its content has another SHA-256".to_owned()))
}

/// A path that any system unpacks below the folder it was told to, and no terminal stumbles over.
fn is_safe(path: &str) -> bool {
    !path.is_empty()
        && !path.contains('\\')
        && !path.chars().any(char::is_control)
        && path.get(1..2).is_none_or(|second| second != ":")
        && !path.split('/').any(|part| matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leaves_the_folder_on_some_system_is_not_safe() {
        for path in ["report.html", "host/proc/1/net", "host/.host/fact/clock.json", "é"] {
            assert!(is_safe(path), "{path}");
        }
        for path in
            ["", "/etc", "../x", "a/../b", "a//b", "a/", "./a", "C:/x", "a\\..\\b", "a\0b", "a\x1b[2J"]
        {
            assert!(!is_safe(path), "{path}");
        }
    }
}
