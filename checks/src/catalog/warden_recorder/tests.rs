//! Recordings, and the charts and problems in them.

use std::fmt::Write;

use warden_host::{Recorded, STATE_DIRECTORY, Settings};

use super::*;
use crate::units::testing::settings;

const NOW: i64 = 1_795_262_400;
const UP: i64 = 100_000;
const HEADER: &str =
    "time\tup\tmemory_available_kb\tpsi:memory:full\tunit:iggy.service:state\tunit:iggy.service:pid\n";

/// A recording in one file, a sample each ten seconds.
struct Tape {
    text: String,
    up: i64,
}

impl Tape {
    /// Begins so many seconds ago.
    fn since(seconds: i64) -> Tape {
        Tape { text: format!("#1 boot\n{HEADER}"), up: UP - seconds }
    }

    /// Samples for so many seconds.
    fn runs(mut self, seconds: i64, kibibytes: u64, waits: f64, state: &str, pid: u32) -> Tape {
        for _ in 0..seconds / 10 {
            self.up += 10;
            let (time, up) = (NOW - UP + self.up, self.up);
            writeln!(self.text, "{time}\t{up}\t{kibibytes}\t{waits}\t{state}\t{pid}").unwrap();
        }
        self
    }

    fn well(self, seconds: i64, pid: u32) -> Tape {
        self.runs(seconds, 500_000, 0.0, "active", pid)
    }

    fn mark(mut self, cause: &str, detail: &str) -> Tape {
        writeln!(self.text, "!\t0\t{}\tiggy.service\t{cause}\t{detail}", self.up).unwrap();
        self
    }

    fn host(self) -> Recorded {
        self.host_of(STATE_DIRECTORY)
    }

    /// Whose agent keeps its state there.
    fn host_of(self, state: &str) -> Recorded {
        Recorded::complete()
            .settings(Settings { state_directory: state.to_owned(), ..settings() })
            .at(NOW, UP)
            .file("/proc/meminfo", "MemTotal: 1000000 kB\n")
            .file("/proc/sys/kernel/random/boot_id", "boot\n")
            .file(&format!("{state}/{DIRECTORY}/0000000007-20261121T000000Z.tsv"), &self.text)
    }

    fn judged(self) -> Finding {
        run(&self.host().host()).unwrap()
    }
}

fn told(finding: &Finding) -> Vec<&str> {
    finding.problems.iter().map(|problem| problem.text.as_str()).collect()
}

#[test]
fn a_quiet_recording_passes_and_is_drawn() {
    let finding = Tape::since(3600).well(3600, 7).judged();
    assert_eq!((finding.verdict(), told(&finding)), (Verdict::Pass, vec![]));
    assert_eq!(finding.summary, "59 min 50 s of the last 1 d recorded, 0 changes of the runtimes");
    let Evidence::Series(memory) = &finding.evidence[0] else { panic!("{finding:?}") };
    assert_eq!((memory.title.as_str(), memory.points.len()), ("Memory available, least", 180));
    assert_eq!((memory.points[0].label.as_str(), memory.points[0].values[0]), ("11-21 11:00", 512_000_000.0));
    assert_eq!((memory.top, memory.limit), (Some(1_024_000_000.0), Some(102_400_000.0)));
}

#[test]
fn the_recording_is_where_the_agent_of_the_host_keeps_its_state() {
    let elsewhere = "/home/ops/warden/agent";
    let finding = run(&Tape::since(3600).well(3600, 7).host_of(elsewhere).host()).unwrap();
    assert_eq!(finding.summary, "59 min 50 s of the last 1 d recorded, 0 changes of the runtimes");
    let other = Tape::since(3600).well(3600, 7).host_of(elsewhere).settings(settings());
    assert_eq!(run(&other.host()).unwrap().verdict(), Verdict::Skip);
}

#[test]
fn without_a_recording_the_question_does_not_arise() {
    let none = run(&Recorded::complete().settings(settings()).at(NOW, UP).host()).unwrap();
    assert_eq!(none.verdict(), Verdict::Skip);
    let empty = Tape::since(60).judged();
    assert_eq!(
        (empty.verdict(), empty.summary.as_str()),
        (Verdict::Skip, "the flight recorder has not recorded anything yet")
    );
}

#[test]
fn a_gap_and_an_end_are_noted() {
    let mut tape = Tape::since(3600).well(600, 7);
    tape.up += 60;
    let tape = tape.well(600, 7);
    let finding = tape.judged();
    assert_eq!(
        told(&finding),
        [
            "the recording has 1 gap, the longest of 1 min 10 s until 2026-11-21T11:11:10Z",
            "the recording ended at 2026-11-21T11:21:00Z"
        ]
    );
    assert_eq!(finding.verdict(), Verdict::Note);
    let old = Tape::since(90_000).well(600, 7).judged();
    assert_eq!(told(&old), ["the flight recorder has not written since 2026-11-20T11:10:00Z"]);
}

#[test]
fn a_process_that_ended_by_itself_warns_and_one_that_warden_stopped_does_not() {
    let crashed = Tape::since(1200).well(600, 7).mark("restarted", "1").well(600, 8).judged();
    assert_eq!(crashed.verdict(), Verdict::Warn);
    assert_eq!(
        told(&crashed),
        [
            "iggy.service ended by itself 1 time in a day, the last time at 2026-11-21T11:50:10Z (systemd started it again)"
        ]
    );
    let asked = Tape::since(1200)
        .well(600, 7)
        .mark("asked", "restart 61")
        .runs(60, 500_000, 0.0, "deactivating", 7)
        .mark("ended", "success")
        .runs(10, 500_000, 0.0, "inactive", 0)
        .well(530, 8);
    let asked = asked.judged();
    assert_eq!(asked.verdict(), Verdict::Pass, "{asked:?}");
    let Some(Evidence::Table(table)) = asked.evidence.iter().find(|one| matches!(one, Evidence::Table(_)))
    else {
        panic!("{asked:?}")
    };
    assert_eq!(table.rows.len(), 3);
    assert_eq!(table.rows[2].cells[4], "Warden was asked to: restart 61".into());
    let failed = Tape::since(1200)
        .well(600, 7)
        .mark("ended", "oom-kill")
        .runs(600, 500_000, 0.0, "failed", 0)
        .judged();
    assert!(told(&failed)[0].ends_with("(oom-kill)"), "{failed:?}");
    let unknown = Tape::since(1200).well(600, 7).runs(600, 500_000, 0.0, "failed", 0).judged();
    assert_eq!(unknown.verdict(), Verdict::Warn);
}

#[test]
fn others_may_restart_a_runtime_three_times_a_day() {
    let restarted = |times: u32| {
        let tape = (0..=times).fold(Tape::since(3600), |tape, pid| tape.well(600, pid + 1));
        tape.well(3600 - 600 * (i64::from(times) + 1), times + 1).judged()
    };
    assert_eq!(restarted(3).verdict(), Verdict::Pass);
    let finding = restarted(4);
    assert_eq!(
        told(&finding),
        [
            "iggy.service was stopped or restarted 4 times in a day, not by Warden, the last time at 2026-11-21T11:40:10Z"
        ]
    );
}

#[test]
fn a_boot_is_no_fault_of_the_runtime() {
    let before = Tape::since(3600).well(600, 7);
    let text = format!("{}#1 next\n{HEADER}{}\t10\t500000\t0\tactive\t9\n", before.text, NOW - 5);
    let host = Tape { text, up: 0 }.host().at(NOW, 15).file("/proc/sys/kernel/random/boot_id", "next\n");
    let finding = run(&host.host()).unwrap();
    assert_eq!(
        told(&finding),
        ["the recording has 1 gap, the longest of 49 min 55 s until 2026-11-21T11:59:55Z"]
    );
}

#[test]
fn memory_that_stays_short_and_waiting_that_stays_long_warn() {
    let short = |seconds: i64, kibibytes| {
        Tape::since(1200)
            .well(300, 7)
            .runs(seconds, kibibytes, 0.0, "active", 7)
            .well(900 - seconds, 7)
            .judged()
    };
    assert_eq!(short(300, 99_999).verdict(), Verdict::Pass, "from the first to the last it is 290 s");
    assert_eq!(short(310, 100_000).verdict(), Verdict::Pass);
    assert_eq!(
        told(&short(310, 50_000)),
        [
            "for 5 min until 2026-11-21T11:50:10Z less than 10 % of 977 MiB of memory was available, at worst 48.8 MiB"
        ]
    );
    let waits = Tape::since(600).runs(600, 500_000, 7.5, "active", 7).judged();
    assert_eq!(
        told(&waits),
        [
            "for 9 min 50 s until 2026-11-21T12:00:00Z all programs waited for memory for over 5 % of the time, at worst 7.5 %"
        ]
    );
}

#[test]
fn a_recording_that_may_not_be_read_is_unknown_and_a_part_of_it_noted() {
    let path = format!("{STATE_DIRECTORY}/{DIRECTORY}/0000000001-20261121T000000Z.tsv");
    let host = Tape::since(1200).well(1200, 7).host().denied(&path);
    let finding = run(&host.host()).unwrap();
    assert_eq!(finding.verdict(), Verdict::Note, "{finding:?}");
    let denied = Recorded::complete().settings(settings()).at(NOW, UP).denied(&path);
    assert!(run(&denied.host()).is_err());
}
