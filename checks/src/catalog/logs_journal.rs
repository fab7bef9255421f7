//! logs-journal: does the journal keep what the runtimes say.

use std::collections::BTreeMap;

use warden_host::quantity::count;
use warden_host::{Cause, Entry, Error, Failure, Host, IfAny, LogLine};

use crate::iggy::{Runtime, log};
use crate::{Advice, Area, Check, DEADLINE, Evidence, Fields, Finding, Log, Read, Result, Table, Value};

pub const CHECK: Check = Check {
    id: "logs-journal",
    area: Area::Logs,
    title: "Does the journal keep what is logged?",
    why: "A panic of Iggy goes to stderr, which is the journal and nowhere else. When the journal lives in memory only, \
          drops lines of a chatty unit or is damaged, the one line that explains an outage is the one that is missing.",
    reads: &[
        Read::Command("journal-disk-usage"),
        Read::Command("journal-header"),
        Read::Path("/var/log/journal"),
        Read::Path("/var/log/journal/*"),
        Read::Path("/run/log/journal"),
        Read::Path("/etc/systemd/journald.conf"),
        Read::Path("/etc/systemd/journald.conf.d/*.conf"),
        Read::Path("/run/systemd/journald.conf.d/*.conf"),
        Read::Path("/usr/lib/systemd/journald.conf.d/*.conf"),
        Read::Journal,
        Read::Units,
        Read::Group(crate::iggy::READS),
    ],
    thresholds: &[
        "warns when the journal is kept in memory only, or not at all",
        "warns when lines of a unit were dropped in the last 24 h (rate limit), or a journal file was found damaged",
        "fails when journald failed",
        "notes files left behind by an unclean shutdown",
    ],
    advice: "Set Storage=persistent and a SystemMaxUse= in journald.conf; raise LogRateLimitBurst= of a chatty unit.",
    deadline: DEADLINE,
    run,
};

const JOURNALD: &str = "systemd-journald.service";
const DISK: &str = "/var/log/journal";
const MEMORY: &str = "/run/log/journal";
/// What journald.conf(5) says that matters here.
const SETTINGS: [&str; 8] = [
    "Storage",
    "SystemMaxUse",
    "SystemKeepFree",
    "RuntimeMaxUse",
    "MaxRetentionSec",
    "RateLimitIntervalSec",
    "RateLimitBurst",
    "ForwardToSyslog",
];

fn run(host: &Host) -> Result<Finding> {
    let (on_disk, in_memory) = (host.list(DISK).if_any()?, host.list(MEMORY).if_any()?);
    let usage = host.run("journal-disk-usage").if_any()?;
    let keeps =
        |listing: &Option<Vec<Entry>>| listing.as_ref().is_some_and(|entries| entries.iter().any(is_machine));
    let place = match (keeps(&on_disk), keeps(&in_memory)) {
        (true, _) => "on disk",
        (false, true) => "in memory only",
        (false, false) => "nowhere",
    };
    if place == "nowhere" {
        if usage.is_none() {
            return Ok(Finding::skip("there is no journal here: journalctl is not installed"));
        }
        if let Err(Error::Host(Failure { cause: Cause::Unavailable(reason), .. })) = host.unit(JOURNALD) {
            return Ok(Finding::skip(format!("journald does not run here: {reason}")));
        }
    }
    let settings = settings(host)?;
    let mut finding = Finding::new("");
    let usage = usage.map_or_else(String::new, |output| output.stdout.trim().to_owned());
    storage(&mut finding, place, on_disk.is_some(), settings.get("Storage").map(String::as_str));
    let damaged = on_disk.as_ref().map_or(Ok(Vec::new()), |machines| damaged_files(host, machines))?;
    if !damaged.is_empty() {
        let files = count(damaged.len() as u64, "journal file was", "journal files were");
        let text = format!("{files} set aside after an unclean shutdown or damage: {}", shortened(&damaged));
        finding.note(
            text,
            Advice::run("See whether they can still be read.", "journalctl --verify 2>&1 | grep -v PASS"),
        );
    }
    service(host, &mut finding)?;
    dropped(host, &mut finding)?;

    let used = usage
        .rsplit_once("take up ")
        .map_or("an unknown amount", |(_, rest)| rest.split(' ').next().unwrap_or_default());
    finding.summary = format!("the journal is kept {place} and takes {used}");
    let mut fields = Fields::new("Journal").row("kept", place).row("disk usage", usage.as_str());
    for (name, value) in &settings {
        fields = fields.row(*name, Value::Code(value.clone()));
    }
    finding.show(Evidence::Fields(fields));
    if let Some(output) = host.run("journal-header").if_any()? {
        files(&mut finding, &output.stdout);
    }
    Ok(finding)
}

/// A journal lies in a directory named by the machine id: 32 hexadecimal digits.
fn is_machine(entry: &Entry) -> bool {
    let id = entry.name.split('.').next().unwrap_or_default();
    id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The last word wins: journald.conf, then the fragments by their names, wherever they lie; of two with one name
/// that of the administrator counts (journald.conf(5)).
fn settings(host: &Host) -> Result<BTreeMap<&'static str, String>> {
    let mut fragments: BTreeMap<String, String> = BTreeMap::new();
    for directory in ["/usr/lib", "/run", "/etc"] {
        let found = host.read_all(&format!("{directory}/systemd/journald.conf.d/*.conf")).if_any()?;
        for file in found.unwrap_or_default() {
            let name = file.path.rsplit('/').next().unwrap_or_default().to_owned();
            fragments.insert(name, file.text);
        }
    }
    let main = host.read("/etc/systemd/journald.conf").if_any()?;
    let texts: Vec<String> = main.into_iter().chain(fragments.into_values()).collect();
    let mut settings = BTreeMap::new();
    for (key, value) in
        texts.iter().flat_map(|text| text.lines()).filter_map(|line| line.trim().split_once('='))
    {
        if let Some(&name) = SETTINGS.iter().find(|&&name| name == key.trim()) {
            settings.insert(name, value.trim().to_owned());
        }
    }
    Ok(settings)
}

fn storage(finding: &mut Finding, place: &str, directory_exists: bool, storage: Option<&str>) {
    let command = "mkdir -p /etc/systemd/journald.conf.d && printf '[Journal]\\nStorage=persistent\\n' > \
                   /etc/systemd/journald.conf.d/zz-warden-persistent.conf && systemctl restart systemd-journald && \
                   journalctl --flush";
    let advice = Advice::run("Keep the journal on disk.", command);
    match (storage, place) {
        (Some("none"), _) => finding.warn("Storage=none: the journal throws away all it is told", advice),
        (_, "in memory only") => {
            let why = match storage {
                Some(storage) => format!("Storage={storage}"),
                None if directory_exists => format!("{DISK} holds no journal"),
                None => format!("{DISK} does not exist"),
            };
            finding
                .warn(format!("the journal is kept in memory only and is lost at a reboot ({why})"), advice);
        }
        (_, "nowhere") => {
            finding.warn("journald has written no journal, neither on disk nor in memory", advice)
        }
        _ => {}
    }
}

/// Files ending in `~`: journald found them not closed, and began new ones.
fn damaged_files(host: &Host, machines: &[Entry]) -> Result<Vec<String>> {
    let mut damaged = Vec::new();
    for machine in machines.iter().filter(|entry| is_machine(entry)) {
        let files = host.list(&format!("{DISK}/{}", machine.name)).if_any()?.unwrap_or_default();
        damaged.extend(files.into_iter().map(|file| file.name).filter(|name| name.ends_with(".journal~")));
    }
    Ok(damaged)
}

/// The first few names: a host that loses power often has hundreds.
fn shortened(names: &[String]) -> String {
    const NAMED: usize = 3;
    let shown = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > NAMED { format!("{shown} and {} more", names.len() - NAMED) } else { shown }
}

fn service(host: &Host, finding: &mut Finding) -> Result<()> {
    match host.unit(JOURNALD) {
        Ok(unit) if unit.text("ActiveState") == Some("failed") => {
            let result = unit.text("Result").unwrap_or("unknown");
            let advice = Advice::run("Start it again.", format!("systemctl restart {JOURNALD}"));
            finding.fail(format!("{JOURNALD} failed: {result}"), advice);
            Ok(())
        }
        Ok(_) | Err(Error::Host(Failure { cause: Cause::Absent | Cause::Unavailable(_), .. })) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What journald says of itself: lines it dropped and files it found damaged. The same line may appear in the
/// log of journald and in that of the unit it is about.
fn dropped(host: &Host, finding: &mut Finding) -> Result<()> {
    let mut units = vec![JOURNALD.to_owned()];
    for runtime in Runtime::ALL {
        units.extend(log::journals(host, runtime)?);
    }
    let mut lines: Vec<LogLine> = Vec::new();
    for unit in &units {
        match host.journal(unit) {
            Ok(log) => lines.extend(log.lines.into_iter().filter(|line| is_telling(&line.text))),
            Err(Error::Host(Failure { cause: Cause::Absent | Cause::Unavailable(_), .. })) => {}
            Err(error) => {
                let advice = "Run Warden as root, or add its user to the group systemd-journal.";
                finding.note(
                    format!("whether lines were dropped could not be told: {error}"),
                    Advice::text(advice),
                );
                break;
            }
        }
    }
    lines.sort_by(|a, b| (a.at_us, &a.text).cmp(&(b.at_us, &b.text)));
    lines.dedup_by(|a, b| a.at_us == b.at_us && a.text == b.text);
    let mut lost: BTreeMap<String, u64> = BTreeMap::new();
    for (number, unit) in lines.iter().filter_map(|line| suppressed(&line.text)) {
        let sum = lost.entry(unit.to_owned()).or_default();
        *sum = sum.saturating_add(number);
    }
    for (unit, number) in &lost {
        let text = format!(
            "the journal dropped {} of {unit}: it logs faster than its rate limit",
            count(*number, "line", "lines")
        );
        let advice =
            "Mend what makes it so chatty, or raise its limit: LogRateLimitIntervalSec=, LogRateLimitBurst=.";
        finding.warn(text, Advice::run(advice, format!("journalctl -u '{unit}' -n 200 --no-pager")));
    }
    let broken = lines.iter().filter(|line| line.text.contains("corrupted or uncleanly shut down")).count();
    if broken > 0 {
        let files = count(broken as u64, "journal file was", "journal files were");
        let advice =
            Advice::run("See what is damaged; check the disk.", "journalctl --verify 2>&1 | grep -v PASS");
        finding.warn(format!("{files} found damaged or not closed in the time looked at"), advice);
    }
    if !lines.is_empty() {
        finding.show(Evidence::Log(Log {
            title: "What journald says of itself".to_owned(),
            lines,
            cut: false,
        }));
    }
    Ok(())
}

fn is_telling(text: &str) -> bool {
    suppressed(text).is_some() || text.contains("corrupted or uncleanly") || text.contains("System Journal (")
}

/// `Suppressed 1234 messages from iggy.service`.
fn suppressed(text: &str) -> Option<(u64, &str)> {
    let (number, unit) = text.strip_prefix("Suppressed ")?.split_once(" messages from ")?;
    Some((number.parse().ok()?, unit.trim()))
}

/// A row for each file of `journalctl --header`.
fn files(finding: &mut Finding, header: &str) {
    let mut table = Table::new("Journal files", ["file", "state", "size", "oldest entry", "newest entry"]);
    for block in header.split("File path: ").skip(1) {
        let path = block.lines().next().unwrap_or_default().to_owned();
        // systemd 252 and older write `Head realtime timestamp`, newer ones `Realtime`.
        let value = |name: &str| {
            let found = block.lines().find_map(|line| {
                line.get(..name.len()).filter(|start| start.eq_ignore_ascii_case(name))?;
                line.get(name.len()..)?
                    .strip_prefix(':')
                    .map(|value| value.split(" (").next().unwrap_or_default().trim().to_owned())
            });
            Value::from(found)
        };
        table.row([
            Value::Code(path),
            value("State"),
            value("Disk usage"),
            value("Head realtime timestamp"),
            value("Tail realtime timestamp"),
        ]);
    }
    if !table.rows.is_empty() {
        finding.show(Evidence::Table(table));
    }
}

#[cfg(test)]
mod tests {
    use warden_host::{Data, LogText, Output, Recorded, Request};

    use super::*;
    use crate::Verdict;
    use crate::units::testing::settings as run_settings;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn output(host: Recorded, name: &str, stdout: &str) -> Recorded {
        let output = Output { status: Some(0), stdout: stdout.to_owned(), stderr: String::new(), cut: false };
        host.with(Request::Command { name: name.to_owned(), argument: None }, Data::Output(output))
    }

    fn journal_in(directory: &str) -> Recorded {
        let host = Recorded::complete()
            .settings(run_settings())
            .file(&format!("{directory}/{ID}/system.journal"), "");
        let header = format!(
            "File path: {directory}/{ID}/system.journal\nState: ONLINE\nDisk usage: 8.0M\n\
                              Head realtime timestamp: Sat 2026-11-21 09:00:00 UTC (6421)\n"
        );
        let host = output(host, "journal-header", &header);
        output(host, "journal-disk-usage", "Archived and active journals take up 1.2G in the file system.\n")
    }

    fn with_lines(host: Recorded, unit: &str, lines: &[&str]) -> Recorded {
        let line = |text: &&str| LogLine {
            at_us: Some(7),
            level: None,
            origin: "systemd-journald".to_owned(),
            text: (*text).to_owned(),
        };
        let log =
            LogText { lines: lines.iter().map(line).collect(), cut: false, source: "journal".to_owned() };
        host.log(Request::Journal { unit: unit.to_owned() }, log)
    }

    #[test]
    fn a_journal_on_disk_passes_and_its_files_are_shown() {
        let finding = run(&journal_in(DISK)
            .file("/etc/systemd/journald.conf", "[Journal]\n#Storage=auto\nSystemMaxUse=1G\n")
            .host())
        .unwrap();
        assert_eq!(finding.verdict(), Verdict::Pass, "{:?}", finding.problems);
        assert_eq!(finding.summary, "the journal is kept on disk and takes 1.2G");
        let Evidence::Table(table) = &finding.evidence[1] else { panic!("a table") };
        assert_eq!(table.rows[0].cells[3], Value::from("Sat 2026-11-21 09:00:00 UTC"));
    }

    #[test]
    fn a_journal_in_memory_or_none_warns() {
        let memory = run(&journal_in(MEMORY).host()).unwrap();
        assert_eq!(memory.verdict(), Verdict::Warn);
        assert_eq!(
            memory.problems[0].text,
            "the journal is kept in memory only and is lost at a reboot (/var/log/journal does not exist)"
        );
        let none = journal_in(DISK).file("/etc/systemd/journald.conf.d/x.conf", "Storage=none\n");
        assert_eq!(
            run(&none.host()).unwrap().problems[0].text,
            "Storage=none: the journal throws away all it is told"
        );
        let empty = Recorded::complete().settings(run_settings());
        let empty = output(
            empty,
            "journal-disk-usage",
            "Archived and active journals take up 0B in the file system.\n",
        );
        assert_eq!(run(&empty.host()).unwrap().verdict(), Verdict::Warn);
    }

    #[test]
    fn dropped_lines_warn_once_for_each_unit() {
        let said = "Suppressed 1200 messages from iggy.service";
        let host = with_lines(journal_in(DISK), JOURNALD, &[said, "Suppressed 1 messages from torn"]);
        let finding = run(&with_lines(host, "iggy.service", &[said]).host()).unwrap();
        assert_eq!(finding.problems.len(), 2);
        assert_eq!(
            finding.problems[0].text,
            "the journal dropped 1200 lines of iggy.service: it logs faster than its rate limit"
        );
    }

    #[test]
    fn damage_warns_and_what_an_unclean_shutdown_left_is_noted() {
        let left = journal_in(DISK).file(&format!("{DISK}/{ID}/system@0005.journal~"), "");
        let finding = run(&left.host()).unwrap();
        assert_eq!(finding.verdict(), Verdict::Note);
        assert_eq!(
            finding.problems[0].text,
            "1 journal file was set aside after an unclean shutdown or damage: system@0005.journal~"
        );
        let said = "File /var/log/journal/x/system.journal corrupted or uncleanly shut down, renaming and replacing.";
        assert_eq!(
            run(&with_lines(journal_in(DISK), JOURNALD, &[said]).host()).unwrap().verdict(),
            Verdict::Warn
        );
    }

    #[test]
    fn a_failed_journald_fails_and_a_log_that_may_not_be_read_is_said() {
        let unit = serde_json::json!({"LoadState": "loaded", "ActiveState": "failed", "Result": "watchdog"});
        let finding = run(&journal_in(DISK).unit(JOURNALD, unit).host()).unwrap();
        assert_eq!(finding.verdict(), Verdict::Fail);
        assert_eq!(finding.problems[0].text, "systemd-journald.service failed: watchdog");
        let denied = journal_in(DISK).without(Request::Journal { unit: JOURNALD.to_owned() }, Cause::Denied);
        assert_eq!(run(&denied.host()).unwrap().verdict(), Verdict::Note);
    }

    #[test]
    fn without_a_journal_it_skips() {
        let finding = run(&Recorded::complete().host()).unwrap();
        assert_eq!(finding, Finding::skip("there is no journal here: journalctl is not installed"));
        let left_behind = Request::List { path: DISK.to_owned() };
        let idle = output(Recorded::complete(), "journal-disk-usage", "")
            .with(left_behind, Data::Entries { entries: Vec::new(), left_out: 0 });
        let unit = Request::Unit { name: JOURNALD.to_owned() };
        let idle = idle.without(unit, Cause::Unavailable("no system bus".to_owned()));
        assert_eq!(run(&idle.host()).unwrap(), Finding::skip("journald does not run here: no system bus"));
    }

    #[test]
    fn a_fragment_outranks_the_main_file_and_etc_its_namesake() {
        let host = Recorded::complete()
            .file("/etc/systemd/journald.conf", "[Journal]\nStorage=auto\nSystemMaxUse=1G\n")
            .file("/usr/lib/systemd/journald.conf.d/10-a.conf", "Storage=none\n")
            .file("/etc/systemd/journald.conf.d/10-a.conf", "Storage=persistent\n")
            .file("/run/systemd/journald.conf.d/05-b.conf", "Storage=volatile\nSystemMaxUse=2G\n");
        let settings = settings(&host.host()).unwrap();
        assert_eq!((settings["Storage"].as_str(), settings["SystemMaxUse"].as_str()), ("persistent", "2G"));
    }
}
