//! The finished snapshot as files: the page, its data, the evidence, and the manifest that holds them together.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};

use anyhow::{Context, ensure};
use crc32fast::Hasher;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde::{Deserialize, Serialize};
use warden_host::Clock;
use warden_platform::sha256::{self, Sha256};

use super::Snapshot;
use super::archive::zip_writer::{Container, Label};
use super::archive::{self, Inventory, Mask};
use super::own_documents::{self, PAGE, REPORT};
use super::report::{self, Outcome};
use super::signature::{PublicKey, SigningKey};

/// Changes when a reader of the previous version could misread this one.
pub const MANIFEST_VERSION: u32 = 1;

/// What was expected and what is here.
pub const MANIFEST: &str = "manifest.json";

/// 64 bytes: the Ed25519 signature over the bytes of [`MANIFEST`].
pub const SIGNATURE: &str = "manifest.sig";

/// The data directory of Iggy, as an archive in the archive.
pub const IGGY: &str = "iggy.zip";

/// What Ed25519 is called in [`Signer`].
pub const ED25519: &str = "ed25519";

/// `manifest.json`: what was expected against what is here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub version: u32,
    pub warden: String,
    pub host: String,
    /// RFC 3339 UTC.
    pub created_at: String,
    /// Whether every check that was expected could tell.
    pub complete: bool,
    /// Every check that was expected, in the order of the catalogue, and the inspection of the data directory.
    pub items: Vec<Item>,
    /// Every file but this one and its signature, in the order of the archive.
    pub files: Vec<FileEntry>,
    pub redaction: Redaction,
    /// The data directory in [`IGGY`]: what is in it and what stayed behind. Absent when nobody asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iggy: Option<Inventory>,
    /// Whose signature over this file's bytes [`SIGNATURE`] is; absent when nobody signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signer>,
}

/// The key that signed. It comes with what it signed, and so proves nothing to those who do not know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signer {
    /// `ed25519`.
    pub algorithm: String,
    /// SubjectPublicKeyInfo in base64: what stands in a PEM file.
    pub public_key: String,
    /// SHA-256 of the SubjectPublicKeyInfo, in hex.
    pub fingerprint: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    pub id: String,
    pub outcome: Outcome,
    /// Why there is no verdict, for one that was skipped or could not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it cost, in microseconds of wall time; absent when a recording was judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_us: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    pub path: String,
    pub bytes: u64,
    /// Of the content, in hex.
    pub sha256: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redaction {
    /// How many secrets were masked, by rule.
    pub masked: BTreeMap<String, u64>,
    /// Known secrets found by the second scan, over everything that was about to be written. Always 0: a hit
    /// withholds the bundle.
    pub found_by_second_scan: u64,
}

/// A snapshot's files, by path, in the order in which the archive holds them.
pub struct Bundle {
    files: Vec<(String, Vec<u8>)>,
    clock: Clock,
    manifest: Manifest,
}

/// The data directory to be packed into a bundle, and what it is packed by.
pub struct Packing<'a> {
    pub learned: archive::Learned,
    pub mask: Mask<'a>,
    pub key: Option<&'a SigningKey>,
    /// Bytes that may still be written, `None` where that cannot be told.
    pub room: &'a mut (dyn FnMut() -> Option<u64> + Send),
    /// Told how many bytes have been read.
    pub observe: &'a mut (dyn FnMut(u64) + Send),
}

impl Bundle {
    /// Renders and masks everything, and scans it once more. Fails when a known secret is still in it.
    pub fn new(snapshot: &Snapshot) -> anyhow::Result<Bundle> {
        Bundle::signed(snapshot, None)
    }

    /// The same with `key`'s signature over the manifest, and so over everything that it lists.
    pub fn signed(snapshot: &Snapshot, key: Option<&SigningKey>) -> anyhow::Result<Bundle> {
        let sweep = |text: &str| snapshot.redactor.sweep(text).into_owned();
        // Masked as the structure it is, not as JSON text: a token must not break the syntax.
        let mut report = serde_json::to_value(&snapshot.report)?;
        own_documents::sweep(&snapshot.redactor, &mut report);
        let report: report::Report =
            serde_json::from_value(report).context("a masked report is no report any more")?;
        let page = own_documents::sweep_page(&snapshot.redactor, &report::page(&report)?);
        let mut files = vec![
            (PAGE.to_owned(), page.into_bytes()),
            (REPORT.to_owned(), serde_json::to_vec_pretty(&report)?),
        ];
        for (path, content) in &snapshot.evidence {
            files.push((format!("host/{}", sweep(path)), sweep(content).into_bytes()));
        }
        let manifest = manifest(&report, &files, key.map(SigningKey::public));
        let bytes = serde_json::to_vec_pretty(&manifest)?;
        if let Some(key) = key {
            files.insert(2, (SIGNATURE.to_owned(), key.sign(&bytes)));
        }
        files.insert(2, (MANIFEST.to_owned(), bytes));

        for (path, content) in &files {
            let inside = own_documents::hits(&snapshot.redactor, path, content);
            let inside = inside.unwrap_or_else(|| {
                // The bytes of a signature are ours.
                if path == SIGNATURE { 0 } else { snapshot.redactor.hits(content) }
            });
            let hits = own_documents::name_hits(&snapshot.redactor, path) + inside;
            ensure!(hits == 0, "a masked secret shows up again in {}: nothing was written", sweep(path));
        }
        Ok(Bundle { files, clock: snapshot.clock, manifest })
    }

    /// One file of the bundle.
    pub fn file(&self, path: &str) -> Option<&[u8]> {
        self.files.iter().find(|(name, _)| name == path).map(|(_, content)| content.as_slice())
    }

    /// The whole bundle as a ZIP archive. The same bundle makes the same bytes: times are the host's clock when
    /// the run began.
    pub fn zip(&self) -> anyhow::Result<Vec<u8>> {
        let mut members = self.members(Vec::new());
        for (path, content) in &self.files {
            members.add(path, content)?;
        }
        members.finish()
    }

    /// The same with the data directory as [`IGGY`], written to `out` as it is read, front to back. The manifest then
    /// comes last: it tells what became of the files.
    pub fn zip_with_iggy<W: Write + Send>(
        &self,
        out: W,
        packing: Packing<'_>,
    ) -> anyhow::Result<(W, Inventory)> {
        let Packing { learned, mask, key, room, observe } = packing;
        let mut members = self.members(out);
        for (path, content) in &self.files {
            if path != MANIFEST && path != SIGNATURE {
                members.add(path, content)?;
            }
        }
        let (inventory, entry) = members
            .add_as_written(IGGY, |member| archive::write(learned, member, mask, room, observe))
            .with_context(|| format!("cannot add {IGGY} to the archive"))?;

        let mut manifest = self.manifest.clone();
        manifest.files.push(entry);
        manifest.iggy = Some(inventory.clone());
        let manifest = serde_json::to_vec_pretty(&manifest)?;
        ensure!(
            own_documents::hits(mask.redactor, MANIFEST, &manifest) == Some(0),
            "a masked secret shows up again in {MANIFEST}: nothing was written"
        );
        members.add(MANIFEST, &manifest)?;
        if let Some(key) = key {
            members.add(SIGNATURE, &key.sign(&manifest))?;
        }
        Ok((members.finish()?, inventory))
    }

    fn members<W: Write>(&self, out: W) -> Members<W> {
        Members { container: Container::new(out), paths: Vec::new(), at: self.clock.seconds() }
    }
}

/// The members of a bundle's archive, all of the time of the run.
struct Members<W> {
    container: Container<W>,
    paths: Vec<String>,
    at: i64,
}

impl<W: Write> Members<W> {
    /// Packed, where that makes it smaller.
    fn add(&mut self, path: &str, content: &[u8]) -> anyhow::Result<()> {
        let mut packer = DeflateEncoder::new(Vec::new(), Compression::default());
        packer.write_all(content)?;
        let packed = packer.finish()?;
        let (id, label) = self.next(path);
        let known = (content.len() as u64, crc32fast::hash(content));
        let pays = packed.len() < content.len();
        let part = if pays { &packed } else { content };
        let added = self.container.whole(id, &label, pays, known, &[part]);
        added.with_context(|| format!("cannot add {path} to the archive"))
    }

    /// As it is, and as large as `write` makes it.
    fn add_as_written<T>(
        &mut self,
        path: &str,
        write: impl FnOnce(BufWriter<Member<'_, W>>) -> anyhow::Result<(T, BufWriter<Member<'_, W>>)>,
    ) -> anyhow::Result<(T, FileEntry)> {
        let (id, label) = self.next(path);
        self.container.begin_stored(id, &label)?;
        let data_at = self.container.written();
        let (crc, hash) = (Hasher::new(), Sha256::default());
        let member = Member { container: &mut self.container, crc, hash, bytes: 0 };
        let (told, member) = write(BufWriter::new(member))?;
        let Member { crc, hash, bytes, .. } = member.into_inner().map_err(|error| error.into_error())?;
        self.container.end(bytes, crc.finalize(), data_at)?;
        Ok((told, FileEntry { path: path.to_owned(), bytes, sha256: sha256::hex(&hash.finish()) }))
    }

    fn next(&mut self, path: &str) -> (u32, Label) {
        self.paths.push(path.to_owned());
        (self.paths.len() as u32 - 1, Label { name: path.to_owned(), modified: self.at })
    }

    fn finish(self) -> anyhow::Result<W> {
        let Members { container, paths, at } = self;
        let label =
            |id: u32| Label { name: paths.get(id as usize).cloned().unwrap_or_default(), modified: at };
        let (out, _) = container.finish(label).context("cannot write the end of the archive")?;
        Ok(out)
    }
}

/// What is written to a member, counted and hashed on its way.
struct Member<'a, W> {
    container: &'a mut Container<W>,
    crc: Hasher,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Member<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.container.put(bytes)?;
        self.crc.update(bytes);
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn manifest(report: &report::Report, files: &[(String, Vec<u8>)], signer: Option<PublicKey>) -> Manifest {
    let findings = report.findings();
    let items = findings.iter().map(|check| {
        let reason = could_not_tell(check.outcome) || check.outcome == Outcome::Skip;
        Item {
            id: check.id.clone(),
            outcome: check.outcome,
            reason: reason.then(|| check.summary.clone()),
            wall_us: check.cost.map(|cost| cost.wall_us),
        }
    });
    let entry = |(path, content): &(String, Vec<u8>)| {
        let mut hash = Sha256::default();
        hash.update(content);
        FileEntry { path: path.clone(), bytes: content.len() as u64, sha256: sha256::hex(&hash.finish()) }
    };
    Manifest {
        version: MANIFEST_VERSION,
        warden: report.warden.clone(),
        host: report.host.name.clone(),
        created_at: report.run.started_at.clone(),
        complete: !findings.iter().any(|check| could_not_tell(check.outcome)),
        items: items.collect(),
        files: files.iter().map(entry).collect(),
        iggy: None,
        redaction: Redaction { masked: report.masked.clone(), found_by_second_scan: 0 },
        signature: signer.map(|key| Signer {
            algorithm: ED25519.to_owned(),
            public_key: key.to_base64(),
            fingerprint: key.fingerprint(),
        }),
    }
}

fn could_not_tell(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Unknown | Outcome::TimedOut | Outcome::Panicked)
}
