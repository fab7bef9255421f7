//! The workers: they read, mask and pack pieces side by side, and what they made is handed back in order.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, Scope};

use rustix::fs::OFlags;

use super::deflate::{BLOCK_BYTES, Packer};
use super::mask::{DOCUMENT_BYTES, Mask, is_text};
use super::tree::{Reason, reason_of};
use crate::gentle;
use crate::snapshot::redact::Shape;
use crate::user_view::Directory;

/// One for each of two cores: what is left of the host is Iggy's.
pub const WORKERS: usize = 2;
/// Pieces that are under way or wait for their turn. Each is at most a block and what it was packed to.
pub const UNDER_WAY: usize = 3 * WORKERS;

pub enum Job {
    /// A part of a large file.
    Block { file: Arc<File>, offset: u64, length: usize },
    /// Lines that the redactor has been through.
    Lines(Vec<u8>),
    /// A small file: opened, read, masked if it is to be, and packed in one go.
    Whole { path: PathBuf, shape: Option<Shape> },
}

/// A packed piece.
pub struct Piece {
    /// Before packing, as it is to be read back; of a block that is not packed, its bytes.
    pub plain: Vec<u8>,
    pub packed: Vec<u8>,
    pub is_packed: bool,
    pub crc: u32,
    pub size: u64,
    /// Bytes that were read for it, before masking.
    pub read: u64,
}

/// A job with its number and the memory that it may use.
struct Order {
    number: u64,
    job: Job,
    plain: Vec<u8>,
    packed: Vec<u8>,
}

pub type Made = Result<Piece, Reason>;

/// Hands jobs out and takes the results back in the order of the jobs.
pub struct Crew {
    jobs: Sender<Order>,
    made: Receiver<(u64, Made)>,
    early: BTreeMap<u64, Made>,
    next_job: u64,
    next_made: u64,
    spare: Vec<Vec<u8>>,
}

impl Crew {
    /// Starts the workers; they end when the crew is dropped.
    pub fn start<'scope, 'env>(
        scope: &'scope Scope<'scope, 'env>,
        root: &'env Directory,
        mask: Mask<'env>,
    ) -> io::Result<Crew> {
        let (jobs, waiting) = channel::<Order>();
        let (report, made) = channel();
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..WORKERS {
            let (waiting, report) = (Arc::clone(&waiting), report.clone());
            let work = move || {
                let mut packer = Packer::new();
                loop {
                    let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(order) = job else { return };
                    let number = order.number;
                    if report.send((number, make(order, root, mask, &mut packer))).is_err() {
                        return;
                    }
                }
            };
            Builder::new().name(format!("archive {number}")).spawn_scoped(scope, work)?;
        }
        Ok(Crew { jobs, made, early: BTreeMap::new(), next_job: 0, next_made: 0, spare: Vec::new() })
    }

    /// Whether another job may be given before a result is taken.
    pub fn has_room(&self) -> bool {
        self.next_job - self.next_made < UNDER_WAY as u64
    }

    pub fn give(&mut self, job: Job) {
        let (plain, packed) = (self.spare.pop().unwrap_or_default(), self.spare.pop().unwrap_or_default());
        // Workers only end after the crew; should one have panicked, `take` tells.
        let _ = self.jobs.send(Order { number: self.next_job, job, plain, packed });
        self.next_job += 1;
    }

    /// The result of the oldest job that has not been taken.
    pub fn take(&mut self) -> Made {
        let wanted = self.next_made;
        self.next_made += 1;
        loop {
            if let Some(made) = self.early.remove(&wanted) {
                return made;
            }
            match self.made.recv() {
                Ok((ticket, made)) => self.early.insert(ticket, made),
                Err(_) => return Err(Reason::Unreadable),
            };
        }
    }

    /// Gives the memory of a piece back.
    pub fn done_with(&mut self, piece: Piece) {
        self.spare.push(piece.plain);
        self.spare.push(piece.packed);
        self.spare.truncate(2 * UNDER_WAY);
    }
}

/// Opens a regular file for reading, and nothing else: not a link, and not a fifo that would block.
pub fn open(root: &Directory, path: &std::path::Path) -> Result<(File, u64), Reason> {
    // Reading should not be seen in access times; only the owner and root may ask for that.
    let opened = root
        .open_file(path, OFlags::NOATIME)
        .or_else(|error| if is_denied(&error) { root.open_file(path, OFlags::empty()) } else { Err(error) });
    let file = opened.map_err(|error| reason_of(&error))?;
    let metadata = file.metadata().map_err(|error| reason_of(&error))?;
    if !metadata.is_file() {
        return Err(Reason::Unreadable);
    }
    gentle::without_readahead(&file);
    Ok((file, metadata.len()))
}

fn is_denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

fn make(order: Order, root: &Directory, mask: Mask<'_>, packer: &mut Packer) -> Made {
    let Order { job, mut plain, packed, .. } = order;
    let read = match job {
        Job::Block { file, offset, length } => {
            plain.resize(length, 0);
            let read = gentle::read_at(&file, &mut plain, offset).map_err(|error| reason_of(&error))?;
            plain.truncate(read);
            read
        }
        Job::Lines(text) => {
            plain = mask.finish(&String::from_utf8_lossy(&text)).into_bytes();
            text.len()
        }
        Job::Whole { path, shape } => {
            let (file, size) = open(root, &path)?;
            let limit = if shape.is_some() { DOCUMENT_BYTES } else { BLOCK_BYTES as u64 };
            if size > limit && shape.is_some() {
                return Err(Reason::TooLarge);
            }
            // What has grown since it was listed is read as far as it was then possible to hold it.
            plain.resize(size.min(limit) as usize, 0);
            let read = gentle::read_at(&file, &mut plain, 0).map_err(|error| reason_of(&error))?;
            plain.truncate(read);
            if let Some(shape) = shape {
                if !is_text(&plain) {
                    return Err(Reason::Unknown);
                }
                plain = mask.document(shape, &plain);
            }
            read
        }
    };
    Ok(pack(packer, plain, packed, read as u64))
}

fn pack(packer: &mut Packer, plain: Vec<u8>, mut packed: Vec<u8>, read: u64) -> Piece {
    gentle::make_way();
    let crc = crc32fast::hash(&plain);
    let is_packed = packer.pack(&plain, &mut packed);
    Piece { size: plain.len() as u64, crc, is_packed, read, plain, packed }
}

/// What a hole of a block's length packs to, and its CRC: made once, written as often as it occurs.
pub fn hole() -> Piece {
    let mut packer = Packer::new();
    pack(&mut packer, vec![0; BLOCK_BYTES], Vec::new(), BLOCK_BYTES as u64)
}
