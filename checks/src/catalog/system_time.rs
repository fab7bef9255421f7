//! system-time: is the clock right, and does something keep it right.

mod services;

use std::collections::HashMap;

use warden_host::quantity::duration;
use warden_host::{Host, IfAny, PLACEHOLDER};

use crate::{Advice, Area, Check, DEADLINE, Error, Evidence, Fields, Finding, Read, Result, Value, Verdict};

pub const CHECK: Check = Check {
    id: "system-time",
    area: Area::System,
    title: "Is the clock right?",
    why: "Iggy stamps every message with this clock and expires segments, tokens and certificates by it. A clock that is \
          off makes logs of two nodes impossible to lay side by side, and one that steps back confuses retention.",
    reads: &[
        Read::Command("timedatectl"),
        Read::Command("chronyc-tracking"),
        Read::Path("/run/systemd/timesync/synchronized"),
        Read::Path("/sys/devices/system/clocksource/clocksource0/*_clocksource"),
        Read::Path("/etc/adjtime"),
        Read::KernelLog,
        Read::Units,
    ],
    thresholds: &[
        "warns when the clock is not synchronised, or is off by over 100 ms, and fails over 1 s",
        "warns when no time service is enabled or running, when two of them set the clock, and when the clock was not set for long (the kernel's largest error is over 3 s, or chrony heard nothing of its server for 6 h)",
        "notes a clock that is kept right by what is no known service of this host",
        "warns when the kernel uses a slow clock source or found one unstable",
        "notes a hardware clock that is kept in local time",
    ],
    advice: "Run one time service (chrony or systemd-timesyncd) and let it reach its servers.",
    deadline: DEADLINE,
    run,
};

const WARN_OFFSET_SECONDS: f64 = 0.1;
const FAIL_OFFSET_SECONDS: f64 = 1.0;
/// Reading them leaves the processor, so that each time stamp costs microseconds instead of nanoseconds.
const SLOW_SOURCES: [&str; 5] = ["hpet", "acpi_pm", "pit", "jiffies", "refined-jiffies"];

/// What the services of this host say about the clock.
struct State {
    synchronised: Option<bool>,
    /// Seconds that the clock is ahead; only chrony tells.
    offset: Option<f64>,
    local_rtc: Option<bool>,
    service: &'static str,
    /// Whether timedatectl says that a time service is enabled.
    is_enabled: Option<bool>,
    /// Seconds since chrony last heard of its server, where chrony answers.
    silence: Option<f64>,
    /// The kernel's largest error, in seconds, while it calls the clock synchronised.
    largest_error: Option<f64>,
    fields: Fields,
}

fn run(host: &Host) -> Result<Finding> {
    let state = state(host)?;
    let Some(synchronised) = state.synchronised else {
        return Err(Error::parse(
            "the state of the clock",
            "neither timedatectl nor chronyc answers, timesyncd left no mark, and the kernel does not say",
        ));
    };
    let units = host.units().unwrap_or_default();
    let source = host.value("/sys/devices/system/clocksource/clocksource0/current_clocksource").if_any()?;
    let available =
        host.value("/sys/devices/system/clocksource/clocksource0/available_clocksource").if_any()?;

    let whether = if synchronised { "synchronised" } else { "not synchronised" };
    let mut finding = Finding::new(match state.offset {
        Some(offset) => {
            format!("the clock is {whether} and off by {} ({})", duration(offset.abs()), state.service)
        }
        None => format!("the clock is {whether} ({})", state.service),
    });
    if !synchronised {
        let advice = Advice::run(
            CHECK.advice,
            "timedatectl set-ntp true; timedatectl timesync-status || chronyc tracking",
        );
        finding.warn("the clock is not synchronised with any time server", advice);
    }
    services::judge_services(&mut finding, &state, synchronised, &units);
    if let Some(offset) = state.offset.map(f64::abs).filter(|offset| *offset > WARN_OFFSET_SECONDS) {
        let severity = if offset > FAIL_OFFSET_SECONDS { Verdict::Fail } else { Verdict::Warn };
        let advice = Advice::run("See whether the time servers answer and agree.", "chronyc sources -v");
        finding.problem(severity, format!("the clock is off by {}", duration(offset)), advice);
    }
    if let Some(source) = source.as_deref().filter(|source| SLOW_SOURCES.contains(source)) {
        let advice = Advice::run(
            "See why the kernel gave up the processor's own counter.",
            "journalctl -k -b | grep -iE 'clocksource|tsc'",
        );
        finding.warn(format!("the kernel reads the time from {source}, a slow clock source"), advice);
    }
    let complaint = unstable_source(host);
    if let Some(line) = &complaint {
        let advice =
            Advice::text("On a virtual machine tell its provider; on a physical one update the firmware.");
        finding.warn(format!("the kernel found its clock source unstable: {line}"), advice);
    }
    let rtc_is_local = state
        .local_rtc
        .or(host.read("/etc/adjtime").if_any()?.map(|text| text.lines().nth(2) == Some("LOCAL")));
    if rtc_is_local == Some(true) {
        let advice = Advice::run(
            "Keep it in UTC, or the clock is wrong for an hour twice a year.",
            "timedatectl set-local-rtc 0",
        );
        finding.note("the hardware clock is kept in local time", advice);
    }

    let code = |value: Option<String>| value.map_or(Value::Nothing, Value::Code);
    let mut fields = state.fields;
    fields = fields
        .row("clock source", code(source))
        .row("clock sources there are", code(available))
        .row("hardware clock in local time", rtc_is_local);
    finding.show(Evidence::Fields(fields.row("time", Value::Time(host.clock()?.seconds()))));
    Ok(finding)
}

fn state(host: &Host) -> Result<State> {
    let mut state = State {
        synchronised: None,
        offset: None,
        local_rtc: None,
        service: "no time service found",
        is_enabled: None,
        silence: None,
        largest_error: None,
        fields: Fields::new("Clock"),
    };
    let clock = host.clock()?;
    let now = clock.seconds() as f64;
    // Without systemd, or while its bus is down, timedatectl ends with an error: the others may still know.
    if let Some(output) = host
        .run("timedatectl")
        .ok()
        .filter(|output| output.status == Some(0) && !output.stdout.contains(PLACEHOLDER))
    {
        let values: HashMap<&str, &str> =
            output.stdout.lines().filter_map(|line| line.split_once('=')).collect();
        let flag = |name| values.get(name).map(|value| *value == "yes");
        state.synchronised = flag("NTPSynchronized");
        state.local_rtc = flag("LocalRTC");
        state.is_enabled = flag("NTP");
        state.service =
            if flag("NTP") == Some(true) { "kept by a time service" } else { "no time service is enabled" };
        state.fields = state
            .fields
            .row("time service enabled", flag("NTP"))
            .row("synchronised, by timedatectl", flag("NTPSynchronized"))
            .row("time zone", values.get("Timezone").map(|zone| (*zone).to_owned()));
    }
    if let Some(tracking) = host
        .run("chronyc-tracking")
        .ok()
        .filter(|output| output.status == Some(0))
        .and_then(|output| Tracking::parse(&output.stdout))
    {
        state.synchronised = Some(tracking.synchronised);
        state.offset = Some(tracking.offset);
        state.service = "chrony";
        let heard = tracking.heard.filter(|_| tracking.synchronised);
        state.silence = Some(heard.map_or(0.0, |heard| (now - heard).max(0.0)));
        state.fields = state
            .fields
            .row("time server of chrony", Value::Code(tracking.server))
            .row("stratum", tracking.stratum)
            .row("offset", Value::Seconds(tracking.offset))
            .row("root mean square of offsets", Value::Seconds(tracking.rms))
            .row("leap status", tracking.leap);
    }
    // The mark stays from the first time on; the kernel knows when that was too long ago.
    let is_left = clock.kernel.is_some_and(|kernel| !kernel.synchronised);
    if state.synchronised.is_none()
        && !is_left
        && host.stat("/run/systemd/timesync/synchronized").if_any()?.is_some()
    {
        (state.synchronised, state.service) = (Some(true), "systemd-timesyncd");
    }
    if let Some(kernel) = clock.kernel {
        if state.synchronised.is_none() {
            (state.synchronised, state.service) = (Some(kernel.synchronised), "by the kernel");
        }
        let seconds = |micros: i64| Value::Seconds(micros as f64 / 1e6);
        state.fields = state.fields.row("synchronised, by the kernel", kernel.synchronised);
        // While nobody synchronises it, the kernel counts up to a number that says nothing.
        if kernel.synchronised {
            state.largest_error = Some(kernel.max_error_us as f64 / 1e6);
            state.fields = state
                .fields
                .row("largest error, by the kernel", seconds(kernel.max_error_us))
                .row("estimated error, by the kernel", seconds(kernel.estimated_error_us));
        }
    }
    Ok(state)
}

/// `chronyc -c tracking`: comma-separated, in the order of chronyc(1).
struct Tracking {
    server: String,
    stratum: u64,
    /// When it last heard of the server, in Unix seconds; absent when it never did.
    heard: Option<f64>,
    /// Seconds that the system's clock is ahead of true time.
    offset: f64,
    rms: f64,
    leap: String,
    synchronised: bool,
}

impl Tracking {
    fn parse(line: &str) -> Option<Tracking> {
        let fields: Vec<&str> = line.lines().next()?.split(',').collect();
        let number =
            |index: usize| fields.get(index)?.parse::<f64>().ok().filter(|number| number.is_finite());
        let (reference, leap) = (*fields.first()?, fields.get(13)?.trim());
        Some(Tracking {
            server: (*fields.get(1)?).to_owned(),
            stratum: fields.get(2)?.parse().ok()?,
            heard: number(3).filter(|&heard| heard > 0.0),
            offset: number(4)?,
            rms: number(6)?,
            leap: leap.to_owned(),
            // 7F7F0101 is the local clock as its own reference.
            synchronised: leap != "Not synchronised" && !matches!(reference, "00000000" | "7F7F0101"),
        })
    }
}

/// The newest complaint; a log that cannot be read is the subject of kernel-log.
fn unstable_source(host: &Host) -> Option<String> {
    let log = host.kernel_log().ok()?;
    let found = log.lines.iter().rev().find(|line| {
        line.text.contains("Marking clocksource") && line.text.contains("unstable")
            || line.text.contains("Marking TSC unstable")
    })?;
    Some(found.text.clone())
}

#[cfg(test)]
pub(super) mod tests {
    use warden_host::{Cause, Clock, Data, KernelClock, LogLine, LogText, Output, Recorded, Request};

    use super::*;

    pub(super) fn command(host: Recorded, name: &str, stdout: &str) -> Recorded {
        let output = Output { status: Some(0), stdout: stdout.to_owned(), stderr: String::new(), cut: false };
        host.with(Request::Command { name: name.to_owned(), argument: None }, Data::Output(output))
    }

    pub(super) fn host(synchronised: &str) -> Recorded {
        let text =
            format!("Timezone=Etc/UTC\nLocalRTC=no\nCanNTP=yes\nNTP=yes\nNTPSynchronized={synchronised}\n");
        let host = Recorded::complete()
            .at(1_795_262_400, 9)
            .file("/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n");
        command(host, "timedatectl", &text)
    }

    fn chrony(offset: &str, leap: &str) -> Finding {
        let line = format!(
            "A9FEA97B,169.254.169.123,4,1795262000.1,{offset},0.000001,0.000010,-3.1,0.0,0.02,0.0004,0.0002,16.2,{leap}\n"
        );
        run(&command(host("yes"), "chronyc-tracking", &line).host()).unwrap()
    }

    #[test]
    fn a_synchronised_clock_passes() {
        let finding = run(&host("yes").host()).unwrap();
        assert_eq!(
            (finding.verdict(), finding.summary.as_str()),
            (Verdict::Pass, "the clock is synchronised (kept by a time service)")
        );
    }

    #[test]
    fn where_no_service_answers_the_kernel_does() {
        let told = |synchronised| {
            let kernel = KernelClock { synchronised, max_error_us: 12_500, estimated_error_us: 40 };
            let clock = Clock { unix_us: 1_795_262_400_000_000, up_us: 9_000_000, kernel: Some(kernel) };
            run(&Recorded::complete().with(Request::Clock, Data::Clock(clock)).host()).unwrap()
        };
        let (kept, left) = (told(true), told(false));
        assert_eq!(
            (kept.verdict(), kept.summary.as_str()),
            (Verdict::Pass, "the clock is synchronised (by the kernel)")
        );
        assert_eq!(left.verdict(), Verdict::Warn);
        assert!(
            serde_json::to_string(&kept)
                .unwrap()
                .contains("\"largest error, by the kernel\",{\"type\":\"seconds\",\"value\":0.0125}")
        );
    }

    #[test]
    fn a_clock_left_to_itself_warns() {
        let finding = run(&host("no").host()).unwrap();
        assert_eq!(finding.verdict(), Verdict::Warn);
        assert_eq!(finding.problems[0].text, "the clock is not synchronised with any time server");
        assert_eq!(chrony("0.0", "Not synchronised").verdict(), Verdict::Warn);
    }

    #[test]
    fn an_offset_warns_over_100_ms_and_fails_over_a_second() {
        let verdicts =
            ["-0.000020", "0.1", "-0.101", "1.0", "1.001"].map(|offset| chrony(offset, "Normal").verdict());
        assert_eq!(verdicts, [Verdict::Pass, Verdict::Pass, Verdict::Warn, Verdict::Warn, Verdict::Fail]);
        let off = chrony("-2.5", "Normal");
        assert_eq!(off.problems[0].text, "the clock is off by 2.5 s");
        assert_eq!(off.summary, "the clock is synchronised and off by 2.5 s (chrony)");
    }

    #[test]
    fn slow_and_unstable_sources_warn() {
        let slow =
            host("yes").file("/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n");
        assert_eq!(
            run(&slow.host()).unwrap().problems[0].text,
            "the kernel reads the time from hpet, a slow clock source"
        );
        let text = "clocksource: timekeeping watchdog on CPU1: Marking clocksource 'tsc' as unstable because the skew is too large:".to_owned();
        let line = LogLine { at_us: None, level: None, origin: String::new(), text };
        let log = LogText { lines: vec![line], cut: false, source: "journal".to_owned() };
        assert_eq!(run(&host("yes").log(Request::KernelLog, log).host()).unwrap().verdict(), Verdict::Warn);
    }

    #[test]
    fn a_hardware_clock_in_local_time_is_noted() {
        let local = command(host("yes"), "timedatectl", "NTP=yes\nNTPSynchronized=yes\nLocalRTC=yes\n");
        assert_eq!(run(&local.host()).unwrap().verdict(), Verdict::Note);
    }

    #[test]
    fn a_host_where_nothing_answers_is_unknown() {
        let nothing = Recorded::complete().at(0, 0).without(Request::KernelLog, Cause::Denied);
        assert!(run(&nothing.host()).is_err());
        assert!(Tracking::parse("506 Cannot talk to daemon").is_none());
        assert!(Tracking::parse("A,b,1,1,nan,0,0,0,0,0,0,0,0,Normal").is_none());
    }
}
