//! A recorded host with a few of its answers changed: a host on which one thing is different.

use std::path::{Path, PathBuf};

use serde_json::Value;
use warden::snapshot::report::CheckReport;

use crate::hosts::replay;

/// A copy of a recorded host below `tests/hosts`, deleted when dropped.
pub struct ChangedHost {
    directory: tempfile::TempDir,
}

impl ChangedHost {
    /// Copies the recorded host `base`.
    pub fn of(base: &str) -> ChangedHost {
        let directory = tempfile::tempdir().unwrap();
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts").join(base);
        copy(&base, directory.path());
        ChangedHost { directory }
    }

    /// Replaces or adds the file at `path`, absolute on the host.
    pub fn file(self, path: &str, text: impl AsRef<[u8]>) -> ChangedHost {
        self.write(path.trim_start_matches('/'), text.as_ref());
        self
    }

    /// Replaces or adds a recorded answer: `path` is relative to `.host`, such as `command/nft-ruleset.json`.
    pub fn answer(self, path: &str, answer: &Value) -> ChangedHost {
        self.write(&format!(".host/{path}"), &serde_json::to_vec(answer).unwrap());
        self
    }

    /// Edits a recorded answer in place.
    pub fn edit(self, path: &str, change: impl FnOnce(&mut Value)) -> ChangedHost {
        let file = self.path().join(".host").join(path);
        let mut answer = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        change(&mut answer);
        self.answer(path, &answer)
    }

    /// Removes a file or directory of the recording; `path` is relative to it.
    pub fn without(self, path: &str) -> ChangedHost {
        let path = self.path().join(path);
        if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
        self
    }

    /// Returns what the report says of the check `id` on this host.
    pub fn judge(&self, id: &str) -> CheckReport {
        let checks = replay(&self.path()).report.checks;
        checks.into_iter().find(|check| check.id == id).unwrap()
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
