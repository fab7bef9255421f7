//! runtime-iggy-config: with what is the server configured, and does it know all of it.

use std::collections::BTreeSet;

use toml::{Table as Toml, Value as TomlValue};
use warden_host::quantity::count;
use warden_host::{Host, IfAny};

use crate::iggy::{self, Configuration, ConfigurationFile, Runtime};
use crate::{Advice, Area, Check, DEADLINE, Evidence, Fields, Finding, Read, Result, Table, Value, Verdict};

pub const CHECK: Check = Check {
    id: "runtime-iggy-config",
    area: Area::Runtime,
    title: "With what is Iggy configured?",
    why: "Iggy ignores most keys that it does not know and refuses to start on some that have moved, reads its file only at its start, and lets the environment win \
          over the file: what an operator wrote and what is in force are easily two things. A listener beyond \
          loopback without TLS carries passwords in the clear.",
    reads: &[Read::Group(iggy::READS), Read::Path("/proc/[pid]/cmdline")],
    thresholds: &[
        "fails when the configuration file that is named cannot be used, or default credentials are asked for beyond loopback",
        "warns for a listener beyond loopback without TLS, unknown keys, default credentials, and secrets that every user may read",
        "notes what takes effect only at the next start, verbose logging, and a cleaner that is switched off",
    ],
    advice: "Compare the file with what is in force, then restart the server at a time of your choosing.",
    deadline: DEADLINE,
    run,
};

fn run(host: &Host) -> Result<Finding> {
    let Some(known) = iggy::configuration(host, Runtime::Iggy) else {
        return Ok(Finding::skip("there is no Iggy server on this host"));
    };
    if let Some(refused) = known.launch.as_ref().and_then(|launch| launch.refused.clone()) {
        return Err(refused.into());
    }
    let mut finding = Finding::new(summary(host, &known));
    judge_sight(host, &known, &mut finding);
    judge_files(host, &known, &mut finding);
    judge_credentials(host, &known, &mut finding);
    let listeners = judge_listeners(&known, &mut finding);
    judge_keys(&known, &mut finding);
    judge_settings(&known, &mut finding);

    let data = iggy::data_directory(host);
    let mut fields = Fields::new("In force")
        .row("data directory", data.as_ref().map(|data| Value::Code(data.path.clone())))
        .row("found by", data.map(|data| data.found_by))
        .row("configuration file", known.file.as_ref().map(|file| Value::Code(file.path.clone())))
        .row("written by the server", known.current.as_ref().map(|file| Value::Code(file.path.clone())));
    for key in SHOWN {
        fields = fields.row(key, known.text(key).map(Value::Code));
    }
    finding.show(Evidence::Fields(fields));
    finding.show(Evidence::Table(listeners));
    finding.show(Evidence::Table(environment(&known)));
    Ok(finding)
}

/// Settings that decide most diagnoses.
const SHOWN: [&str; 10] = [
    "logging.level",
    "sharding.cpu_allocation",
    "memory_pool.size",
    "encryption.enabled",
    "partition.validate_checksum",
    "partition.enforce_fsync",
    "data_maintenance.messages.cleaner_enabled",
    "heartbeat.enabled",
    "cluster.enabled",
    "telemetry.enabled",
];

fn summary(host: &Host, known: &Configuration) -> String {
    if known.hidden(host).is_some() {
        return "what the server is configured with could not be seen".to_owned();
    }
    let file = known.file.as_ref().map_or("no configuration file".to_owned(), |file| file.path.clone());
    let variables = known.environment().map_or(0, |all| all.keys().filter(|name| is_iggys(name)).count());
    let variables = count(variables as u64, "environment variable", "environment variables");
    format!("configured by {file} and {variables}; the rest is default")
}

fn is_iggys(name: &str) -> bool {
    name == "RUST_LOG"
        || name.starts_with("IGGY_")
            && !name.starts_with("IGGY_CONNECTORS_")
            && !name.starts_with("IGGY_MCP_")
}

fn judge_sight(host: &Host, known: &Configuration, finding: &mut Finding) {
    let Some(pid) = known.launch.as_ref().and_then(|launch| launch.pid) else { return };
    if let Err(error) = host.read(&format!("/proc/{pid}/environ")).if_any() {
        let advice = Advice::text("Run as root or give Warden CAP_SYS_PTRACE.");
        finding.note(
            format!("the environment of the server, which wins over its file, is unknown: {error}"),
            advice,
        );
    }
}

fn judge_files(host: &Host, known: &Configuration, finding: &mut Finding) {
    for (file, severity) in [(&known.file, Verdict::Fail), (&known.current, Verdict::Warn)] {
        let Some(ConfigurationFile { path, content }) = file else { continue };
        if let Err(error) = content {
            let unseen = error.is_unseen();
            let severity = if unseen { Verdict::Note } else { severity };
            let advice = match unseen {
                true => Advice::text("Run as root or give Warden CAP_DAC_READ_SEARCH."),
                false => Advice::run(
                    "Mend the file; the server starts with its defaults without it, or not at all.",
                    format!("ls -l '{path}'"),
                ),
            };
            finding.problem(severity, format!("the configuration cannot be used: {error}"), advice);
            continue;
        }
        let holds_secret = host.read(path).is_ok_and(|text| text.contains("[secret:"));
        let everybody = host.stat(path).is_ok_and(|stat| stat.mode & 0o004 != 0);
        if holds_secret && everybody {
            let advice =
                Advice::run("Take the right to read away from everybody else.", format!("chmod o= '{path}'"));
            finding.warn(format!("{path} holds secrets and every user of this machine may read it"), advice);
        }
    }
}

fn judge_credentials(host: &Host, known: &Configuration, finding: &mut Finding) {
    let Some(pid) = known.launch.as_ref().and_then(|launch| launch.pid) else { return };
    let arguments = host.read(&format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let has = |flag: &str| arguments.split(['\0', ' ']).any(|argument| argument == flag);
    if has("--with-default-root-credentials") {
        let open = known.listeners().iter().any(|listener| !listener.is_loopback());
        let severity = if open { Verdict::Fail } else { Verdict::Warn };
        let advice = Advice::text(
            "Start it without --with-default-root-credentials and change the password of the root user (iggy user password).",
        );
        finding.problem(
            severity,
            "the server was started with the default root user, whose password everybody knows",
            advice,
        );
    }
    if has("--fresh") || arguments.split('\0').any(|argument| argument == "-f") {
        let advice = Advice::text("Take --fresh out of the unit or the script that starts the server.");
        finding.warn("the server was started with --fresh: every restart deletes all data", advice);
    }
}

fn judge_listeners(known: &Configuration, finding: &mut Finding) -> Table {
    let mut table = Table::new("Listeners", ["listener", "address", "beyond loopback", "TLS", "certificate"]);
    for listener in known.listeners() {
        let address = format!("{}:{}", listener.host, listener.port);
        let bare = !listener.is_loopback() && !listener.tls;
        let cells = [
            listener.name.into(),
            Value::Code(address.clone()),
            (!listener.is_loopback()).into(),
            listener.tls.into(),
            listener.certificate.clone().map(Value::Code).into(),
        ];
        if !bare {
            table.row(cells);
            continue;
        }
        table.marked_row(Verdict::Warn, cells);
        let name = listener.name;
        let advice = Advice::text(format!(
            "Set {name}.tls.enabled, or bind {name}.address to loopback and put a proxy with TLS before it."
        ));
        finding.warn(format!("the {name} listener {address} is open beyond loopback without TLS"), advice);
    }
    table
}

/// Keys that the server leaves out of what it writes because they are secret or were not set.
const LEFT_OUT: [&str; 6] = [
    "encryption.key",
    "http.jwt.encoding_secret",
    "http.jwt.decoding_secret",
    "cluster.auth.shared_secret",
    "cluster.auth.previous_shared_secret",
    "node.advertised_address",
];
/// Variables that are no key of the configuration.
const OUTSIDE: [&str; 12] = [
    "IGGY_CONFIG_PATH",
    "IGGY_ENV_PATH",
    "IGGY_ROOT_USERNAME",
    "IGGY_ROOT_PASSWORD",
    "IGGY_USERNAME",
    "IGGY_PASSWORD",
    "IGGY_HOME",
    "IGGY_CI_BUILD",
    "IGGY_DISPLAY_CONFIG",
    "IGGY_SHARD_RUNTIME_CAPACITY",
    "IGGY_SHARD_EVENT_INTERVAL",
    "IGGY_NODE_ADVERTISED_ADDRESS",
];

/// What the server wrote down has every key that it knows: what is not in it was ignored.
fn judge_keys(known: &Configuration, finding: &mut Finding) {
    let Some(Ok(current)) = known.current.as_ref().map(|file| &file.content) else { return };
    let in_force = flat(current);
    let names: BTreeSet<&str> = in_force.iter().map(|(key, _)| without_system(key)).collect();
    let is_known = |key: &str| {
        let key = without_system(key);
        // A table that is empty by default shows only its name, an array stands for all of its items.
        let above = key.match_indices('.').map(|(at, _)| &key[..at]);
        LEFT_OUT.contains(&key) || names.contains(key) || above.into_iter().any(|table| names.contains(table))
    };
    if let Some(ConfigurationFile { path, content: Ok(file) }) = &known.file {
        let written = flat(file);
        let unknown: Vec<&str> =
            written.iter().map(|(key, _)| key.as_str()).filter(|key| !is_known(key)).collect();
        if !unknown.is_empty() {
            let advice = Advice::text(
                "Look for a misspelling or a key that has moved. Most unknown keys are ignored without a word; some that have moved (system.segment.size, system.partition.enforce_fsync, system.topic.max_size) keep 0.9 from starting, with `InvalidConfigurationValue` alone.",
            );
            finding.warn(format!("{path} sets what this server does not know: {}", listed(&unknown)), advice);
        }
        judge_pending(known, path, &written, &in_force, finding);
    }
    let as_variable = |key: &str| format!("IGGY_{}", key.replace('.', "_").to_uppercase());
    let variables: BTreeSet<String> = in_force
        .iter()
        .flat_map(|(key, _)| [as_variable(key), as_variable(without_system(key))])
        .chain(LEFT_OUT.iter().flat_map(|key| [as_variable(key), as_variable(&format!("system.{key}"))]))
        .collect();
    let is_known = |name: &str| {
        OUTSIDE.contains(&name)
            || !is_iggys(name)
            || name == "RUST_LOG"
            // Arrays are set by index: IGGY_CLUSTER_NODES_0_IP.
            || name.split('_').any(|part| part.bytes().all(|byte| byte.is_ascii_digit()))
            || variables.contains(name)
    };
    let unknown: Vec<&str> = known
        .environment()
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .filter(|name| !is_known(name))
        .collect();
    if !unknown.is_empty() {
        let advice = Advice::text(
            "Look for a misspelling. A release of the server ignores such variables with a warning; a debug build ends with a panic.",
        );
        finding.note(
            format!("the environment sets what this server does not know: {}", listed(&unknown)),
            advice,
        );
    }
}

/// Keys whose text is written back as it was read; sizes and durations are rounded.
const COMPARED: [&str; 4] = ["address", "enabled", "cert_file", "key_file"];

fn judge_pending(
    known: &Configuration,
    path: &str,
    written: &[(String, &TomlValue)],
    in_force: &[(String, &TomlValue)],
    finding: &mut Finding,
) {
    let differs = |key: &str, value: &TomlValue| {
        let now = in_force.iter().find(|(other, _)| without_system(other) == without_system(key));
        now.is_some_and(|(_, now)| *now != value)
    };
    let overridden = |key: &str| {
        let name = format!("IGGY_{}", key.replace('.', "_").to_uppercase());
        known.environment().is_some_and(|all| all.contains_key(&name))
    };
    let pending: Vec<&str> = written
        .iter()
        .filter(|(key, value)| {
            key.rsplit('.').next().is_some_and(|last| COMPARED.contains(&last))
                && differs(key, value)
                && !overridden(key)
        })
        .map(|(key, _)| key.as_str())
        .collect();
    if !pending.is_empty() {
        let advice = Advice::text("Restart the server at a time of your choosing, or take the change back.");
        finding.note(
            format!("{path} differs from what is in force, until the next start, in {}", listed(&pending)),
            advice,
        );
    }
}

fn judge_settings(known: &Configuration, finding: &mut Finding) {
    let level = known
        .environment()
        .and_then(|all| all.get("RUST_LOG").cloned())
        .or_else(|| known.text("logging.level"));
    if let Some(level) = level.filter(|level| level.contains("debug") || level.contains("trace")) {
        let advice = Advice::text("Set logging.level to info when done; RUST_LOG wins over it.");
        finding
            .note(format!("the log level is {level}: logs grow fast and shards spend time on them"), advice);
    }
    if known.text("data_maintenance.messages.cleaner_enabled").as_deref() == Some("false") {
        let advice =
            Advice::text("Set data_maintenance.messages.cleaner_enabled if topics are meant to expire.");
        finding.note(
            "the message cleaner is off: whatever topics say about expiry, nothing is ever deleted",
            advice,
        );
    }
}

fn environment(known: &Configuration) -> Table {
    let mut table = Table::new("Environment", ["variable", "value"]);
    for (name, value) in known.environment().into_iter().flatten().filter(|(name, _)| is_iggys(name)) {
        table.row([Value::Code(name.clone()), Value::Code(value.clone())]);
    }
    table
}

/// Every key with its value; an array is one value.
fn flat(table: &Toml) -> Vec<(String, &TomlValue)> {
    fn below<'a>(prefix: &str, table: &'a Toml, out: &mut Vec<(String, &'a TomlValue)>) {
        for (name, value) in table {
            let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            match value {
                TomlValue::Table(table) if !table.is_empty() => below(&key, table, out),
                TomlValue::String(_)
                | TomlValue::Integer(_)
                | TomlValue::Float(_)
                | TomlValue::Boolean(_)
                | TomlValue::Datetime(_)
                | TomlValue::Array(_)
                | TomlValue::Table(_) => out.push((key, value)),
            }
        }
    }
    let mut out = Vec::new();
    below("", table, &mut out);
    out
}

fn without_system(key: &str) -> &str {
    key.strip_prefix("system.").unwrap_or(key)
}

/// Names that a sentence still bears.
const NAMES: usize = 8;

fn listed(names: &[&str]) -> String {
    let shown = names.iter().take(NAMES).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests;
