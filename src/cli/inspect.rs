//! `warden inspect`: a data directory of Iggy, offline.

use std::io::Write;
use std::path::PathBuf;

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::inspect_text;
use super::terminal::Painter;
use crate::iggy::report::{Mode, Verdict};
use crate::iggy::{Order, inspect};

/// Inspect a data directory of Iggy, offline
///
/// Tells which server wrote it, what streams, topics, partitions and segments it holds, how far consumers have read,
/// whether index and log fit, and holds batches and messages against their checksums. Names the damaged segment,
/// batch and message offset. Changes nothing and shows nothing of a message.
///
/// A running server may be writing to the directory; what it has not finished is noted, and is no damage. Reads stay
/// behind everybody else's, and the page cache is left as found where the filesystem tells what is in it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 when what was looked at is sound, 1 when something is damaged, 2 when it could \
                        not run."
)]
pub struct Arguments {
    /// The data directory, `iggy.zip`, or a bundle that holds one
    #[arg(value_name = "DIR|ZIP")]
    path: PathBuf,

    /// How much to hold against the checksums: all, at most 1 GiB spread over the segments, or nothing
    #[arg(long, value_enum, default_value = "sampled")]
    scan: Scan,

    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scan {
    Full,
    Sampled,
    None,
}

impl From<Scan> for Mode {
    fn from(scan: Scan) -> Mode {
        match scan {
            Scan::Full => Mode::Full,
            Scan::Sampled => Mode::Sampled,
            Scan::None => Mode::None,
        }
    }
}

pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let bar = bar(arguments.json);
    let order = Order::new(&arguments.path, arguments.scan.into());
    let inspected = inspect(order, &|progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        true
    });
    bar.finish_and_clear();
    let inspection = inspected?;
    let mut out = std::io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, &inspection)?;
        writeln!(out)?;
    } else {
        out.write_all(inspect_text::text(&inspection, Painter::stdout()).as_bytes())?;
    }
    Ok(u8::from(inspection.verdict == Verdict::Damaged))
}

/// Draws nothing when stderr is no terminal.
fn bar(quiet: bool) -> ProgressBar {
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(None, target);
    let template =
        "{bar:24} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {elapsed} (eta {eta})";
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}
