//! `warden up`: Supervisor and agent in one process, for one host or a first look.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use tokio_util::sync::CancellationToken;

use super::agent_args::absolute;
use super::terminal::harmless;
use super::{logging, supervisor};
use crate::agent::{self, Authorities, Endpoint, Identity, Proxy, Surroundings, credentials_directory};
use crate::supervisor::{NAME_LIMIT, Supervisor};
use crate::tls::own_authority;

/// Run Supervisor and agent together: this host commands itself
///
/// At the first start it makes an administrator's key and prints it, once, makes a deployment, and makes this host a
/// node of it; nothing else is to be set up. Other hosts may join as they would any Supervisor. With --dir everything
/// is kept in one folder, so that no root is needed to look at it all; starting and stopping what runs on the host
/// then takes the rights systemd asks for.
#[derive(Debug, Args)]
#[group(skip)]
#[command(after_help = "\
Then, in another shell:

  export WARDEN_URL=http://127.0.0.1:7600 WARDEN_API_KEY_FILE=~/.warden-key
  warden ctl nodes list
  warden ctl snapshots create --wait

Where systemd runs the two as services (warden.service, warden-supervisor.service), use those: they are confined, and \
one can be restarted without the other. They keep their state in the same places, so that you can go over to them.

Exit status: 0 when it was told to stop (SIGTERM, SIGINT), 2 when it could not run.")]
pub struct Arguments {
    /// The deployment this host is part of, made if it is not there [default: the only one, or a new one: local]
    #[arg(long, value_name = "NAME", value_parser = name)]
    deployment: Option<String>,

    /// Keep the state of both in this folder, and not where the services have it
    #[arg(long, value_name = "DIR", conflicts_with = "data_dir")]
    dir: Option<PathBuf>,

    #[command(flatten)]
    supervisor: supervisor::Arguments,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let dir = arguments.dir.as_deref().map(folder).transpose()?;
    let settings = arguments.supervisor.settings(dir.as_deref().map(|dir| dir.join("supervisor")))?;
    let mut agent = agent::Settings::load(&arguments.supervisor.config)?;
    if let Some(dir) = &dir {
        agent = agent.below(dir);
    }
    logging::start(&settings.log);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop_agent = supervisor::told_to_stop();
        let stop_supervisor = CancellationToken::new();
        let (tls, public_url) = (settings.tls.is_some(), settings.public_url.clone());
        let own = settings.tls.as_ref().and_then(|tls| own_authority(&tls.certificate));
        let authorities = own.map_or(Authorities::Usual, Authorities::Pem);
        let started = arguments.supervisor.start(settings, supervisor::clock(), stop_supervisor.clone());
        let supervisor = started.await?;
        let here = endpoint(supervisor.address, tls, public_url.as_deref())?;
        agent.supervisor = Some(here.clone());
        // Nothing stands between this host and itself.
        agent.proxy = Proxy::Never;
        let node = node(&supervisor, &agent, &here, authorities, arguments.deployment.as_deref()).await?;
        tell(&here, &node)?;

        // The agent ends first: what it was doing went well or not, and there is still somebody to be told.
        let stop = stop_agent.clone();
        let commanded = async {
            let ended = agent::serve(agent, Surroundings::of_this_process(), stop).await;
            stop_supervisor.cancel();
            ended
        };
        let commanding = async {
            let ended = supervisor.run().await;
            stop_agent.cancel();
            ended
        };
        let (commanding, commanded) = tokio::join!(commanding, commanded);
        commanding.and(commanded).map(|()| 0)
    })
}

/// Who this host is to the Supervisor beside it: as before, or enrolled now.
async fn node(
    supervisor: &Supervisor,
    agent: &agent::Settings,
    here: &Endpoint,
    authorities: Authorities,
    deployment: Option<&str>,
) -> anyhow::Result<Identity> {
    let state = &agent.state_directory;
    let Some(identity) = Identity::read(state, credentials_directory().as_deref())? else {
        let invitation = supervisor.invite(deployment, supervisor::clock()()).await?;
        return agent::enrol(agent, here, authorities, &invitation.token).await;
    };
    if let Some(node) = supervisor.node_of(&identity.credential.hash()).await? {
        if let Some(name) = deployment
            && !supervisor.is_called(node.deployment_id, name).await?
        {
            bail!(
                "this host is node {} of deployment {} already, which is not called {name:?}: leave out --deployment, or \
                 make it a new node by removing {}",
                node.id,
                node.deployment_id,
                state.join("identity").display()
            );
        }
        return Ok(identity);
    }
    bail!(
        "this host is node {} of the Supervisor at {}, which is not this one: run `warden agent` for that, or make it \
         a node of this one by removing {}",
        identity.node,
        identity.supervisor,
        state.join("identity").display()
    )
}

fn tell(here: &Endpoint, node: &Identity) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let (url, Identity { node, deployment, .. }) = (harmless(&here.to_string()), node);
    writeln!(
        out,
        "this host is node {node} of deployment {deployment}; the API is at {url}, told at {url}/docs"
    )?;
    out.flush()?;
    Ok(())
}

/// How the agent reaches the Supervisor of its own host.
fn endpoint(listening: SocketAddr, tls: bool, public_url: Option<&str>) -> anyhow::Result<Endpoint> {
    if tls {
        let url = public_url.context("say with --public-url how this host is called in its certificate")?;
        return Ok(url.parse()?);
    }
    let address = match listening.ip() {
        address if address.is_loopback() => address,
        address if !address.is_unspecified() => {
            bail!(
                "without TLS the agent speaks to 127.0.0.1 and ::1 alone: listen there or on 0.0.0.0, not on {address}"
            )
        }
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    Ok(format!("http://{}", SocketAddr::new(address, listening.port())).parse()?)
}

/// The folder as a path that holds wherever this process goes, made for its owner alone.
fn folder(path: &Path) -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let shown = path.display();
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make {shown}"))?;
    absolute(path)
}

fn name(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.chars().count() > NAME_LIMIT || text.chars().any(char::is_control) {
        return Err(format!("expected 1 to {NAME_LIMIT} characters, and none that control a terminal"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_finds_the_supervisor_of_its_host_wherever_that_listens() {
        let found = |address: &str| {
            endpoint(address.parse().unwrap(), false, None).map(|endpoint| endpoint.to_string()).ok()
        };
        assert_eq!(found("127.0.0.1:7600").as_deref(), Some("http://127.0.0.1:7600"));
        assert_eq!(found("0.0.0.0:7600").as_deref(), Some("http://127.0.0.1:7600"));
        assert_eq!(found("[::]:7600").as_deref(), Some("http://[::1]:7600"));
        assert_eq!(found("10.0.0.7:7600"), None);
        let tls = |url| endpoint(([0, 0, 0, 0], 7600).into(), true, url).map(|endpoint| endpoint.to_string());
        assert_eq!(tls(Some("https://warden.example.com")).unwrap(), "https://warden.example.com");
        assert_eq!(
            tls(None).unwrap_err().to_string(),
            "say with --public-url how this host is called in its certificate"
        );
    }
}
