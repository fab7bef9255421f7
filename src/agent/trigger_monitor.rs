//! Looks at the node for what the policy calls a reason for a snapshot.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use warden_checks::Expiry;
use warden_config::policy::{self, Automatic};
use warden_host::proc;
use warden_platform::aligned_timer::Pulse;
use warden_platform::atomic_file::{PRIVATE, replace};
use warden_platform::boot_time::BootTime;
use warden_snapshot as snapshot;

use super::runtime_stats::Readings;
use super::snapshot_triggers::{Seen, Trigger, Triggers};

/// In the state directory: what has been a reason already.
pub const FILE: &str = "triggers.json";

/// Between two looks at the units, which systemd starts again sooner or later.
const LOOK: Duration = Duration::from_secs(10);
/// Looks from one at the filesystems and the policy to the next: they change slowly. One minute.
const SLOW: u64 = 6;
/// Looks from one at the certificates to the next: an hour.
const RARE: u64 = 360;
/// They are not looked at while the host still starts.
const STARTED: BootTime = BootTime(120_000);
/// Bytes of the file.
const FILE_LIMIT: u64 = 256 << 10;

pub struct Lookout {
    pub readings: Arc<Readings>,
    pub policy: PathBuf,
    pub state_directory: PathBuf,
    pub boot_id: String,
    /// Triggers go here. One that finds no room is only logged.
    pub due: mpsc::Sender<Trigger>,
}

/// Looks every so often until it is told to stop.
pub async fn run(
    lookout: Lookout,
    pulse: Pulse,
    wall_clock: fn() -> i64,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let file = lookout.state_directory.join(FILE);
    let mut triggers = Triggers::recall(&kept(&file), &lookout.boot_id, wall_clock(), BootTime::now());
    let mut ticks = pulse.every(LOOK);
    let (mut limits, mut complaint) = (None, String::new());
    let (mut certificates, mut rare_from): (Option<JoinHandle<Vec<Expiry>>>, u64) = (None, 0);
    for round in 0u64.. {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        let is_slow = round % SLOW == 0;
        if is_slow {
            limits = read_policy(&lookout.policy, &mut complaint).await;
        }
        let Some(limits) = limits.as_ref().filter(|limits: &&Automatic| limits.enabled) else { continue };
        if round >= rare_from && certificates.is_none() && BootTime::now() >= STARTED {
            rare_from = round + RARE;
            certificates = Some(tokio::task::spawn_blocking(|| snapshot::certificates().unwrap_or_default()));
        }
        let expiries = match certificates.take_if(|looking| looking.is_finished()) {
            Some(looked) => looked.await.unwrap_or_default(),
            None => Vec::new(),
        };
        let filesystems = if is_slow { lookout.readings.filesystems(LOOK * 6).await } else { Vec::new() };
        let units = lookout.readings.glance().await;
        let vmstat = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
        let (at_ms, up) = (wall_clock(), BootTime::now());
        let seen = Seen {
            at_ms,
            up,
            units: units.as_deref().map(Vec::as_slice),
            oom_kills: proc::counter(&vmstat, "oom_kill"),
            // None at all means that they could not be looked at.
            filesystems: Some(&filesystems[..]).filter(|all| !all.is_empty()),
            certificates: Some(&expiries[..]).filter(|all| !all.is_empty()),
        };
        let (due, changed) = triggers.look(&seen, limits);
        if changed {
            let (file, content) = (file.clone(), triggers.keep(&lookout.boot_id, at_ms, up));
            let kept = tokio::task::spawn_blocking(move || replace(&file, content.as_bytes(), PRIVATE)).await;
            if let Ok(Err(error)) = kept {
                tracing::warn!("what has been a reason for a snapshot is not remembered: {error:#}");
            }
        }
        for trigger in due {
            if let Err(error) = lookout.due.try_send(trigger) {
                let trigger = error.into_inner();
                tracing::warn!("no snapshot is taken although {}: too many are waiting", trigger.reason);
            }
        }
    }
    Ok(())
}

/// Nothing while the policy is not understood, which is told once. Who lets the Supervisor have no snapshots wants none
/// by themselves either.
async fn read_policy(path: &Path, complaint: &mut String) -> Option<Automatic> {
    let place = path.to_owned();
    let read = tokio::task::spawn_blocking(move || policy::snapshots(&place)).await.ok()?;
    let told = read.as_ref().err().map(|error| format!("{error:#}")).unwrap_or_default();
    if !told.is_empty() && told != *complaint {
        tracing::warn!("no snapshot is taken by itself for now: {told}");
    }
    *complaint = told;
    let snapshots = read.ok()?;
    let enabled = snapshots.allow && snapshots.automatic.enabled;
    Some(Automatic { enabled, ..snapshots.automatic })
}

fn kept(file: &Path) -> String {
    let mut text = String::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(FILE_LIMIT).read_to_string(&mut text));
    if read.is_ok() { text } else { String::new() }
}
