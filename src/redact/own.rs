//! Words of this program's own documents: a value that stands in them is no secret by standing there.

/// What pages and reports are made of, and the names of files in a bundle.
const OWN: [&str; 8] = [
    include_str!("../../templates/report.html"),
    include_str!("../../templates/report-parts.html"),
    include_str!("../../templates/report-icons.html"),
    include_str!("../../templates/report.css"),
    include_str!("../../templates/report.js"),
    include_str!("../../templates/report.schema.json"),
    // Fields of the manifest and of the inventory of the data directory.
    "version warden created_at complete items files redaction masked found_by_second_scan signature algorithm ed25519 \
     public_key fingerprint sha256 bytes reason wall_us outcome path left_out holds_credentials could not tell",
    "report.html report.json manifest.json manifest.sig iggy.zip host/ iggy-server streams topics partitions offsets \
     consumers groups superblock metadata runtime state tokens journal",
];

/// Whether a value is part of what every bundle says. It is masked where it stands as a secret, and not looked for
/// elsewhere: whoever can name a secret on the host could else have every bundle refused, or its page spoiled.
pub(super) fn is_own(value: &str) -> bool {
    OWN.iter().any(|text| text.contains(value))
}
