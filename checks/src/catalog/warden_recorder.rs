//! warden-recorder: what did the flight recorder see in the last 24 hours.

mod changes;
mod charts;
mod window;

use warden_host::proc::kibibytes;
use warden_host::quantity::{bytes, count, duration, number, time};
use warden_host::recorder::{DIRECTORY, ENDING, FILES, MEMORY_AVAILABLE, PRESSURE, Recording, column};
use warden_host::{Error, Host, IfAny, Kind};

use self::changes::{Change, Why};
use self::window::Window;
use crate::{Advice, Area, Check, DEADLINE, Evidence, Fields, Finding, Read, Result, Table, Value, Verdict};

pub const CHECK: Check = Check {
    id: "warden-recorder",
    area: Area::Warden,
    title: "What happened here in the last 24 hours?",
    why: "Everything else in a snapshot is the moment it was taken, and the trouble was before. The agent's flight \
          recorder keeps a day of load, memory, disks, network and runtimes, so the minutes before a fault can be seen.",
    reads: &[
        Read::Path("/var/lib/warden/recorder"),
        Read::Path("/var/lib/warden/recorder/*.tsv"),
        Read::Path("/proc/meminfo"),
        Read::Path("/proc/sys/kernel/random/boot_id"),
    ],
    thresholds: &[
        "warns when a runtime ended by itself, or systemd had to start it again",
        "warns when a runtime lost its process more than 3 times in a day without Warden being asked to stop it",
        "warns when for 5 min less than 10 % of memory was available",
        "warns when for 5 min some program waited for a CPU over 25 % of the time, or all waited for memory over 5 % or for a disk over 20 %",
        "notes a gap of over 1 min, a recording that has ended, and files that cannot be read",
    ],
    advice: "Compare the times with the logs of the runtimes; what happened at the same moment is often the cause.",
    deadline: DEADLINE,
    run,
};

const DAY: i64 = 86_400;
/// Six samples that are missing: the agent stopped, or was held up.
const GAP_SECONDS: i64 = 60;
/// An update and two changes of its configuration are a day's work.
const LOSSES: usize = 3;
/// Long enough that no single burst of work is blamed.
const LASTS_SECONDS: i64 = 300;
/// The same limits as for the moment, in memory-usage, cpu-load and disk-latency.
const MEMORY_PERCENT: f64 = 10.0;
const PRESSURES: [(&str, &str, f32, &str); 3] = [
    ("cpu", "some", 25.0, "some program waited for a CPU"),
    ("memory", "full", 5.0, "all programs waited for memory"),
    ("io", "full", 20.0, "all programs waited for a disk"),
];

fn run(host: &Host) -> Result<Finding> {
    let directory = format!("{}/{DIRECTORY}", host.settings()?.state_directory);
    let Some(entries) = host.list(&directory).if_any()? else {
        return Ok(Finding::skip("no flight recorder has run on this host"));
    };
    let is_ours = |name: &str| name.ends_with(ENDING) && !name.starts_with('.');
    let mut names: Vec<String> = entries
        .into_iter()
        .filter(|entry| entry.kind == Kind::File && is_ours(&entry.name))
        .map(|entry| entry.name)
        .collect();
    names.sort();
    let (recording, unread) = read(host, &directory, &names[names.len().saturating_sub(FILES)..])?;
    let clock = host.clock()?;
    let boot = host.value("/proc/sys/kernel/random/boot_id").ok();
    let ages = recording.ages((clock.seconds(), clock.up_us / 1_000_000), boot.as_deref());
    let Some(newest) = ages.last() else {
        return Ok(Finding::skip("the flight recorder has not recorded anything yet"));
    };
    let mut finding = Finding::new("");
    let look =
        || Advice::run("See whether the agent runs, and what it says.", "systemctl status warden.service");
    if let Some(error) = unread {
        finding.note(format!("a part of the recording could not be read: {error}"), look());
    }
    let Some(window) = Window::new(&recording, &ages, clock.seconds(), DAY) else {
        finding.summary = format!("nothing was recorded in the last {}", duration(DAY as f64));
        let ended = time(clock.seconds() - newest);
        finding.note(format!("the flight recorder has not written since {ended}"), look());
        return Ok(finding);
    };
    gaps(&mut finding, &window);
    let changes = changes::of(&window);
    judge_changes(&mut finding, &changes);
    let total = host.read("/proc/meminfo").ok().and_then(|meminfo| kibibytes(&meminfo, "MemTotal"));
    judge_memory(&mut finding, &window, total);
    judge_pressure(&mut finding, &window);

    let recorded = window.recorded(GAP_SECONDS);
    finding.summary = format!(
        "{} of the last {} recorded, {} of the runtimes",
        duration(recorded as f64),
        duration(DAY as f64),
        count(changes.len() as u64, "change", "changes")
    );
    charts::all(&window, total).into_iter().for_each(|chart| finding.show(Evidence::Series(chart)));
    finding.show(Evidence::Table(table(&changes)));
    finding.show(Evidence::Fields(
        Fields::new("The recording")
            .row("begins", Value::Time(window.begins()))
            .row("ends", Value::Time(window.ends()))
            .row("samples", window.samples().len())
            .row("recorded", Value::Seconds(recorded as f64))
            .row("gaps", window.gaps(GAP_SECONDS).len()),
    ));
    Ok(finding)
}

/// What the files hold, and why the first of those that could not be read was not. None at all is an error.
fn read(host: &Host, directory: &str, names: &[String]) -> Result<(Recording, Option<Error>)> {
    let mut recording = Recording::default();
    let (mut unread, mut any) = (None, false);
    for name in names {
        // The oldest may have been removed since the listing.
        match host.read(&format!("{directory}/{name}")).if_any() {
            Ok(text) => {
                any = true;
                recording.read(&text.unwrap_or_default());
            }
            Err(error) => unread = unread.or(Some(error)),
        }
    }
    match unread {
        Some(error) if !any => Err(error),
        unread => Ok((recording, unread)),
    }
}

fn gaps(finding: &mut Finding, window: &Window) {
    let advice = || {
        Advice::run(
            "See in the agent's log whether it was stopped, and whether its disk was full.",
            "journalctl -u warden.service --since=-24h --no-pager",
        )
    };
    let gaps = window.gaps(GAP_SECONDS);
    if let Some(longest) = gaps.iter().max_by_key(|gap| gap.seconds) {
        let text = format!(
            "the recording has {}, the longest of {} until {}",
            count(gaps.len() as u64, "gap", "gaps"),
            duration(longest.seconds as f64),
            time(longest.until)
        );
        finding.note(text, advice());
    }
    if window.newest_age() > GAP_SECONDS {
        finding.note(format!("the recording ended at {}", time(window.ends())), advice());
    }
}

fn judge_changes(finding: &mut Finding, changes: &[Change]) {
    let mut units: Vec<&str> = changes.iter().map(|change| change.unit.as_str()).collect();
    units.sort_unstable();
    units.dedup();
    for unit in units {
        let lost = |why: fn(&Why) -> bool| -> Vec<&Change> {
            changes
                .iter()
                .filter(|change| change.unit == unit && change.is_loss && why(&change.why))
                .collect()
        };
        let log = || {
            Advice::run("Read what it said before.", format!("journalctl -u {unit} --since=-24h --no-pager"))
        };
        let alone = lost(|why| matches!(why, Why::ByItself(_)));
        if let Some(last) = alone.last() {
            let times = count(alone.len() as u64, "time", "times");
            let how = last.why.detail().map_or_else(String::new, |how| format!(" ({how})"));
            finding.warn(
                format!("{unit} ended by itself {times} in a day, the last time at {}{how}", time(last.at)),
                log(),
            );
        }
        let others = lost(|why| matches!(why, Why::Stopped | Why::Unknown));
        if others.len() > LOSSES {
            let last = others.last().map_or(0, |last| last.at);
            finding.warn(
                format!(
                    "{unit} was stopped or restarted {} times in a day, not by Warden, the last time at {}",
                    others.len(),
                    time(last)
                ),
                log(),
            );
        }
    }
}

fn judge_memory(finding: &mut Finding, window: &Window, total: Option<u64>) {
    let Some(total) = total.filter(|total| *total > 0) else { return };
    let limit = total as f64 / 1024.0 * MEMORY_PERCENT / 100.0;
    let short = window.longest(MEMORY_AVAILABLE, GAP_SECONDS, |kibibytes| f64::from(kibibytes) < limit);
    if let Some(short) = short.filter(|short| short.seconds >= LASTS_SECONDS) {
        finding.warn(
            format!(
                "for {} until {} less than {} % of {} of memory was available, at worst {}",
                duration(short.seconds as f64),
                time(short.until),
                number(MEMORY_PERCENT),
                bytes(total),
                bytes((f64::from(short.least) * 1024.0) as u64)
            ),
            Advice::text(
                "See in the chart of the runtimes whose memory grew, and limit it or give the host more.",
            ),
        );
    }
}

fn judge_pressure(finding: &mut Finding, window: &Window) {
    for (resource, kind, limit, what) in PRESSURES {
        let column = column(PRESSURE, resource, kind);
        let high = window.longest(&column, GAP_SECONDS, |percent| percent > limit);
        if let Some(high) = high.filter(|high| high.seconds >= LASTS_SECONDS) {
            finding.warn(
                format!(
                    "for {} until {} {what} for over {limit} % of the time, at worst {} %",
                    duration(high.seconds as f64),
                    time(high.until),
                    number(f64::from(high.most))
                ),
                Advice::text("See in the charts what else was busy at that time."),
            );
        }
    }
}

fn table(changes: &[Change]) -> Table {
    let mut table = Table::new("Changes of the runtimes", ["time", "unit", "before", "after", "why"]);
    for change in changes {
        let cells = [
            Value::Time(change.at),
            Value::Code(change.unit.clone()),
            change.before.clone().into(),
            change.after.clone().into(),
            change.why.to_string().into(),
        ];
        if change.is_loss && matches!(change.why, Why::ByItself(_)) {
            table.marked_row(Verdict::Warn, cells);
        } else {
            table.row(cells);
        }
    }
    table
}

#[cfg(test)]
mod tests;
