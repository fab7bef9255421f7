//! The flight recorder over days, killed at any moment, and on a disk that is full.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use warden::agent::recorder::Recorder;
use warden::agent::runtime_stats::RuntimeReading;
use warden::boot_time::BootTime;
use warden::systemd::UnitFacts;
use warden_host::proc::ProcessStat;
use warden_host::recorder::{FILE_SAMPLES, Recording};

use crate::support::mount::Tmpfs;
use crate::support::until;

/// Set for the process that is to record: where,
const DIRECTORY: &str = "WARDEN_TEST_RECORDER";
/// from which sample on,
const FROM: &str = "WARDEN_TEST_RECORDER_FROM";
/// and how many.
const COUNT: &str = "WARDEN_TEST_RECORDER_COUNT";

/// Samples of a day.
const DAY: u64 = 8640;

fn recorded(directory: &Path) -> Recording {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut recording = Recording::default();
    paths.iter().for_each(|path| recording.read(&String::from_utf8_lossy(&std::fs::read(path).unwrap())));
    recording
}

#[test]
fn what_was_seen_while_the_disk_was_full_is_written_when_it_has_room() {
    let folder = tempfile::tempdir().unwrap();
    let _small = Tmpfs::new(folder.path(), 128 << 10);
    let directory = folder.path().join("recorder");
    let mut recorder = Recorder::new(&directory, "boot");
    let mut sample = |number: u64| {
        let time_ms = 1_795_262_400_000 + i64::try_from(number).unwrap() * 10_000;
        recorder.sample(None, &[], time_ms, BootTime(number * 10_000));
    };
    (0..10).for_each(&mut sample);
    let filler = folder.path().join("filler");
    // To the last byte of the last page.
    let _ = std::fs::write(&filler, vec![0; 1 << 20]);
    assert!(std::fs::write(folder.path().join("more"), "x").is_err());
    (10..100).for_each(&mut sample);
    let before = recorded(&directory).samples.len();
    assert!((10..100).contains(&before), "{before}");
    std::fs::remove_file(&filler).unwrap();
    sample(100);
    let ups: Vec<i64> = recorded(&directory).samples.iter().map(|stamp| stamp.up).collect();
    assert_eq!(ups, (0..=100).map(|number| number * 10).collect::<Vec<_>>());
}

fn records(directory: &Path, from: u64, count: u64) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "recorder::is_a_recorder_when_it_is_told_so", "--nocapture"]);
    command.env(DIRECTORY, directory).env(FROM, from.to_string()).env(COUNT, count.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
}

/// Twenty runtimes with names as long as connectors have.
fn units(sample: u64) -> Vec<RuntimeReading> {
    let process = ProcessStat::parse(&std::fs::read_to_string("/proc/self/stat").unwrap()).unwrap();
    let unit = |number: u64| {
        // Now and then one of them is another process.
        let main_pid = u32::try_from(number + sample / 100 * 100 + 1_000_000).unwrap();
        let facts = UnitFacts { active_state: "active".to_owned(), main_pid, ..UnitFacts::default() };
        let process = ProcessStat { pid: main_pid, user_ticks: sample * 7, ..process.clone() };
        let unit = format!("iggy-connector@sink-orders-to-postgres-{number:02}.service");
        RuntimeReading { unit, facts, process: Some(process) }
    };
    (0..20).map(unit).collect()
}

/// Not a test, but the process that others kill and measure.
#[test]
fn is_a_recorder_when_it_is_told_so() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (from, count) = (number(FROM).unwrap(), number(COUNT).unwrap());
    let mut recorder = Recorder::new(Path::new(&directory), "boot");
    let (mut early, mut most) = (0, 0);
    for sample in from..from + count {
        let time_ms = 1_795_262_400_000 + i64::try_from(sample).unwrap() * 10_000;
        recorder.sample(Some(&units(sample)), &[], time_ms, BootTime(sample * 10_000));
        if sample % 50 == 0 {
            most = most.max(memory());
        }
        // Its first files are full.
        if sample == from + 1000 {
            early = most;
        }
    }
    println!("memory: {early} {most}");
}

/// Resident, in KiB, without what is of files: of the program ever more is, as more of it runs.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse().unwrap()
}

#[test]
fn three_days_of_twenty_runtimes_take_a_day_of_disk_and_no_more_memory_than_an_hour() {
    let folder = tempfile::tempdir().unwrap();
    let told = records(folder.path(), 0, 3 * DAY).wait_with_output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let line = told.lines().find_map(|line| line.split_once("memory: ")).unwrap().1;
    let (early, most) = line.split_once(' ').unwrap();
    let (early, most): (u64, u64) = (early.parse().unwrap(), most.parse().unwrap());
    assert!(most < early + 256, "from {early} to {most} KiB");
    let bytes: u64 =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes < 20_000_000, "{bytes}");
    let recording = recorded(folder.path());
    let samples = recording.samples.len() as u64;
    assert!((DAY..=DAY + u64::from(FILE_SAMPLES)).contains(&samples), "{samples}");
    assert_eq!(recording.samples.last().unwrap().up, i64::try_from(3 * DAY - 1).unwrap() * 10);
}

#[test]
fn killed_at_any_moment_it_loses_no_sample_that_was_taken_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut from = 0;
    for kill in 0..25 {
        // Fewer than a day, of which nothing is removed.
        let mut recorder = records(folder.path(), from, DAY / 2);
        let newest = until("it records", || {
            let newest = u64::try_from(recorded(folder.path()).samples.last()?.up).unwrap() / 10;
            (newest >= from).then_some(newest)
        });
        recorder.kill().unwrap();
        recorder.wait().unwrap();
        let recording = recorded(folder.path());
        let ups: Vec<u64> =
            recording.samples.iter().map(|stamp| u64::try_from(stamp.up).unwrap() / 10).collect();
        let mine: Vec<u64> = ups.iter().copied().filter(|up| *up >= from).collect();
        assert!(mine.last().unwrap() >= &newest, "kill {kill}: {newest} was there");
        let whole = mine.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        assert!(whole && mine[0] == from, "kill {kill}: a sample is missing");
        from = mine.last().unwrap() + 1000;
    }
}
