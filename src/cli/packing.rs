//! `warden snapshot --include-iggy`: the data directory, packed beside the report.

use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use warden_checks::quantity;

use super::output;
use super::progress::Progress;
use super::terminal::harmless;
use crate::snapshot::Snapshot;
use crate::snapshot::archive::{self, Inventory, Plan};
use crate::snapshot::bundle::{Bundle, Packing};
use crate::snapshot::second_scan::SecondScan;
use crate::snapshot::signature::SigningKey;

#[derive(Debug, clap::Args)]
#[group(id = "packing")]
pub struct Arguments {
    /// Add Iggy's data directory as iggy.zip: messages as they are, configuration and logs masked, no credentials
    ///
    /// Metadata and indexes come first, then logs, then the newest segments. What stays behind is named with the
    /// reason. See the size with --plan.
    #[arg(long, conflicts_with_all = ["host", "encrypt_to", "anonymize"])]
    include_iggy: bool,

    /// Room for the data directory, before packing: 500MiB, 2GiB, 64GiB
    #[arg(long, value_name = "SIZE", default_value = "2GiB", value_parser = parse_size)]
    iggy_budget: u64,

    /// The data directory, where it cannot be found by the running server or its unit
    #[arg(long, value_name = "DIR", requires = "include_iggy")]
    iggy_data: Option<PathBuf>,
}

impl Arguments {
    pub fn wanted(&self) -> bool {
        self.include_iggy
    }

    /// The directory to pack and how it was found.
    pub fn directory(&self) -> anyhow::Result<(PathBuf, String)> {
        if let Some(path) = &self.iggy_data {
            return Ok((path.clone(), "--iggy-data".to_owned()));
        }
        let found = crate::snapshot::data_directory()?
            .context("no data directory of Iggy was found; name it with --iggy-data DIR")?;
        Ok((PathBuf::from(found.path), found.found_by))
    }

    /// What would be packed; `at` in Unix seconds is when that is.
    pub fn plan(&self, at: i64) -> anyhow::Result<Plan> {
        let (path, _) = self.directory()?;
        Plan::new(&path, self.iggy_budget, at)
    }

    /// For `--plan`: what it is, where it was found, and how large it can get.
    pub fn described(&self) -> anyhow::Result<(String, u64)> {
        let (path, found_by) = self.directory()?;
        let plan = Plan::new(&path, self.iggy_budget, 0)?;
        let (taken, left_out) = plan.tallies();
        let text = format!(
            "{} (by {}): {} with {}; {} with {} would stay behind",
            harmless(&path.display().to_string()),
            harmless(&found_by),
            quantity::count(taken.files, "file", "files"),
            quantity::bytes(taken.bytes),
            quantity::count(left_out.files, "file", "files"),
            quantity::bytes(left_out.bytes),
        );
        Ok((text, plan.worst()))
    }

    /// Writes the bundle with the data directory to `path`.
    pub fn write(
        &self,
        snapshot: &Snapshot,
        key: Option<&SigningKey>,
        path: &Path,
        progress: &Progress,
    ) -> anyhow::Result<(u64, Inventory)> {
        let bundle = Bundle::signed(snapshot, key)?;
        let plan = self.plan(snapshot.clock.seconds())?;
        let folder = output::folder_of(path).to_owned();
        ensure!(
            archive::room(&folder).is_none_or(|room| room >= archive::LEAST_ROOM),
            "{} has no room for the data directory; choose another place with --output, or leave out --include-iggy",
            folder.display()
        );
        let (taken, _) = plan.tallies();
        let done = progress.packing(taken.bytes);
        output::write_with(
            path,
            |file| {
                let packing = Packing {
                    plan,
                    redactor: &snapshot.redactor,
                    key,
                    room: &mut || archive::room(&folder),
                    observe: &mut |bytes| done.set_position(bytes),
                };
                let out = BufWriter::with_capacity(output::WRITTEN_AT_ONCE, file);
                let (out, inventory) = bundle.zip_with_iggy(out, packing)?;
                out.into_inner().map_err(|error| error.into_error())?;
                Ok(inventory)
            },
            |file| SecondScan { redactor: &snapshot.redactor, anonymizer: None }.archive(file),
        )
    }
}

/// `500MiB`, `2G`, `1048576`: powers of 1024, whatever the spelling.
fn parse_size(text: &str) -> Result<u64, String> {
    let hint = || format!("`{text}` is not a size; write it as 500MiB or 2GiB");
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(hint()),
    };
    let number: u64 = number.parse().map_err(|_| hint())?;
    number.checked_mul(1 << shift).ok_or_else(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(parse_size("2GiB"), Ok(2 << 30));
        assert_eq!(parse_size("500 mb"), Ok(500 << 20));
        assert_eq!(parse_size("12"), Ok(12));
        for wrong in ["", "GiB", "1.5GiB", "2 parsecs", "99999999T"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
