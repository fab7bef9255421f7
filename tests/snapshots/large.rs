//! An archive of 3 GB on its way, and the memory of everybody who has it in hand meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::faults::with_data;
use super::whole::{Control, Network};
use crate::archive::noise;

const SEGMENT: u64 = 200 << 20;
const SEGMENTS: u64 = 15;
/// Memory of its own that a process may have at its peak, in MiB. What is mapped from its file is not counted: it is the
/// kernel's to take, and a build for tests is large.
const MOST: [(&str, u64); 3] = [("agent", 14), ("snapshot", 30), ("supervisor", 24)];

/// Segments that cannot be packed smaller. They are one file under several names: it is their bytes that count.
fn data_directory() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let partition = folder.path().join("streams/1/topics/1/partitions/1");
    std::fs::create_dir_all(&partition).unwrap();
    let segment = |number: u64| partition.join(format!("{number:020}.log"));
    std::fs::write(segment(0), noise(SEGMENT as usize, 7)).unwrap();
    for number in 1..SEGMENTS {
        std::fs::hard_link(segment(0), segment(number)).unwrap();
    }
    folder
}

/// `pid`, all that it started, and all that those started.
fn family(pid: u32) -> BTreeSet<u32> {
    let mut all = BTreeSet::from([pid]);
    let mut left = vec![pid];
    while let Some(parent) = left.pop() {
        let threads = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
        let told = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
        let children: Vec<u32> = told
            .flat_map(|told| told.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
            .collect();
        left.extend(children.iter().filter(|child| all.insert(**child)));
    }
    all
}

/// Memory of its own that a process has, in KiB.
fn own_memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// What a process of ours does, by its command line.
fn role(pid: u32) -> Option<&'static str> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    let is_ours = words.first().is_some_and(|word| word.ends_with(b"warden"));
    ["supervisor", "agent", "snapshot"]
        .into_iter()
        .find(|role| is_ours && words.get(1) == Some(&role.as_bytes()))
}

/// The most that each had while `work` was done.
fn peaks(of: &[u32], work: impl FnOnce()) -> BTreeMap<&'static str, u64> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut peaks = BTreeMap::new();
            while !done.load(Ordering::Relaxed) {
                for pid in of.iter().flat_map(|pid| family(*pid)) {
                    if let (Some(role), Some(memory)) = (role(pid), own_memory(pid)) {
                        let peak = peaks.entry(role).or_insert(0);
                        *peak = memory.max(*peak);
                    }
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            peaks
        });
        work();
        done.store(true, Ordering::Relaxed);
        looking.join().unwrap()
    })
}

fn bytes_of_the_data_directory(archive: &Path) -> u64 {
    let mut archive = zip::ZipArchive::new(std::fs::File::open(archive).unwrap()).unwrap();
    archive.by_name("iggy.zip").unwrap().size()
}

#[test]
fn three_gigabytes_go_through_in_little_memory_on_both_sides() {
    let network = Network::of(1);
    let control = Control::start(&network);
    control.says(&["deployments", "create", "events-prod"]);
    let data = data_directory();
    let mut node = control.node([network.on(1), with_data(data.path())].concat());
    node.configure("iggy_budget_mib = 4096");
    node.start();
    let both = [control.process(), node.agent.as_ref().unwrap().id()];
    let peaks = peaks(&both, || {
        let output = control.ctl(&["snapshots", "create", "--wait", "--timeout", "900"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    });

    let list: Value = serde_json::from_str(&control.says(&["snapshots", "list", "--json"])).unwrap();
    let row = &list["items"][0];
    assert!(row["size"].as_u64().unwrap() > SEGMENT * SEGMENTS, "{row:#}");
    let stored = control.object(row);
    assert_eq!(stored.metadata().unwrap().len(), row["size"].as_u64().unwrap());
    assert!(bytes_of_the_data_directory(&stored) > SEGMENT * SEGMENTS);
    assert_eq!(peaks.keys().copied().collect::<Vec<_>>(), MOST.map(|(role, _)| role));
    for (role, most) in MOST {
        assert!(peaks[role] < most << 10, "{role}: {peaks:?} KiB, at most {most} MiB each");
    }
}
