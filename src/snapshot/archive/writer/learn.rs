//! Learns the secrets of all texts before the first of them is written.

use std::io::Write;

use super::super::crew::{Gently, Job, open};
use super::super::masked::{DOCUMENT_BYTES, Pieces};
use super::Writer;
use super::labels::may_hold_a_secret;
use crate::snapshot::redact::Shape;

impl<W: Write> Writer<'_, W> {
    /// Reads every text once without writing it: a secret that is told by its neighbours in one place is then known
    /// in all others, also in those before it.
    pub fn learn(&mut self) {
        for id in 0..self.tree.entries.len() as u32 {
            let entry = *self.entry(id);
            let path = self.tree.label(&entry);
            if may_hold_a_secret(&path) {
                let _ = self.redactor.redact(Shape::Plain, &path);
            }
            let Some((shape, in_pieces)) = self.mask(&entry) else { continue };
            if entry.left_out.is_some() {
                continue;
            }
            if !in_pieces || entry.size <= DOCUMENT_BYTES {
                let job = Job::Whole { path: self.tree.path(&entry), mask: Some(shape), must_be_text: true };
                self.learn_from(job);
            } else if let Ok((file, size)) = open(&self.tree.root, &self.tree.path(&entry)) {
                let mut pieces = Pieces::new(Gently { file, at: 0, size: size.min(entry.size) });
                while let Ok(Some(text)) = pieces.next() {
                    self.learn_from(Job::Lines { shape, text });
                }
            }
        }
        while !self.crew.is_idle() {
            let _ = self.crew.take();
        }
        self.masked_before = self.redactor.receipt().counts;
    }

    fn learn_from(&mut self, job: Job) {
        while !self.crew.has_room() {
            let _ = self.crew.take();
        }
        self.crew.give(job, true);
    }
}
