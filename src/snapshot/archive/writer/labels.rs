//! What members are called: their paths, without the secrets that may stand in them.

use std::collections::BTreeMap;
use std::io::Write;

use super::super::container::Label;
use super::super::inventory::MEMBER;
use super::super::tree::Tree;
use super::Writer;
use crate::snapshot::redact::Shape;

impl<W: Write> Writer<'_, W> {
    pub(super) fn label(&mut self, id: u32) -> Label {
        if let Some(entry) = self.tree.entries.get(id as usize)
            && !self.masked_labels.contains_key(&id)
        {
            let plain = self.tree.label(entry);
            if may_hold_a_secret(&plain) {
                let masked = self.redactor.redact(Shape::Plain, &plain);
                let masked = self.redactor.sweep(&masked);
                if *masked != plain {
                    // The token as a name that Windows takes.
                    self.masked_labels.insert(id, masked.replace(':', "-"));
                }
            }
        }
        label(&self.tree, &self.masked_labels, self.at, id)
    }
}

pub(super) fn label(tree: &Tree, masked: &BTreeMap<u32, String>, at: i64, id: u32) -> Label {
    let Some(entry) = tree.entries.get(id as usize) else {
        return Label { name: MEMBER.to_owned(), modified: at };
    };
    let mut name = masked.get(&id).cloned().unwrap_or_else(|| tree.label(entry));
    if entry.is_empty_folder && entry.left_out.is_none() {
        name.push('/');
    }
    Label { name, modified: entry.modified }
}

/// Names that Iggy gives are words and numbers; asking the mask about each of 200,000 would take its time.
pub(super) fn may_hold_a_secret(path: &str) -> bool {
    const SHORTEST: usize = 8;
    const IGGYS: [&str; 9] = [
        "streams",
        "topics",
        "partitions",
        "offsets",
        "consumers",
        "groups",
        "superblock",
        "metadata",
        "runtime",
    ];
    path.split(['/', '.']).any(|word| {
        word.len() >= SHORTEST && !word.bytes().all(|byte| byte.is_ascii_digit()) && !IGGYS.contains(&word)
    })
}
