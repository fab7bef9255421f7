//! A Supervisor, agents, and what is asked of them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use warden::agent::{self, Identity, Settings, Status, Surroundings};
use warden::config::fragments::Fragments;
use warden::protocol::{Action, Runtime, Work};
use warden::secret::Secret;
use warden::supervisor::Supervisor;
use warden::supervisor::hub::Hub;
use warden::supervisor::settings::{self as supervisor, Overrides};
use warden::supervisor::store::activities::{self, Activity, Order};
use warden::supervisor::store::deployments::{self, Deployment, Plan};
use warden::supervisor::store::enrolments::{self, Applicant, Enrolment};
use warden::supervisor::store::{Store, nodes};

use super::until;
use crate::supervisor::Backend;

/// A running Supervisor with one deployment.
pub struct Site {
    pub backend: Backend,
    pub store: Store,
    pub hub: Hub,
    pub address: SocketAddr,
    pub deployment: Deployment,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

impl Site {
    pub async fn start(backend: Backend) -> Site {
        Site::serve(backend, None, "127.0.0.1:0".parse().unwrap()).await
    }

    async fn serve(backend: Backend, deployment: Option<Deployment>, address: SocketAddr) -> Site {
        let stop = CancellationToken::new();
        let supervisor = until("the port is free", async || {
            let settings = settings_of(&backend, address);
            Supervisor::start(settings, Arc::new(now), false, stop.clone()).await.ok()
        });
        let supervisor = supervisor.await;
        let (store, hub, address) = (supervisor.store().clone(), supervisor.hub.clone(), supervisor.address);
        let deployment = match deployment {
            Some(deployment) => deployment,
            None => a_deployment(&store).await,
        };
        let task = tokio::spawn(supervisor.run());
        Site { backend, store, hub, address, deployment, stop, task }
    }

    /// Stops as a Supervisor does, and says what is left of it.
    pub async fn stop(self) -> Stopped {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
        drop((self.hub, self.store));
        Stopped { backend: self.backend, deployment: self.deployment, address: self.address }
    }

    /// Another Supervisor on the same store, at an address of its own.
    pub async fn beside(&self) -> Site {
        let (backend, deployment) = (self.backend.again(), self.deployment.clone());
        Site::serve(backend, Some(deployment), "127.0.0.1:0".parse().unwrap()).await
    }

    /// Makes a token, as an administrator does.
    pub async fn token(&self) -> Secret {
        self.token_until(now() + 3_600_000).await
    }

    pub async fn token_until(&self, expires_at: i64) -> Secret {
        let token = Secret::draw("we_").unwrap();
        let enrolment = Enrolment {
            id: self.store.id(now()),
            deployment_id: self.deployment.id,
            token_hash: token.hash(),
            name: None,
            author_id: 42,
            created_at: now(),
            expires_at,
            uses: 1,
        };
        let mut change = self.store.change().await.unwrap();
        enrolments::insert(&mut change, &enrolment).await.unwrap();
        change.commit().await.unwrap();
        token
    }

    /// A node, and what proves it.
    pub async fn enrolled(&self) -> (u64, Secret) {
        let (token, credential) = (self.token().await, Secret::draw("wnode_").unwrap());
        let host = Applicant { hostname: "iggy-1", credential_hash: &credential.hash(), address: "::1" };
        let node = enrolments::use_token(&self.store, &token.hash(), host, now()).await.unwrap();
        (node.unwrap().id, credential)
    }

    /// Asks a node for what an agent ends at once, without systemd: it does not reconfigure yet. The id of the
    /// activity.
    pub async fn order(&self, node: u64) -> u64 {
        self.order_within(node, 300_000).await
    }

    pub async fn order_within(&self, node: u64, deadline_ms: i64) -> u64 {
        let order = Order {
            deployment: self.deployment.clone(),
            nodes: vec![node],
            work: Work::Activity { runtime: Runtime::Iggy, action: Action::Reconfigure(42) },
            author_id: 42,
            author: "ops@example.com".into(),
            started_via: "api",
            deadline_at: now() + deadline_ms,
        };
        let mut change = self.store.change().await.unwrap();
        let (_, started) = activities::start(&mut change, &order, now()).await.unwrap();
        change.commit().await.unwrap();
        started[0].id
    }

    pub async fn activity(&self, id: u64) -> Activity {
        activities::get(&self.store, self.deployment.id, id).await.unwrap().unwrap()
    }

    /// The activity, once it has ended.
    pub async fn ended(&self, id: u64) -> Activity {
        until("the activity has ended", async || {
            Some(self.activity(id).await).filter(|activity| activity.finished_at.is_some())
        })
        .await
    }

    pub async fn remove(&self, node: u64) {
        let mut change = self.store.change().await.unwrap();
        assert!(nodes::remove(&mut change, self.deployment.id, node, now()).await.unwrap());
        change.commit().await.unwrap();
    }

    pub async fn linked(&self, node: u64) {
        until("the node is linked", async || self.hub.connected(node).then_some(())).await;
    }

    pub async fn unlinked(&self, node: u64) {
        until("the node is gone", async || (!self.hub.connected(node)).then_some(())).await;
    }
}

fn settings_of(backend: &Backend, listen: SocketAddr) -> supervisor::Settings {
    let overrides = Overrides { listen: Some(listen), ..Overrides::default() };
    let settings = supervisor::Settings::read(Fragments::default(), overrides).unwrap();
    supervisor::Settings { database: backend.database(), objects: backend.objects(), ..settings }
}

async fn a_deployment(store: &Store) -> Deployment {
    let deployment = Deployment {
        id: store.id(now()),
        tenant_id: 1,
        division_id: 1,
        environment_id: 1,
        name: "events".into(),
        plan: Plan::Basic,
        created_at: now(),
    };
    let mut change = store.change().await.unwrap();
    assert!(deployments::insert(&mut change, &deployment).await.unwrap());
    change.commit().await.unwrap();
    deployment
}

/// A Supervisor that was stopped.
pub struct Stopped {
    backend: Backend,
    deployment: Deployment,
    address: SocketAddr,
}

impl Stopped {
    /// The same one, at the same address.
    pub async fn start(self) -> Site {
        Site::serve(self.backend, Some(self.deployment), self.address).await
    }
}

/// A running agent with a state of its own.
pub struct Agent {
    pub folder: tempfile::TempDir,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

/// Settings for an agent that lives in `folder`.
pub fn settings(folder: &Path) -> Settings {
    Settings {
        state_directory: folder.join("state"),
        runtime_directory: folder.join("run"),
        policy: folder.join("policy.toml"),
        proxy: agent::Proxy::Never,
        iggy_api: agent::IggyApi::None,
        ..Settings::default()
    }
}

/// An agent dials again at once, and tells the time of this host.
pub fn surroundings() -> Surroundings {
    Surroundings { credentials: None, random: || 0.0, wall_clock: now }
}

/// A folder of an agent that was enrolled at `supervisor`.
pub fn enrolled(supervisor: &str, node: u64, credential: &Secret) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("state")).unwrap();
    let identity = Identity {
        node,
        deployment: 1,
        supervisor: supervisor.parse().unwrap(),
        ca: None,
        credential: credential.clone(),
    };
    identity.write(&folder.path().join("state")).unwrap();
    folder
}

impl Agent {
    pub fn start(folder: tempfile::TempDir) -> Agent {
        let settings = settings(folder.path());
        Agent::start_with(folder, settings, surroundings())
    }

    pub fn start_with(folder: tempfile::TempDir, settings: Settings, surroundings: Surroundings) -> Agent {
        let stop = CancellationToken::new();
        let task = tokio::spawn(agent::serve(settings, surroundings, stop.clone()));
        Agent { folder, stop, task }
    }

    pub fn status(&self) -> Option<Status> {
        Status::read(&self.folder.path().join("run")).unwrap()
    }

    /// Waits for the agent to tell what `wanted` wants.
    pub async fn tells<T>(&self, what: &str, mut wanted: impl FnMut(&Status) -> Option<T>) -> T {
        until(what, async || self.status().as_ref().and_then(&mut wanted)).await
    }

    /// Stops as on SIGTERM; its folder stays.
    pub async fn stop(self) -> tempfile::TempDir {
        self.stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(60), self.task).await;
        ended.expect("the agent does not stop").unwrap().unwrap();
        self.folder
    }
}
