//! A policy as text: whatever is wrong with it is told at once, each mistake with its place.

use std::ops::Range;

use anyhow::anyhow;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, ValueDeserializer};
use warden_redact::AlsoMask;

use super::{Policy, auto_snapshot, rules};
use crate::fragments::told;

/// Mistakes that are told; whoever made more reads these first.
const TOLD_LIMIT: usize = 20;
/// Characters of one of them.
const MISTAKE_LIMIT: usize = 200;

/// Reads a policy.
///
/// # Errors
/// Whatever is wrong with it, in one line: these words go into reasons, which leave the host, and into logs. Texts of the
/// policy are not in them, for what it masks is secret.
pub(super) fn parse(text: &str) -> anyhow::Result<Policy> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut mistakes: Vec<(usize, String)> = errors
        .iter()
        .map(|error| (error.span().map_or(0, |span| span.start), error.message().to_owned()))
        .collect();
    // After a tear the parser makes up what follows.
    if mistakes.is_empty() {
        let policy = read::<Policy>(text, table, &mut mistakes);
        if let Some(policy) = policy.filter(|_| mistakes.is_empty()) {
            let wrong = mistakes_of(&policy);
            return if wrong.is_empty() { Ok(policy) } else { Err(together(wrong)) };
        }
    }
    mistakes.sort();
    mistakes.dedup();
    Err(together(mistakes.into_iter().map(|(at, what)| format!("{}: {what}", place(text, at)))))
}

/// One error of several mistakes, within the limits.
fn together(mistakes: impl IntoIterator<Item = String>) -> anyhow::Error {
    let mut lines: Vec<String> =
        mistakes.into_iter().take(TOLD_LIMIT + 1).map(|mistake| harmless(&mistake)).collect();
    if lines.len() > TOLD_LIMIT {
        lines.truncate(TOLD_LIMIT);
        lines.push("and more".to_owned());
    }
    anyhow!(lines.join("; "))
}

/// In one line, bounded, without what could command a terminal.
fn harmless(text: &str) -> String {
    let plain = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    plain.take(MISTAKE_LIMIT).collect()
}

/// What serde says of a value, without the value where that is a text.
fn without_text(message: &str) -> String {
    let Some((before, rest)) = message.split_once(": string \"") else { return message.to_owned() };
    let after = rest.rsplit_once("\", expected").map_or("", |(_, after)| after);
    format!("{before}: a string, expected{after}")
}

/// Takes what is wrong out of the table, one after the other, and keeps what is said of it.
fn read<T: DeserializeOwned>(
    text: &str,
    mut table: Spanned<DeTable<'_>>,
    mistakes: &mut Vec<(usize, String)>,
) -> Option<T> {
    let mut removed: Vec<(usize, String)> = Vec::new();
    let read = loop {
        let span = table.span();
        let whole = Spanned::new(span, DeValue::Table(table.get_ref().clone()));
        match T::deserialize(ValueDeserializer::from(whole)) {
            Ok(read) => break Some(read),
            Err(error) => {
                let span = error.span().unwrap_or(0..text.len());
                mistakes.push((span.start, without_text(&told(error.message().trim()))));
                // Each is found by reading all anew.
                if mistakes.len() > TOLD_LIMIT {
                    break None;
                }
                match remove(table.get_mut(), &span) {
                    Some(key) => removed.push((span.start, key)),
                    None => break None,
                }
            }
        }
    };
    // What lacks only because it was taken out is no mistake of its own.
    for (at, key) in removed {
        let lacks = format!("missing field `{key}`");
        let by_itself =
            mistakes.iter().enumerate().filter(|(_, (start, what))| *start < at && *what == lacks);
        if let Some((index, _)) = by_itself.max_by_key(|(_, (start, _))| *start) {
            mistakes.remove(index);
        }
    }
    read
}

/// Removes the innermost entry that `wrong` lies in, and returns its key. None when there is none.
fn remove(table: &mut DeTable<'_>, wrong: &Range<usize>) -> Option<String> {
    let has = |span: Range<usize>| span.start <= wrong.start && wrong.end <= span.end;
    let mut named = None;
    for (key, value) in table.iter_mut() {
        if has(key.span()) {
            named = Some(key.clone());
            break;
        }
        let around = has(value.span());
        // The span of a table is that of its head, not of what stands below.
        let value = value.get_mut();
        let inner = if let DeValue::Table(inner) = value {
            remove(inner, wrong)
        } else if let DeValue::Array(items) = value {
            remove_item(items, wrong)
        } else {
            None
        };
        if inner.is_some() {
            return inner;
        }
        if around {
            named = Some(key.clone());
            break;
        }
    }
    let key = named?;
    table.remove(&key)?;
    Some(key.get_ref().to_string())
}

fn remove_item(items: &mut DeArray<'_>, wrong: &Range<usize>) -> Option<String> {
    let mut at = None;
    for (index, item) in items.iter_mut().enumerate() {
        let span = item.span();
        if let DeValue::Table(inner) = item.get_mut()
            && let Some(key) = remove(inner, wrong)
        {
            return Some(key);
        }
        if span.start <= wrong.start && wrong.end <= span.end {
            at = Some(index);
        }
    }
    let at = at?;
    let mut kept = DeArray::new();
    for (_, item) in items.iter().enumerate().filter(|(index, _)| *index != at) {
        kept.push(item.clone());
    }
    *items = kept;
    Some(String::new())
}

fn mistakes_of(policy: &Policy) -> Vec<String> {
    let mut wrong: Vec<String> = Vec::new();
    wrong.extend(AlsoMask::new(&policy.redaction.also_mask).err().map(|error| error.to_string()));
    wrong.extend(rules::mistakes(&policy.rule));
    wrong.extend(auto_snapshot::mistakes(&policy.snapshot.automatic));
    wrong
}

fn place(text: &str, at: usize) -> String {
    let before = &text[..text.floor_char_boundary(at)];
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {}, column {column}", before.matches('\n').count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_mistake_of_syntax_is_told_in_one_line_with_its_place() {
        assert_eq!(wrong("[redaction]\nalso_mask = ["), "line 2, column 14: unclosed array, expected `]`");
    }

    #[test]
    fn every_mistake_is_told_with_its_place_and_what_may_have_been_meant() {
        let text = "[redactoin]\n[snapshot]\nalow = false\ninclude_iggy = \"no\"\n[snapshot.automatic]\n\
                    enabeld = false\nmost_per_day = -1\n[[rule]]\nname = \"nights\"\nthen = \"denied\"\n\
                    [[rule]]\nname = 7\nthen = \"deny\"\n[[rule]]\nname = \"no end\"\n";
        let told = wrong(text);
        let told: Vec<&str> = told.split("; line ").collect();
        assert_eq!(
            told,
            [
                "line 1, column 2: unknown key `redactoin`; did you mean `redaction`?",
                "3, column 1: unknown key `alow`; did you mean `allow`?",
                "4, column 16: invalid type: a string, expected a boolean",
                "6, column 1: unknown key `enabeld`; did you mean `enabled`?",
                "7, column 16: invalid value: integer `-1`, expected u32",
                "10, column 8: unknown variant `denied`, expected `allow` or `deny`",
                "12, column 8: invalid type: integer `7`, expected a string",
                "14, column 1: missing field `then`",
            ]
        );
    }

    #[test]
    fn what_only_the_whole_shows_is_told_together_too() {
        let told = wrong(
            "[redaction]\nalso_mask = [\"/(/\"]\n[snapshot.automatic]\nmost_per_day = 25\ncertificate_days = 366\n\
             [[rule]]\nname = \"a\"\nthen = \"deny\"\nactions = [\"reboot\"]\n[[rule]]\nname = \"\"\nthen = \"deny\"\n",
        );
        for part in [
            "not a regular expression",
            "snapshot.automatic.most_per_day must be from 0 to 24",
            "snapshot.automatic.certificate_days must be from 0 to 365",
            "the rule \"a\" names the action \"reboot\", which there is not",
            "rule 2 has no name",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(!told.contains('\n'), "{told}");
    }

    #[test]
    fn what_is_masked_is_not_told_and_however_much_is_wrong_the_error_is_short() {
        for text in [
            "[redaction]\nalso_mask = \"Blue.Whale\"\n",
            "[redaction]\nalso_mask = \"say \\\"Blue.Whale\\\", expected\"\n",
            "[redaction]\nalso_mask = [\"/Blue.Whale(/\"]\n",
            "[redaction]\nalso_mask = [7, \"Blue.Whale\"]\n",
        ] {
            let told = wrong(text);
            assert!(!told.contains("Whale") && !told.is_empty(), "{told}");
        }
        let many: String = (0..5_000).map(|number| format!("key{number} = 1\n")).collect();
        let told = wrong(&many);
        assert!(told.ends_with("; and more") && told.matches("unknown key").count() == TOLD_LIMIT, "{told}");
        let long = wrong(&format!("\"\\u001b[2J{}\" = 1\n", "x".repeat(100_000)));
        assert!(long.len() < 2 * MISTAKE_LIMIT && !long.contains('\u{1b}'), "{long}");
    }
}
