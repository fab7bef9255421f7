//! `warden status`: how the agent on this host is, and what it looks after.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use warden_host::quantity;

use super::agent_args::Which;
use super::json_ids;
use super::terminal::{Painter, Style, harmless};
use crate::agent::runtime_stats::Readings;
use crate::agent::{Doing, LinkState, Observer, Status};
use crate::protocol::RuntimeState;
use crate::systemd::Bus;

/// Show how the agent on this host is
///
/// Tells its link, its node, the runtimes, and what is being done.
///
/// Reads what the running agent writes to /run/warden/status.json, or where --config or --dir say, and asks systemd
/// about the runtimes. Needs no rights and changes nothing.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 connected to the Supervisor; 1 the agent runs and is not connected, or this host is not \
                  enrolled; 3 the agent does not run; 2 it could not be told."
)]
pub struct Arguments {
    /// Print as JSON
    #[arg(long)]
    json: bool,

    /// Wait until the agent is connected, a minute at most: right after an enrolment, say
    #[arg(long)]
    wait: bool,

    #[command(flatten)]
    agent: Which,
}

/// For an agent to notice its enrolment, which takes it 10 s, and to connect.
const WAIT: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

const NOT_CONNECTED: u8 = 1;
/// As `systemctl status` and the init scripts of the LSB have it.
const NOT_RUNNING: u8 = 3;

#[derive(Serialize)]
struct Told {
    running: bool,
    /// Absent when no agent runs.
    agent: Option<Status>,
    runtimes: Vec<RuntimeState>,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let settings = arguments.agent.settings()?;
    let began = Instant::now();
    let agent = loop {
        let agent = Status::read(&settings.runtime_directory)?.filter(Status::is_alive);
        let connected = agent.as_ref().is_some_and(|status| status.link == LinkState::Connected);
        if !arguments.wait || connected || began.elapsed() >= WAIT {
            break agent;
        }
        std::thread::sleep(LOOK_AGAIN);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let readings = Readings::new(settings.units.clone(), Arc::new(Bus::system()));
    let now = Timestamp::now();
    let mut observer = Observer::new(settings, Arc::new(readings));
    let runtimes = runtime.block_on(observer.runtimes(now.as_millisecond()));
    let told = Told { running: agent.is_some(), agent, runtimes };
    let mut out = std::io::stdout().lock();
    if arguments.json {
        let mut told = serde_json::to_value(&told)?;
        json_ids::as_strings(&mut told);
        serde_json::to_writer_pretty(&mut out, &told)?;
        writeln!(out)?;
    } else {
        out.write_all(text(&told, &arguments.agent.start_command(), now, Painter::stdout()).as_bytes())?;
    }
    Ok(match told.agent.map(|status| status.link) {
        None => NOT_RUNNING,
        Some(LinkState::Connected) => 0,
        Some(_) => NOT_CONNECTED,
    })
}

fn text(told: &Told, start: &str, now: Timestamp, paint: Painter) -> String {
    let mut text = match &told.agent {
        None => {
            let dead = paint.paint(Style::Red, "does not run");
            format!("the agent {dead}; start it: {}\n", harmless(start))
        }
        Some(status) => {
            let (style, advice) = match &status.link {
                LinkState::Connected => (Style::Green, None),
                LinkState::Connecting | LinkState::Waiting { .. } | LinkState::Stopping => {
                    (Style::Yellow, None)
                }
                LinkState::NotEnrolled { .. } => (Style::Yellow, None),
                LinkState::Refused { .. } => {
                    (Style::Red, Some("the administrator of the Supervisor has to look"))
                }
            };
            let mut text = format!(
                "{}{}\n",
                paint.paint(style, &harmless(&status.sentence())),
                since(", ", Some(status.since_ms), now)
            );
            if let Some(advice) = advice {
                text += &format!("  {advice}\n");
            }
            if let Some(why) = &status.obstacle {
                let nothing = paint.paint(Style::Red, "nothing is done on this host for now");
                text += &format!("{nothing}: {}\n", harmless(why));
            }
            text += &format!(
                "agent {}, PID {}{}\n",
                harmless(&status.agent_version),
                status.pid,
                since(", ", Some(status.started_at_ms), now)
            );
            text
        }
    };
    let width = told.runtimes.iter().map(|state| state.runtime.to_string().len()).max().unwrap_or(0);
    for state in &told.runtimes {
        text += &line(state, width, now, paint);
    }
    for Doing { request, what, since_ms } in told.agent.iter().flat_map(|agent| &agent.doing) {
        let since = since(", ", Some(*since_ms), now);
        text += &format!(
            "{}: {} (request {request}{since})\n",
            paint.paint(Style::Bold, "doing"),
            harmless(what)
        );
    }
    text
}

fn line(state: &RuntimeState, width: usize, now: Timestamp, paint: Painter) -> String {
    let style = match state.active_state.as_str() {
        "active" => Style::Green,
        "failed" => Style::Red,
        "activating" | "deactivating" | "reloading" => Style::Yellow,
        _ => Style::Dim,
    };
    let shown = if state.load_state == "loaded" {
        format!("{} ({})", state.active_state, state.sub_state)
    } else {
        state.load_state.clone()
    };
    let mut more = harmless(&state.unit);
    if state.main_pid > 0 {
        more += &format!(", main PID {}", state.main_pid);
    }
    more += &since(", ", state.since_ms.filter(|_| state.load_state == "loaded"), now);
    if let Some(restarts) = state.restarts.filter(|restarts| *restarts > 0) {
        more += &format!(", restarted {restarts} times by systemd");
    }
    if state.answers == Some(false) {
        more += &format!(", {}", paint.paint(Style::Red, "its API does not answer"));
    }
    format!("{:width$}  {}  {more}\n", state.runtime.to_string(), paint.paint(style, &harmless(&shown)))
}

fn since(before: &str, at_ms: Option<i64>, now: Timestamp) -> String {
    let Some(at_ms) = at_ms else { return String::new() };
    let seconds = (now.as_millisecond() - at_ms).max(0) / 1000;
    let passed = quantity::duration(seconds as f64);
    format!("{before}since {} ({passed})", quantity::time(at_ms.div_euclid(1000)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Runtime;

    fn state(runtime: &str, load: &str, active: &str) -> RuntimeState {
        let runtime: Runtime = runtime.parse().unwrap();
        RuntimeState {
            unit: format!("{runtime}.service"),
            runtime,
            load_state: load.into(),
            active_state: active.into(),
            sub_state: "running".into(),
            main_pid: if active == "active" { 4711 } else { 0 },
            since_ms: Some(1_773_662_400_000),
            restarts: Some(2),
            memory_bytes: None,
            cpu_ms: None,
            tasks: None,
            answers: Some(active != "active"),
        }
    }

    #[test]
    fn link_agent_and_runtimes_are_told_with_their_times() {
        let now = "2026-03-16T12:03:20Z".parse().unwrap();
        let agent = Status {
            v: 1,
            pid: 7,
            agent_version: "0.1.0".into(),
            instance: "i".into(),
            started_at_ms: 1_773_662_400_000,
            node: Some(610_809_900_976_570_889),
            deployment: Some(2),
            supervisor: Some("https://sup".into()),
            link: LinkState::Connected,
            since_ms: 1_773_662_590_000,
            doing: vec![Doing { request: 9, what: "restart iggy".into(), since_ms: 1_773_662_599_000 }],
            obstacle: Some("the audit log is gone".into()),
        };
        let runtimes = vec![state("iggy", "loaded", "active"), state("connectors", "not-found", "inactive")];
        let told = Told { running: true, agent: Some(agent), runtimes };
        assert_eq!(
            text(&told, "", now, Painter::plain()),
            concat!(
                "connected to https://sup as node 610809900976570889, since 2026-03-16T12:03:10Z (10 s)\n",
                "nothing is done on this host for now: the audit log is gone\n",
                "agent 0.1.0, PID 7, since 2026-03-16T12:00:00Z (3 min 20 s)\n",
                "iggy        active (running)  iggy.service, main PID 4711, since 2026-03-16T12:00:00Z (3 min 20 s), ",
                "restarted 2 times by systemd, its API does not answer\n",
                "connectors  not-found  connectors.service, restarted 2 times by systemd\n",
                "doing: restart iggy (request 9, since 2026-03-16T12:03:19Z (1 s))\n",
            )
        );
    }

    #[test]
    fn no_agent_is_told_with_what_to_do() {
        let told = Told { running: false, agent: None, runtimes: Vec::new() };
        assert_eq!(
            text(&told, "systemctl start warden", Timestamp::UNIX_EPOCH, Painter::plain()),
            "the agent does not run; start it: systemctl start warden\n"
        );
    }
}
