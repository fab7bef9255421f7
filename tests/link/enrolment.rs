//! `warden enroll`: a token is worth one node, once, and shows itself nowhere.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use warden::agent::Identity;
use warden::secret::Secret;
use warden::supervisor::store::{Page, nodes};

use super::site::{Agent, Site, settings, surroundings};
use crate::supervisor::Backend;
use crate::support::pki::{Authority, Front};
use crate::support::proxy::{Fate, Plan, Proxy};

/// A host with a configuration and a state of its own.
pub struct Host {
    folder: tempfile::TempDir,
}

pub struct Said {
    pub code: i32,
    pub out: String,
    pub error: String,
}

impl Host {
    pub fn new() -> Host {
        let folder = tempfile::tempdir().unwrap();
        let (state, run) = (folder.path().join("state"), folder.path().join("run"));
        let text =
            format!("[agent]\nstate_directory = {state:?}\nruntime_directory = {run:?}\nproxy = \"none\"\n");
        std::fs::write(folder.path().join("warden.toml"), text).unwrap();
        Host { folder }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub fn identity(&self) -> Option<Identity> {
        Identity::read(&self.state(), None).unwrap()
    }

    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub async fn enroll(&self, supervisor: &str, token: &Secret, more: &[&str]) -> Said {
        let file = self.file("token", &format!("{}\n", token.expose()));
        let mut arguments = vec!["--token-file", file.to_str().unwrap()];
        arguments.extend(more);
        let said = self.run(supervisor, &arguments, None, None).await;
        for text in [&said.out, &said.error] {
            assert!(!text.contains(token.expose()), "{text}");
            assert!(!text.contains("wnode_"), "{text}");
        }
        said
    }

    pub async fn run(
        &self,
        supervisor: &str,
        arguments: &[&str],
        variable: Option<&Secret>,
        stdin: Option<&Secret>,
    ) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_warden"));
        command.args(["enroll", supervisor, "--json", "--config"]).arg(self.folder.path()).args(arguments);
        command.env_remove("CREDENTIALS_DIRECTORY").env_remove("WARDEN_ENROLMENT_TOKEN");
        if let Some(token) = variable {
            command.env("WARDEN_ENROLMENT_TOKEN", token.expose());
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        if let Some(token) = stdin {
            input.write_all(token.expose().as_bytes()).await.unwrap();
        }
        drop(input);
        let output = child.wait_with_output().await.unwrap();
        Said {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            error: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

async fn nodes_of(site: &Site) -> usize {
    let page = Page { page: 1, results: 100 };
    nodes::list(&site.store, site.deployment.id, page).await.unwrap().items.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_makes_this_host_a_node_and_the_agent_links_with_it() {
    let site = Site::start(Backend::sqlite()).await;
    let url = format!("http://{}", site.address);
    let (host, token) = (Host::new(), site.token().await);
    let said = host.enroll(&url, &token, &[]).await;
    assert_eq!((said.code, said.error.as_str()), (0, ""));
    let told: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let identity = host.identity().unwrap();
    assert_eq!(told["node"], identity.node.to_string());
    assert_eq!(told["deployment"], site.deployment.id.to_string());
    assert_eq!(told["supervisor"], url);
    assert_eq!(files(&host.state()), ["identity"], "what was pending is gone");
    let agent = host.agent();
    site.linked(identity.node).await;
    // Told again it does nothing, and says so.
    let said = agent.host.enroll(&url, &site.token().await, &[]).await;
    assert_eq!(said.code, 1);
    assert_eq!(agent.host.identity().unwrap(), identity);
    // Unless it is meant: the running agent goes on as the new node.
    let said = agent.host.enroll(&url, &site.token().await, &["--replace"]).await;
    assert_eq!(said.code, 0, "{}", said.error);
    site.remove(identity.node).await;
    let new = agent.host.identity().unwrap().node;
    assert_ne!(new, identity.node);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_read_from_the_environment_and_from_standard_input_too() {
    let site = Site::start(Backend::sqlite()).await;
    let url = format!("http://{}", site.address);
    let token = site.token().await;
    assert_eq!(Host::new().run(&url, &[], Some(&token), None).await.code, 0);
    let token = site.token().await;
    assert_eq!(Host::new().run(&url, &[], None, Some(&token)).await.code, 0);
    let said = Host::new().run(&url, &[], None, None).await;
    assert_eq!((said.code, said.error.as_str()), (2, "error: what was given is no enrolment token\n"));
    assert_eq!(nodes_of(&site).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_used_is_unknown_or_too_old_is_refused_alike() {
    let site = Site::start(Backend::sqlite()).await;
    let url = format!("http://{}", site.address);
    let used = site.token().await;
    assert_eq!(Host::new().enroll(&url, &used, &[]).await.code, 0);
    let refused = |said: &Said| {
        assert_eq!((said.code, said.out.as_str()), (2, ""));
        assert!(said.error.contains("refuses (403): the token is not known here"), "{}", said.error);
    };
    let host = Host::new();
    refused(&host.enroll(&url, &used, &[]).await);
    refused(&host.enroll(&url, &Secret::new("we_unknown"), &[]).await);
    refused(&host.enroll(&url, &site.token_until(super::site::now() - 1).await, &[]).await);
    assert_eq!(host.identity(), None);
    assert_eq!(nodes_of(&site).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enrolment_whose_answer_was_lost_is_done_again_with_the_same_token() {
    let site = Site::start(Backend::sqlite()).await;
    let network = Proxy::before(site.address).await;
    let url = format!("http://{}", network.address);
    let (host, token) = (Host::new(), site.token().await);
    network.plan(Plan { up: Fate::Pass, down: Fate::CutAfter(1) });
    let said = host.enroll(&url, &token, &[]).await;
    assert_eq!(said.code, 2);
    super::until("the Supervisor has made the node", async || (nodes_of(&site).await == 1).then_some(()))
        .await;
    let said = host.enroll(&url, &token, &[]).await;
    assert_eq!(said.code, 0, "{}", said.error);
    assert_eq!(nodes_of(&site).await, 1);
    // Another host that has read the token by now gets nothing for it.
    assert_eq!(Host::new().enroll(&url, &token, &[]).await.code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_is_shown_only_to_a_supervisor_that_is_proven() {
    let site = Site::start(Backend::sqlite()).await;
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let front = Front::before(site.address, &ours.server("localhost"), None).await;
    let url = format!("https://localhost:{}", front.address.port());
    let (host, token) = (Host::new(), site.token().await);
    let wrong = host.file("theirs.pem", &theirs.pem());
    for more in [&[][..], &["--ca-file", wrong.to_str().unwrap()]] {
        let said = host.enroll(&url, &token, more).await;
        assert_eq!(said.code, 2);
        assert!(said.error.contains("cannot prove that it is localhost"), "{}", said.error);
    }
    let right = host.file("ours.pem", &ours.pem());
    let said = host.enroll(&url, &token, &["--ca-file", right.to_str().unwrap()]).await;
    assert_eq!(said.code, 0, "{}", said.error);
    // The agent believes what proved the Supervisor at enrolment, without any configuration.
    std::fs::remove_file(right).unwrap();
    let node = host.identity().unwrap().node;
    let agent = host.agent();
    site.linked(node).await;
    agent.stop().await;
    let said = Host::new().run("http://203.0.113.1", &[], Some(&token), None).await;
    assert!(said.error.contains("the credential could be read: use https://"), "{}", said.error);
}

/// A host with its agent running.
pub struct Running {
    pub host: Host,
    agent: Agent,
}

impl Host {
    pub fn agent(self) -> Running {
        let with = settings(self.folder.path());
        Running { agent: Agent::start_with(tempfile::tempdir().unwrap(), with, surroundings()), host: self }
    }
}

impl Running {
    pub async fn stop(self) {
        self.agent.stop().await;
    }
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
