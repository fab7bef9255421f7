//! The flight recorder's files: what the agent writes into them, and how they are read again.
//!
//! Lines of text, tab between the fields. `#1 BOOT` opens what one start of the agent wrote: the version of this form
//! and the boot of the kernel. A line that begins with `time` names the columns of the samples below it. `!` begins a
//! mark: time, up, unit, cause, detail. Every other line is a sample, with an empty field for what is not known. What
//! is torn or of a later form is passed over.

/// Where the files are, below the agent's state; their names sort from the oldest to the newest.
pub const DIRECTORY: &str = "recorder";
pub const ENDING: &str = ".tsv";
/// Seconds from one sample to the next.
pub const PERIOD: u32 = 10;
/// Bytes of one file: with all of them under 20 MB, and whole in one answer of a host.
pub const FILE_BYTES: u64 = 720 << 10;
/// Files kept: a day of full ones, and the one that is written.
pub const FILES: usize = 25;
/// Samples in one file: an hour.
pub const FILE_SAMPLES: u32 = 360;

/// The form that this module writes and understands.
pub const FORM: &str = "#1 ";
pub const MARK: &str = "!";
/// Unix time, in seconds.
pub const TIME: &str = "time";
/// CLOCK_BOOTTIME, in seconds: no step of the wall clock touches it.
pub const UP: &str = "up";
/// Of the last minute.
pub const LOAD: &str = "load";
/// Percent of all cores together, and what the hypervisor took of them.
pub const CPU: &str = "cpu";
pub const STEAL: &str = "steal";
/// Kibibytes.
pub const MEMORY_AVAILABLE: &str = "memory_available_kb";
pub const SWAP_USED: &str = "swap_used_kb";
/// Processes that the kernel killed for memory since the last sample.
pub const OOM_KILLS: &str = "oom_kills";
/// `avg10` in percent, of resource and kind: `psi:memory:full`.
pub const PRESSURE: &str = "psi";
/// Bytes per second read and written, percent busy: `disk:sda:busy`.
pub const DISK: &str = "disk";
pub const READ: &str = "read";
pub const WRITTEN: &str = "written";
pub const BUSY: &str = "busy";
/// Bytes per second: `net:eth0:sent`.
pub const NETWORK: &str = "net";
pub const RECEIVED: &str = "received";
pub const SENT: &str = "sent";
/// `unit:iggy.service:pid`; resident kibibytes and percent of one core are those of the main process.
pub const UNIT: &str = "unit";
pub const STATE: &str = "state";
pub const PID: &str = "pid";
pub const RESIDENT: &str = "resident_kb";
pub const UNIT_CPU: &str = "cpu";

/// Causes in marks. The agent was asked to do something with the unit, by the activity in the detail;
pub const ASKED: &str = "asked";
/// it ended without being told to, with systemd's result in the detail;
pub const ENDED: &str = "ended";
/// somebody on this host stopped it;
pub const STOPPED: &str = "stopped";
/// systemd started it again, for the n-th time.
pub const RESTARTED: &str = "restarted";

/// The column for one figure of one thing.
pub fn column(kind: &str, name: &str, figure: &str) -> String {
    format!("{kind}:{name}:{figure}")
}

/// Kind, name and figure of such a column. The name of a unit may hold `:` too.
pub fn parts(column: &str) -> Option<(&str, &str, &str)> {
    let (kind, rest) = column.split_once(':')?;
    let (name, figure) = rest.rsplit_once(':')?;
    Some((kind, name, figure))
}

/// What is read of a recording, whoever made it: more than any agent writes into [`FILES`] files.
const MOST_COLUMNS: usize = 512;
const MOST_SAMPLES: usize = 20_000;
const MOST_MARKS: usize = 10_000;

/// What files hold, read one after the other from the oldest.
#[derive(Debug, Default)]
pub struct Recording {
    pub samples: Vec<Stamp>,
    pub marks: Vec<Mark>,
    figures: Vec<Figure>,
    units: Vec<(String, Vec<Standing>)>,
    boots: Vec<String>,
}

/// When a sample was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub time: i64,
    pub up: i64,
    /// Which boot `up` is counted from; grows.
    boot: usize,
}

/// How a unit stood, from a sample on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub sample: usize,
    pub state: String,
    /// Nought: none runs.
    pub pid: u32,
}

/// Why a unit is about to be seen as another, or was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The sample that comes after it.
    pub sample: usize,
    pub unit: String,
    pub cause: String,
    pub detail: String,
}

#[derive(Debug)]
struct Figure {
    column: String,
    /// A value for each sample up to the last one that had it; not a number where there is none.
    values: Vec<f32>,
}

/// Where a field of a sample goes.
enum Slot {
    Time,
    Up,
    Figure(usize),
    /// The state of a unit, and the field that has its process.
    Unit(usize, Option<usize>),
    Nowhere,
}

impl Recording {
    /// Adds one file, the next newer one.
    pub fn read(&mut self, text: &str) {
        let mut slots: Vec<Slot> = Vec::new();
        // A line without its end was torn, or is being written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.split('\n') {
            if let Some(boot) = line.strip_prefix(FORM) {
                slots.clear();
                if self.boots.last().is_none_or(|last| last != boot) {
                    self.boots.push(boot.to_owned());
                }
            } else if line.starts_with('#') {
                // A form that is not known: nothing below can be understood.
                slots.clear();
            } else if line.starts_with(TIME) {
                slots = self.slots(line);
            } else if let Some(mark) = line.strip_prefix(MARK) {
                self.mark(mark);
            } else if !slots.is_empty() {
                self.sample(line, &slots);
            }
        }
    }

    /// By sample, oldest first; not a number, or no further value, where it is not known. Absent: never known.
    pub fn figure(&self, column: &str) -> Option<&[f32]> {
        self.figures.iter().find(|figure| figure.column == column).map(|figure| &figure.values[..])
    }

    /// The names that have figures of `kind`, in the order they came.
    pub fn named(&self, kind: &str) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for figure in &self.figures {
            if let Some((of, name, _)) = parts(&figure.column)
                && of == kind
                && !names.contains(&name)
            {
                names.push(name);
            }
        }
        names
    }

    /// Each time a unit was seen to be another than before; the first time, too.
    pub fn units(&self) -> impl Iterator<Item = (&str, &[Standing])> {
        self.units.iter().map(|(unit, standings)| (unit.as_str(), &standings[..]))
    }

    fn slots(&mut self, header: &str) -> Vec<Slot> {
        let columns: Vec<&str> = header.split('\t').collect();
        let mut slots = Vec::with_capacity(columns.len());
        for column in &columns {
            let full = self.figures.len() + self.units.len() >= MOST_COLUMNS;
            slots.push(match (*column, parts(column)) {
                (TIME, _) => Slot::Time,
                (UP, _) => Slot::Up,
                (_, Some((UNIT, unit, STATE))) => {
                    let pid = columns.iter().position(|other| parts(other) == Some((UNIT, unit, PID)));
                    match self.units.iter().position(|(known, _)| known == unit) {
                        Some(at) => Slot::Unit(at, pid),
                        None if full => Slot::Nowhere,
                        None => {
                            self.units.push((unit.to_owned(), Vec::new()));
                            Slot::Unit(self.units.len() - 1, pid)
                        }
                    }
                }
                (_, Some((UNIT, _, PID))) => Slot::Nowhere,
                (column, _) => match self.figures.iter().position(|known| known.column == column) {
                    Some(at) => Slot::Figure(at),
                    None if full => Slot::Nowhere,
                    None => {
                        self.figures.push(Figure { column: column.to_owned(), values: Vec::new() });
                        Slot::Figure(self.figures.len() - 1)
                    }
                },
            });
        }
        slots
    }

    fn mark(&mut self, line: &str) {
        let fields: Vec<&str> = line.split('\t').collect();
        let ["", _, _, unit, cause, detail] = fields[..] else { return };
        if self.marks.len() >= MOST_MARKS {
            return;
        }
        self.marks.push(Mark {
            sample: self.samples.len(),
            unit: unit.to_owned(),
            cause: cause.to_owned(),
            detail: detail.to_owned(),
        });
    }

    fn sample(&mut self, line: &str, slots: &[Slot]) {
        let sample = self.samples.len();
        let fields: Vec<&str> = line.split('\t').collect();
        let number = |wanted: fn(&Slot) -> bool| {
            let at = slots.iter().position(wanted)?;
            fields.get(at)?.parse::<i64>().ok()
        };
        let time = number(|slot| matches!(slot, Slot::Time));
        let up = number(|slot| matches!(slot, Slot::Up));
        let (Some(time), Some(up), true) = (time, up, fields.len() == slots.len()) else { return };
        if sample >= MOST_SAMPLES {
            return;
        }
        self.samples.push(Stamp { time, up, boot: self.boots.len() });
        for (field, slot) in fields.iter().zip(slots) {
            match slot {
                Slot::Time | Slot::Up | Slot::Nowhere => {}
                Slot::Figure(at) => {
                    if let Some(figure) = self.figures.get_mut(*at)
                        && let Ok(value) = field.parse::<f32>()
                        && value.is_finite()
                    {
                        figure.values.resize(sample, f32::NAN);
                        figure.values.push(value);
                    }
                }
                Slot::Unit(at, pid) => {
                    let pid = pid.and_then(|at| fields.get(at)?.parse().ok()).unwrap_or(0);
                    if let Some((_, known)) = self.units.get_mut(*at)
                        && !field.is_empty()
                        && known.last().is_none_or(|last| last.state != *field || last.pid != pid)
                    {
                        known.push(Standing { sample, state: (*field).to_owned(), pid });
                    }
                }
            }
        }
    }

    /// How long ago each sample was taken, in seconds: by the uptime within a boot, whatever the wall clock did, and
    /// by the wall clock from boot to boot. `now` is Unix time and uptime, `boot` that of the kernel that runs.
    pub fn ages(&self, now: (i64, i64), boot: Option<&str>) -> Vec<i64> {
        let mut ages = vec![0; self.samples.len()];
        let Some(newest) = self.samples.last() else { return ages };
        let same_boot = boot.is_none_or(|boot| self.boots.last().is_some_and(|last| last == boot));
        let mut age =
            if same_boot && now.1 >= newest.up { now.1 - newest.up } else { (now.0 - newest.time).max(0) };
        for index in (0..self.samples.len()).rev() {
            if let Some(newer) = self.samples.get(index + 1) {
                age = age.saturating_add(self.samples[index].until(newer));
            }
            ages[index] = age;
        }
        ages
    }

    /// Whether the kernel booted between a sample and the one before.
    pub fn booted(&self, sample: usize) -> bool {
        let before = sample.checked_sub(1).and_then(|before| self.samples.get(before));
        matches!((before, self.samples.get(sample)), (Some(before), Some(at)) if before.boot != at.boot)
    }

    /// Seconds from a sample to the next.
    pub fn pause_before(&self, sample: usize) -> i64 {
        let before = sample.checked_sub(1).and_then(|before| self.samples.get(before));
        before.zip(self.samples.get(sample)).map_or(0, |(before, at)| before.until(at))
    }
}

impl Stamp {
    fn until(&self, later: &Stamp) -> i64 {
        let passed = if self.boot == later.boot && later.up >= self.up {
            later.up.saturating_sub(self.up)
        } else {
            later.time.saturating_sub(self.time)
        };
        passed.max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "time\tup\tload\tunit:a.service:state\tunit:a.service:pid";

    fn recording(texts: &[&str]) -> Recording {
        let mut recording = Recording::default();
        texts.iter().for_each(|text| recording.read(text));
        recording
    }

    fn loads(recording: &Recording) -> Vec<Option<f32>> {
        let values = recording.figure(LOAD).unwrap().iter();
        values.map(|value| Some(*value).filter(|value| !value.is_nan())).collect()
    }

    #[test]
    fn samples_are_read_by_the_columns_above_them() {
        let recording = recording(&[
            &format!("#1 b\n{HEADER}\n100\t1\t0.5\tactive\t7\n110\t11\t\tactive\t7\n"),
            "#1 b\ntime\tup\tswap_used_kb\tload\n120\t21\t8\t0.25\n",
        ]);
        assert_eq!(loads(&recording), [Some(0.5), None, Some(0.25)]);
        assert_eq!(recording.figure(SWAP_USED).unwrap()[2], 8.0);
        assert!(recording.figure(CPU).is_none());
        let a = Standing { sample: 0, state: "active".to_owned(), pid: 7 };
        assert_eq!(recording.units().collect::<Vec<_>>(), [("a.service", &[a][..])]);
    }

    #[test]
    fn what_is_torn_or_of_another_form_is_passed_over() {
        let torn = format!(
            "80\t1\t2\n#1 b\n{HEADER}\n100\t1\t0.5\tactive\t7\n110\t11\t0.\n\0\0\0\nx\ty\tz\t\t\n!\ttorn\n\
             130\t31\tNaN\tactive\t7\n#2 b\n140\t41\t1\tactive\t7\n#1 b\n{HEADER}\n150\t51\t1\tactive\t7"
        );
        let recording = recording(&[&torn, "", "\n"]);
        assert_eq!(recording.samples.iter().map(|stamp| stamp.time).collect::<Vec<_>>(), [100, 130]);
        assert_eq!((loads(&recording), recording.marks.len()), (vec![Some(0.5)], 0));
    }

    #[test]
    fn ages_follow_the_uptime_within_a_boot_and_the_clock_from_boot_to_boot() {
        let text = format!(
            "#1 one\n{HEADER}\n1000\t500\t1\t\t\n1010\t510\t1\t\t\n#1 two\n{HEADER}\n1110\t20\t1\t\t\n\
             4720\t30\t1\t\t\n90\t40\t1\t\t\n"
        );
        let recording = recording(&[&text]);
        assert_eq!(recording.ages((95, 45), Some("two")), [135, 125, 25, 15, 5]);
        assert_eq!(recording.ages((95, 3), Some("three")), [135, 125, 25, 15, 5]);
        assert_eq!(recording.ages((10, 3), Some("three"))[4], 0, "never younger than now");
        assert_eq!(
            (0..5).map(|at| recording.booted(at)).collect::<Vec<_>>(),
            [false, false, true, false, false]
        );
        assert_eq!((0..5).map(|at| recording.pause_before(at)).collect::<Vec<_>>(), [0, 10, 100, 10, 10]);
        assert_eq!(Recording::default().ages((0, 0), None), [0; 0]);
    }

    #[test]
    fn a_mark_belongs_to_the_sample_after_it() {
        let text = format!(
            "#1 b\n{HEADER}\n100\t1\t1\tactive\t7\n!\t105\t6\ta.service\tended\toom-kill\n110\t11\t1\tactive\t8\n"
        );
        let recording = recording(&[&text]);
        let (cause, detail) = (ENDED.to_owned(), "oom-kill".to_owned());
        let mark = Mark { sample: 1, unit: "a.service".to_owned(), cause, detail };
        assert_eq!(recording.marks, [mark]);
        let (_, seen) = recording.units().next().unwrap();
        assert_eq!(seen.iter().map(|seen| seen.sample).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn a_column_names_what_it_is_of() {
        assert_eq!(parts(&column(DISK, "nvme0n1", BUSY)), Some((DISK, "nvme0n1", BUSY)));
        assert_eq!(parts("unit:a:b.service:pid"), Some((UNIT, "a:b.service", PID)));
        assert_eq!(parts(LOAD), None);
    }
}
