//! Iggy's data directory in the report of a snapshot: what is damaged is told by place, counted, and seen on the page.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use warden::snapshot::report::{Report, page};

use crate::hangs::wait_for_report;
use crate::report::objections;
use crate::support::browser::{Script, open};
use crate::support::mount::DeadMount;
use crate::support::segments::{Directory, PARTITION, PAYLOAD, index, index_entry, log};

/// A batch of two messages, as [`Directory::edge`] has them.
const BATCH: usize = 256 + 2 * (48 + PAYLOAD.len());

/// One damaged message, an index that leads astray, a quarantined partition, an unfinished write and a stranger.
fn damaged() -> Directory {
    let directory = Directory::edge();
    let mut sealed = directory.read(&log(0));
    sealed[BATCH + 300] ^= 1;
    directory.write(&log(0), &sealed);
    directory.write(&index(8), &[index_entry(8, 0), index_entry(12, BATCH as u64)].concat());
    let mut newest = directory.read(&log(8));
    newest.extend([7; 100]);
    directory.write(&log(8), &newest);
    directory.write("streams/1/topics/2/partitions/5.fenced.0/00000000000000000000.log", &[1; 100]);
    directory.write(&format!("{PARTITION}/password=canary-Nm7-q9W8e7R6.txt"), b"x");
    directory
}

fn host() -> String {
    format!("{}/tests/hosts/healthy-debian", env!("CARGO_MANIFEST_DIR"))
}

fn warden(arguments: &[&str], data: &Path, out: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_warden"))
        .args(["snapshot", "--fail-on=never", "-o"])
        .arg(out)
        .arg("--iggy-data")
        .arg(data)
        .args(arguments)
        .env_clear()
        .output()
        .unwrap()
}

/// The report on a recorded host and `data`.
fn report_of(data: &Path, arguments: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("a.json");
    let host = host();
    let output = warden(&[&["--host", &host], arguments].concat(), data, &out);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&std::fs::read(out).unwrap()).unwrap()
}

#[test]
fn damage_is_told_by_segment_batch_and_offset_and_counted_in_the_verdict() {
    let directory = damaged();
    let before = report_of(directory.path(), &["--inspect=off"]);
    assert_eq!(before.get("data_directory"), None);
    let report = report_of(directory.path(), &["--inspect=full"]);
    assert_eq!(objections(&report), Vec::<String>::new());
    let told = &report["data_directory"];
    assert_eq!((&told["outcome"], &told["found_by"]), (&json!("fail"), &json!("--iggy-data")));
    assert_eq!(report["verdict"], "fail");
    let fails = |report: &Value| report["counts"]["fail"].as_u64().unwrap_or(0);
    assert_eq!(fails(&report), fails(&before) + 1);

    let problems = told["inspection"]["problems"].as_array().unwrap();
    let kinds: Vec<&str> = problems.iter().map(|problem| problem["kind"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        ["damaged-message", "index-astray", "torn-tail", "fenced-partition", "unknown-file"],
        "worst first"
    );
    assert_eq!(problems[0]["file"], log(0));
    let at =
        json!({"what": "message", "position": BATCH, "batch": 1, "offset": 2, "messages": 1, "bytes": null});
    assert_eq!(problems[0]["at"], at);
    assert!(problems[0]["advice"].as_str().unwrap().starts_with("Copy the partition first"));
    assert_eq!(told["inspection"]["generation"], "0.9-edge");
    assert_eq!(told["inspection"]["totals"]["messages"], 14);
    assert_eq!(told["inspection"]["scan"]["mode"], "full");
}

#[test]
fn a_sample_finds_it_too_and_the_structure_alone_what_needs_no_message() {
    let directory = damaged();
    let kinds = |depth: &str| -> Vec<String> {
        let report = report_of(directory.path(), &[depth]);
        let problems = report["data_directory"]["inspection"]["problems"].as_array().unwrap().clone();
        problems.iter().map(|problem| problem["kind"].as_str().unwrap().to_owned()).collect()
    };
    assert!(kinds("--inspect").contains(&"damaged-message".to_owned()));
    let structure = kinds("--inspect=structure");
    assert_eq!(structure, ["index-astray", "torn-tail", "fenced-partition", "unknown-file"]);
    let by_default = report_of(directory.path(), &[]);
    assert_eq!(by_default["data_directory"]["inspection"]["scan"]["mode"], "none");
    let only = report_of(directory.path(), &["--only=cpu"]);
    assert_eq!(only.get("data_directory"), None, "nobody asked for it");
}

#[test]
fn no_payload_and_no_secret_in_a_name_comes_into_the_report() {
    let directory = damaged();
    let text = report_of(directory.path(), &["--inspect=full"]).to_string();
    for part in ["CANARY", "41111111", "canary-Nm7", "the body of"] {
        assert!(!text.contains(part), "{part}");
    }
    assert!(text.contains("password=[secret:"), "its name is told, masked");
}

#[test]
fn the_same_directory_makes_the_same_bytes_and_its_time_stands_with_the_costs() {
    let (directory, folder) = (damaged(), tempfile::tempdir().unwrap());
    let host = host();
    let write = |name: &str, arguments: &[&str]| {
        let out = folder.path().join(name);
        assert!(warden(arguments, directory.path(), &out).status.success());
        std::fs::read(out).unwrap()
    };
    let arguments = ["--host", &host, "--inspect=full"];
    for name in ["a.zip", "a.html", "a.json"] {
        assert!(write(name, &arguments) == write(name, &arguments), "{name}");
    }
    let live: Value = serde_json::from_slice(&write("b.json", &["--only=cpu", "--inspect=full"])).unwrap();
    let told = &live["data_directory"];
    assert_eq!(objections(&live), Vec::<String>::new());
    assert!(told["cost"]["wall_us"].as_u64() > Some(0));
    assert_eq!(told["cost"].get("bytes_per_second"), None, "too little was read to tell a speed");
    assert_eq!(told["inspection"]["scan"].get("seconds"), None);
}

#[test]
fn the_manifest_the_summary_and_a_comparison_know_of_it() {
    let (sound, broken, folder) = (Directory::edge(), damaged(), tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name);
    let host = host();
    let run = |directory: &Directory, name: &str| {
        let output = warden(&["--host", &host, "--inspect=full"], directory.path(), &at(name));
        String::from_utf8(output.stdout).unwrap()
    };
    run(&sound, "before.zip");
    let printed = run(&broken, "after.zip");
    assert!(printed.contains("fail  data-directory") && printed.contains("batch 1 at byte 398"), "{printed}");
    let mut bundle = zip::ZipArchive::new(std::fs::File::open(at("after.zip")).unwrap()).unwrap();
    let manifest: Value = serde_json::from_reader(bundle.by_name("manifest.json").unwrap()).unwrap();
    let items = manifest["items"].as_array().unwrap();
    assert_eq!(items.last().unwrap(), &json!({"id": "data-directory", "outcome": "fail"}));
    let diff = Command::new(env!("CARGO_BIN_EXE_warden"))
        .arg("diff")
        .args([at("before.zip"), at("after.zip")])
        .env_clear()
        .output()
        .unwrap();
    let told = String::from_utf8(diff.stdout).unwrap();
    assert_eq!(diff.status.code(), Some(1), "{told}");
    assert!(told.contains("data-directory"), "{told}");
}

#[test]
fn a_bundle_with_the_data_directory_is_judged_again_with_it() {
    let (directory, folder) = (damaged(), tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name);
    let packed = warden(&["--only=cpu", "--include-iggy"], directory.path(), &at("with.zip"));
    assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
    let here = Command::new(env!("CARGO_BIN_EXE_warden"));
    // For those in a container, a session that began outside has the number 0.
    let mut in_container = Command::new("unshare");
    in_container.args(["--pid", "--fork", "--mount-proc", env!("CARGO_BIN_EXE_warden")]);
    for mut again in [here, in_container] {
        let output = again
            .args(["snapshot", "--fail-on=never", "--inspect=full", "--host"])
            .arg(at("with.zip"))
            .arg("-o")
            .arg(at("again.json"))
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&std::fs::read(at("again.json")).unwrap()).unwrap();
        let told = &report["data_directory"];
        assert_eq!((&told["path"], &told["outcome"]), (&json!("iggy.zip"), &json!("fail")), "{told}");
        assert_eq!(told["inspection"]["problems"][0]["kind"], "damaged-message");
    }
    let refused = warden(
        &["--host", at("with.zip").to_str().unwrap(), "--include-iggy"],
        directory.path(),
        &at("x.zip"),
    );
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--host judges the recording of another"));
}

#[test]
fn what_is_no_data_directory_or_does_not_answer_is_said_and_stops_nothing() {
    let empty = tempfile::tempdir().unwrap();
    let report = report_of(empty.path(), &["--inspect"]);
    assert_eq!(report["data_directory"]["outcome"], "unknown");
    let summary = report["data_directory"]["summary"].as_str().unwrap();
    assert!(summary.contains("is no data directory of Iggy"), "{summary}");
    assert_eq!(objections(&report), Vec::<String>::new());

    let folder = tempfile::tempdir().unwrap();
    let (dead, out) = (folder.path().join("dead"), folder.path().join("a.json"));
    std::fs::create_dir(&dead).unwrap();
    let mount = DeadMount::new(&dead);
    let host = host();
    let child = Command::new(env!("CARGO_BIN_EXE_warden"))
        .args(["snapshot", "--fail-on=never", "--inspect=structure", "--host", &host, "-o"])
        .arg(&out)
        .arg("--iggy-data")
        .arg(&dead)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    assert!(wait_for_report(&out, Duration::from_secs(50)), "it comes while a thread hangs in the kernel");
    assert!(child.unwrap().wait().unwrap().success(), "and the prompt with it");
    drop(mount);
    let report: Value = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
    assert_eq!(report["data_directory"]["outcome"], "timed_out", "{}", report["data_directory"]);
}

fn written_page() -> PathBuf {
    static PAGE: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    let write = || {
        let report: Report =
            serde_json::from_value(report_of(damaged().path(), &["--inspect=full"])).unwrap();
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("data-directory.html");
        std::fs::write(&path, page(&report).unwrap()).unwrap();
        path
    };
    PAGE.get_or_init(write).clone()
}

#[test]
fn the_page_has_a_section_of_its_own_that_links_and_search_reach() {
    let shown = "return [...document.querySelectorAll('.finding:not([hidden])')].map(finding => finding.id)";
    open(&written_page(), "#data-directory", Script::On, async |browser| {
        let text = browser.shown_text("#data-directory").await;
        assert!(
            text.contains("the message at offset 2 does not fit its checksum, in batch 1 at byte 398"),
            "{text}"
        );
        let top =
            browser.run("return document.querySelector('#data-directory').getBoundingClientRect().top").await;
        assert!((0.0..200.0).contains(&top.as_f64().unwrap()), "{top}");
        assert_eq!(browser.shown_text(".attention a[href='#data-directory'] code").await, "data-directory");
        browser.press("/").await;
        browser.press("5.fenced.0").await;
        browser.wait_for("document.querySelector('#matches').textContent.includes('match')").await;
        assert_eq!(browser.run(shown).await, json!(["data-directory"]));
        browser.press("\u{e00c}").await;
        browser.click(".count.fail").await;
        assert_eq!(browser.run(shown).await, json!(["data-directory"]));
        assert_eq!(browser.console().await, Vec::<String>::new());
        for width in [360, 1280] {
            let metrics = json!({ "width": width, "height": 780, "deviceScaleFactor": 1, "mobile": true });
            browser.command("Emulation.setDeviceMetricsOverride", metrics).await;
            assert_eq!(browser.run("return document.documentElement.scrollWidth").await, width);
        }
    });
    open(&written_page(), "", Script::Off, async |browser| {
        let text = browser.shown_text("#data-directory").await;
        assert!(text.contains("damaged message") && text.contains("5.fenced.0"), "{text}");
    });
}
