//! Small files go to the workers by the batch: what is done for each job alone, two threads that wake each other, takes
//! longer than packing one of them, and on a busy host each of them waits for its turn.

use std::io::Write;
use std::path::PathBuf;

use warden_redact::Shape;

use super::super::deflate::END;
use super::super::file_list::Reason;
use super::super::inventory::Change;
use super::super::workers::{Job, Piece, Small};
use super::{Step, Writer};

/// Files of a batch: those of a directory of offsets take a few milliseconds together.
const FILES: usize = 128;
/// Bytes of a batch, as listed: several are in memory at once. A larger file is one by itself.
const BYTES: u64 = 256 << 10;

/// Files that wait to be given to a worker together.
#[derive(Default)]
pub(super) struct Batch {
    ids: Vec<u32>,
    files: Vec<Small>,
    bytes: u64,
}

impl<W: Write> Writer<'_, W> {
    pub(super) fn small(
        &mut self,
        id: u32,
        size: u64,
        path: PathBuf,
        shape: Option<Shape>,
    ) -> anyhow::Result<()> {
        if self.batch.bytes + size > BYTES {
            self.give_batch()?;
        }
        self.batch.ids.push(id);
        self.batch.files.push(Small { path, shape });
        self.batch.bytes += size;
        if self.batch.ids.len() >= FILES { self.give_batch() } else { Ok(()) }
    }

    pub(super) fn give_batch(&mut self) -> anyhow::Result<()> {
        let Batch { ids, files, .. } = std::mem::take(&mut self.batch);
        if ids.is_empty() { Ok(()) } else { self.give(Job::Batch(files), Step::Batch(ids)) }
    }

    pub(super) fn batch_made(&mut self, ids: &[u32]) -> anyhow::Result<()> {
        let mut made = self.crew.take().into_iter();
        for &id in ids {
            // Fewer than were given: the worker has panicked, which is told when it is joined.
            match made.next().unwrap_or(Err(Reason::Unreadable)) {
                Ok(piece) => self.whole(id, piece)?,
                Err(reason) => self.plan.tree.entries[id as usize].left_out = Some(reason),
            }
        }
        Ok(())
    }

    fn whole(&mut self, id: u32, piece: Piece) -> anyhow::Result<()> {
        let label = self.label(id);
        let known = (piece.size, piece.crc);
        let pays = piece.is_packed && piece.packed.len() + END.len() < piece.plain.len();
        match pays {
            true => self.container.whole(id, &label, true, known, &[&piece.packed, &END])?,
            false => self.container.whole(id, &label, false, known, &[&piece.plain])?,
        }
        self.count(id, piece.size);
        let listed = self.entry(id).size;
        if piece.read != listed {
            let how = if piece.read < listed { Change::Shrank } else { Change::Grew };
            self.inventory.change(label.name, how);
        }
        self.read += piece.read;
        (self.observe)(self.read);
        self.crew.done_with(piece);
        Ok(())
    }
}
