//! What a host's policy masks besides what the redactor knows.

use std::fmt;

use regex::{Regex, RegexBuilder, RegexSet};

use super::span::Span;

/// Most entries a policy may have, and longest one in bytes: each is looked for in every text.
const ENTRIES: usize = 64;
const ENTRY_BYTES: usize = 512;
/// Compiled size of one expression in bytes; larger ones make every text slow.
const COMPILED_BYTES: usize = 1 << 20;

/// Texts, or regular expressions between slashes (`/cust-[0-9]+/`), that are masked wherever they stand.
#[derive(Clone, Debug, Default)]
pub struct AlsoMask {
    set: Option<RegexSet>,
    each: Vec<Regex>,
}

/// Why an entry cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadEntry {
    /// From 1; nought: all together. Not the entry itself, which is a secret.
    number: usize,
    reason: String,
}

impl fmt::Display for BadEntry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            0 => write!(out, "also_mask: {}", self.reason),
            number => write!(out, "entry {number} of also_mask: {}", self.reason),
        }
    }
}

impl std::error::Error for BadEntry {}

impl AlsoMask {
    pub fn new(entries: &[String]) -> Result<AlsoMask, BadEntry> {
        let bad = |number: usize, reason: String| BadEntry { number, reason };
        if entries.len() > ENTRIES {
            return Err(bad(0, format!("{} entries are more than {ENTRIES}", entries.len())));
        }
        let mut each = Vec::new();
        for (number, entry) in (1..).zip(entries) {
            let expression = entry.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
            let pattern = expression.map_or_else(|| regex::escape(entry), str::to_owned);
            if entry.len() > ENTRY_BYTES {
                return Err(bad(number, format!("longer than {ENTRY_BYTES} bytes")));
            }
            let built = RegexBuilder::new(&pattern).size_limit(COMPILED_BYTES).build();
            let regex = built.map_err(|error| {
                bad(number, format!("not a regular expression: {}", without_pattern(&error)))
            })?;
            if regex.is_match("") {
                return Err(bad(number, "it would mask the empty text".to_owned()));
            }
            each.push(regex);
        }
        let set =
            RegexSet::new(each.iter().map(Regex::as_str)).map_err(|error| bad(0, without_pattern(&error)))?;
        Ok(AlsoMask { set: (!each.is_empty()).then_some(set), each })
    }

    pub(super) fn find(&self, text: &str, spans: &mut Vec<Span>) {
        let Some(set) = &self.set else { return };
        for at in &set.matches(text) {
            spans.extend(
                self.each[at].find_iter(text).map(|found| Span::new(found.start(), found.end(), "policy")),
            );
        }
    }
}

/// What is wrong with an expression: its last line, for the others show the expression.
fn without_pattern(error: &regex::Error) -> String {
    let told = error.to_string();
    told.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Redactor, Shape};

    fn also(entries: &[&str]) -> Result<AlsoMask, BadEntry> {
        AlsoMask::new(&entries.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn what_a_policy_names_is_masked_besides_everything_else() {
        let redactor = Redactor::new([1; 32]).also_masking(also(&["Blue.Whale", "/cust-[0-9]+/"]).unwrap());
        for shape in [Shape::Log, Shape::Json, Shape::Toml, Shape::Plain] {
            let text = "{\"a\": \"Blue.Whale of cust-4711, not BlueXWhale; password=hunter2\"}\n";
            let masked = redactor.redact(shape, text).into_owned();
            assert_eq!(masked.matches("[secret:policy:").count(), 2, "{masked}");
            assert!(masked.contains("BlueXWhale; password=[secret:password:"), "{masked}");
            assert_eq!(redactor.redact(shape, &masked), masked);
        }
        assert_eq!(redactor.hits(b"x cust-4711 y"), 1);
    }

    #[test]
    fn what_cannot_be_used_is_told_by_its_number_and_not_shown() {
        for (entry, error) in [
            ("/a(/", "entry 2 of also_mask: not a regular expression: unclosed group"),
            ("", "entry 2 of also_mask: it would mask the empty text"),
            ("/x*/", "entry 2 of also_mask: it would mask the empty text"),
            ("/[a-z]{1000}{1000}/", "entry 2 of also_mask: not a regular expression: "),
        ] {
            let told = also(&["fine", entry]).unwrap_err().to_string();
            assert!(told.starts_with(error) && (entry.is_empty() || !told.contains(entry)), "{told}");
        }
    }
}
