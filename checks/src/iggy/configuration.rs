//! With what a runtime is configured: its environment, what it wrote down at its start, its file, its defaults.

use std::collections::BTreeMap;

use toml::{Table, Value};
use warden_host::{Cause, Failure, Host, IfAny, NamedPaths, PLACEHOLDER, Rights};

use super::{Launch, Runtime, current_configuration, data_directory, launches};
use crate::{Error, Result};

/// A configuration file, and its content or why that cannot be told.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigurationFile {
    pub path: String,
    pub content: Result<Table>,
}

/// All that decides how a runtime is configured. Values that may be secret come masked.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    pub runtime: Runtime,
    /// How it was started, or would be; `None` when only its data directory is left.
    pub launch: Option<Launch>,
    /// What the server wrote below its data directory at its last start.
    pub current: Option<ConfigurationFile>,
    /// What it reads at its next start.
    pub file: Option<ConfigurationFile>,
    /// Where the paths in it are noted with the rights that they are read with.
    named: NamedPaths,
    rights: Rights,
}

/// The configuration of `runtime`; `None` when there is no sign of it on this host.
pub fn configuration(host: &Host, runtime: Runtime) -> Option<Configuration> {
    let launch = launches(host, runtime).into_iter().next();
    let data = match runtime {
        Runtime::Iggy => data_directory(host),
        Runtime::Connectors => None,
    };
    let current = data.as_ref().and_then(|data| read(host, &current_configuration(&data.path)));
    let file = launch.as_ref().and_then(|launch| configuration_file(host, runtime, launch));
    if launch.is_none() && current.is_none() {
        return None;
    }
    // Without a launch all that is known is what the directory holds.
    let of_data = || Rights::Owner { of: data.map(|data| data.path).unwrap_or_default() };
    let rights = launch.as_ref().map_or_else(of_data, |launch| launch.rights.clone());
    Some(Configuration { runtime, launch, current, file, named: host.named(), rights })
}

fn configuration_file(host: &Host, runtime: Runtime, launch: &Launch) -> Option<ConfigurationFile> {
    if let Some(refused) = &launch.refused {
        return Some(ConfigurationFile { path: launch.name.clone(), content: Err(refused.clone().into()) });
    }
    let (variable, default) = match runtime {
        Runtime::Iggy => ("IGGY_CONFIG_PATH", "core/server/config.toml"),
        Runtime::Connectors => ("IGGY_CONNECTORS_CONFIG_PATH", "core/connectors/runtime/config.toml"),
    };
    let reachable = |path: String| launch.seen_from_here(host, &path);
    if let Some(path) = launch.environment.get(variable) {
        if path.contains(PLACEHOLDER) {
            let content = Err(Failure { what: variable.to_owned(), cause: Cause::Masked }.into());
            return Some(ConfigurationFile { path: variable.to_owned(), content });
        }
        let path = reachable(launch.absolute(path)?);
        return Some(read(host, &path).unwrap_or_else(|| missing(&path)));
    }
    // The default is looked up from the working directory and each of its parents.
    let mut directory = launch.directory.clone()?;
    loop {
        let path = format!("{}/{default}", directory.trim_end_matches('/'));
        if let Some(file) = read(host, &reachable(path)) {
            return Some(file);
        }
        match directory.rsplit_once('/') {
            Some((parent, name)) if !name.is_empty() => directory = parent.to_owned(),
            _ => return None,
        }
    }
}

fn read(host: &Host, path: &str) -> Option<ConfigurationFile> {
    // Anybody's process may name any file here; nothing but a TOML file is opened for it.
    if !path.ends_with(".toml") {
        let refused = Error::parse(path, "the name of a configuration file ends in .toml");
        return Some(ConfigurationFile { path: path.to_owned(), content: Err(refused) });
    }
    let text = host.read(path).if_any().transpose()?;
    let parse = |text: String| text.parse::<Table>().map_err(|error| Error::parse(path, error.message()));
    let content = text.and_then(parse);
    if let Ok(table) = &content {
        note_masked_values(host, path, "", table);
    }
    Some(ConfigurationFile { path: path.to_owned(), content })
}

/// Parts of the names of settings that the redactor masks with reason.
const SECRETS: [&str; 8] =
    ["password", "passphrase", "secret", "token", "credential", "encryption", "username", "api_key"];

/// Remembers a setting as unseen when its value is masked and it is none that should be.
pub(super) fn note_masked(host: &Host, what: &str, name: &str, value: &str) {
    let lower = name.to_ascii_lowercase();
    if value.contains(PLACEHOLDER) && !SECRETS.iter().any(|part| lower.contains(part)) {
        host.note_masked(&format!("{name} in {what}"));
    }
}

fn note_masked_values(host: &Host, path: &str, section: &str, table: &Table) {
    for (key, value) in table {
        let name = format!("{section}{key}");
        match value {
            Value::String(text) => note_masked(host, path, &name, text),
            Value::Table(table) => note_masked_values(host, path, &format!("{name}."), table),
            Value::Array(_)
            | Value::Boolean(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Datetime(_) => {}
        }
    }
}

fn missing(path: &str) -> ConfigurationFile {
    let error = Error::parse(path, "the environment names this file, and it does not exist");
    ConfigurationFile { path: path.to_owned(), content: Err(error) }
}

/// The value that names the data directory, and where it is from.
pub(super) fn configured_path(host: &Host, launch: &Launch) -> Option<(String, String)> {
    for variable in variables(Runtime::Iggy, "path") {
        if let Some(value) = launch.environment.get(&variable) {
            return Some((value.clone(), format!("{variable} of {}", launch.name)));
        }
    }
    let file = configuration_file(host, Runtime::Iggy, launch);
    if let Some(ConfigurationFile { path, content: Ok(table) }) = file
        && let Some(Value::String(value)) = find(&table, "path")
    {
        return Some((value.clone(), path));
    }
    let found_by = format!("the default, below the working directory of {}", launch.name);
    Some(("local_data".to_owned(), found_by))
}

/// Where the server wrote into `file`, below its data directory, that this directory is.
pub(super) fn written_path(host: &Host, file: &str) -> Option<String> {
    let table = read(host, file)?.content.ok()?;
    find(&table, "path").and_then(Value::as_str).map(str::to_owned)
}

impl Configuration {
    /// The value in force of a key such as `tcp.tls.enabled`, as text. Keys that were below `[system]` until
    /// 0.8 are named without it.
    pub fn text(&self, key: &str) -> Option<String> {
        let environment = self.environment();
        if let Some(value) = variables(self.runtime, key).iter().find_map(|name| environment?.get(name)) {
            return Some(value.clone());
        }
        let written = [&self.current, &self.file].into_iter().flatten();
        let mut tables = written.filter_map(|file| file.content.as_ref().ok());
        match tables.find_map(|table| find(table, key)) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Boolean(flag)) => Some(flag.to_string()),
            Some(Value::Integer(number)) => Some(number.to_string()),
            Some(Value::Float(number)) => Some(number.to_string()),
            Some(Value::Datetime(_) | Value::Table(_) | Value::Array(_)) => None,
            None => default(self.runtime, key).map(str::to_owned),
        }
    }

    pub fn flag(&self, key: &str) -> bool {
        self.text(key).as_deref() == Some("true")
    }

    /// Why nothing that decides could be read: every value is then a guess at the default.
    pub fn hidden(&self, host: &Host) -> Option<Error> {
        if let Some(refused) = self.launch.as_ref().and_then(|launch| launch.refused.clone()) {
            return Some(refused.into());
        }
        let pid = self.launch.as_ref()?.pid?;
        let mut written = [&self.current, &self.file].into_iter().flatten();
        if written.any(|file| file.content.is_ok()) {
            return None;
        }
        let written = [&self.current, &self.file].into_iter().flatten();
        let mut denied =
            written.filter_map(|file| file.content.as_ref().err()).filter(|error| is_denied(error));
        denied.next().cloned().or_else(|| host.read(&format!("/proc/{pid}/environ")).if_any().err())
    }

    pub fn environment(&self) -> Option<&BTreeMap<String, String>> {
        self.launch.as_ref().map(|launch| &launch.environment)
    }

    /// A path in the configuration, as Warden can reach it.
    pub fn path(&self, key: &str) -> Option<String> {
        self.reachable(&self.text(key).filter(|path| !path.is_empty())?)
    }

    /// A path as the runtime has it, as Warden can reach it. It is read with the rights of the runtime from then on.
    pub fn reachable(&self, path: &str) -> Option<String> {
        let path = match &self.launch {
            Some(launch) => launch.absolute(path)?,
            None => Some(path.to_owned()).filter(|path| path.starts_with('/'))?,
        };
        let path = format!("{}{path}", self.root());
        self.named.add(&path, &self.rights);
        Some(path)
    }

    /// What stands before the paths of a runtime in a container: `/proc/PID/root`.
    fn root(&self) -> &str {
        let mut known = [&self.current, &self.file].into_iter().flatten();
        let of = |file: &'_ ConfigurationFile| file.path.find("/root/").map(|at| at + "/root".len());
        let inside = known.find(|file| file.path.starts_with("/proc/"));
        inside.and_then(|file| file.path.get(..of(file)?)).unwrap_or_default()
    }

    /// Every enabled listener, in the order of the configuration.
    pub fn listeners(&self) -> Vec<Listener> {
        let names: &[&'static str] = match self.runtime {
            Runtime::Iggy => &["tcp", "http", "quic", "websocket"],
            Runtime::Connectors => &["http"],
        };
        names.iter().filter_map(|name| self.listener(name)).collect()
    }

    fn listener(&self, name: &'static str) -> Option<Listener> {
        if !self.flag(&format!("{name}.enabled")) {
            return None;
        }
        let (is_quic, address) = (name == "quic", self.text(&format!("{name}.address"))?);
        let (host, port) = address.rsplit_once(':')?;
        let section = if is_quic { "quic.certificate".to_owned() } else { format!("{name}.tls") };
        let tls = is_quic || self.flag(&format!("{section}.enabled"));
        // HTTP has no self-signed mode; the others make a certificate of their own when told so.
        let from_files = tls && (name == "http" || !self.flag(&format!("{section}.self_signed")));
        let file = |key: &str| from_files.then(|| self.path(&format!("{section}.{key}"))).flatten();
        Some(Listener {
            runtime: self.runtime,
            name,
            port: port.parse().ok()?,
            host: host.trim_matches(['[', ']']).to_owned(),
            udp: is_quic,
            tls,
            certificate: file("cert_file"),
            key: file("key_file"),
        })
    }
}

/// Where a runtime listens, by its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub runtime: Runtime,
    /// The section of the configuration: `tcp`, `http`, `quic` or `websocket`.
    pub name: &'static str,
    /// An address or a name, IPv6 without brackets.
    pub host: String,
    pub port: u16,
    pub udp: bool,
    pub tls: bool,
    /// The PEM files that TLS reads, when it reads any.
    pub certificate: Option<String>,
    pub key: Option<String>,
}

impl Listener {
    pub fn is_wildcard(&self) -> bool {
        matches!(self.host.as_str(), "" | "0.0.0.0" | "::" | "*")
    }

    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host == "::1" || self.host.starts_with("127.")
    }

    /// `host:port` to connect to from this machine.
    pub fn address(&self) -> String {
        match self.host.as_str() {
            "::" => format!("[::1]:{}", self.port),
            _ if self.is_wildcard() => format!("127.0.0.1:{}", self.port),
            host if host.contains(':') => format!("[{host}]:{}", self.port),
            host => format!("{host}:{}", self.port),
        }
    }
}

fn is_denied(error: &Error) -> bool {
    matches!(error, Error::Host(failure) if failure.cause == Cause::Denied)
}

/// Why the configuration of a running runtime could not be read; [`listeners`] are guesses then.
pub fn hidden_configuration(host: &Host) -> Option<Error> {
    Runtime::ALL.into_iter().find_map(|runtime| configuration(host, runtime)?.hidden(host))
}

/// Every listener that a runtime on this host is configured to have; none when there is no Iggy.
pub fn listeners(host: &Host) -> Vec<Listener> {
    Runtime::ALL
        .into_iter()
        .filter_map(|runtime| configuration(host, runtime))
        .flat_map(|configuration| configuration.listeners())
        .collect()
}

/// Tables that stood below `[system]` until 0.8 and stand alone since 0.9.
const MOVED: [&str; 9] = [
    "path",
    "runtime",
    "logging",
    "encryption",
    "partition",
    "sharding",
    "memory_pool",
    "segment",
    "recovery",
];

fn is_moved(key: &str) -> bool {
    MOVED.contains(&key.split('.').next().unwrap_or(key))
}

/// The environment variables that set `key`.
fn variables(runtime: Runtime, key: &str) -> Vec<String> {
    let name = key.replace('.', "_").to_uppercase();
    match runtime {
        Runtime::Connectors => vec![format!("IGGY_CONNECTORS_{name}")],
        Runtime::Iggy if is_moved(key) => vec![format!("IGGY_{name}"), format!("IGGY_SYSTEM_{name}")],
        Runtime::Iggy => vec![format!("IGGY_{name}")],
    }
}

fn find<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    let below = |table: &'a Table| {
        let mut parts = key.split('.');
        let first = table.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    };
    let system = || below(table.get("system").filter(|_| is_moved(key))?.as_table()?);
    below(table).or_else(system)
}

/// What is built into the runtimes (0.8.0 and 0.9.0-edge.5 agree in these).
fn default(runtime: Runtime, key: &str) -> Option<&'static str> {
    const CERTIFICATE: &str = "core/certs/iggy_cert.pem";
    const KEY: &str = "core/certs/iggy_key.pem";
    let value = match (runtime, key) {
        (Runtime::Iggy, "tcp.address") => "127.0.0.1:8090",
        (Runtime::Iggy, "http.address") => "127.0.0.1:3000",
        (Runtime::Iggy, "quic.address") => "127.0.0.1:8080",
        (Runtime::Iggy, "websocket.address") => "127.0.0.1:8092",
        (Runtime::Iggy, "tcp.enabled" | "http.enabled" | "quic.enabled" | "websocket.enabled") => "true",
        (Runtime::Iggy, "tcp.tls.self_signed" | "websocket.tls.self_signed") => "true",
        (Runtime::Iggy, "quic.certificate.self_signed") => "true",
        (Runtime::Iggy, "tcp.tls.cert_file" | "http.tls.cert_file" | "websocket.tls.cert_file") => {
            CERTIFICATE
        }
        (Runtime::Iggy, "tcp.tls.key_file" | "http.tls.key_file" | "websocket.tls.key_file") => KEY,
        (Runtime::Iggy, "path") => "local_data",
        (Runtime::Connectors, "http.address") => "127.0.0.1:8081",
        (Runtime::Connectors, "http.enabled") => "true",
        (Runtime::Connectors, "http.tls.cert_file") => CERTIFICATE,
        (Runtime::Connectors, "http.tls.key_file") => KEY,
        _ => return None,
    };
    Some(value)
}

#[cfg(test)]
mod tests;
