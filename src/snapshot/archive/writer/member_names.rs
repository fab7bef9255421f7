//! What members are called: their paths, without the secrets and names that may stand in them.

use std::collections::BTreeMap;
use std::io::Write;

use super::super::file_list::Tree;
use super::super::inventory::MEMBER;
use super::super::zip_writer::Label;
use super::Writer;

impl<W: Write> Writer<'_, W> {
    pub(super) fn label(&mut self, id: u32) -> Label {
        if let Some(entry) = self.plan.tree.entries.get(id as usize)
            && !self.plan.taking.credentials
            && !self.masked_labels.contains_key(&id)
            && let Some(masked) = self.mask.path(&self.plan.tree.label(entry))
        {
            self.masked_labels.insert(id, masked);
        }
        label(&self.plan.tree, &self.masked_labels, self.plan.at, id)
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
