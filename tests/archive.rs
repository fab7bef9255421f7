//! The data directory as an archive: complete, without credentials, and opened by every tool there is.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Cursor, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use nix::sys::stat::{Mode, SFlag, mknod};
use warden::background_io;
use warden::redact::Redactor;
use warden::snapshot::archive::{self, INVENTORY, Inventory, Mask, Plan, Reason, Signs, Taking};
use warden::user_view::Directory;

use crate::support::resident;

pub const PARTITION: &str = "streams/0/topics/1/partitions/2";
const NO_LIMIT: u64 = u64::MAX;

pub fn put(root: &Path, path: impl AsRef<OsStr>, content: &[u8]) {
    let path = root.join(Path::new(path.as_ref()));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_secs(1_795_257_393)).unwrap();
}

/// Bytes that do not get smaller (xorshift64*).
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()
    };
    (0..length.div_ceil(8)).flat_map(|_| next()).take(length).collect()
}

pub fn text(lines: usize) -> Vec<u8> {
    (0..lines).flat_map(|number| format!("message {number} of {lines}\n").into_bytes()).collect()
}

/// A data directory with both kinds of segments, small and of several blocks.
pub fn plant(root: &Path) {
    put(root, "state/info", b"0.8.0");
    put(root, "state/log", b"");
    put(root, "logs/iggy-server.log", &text(20_000));
    put(root, format!("{PARTITION}/00000000000000000000.log"), &noise(3_500_000, 7));
    put(root, format!("{PARTITION}/00000000000000001600.log"), &text(150_000));
    put(root, format!("{PARTITION}/00000000000000001600.index"), &noise(4096, 9));
    put(root, format!("{PARTITION}/offsets/groups/0"), &[1; 16]);
    std::fs::create_dir_all(root.join("streams/1/topics")).unwrap();
}

fn pack(root: &Path, budget: u64) -> (Inventory, Vec<u8>) {
    write(plan(root, budget, 1_795_257_393))
}

fn plan(root: &Path, budget: u64, at: i64) -> Plan {
    Plan::new(Directory::open(root).unwrap(), budget, at, Taking::default(), &Signs::default()).unwrap()
}

fn write(plan: Plan) -> (Inventory, Vec<u8>) {
    let redactor = Redactor::new([7; 32]);
    let mask = Mask::new(&redactor);
    archive::write(plan.learn(mask).unwrap(), Vec::new(), mask, &mut || None, &mut |_| ()).unwrap()
}

pub fn members(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = zip::ZipArchive::new(Cursor::new(archive)).unwrap();
    let mut members = BTreeMap::new();
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).unwrap();
        let mut content = Vec::new();
        member.read_to_end(&mut content).unwrap();
        assert!(members.insert(member.name().unwrap().into_owned(), content).is_none(), "a name twice");
    }
    members
}

fn reasons(inventory: &Inventory) -> BTreeMap<&str, Reason> {
    inventory.left_out.iter().map(|left| (left.path.as_str(), left.reason)).collect()
}

#[test]
fn what_is_unpacked_is_what_was_there_with_every_tool() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    plant(&data);
    put(&data, "streams/0/täglich: <50%>.txt", b"odd");
    put(&data, OsStr::from_bytes(b"streams/0/\xff\xfe"), b"no name");
    let (inventory, archive) = pack(&data, NO_LIMIT);
    assert_eq!(inventory.left_out, []);
    assert_eq!((inventory.files, inventory.renamed, inventory.archive_bytes), (9, 2, archive.len() as u64));

    let path = folder.path().join("iggy.zip");
    std::fs::write(&path, &archive).unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let output =
            Command::new(program).args(arguments).arg(&path).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{program}");
    };
    run("unzip", &["-tq"]);
    run("7z", &["t", "-bso0"]);
    run("bsdtar", &["-tf"]);
    run("python3", &["-c", "import sys, zipfile; assert zipfile.ZipFile(sys.argv[1]).testzip() is None"]);
    for (name, program, arguments) in [
        ("unzip", "unzip", vec!["-q", "iggy.zip", "-d", "unzip"]),
        ("7z", "7z", vec!["x", "-bso0", "-o7z", "iggy.zip"]),
        ("bsdtar", "bsdtar", vec!["-xf", "iggy.zip", "-C", "bsdtar"]),
        ("python", "python3", vec!["-m", "zipfile", "-e", "iggy.zip", "python"]),
    ] {
        let into = folder.path().join(name);
        std::fs::create_dir(&into).unwrap();
        let locale = ("LC_ALL", "C.UTF-8");
        let output = Command::new(program)
            .args(arguments)
            .env(locale.0, locale.1)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        for path in [
            "logs/iggy-server.log",
            "state/log",
            &format!("{PARTITION}/00000000000000000000.log"),
            &format!("{PARTITION}/00000000000000001600.log"),
            &format!("{PARTITION}/00000000000000001600.index"),
        ] {
            let (there, here) =
                (std::fs::read(data.join(path)).unwrap(), std::fs::read(into.join(path)).unwrap());
            assert!(there == here, "{name}: {path}");
        }
        assert_eq!(
            std::fs::read(into.join("streams/0/täglich%3A %3C50%25%3E.txt")).unwrap(),
            b"odd",
            "{name}"
        );
        assert_eq!(std::fs::read(into.join("streams/0/%FF%FE")).unwrap(), b"no name", "{name}");
        assert!(into.join("streams/1/topics").is_dir(), "{name}");
    }
}

#[test]
fn the_same_directory_makes_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    plant(folder.path());
    let (first, second) = (pack(folder.path(), NO_LIMIT), pack(folder.path(), NO_LIMIT));
    assert!(first == second);
}

#[test]
fn incompressible_blocks_are_stored_and_text_is_packed() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), format!("{PARTITION}/00000000000000000000.log"), &noise(4 << 20, 3));
    let (_, archive) = pack(folder.path(), NO_LIMIT);
    assert!(archive.len() < (4 << 20) + 2000, "{}", archive.len());
    put(folder.path(), format!("{PARTITION}/00000000000000000000.log"), &text(200_000));
    let (inventory, archive) = pack(folder.path(), NO_LIMIT);
    assert!((archive.len() as u64) < inventory.bytes / 4, "{} of {}", archive.len(), inventory.bytes);
}

#[test]
fn what_is_no_file_is_named_and_neither_followed_nor_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    plant(&data);
    put(folder.path(), "outside/secret", b"canary-outside");
    symlink("../../outside/secret", data.join("streams/file")).unwrap();
    symlink(folder.path().join("outside"), data.join("streams/folder")).unwrap();
    symlink("..", data.join("streams/loop")).unwrap();
    symlink("nowhere", data.join("streams/dangling")).unwrap();
    nix::unistd::mkfifo(&data.join("fifo"), Mode::S_IRWXU).unwrap();
    let _socket = UnixListener::bind(data.join("socket")).unwrap();
    mknod(&data.join("device"), SFlag::S_IFCHR, Mode::S_IRWXU, nix::sys::stat::makedev(1, 5))
        .expect("this test makes a device: run it as root");
    let (inventory, archive) = pack(&data, NO_LIMIT);
    let expected = [
        ("device", Reason::Device),
        ("fifo", Reason::Fifo),
        ("socket", Reason::Socket),
        ("streams/dangling", Reason::Link),
        ("streams/file", Reason::Link),
        ("streams/folder", Reason::Link),
        ("streams/loop", Reason::Link),
    ];
    assert_eq!(reasons(&inventory), BTreeMap::from(expected));
    let members = members(&archive);
    assert!(members.values().all(|content| !content.windows(14).any(|found| found == b"canary-outside")));
    let told = String::from_utf8(members[INVENTORY].clone()).unwrap();
    for (path, reason) in expected {
        assert!(
            told.lines().any(|line| line.starts_with(reason.sentence()) && line.ends_with(path)),
            "{path}"
        );
    }
}

#[test]
fn files_that_change_after_they_were_listed_are_taken_as_far_as_they_go() {
    let folder = tempfile::tempdir().unwrap();
    let segment = |number: u64| format!("{PARTITION}/{number:020}.log");
    for number in 0..6 {
        put(folder.path(), segment(number), &noise(2_500_000, number + 1));
    }
    put(folder.path(), "state/info", b"0.8.0");
    let plan = plan(folder.path(), NO_LIMIT, 0);
    let file = |number: u64| File::options().write(true).open(folder.path().join(segment(number))).unwrap();
    file(0).write_all_at(b"more", 2_500_000).unwrap();
    file(1).set_len(1_500_000).unwrap();
    file(2).set_len(0).unwrap();
    std::fs::remove_file(folder.path().join(segment(3))).unwrap();
    std::fs::remove_file(folder.path().join(segment(4))).unwrap();
    symlink("/etc/passwd", folder.path().join(segment(4))).unwrap();
    std::fs::remove_file(folder.path().join("state/info")).unwrap();
    let (inventory, archive) = write(plan);
    let members = members(&archive);
    let lengths: Vec<_> = [0, 1, 2, 5].iter().map(|number| members[&segment(*number)].len()).collect();
    assert_eq!(lengths, [2_500_004, 1_500_000, 0, 2_500_000]);
    assert!(!members.contains_key(&segment(3)) && !members.contains_key(&segment(4)));
    let left = reasons(&inventory);
    assert_eq!(left[segment(3).as_str()], Reason::Vanished);
    assert_eq!(left[segment(4).as_str()], Reason::Unreadable);
    assert_eq!(left["state/info"], Reason::Vanished);
}

#[test]
fn holes_cost_neither_time_nor_room() {
    let folder = tempfile::tempdir().unwrap();
    let path = format!("{PARTITION}/00000000000000000000.log");
    put(folder.path(), &path, b"beginning");
    let file = File::options().write(true).open(folder.path().join(&path)).unwrap();
    file.set_len(5 << 30).unwrap();
    file.write_all_at(b"middle", (3 << 30) + 12_345).unwrap();
    let (inventory, archive) = pack(folder.path(), 64 << 20);
    assert_eq!((inventory.files, inventory.bytes), (1, 5 << 30));
    assert!(archive.len() < 8 << 20, "{}", archive.len());
    let mut zip = zip::ZipArchive::new(Cursor::new(&archive)).unwrap();
    assert_eq!(zip.by_name(&path).unwrap().size(), 5 << 30, "64-bit sizes");
    let saved = folder.path().join("iggy.zip");
    std::fs::write(&saved, &archive).unwrap();
    let python = "import sys, zipfile; f = zipfile.ZipFile(sys.argv[1]).open(sys.argv[2]); \
                  f.seek((3 << 30) + 12345 - 3); print(f.read(12))";
    let output = Command::new("python3").args(["-c", python]).arg(&saved).arg(&path).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), r"b'\x00\x00\x00middle\x00\x00\x00'");
}

#[test]
fn more_files_than_sixteen_bits_count_are_packed_in_bounds() {
    let folder = tempfile::tempdir().unwrap();
    for partition in 0..66 {
        let groups = folder.path().join(format!("streams/0/topics/0/partitions/{partition}/offsets/groups"));
        std::fs::create_dir_all(&groups).unwrap();
        for group in 0..1000 {
            std::fs::write(groups.join(group.to_string()), [7; 16]).unwrap();
        }
    }
    let (inventory, archive) = pack(folder.path(), NO_LIMIT);
    assert_eq!((inventory.files, inventory.bytes), (66_000, 66_000 * 16));
    assert_eq!(zip::ZipArchive::new(Cursor::new(&archive)).unwrap().len(), 66_001);
    let saved = folder.path().join("iggy.zip");
    std::fs::write(&saved, &archive).unwrap();
    for (program, arguments) in [("unzip", ["-tq"]), ("7z", ["t"])] {
        let output = Command::new(program).args(arguments).arg(&saved).output().unwrap();
        assert!(output.status.success(), "{program}");
    }
}

const CANARIES: [(&str, &str); 7] = [
    ("state/log", "canary-Hash1-9f3kQz7Lw2"),
    ("state/tokens", "canary-Tok2-X81mPq0Vt5"),
    ("metadata/journal.wal", "canary-Wal3-77hTzR4bNe"),
    ("metadata/snapshot.bin", "canary-Snp4-Zk20sWqP8d"),
    ("certs/iggy_key.pem", "canary-Pem5-0pLmN3xYzA"),
    (".env", "canary-Env6-q9W8e7R6t5"),
    ("local_state/source_random.state", "canary-Sta7-4v5B6n7M8k"),
];

#[test]
fn credentials_stay_behind_and_what_may_be_read_of_them_is_masked() {
    let folder = tempfile::tempdir().unwrap();
    plant(folder.path());
    for (path, canary) in CANARIES {
        put(folder.path(), path, canary.as_bytes());
    }
    let (key, password) = ("canaryKey8bGVhcGZyb2dzd2ltbWluZ3Bvb2w=", "canary-Log9-Zk20sWqP8d");
    put(
        folder.path(),
        "runtime/current_config.toml",
        format!("[system.encryption]\nenabled = true\nkey = \"{key}\"\n").as_bytes(),
    );
    // Where it stands without its context it comes first, and a megabyte before the line that tells what it is.
    let log = [
        format!("WARN main: and so {password} it was\n").into_bytes(),
        text(60_000),
        format!("2026-11-21T10:30:53.843359Z  WARN main: Generated root user password: {password}\n")
            .into_bytes(),
    ];
    put(folder.path(), "logs/iggy-server.log", &log.concat());
    put(folder.path(), format!("logs/password={password}.log"), b"in its name\n");
    let (inventory, archive) = pack(folder.path(), NO_LIMIT);
    let secrets = reasons(&inventory).into_iter().filter(|(_, reason)| *reason == Reason::Secret);
    let secrets: Vec<_> = secrets.map(|(path, _)| path).collect();
    let mut expected: Vec<_> = CANARIES.iter().map(|(path, _)| *path).collect();
    expected.sort_unstable();
    assert_eq!(secrets, expected);
    assert!(inventory.masked.values().sum::<u64>() >= 2, "{:?}", inventory.masked);

    let members = members(&archive);
    let told = serde_json::to_string(&inventory).unwrap();
    for canary in CANARIES.iter().map(|(_, canary)| *canary).chain([key, password]) {
        let holds = |bytes: &[u8]| bytes.windows(canary.len()).any(|found| found == canary.as_bytes());
        for (name, content) in &members {
            assert!(!holds(name.as_bytes()) && !holds(content), "{canary} is in {name}");
        }
        assert!(!holds(told.as_bytes()), "{canary}");
    }
    let log = String::from_utf8_lossy(&members["logs/iggy-server.log"]);
    assert!(
        log.contains("Generated root user password: [secret:")
            && log.starts_with("WARN main: and so [secret:")
    );
    assert!(
        String::from_utf8_lossy(&members["runtime/current_config.toml"])
            .contains("enabled = true\nkey = \"[secret:")
    );
}

#[test]
fn what_has_no_room_is_named_and_the_rest_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    plant(folder.path());
    let (inventory, archive) = pack(folder.path(), 1_000_000);
    let left = reasons(&inventory);
    assert_eq!(left[format!("{PARTITION}/00000000000000000000.log").as_str()], Reason::Budget);
    assert!(members(&archive).contains_key(&format!("{PARTITION}/00000000000000001600.index")));
    let tally = inventory.left_out_by_reason[&Reason::Budget];
    assert_eq!(tally.bytes, inventory.left_out.iter().map(|left| left.bytes).sum::<u64>());
}

#[test]
fn a_disk_that_fills_ends_the_archive_and_leaves_it_readable() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..6 {
        put(folder.path(), format!("{PARTITION}/{number:020}.log"), &noise(12 << 20, number + 1));
    }
    put(folder.path(), "state/info", b"0.8.0");
    let plan = plan(folder.path(), NO_LIMIT, 0);
    let redactor = Redactor::new([7; 32]);
    let mut asked = 0;
    let mut room = || {
        asked += 1;
        Some(if asked < 3 { 1 << 40 } else { 1 << 20 })
    };
    let (mask, out) = (Mask::new(&redactor), Vec::new());
    let (inventory, archive) =
        archive::write(plan.learn(mask).unwrap(), out, mask, &mut room, &mut |_| ()).unwrap();
    assert!(archive.len() < 50 << 20, "{}", archive.len());
    assert!(inventory.left_out.iter().all(|left| left.reason == Reason::Space));
    assert!(
        inventory.left_out.len() >= 2 && inventory.changed.len() == 1,
        "one was cut, the others never begun"
    );
    let members = members(&archive);
    assert_eq!(members["state/info"], b"0.8.0");
    assert_eq!(members.len() as u64, inventory.files + 1);
}

#[test]
fn the_page_cache_is_left_as_it_was_found() {
    // Not below /tmp, which may be memory itself.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (cold, warm) = (format!("{PARTITION}/{:020}.log", 1), format!("{PARTITION}/{:020}.log", 2));
    // Its last page is not full.
    put(folder.path(), &cold, &noise((8 << 20) + 100, 1));
    put(folder.path(), &warm, &noise(8 << 20, 2));
    let cold = folder.path().join(cold);
    let file = File::open(&cold).unwrap();
    file.sync_all().unwrap();
    background_io::forget(&file);
    let warm = folder.path().join(warm);
    let before = resident(&warm);
    assert_eq!((resident(&cold), before), (0, 8 << 20), "this filesystem keeps what it was told to forget");
    pack(folder.path(), NO_LIMIT);
    assert_eq!((resident(&cold), resident(&warm)), (0, before));
}
