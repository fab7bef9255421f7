//! runtime-versions: which versions are installed, and does what runs come from what is installed.

use crate::host::{Host, IfAny, Output};
use crate::iggy;
use crate::quantity::count;
use crate::{Advice, Area, Check, DEADLINE, Evidence, Fields, Finding, Read, Result, Table, Value, Verdict};

pub const CHECK: Check = Check {
    id: "runtime-versions",
    area: Area::Runtime,
    title: "Which versions are installed, and do they run?",
    why: "Iggy 0.8 and 0.9 speak different protocols and keep different data: a 0.9 server on the data of 0.8 starts \
          with no streams and no error. After an upgrade without a restart the old program goes on until the next \
          crash decides the moment of the change.",
    reads: &[
        Read::Iggy,
        Read::Path("/proc/[pid]/exe"),
        Read::Command("dpkg-runtimes"),
        Read::Command("rpm-runtimes"),
        Read::Command("iggy-cli-version"),
        Read::Command("iggy-connectors-version"),
        Read::Command("iggy-server-version"),
    ],
    thresholds: &[
        "warns when a running program was removed or replaced on disk",
        "warns when the server is older than 0.8.0 and has a default JWT secret that everybody knows",
        "notes a pre-release",
    ],
    advice: "Restart a runtime after its upgrade, at a time of your choosing.",
    deadline: DEADLINE,
    run,
};

/// Programs that are asked for their version, by row of the command table.
const PROGRAMS: [(&str, &str); 3] = [
    ("iggy-server", "iggy-server-version"),
    ("iggy-connectors", "iggy-connectors-version"),
    ("iggy", "iggy-cli-version"),
];
const PACKAGE_LISTS: [&str; 2] = ["dpkg-runtimes", "rpm-runtimes"];
/// The releases whose shipped configuration has a JWT secret in it (core/configs of their tags).
const KNOWN_SECRET: [&str; 2] = ["0.6.", "0.7."];

fn run(host: &Host) -> Result<Finding> {
    let mut finding = Finding::new("");
    let mut versions = Fields::new("Installed programs");
    let mut named = Vec::new();
    for (program, row) in PROGRAMS {
        let output = match host.run(row) {
            Ok(output) => output,
            Err(error) => {
                if Err::<(), _>(error.clone()).if_any().is_err() {
                    let advice = Advice::text("Run it by hand to see what it says.");
                    finding.note(format!("{program} did not tell its version: {error}"), advice);
                }
                continue;
            }
        };
        match version(&output) {
            Some(version) => {
                versions = versions.row(program, Value::Code(version.to_owned()));
                named.push(format!("{program} {version}"));
                judge_version(&mut finding, program, version);
            }
            None => versions = versions.row(program, Value::Nothing),
        }
    }
    let running = running(host, &mut finding);
    let packages = packages(host);
    if named.is_empty() && running.rows.is_empty() && packages.is_empty() && versions.rows.is_empty() {
        return Ok(Finding::skip("no runtime is installed in the usual places, and none runs"));
    }

    named.truncate(PROGRAMS.len());
    finding.summary = match (named.is_empty(), finding.verdict()) {
        (true, _) => format!(
            "no installed program told its version; {}",
            count(running.rows.len() as u64, "process runs", "processes run")
        ),
        (false, Verdict::Warn) => format!("{} installed; something needs a look", named.join(", ")),
        (false, _) => format!("{} installed", named.join(", ")),
    };
    versions = versions.row("warden", Value::Code(env!("CARGO_PKG_VERSION").to_owned()));
    finding.show(Evidence::Fields(versions));
    if !running.rows.is_empty() {
        finding.show(Evidence::Table(running));
    }
    if !packages.is_empty() {
        let mut table = Table::new("Packages", ["state and name"]);
        packages.into_iter().for_each(|line| table.row([Value::Code(line)]));
        finding.show(Evidence::Table(table));
    }
    Ok(finding)
}

/// The last word of the first line: `iggy-server 0.9.0-edge.5`.
fn version(output: &Output) -> Option<&str> {
    let word = output.stdout.lines().next()?.split_whitespace().last()?;
    let word = word.trim_start_matches('v');
    (output.status == Some(0) && word.starts_with(|first: char| first.is_ascii_digit())).then_some(word)
}

fn judge_version(finding: &mut Finding, program: &str, version: &str) {
    if program != "iggy-server" {
        return;
    }
    if KNOWN_SECRET.iter().any(|start| version.starts_with(start)) {
        let advice = Advice::text(
            "Set IGGY_HTTP_JWT_ENCODING_SECRET and IGGY_HTTP_JWT_DECODING_SECRET to a secret of your own, or upgrade to 0.8.0.",
        );
        finding.warn(
            format!("iggy-server {version} ships with a JWT secret that everybody knows: unless it was changed, anybody can forge a token"),
            advice,
        );
    }
    if version.contains('-') {
        let advice = Advice::text("Plan the step to a release; data of a pre-release may not be read by it.");
        finding.note(format!("iggy-server {version} is a pre-release"), advice);
    }
}

fn running(host: &Host, finding: &mut Finding) -> Table {
    let mut table = Table::new("Running programs", ["process", "program", "on disk"]);
    for process in iggy::processes(host) {
        let pid = process.pid;
        let unit = process.runtime.program();
        match host.link(&format!("/proc/{pid}/exe")) {
            Ok(target) => match target.strip_suffix(" (deleted)") {
                None => table.row([pid.to_string().into(), Value::Code(target), "the same".into()]),
                Some(path) => {
                    table.marked_row(
                        Verdict::Warn,
                        [pid.to_string().into(), Value::Code(path.to_owned()), "removed or replaced".into()],
                    );
                    let text =
                        format!("process {pid} still runs a {path} that was removed or replaced on disk");
                    let advice = Advice::run(
                        format!(
                            "Restart {unit} at a time of your choosing: until then the upgrade has no effect."
                        ),
                        format!("systemctl restart {}", unit.trim_end_matches("-server")),
                    );
                    finding.warn(text, advice);
                }
            },
            Err(error) => {
                table.row([pid.to_string().into(), unit.into(), Value::Nothing]);
                let advice = Advice::text("Run as root or give Warden CAP_SYS_PTRACE.");
                finding.note(
                    format!("whether process {pid} runs what is installed is unknown: {error}"),
                    advice,
                );
            }
        }
    }
    table
}

/// Lines of whichever package database is there; a package that was removed but left its settings says so.
fn packages(host: &Host) -> Vec<String> {
    let outputs = PACKAGE_LISTS.iter().filter_map(|list| host.run(list).ok());
    let mut lines: Vec<String> = outputs
        .flat_map(|output| output.stdout.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| line.contains("iggy") || line.contains("warden"))
        .collect();
    lines.sort();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Cause, Data, Recorded, Request};
    use crate::iggy::tests::{link, running, settings};

    fn printed(recorded: Recorded, name: &str, status: i32, stdout: &str) -> Recorded {
        let output =
            Output { status: Some(status), stdout: stdout.to_owned(), stderr: String::new(), cut: false };
        recorded.with(Request::Command { name: name.to_owned(), argument: None }, Data::Output(output))
    }

    fn installed(version: &str) -> Recorded {
        let recorded = printed(running(70), "iggy-server-version", 0, &format!("iggy-server {version}\n"));
        let recorded = printed(recorded, "dpkg-runtimes", 0, "ii  iggy-server 0.8.0 amd64\n");
        link(recorded, "/proc/70/exe", "/usr/bin/iggy-server")
    }

    fn of(recorded: Recorded) -> Finding {
        run(&recorded.host()).unwrap()
    }

    #[test]
    fn a_release_that_runs_as_installed_passes() {
        let finding = of(installed("0.8.0"));
        assert_eq!(
            (finding.verdict(), finding.summary.as_str()),
            (Verdict::Pass, "iggy-server 0.8.0 installed")
        );
        assert_eq!(finding.evidence.len(), 3);
    }

    #[test]
    fn a_program_replaced_under_its_process_warns() {
        let finding = of(link(installed("0.8.0"), "/proc/70/exe", "/usr/bin/iggy-server (deleted)"));
        assert_eq!(finding.verdict(), Verdict::Warn);
        assert_eq!(
            finding.problems[0].text,
            "process 70 still runs a /usr/bin/iggy-server that was removed or replaced on disk"
        );
        assert_eq!(finding.problems[0].advice.command.as_deref(), Some("systemctl restart iggy"));
    }

    #[test]
    fn a_known_secret_warns_and_a_pre_release_is_noted() {
        assert_eq!(of(installed("0.7.0")).verdict(), Verdict::Warn);
        let edge = of(installed("0.9.0-edge.5"));
        assert_eq!(edge.verdict(), Verdict::Note);
        assert_eq!(edge.problems[0].text, "iggy-server 0.9.0-edge.5 is a pre-release");
    }

    #[test]
    fn what_cannot_be_told_is_said() {
        let exe = Request::Link { path: "/proc/70/exe".to_owned() };
        let finding = of(installed("0.8.0").without(exe, Cause::Denied));
        assert_eq!(finding.verdict(), Verdict::Note);
        let hung = Request::Command { name: "iggy-server-version".to_owned(), argument: None };
        let finding = of(installed("0.8.0").without(hung, Cause::TimedOut));
        assert_eq!(
            finding.problems[0].text,
            "iggy-server did not tell its version: command iggy-server-version: no answer in time"
        );
        assert_eq!(finding.summary, "no installed program told its version; 1 process runs");
        let odd = of(printed(installed("0.8.0"), "iggy-server-version", 1, "segfault 11"));
        assert_eq!(odd.verdict(), Verdict::Pass);
    }

    #[test]
    fn a_host_without_iggy_is_skipped() {
        assert_eq!(of(Recorded::complete().settings(settings())).verdict(), Verdict::Skip);
    }
}
