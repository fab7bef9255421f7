//! What the running agent may do: to the units, by polkit, and to what a snapshot looks at, by the kernel.

use warden_protocol::Runtime;
use warden_systemd::Verb;
use warden_systemd::polkit::Polkit;

use super::{Finding, fail, pass, unknown, warn};
use crate::{Settings, Status};

/// What an agent must be able to do to a unit.
const VERBS: [(Verb, &str); 3] = [(Verb::Start, "start"), (Verb::Stop, "stop"), (Verb::Restart, "restart")];
/// Of linux/capability.h, by their bits.
const LOOKING: [(u32, &str); 2] = [(2, "CAP_DAC_READ_SEARCH"), (19, "CAP_SYS_PTRACE")];
const ROOT: u32 = 0;

/// Whether the agent may manage its units.
pub async fn to_manage(agent: Option<&Status>, settings: &Settings) -> Finding {
    if let Some(agent) = agent
        && of_process(agent.pid, "Uid").is_some_and(|uid| uid == ROOT)
    {
        return warn(
            "polkit",
            "the agent runs as root, and needs nobody's leave",
            "run it by warden.service of the package",
        );
    }
    let polkit = match Polkit::connect().await {
        Ok(polkit) => polkit,
        Err(error) => {
            let advice = "install polkit and look at it: systemctl status polkit";
            return fail("polkit", format!("{error}: the agent cannot be let manage units"), advice);
        }
    };
    let version = &polkit.version;
    if !polkit.reads_rules() {
        let told = format!("polkit {version} ignores rules in JavaScript, so the agent may not manage units");
        let advice = "install polkit 0.106 or newer (Debian 12, Ubuntu 23.10, RHEL 8 and newer have it)";
        return fail("polkit", told, advice);
    }
    let Some(agent) = agent else {
        return unknown_without_agent(version);
    };
    if !nix::unistd::geteuid().is_root() {
        return unknown("polkit", format!("polkit {version} tells only root what the agent may do"));
    }
    let mut refused = Vec::new();
    for runtime in [Runtime::Iggy, Runtime::Connectors] {
        let unit = settings.units.unit(&runtime);
        let mut verbs = Vec::new();
        for (verb, word) in VERBS {
            match polkit.lets(agent.pid, verb, &unit).await {
                Ok(true) => {}
                Ok(false) => verbs.push(word),
                Err(error) => return fail("polkit", error, "systemctl status polkit"),
            }
        }
        if !verbs.is_empty() {
            refused.push(format!("{} {unit}", verbs.join(", ")));
        }
    }
    if refused.is_empty() {
        return pass("polkit", format!("polkit {version} lets the agent start, stop and restart its units"));
    }
    fail(
        "polkit",
        format!("the agent may not {}", refused.join("; nor ")),
        "copy /usr/share/polkit-1/rules.d/50-warden.rules to /etc/polkit-1/rules.d, and name the units there",
    )
}

fn unknown_without_agent(version: &str) -> Finding {
    let told =
        format!("polkit {version} reads rules; what it lets the agent do is known while the agent runs");
    Finding { advice: Some("start the agent, and look again".to_owned()), ..unknown("polkit", told) }
}

/// Whether the agent sees what a snapshot looks at.
pub fn to_look(agent: u32) -> Finding {
    let Some(effective) = capabilities(agent) else {
        return unknown("rights", "the agent's process cannot be looked at");
    };
    let missing: Vec<&str> =
        LOOKING.iter().filter(|(bit, _)| effective >> bit & 1 == 0).map(|(_, name)| *name).collect();
    if missing.is_empty() {
        return pass("rights", "the agent may look at all that a snapshot asks for");
    }
    warn(
        "rights",
        format!("the agent has no {}: its snapshots tell what they could not see", missing.join(" and no ")),
        "run it by warden.service of the package, and look for drop-ins: systemctl cat warden",
    )
}

fn capabilities(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    u64::from_str_radix(warden_host::proc::field(&status, "CapEff")?, 16).ok()
}

/// The first number of a line of /proc/PID/status.
fn of_process(process: u32, name: &str) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    warden_host::proc::field(&status, name)?.split_ascii_whitespace().next()?.parse().ok()
}
