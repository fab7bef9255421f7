//! `iggy.zip`: the data directory as an archive that every system opens, in bounded time, memory and space.

mod budget;
mod deflate;
mod file_kind;
mod file_list;
mod inventory;
pub mod portable_names;
mod redact_file;
mod secret_prescan;
mod workers;
mod writer;
pub(crate) mod zip_writer;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, anyhow, ensure};
use file_kind::Content;
pub use file_list::Reason;
use file_list::Tree;
pub use inventory::{Inventory, LeftOut, MEMBER as INVENTORY, Tally};
pub use redact_file::Mask;
pub use secret_prescan::Learned;
use warden_platform::background_io;
use warden_platform::user_view::Directory;
use writer::Writer;

/// Taken by default at most, before packing: what is still sent and opened with ease.
pub const BUDGET: u64 = 2 << 30;
/// Left free on the filesystem that the archive is written to, or a twentieth of it if that is more.
const KEPT_FREE: u64 = 1 << 30;
const KEPT_FREE_SHARE: u64 = 20;

/// Room without which it is not worth beginning.
pub const LEAST_ROOM: u64 = 64 << 20;

/// What may be taken at all.
#[derive(Clone, Copy, Debug)]
pub struct Taking {
    /// Messages, which are taken as they are.
    pub messages: bool,
    /// Credentials too, and everything as it is: only the host's own policy may say so.
    pub credentials: bool,
}

impl Default for Taking {
    fn default() -> Taking {
        Taking { messages: true, credentials: false }
    }
}

/// Counts what the data directory was asked for and gave, for whoever watches whether it answers at all: a dead mount
/// holds the thread that asks.
#[derive(Clone, Debug, Default)]
pub struct Signs(Arc<AtomicU64>);

impl Signs {
    /// It has answered.
    pub fn give(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn given(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What would be taken of a data directory, and what not.
pub struct Plan {
    tree: Tree,
    at: i64,
    taking: Taking,
    signs: Signs,
}

impl Plan {
    /// Looks at everything below `root` and chooses what `budget` bytes have room for. `at` is the time that the
    /// archive says it was made, in Unix seconds.
    pub fn new(root: Directory, budget: u64, at: i64, taking: Taking, signs: &Signs) -> anyhow::Result<Plan> {
        let mut tree = Tree::walk(root, signs).context("the data directory cannot be listed")?;
        for entry in &mut tree.entries {
            // An empty file gives nothing away, and that it is empty tells the generation of the data.
            let may_stay = entry.size > 0 && entry.left_out.is_none();
            if may_stay && entry.content == Content::Secret && !taking.credentials {
                entry.left_out = Some(Reason::Secret);
            }
            if may_stay && entry.content == Content::Segment && !taking.messages {
                entry.left_out = Some(Reason::Anonymous);
            }
        }
        budget::choose(&mut tree, budget);
        Ok(Plan { tree, at, taking, signs: signs.clone() })
    }

    /// Files and their bytes that would be taken, and those that would stay behind.
    pub fn tallies(&self) -> (Tally, Tally) {
        let tally = |left_out: bool| {
            let entries = self.tree.entries.iter();
            let those =
                entries.filter(|entry| entry.left_out.is_some() == left_out && !entry.is_empty_folder);
            those.fold(Tally::default(), |tally, entry| tally.and(entry.size))
        };
        (tally(false), tally(true))
    }

    /// Bytes that the archive may take at most.
    pub fn worst(&self) -> u64 {
        let taken = self.tree.entries.iter().filter(|entry| entry.left_out.is_none());
        taken.map(budget::worst).sum()
    }
}

/// Writes the archive front to back. `room` says how many bytes may still be written (asked now and then, `None` when
/// it cannot tell); when they run out, the archive ends there, whole and readable, and names what is missing.
/// `observe` is told how many bytes have been read.
pub fn write<W: Write + Send>(
    learned: Learned,
    out: W,
    mask: Mask<'_>,
    room: &mut (dyn FnMut() -> Option<u64> + Send),
    observe: &mut (dyn FnMut(u64) + Send),
) -> anyhow::Result<(Inventory, W)> {
    let Learned { plan, secrets, .. } = learned;
    let root = plan.tree.root.try_clone().context("cannot open the data directory a second time")?;
    let signs = plan.signs.clone();
    let mut told = |bytes: u64| {
        signs.give();
        observe(bytes);
    };
    let observe: &mut (dyn FnMut(u64) + Send) = &mut told;
    // A thread of its own, so that the caller's keeps its place at the disk and the cores.
    std::thread::scope(|scope| {
        let work = || {
            background_io::step_back();
            std::thread::scope(|scope| {
                let crew = workers::Crew::start(scope, &root, mask).context("cannot start threads")?;
                let mut writer = Writer::new(plan, out, crew, mask, room, observe);
                writer.write()?;
                ensure!(
                    mask.redactor.receipt().values == secrets,
                    "a secret appeared in a log while it was being packed: nothing was written; do it again"
                );
                writer.finish()
            })
        };
        let joined = std::thread::Builder::new().name("archive".to_owned()).spawn_scoped(scope, work);
        joined.context("cannot start a thread")?.join().map_err(|_| anyhow!("a defect while packing"))?
    })
}

/// Whether a member of this name is one that is taken as it is, because it holds messages.
pub fn holds_messages(name: &str) -> bool {
    let parts: Vec<&[u8]> = name.split('/').map(str::as_bytes).collect();
    file_kind::content(&parts) == Content::Segment
}

/// Bytes that may be written to the filesystem of `folder` without filling it; `None` if it cannot tell.
pub fn room(folder: &Path) -> Option<u64> {
    let stats = nix::sys::statvfs::statvfs(folder).ok()?;
    let unit = stats.fragment_size();
    let kept = KEPT_FREE.max(stats.blocks().saturating_mul(unit) / KEPT_FREE_SHARE);
    Some(stats.blocks_available().saturating_mul(unit).saturating_sub(kept))
}
