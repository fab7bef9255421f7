//! What the kernel's log says of storage: which device a line blames, and how bad it is. The one reader of such lines
//! for every check. Source: drivers/{ata,md,nvme,scsi}, block/ and fs/ of Linux 4.x to 6.x.

use warden_host::Verdict::{Fail, Note, Pass, Warn};
use warden_host::{Host, LogLine, Verdict};

/// A line of the log that blames storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageError {
    /// As the line names it: `sda1`, `nvme0`, `md0`, `253:4`, `ata3.00`; empty when it names none.
    pub device: String,
    pub severity: Verdict,
    /// `I/O error`, `filesystem error`...
    pub what: &'static str,
}

/// Where in a line the device is named.
enum Named {
    After(&'static str),
    /// `sda1-8` is the journal of sda1.
    JournalAfter(&'static str),
    /// The first word, up to a colon.
    First,
    /// The first word that begins so.
    Word(&'static str),
    Nowhere,
}

struct Sign {
    /// All of them are in the line.
    holds: &'static [&'static str],
    named: Named,
    /// `Pass`: known to be harmless.
    severity: Verdict,
    what: &'static str,
}

const fn sign(holds: &'static [&'static str], named: Named, severity: Verdict, what: &'static str) -> Sign {
    Sign { holds, named, severity, what }
}

const IO: &str = "I/O error";
const FILESYSTEM: &str = "filesystem error";
const ARRAY: &str = "array error";
const POOL: &str = "lack of room";
const LINK: &str = "unanswered command";
/// What ends an earlier complaint about the same device.
const OVER: &str = "over";

use Named::{After, First, JournalAfter, Nowhere, Word};

/// In this order: the first that matches decides.
const SIGNS: &[Sign] = &[
    // The block layer. A discard or a zeroing that is refused loses no data.
    sign(&["operation not supported error, dev "], Nowhere, Pass, IO),
    sign(&[" error, dev ", "(DISCARD)"], After("error, dev "), Note, "refused discard"),
    sign(&[" error, dev ", "(WRITE_ZEROES)"], After("error, dev "), Note, "refused zeroing"),
    sign(&[" error, dev ", "(SECURE_ERASE)"], After("error, dev "), Note, "refused discard"),
    sign(&["space allocation error, dev "], After("error, dev "), Fail, POOL),
    sign(&[" error, dev "], After("error, dev "), Fail, IO),
    sign(&["Buffer I/O error on device "], After("on device "), Fail, IO),
    sign(&["Buffer I/O error on dev "], After("on dev "), Fail, IO),
    sign(&["lost page write due to I/O error on "], After("error on "), Fail, IO),
    // ext4 and its journal.
    sign(&["-fs error (device "], After("(device "), Fail, FILESYSTEM),
    sign(&["EXT4-fs warning (device ", "I/O error"], After("(device "), Fail, IO),
    sign(&["EXT4-fs (", "Remounting filesystem read-only"], After("EXT4-fs ("), Fail, FILESYSTEM),
    sign(&["EXT4-fs (", "hut down requested"], After("EXT4-fs ("), Fail, FILESYSTEM),
    sign(&["EXT4-fs (", "block allocation failed"], After("EXT4-fs ("), Fail, FILESYSTEM),
    sign(&["EXT4-fs (", "should not happen"], After("EXT4-fs ("), Fail, FILESYSTEM),
    sign(&["EXT4-fs (", "failed to convert unwritten"], After("EXT4-fs ("), Fail, FILESYSTEM),
    sign(&["EXT4-fs (", "error count since last fsck"], After("EXT4-fs ("), Warn, "earlier error"),
    sign(&["EXT4-fs (", "mounting fs with errors"], After("EXT4-fs ("), Warn, "earlier error"),
    sign(&["JBD2: Detected IO errors while flushing file data on "], JournalAfter(" data on "), Fail, IO),
    sign(&["JBD2: Error ", "journal superblock for "], JournalAfter("superblock for "), Fail, IO),
    sign(&["Aborting journal on device "], JournalAfter("on device "), Fail, FILESYSTEM),
    // XFS.
    sign(&["XFS (", "orruption"], After("XFS ("), Fail, FILESYSTEM),
    sign(&["XFS (", "CRC error"], After("XFS ("), Fail, FILESYSTEM),
    sign(&["XFS (", "I/O error"], After("XFS ("), Fail, IO),
    sign(&["XFS (", "I/O Error"], After("XFS ("), Fail, IO),
    sign(&["XFS (", "writeback error"], After("XFS ("), Fail, IO),
    sign(&["XFS (", "Failing async write"], After("XFS ("), Fail, IO),
    sign(&["XFS (", "error -5"], After("XFS ("), Fail, IO),
    sign(&["XFS (", "hutting down"], After("XFS ("), Fail, FILESYSTEM),
    sign(&["XFS (", "hut down"], After("XFS ("), Fail, FILESYSTEM),
    sign(&["XFS (", "hutdown"], After("XFS ("), Fail, FILESYSTEM),
    // btrfs. What a mirror or scrub mended is no loss, but a disk returned wrong data.
    sign(&["BTRFS", "mount option"], Nowhere, Pass, FILESYSTEM),
    sign(&["BTRFS", "fixed up error"], After("on dev "), Warn, "corrected error"),
    sign(&["BTRFS", "read error corrected"], After("(dev "), Warn, "corrected error"),
    sign(&["BTRFS info", "errs: wr"], Nowhere, Pass, IO),
    sign(&["BTRFS", "errs: wr"], After("bdev "), Fail, IO),
    sign(&["BTRFS info", "forced readonly"], After("(device "), Fail, FILESYSTEM),
    sign(&["BTRFS", "allowing degraded mounts"], After("(device "), Warn, ARRAY),
    sign(&["BTRFS warning", "is missing"], After("(device "), Fail, ARRAY),
    sign(&["BTRFS warning", "csum failed"], After("(device "), Fail, FILESYSTEM),
    sign(&["BTRFS warning", "verify failed"], After("(device "), Fail, FILESYSTEM),
    sign(&["BTRFS warning", "lost page write"], After("error on "), Fail, IO),
    sign(&["BTRFS warning", "checksum error at"], After("on dev "), Warn, FILESYSTEM),
    sign(&["BTRFS error (device "], After("(device "), Fail, FILESYSTEM),
    sign(&["BTRFS critical (device "], After("(device "), Fail, FILESYSTEM),
    sign(&["BTRFS: error (device "], After("(device "), Fail, FILESYSTEM),
    // Others.
    sign(&["F2FS-fs (", "orrupt"], After("F2FS-fs ("), Fail, FILESYSTEM),
    sign(&["F2FS-fs (", "inconsisten"], After("F2FS-fs ("), Fail, FILESYSTEM),
    sign(&["F2FS-fs (", "Stopped filesystem"], After("F2FS-fs ("), Fail, FILESYSTEM),
    sign(&["bcachefs (", "emergency read only"], After("bcachefs ("), Fail, FILESYSTEM),
    sign(&["FAT-fs (", "error"], After("FAT-fs ("), Warn, FILESYSTEM),
    sign(&["FAT-fs (", "set read-only"], After("FAT-fs ("), Warn, FILESYSTEM),
    sign(&["Pool '", "has been suspended"], After("Pool '"), Fail, "suspended pool"),
    sign(&["zio pool=", " error="], After("zio pool="), Fail, IO),
    // NVMe. `Shutdown timeout set to 10 seconds` is how a boot goes.
    sign(&["nvme", "timeout, completion polled"], Word("nvme"), Warn, LINK),
    sign(&["nvme", " timeout, "], Word("nvme"), Fail, LINK),
    sign(&["nvme", "controller is down"], Word("nvme"), Fail, LINK),
    sign(&["nvme", "Removing after"], Word("nvme"), Fail, LINK),
    sign(&["nvme", "after reset failure"], Word("nvme"), Fail, LINK),
    sign(&["nvme", "Device not ready"], Word("nvme"), Fail, LINK),
    sign(&["nvme", "frozen state error"], Word("nvme"), Fail, LINK),
    sign(&["nvme", "starting error recovery"], Word("nvme"), Warn, LINK),
    sign(&["nvme", "Failed reconnect attempt"], Word("nvme"), Warn, LINK),
    sign(&["nvme", "Admin Cmd", "(sct "], Nowhere, Pass, IO),
    sign(&["nvme", "Dataset Management", "(sct "], Word("nvme"), Note, "refused discard"),
    sign(&["nvme", "Write Zeroes", "(sct "], Word("nvme"), Note, "refused zeroing"),
    sign(&["nvme", " @ LBA ", "(sct "], Word("nvme"), Fail, IO),
    // ATA: commands that carry no data of a file are asked by tools and refused by many disks.
    sign(&["failed command: PACKET"], Nowhere, Pass, LINK),
    sign(&["failed command: IDENTIFY"], First, Note, LINK),
    sign(&["failed command: SMART"], First, Note, LINK),
    sign(&["failed command: READ LOG"], First, Note, LINK),
    sign(&["failed command: SET FEATURES"], First, Note, LINK),
    sign(&["failed command: CHECK POWER"], First, Note, LINK),
    sign(&["failed command: SECURITY"], First, Note, LINK),
    sign(&["failed command: TRUSTED"], First, Note, LINK),
    sign(&["failed command: DATA SET MANAGEMENT"], First, Note, "refused discard"),
    sign(&["failed command: SEND FPDMA QUEUED"], First, Note, "refused discard"),
    sign(&["ata", "failed command: "], First, Fail, LINK),
    sign(&["ata", ": disabled"], First, Fail, LINK),
    sign(&["ata", ": disable device"], First, Fail, LINK),
    sign(&["ata", "COMRESET failed"], First, Warn, LINK),
    sign(&["ata", "link is slow to respond"], First, Warn, LINK),
    // SCSI. An optical drive is `sr`; `Not Ready` is a drive without a medium.
    sign(&["[sd", "Sense Key : Medium Error"], After("["), Fail, IO),
    sign(&["[sd", "Sense Key : Hardware Error"], After("["), Fail, IO),
    sign(&["[sd", "Synchronize Cache", "failed"], After("["), Warn, IO),
    sign(&["sr ", "rejecting I/O to "], Nowhere, Pass, IO),
    sign(&["rejecting I/O to offline device"], After("sd "), Fail, LINK),
    sign(&["rejecting I/O to dead device"], After("sd "), Fail, LINK),
    sign(&["Device offlined"], After("sd "), Fail, LINK),
    sign(&["attempting task abort"], After("sd "), Warn, LINK),
    // Linux RAID.
    sign(&["md", "read error corrected"], After(":"), Warn, "corrected error"),
    sign(&["md", "Disk failure on "], After("failure on "), Fail, ARRAY),
    sign(&["md", "unrecoverable I/O"], After(":"), Fail, ARRAY),
    sign(&["md", "read error NOT corrected"], After(":"), Fail, ARRAY),
    sign(&["md", "Too many read errors"], After(":"), Fail, ARRAY),
    sign(&["md", "not enough operational"], After(":"), Fail, ARRAY),
    sign(&["md", "kicking non-fresh "], After("non-fresh "), Fail, ARRAY),
    sign(&["md", "super_written gets error"], Nowhere, Fail, ARRAY),
    // Device mapper.
    sign(&["device-mapper: thin: ", "switching pool to write mode"], After("thin: "), Pass, OVER),
    sign(&["device-mapper: thin: ", "growing the data device"], After("thin: "), Pass, OVER),
    sign(&["device-mapper: thin: ", "switching pool to "], After("thin: "), Fail, POOL),
    sign(&["device-mapper: thin: ", "no free "], After("thin: "), Fail, POOL),
    sign(&["device-mapper: thin: ", "metadata operation"], After("thin: "), Fail, "metadata error"),
    sign(&["device-mapper: thin: ", "low water mark"], After("thin: "), Warn, "low water mark"),
    sign(&["device-mapper: ", "Reinstating path "], After("ing path "), Pass, OVER),
    sign(&["device-mapper: ", "Failing path "], After("ing path "), Warn, "lost path"),
    sign(&["device-mapper: raid1: ", "fail"], Nowhere, Fail, ARRAY),
    sign(&["device-mapper: raid: ", "Failed to "], Nowhere, Fail, ARRAY),
    sign(&["device-mapper: snapshots: Invalidating"], Nowhere, Warn, "full snapshot"),
    sign(&["device-mapper: cache: ", "switching cache to "], After("cache: "), Fail, "cache error"),
    sign(&["device-mapper: integrity: ", "failed"], After("integrity: "), Fail, IO),
    sign(&["device-mapper: verity: ", "corrupted"], After("verity: "), Fail, IO),
    // Caches, copies over the network, controllers, network filesystems.
    sign(&["bcache: register_bcache()"], Nowhere, Pass, "cache error"),
    sign(&["bcache: ", "recovering"], Nowhere, Warn, "cache error"),
    sign(&["bcache: ", "error"], Nowhere, Fail, "cache error"),
    sign(&["drbd", "Split-Brain detected"], After("drbd "), Fail, ARRAY),
    sign(&["drbd", "IO error"], After("drbd "), Fail, IO),
    sign(&["megaraid_sas ", " is now OPTIMAL"], After(" - "), Pass, OVER),
    sign(&["megaraid_sas ", "/CRIT)"], After(" - "), Fail, ARRAY),
    sign(&["megaraid_sas ", "/FATAL)"], After(" - "), Fail, ARRAY),
    sign(&["megaraid_sas ", "/DEAD)"], After(" - "), Fail, ARRAY),
    sign(&["aacraid: Host adapter is dead"], Nowhere, Fail, LINK),
    sign(&["mpt", "fault_state("], First, Fail, LINK),
    sign(&["nfs: server ", " OK"], After("nfs: server "), Pass, OVER),
    sign(&["nfs: server ", "not responding"], After("nfs: server "), Warn, "missing answer"),
    sign(&["CIFS: ", "has not responded"], Nowhere, Warn, "missing answer"),
    // Last, for drivers that are not known here.
    sign(&["Remounting filesystem read-only"], Nowhere, Fail, FILESYSTEM),
    sign(&["I/O error"], Nowhere, Warn, IO),
];

/// A day, when the run does not say how far back it reads logs.
const WINDOW_SECONDS: i64 = 86_400;

impl StorageError {
    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        match self.what {
            POOL | "low water mark" => {
                "Add space to the thin pool (lvextend) or remove snapshots: df does not show how full it is. Then check the filesystems on it."
            }
            "full snapshot" => "Remove the snapshot and make the next one larger.",
            "lost path" => "Check the cable, the port and the switch of the path that failed.",
            "missing answer" => "Check that the server answers and the network to it.",
            "refused discard" | "refused zeroing" => {
                "No data was lost: the device does not take this command. Mount without discard, or ignore it."
            }
            "corrected error" => {
                "No data was lost: a copy mended it. See the health of the disk, then scrub."
            }
            ARRAY => "Replace or reconnect the member that was lost and let the array rebuild.",
            _ if self.severity == Fail => "Copy the data while it can be read, then replace the disk.",
            _ => "Watch whether it comes again; check the cable and the health of the device.",
        }
    }
}

/// How many seconds back the kernel's log is judged.
pub fn log_window(host: &Host) -> i64 {
    host.settings()
        .map_or(WINDOW_SECONDS, |settings| i64::try_from(settings.since_seconds).unwrap_or(i64::MAX))
}

/// What each of the lines, the oldest first, says of storage; `None` for all others, and for lines about a drive that
/// has no medium in it (`is_empty` tells by its name). A complaint that a later line takes back is worth a note.
pub fn storage_errors(lines: &[&LogLine], is_empty: impl Fn(&str) -> bool) -> Vec<Option<StorageError>> {
    let mut found: Vec<Option<StorageError>> = Vec::with_capacity(lines.len());
    for line in lines {
        let error = storage_error(&line.text).filter(|error| !is_empty(&error.device));
        if let Some(over) = error.as_ref().filter(|error| error.what == OVER) {
            for earlier in found.iter_mut().flatten().filter(|earlier| earlier.device == over.device) {
                earlier.severity = Note;
            }
        }
        found.push(error.filter(|error| error.severity > Pass));
    }
    found
}

fn storage_error(text: &str) -> Option<StorageError> {
    let sign = SIGNS.iter().find(|sign| sign.holds.iter().all(|words| text.contains(words)))?;
    let device = device(text, &sign.named).unwrap_or_default();
    // A loop device is a file of another filesystem, a zram is memory: their own disk complains, too.
    let is_view = ["loop", "zram", "ram"].iter().any(|kind| is_numbered(&device, kind));
    let severity = if is_view && sign.what == IO { Note } else { sign.severity };
    Some(StorageError { device, severity, what: sign.what })
}

fn device(text: &str, named: &Named) -> Option<String> {
    let after = |begin: &str| text.find(begin).map(|at| &text[at + begin.len()..]);
    match named {
        After(begin) => {
            let rest = after(begin)?;
            // `VD 00/0 is now DEGRADED`: two words of a controller.
            if let Some(number) = rest.strip_prefix("VD ") {
                return Some(format!("VD {}", name(number)));
            }
            Some(name(rest.strip_prefix("/dev/").unwrap_or(rest)).to_owned())
        }
        JournalAfter(begin) => {
            let journal = name(after(begin)?);
            Some(journal.rsplit_once('-').map_or(journal, |(device, _)| device).to_owned())
        }
        First => Some(name(text).to_owned()),
        Word(begin) => {
            let is_one = |word: &&str| {
                let rest = word.strip_prefix(begin);
                rest.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
            };
            text.split_ascii_whitespace().map(name).find(is_one).map(str::to_owned)
        }
        Nowhere => None,
    }
}

/// The name that `text` begins with.
fn name(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "-_./!:".contains(c)));
    text[..end.unwrap_or(text.len())].trim_end_matches([':', '.', '-'])
}

/// Whether `name` is `kind` and a number.
pub fn is_numbered(name: &str, kind: &str) -> bool {
    let rest = name.strip_prefix(kind).unwrap_or_default();
    !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
#[path = "storage_errors_tests.rs"]
mod tests;
