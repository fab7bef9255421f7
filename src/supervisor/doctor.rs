//! The Supervisor's part of `warden doctor`: what keeps it from being one, looked for thing by thing; nothing changes.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::User;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tokio::time::timeout;
use warden_config::fragments::Fragments;
use warden_host::quantity::bytes;
use warden_platform::doctor::{Finding, check_sqlite, fail, is_denied, pass, unknown, warn};
use warden_platform::tls::accepting_any_certificate;
use warden_systemd::{Bus, UnitFacts};

use super::certificate::{self, Complaint, USER};
use super::object_store::Objects;
use super::settings::{Database, ObjectStore, Overrides, Settings};
use super::store::FILE;

pub const UNIT: &str = "warden-supervisor.service";
/// One question to a database, an object store or the running Supervisor.
const PATIENCE: Duration = Duration::from_secs(10);
/// Below this SQLite cannot keep what it is told; archives leave 256 MiB free by themselves.
const LEAST_ROOM: u64 = 256 << 20;
/// Room for an archive of the usual size from a few nodes.
const GOOD_ROOM: u64 = 5 << 30;
/// Bytes of an answer that are read.
const ANSWER_LIMIT: usize = 64 << 10;

const LOOK: &str = "journalctl --unit warden-supervisor --lines 50";

/// Nothing where this host has no Supervisor and is not meant to. `dir`: of `warden up --dir`. `now`: Unix time in
/// seconds.
pub async fn examine(configuration: &Path, dir: Option<&Path>, now: i64) -> Vec<Finding> {
    let home = dir.map(|dir| dir.join("supervisor"));
    let overrides = Overrides { data_directory: home.clone(), ..Overrides::default() };
    let (settings, problems) = Settings::examine(Fragments::read(configuration), overrides);
    let unit = match dir {
        Some(_) => None,
        None => unit().await,
    };
    let runs = unit.as_ref().is_some_and(|unit| unit.active_state == "active");
    let is_up = unit.as_ref().is_some_and(|unit| !matches!(unit.active_state.as_str(), "inactive" | ""));
    let said = Fragments::read(configuration).values(&["supervisor"]);
    let store = match &settings.database {
        Database::Sqlite { directory } => directory.join(FILE).exists(),
        Database::Postgres { .. } => true,
    };
    if !is_up && !store && (home.is_some() || said.is_empty()) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    if let Err(problems) = problems {
        let told = problems.to_string();
        let denied = told.lines().skip(1).all(|line| line.contains("Permission denied"));
        if denied && !nix::unistd::geteuid().is_root() {
            findings.push(unknown("supervisor", told));
            return findings;
        }
        let advice = "mend the files, and look again: warden supervisor --check-config";
        findings.push(fail("supervisor", told, advice));
    } else {
        findings.extend(unit.as_ref().map(|unit| of_unit(unit, &settings, !said.is_empty())));
    }
    findings.push(of_certificate(&settings, now));
    findings.push(of_database(&settings.database, runs, dir.is_some()).await);
    findings.push(of_objects(&settings.objects).await);
    findings.push(of_room(&settings));
    if runs {
        findings.push(of_answer(&settings).await);
    }
    findings
}

async fn unit() -> Option<UnitFacts> {
    let facts = Bus::system().manager().await.ok()?.facts(UNIT).await.ok()?;
    (facts.load_state != "not-found").then_some(facts)
}

/// `meant`: the configuration says something of a Supervisor, so this host is to have one.
fn of_unit(unit: &UnitFacts, settings: &Settings, meant: bool) -> Finding {
    let told = format!("{UNIT} is {}, to listen on {}", unit.active_state, settings.listen);
    match unit.active_state.as_str() {
        "active" => pass("supervisor", told),
        "inactive" if !meant => {
            let told = format!("{UNIT} is inactive, and this host has the state of one");
            warn("supervisor", told, "systemctl enable --now warden-supervisor, or remove its data directory")
        }
        "activating" | "deactivating" | "reloading" => warn("supervisor", told, LOOK),
        _ => {
            fail("supervisor", told, format!("systemctl enable --now warden-supervisor; if it ends: {LOOK}"))
        }
    }
}

pub fn of_certificate(settings: &Settings, now: i64) -> Finding {
    let Some(tls) = &settings.tls else {
        return match settings.exposure() {
            Some(exposure) => fail("certificate", exposure, "warden supervisor init-tls NAME..."),
            None if settings.plain_beyond_loopback => warn(
                "certificate",
                "none: whoever is on the way can read keys and credentials",
                "warden supervisor init-tls NAME...",
            ),
            None => pass("certificate", "none, and none is needed on one host"),
        };
    };
    if let Err(error) = std::fs::File::open(&tls.key)
        && error.kind() == ErrorKind::PermissionDenied
    {
        return unknown("certificate", format!("{} is for root and {USER}", tls.key.display()));
    }
    let judgement = certificate::judge(tls, settings.public_url.as_deref(), now);
    let Some(worst) = judgement.complaints.iter().find(|one| one.fails).or(judgement.complaints.first())
    else {
        return pass("certificate", judgement.told);
    };
    let told: Vec<&str> = judgement.complaints.iter().map(|Complaint { what, .. }| what.as_str()).collect();
    match worst.fails {
        true => fail("certificate", told.join("\n"), worst.advice),
        false => warn("certificate", told.join("\n"), worst.advice),
    }
}

async fn of_database(database: &Database, runs: bool, by_hand: bool) -> Finding {
    let looked = match database {
        Database::Sqlite { directory } => of_sqlite(directory, runs, by_hand).await,
        Database::Postgres { url } => match timeout(PATIENCE, of_postgres(url.expose())).await {
            Ok(looked) => looked,
            Err(_) => Err(anyhow::anyhow!("PostgreSQL does not answer within {} s", PATIENCE.as_secs())),
        },
    };
    match looked {
        Ok(told) => pass("database", told),
        Err(error) if is_denied(&error) => unknown("database", format!("{error:#}")),
        Err(error) => {
            let advice = match database {
                Database::Sqlite { .. } => {
                    "the Supervisor's user must own it, on a filesystem that is writable; restore a copy if it is damaged"
                }
                Database::Postgres { .. } => {
                    "is the URL right, is PostgreSQL up and no standby, and does its user own the tables?"
                }
            };
            fail("database", format!("{error:#}"), advice)
        }
    }
}

async fn of_sqlite(directory: &Path, runs: bool, by_hand: bool) -> anyhow::Result<String> {
    let shown = directory.display();
    let Some(about) = about(directory)? else {
        return Ok(format!("{shown} is made at the first start"));
    };
    if !by_hand && let Some(user) = User::from_name(USER).ok().flatten() {
        let whose = about.uid();
        ensure!(whose == user.uid.as_raw(), "{shown} belongs to user {whose}, not to {USER}");
    }
    let flags = statvfs(directory).with_context(|| format!("cannot look at {shown}"))?.flags();
    ensure!(!flags.contains(FsFlags::ST_RDONLY), "{shown} is on a filesystem that is mounted read-only");
    let file = directory.join(FILE);
    let mut size = 0;
    for ending in ["", "-wal", "-shm"] {
        let path = PathBuf::from(format!("{}{ending}", file.display()));
        let Some(one) = self::about(&path)? else { continue };
        ensure!(
            one.uid() == about.uid(),
            "{} belongs to user {} and its folder to user {}: the Supervisor was run as another user",
            path.display(),
            one.uid(),
            about.uid()
        );
        size += if ending == "-shm" { 0 } else { one.len() };
    }
    if self::about(&file)?.is_none() {
        return Ok(format!("{shown} has none yet: it is made at the first start"));
    }
    if runs {
        return Ok(format!("SQLite, {}, in use", bytes(size)));
    }
    let wal = PathBuf::from(format!("{}-wal", file.display()));
    if self::about(&wal)?.is_some_and(|about| about.len() > 0) {
        return Ok(format!("SQLite, {}, not closed; taken up at the next start", bytes(size)));
    }
    check_sqlite(&file).await?;
    Ok(format!("SQLite, {}, whole", bytes(size)))
}

fn about(path: &Path) -> anyhow::Result<Option<std::fs::Metadata>> {
    match std::fs::symlink_metadata(path) {
        Ok(about) => Ok(Some(about)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot look at {}", path.display())),
    }
}

/// A row is written as it is, and the change given up: a server that only reads refuses that.
async fn of_postgres(url: &str) -> anyhow::Result<String> {
    // The error could repeat the address with its password.
    let Ok(options) = url.parse::<PgConnectOptions>() else { bail!("the address of the database is no URL") };
    let mut connection = options.disable_statement_logging().connect().await.context("cannot connect")?;
    let tables: Option<String> =
        sqlx::query_scalar("SELECT to_regclass('counters')::text").fetch_one(&mut connection).await?;
    let Some(_) = tables else {
        let may: bool = sqlx::query_scalar("SELECT has_schema_privilege(current_schema(), 'CREATE')")
            .fetch_one(&mut connection)
            .await?;
        ensure!(may, "its user may not make tables in the schema that it is shown");
        return Ok("PostgreSQL answers; its tables are made at the first start".to_owned());
    };
    let mut change = connection.begin().await?;
    sqlx::query("UPDATE counters SET value = value WHERE name = 'starts'")
        .execute(&mut *change)
        .await
        .context("it takes no writes")?;
    change.rollback().await?;
    Ok("PostgreSQL answers and takes writes".to_owned())
}

async fn of_objects(objects: &ObjectStore) -> Finding {
    match objects {
        ObjectStore::Folder(folder) => of_folder(folder),
        ObjectStore::S3(settings) => {
            let place = format!("bucket {} at {}", settings.bucket, settings.endpoint);
            let advice =
                "look at endpoint, bucket, region, key and clock: supervisor.s3 in /etc/warden/warden.toml";
            let asked = async {
                let objects = Objects::S3(Box::new(super::s3(settings)?));
                objects.ready().await.map_err(anyhow::Error::from)
            };
            match timeout(PATIENCE, asked).await {
                Ok(Ok(())) => pass("object store", format!("{place} answers")),
                Ok(Err(error)) => fail("object store", format!("{place}: {error:#}"), advice),
                Err(_) => {
                    let told = format!("{place} does not answer within {} s", PATIENCE.as_secs());
                    fail("object store", told, "look for a firewall on the way")
                }
            }
        }
    }
}

fn of_folder(folder: &Path) -> Finding {
    let shown = folder.display();
    match about(folder) {
        Ok(None) => pass("object store", format!("{shown} is made at the first start")),
        Ok(Some(about)) if !about.is_dir() => fail(
            "object store",
            format!("{shown} is no folder"),
            "name a folder as supervisor.objects_directory",
        ),
        Ok(Some(_)) => match statvfs(folder) {
            Ok(stats) if stats.flags().contains(FsFlags::ST_RDONLY) => fail(
                "object store",
                format!("{shown} is on a filesystem that is mounted read-only"),
                format!("findmnt --target {shown}"),
            ),
            Ok(_) => pass("object store", format!("the folder {shown}")),
            Err(error) => {
                fail("object store", format!("{shown}: {error}"), format!("findmnt --target {shown}"))
            }
        },
        Err(error) if is_denied(&error) => unknown("object store", format!("{error:#}")),
        Err(error) => fail("object store", format!("{error:#}"), format!("findmnt --target {shown}")),
    }
}

fn of_room(settings: &Settings) -> Finding {
    let home = match &settings.database {
        Database::Sqlite { directory } => Some(directory),
        Database::Postgres { .. } => None,
    };
    let folder = match &settings.objects {
        ObjectStore::Folder(folder) => Some(folder),
        ObjectStore::S3(_) => None,
    };
    let mut least: Option<(u64, String)> = None;
    for path in [home, folder].into_iter().flatten() {
        let there = path.ancestors().find(|path| path.exists()).unwrap_or(path);
        let stats = match statvfs(there) {
            Ok(stats) => stats,
            Err(error) => return fail("room", format!("{}: {error}", there.display()), "df -h"),
        };
        let free = stats.blocks_available().saturating_mul(stats.fragment_size());
        if least.as_ref().is_none_or(|(known, _)| free < *known) {
            least = Some((free, format!("{} free at {}", bytes(free), there.display())));
        }
    }
    match least {
        None => pass("room", "nothing is kept on this host"),
        Some((free, told)) => judge_room(free, told),
    }
}

fn judge_room(free: u64, told: String) -> Finding {
    let advice = "make room, or name another place: supervisor.data_directory, supervisor.objects_directory";
    match free {
        free if free < LEAST_ROOM => fail("room", told, advice),
        free if free < GOOD_ROOM => warn("room", told, advice),
        _ => pass("room", told),
    }
}

/// What the running Supervisor says of itself, whosever certificate it shows.
async fn of_answer(settings: &Settings) -> Finding {
    let ip = match settings.listen.ip() {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address @ (IpAddr::V4(_) | IpAddr::V6(_)) => address,
    };
    let address = SocketAddr::new(ip, settings.listen.port());
    if settings.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()) {
        let told = "it asks every caller for a certificate, and was not asked whether it is ready";
        let advice = "curl --cert CERTIFICATE --key KEY https://NAME:PORT/ready".to_owned();
        return Finding { advice: Some(advice), ..unknown("ready", told) };
    }
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{address}/ready");
    match timeout(PATIENCE, ask(&url)).await {
        Ok(Ok((200, _))) => pass("ready", format!("{address} says that store and object store answer")),
        Ok(Ok((status, said))) => fail("ready", format!("{address} answers {status}: {said}"), LOOK),
        Ok(Err(error)) => {
            let told = format!("{address} does not answer as it is configured: {error:#}");
            fail("ready", told, "if the configuration was changed: systemctl restart warden-supervisor")
        }
        Err(_) => fail("ready", format!("{address} does not answer within {} s", PATIENCE.as_secs()), LOOK),
    }
}

async fn ask(url: &str) -> anyhow::Result<(u16, String)> {
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured(accepting_any_certificate())
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()?;
    let mut answer = http.get(url).send().await.map_err(reqwest::Error::without_url)?;
    let status = answer.status().as_u16();
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
        ensure!(body.len() + chunk.len() <= ANSWER_LIMIT, "it answers with more than {ANSWER_LIMIT} bytes");
        body.extend_from_slice(&chunk);
    }
    let said: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    Ok((status, said["reason"].as_str().unwrap_or("no reason given").to_owned()))
}
