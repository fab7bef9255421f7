//! runtime-iggy-data: is the data directory sound, by what can be seen without opening a message.

use std::collections::BTreeMap;

use crate::host::{Host, IfAny, Stat};
use crate::iggy::data::{DIRECTORIES, FILES, Generation, Inventory, Partition, inventory};
use crate::iggy::{self, DataDirectory, Runtime};
use crate::proc::field;
use crate::quantity::{bytes, count};
use crate::{
    Advice, Area, Check, DEADLINE, Evidence, Fields, Finding, Read, Result, Series, Table, Unit, Value,
    Verdict,
};

pub const CHECK: Check = Check {
    id: "runtime-iggy-data",
    area: Area::Runtime,
    title: "Is Iggy's data directory sound?",
    why: "Iggy refuses to start on a log that does not fit its index, and starts without a word on the data of another \
          version or without its metadata. Files that belong to another user stop the first write. What is wrong \
          here shows at the next restart, or never.",
    reads: &[
        Read::Iggy,
        Read::Path("/**/streams/**"),
        Read::Path("/**/state/log"),
        Read::Path("/**/metadata/journal.wal"),
        Read::Path("/proc/[pid]/status"),
    ],
    thresholds: &[
        "fails for fenced partitions, data of two versions, streams without metadata, a log without its index, and an owner that is not the server's user",
        "warns for an index of a broken size, an empty sealed segment, an index without its log, a gap between segments, and mixed owners",
        "notes data that every user may read, remains of a transfer, and a walk that ended at 2000 directories or 10000 files",
    ],
    advice: "Copy the data directory first, to a disk with room (`cp -a --reflink=auto`), then let `warden inspect --scan full` look into it: it tells what helps. Empty, move and delete nothing before.",
    deadline: DEADLINE,
    run,
};

fn run(host: &Host) -> Result<Finding> {
    let Some(data) = iggy::data_directory(host) else {
        let none = Finding::skip("there is no data directory of Iggy on this host");
        return iggy::hidden_data_directory(host).map_or(Ok(none), Err);
    };
    let server = iggy::processes(host).into_iter().find(|process| process.runtime == Runtime::Iggy);
    let generation = Generation::of(host, &data.path)?;
    if let Some(server) = server.as_ref().filter(|_| generation == Generation::Unknown)
        && let Some(missing) = missing(host, &data, server.pid)?
    {
        return Ok(missing);
    }
    let found = inventory(host, &data.path)?;
    let mut finding = Finding::new("");

    judge_generation(&mut finding, generation, &found, &data.path);
    let damages: Vec<Damage> = found
        .partitions
        .iter()
        .flat_map(|partition| damages(partition, generation, server.is_some()))
        .collect();
    for damage in Kind::ALL {
        report(&mut finding, damage, &damages);
    }
    judge_leftovers(&mut finding, &found);
    judge_owner(host, &mut finding, &found, &data.path, server.map(|server| server.pid));
    judge_sight(&mut finding, &found);

    let segments: usize = found.partitions.iter().map(|partition| partition.segments.len()).sum();
    let size: u64 = found.partitions.iter().map(Partition::log_bytes).sum();
    finding.summary = format!(
        "{}, {}, {} and {} with {} of messages in {}",
        count(found.streams as u64, "stream", "streams"),
        count(found.topics as u64, "topic", "topics"),
        count(found.partitions.len() as u64, "partition", "partitions"),
        count(segments as u64, "segment", "segments"),
        bytes(size),
        data.path,
    );
    let fields = Fields::new("Data directory")
        .row("path", Value::Code(data.path))
        .row("found by", data.found_by)
        .row("written by version", generation.name())
        .row("messages on disk", Value::Bytes(size))
        .row("newest write", newest(found.partitions.iter()));
    finding.show(Evidence::Fields(fields));
    if !damages.is_empty() {
        let mut table = Table::new("Damaged segments", ["file", "what is wrong"]);
        for damage in &damages {
            table.marked_row(
                damage.kind.severity(),
                [Value::Code(damage.file.clone()), damage.detail.clone().into()],
            );
        }
        finding.show(Evidence::Table(table));
    }
    show_topics(&mut finding, &found);
    Ok(finding)
}

/// What to say when nothing at all is where a running server has its data.
fn missing(host: &Host, data: &DataDirectory, pid: u32) -> Result<Option<Finding>> {
    let path = &data.path;
    let mut places = vec![format!("{path}/streams"), format!("{path}/runtime/current_config.toml")];
    // The server may see another directory at this path.
    if !path.starts_with("/proc/") {
        places.push(format!("/proc/{pid}/root{path}/streams"));
    }
    // What would tell another place must have been seen.
    host.read(&format!("/proc/{pid}/environ")).if_any()?;
    host.list(&format!("/proc/{pid}/fd")).if_any()?;
    for place in places {
        if host.stat(&place).if_any()?.is_some() {
            return Ok(None);
        }
    }
    let mut finding = Finding::new(format!("nothing of a data directory is at {path}"));
    let text = format!("process {pid} serves from {path} ({}), and nothing is there", data.found_by);
    let advice = Advice::run(
        "Do not stop the server: files that it holds open may be the only copy. See what it has open.",
        format!("ls -l /proc/{pid}/fd; ls -la '{path}'"),
    );
    finding.fail(text, advice);
    Ok(Some(finding))
}

fn judge_generation(finding: &mut Finding, generation: Generation, found: &Inventory, path: &str) {
    match generation {
        Generation::Both => {
            let advice = Advice::run(
                "Copy the directory first, to a disk with room; then start the version that wrote the data. The first topic created by 0.9 writes over the files of 0.8.",
                format!("cp -a --reflink=auto '{path}' PLACE/"),
            );
            finding.fail("the directory holds the metadata of 0.8 and of 0.9: a 0.9 server sees nothing of the data of 0.8", advice);
        }
        Generation::Unknown if found.streams > 0 => {
            let advice = Advice::run(
                "Copy the directory first, to a disk with room; then put state/ or metadata/ back from a backup. A server without it starts with no streams, and the first topic created writes over the old one's files.",
                format!("cp -a --reflink=auto '{path}' PLACE/"),
            );
            let streams = count(found.streams as u64, "stream directory", "stream directories");
            finding.fail(format!("there are {streams} and neither state/log nor metadata/journal.wal: the server does not know them"), advice);
        }
        Generation::Old | Generation::New | Generation::Unknown => {}
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    LogWithoutIndex,
    TornIndex,
    EmptySealed,
    IndexWithoutLog,
    Gap,
}

impl Kind {
    const ALL: [Kind; 5] =
        [Kind::LogWithoutIndex, Kind::TornIndex, Kind::EmptySealed, Kind::IndexWithoutLog, Kind::Gap];

    const fn severity(self) -> Verdict {
        match self {
            Kind::LogWithoutIndex => Verdict::Fail,
            Kind::TornIndex | Kind::EmptySealed | Kind::IndexWithoutLog | Kind::Gap => Verdict::Warn,
        }
    }

    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Kind::LogWithoutIndex => ("log has messages and no index", "logs have messages and no index"),
            Kind::TornIndex => ("index ends within an entry", "indexes end within an entry"),
            Kind::EmptySealed => ("sealed segment is empty", "sealed segments are empty"),
            Kind::IndexWithoutLog => ("index has no log", "indexes have no log"),
            Kind::Gap => ("gap lies between segments", "gaps lie between segments"),
        }
    }
}

struct Damage {
    kind: Kind,
    file: String,
    detail: String,
}

fn damages(partition: &Partition, generation: Generation, is_running: bool) -> Vec<Damage> {
    let mut all = Vec::new();
    for (at, segment) in partition.segments.iter().enumerate() {
        let next = partition.segments.get(at + 1);
        // What a running server is writing to may be seen between two writes.
        if next.is_none() && is_running {
            continue;
        }
        let file = |kind: &str| format!("{}/{:020}.{kind}", partition.path, segment.start);
        let mut add = |kind, file, detail| all.push(Damage { kind, file, detail });
        let size = |stat: &Option<Stat>| stat.as_ref().map(|stat| stat.size);
        let (log, index) = (size(&segment.log), size(&segment.index));
        match (log, index) {
            (None, _) => add(Kind::IndexWithoutLog, file("index"), "there is no log beside it".to_owned()),
            (Some(0), _) if next.is_some() => {
                add(Kind::EmptySealed, file("log"), "0 B, and a later segment exists".to_owned())
            }
            (Some(1..), None | Some(0)) => {
                let lost = bytes(log.unwrap_or_default());
                add(Kind::LogWithoutIndex, file("log"), format!("{lost} of messages that no index leads to"));
            }
            _ => {}
        }
        let Some(entry) = generation.index_entry() else { continue };
        if let Some(size) = index.filter(|size| size % entry != 0) {
            add(Kind::TornIndex, file("index"), format!("{size} bytes are no multiple of {entry}"));
        }
        // Only the old index has an entry for each message.
        let messages =
            index.filter(|size| generation == Generation::Old && size % entry == 0).map(|size| size / entry);
        if let (Some(messages @ 1..), Some(next)) = (messages, next) {
            let end = segment.start.saturating_add(messages);
            if end != next.start {
                add(
                    Kind::Gap,
                    file("index"),
                    format!("it ends at offset {end}, the next segment begins at {}", next.start),
                );
            }
        }
    }
    all
}

fn report(finding: &mut Finding, kind: Kind, damages: &[Damage]) {
    let mut same = damages.iter().filter(|damage| damage.kind == kind);
    let Some(first) = same.next() else { return };
    let (one, many) = kind.names();
    let text = format!("{}: {} ({})", count(same.count() as u64 + 1, one, many), first.file, first.detail);
    let advice = Advice::run(
        "Copy the partition before the next restart, to a disk with room; then `warden inspect --scan full` tells what helps. Empty, move and delete nothing before.",
        format!(
            "cp -a --reflink=auto '{}' PLACE/",
            first.file.rsplit_once('/').map_or("/", |(directory, _)| directory)
        ),
    );
    finding.problem(kind.severity(), text, advice);
}

fn judge_leftovers(finding: &mut Finding, found: &Inventory) {
    if let Some(first) = found.fenced.first() {
        let text = format!(
            "Iggy has put {} aside as damaged: {first}",
            count(found.fenced.len() as u64, "partition", "partitions")
        );
        let advice = Advice::run(
            "Copy it first, to a disk with room, and delete nothing: its messages are no longer served, and this is the only copy of them. `warden inspect` tells how they were brought back.",
            format!("cp -a --reflink=auto '{first}' PLACE/"),
        );
        finding.fail(text, advice);
    }
    if let Some(first) = found.staging.first() {
        let text = format!(
            "{} between replicas left something behind: {first}",
            count(found.staging.len() as u64, "transfer", "transfers")
        );
        finding.note(text, Advice::text("Nothing to do: a 0.9 server removes it at its next start."));
    }
}

fn judge_owner(host: &Host, finding: &mut Finding, found: &Inventory, path: &str, server: Option<u32>) {
    let top = format!("{path}/streams");
    let Ok(Some(directory)) = host.stat(&top).if_any() else { return };
    if server.is_none() && !iggy::processes_are_known(host) {
        return;
    }
    let status = server.map(|pid| host.value(&format!("/proc/{pid}/status")));
    let Ok(status) = status.transpose() else { return };
    // As whom the server runs is not known: nothing to hold the owners against.
    if status.as_ref().is_some_and(|status| field(status, "Uid").is_none()) {
        return;
    }
    // The second of the four is the effective one (proc(5)).
    let user: Option<u32> =
        status.as_deref().and_then(|status| field(status, "Uid")?.split_whitespace().nth(1)?.parse().ok());
    let foreign = |user: u32| {
        found.partitions.iter().flat_map(Partition::files).filter(move |file| file.uid != user).count()
    };
    let advice = |user: u32| {
        Advice::run("Give the directory back to the server's user.", format!("chown -R {user}: '{path}'"))
    };
    match user {
        Some(0) => {}
        Some(user) if directory.uid != user || foreign(user) > 0 => {
            let files = count(foreign(user) as u64, "segment file", "segment files");
            let text = format!(
                "the server runs as user {user}, {top} belongs to user {} and {files} to others: it cannot write there",
                directory.uid
            );
            finding.fail(text, advice(user));
        }
        Some(_) => {}
        None => {
            let others = foreign(directory.uid);
            if others > 0 {
                let files = count(others as u64, "segment file does", "segment files do");
                let text = format!(
                    "{files} not belong to user {}, who owns {top}: was the server once started as another user?",
                    directory.uid
                );
                finding.warn(text, advice(directory.uid));
            }
        }
    }
    // A closed door above is enough; `..` is the data directory itself.
    let is_open = |stat: &Stat| stat.mode & 0o001 != 0;
    let above = host.stat(&format!("{top}/..")).ok();
    let readable = found.partitions.iter().flat_map(Partition::files).any(|file| file.mode & 0o004 != 0);
    if readable && is_open(&directory) && above.is_some_and(|above| is_open(&above)) {
        let text = format!("every user of this machine may read the messages below {path}");
        finding.note(
            text,
            Advice::run(
                "Close the directory to others, and set UMask=0027 in the unit.",
                format!("chmod o= '{path}'"),
            ),
        );
    }
}

fn judge_sight(finding: &mut Finding, found: &Inventory) {
    if let Some(first) = found.unseen.first() {
        let text = format!(
            "{} could not be seen: {first}",
            count(found.unseen.len() as u64, "file or directory", "files or directories")
        );
        finding.note(text, Advice::text("Run as root or give Warden CAP_DAC_READ_SEARCH."));
    }
    if found.cut {
        let text = format!(
            "the walk ended at {DIRECTORIES} directories or {FILES} files: only {} were seen",
            count(found.partitions.len() as u64, "partition", "partitions")
        );
        finding.note(text, Advice::text("Look at all of it offline with `warden inspect`."));
    }
}

fn newest<'a>(partitions: impl Iterator<Item = &'a Partition>) -> Value {
    partitions.flat_map(Partition::files).map(|file| file.modified).max().map_or(Value::Nothing, Value::Time)
}

/// Bars that still read well.
const BARS: usize = 64;

fn show_topics(finding: &mut Finding, found: &Inventory) {
    let mut topics: BTreeMap<(&str, &str), Vec<&Partition>> = BTreeMap::new();
    for partition in &found.partitions {
        topics.entry((&partition.stream, &partition.topic)).or_default().push(partition);
    }
    let mut topics: Vec<_> = topics.into_iter().collect();
    let size =
        |partitions: &[&Partition]| partitions.iter().map(|partition| partition.log_bytes()).sum::<u64>();
    topics.sort_by_key(|(_, partitions)| std::cmp::Reverse(size(partitions)));
    let mut table =
        Table::new("Topics", ["stream", "topic", "partitions", "segments", "messages", "newest write"]);
    let mut chart = Series::bars("Messages of each topic", Unit::Bytes, ["bytes"]);
    for ((stream, topic), partitions) in &topics {
        let bytes = size(partitions);
        table.row([
            (*stream).into(),
            (*topic).into(),
            partitions.len().into(),
            partitions.iter().map(|partition| partition.segments.len()).sum::<usize>().into(),
            Value::Bytes(bytes),
            newest(partitions.iter().copied()),
        ]);
        if chart.points.len() < BARS {
            chart.point(format!("stream {stream} topic {topic}"), [bytes as f64]);
        }
    }
    if !topics.is_empty() {
        finding.show(Evidence::Series(chart));
    }
    finding.show(Evidence::Table(table));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{self, Cause, Data, Recorded, Request};
    use crate::iggy::tests::{directory, running, settings, stat, stat_line};

    const PARTITION: &str = "/var/lib/iggy/streams/0/topics/0/partitions/0";

    fn file(recorded: Recorded, path: &str, size: u64) -> Recorded {
        recorded.with(Request::Stat { path: path.to_owned() }, Data::Stat(stat(host::Kind::File, size)))
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
        let expected = format!(
            "1 index ends within an entry: {PARTITION}/{:020}.index (50 bytes are no multiple of 24)",
            0
        );
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
        let recorded =
            segment(new_data(), 1600, 1000, 50).file("/proc/70/status", "Uid:\t997\t997\t997\t997\n");
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
        let mut root = stat(host::Kind::File, 24);
        root.uid = 0;
        let mixed = new_data()
            .with(Request::Stat { path: format!("{PARTITION}/{:020}.index", 1600) }, Data::Stat(root));
        assert!(problem(mixed).1.starts_with("1 segment file does not belong to user 997"));
    }

    #[test]
    fn messages_that_everybody_may_read_are_noted() {
        let open = directory(new_data(), "/var/lib/iggy/streams/..");
        assert_eq!(
            problem(open),
            (
                Verdict::Note,
                "every user of this machine may read the messages below /var/lib/iggy".to_owned()
            )
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
}
