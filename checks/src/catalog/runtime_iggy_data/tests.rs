//! Data directories as processes and units have them.

use warden_host::{Cause, Data, Recorded, Request};

use super::*;
use crate::iggy::tests::{directory, running, settings, stat, stat_line};

const PARTITION: &str = "/var/lib/iggy/streams/0/topics/0/partitions/0";

fn file(recorded: Recorded, path: &str, size: u64) -> Recorded {
    recorded.with(Request::Stat { path: path.to_owned() }, Data::Stat(stat(warden_host::Kind::File, size)))
}

fn segment(recorded: Recorded, start: u64, log: u64, index: u64) -> Recorded {
    let recorded = file(recorded, &format!("{PARTITION}/{start:020}.log"), log);
    file(recorded, &format!("{PARTITION}/{start:020}.index"), index)
}

fn new_data() -> Recorded {
    let recorded = directory(Recorded::complete().settings(settings()), "/var/lib/iggy/streams");
    let recorded = file(recorded, "/var/lib/iggy/metadata/journal.wal", 36_850);
    segment(segment(recorded, 0, 1_056_475, 48), 1600, 791_136, 24)
}

fn old_data(next: u64) -> Recorded {
    let recorded = directory(Recorded::complete().settings(settings()), "/var/lib/iggy/streams");
    let recorded = file(recorded, "/var/lib/iggy/state/log", 934);
    segment(segment(recorded, 0, 6_384_000, 96_000), next, 1000, 16)
}

fn of(recorded: Recorded) -> Finding {
    run(&recorded.host()).unwrap()
}

fn problem(recorded: Recorded) -> (Verdict, String) {
    let finding = of(recorded);
    assert_eq!(finding.problems.len(), 1, "{:?}", finding.problems);
    (finding.verdict(), finding.problems[0].text.clone())
}

#[test]
fn sound_data_of_either_generation_passes() {
    let finding = of(new_data());
    assert_eq!(finding.verdict(), Verdict::Pass);
    assert_eq!(
        finding.summary,
        "1 stream, 1 topic, 1 partition and 2 segments with 1.76 MiB of messages in /var/lib/iggy"
    );
    assert_eq!(of(old_data(6000)).verdict(), Verdict::Pass);
}

#[test]
fn a_running_server_without_its_data_directory_fails_and_counts_nothing() {
    let recorded = running(70).file("/proc/70/environ", "IGGY_SYSTEM_PATH=/srv/iggy\0");
    let finding = of(recorded.clone());
    assert_eq!(
        (finding.verdict(), finding.summary.as_str()),
        (Verdict::Fail, "nothing of a data directory is at /srv/iggy")
    );
    let inside = Request::Stat { path: "/proc/70/root/srv/iggy/streams".to_owned() };
    let error = run(&recorded.without(inside, Cause::Denied).host()).unwrap_err();
    assert_eq!(error.to_string(), "stat /proc/70/root/srv/iggy/streams: permission denied");
}

#[test]
fn a_torn_index_warns_and_a_log_without_index_fails() {
    let expected =
        format!("1 index ends within an entry: {PARTITION}/{:020}.index (50 bytes are no multiple of 24)", 0);
    assert_eq!(problem(segment(new_data(), 0, 1000, 50)), (Verdict::Warn, expected));
    assert_eq!(problem(segment(new_data(), 0, 2048, 0)).0, Verdict::Fail);
    let lost = problem(file(new_data(), &format!("{PARTITION}/{:020}.log", 2000), 2048));
    let expected = format!(
        "1 log has messages and no index: {PARTITION}/{:020}.log (2 KiB of messages that no index leads to)",
        2000
    );
    assert_eq!(lost, (Verdict::Fail, expected));
}

#[test]
fn empty_sealed_segments_orphan_indexes_and_gaps_warn() {
    assert!(problem(segment(new_data(), 0, 0, 0)).1.starts_with("1 sealed segment is empty: "));
    assert_eq!(of(segment(new_data(), 1600, 0, 0)).verdict(), Verdict::Pass);
    let orphan = file(new_data(), &format!("{PARTITION}/{:020}.index", 800), 24);
    assert!(problem(orphan).1.starts_with("1 index has no log: "));
    let gap = problem(old_data(6001));
    assert!(gap.1.ends_with("(it ends at offset 6000, the next segment begins at 6001)"));
}

#[test]
fn what_a_running_server_writes_to_is_not_judged() {
    let recorded = segment(new_data(), 1600, 1000, 50).file("/proc/70/status", "Uid:\t997\t997\t997\t997\n");
    assert_eq!(of(recorded.clone()).verdict(), Verdict::Warn);
    let line = stat_line(70, "iggy-server", 'S');
    assert_eq!(of(recorded.file("/proc/70/stat", &line)).verdict(), Verdict::Pass);
}

#[test]
fn fenced_partitions_two_versions_and_lost_metadata_fail() {
    let fenced = file(new_data(), "/var/lib/iggy/streams/0/topics/0/partitions/1.fenced.1/x", 1);
    assert!(problem(fenced).1.starts_with("Iggy has put 1 partition aside as damaged: "));
    assert_eq!(problem(file(new_data(), "/var/lib/iggy/state/log", 934)).0, Verdict::Fail);
    let journal = Request::Stat { path: "/var/lib/iggy/metadata/journal.wal".to_owned() };
    assert!(
        problem(new_data().without(journal, Cause::Absent))
            .1
            .starts_with("there are 1 stream directory and neither")
    );
}

#[test]
fn a_foreign_owner_fails_for_a_running_server_and_mixed_owners_warn() {
    let line = stat_line(70, "iggy-server", 'S');
    let user = |uid: u32| {
        new_data()
            .file("/proc/70/stat", &line)
            .file("/proc/70/status", &format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n"))
    };
    assert_eq!(of(user(0)).verdict(), Verdict::Pass);
    assert_eq!(of(user(997)).verdict(), Verdict::Pass);
    let expected = "the server runs as user 5, /var/lib/iggy/streams belongs to user 997 and 4 segment files to others: it cannot write there";
    assert_eq!(problem(user(5)), (Verdict::Fail, expected.to_owned()));
    let mut root = stat(warden_host::Kind::File, 24);
    root.uid = 0;
    let mixed =
        new_data().with(Request::Stat { path: format!("{PARTITION}/{:020}.index", 1600) }, Data::Stat(root));
    assert!(problem(mixed).1.starts_with("1 segment file does not belong to user 997"));
}

#[test]
fn messages_that_everybody_may_read_are_noted() {
    let open = directory(new_data(), "/var/lib/iggy/streams/..");
    assert_eq!(
        problem(open),
        (Verdict::Note, "every user of this machine may read the messages below /var/lib/iggy".to_owned())
    );
}

#[test]
fn a_directory_that_may_not_be_listed_is_unknown_and_none_at_all_is_skipped() {
    let denied = Request::List { path: "/var/lib/iggy/streams".to_owned() };
    assert!(run(&new_data().without(denied, Cause::Denied).host()).is_err());
    let below = Request::List { path: "/var/lib/iggy/streams/0/topics".to_owned() };
    assert!(
        problem(new_data().without(below, Cause::Denied))
            .1
            .starts_with("1 file or directory could not be seen")
    );
    assert_eq!(of(running(70)).verdict(), Verdict::Skip);
}

#[test]
fn a_server_whose_data_directory_may_not_be_seen_is_unknown() {
    let error = run(&running(70).denied("/proc/70/environ").host()).unwrap_err();
    assert_eq!(error.to_string(), "/proc/70/environ: permission denied");
    let closed = Request::Stat { path: "/var/lib/iggy/streams".to_owned() };
    let without_server = Recorded::complete().settings(settings()).without(closed, Cause::Denied);
    assert!(run(&without_server.host()).is_err());
}
