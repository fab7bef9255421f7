//! What sets the clock from here on, and whether it lately did.

use warden_host::UnitRow;
use warden_host::quantity::duration;

use super::{CHECK, State};
use crate::{Advice, Finding, quoted};

/// The kernel adds 0.5 ms a second to the largest error since the clock was last set (adjtimex(2)), and calls it not
/// synchronised only at 16 s, after 9 hours. These are 100 minutes; services set it every 34 minutes at least
/// (systemd-timesyncd).
const WARN_LARGEST_ERROR_SECONDS: f64 = 3.0;
/// The kernel's rate, to tell when the clock was last set.
const ERROR_GROWTH: f64 = 500e-6;
/// chrony asks at least every 1,024 s unless told otherwise, and has missed many by then.
const WARN_SILENT_SECONDS: f64 = 6.0 * 3600.0;
/// Services that set the clock, by unit, as the packages of distributions name them. Where one unit has two names,
/// systemd lists one.
const SERVICES: [&str; 10] = [
    "chrony.service",
    "chronyd.service",
    "ntp.service",
    "ntpd.service",
    "ntpsec.service",
    "openntpd.service",
    "ntpd-rs.service",
    "systemd-timesyncd.service",
    "phc2sys.service",
    "vmtoolsd.service",
];
/// These may run beside another one: they feed it, or set the clock only when told to.
const COMPANIONS: [&str; 2] = ["phc2sys.service", "vmtoolsd.service"];
/// What keeps the clock right from here on: that it is right now may be what an earlier service left.
pub(super) fn judge_services(finding: &mut Finding, state: &State, synchronised: bool, units: &[UnitRow]) {
    let known: Vec<&UnitRow> = units.iter().filter(|row| SERVICES.contains(&row.name.as_str())).collect();
    let is_active = |row: &&&UnitRow| matches!(row.active.as_str(), "active" | "reloading");
    let active: Vec<&str> = known.iter().filter(is_active).map(|row| row.name.as_str()).collect();
    // A chrony that runs answers; where it does not, its unit is no sign that the clock is set.
    let keeps = active.iter().any(|name| !name.starts_with("chron") || state.silence.is_some());
    let setters: Vec<&str> = active.iter().filter(|name| !COMPANIONS.contains(name)).copied().collect();
    if let [first, second, ..] = setters.as_slice() {
        let command = format!("systemctl disable --now {}", quoted(second));
        finding.warn(
            format!("{first} and {second} both set the clock, each against the other"),
            Advice::run("Keep one of them.", command),
        );
    }
    let failed = known.iter().find(|row| row.active == "failed").filter(|_| active.is_empty());
    if let Some(row) = failed {
        let command = format!("systemctl status --no-pager {}", quoted(&row.name));
        finding.warn(
            format!("{} failed, and nothing else sets the clock", row.name),
            Advice::run(CHECK.advice, command),
        );
        return;
    }
    let enable = || {
        Advice::run(CHECK.advice, "timedatectl set-ntp true; timedatectl timesync-status || chronyc tracking")
    };
    let error = state.largest_error;
    if let Some(error) = error.filter(|error| *error > WARN_LARGEST_ERROR_SECONDS) {
        let text = format!(
            "nothing has set the clock for about {}: the kernel's largest error has grown to {}{}",
            duration((error / ERROR_GROWTH / 60.0).round() * 60.0),
            duration(error),
            if state.is_enabled == Some(false) && !keeps { ", and no time service is enabled" } else { "" }
        );
        finding.warn(text, enable());
    } else if synchronised && state.is_enabled == Some(false) && !keeps && state.silence.is_none() {
        match error {
            Some(error) => finding.note(
                format!("no time service that is known runs here, and something has set the clock lately (largest error {})", duration(error)),
                Advice::text("In a container or a virtual machine its host may do it; otherwise run one time service."),
            ),
            None => finding.warn("no time service is enabled: that the clock is synchronised is left from an earlier one", enable()),
        }
    } else if synchronised
        && state.is_enabled == Some(true)
        && active.is_empty()
        && !known.is_empty()
        && state.silence.is_none()
    {
        finding.warn(format!("a time service is enabled, and {} does not run", known[0].name), enable());
    }
    if let Some(silence) = state.silence.filter(|silence| *silence > WARN_SILENT_SECONDS) {
        let advice = Advice::run("See whether the time servers answer and agree.", "chronyc sources -v");
        finding
            .warn(format!("chrony has heard nothing of its time server for {}", duration(silence)), advice);
    }
}

#[cfg(test)]
mod tests {
    use warden_host::{Clock, Data, KernelClock, Recorded, Request};

    use super::super::run;
    use super::super::tests::{command, host};
    use super::*;
    use crate::Verdict;

    fn told_by(text: &str, largest_error_ms: Option<i64>, units: &[(&str, &str)]) -> Finding {
        let kernel = largest_error_ms.map(|error| KernelClock {
            synchronised: true,
            max_error_us: error * 1000,
            estimated_error_us: 40,
        });
        let clock = Clock { unix_us: 1_795_262_400_000_000, up_us: 9_000_000, kernel };
        let row = |(name, active): &(&str, &str)| UnitRow {
            name: (*name).to_owned(),
            description: String::new(),
            load: "loaded".to_owned(),
            active: (*active).to_owned(),
            sub: String::new(),
        };
        let units = units.iter().map(row).collect();
        let host =
            command(Recorded::complete(), "timedatectl", text).with(Request::Clock, Data::Clock(clock));
        run(&host.with(Request::UnitList, Data::Units { units }).host()).unwrap()
    }

    const LEFT: &str = "NTP=no\nNTPSynchronized=yes\n";
    const KEPT: &str = "NTP=yes\nNTPSynchronized=yes\n";
    const TIMESYNCD: &str = "systemd-timesyncd.service";

    fn said(text: &str, largest_error_ms: Option<i64>, units: &[(&str, &str)]) -> Option<(Verdict, String)> {
        let first = told_by(text, largest_error_ms, units).problems.into_iter().next();
        first.map(|problem| (problem.severity, problem.text))
    }

    #[test]
    fn a_clock_that_was_synchronised_once_warns() {
        let grown = "nothing has set the clock for about 5 h 27 min: the kernel's largest error has grown to 9.8 s, and no time service is enabled";
        assert_eq!(said(LEFT, Some(9800), &[]), Some((Verdict::Warn, grown.to_owned())));
        let unheard =
            "nothing has set the clock for about 5 h 27 min: the kernel's largest error has grown to 9.8 s";
        assert_eq!(
            said(KEPT, Some(9800), &[(TIMESYNCD, "active")]),
            Some((Verdict::Warn, unheard.to_owned()))
        );
        let left = "no time service is enabled: that the clock is synchronised is left from an earlier one";
        assert_eq!(said(LEFT, None, &[]), Some((Verdict::Warn, left.to_owned())));
        let mut recorded = Recorded::complete().with(
            Request::Clock,
            Data::Clock(Clock {
                unix_us: 0,
                up_us: 0,
                kernel: Some(KernelClock {
                    synchronised: false,
                    max_error_us: 16_000_000,
                    estimated_error_us: 0,
                }),
            }),
        );
        let mark = crate::iggy::tests::stat(warden_host::Kind::File, 0);
        let path = "/run/systemd/timesync/synchronized".to_owned();
        recorded.insert(Request::Stat { path }, Ok(Data::Stat(mark)));
        assert_eq!(run(&recorded.host()).unwrap().verdict(), Verdict::Warn, "the mark of timesyncd stays");
    }

    #[test]
    fn what_sets_the_clock_is_told_by_what_runs() {
        assert_eq!(said(KEPT, Some(12), &[(TIMESYNCD, "active")]), None);
        assert_eq!(said(LEFT, Some(12), &[("openntpd.service", "active")]), None);
        assert_eq!(said(LEFT, Some(12), &[]).map(|(severity, _)| severity), Some(Verdict::Note));
        let silent = said(LEFT, None, &[("chrony.service", "active")]);
        assert_eq!(silent.map(|(severity, _)| severity), Some(Verdict::Warn), "chronyc does not answer");
        let two = said(KEPT, Some(12), &[("chronyd.service", "active"), (TIMESYNCD, "active")]);
        let expected =
            "chronyd.service and systemd-timesyncd.service both set the clock, each against the other";
        assert_eq!(two, Some((Verdict::Warn, expected.to_owned())));
        let failed = said(KEPT, Some(12), &[("chronyd.service", "failed"), (TIMESYNCD, "inactive")]);
        assert_eq!(failed.unwrap().1, "chronyd.service failed, and nothing else sets the clock");
        let stopped = said(KEPT, Some(12), &[(TIMESYNCD, "inactive")]);
        assert_eq!(
            stopped.unwrap().1,
            "a time service is enabled, and systemd-timesyncd.service does not run"
        );
    }

    #[test]
    fn a_chrony_that_hears_nothing_warns() {
        let line = "A9FEA97B,169.254.169.123,4,1795162000.1,0.000001,0.000001,0.000010,-3.1,0.0,0.02,0.0004,0.0002,16.2,Normal\n";
        let finding = run(&command(host("yes"), "chronyc-tracking", line).host()).unwrap();
        assert_eq!(finding.problems[0].text, "chrony has heard nothing of its time server for 1 d 3 h");
    }
}
