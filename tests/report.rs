//! The report page: what it says, that nothing in it runs, and that a browser can use it.

use std::path::PathBuf;

use serde_json::{Value, json};
use warden::snapshot::report::{Report, page};
use warden_host::Evidence;

use crate::support::browser::{Browser, Script, open};
use crate::support::sample_report::{HOSTILE, sample_report};

/// The sample's page as a file.
fn sample_page() -> PathBuf {
    static PAGE: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    let write = || {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("sample-report.html");
        std::fs::write(&path, page(&sample_report()).unwrap()).unwrap();
        path
    };
    PAGE.get_or_init(write).clone()
}

fn in_browser<F: AsyncFnOnce(&Browser)>(address: &str, test: F) {
    open(&sample_page(), address, Script::On, test);
}

/// Ids of the findings that are shown, in their order.
const SHOWN: &str =
    "return [...document.querySelectorAll('.finding:not([hidden])')].map(finding => finding.id)";

#[test]
fn the_page_of_an_ordinary_host_is_under_two_megabytes() {
    let bytes = std::fs::metadata(sample_page()).unwrap().len();
    assert!(bytes < 2_000_000, "{bytes} bytes");
}

#[test]
fn logs_that_are_too_much_for_a_page_keep_their_newest_lines_and_say_where_the_rest_is() {
    let mut report = sample_report();
    let mut logs = 0;
    for evidence in report.checks.iter_mut().flat_map(|check| &mut check.evidence) {
        let Evidence::Log(log) = evidence else { continue };
        logs += 1;
        for line in &mut log.lines {
            line.text = "z".repeat(3_000);
        }
        log.lines.last_mut().unwrap().text = format!("the newest of log {logs}");
    }
    let page = page(&report).unwrap();
    assert!(page.len() < 3_000_000, "{} bytes", page.len());
    assert!(page.contains("the newest of log 1") && page.contains("the newest of log 2"));
    assert!(page.contains("earlier ones are in report.json"));
}

fn schema() -> jsonschema::Validator {
    let text = include_str!("../templates/report.schema.json");
    jsonschema::draft202012::new(&serde_json::from_str(text).unwrap()).unwrap()
}

pub fn objections(report: &Value) -> Vec<String> {
    schema().iter_errors(report).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn a_report_is_as_its_schema_says() {
    let mut report = serde_json::to_value(sample_report()).unwrap();
    assert_eq!(objections(&report), Vec::<String>::new());
    report["checks"][0]["colour"] = json!("red");
    assert_eq!(objections(&report).len(), 1, "what the schema does not know is refused");
}

#[test]
fn a_report_of_version_1_is_read_for_ever() {
    let frozen: Value = serde_json::from_str(include_str!("wire/report.v1.json")).unwrap();
    assert_eq!(objections(&frozen), Vec::<String>::new());
    let report: Report = serde_json::from_value(frozen.clone()).unwrap();
    assert_eq!(serde_json::to_value(&report).unwrap(), frozen, "nothing of it is lost or renamed");
    assert!(page(&report).unwrap().contains("iggy-node-07"));
}

#[test]
fn the_same_report_is_the_same_page() {
    assert_eq!(page(&sample_report()).unwrap(), page(&sample_report()).unwrap());
}

#[test]
fn no_element_carries_a_style_or_a_handler_of_its_own() {
    let page = page(&sample_report()).unwrap();
    let body = &page[page.find("<body>").unwrap()..];
    for forbidden in [" style=", "<script", "<style", "javascript:", "http://", "https://"] {
        let hostile = HOSTILE.iter().any(|text| text.contains(forbidden));
        assert!(hostile || !body.contains(forbidden), "{forbidden}");
    }
    assert_eq!(page.matches("<script").count(), 1);
    assert_eq!(page.matches("<style").count(), 1);
}

#[test]
fn hostile_text_is_shown_as_text_and_nothing_of_it_runs() {
    in_browser("?#logs-iggy", async |browser| {
        let lines = "return [...document.querySelectorAll('#logs-iggy .lines p')].slice(-8).map(line => line.textContent.trim())";
        let lines = browser.run(lines).await.to_string();
        for shown in [
            "</script><script>alert(1)</script>",
            "<img src=x onerror=alert(3)>",
            "invoice\\\\u{202e}fdp.exe",
            "nul ␀ bell ␇ red",
            "{{ 7*7 }}{% raw %}&lt;b&gt;",
        ] {
            assert!(lines.contains(shown), "{shown} in {lines}");
        }
        assert!(lines.contains("y … 996000 more characters"), "a line of a megabyte is cut");
        let elements = "return document.querySelectorAll('script').length + document.images.length * 10 + document.querySelectorAll('[onmouseover], [onerror]').length * 100";
        assert_eq!(browser.run(elements).await, 1);
    });
}

#[test]
fn the_page_asks_nothing_of_anywhere_and_the_console_stays_silent() {
    in_browser("", async |browser| {
        browser.press("/").await;
        browser.press("disk").await;
        browser.wait_for("document.querySelector('#matches').textContent.includes('match')").await;
        assert_eq!(browser.console().await, Vec::<String>::new());
        let address = format!("file://{}", sample_page().display());
        let others = browser
            .requests_of(&address)
            .await
            .into_iter()
            .filter(|url| *url != address && !url.starts_with("data:"));
        assert_eq!(others.collect::<Vec<_>>(), Vec::<String>::new());
    });
}

#[test]
fn a_foreign_script_or_style_is_refused_by_the_policy() {
    in_browser("", async |browser| {
        browser.run("const script = document.createElement('script'); script.textContent = 'window.ran = true'; document.body.append(script)").await;
        browser
            .run("document.body.setAttribute('onclick', 'window.ran = true'); document.body.click()")
            .await;
        assert_eq!(browser.run("return window.ran === undefined").await, true);
        let refused = browser.console().await;
        assert!(
            refused.len() >= 2 && refused.iter().all(|line| line.contains("Content Security Policy")),
            "{refused:?}"
        );
    });
}

#[test]
fn findings_stand_worst_first_and_failing_ones_are_open() {
    in_browser("", async |browser| {
        let shown = browser.run(SHOWN).await;
        assert_eq!(shown[0], "memory-oom");
        assert_eq!(shown[44], "cgroup-limits");
        let open = "return [...document.querySelectorAll('.finding:has(> details[open])')].map(finding => finding.dataset.outcome)";
        assert_eq!(browser.run(open).await, json!(["fail", "fail", "fail", "fail"]));
    });
}

#[test]
fn search_finds_evidence_opens_it_and_gives_back_what_was() {
    in_browser("", async |browser| {
        browser.press("/").await;
        browser.press("postgres_orders could not").await;
        browser.wait_for("document.querySelector('#matches').textContent === '25 matches'").await;
        assert_eq!(browser.run(SHOWN).await, json!(["logs-connectors"]));
        assert!(browser.is_shown("#logs-connectors .lines").await);
        assert_eq!(browser.run("return CSS.highlights.get('match').size").await, 25);
        browser.press("\u{e007}").await;
        assert_eq!(browser.shown_text("#matches").await, "1 of 25 matches");
        assert_eq!(browser.run("return location.hash").await, "#?q=postgres_orders+could+not");
        browser.press("\u{e00c}").await;
        assert_eq!(browser.run(SHOWN).await.as_array().unwrap().len(), 45);
        assert_eq!(
            browser.run("return document.querySelector('#logs-connectors details').open").await,
            false
        );
        assert_eq!(browser.run("return location.hash").await, "");
    });
}

#[test]
fn a_search_without_a_match_says_so() {
    in_browser("#?q=nowhere-to-be-found", async |browser| {
        assert_eq!(browser.shown_text("#matches").await, "no match");
        assert_eq!(browser.run(SHOWN).await, json!([]));
        assert!(browser.is_shown("#none").await);
    });
}

#[test]
fn counts_and_areas_filter_and_the_address_keeps_it() {
    in_browser("", async |browser| {
        browser.click(".count.warn").await;
        browser.click(".count.fail").await;
        browser.click(".rail [data-area=disk]").await;
        assert_eq!(browser.run(SHOWN).await, json!(["disk-space", "disk-latency"]));
        assert_eq!(browser.shown_text("#shown").await, "2 of 45 shown");
        assert_eq!(browser.run("return location.hash").await, "#?outcome=warn,fail&area=disk");
        browser.press("\u{e00c}").await;
        assert_eq!(browser.run(SHOWN).await.as_array().unwrap().len(), 45);
    });
    in_browser("#?outcome=unknown,timed-out", async |browser| {
        let shown = json!(["runtime-iggy-health", "disk-health", "certificates-served"]);
        assert_eq!(browser.run(SHOWN).await, shown);
    });
}

#[test]
fn a_deep_link_opens_its_finding_and_brings_it_to_the_top() {
    in_browser("#kernel-log", async |browser| {
        assert_eq!(browser.run("return document.querySelector('#kernel-log details').open").await, true);
        let top =
            browser.run("return document.querySelector('#kernel-log').getBoundingClientRect().top").await;
        assert!((0.0..200.0).contains(&top.as_f64().unwrap()), "{top}");
        browser.run("location.hash = '#cpu-steal'").await;
        browser.wait_for("document.querySelector('#cpu-steal details').open").await;
    });
}

#[test]
fn a_column_sorts_by_its_values_up_down_and_back() {
    in_browser("#disk-space", async |browser| {
        let points = "return [...document.querySelectorAll('#disk-space tbody')[0].rows].map(row => row.cells[0].innerText.replace(/^\\w+:\\s/, ''))";
        let as_read = browser.run(points).await;
        let size = "#disk-space table.sortable th:nth-child(3) button";
        browser.click(size).await;
        assert_eq!(browser.run(points).await, json!(["/boot", "/var", "/", "/var/lib/iggy", "/srv/backup"]));
        assert_eq!(
            browser.run("return document.querySelector('#disk-space th[aria-sort]').ariaSort").await,
            "ascending"
        );
        browser.run(&format!("document.querySelector('{size}').focus()")).await;
        browser.press("\u{e007}").await;
        assert_eq!(browser.run(points).await, json!(["/srv/backup", "/var/lib/iggy", "/", "/var", "/boot"]));
        browser.press("\u{e007}").await;
        assert_eq!(browser.run(points).await, as_read);
    });
}

#[test]
fn a_command_is_copied_as_it_stands() {
    in_browser("#disk-space", async |browser| {
        let grant = json!({ "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"] });
        browser.command("Browser.grantPermissions", grant).await;
        browser.click("#disk-space .copy").await;
        browser.wait_for("document.querySelector('#disk-space .copy').textContent === 'Copied'").await;
        let copied = browser.run("return navigator.clipboard.readText()").await;
        assert_eq!(copied, "du -xh --max-depth=2 '/var/lib/iggy' | sort -h | tail -n 20");
    });
    in_browser("#disk-space", async |browser| {
        browser.run("Object.defineProperty(navigator, 'clipboard', { value: undefined })").await;
        browser.click("#disk-space .copy").await;
        browser
            .wait_for("/Copied|Selected/.test(document.querySelector('#disk-space .copy').textContent)")
            .await;
        let selected = browser.run("return getSelection().toString()").await;
        assert_eq!(selected, "du -xh --max-depth=2 '/var/lib/iggy' | sort -h | tail -n 20");
    });
}

#[test]
fn the_keyboard_goes_everywhere() {
    in_browser("", async |browser| {
        let here = "return document.activeElement.closest('.finding')?.id ?? document.activeElement.id";
        browser.press("jj").await;
        assert_eq!(browser.run(here).await, "disk-space");
        browser.press("k").await;
        assert_eq!(browser.run(here).await, "memory-oom");
        browser.press("\u{e015}").await;
        assert_eq!(browser.run(here).await, "disk-space", "the arrow goes down too");
        browser.press("\u{e007}").await;
        assert_eq!(browser.run("return document.querySelector('#disk-space details').open").await, false);
        browser.press("e").await;
        assert_eq!(
            browser.run("return document.querySelectorAll('.finding > details:not([open])').length").await,
            0
        );
        browser.press("t").await;
        assert_eq!(browser.run("return document.documentElement.dataset.theme").await, "light");
        browser.press("?").await;
        assert!(browser.is_shown("#keys").await);
        browser.press("\u{e00c}").await;
        assert!(!browser.is_shown("#keys").await);
    });
}

#[test]
fn a_log_shows_its_newest_lines_and_filters_by_level() {
    in_browser("#logs-iggy", async |browser| {
        let visible = "return [...document.querySelectorAll('#logs-iggy .lines p')].filter(line => line.checkVisibility({ contentVisibilityAuto: false })).length";
        assert_eq!(browser.run(visible).await, 80);
        let at_end = "const lines = document.querySelector('#logs-iggy .lines'); return lines.scrollTop > 0 && lines.scrollTop + lines.clientHeight >= lines.scrollHeight - 2";
        assert_eq!(browser.run(at_end).await, true, "the newest lines are in sight");
        browser.click("#logs-iggy .choices label:nth-child(3)").await;
        let levels = "return [...new Set([...document.querySelectorAll('#logs-iggy .lines p')].filter(line => line.checkVisibility()).map(line => line.className))].sort()";
        assert_eq!(browser.run(levels).await, json!(["c", "e"]));
    });
}

#[test]
fn without_script_everything_is_there_and_no_control_is() {
    open(&sample_page(), "", Script::Off, async |browser| {
        assert!(!browser.is_shown("#search").await);
        assert!(!browser.is_shown("#disk-space .copy").await);
        assert!(browser.is_shown("#disk-space table").await);
        browser.click("#cpu-steal summary").await;
        assert!(browser.is_shown("#cpu-steal .fields").await);
        let text = browser.shown_text("#masked").await;
        assert!(text.contains("14 secrets were replaced"), "{text}");
    });
}

#[test]
fn nothing_is_wider_than_the_window_of_a_telephone() {
    in_browser("", async |browser| {
        let metrics = json!({ "width": 360, "height": 780, "deviceScaleFactor": 1, "mobile": true });
        browser.command("Emulation.setDeviceMetricsOverride", metrics).await;
        browser.press("e").await;
        assert_eq!(browser.run("return document.documentElement.scrollWidth").await, 360);
    });
}
