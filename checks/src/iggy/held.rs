//! What a running server holds open of its data directory, held against what is on disk: a directory that was
//! deleted, replaced or renamed under it lives on in its descriptors, and dies with the process.

use std::collections::{BTreeMap, BTreeSet};

use warden_host::proc::{Mount, field};
use warden_host::quantity::{bytes, count};
use warden_host::{Host, IfAny, Kind, Text, quoted};

use super::{DELETED, Launch, Runtime, Service, configuration, descriptors, launches};
use crate::{Advice, Finding, Verdict};

/// The check that tells a loss.
pub const TOLD_BY: &str = "runtime-iggy-process";
/// The metadata, the log and the first segments are among the lowest; each link is a file of the recording.
const DESCRIPTORS: usize = 256;
/// Files whose identity is compared with what their name leads to now.
const COMPARED: usize = 8;
/// Places that a copy may go to, of which the roomiest is named.
const ROOMS: [&str; 6] = ["/var/tmp", "/root", "/home", "/srv", "/mnt", "/opt"];

/// A data directory that is not where its server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    pub pid: u32,
    /// The directory as the process names it.
    pub path: String,
    pub what: What,
    /// Files of it that the process was seen to hold open.
    pub held: usize,
    /// Whether it holds more than was looked at.
    more: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Deleted,
    /// The segment that is written to, of these partitions, was deleted; the rest is there.
    Partly(Vec<String>),
    /// Another file has the name of one that the process holds: a directory put in its place, or a mount over it.
    Replaced(String),
    /// The directory has another name now than the server was started with.
    Renamed {
        from: String,
    },
}

/// Every running server whose data directory was taken away from under it.
pub fn losses(host: &Host) -> Vec<Loss> {
    launches(host, Runtime::Iggy).iter().filter_map(|launch| of_server(host, launch)).collect()
}

struct Held {
    number: u32,
    path: String,
    deleted: bool,
}

fn of_server(host: &Host, launch: &Launch) -> Option<Loss> {
    let pid = launch.pid?;
    let all = descriptors(host, pid, DESCRIPTORS);
    let more = all.len() == DESCRIPTORS;
    let files: Vec<Held> = all
        .into_iter()
        .filter(|(_, target)| target.starts_with('/'))
        .map(|(number, target)| match target.strip_suffix(DELETED) {
            Some(path) => Held { number, path: path.to_owned(), deleted: true },
            None => Held { number, path: target, deleted: false },
        })
        .collect();
    let path = files.iter().find_map(|file| root_of(&file.path))?.to_owned();
    // The log may be rotated or removed by others, and no message is in it.
    let below = |file: &&Held| {
        file.path.strip_prefix(&path).is_some_and(|rest| rest.starts_with('/') && !rest.starts_with("/logs/"))
    };
    let data: Vec<&Held> = files.iter().filter(below).collect();
    let names: BTreeSet<&str> = data.iter().map(|file| file.path.as_str()).collect();
    let what = deleted(host, pid, &path, &data)
        .or_else(|| replaced(host, pid, &data))
        .or_else(|| renamed(host, launch, pid, &path))?;
    Some(Loss { pid, held: names.len(), path, what, more })
}

fn root_of(path: &str) -> Option<&str> {
    const CORE: [&str; 3] = ["/metadata/journal.wal", "/state/log", "/logs/iggy-server.log"];
    let core = CORE.iter().find_map(|end| path.strip_suffix(end));
    let is_segment = path.ends_with(".log") || path.ends_with(".index");
    core.or_else(|| path.rsplit_once("/streams/").filter(|_| is_segment).map(|(root, _)| root))
}

fn deleted(host: &Host, pid: u32, path: &str, data: &[&Held]) -> Option<What> {
    if !data.iter().any(|file| file.deleted) {
        return None;
    }
    let metadata = data.iter().any(|file| file.deleted && !file.path.contains("/streams/"));
    let streams = host.stat(&format!("/proc/{pid}/root{path}/streams")).if_any();
    // The last segment of a partition is the one that is written to: expiry never takes it.
    let mut last: BTreeMap<&str, &Held> = BTreeMap::new();
    for file in data.iter().filter(|file| file.path.ends_with(".log") && file.path.contains("/streams/")) {
        let Some((partition, _)) = file.path.rsplit_once('/') else { continue };
        let newest = last.entry(partition).or_insert(file);
        if file.path > newest.path || file.path == newest.path && file.deleted {
            *newest = file;
        }
    }
    let gone: Vec<String> =
        last.iter().filter(|(_, file)| file.deleted).map(|(partition, _)| (*partition).to_owned()).collect();
    if metadata || matches!(streams, Ok(None)) || !gone.is_empty() && gone.len() == last.len() {
        return Some(What::Deleted);
    }
    (!gone.is_empty()).then_some(What::Partly(gone))
}

fn replaced(host: &Host, pid: u32, data: &[&Held]) -> Option<What> {
    let first = data.iter().filter(|file| !file.deleted).take(COMPARED);
    let differs = |file: &&&Held| {
        let seen = host.stat(&format!("/proc/{pid}/root{}", file.path)).if_any();
        let information = host.read(&format!("/proc/{pid}/fdinfo/{}", file.number)).unwrap_or_default();
        // Told since Linux 5.14.
        let inode: Option<u64> = field(&information, "ino").and_then(|ino| ino.parse().ok());
        match (seen, inode) {
            (Ok(Some(seen)), Some(inode)) => seen.kind == Kind::File && seen.inode != inode,
            // A name that leads nowhere, of a file that is not deleted: something was mounted over it.
            (Ok(None), _) => true,
            (Ok(Some(_)), None) | (Err(_), _) => false,
        }
    };
    let file = first.into_iter().find(differs)?;
    has_one_inode_number(host, pid, &file.path).then(|| What::Replaced(file.path.clone()))
}

/// Overlays and network filesystems give a file one number inside the kernel and another to programs.
fn has_one_inode_number(host: &Host, pid: u32, path: &str) -> bool {
    const ONE: [&str; 7] = ["ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "zfs"];
    let mounts = Mount::parse_all(&host.read(&format!("/proc/{pid}/mountinfo")).unwrap_or_default());
    let covers = |mount: &&Mount| {
        let point = mount.point.trim_end_matches('/');
        path.strip_prefix(point).is_some_and(|rest| rest.starts_with('/'))
    };
    let mount = mounts.iter().filter(covers).max_by_key(|mount| mount.point.len());
    mount.is_some_and(|mount| ONE.contains(&mount.filesystem.as_str()))
}

/// The server writes down at its start where its data is. A symbolic link leads to the same directory.
fn renamed(host: &Host, launch: &Launch, pid: u32, path: &str) -> Option<What> {
    let written =
        configuration::written_path(host, &format!("/proc/{pid}/root{path}/runtime/current_config.toml"))?;
    let from = launch.absolute(&written)?;
    if from == path {
        return None;
    }
    let identity = |path: &str| {
        let stat = host.stat(&format!("/proc/{pid}/root{path}/streams")).if_any();
        stat.map(|stat| {
            stat.filter(|stat| stat.kind == Kind::Directory).map(|stat| (stat.device, stat.inode))
        })
    };
    let (Ok(Some(here)), Ok(there)) = (identity(path), identity(&from)) else { return None };
    (there != Some(here)).then_some(What::Renamed { from })
}

/// The beginning of every advice that a loss holds back.
const HELD_BACK: &str = "Not before the data is safe:";

impl Loss {
    pub fn severity(&self) -> Verdict {
        match self.what {
            What::Deleted | What::Replaced(_) | What::Renamed { .. } => Verdict::Fail,
            What::Partly(_) => Verdict::Warn,
        }
    }

    pub fn sentence(&self) -> String {
        let Loss { pid, path, .. } = self;
        let files = format!(
            "{}{}",
            if self.more { "at least " } else { "" },
            count(self.held as u64, "file", "files")
        );
        let end = format!(
            "{files} of it exist only while process {pid} lives, and a stop, a restart or a reboot destroys them"
        );
        match &self.what {
            What::Deleted => format!("the data directory {path} was deleted under the running server: {end}"),
            What::Partly(partitions) => format!(
                "the newest segment of {} was deleted while process {pid} holds it open: {}; unless a topic was deleted a moment ago, its messages exist only while the process lives",
                count(partitions.len() as u64, "partition", "partitions"),
                partitions.join(", ")
            ),
            What::Replaced(file) => format!(
                "something else lies where the running server has its data: {file} is another file than process {pid} holds open (a directory put in its place, or a mount over it); {end}, unless the old directory is still mounted elsewhere"
            ),
            What::Renamed { from } => format!(
                "the data directory {from} was renamed to {path} under the running server: after a restart it begins with an empty {from}"
            ),
        }
    }

    pub fn advice(&self, host: &Host) -> Advice {
        if let What::Renamed { from } = &self.what {
            let text = format!(
                "Do not restart the server or reboot. Give the directory its name back first, while the server runs; if something lies at {from} by now, move that aside before."
            );
            return Advice::run(text, format!("mv -nT {} {}", quoted(&self.path), quoted(from)));
        }
        let (to, room) = self.room(host);
        let text = format!(
            "Do not stop or restart the server, and do not reboot. First copy what it holds open to their old names, to a place with room ({room}). Then follow `How to get the data back`."
        );
        Advice::run(text, self.copy(&to))
    }

    /// The whole way back, in order.
    pub fn steps(&self, host: &Host) -> Option<Text> {
        if matches!(self.what, What::Renamed { .. }) {
            return None;
        }
        let (to, _) = self.room(host);
        let (pid, path) = (self.pid, quoted(&self.path));
        let stop = Service::of_process(host, pid).unwrap_or(Service::Nobody { pid }).stop();
        let status = host.read(&format!("/proc/{pid}/status")).unwrap_or_default();
        let id = |name| {
            field(&status, name).and_then(|ids| ids.split_whitespace().nth(1)).unwrap_or("0").to_owned()
        };
        let (user, group) = (id("Uid"), id("Gid"));
        let text = format!(
            "Tried on 0.9.0-edge.5: every message on disk came back.\n\
             1. Keep the server running. Stop the producers, and let consumers read what they still need: up to 1,024 \
             messages or 1 MiB of each partition are in memory only and are not in the files.\n\
             2. Copy what it holds open. There must be no line NOT COPIED:\n   {}\n\
             3. See that the segments are there:\n   find {to} -name '*.log' -size +0 | sort\n\
             4. Write down from the running server every stream with its number, and every topic with its number, its \
             name and its count of partitions (`iggy stream list`, `iggy topic list STREAM`), and the users. The \
             metadata cannot be copied: snapshot.bin is not held open, and a server that starts without it knows no \
             stream.\n\
             5. Only then stop the server:\n   {stop}\n\
             6. Move aside what lies at the old place now, and begin with an empty directory:\n   \
             [ ! -e {path} ] || mv -T {path} {aside}; install -d -o {user} -g {group} -m 0750 {path}\n\
             7. Start the server and create the streams and topics in the order of their numbers, so that each gets its \
             old number, with as many partitions; send nothing. Create the users. Stop it again.\n\
             8. Put the segments back, and start it:\n   cp -a {to}/streams/. {streams}/ && chown -R {user}:{group} {path}\n\
             9. Compare the number of messages of each topic with what it was. Consumers begin anew: their stored offsets \
             are not among the open files. Keep {to} until all is well.",
            self.copy(&to),
            aside = quoted(&format!("{}.after", self.path)),
            streams = quoted(&format!("{}/streams", self.path)),
        );
        Some(Text { title: "How to get the data back".to_owned(), text })
    }

    fn copy(&self, to: &str) -> String {
        format!(
            "from={}; to={to}; mkdir -p \"$to\" && for fd in /proc/{}/fd/*; do f=$(readlink \"$fd\"); \
             f=${{f%\" (deleted)\"}}; case $f in \"$from\"/*) t=$to${{f#\"$from\"}}; mkdir -p \"${{t%/*}}\"; \
             [ -e \"$t\" ] || cp \"$fd\" \"$t\" || echo \"NOT COPIED: $f\";; esac; done; du -sh \"$to\"",
            quoted(&self.path),
            self.pid
        )
    }

    fn room(&self, host: &Host) -> (String, String) {
        let outside = |room: &&&str| !self.path.starts_with(&format!("{room}/"));
        let spaces = ROOMS.iter().filter(outside).filter_map(|room| Some((*room, host.space(room).ok()?)));
        let best = spaces.filter(|(_, space)| !space.read_only).max_by_key(|(_, space)| space.available);
        let name = format!("iggy-rescue-{}", self.pid);
        match best {
            Some((room, space)) => (
                format!("{room}/{name}"),
                format!("{room} has {} left; `df -h` shows others", bytes(space.available)),
            ),
            None => (format!("/var/tmp/{name}"), "`df -h` shows where".to_owned()),
        }
    }
}

/// Holds back what would end the process whose descriptors are the only copy of the data: advice of `finding` that
/// stops, restarts or reboots loses its command and says why. Advice about the loss itself stays.
pub fn hold_back(losses: &[Loss], finding: &mut Finding) {
    for problem in &mut finding.problems {
        if let Some(advice) = held_back(losses, &problem.text, &problem.advice) {
            problem.advice = advice;
        }
    }
}

/// `advice` as it may be given while `losses` stand; `None` when nothing needs to change.
pub fn held_back(losses: &[Loss], problem: &str, advice: &Advice) -> Option<Advice> {
    let first = losses.first()?;
    let is_rescue = losses.iter().any(|loss| problem == loss.sentence());
    let command = advice.command.as_deref().unwrap_or_default();
    if is_rescue || !(ends_something(&advice.text) || ends_something(command)) {
        return None;
    }
    let text = format!(
        "{HELD_BACK} process {} holds the only copy of it (see {TOLD_BY}); copy that first. Later: {}",
        first.pid, advice.text
    );
    let command = advice.command.clone().filter(|command| !ends_something(command));
    Some(Advice { text, command })
}

/// Whether a text asks to end, restart or replace something that runs.
fn ends_something(text: &str) -> bool {
    const WORDS: [&str; 14] = [
        "restart", "reboot", "stop", "kill", "start", "shutdown", "poweroff", "unmount", "umount", "upgrade",
        "update", "truncate", "mv", "rm",
    ];
    let lower = text.to_lowercase();
    let mut words = lower.split(|character: char| !character.is_ascii_alphanumeric());
    words.any(|word| WORDS.contains(&word) || word == "restarts" || word == "stopping")
}

#[cfg(test)]
mod tests {
    use warden_host::{Data, Recorded, Request, Stat};

    use super::super::tests::{directory, link, running, stat};
    use super::*;

    const PARTITION: &str = "/d/streams/0/topics/0/partitions/0";

    /// A server that holds these files open, the first as descriptor 3.
    fn holding(files: &[&str]) -> Recorded {
        let host = directory(running(70), "/proc/70/root/d/streams");
        let host = host.file("/proc/70/mountinfo", "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n");
        files.iter().enumerate().fold(host, |host, (number, file)| {
            let path = file.strip_suffix(DELETED).unwrap_or(file);
            let host = match file.ends_with(DELETED) {
                true => host,
                false => on_disk(host, path, 2),
            };
            let host =
                host.file(&format!("/proc/70/fdinfo/{}", number + 3), "pos:\t0\nmnt_id:\t27\nino:\t2\n");
            link(host, &format!("/proc/70/fd/{}", number + 3), file)
        })
    }

    fn on_disk(host: Recorded, path: &str, inode: u64) -> Recorded {
        let stat = Stat { inode, ..stat(Kind::File, 9) };
        host.with(Request::Stat { path: format!("/proc/70/root{path}") }, Data::Stat(stat))
    }

    fn whole() -> [String; 4] {
        let segment = |start: u32| format!("{PARTITION}/{start:020}.log");
        ["/d/logs/iggy-server.log".to_owned(), "/d/metadata/journal.wal".to_owned(), segment(0), segment(100)]
    }

    /// With the files at these places deleted.
    fn with_deleted(deleted: &[usize]) -> Recorded {
        let mut files = whole();
        deleted.iter().for_each(|&at| files[at].push_str(DELETED));
        holding(&files.each_ref().map(String::as_str))
    }

    fn of(host: Recorded) -> Vec<Loss> {
        losses(&host.host())
    }

    #[test]
    fn a_deleted_directory_is_a_loss_and_a_deleted_log_or_an_expired_segment_is_none() {
        assert_eq!(of(with_deleted(&[])), []);
        assert_eq!(of(with_deleted(&[0])), [], "the log was rotated away");
        assert_eq!(of(with_deleted(&[2])), [], "expiry takes the oldest segment");
        let all = of(with_deleted(&[0, 1, 2, 3]));
        assert_eq!((all.len(), &all[0].what, all[0].held), (1, &What::Deleted, 3));
        assert_eq!(all[0].severity(), Verdict::Fail);
        assert_eq!(
            all[0].sentence(),
            "the data directory /d was deleted under the running server: 3 files of it exist only while process 70 lives, and a stop, a restart or a reboot destroys them"
        );
        assert_eq!(of(with_deleted(&[1]))[0].what, What::Deleted, "the metadata alone");
        assert_eq!(of(with_deleted(&[3]))[0].what, What::Deleted, "the newest segment of every partition");
    }

    #[test]
    fn the_newest_segment_of_one_partition_warns() {
        let mut files = whole().to_vec();
        files.push(format!("/d/streams/0/topics/0/partitions/1/{:020}.log{DELETED}", 0));
        let names: Vec<&str> = files.iter().map(String::as_str).collect();
        let found = of(holding(&names));
        assert_eq!(found[0].what, What::Partly(vec!["/d/streams/0/topics/0/partitions/1".to_owned()]));
        assert_eq!(found[0].severity(), Verdict::Warn);
    }

    #[test]
    fn another_file_under_the_same_name_is_a_loss_where_inode_numbers_tell() {
        let journal = &whole()[1];
        let replaced = on_disk(with_deleted(&[]), journal, 77);
        assert_eq!(of(replaced.clone())[0].what, What::Replaced(journal.clone()));
        let overlay = "1 0 8:1 / / rw - overlay overlay rw\n";
        assert_eq!(of(replaced.clone().file("/proc/70/mountinfo", overlay)), []);
        assert_eq!(of(replaced.file("/proc/70/fdinfo/4", "pos:\t0\n")), [], "before Linux 5.14");
        let request = Request::Stat { path: format!("/proc/70/root{journal}") };
        let hidden = with_deleted(&[]).without(request.clone(), warden_host::Cause::Absent);
        assert_eq!(of(hidden)[0].what, What::Replaced(journal.clone()), "mounted over");
        assert_eq!(of(with_deleted(&[]).without(request, warden_host::Cause::Denied)), []);
    }

    #[test]
    fn a_renamed_directory_is_known_by_what_the_server_wrote_down_and_a_link_is_no_rename() {
        let written = with_deleted(&[])
            .file("/proc/70/root/d/runtime/current_config.toml", "[system]\npath = \"/var/lib/iggy\"\n");
        assert_eq!(of(written.clone())[0].what, What::Renamed { from: "/var/lib/iggy".to_owned() });
        assert_eq!(of(directory(written, "/proc/70/root/var/lib/iggy/streams")), [], "the same directory");
    }

    #[test]
    fn advice_that_ends_the_process_is_held_back_and_the_rescue_is_not() {
        let host = with_deleted(&[0, 1, 2, 3]).space("/srv", 1 << 40, 1 << 39).space("/var/tmp", 9, 9).host();
        let losses = losses(&host);
        let mut finding = Finding::new("");
        finding.fail(losses[0].sentence(), losses[0].advice(&host));
        finding.warn("old", Advice::run("Restart it.", "systemctl restart iggy.service"));
        finding.warn("full", Advice::run("Make room.", "df -h"));
        finding.warn("limit", Advice::run("Set it; it holds from the next start.", "printf x > y"));
        hold_back(&losses, &mut finding);
        let advice: Vec<_> = finding.problems.iter().map(|problem| &problem.advice).collect();
        let copy = advice[0].command.as_deref().unwrap();
        assert!(copy.starts_with("from='/d'; to=/srv/iggy-rescue-70; mkdir -p"), "{copy}");
        assert_eq!(
            advice[1].text,
            "Not before the data is safe: process 70 holds the only copy of it (see runtime-iggy-process); copy that first. Later: Restart it."
        );
        assert_eq!(advice[1].command, None);
        assert_eq!((advice[2].text.as_str(), advice[2].command.as_deref()), ("Make room.", Some("df -h")));
        assert!(advice[3].text.starts_with(HELD_BACK) && advice[3].command.is_some());
        let mut alone = finding.clone();
        hold_back(&[], &mut alone);
        assert_eq!(alone, finding, "without a loss nothing changes");
    }
}
