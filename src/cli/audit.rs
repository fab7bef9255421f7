//! `warden audit`: what was asked of this host and what came of it, and whether that log is whole.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use warden_host::quantity;

use super::terminal::{Painter, Style, harmless};
use crate::agent::audit::{self, Happened, Line, Verification};
use crate::agent::{STATE_DIRECTORY, Settings};
use crate::config::fragments;

/// Read and verify the audit log of this host
///
/// Every request of the Supervisor, what the policy of this host said of it and what came of it is a line in a chain:
/// each carries the SHA-256 of the one before, and a file beside it tells where the log ended when it was last put on
/// disk, which is when a request ends. Nothing in it can be changed, taken out or put in unseen, except by who may
/// write everything the agent may: copy it elsewhere if that matters.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Verify(Verify),
    Show(Show),
}

/// Check every line of the audit log against the one before it
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 when the log is whole, also when a crash has torn its last line, which the agent mends \
                  when it starts; 1 when a line does not follow from the one before, of which the first is told, \
                  or when newest lines were cut off, now or before; 2 when it could not be read."
)]
struct Verify {
    #[command(flatten)]
    place: Place,
}

/// Show the newest lines of the audit log
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0, or 2 when it could not be read. Whether it is whole tells `warden audit verify`."
)]
struct Show {
    /// How many lines to show
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 50)]
    lines: u32,

    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Place {
    /// The folder of the log; without it the agent's own
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,

    /// Print as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    match &arguments.verb {
        Verb::Verify(Verify { place }) => verify(place),
        Verb::Show(Show { lines, place }) => show(*lines, place).map(|()| 0),
    }
}

fn verify(place: &Place) -> anyhow::Result<u8> {
    let folder = place.folder();
    let told = audit::verify(&folder).with_context(|| cannot_read(&folder))?;
    let mut out = std::io::stdout().lock();
    if place.json {
        serde_json::to_writer_pretty(&mut out, &told)?;
        writeln!(out)?;
    } else {
        out.write_all(text(&told, &folder, Painter::stdout()).as_bytes())?;
    }
    Ok(u8::from(told.broken.is_some() || !told.cut.is_empty()))
}

fn text(told: &Verification, folder: &Path, paint: Painter) -> String {
    let lines = quantity::count(told.lines, "line", "lines");
    let files = quantity::count(told.files as u64, "file", "files");
    let mut text = if let Some(broken) = &told.broken {
        let place = harmless(&broken.file.display().to_string());
        let word = paint.paint(Style::Red, "broken");
        format!("{word}: {place} line {}: {}\n{lines} before it are whole\n", broken.line, broken.why)
    } else if !told.cut.is_empty() {
        format!("{lines} in {files} follow one from the other, but not all are there\n")
    } else if told.lines == 0 {
        format!("empty: there is no line in {}\n", harmless(&folder.display().to_string()))
    } else {
        format!("{}: {lines} in {files}\n", paint.paint(Style::Green, "whole"))
    };
    if told.first > 1 {
        text.push_str(&format!(
            "begins with line {}; what came before was removed for its age\n",
            told.first
        ));
    }
    for cut in &told.cut {
        let word = paint.paint(Style::Red, "cut");
        let by = cut.told_by.map_or_else(String::new, |line| format!(", as line {line} tells"));
        text.push_str(&format!("{word}: {}{by}\n", harmless(&cut.why)));
    }
    if told.torn {
        text.push_str("the last line was torn by a crash; the agent takes it out when it starts\n");
    }
    text
}

fn show(lines: u32, place: &Place) -> anyhow::Result<()> {
    let folder = place.folder();
    let newest = audit::newest(&folder, lines as usize).with_context(|| cannot_read(&folder))?;
    let mut out = std::io::stdout().lock();
    for line in &newest.lines {
        if place.json {
            serde_json::to_writer(&mut out, line)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{}", row(line, Painter::stdout()))?;
        }
    }
    if newest.unreadable > 0 && !place.json {
        let count = quantity::count(newest.unreadable, "line", "lines");
        writeln!(out, "{count} are none of an audit log: see warden audit verify")?;
    }
    Ok(())
}

fn row(Line { at, event, .. }: &Line, paint: Painter) -> String {
    let (style, word) = match event.event {
        Happened::Received => (Style::Dim, "received"),
        Happened::Accepted => (Style::Dim, "accepted"),
        Happened::Calling => (Style::Cyan, "calling"),
        Happened::Called => (Style::Cyan, "called"),
        Happened::Completed => (Style::Green, "completed"),
        Happened::Denied => (Style::Red, "denied"),
        Happened::Rejected => (Style::Red, "rejected"),
        Happened::Healed => (Style::Yellow, "healed"),
        Happened::Cut => (Style::Red, "cut"),
    };
    let mut row = format!("{at:.0}  {}", paint.paint(style, &format!("{word:9}")));
    if let (Some(request), Some(action)) = (event.request, &event.action) {
        row.push_str(&format!("  {request} {}", harmless(action)));
    }
    for (before, text) in [
        (" ", event.unit.as_ref().or(event.runtime.as_ref())),
        (" by ", event.author.as_ref().filter(|author| !author.is_empty())),
        (": ", event.code.as_ref()),
        (": ", event.reason.as_ref()),
    ] {
        if let Some(text) = text {
            row.push_str(before);
            row.push_str(&harmless(text));
        }
    }
    row
}

impl Place {
    fn folder(&self) -> PathBuf {
        let configured =
            || Settings::load(Path::new(fragments::FOLDER)).ok().map(|settings| settings.state_directory);
        self.folder.clone().or_else(configured).unwrap_or_else(|| STATE_DIRECTORY.into())
    }
}

fn cannot_read(folder: &Path) -> String {
    format!("cannot read the audit log in {}; it is root's and the agent's", folder.display())
}
