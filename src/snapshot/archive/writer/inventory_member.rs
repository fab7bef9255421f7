//! Tells what is missing, was renamed or changed: as a member of the archive, and for the manifest.

use std::io::{self, Write};

use crc32fast::Hasher;

use super::super::deflate::{BLOCK_BYTES, END, Packer, stored};
use super::super::file_list::Reason;
use super::super::zip_writer::Container;
use super::Writer;

impl<W: Write> Writer<'_, W> {
    /// Names what is missing: in the inventory the first ones, in a member of the archive all.
    pub(super) fn tell(&mut self) -> anyhow::Result<()> {
        let id = self.plan.tree.entries.len() as u32;
        let label = self.label(id);
        let mut packer = Packer::new();
        let (mut text, mut packed) = (String::from("what\tbytes\tmodified\tpath\n"), Vec::new());
        let mut crc = Hasher::new();
        let mut size = 0;
        self.container.begin(id, &label, 0)?;
        let data_at = self.container.written();
        let mut put = |container: &mut Container<W>, text: &mut String, least: usize| -> io::Result<()> {
            if text.len() < least {
                return Ok(());
            }
            crc.update(text.as_bytes());
            size += text.len() as u64;
            match packer.pack(text.as_bytes(), &mut packed) {
                true => container.put(&packed)?,
                false => stored(text.as_bytes()).try_for_each(|(header, part)| {
                    container.put(&header)?;
                    container.put(part)
                })?,
            }
            text.clear();
            Ok(())
        };
        for change in &self.inventory.changed {
            text.push_str(&format!("{:?}\t\t\t{}\n", change.how, change.path).to_lowercase());
        }
        for id in 0..self.plan.tree.entries.len() as u32 {
            let entry = *self.entry(id);
            let path = self.label(id).name;
            let modified = entry.modified;
            if let Some(reason) = entry.left_out {
                text.push_str(&format!("{}\t{}\t{modified}\t{path}\n", reason.sentence(), entry.size));
                self.inventory.leave_out(|| path, entry.size, reason);
            } else if self.plan.tree.is_renamed(&entry) {
                text.push_str(&format!(
                    "renamed, %XX are bytes of its name\t{}\t{modified}\t{path}\n",
                    entry.size
                ));
            }
            put(&mut self.container, &mut text, BLOCK_BYTES / 2)?;
        }
        if self.plan.tree.beyond > 0 {
            let beyond = self.plan.tree.beyond;
            text.push_str(&format!(
                "{}\t\t\t{beyond} entries and all below them\n",
                Reason::Limit.sentence()
            ));
            self.inventory.leave_out(|| format!("{beyond} entries that were not listed"), 0, Reason::Limit);
        }
        put(&mut self.container, &mut text, 1)?;
        self.container.put(&END)?;
        self.container.end(size, crc.finalize(), data_at)?;
        self.inventory.holds_credentials = self.plan.taking.credentials;
        let now = self.mask.redactor.receipt().counts;
        for (rule, count) in now {
            let before = self.masked_before.get(&rule).copied().unwrap_or(0);
            if count > before {
                self.inventory.masked.insert(rule, count - before);
            }
        }
        Ok(())
    }
}
