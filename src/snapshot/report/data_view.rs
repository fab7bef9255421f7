//! The data directory as the page shows it: figures that are seen at once, and the finding below them.

use warden_host::quantity::{bytes, count, number, time};
use warden_iggy::report::{Inspection, Mode};

use super::data_directory::{DataDirectory, share};
use super::finding::{FindingView, LogLines};
use super::model::Outcome;
use super::sanitize;

pub struct DataView {
    pub path: String,
    pub figures: Vec<(&'static str, String)>,
    pub finding: FindingView,
}

impl DataView {
    pub fn new(data: &DataDirectory, lines: &mut LogLines) -> DataView {
        let mut finding = FindingView::new(&data.finding(), lines);
        finding.by_questions = false;
        finding.open = data.outcome >= Outcome::Warn;
        let mut figures = data.inspection.as_deref().map_or_else(Vec::new, figures);
        if let Some(rate) = data.cost.and_then(|cost| cost.bytes_per_second) {
            figures.push(("Checked at", format!("{}/s", bytes(rate))));
        }
        DataView { path: sanitize::line(&data.path), figures, finding }
    }
}

fn figures(inspection: &Inspection) -> Vec<(&'static str, String)> {
    let (totals, scan) = (&inspection.totals, &inspection.scan);
    let held = match scan.mode {
        Mode::None => "only the structure".to_owned(),
        Mode::Sampled | Mode::Full => {
            format!("{} ({} %)", bytes(scan.verified_bytes), number(share(inspection)))
        }
    };
    let newest = totals.last_at.and_then(|micros| i64::try_from(micros / 1_000_000).ok());
    let figures = [
        ("Written by", Some(inspection.generation.name().to_owned())),
        (
            "Streams, topics, partitions",
            Some(format!("{}, {}, {}", totals.streams, totals.topics, totals.partitions)),
        ),
        (
            "In segments",
            Some(format!("{} in {}", bytes(totals.log_bytes), count(totals.segments, "file", "files"))),
        ),
        ("Messages", Some(totals.messages.to_string())),
        ("Newest message", newest.map(time)),
        ("Held against checksums", Some(held)),
    ];
    figures.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}
