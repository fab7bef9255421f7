//! The Supervisor: takes requests over HTTP, keeps them, and has nodes carry them out.

pub mod administrator;
pub mod backup;
pub mod certificate;
pub mod connections;
pub mod doctor;
mod drain_body;
pub mod http;
pub mod hub;
mod jobs;
mod local_node;
pub mod network;
pub mod object_store;
mod server;
pub mod settings;
pub mod snowflake;
pub mod store;
pub mod upload_service;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use connections::Connections;
use futures_util::FutureExt;
use hub::Hub;
pub use local_node::Invitation;
use object_store::{Local, Objects, S3, S3Settings};
use server::Listener;
use settings::{ObjectStore, Settings};
use store::{Kind, Store, idempotency, keys, snapshots};
use tokio_util::sync::CancellationToken;
use upload_service::Uploads;
use warden_platform::secret::Secret;
use warden_platform::task_set::Tasks;
use warden_platform::tls::{self, Trust};

/// Milliseconds since 1970 UTC, told by whoever starts the Supervisor.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The tenant, the division and the environment of those who name none.
const FIRST_TENANT: u64 = 1;
const FIRST_DIVISION: u64 = 1;
const FIRST_ENVIRONMENT: u64 = 1;
/// Longest name of a deployment, node or key, in characters.
pub const NAME_LIMIT: usize = 100;
/// For requests, streams and connections to end when told to stop.
const STOP_GRACE: Duration = Duration::from_secs(15);

/// A Supervisor that listens.
pub struct Supervisor {
    pub address: SocketAddr,
    /// At the first start on a store, and when a new one was asked for: shown to whoever started it, and never again.
    pub administrator_key: Option<Secret>,
    /// Who is connected.
    pub hub: Hub,
    tasks: Tasks,
    store: Store,
}

impl Supervisor {
    /// Opens the store, binds the socket, and serves in the background until `stop` is cancelled.
    ///
    /// `new_administrator`: makes an administrator's key even if there was one before.
    pub async fn start(
        settings: Settings,
        clock: Clock,
        new_administrator: bool,
        stop: CancellationToken,
    ) -> anyhow::Result<Supervisor> {
        let listener = Listener::bind(&settings)?;
        let address = listener.address;
        let store = Store::open(&settings.database).await?;
        if store.kind() == Kind::Sqlite {
            idempotency::release_all(&store).await.context("cannot tidy the store")?;
        }
        let key = administrator_key(&store, clock(), new_administrator);
        let administrator_key = key.await.context("cannot make the administrator's key")?;
        let limits = settings.limits;
        let mut tasks = Tasks::new(stop.clone());
        let settings = Settings { listen: address, ..settings };
        let connections = connections(&settings);
        let (objects, addresses) = objects(&settings.objects, &store)?;
        let uploads = Uploads::new(store.clone(), objects.into(), settings.archives);
        let hub_limits = hub::Limits {
            heartbeat_seconds: limits.heartbeat_seconds,
            connections: connections.limits().nodes,
            ..hub::Limits::default()
        };
        let hub = Hub::new(store.clone(), clock.clone(), hub_limits, Some(uploads.clone()));
        let (router, api) = http::router(store.clone(), settings, uploads, clock.clone(), stop, hub.routes());
        // Beside the API, for what holds there does not here: an archive is large, and takes its time.
        let router = router.merge(addresses);
        tasks.spawn("the hub", |stop| hub.clone().run(stop));
        jobs::start(&mut tasks, &store, &api, limits, &clock);
        listener.serve(router, connections, &mut tasks)?;
        tracing::info!(%address, store = ?store.kind(), "the Supervisor listens on {address}");
        Ok(Supervisor { address, administrator_key, hub, tasks, store })
    }

    /// The state it keeps.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns when all has ended: told to stop, or something failed.
    pub async fn run(self) -> anyhow::Result<()> {
        let outcome = self.tasks.run(STOP_GRACE).await;
        self.store.close().await;
        outcome
    }
}

/// As many as the settings say and the descriptors of this process allow.
fn connections(settings: &Settings) -> Connections {
    let descriptors = connections::raise_descriptors();
    let wanted = connections::Limits {
        callers: settings.limits.connections as usize,
        per_address: settings.limits.connections_per_address as usize,
        nodes: hub::Limits::default().connections,
    };
    let limits = wanted.within(descriptors);
    if limits != wanted {
        let connections::Limits { callers, nodes, .. } = limits;
        tracing::warn!(
            descriptors,
            "this process may have {descriptors} files open, which is room for {nodes} nodes and {callers} other \
             connections; raise LimitNOFILE= of its unit for more"
        );
    }
    Connections::new(limits, settings.trusted_proxies.clone())
}

/// The object store, and where its own addresses are served.
fn objects(settings: &ObjectStore, store: &Store) -> anyhow::Result<(Objects, Router)> {
    match settings {
        ObjectStore::Folder(folder) => {
            let local = Local::open(folder)?;
            let store = store.clone();
            let wanted = move |key| {
                let store = store.clone();
                let wanted = async move { snapshots::awaits(&store, key).await };
                wanted
                    .map(|wanted| wanted.inspect_err(|error| tracing::warn!(%error, "the store fails")).ok())
                    .boxed()
            };
            let addresses = object_store::local::routes(local.clone(), Arc::new(wanted));
            Ok((Objects::Local(local), addresses))
        }
        ObjectStore::S3(settings) => Ok((Objects::S3(Box::new(s3(settings)?)), Router::new())),
    }
}

/// A client of the object store.
fn s3(settings: &S3Settings) -> anyhow::Result<S3> {
    let plain = settings.endpoint.starts_with("http://");
    let trust = if plain { Trust::Nobody } else { Trust::Host };
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured(tls::configuration(trust, None)?)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context("cannot set up the client of the object store")?;
    S3::new(settings, http)
}

/// Makes a key that may do everything: once in the life of a store, or because it was asked for.
async fn administrator_key(store: &Store, now: i64, anyway: bool) -> anyhow::Result<Option<Secret>> {
    let mut change = store.change().await?;
    if !keys::first_time(&mut change, "administrator_key").await? && !anyway {
        return Ok(None);
    }
    let (_, secret) = administrator::make_key(&mut change, now).await?;
    change.commit().await?;
    Ok(Some(secret))
}
