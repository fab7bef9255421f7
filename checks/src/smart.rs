//! What a disk says of its own health, as smartctl or nvme-cli tell it in JSON.

use serde_json::Value as Json;
use warden_host::Verdict;

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
    /// ATA attribute 5, or the grown defects of SCSI, since the disk was made.
    pub reallocated: Option<u64>,
    /// Whether the disk itself rates its replaced sectors as nothing: the attribute has its best value still.
    pub rates_reallocated_well: bool,
    /// ATA attribute 197: sectors that cannot be read now.
    pub pending: Option<u64>,
    /// ATA attribute 198, which many disks count since they were made.
    pub uncorrectable: Option<u64>,
    /// ATA attributes that have fallen to the maker's threshold, now or once.
    pub below: Vec<(String, When)>,
    /// NVMe: percent of the promised life that is used; may exceed 100.
    pub wear: Option<u64>,
    pub celsius: Option<i64>,
    pub hours: Option<u64>,
}

/// When an attribute was at or below its threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Now, and the attribute foretells a failure.
    Failing,
    /// Now, and the attribute only tells age.
    Old,
    Past,
}

/// The value of an attribute that has nothing to complain of: most start at 100, some at 200 or 253.
const BEST_VALUE: u64 = 100;

/// Used life from which a replacement should be planned, and from which the maker promises nothing.
const WEAR_NOTE_PERCENT: u64 = 90;
const WEAR_WARN_PERCENT: u64 = 100;

impl Health {
    /// From `smartctl --json --health --attributes`; the error is what smartctl said instead.
    pub fn of_smartctl(text: &str) -> Result<Health, String> {
        let json: Json = serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))?;
        let nvme = &json["nvme_smart_health_information_log"];
        let table = json["ata_smart_attributes"]["table"].as_array().map(Vec::as_slice).unwrap_or_default();
        // A maker may give the number to something else: `Current_Pending_ECC_Cnt` is no sector.
        let row = |id: u64, names: &[&str]| {
            let is_meant = |name: &str| names.iter().any(|part| name.contains(part));
            table
                .iter()
                .find(|row| row["id"].as_u64() == Some(id) && row["name"].as_str().is_none_or(is_meant))
        };
        let attribute = |id: u64, names: &[&str]| row(id, names).and_then(raw);
        let reallocated = row(5, &["Reallocat", "Retired"]);
        let is_best =
            |row: &Json| row["value"].as_u64() >= Some(BEST_VALUE) && row["thresh"].as_u64() > Some(0);
        let warning = number(&nvme["critical_warning"]);
        // smartctl makes its verdict on an NVMe disk from the warning, which is told by itself.
        let passed =
            json["smart_status"]["passed"].as_bool().filter(|_| warning.is_none_or(|bits| bits == 0));
        let health = Health {
            passed,
            critical_warning: warning,
            media_errors: number(&nvme["media_errors"]),
            reallocated: reallocated.and_then(raw).or_else(|| number(&json["scsi_grown_defect_list"])),
            rates_reallocated_well: reallocated.is_some_and(is_best),
            pending: attribute(197, &["Pending_Sector"]),
            uncorrectable: attribute(198, &["Uncorrect"]),
            below: table.iter().filter_map(below).collect(),
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
        for (name, when) in &self.below {
            let (severity, text) = match when {
                When::Failing => (Verdict::Fail, "which foretells a failure"),
                When::Old => (Verdict::Warn, "which tells its age"),
                When::Past => (Verdict::Note, "once, and no longer"),
            };
            add(severity, format!("rates {name} at or below the maker's threshold, {text}"));
        }
        // A sector that waits is lost now; one that was lost may have been written anew since.
        let uncorrectable = if self.pending == Some(0) { Verdict::Warn } else { Verdict::Fail };
        let reallocated = if self.rates_reallocated_well { Verdict::Note } else { Verdict::Warn };
        let counted = [
            (Verdict::Fail, self.pending, "sectors that it cannot read"),
            (uncorrectable, self.uncorrectable, "sectors that it could not correct since it was made"),
            (Verdict::Warn, self.media_errors, "media errors since it was made"),
            (reallocated, self.reallocated, "sectors that it had to replace since it was made"),
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

/// The count of an attribute. The raw value may hold more in its upper bytes (`8 (2 0)`, `31 (Min/Max 20/45)`): smartctl
/// prints as text what the maker means, the count first.
fn raw(row: &Json) -> Option<u64> {
    /// Counts of sectors need no more; what is above is packed.
    const COUNT: u64 = u32::MAX as u64;
    match row["raw"]["string"].as_str() {
        Some(text) => text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok(),
        None => number(&row["raw"]["value"]).filter(|&value| value <= COUNT),
    }
}

/// The attribute that is or was at its threshold. Source: smartctl(8), WHEN_FAILED.
fn below(row: &Json) -> Option<(String, When)> {
    let when = match row["when_failed"].as_str()? {
        "now" if row["flags"]["prefailure"].as_bool() == Some(true) => When::Failing,
        "now" => When::Old,
        "past" => When::Past,
        _ => return None,
    };
    let name = row["name"].as_str().map_or_else(|| format!("attribute {}", row["id"]), str::to_owned);
    Some((name, when))
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
            (Verdict::Warn, "has 8 sectors that it had to replace since it was made"),
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
                (Verdict::Warn, "has 1234 media errors since it was made".to_owned()),
                (Verdict::Warn, "has used 101 % of its life".to_owned()),
            ]
        );
        let json = r#"{"smart_status":{"passed":false},"nvme_smart_health_information_log":{"critical_warning":69,"percentage_used":90,"media_errors":0}}"#;
        assert_eq!(
            Health::of_smartctl(json).unwrap().problems(),
            [
                (
                    Verdict::Fail,
                    "gives a critical warning (spare space low, reliability degraded, 0x45)".to_owned()
                ),
                (Verdict::Note, "has used 90 % of its life".to_owned()),
            ]
        );
    }

    #[test]
    fn the_devices_own_reading_of_its_numbers_is_believed_and_not_the_packed_bytes() {
        let row = |id: u64, name: &str, value: u64, raw: &str, string: &str, when: &str| {
            format!(
                r#"{{"id":{id},"name":"{name}","value":{value},"worst":{value},"thresh":10,"when_failed":"{when}",
                "flags":{{"prefailure":true}},"raw":{{"value":{raw},"string":"{string}"}}}}"#
            )
        };
        let of = |rows: &[String]| {
            let json = format!(
                r#"{{"smart_status":{{"passed":true}},"temperature":{{"current":31}},"ata_smart_attributes":{{"table":[{}]}}}}"#,
                rows.join(",")
            );
            Health::of_smartctl(&json).unwrap().problems()
        };
        let seagate = [
            row(1, "Raw_Read_Error_Rate", 82, "161164360", "161164360", ""),
            row(5, "Reallocated_Sector_Ct", 100, "281474976710656", "0 (65536 0)", ""),
            row(188, "Command_Timeout", 100, "8590065666", "2 2 2", ""),
            row(194, "Temperature_Celsius", 31, "193273724959", "31 (0 17 0 45 0)", ""),
            row(197, "Current_Pending_ECC_Cnt", 100, "1", "1", ""),
            row(199, "UDMA_CRC_Error_Count", 200, "4711", "4711", ""),
        ];
        assert_eq!(of(&seagate), []);
        let few = [
            row(5, "Reallocated_Sector_Ct", 100, "8", "8", ""),
            row(197, "Current_Pending_Sector", 100, "0", "0", ""),
            row(198, "Offline_Uncorrectable", 100, "3", "3", ""),
        ];
        let severities: Vec<Verdict> = of(&few).into_iter().map(|(severity, _)| severity).collect();
        assert_eq!(severities, [Verdict::Warn, Verdict::Note]);
        let failing = [row(5, "Reallocated_Sector_Ct", 5, "2000", "2000", "now")];
        let text = "rates Reallocated_Sector_Ct at or below the maker's threshold, which foretells a failure";
        assert_eq!(of(&failing)[0], (Verdict::Fail, text.to_owned()));
    }

    #[test]
    fn a_hot_nvme_disk_is_hot_and_not_failing() {
        let json = r#"{"smart_status":{"passed":false,"nvme":{"value":2}},"nvme_smart_health_information_log":{"critical_warning":2,"percentage_used":1,"media_errors":0}}"#;
        let problems = Health::of_smartctl(json).unwrap().problems();
        assert_eq!(problems, [(Verdict::Warn, "gives a critical warning (temperature)".to_owned())]);
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
