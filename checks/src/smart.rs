//! What a disk says of its own health, as smartctl or nvme-cli tell it in JSON.

use serde_json::Value as Json;

use crate::finding::Verdict;

/// Counters of wear and failure; `None` is what the disk does not tell. Source: NVM Express 2.0, section
/// 5.16.1.3; smartctl(8), `--json`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The disk's own verdict.
    pub passed: Option<bool>,
    /// NVMe: bits of the critical warning.
    pub critical_warning: Option<u64>,
    /// NVMe: data that could not be read or written whole.
    pub media_errors: Option<u64>,
    /// ATA attribute 5, or the grown defects of SCSI.
    pub reallocated: Option<u64>,
    /// ATA attribute 197: sectors that cannot be read now.
    pub pending: Option<u64>,
    /// ATA attribute 198.
    pub uncorrectable: Option<u64>,
    /// NVMe: percent of the promised life that is used; may exceed 100.
    pub wear: Option<u64>,
    pub celsius: Option<i64>,
    pub hours: Option<u64>,
}

/// Used life from which a replacement should be planned, and from which the maker promises nothing.
const WEAR_NOTE_PERCENT: u64 = 90;
const WEAR_WARN_PERCENT: u64 = 100;

impl Health {
    /// From `smartctl --json --health --attributes`; the error is what smartctl said instead.
    pub fn of_smartctl(text: &str) -> Result<Health, String> {
        let json: Json = serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))?;
        let nvme = &json["nvme_smart_health_information_log"];
        let attribute = |id: u64| {
            let table = json["ata_smart_attributes"]["table"].as_array()?;
            number(&table.iter().find(|row| row["id"].as_u64() == Some(id))?["raw"]["value"])
        };
        let health = Health {
            passed: json["smart_status"]["passed"].as_bool(),
            critical_warning: number(&nvme["critical_warning"]),
            media_errors: number(&nvme["media_errors"]),
            reallocated: attribute(5).or_else(|| number(&json["scsi_grown_defect_list"])),
            pending: attribute(197),
            uncorrectable: attribute(198),
            wear: number(&nvme["percentage_used"]),
            celsius: json["temperature"]["current"].as_i64(),
            hours: number(&json["power_on_time"]["hours"]),
        };
        if health != Health::default() {
            return Ok(health);
        }
        let said = json["smartctl"]["messages"][0]["string"].as_str();
        Err(said.unwrap_or("the disk does not report its health").to_owned())
    }

    /// From `nvme smart-log --output-format=json`.
    pub fn of_nvme(text: &str) -> Result<Health, String> {
        let json: Json = serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))?;
        // Newer versions print the warning as an object of its bits.
        let warning =
            number(&json["critical_warning"]).or_else(|| number(&json["critical_warning"]["value"]));
        let health = Health {
            critical_warning: warning,
            media_errors: number(&json["media_errors"]),
            wear: number(&json["percent_used"]).or_else(|| number(&json["percentage_used"])),
            celsius: json["temperature"].as_i64().map(|kelvin| kelvin.saturating_sub(273)),
            hours: number(&json["power_on_hours"]),
            ..Health::default()
        };
        if health == Health::default() {
            Err("the disk does not report its health".to_owned())
        } else {
            Ok(health)
        }
    }

    /// What is wrong, each with its severity.
    pub fn problems(&self) -> Vec<(Verdict, String)> {
        /// Bit 1: too hot (or too cold), which passes.
        const TEMPERATURE: u64 = 1 << 1;
        let mut problems = Vec::new();
        let mut add = |severity, text: String| problems.push((severity, text));
        if self.passed == Some(false) {
            add(Verdict::Fail, "says that it is failing".to_owned());
        }
        if let Some(bits) = self.critical_warning.filter(|&bits| bits != 0) {
            let severity = if bits == TEMPERATURE { Verdict::Warn } else { Verdict::Fail };
            add(severity, format!("gives a critical warning ({})", warnings(bits).join(", ")));
        }
        let counted = [
            (Verdict::Fail, self.pending, "sectors that it cannot read"),
            (Verdict::Fail, self.uncorrectable, "sectors that it could not correct"),
            (Verdict::Warn, self.media_errors, "media errors"),
            (Verdict::Warn, self.reallocated, "sectors that it had to replace"),
        ];
        for (severity, count, what) in counted {
            if let Some(count) = count.filter(|&count| count > 0) {
                add(severity, format!("has {count} {what}"));
            }
        }
        if let Some(wear) = self.wear.filter(|&wear| wear >= WEAR_NOTE_PERCENT) {
            let severity = if wear >= WEAR_WARN_PERCENT { Verdict::Warn } else { Verdict::Note };
            add(severity, format!("has used {wear} % of its life"));
        }
        problems
    }
}

fn warnings(bits: u64) -> Vec<String> {
    const NAMES: [&str; 6] = [
        "spare space low",
        "temperature",
        "reliability degraded",
        "read-only",
        "backup failed",
        "persistent memory",
    ];
    let known = NAMES.iter().enumerate().filter(|(bit, _)| bits & (1 << bit) != 0);
    let mut names: Vec<String> = known.map(|(_, name)| (*name).to_owned()).collect();
    if bits >> NAMES.len() != 0 {
        names.push(format!("0x{bits:x}"));
    }
    names
}

/// Counters are 128 bits wide: large ones come as text or as a float.
fn number(json: &Json) -> Option<u64> {
    json.as_u64()
        .or_else(|| json.as_f64().filter(|&value| value >= 0.0).map(|value| value as u64))
        .or_else(|| json.as_str()?.replace(',', "").parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ata_disk_tells_its_sectors() {
        let json = r#"{"smart_status":{"passed":true},"temperature":{"current":31},"power_on_time":{"hours":40000},
            "ata_smart_attributes":{"table":[{"id":5,"raw":{"value":8}},{"id":197,"raw":{"value":2}},{"id":198,"raw":{"value":0}}]}}"#;
        let health = Health::of_smartctl(json).unwrap();
        assert_eq!((health.passed, health.celsius, health.hours), (Some(true), Some(31), Some(40_000)));
        let expected = [
            (Verdict::Fail, "has 2 sectors that it cannot read"),
            (Verdict::Warn, "has 8 sectors that it had to replace"),
        ];
        assert_eq!(health.problems(), expected.map(|(severity, text)| (severity, text.to_owned())));
    }

    #[test]
    fn both_forms_of_an_nvme_log_are_read() {
        let json = r#"{"critical_warning":{"value":2,"temp_threshold":1},"temperature":353,"percent_used":101,"media_errors":"1,234"}"#;
        let health = Health::of_nvme(json).unwrap();
        assert_eq!((health.celsius, health.media_errors), (Some(80), Some(1234)));
        assert_eq!(
            health.problems(),
            [
                (Verdict::Warn, "gives a critical warning (temperature)".to_owned()),
                (Verdict::Warn, "has 1234 media errors".to_owned()),
                (Verdict::Warn, "has used 101 % of its life".to_owned()),
            ]
        );
        let json = r#"{"smart_status":{"passed":false},"nvme_smart_health_information_log":{"critical_warning":69,"percentage_used":90,"media_errors":0}}"#;
        assert_eq!(
            Health::of_smartctl(json).unwrap().problems(),
            [
                (Verdict::Fail, "says that it is failing".to_owned()),
                (
                    Verdict::Fail,
                    "gives a critical warning (spare space low, reliability degraded, 0x45)".to_owned()
                ),
                (Verdict::Note, "has used 90 % of its life".to_owned()),
            ]
        );
    }

    #[test]
    fn what_smartctl_said_instead_is_the_error() {
        let json = r#"{"smartctl":{"exit_status":2,"messages":[{"string":"Smartctl open device: /dev/sda failed: Permission denied"}]}}"#;
        let said = "Smartctl open device: /dev/sda failed: Permission denied";
        assert_eq!(Health::of_smartctl(json), Err(said.to_owned()));
        assert_eq!(Health::of_nvme("{}"), Err("the disk does not report its health".to_owned()));
        assert!(Health::of_nvme("NVMe status: ...").is_err());
    }
}
