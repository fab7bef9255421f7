//! What a host's policy masks besides what the redactor knows.

use std::fmt;

use regex::RegexSet;
use regex::{Regex, RegexBuilder};

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
    entry: String,
    reason: String,
}

impl fmt::Display for BadEntry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "`{}` in also_mask: {}", self.entry, self.reason)
    }
}

impl std::error::Error for BadEntry {}

impl AlsoMask {
    pub fn new(entries: &[String]) -> Result<AlsoMask, BadEntry> {
        let bad = |entry: &str, reason: String| BadEntry { entry: entry.to_owned(), reason };
        if entries.len() > ENTRIES {
            return Err(bad("...", format!("{} entries are more than {ENTRIES}", entries.len())));
        }
        let mut each = Vec::new();
        for entry in entries {
            let expression = entry.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
            let pattern = expression.map_or_else(|| regex::escape(entry), str::to_owned);
            if entry.len() > ENTRY_BYTES {
                return Err(bad(entry, format!("longer than {ENTRY_BYTES} bytes")));
            }
            let built = RegexBuilder::new(&pattern).size_limit(COMPILED_BYTES).build();
            let regex = built.map_err(|error| bad(entry, format!("not a regular expression: {error}")))?;
            if regex.is_match("") {
                return Err(bad(entry, "it would mask the empty text".to_owned()));
            }
            each.push(regex);
        }
        let set =
            RegexSet::new(each.iter().map(Regex::as_str)).map_err(|error| bad("...", error.to_string()))?;
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
    fn what_cannot_be_used_is_an_error_that_names_it() {
        for (entry, error) in [
            ("/a(/", "`/a(/` in also_mask: not a regular expression: regex parse error:"),
            ("", "`` in also_mask: it would mask the empty text"),
            ("/x*/", "`/x*/` in also_mask: it would mask the empty text"),
            ("/[a-z]{1000}{1000}/", "`/[a-z]{1000}{1000}/` in also_mask: not a regular expression: "),
        ] {
            let told = also(&[entry]).unwrap_err().to_string();
            assert!(told.starts_with(error), "{told}");
        }
    }
}
