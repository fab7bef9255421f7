//! Puts the archive together: gives pieces of files to the workers and writes what comes back, in order.

mod inventory_member;
mod member_names;
mod small;

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use anyhow::Context;
use crc32fast::Hasher;
use small::Batch;
use warden_platform::background_io::Gentle;
use warden_redact::Shape;

use super::Plan;
use super::deflate::{BLOCK_BYTES, END, stored};
use super::file_kind::Content;
use super::file_list::{Entry, Reason};
use super::inventory::{Change, Inventory};
use super::redact_file::{DOCUMENT_BYTES, Mask, Pieces, is_text, masking};
use super::secret_prescan::beginning;
use super::workers::{Crew, Job, Piece, hole, open};
use super::zip_writer::Container;

/// How often the free space is looked at: nobody fills a disk by this much unseen.
const SPACE_EVERY: u64 = 16 << 20;
/// With less room than this the archive ends: the pieces under way and the list of members still fit.
const SPACE_MARGIN: u64 = 32 << 20;
/// In this order members are written, whatever the budget: if the disk fills meanwhile, the last ones are missing.
const ORDER: [Content; 7] = [
    Content::Metadata,
    Content::Secret,
    Content::Configuration,
    Content::Index,
    Content::Log,
    Content::Other,
    Content::Segment,
];

/// What is written next; those with a piece wait for a worker.
enum Step {
    Batch(Vec<u32>),
    Begin {
        id: u32,
        size: u64,
    },
    /// With the length that was asked for, if that is certain.
    Piece(Option<u64>),
    /// So many blocks of nothing but zeros.
    Hole(u64),
    /// With how much of a text was read, `None` when that broke off; of blocks the pieces tell.
    End {
        file: Arc<File>,
        size: u64,
        text: Option<Option<u64>>,
    },
}

struct Open {
    id: u32,
    data_at: u64,
    size: u64,
    read: u64,
    crc: Hasher,
    /// Nothing follows any more.
    ended: Option<Change>,
}

pub struct Writer<'a, W: Write> {
    plan: Plan,
    container: Container<W>,
    crew: Crew,
    mask: Mask<'a>,
    room: &'a mut (dyn FnMut() -> Option<u64> + Send),
    observe: &'a mut (dyn FnMut(u64) + Send),
    steps: VecDeque<Step>,
    /// Small files that have not been given to a worker yet.
    batch: Batch,
    open: Option<Open>,
    hole: Option<Piece>,
    /// Labels that are not the path: a secret was in it.
    masked_labels: BTreeMap<u32, String>,
    masked_before: BTreeMap<String, u64>,
    looked_at: u64,
    is_full: bool,
    read: u64,
    inventory: Inventory,
}

impl<'a, W: Write> Writer<'a, W> {
    pub fn new(
        plan: Plan,
        out: W,
        crew: Crew,
        mask: Mask<'a>,
        room: &'a mut (dyn FnMut() -> Option<u64> + Send),
        observe: &'a mut (dyn FnMut(u64) + Send),
    ) -> Writer<'a, W> {
        Writer {
            plan,
            container: Container::new(out),
            crew,
            mask,
            room,
            observe,
            steps: VecDeque::new(),
            batch: Batch::default(),
            open: None,
            hole: None,
            masked_labels: BTreeMap::new(),
            masked_before: mask.redactor.receipt().counts,
            looked_at: 0,
            is_full: false,
            read: 0,
            inventory: Inventory::default(),
        }
    }

    pub fn write(&mut self) -> anyhow::Result<()> {
        for id in 0..self.plan.tree.entries.len() as u32 {
            if self.entry(id).is_empty_folder {
                let label = self.label(id);
                self.container.directory(id, &label)?;
            }
        }
        for content in ORDER {
            for id in 0..self.plan.tree.entries.len() as u32 {
                let entry = *self.entry(id);
                if entry.content != content || entry.left_out.is_some() || entry.is_empty_folder {
                    continue;
                }
                self.look_for_room();
                if self.is_full {
                    self.plan.tree.entries[id as usize].left_out = Some(Reason::Space);
                    continue;
                }
                self.file(id, &entry).with_context(|| {
                    format!("cannot write the archive after {} bytes", self.container.written())
                })?;
            }
        }
        self.give_batch()?;
        while !self.steps.is_empty() {
            self.step()?;
        }
        Ok(())
    }

    /// Writes the inventory and the list of members.
    pub fn finish(mut self) -> anyhow::Result<(Inventory, W)> {
        self.tell()?;
        let Writer { plan, container, masked_labels, mut inventory, .. } = self;
        let label = |id: u32| member_names::label(&plan.tree, &masked_labels, plan.at, id);
        let (out, bytes) = container.finish(label).context("cannot write the end of the archive")?;
        inventory.archive_bytes = bytes;
        Ok((inventory, out))
    }

    fn file(&mut self, id: u32, entry: &Entry) -> anyhow::Result<()> {
        let masking = masking(&self.plan.tree, entry, self.plan.taking);
        let in_pieces = masking.is_none_or(|(_, in_pieces)| in_pieces);
        let small = if masking.is_some() { DOCUMENT_BYTES } else { BLOCK_BYTES as u64 };
        let path = self.plan.tree.path(entry);
        if !in_pieces || entry.size <= small {
            return self.small(id, entry.size, path, masking.map(|(shape, _)| shape));
        }
        // In the order of the entries, whatever their size.
        self.give_batch()?;
        let (file, size) = match open(&self.plan.tree.root, &path) {
            Ok(opened) => opened,
            Err(reason) => {
                self.plan.tree.entries[id as usize].left_out = Some(reason);
                return Ok(());
            }
        };
        match masking {
            Some((shape, _)) => self.lines(id, file, size.min(entry.size), shape),
            None => self.blocks(id, file, size, entry.allocated < entry.size),
        }
    }

    fn lines(&mut self, id: u32, file: File, size: u64, shape: Shape) -> anyhow::Result<()> {
        if !beginning(&file).is_ok_and(|beginning| is_text(&beginning)) {
            self.plan.tree.entries[id as usize].left_out = Some(Reason::Unknown);
            return Ok(());
        }
        let watched = Arc::new(file.try_clone()?);
        self.steps.push_back(Step::Begin { id, size });
        let redactor = self.mask.redactor;
        let mut failure = None;
        let mut pieces = Pieces::new(redactor, |text| {
            self.give(Job::Lines(text), Step::Piece(None)).map_err(|error| {
                failure = Some(error);
                io::Error::other("the archive cannot be written")
            })
        });
        let copied = redactor.copy(shape, Gentle::new(file, size), &mut pieces);
        let copied = pieces.finish().and(copied);
        if let Some(failure) = failure {
            return Err(failure);
        }
        let text = Some(copied.ok().map(|copied| copied.read));
        self.steps.push_back(Step::End { file: watched, size, text });
        Ok(())
    }

    fn blocks(&mut self, id: u32, file: File, size: u64, has_holes: bool) -> anyhow::Result<()> {
        const BLOCK: u64 = BLOCK_BYTES as u64;
        let file = Arc::new(file);
        self.steps.push_back(Step::Begin { id, size });
        let mut offset = 0;
        // Without holes, data goes on to the end.
        let mut data_end = if has_holes { 0 } else { size };
        while offset < size && !self.is_full {
            if has_holes && offset >= data_end {
                let data;
                (data, data_end) = next_data(&file, offset, size);
                let blocks = (data - offset) / BLOCK;
                if blocks > 0 {
                    self.steps.push_back(Step::Hole(blocks));
                    offset += blocks * BLOCK;
                    continue;
                }
                // What is left of the hole is read like data.
                data_end = data_end.max(offset + 1);
            }
            let length = BLOCK.min(size - offset);
            let job = Job::Block { file: Arc::clone(&file), offset, length: length as usize };
            self.give(job, Step::Piece(Some(length)))?;
            offset += length;
        }
        self.steps.push_back(Step::End { file, size, text: None });
        Ok(())
    }

    fn give(&mut self, job: Job, step: Step) -> anyhow::Result<()> {
        while !self.crew.has_room() {
            self.step()?;
        }
        self.crew.give(job);
        self.steps.push_back(step);
        Ok(())
    }

    fn step(&mut self) -> anyhow::Result<()> {
        match self.steps.pop_front() {
            None => {}
            Some(Step::Batch(ids)) => self.batch_made(&ids)?,
            Some(Step::Begin { id, size }) => {
                let label = self.label(id);
                self.container.begin(id, &label, size)?;
                let data_at = self.container.written();
                self.open = Some(Open { id, data_at, size: 0, read: 0, crc: Hasher::new(), ended: None });
            }
            Some(Step::Piece(length)) => self.piece(length)?,
            Some(Step::Hole(blocks)) => {
                let piece = self.hole.take().unwrap_or_else(hole);
                for _ in 0..blocks {
                    self.look_for_room();
                    if self.is_full {
                        break;
                    }
                    self.append(&piece)?;
                }
                self.hole = Some(piece);
            }
            Some(Step::End { file, size, text }) => self.end(&file, size, text)?,
        }
        Ok(())
    }

    fn piece(&mut self, length: Option<u64>) -> anyhow::Result<()> {
        match self.crew.take().pop().unwrap_or(Err(Reason::Unreadable)) {
            Ok(piece) => {
                self.append(&piece)?;
                if let Some(open) = &mut self.open
                    && length.is_some_and(|length| piece.read < length)
                {
                    open.ended.get_or_insert(Change::Shrank);
                }
                self.read += piece.read;
                (self.observe)(self.read);
                self.crew.done_with(piece);
            }
            Err(_) => {
                if let Some(open) = &mut self.open {
                    open.ended.get_or_insert(Change::Torn);
                }
            }
        }
        self.look_for_room();
        Ok(())
    }

    fn append(&mut self, piece: &Piece) -> io::Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        if open.ended.is_some() {
            return Ok(());
        }
        open.size += piece.size;
        open.read += piece.read;
        open.crc.combine(&Hasher::new_with_initial_len(piece.crc, piece.size));
        put(&mut self.container, piece)
    }

    fn end(&mut self, file: &File, size: u64, text: Option<Option<u64>>) -> anyhow::Result<()> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        match text {
            // What was read of a text is longer or shorter than what came of it.
            Some(Some(read)) => open.read = read,
            Some(None) => open.ended = open.ended.or(Some(Change::Torn)),
            None => {}
        }
        self.container.put(&END)?;
        self.container.end(open.size, open.crc.finalize(), open.data_at)?;
        self.count(open.id, open.size);
        let now = file.metadata().map_or(size, |metadata| metadata.len());
        let cut = (self.is_full && open.read < size).then_some(Change::Cut);
        let change = open.ended.or(cut).or(match now {
            now if now < size || open.read < size => Some(Change::Shrank),
            now if now > size => Some(Change::Grew),
            _ => None,
        });
        if let Some(how) = change {
            let path = self.label(open.id).name;
            self.inventory.change(path, how);
        }
        Ok(())
    }

    fn count(&mut self, id: u32, size: u64) {
        self.inventory.files += 1;
        self.inventory.bytes += size;
        let entry = *self.entry(id);
        self.inventory.renamed += u64::from(self.plan.tree.is_renamed(&entry));
    }

    fn look_for_room(&mut self) {
        if self.looked_at > 0 && self.container.written() < self.looked_at + SPACE_EVERY {
            return;
        }
        self.looked_at = self.container.written().max(1);
        self.is_full |= (self.room)().is_some_and(|room| room < SPACE_MARGIN);
    }

    fn entry(&self, id: u32) -> &Entry {
        &self.plan.tree.entries[id as usize]
    }
}

fn put<W: Write>(container: &mut Container<W>, piece: &Piece) -> io::Result<()> {
    if piece.is_packed {
        return container.put(&piece.packed);
    }
    stored(&piece.plain).try_for_each(|(header, part)| {
        container.put(&header)?;
        container.put(part)
    })
}

/// The next bytes that are on disk from `offset` on: where they begin and end. Filesystems without holes have data
/// everywhere.
fn next_data(file: &File, offset: u64, size: u64) -> (u64, u64) {
    use rustix::fs::{SeekFrom, seek};
    match seek(file, SeekFrom::Data(offset)) {
        Ok(data) if data < size => {
            let end = seek(file, SeekFrom::Hole(data)).unwrap_or(size);
            (data, end.clamp(data + 1, size))
        }
        Ok(_) | Err(rustix::io::Errno::NXIO) => (size, size),
        Err(_) => (offset, size),
    }
}
