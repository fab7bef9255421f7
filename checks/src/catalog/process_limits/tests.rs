//! Limits of processes, and what is said of them.

use warden_host::{Cause, Recorded, Request};

use super::*;
use crate::process_samples::testing::stat;
use crate::units::testing::settings;

const RUNTIME: [(u32, Runtime); 1] = [(9, Runtime::Iggy)];

fn with(soft: u64, open: u32, memlock: &str) -> Recorded {
    let limits = format!(
        "Limit  Soft Limit  Hard Limit  Units\nMax open files  {soft}  524288  files\n\
         Max processes  4000  4000  processes\nMax locked memory  {memlock}  {memlock}  bytes\n"
    );
    let host = Recorded::complete()
        .settings(settings())
        .file("/proc/9/limits", &limits)
        .file("/proc/9/status", "Threads:\t40\nCapEff:\t0000000000000000\n")
        .file("/proc/9/task/9/stat", &stat(9, "iggy-server", 'S', 1, 0))
        .file("/proc/9/task/10/stat", &stat(10, "shard-0", 'S', 1, 0))
        .file("/proc/9/task/11/stat", &stat(11, "shard-1", 'S', 1, 0));
    (0..open).fold(host, |host, fd| {
        let target = "socket:[1]".to_owned();
        host.with(Request::Link { path: format!("/proc/9/fd/{fd}") }, warden_host::Data::Link { target })
    })
}

fn judged(host: Recorded) -> Finding {
    judge(&host.host(), &Runtimes::from(RUNTIME)).unwrap()
}

#[test]
fn a_runtime_with_room_passes() {
    let finding = judged(with(65_536, 50, "unlimited"));
    assert_eq!(finding.verdict(), Verdict::Pass, "{:?}", finding.problems);
    assert_eq!(finding.summary, "iggy-server (pid 9) has 50 of 65536 files open");
}

#[test]
fn open_files_warn_at_seventy_percent_and_fail_at_ninety() {
    let verdicts = [69, 70, 89, 90].map(|open| judged(with(100, open, "unlimited")).verdict());
    assert_eq!(verdicts, [Verdict::Note, Verdict::Warn, Verdict::Warn, Verdict::Fail]);
    let full = judged(with(100, 95, "unlimited"));
    assert_eq!(full.problems[0].text, "iggy-server (pid 9) uses 95 of 100 open files, 95 %");
    assert_eq!(
        full.problems[1].text,
        "iggy-server (pid 9) may open 100 files: fewer than 65536, and room for at most 25 partitions"
    );
}

fn on_disk(host: Recorded, partitions: u32, segments: u32) -> Recorded {
    let files = (0..partitions).flat_map(|partition| (0..segments).map(move |segment| (partition, segment)));
    files.fold(host, |host, (partition, segment)| {
        let path =
            format!("/var/lib/iggy/streams/0/topics/0/partitions/{partition}/{:020}.log", segment * 100);
        let stat = iggy::tests::stat(warden_host::Kind::File, 9);
        iggy::tests::directory(host, "/var/lib/iggy/streams")
            .with(Request::Stat { path }, warden_host::Data::Stat(stat))
    })
}

#[test]
fn fewer_files_than_the_segments_on_disk_take_fail_first_and_are_no_damage() {
    let unit = |soft: u64| {
        let unit = serde_json::json!({"LoadState": "loaded", "User": "iggy", "LimitNOFILESoft": soft});
        let host = Recorded::complete().settings(settings()).unit("iggy.service", unit);
        judge(&on_disk(host, 3, 2).host(), &Runtimes::new()).unwrap()
    };
    let short = unit(32);
    assert_eq!(short.verdict(), Verdict::Fail);
    assert_eq!(
        short.problems[0].text,
        "iggy.service may open 32 files, and what lies in /var/lib/iggy takes about 33 at the next start (3 partitions, 6 segments): the server then ends with `message/index divergence` or `Cannot read file`, which is no damage"
    );
    assert!(
        short.problems[0]
            .advice
            .text
            .starts_with("Change nothing in the data directory. Set LimitNOFILE=65536")
    );
    assert_eq!(unit(33).verdict(), Verdict::Note);
}

#[test]
fn the_limit_is_raised_in_the_unit_in_which_the_process_really_runs() {
    let host = with(100, 1, "unlimited").file("/proc/9/cgroup", "0::/system.slice/iggy-server.service\n");
    let command = judged(host).problems.remove(0).advice.command.unwrap();
    assert!(
        command.contains("/etc/systemd/system/iggy-server.service.d/zz-warden-limitnofile.conf"),
        "{command}"
    );
}

#[test]
fn locked_memory_is_held_against_the_shards_unless_the_process_is_exempt() {
    let short = with(65_536, 1, "65536");
    let finding = judged(short.clone());
    assert_eq!(finding.verdict(), Verdict::Warn);
    assert_eq!(
        finding.problems[0].text,
        "iggy-server (pid 9) may lock 64 KiB of memory; the rings of 2 shards need about 800 KiB"
    );
    assert_eq!(finding.problems[0].advice.command.as_deref(), Some("prlimit --pid 9"), "it has no unit");
    let exempt = short.file("/proc/9/status", "Threads: 40\nCapEff:\t0000000000004000\n");
    assert_eq!(judged(exempt).verdict(), Verdict::Pass);
    assert_eq!(judged(with(65_536, 1, "819200")).verdict(), Verdict::Pass);
}

#[test]
fn the_tasks_of_the_unit_are_held_against_its_maximum() {
    let unit = serde_json::json!({"LoadState": "loaded", "MainPID": 9, "TasksCurrent": 90, "TasksMax": 100});
    let finding = judged(with(65_536, 1, "unlimited").unit("iggy.service", unit));
    assert_eq!(finding.problems[0].text, "iggy-server (pid 9) uses 90 of 100 tasks of the unit, 90 %");
    assert_eq!(finding.verdict(), Verdict::Fail);
}

#[test]
fn a_stopped_runtime_is_judged_by_its_unit() {
    let unit = serde_json::json!({
        "LoadState": "loaded", "User": "iggy", "LimitNOFILESoft": 65536, "LimitMEMLOCKSoft": 65536
    });
    let host = Recorded::complete()
        .settings(settings())
        .unit("iggy.service", unit)
        .file("/proc/stat", "cpu  1 2 3 4\ncpu0 1 2 3 4\n");
    let finding = judge(&host.host(), &Runtimes::new()).unwrap();
    assert_eq!(finding.verdict(), Verdict::Warn);
    assert_eq!(
        finding.problems[0].text,
        "iggy.service may lock 64 KiB of memory; the rings of 1 shard need about 400 KiB"
    );
}

#[test]
fn files_that_may_not_be_counted_are_said_and_without_a_runtime_nothing_is_judged() {
    let list = Request::List { path: "/proc/9/fd".to_owned() };
    let finding = judged(with(65_536, 0, "unlimited").without(list, Cause::Denied));
    assert_eq!(finding.verdict(), Verdict::Note);
    let nothing = judge(&Recorded::complete().settings(settings()).host(), &Runtimes::new()).unwrap();
    assert_eq!(nothing, Finding::skip("no runtime runs here and no unit of one is installed"));
}
