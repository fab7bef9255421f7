//! `warden diff` on recorded hosts, real bundles and reports of other versions.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::browser::{Script, open};
use crate::support::program::{host, told, warden};
use crate::support::sample_report::{HOSTILE, sample_report};

/// Exit code and everything that `warden diff --json` told.
fn diff(before: &str, after: &str, folder: &Path) -> (i32, Value) {
    told(&["diff", "--json", before, after], folder)
}

fn of<'a>(told: &'a Value, id: &str) -> &'a Value {
    told["checks"].as_array().unwrap().iter().find(|check| check["id"] == id).unwrap_or(&Value::Null)
}

#[test]
fn a_host_that_got_sick_is_worse_and_the_way_back_is_better() {
    let folder = tempfile::tempdir().unwrap();
    let (code, told) = diff(&host("healthy-debian"), &host("sick-debian"), folder.path());
    assert_eq!((code, &told["worse"]), (1, &Value::Bool(true)));
    let directions: Vec<_> =
        told["checks"].as_array().unwrap().iter().map(|check| &check["direction"]).collect();
    assert!(directions.len() > 20 && directions[0] == "worse", "{directions:?}");
    let space = of(&told, "disk-space");
    assert_eq!(
        (&space["direction"], &space["before"], &space["after"]),
        (&Value::from("worse"), &Value::from("pass"), &Value::from("fail"))
    );
    assert!(!space["came"].as_array().unwrap().is_empty());
    assert!(!space["values"]["changes"].as_array().unwrap().is_empty(), "{space:#}");

    let (_, back) = diff(&host("sick-debian"), &host("healthy-debian"), folder.path());
    let space = of(&back, "disk-space");
    assert_eq!((&space["direction"], &space["before"]), (&Value::from("better"), &Value::from("fail")));
    assert_eq!(told["counts"]["same"], back["counts"]["same"]);
}

#[test]
fn a_host_and_its_bundle_its_report_and_its_unpacked_bundle_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let recorded = host("sick-debian");
    for name in ["a.zip", "a.json"] {
        let output = warden(&["snapshot", "--host", &recorded, "--fail-on=never", "-o", name], folder.path());
        assert!(output.status.success(), "{output:?}");
    }
    let mut archive =
        zip::ZipArchive::new(std::fs::File::open(folder.path().join("a.zip")).unwrap()).unwrap();
    archive.extract(folder.path().join("unpacked")).unwrap();
    for other in ["a.zip", "a.json", "unpacked"] {
        let (code, told) = diff(&recorded, other, folder.path());
        assert_eq!((code, &told["checks"]), (0, &serde_json::json!([])), "{other}");
        assert_eq!(told["counts"]["same"], warden_checks::CHECKS.len());
    }
}

#[test]
fn what_changed_on_one_host_is_told_check_by_check() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("later");
    copy(Path::new(&host("healthy-debian")), &path);
    let edit = |file: &str, change: &dyn Fn(String) -> String| {
        let file = path.join(file);
        std::fs::write(&file, change(std::fs::read_to_string(&file).unwrap())).unwrap();
    };
    edit("proc/sys/kernel/random/boot_id", &|_| "11111111-2222-3333-4444-555555555555\n".to_owned());
    edit("proc/sys/vm/swappiness", &|_| "97\n".to_owned());
    let (_, told) = diff(&host("healthy-debian"), "later", folder.path());
    assert_eq!(told["remarks"], serde_json::json!(["rebooted in between"]));
    assert_eq!(told["host"][0]["name"], "boot id");
    assert_eq!(told["host"].as_array().unwrap().len(), 1);
    let checks = told["checks"].to_string();
    assert!(checks.contains("swappiness") && checks.contains("\"97\""), "{checks}");
    let unchanged = told["counts"]["same"].as_u64().unwrap();
    assert!(unchanged > 45, "{unchanged} of the others are the same");
}

fn copy(from: &Path, to: &Path) {
    let output =
        Command::new("cp").args(["-a", from.to_str().unwrap(), to.to_str().unwrap()]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Two reports whose every text is hostile, as files.
fn hostile(folder: &Path) -> [PathBuf; 2] {
    let mut report = serde_json::to_value(sample_report()).unwrap();
    let write = |name: &str, report: &Value| {
        std::fs::write(folder.join(name), report.to_string()).unwrap();
        folder.join(name)
    };
    let before = write("before.json", &report);
    report["host"]["name"] = HOSTILE.concat().into();
    report["warden"] = HOSTILE[0].into();
    for (at, check) in report["checks"].as_array_mut().unwrap().iter_mut().enumerate() {
        let hostile = HOSTILE[at % HOSTILE.len()];
        check["outcome"] = "fail".into();
        check["title"] = hostile.into();
        check["summary"] = hostile.into();
        check["problems"] =
            serde_json::json!([{ "severity": "fail", "text": hostile, "advice": { "text": hostile } }]);
        check["evidence"] = serde_json::json!([
            { "kind": "fields", "title": hostile, "rows": [[hostile, { "type": "text", "value": hostile }]] },
            { "kind": "log", "title": hostile, "lines": [{ "level": "error", "text": hostile }], "cut": false }
        ]);
    }
    [before, write("after.json", &report)]
}

#[test]
fn hostile_text_drives_neither_the_terminal_nor_the_page() {
    let folder = tempfile::tempdir().unwrap();
    let [before, after] = hostile(folder.path()).map(|path| path.to_str().unwrap().to_owned());
    let output = warden(&["diff", &before, &after, "--html", "page.html"], folder.path());
    assert_eq!(output.status.code(), Some(1));
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
    assert!(!shown.contains('\u{202e}'));
    let path = folder.path().join("page.html");
    let page = std::fs::read_to_string(&path).unwrap();
    assert_eq!((page.matches("<style").count(), page.matches("<script").count()), (1, 0));
    open(&path, "", Script::On, async |browser| {
        let elements = "return document.querySelectorAll('script').length + document.images.length * 10 + document.querySelectorAll('[onmouseover], [onerror], [style]').length * 100";
        assert_eq!(browser.run(elements).await, 0);
        assert_eq!(browser.console().await, Vec::<String>::new());
        assert_eq!(browser.run("return window.ran === undefined").await, true);
    });
}

#[test]
fn the_page_shows_what_got_worse_first_and_asks_nothing_of_anywhere() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["diff", &host("healthy-debian"), &host("sick-debian"), "--html", "page.html"];
    assert_eq!(warden(&arguments, folder.path()).status.code(), Some(1));
    let path = folder.path().join("page.html");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    open(&path, "", Script::Off, async |browser| {
        let groups = browser.shown_text("#changes").await;
        assert!(groups.starts_with("Worse\n"), "{groups}");
        assert!(browser.is_shown("#disk-space .problem.fail").await);
        assert!(browser.is_shown("#disk-space .changes").await);
        browser.asked_nothing_of_others(&path).await;
    });
}

#[test]
fn what_cannot_be_compared_says_why_and_exits_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| std::fs::write(folder.path().join(name), content).unwrap();
    file("empty.json", "{}");
    file("text", "hello");
    file("nothing", "");
    std::fs::create_dir(folder.path().join("folder")).unwrap();
    let good = host("healthy-debian");
    for (other, message) in [
        ("nowhere", "error: cannot open nowhere: No such file or directory"),
        ("empty.json", "error: empty.json is no report: it has no version"),
        ("text", "error: text is neither a bundle nor a report: this is no whole ZIP archive"),
        ("nothing", "error: nothing is neither a bundle nor a report: this is no whole ZIP archive"),
        ("folder", "error: cannot replay folder: this holds no recorded host"),
    ] {
        let output = warden(&["diff", &good, other], folder.path());
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.starts_with(message), "{told}");
    }
}
