//! runtime-versions: which versions are installed, and does what runs come from what is installed.

use warden_host::quantity::count;
use warden_host::{Host, IfAny, Output};

use crate::iggy::data_inventory::Generation;
use crate::iggy::{self, Runtime, Service};
use crate::{
    Advice, Area, Check, DEADLINE, Evidence, Fields, Finding, Read, Result, Table, Value, Verdict, quoted,
};

pub const CHECK: Check = Check {
    id: "runtime-versions",
    area: Area::Runtime,
    title: "Which versions are installed, and do they run?",
    why: "Iggy 0.8 and 0.9 speak different protocols and keep different data: a 0.9 server on the data of 0.8 starts \
          with no streams and no error. After an upgrade without a restart the old program goes on until the next \
          crash decides the moment of the change.",
    reads: &[
        Read::Group(iggy::READS),
        Read::Path("/proc/[pid]/exe"),
        Read::Path("/**/state/log"),
        Read::Path("/**/metadata/journal.wal"),
        Read::Command("dpkg-runtimes"),
        Read::Command("rpm-runtimes"),
        Read::Command("iggy-cli-version"),
        Read::Command("iggy-connectors-version"),
        Read::Command("iggy-server-version"),
    ],
    thresholds: &[
        "fails when a server of 0.9 or later is installed over a data directory of 0.8: it starts empty, and the first stream created overwrites old segments",
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
                judge_data(host, &mut finding, program, version);
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

/// The versions that keep their metadata in another form and take no notice of that of 0.8.
fn is_since_0_9(version: &str) -> Option<bool> {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    let (major, minor) = (parts.next()??, parts.next()??);
    Some((major, minor) >= (0, 9))
}

/// Before the start, because after it the old segments are one `create stream` away from being overwritten.
fn judge_data(host: &Host, finding: &mut Finding, program: &str, version: &str) {
    if program != "iggy-server" {
        return;
    }
    let Some(data) = iggy::data_directory(host) else { return };
    let Ok(generation) = Generation::of(host, &data.path) else { return };
    let runs = iggy::processes(host).iter().any(|process| process.runtime == Runtime::Iggy);
    let path = &data.path;
    match (is_since_0_9(version), generation) {
        (Some(true), Generation::Old) => {
            let when = if runs { "Do not restart the server" } else { "Do not start the server" };
            let advice = Advice::run(
                format!(
                    "{when}: {version} finds no stream in it, says nothing, and the first stream that is created overwrites the segments of stream 0. Install 0.8 again, or set {path} aside (on the same filesystem, so that nothing is copied) and let {version} begin with an empty directory."
                ),
                format!("mv -nT {} {}", quoted(path), quoted(&format!("{path}.0.8"))),
            );
            finding.fail(
                format!("iggy-server {version} is installed, and {path} holds the data of 0.8, which it does not read"),
                advice,
            );
        }
        (Some(true), Generation::Both) => {
            let advice = Advice::text(format!(
                "Create no stream: the first one overwrites segments of 0.8. Stop the server, copy {path} aside (cp -a --reflink=auto), and start 0.8 on the copy without its metadata/ to see what is left."
            ));
            finding.fail(
                format!(
                    "iggy-server {version} was started on the data of 0.8 in {path}: it serves none of it"
                ),
                advice,
            );
        }
        (Some(false), Generation::New | Generation::Both) => {
            let advice =
                Advice::text(format!("Install the version that wrote {path} before the next start."));
            finding.fail(
                format!("iggy-server {version} is installed, and {path} holds the data of 0.9 or later, which it does not read"),
                advice,
            );
        }
        (Some(false), Generation::Old | Generation::Unknown)
        | (Some(true), Generation::New | Generation::Unknown) => {}
        (None, _) => {}
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
                        Service::of_process(host, pid)
                            .unwrap_or_else(|| Service::of(host, process.runtime))
                            .restart(),
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

/// Lines of whichever package database is there; a package that was removed but left its settings says so. Where
/// Debian's answers, rpm is at most a tool without a database of its own, and its complaints tell nothing.
fn packages(host: &Host) -> Vec<String> {
    let [debian, red_hat] = PACKAGE_LISTS;
    let mut listed = host.run(debian).map_or_else(|_| String::new(), |output| output.stdout);
    let more = match listed.is_empty() {
        true => host.run(red_hat),
        false => host.quietly(|host| host.run(red_hat)),
    };
    listed += &more.map_or_else(|_| String::new(), |output| output.stdout);
    let is_ours = |line: &&str| line.contains("iggy") || line.contains("warden");
    let mut lines: Vec<String> = listed.lines().filter(is_ours).map(str::to_owned).collect();
    lines.sort();
    lines
}

#[cfg(test)]
mod tests {
    use warden_host::{Cause, Data, Recorded, Request};

    use super::*;
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
        assert_eq!(finding.problems[0].advice.command.as_deref(), Some("systemctl restart iggy.service"));
    }

    #[test]
    fn a_known_secret_warns_and_a_pre_release_is_noted() {
        assert_eq!(of(installed("0.7.0")).verdict(), Verdict::Warn);
        let edge = of(installed("0.9.0-edge.5"));
        assert_eq!(edge.verdict(), Verdict::Note);
        assert_eq!(edge.problems[0].text, "iggy-server 0.9.0-edge.5 is a pre-release");
    }

    #[test]
    fn a_newer_server_over_the_data_of_an_older_one_fails_before_its_start() {
        let stopped = |version: &str, mark: &str| {
            let host = printed(Recorded::complete().settings(settings()), "iggy-server-version", 0, version);
            let host = iggy::tests::directory(host, "/var/lib/iggy/streams");
            let stat = iggy::tests::stat(warden_host::Kind::File, 4096);
            of(host.with(Request::Stat { path: format!("/var/lib/iggy/{mark}") }, Data::Stat(stat)))
        };
        let finding = stopped("iggy-server 0.9.0\n", "state/log");
        assert_eq!(finding.verdict(), Verdict::Fail);
        assert_eq!(
            finding.problems[0].text,
            "iggy-server 0.9.0 is installed, and /var/lib/iggy holds the data of 0.8, which it does not read"
        );
        assert!(finding.problems[0].advice.text.contains("the first stream that is created overwrites"));
        assert_eq!(stopped("iggy-server 0.10.1\n", "state/log").verdict(), Verdict::Fail);
        assert_eq!(stopped("iggy-server 0.8.0\n", "metadata/journal.wal").verdict(), Verdict::Fail);
        assert_eq!(stopped("iggy-server 0.8.0\n", "state/log").verdict(), Verdict::Pass);
        assert_eq!(stopped("iggy-server 0.9.0\n", "metadata/journal.wal").verdict(), Verdict::Pass);
        assert_eq!(stopped("iggy-server x.y\n", "state/log").verdict(), Verdict::Pass);
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
