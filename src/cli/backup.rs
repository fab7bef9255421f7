//! `warden supervisor backup`, `restore` and `rotate-admin-key`: what an operator does on the Supervisor's own host.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use jiff::Timestamp;
use serde_json::{Value, json};
use warden_host::quantity;

use super::output_file;
use super::supervisor::{clock, database_url};
use super::terminal::harmless;
use crate::config::fragments::{self, Fragments};
use crate::supervisor::settings::{Database, ObjectStore, Overrides, Settings};
use crate::supervisor::store::Store;
use crate::supervisor::{administrator, backup};

/// Write the state of the Supervisor into a file, while it runs
///
/// The file holds deployments, nodes, keys, activities, the list of snapshots and the audit log, as they are at one
/// moment; of credentials, keys and tokens only hashes. It is readable by you alone. Not in it, and listed when it is
/// done: the configuration, certificate and key, and the archives of snapshots.
///
/// Where the state is in PostgreSQL, pg_dump does this.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Run it as root or as the user warden-supervisor. The Supervisor goes on meanwhile.

  warden supervisor backup /var/backups/warden.sqlite --replace

Exit status: 0 when the file is written and on disk, 2 when not.")]
pub struct Backup {
    /// File to write
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Overwrite the file where it is there already
    #[arg(long)]
    replace: bool,

    /// Print what was written as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    place: Place,
}

/// Restore the state of the Supervisor of this host, which must be stopped
///
/// The nodes come back by themselves once the Supervisor runs at the address they know, with a certificate they
/// believe. Nodes that were enrolled since the backup must be enrolled again. Nodes and keys that were removed since
/// are valid again: remove them again. Archives of snapshots taken since are removed at the next start.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
On a fresh host: install the package, copy the configuration, certificate and key, and the folder of archives, then

  warden supervisor restore /var/backups/warden.sqlite
  systemctl enable --now warden-supervisor

Exit status: 0 when the state is in place, 2 when nothing was changed.")]
pub struct Restore {
    /// File that `warden supervisor backup` wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Put a state that is there already aside, as warden.sqlite.replaced
    #[arg(long)]
    replace: bool,

    /// Print what was restored as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    place: Place,
}

/// Make a new administrator's key, and remove the old ones
///
/// Takes effect at once, on a Supervisor that runs, too. Removed are the keys that were made at the first start or by
/// this command; keys that were made by `warden ctl keys create --administrator` stay.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
  warden supervisor rotate-admin-key --into /var/lib/warden-supervisor/administrator.key

Exit status: 0 when the new key is valid, 2 when the old ones still are.")]
pub struct Rotate {
    /// Write the key to this file, readable by you alone, instead of showing it
    #[arg(long, value_name = "FILE")]
    into: Option<PathBuf>,

    /// Leave the old keys valid, to be removed later with `warden ctl keys delete`
    #[arg(long)]
    keep_old: bool,

    #[command(flatten)]
    place: Place,
}

/// Where the Supervisor keeps its state.
#[derive(Debug, clap::Args)]
#[group(skip)]
struct Place {
    /// Folder of warden.toml
    #[arg(long, value_name = "FOLDER", default_value = fragments::FOLDER)]
    config: PathBuf,

    /// Where SQLite is [default: as configured, else /var/lib/warden-supervisor]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// File with the URL of PostgreSQL, in place of WARDEN_DATABASE_URL
    #[arg(long, value_name = "FILE")]
    database_url_file: Option<PathBuf>,
}

impl Place {
    fn settings(&self) -> anyhow::Result<Settings> {
        let overrides = Overrides {
            data_directory: self.data_dir.clone(),
            database_url: database_url(self.database_url_file.as_deref())?,
            ..Overrides::default()
        };
        Ok(Settings::read(Fragments::read(&self.config), overrides)?)
    }
}

pub fn write(arguments: &Backup) -> anyhow::Result<u8> {
    let settings = arguments.place.settings()?;
    let done = backup::write(&settings, &arguments.file, arguments.replace, clock()());
    let done = wait(done)?;
    let told = told(&done, &arguments.file);
    tell(arguments.json, &told, || {
        let mut text = format!("{}: {}\n", shown(&arguments.file), summary(&done));
        text += "\nNot in it; keep a copy of each:\n";
        for (path, what) in beside(&settings, &arguments.place.config, done.content.archives.len()) {
            text += &format!("  {path}\n      {what}\n");
        }
        text
    })
}

pub fn restore(arguments: &Restore) -> anyhow::Result<u8> {
    let settings = arguments.place.settings()?;
    let done = backup::restore(&settings, &arguments.file, arguments.replace, clock()());
    let done = wait(done)?;
    let told = told(&done, &arguments.file);
    tell(arguments.json, &told, || {
        let mut text = format!("restored from {}: {}\n", shown(&arguments.file), summary(&done));
        if let Some(path) = &done.put_aside {
            text += &format!("the state that was here is now {}\n", shown(path));
        }
        if let (Some(missing @ 1..), ObjectStore::Folder(folder)) = (done.archives_missing, &settings.objects)
        {
            let archives = quantity::count(missing as u64, "archive is", "archives are");
            text += &format!(
                "{archives} not in {}: copy that folder from the old host before the Supervisor starts\n",
                shown(folder)
            );
        }
        text += "keys and nodes removed since the backup are valid again: remove them again\n";
        text += "the administrator's key is the one of the backup; where it is lost: warden supervisor rotate-admin-key\n";
        text + "start the Supervisor: systemctl enable --now warden-supervisor\n"
    })
}

pub fn rotate(arguments: &Rotate) -> anyhow::Result<u8> {
    let settings = arguments.place.settings()?;
    wait(async {
        let (store, now) = (Store::beside(&settings.database).await?, clock()());
        let (id, key) = administrator::new_key(&store, now).await?;
        // The old ones are good until the new one is in safe hands.
        match &arguments.into {
            Some(path) => {
                let line = format!("{}\n", key.expose());
                output_file::write_for(path, line.as_bytes(), "--into")
                    .context("the old keys are still valid")?;
                writeln!(std::io::stdout(), "written to {}", shown(path))?;
            }
            None => writeln!(std::io::stdout(), "{}", key.expose())?,
        }
        let others = if arguments.keep_old {
            "the old ones are valid until you remove them".to_owned()
        } else {
            let retired = administrator::retire_keys(&store, id, now).await?;
            format!("{} removed", quantity::count(retired.len() as u64, "old key", "old keys"))
        };
        store.close().await;
        writeln!(std::io::stderr(), "key {id} is valid; {others}")?;
        Ok(0)
    })
}

fn wait<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

fn tell(json: bool, told: &Value, text: impl FnOnce() -> String) -> anyhow::Result<u8> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, told)?;
        writeln!(out)?;
    } else {
        out.write_all(text().as_bytes())?;
    }
    Ok(0)
}

fn told(done: &backup::Backup, file: &Path) -> Value {
    let content = &done.content;
    json!({
        "path": file, "bytes": done.bytes, "as_of": as_of(done).map(|at| at.to_string()),
        "deployments": content.deployments, "nodes": content.nodes, "keys": content.keys,
        "archives": content.archives.len(), "archives_missing": done.archives_missing,
        "put_aside": done.put_aside,
    })
}

fn as_of(done: &backup::Backup) -> Option<Timestamp> {
    done.content.copied_at.and_then(|at| Timestamp::from_millisecond(at).ok())
}

fn summary(done: &backup::Backup) -> String {
    let content = &done.content;
    let as_of = as_of(done).map(|at| quantity::time(at.as_second())).unwrap_or_default();
    format!(
        "{}, {}, {}; {}, as of {as_of}",
        quantity::count(content.deployments, "deployment", "deployments"),
        quantity::count(content.nodes, "node", "nodes"),
        quantity::count(content.keys, "key", "keys"),
        quantity::bytes(done.bytes)
    )
}

/// What a Supervisor needs besides, and what for.
fn beside(settings: &Settings, config: &Path, archives: usize) -> Vec<(String, String)> {
    let mut list = vec![(shown(config), "configuration, and the files of secrets that it names".to_owned())];
    if let Some(tls) = &settings.tls {
        list.push((
            shown(&tls.certificate),
            "certificate: nodes believe this, or another of its CA".to_owned(),
        ));
        list.push((shown(&tls.key), "its private key".to_owned()));
    }
    if let Database::Sqlite { directory } = &settings.database {
        let key = directory.join("administrator.key");
        list.push((
            shown(&key),
            "the administrator's key, where it is kept there; the backup has its hash".to_owned(),
        ));
    }
    let archives = quantity::count(archives as u64, "archive", "archives");
    list.push(match &settings.objects {
        ObjectStore::Folder(folder) => (shown(folder), format!("{archives} of snapshots")),
        ObjectStore::S3(s3) => (harmless(&s3.bucket), format!("bucket with {archives} of snapshots")),
    });
    list
}

fn shown(path: &Path) -> String {
    harmless(&path.display().to_string())
}
