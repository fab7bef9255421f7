//! What is taken when not all may be: metadata and indexes first, then logs, then the newest segments.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::file_kind::Content;
use super::file_list::{Entry, Reason, Tree};

/// Share of the budget that logs take before segments do; what is left over goes to older logs again.
const LOGS_SHARE: u64 = 4;
/// A hole packs to a thousandth, and still is written (deflate's limit is 1032 to 1).
const HOLE_SHARE: u64 = 1000;
/// Headers of a member and its line in the list.
const OVERHEAD: u64 = 256;

/// Marks every entry beyond `budget` bytes as left out. Counted is what a file may take in the archive at worst: its
/// bytes as they are, and little for holes.
pub fn choose(tree: &mut Tree, budget: u64) {
    let mut left = budget;
    let mut later = Vec::new();
    let classes: [&[Content]; 4] = [
        &[Content::Metadata, Content::Configuration, Content::Secret],
        &[Content::Index],
        &[Content::Other],
        &[Content::Segment],
    ];
    for class in &classes[..2] {
        take(tree, class, &mut left, &mut later);
    }
    let mut logs = (budget / LOGS_SHARE).min(left);
    left -= logs;
    take(tree, &[Content::Log], &mut logs, &mut later);
    left += logs;
    take(tree, classes[2], &mut left, &mut later);
    take(tree, classes[3], &mut left, &mut Vec::new());
    for index in later {
        let worst = worst(&tree.entries[index]);
        if let Some(rest) = left.checked_sub(worst) {
            left = rest;
            tree.entries[index].left_out = None;
        }
    }
}

/// Bytes that an entry may take in the archive.
pub fn worst(entry: &Entry) -> u64 {
    let holes = entry.size - entry.allocated.min(entry.size);
    entry.allocated.saturating_add(holes / HOLE_SHARE).saturating_add(OVERHEAD)
}

/// Takes the newest first. In a folder of segments no gap is left: behind one that has no room, no older one is taken.
fn take(tree: &mut Tree, contents: &[Content], left: &mut u64, later: &mut Vec<usize>) {
    let of_class = |entry: &Entry| contents.contains(&entry.content) && entry.left_out.is_none();
    let mut wanted: Vec<u32> =
        (0..tree.entries.len() as u32).filter(|&index| of_class(&tree.entries[index as usize])).collect();
    // Later names are newer where the clock does not tell.
    wanted.sort_by_key(|&index| Reverse((tree.entries[index as usize].modified, index)));
    let mut ended = BTreeSet::new();
    for index in wanted {
        let entry = &tree.entries[index as usize];
        let folder = tree.folder_of(entry);
        let has_gap = entry.content == Content::Segment && ended.contains(&folder);
        match left.checked_sub(worst(entry)) {
            Some(rest) if !has_gap => *left = rest,
            Some(_) | None => {
                ended.insert(folder);
                tree.entries[index as usize].left_out = Some(Reason::Budget);
                later.push(index as usize);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use warden_platform::user_view::Directory;

    use super::*;
    use crate::archive::Signs;

    fn tree(files: &[(&str, usize, u64)]) -> (tempfile::TempDir, Tree) {
        let folder = tempfile::tempdir().unwrap();
        for (path, size, modified) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, vec![b'x'; *size]).unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_secs(*modified)).unwrap();
        }
        let tree = Tree::walk(Directory::open(folder.path()).unwrap(), &Signs::default()).unwrap();
        (folder, tree)
    }

    fn taken(tree: &Tree) -> Vec<String> {
        let taken = tree.entries.iter().filter(|entry| entry.left_out.is_none());
        taken.map(|entry| tree.label(entry).rsplit("partitions/").next().unwrap().to_owned()).collect()
    }

    const PARTITIONS: &str = "streams/0/topics/0/partitions";

    #[test]
    fn indexes_come_before_segments_and_newer_segments_before_older() {
        let path = |name: &str| format!("{PARTITIONS}/{name}");
        let names = ["0/00000000000000000000", "0/00000000000000000100", "1/00000000000000000000"];
        let logs: Vec<String> = names.iter().map(|name| path(&format!("{name}.log"))).collect();
        let indexes: Vec<String> = names.iter().map(|name| path(&format!("{name}.index"))).collect();
        let files: Vec<(&str, usize, u64)> = (0..3)
            .flat_map(|number| {
                let at = 1000 + number as u64;
                [(logs[number].as_str(), 40_000, at), (indexes[number].as_str(), 4000, at)]
            })
            .collect();
        let (_folder, mut tree) = tree(&files);
        choose(&mut tree, 100_000);
        assert_eq!(
            taken(&tree),
            [
                "0/00000000000000000000.index",
                "0/00000000000000000100.index",
                "0/00000000000000000100.log",
                "1/00000000000000000000.index",
                "1/00000000000000000000.log",
            ]
        );
    }

    #[test]
    fn no_gap_is_left_in_a_partition() {
        let path = |name: &str| format!("{PARTITIONS}/0/{name}.log");
        let (small, large, newest) =
            (path("00000000000000000000"), path("00000000000000000100"), path("00000000000000000200"));
        let (_folder, mut tree) = tree(&[(&small, 1000, 1), (&large, 90_000, 2), (&newest, 9000, 3)]);
        choose(&mut tree, 50_000);
        assert_eq!(taken(&tree), ["0/00000000000000000200.log"]);
    }

    #[test]
    fn old_logs_wait_for_the_segments() {
        let segment = format!("{PARTITIONS}/0/00000000000000000000.log");
        let (_folder, mut tree) = tree(&[
            ("logs/iggy-server.log", 20_000, 9),
            ("logs/iggy-server.log.1", 30_000, 8),
            ("logs/iggy-server.log.2", 300_000, 7),
            (&segment, 40_000, 1),
        ]);
        choose(&mut tree, 100_000);
        assert_eq!(
            taken(&tree),
            ["logs/iggy-server.log", "logs/iggy-server.log.1", "0/00000000000000000000.log"]
        );
    }
}
