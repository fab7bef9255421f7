//! `warden snapshot --include-iggy`: one file with the report and the data directory, sealed, anonymous, or as the
//! host's policy has it; and nothing at all when it is killed or refused.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use age::x25519::Identity;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::archive::{PARTITION, members, noise, plant, put, text};
use crate::support::mount::Tmpfs;
use crate::support::segments::Directory;

fn command(arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_warden"));
    command.args(arguments).env_clear().current_dir(folder).stdin(Stdio::null());
    command
}

fn warden(arguments: &[&str], folder: &Path) -> Output {
    command(arguments, folder).output().unwrap()
}

/// Packs `data`, which lies in `folder`, with a report about little.
fn pack(more: &[&str], folder: &Path) -> Output {
    let base = ["snapshot", "--fail-on=never", "--only=cpu", "--include-iggy", "--iggy-data=data"];
    warden(&[&base, more].concat(), folder)
}

fn packed(more: &[&str], folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let output = pack(&[more, &["-o=out.zip"]].concat(), folder);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    members(&std::fs::read(folder.join("out.zip")).unwrap())
}

fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn holds(content: &[u8], what: &str) -> bool {
    content.windows(what.len()).any(|found| found == what.as_bytes())
}

#[test]
fn the_bundle_carries_the_data_directory_and_its_manifest_tells_of_it() {
    let folder = tempfile::tempdir().unwrap();
    plant(&folder.path().join("data"));
    put(&folder.path().join("data"), "state/tokens", b"revoked");
    let output = pack(&["-o=out.zip"], folder.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("In it, iggy.zip: 7 files of the data directory"), "{printed}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "one file and no leftovers");

    let mut bundle = members(&std::fs::read(folder.path().join("out.zip")).unwrap());
    let manifest: Value = serde_json::from_slice(&bundle["manifest.json"]).unwrap();
    assert_eq!(manifest["iggy"]["files"], 7);
    assert_eq!(manifest["iggy"]["left_out"][0]["path"], "state/tokens");
    assert_eq!(manifest["iggy"]["left_out"][0]["reason"], "secret");
    assert_eq!(manifest["iggy"].get("holds_credentials"), None);
    let iggy = members(&bundle.remove("iggy.zip").unwrap());
    assert!(iggy[&format!("{PARTITION}/00000000000000000000.log")] == noise(3_500_000, 7));
    assert!(warden(&["verify", "out.zip"], folder.path()).status.success());
}

#[test]
fn every_tool_opens_the_bundle_and_the_archive_in_it() {
    let folder = tempfile::tempdir().unwrap();
    plant(&folder.path().join("data"));
    packed(&[], folder.path());
    for (program, arguments) in [
        ("unzip", vec!["-tq"]),
        ("7z", vec!["t", "-bso0"]),
        ("bsdtar", vec!["-tf"]),
        ("python3", vec!["-c", "import sys, zipfile; assert zipfile.ZipFile(sys.argv[1]).testzip() is None"]),
    ] {
        let output =
            Command::new(program).args(arguments).arg("out.zip").current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let unzip = Command::new("unzip").args(["-q", "out.zip", "iggy.zip"]).current_dir(folder.path()).status();
    assert!(unzip.unwrap().success());
    let tested = Command::new("unzip").args(["-tq", "iggy.zip"]).current_dir(folder.path()).status();
    assert!(tested.unwrap().success());
}

#[test]
fn the_plan_tells_the_size_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    plant(&folder.path().join("data"));
    let output = pack(&["--plan", "--iggy-budget=1MiB"], folder.path());
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(
        printed
            .contains("data (by --iggy-data): 5 files with 442 KiB; 2 files with 6.81 MiB would stay behind"),
        "{printed}"
    );
    assert!(printed.contains("data: a sample, 1 min and 100000 files at most"), "{printed}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let told = refusal(&pack(&["-o=report.html"], folder.path()));
    assert!(told.contains("the data directory is a part of a whole bundle"), "{told}");
}

fn decrypted(path: &Path, identity: &Identity) -> Result<Vec<u8>, age::DecryptError> {
    let decryptor = age::Decryptor::new(std::fs::File::open(path).unwrap())?;
    let mut content = Vec::new();
    decryptor.decrypt(std::iter::once(identity as &dyn age::Identity))?.read_to_end(&mut content).unwrap();
    Ok(content)
}

#[test]
fn encrypted_it_is_the_same_bundle_for_its_recipient_and_nothing_for_others() {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::edge();
    std::os::unix::fs::symlink(directory.path(), folder.path().join("data")).unwrap();
    directory.write("logs/iggy-server.log", &text(200_000));
    let (ours, stranger) = (Identity::generate(), Identity::generate());
    let output = pack(&["-o=out.zip", "--encrypt-to", &ours.to_public().to_string()], folder.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "data")
        .collect();
    assert_eq!(names, ["out.zip.age"]);
    let path = folder.path().join("out.zip.age");
    assert!(matches!(decrypted(&path, &stranger), Err(age::DecryptError::NoMatchingKeys)));
    let sealed = std::fs::read(&path).unwrap();
    assert!(!holds(&sealed, "report") && !holds(&sealed, "CANARY"));

    let bundle = decrypted(&path, &ours).unwrap();
    std::fs::write(folder.path().join("open.zip"), &bundle).unwrap();
    assert!(warden(&["verify", "open.zip"], folder.path()).status.success());
    let inspected = warden(&["inspect", "--json", "open.zip"], folder.path());
    let told: Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!((&told["verdict"], &told["totals"]["messages"]), (&"sound".into(), &14.into()));
    assert!(
        Command::new("unzip").args(["-tq"]).arg(folder.path().join("open.zip")).status().unwrap().success()
    );
}

#[test]
fn a_secret_that_is_in_it_after_all_keeps_all_of_it_back_encrypted_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    plant(&data);
    let secret = "canary-Log9-Zk20sWqP8d";
    put(
        &data,
        "logs/iggy-server.log",
        format!("WARN main: Generated root user password: {secret}\n").as_bytes(),
    );
    // An index is taken as it is: it holds numbers, unless somebody wrote something else there.
    let index = [&noise(500, 3)[..], secret.as_bytes()].concat();
    put(&data, format!("{PARTITION}/00000000000000001600.index"), &index);
    let to = Identity::generate().to_public().to_string();
    for more in [&["-o=out.zip"][..], &["-o=out.zip", "--encrypt-to", &to]] {
        let told = refusal(&pack(more, folder.path()));
        assert!(told.contains("a masked secret shows up again in iggy.zip!/streams/"), "{told}");
        assert!(!told.contains(secret) && !told.contains("choose another place"), "{told}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing was kept");
    }
}

#[test]
fn a_secret_of_iggys_log_is_masked_in_the_report_beside_it_too() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    plant(&data);
    let secret = "canary-Log9-Zk20sWqP8d";
    put(
        &data,
        "logs/iggy-server.log",
        format!("WARN main: Generated root user password: {secret}\n").as_bytes(),
    );
    // Where it stands without its neighbours only the log tells that it is one.
    put(&data, format!("{PARTITION}/{secret}"), b"a stranger");
    for (name, content) in packed(&["--inspect=structure"], folder.path()) {
        assert!(!holds(&content, secret), "{name}");
        assert!(name != "report.json" || holds(&content, "no server writes a file of this name"));
    }
}

#[test]
fn anonymous_it_has_no_messages_and_names_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    plant(&data);
    let log = [
        text(60_000),
        b"2026-11-21T10:30:53.843359Z  INFO main: client 10.1.2.3:4567 of /home/janedoe/app, janedoe@corp.internal\n"
            .to_vec(),
        text(60_000),
        b"janedoe was here\n".to_vec(),
    ]
    .concat();
    put(&data, "logs/iggy-server.log", &log);
    put(&data, "runtime/current_config.toml", b"[tcp]\naddress = \"10.1.2.3:8090\"\n");
    put(&data, "logs/of-janedoe.log", b"empty\n");
    let mut bundle = packed(&["--anonymize"], folder.path());
    let manifest: Value = serde_json::from_slice(&bundle["manifest.json"]).unwrap();
    let reasons = &manifest["iggy"]["left_out_by_reason"];
    assert_eq!(reasons["anonymous"]["files"], 2, "{reasons}");
    let iggy = members(&bundle.remove("iggy.zip").unwrap());
    assert!(iggy.contains_key(&format!("{PARTITION}/00000000000000001600.index")), "indexes stay");
    assert!(!iggy.keys().any(|name| name.ends_with("00000.log")), "{:?}", iggy.keys());
    for (name, content) in iggy.iter().chain(&bundle) {
        for left in ["10.1.2.3", "janedoe", "corp.internal"] {
            assert!(!holds(content, left) && !name.contains(left), "{left} is left in {name}");
        }
    }
    let log = String::from_utf8(iggy["logs/iggy-server.log"].clone()).unwrap();
    assert!(log.contains("client [ip:") && log.contains("of /home/[user:") && log.ends_with("] was here\n"));
    assert!(iggy.keys().any(|name| name.starts_with("logs/of-[user-")), "{:?}", iggy.keys());
}

#[test]
fn only_the_hosts_own_policy_has_credentials_taken_along_and_the_manifest_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    plant(&data);
    put(&data, "state/tokens", b"canary-Tok2-X81mPq0Vt5");
    put(&data, "logs/iggy-server.log", b"WARN main: Generated root user password: canary-Log9-Zk20sWqP8d\n");
    let policy = "[snapshot]\ninclude_secrets_of_iggy = true\n";
    put(folder.path(), "policy.toml", policy.as_bytes());
    let told = refusal(&pack(&["-o=out.zip", "--policy=policy.toml"], folder.path()));
    assert!(told.contains("only /etc/warden/policy.toml may say include_secrets_of_iggy"), "{told}");

    let _etc = Tmpfs::new(Path::new("/etc"), 1 << 20);
    put(Path::new("/etc/warden"), "policy.toml", policy.as_bytes());
    let mut bundle = packed(&[], folder.path());
    let manifest: Value = serde_json::from_slice(&bundle["manifest.json"]).unwrap();
    assert_eq!(manifest["iggy"]["holds_credentials"], true);
    let iggy = members(&bundle.remove("iggy.zip").unwrap());
    assert_eq!(iggy["state/tokens"], b"canary-Tok2-X81mPq0Vt5");
    assert!(holds(&iggy["logs/iggy-server.log"], "canary-Log9-Zk20sWqP8d"));
    assert!(bundle.values().all(|content| !holds(content, "canary")), "the rest is masked as ever");
    let told = refusal(&pack(&["-o=b.zip", "--anonymize"], folder.path()));
    assert!(told.contains("leave --include-iggy or --anonymize out"), "{told}");

    let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions("/etc/warden/policy.toml", open).unwrap();
    let told = refusal(&pack(&["-o=b.zip"], folder.path()));
    assert!(told.contains("must be root's, and nobody else may write it"), "{told}");
}

/// The file without a name that process `pid` writes in `folder`, and how large it is.
fn unnamed(pid: u32, folder: &Path) -> Option<u64> {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    open.flatten().map(|entry| entry.path()).find_map(|path| {
        let target = std::fs::read_link(&path).ok()?.into_os_string().into_string().ok()?;
        let ours = target.starts_with(folder.to_str()?) && target.ends_with("(deleted)");
        ours.then(|| std::fs::metadata(&path).ok().map(|metadata| metadata.len()))?
    })
}

fn children(pid: u32) -> Vec<u32> {
    let listed = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

#[test]
fn killed_in_the_middle_it_leaves_nothing_behind() {
    // Not below /tmp, which may be a filesystem of another kind.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let out = folder.path().join("out");
    std::fs::create_dir(&out).unwrap();
    for number in 0..30 {
        put(
            &folder.path().join("data"),
            format!("{PARTITION}/{number:020}.log"),
            &noise(8 << 20, number + 1),
        );
    }
    let arguments =
        ["snapshot", "--only=cpu", "--inspect=off", "--include-iggy", "--iggy-data=data", "-o=out/a.zip"];
    let mut front = command(&arguments, folder.path());
    let mut front = front.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    let worker = loop {
        assert!(began.elapsed() < Duration::from_secs(60), "it never began to write");
        assert_eq!(front.try_wait().unwrap(), None, "it was done before it could be killed");
        let begun = children(front.id()).into_iter().find(|&pid| unnamed(pid, &out) > Some(1 << 20));
        if let Some(pid) = begun {
            break pid;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 0, "it has no name while it is written");
    kill(Pid::from_raw(worker.cast_signed()), Signal::SIGKILL).unwrap();
    assert_eq!(front.wait().unwrap().code(), Some(128 + 9));
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 0);
}
