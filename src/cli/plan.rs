//! `warden snapshot --plan`: what would be asked of the host, and how large it can get.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use serde::Serialize;
use warden_host::{Check, Read, find_command, quantity};

use super::terminal::{Painter, Style};

#[derive(Serialize)]
struct Planned {
    /// `read`, `sample`, `log`, `run`, `ask`, `inspect`, `pack`.
    how: &'static str,
    what: String,
    /// At most this many bytes, for each file where `what` is a pattern.
    at_most_bytes: u64,
    checks: Vec<&'static str>,
}

/// `data` is what is done with the data directory: how, what it is, and how large that can get.
pub fn print(
    checks: &[&'static Check],
    data: Vec<(&'static str, String, u64)>,
    since: Duration,
    json: bool,
) -> anyhow::Result<()> {
    let mut planned = plan(checks);
    planned.extend(data.into_iter().map(|(how, what, at_most_bytes)| Planned {
        how,
        what,
        at_most_bytes,
        checks: Vec::new(),
    }));
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &planned)?;
        return Ok(writeln!(out)?);
    }
    let paint = Painter::stdout();
    let since = quantity::duration(since.as_secs_f64());
    writeln!(
        out,
        "{} would ask this host for the following. Nothing is changed, nothing was collected.",
        quantity::count(checks.len() as u64, "check", "checks")
    )?;
    writeln!(out, "Logs go back {since}; each item is cut at the size beside it.\n")?;
    for (how, title) in [
        ("read", "Files and folders"),
        ("sample", "Files read twice, 0.25 s apart"),
        ("log", "Newest lines of logs"),
        ("run", "Programs, without environment, killed after 5 s"),
        ("ask", "Services of this host"),
        ("inspect", "Iggy's data directory, looked into"),
        ("pack", "Iggy's data directory, into iggy.zip"),
    ] {
        let items: Vec<_> = planned.iter().filter(|item| item.how == how).collect();
        if items.is_empty() {
            continue;
        }
        writeln!(out, "{}", paint.paint(Style::Bold, title))?;
        for item in items {
            let size = quantity::bytes(item.at_most_bytes);
            let for_whom = paint.paint(Style::Dim, &item.checks.join(", "));
            writeln!(out, "  {:<58} {size:>8}  {for_whom}", item.what)?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn plan(checks: &[&'static Check]) -> Vec<Planned> {
    let mut planned: BTreeMap<(&'static str, String), Planned> = BTreeMap::new();
    for check in checks {
        let grouped = check.reads.iter().flat_map(Read::grouped);
        for read in check.reads.iter().chain(grouped) {
            let Some((how, what, at_most_bytes)) = describe(*read) else { continue };
            let item = planned.entry((how, what.clone())).or_insert_with(|| Planned {
                how,
                what,
                at_most_bytes,
                checks: Vec::new(),
            });
            if item.checks.last() != Some(&check.id) {
                item.checks.push(check.id);
            }
        }
    }
    planned.into_values().collect()
}

/// What a check reads, a line each: `read /proc/stat`.
pub fn lines(check: &'static Check) -> Vec<String> {
    plan(&[check]).into_iter().map(|item| format!("{}: {}", item.how, item.what)).collect()
}

fn describe(read: Read) -> Option<(&'static str, String, u64)> {
    let ask = |what: &str, bytes| Some(("ask", what.to_owned(), bytes));
    match read {
        Read::Path(pattern) => Some(("read", pattern.to_owned(), warden_host::FILE_BYTES)),
        Read::Tail(pattern) => Some(("log", pattern.to_owned(), warden_host::LOG_BYTES)),
        Read::Sample(pattern) => Some(("sample", pattern.to_owned(), warden_host::FILE_BYTES)),
        Read::Command(name) => {
            let row = find_command(name)?;
            let words =
                row.programs.iter().take(1).chain(row.args).copied().chain(row.takes_argument.then_some("…"));
            let line = words.collect::<Vec<_>>().join(" ").replace('\n', "\\n");
            Some(("run", line, warden_host::OUTPUT_BYTES))
        }
        Read::Journal => {
            Some(("log", "journal of the runtimes' and Warden's units".to_owned(), warden_host::OUTPUT_BYTES))
        }
        Read::KernelLog => Some(("log", "kernel log".to_owned(), warden_host::LOG_BYTES)),
        Read::Space => ask("statvfs of every filesystem that stores data", 128),
        Read::Units => ask("systemd over D-Bus: units and their properties", warden_host::FILE_BYTES),
        Read::Http => ask("HTTP GET without credentials, local addresses only", warden_host::BODY_BYTES),
        Read::IggyApi => ask(
            "HTTP GET of Iggy's /stats and /clients, if --iggy-token-file is given",
            warden_host::BODY_BYTES,
        ),
        Read::Tls => ask("TLS handshake with the runtimes' listeners", 64 << 10),
        Read::Resolve => ask("lookup of the host's own name and the Supervisor's", 4 << 10),
        Read::Connect => ask("TCP connect to the Supervisor", 128),
        Read::PublicKey => ask("public half of the runtimes' TLS keys", 4 << 10),
        // Its parts are listed themselves.
        Read::Group(_) => None,
    }
}
