//! The host this process runs on.

mod command;
mod files;
pub mod journal;
mod kernel_log;
pub mod named;
mod network;
mod public_key;
mod secret;
mod tls;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use named::Access;
pub use secret::Secret;
use warden_config as config;
use warden_host::{
    Answer, Cause, Clock, Data, Failure, FileText, Request, Sample, Samples, Settings, Source, Uname,
};
use warden_platform::syscalls;
use warden_systemd as systemd;

pub struct Live {
    settings: Settings,
    iggy_token: Option<Secret>,
    /// Drives D-Bus and HTTP; everything else blocks the thread that asked.
    runtime: tokio::runtime::Runtime,
    manager: tokio::sync::OnceCell<Result<systemd::Manager, Cause>>,
    /// The first of two samples, by pattern, and when it was taken.
    first_samples: Mutex<HashMap<String, (Instant, files::Matching)>>,
}

impl Live {
    /// `iggy_token` opens Iggy's statistics; no check ever sees it.
    pub fn new(settings: Settings, iggy_token: Option<Secret>) -> anyhow::Result<Live> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("snapshot-io")
            .enable_all()
            .build()
            .context("cannot start the I/O thread")?;
        Ok(Live {
            settings,
            iggy_token,
            runtime,
            manager: tokio::sync::OnceCell::new(),
            first_samples: Mutex::default(),
        })
    }

    /// Takes the first sample of each pattern: the one pause of the run begins now.
    pub fn begin_samples<'a>(&self, patterns: impl Iterator<Item = &'a str>) {
        for pattern in patterns {
            let files = files::read_matching(pattern);
            let mut samples = self.first_samples.lock().unwrap_or_else(PoisonError::into_inner);
            samples.insert(pattern.to_owned(), (Instant::now(), files));
        }
    }

    fn read(&self, request: &Request, deadline: Instant) -> Result<Data, Cause> {
        if let Access::Of(view, path) = named::access(request, &self.settings)? {
            return named::answer(&view, &path, request);
        }
        match request {
            Request::OnBehalf { rights, request } => {
                let (view, path) = named::view(rights, request.path().unwrap_or_default())?;
                named::answer(&view, &path, request)
            }
            Request::File { path } => files::read(path).map(Data::Text),
            Request::Files { pattern } => {
                let files::Matching { files, left_out, unread } = files::read_matching(pattern);
                Ok(Data::Files { files, left_out, unread })
            }
            Request::Sample { pattern } => Ok(Data::Samples(self.second_sample(pattern))),
            Request::Tail { path } => files::tail(path).map(Data::Text),
            Request::List { path } => files::list(path),
            Request::Link { path } => files::link(path),
            Request::Stat { path } => files::stat(path).map(Data::Stat),
            Request::Space { path } => files::space(path).map(Data::Space),
            Request::Uname => uname().map(Data::Uname),
            Request::Clock => clock().map(Data::Clock),
            Request::Settings => Ok(Data::Settings(self.settings.clone())),
            Request::Command { name, argument } => {
                command::run(name, argument.as_deref(), deadline).map(Data::Output)
            }
            Request::UnitList => self.units(deadline),
            Request::Unit { name } => self.unit(name, deadline),
            Request::Journal { unit } => {
                journal::read(journal::Of::Unit(unit), self.settings.since_seconds, deadline).map(Data::Log)
            }
            Request::KernelLog => {
                kernel_log::read(&clock()?, self.settings.since_seconds, deadline).map(Data::Log)
            }
            Request::Http { url } => self
                .runtime
                .block_on(network::get(url, self.settings.supervisor_url.as_deref(), remaining(deadline)))
                .map(Data::Http),
            Request::IggyApi { url } => match &self.iggy_token {
                None => Err(Cause::Unavailable("no access token was given".to_owned())),
                Some(token) => self
                    .runtime
                    .block_on(network::iggy_api(
                        url,
                        token.expose(),
                        left(deadline).min(config::IGGY_API_LIMIT),
                    ))
                    .map(Data::Http),
            },
            Request::Tls { address, name } => {
                tls::handshake(address, name, remaining(deadline)).map(Data::Tls)
            }
            Request::Resolve { name } => network::resolve(name),
            Request::Connect { address } => network::connect(address, remaining(deadline)),
            Request::PublicKey { path } => public_key::public_half(path),
        }
    }

    fn second_sample(&self, pattern: &str) -> Samples {
        let taken = self.first_samples.lock().unwrap_or_else(PoisonError::into_inner).remove(pattern);
        let (at, first) = taken.unwrap_or_else(|| (Instant::now(), files::read_matching(pattern)));
        std::thread::sleep(config::SAMPLE_PAUSE.saturating_sub(at.elapsed()));
        let elapsed = at.elapsed();
        let second = files::read_matching(pattern);
        let left_out = first.missing().max(second.missing());
        Samples { elapsed_us: elapsed.as_micros() as u64, files: pair(first.files, second.files), left_out }
    }

    fn units(&self, deadline: Instant) -> Result<Data, Cause> {
        let units = self.bus(deadline, |manager| async move { manager.list_units().await })?;
        Ok(Data::Units { units })
    }

    fn unit(&self, name: &str, deadline: Instant) -> Result<Data, Cause> {
        let name = name.to_owned();
        let unit = self.bus(deadline, |manager| async move { manager.unit(&name).await })?;
        Ok(Data::Unit(unit))
    }

    fn bus<'a, T, F>(
        &'a self,
        deadline: Instant,
        call: impl FnOnce(&'a systemd::Manager) -> F,
    ) -> Result<T, Cause>
    where
        F: Future<Output = Result<T, systemd::Error>>,
    {
        let limit = remaining(deadline).min(config::DBUS_LIMIT);
        self.runtime.block_on(async {
            let work = async {
                let manager = self.manager.get_or_init(connect).await.as_ref().map_err(Clone::clone)?;
                call(manager).await.map_err(cause_of)
            };
            tokio::time::timeout(limit, work).await.unwrap_or(Err(Cause::TimedOut))
        })
    }
}

async fn connect() -> Result<systemd::Manager, Cause> {
    systemd::Manager::connect().await.map_err(cause_of)
}

fn cause_of(error: systemd::Error) -> Cause {
    match error {
        systemd::Error::Unavailable(reason) => Cause::Unavailable(reason),
        systemd::Error::Denied => Cause::Denied,
        systemd::Error::Timeout(_) => Cause::TimedOut,
        systemd::Error::NoSuchUnit(detail) | systemd::Error::Call(detail) => Cause::Other(detail),
    }
}

impl Source for Live {
    fn answer(&self, request: &Request, deadline: Instant) -> Arc<Answer> {
        Arc::new(self.read(request, deadline).map_err(|cause| Failure { what: what(request, &cause), cause }))
    }
}

/// A person who may read everything wonders at a refusal: whose rights it was read with tells.
fn what(request: &Request, cause: &Cause) -> String {
    match (request, cause) {
        (Request::OnBehalf { rights, .. }, Cause::Denied | Cause::Other(_)) => {
            format!("{request}, read with the rights of {rights}")
        }
        _ => request.to_string(),
    }
}

fn remaining(deadline: Instant) -> Duration {
    left(deadline).min(config::NETWORK_LIMIT)
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// Both sides are sorted by path.
fn pair(first: Vec<FileText>, second: Vec<FileText>) -> Vec<Sample> {
    let mut by_path: std::collections::BTreeMap<String, Sample> = first
        .into_iter()
        .map(|file| (file.path.clone(), Sample { path: file.path, first: Some(file.text), second: None }))
        .collect();
    for file in second {
        let sample = by_path.entry(file.path).or_insert_with_key(|path| Sample {
            path: path.clone(),
            first: None,
            second: None,
        });
        sample.second = Some(file.text);
    }
    by_path.into_values().collect()
}

fn uname() -> Result<Uname, Cause> {
    let name = nix::sys::utsname::uname().map_err(|error| Cause::Other(error.to_string()))?;
    let text = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
    Ok(Uname {
        system: text(name.sysname()),
        node: text(name.nodename()),
        release: text(name.release()),
        version: text(name.version()),
        machine: text(name.machine()),
    })
}

/// The time now; public so that a run can be named before its first check.
pub fn clock() -> Result<Clock, Cause> {
    let up = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)
        .map_err(|error| Cause::Other(format!("clock_gettime: {error}")))?;
    let unix_us = jiff::Timestamp::now().as_microsecond();
    let up_us = up.tv_sec() * 1_000_000 + up.tv_nsec() / 1_000;
    Ok(Clock { unix_us, up_us, kernel: syscalls::clock() })
}

/// Effective capabilities of this process, by name; those this build does not know as `CAP_` and their number.
pub fn capabilities() -> Vec<String> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bits = warden_host::proc::field(&status, "CapEff").and_then(|hex| u64::from_str_radix(hex, 16).ok());
    let bits = bits.unwrap_or_default();
    (0..64).filter(|bit| bits >> bit & 1 == 1).map(capability_name).collect()
}

/// linux/capability.h: those that decide what Warden can see.
fn capability_name(bit: u32) -> String {
    match bit {
        1 => "CAP_DAC_OVERRIDE".to_owned(),
        2 => "CAP_DAC_READ_SEARCH".to_owned(),
        12 => "CAP_NET_ADMIN".to_owned(),
        19 => "CAP_SYS_PTRACE".to_owned(),
        21 => "CAP_SYS_ADMIN".to_owned(),
        34 => "CAP_SYSLOG".to_owned(),
        other => format!("CAP_{other}"),
    }
}
