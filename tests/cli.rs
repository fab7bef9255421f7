//! The command as a person runs it, with a scrubbed environment.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn warden(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_warden"))
        .args(arguments)
        .env_clear()
        .current_dir(folder)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn healthy() -> String {
    format!("{}/tests/hosts/healthy-debian", env!("CARGO_MANIFEST_DIR"))
}

fn sick() -> String {
    format!("{}/tests/hosts/sick-debian", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn this_host_is_diagnosed_and_the_bundle_is_whole_and_private() {
    let folder = tempfile::tempdir().unwrap();
    let output = warden(&["snapshot", "--fail-on", "never"], folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "", "no bar where stderr is no terminal");
    assert!(!output.stdout.contains(&0x1b), "no colour where stdout is no terminal");

    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!(names.len(), 1, "one file and no leftovers");
    assert_eq!(names[0].metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(text(&output.stdout).contains(names[0].path().file_name().unwrap().to_str().unwrap()));

    let mut archive = zip::ZipArchive::new(std::fs::File::open(names[0].path()).unwrap()).unwrap();
    let manifest: Value = serde_json::from_reader(archive.by_name("manifest.json").unwrap()).unwrap();
    let report: Value = serde_json::from_reader(archive.by_name("report.json").unwrap()).unwrap();
    // A host with Iggy on it has one more.
    let items = manifest["items"].as_array().unwrap().iter().filter(|item| item["id"] != "data-directory");
    assert_eq!(items.count(), warden_checks::CHECKS.len());
    assert_eq!(report["checks"].as_array().unwrap().len(), warden_checks::CHECKS.len());
    assert_eq!(manifest["files"].as_array().unwrap().len() + 1, archive.len());
    for file in manifest["files"].as_array().unwrap() {
        let mut content = Vec::new();
        std::io::copy(&mut archive.by_name(file["path"].as_str().unwrap()).unwrap(), &mut content).unwrap();
        assert_eq!(file["sha256"], sha256(&content), "{file}");
        assert_eq!(file["bytes"], content.len(), "{file}");
    }
}

fn sha256(content: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_live_recording_replayed_gives_the_same_findings() {
    let folder = tempfile::tempdir().unwrap();
    assert!(warden(&["snapshot", "--fail-on=never", "-o", "live.zip"], folder.path()).status.success());
    assert!(
        warden(&["snapshot", "--fail-on=never", "--host", "live.zip", "-o", "replayed.json"], folder.path())
            .status
            .success()
    );
    let mut archive =
        zip::ZipArchive::new(std::fs::File::open(folder.path().join("live.zip")).unwrap()).unwrap();
    let live: Value = serde_json::from_reader(archive.by_name("report.json").unwrap()).unwrap();
    let replayed: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("replayed.json")).unwrap()).unwrap();
    for (live, replayed) in
        live["checks"].as_array().unwrap().iter().zip(replayed["checks"].as_array().unwrap())
    {
        for part in ["id", "outcome", "summary", "problems", "evidence"] {
            assert_eq!(live[part], replayed[part], "{} of {}", part, live["id"]);
        }
    }
    assert_eq!((&live["verdict"], &live["host"]), (&replayed["verdict"], &replayed["host"]));
    assert_eq!(replayed["run"]["source"], "recording");
}

#[test]
fn the_exit_code_follows_fail_on() {
    let folder = tempfile::tempdir().unwrap();
    let code = |host: &str, level: &str| {
        let arguments = ["snapshot", "--host", host, "-o", "out.json", "--fail-on", level];
        warden(&arguments, folder.path()).status.code()
    };
    assert_eq!(
        [code(&sick(), "warn"), code(&sick(), "fail"), code(&sick(), "never")],
        [Some(1), Some(1), Some(0)]
    );
    assert_eq!([code(&healthy(), "warn"), code(&healthy(), "fail")], [Some(0), Some(0)]);
}

#[test]
fn the_summary_names_the_worst_first_with_a_command_to_run() {
    let folder = tempfile::tempdir().unwrap();
    let output = warden(&["snapshot", "--host", &sick(), "-o", "out.zip"], folder.path());
    let shown = text(&output.stdout);
    let first = shown.lines().nth(2).unwrap();
    assert!(first.trim_start().starts_with("fail  "), "{shown}");
    assert!(shown.lines().nth(3).unwrap().trim_start().len() > 5, "{shown}");
    assert!(shown.lines().last().unwrap().starts_with("Report written to "), "{shown}");
}

#[test]
fn a_name_without_an_ending_is_a_bundle_and_a_format_goes_before_any_ending() {
    let folder = tempfile::tempdir().unwrap();
    let written = |arguments: &[&str]| {
        let output = warden(&[&["snapshot", "--host", &healthy()], arguments].concat(), folder.path());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        std::fs::read(folder.path().join(arguments[1])).unwrap()
    };
    assert!(written(&["-o", "bundle"]).starts_with(b"PK"));
    assert!(written(&["-o", "data.txt", "--format", "json"]).starts_with(b"{"));
    assert!(written(&["-o", "PAGE.HTML"]).starts_with(b"<!"));
}

#[test]
fn a_host_without_iggy_is_told_so_in_the_first_line_and_in_the_headline_of_the_page() {
    let folder = tempfile::tempdir().unwrap();
    let bare = format!("{}/tests/hosts/bare-board", env!("CARGO_MANIFEST_DIR"));
    let told = |host: &str, more: &[&str]| {
        let arguments = [&["snapshot", "--host", host, "-o", "out.html"], more].concat();
        let output = warden(&arguments, folder.path());
        let page = std::fs::read_to_string(folder.path().join("out.html")).unwrap();
        let headline =
            page.split_once("<h2 id=\"verdict\">").unwrap().1.split_once("</h2>").unwrap().0.to_owned();
        (text(&output.stdout).to_owned(), headline)
    };
    let absent = "; there is no Iggy server on this host";
    let (shown, headline) = told(&bare, &[]);
    assert!(shown.lines().next().unwrap().ends_with(absent), "{shown}");
    assert!(headline.ends_with(absent), "{headline}");
    let (shown, _) = told(&bare, &["--json"]);
    let outcome: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(outcome["without_iggy"], "there is no Iggy server on this host");
    for (host, more) in [(healthy(), &[][..]), (bare, &["--only", "disk"][..])] {
        let (shown, headline) = told(&host, more);
        assert!(!shown.lines().next().unwrap().contains("Iggy") && !headline.contains("Iggy"), "{headline}");
    }
}

#[test]
fn quiet_prints_the_path_and_json_prints_the_outcome() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["snapshot", "--host", &healthy(), "-o", "out.html"];
    let quiet = warden(&[&arguments[..], &["--quiet"]].concat(), folder.path());
    let expected = folder.path().canonicalize().unwrap().join("out.html");
    assert_eq!(text(&quiet.stdout), format!("{}\n", expected.display()));
    let json = warden(&[&arguments[..], &["--json"]].concat(), folder.path());
    let outcome: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(outcome["path"], expected.to_str().unwrap());
    assert_eq!(outcome["counts"]["fail"], Value::Null);
}

#[test]
fn standard_output_can_take_the_report_and_nothing_else_is_printed_there() {
    let folder = tempfile::tempdir().unwrap();
    let output = warden(&["snapshot", "--host", &healthy(), "-o", "-", "--format", "json"], folder.path());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["version"], 1);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn only_and_skip_choose_the_checks() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "snapshot",
        "--host",
        &healthy(),
        "-o",
        "-",
        "--format=json",
        "--only",
        "disk,cpu-load",
        "--skip",
        "disk-space",
    ];
    let report: Value = serde_json::from_slice(&warden(&arguments, folder.path()).stdout).unwrap();
    let ids: Vec<_> =
        report["checks"].as_array().unwrap().iter().map(|check| check["id"].as_str().unwrap()).collect();
    assert!(
        ids.contains(&"cpu-load") && ids.contains(&"disk-inodes") && !ids.contains(&"disk-space"),
        "{ids:?}"
    );
    assert!(ids.iter().all(|id| id.starts_with("disk-") || *id == "cpu-load"), "{ids:?}");
}

#[test]
fn what_could_not_run_says_why_and_exits_with_2() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, message) in [
        (
            vec!["snapshot", "--only", "dsk"],
            "error: there is no check and no area called `dsk`; did you mean `disk`?",
        ),
        (
            vec!["snapshot", "--host", "/nowhere"],
            "error: cannot open the recording /nowhere: No such file or directory",
        ),
        (
            vec!["snapshot", "-o", "/proc/x.zip"],
            "error: cannot write to /proc; choose another place with --output",
        ),
        (
            vec!["snapshot", "-o", "x.txt"],
            "error: x.txt tells nobody what it is: end it with .zip (the whole bundle), .html (the page) or .json (its \
             data), or say --format",
        ),
        (vec!["snapshot", "-o", "x.txt.age"], "error: x.txt.age tells nobody what it is: "),
        (
            vec!["snapshot", "--since", "1s"],
            "error: invalid value '1s' for '--since <DURATION>': `1s` is out of range",
        ),
        (vec!["checks", "explain", "nope-nope"], "error: there is no check and no area called `nope-nope`"),
    ] {
        let output = warden(&arguments, folder.path());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).starts_with(message), "{}", text(&output.stderr));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing half-written");
    }
}

#[test]
fn a_full_disk_is_a_clear_error_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mount = folder.path().join("small");
    std::fs::create_dir(&mount).unwrap();
    let _mounted = crate::support::mount::Tmpfs::new(&mount, 64 << 10);
    let output = warden(&["snapshot", "-o", "small/out.zip"], folder.path());
    assert_eq!(output.status.code(), Some(2));
    let message = text(&output.stderr);
    assert!(
        message.starts_with("error: cannot write small/out.zip (")
            && message.contains("No space left on device"),
        "{message}"
    );
    assert_eq!(std::fs::read_dir(&mount).unwrap().count(), 0);
}

#[test]
fn the_plan_lists_what_would_be_asked_and_collects_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = warden(&["snapshot", "--plan", "--only", "disk-space"], folder.path());
    let shown = text(&output.stdout);
    assert!(shown.contains("/proc/self/mountinfo") && shown.contains("statvfs"), "{shown}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let json: Value =
        serde_json::from_slice(&warden(&["snapshot", "--plan", "--json"], folder.path()).stdout).unwrap();
    assert!(
        json.as_array().unwrap().iter().any(|item| item["what"] == "/proc/stat" && item["how"] == "sample")
    );
}

#[test]
fn checks_are_listed_and_explained() {
    let folder = tempfile::tempdir().unwrap();
    let listed = warden(&["checks"], folder.path());
    for check in warden_checks::CHECKS {
        assert!(text(&listed.stdout).contains(check.title), "{}", check.id);
    }
    let explained = warden(&["checks", "explain", "disk-space"], folder.path());
    for part in ["Reads", "/proc/self/mountinfo", "fails at 95 %", "Advice"] {
        assert!(text(&explained.stdout).contains(part), "{part}");
    }
    let json: Value = serde_json::from_slice(&warden(&["checks", "--json"], folder.path()).stdout).unwrap();
    assert_eq!(json.as_array().unwrap().len(), warden_checks::CHECKS.len());
    let explained = warden(&["checks", "explain", "data-directory", "disk-space", "--json"], folder.path());
    let explained: Value = serde_json::from_slice(&explained.stdout).unwrap();
    let ids: Vec<&str> =
        explained.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["disk-space", "data-directory"]);
    assert_eq!(explained[1]["title"], "Is Iggy's data whole?");
}

#[test]
fn an_archive_that_unpacks_to_a_gigabyte_is_refused_in_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bomb.zip");
    let mut archive = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    let zeros = vec![0; 1 << 20];
    for (name, mebibytes) in [("host/.host/complete", 0), ("host/proc/meminfo", 1024)] {
        archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        for _ in 0..mebibytes {
            archive.write_all(&zeros).unwrap();
        }
    }
    archive.finish().unwrap();
    // Whatever it takes beyond this is refused by the kernel.
    let output = Command::new("prlimit")
        .args(["--data=67108864", "--", env!("CARGO_BIN_EXE_warden"), "snapshot", "--host", "bomb.zip"])
        .args(["-o", "out.zip"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let message = text(&output.stderr);
    assert!(
        message.starts_with("error: cannot read the recording bomb.zip")
            && message.contains("a file of a recording has at most 16 MiB"),
        "{message}"
    );
    assert!(!folder.path().join("out.zip").exists());
}
