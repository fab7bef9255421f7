//! The Supervisor from outside, each test on SQLite and on PostgreSQL.

mod snapshots;
mod store;

use std::path::PathBuf;
use std::sync::Arc;

use warden::secret::Secret;
use warden::supervisor::settings::Database;

use crate::support::postgres::Postgres;

/// A place for the state of a Supervisor, empty at first.
pub enum Backend {
    Sqlite(tempfile::TempDir),
    Postgres { server: Arc<Postgres>, url: String },
}

impl Backend {
    fn sqlite() -> Backend {
        Backend::Sqlite(tempfile::tempdir().unwrap())
    }

    fn postgres() -> Backend {
        let server = Postgres::start();
        let url = server.database();
        Backend::Postgres { server, url }
    }

    pub fn database(&self) -> Database {
        match self {
            Backend::Sqlite(folder) => Database::Sqlite { directory: PathBuf::from(folder.path()) },
            Backend::Postgres { url, .. } => Database::Postgres { url: Secret::new(url.clone()) },
        }
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
use on_both_stores;
