//! Where the agent keeps what must not be lost: whose it is, whether it can be read, and whether there is room.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, ensure};
use warden_host::quantity::bytes;
use warden_platform::doctor::{Finding, check_sqlite, fail, is_denied, is_sqlite, pass, unknown, warn};

use crate::executor::LEDGER;
use crate::{audit, identity};

/// Below this a request may not be kept, and what is not kept is not done.
const LEAST_ROOM: u64 = 64 << 20;
/// An archive that waits to be sent needs some; one with a data directory at its default budget, this.
const GOOD_ROOM: u64 = 2 << 30;

/// Whether the ledger, and what lies beside it, is the agent's and whole. Of an agent that runs the ledger is its
/// own, and is not opened: it has proven it already.
pub async fn ledger(state: &Path, runs: bool) -> Finding {
    match look(state, runs).await {
        Ok(told) => pass("ledger", told),
        Err(error) if is_denied(&error) => {
            unknown("ledger", format!("{} is for root and the agent", state.display()))
        }
        Err(error) => {
            let advice =
                "the agent's user must own it; a broken one is moved away, and what it knew is forgotten";
            fail("ledger", format!("{error:#}"), advice)
        }
    }
}

async fn look(state: &Path, runs: bool) -> anyhow::Result<String> {
    let shown = state.display();
    let whose = match std::fs::metadata(state) {
        Ok(about) => about.uid(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(format!("{shown} is made at the agent's first start"));
        }
        Err(error) => return Err(error).with_context(|| format!("cannot look at {shown}")),
    };
    let wal = format!("{LEDGER}-wal");
    let shm = format!("{LEDGER}-shm");
    let (mut written_ahead, mut size) = (0, None);
    for name in [LEDGER, wal.as_str(), shm.as_str(), audit::FILE, identity::FILE] {
        match std::fs::symlink_metadata(state.join(name)) {
            Ok(about) => {
                ensure!(
                    about.uid() == whose,
                    "{shown}/{name} belongs to user {} and the directory to user {whose}: the agent was run as another user",
                    about.uid()
                );
                if name == LEDGER {
                    size = Some(about.size());
                } else if name == wal {
                    written_ahead = about.size();
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot look at {shown}/{name}")),
        }
    }
    let Some(size) = size else {
        return Ok(format!("{shown} has none yet: it is made at the agent's first start"));
    };
    if runs {
        return Ok(format!("{}, in use", bytes(size + written_ahead)));
    }
    let ledger = state.join(LEDGER);
    is_sqlite(&ledger)?;
    if written_ahead > 0 {
        return Ok(format!(
            "{}, not closed; the agent takes it up at its next start",
            bytes(size + written_ahead)
        ));
    }
    check_sqlite(&ledger).await?;
    Ok(format!("{}, whole", bytes(size)))
}

/// Whether there is room where the agent keeps its ledger and the archives that wait.
pub fn room(state: &Path) -> Finding {
    let there = state.ancestors().find(|path| path.exists()).unwrap_or(state);
    let stats = match nix::sys::statvfs::statvfs(there) {
        Ok(stats) => stats,
        Err(error) => return fail("disk", format!("{}: {error}", there.display()), "df -h"),
    };
    let free = stats.blocks_available().saturating_mul(stats.fragment_size());
    let told = format!("{} free at {}", bytes(free), there.display());
    judge(free, told)
}

fn judge(free: u64, told: String) -> Finding {
    let advice = "make room; snapshots wait here until they are sent";
    match free {
        free if free < LEAST_ROOM => fail("disk", told, advice),
        free if free < GOOD_ROOM => warn("disk", told, advice),
        _ => pass("disk", told),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use crate::ledger::Ledger;

    async fn told(state: &Path) -> (Verdict, String) {
        let finding = ledger(state, false).await;
        (finding.verdict, finding.told.replace(&state.display().to_string(), "STATE"))
    }

    #[tokio::test]
    async fn a_ledger_is_absent_whole_left_open_or_damaged() {
        let state = tempfile::tempdir().unwrap();
        let absent = "STATE has none yet: it is made at the agent's first start";
        assert_eq!(told(state.path()).await, (Verdict::Pass, absent.into()));
        let gone = told(&state.path().join("gone")).await;
        assert_eq!(gone, (Verdict::Pass, "STATE is made at the agent's first start".into()));

        let path = state.path().join(LEDGER);
        let open = Ledger::open(&path).await.unwrap();
        let (verdict, sentence) = told(state.path()).await;
        assert!(verdict == Verdict::Pass && sentence.contains(", not closed; "), "{sentence}");
        drop(open);
        // A thread of the ledger's own closes it.
        while state.path().join("ledger.sqlite-wal").exists() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let (verdict, sentence) = told(state.path()).await;
        assert!(verdict == Verdict::Pass && sentence.ends_with(" KiB, whole"), "{sentence}");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.truncate(bytes.len() / 2);
        std::fs::write(&path, &bytes).unwrap();
        let (verdict, sentence) = told(state.path()).await;
        assert!(
            verdict == Verdict::Fail && sentence.starts_with("STATE/ledger.sqlite is damaged: "),
            "{sentence}"
        );
        std::fs::write(&path, "x".repeat(4096)).unwrap();
        assert_eq!(told(state.path()).await, (Verdict::Fail, "STATE/ledger.sqlite is no database".into()));
        let beside = std::fs::read_dir(state.path()).unwrap().flatten();
        let beside: Vec<_> =
            beside.map(|entry| entry.file_name()).filter(|name| name != "ledger.sqlite").collect();
        assert!(beside.is_empty(), "{beside:?}");
    }

    #[tokio::test]
    async fn what_another_user_left_there_is_named() {
        let state = tempfile::tempdir().unwrap();
        drop(Ledger::open(&state.path().join(LEDGER)).await.unwrap());
        std::os::unix::fs::chown(state.path(), Some(4711), None).unwrap();
        let (verdict, sentence) = told(state.path()).await;
        assert_eq!(verdict, Verdict::Fail);
        let begin = "STATE/ledger.sqlite belongs to user 0 and the directory to user 4711: ";
        assert!(sentence.starts_with(begin), "{sentence}");
    }

    #[test]
    fn little_room_is_warned_of() {
        let verdict = |free| judge(free, String::new()).verdict;
        assert_eq!([63 << 20, 1 << 30, 3 << 30].map(verdict), [Verdict::Fail, Verdict::Warn, Verdict::Pass]);
    }
}
