//! What systemd, proc(5) and the filesystems tell of this node, asked once for all who want to know at about the same
//! moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::statvfs::{FsFlags, statvfs};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use warden_config::DBUS_LIMIT;
use warden_config::units::Units;
use warden_host::Space;
use warden_host::filesystems::{Kind, measure};
use warden_host::proc::{Mount, ProcessStat};
use warden_protocol::{Disk, Runtime};
use warden_systemd::{Bus, UnitFacts};

/// What was read less than this ago is not read again: who looks every so often looks at common moments.
const FRESH: Duration = Duration::from_secs(2);
/// How long systemd is believed to have nothing new on a unit whose state and main process are the same.
const BELIEVED: Duration = Duration::from_secs(60);
/// Runtimes looked at: at some 400 bytes each they fit a heartbeat.
const RUNTIMES: usize = 64;
/// Filesystems told, the fullest first: the wire says as many.
const DISKS: usize = 16;
/// Bytes of a mount point's name, as far as it is told.
const MOUNT_LIMIT: usize = 256;
/// For the filesystems to answer: one that hangs is left out, and asked again when it has answered.
const DISKS_LIMIT: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub struct Readings {
    units: Units,
    bus: Arc<Bus>,
    runtimes: Mutex<Option<Runtimes>>,
    filesystems: Mutex<Filesystems>,
    /// Says that a unit has come into another state.
    changes: watch::Sender<()>,
}

/// A runtime's unit and its main process.
#[derive(Debug, Clone, PartialEq)]
pub struct RuntimeReading {
    pub unit: String,
    pub facts: UnitFacts,
    pub process: Option<ProcessStat>,
}

#[derive(Debug)]
struct Runtimes {
    /// When systemd told everything, and when it was last seen to hold.
    told: Instant,
    seen: Instant,
    /// Something happened since.
    is_old: bool,
    readings: Arc<Vec<RuntimeReading>>,
}

#[derive(Debug, Default)]
struct Filesystems {
    asking: Option<JoinHandle<Vec<Disk>>>,
    told: Option<(Instant, Vec<Disk>)>,
}

impl Readings {
    pub fn new(units: Units, bus: Arc<Bus>) -> Readings {
        let (changes, _) = watch::channel(());
        Readings { units, bus, runtimes: Mutex::default(), filesystems: Mutex::default(), changes }
    }

    /// Says that a unit has come into another state, as whoever looked has seen.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Has systemd asked anew by whoever looks next.
    pub async fn forget(&self) {
        if let Some(runtimes) = &mut *self.runtimes.lock().await {
            runtimes.is_old = true;
        }
    }

    /// Iggy, the connectors runtime, and every single connector that systemd has loaded, with all that systemd tells.
    /// `None`: systemd does not answer.
    pub async fn runtimes(&self) -> Option<Arc<Vec<RuntimeReading>>> {
        let mut held = self.runtimes.lock().await;
        match &*held {
            Some(runtimes) if runtimes.told.elapsed() < FRESH && !runtimes.is_old => {
                Some(runtimes.readings.clone())
            }
            _ => self.ask(&mut held).await,
        }
    }

    /// The same, for little: systemd is asked for the units' states alone, and for the rest only when a state or a
    /// main process has changed. Memory, CPU time and tasks of the units may be a minute old; those of the main
    /// processes are not.
    pub async fn glance(&self) -> Option<Arc<Vec<RuntimeReading>>> {
        let mut held = self.runtimes.lock().await;
        let Some(runtimes) = &mut *held else { return self.ask(&mut held).await };
        if runtimes.seen.elapsed() < FRESH && !runtimes.is_old {
            return Some(runtimes.readings.clone());
        }
        if runtimes.told.elapsed() < BELIEVED {
            let states = timeout(DBUS_LIMIT, self.states()).await.ok().flatten()?;
            if let Some(readings) = unchanged(&runtimes.readings, &states) {
                runtimes.readings = Arc::new(readings);
                runtimes.seen = Instant::now();
                return Some(runtimes.readings.clone());
            }
        }
        self.ask(&mut held).await
    }

    /// Local filesystems, the fullest first, read no longer than `age` ago. One that hangs holds one thread, and only
    /// one, whatever happens.
    pub async fn filesystems(&self, age: Duration) -> Vec<Disk> {
        let mut held = self.filesystems.lock().await;
        if let Some((at, disks)) = &held.told
            && at.elapsed() < age.max(FRESH)
        {
            return disks.clone();
        }
        let asking = held.asking.get_or_insert_with(|| tokio::task::spawn_blocking(filesystems));
        match timeout(DISKS_LIMIT, asking).await {
            Ok(disks) => {
                held.asking = None;
                let disks = disks.unwrap_or_default();
                held.told = Some((Instant::now(), disks.clone()));
                disks
            }
            Err(_) => Vec::new(),
        }
    }

    async fn ask(&self, held: &mut Option<Runtimes>) -> Option<Arc<Vec<RuntimeReading>>> {
        let facts = timeout(DBUS_LIMIT, self.facts()).await.ok().flatten()?;
        let with_process = |(unit, facts): (String, UnitFacts)| {
            let process = process(facts.main_pid);
            RuntimeReading { unit, facts, process }
        };
        let readings: Arc<Vec<_>> = Arc::new(facts.into_iter().map(with_process).collect());
        let now = Instant::now();
        if held.as_ref().is_some_and(|before| states_of(&before.readings) != states_of(&readings)) {
            self.changes.send_replace(());
        }
        *held = Some(Runtimes { told: now, seen: now, is_old: false, readings: readings.clone() });
        Some(readings)
    }

    async fn facts(&self) -> Option<Vec<(String, UnitFacts)>> {
        let manager = self.bus.manager().await.ok()?;
        let mut names = self.always().to_vec();
        let instances = manager.units_like(&[&self.units.instances()]).await.ok()?;
        names.extend(instances.into_keys().filter(|unit| self.units.runtime(unit).is_some()));
        names.truncate(RUNTIMES);
        let mut all = Vec::with_capacity(names.len());
        for name in names {
            let facts = manager.facts(&name).await.ok()?;
            all.push((name, facts));
        }
        Some(all)
    }

    /// Active and sub state of those that systemd has loaded.
    async fn states(&self) -> Option<BTreeMap<String, (String, String)>> {
        let manager = self.bus.manager().await.ok()?;
        let ([iggy, connectors], instances) = (self.always(), self.units.instances());
        let mut states = manager.units_like(&[&iggy, &connectors, &instances]).await.ok()?;
        states.retain(|unit, _| self.units.runtime(unit).is_some());
        Some(states)
    }

    fn always(&self) -> [String; 2] {
        [self.units.unit(&Runtime::Iggy), self.units.unit(&Runtime::Connectors)]
    }
}

fn states_of(readings: &[RuntimeReading]) -> Vec<(&str, &str, u32)> {
    let mut states = Vec::with_capacity(readings.len());
    for RuntimeReading { unit, facts, .. } in readings {
        states.push((unit.as_str(), facts.active_state.as_str(), facts.main_pid));
    }
    states
}

/// The readings with their processes as they are now; nothing when a unit has changed, come or gone.
fn unchanged(
    known: &[RuntimeReading],
    states: &BTreeMap<String, (String, String)>,
) -> Option<Vec<RuntimeReading>> {
    let is_known = |unit: &String| known.iter().any(|reading| reading.unit == *unit);
    if known.len() < RUNTIMES && !states.keys().all(is_known) {
        return None;
    }
    let same = |reading: &RuntimeReading| {
        let facts = &reading.facts;
        let is_as_told = match states.get(&reading.unit) {
            Some((active, sub)) => *active == facts.active_state && *sub == facts.sub_state,
            // systemd forgets a unit that is down and that nobody wants.
            None => facts.active_state == "inactive",
        };
        let process = process(facts.main_pid);
        let started = |process: &Option<ProcessStat>| process.as_ref().map(|process| process.start_ticks);
        let is_same = is_as_told && started(&process) == started(&reading.process);
        is_same.then(|| RuntimeReading { process, ..reading.clone() })
    };
    known.iter().map(same).collect()
}

fn process(pid: u32) -> Option<ProcessStat> {
    let pid = Some(pid).filter(|pid| *pid > 0)?;
    ProcessStat::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn filesystems() -> Vec<Disk> {
    local_filesystems(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(), space)
}

/// Those on storage of this host, by the rules of the checks: asking them waits for no other host and no process.
fn local_filesystems(mountinfo: &str, ask: impl FnMut(&str) -> Option<Space>) -> Vec<Disk> {
    let mounts = Mount::parse_all(mountinfo);
    let is_local = |kind| matches!(kind, Kind::Disk | Kind::Layers);
    let mut ask = ask;
    let (measured, _) = measure(&mounts, None, is_local, |point| ask(point).ok_or(()));
    let mut disks: Vec<Disk> = measured
        .into_iter()
        .filter(|filesystem| filesystem.space.size > 0)
        .map(|filesystem| Disk {
            mount: filesystem.mount.point.chars().take(MOUNT_LIMIT).collect(),
            total_bytes: filesystem.space.size,
            available_bytes: filesystem.space.available,
        })
        .collect();
    let free = |disk: &Disk| u128::from(disk.available_bytes) * 1_000_000 / u128::from(disk.total_bytes);
    disks.sort_by_key(|disk| (free(disk), disk.mount.clone()));
    disks.truncate(DISKS);
    disks
}

fn space(point: &str) -> Option<Space> {
    let answer = statvfs(point).ok()?;
    let bytes = |blocks: u64| blocks.checked_mul(answer.fragment_size());
    Some(Space {
        size: bytes(answer.blocks())?,
        free: bytes(answer.blocks_free())?,
        available: bytes(answer.blocks_available())?,
        inodes: answer.files(),
        inodes_free: answer.files_free(),
        read_only: answer.flags().contains(FsFlags::ST_RDONLY),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(unit: &str, state: &str, pid: u32) -> RuntimeReading {
        let facts = UnitFacts {
            active_state: state.to_owned(),
            sub_state: "running".to_owned(),
            main_pid: pid,
            ..UnitFacts::default()
        };
        RuntimeReading { unit: unit.to_owned(), facts, process: process(pid) }
    }

    fn states(of: &[(&str, &str)]) -> BTreeMap<String, (String, String)> {
        let with_sub =
            |(unit, state): &(&str, &str)| ((*unit).to_owned(), ((*state).to_owned(), "running".to_owned()));
        of.iter().map(with_sub).collect()
    }

    #[test]
    fn a_glance_holds_as_long_as_states_and_processes_are_the_same() {
        let own = std::process::id();
        let known = [reading("a.service", "active", own), reading("b.service", "inactive", 0)];
        let same = states(&[("a.service", "active")]);
        assert_eq!(unchanged(&known, &same).map(|readings| readings.len()), Some(2));
        for other in [
            states(&[]),
            states(&[("a.service", "failed")]),
            states(&[("a.service", "active"), ("b.service", "active")]),
            states(&[("a.service", "active"), ("c.service", "active")]),
        ] {
            assert_eq!(unchanged(&known, &other), None, "{other:?}");
        }
        let mut restarted = known.clone();
        restarted[0].process.as_mut().unwrap().start_ticks += 1;
        assert_eq!(unchanged(&restarted, &same), None, "another process of the same number");
    }

    #[tokio::test]
    async fn filesystems_are_asked_no_more_often_than_needed() {
        let readings = Readings::new(Units::default(), Arc::new(Bus::at("unix:path=/nonexistent")));
        let first = readings.filesystems(Duration::ZERO).await;
        assert!(!first.is_empty() && first.len() <= DISKS);
        let at = readings.filesystems.lock().await.told.as_ref().unwrap().0;
        readings.filesystems(Duration::from_secs(3600)).await;
        assert_eq!(readings.filesystems.lock().await.told.as_ref().unwrap().0, at);
    }

    #[test]
    fn local_filesystems_are_told_once_and_network_ones_are_never_asked() {
        let mountinfo = "22 1 259:2 / / rw shared:1 - ext4 /dev/nvme0n1p2 rw\n\
                         23 22 0:21 / /proc rw - proc proc rw\n\
                         24 22 259:3 / /var/lib/iggy\\040data rw - xfs /dev/nvme1n1 rw\n\
                         25 22 259:3 /x /srv/bind rw - xfs /dev/nvme1n1 rw\n\
                         26 22 0:50 / /mnt/share rw - nfs4 host:/share rw\n\
                         27 22 0:51 / /mnt/new rw - newnetfs host:/share rw\n\
                         28 22 0:52 / /snap/core/1 ro - fuse.snapfuse snapfuse ro,user_id=0,allow_other\n\
                         29 22 0:60 / /merged rw - overlay overlay rw,lowerdir=/l,upperdir=/docker/diff,workdir=/w\n\
                         torn line\n";
        let mut asked = Vec::new();
        let disks = local_filesystems(mountinfo, |point| {
            asked.push(point.to_owned());
            let (size, free) = (100, if point == "/" { 40 } else { 10 });
            Some(Space { size, free, available: free, inodes: 1, inodes_free: 1, read_only: false })
        });
        assert_eq!(asked, ["/", "/var/lib/iggy data"]);
        let told: Vec<_> = disks.iter().map(|disk| (disk.mount.as_str(), disk.available_bytes)).collect();
        assert_eq!(told, [("/var/lib/iggy data", 10), ("/", 40)]);
    }

    #[tokio::test]
    async fn without_systemd_there_are_no_readings() {
        let readings = Readings::new(Units::default(), Arc::new(Bus::at("unix:path=/nonexistent")));
        assert!(readings.runtimes().await.is_none() && readings.glance().await.is_none());
    }
}
