//! Archives of snapshots on this machine: fetched, opened in the browser, put side by side.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Stdio;

use anyhow::{Context, bail, ensure};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::context::Session;
use super::download::{self, Wanted};
use super::runtime_actions::label;
use crate::cli::output_file;
use crate::cli::terminal::{Style, harmless};
use crate::snapshot::diff::Side;
use crate::snapshot::fleet::{self, Fleet, Gathering};

/// The page that a browser opens; what is larger is no report.
const PAGE_BYTES: u64 = 64 << 20;
/// Archives that are fetched at once: a few fill a line that one does not, and the Supervisor has nodes to serve.
const AT_ONCE: usize = 4;
/// MiB of them together on this disk; a larger one comes alone.
const MIB_AT_ONCE: u32 = 1024;

/// The snapshots of a run, one a node.
///
/// # Errors
/// There is no such run, or it cannot be asked for.
pub async fn of_run(session: &Session, deployment: &str, run: u64) -> anyhow::Result<Vec<Value>> {
    let query = [("run_id", run.to_string())];
    Ok(session.all(&["deployments", deployment, "snapshots"], &query).await?.items)
}

/// Fetches the archive of a snapshot and holds it against its SHA-256.
///
/// # Errors
/// There is none, or what came is not what was told.
pub async fn fetch(session: &Session, deployment: &str, snapshot: &Value, to: &Path) -> anyhow::Result<()> {
    let (id, status) = (&snapshot["id"], snapshot["status"].as_str().unwrap_or_default());
    ensure!(status == "completed", "snapshot {id} is {}: there is no archive of it", harmless(status));
    let (Some(size), Some(sha256)) = (snapshot["size"].as_u64(), snapshot["sha256"].as_str()) else {
        bail!("the Supervisor does not tell the size and SHA-256 of snapshot {id}");
    };
    let path = ["deployments", deployment, "snapshots", &id.to_string(), "download"];
    let address = || async {
        let answer = session.client.get(&path, &[]).await?;
        answer["url"].as_str().map(str::to_owned).context("the Supervisor names no address")
    };
    download::fetch(session, &Wanted { size, sha256, to }, address).await
}

/// `snapshot-20260601-103000-610809900976570889.zip`.
pub fn file_name(snapshot: &Value) -> String {
    format!("{}-{}.zip", run_name(snapshot), snapshot["node_id"].as_u64().unwrap_or(0))
}

/// `snapshot-20260601-103000-fleet.html`.
pub fn page_name(snapshot: &Value) -> String {
    format!("{}-fleet.html", run_name(snapshot))
}

/// Made of the Supervisor's answer, so held to what a name may be.
fn run_name(snapshot: &Value) -> String {
    let name = snapshot["name"].as_str().unwrap_or("snapshot");
    name.chars().filter(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_')).collect()
}

/// Puts the nodes of a run side by side. A few archives at a time are fetched; each is read and removed again, in the
/// order of the run, whichever came first. A node without one is missing, with the reason.
///
/// # Errors
/// No archive could be read, or the run is of more nodes than a page holds.
pub async fn side_by_side(session: &Session, deployment: &str, run: &[Value]) -> anyhow::Result<Fleet> {
    let nodes = session.all(&["deployments", deployment, "nodes"], &[]).await?.items;
    let folder = folder_of_ours()?;
    let room = Semaphore::new(MIB_AT_ONCE as usize);
    let fetched = stream::iter(run)
        // In the order of the run: none waits for the room of one that comes after it.
        .then(|snapshot| {
            let held = room.acquire_many(mebibytes(snapshot));
            async move { held.await.map(|held| (snapshot, held)) }
        })
        .map(|held| async {
            let (snapshot, held) = held?;
            let archive = Archive { path: folder.join(file_name(snapshot)), _room: held };
            let came = fetch(session, deployment, snapshot, &archive.path).await;
            anyhow::Ok((snapshot, archive, came))
        })
        .buffered(AT_ONCE);
    let mut fetched = pin!(fetched);
    let mut gathering = Gathering::new();
    while let Some(next) = fetched.next().await {
        let (snapshot, archive, came) = next?;
        let read = came.and_then(|()| Side::open(&archive.path));
        drop(archive);
        match read {
            Ok(side) => gathering.add(&file_name(snapshot), &side)?,
            Err(error) => {
                let why =
                    snapshot["reason"]["reason"].as_str().map_or_else(|| format!("{error:#}"), str::to_owned);
                gathering.miss(&label(&snapshot["node_id"], &nodes), &why)?;
            }
        }
    }
    let any = gathering.read() > 0;
    let fleet = gathering.finish();
    let why = || fleet.missing.first().map(|missing| missing.why.clone()).unwrap_or_default();
    ensure!(any, "no snapshot of this run can be read; of the first: {}", why());
    Ok(fleet)
}

/// The room that an archive takes, of that for all.
fn mebibytes(snapshot: &Value) -> u32 {
    let wanted = snapshot["size"].as_u64().unwrap_or(0).div_ceil(1 << 20);
    u32::try_from(wanted).unwrap_or(MIB_AT_ONCE).min(MIB_AT_ONCE)
}

/// A file that is only looked at, and the room that it takes.
struct Archive<'a> {
    path: PathBuf,
    _room: SemaphorePermit<'a>,
}

impl Drop for Archive<'_> {
    fn drop(&mut self) {
        // One that was not fetched is not there.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Fetches a snapshot, or all of a run, and opens the report, or the page of the fleet, in the browser.
///
/// # Errors
/// There is no such snapshot or run, or its archives cannot be read.
pub async fn open(session: &Session, deployment: &str, id: u64, print: bool) -> anyhow::Result<u8> {
    let mut run = of_run(session, deployment, id).await?;
    let page = if run.len() > 1 {
        let page = folder_of_ours()?.join(page_name(&run[0]));
        let fleet = side_by_side(session, deployment, &run).await?;
        output_file::write_for(&page, fleet::page(&fleet)?.as_bytes(), "TMPDIR")?;
        page
    } else {
        let path = ["deployments", deployment, "snapshots", &id.to_string()];
        let snapshot = match run.pop() {
            Some(only) => only,
            None => session.client.get(&path, &[]).await?,
        };
        report(session, deployment, &snapshot).await?
    };
    if !print {
        let opened = std::process::Command::new("xdg-open")
            .arg(&page)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        if opened.is_err() {
            session.screen.say("there is no xdg-open here; open the file yourself");
        }
    }
    let shown = page.display().to_string();
    session
        .print(&json!({ "path": shown }), || session.look.paint.paint(Style::Bold, &harmless(&shown)) + "\n")
}

/// The report of one snapshot, beside its archive.
async fn report(session: &Session, deployment: &str, snapshot: &Value) -> anyhow::Result<PathBuf> {
    let archive = folder_of_ours()?.join(file_name(snapshot));
    fetch(session, deployment, snapshot, &archive).await?;
    let file = std::fs::File::open(&archive)?;
    let mut zip = zip::ZipArchive::new(file).context("the archive is damaged")?;
    let report = zip.by_name("report.html").context("there is no report in the archive")?;
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(report, PAGE_BYTES), &mut text)?;
    let page = archive.with_extension("html");
    output_file::write_for(&page, &text, "TMPDIR")?;
    Ok(page)
}

/// A folder for what is only looked at, which nobody else can look into.
fn folder_of_ours() -> anyhow::Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("warden-{}", nix::unistd::getuid()));
    std::os::unix::fs::DirBuilderExt::mode(std::fs::DirBuilder::new().recursive(true), 0o700)
        .create(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let metadata = std::fs::symlink_metadata(&folder)?;
    let ours = std::os::unix::fs::MetadataExt::uid(&metadata) == nix::unistd::getuid().as_raw();
    ensure!(metadata.is_dir() && ours, "{} is somebody else's", folder.display());
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_takes_the_room_of_its_size_and_a_large_one_all_of_it() {
        let room = |size: Value| mebibytes(&json!({ "size": size }));
        assert_eq!([room(Value::Null), room(json!(1)), room(json!(3 << 20))], [0, 1, 3]);
        assert_eq!([room(json!(5_u64 << 30)), room(json!(u64::MAX))], [MIB_AT_ONCE; 2]);
    }

    #[test]
    fn a_file_name_is_never_a_path() {
        let hostile = json!({ "name": "../../etc/passwd\u{1b}[2J", "node_id": 7 });
        assert_eq!(file_name(&hostile), "etcpasswd2J-7.zip");
        assert_eq!(page_name(&hostile), "etcpasswd2J-fleet.html");
        let usual = json!({ "name": "snapshot-20260601-103000", "node_id": 610809900976570889u64 });
        assert_eq!(file_name(&usual), "snapshot-20260601-103000-610809900976570889.zip");
    }
}
