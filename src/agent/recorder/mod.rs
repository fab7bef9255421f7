//! The flight recorder: what the host and its runtimes did in the last day, a sample each ten seconds, on disk.

mod events;
mod ring;
mod sampler;
mod schema;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use warden_checks::block::stores_data;
pub use warden_host::recorder::DIRECTORY;
use warden_host::recorder::PERIOD;
use warden_platform::aligned_timer::Pulse;
use warden_platform::boot_time::BootTime;

use self::events::Mark;
use self::ring::Tape;
use self::sampler::{Proc, Reading};
use self::schema::{Columns, Physical};
use super::executor::{Begun, Executor};
use super::runtime_stats::{Readings, RuntimeReading};

/// Takes a sample every [`PERIOD`] seconds until it is told to stop. Whatever becomes of it, the agent goes on.
pub async fn run(
    recorder: Recorder,
    readings: Arc<Readings>,
    executor: Executor,
    pulse: Pulse,
    wall_clock: fn() -> i64,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut ticks = pulse.every(Duration::from_secs(PERIOD.into()));
    let mut hand = tokio::task::spawn_blocking(move || recorder);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        // A disk that hangs holds one thread, and the recording has a gap.
        if !hand.is_finished() {
            continue;
        }
        let mut recorder = match hand.await {
            Ok(recorder) => recorder,
            Err(error) => {
                tracing::error!("the flight recorder has ended, and the agent goes on without it: {error}");
                stop.cancelled().await;
                return Ok(());
            }
        };
        let units = readings.glance().await;
        let begun = executor.begun();
        let (time_ms, up) = (wall_clock(), BootTime::now());
        hand = tokio::task::spawn_blocking(move || {
            recorder.sample(units.as_deref().map(Vec::as_slice), &begun, time_ms, up);
            recorder
        });
    }
}

#[derive(Debug)]
pub struct Recorder {
    directory: PathBuf,
    boot_id: String,
    tape: Option<Tape>,
    columns: Columns,
    header: Arc<str>,
    physical: Physical,
    proc: Proc,
    before: Option<(Reading, BootTime)>,
    /// As systemd last told them.
    units: Vec<RuntimeReading>,
    broken: bool,
}

impl Recorder {
    /// Records into files in `directory`.
    pub fn new(directory: &Path, boot_id: &str) -> Recorder {
        Recorder {
            directory: directory.to_owned(),
            boot_id: boot_id.to_owned(),
            tape: None,
            columns: Columns::default(),
            header: Arc::default(),
            physical: Physical::default(),
            proc: Proc::default(),
            before: None,
            units: Vec::new(),
            broken: false,
        }
    }

    /// Reads the host and writes a line. `units` as systemd tells them, if it does; `time_ms` since 1970 UTC.
    pub fn sample(&mut self, units: Option<&[RuntimeReading]>, begun: &[Begun], time_ms: i64, up: BootTime) {
        let reading = Reading::of(self.proc.texts(), units.unwrap_or_default().to_vec());
        if let Err(error) = self.record(reading, units, begun, time_ms, up) {
            if !self.broken {
                let place = self.directory.display();
                tracing::warn!("the flight recorder cannot write to {place} for now: {error}");
            }
            self.broken = true;
        } else if std::mem::take(&mut self.broken) {
            tracing::info!("the flight recorder writes again");
        }
    }

    fn record(
        &mut self,
        reading: Reading,
        units: Option<&[RuntimeReading]>,
        begun: &[Begun],
        time_ms: i64,
        up: BootTime,
    ) -> io::Result<()> {
        let tape = self.tape.get_or_insert_with(|| Tape::open(&self.directory, &self.boot_id));
        let names = |reading: &Reading| {
            let disks = reading.disks.iter().map(|(name, _)| name.clone());
            disks.chain(reading.interfaces.iter().map(|(name, _)| name.clone())).collect::<Vec<_>>()
        };
        if self.before.as_ref().is_none_or(|(before, _)| names(before) != names(&reading)) {
            self.physical = physical();
        }
        let chosen = Columns::choose(&reading, &self.physical);
        let columns = if tape.begins_file() { chosen } else { self.columns.with(&chosen) };
        if self.header.is_empty() || columns != self.columns && tape.takes_header() {
            self.header = columns.header().into();
            self.columns = columns;
        }
        let (time, seconds) = (time_ms.div_euclid(1000), up.0 / 1000);
        let mut marks: Vec<Mark> = begun.iter().map(Mark::asked).collect();
        if let Some(units) = units {
            marks.extend(events::between(&self.units, units));
            self.units = units.to_vec();
        }
        let mut lines: String = marks.iter().map(|mark| mark.line(time, seconds)).collect();
        let before = self.before.as_ref().map(|(before, at)| (before, up.since(*at).as_secs_f64()));
        lines += &self.columns.line(time, seconds, &reading, before);
        self.before = Some((reading, up));
        tape.append(&self.header, &lines, time)
    }
}

/// What has a device below it in sysfs is hardware; a stack of disks or a bridge shows another one's work again.
/// Where no disk is hardware, all that can store data are taken.
fn physical() -> Physical {
    let names = |directory: &str, hardware: bool| -> Vec<String> {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let wanted = entries.filter(|entry| !hardware || entry.path().join("device").exists());
        wanted.filter_map(|entry| Some(entry.file_name().to_str()?.replace('!', "/"))).collect()
    };
    let store = |hardware| {
        let mut disks = names("/sys/block", hardware);
        disks.retain(|name| stores_data(name));
        disks
    };
    let hardware = store(true);
    let disks = if hardware.is_empty() { store(false) } else { hardware };
    Physical { disks, interfaces: names("/sys/class/net", true) }
}

#[cfg(test)]
mod tests {
    use warden_host::recorder::Recording;
    use warden_systemd::UnitFacts;

    use super::sampler::testing::texts;
    use super::*;

    fn unit(state: &str) -> Vec<RuntimeReading> {
        let facts = UnitFacts {
            active_state: state.to_owned(),
            result: "oom-kill".to_owned(),
            ..UnitFacts::default()
        };
        vec![RuntimeReading { unit: "iggy.service".to_owned(), facts, process: None }]
    }

    fn recorded(directory: &Path) -> Recording {
        let mut paths: Vec<_> =
            std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let mut recording = Recording::default();
        paths.iter().for_each(|path| recording.read(&std::fs::read_to_string(path).unwrap()));
        recording
    }

    #[test]
    fn this_host_is_recorded() {
        let folder = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::new(folder.path(), "boot");
        recorder.sample(None, &[], 1_795_262_400_000, BootTime(10_000));
        recorder.sample(None, &[], 1_795_262_410_000, BootTime(20_000));
        let recording = recorded(folder.path());
        assert_eq!(recording.samples.iter().map(|stamp| stamp.up).collect::<Vec<_>>(), [10, 20]);
        assert!(recording.figure("memory_available_kb").unwrap()[1] > 1000.0);
        assert!(
            recording.figure("cpu").unwrap().first().is_none_or(|cpu| cpu.is_nan()),
            "a share needs two looks"
        );
    }

    #[test]
    fn units_that_come_and_go_are_told_with_why() {
        let folder = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::new(folder.path(), "boot");
        let begun = Begun { unit: "iggy.service".to_owned(), action: "stop".to_owned(), request: 5 };
        let mut up = 0;
        let mut record = |units: Option<&[RuntimeReading]>, begun: &[Begun]| {
            up += 10_000;
            let reading = Reading::of(&texts(1000), units.unwrap_or_default().to_vec());
            recorder.record(reading, units, begun, 0, BootTime(up)).unwrap();
        };
        record(None, &[]);
        record(Some(&unit("active")), &[]);
        record(None, &[begun]);
        record(Some(&unit("failed")), &[]);
        let recording = recorded(folder.path());
        let marks: Vec<_> = recording
            .marks
            .iter()
            .map(|mark| (mark.sample, mark.cause.as_str(), mark.detail.as_str()))
            .collect();
        assert_eq!(marks, [(2, "asked", "stop 5"), (3, "ended", "oom-kill")]);
        let (_, seen) = recording.units().next().unwrap();
        let states: Vec<_> = seen.iter().map(|seen| (seen.sample, seen.state.as_str())).collect();
        assert_eq!(states, [(1, "active"), (3, "failed")]);
    }

    #[test]
    fn what_cannot_be_written_hurts_nobody_and_is_said_once() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("recorder");
        std::fs::write(&directory, "in the way").unwrap();
        let mut recorder = Recorder::new(&directory, "boot");
        recorder.sample(None, &[], 0, BootTime(0));
        assert!(recorder.broken);
        std::fs::remove_file(&directory).unwrap();
        recorder.sample(None, &[], 10_000, BootTime(10_000));
        assert!(!recorder.broken);
        assert_eq!(recorded(&directory).samples.len(), 2, "the sample that waited is there, too");
    }
}
