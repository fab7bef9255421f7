//! `warden snapshot`: diagnose this host now, and write a report.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use warden_checks::Selection;

use super::agent_args::Which;
use super::progress::{Manner, Progress};
use super::sign_encrypt::{Seal, without_ending};
use super::stall_watchdog::Watch;
use super::{child_process, duration, iggy_data, output_file, plan, summary};
use crate::agent::{Endpoint, Proxy, Settings, credentials_directory, direct};
use crate::config;
use crate::snapshot::archive::Inventory;
use crate::snapshot::bundle::Bundle;
use crate::snapshot::report::{Outcome, Report};
use crate::snapshot::second_scan::SecondScan;
use crate::snapshot::{Direct, Order, Snapshot, collect};

/// Diagnose this host and write a report
///
/// Runs every check, masks secrets, and writes one file with the report and the evidence. Changes nothing, sends
/// nothing, needs no daemon and no running Iggy. On a host that is enrolled it also asks the Supervisor whether it is there.
/// As an unprivileged user it tells what it could not see.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 when nothing is at or above --fail-on, 1 when something is, 2 when it could not run."
)]
pub struct Arguments {
    /// File or folder to write to, `-` for standard output [default: warden-HOST-TIME.zip here]
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,

    /// What to write: the whole bundle, only the page, or only its data [default: by the ending of --output, else zip]
    #[arg(long, value_enum)]
    format: Option<Format>,

    /// Run only these checks or areas (repeat, or separate by commas)
    #[arg(long, value_name = "AREA|ID", value_delimiter = ',')]
    only: Vec<String>,

    /// Leave these checks or areas out
    #[arg(long, value_name = "AREA|ID", value_delimiter = ',')]
    skip: Vec<String>,

    /// How far back to read logs: 90m, 24h, 7d
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = parse_since)]
    since: Duration,

    /// File with a personal access token of an Iggy user who may only read_servers: adds Iggy's own statistics
    #[arg(long, value_name = "FILE", env = "WARDEN_IGGY_TOKEN_FILE")]
    iggy_token_file: Option<PathBuf>,

    #[command(flatten)]
    agent: Which,

    /// Judge a recorded host instead of this one: a bundle, or a folder with its host/ folder
    #[arg(long, value_name = "DIR|ZIP", conflicts_with_all = ["config", "dir"])]
    host: Option<PathBuf>,

    /// Sign the bundle with this Ed25519 private key, as `openssl genpkey -algorithm ed25519` writes it
    #[arg(long, value_name = "KEY.PEM")]
    sign: Option<PathBuf>,

    /// Encrypt what is written so that only this age recipient reads it, `age1...` (repeat for several)
    ///
    /// The name gets the ending `.age`, and nothing is written in the clear.
    #[arg(long, value_name = "RECIPIENT")]
    encrypt_to: Vec<String>,

    #[command(flatten)]
    packing: iggy_data::Arguments,

    /// Take addresses, host and user names, e-mail addresses and machine ids out, too
    ///
    /// Each becomes a token that tells its kind, [ip:0a1b2c3d], the same everywhere in one bundle. Done when all is
    /// judged, so that the findings are the same. Loopback, wildcard and documentation addresses stay.
    #[arg(long)]
    anonymize: bool,

    /// Mask also what this policy names, besides /etc/warden/policy.toml
    ///
    /// In TOML: a table [redaction] with also_mask, a list of texts or of regular expressions between slashes. A policy
    /// can only mask more; one that is not understood stops the snapshot.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,

    /// Print what would be read and run and how large it can get, and collect nothing
    #[arg(long)]
    plan: bool,

    /// Exit with 1 when a finding is at least this bad
    #[arg(long, value_enum, value_name = "LEVEL", default_value = "fail")]
    fail_on: FailOn,

    /// Print only the path of the written file
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,

    /// How to tell progress on standard error
    #[arg(long, value_enum, value_name = "MANNER", default_value = "bar")]
    progress: Manner,

    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,

    /// Where the agent that asks for it keeps its state
    #[arg(long, hide = true, value_name = "DIR")]
    agent_state: Option<PathBuf>,

    /// Why the data directory that was asked for is not in it: told in the report as a failure
    #[arg(long, hide = true, value_name = "REASON", conflicts_with = "include_iggy")]
    iggy_left_out: Option<String>,

    /// How that agent calls its Supervisor
    #[arg(long, hide = true, value_name = "URL")]
    agent_supervisor: Option<Endpoint>,

    /// What that agent believes of its Supervisor
    #[arg(long, hide = true, value_name = "FILE")]
    agent_ca_file: Option<PathBuf>,

    /// This is the child process that does the work
    #[arg(long, hide = true)]
    pub in_child: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Zip,
    Html,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FailOn {
    Warn,
    Fail,
    Never,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let selection = Selection { only: arguments.only.clone(), skip: arguments.skip.clone() };
    selection.checks()?;
    if arguments.in_child {
        child_process::follow_parent()?;
    } else if arguments.host.is_none() || arguments.packing.reads_this_host() {
        return child_process::run_in_child();
    }
    let arguments = arguments.clone();
    Watch::over(move |watch| match arguments.plan {
        true => tell_plan(&arguments, &selection, watch),
        false => diagnose(&arguments, selection, watch),
    })
}

fn tell_plan(arguments: &Arguments, selection: &Selection, watch: &Watch) -> anyhow::Result<u8> {
    let data = arguments.packing.described(selection, arguments.anonymize, watch)?;
    plan::print(&selection.checks()?, data, arguments.since, arguments.json)?;
    Ok(0)
}

fn diagnose(arguments: &Arguments, selection: Selection, watch: &Watch) -> anyhow::Result<u8> {
    let checks = selection.checks()?;
    let destination = Destination::of(arguments)?;
    let whole_bundle = destination.format == Format::Zip;
    let seal = Seal::new(arguments.sign.as_deref(), &arguments.encrypt_to, whole_bundle)?;
    destination.ensure_writable(&seal)?;
    let agent_state = match &arguments.agent_state {
        Some(state) => Some(state.clone()),
        None => arguments.agent.state_directory()?,
    };
    let data = arguments.packing.place(arguments.host.is_some(), watch)?;
    if arguments.packing.wanted() {
        destination.ensure_holds_iggy()?;
    }

    let manner = arguments.progress;
    let mut progress = Progress::told(manner, arguments.quiet || (arguments.json && manner == Manner::Bar));
    progress.expect(checks.len());
    let order = Order {
        inspect: arguments.packing.depth(&selection)?,
        data: data.clone(),
        selection,
        since: Some(arguments.since),
        iggy_token_file: arguments.iggy_token_file.clone(),
        recording: arguments.host.clone(),
        policy: arguments.policy.clone(),
        anonymize: arguments.anonymize,
        supervisor: supervisor(arguments),
        agent_state,
        iggy_left_out: arguments.iggy_left_out.clone(),
    };
    let mut snapshot = collect(&order, &mut |event| progress.observe(event))?;
    progress.say("writing the report");
    let packed = data.filter(|_| arguments.packing.wanted()).map(|data| (&arguments.packing, data));
    let written = write(&mut snapshot, &seal, &destination, packed, &progress, watch);
    progress.finish();
    let written = written?;

    match &written {
        // The report itself went to standard output; what is said about it must not mix with it.
        None => {}
        Some(written) if arguments.quiet => writeln!(std::io::stdout(), "{}", written.path.display())?,
        Some(written) if arguments.json => summary::print_json(&snapshot.report, written)?,
        Some(written) => summary::print(&snapshot.report, written)?,
    }
    let failed = is_at_or_above(&snapshot.report, arguments.fail_on);
    Ok(u8::from(failed))
}

/// The Supervisor of this host, as its agent calls it.
fn supervisor(arguments: &Arguments) -> Option<Direct> {
    if arguments.host.is_some() {
        return None;
    }
    let settings = match &arguments.agent_state {
        None => arguments.agent.settings().ok()?,
        Some(state) => Settings {
            supervisor: Some(arguments.agent_supervisor.clone()?),
            ca_file: arguments.agent_ca_file.clone(),
            proxy: Proxy::Never,
            state_directory: state.clone(),
            ..Settings::default()
        },
    };
    direct(&settings, credentials_directory().as_deref())
}

/// A file that was written.
pub struct Written {
    pub path: PathBuf,
    pub bytes: u64,
    pub is_archive: bool,
    /// The data directory in it.
    pub iggy: Option<Inventory>,
}

struct Destination {
    format: Format,
    place: Place,
}

enum Place {
    StandardOutput,
    File(PathBuf),
    /// The name is made of host and time, which are known later.
    Folder(PathBuf),
}

impl Destination {
    /// # Errors
    /// The ending is none by which anybody could tell what is to be written.
    fn of(arguments: &Arguments) -> anyhow::Result<Destination> {
        let place = match &arguments.output {
            None => Place::Folder(PathBuf::from(".")),
            Some(path) if path.as_os_str() == "-" => Place::StandardOutput,
            Some(path) if path.is_dir() => Place::Folder(path.clone()),
            Some(path) => Place::File(path.clone()),
        };
        let format = match (arguments.format, &place) {
            (Some(format), _) => format,
            (None, Place::File(path)) => by_ending(path)?,
            (None, Place::StandardOutput | Place::Folder(_)) => Format::Zip,
        };
        Ok(Destination { format, place })
    }

    fn ensure_holds_iggy(&self) -> anyhow::Result<()> {
        ensure!(
            self.format == Format::Zip && !matches!(self.place, Place::StandardOutput),
            "the data directory is a part of a whole bundle in a file; leave --include-iggy out, or write a .zip"
        );
        Ok(())
    }

    fn ensure_writable(&self, seal: &Seal) -> anyhow::Result<()> {
        match &self.place {
            Place::StandardOutput => {
                let stdout = std::io::stdout();
                let bytes = self.format == Format::Zip || seal.encrypts();
                let archive_on_terminal = bytes && std::io::IsTerminal::is_terminal(&stdout);
                ensure!(
                    !archive_on_terminal,
                    "an archive does not belong on a terminal; redirect it, or give --format json"
                );
                Ok(())
            }
            Place::File(path) => output_file::ensure_writable(path),
            Place::Folder(folder) => output_file::ensure_writable(&folder.join("warden")),
        }
    }
}

fn write(
    snapshot: &mut Snapshot,
    seal: &Seal,
    destination: &Destination,
    packed: Option<(&iggy_data::Arguments, crate::snapshot::Place)>,
    progress: &Progress,
    watch: &Watch,
) -> anyhow::Result<Option<Written>> {
    if let Some((packing, data)) = packed {
        let path = match &destination.place {
            Place::File(path) => path.clone(),
            Place::Folder(folder) => folder.join(name(&snapshot.report, destination.format)),
            Place::StandardOutput => bail!("an archive with the data directory goes to a file"),
        };
        let path = seal.name(path);
        let (bytes, inventory) = packing.write(snapshot, &data, seal, &path, progress, watch)?;
        let path = path.canonicalize().unwrap_or(path);
        return Ok(Some(Written { path, bytes, is_archive: !seal.encrypts(), iggy: Some(inventory) }));
    }
    let bundle = Bundle::signed(snapshot, seal.key.as_ref())?;
    let part = |path: &str| {
        bundle.file(path).map(<[u8]>::to_vec).with_context(|| format!("the bundle has no {path}"))
    };
    let content = match destination.format {
        Format::Zip => bundle.zip()?,
        Format::Html => part("report.html")?,
        Format::Json => part("report.json")?,
    };
    let scan = SecondScan {
        redactor: &snapshot.redactor,
        anonymizer: snapshot.anonymizer.as_ref(),
        iggy_as_it_is: false,
    };
    // What leaves unreadable, or without touching the disk, is scanned before it goes.
    if seal.encrypts() || matches!(destination.place, Place::StandardOutput) {
        match destination.format {
            Format::Zip => scan.archive(std::io::Cursor::new(&content))?,
            Format::Html => scan.file("report.html", &content)?,
            Format::Json => scan.file("report.json", &content)?,
        }
    }
    let content = seal.encrypt(content)?;
    let path = match &destination.place {
        Place::StandardOutput => {
            std::io::stdout().write_all(&content)?;
            return Ok(None);
        }
        Place::File(path) => path.clone(),
        Place::Folder(folder) => folder.join(name(&snapshot.report, destination.format)),
    };
    let path = seal.name(path);
    // What is on disk is what is scanned, before it gets its name.
    output_file::write_checked(&path, &content, "--output", |file| match destination.format {
        _ if seal.encrypts() => Ok(()),
        Format::Zip => scan.archive(file),
        Format::Html => scan.file("report.html", &content),
        Format::Json => scan.file("report.json", &content),
    })?;
    let path = path.canonicalize().unwrap_or(path);
    let is_archive = destination.format == Format::Zip && !seal.encrypts();
    Ok(Some(Written { path, bytes: content.len() as u64, is_archive, iggy: None }))
}

fn by_ending(path: &Path) -> anyhow::Result<Format> {
    let named = without_ending(path);
    match named.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase()).as_deref() {
        None | Some("zip") => Ok(Format::Zip),
        Some("html" | "htm") => Ok(Format::Html),
        Some("json") => Ok(Format::Json),
        Some(_) => bail!(
            "{} tells nobody what it is: end it with .zip (the whole bundle), .html (the page) or .json (its data), or \
             say --format",
            path.display()
        ),
    }
}

/// `warden-node1-20261121-120000.zip`
fn name(report: &Report, format: Format) -> String {
    let host: String = report
        .host
        .name
        .trim_matches(['[', ']'])
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
        .collect();
    let digits: String = report.run.started_at.chars().filter(char::is_ascii_digit).take(14).collect();
    let (date, time) = digits.split_at_checked(8).unwrap_or((&digits, "000000"));
    let ending = match format {
        Format::Zip => "zip",
        Format::Html => "html",
        Format::Json => "json",
    };
    format!("warden-{host}-{date}-{time}.{ending}")
}

fn is_at_or_above(report: &Report, level: FailOn) -> bool {
    match level {
        FailOn::Never => false,
        FailOn::Fail => report.verdict >= Outcome::Fail,
        FailOn::Warn => report.verdict >= Outcome::Warn,
    }
}

/// `90m`, `24h`, `7d`, `45s`; at least a minute, at most 90 days.
pub fn parse_since(text: &str) -> Result<Duration, String> {
    let example = format!("90m, 24h or 7d ({} by default)", config::SINCE.as_secs() / 3600);
    duration::parse(text, duration::MINUTE, 90 * duration::DAY, &example)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_unit_and_bounds() {
        assert_eq!(parse_since("90m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_since("7d"), Ok(Duration::from_secs(604_800)));
        assert_eq!(parse_since("1s"), Err("`1s` is out of range: from 1m to 90d".to_owned()));
        for wrong in ["", "h", "24", "-1h", "1.5h", "99999999999999999999h"] {
            assert!(parse_since(wrong).is_err(), "{wrong}");
        }
    }
}
