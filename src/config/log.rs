//! `log` in `[agent]` and `[supervisor]`: what is logged, while it runs changeable by a reload.

use std::fmt;

use serde::Deserialize;

/// From the least to the most.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// A level, or levels by the part of the program: `info`, or `info,warden::agent=debug`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct LogLevel(String);

impl Default for LogLevel {
    fn default() -> LogLevel {
        LogLevel("info".to_owned())
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl TryFrom<String> for LogLevel {
    type Error = String;

    fn try_from(text: String) -> Result<LogLevel, String> {
        let part = |part: &str| {
            let (target, level) =
                part.split_once('=').map_or((None, part), |(target, level)| (Some(target), level));
            let is_target = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
            LEVELS.contains(&level)
                && target.is_none_or(|text| !text.is_empty() && text.chars().all(is_target))
        };
        match text.split(',').map(str::trim).all(part) {
            true => Ok(LogLevel(text)),
            false => Err(format!(
                "expected one of {}, or levels by part like info,warden::agent=debug",
                LEVELS.join(", ")
            )),
        }
    }
}

/// Writes levels by part as tracing knows the parts: each is a crate, `warden::agent` is `warden_agent`; the command line
/// is the program itself.
pub fn by_crate(levels: &str) -> String {
    let parts = levels.split(',').map(|part| match part.trim_start().strip_prefix("warden::") {
        Some(rest) if !rest.starts_with("cli") => format!("warden_{rest}"),
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_named_as_ever_whatever_crate_they_are() {
        assert_eq!(
            by_crate("info, warden::agent::link=debug,warden=warn,warden::cli=trace,hyper=off"),
            "info,warden_agent::link=debug,warden=warn,warden::cli=trace,hyper=off"
        );
    }

    #[test]
    fn a_level_is_one_of_the_known_and_nothing_else() {
        for good in ["info", "off", "info,warden::agent=debug", "warn, hyper=error"] {
            assert_eq!(LogLevel::try_from(good.to_owned()).unwrap().to_string(), good);
        }
        for wrong in ["", "debgu", "INFO", "warden::agent", "=debug", "info,", "x[y]=debug"] {
            assert!(LogLevel::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
