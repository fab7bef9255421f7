//! The audit log on a real disk, torn, cut and changed.

use super::*;

const NOW: Timestamp = Timestamp::constant(1_795_257_619, 0);

fn event(request: u64) -> Event {
    Event { request: Some(request), reason: Some("é".repeat(2_000)), ..Event::new(Happened::Received) }
}

fn log(folder: &Path, lines: u64) {
    let mut audit = Audit::open(folder, NOW).unwrap();
    for request in 0..lines {
        audit.add(event(request), NOW).unwrap();
    }
}

fn whole(folder: &Path) -> Verification {
    let verification = verify(folder).unwrap();
    assert_eq!(verification.broken, None);
    verification
}

#[test]
fn the_chain_goes_on_over_starts_of_the_agent() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(whole(folder.path()), Verification::default());
    log(folder.path(), 3);
    log(folder.path(), 2);
    let told = whole(folder.path());
    assert_eq!((told.lines, told.files, told.first, told.torn), (5, 1, 1, false));
}

#[test]
fn a_log_that_is_removed_replaced_or_changed_meanwhile_takes_no_line_and_tells_of_it_after_a_start() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 4] = [
        ("removed", |path| fs::remove_file(path).unwrap()),
        ("replaced", |path| {
            fs::copy(path, path.with_extension("copy")).unwrap();
            fs::rename(path.with_extension("copy"), path).unwrap();
        }),
        ("changed", |path| File::options().write(true).open(path).unwrap().set_len(0).unwrap()),
        ("changed", |path| {
            OpenOptions::new().append(true).open(path).unwrap().write_all(b"more\n").unwrap();
        }),
    ];
    for (how, harm) in harms {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let mut audit = Audit::open(folder.path(), NOW).unwrap();
        audit.add(event(1), NOW).unwrap();
        audit.sync().unwrap();
        audit.in_place().unwrap();
        harm(&path);
        let told = audit.add(event(2), NOW).unwrap_err().to_string();
        assert!(
            told.contains(&format!("audit.jsonl was {how} by somebody else while the agent ran")),
            "{told}"
        );
        assert_eq!(audit.in_place().unwrap_err().to_string(), told);
    }
    let folder = tempfile::tempdir().unwrap();
    let mut audit = Audit::open(folder.path(), NOW).unwrap();
    audit.add(event(1), NOW).unwrap();
    audit.sync().unwrap();
    fs::remove_file(folder.path().join(FILE)).unwrap();
    drop(audit);
    Audit::open(folder.path(), NOW).unwrap().add(event(2), NOW).unwrap();
    let cut = verify(folder.path()).unwrap().cut;
    assert_eq!(cut[0].why, "lines 1 to 1 were on disk and are not there", "{cut:?}");
}

#[test]
fn the_first_line_that_does_not_follow_is_told() {
    let folder = tempfile::tempdir().unwrap();
    log(folder.path(), 6);
    let path = folder.path().join(FILE);
    let good = fs::read_to_string(&path).unwrap();
    let broken = |text: String| {
        fs::write(&path, text).unwrap();
        let broken = verify(folder.path()).unwrap().broken.unwrap();
        (broken.line, broken.why)
    };
    let lines: Vec<&str> = good.split_inclusive('\n').collect();
    let follows = "line 3 does not follow from line 2: one of the two was changed";
    assert_eq!(broken(good.replace("\"request\":1", "\"request\":9")), (3, follows.into()));
    let without = [&lines[..2], &lines[4..]].concat().concat();
    assert_eq!(broken(without), (3, "lines 3 to 4 are missing".into()));
    let swapped = [lines[0], lines[2], lines[1], lines[3]].concat();
    assert_eq!(broken(swapped).0, 2);
    let twice = [lines[0], lines[0]].concat();
    assert_eq!(broken(twice), (2, "a line that says it is the 1st stands where the 2nd should".into()));
    assert_eq!(
        broken(good.replacen("{\"seq\":4", "{\"seq\":\"4\"", 1)),
        (4, "no line of an audit log".into())
    );
    assert_eq!(broken(lines[1..].concat()).0, 1, "nothing was put aside that could have had the first line");
}

#[test]
fn a_line_torn_by_a_crash_is_taken_out_and_that_is_said() {
    let folder = tempfile::tempdir().unwrap();
    log(folder.path(), 3);
    let path = folder.path().join(FILE);
    let good = fs::read(&path).unwrap();
    for torn in [1, 10, 2_000] {
        fs::write(&path, [&good[..], &good[..torn]].concat()).unwrap();
        let told = whole(folder.path());
        assert_eq!((told.lines, told.torn), (3, true));
        drop(Audit::open(folder.path(), NOW).unwrap());
        let told = whole(folder.path());
        assert_eq!((told.lines, told.torn), (4, false));
        let newest = newest(folder.path(), 1).unwrap();
        assert_eq!(newest.lines[0].event.event, Happened::Healed);
        let reason = format!("{torn} bytes of a line that a crash had torn were taken out");
        assert_eq!(newest.lines[0].event.reason.as_deref(), Some(reason.as_str()));
    }
}

fn synced(folder: &Path, lines: u64) {
    log(folder, lines);
    Audit::open(folder, NOW).unwrap().sync().unwrap();
}

#[test]
fn newest_lines_that_are_cut_off_are_missed_and_that_stays_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    synced(folder.path(), 6);
    // Added and not put on disk: that is behind, and no fault.
    log(folder.path(), 2);
    assert_eq!(whole(folder.path()).cut, []);
    let path = folder.path().join(FILE);
    let lines = fs::read_to_string(&path).unwrap();
    let keep = |count: usize| {
        fs::write(&path, lines.split_inclusive('\n').take(count).collect::<String>()).unwrap();
        whole(folder.path()).cut
    };
    assert_eq!(keep(6), []);
    let told = |told_by, why: &str| Cut { told_by, why: why.to_owned() };
    assert_eq!(keep(5), [told(None, "lines 6 to 6 were on disk and are not there")]);
    assert_eq!(keep(2), [told(None, "lines 3 to 6 were on disk and are not there")]);
    for _ in 0..2 {
        log(folder.path(), 3);
        let cut = told(Some(3), "lines 3 to 6 were on disk and are not there");
        assert_eq!(whole(folder.path()).cut, [cut]);
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(whole(folder.path()).cut, [told(None, "lines 1 to 3 were on disk and are not there")]);
}

#[test]
fn a_head_that_no_agent_wrote_is_told_and_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    synced(folder.path(), 2);
    for (seq, text) in [(3, "{}"), (5, "")] {
        fs::write(folder.path().join("audit.head"), text).unwrap();
        let told_by = || whole(folder.path()).cut.iter().map(|cut| cut.told_by).collect::<Vec<_>>();
        assert!(told_by().contains(&None));
        log(folder.path(), 1);
        assert!(told_by().contains(&Some(seq)) && !told_by().contains(&None));
    }
}

#[test]
fn other_newest_lines_in_place_of_those_that_were_on_disk_are_told() {
    let [folder, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    synced(folder.path(), 3);
    let forged = |lines: u64| {
        let mut audit = Audit::open(other.path(), NOW).unwrap();
        (0..lines).for_each(|_| audit.add(Event::new(Happened::Completed), NOW).unwrap());
        fs::copy(other.path().join(FILE), folder.path().join(FILE)).unwrap();
    };
    let why = "line 3 is not the one that was on disk";
    for lines in [3, 2] {
        forged(lines);
        assert_eq!(whole(folder.path()).cut, [Cut { told_by: None, why: why.to_owned() }]);
    }
    log(folder.path(), 1);
    assert_eq!(whole(folder.path()).cut, [Cut { told_by: Some(6), why: why.to_owned() }]);
}

#[test]
fn the_chain_goes_on_over_files_and_the_oldest_go() {
    let folder = tempfile::tempdir().unwrap();
    // Some 2.2 KiB a line.
    log(folder.path(), 10_000);
    log(folder.path(), 1);
    let told = whole(folder.path());
    assert_eq!(told.files, FILES_LIMIT + 1);
    assert!(told.first > 1 && told.lines > 6_000 && told.lines < 10_000, "{told:?}");
    let newest = newest(folder.path(), 1_500).unwrap();
    assert_eq!(newest.lines.len(), 1_500);
    assert_eq!(newest.lines.last().map(|line| line.seq), Some(10_001));

    // Killed between putting a file aside and making the next.
    let now = folder.path().join(FILE);
    fs::rename(&now, folder.path().join("audit-000000010001.jsonl")).unwrap();
    log(folder.path(), 1);
    assert_eq!(whole(folder.path()).lines, told.lines + 1);
    fs::remove_file(hash_chain::put_aside(folder.path()).unwrap().remove(4)).unwrap();
    let broken = verify(folder.path()).unwrap().broken.unwrap();
    assert!(broken.why.starts_with("lines ") && broken.why.ends_with(" are missing"), "{broken:?}");
}

#[test]
fn an_event_says_only_what_there_is_and_reads_as_it_was_written() {
    let event = Event { unit: Some("iggy.service".into()), ..Event::new(Happened::Calling) };
    let line = Line { seq: 1, at: NOW, event, previous: Hash::default() };
    let text = serde_json::to_string(&line).unwrap();
    assert_eq!(
        text,
        format!(
            "{{\"seq\":1,\"at\":\"2026-11-21T10:40:19Z\",\"event\":\"calling\",\"unit\":\"iggy.service\",\
             \"previous\":\"{}\"}}",
            "0".repeat(64)
        )
    );
    assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line);
}
