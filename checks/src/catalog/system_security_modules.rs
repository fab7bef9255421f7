//! system-security-modules: what confines programs here, and whether it stops the runtimes.

use warden_host::proc::field;
use warden_host::quantity::count;
use warden_host::{Host, IfAny, LogLine, LogText};

use crate::iggy::{self, Runtime};
use crate::{
    Advice, Area, Check, DEADLINE, Evidence, Fields, Finding, Read, Result, Table, Value, Verdict, shape,
};

pub const CHECK: Check = Check {
    id: "system-security-modules",
    area: Area::System,
    title: "Does a security module stop the runtimes?",
    why: "SELinux, AppArmor and seccomp refuse single calls: a data directory in an unusual place, or io_uring in a \
          container. Iggy then sees `permission denied` on a file whose mode is right, and only the audit log says why.",
    reads: &[
        Read::Path("/sys/kernel/security/lsm"),
        Read::Path("/sys/kernel/security/lockdown"),
        Read::Path("/sys/fs/selinux/enforce"),
        Read::Path("/etc/selinux/config"),
        Read::Path("/sys/module/apparmor/parameters/enabled"),
        Read::Path("/proc/[pid]/attr/current"),
        Read::Path("/proc/[pid]/status"),
        Read::Tail("/var/log/audit/audit.log"),
        Read::KernelLog,
        Read::Group(iggy::READS),
    ],
    thresholds: &[
        "warns when a module denied a runtime something in the last 24 h",
        "notes calls that would be denied if a profile were enforced, and that denials cannot be seen",
    ],
    advice: "Extend the policy for what is named; do not switch the module off.",
    deadline: DEADLINE,
    run,
};

const WINDOW_SECONDS: i64 = 86_400;
const AUDIT_LOG: &str = "/var/log/audit/audit.log";

fn run(host: &Host) -> Result<Finding> {
    let clock = host.clock()?;
    let modules = host.value("/sys/kernel/security/lsm").if_any()?;
    let selinux = selinux(host)?;
    let apparmor = host.value("/sys/module/apparmor/parameters/enabled").if_any()?.map(|value| value == "Y");
    let lockdown = host.value("/sys/kernel/security/lockdown").if_any()?;
    let processes = iggy::processes(host);
    let pids: Vec<u32> = processes.iter().map(|process| process.pid).collect();

    let (log, kernel_log) = (audit_log(host), host.kernel_log());
    let lines: Vec<&LogLine> = log
        .iter()
        .chain(kernel_log.iter())
        .flat_map(|log| shape::newest(log, clock, WINDOW_SECONDS))
        .filter(|line| Event::of(&line.text).is_some())
        .collect();
    let of_runtimes = |event: Event| -> Vec<&LogLine> {
        lines
            .iter()
            .copied()
            .filter(|line| Event::of(&line.text) == Some(event) && is_of_runtime(&line.text, &pids))
            .collect()
    };
    let (denied, allowed) = (of_runtimes(Event::Denied), of_runtimes(Event::WouldBeDenied));

    let confining = confining(selinux.as_deref(), apparmor, modules.as_deref());
    let mut finding = Finding::new(format!(
        "{confining}; {} of the runtimes in 24 h",
        count(denied.len() as u64, "denial", "denials")
    ));
    if let Some(newest) = denied.last() {
        let text = format!(
            "{} of the runtimes in 24 h, the newest: {}",
            count(denied.len() as u64, "denial", "denials"),
            newest.text
        );
        finding.warn(text, Advice::run(CHECK.advice, "ausearch -m AVC,SECCOMP -ts today 2>/dev/null || journalctl -k --since=-24h | grep -E 'DENIED|avc: |type=1326'"));
    }
    if let Some(newest) = allowed.last() {
        let text = format!(
            "{} of the runtimes would be denied if the policy were enforced, the newest: {}",
            count(allowed.len() as u64, "call", "calls"),
            newest.text
        );
        finding.note(text, Advice::text(CHECK.advice));
    }
    if let (Err(error), None) = (&kernel_log, &log) {
        let advice =
            Advice::text("Run Warden as root, or give it CAP_DAC_READ_SEARCH and the group systemd-journal.");
        finding.note(format!("denials cannot be seen: {error}"), advice);
    }

    let code = |value: Option<String>| value.map_or(Value::Nothing, Value::Code);
    finding.show(Evidence::Fields(
        Fields::new("Modules")
            .row("active", code(modules))
            .row("SELinux", selinux.map_or_else(|| "not active".into(), Value::Text))
            .row("AppArmor", apparmor)
            .row("lockdown", code(lockdown))
            .row(
                "denials of other programs in 24 h",
                lines.iter().filter(|line| Event::of(&line.text) == Some(Event::Denied)).count()
                    - denied.len(),
            ),
    ));
    if let Some(table) = confinement(host, &processes) {
        finding.show(Evidence::Table(table));
    }
    if !denied.is_empty() || !allowed.is_empty() {
        let groups = shape::group(denied.iter().chain(&allowed).copied());
        finding.show(Evidence::Table(shape::table("Denials of the runtimes", &groups, |group| {
            (Event::of(&group.newest) == Some(Event::Denied)).then_some(Verdict::Warn)
        })));
    }
    Ok(finding)
}

/// `enforcing` or `permissive` now, and what the next boot will be if that differs.
fn selinux(host: &Host) -> Result<Option<String>> {
    let Some(enforce) = host.value("/sys/fs/selinux/enforce").if_any()? else { return Ok(None) };
    let now = if enforce == "1" { "enforcing" } else { "permissive" };
    let config = host.read("/etc/selinux/config").if_any()?.unwrap_or_default();
    let next = config.lines().find_map(|line| line.trim().strip_prefix("SELINUX=")).map(str::trim);
    Ok(Some(match next {
        Some(next) if next != now => format!("{now}, {next} after the next boot"),
        _ => now.to_owned(),
    }))
}

fn confining(selinux: Option<&str>, apparmor: Option<bool>, modules: Option<&str>) -> String {
    match (selinux, apparmor) {
        (Some(mode), _) => format!("SELinux is {mode}"),
        (None, Some(true)) => "AppArmor is active".to_owned(),
        (None, _) => match modules {
            Some(modules) => format!("neither SELinux nor AppArmor is active ({modules})"),
            None => "neither SELinux nor AppArmor is active".to_owned(),
        },
    }
}

/// What an audit line says of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Event {
    Denied,
    /// A permissive domain or a profile in complain mode let it through.
    WouldBeDenied,
}

impl Event {
    /// AVC and seccomp records of the kernel's audit subsystem.
    fn of(text: &str) -> Option<Event> {
        let is_seccomp = text.contains("type=1326") || text.contains("type=SECCOMP");
        if text.contains("avc:  denied") && text.contains("permissive=1")
            || text.contains("apparmor=\"ALLOWED\"")
        {
            Some(Event::WouldBeDenied)
        } else if text.contains("avc:  denied") || text.contains("apparmor=\"DENIED\"") || is_seccomp {
            Some(Event::Denied)
        } else {
            None
        }
    }
}

/// By program, or by process: a thread is named `shard-0`.
fn is_of_runtime(text: &str, pids: &[u32]) -> bool {
    // The kernel keeps 15 bytes of a name.
    let by_name = Runtime::ALL
        .iter()
        .any(|runtime| text.contains(&runtime.program()[..runtime.program().len().min(15)]));
    let pid = text.split_ascii_whitespace().find_map(|word| word.strip_prefix("pid=")?.parse().ok());
    by_name || pid.is_some_and(|pid: u32| pids.contains(&pid))
}

/// With auditd, records go to its log and not to the kernel's. Without it there is no such file.
fn audit_log(host: &Host) -> Option<LogText> {
    let content = host.tail(AUDIT_LOG).ok()?;
    let lines = content.text.lines().map(|line| LogLine {
        at_us: audit_time(line),
        level: None,
        origin: "audit".to_owned(),
        text: line.to_owned(),
    });
    Some(LogText { lines: lines.collect(), cut: content.cut_from.is_some(), source: AUDIT_LOG.to_owned() })
}

/// Microseconds of `audit(1700000000.123:45)`.
fn audit_time(line: &str) -> Option<i64> {
    let (seconds, _) = line.split_once("audit(")?.1.split_once(':')?;
    let (seconds, millis) = seconds.split_once('.')?;
    let (seconds, millis): (i64, i64) = (seconds.parse().ok()?, millis.parse().ok()?);
    seconds.checked_mul(1_000_000)?.checked_add(millis.checked_mul(1_000)?)
}

/// How each runtime is confined; none when none runs.
fn confinement(host: &Host, processes: &[iggy::Process]) -> Option<Table> {
    let mut table = Table::new(
        "Runtimes",
        ["program", "pid", "label or profile", "seccomp", "no new privileges", "capabilities"],
    );
    for process in processes {
        let label = host.quietly(|host| host.value(&format!("/proc/{}/attr/current", process.pid))).ok();
        let status = host.read(&format!("/proc/{}/status", process.pid)).unwrap_or_default();
        let seccomp = match field(&status, "Seccomp") {
            Some("0") => "none".into(),
            Some("1") => "strict".into(),
            Some("2") => "filter".into(),
            _ => Value::Nothing,
        };
        table.row([
            process.runtime.program().into(),
            i64::from(process.pid).into(),
            label.map_or(Value::Nothing, |label| Value::Code(label.trim_end_matches('\0').to_owned())),
            seccomp,
            field(&status, "NoNewPrivs").map(|value| value == "1").into(),
            field(&status, "CapEff").map_or(Value::Nothing, |mask| Value::Code(mask.to_owned())),
        ]);
    }
    (!table.rows.is_empty()).then_some(table)
}

#[cfg(test)]
mod tests {
    use warden_host::{Cause, Content, Data, Recorded, Request};

    use super::*;

    const NOW: i64 = 1_800_000_000;
    const APPARMOR: &str = "audit: type=1400 audit(1799999990.100:7): apparmor=\"DENIED\" operation=\"open\" profile=\"iggy\" name=\"/data\" pid=12 comm=\"shard-0\"";
    const SELINUX: &str = "audit: type=1400 audit(1799999990.100:8): avc:  denied  { write } for  pid=99 comm=\"iggy-server\" name=\"x\" permissive=0";
    const SECCOMP: &str = "audit: type=1326 audit(1799999990.100:9): auid=1 uid=1 pid=99 comm=\"iggy-server\" exe=\"/usr/bin/iggy-server\" sig=31 syscall=425";

    fn host(lines: &[&str]) -> Recorded {
        let lines = lines.iter().map(|text| LogLine {
            at_us: Some((NOW - 10) * 1_000_000),
            level: None,
            origin: String::new(),
            text: (*text).to_owned(),
        });
        let log = LogText { lines: lines.collect(), cut: false, source: "journal".to_owned() };
        let stat = "12 (iggy-server) S 1 7 7 0 -1 4194560 0 0 0 0 11 22 0 0 20 0 3 0 4567 1000 250 0";
        Recorded::complete()
            .at(NOW, 9)
            .log(Request::KernelLog, log)
            .file("/proc/12/stat", stat)
            .file("/sys/module/apparmor/parameters/enabled", "Y\n")
    }

    fn problems(lines: &[&str]) -> Vec<(Verdict, String)> {
        let finding = run(&host(lines).host()).unwrap();
        finding.problems.into_iter().map(|problem| (problem.severity, problem.text)).collect()
    }

    #[test]
    fn no_denials_pass_and_the_confinement_is_shown() {
        let confined = host(&["some line"])
            .file("/proc/12/status", "Seccomp:\t2\nNoNewPrivs:\t1\nCapEff:\t00000000\n")
            .file("/proc/12/attr/current", "iggy (enforce)\n");
        let finding = run(&confined.host()).unwrap();
        assert_eq!(
            (finding.verdict(), finding.summary.as_str()),
            (Verdict::Pass, "AppArmor is active; 0 denials of the runtimes in 24 h")
        );
        let Evidence::Table(table) = &finding.evidence[1] else { panic!("no table") };
        assert_eq!(
            table.rows[0].cells[2..5],
            [Value::Code("iggy (enforce)".to_owned()), "filter".into(), true.into()]
        );
    }

    #[test]
    fn a_denial_of_a_runtime_warns_whichever_module_it_was() {
        for line in [APPARMOR, SELINUX, SECCOMP] {
            assert_eq!(
                problems(&[line]),
                [(Verdict::Warn, format!("1 denial of the runtimes in 24 h, the newest: {line}"))]
            );
        }
    }

    #[test]
    fn denials_of_others_are_counted_only() {
        let other = APPARMOR.replace("pid=12", "pid=13");
        let finding = run(&host(&[other.as_str()]).host()).unwrap();
        assert_eq!(finding.verdict(), Verdict::Pass);
        assert!(
            matches!(&finding.evidence[0], Evidence::Fields(fields) if fields.rows[4].1 == Value::Count(1))
        );
    }

    #[test]
    fn what_a_permissive_policy_lets_through_is_noted() {
        let permissive = SELINUX.replace("permissive=0", "permissive=1");
        assert_eq!(problems(&[permissive.as_str()])[0].0, Verdict::Note);
        assert_eq!(problems(&[&APPARMOR.replace("DENIED", "ALLOWED")])[0].0, Verdict::Note);
    }

    #[test]
    fn the_audit_daemons_log_is_read_by_its_own_times() {
        let tail = |text: String| Data::Text(Content { text, cut_from: None });
        let request = || Request::Tail { path: AUDIT_LOG.to_owned() };
        let recent = host(&[]).with(request(), tail(format!("type=AVC msg={SELINUX}\n")));
        assert_eq!(run(&recent.host()).unwrap().verdict(), Verdict::Warn);
        let old = SELINUX.replace("1799999990", "1799000000");
        assert_eq!(run(&host(&[]).with(request(), tail(old)).host()).unwrap().verdict(), Verdict::Pass);
        assert_eq!((audit_time("audit(x.1:2)"), audit_time(SECCOMP)), (None, Some(1_799_999_990_100_000)));
    }

    #[test]
    fn selinux_tells_of_the_next_boot() {
        let host = host(&[])
            .file("/sys/fs/selinux/enforce", "0")
            .file("/etc/selinux/config", "# SELINUX=x\nSELINUX=enforcing\n");
        assert_eq!(
            run(&host.host()).unwrap().summary,
            "SELinux is permissive, enforcing after the next boot; 0 denials of the runtimes in 24 h"
        );
    }

    #[test]
    fn unseen_denials_are_said_and_a_denied_setting_is_unknown() {
        let blind = run(&host(&[]).without(Request::KernelLog, Cause::Denied).host()).unwrap();
        assert_eq!(blind.verdict(), Verdict::Note);
        assert_eq!(blind.problems[0].text, "denials cannot be seen: kernel-log: permission denied");
        assert!(run(&host(&[]).denied("/sys/fs/selinux/enforce").host()).is_err());
    }
}
