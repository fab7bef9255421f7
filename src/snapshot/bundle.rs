//! The finished snapshot as files: the page, its data, the evidence, and the manifest that holds them together.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Cursor, Seek, Write};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use warden_checks::host::Clock;
use zip::write::SimpleFileOptions;

use super::Snapshot;
use super::archive::{self, Inventory};
use super::redact::Redactor;
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
    pub plan: archive::Plan,
    pub redactor: &'a Redactor,
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
        let report: report::Report = serde_json::from_str(&sweep(&serde_json::to_string(&snapshot.report)?))
            .context("a masked report is no report any more")?;
        let mut files = vec![
            ("report.html".to_owned(), report::page(&report)?.into_bytes()),
            ("report.json".to_owned(), serde_json::to_vec_pretty(&report)?),
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
            let hits = snapshot.redactor.hits(path.as_bytes()) + snapshot.redactor.hits(content);
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
        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (path, content) in &self.files {
            self.add(&mut archive, path, content)?;
        }
        Ok(archive.finish()?.into_inner())
    }

    /// The same with the data directory as [`IGGY`], written to `out` as it is read. The manifest then comes last:
    /// it tells what became of the files.
    pub fn zip_with_iggy<W: Write + Seek + Send>(
        &self,
        out: W,
        packing: Packing<'_>,
    ) -> anyhow::Result<(W, Inventory)> {
        let Packing { plan, redactor, key, room, observe } = packing;
        let mut archive = zip::ZipWriter::new(out);
        for (path, content) in &self.files {
            if path != MANIFEST && path != SIGNATURE {
                self.add(&mut archive, path, content)?;
            }
        }
        let stored = self.options().compression_method(zip::CompressionMethod::Stored).large_file(true);
        archive.start_file(IGGY, stored).with_context(|| format!("cannot add {IGGY} to the archive"))?;
        let member = BufWriter::new(Hashed { out: &mut archive, hash: Sha256::new(), bytes: 0 });
        let (inventory, member) = archive::write(plan, member, redactor, room, observe)?;
        let member = member.into_inner().map_err(|error| error.into_error())?;
        let entry =
            FileEntry { path: IGGY.to_owned(), bytes: member.bytes, sha256: hex(&member.hash.finalize()) };

        let mut manifest = self.manifest.clone();
        manifest.files.push(entry);
        manifest.iggy = Some(inventory.clone());
        let manifest = serde_json::to_vec_pretty(&manifest)?;
        ensure!(
            redactor.hits(&manifest) == 0,
            "a masked secret shows up again in {MANIFEST}: nothing was written"
        );
        self.add(&mut archive, MANIFEST, &manifest)?;
        if let Some(key) = key {
            self.add(&mut archive, SIGNATURE, &key.sign(&manifest))?;
        }
        Ok((archive.finish()?, inventory))
    }

    fn add<W: Write + Seek>(
        &self,
        archive: &mut zip::ZipWriter<W>,
        path: &str,
        content: &[u8],
    ) -> anyhow::Result<()> {
        archive
            .start_file(path, self.options())
            .with_context(|| format!("cannot add {path} to the archive"))?;
        Ok(archive.write_all(content)?)
    }

    fn options(&self) -> SimpleFileOptions {
        SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Deflated)
            .last_modified_time(zip_time(self.clock.seconds()))
            .unix_permissions(0o600)
    }
}

/// What is written to a member, counted and hashed on its way.
struct Hashed<'a, W: Write + Seek> {
    out: &'a mut zip::ZipWriter<W>,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write + Seek> Write for Hashed<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
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
    let entry = |(path, content): &(String, Vec<u8>)| FileEntry {
        path: path.clone(),
        bytes: content.len() as u64,
        sha256: hex(&Sha256::digest(content)),
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// ZIP knows the years 1980 to 2107; a clock outside of them is given as the first day it knows.
fn zip_time(unix_seconds: i64) -> zip::DateTime {
    let civil =
        jiff::Timestamp::from_second(unix_seconds).map(|at| at.to_zoned(jiff::tz::TimeZone::UTC).datetime());
    let Ok(at) = civil else { return zip::DateTime::default() };
    let (year, month, day) = (u16::try_from(at.year()).unwrap_or(0), at.month() as u8, at.day() as u8);
    let (hour, minute, second) = (at.hour() as u8, at.minute() as u8, at.second() as u8);
    zip::DateTime::from_date_and_time(year, month, day, hour, minute, second).unwrap_or_default()
}
