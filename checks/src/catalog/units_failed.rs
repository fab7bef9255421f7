//! units-failed: did anything that systemd runs fail.

use warden_host::quantity::count;
use warden_host::{Cause, Error, Failure, Host, UnitRow};

use crate::units::{self, time};
use crate::{
    Advice, Area, Check, DEADLINE, Evidence, Finding, Read, Result, Series, Table, Unit, Value, Verdict,
};

pub const CHECK: Check = Check {
    id: "units-failed",
    area: Area::Units,
    title: "Did any unit fail?",
    why: "A failed unit is systemd's own word for something that is not as its author meant: a mount that is missing, a \
          log rotation that fills the disk, a firewall that was not loaded. Iggy feels many of these later.",
    reads: &[Read::Units, Read::Command(SYSTEMCTL)],
    thresholds: &[
        "fails when a unit of the runtimes or of Warden failed",
        "warns when any other unit failed, waits to be restarted, or has a file that does not load",
        "warns when systemd runs and its D-Bus bus does not",
    ],
    advice: "Read why, mend it, and clear the mark with `systemctl reset-failed`.",
    deadline: DEADLINE,
    run,
};

const SYSTEMCTL: &str = "systemctl-units";
/// Units whose details are asked for, one question each.
const LOOKED_INTO: usize = 30;

fn run(host: &Host) -> Result<Finding> {
    let mut finding = Finding::new("");
    let units = match host.units() {
        Err(Error::Host(Failure { cause: Cause::Unavailable(reason), .. })) => {
            let Some(units) = past_the_bus(host) else {
                return Ok(Finding::skip(format!("there is no systemd to ask: {reason}")));
            };
            let text =
                format!("systemd runs and cannot be asked: {reason}; Warden can start and stop nothing");
            finding.warn(text, Advice::run("Start the bus.", "systemctl start dbus.socket dbus.service"));
            units
        }
        units => units?,
    };
    let settings = host.settings()?;
    let ours = [&settings.iggy_unit, &settings.connectors_unit, &settings.warden_unit];
    let mut table = Table::new("Units in trouble", ["unit", "state", "result", "since", "description"]);
    let troubled: Vec<(&UnitRow, &str)> = units.iter().filter_map(|row| Some((row, trouble(row)?))).collect();
    for (rank, (row, trouble)) in troubled.iter().enumerate() {
        let unit = if rank < LOOKED_INTO { units::find(host, &row.name)?.loaded() } else { None };
        let result = unit.as_ref().and_then(|unit| unit.text("Result")).filter(|&result| result != "success");
        let is_ours = ours.contains(&&row.name);
        let severity = if is_ours { Verdict::Fail } else { Verdict::Warn };
        let why = result.map_or_else(String::new, |result| format!(": {result}"));
        let advice = Advice::run(
            "Read why, then mend it.",
            format!("systemctl status --no-pager --full '{}'", row.name),
        );
        finding.problem(severity, format!("{} {trouble}{why}", row.name), advice);
        let since = unit.as_ref().and_then(|unit| time(unit, "StateChangeTimestamp"));
        let cells = [
            Value::Code(row.name.clone()),
            format!("{} {} {}", row.load, row.active, row.sub).into(),
            result.into(),
            since.map(Value::Time).into(),
            row.description.as_str().into(),
        ];
        table.marked_row(severity, cells);
    }
    let of = count(units.len() as u64, "unit", "units");
    finding.summary = match troubled.len() {
        0 => format!("none of {of} failed"),
        number => format!("{number} of {of} failed or did not load"),
    };
    finding.show(Evidence::Series(states(&units)));
    if !table.rows.is_empty() {
        finding.show(Evidence::Table(table));
    }
    Ok(finding)
}

/// The units, from a systemd whose bus is down: root still reaches it.
fn past_the_bus(host: &Host) -> Option<Vec<UnitRow>> {
    let output = host.run(SYSTEMCTL).ok().filter(|output| output.status == Some(0))?;
    let units: Vec<UnitRow> = output.stdout.lines().filter_map(listed).collect();
    (!units.is_empty()).then_some(units)
}

/// A line of `systemctl list-units --plain`: name, load, active and sub state, and a description of many words.
fn listed(line: &str) -> Option<UnitRow> {
    let mut words = line.split_ascii_whitespace();
    let mut word = || words.next().map(str::to_owned);
    let (name, load, active, sub) = (word()?, word()?, word()?, word()?);
    Some(UnitRow { name, description: words.collect::<Vec<_>>().join(" "), load, active, sub })
}

fn trouble(row: &UnitRow) -> Option<&'static str> {
    match (row.load.as_str(), row.active.as_str(), row.sub.as_str()) {
        (_, "failed", _) => Some("failed"),
        (_, _, sub) if sub.starts_with("auto-restart") => Some("ended and waits to be restarted"),
        ("error", ..) => Some("could not be loaded"),
        ("bad-setting", ..) => Some("has a setting that systemd refuses"),
        _ => None,
    }
}

fn states(units: &[UnitRow]) -> Series {
    let mut chart = Series::bars("Units by state", Unit::Count, ["units"]);
    for state in ["active", "activating", "reloading", "deactivating", "inactive", "maintenance", "failed"] {
        let number = units.iter().filter(|row| row.active == state).count();
        if number > 0 {
            chart.point(state, [number as f64]);
        }
    }
    chart
}

#[cfg(test)]
mod tests {
    use warden_host::{Data, Output, Recorded, Request};

    use super::*;
    use crate::units::testing::settings;

    fn with(rows: &[(&str, &str, &str, &str)]) -> Recorded {
        let units = rows
            .iter()
            .map(|&(name, load, active, sub)| UnitRow {
                name: name.to_owned(),
                description: format!("about {name}"),
                load: load.to_owned(),
                active: active.to_owned(),
                sub: sub.to_owned(),
            })
            .collect();
        Recorded::complete().settings(settings()).with(Request::UnitList, Data::Units { units })
    }

    const FINE: (&str, &str, &str, &str) = ("ssh.service", "loaded", "active", "running");

    #[test]
    fn nothing_failed_passes_and_a_unit_that_is_only_absent_is_no_trouble() {
        let rows = [
            FINE,
            ("auditd.service", "not-found", "inactive", "dead"),
            ("x.service", "masked", "inactive", "dead"),
        ];
        let finding = run(&with(&rows).host()).unwrap();
        assert_eq!((finding.verdict(), finding.summary.as_str()), (Verdict::Pass, "none of 3 units failed"));
    }

    #[test]
    fn a_failed_unit_warns_with_its_result() {
        let host = with(&[FINE, ("logrotate.service", "loaded", "failed", "failed")]);
        let unit = serde_json::json!({"LoadState": "loaded", "Result": "exit-code", "StateChangeTimestamp": 1_795_000_000_000_000_u64});
        let finding = run(&host.unit("logrotate.service", unit).host()).unwrap();
        assert_eq!(finding.verdict(), Verdict::Warn);
        assert_eq!(finding.problems[0].text, "logrotate.service failed: exit-code");
        assert_eq!(finding.summary, "1 of 2 units failed or did not load");
    }

    #[test]
    fn a_failed_runtime_fails_and_a_unit_that_loops_or_does_not_load_warns() {
        let finding = run(&with(&[("iggy.service", "loaded", "failed", "failed")]).host()).unwrap();
        assert_eq!(finding.verdict(), Verdict::Fail);
        let rows = [
            ("a.service", "loaded", "activating", "auto-restart"),
            ("b.service", "bad-setting", "inactive", "dead"),
        ];
        let finding = run(&with(&rows).host()).unwrap();
        assert_eq!(finding.verdict(), Verdict::Warn);
        assert_eq!(finding.problems[0].text, "a.service ended and waits to be restarted");
        assert_eq!(finding.problems[1].text, "b.service has a setting that systemd refuses");
    }

    #[test]
    fn without_systemd_it_skips_and_when_denied_it_cannot_tell() {
        let host = |cause| Recorded::complete().without(Request::UnitList, cause).host();
        let skipped = run(&host(Cause::Unavailable("no system bus".to_owned()))).unwrap();
        assert_eq!(skipped, Finding::skip("there is no systemd to ask: no system bus"));
        assert!(run(&host(Cause::Denied)).is_err());
    }

    #[test]
    fn a_systemd_without_its_bus_is_asked_by_its_own_socket() {
        let listed = "ssh.service loaded active running OpenBSD Secure Shell server\n\
                      iggy.service loaded failed failed Apache Iggy\ntorn\n";
        let output = Output { status: Some(0), stdout: listed.to_owned(), stderr: String::new(), cut: false };
        let asked = Request::Command { name: SYSTEMCTL.to_owned(), argument: None };
        let no_bus = || Cause::Unavailable("no D-Bus system bus on this host".to_owned());
        let host = Recorded::complete()
            .settings(settings())
            .without(Request::UnitList, no_bus())
            .without(Request::Unit { name: "iggy.service".to_owned() }, no_bus())
            .with(asked, Data::Output(output));
        let finding = run(&host.host()).unwrap();
        let told: Vec<_> =
            finding.problems.iter().map(|problem| (problem.severity, problem.text.as_str())).collect();
        let bus = "systemd runs and cannot be asked: no D-Bus system bus on this host; Warden can start and stop nothing";
        assert_eq!(told, [(Verdict::Warn, bus), (Verdict::Fail, "iggy.service failed")]);
        assert_eq!(finding.summary, "1 of 2 units failed or did not load");
    }
}
