//! The Supervisor from outside, each test on SQLite and on PostgreSQL.

mod activities;
mod administration;
mod configuration;
mod conventions;
mod deployments;
mod document;
mod figures;
mod full_disk;
mod idempotency;
mod identity;
mod init_tls;
mod listen;
mod replicas;
pub mod served;
mod silent;
pub mod snapshots;
mod store;
mod streams;
mod upkeep;

use std::path::PathBuf;
use std::sync::Arc;

use warden::secret::Secret;
use warden::supervisor::settings::{Database, ObjectStore};

use crate::support::postgres::Postgres;

/// A place for the state of a Supervisor, empty at first.
pub enum Backend {
    Sqlite(tempfile::TempDir),
    Postgres { server: Arc<Postgres>, url: String, folder: tempfile::TempDir },
}

impl Backend {
    pub fn sqlite() -> Backend {
        Backend::Sqlite(tempfile::tempdir().unwrap())
    }

    pub fn postgres() -> Backend {
        let server = Postgres::start();
        let url = server.database();
        Backend::Postgres { server, url, folder: tempfile::tempdir().unwrap() }
    }

    /// The same place, for another Supervisor; SQLite has room for one alone.
    pub fn again(&self) -> Backend {
        match self {
            Backend::Sqlite(_) => panic!("one SQLite is of one Supervisor"),
            Backend::Postgres { server, url, .. } => Backend::Postgres {
                server: server.clone(),
                url: url.clone(),
                folder: tempfile::tempdir().unwrap(),
            },
        }
    }

    pub fn database(&self) -> Database {
        match self {
            Backend::Sqlite(folder) => Database::Sqlite { directory: PathBuf::from(folder.path()) },
            Backend::Postgres { url, .. } => Database::Postgres { url: Secret::new(url.clone()) },
        }
    }

    /// Where archives lie.
    pub fn objects(&self) -> ObjectStore {
        let (Backend::Sqlite(folder) | Backend::Postgres { folder, .. }) = self;
        ObjectStore::Folder(folder.path().join("objects"))
    }

    /// All that is kept, as text.
    pub fn everything(&self) -> String {
        match self {
            Backend::Sqlite(folder) => std::fs::read_dir(folder.path())
                .unwrap()
                .filter_map(|entry| std::fs::read(entry.unwrap().path()).ok())
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .collect(),
            Backend::Postgres { server, url, .. } => server.dump(url),
        }
    }
}

/// Asks until it is so.
pub async fn until(mut ask: impl AsyncFnMut() -> bool) {
    let began = std::time::Instant::now();
    while !ask().await {
        assert!(began.elapsed().as_secs() < 60, "waited a minute in vain");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Runs the named tests once on each store.
macro_rules! on_both_stores {
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::supervisor::Backend::sqlite()).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::supervisor::Backend::postgres()).await;
            })*
        }
    };
}
pub(crate) use on_both_stores;
