//! runtime-iggy-data: is the data directory sound, by what can be seen without opening a message.

use std::collections::BTreeMap;

use warden_host::proc::field;
use warden_host::quantity::{bytes, count};
use warden_host::{Host, IfAny, Stat};

use crate::iggy::data_inventory::{DIRECTORIES, FILES, Generation, Inventory, Partition, inventory};
use crate::iggy::{self, DataDirectory, Runtime};
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
        Read::Group(iggy::READS),
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
mod tests;
