//! runtime-connectors: does every configured connector run.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Value as TomlValue;
use warden_host::quantity::{count, number};
use warden_host::{Cause, Failure, Host, IfAny, Level, PLACEHOLDER, UnitProperties};

use crate::iggy::{self, Configuration, Runtime, Service, log};
use crate::{
    Advice, Area, Check, DEADLINE, Error, Evidence, Fields, Finding, Read, Result, Table, Value, Verdict,
};

pub const CHECK: Check = Check {
    id: "runtime-connectors",
    area: Area::Runtime,
    title: "Do all connectors run?",
    why: "The connectors runtime starts without the connectors that it cannot load and calls itself healthy: /health \
          is a constant, and a sink that never loaded counts no errors. Only the state of each connector tells.",
    reads: &[Read::Group(iggy::READS), Read::Http, Read::Journal, Read::Path("/**/*.so")],
    thresholds: &[
        "fails when the unit is enabled and nothing runs, when the API does not answer, when an enabled connector is in error, or when its plugin file is missing",
        "warns for a stopped connector, one that has counted errors, one that is configured and not loaded, and an answer after more than 500 ms",
        "notes an API that asks for a key",
    ],
    advice: "Mend the configuration or the plugin of the connector, then restart it.",
    deadline: DEADLINE,
    run,
};

const SLOW_MILLIS: f64 = 500.0;

/// What `/stats` of the runtime tells of a connector (0.5.0-edge.4).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Connector {
    key: String,
    connector_type: String,
    version: String,
    status: String,
    enabled: bool,
    errors: u64,
    messages_produced: Option<u64>,
    messages_sent: Option<u64>,
    messages_consumed: Option<u64>,
    messages_processed: Option<u64>,
    messages_filtered: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Stats {
    connectors_runtime_version: String,
    connectors: Vec<Connector>,
}

/// What `/sinks` and `/sources` add to it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    key: String,
    path: String,
    last_error: Option<LastError>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LastError {
    message: String,
}

/// A connector as its file has it.
struct Configured {
    enabled: bool,
    plugin: Option<String>,
    file: String,
}

fn run(host: &Host) -> Result<Finding> {
    let is_running = iggy::processes(host).iter().any(|process| process.runtime == Runtime::Connectors);
    let known = iggy::configuration(host, Runtime::Connectors);
    let Some(known) = known.filter(|_| is_running) else { return not_running(host) };

    let mut finding = Finding::new("");
    if let Some(refused) = known.launch.as_ref().and_then(|launch| launch.refused.clone()) {
        return Err(refused.into());
    }
    if known.hidden(host).is_some() {
        let text = "the configuration of the runtime could not be read: a connector that should run and is not loaded goes unseen";
        finding
            .note(text, Advice::text("Run as root, or give Warden CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH."));
    }
    let configured = configured(host, &known, &mut finding);
    match known.listeners().first() {
        None => {
            finding.summary = "the runtime runs, and its API is switched off".to_owned();
            let advice = Advice::text(
                "Set http.enabled to true and http.address to loopback, so that the connectors can be seen.",
            );
            finding.note("the API is switched off: only the files of the connectors were looked at", advice);
        }
        Some(listener) => {
            let base = format!("{}://{}", if listener.tls { "https" } else { "http" }, listener.address());
            ask(host, &base, &configured, &mut finding)?;
        }
    }
    judge_plugins(host, &known, &configured, &mut finding);
    let mut table = Table::new("Configured connectors", ["connector", "enabled", "plugin", "file"]);
    for (key, one) in &configured {
        let plugin = one.plugin.clone().map(Value::Code).into();
        table.row([Value::Code(key.clone()), one.enabled.into(), plugin, Value::Code(one.file.clone())]);
    }
    finding.show(Evidence::Table(table));
    Ok(finding)
}

fn not_running(host: &Host) -> Result<Finding> {
    let name = iggy::unit_of(host, Runtime::Connectors)?;
    let unit = host.unit(&name).ok().filter(UnitProperties::is_loaded);
    let Some(unit) = unit else { return Ok(Finding::skip("there is no connectors runtime on this host")) };
    let enabled = unit.text("UnitFileState").unwrap_or("not enabled");
    if !enabled.starts_with("enabled") {
        return Ok(Finding::skip(format!("no connectors runtime runs here, and {name} is {enabled}")));
    }
    let mut finding = Finding::new("no connectors runtime runs");
    let (active, result) =
        (unit.text("ActiveState").unwrap_or("unknown"), unit.text("Result").unwrap_or("unknown"));
    let advice = Advice::run(
        "See why it ended, mend that, and start it.",
        format!("journalctl -u {name} -n 100 --no-pager"),
    );
    finding.fail(
        format!("{name} is enabled and nothing runs (the unit is {active}, last result {result})"),
        advice,
    );
    Ok(finding)
}

/// The connectors in the files of `connectors.config_dir`, by key.
fn configured(host: &Host, known: &Configuration, finding: &mut Finding) -> BTreeMap<String, Configured> {
    let mut all = BTreeMap::new();
    let Some(directory) = known.path("connectors.config_dir") else { return all };
    let files = match host.read_all_part(&format!("{directory}/*.toml")).if_any() {
        Ok(files) => files.map(|part| part.value).unwrap_or_default(),
        Err(error) => {
            let advice = Advice::run("See who may read them.", format!("ls -l '{directory}'"));
            let text = format!("a connector that should run and is not loaded goes unseen: {error}");
            finding.note(text, advice);
            return all;
        }
    };
    for file in files {
        let table = match file.text.parse::<toml::Table>() {
            Ok(table) => table,
            Err(error) => {
                let advice = Advice::run(
                    "Mend the file; the runtime does not start with it.",
                    format!("ls -l '{}'", file.path),
                );
                finding.fail(format!("{} is not valid TOML: {}", file.path, error.message()), advice);
                continue;
            }
        };
        let text = |name: &str| table.get(name).and_then(TomlValue::as_str).map(str::to_owned);
        let Some(key) = text("key") else { continue };
        if key.contains(PLACEHOLDER) {
            host.note_masked(&format!("key in {}", file.path));
            continue;
        }
        let enabled = table.get("enabled").and_then(TomlValue::as_bool).unwrap_or(true);
        all.insert(key, Configured { enabled, plugin: text("path"), file: file.path });
    }
    all
}

fn ask(
    host: &Host,
    base: &str,
    configured: &BTreeMap<String, Configured>,
    finding: &mut Finding,
) -> Result<()> {
    let health = match host.http(&format!("{base}/health")) {
        Ok(health) => health,
        Err(error) if error.was_not_tried() => return Err(error),
        Err(Error::Host(failure)) => {
            finding.summary = "the runtime runs and its API does not answer".to_owned();
            let show_log = Service::of(host, Runtime::Connectors).show_log();
            match own_error(host)? {
                Some(error) => {
                    let advice = "The API opens when the runtime has reached Iggy and opened its connectors. See that Iggy runs and that iggy.address in the configuration is where it listens.";
                    finding.fail(
                        format!("the runtime cannot do its work: {error}"),
                        Advice::run(advice, show_log),
                    );
                    finding.note(
                        format!("the API at {base} does not answer: {failure}"),
                        Advice::text("It will when the above is mended."),
                    );
                }
                None => {
                    let advice = Advice::run("See what the runtime says.", show_log);
                    finding.fail(format!("the API at {base} does not answer: {failure}"), advice);
                }
            }
            return Ok(());
        }
        Err(error @ Error::Parse { .. }) => return Err(error),
    };
    if health.millis > SLOW_MILLIS {
        let advice = Advice::text("See cpu-load and process-top for what keeps it busy.");
        finding.warn(format!("/health took {} ms", number(health.millis)), advice);
    }
    let stats = host.http(&format!("{base}/stats"))?;
    // One refusal is enough: each further call would only write an error into its log.
    if matches!(stats.status, 401 | 403) {
        finding.summary = "the runtime answers; the state of its connectors is behind a key".to_owned();
        let text = format!(
            "the API asks for its key (status {}), which Warden does not have: the state of the connectors is unknown",
            stats.status
        );
        finding.note(
            text,
            Advice::run("Ask it yourself.", format!("curl -s -H \"api-key: $KEY\" {base}/stats")),
        );
        return Ok(());
    }
    if stats.status != 200 {
        return Err(Failure {
            what: format!("{base}/stats"),
            cause: Cause::Other(format!("status {}", stats.status)),
        }
        .into());
    }
    let parsed: Stats = serde_json::from_str(&stats.body)
        .map_err(|error| Error::parse(format!("{base}/stats"), error.to_string()))?;
    let details = details(host, base);
    let fields = Fields::new("Runtime")
        .row("version", Value::Code(parsed.connectors_runtime_version.clone()))
        .row("/health took", format!("{} ms", number(health.millis)));
    finding.show(Evidence::Fields(fields));
    judge_connectors(host, &parsed, &details, finding);

    for (key, one) in configured.iter().filter(|(_, one)| one.enabled) {
        if !parsed.connectors.iter().any(|connector| connector.key == *key) {
            let advice = Advice::run(
                "Restart the runtime: it reads its files only at its start.",
                Service::of(host, Runtime::Connectors).restart(),
            );
            finding.warn(format!("connector {key} is configured in {} and not loaded", one.file), advice);
        }
    }
    Ok(())
}

/// The newest error that the runtime wrote since its start: why its API is closed.
fn own_error(host: &Host) -> Result<Option<String>> {
    const CHARACTERS: usize = 400;
    let Some(said) = log::said(host, Runtime::Connectors)? else { return Ok(None) };
    let start = log::last_start(Runtime::Connectors, &said.log.lines).unwrap_or(0);
    let mut errors = said.log.lines[start..].iter().filter(|line| line.level >= Some(Level::Error));
    Ok(errors.next_back().map(|line| line.text.chars().take(CHARACTERS).collect()))
}

/// Paths and errors, by kind and key; what cannot be had leaves them out.
fn details(host: &Host, base: &str) -> Vec<Details> {
    let ask = |list: &str| {
        let answer = host.http(&format!("{base}/{list}")).ok().filter(|answer| answer.status == 200)?;
        serde_json::from_str::<Vec<Details>>(&answer.body).ok()
    };
    ["sources", "sinks"].into_iter().filter_map(ask).flatten().collect()
}

fn judge_connectors(host: &Host, stats: &Stats, details: &[Details], finding: &mut Finding) {
    let columns =
        ["connector", "kind", "state", "enabled", "version", "in", "out", "filtered", "errors", "plugin"];
    let mut table = Table::new("Connectors", columns);
    let show_log = Service::of(host, Runtime::Connectors).show_log();
    for one in &stats.connectors {
        let detail = details.iter().find(|detail| detail.key == one.key);
        let severity = match one.status.as_str() {
            _ if !one.enabled => None,
            "running" if one.errors > 0 => Some(Verdict::Warn),
            "running" => None,
            "error" => Some(Verdict::Fail),
            "starting" => Some(Verdict::Note),
            _ => Some(Verdict::Warn),
        };
        let cells = [
            Value::Code(one.key.clone()),
            one.connector_type.clone().into(),
            one.status.clone().into(),
            one.enabled.into(),
            one.version.clone().into(),
            one.messages_produced.or(one.messages_consumed).into(),
            one.messages_sent.or(one.messages_processed).into(),
            one.messages_filtered.into(),
            one.errors.into(),
            detail.map(|detail| Value::Code(detail.path.clone())).into(),
        ];
        let Some(severity) = severity else {
            table.row(cells);
            continue;
        };
        table.marked_row(severity, cells);
        let (kind, key) = (&one.connector_type, &one.key);
        let advice =
            Advice::run("Mend its configuration or its plugin, then restart the runtime.", show_log.clone());
        let text = match (one.status.as_str(), detail.and_then(|detail| detail.last_error.as_ref())) {
            ("running", _) => {
                format!("{kind} {key} runs and has counted {}", count(one.errors, "error", "errors"))
            }
            (status, Some(error)) => format!("{kind} {key} is in state {status}: {}", error.message),
            (status, None) => format!("{kind} {key} is in state {status}"),
        };
        finding.problem(severity, text, advice);
    }
    let enabled = stats.connectors.iter().filter(|one| one.enabled);
    let running = enabled.clone().filter(|one| one.status == "running").count();
    finding.summary = format!(
        "{running} of {} run",
        count(enabled.count() as u64, "enabled connector", "enabled connectors")
    );
    finding.show(Evidence::Table(table));
}

/// Where the runtime looks for a plugin that is named by a relative path, after its working directory.
const PLUGIN_DIRECTORIES: [&str; 6] =
    ["/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local/lib", "/usr/local/lib64"];

fn judge_plugins(
    host: &Host,
    known: &Configuration,
    configured: &BTreeMap<String, Configured>,
    finding: &mut Finding,
) {
    for (key, one) in configured.iter().filter(|(_, one)| one.enabled) {
        let Some(plugin) = &one.plugin else { continue };
        let file = if plugin.ends_with(".so") { plugin.clone() } else { format!("{plugin}.so") };
        let mut candidates: Vec<String> = known.reachable(&file).into_iter().collect();
        if !file.starts_with('/') {
            let name = file.rsplit('/').next().unwrap_or(&file);
            candidates.extend(known.reachable(name));
            candidates.extend(
                PLUGIN_DIRECTORIES
                    .iter()
                    .filter_map(|directory| known.reachable(&format!("{directory}/{name}"))),
            );
        }
        let mut answers = candidates.iter().map(|path| host.stat(path));
        // A relative path may also be beside the program; the API then says whether it was found.
        let is_missing = file.starts_with('/')
            && answers.all(|answer| matches!(answer, Err(Error::Host(Failure { cause: Cause::Absent, .. }))));
        if is_missing {
            let advice = Advice::run(
                "Install the plugin or correct the path in the file of the connector.",
                format!("ls -l '{file}'"),
            );
            finding.fail(format!("the plugin of connector {key} is missing: {file}"), advice);
        }
    }
}

#[cfg(test)]
mod tests;
