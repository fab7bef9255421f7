//! `[snapshot.automatic]` of the policy: when the host may take a snapshot without being asked.

use serde::Deserialize;

/// Snapshots a day, at most: more is what somebody asks for.
const MOST_PER_DAY: u32 = 24;
/// Hours, at most: what has not come back for a week is news.
const MOST_HOURS: u32 = 7 * 24;
/// Days, at most: certificates of Iggy's listeners rarely live longer.
const MOST_DAYS: u32 = 365;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Automatic {
    pub enabled: bool,
    /// In any 24 hours, whatever the reasons.
    pub most_per_day: u32,
    /// Until the same reason counts again.
    pub same_reason_hours: u32,
    /// A runtime's unit failed, or systemd had to start it again.
    pub unit_failed: bool,
    /// A runtime was killed for memory.
    pub out_of_memory: bool,
    /// A local filesystem is so full; nought: never.
    pub filesystem_percent: u8,
    /// A certificate of one of Iggy's listeners has so few days left; nought: never.
    pub certificate_days: u32,
}

impl Default for Automatic {
    /// What an operator expects who has set nothing: evidence of a crash, once, and nothing that goes on for ever.
    fn default() -> Automatic {
        Automatic {
            enabled: true,
            most_per_day: 3,
            same_reason_hours: 24,
            unit_failed: true,
            out_of_memory: true,
            filesystem_percent: 95,
            certificate_days: 14,
        }
    }
}

/// Tells every number that is out of its bounds.
pub(super) fn mistakes(automatic: &Automatic) -> Vec<String> {
    [
        ("most_per_day", automatic.most_per_day, 0, MOST_PER_DAY),
        ("same_reason_hours", automatic.same_reason_hours, 1, MOST_HOURS),
        ("filesystem_percent", automatic.filesystem_percent.into(), 0, 100),
        ("certificate_days", automatic.certificate_days, 0, MOST_DAYS),
    ]
    .into_iter()
    .filter(|(_, value, least, most)| !(least..=most).contains(&value))
    .map(|(name, _, least, most)| format!("snapshot.automatic.{name} must be from {least} to {most}"))
    .collect()
}
