//! A throw-away PostgreSQL: made by initdb, on a socket of its own, gone with the last test that uses it.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak, mpsc};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};

/// A running server. Tests that run at the same time share one, each with a database of its own.
pub struct Postgres {
    server: Child,
    folder: tempfile::TempDir,
    databases: AtomicU32,
}

impl Postgres {
    pub fn start() -> Arc<Postgres> {
        static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let started = Arc::new(Postgres::started());
            *shared = Arc::downgrade(&started);
            started
        })
    }

    /// The URL of a new, empty database.
    pub fn database(&self) -> String {
        let name = format!("t{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let output = self.psql("postgres", &format!("CREATE DATABASE {name}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        format!("postgres:///{name}?host={}&user=postgres", self.folder.path().display())
    }

    /// All that a database holds, as SQL.
    pub fn dump(&self, url: &str) -> String {
        let output = Command::new(program("pg_dump"))
            .args(["-U", "postgres", "-h"])
            .arg(self.folder.path())
            .arg(database(url))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Ends every connection to a database, as a restart of the server would.
    pub fn cut(&self, url: &str) {
        let name = database(url);
        let sql = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        assert!(self.psql("postgres", &sql).status.success());
    }

    /// Has a database refuse writes, as a standby does.
    pub fn read_only(&self, url: &str) {
        let sql = format!("ALTER DATABASE {} SET default_transaction_read_only = on", database(url));
        assert!(self.psql("postgres", &sql).status.success());
    }

    fn psql(&self, database: &str, sql: &str) -> std::process::Output {
        Command::new(program("psql"))
            .args(["-qX", "-U", "postgres", "-h"])
            .arg(self.folder.path())
            .args(["-d", database, "-c", sql])
            .output()
            .unwrap()
    }

    fn started() -> Postgres {
        let folder = tempfile::Builder::new().prefix("warden-pg-").tempdir_in("/tmp").unwrap();
        if geteuid().is_root() {
            let user = User::from_name("postgres").unwrap().expect("the package postgresql makes this user");
            chown(folder.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
        }
        let data = folder.path().join("data");
        let made = unprivileged("initdb")
            .args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "-D"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let postgres = Postgres { server: serve(folder.path(), &data), folder, databases: AtomicU32::new(0) };
        super::until("PostgreSQL answers", || {
            postgres.psql("postgres", "SELECT 1").status.success().then_some(())
        });
        postgres
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.server.id()).unwrap());
        // SIGQUIT: at once, nothing of it is needed again.
        let _ = kill(pid, Signal::SIGQUIT);
        let _ = self.server.wait();
    }
}

/// Starts the server so that it dies with this process. The kernel watches the thread that started it, so that
/// thread stays.
fn serve(socket: &Path, data: &Path) -> Child {
    let mut command = unprivileged("postgres");
    command.arg("-D").arg(data).arg("-k").arg(socket);
    for setting in ["listen_addresses=", "fsync=off", "max_connections=400", "shared_buffers=16MB"] {
        command.args(["-c", setting]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        sender.send(command.spawn().unwrap()).unwrap();
        loop {
            std::thread::park();
        }
    });
    receiver.recv().unwrap()
}

fn database(url: &str) -> &str {
    url.trim_start_matches("postgres:///").split('?').next().unwrap()
}

/// PostgreSQL refuses to run as root.
fn unprivileged(name: &str) -> Command {
    let mut command = Command::new("setpriv");
    if geteuid().is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command.args(["--pdeathsig=QUIT", "--"]).arg(program(name)).current_dir("/").env("LC_ALL", "C");
    command
}

/// Debian keeps them by version, out of the way.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        versions.map(|version| version.path().join("bin").join(name)).filter(|path| path.exists()).collect();
    found.sort();
    found.pop().unwrap_or_else(|| PathBuf::from(name))
}
