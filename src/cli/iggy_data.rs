//! `warden snapshot`: Iggy's data directory, looked into for the report and packed beside it.

use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::ensure;
use clap::ValueEnum;
use warden_checks::Selection;
use warden_host::quantity;

use super::output_file;
use super::progress::Progress;
use super::sign_encrypt::Seal;
use super::stall_watchdog::Watch;
use super::terminal::harmless;
use crate::iggy::report::Mode;
use crate::snapshot::archive::{self, Inventory, Mask, Plan, Taking};
use crate::snapshot::bundle::{Bundle, Packing};
use crate::snapshot::second_scan::SecondScan;
use crate::snapshot::{Place, Snapshot, data_inspection};
use crate::{background_io, config};

#[derive(Clone, Debug, clap::Args)]
#[group(id = "packing")]
pub struct Arguments {
    /// Add Iggy's data directory as iggy.zip: messages as they are, configuration and logs masked, no credentials
    ///
    /// Metadata and indexes come first, then logs, then the newest segments. What stays behind is named with the
    /// reason. See the size with --plan. With --anonymize all messages stay behind: nobody knows whom they name.
    #[arg(long)]
    include_iggy: bool,

    /// Room for the data directory, before packing: 500MiB, 2GiB, 64GiB
    #[arg(long, value_name = "SIZE", default_value = "2GiB", value_parser = parse_size)]
    iggy_budget: u64,

    /// The data directory, where it cannot be found by the running server or its unit
    #[arg(long, value_name = "DIR")]
    iggy_data: Option<PathBuf>,

    /// How deep to look into Iggy's data directory [default: sampled with --include-iggy, else structure]
    ///
    /// Tells in the report which segment, batch and message is damaged; nothing of a message is shown. Behind everybody
    /// else at the disk, and for at most 3 s (structure), 60 s (sampled) or an hour (full); what was not reached is told.
    #[arg(
        long,
        value_enum,
        value_name = "DEPTH",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "sampled"
    )]
    inspect: Option<Depth>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Depth {
    /// Not at all
    Off,
    /// Metadata, offsets, and whether index and log fit; no message is read
    #[value(alias = "none")]
    Structure,
    /// Also at most 1 GiB, spread over the segments, against its checksums
    Sampled,
    /// Also every byte
    Full,
}

/// Without this check, nobody asked for the data directory.
const CHECK_OF_DATA: &str = "runtime-iggy-data";

impl Arguments {
    pub fn wanted(&self) -> bool {
        self.include_iggy
    }

    /// Whether a folder of this host is read, also where a recording of another is judged.
    pub fn reads_this_host(&self) -> bool {
        self.iggy_data.is_some()
    }

    /// How deep the data directory is looked into, if at all.
    pub fn depth(&self, selection: &Selection) -> anyhow::Result<Option<Mode>> {
        let is_asked_for = selection.checks()?.iter().any(|check| check.id == CHECK_OF_DATA);
        Ok(match self.inspect {
            Some(Depth::Off) => None,
            Some(Depth::Structure) => Some(Mode::None),
            Some(Depth::Sampled) => Some(Mode::Sampled),
            Some(Depth::Full) => Some(Mode::Full),
            None if self.include_iggy => Some(Mode::Sampled),
            None => is_asked_for.then_some(Mode::None),
        })
    }

    /// The data directory. One that was asked for, to be packed or looked into, must be there: found out before the
    /// work is done. `None` when it is looked for in the course of it.
    pub fn place(&self, is_recorded: bool, watch: &Watch) -> anyhow::Result<Option<Place>> {
        ensure!(
            !(is_recorded && self.include_iggy),
            "--include-iggy packs the data directory of this host, and --host judges the recording of another; leave \
             one of them out"
        );
        if let Some(path) = &self.iggy_data {
            let found_by = "--iggy-data".to_owned();
            return Ok(Some(Place { path: path.clone(), found_by, rights: None }));
        }
        let is_asked_for = self.include_iggy || self.inspect.is_some_and(|depth| depth != Depth::Off);
        if !is_asked_for || is_recorded {
            return Ok(None);
        }
        let found = watch.while_asking("where Iggy keeps its data", crate::snapshot::data_directory)?;
        if self.include_iggy {
            watch.while_reading(&found.path, || found.open().map(drop))?;
        }
        Ok(Some(found))
    }

    /// For `--plan`: what is looked into and packed, where it was found, and how large it can get.
    pub fn described(
        &self,
        selection: &Selection,
        anonymous: bool,
        watch: &Watch,
    ) -> anyhow::Result<Vec<(&'static str, String, u64)>> {
        let mut described = Vec::new();
        let place = self.place(false, watch)?;
        if let Some(mode) = self.depth(selection)? {
            described.push(inspected(mode, place.as_ref(), watch)?);
        }
        if let Some(place) = place.filter(|_| self.include_iggy) {
            let (text, worst) = self.packed(&place, anonymous, watch)?;
            described.push(("pack", text, worst));
        }
        Ok(described)
    }

    fn packed(&self, place: &Place, anonymous: bool, watch: &Watch) -> anyhow::Result<(String, u64)> {
        let Place { path, found_by, .. } = place;
        let taking = taking(anonymous)?;
        let plan = watch
            .while_reading(path, || Plan::new(place.open()?, self.iggy_budget, 0, taking, watch.signs()))?;
        let (taken, left_out) = plan.tallies();
        let text = format!(
            "{} (by {}): {} with {}; {} with {} would stay behind",
            harmless(&path.display().to_string()),
            harmless(found_by),
            quantity::count(taken.files, "file", "files"),
            quantity::bytes(taken.bytes),
            quantity::count(left_out.files, "file", "files"),
            quantity::bytes(left_out.bytes),
        );
        Ok((text, plan.worst()))
    }

    /// Writes the bundle with the data directory to `path`, as `seal` says.
    pub fn write(
        &self,
        snapshot: &mut Snapshot,
        place: &Place,
        seal: &Seal,
        path: &Path,
        progress: &Progress,
        watch: &Watch,
    ) -> anyhow::Result<(u64, Inventory)> {
        let data = &place.path;
        // The host is diagnosed; all that follows has time.
        background_io::step_back_as_session();
        let taking = taking(snapshot.anonymizer.is_some())?;
        let at = snapshot.clock.seconds();
        let plan = watch
            .while_reading(data, || Plan::new(place.open()?, self.iggy_budget, at, taking, watch.signs()))?;
        let folder = output_file::folder_of(path).to_owned();
        ensure!(
            archive::room(&folder).is_none_or(|room| room >= archive::LEAST_ROOM),
            "{} has no room for the data directory; choose another place with --output, or leave out --include-iggy",
            folder.display()
        );
        let (taken, _) = plan.tallies();
        let done = progress.packing(taken.bytes);
        // What is a secret or a name there must not stand anywhere else either.
        let redactor = Arc::clone(&snapshot.redactor);
        let mask = Mask { redactor: &redactor, anonymizer: snapshot.anonymizer.as_ref() };
        let learned = watch.while_reading(data, || plan.learn(mask))?;
        snapshot.anonymize_further(learned.names.clone())?;
        let bundle = Bundle::signed(snapshot, seal.key.as_ref())?;
        let anonymizer = snapshot.anonymizer.as_ref();
        let scan = SecondScan { redactor: &redactor, anonymizer, iggy_as_it_is: taking.credentials };
        let (bytes, (inventory, _)) = output_file::write_with(
            path,
            |file| {
                let packing = Packing {
                    learned,
                    mask: Mask { redactor: &redactor, anonymizer },
                    key: seal.key.as_ref(),
                    room: &mut || archive::room(&folder),
                    observe: &mut |bytes| done.set_position(bytes),
                };
                let (out, back) = seal.wrap(BufWriter::with_capacity(output_file::WRITTEN_AT_ONCE, file))?;
                let (out, inventory) = watch.while_reading(data, || bundle.zip_with_iggy(out, packing))?;
                out.finish()?.into_inner().map_err(|error| error.into_error())?;
                Ok((inventory, back))
            },
            // What is on disk is read once more, decrypted on its way if it is encrypted there.
            |file, (_, back)| match back {
                None => scan.archive(file),
                Some(back) => scan.archive(back.open(file)?),
            },
        )?;
        Ok((bytes, inventory))
    }
}

/// What the host's policy and the wish to name nobody leave of the data directory.
fn taking(anonymous: bool) -> anyhow::Result<Taking> {
    let credentials = config::policy::includes_secrets_of_iggy(Path::new(config::policy::PLACE))?;
    ensure!(
        !(credentials && anonymous),
        "{} has the data directory taken as it is, and --anonymize is to name nobody: leave --include-iggy or \
         --anonymize out",
        config::policy::PLACE
    );
    Ok(Taking { messages: !anonymous, credentials })
}

fn inspected(
    mode: Mode,
    place: Option<&Place>,
    watch: &Watch,
) -> anyhow::Result<(&'static str, String, u64)> {
    /// An index, read whole; what is read beside it is less.
    const OF_A_SEGMENT: u64 = 4 << 20;
    let path = place.map_or_else(
        || "Iggy's data directory, if there is one".to_owned(),
        |place| harmless(&place.path.display().to_string()),
    );
    let limit = quantity::duration(data_inspection::limit(mode).as_secs_f64());
    let (depth, bytes) = match (mode, place) {
        (Mode::Full, Some(place)) => (
            "every byte of each segment",
            watch
                .while_reading(&place.path, || {
                    Plan::new(place.open()?, u64::MAX, 0, Taking::default(), watch.signs())
                })?
                .tallies()
                .0
                .bytes,
        ),
        (Mode::None, _) => ("structure of each segment", OF_A_SEGMENT),
        (Mode::Sampled | Mode::Full, _) => ("a sample", crate::iggy::SAMPLE),
    };
    let entries = config::INSPECT_ENTRIES;
    Ok(("inspect", format!("{path}: {depth}, {limit} and {entries} files at most"), bytes))
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
