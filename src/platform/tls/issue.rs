//! A certificate authority for one Supervisor, and certificates that it signs: for whoever has no authority to ask.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use zeroize::Zeroizing;

use super::pin::Fingerprint;

const DAY: Duration = Duration::from_secs(86_400);
/// Of the authority: every node believes it, so it outlives the hosts.
pub const AUTHORITY_DAYS: u32 = 3650;
/// Of a server's certificate: what browsers and operating systems accept at most of an authority of one's own.
pub const SERVER_DAYS: u32 = 825;
/// Clocks of nodes may be behind by so much.
const BACKDATED: Duration = Duration::from_secs(3600);
/// Names and addresses of one certificate.
pub const NAMES: usize = 50;
/// Whose group reads the Supervisor's key, where the package has made it.
const GROUP: &str = "warden-supervisor";

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Files {
    pub authority: PathBuf,
    pub authority_key: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// What was made.
#[derive(Debug)]
pub struct Made {
    /// Of the authority.
    pub fingerprint: Fingerprint,
    /// Unix time in seconds at which the server's certificate runs out, and the authority's.
    pub valid_until: i64,
    pub authority_valid_until: i64,
}

impl Files {
    pub fn below(folder: &Path) -> Files {
        Files {
            authority: folder.join("supervisor-ca.pem"),
            authority_key: folder.join("supervisor-ca.key"),
            certificate: folder.join("supervisor.pem"),
            key: folder.join("supervisor.key"),
        }
    }

    fn all(&self) -> [&Path; 4] {
        [&self.authority, &self.authority_key, &self.certificate, &self.key]
    }
}

/// Makes an authority and a server's certificate for `names`: all four files, or none.
///
/// # Errors
/// One of the files is there already, a name is none, or the files cannot be written.
pub fn first(files: &Files, names: &[String], days: u32, host: &str) -> anyhow::Result<Made> {
    ensure_names(names)?;
    let there: Vec<String> = files
        .all()
        .iter()
        .filter(|path| path.symlink_metadata().is_ok())
        .map(|path| path.display().to_string())
        .collect();
    ensure!(
        there.is_empty(),
        "nothing is overwritten, and {} is there: --renew makes a new certificate by the authority that is there, --dir \
         names another folder",
        there.join(", ")
    );
    let mut params = CertificateParams::default();
    let until = bound(&mut params, AUTHORITY_DAYS);
    let made_at = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    params.distinguished_name = named(&format!("Warden authority of {host}, {made_at}"));
    // It signs servers, and no other authority.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let own_key = KeyPair::generate()?;
    let own_key_pem = Zeroizing::new(own_key.serialize_pem());
    let authority = params.self_signed(&own_key)?;
    let pem = authority.pem();
    let issuer = Issuer::new(params, own_key);
    let (certificate, key, valid_until) = server(&issuer, &pem, names, days)?;
    let group = group();
    let mut written = Written::default();
    written.new_file(&files.authority_key, own_key_pem.as_bytes(), 0o600, None)?;
    written.new_file(&files.key, key.as_bytes(), if group.is_some() { 0o640 } else { 0o600 }, group)?;
    written.new_file(&files.authority, pem.as_bytes(), 0o644, None)?;
    written.new_file(&files.certificate, certificate.as_bytes(), 0o644, None)?;
    written.keep();
    Ok(Made { fingerprint: Fingerprint::of(authority.der()), valid_until, authority_valid_until: until })
}

/// Makes another certificate and key by the authority that is there, in the place of the old ones.
///
/// # Errors
/// There is no authority with its key, a name is none, or the files cannot be written.
pub fn renew(files: &Files, names: &[String], days: u32) -> anyhow::Result<Made> {
    ensure_names(names)?;
    let shown = files.authority.display();
    let read = |path: &Path| {
        std::fs::read_to_string(path)
            .map(Zeroizing::new)
            .with_context(|| format!("cannot read {}: without --renew an authority is made", path.display()))
    };
    let (pem, own_key) = (read(&files.authority)?, read(&files.authority_key)?);
    let parsed = warden_certificates::parse_pem(&shown.to_string(), &pem)?;
    let authority = parsed.first().with_context(|| format!("{shown} holds no certificate"))?;
    let now = jiff::Timestamp::now().as_second();
    ensure!(authority.is_authority, "{shown} is no authority's certificate");
    ensure!(
        authority.not_after > now,
        "the authority in {shown} ran out at {}: make a new one in another folder (--dir), and enrol every node anew",
        warden_host::quantity::time(authority.not_after)
    );
    let own_key = KeyPair::from_pem(&own_key)
        .map_err(|_| anyhow::anyhow!("{} holds no private key", files.authority_key.display()))?;
    let public = rcgen::PublicKeyData::subject_public_key_info(&own_key);
    ensure!(
        Fingerprint::of(&public).to_string() == authority.key_sha256,
        "{} is not the key of {shown}",
        files.authority_key.display()
    );
    let fingerprint = authority.sha256.parse()?;
    let authority_valid_until = authority.not_after;
    let issuer = Issuer::from_ca_cert_pem(&pem, own_key)?;
    let (certificate, key, valid_until) = server(&issuer, &pem, names, days)?;
    // A Supervisor that looks between the two refuses the pair, keeps the old one, and looks again.
    replace(&files.key, key.as_bytes(), 0o640)?;
    replace(&files.certificate, certificate.as_bytes(), 0o644)?;
    Ok(Made { fingerprint, valid_until: valid_until.min(authority_valid_until), authority_valid_until })
}

/// The names of a certificate that is there, to make it anew for the same.
pub fn names_in(certificate: &Path) -> anyhow::Result<Vec<String>> {
    let shown = certificate.display().to_string();
    let text = std::fs::read_to_string(certificate).with_context(|| format!("cannot read {shown}"))?;
    let mut parsed = warden_certificates::parse_pem(&shown, &text)?;
    Ok(std::mem::take(&mut parsed.first_mut().context("it holds no certificate")?.names))
}

/// Certificate with the authority's behind it, and key, both in PEM; and when it runs out.
fn server(
    issuer: &Issuer<'_, KeyPair>,
    authority: &str,
    names: &[String],
    days: u32,
) -> anyhow::Result<(String, Zeroizing<String>, i64)> {
    let mut params = CertificateParams::new(names.to_vec())?;
    let until = bound(&mut params, days);
    params.distinguished_name = named(names.first().map_or("", String::as_str));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    // With the authority's, a node that knows its fingerprint alone meets it.
    Ok((format!("{}{authority}", certificate.pem()), Zeroizing::new(key.serialize_pem()), until))
}

fn bound(params: &mut CertificateParams, days: u32) -> i64 {
    let now = SystemTime::now();
    let until = now + days * DAY;
    params.not_before = (now - BACKDATED).into();
    params.not_after = until.into();
    let since = until.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn named(name: &str) -> rcgen::DistinguishedName {
    let mut names = rcgen::DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// Names of hosts and addresses, without a port.
fn ensure_names(names: &[String]) -> anyhow::Result<()> {
    ensure!(!names.is_empty(), "say by which names and addresses the Supervisor is called");
    ensure!(names.len() <= NAMES, "{} names; a certificate gets at most {NAMES}", names.len());
    for name in names {
        if name.parse::<IpAddr>().is_ok() {
            continue;
        }
        let label = |label: &str| {
            let inside = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            !label.is_empty() && label.len() <= 63 && label.chars().all(inside) && !label.starts_with('-')
        };
        let host = name.strip_prefix("*.").unwrap_or(name);
        let is_name = host.len() <= 253 && host.split('.').all(label);
        let is_number = host.split('.').all(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
        if !is_name || is_number {
            bail!("`{name}` is no name or address of a host; one is like warden.example.com or 10.0.0.5");
        }
    }
    Ok(())
}

fn group() -> Option<u32> {
    let is_root = nix::unistd::geteuid().is_root();
    nix::unistd::Group::from_name(GROUP).ok().flatten().filter(|_| is_root).map(|group| group.gid.as_raw())
}

/// New files, removed again unless all of them came to be.
#[derive(Default)]
struct Written(Vec<PathBuf>);

impl Written {
    fn new_file(&mut self, path: &Path, content: &[u8], mode: u32, group: Option<u32>) -> anyhow::Result<()> {
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            Ok::<_, std::io::Error>((file.write_all(content), file))
        };
        let (written, file) = write().with_context(|| format!("cannot write {}", path.display()))?;
        self.0.push(path.to_owned());
        written
            .and_then(|()| settle(&file, mode, group))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn settle(file: &File, mode: u32, group: Option<u32>) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if group.is_some() {
        fchown(file, None, group)?;
    }
    // Whatever the mask of this process.
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.sync_all()
}

/// Puts a file into the place of another, whole, with the owner and mode of that one.
fn replace(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let mut written = Written::default();
    let beside = path.with_extension(format!("{}.partial", std::process::id()));
    let (mode, owner) = match std::fs::metadata(path) {
        Ok(old) => (old.permissions().mode() & 0o7777, Some((old.uid(), old.gid()))),
        Err(_) => (mode, group().map(|group| (0, group))),
    };
    let mode = if owner.is_none() { mode & 0o604 } else { mode };
    written.new_file(&beside, content, mode, None)?;
    if let Some((user, group)) = owner {
        std::os::unix::fs::chown(&beside, Some(user), Some(group))
            .with_context(|| format!("cannot give {} away", beside.display()))?;
    }
    std::fs::rename(&beside, path).with_context(|| format!("cannot write {}", path.display()))?;
    written.keep();
    Ok(())
}
