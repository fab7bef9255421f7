//! The agent: the daemon on every node. It dials the Supervisor, does what it is asked and what the host allows, and
//! tells how the node is.

pub mod actions;
pub mod answering;
pub mod audit;
mod auto_snapshot;
mod direct;
pub mod doctor;
mod enrollment;
pub mod executor;
mod heartbeat;
mod host_info;
mod host_stats;
mod identity;
pub mod ledger;
mod link;
pub mod policy_check;
mod procfs;
pub mod recorder;
pub mod request;
pub mod runtime_stats;
mod settings;
mod snapshot_triggers;
pub mod snapshots;
mod status;
mod trigger_monitor;
pub mod upload;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
pub use direct::direct;
pub use enrollment::{Authorities, enrol};
pub use heartbeat::Observer;
pub use identity::{Identity, credentials_directory};
pub use link::Proxy;
use ring::rand::{SecureRandom, SystemRandom};
pub use settings::{
    ClientCertificate, HEARTBEAT_SECONDS, IGGY_API, IggyApi, RUNTIME_DIRECTORY, STATE_DIRECTORY, Settings,
};
use snapshots::{Child, Outbox, Refused, Snapshots, own_program, uploader};
pub use status::{Doing, Link as LinkState, Status};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use warden_platform::aligned_timer::Pulse;
pub use warden_platform::endpoint::{Endpoint, NotAnEndpoint};
use warden_platform::task_set::Tasks;
use warden_platform::{atomic_file, memory_trim};
use warden_systemd::{Bus, notify};

use self::auto_snapshot::Automatic;
use self::executor::Executor;
use self::link::Link;
use self::recorder::Recorder;
use self::runtime_stats::Readings;
use self::snapshot_triggers::Trigger;
use self::status::Teller;
use self::trigger_monitor::Lookout;

/// For what runs to end when the agent is told to stop; what takes longer is parked in the ledger.
pub const GRACE: Duration = Duration::from_secs(20);
/// Reports that may wait for the link: it takes them as fast as the network does.
const REPORTS_WAITING: usize = 64;
/// Reasons for a snapshot that may wait: the policy allows a few a day.
const TRIGGERS_WAITING: usize = 8;
/// Bytes of a helper thread's stack: they resolve names and ask filesystems, and recurse nowhere.
const STACK: usize = 512 << 10;
/// Helper threads at most.
const THREADS: usize = 4;
/// Helper threads without work stay so long: longer than from one sample to the next, for which one would otherwise be
/// made each time.
const KEEP_ALIVE: Duration = Duration::from_secs(25);

/// Archives that wait, below the state directory.
const OUTBOX: &str = "outbox";
/// The process that takes a snapshot: packing 64 GiB of data directory at the pace of a guest.
const SNAPSHOT_LIMIT: Duration = Duration::from_secs(3600);

/// What comes from outside of the agent.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Where systemd puts the credentials of the agent's unit.
    pub credentials: Option<PathBuf>,
    /// From 0 to 1, anew each time: spreads when nodes dial again.
    pub random: fn() -> f64,
    /// Milliseconds since 1970 UTC; told to others, and nothing is decided by it.
    pub wall_clock: fn() -> i64,
}

impl Surroundings {
    pub fn of_this_process() -> Surroundings {
        Surroundings { credentials: credentials_directory(), random, wall_clock }
    }
}

/// Runs the agent as the whole of this process, until SIGTERM or SIGINT. `beside` runs with it, as long.
pub fn run<F: Future<Output = ()> + Send + 'static>(
    settings: Settings,
    beside: impl FnOnce(CancellationToken) -> anyhow::Result<F>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_stack_size(STACK)
        .max_blocking_threads(THREADS)
        .thread_keep_alive(KEEP_ALIVE)
        .build()
        .context("cannot start the agent")?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let _beside = AbortOnDropHandle::new(tokio::spawn(beside(stop.clone())?));
        let served = serve(settings, Surroundings::of_this_process(), stop.clone());
        let told = async {
            tokio::select! {
                _ = terminate.recv() => tracing::info!("stopping: SIGTERM"),
                _ = interrupt.recv() => tracing::info!("stopping: SIGINT"),
            }
            notify::stopping();
            stop.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            served = served => served,
            () = told => Ok(()),
        }
    })
}

/// Runs the agent until `stop` is cancelled.
pub async fn serve(
    settings: Settings,
    surroundings: Surroundings,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let wall_clock = surroundings.wall_clock;
    atomic_file::directory(&settings.state_directory)?;
    // Whoever asks `warden status` may be another user.
    let _ = atomic_file::directory(&settings.runtime_directory);
    let pulse = Pulse::start();
    let (boot_id, instance) = (host_info::boot_id()?, host_info::instance()?);
    let status = Arc::new(Teller::new(&settings.runtime_directory, starting(&instance, wall_clock())));
    let (reports, reported) = mpsc::channel(REPORTS_WAITING);
    let (listening, listened) = watch::channel(None);
    let (beats, beaten) = mpsc::channel(1);
    let bus = Arc::new(Bus::system());
    let readings = Arc::new(Readings::new(settings.units.clone(), bus.clone()));
    let (snapshots, refusals) = snapshots(&settings, &surroundings, reports.clone())?;
    let (due, triggers) = mpsc::channel(TRIGGERS_WAITING);
    let automatic = automatic(&settings, &surroundings, (triggers, refusals), listened.clone(), &snapshots);
    let executor = Executor::start(of_executor(&settings), bus, reports, Some(snapshots)).await?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), instance, "the agent has started");

    // What runs ends first, and the link still tells how: then the rest stops.
    let link_stop = CancellationToken::new();
    let link = Link {
        settings: settings.clone(),
        executor: executor.clone(),
        reports: reported,
        beats: beaten,
        listening,
        status: status.clone(),
        pulse,
        boot_id: boot_id.clone(),
        instance,
        surroundings,
    };
    let mut tasks = Tasks::new(stop);
    let (telling, doing) = (status.clone(), executor.clone());
    tasks.spawn("the status", |stop| tell_what_is_done(telling, doing, stop));
    if settings.recorder {
        let (readings, executor) = (readings.clone(), executor.clone());
        let directory = settings.state_directory.join(recorder::DIRECTORY);
        let recorder = Recorder::new(&directory, &boot_id);
        tasks.spawn("the flight recorder", |stop| {
            recorder::run(recorder, readings, executor, pulse, wall_clock, stop)
        });
    }
    let ending = link_stop.clone();
    let (telling, ended) = (status.clone(), executor.ended());
    tasks.spawn("the executor", |stop| async move {
        stop.cancelled().await;
        telling.link(LinkState::Stopping, wall_clock());
        executor.shut_down(GRACE).await;
        ending.cancel();
        Ok(())
    });
    let lookout = Lookout {
        readings: readings.clone(),
        policy: settings.policy.clone(),
        state_directory: settings.state_directory.clone(),
        boot_id,
        due,
    };
    tasks.spawn("the lookout", |stop| trigger_monitor::run(lookout, pulse, wall_clock, stop));
    tasks.spawn("the automatic snapshots", |stop| auto_snapshot::run(automatic, stop));
    let ending = link_stop.clone();
    tasks.spawn("the link", |_| link.run(ending));
    let observer = Observer::new(settings, readings);
    tasks.spawn("the heartbeat", |_| {
        heartbeat::run(observer, listened, ended, beats, pulse, wall_clock, link_stop)
    });
    tasks.spawn("the memory", memory_trim::run);
    tasks.spawn("the watchdog", |stop| watch_over(pulse, stop));
    notify::ready("started");
    let ended = tasks.run(GRACE + Duration::from_secs(5)).await;
    status.remove();
    ended
}

/// What takes snapshots for the Supervisor.
fn snapshots(
    settings: &Settings,
    surroundings: &Surroundings,
    reports: mpsc::Sender<warden_protocol::FromNode>,
) -> anyhow::Result<(Arc<Snapshots>, mpsc::Receiver<Refused>)> {
    let outbox = Outbox::open(&settings.state_directory.join(OUTBOX), settings.outbox)?;
    let child = Child {
        program: own_program(),
        policy: settings.policy.clone(),
        state: settings.state_directory.clone(),
        agent: Some(settings.clone()),
        iggy_budget: settings.iggy_budget,
        limit: SNAPSHOT_LIMIT,
    };
    let (settings, credentials, random) =
        (settings.clone(), surroundings.credentials.clone(), surroundings.random);
    let uploader = move || uploader(&settings, credentials.as_deref(), random);
    let (snapshots, refusals) = Snapshots::new(child, outbox, Box::new(uploader), reports);
    Ok((Arc::new(snapshots), refusals))
}

/// What takes snapshots by itself.
fn automatic(
    settings: &Settings,
    surroundings: &Surroundings,
    (triggers, refusals): (mpsc::Receiver<Trigger>, mpsc::Receiver<Refused>),
    listening: watch::Receiver<Option<Duration>>,
    snapshots: &Arc<Snapshots>,
) -> Automatic {
    let (state, credentials) = (settings.state_directory.clone(), surroundings.credentials.clone());
    let is_enrolled =
        move || Identity::read(&state, credentials.as_deref()).is_ok_and(|identity| identity.is_some());
    Automatic {
        triggers,
        refusals,
        listening,
        snapshots: snapshots.clone(),
        reports: snapshots.reports.clone(),
        is_enrolled: Box::new(is_enrolled),
        random: surroundings.random,
    }
}

fn of_executor(settings: &Settings) -> executor::Settings {
    executor::Settings {
        state_directory: settings.state_directory.clone(),
        policy: settings.policy.clone(),
        units: settings.units.clone(),
        settle: settings.settle,
        answer: settings.answer,
        iggy_api: settings.iggy_api,
    }
}

/// How often it is looked whether something is in the way of every request, beside each time that one comes or ends.
const OBSTACLE_LOOK: Duration = Duration::from_secs(30);

async fn tell_what_is_done(
    status: Arc<Teller>,
    executor: Executor,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        let (doing, mut news) = executor.doing();
        status.doing(doing);
        let obstacle = executor.obstacle().await;
        if let Some(why) = &obstacle
            && status.now().obstacle != obstacle
        {
            tracing::error!("nothing is done on this host for now: {why}");
        }
        status.obstacle(obstacle);
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = news.changed() => if changed.is_err() { return Ok(()) },
            () = tokio::time::sleep(OBSTACLE_LOOK) => {}
        }
    }
}

/// Tells systemd that the one thread of this agent turns.
async fn watch_over(pulse: Pulse, stop: CancellationToken) -> anyhow::Result<()> {
    let Some(period) = notify::alive_every() else { return Ok(()) };
    let mut ticks = pulse.every(period);
    loop {
        notify::alive();
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
    }
}

fn starting(instance: &str, now: i64) -> Status {
    Status {
        v: 1,
        pid: std::process::id(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        instance: instance.to_owned(),
        started_at_ms: now,
        node: None,
        deployment: None,
        supervisor: None,
        link: LinkState::Connecting,
        since_ms: now,
        doing: Vec::new(),
        obstacle: None,
    }
}

/// Milliseconds since 1970 UTC.
fn wall_clock() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// From 0 to 1. Half-way, should the kernel have no randomness: nodes are still spread by when they lost the link.
fn random() -> f64 {
    let mut bytes = [0; 4];
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 0.5,
    }
}
