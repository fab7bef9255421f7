//! `warden checks`: what can be asked, and why.

use std::io::Write;

use clap::Subcommand;
use serde::Serialize;
use warden_checks::{CHECKS, Selection};
use warden_host::{Area, Check, quantity};

use super::plan;
use super::terminal::{Painter, Style};
use crate::iggy::report::Mode;
use crate::snapshot::data_inspection;
use crate::snapshot::report::{DATA_DIRECTORY, DATA_THRESHOLDS, DATA_TITLE, DATA_WHY};

/// List the checks, or explain some
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,

    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Explain checks: why each exists, what it reads, when it warns, what to do
    Explain {
        /// Id of a check, or name of an area
        #[arg(value_name = "ID|AREA", required = true)]
        names: Vec<String>,

        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Serialize)]
struct Explained {
    id: &'static str,
    area: &'static str,
    title: &'static str,
    why: &'static str,
    reads: Vec<String>,
    thresholds: &'static [&'static str],
    advice: &'static str,
    deadline_seconds: f64,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    match &arguments.verb {
        None => list(arguments.json)?,
        Some(Verb::Explain { names, json }) => {
            let (sections, names): (Vec<String>, Vec<String>) =
                names.iter().cloned().partition(|name| name == DATA_DIRECTORY);
            let mut all = Vec::new();
            if !names.is_empty() {
                let checks = Selection { only: names, skip: Vec::new() }.checks()?;
                all.extend(checks.into_iter().map(explained));
            }
            if !sections.is_empty() {
                all.push(data_directory());
            }
            explain(all, *json)?;
        }
    }
    Ok(0)
}

fn list(json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(
            &mut out,
            &CHECKS.iter().map(|check| explained(check)).collect::<Vec<_>>(),
        )?;
        return Ok(writeln!(out)?);
    }
    let paint = Painter::stdout();
    let width = CHECKS.iter().map(|check| check.id.len()).max().unwrap_or(0);
    let mut area = None;
    for check in CHECKS {
        if area.is_some_and(|area| area != check.area) {
            writeln!(out)?;
        }
        area = Some(check.area);
        let id = paint.paint(Style::Bold, &format!("{:width$}", check.id));
        writeln!(out, "{id}  {}", check.title)?;
    }
    Ok(writeln!(out, "\n{} checks; `warden checks explain ID` tells more of one", CHECKS.len())?)
}

fn explain(checks: Vec<Explained>, json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &checks)?;
        return Ok(writeln!(out)?);
    }
    let paint = Painter::stdout();
    for (index, all) in checks.into_iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        writeln!(out, "{}: {}\n", paint.paint(Style::Bold, all.id), all.title)?;
        writeln!(out, "{}\n", wrap(all.why, 96, ""))?;
        for (title, items) in [
            ("Reads", all.reads),
            ("Judges", all.thresholds.iter().map(|&text| text.to_owned()).collect()),
            ("Advice", vec![all.advice.to_owned()]),
            ("Deadline", vec![quantity::duration(all.deadline_seconds)]),
        ] {
            writeln!(out, "{}", paint.paint(Style::Bold, title))?;
            for item in items {
                writeln!(out, "  {}", wrap(&item, 94, "  "))?;
            }
        }
    }
    Ok(())
}

fn explained(check: &'static Check) -> Explained {
    Explained {
        id: check.id,
        area: check.area.name(),
        title: check.title,
        why: check.why,
        reads: plan::lines(check),
        thresholds: check.thresholds,
        advice: check.advice,
        deadline_seconds: check.deadline.as_secs_f64(),
    }
}

/// The section of a report that stands beside the checks.
fn data_directory() -> Explained {
    Explained {
        id: DATA_DIRECTORY,
        area: Area::Runtime.name(),
        title: DATA_TITLE,
        why: DATA_WHY,
        reads: vec!["Iggy's data directory, as deep as `warden snapshot --inspect` says".to_owned()],
        thresholds: &DATA_THRESHOLDS,
        advice: "`warden inspect DIR` tells each damage by segment, batch and offset. Keep a copy of the partition \
                 before anything is mended, and stop Iggy for that.",
        deadline_seconds: data_inspection::limit(Mode::None).as_secs_f64(),
    }
}

/// Breaks at spaces so that no line is longer than `width`; further lines begin with `indent`.
fn wrap(text: &str, width: usize, indent: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join(&format!("\n{indent}"))
}
