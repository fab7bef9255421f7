//! Backup and restore of the state that SQLite keeps.
//!
//! A backup is one file of SQLite: a copy of all tables as they were at one moment. It holds hashes of credentials, keys
//! and tokens, not those themselves. Not in it: configuration, certificates, and the archives of snapshots.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde_json::json;

use super::FIRST_TENANT;
use super::settings::{Database, ObjectStore, Settings};
use super::store::audit::{self, Actor, Entry};
use super::store::beside::{self, Content};
use super::store::open::{self, FILE};

/// What SQLite keeps beside its file while it is open.
const BESIDE: [&str; 2] = ["-wal", "-shm"];
/// What a store is called that a restore has put aside.
const REPLACED: &str = "warden.sqlite.replaced";

/// A backup that was written, or restored.
#[derive(Debug)]
pub struct Backup {
    pub content: Content,
    /// Bytes of the file.
    pub bytes: u64,
    /// Archives of snapshots that are not in the folder of the configuration; none where they are in S3.
    pub archives_missing: Option<usize>,
    /// Where the store is that was here before.
    pub put_aside: Option<PathBuf>,
}

/// Writes the state of a Supervisor, which may be running, into `file`: readable by its owner alone, whole or not at
/// all. `replace`: also where there is a file already.
pub async fn write(settings: &Settings, file: &Path, replace: bool, now: i64) -> anyhow::Result<Backup> {
    let directory = sqlite(settings, "back it up")?;
    ensure!(replace || !exists(file)?, "{} is there already; --replace overwrites it", file.display());
    let partial = Partial::beside(file)?;
    let content = beside::copy(directory, &partial.path, now).await?;
    let bytes = partial.name(file, replace)?;
    Ok(Backup { archives_missing: missing(settings, &content), content, bytes, put_aside: None })
}

/// Makes the state in `file` that of the Supervisor, which must not be running. `replace`: also where there is a state
/// already, which is put aside.
pub async fn restore(settings: &Settings, file: &Path, replace: bool, now: i64) -> anyhow::Result<Backup> {
    let directory = sqlite(settings, "restore it")?;
    let shown = file.display();
    let mut backup = File::open(file).with_context(|| format!("cannot read {shown}"))?;
    let made = !directory.exists();
    let _lock = open::claim(directory).context("stop the Supervisor before its state is replaced")?;
    let store = directory.join(FILE);
    let is_there = exists(&store)?;
    ensure!(
        replace || !is_there,
        "there is a state already in {}; --replace puts it aside and takes that of {shown}",
        directory.display()
    );
    let partial = Partial::beside(&store)?;
    let mut copy = OpenOptions::new().write(true).open(&partial.path)?;
    io::copy(&mut backup, &mut copy).with_context(|| format!("cannot copy {shown}"))?;
    let content = beside::revive(&partial.path, async |store, content| {
        let mut change = store.change().await?;
        audit::record(&mut change, entry(content), now).await?;
        change.commit().await
    });
    let content = content.await.with_context(|| format!("{shown} cannot be restored"))?;
    let put_aside = put_aside(directory)?;
    let bytes = partial.name(&store, false)?;
    if !made {
        give_to_owner_of(directory)?;
    }
    Ok(Backup { archives_missing: missing(settings, &content), content, bytes, put_aside })
}

/// The directory of SQLite.
///
/// # Errors
/// The state is in PostgreSQL, which has tools of its own.
fn sqlite<'a>(settings: &'a Settings, what: &str) -> anyhow::Result<&'a Path> {
    match &settings.database {
        Database::Sqlite { directory } => Ok(directory),
        Database::Postgres { .. } => bail!(
            "the state is in PostgreSQL: {what} with its own tools. While Supervisors run: pg_dump --format=custom \
             --file=FILE \"$WARDEN_DATABASE_URL\". To restore, stop every Supervisor, then: pg_restore --clean \
             --if-exists --dbname=\"$WARDEN_DATABASE_URL\" FILE"
        ),
    }
}

fn missing(settings: &Settings, content: &Content) -> Option<usize> {
    let ObjectStore::Folder(folder) = &settings.objects else { return None };
    Some(content.archives.iter().filter(|archive| !folder.join(archive.path()).exists()).count())
}

fn exists(path: &Path) -> anyhow::Result<bool> {
    path.try_exists().with_context(|| format!("cannot look for {}", path.display()))
}

/// Names the store that is there otherwise, with what SQLite keeps beside it: a log that stayed would be taken for that
/// of the new store. One that was put aside before goes. None when there was no store.
fn put_aside(directory: &Path) -> anyhow::Result<Option<PathBuf>> {
    let (from, to) = (directory.join(FILE), directory.join(REPLACED));
    let mut was_there = false;
    for ending in BESIDE.iter().copied().chain([""]) {
        let [from, to] = [&from, &to].map(|path| PathBuf::from(format!("{}{ending}", path.display())));
        if let Err(error) = std::fs::remove_file(&to)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error).with_context(|| format!("cannot remove {}", to.display()));
        }
        match std::fs::rename(&from, &to) {
            Ok(()) => was_there = true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => was_there = false,
            Err(error) => return Err(error).with_context(|| format!("cannot put {} aside", from.display())),
        }
    }
    Ok(was_there.then_some(to))
}

/// The files belong to whoever owns the directory, also when root has made them.
fn give_to_owner_of(directory: &Path) -> anyhow::Result<()> {
    let owner = std::fs::metadata(directory)?;
    for name in [FILE, "lock"] {
        let path = directory.join(name);
        if std::fs::metadata(&path)?.uid() != owner.uid() {
            std::os::unix::fs::chown(&path, Some(owner.uid()), Some(owner.gid()))
                .with_context(|| format!("cannot give {} to the owner of its directory", path.display()))?;
        }
    }
    Ok(())
}

fn entry(content: &Content) -> Entry {
    let copied_at = content.copied_at.and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    Entry {
        tenant_id: FIRST_TENANT,
        actor: Actor::Supervisor,
        address: None,
        request: None,
        action: "supervisor.restore".to_owned(),
        deployment_id: None,
        resource_type: "Supervisor".to_owned(),
        resource_id: None,
        detail: json!({ "backup_of": copied_at.map(|at| at.to_string()) }),
    }
}

/// A file that is not whole yet, and is removed if it never is.
struct Partial {
    path: PathBuf,
    named: bool,
}

impl Partial {
    fn beside(file: &Path) -> anyhow::Result<Partial> {
        let name = file.file_name().with_context(|| format!("{} is no file", file.display()))?;
        let name = format!(".{}.{}.partial", name.to_string_lossy(), std::process::id());
        let path = folder(file).join(name);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("cannot write to {}", folder(file).display()))?;
        Ok(Partial { path, named: false })
    }

    /// Gives it its name, and says how large it is.
    fn name(mut self, file: &Path, replace: bool) -> anyhow::Result<u64> {
        let written = File::open(&self.path)?;
        written.sync_all().with_context(|| format!("cannot write {}", self.path.display()))?;
        let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        match renameat_with(CWD, &self.path, CWD, file, flags) {
            // A filesystem that does not know the flag: it was looked for before.
            Err(Errno::INVAL | Errno::NOSYS) => std::fs::rename(&self.path, file)?,
            Err(Errno::EXIST) => bail!("{} is there already; --replace overwrites it", file.display()),
            renamed => renamed.with_context(|| format!("cannot write {}", file.display()))?,
        }
        self.named = true;
        // What was renamed and not synced is lost by a power cut.
        File::open(folder(file)).and_then(|folder| folder.sync_all())?;
        Ok(written.metadata()?.len())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.named {
            for ending in ["", "-journal", "-wal", "-shm"] {
                let _ = std::fs::remove_file(format!("{}{ending}", self.path.display()));
            }
        }
    }
}

fn folder(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
