//! What keeps this host from being a node that does what it is asked: looked for thing by thing, and nothing changed.

mod connectivity;
mod privileges;
mod state_directory;

use std::path::Path;

use warden_config::policy;
use warden_host::quantity;
pub use warden_platform::doctor::{Finding, Verdict};
use warden_platform::doctor::{fail, is_denied, pass, unknown, warn};
use warden_platform::tls::{self, Trust};
use warden_protocol::Runtime;
use warden_systemd::{Bus, Manager};

use super::{Identity, LinkState, Settings, Status, credentials_directory};

/// Looks at everything, in the order in which one thing needs the other. `dir`: where this agent keeps all it has,
/// whatever the configuration says. `now_ms`: milliseconds since 1970 UTC.
pub async fn examine(configuration: &Path, dir: Option<&Path>, now_ms: i64) -> Vec<Finding> {
    let settings = match Settings::load(configuration) {
        Ok(settings) => match dir {
            Some(dir) => settings.below(dir),
            None => settings,
        },
        Err(problems) => {
            return vec![fail("configuration", problems, "mend the files; nothing runs before")];
        }
    };
    let folder = configuration.display();
    let mut findings = vec![match configuration.exists() {
        true => pass("configuration", format!("{folder} is understood")),
        false => pass("configuration", format!("there is no {folder}: everything is by default")),
    }];
    findings.push(of_policy(&settings));
    let identity = Identity::read(&settings.state_directory, credentials_directory().as_deref());
    findings.push(of_identity(&identity));
    if let Ok(Some(identity)) = &identity {
        findings.extend(connectivity::to_supervisor(&settings, identity, now_ms).await);
    }
    let agent = Status::read(&settings.runtime_directory).ok().flatten().filter(Status::is_alive);
    findings.push(of_agent(agent.as_ref()));
    match Bus::system().manager().await {
        Ok(manager) => {
            findings.push(pass("D-Bus", "systemd answers"));
            findings.extend(of_units(&manager, &settings).await);
            findings.push(privileges::to_manage(agent.as_ref(), &settings).await);
        }
        // Units and polkit are asked through it.
        Err(error) => findings.push(fail("D-Bus", error, "systemctl start dbus; the agent waits for it")),
    }
    findings.extend(agent.as_ref().map(|agent| privileges::to_look(agent.pid)));
    findings.push(state_directory::ledger(&settings.state_directory, agent.is_some()).await);
    findings.push(state_directory::room(&settings.state_directory));
    findings
}

/// What can be told of the configuration from the files alone: nothing is asked, and nobody is called. `now`: Unix time
/// in seconds.
pub fn check_configuration(configuration: &Path, now: i64) -> Vec<Finding> {
    let (settings, problems) = Settings::examine(configuration);
    let folder = configuration.display();
    let first = match problems {
        Ok(()) => pass("configuration", format!("{folder} is understood")),
        Err(problems) => fail("configuration", problems, "mend the files; the agent does not start before"),
    };
    vec![first, of_policy(&settings), of_certificates(&settings, now)]
}

/// What the agent believes, and what it shows of itself.
fn of_certificates(settings: &Settings, now: i64) -> Finding {
    let identity =
        Identity::read(&settings.state_directory, credentials_directory().as_deref()).ok().flatten();
    let (trust, whose) =
        match (&settings.ca_file, identity.as_ref().and_then(|identity| identity.ca.as_deref())) {
            (Some(file), _) => (Trust::File(file), format!("the authorities in {}", file.display())),
            (None, Some(pem)) => (Trust::Pem(pem), "the authorities given at enrolment".to_owned()),
            (None, None) => (Trust::Nobody, "the authorities that this host trusts".to_owned()),
        };
    let advice = "name files in PEM: agent.ca_file, agent.client_certificate and its key";
    match tls::configuration(trust, settings.client.as_ref()) {
        Err(error) if is_denied(&error) => return unknown("certificates", format!("{error:#}")),
        Err(error) => return fail("certificates", format!("{error:#}"), advice),
        Ok(_) => {}
    }
    let text = match trust {
        Trust::File(file) => std::fs::read_to_string(file).unwrap_or_default(),
        Trust::Pem(pem) => pem.to_owned(),
        Trust::Host | Trust::Pinned(_) | Trust::Nobody => String::new(),
    };
    let authorities = warden_certificates::parse_pem("the authorities", &text).unwrap_or_default();
    if let Some(past) = authorities.iter().find(|one| one.not_after < now) {
        let told = format!("{whose}: {} ran out at {}", past.subject, quantity::time(past.not_after));
        return fail("certificates", told, "get the authority's new certificate, and name it");
    }
    pass("certificates", format!("the Supervisor is believed by {whose}"))
}

fn of_policy(settings: &Settings) -> Finding {
    let path = settings.policy.display();
    match policy::rules(&settings.policy) {
        Ok(_) if !settings.policy.exists() => {
            pass("policy", format!("there is no {path}: what the Supervisor asks is done"))
        }
        Ok(rules) if rules.is_empty() => {
            pass("policy", format!("{path} has no rules: what the Supervisor asks is done"))
        }
        Ok(rules) => pass("policy", format!("{path} has {} rules", rules.len())),
        Err(error) if is_denied(&error) => unknown("policy", format!("{error:#}")),
        Err(error) => {
            fail("policy", format!("{error:#}"), "mend it; before, nothing is done here for a Supervisor")
        }
    }
}

fn of_identity(identity: &anyhow::Result<Option<Identity>>) -> Finding {
    match identity {
        Ok(Some(identity)) => {
            let Identity { node, deployment, supervisor, .. } = identity;
            pass("enrolment", format!("node {node} of deployment {deployment} at {supervisor}"))
        }
        Ok(None) => {
            let advice = "make a token with `warden ctl enrolments create`, and run `warden enroll` here";
            fail("enrolment", "this host is not enrolled", advice)
        }
        Err(error) if is_denied(error) => unknown(
            "enrolment",
            "the credential is for root and the agent to read, and with it the way to the Supervisor",
        ),
        Err(error) => fail("enrolment", format!("{error:#}"), "enrol anew: warden enroll --replace"),
    }
}

fn of_agent(agent: Option<&Status>) -> Finding {
    let look = "journalctl --unit warden --lines 50";
    let Some(status) = agent else {
        return fail(
            "agent",
            "it does not run",
            format!("systemctl enable --now warden; if it ends: {look}"),
        );
    };
    match &status.link {
        LinkState::Connected => pass("agent", status.sentence()),
        LinkState::Connecting | LinkState::Stopping => {
            warn("agent", status.sentence(), "look again in a minute")
        }
        LinkState::NotEnrolled { .. } => {
            fail("agent", status.sentence(), "enrol this host; the agent notices within 10 s")
        }
        LinkState::Waiting { .. } => fail("agent", status.sentence(), look),
        LinkState::Refused { .. } => fail(
            "agent",
            status.sentence(),
            "ask the administrator of the Supervisor, or enrol this host anew",
        ),
    }
}

async fn of_units(manager: &Manager, settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    for runtime in [Runtime::Iggy, Runtime::Connectors] {
        let unit = settings.units.unit(&runtime);
        findings.push(match manager.facts(&unit).await {
            Ok(facts) if facts.load_state == "not-found" && runtime == Runtime::Connectors => {
                pass("units", format!("there is no {unit}: this host has no connectors"))
            }
            Ok(facts) if facts.load_state != "loaded" => fail(
                "units",
                format!("{unit} is {}", facts.load_state),
                "install it, or name the unit of this host in [units] of /etc/warden/warden.toml",
            ),
            Ok(facts) if facts.active_state == "failed" => {
                warn("units", format!("{unit} has failed"), format!("systemctl status {unit}"))
            }
            Ok(facts) => pass("units", format!("{unit} is {}", facts.active_state)),
            Err(error) => fail("units", format!("{unit}: {error}"), format!("systemctl status {unit}")),
        });
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn settings_that_are_wrong_are_told_whole_and_nothing_else_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let text = "[agent]\nsupervisr = 1\n[units]\niggy = 2\n";
        std::fs::write(folder.path().join("warden.toml"), text).unwrap();
        let findings = examine(folder.path(), None, 0).await;
        assert_eq!((findings.len(), findings[0].verdict), (1, Verdict::Fail));
        assert_eq!(findings[0].told.lines().count(), 3, "{}", findings[0].told);
    }

    #[test]
    fn an_agent_is_well_only_while_it_is_connected() {
        let told = |link: LinkState| {
            let status = Status {
                v: 1,
                pid: 7,
                agent_version: "0.1.0".into(),
                instance: "i".into(),
                started_at_ms: 1,
                node: Some(4),
                deployment: None,
                supervisor: Some("https://sup".into()),
                link,
                since_ms: 1,
                doing: Vec::new(),
                obstacle: None,
            };
            let finding = of_agent(Some(&status));
            (finding.verdict, finding.told)
        };
        assert_eq!(told(LinkState::Connected), (Verdict::Pass, "connected to https://sup as node 4".into()));
        assert_eq!(told(LinkState::Connecting).0, Verdict::Warn);
        let refused = LinkState::Refused { why: "who".into(), again_at_ms: 0 };
        assert_eq!(told(refused), (Verdict::Fail, "refused by https://sup: who".into()));
        assert_eq!(of_agent(None).verdict, Verdict::Fail);
    }
}
