//! What crashes in the logs lead to.

use warden_host::{Data, LogLine, LogText, Output, Recorded, Request, Stat};

use super::*;
use crate::units::testing::settings;

const NOW: i64 = 1_795_000_000;

fn quiet() -> Recorded {
    Recorded::complete()
        .settings(settings())
        .at(NOW, 100)
        .file("/proc/sys/kernel/core_pattern", "|/usr/lib/systemd/systemd-coredump %P\n")
}

fn coredumpctl(stdout: &str, stderr: &str) -> Recorded {
    let output = Output { status: Some(0), stdout: stdout.to_owned(), stderr: stderr.to_owned(), cut: false };
    quiet().with(Request::Command { name: "coredumpctl".to_owned(), argument: None }, Data::Output(output))
}

fn core(host: Recorded, path: &str, modified: i64) -> Recorded {
    let stat = Stat {
        kind: Kind::File,
        mode: 0o600,
        uid: 0,
        gid: 0,
        size: 4096,
        allocated: 4096,
        modified,
        device: 1,
        inode: 2,
    };
    host.with(Request::Stat { path: path.to_owned() }, Data::Stat(stat))
}

fn judged(host: Recorded) -> Finding {
    judge(&host.host(), &Runtimes::new()).unwrap()
}

#[test]
fn no_core_passes() {
    let finding = judged(coredumpctl("", "No coredumps found.\n"));
    assert_eq!(finding.verdict(), Verdict::Pass);
    assert_eq!(finding.summary, "nothing dumped core in the last 7 days");
}

#[test]
fn a_core_of_a_runtime_fails_and_that_of_another_program_is_noted() {
    let row = |exe: &str| {
        format!(
            r#"[{{"time":{},"pid":7,"uid":0,"gid":0,"sig":11,"corefile":"present","exe":"{exe}","size":5}}]"#,
            (NOW - 60) * 1_000_000
        )
    };
    let finding = judged(coredumpctl(&row("/usr/bin/iggy-server"), ""));
    assert_eq!(finding.verdict(), Verdict::Fail);
    assert_eq!(
        finding.problems[0].text,
        "iggy-server crashed at 2026-11-18T11:05:40Z: pid 7 on signal 11, core present"
    );
    let other = judged(coredumpctl(&row("/usr/bin/vi"), ""));
    assert_eq!(other.verdict(), Verdict::Note);
    assert_eq!(
        other.problems[0].text,
        "1 core was dumped by other programs in the last 7 days, the newest by vi at 2026-11-18T11:05:40Z"
    );
}

#[test]
fn without_coredumpctl_the_files_tell_and_old_ones_do_not_count() {
    let name = "core.iggy-server.1000.0123456789abcdef0123456789abcdef.77.1795000000000000.zst";
    let path = format!("/var/lib/systemd/coredump/{name}");
    let finding = judged(core(quiet(), &path, NOW - 10));
    assert_eq!(finding.verdict(), Verdict::Fail);
    assert_eq!(finding.problems[0].text, "iggy-server crashed at 2026-11-18T11:06:30Z: left a core");
    assert_eq!(judged(core(quiet(), &path, NOW - WEEK)).verdict(), Verdict::Pass);
}

#[test]
fn a_core_in_the_working_directory_of_a_runtime_is_its_own() {
    let host = core(quiet(), "/proc/9/cwd/core.1234", NOW - 10).host();
    let finding = judge(&host, &Runtimes::from([(9, Runtime::Iggy)])).unwrap();
    assert_eq!(finding.verdict(), Verdict::Fail);
}

#[test]
fn names_of_cores_tell_the_program() {
    let apport = program_of("_usr_bin_iggy-server.1000.crash");
    assert_eq!((apport.as_str(), program_of("core.1234").as_str()), ("iggy-server", "core.1234"));
    assert!(is_core("core") && is_core("core-x-1") && !is_core("corelist.txt"));
}

#[test]
fn a_dump_that_only_the_journal_knows_fails() {
    let line = LogLine {
        at_us: Some((NOW - 60) * 1_000_000),
        level: None,
        origin: "systemd".to_owned(),
        text: "iggy.service: Main process exited, code=dumped, status=6/ABRT".to_owned(),
    };
    let log = LogText { lines: vec![line], cut: false, source: "journal".to_owned() };
    let journal = Request::Journal { unit: "iggy.service".to_owned() };
    assert_eq!(judged(quiet().log(journal.clone(), log.clone())).verdict(), Verdict::Fail);
    let host = core(quiet(), "/var/crash/_usr_bin_iggy-server.0.crash", NOW - 30).log(journal.clone(), log);
    assert_eq!(judged(host).problems.len(), 1, "the same crash");
    assert_eq!(judged(quiet().without(journal, Cause::Denied)).verdict(), Verdict::Note);
}

#[test]
fn a_runtime_that_would_leave_no_core_is_noted_unless_a_handler_takes_it() {
    let limits = "Max core file size        0                    unlimited            bytes\n";
    let runtimes = Runtimes::from([(9, Runtime::Iggy)]);
    let host = quiet().file("/proc/9/limits", limits);
    let handled = judge(&host.clone().host(), &runtimes).unwrap();
    assert_eq!(
        handled.problems[0].text,
        "cores are given to /usr/lib/systemd/systemd-coredump, which keeps none here (in a container: on its host)"
    );
    assert_eq!(handled.problems.len(), 1);
    let finding = judge(&host.file("/proc/sys/kernel/core_pattern", "core\n").host(), &runtimes).unwrap();
    assert_eq!(
        finding.problems[0].text,
        "a crash of iggy-server (pid 9) would leave no core: its core limit is 0"
    );
    assert_eq!(finding.verdict(), Verdict::Note);
    let elsewhere = judged(quiet().file("/proc/sys/kernel/core_pattern", "/data/core.%p\n"));
    assert_eq!(elsewhere.problems[0].text, "cores are written to /data, where Warden does not look");
}

#[test]
fn a_directory_that_may_not_be_listed_is_said_and_what_does_not_parse_is_an_error() {
    let list = Request::List { path: "/var/crash".to_owned() };
    assert_eq!(judged(quiet().without(list, Cause::Denied)).verdict(), Verdict::Note);
    let torn = coredumpctl("[{\"time\":", "").host();
    assert!(judge(&torn, &Runtimes::new()).is_err());
}
