//! `warden supervisor`: the control plane.

mod check;
mod init_tls;

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::Subcommand;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::reload::{OF_SUPERVISOR, Reload};
use super::{backup, logging};
use crate::config::fragments::{self, Fragments};
use crate::secret::Secret;
use crate::supervisor::settings::{Overrides, Settings};
use crate::supervisor::{Clock, Supervisor};
use crate::systemd::notify;

/// Run the Supervisor, back it up, restore it
///
/// It serves the HTTP API, and the nodes' link to it.
///
/// Keeps its state in SQLite, in its data directory, without any set-up. With a database URL it keeps it in
/// PostgreSQL, and any number of Supervisors may share that.
///
/// At the first start on a store it makes an administrator's key and prints it on standard output, once. API
/// documentation is served at /docs and /openapi.json.
///
/// What is not said here is read from warden.toml and warden.d/*.toml, section [supervisor].
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Environment: WARDEN_DATABASE_URL is the URL of PostgreSQL, such as postgres://warden@db/warden; it may hold a \
password, and is therefore no option. WARDEN_LOG sets what is logged (info; debug, warn, ...).

Without TLS it listens only on this host's own addresses (127.0.0.0/8, ::1).

Signals: SIGTERM and SIGINT end what is under way and stop it. SIGHUP (systemctl reload warden-supervisor) reads \
certificate and key anew, which it also does by itself within a minute of their being written, and the configuration: \
supervisor.log is taken up, and the log names what was changed and needs a restart.

Exit status: 0 when it was told to stop (SIGTERM, SIGINT), 2 when it could not run; with --check-config 0 when nothing \
is wrong, 1 when something is."
)]
pub struct Command {
    #[command(subcommand)]
    verb: Option<Verb>,

    #[command(flatten)]
    arguments: Arguments,
}

#[derive(Debug, Subcommand)]
enum Verb {
    InitTls(init_tls::Arguments),
    Backup(backup::Backup),
    Restore(backup::Restore),
    RotateAdminKey(backup::Rotate),
}

/// What a Supervisor is started with.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Arguments {
    /// The folder of warden.toml
    #[arg(long, value_name = "FOLDER", default_value = fragments::FOLDER)]
    pub config: PathBuf,

    /// Address and port to listen on [default: 127.0.0.1:7600]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,

    /// How nodes and people reach it [default: as each caller did]
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,

    /// Where SQLite and local objects are [default: /var/lib/warden-supervisor]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// A file with the URL of PostgreSQL, in place of WARDEN_DATABASE_URL
    #[arg(long, value_name = "FILE")]
    database_url_file: Option<PathBuf>,

    /// The certificate and those above it, PEM; taken up anew when it is renewed
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Listen on other addresses than this host's own without TLS: whoever is on the way can read keys
    #[arg(long)]
    insecure_plain_http: bool,

    /// Make another administrator's key, when the others are lost or expired
    #[arg(long)]
    new_administrator_key: bool,

    /// Look at the configuration and the files it names, tell everything that is wrong, and end
    #[arg(long)]
    check_config: bool,

    /// Write the administrator's key to this new file, readable by you alone, instead of printing it
    #[arg(long, value_name = "FILE")]
    administrator_key_file: Option<PathBuf>,
}

const DATABASE_URL: &str = "WARDEN_DATABASE_URL";

pub fn run(command: &Command) -> anyhow::Result<u8> {
    match &command.verb {
        None if command.arguments.check_config => check::run(&command.arguments),
        None => serve(&command.arguments),
        Some(Verb::InitTls(arguments)) => init_tls::run(arguments),
        Some(Verb::Backup(arguments)) => backup::write(arguments),
        Some(Verb::Restore(arguments)) => backup::restore(arguments),
        Some(Verb::RotateAdminKey(arguments)) => backup::rotate(arguments),
    }
}

fn serve(arguments: &Arguments) -> anyhow::Result<u8> {
    let settings = arguments.settings(None)?;
    logging::start(&settings.log);
    logging::tell_unread(&arguments.config);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = told_to_stop();
        let reload = Reload::new(&arguments.config, OF_SUPERVISOR)?;
        let supervisor = arguments.start(settings, clock(), stop.clone()).await?;
        let again = arguments.clone();
        tokio::spawn(reload.run(move || Ok(again.settings(None)?.log), stop));
        notify::ready(&format!("listens on {}", supervisor.address));
        supervisor.run().await?;
        Ok(0)
    })
}

/// A token that SIGTERM and SIGINT cancel.
pub fn told_to_stop() -> CancellationToken {
    let stop = CancellationToken::new();
    let mut signals = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    let told = stop.clone();
    tokio::spawn(async move {
        let [Ok(terminate), Ok(interrupt)] = &mut signals else { return };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        notify::stopping();
        told.cancel();
    });
    stop
}

/// The time of this host.
pub fn clock() -> Clock {
    Arc::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

impl Arguments {
    /// What the command line and the configuration say. `home`: where the state is, whatever they say.
    pub fn settings(&self, home: Option<PathBuf>) -> anyhow::Result<Settings> {
        Ok(Settings::read(Fragments::read(&self.config), self.overrides(home)?)?)
    }

    fn overrides(&self, home: Option<PathBuf>) -> anyhow::Result<Overrides> {
        let database_url = database_url(self.database_url_file.as_deref())?;
        Ok(Overrides {
            listen: self.listen,
            public_url: self.public_url.clone(),
            data_directory: home.or_else(|| self.data_dir.clone()),
            database_url,
            tls_certificate: self.tls_cert.clone(),
            tls_key: self.tls_key.clone(),
            plain_beyond_loopback: self.insecure_plain_http,
        })
    }

    /// Starts the Supervisor, and shows the administrator's key if one was made.
    pub async fn start(
        &self,
        settings: Settings,
        clock: Clock,
        stop: CancellationToken,
    ) -> anyhow::Result<Supervisor> {
        let supervisor = Supervisor::start(settings, clock, self.new_administrator_key, stop).await?;
        if let Some(key) = &supervisor.administrator_key {
            show(key, self.administrator_key_file.as_deref())?;
        }
        Ok(supervisor)
    }
}

/// The URL of PostgreSQL, if one was given.
pub fn database_url(file: Option<&Path>) -> anyhow::Result<Option<Secret>> {
    let Some(path) = file else {
        return Ok(std::env::var(DATABASE_URL).ok().filter(|url| !url.is_empty()).map(Secret::new));
    };
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the database URL in {}", path.display()))?;
    Ok(Some(Secret::new(text.trim())))
}

/// Tells the key, the only time there is.
fn show(key: &Secret, file: Option<&Path>) -> anyhow::Result<()> {
    let Some(path) = file else {
        let mut out = std::io::stdout().lock();
        writeln!(out, "administrator key, shown this once: {}", key.expose())?;
        out.flush()?;
        return Ok(());
    };
    use std::os::unix::fs::OpenOptionsExt;
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).with_context(
            || {
                let shown = path.display();
                format!("cannot write {shown}; start again with --new-administrator-key and another file")
            },
        )?;
    writeln!(file, "{}", key.expose())?;
    file.sync_all()?;
    Ok(())
}
