//! What is recorded of this host, a column each, and a sample as a line below them.

use std::fmt::Write;

use warden_host::proc::TICKS;
use warden_host::recorder as form;

use super::sampler::Reading;
use crate::runtime_stats::RuntimeReading;

/// Disks, interfaces and units that have columns: with all of them a sample has at most 1.7 kB, and an hour fits a file.
const DISKS: usize = 16;
const INTERFACES: usize = 8;
const UNITS: usize = 24;
/// Bytes of a name: what is longer (a unit may have 255) is left out.
const NAME: usize = 128;
/// The order of [`Reading::pressure`].
const RESOURCES: [&str; 3] = ["cpu", "memory", "io"];
const KINDS: [&str; 2] = ["some", "full"];

/// The things whose figures are recorded, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns {
    disks: Vec<String>,
    interfaces: Vec<String>,
    units: Vec<String>,
}

/// Names of devices that are hardware, or what a hypervisor shows as such.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Physical {
    pub disks: Vec<String>,
    pub interfaces: Vec<String>,
}

impl Columns {
    /// Those for what is there now: of hardware if there is any, and the busiest since boot where there is too much.
    pub fn choose(reading: &Reading, physical: &Physical) -> Columns {
        let mut disks: Vec<(u64, &str)> = reading
            .disks
            .iter()
            .map(|(name, work)| (work.read_sectors.saturating_add(work.written_sectors), name.as_str()))
            .filter(|(_, name)| physical.disks.iter().any(|disk| disk == name))
            .collect();
        let mut interfaces: Vec<(u64, &str)> = reading
            .interfaces
            .iter()
            .map(|(name, [received, sent])| (received.saturating_add(*sent), name.as_str()))
            .collect();
        if interfaces.iter().any(|(_, name)| physical.interfaces.iter().any(|other| other == name)) {
            interfaces.retain(|(_, name)| physical.interfaces.iter().any(|other| other == name));
        }
        let units = reading.units.iter().map(|unit| unit.unit.as_str()).filter(|name| is_sound(name));
        Columns {
            disks: busiest(&mut disks, DISKS),
            interfaces: busiest(&mut interfaces, INTERFACES),
            units: units.take(UNITS).map(str::to_owned).collect(),
        }
    }

    /// These and what has come since; what has gone keeps its place.
    #[must_use]
    pub fn with(&self, other: &Columns) -> Columns {
        let together = |these: &[String], those: &[String], most: usize| {
            let new = those.iter().filter(|name| !these.contains(name));
            these.iter().chain(new).take(most).cloned().collect()
        };
        Columns {
            disks: together(&self.disks, &other.disks, DISKS),
            interfaces: together(&self.interfaces, &other.interfaces, INTERFACES),
            units: together(&self.units, &other.units, UNITS),
        }
    }

    /// The line that names the columns.
    pub fn header(&self) -> String {
        let mut line = [
            form::TIME,
            form::UP,
            form::LOAD,
            form::CPU,
            form::STEAL,
            form::MEMORY_AVAILABLE,
            form::SWAP_USED,
            form::OOM_KILLS,
        ]
        .join("\t");
        let mut all = |kind: &str, name: &str, figures: &[&str]| {
            for figure in figures {
                let _ = write!(line, "\t{}", form::column(kind, name, figure));
            }
        };
        for resource in RESOURCES {
            all(form::PRESSURE, resource, &KINDS);
        }
        for disk in &self.disks {
            all(form::DISK, disk, &[form::READ, form::WRITTEN, form::BUSY]);
        }
        for interface in &self.interfaces {
            all(form::NETWORK, interface, &[form::RECEIVED, form::SENT]);
        }
        for unit in &self.units {
            all(form::UNIT, unit, &[form::STATE, form::PID, form::RESIDENT, form::UNIT_CPU]);
        }
        line.push('\n');
        line
    }

    /// The sample as a line: rates are of what passed since `before`, a reading some seconds ago. `time` and `up` in
    /// seconds, of the wall clock and since boot.
    pub fn line(&self, time: i64, up: u64, now: &Reading, before: Option<(&Reading, f64)>) -> String {
        // A pause of no length would make rates without end.
        let before = before.filter(|(_, seconds)| *seconds > 0.0);
        let mut line = Line(format!("{time}\t{up}"));
        line.number(now.load, 2);
        let cpu = before.and_then(|(before, _)| Some(now.cpu?.since(&before.cpu?)));
        let cpu = cpu.filter(|times| times.total() > 0);
        line.number(cpu.map(|times| 100.0 - times.percent(|times| times.idle + times.iowait)), 1);
        line.number(cpu.map(|times| times.percent(|times| times.steal)), 1);
        line.whole(now.memory_available);
        line.whole(now.swap_used);
        let killed = before.and_then(|(before, _)| Some(now.oom_kills?.saturating_sub(before.oom_kills?)));
        line.whole(killed);
        for pressure in now.pressure.iter().flatten() {
            line.number(*pressure, 2);
        }
        for name in &self.disks {
            let of = |reading: &Reading| {
                reading.disks.iter().find(|(other, _)| other == name).map(|(_, work)| work.clone())
            };
            let pace = before.and_then(|(before, seconds)| Some(of(now)?.since(&of(before)?, seconds)));
            line.number(pace.as_ref().map(|pace| pace.read_bytes), 0);
            line.number(pace.as_ref().map(|pace| pace.written_bytes), 0);
            line.number(pace.as_ref().map(|pace| pace.busy), 1);
        }
        for name in &self.interfaces {
            let of = |reading: &Reading| {
                reading.interfaces.iter().find(|(other, _)| other == name).map(|(_, bytes)| *bytes)
            };
            for way in 0..2 {
                let passed = before.and_then(|(before, seconds)| {
                    #[expect(clippy::cast_precision_loss, reason = "a chart shows three digits")]
                    Some(of(now)?[way].saturating_sub(of(before)?[way]) as f64 / seconds)
                });
                line.number(passed, 0);
            }
        }
        for name in &self.units {
            line.unit(find(now, name), before.map(|(before, seconds)| (find(before, name), seconds)));
        }
        line.0.push('\n');
        line.0
    }
}

struct Line(String);

impl Line {
    fn whole(&mut self, value: Option<u64>) {
        self.0.push('\t');
        if let Some(value) = value {
            let _ = write!(self.0, "{value}");
        }
    }

    /// With at most `decimals`, and no noughts at the end.
    fn number(&mut self, value: Option<f64>, decimals: usize) {
        self.0.push('\t');
        let Some(value) = value.filter(|value| value.is_finite()) else { return };
        let begin = self.0.len();
        let _ = write!(self.0, "{value:.decimals$}");
        if decimals > 0 {
            let end = begin + self.0[begin..].trim_end_matches('0').trim_end_matches('.').len();
            self.0.truncate(end);
        }
    }

    fn unit(&mut self, now: Option<&RuntimeReading>, before: Option<(Option<&RuntimeReading>, f64)>) {
        self.0.push('\t');
        self.0.push_str(now.map_or("", |unit| unit.facts.active_state.as_str()));
        self.whole(now.map(|unit| unit.facts.main_pid.into()));
        let process = now.and_then(|unit| unit.process.as_ref());
        self.whole(process.map(|process| process.resident_pages.saturating_mul(page_kibibytes())));
        let share = process.zip(before).and_then(|(process, (before, seconds))| {
            let before = before?.process.as_ref()?;
            let is_same = before.pid == process.pid && before.start_ticks == process.start_ticks;
            let ticks = |of: &warden_host::proc::ProcessStat| of.user_ticks.saturating_add(of.system_ticks);
            #[expect(clippy::cast_precision_loss, reason = "a chart shows three digits")]
            is_same.then(|| ticks(process).saturating_sub(ticks(before)) as f64 / TICKS * 100.0 / seconds)
        });
        self.number(share, 1);
    }
}

fn find<'a>(reading: &'a Reading, unit: &str) -> Option<&'a RuntimeReading> {
    reading.units.iter().find(|other| other.unit == unit)
}

/// The names with the most to tell, sorted.
fn busiest(all: &mut Vec<(u64, &str)>, most: usize) -> Vec<String> {
    all.retain(|(_, name)| is_sound(name));
    all.sort_by(|one, other| other.cmp(one));
    all.truncate(most);
    let mut names: Vec<String> = all.iter().map(|(_, name)| (*name).to_owned()).collect();
    names.sort();
    names.dedup();
    names
}

/// Whether a name can stand in the header.
fn is_sound(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME && !name.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// getconf PAGESIZE, in KiB.
fn page_kibibytes() -> u64 {
    use nix::unistd::{SysconfVar, sysconf};
    let bytes = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|bytes| u64::try_from(bytes).ok());
    bytes.unwrap_or(4096) / 1024
}

#[cfg(test)]
mod tests {
    use warden_host::proc::ProcessStat;
    use warden_host::recorder::Recording;
    use warden_systemd::UnitFacts;

    use super::super::sampler::testing::texts;
    use super::*;

    fn iggy(pid: u32, ticks: u64) -> RuntimeReading {
        let process = ProcessStat {
            pid,
            name: "iggy-server".to_owned(),
            state: 'S',
            parent: 1,
            user_ticks: ticks,
            system_ticks: 0,
            threads: 3,
            start_ticks: u64::from(pid),
            resident_pages: 256,
        };
        let facts = UnitFacts { active_state: "active".to_owned(), main_pid: pid, ..UnitFacts::default() };
        RuntimeReading { unit: "iggy.service".to_owned(), facts, process: Some(process) }
    }

    fn physical() -> Physical {
        Physical { disks: vec!["sda".to_owned()], interfaces: vec!["eth0".to_owned()] }
    }

    #[test]
    fn a_sample_is_a_line_below_its_header_that_the_checks_read_again() {
        let before = Reading::of(&texts(1000), vec![iggy(7, 100)]);
        let now = Reading::of(&texts(3000), vec![iggy(7, 350)]);
        let columns = Columns::choose(&now, &physical());
        let header = columns.header();
        assert_eq!(
            header,
            "time\tup\tload\tcpu\tsteal\tmemory_available_kb\tswap_used_kb\toom_kills\tpsi:cpu:some\tpsi:cpu:full\t\
             psi:memory:some\tpsi:memory:full\tpsi:io:some\tpsi:io:full\tdisk:sda:read\tdisk:sda:written\tdisk:sda:busy\t\
             net:eth0:received\tnet:eth0:sent\tunit:iggy.service:state\tunit:iggy.service:pid\t\
             unit:iggy.service:resident_kb\tunit:iggy.service:cpu\n"
        );
        let line = columns.line(1_795_262_400, 77, &now, Some((&before, 10.0)));
        assert_eq!(
            line,
            format!(
                "1795262400\t77\t0.52\t50\t0\t4000\t40\t2\t1.5\t0\t1.5\t0\t1.5\t0\t102400\t102400\t20\t200\t100\t\
                 active\t7\t{}\t25\n",
                256 * page_kibibytes()
            )
        );
        let mut recording = Recording::default();
        recording.read(&format!("#1 boot\n{header}{line}"));
        assert_eq!(recording.figure("disk:sda:busy"), Some(&[20.0][..]));
        assert_eq!(recording.units().next().unwrap().1[0].pid, 7);
    }

    #[test]
    fn the_first_sample_has_no_rates_and_another_process_has_no_share() {
        let now = Reading::of(&texts(3000), vec![iggy(8, 350)]);
        let columns = Columns::choose(&now, &physical());
        let first = columns.line(0, 0, &now, None);
        assert!(first.starts_with("0\t0\t0.52\t\t\t4000\t40\t\t1.5"), "{first}");
        assert!(first.contains("\t\t\t\t\t\tactive\t8\t") && first.ends_with("\t\n"), "{first}");
        let before = Reading::of(&texts(1000), vec![iggy(7, 100)]);
        assert!(columns.line(0, 0, &now, Some((&before, 10.0))).ends_with("\t\n"));
        assert_eq!(columns.line(0, 0, &now, Some((&before, 0.0))), first);
    }

    #[test]
    fn a_counter_that_went_backwards_counts_as_nothing() {
        let (before, now) = (Reading::of(&texts(5000), Vec::new()), Reading::of(&texts(1000), Vec::new()));
        let columns = Columns::choose(&now, &physical());
        let line = columns.line(0, 0, &now, Some((&before, 10.0)));
        assert!(line.ends_with("\t0\t0\t0\t0\t0\n"), "{line}");
    }

    #[test]
    fn of_too_many_things_the_busiest_are_recorded_and_loopback_and_partitions_never() {
        let mut reading = Reading::of(&texts(1), Vec::new());
        let columns = Columns::choose(&reading, &physical());
        assert_eq!(
            (columns.disks.as_slice(), columns.interfaces.as_slice()),
            (&["sda".into()][..], &["eth0".into()][..])
        );
        reading.interfaces = (0..100).map(|at| (format!("veth{at:02}"), [at, 0])).collect();
        let columns = Columns::choose(&reading, &physical());
        assert_eq!((columns.interfaces.len(), columns.interfaces[0].as_str()), (INTERFACES, "veth92"));
        reading.interfaces.push(("eth0".to_owned(), [0, 0]));
        assert_eq!(Columns::choose(&reading, &physical()).interfaces, ["eth0"]);
        reading.units =
            (0..100).map(|at| RuntimeReading { unit: format!("{at}.service"), ..iggy(1, 1) }).collect();
        reading.units[0].unit = "x".repeat(NAME + 1);
        let units = Columns::choose(&reading, &physical()).units;
        assert_eq!((units.len(), units[0].as_str()), (UNITS, "1.service"));
    }

    #[test]
    fn what_comes_gets_a_column_and_what_goes_keeps_its_own() {
        let one = Columns { units: vec!["a".into(), "b".into()], ..Columns::default() };
        let other = Columns { units: vec!["b".into(), "c".into()], ..Columns::default() };
        assert_eq!(one.with(&other).units, ["a", "b", "c"]);
        assert_eq!(one.with(&one), one);
    }

    /// A day of a host with everything at its limit fits the files; the usual host needs about 2 MB.
    #[test]
    fn an_hour_of_the_widest_samples_fits_a_file_and_a_usual_day_two_megabytes() {
        let names = |kind: &str, count: usize| (0..count).map(|at| format!("{kind}{at}")).collect::<Vec<_>>();
        let widest = Columns {
            disks: names("nvme0n", DISKS),
            interfaces: names("enp0s", INTERFACES),
            units: names("iggy-connector@sink-orders-to-postgres-", UNITS),
        };
        let work = |name: &String, of: u64| {
            let texts = format!("8 0 {name} 1 0 {of} 1 1 0 {of} 1 0 {of} 0");
            warden_host::diskstats::Work::parse_all(&texts).remove(0)
        };
        let reading = |of: u64| Reading {
            load: Some(123.45),
            memory_available: Some(1 << 30),
            swap_used: Some(1 << 30),
            pressure: [[Some(99.99); 2]; 3],
            disks: widest.disks.iter().map(|name| work(name, of)).collect(),
            interfaces: widest
                .interfaces
                .iter()
                .map(|name| (name.clone(), [of * 10_000, of * 10_000]))
                .collect(),
            units: widest
                .units
                .iter()
                .map(|unit| {
                    let mut reading = iggy(4_194_304, of);
                    reading.facts.active_state = "deactivating".to_owned();
                    reading.process.as_mut().unwrap().resident_pages = 1 << 28;
                    RuntimeReading { unit: unit.clone(), ..reading }
                })
                .collect(),
            ..Reading::default()
        };
        let line = widest.line(1_795_262_400, 10_000_000, &reading(50_000_000), Some((&reading(1), 10.0)));
        let hour = u64::from(form::FILE_SAMPLES) * line.len() as u64 + widest.header().len() as u64;
        assert!(hour + (super::super::ring::WAITING as u64) < form::FILE_BYTES, "{hour}");

        let now = Reading::of(&texts(300_000_000), vec![iggy(4711, 1000), iggy(4712, 1000)]);
        let before = Reading::of(&texts(1), vec![iggy(4711, 1), iggy(4712, 1)]);
        let usual =
            Columns::choose(&now, &physical()).line(1_795_262_400, 1_000_000, &now, Some((&before, 10.0)));
        let day = usual.len() as u64 * 8640;
        assert!(day < 2_000_000, "{day}: {usual}");
    }
}
