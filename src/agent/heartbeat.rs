//! How the node is: the host by sysinfo, the runtimes by systemd and by asking Iggy, the agent's own cost.

use std::sync::Arc;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use warden_host::arc::ARC_STATISTICS;
use warden_platform::aligned_timer::Pulse;
use warden_protocol::{Agent, Heartbeat, Host, Runtime, RuntimeState};
use warden_systemd::UnitFacts;

use super::host_stats::HostStats;
use super::procfs;
use super::runtime_stats::Readings;
use super::settings::Settings;

/// A unit that systemd started again by itself is told as up when it has been so for this long: one that crashes and
/// is started again, over and over, is up most of the time.
const UP_AGAIN_MS: i64 = 60_000;
/// Between two heartbeats, of which those that something happened for come early: the Supervisor looks at no more.
const APART: Duration = Duration::from_millis(2_500);
/// For Iggy to answer a ping; it is on this host.
const PING_LIMIT: Duration = Duration::from_secs(1);

/// Observes the host, the runtimes and itself.
pub struct Observer {
    settings: Settings,
    readings: Arc<Readings>,
    stats: HostStats,
}

/// Tells how the node is, as often as `listening` says and when a request has ended or a unit has changed, while
/// somebody listens.
pub async fn run(
    mut observer: Observer,
    mut listening: watch::Receiver<Option<Duration>>,
    mut ended: watch::Receiver<()>,
    beats: mpsc::Sender<Heartbeat>,
    pulse: Pulse,
    wall_clock: fn() -> i64,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        let Some(period) = *listening.borrow_and_update() else {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                changed = listening.changed() => if changed.is_err() { return Ok(()) },
            }
            continue;
        };
        let mut ticks = pulse.every(period);
        let mut changes = observer.readings.changes();
        loop {
            let beat = observer.observe(wall_clock()).await;
            let told = Instant::now();
            changes.mark_unchanged();
            // The last one is still not sent: this one would be no news.
            let _ = beats.try_send(beat);
            let news = async {
                tokio::select! {
                    Ok(()) = ended.changed() => observer.readings.forget().await,
                    Ok(()) = changes.changed() => {}
                    else => std::future::pending().await,
                }
                sleep_until(told + APART).await;
            };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = ticks.tick() => {}
                () = news => {}
                changed = listening.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return Ok(()),
                },
            }
        }
    }
}

impl Observer {
    pub fn new(settings: Settings, readings: Arc<Readings>) -> Observer {
        Observer { settings, readings, stats: HostStats::new() }
    }

    /// One look. What cannot be read is absent; nothing makes it wait for long.
    pub async fn observe(&mut self, at_ms: i64) -> Heartbeat {
        Heartbeat { at_ms, host: self.host().await, agent: agent(), runtimes: self.runtimes(at_ms).await }
    }

    async fn host(&mut self) -> Host {
        let cache = procfs::cache_of_zfs(&read(ARC_STATISTICS));
        let traffic = procfs::traffic(&read("/proc/net/dev"));
        let figures = self.stats.look();
        Host {
            uptime_seconds: figures.uptime_seconds,
            load_1m: figures.load,
            cpu: figures.cpu,
            memory_total_bytes: figures.memory_total,
            memory_available_bytes: figures.memory_available.map(|available| available.saturating_add(cache)),
            network_received_bytes: traffic.map(|[received, _]| received),
            network_sent_bytes: traffic.map(|[_, sent]| sent),
            disks: self.readings.filesystems(Duration::ZERO).await,
        }
    }

    /// The runtimes alone, at `now_ms`, milliseconds since 1970 UTC.
    pub async fn runtimes(&mut self, now_ms: i64) -> Vec<RuntimeState> {
        let units = &self.settings.units;
        let mut states: Vec<RuntimeState> = match self.readings.runtimes().await {
            Some(readings) => {
                let told = |unit: &str, facts| Some(state(units.runtime(unit)?, unit, Some(facts), now_ms));
                readings.iter().filter_map(|reading| told(&reading.unit, &reading.facts)).collect()
            }
            None => {
                let unknown = |runtime: Runtime| state(runtime.clone(), &units.unit(&runtime), None, now_ms);
                [Runtime::Iggy, Runtime::Connectors].map(unknown).into()
            }
        };
        if let (Some(iggy), Some(address)) = (states.first_mut(), self.settings.iggy_api.address())
            && iggy.active_state == "active"
        {
            let answers = timeout(PING_LIMIT, ping(address)).await;
            iggy.answers = Some(matches!(answers, Ok(Ok(true))));
        }
        states
    }
}

fn state(runtime: Runtime, unit: &str, facts: Option<&UnitFacts>, now_ms: i64) -> RuntimeState {
    let unknown = || "unknown".to_owned();
    let facts = facts.cloned().map(|facts| as_it_is(facts, now_ms));
    RuntimeState {
        runtime,
        unit: unit.to_owned(),
        load_state: facts.as_ref().map_or_else(unknown, |facts| facts.load_state.clone()),
        active_state: facts.as_ref().map_or_else(unknown, |facts| facts.active_state.clone()),
        sub_state: facts.as_ref().map_or_else(unknown, |facts| facts.sub_state.clone()),
        main_pid: facts.as_ref().map_or(0, |facts| facts.main_pid),
        since_ms: facts.as_ref().and_then(|facts| facts.since_ms),
        restarts: facts.as_ref().and_then(|facts| facts.restarts),
        memory_bytes: facts.as_ref().and_then(|facts| facts.memory_bytes),
        cpu_ms: facts.as_ref().and_then(|facts| facts.cpu_ms),
        tasks: facts.as_ref().and_then(|facts| facts.tasks),
        answers: None,
    }
}

/// systemd's words where they say how a unit is, and others where they do not: it calls a unit that is not there
/// `inactive`, and one in a crash loop `active` whenever it is up for a moment.
fn as_it_is(mut facts: UnitFacts, now_ms: i64) -> UnitFacts {
    let is_down = matches!(facts.active_state.as_str(), "inactive" | "failed");
    let was_restarted = facts.restarts.is_some_and(|restarts| restarts > 0);
    let since = facts.since_ms.unwrap_or(now_ms);
    if facts.load_state == "not-found" && is_down {
        facts.active_state.clone_from(&facts.load_state);
    } else if facts.active_state == "active" && was_restarted && now_ms.saturating_sub(since) < UP_AGAIN_MS {
        (facts.active_state, facts.sub_state) = ("activating".to_owned(), "auto-restart".to_owned());
    }
    facts
}

/// Whether Iggy's HTTP API answers at all: any answer of HTTP is one.
async fn ping(address: std::net::SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /ping HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut start = [0; 9];
    stream.read_exact(&mut start).await?;
    Ok(start.starts_with(b"HTTP/1."))
}

fn agent() -> Agent {
    let cpu = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from);
    Agent {
        resident_bytes: procfs::proportional(&read("/proc/self/smaps_rollup")).unwrap_or_default(),
        cpu_ms: u64::try_from(cpu.as_millis()).unwrap_or(u64::MAX),
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use warden_systemd::Bus;

    use super::*;

    #[tokio::test]
    async fn a_heartbeat_tells_of_this_host_even_without_systemd() {
        let settings = Settings::default();
        let readings = Readings::new(settings.units.clone(), Arc::new(Bus::system()));
        let mut observer = Observer::new(settings, Arc::new(readings));
        let beat = observer.observe(5).await;
        assert_eq!(beat.at_ms, 5);
        assert!(beat.host.memory_total_bytes > Some(1 << 20), "{:?}", beat.host);
        assert!(beat.host.cpu.is_none(), "a share needs two looks");
        assert!(!beat.host.disks.is_empty());
        assert!(beat.agent.resident_bytes > 1 << 20);
        let units: Vec<&str> = beat.runtimes.iter().map(|state| state.unit.as_str()).take(2).collect();
        assert_eq!(units, ["iggy.service", "iggy-connectors.service"]);
    }

    #[test]
    fn a_unit_that_is_not_there_and_one_in_a_crash_loop_are_told_as_such() {
        let told = |load: &str, active: &str, restarts, since_ms| {
            let facts = UnitFacts {
                load_state: load.to_owned(),
                active_state: active.to_owned(),
                sub_state: "running".to_owned(),
                restarts: Some(restarts),
                since_ms: Some(since_ms),
                ..UnitFacts::default()
            };
            let state = state(Runtime::Iggy, "iggy.service", Some(&facts), 100_000);
            (state.active_state, state.sub_state)
        };
        let state = |active: &str, sub: &str| (active.to_owned(), sub.to_owned());
        assert_eq!(told("not-found", "inactive", 0, 0), state("not-found", "running"));
        assert_eq!(
            told("not-found", "active", 0, 0),
            state("active", "running"),
            "its file is gone, it runs"
        );
        assert_eq!(told("loaded", "active", 0, 99_000), state("active", "running"));
        assert_eq!(told("loaded", "active", 3, 40_001), state("activating", "auto-restart"));
        assert_eq!(told("loaded", "active", 3, 40_000), state("active", "running"));
        assert_eq!(told("loaded", "failed", 3, 99_000), state("failed", "running"));
    }

    #[tokio::test]
    async fn iggy_answers_when_anything_of_http_comes_back() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 512];
            let read = stream.read(&mut request).await.unwrap();
            stream.write_all(b"HTTP/1.1 401 Unauthorized\r\n\r\n").await.unwrap();
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        assert!(ping(address).await.unwrap());
        assert!(server.await.unwrap().starts_with("GET /ping HTTP/1.1\r\n"));
        assert!(ping(address).await.is_err(), "nobody listens any more");
    }
}
