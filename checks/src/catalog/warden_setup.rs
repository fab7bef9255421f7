//! warden-setup: is the agent installed as it should be.

use warden_host::quantity::{count, number};
use warden_host::{Host, IfAny, Kind, Stat, UnitProperties};

use crate::units::{self, Found};
use crate::{Advice, Area, Check, DEADLINE, Evidence, Finding, Read, Result, Table, Value, Verdict};

pub const CHECK: Check = Check {
    id: "warden-setup",
    area: Area::Warden,
    title: "Is Warden installed right?",
    why: "The local policy is what keeps a stolen Supervisor from commanding this node: whoever can write it, or the \
          program, commands instead. The agent restarts Iggy without being root, which works only with its polkit \
          rule; without it a remote restart fails when it is needed.",
    reads: &[
        Read::Units,
        Read::Command("systemd-security"),
        Read::Path("/etc/warden"),
        Read::Path("/etc/warden/**"),
        Read::Path("/var/lib/warden"),
        Read::Path("/run/warden"),
        Read::Path("/usr/bin/warden"),
        Read::Path("/usr/share/polkit-1/rules.d"),
        Read::Path("/etc/polkit-1/rules.d"),
    ],
    thresholds: &[
        "fails when another user can write the configuration, the policy or the program, or when a file does not parse",
        "warns when its state or a secret can be read by every user, and when no polkit rule is installed",
        "warns when the unit runs as root, or has no memory limit, CPU quota, watchdog or NoNewPrivileges",
        "warns when the exposure of the unit is 2.5 or more",
    ],
    advice: "Install the package again: it sets owners, modes, the polkit rule and the unit.",
    deadline: DEADLINE,
    run,
};

const CONFIGURATION: &str = "/etc/warden";
/// systemd-analyze calls a unit below this well confined; the packaged one is.
const MOST_EXPOSURE: f64 = 2.5;
const GROUP_AND_OTHERS_WRITE: u32 = 0o022;
const OTHERS: u32 = 0o007;
/// Files of the configuration that are looked at.
const LOOKED_INTO: usize = 100;

fn run(host: &Host) -> Result<Finding> {
    let settings = host.settings()?;
    let name = settings.warden_unit;
    // That nobody answers for the units says nothing of this one.
    let (unit, reason, severity) = match units::find(host, &name)? {
        Found::Loaded(unit) => (Some(unit), String::new(), Verdict::Pass),
        Found::NotLoaded(state) => (None, format!("{name} is not loaded ({state})"), Verdict::Warn),
        Found::NoManager(reason) => (None, format!("there is no systemd to ask: {reason}"), Verdict::Note),
    };
    let configuration = host.stat(CONFIGURATION).if_any()?;
    if unit.is_none() && configuration.is_none() {
        return Ok(Finding::skip(format!(
            "Warden is not installed as a service here, it was run by hand: {reason}"
        )));
    }
    let mut sheet = Sheet {
        finding: Finding::new(""),
        table: Table::new("Files", ["path", "kind", "mode", "owner", "as it should be"]),
        looked_at: 0,
    };
    sheet.files(host, configuration, &settings.state_directory);
    let mut directives =
        Table::new(format!("Directives of {name}"), ["directive", "value", "as it should be"]);
    match unit {
        Some(unit) => {
            sheet.unit(host, &name, &unit, &mut directives);
            sheet.polkit(host, &unit);
        }
        None => {
            let advice = Advice::text("Install the package, or remove /etc/warden.");
            let text = format!("there is a configuration, but no service: {reason}");
            sheet.finding.problem(severity, text, advice);
        }
    }
    let Sheet { mut finding, table, looked_at } = sheet;
    let off = finding.problems.iter().filter(|problem| problem.severity > Verdict::Note).count();
    let looked_at = count(looked_at, "thing", "things");
    finding.summary = format!("{looked_at} of the installation looked at, {off} not as they should be");
    finding.show(Evidence::Table(table));
    if !directives.rows.is_empty() {
        finding.show(Evidence::Table(directives));
    }
    Ok(finding)
}

struct Sheet {
    finding: Finding,
    table: Table,
    looked_at: u64,
}

impl Sheet {
    fn files(&mut self, host: &Host, configuration: Option<Stat>, state: &str) {
        if let Some(stat) = configuration {
            self.owned_by_root(CONFIGURATION, &stat);
        }
        let mut directories = vec![CONFIGURATION.to_owned()];
        while let Some(directory) = directories.pop() {
            let entries = match host.list(&directory).if_any() {
                Ok(entries) => entries.unwrap_or_default(),
                Err(error) => {
                    self.unseen(&directory, &error);
                    continue;
                }
            };
            for entry in entries.into_iter().take(LOOKED_INTO) {
                let path = format!("{directory}/{}", entry.name);
                match host.stat(&path) {
                    Ok(stat) => {
                        self.owned_by_root(&path, &stat);
                        self.not_for_everybody(&path, &stat);
                        if stat.kind == Kind::Directory && directory == CONFIGURATION {
                            directories.push(path.clone());
                        }
                    }
                    Err(error) => self.unseen(&path, &error),
                }
                if path.ends_with(".toml") {
                    self.parses(host, &path);
                }
            }
        }
        match host.stat("/usr/bin/warden").if_any() {
            Ok(Some(stat)) => self.owned_by_root("/usr/bin/warden", &stat),
            Ok(None) => {}
            Err(error) => self.unseen("/usr/bin/warden", &error),
        }
        for (path, allowed) in [(state, 0o770), ("/run/warden", 0o775)] {
            match host.stat(path).if_any() {
                Ok(Some(stat)) => self.no_wider(path, &stat, allowed),
                Ok(None) => {}
                Err(error) => self.unseen(path, &error),
            }
        }
    }

    fn owned_by_root(&mut self, path: &str, stat: &Stat) {
        // A link has every bit set; what it points to counts, and its directory is looked at.
        let is_writable = stat.kind != Kind::Link && stat.mode & GROUP_AND_OTHERS_WRITE != 0;
        let severity = (is_writable || stat.uid != 0).then_some(Verdict::Fail);
        if is_writable {
            let text = format!("{path} has mode {:04o}: others than root can write it", stat.mode);
            self.finding.fail(text, Advice::run("Take the right away.", format!("chmod go-w '{path}'")));
        }
        if stat.uid != 0 {
            let text = format!("{path} belongs to user {}, who can change what this node allows", stat.uid);
            self.finding.fail(text, Advice::run("Give it to root.", format!("chown root '{path}'")));
        }
        self.row(path, stat, "root's, writable by root only", severity);
    }

    fn not_for_everybody(&mut self, path: &str, stat: &Stat) {
        const SECRETS: [&str; 5] = ["key", "token", "secret", "credential", "password"];
        let name = path.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        if stat.kind == Kind::File
            && stat.mode & OTHERS != 0
            && SECRETS.iter().any(|word| name.contains(word))
        {
            let text = format!("{path} has mode {:04o}: every user can read the secret in it", stat.mode);
            let advice =
                Advice::run("Take the right away, and replace the secret.", format!("chmod o-rwx '{path}'"));
            self.finding.warn(text, advice);
        }
    }

    fn no_wider(&mut self, path: &str, stat: &Stat, allowed: u32) {
        let severity = (stat.mode & 0o777 & !allowed != 0).then_some(Verdict::Warn);
        if severity.is_some() {
            let text = format!("{path} has mode {:04o}, wider than {allowed:04o}", stat.mode);
            self.finding.warn(text, Advice::run("Narrow it.", format!("chmod {allowed:04o} '{path}'")));
        }
        self.row(path, stat, &format!("{allowed:04o} or narrower"), severity);
    }

    fn row(&mut self, path: &str, stat: &Stat, wanted: &str, severity: Option<Verdict>) {
        self.looked_at += 1;
        let kind = format!("{:?}", stat.kind).to_ascii_lowercase();
        let (mode, owner) = (format!("{:04o}", stat.mode), format!("{}:{}", stat.uid, stat.gid));
        let cells =
            [Value::Code(path.to_owned()), kind.into(), Value::Code(mode), Value::Code(owner), wanted.into()];
        match severity {
            Some(severity) => self.table.marked_row(severity, cells),
            None => self.table.row(cells),
        }
    }

    fn unseen(&mut self, path: &str, error: &crate::Error) {
        let advice = "Run as root, or give Warden CAP_DAC_READ_SEARCH.";
        self.finding.note(format!("{path} could not be looked at: {error}"), Advice::text(advice));
    }

    /// Form only; what the settings mean is for `warden doctor`.
    fn parses(&mut self, host: &Host, path: &str) {
        match host.read(path) {
            Ok(text) => {
                if let Err(error) = toml::from_str::<toml::Table>(&text) {
                    let line =
                        error.span().map_or(0, |span| text[..span.start.min(text.len())].lines().count());
                    let text = format!("{path} does not parse, at line {line}: {}", error.message());
                    let advice =
                        Advice::run("Mend it; until then the agent allows nothing.", "warden doctor");
                    self.finding.fail(text, advice);
                }
            }
            Err(error) => self.unseen(path, &error),
        }
    }

    fn unit(&mut self, host: &Host, name: &str, unit: &UnitProperties, table: &mut Table) {
        let user = if unit.flag("DynamicUser") == Some(true) { Some("(dynamic)") } else { unit.text("User") };
        let is_root = matches!(user, None | Some("root" | "0"));
        let watchdog = unit.number("WatchdogUSec").filter(|&watchdog| watchdog > 0);
        let (memory, quota) = (unit.number("MemoryMax"), unit.number("CPUQuotaPerSecUSec"));
        let confined = unit.flag("NoNewPrivileges").unwrap_or(false);
        let kind = unit.text("Type").unwrap_or("simple");
        let enabled = unit.text("UnitFileState").unwrap_or("unknown");
        let percent = quota.map(|quota| Value::Percent(quota as f64 / 10_000.0));
        let rows: [(&str, Value, &str, bool, &str); 7] = [
            ("User", user.unwrap_or("root").into(), "not root", !is_root, "User=warden"),
            ("NoNewPrivileges", confined.into(), "yes", confined, "NoNewPrivileges=yes"),
            ("MemoryMax", memory.map(Value::Bytes).into(), "a limit", memory.is_some(), "MemoryMax=256M"),
            ("CPUQuota", percent.into(), "a quota", quota.is_some(), "CPUQuota=100%"),
            ("Type", kind.into(), "notify", kind.starts_with("notify"), "Type=notify"),
            (
                "WatchdogSec",
                watchdog.map(|time| Value::Seconds(time as f64 / 1e6)).into(),
                "set",
                watchdog.is_some(),
                "WatchdogSec=60",
            ),
            ("UnitFileState", enabled.into(), "enabled", enabled == "enabled", ""),
        ];
        for (directive, value, wanted, is_right, setting) in rows {
            self.looked_at += 1;
            if is_right {
                table.row([Value::Code(directive.to_owned()), value, wanted.into()]);
                continue;
            }
            let text = format!(
                "{name}: {directive} is {}, and should be {wanted}",
                if value == Value::Nothing { "not set".to_owned() } else { value.to_string() }
            );
            let advice = match setting {
                "" => Advice::run("Enable it.", format!("systemctl enable {name}")),
                setting => units::drop_in(host, name, setting),
            };
            self.finding.warn(text, advice);
            table.marked_row(Verdict::Warn, [Value::Code(directive.to_owned()), value, wanted.into()]);
        }
        let Some(exposure) = units::exposure(host, name) else { return };
        self.looked_at += 1;
        let cells =
            [Value::Code("exposure".to_owned()), exposure.into(), format!("under {MOST_EXPOSURE}").into()];
        if exposure < MOST_EXPOSURE {
            return table.row(cells);
        }
        let text =
            format!("{name} is exposed {} of 10, and should be under {MOST_EXPOSURE}", number(exposure));
        let advice = Advice::run(
            "See which directives a drop-in took away.",
            format!("systemd-analyze security {name}"),
        );
        self.finding.warn(text, advice);
        table.marked_row(Verdict::Warn, cells);
    }

    /// Without root, systemd obeys the agent only where a rule says so.
    fn polkit(&mut self, host: &Host, unit: &UnitProperties) {
        if unit.flag("DynamicUser") != Some(true) && matches!(unit.text("User"), None | Some("root" | "0")) {
            return;
        }
        self.looked_at += 1;
        let mut denied = None;
        for directory in ["/usr/share/polkit-1/rules.d", "/etc/polkit-1/rules.d"] {
            match host.list(directory).if_any() {
                Ok(entries) if entries.iter().flatten().any(|rule| rule.name.contains("warden")) => return,
                Ok(_) => {}
                Err(error) => denied = Some((directory, error)),
            }
        }
        match denied {
            Some((directory, error)) => self.unseen(directory, &error),
            None => {
                let text = "no polkit rule names Warden: it cannot restart the runtimes";
                self.finding.warn(text, Advice::text("Install the package again; the rule is part of it."));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};
    use warden_host::{Cause, Data, Output, Recorded, Request};

    use super::*;
    use crate::units::testing::settings;

    fn stat(host: Recorded, path: &str, kind: Kind, mode: u32, uid: u32) -> Recorded {
        let stat =
            Stat { kind, mode, uid, gid: uid, size: 1, allocated: 1, modified: 0, device: 1, inode: 1 };
        host.with(Request::Stat { path: path.to_owned() }, Data::Stat(stat))
    }

    fn installed(changes: Json) -> Recorded {
        let mut unit = json!({
            "LoadState": "loaded", "User": "warden", "NoNewPrivileges": true, "MemoryMax": 1 << 28,
            "CPUQuotaPerSecUSec": 1_000_000, "Type": "notify", "WatchdogUSec": 60_000_000, "UnitFileState": "enabled"
        });
        for (name, value) in changes.as_object().unwrap() {
            unit[name] = value.clone();
        }
        let host = Recorded::complete()
            .settings(settings())
            .unit("warden.service", unit)
            .file("/etc/warden/policy.toml", "actions = [\"restart\"]\n")
            .file("/usr/share/polkit-1/rules.d/60-warden.rules", "polkit.addRule()");
        let host = stat(host, "/etc/warden", Kind::Directory, 0o755, 0);
        let host = stat(host, "/etc/warden/policy.toml", Kind::File, 0o644, 0);
        let host = stat(host, "/usr/bin/warden", Kind::File, 0o755, 0);
        stat(host, "/var/lib/warden", Kind::Directory, 0o700, 990)
    }

    fn judged(host: Recorded) -> Finding {
        run(&host.host()).unwrap()
    }

    fn exposed(score: f64) -> Finding {
        let stdout = format!("→ Overall exposure level for warden.service: {score:.1} OK\n");
        let output = Output { status: Some(0), stdout, stderr: String::new(), cut: false };
        let argument = Some("warden.service".to_owned());
        let request = Request::Command { name: "systemd-security".to_owned(), argument };
        judged(installed(json!({})).with(request, Data::Output(output)))
    }

    #[test]
    fn what_the_package_installs_passes() {
        let finding = judged(installed(json!({})));
        assert_eq!(finding.verdict(), Verdict::Pass, "{:?}", finding.problems);
        assert_eq!(finding.summary, "12 things of the installation looked at, 0 not as they should be");
    }

    #[test]
    fn a_policy_that_others_can_write_or_own_fails() {
        let writable = judged(stat(installed(json!({})), "/etc/warden/policy.toml", Kind::File, 0o664, 0));
        assert_eq!(writable.verdict(), Verdict::Fail);
        assert_eq!(
            writable.problems[0].text,
            "/etc/warden/policy.toml has mode 0664: others than root can write it"
        );
        let owned = judged(stat(installed(json!({})), "/usr/bin/warden", Kind::File, 0o755, 1000));
        assert_eq!(
            owned.problems[0].text,
            "/usr/bin/warden belongs to user 1000, who can change what this node allows"
        );
    }

    #[test]
    fn a_file_that_does_not_parse_fails_with_its_line() {
        let host = installed(json!({})).file("/etc/warden/policy.toml", "a = 1\nb = = 2\n");
        let finding = judged(host);
        assert_eq!(finding.verdict(), Verdict::Fail);
        assert!(finding.problems[0].text.starts_with("/etc/warden/policy.toml does not parse, at line 2: "));
    }

    #[test]
    fn state_or_secrets_that_everybody_can_read_warn() {
        let state = judged(stat(installed(json!({})), "/var/lib/warden", Kind::Directory, 0o755, 990));
        assert_eq!(state.problems[0].text, "/var/lib/warden has mode 0755, wider than 0770");
        assert_eq!(state.verdict(), Verdict::Warn);
        let secret = judged(stat(installed(json!({})), "/etc/warden/node.key", Kind::File, 0o644, 0));
        assert_eq!(
            secret.problems[0].text,
            "/etc/warden/node.key has mode 0644: every user can read the secret in it"
        );
    }

    #[test]
    fn a_unit_that_was_loosened_warns_for_each_directive() {
        let finding =
            judged(installed(json!({"MemoryMax": u64::MAX, "WatchdogUSec": 0, "UnitFileState": "disabled"})));
        let texts: Vec<&str> = finding.problems.iter().map(|problem| problem.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "warden.service: MemoryMax is not set, and should be a limit",
                "warden.service: WatchdogSec is not set, and should be set",
                "warden.service: UnitFileState is disabled, and should be enabled"
            ]
        );
        assert_eq!(finding.verdict(), Verdict::Warn);
    }

    #[test]
    fn an_exposure_of_two_and_a_half_warns() {
        assert_eq!(exposed(2.4).verdict(), Verdict::Pass);
        let finding = exposed(2.5);
        assert_eq!(finding.verdict(), Verdict::Warn);
        assert_eq!(finding.problems[0].text, "warden.service is exposed 2.5 of 10, and should be under 2.5");
    }

    #[test]
    fn without_a_polkit_rule_it_warns_and_what_cannot_be_seen_is_said() {
        let rules = |name: &str| Request::List { path: format!("{name}/polkit-1/rules.d") };
        let none = judged(installed(json!({})).without(rules("/usr/share"), Cause::Absent));
        assert_eq!(none.problems[0].text, "no polkit rule names Warden: it cannot restart the runtimes");
        let hidden = installed(json!({}))
            .without(rules("/usr/share"), Cause::Absent)
            .without(rules("/etc"), Cause::Denied);
        assert_eq!(judged(hidden).verdict(), Verdict::Note);
        let policy = installed(json!({})).denied("/etc/warden/policy.toml");
        assert_eq!(judged(policy).verdict(), Verdict::Note);
    }

    #[test]
    fn run_by_hand_it_skips() {
        let finding = judged(Recorded::complete().settings(settings()));
        assert_eq!(
            finding,
            Finding::skip(
                "Warden is not installed as a service here, it was run by hand: warden.service is not loaded (not-found)"
            )
        );
    }
}
