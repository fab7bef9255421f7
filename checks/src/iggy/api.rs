//! What Iggy's own HTTP API tells to a user with `read_servers`, the least right that shows anything.

use serde::Deserialize;
use warden_host::{Error, Result};

/// `GET /stats`. Sizes are strings with units of either kind: `67380 KiB`, `9425.824 KB`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Statistics {
    pub iggy_server_version: Option<String>,
    pub streams_count: u64,
    pub topics_count: u64,
    pub partitions_count: u64,
    pub segments_count: u64,
    pub messages_count: u64,
    pub clients_count: u64,
    pub consumer_groups_count: u64,
    pub messages_size_bytes: String,
    /// Microseconds.
    pub run_time: u64,
}

impl Statistics {
    pub fn parse(body: &str) -> Result<Statistics> {
        serde_json::from_str(body).map_err(|error| Error::parse("GET /stats", error.to_string()))
    }

    pub fn message_bytes(&self) -> Option<u64> {
        size(&self.messages_size_bytes)
    }
}

/// `7.125 MiB` and `9425.824 KB` in bytes: powers of 1024 with an `i`, of 1000 without.
pub fn size(text: &str) -> Option<u64> {
    let (number, unit) = text.trim().split_once(' ')?;
    let factor = match unit.trim() {
        "B" => 1.0,
        "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "TB" => 1e12,
        "KiB" => 1024.0,
        "MiB" => 1_048_576.0,
        "GiB" => 1_073_741_824.0,
        "TiB" => 1_099_511_627_776.0,
        _ => return None,
    };
    let bytes = number.parse::<f64>().ok()? * factor;
    (bytes.is_finite() && bytes >= 0.0).then_some(bytes.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_both_kinds_of_units() {
        let sizes = ["0 B", "67380 KiB", "7.125 MiB", "9425.824 KB", "12.768 MB"].map(size);
        assert_eq!(sizes, [Some(0), Some(68_997_120), Some(7_471_104), Some(9_425_824), Some(12_768_000)]);
        assert_eq!(["", "7", "x KB", "-1 KB", "7 parsecs"].map(size), [None; 5]);
    }

    #[test]
    fn the_answer_of_a_real_server_is_read() {
        let body = r#"{"process_id":23092,"run_time":8000000,"messages_size_bytes":"14451.763 KB","streams_count":3,
            "topics_count":4,"partitions_count":7,"segments_count":13,"messages_count":22267,"clients_count":2,
            "consumer_groups_count":2,"iggy_server_version":"0.9.0-edge.5","cache_metrics":{}}"#;
        let statistics = Statistics::parse(body).unwrap();
        assert_eq!((statistics.messages_count, statistics.message_bytes()), (22_267, Some(14_451_763)));
        assert!(Statistics::parse("[]").is_err());
    }
}
