//! The workers: they read, mask and pack pieces side by side, and what they made is handed back in order.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, Scope};

use rustix::fs::OFlags;
use warden_platform::background_io;
use warden_platform::user_view::Directory;
use warden_redact::Shape;

use super::deflate::{BLOCK_BYTES, Packer};
use super::file_list::{Reason, reason_of};
use super::redact_file::{DOCUMENT_BYTES, Mask, is_text};

/// One for each of two cores: what is left of the host is Iggy's.
pub const WORKERS: usize = 2;
/// Pieces that are under way or wait for their turn. Each is at most a block and what it was packed to.
pub const UNDER_WAY: usize = 3 * WORKERS;

pub enum Job {
    /// A part of a large file.
    Block { file: Arc<File>, offset: u64, length: usize },
    /// Lines that the redactor has been through.
    Lines(Vec<u8>),
    /// Small files: each opened, read, masked if it is to be, and packed in one go.
    Batch(Vec<Small>),
}

/// A file that is taken in one go.
pub struct Small {
    pub path: PathBuf,
    pub shape: Option<Shape>,
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

/// One for each file of a batch, and one for each other job.
pub type Made = Vec<Result<Piece, Reason>>;

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
        root: &Directory,
        mask: Mask<'env>,
    ) -> io::Result<Crew> {
        let (jobs, waiting) = channel::<Order>();
        let (report, made) = channel();
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..WORKERS {
            let (waiting, report) = (Arc::clone(&waiting), report.clone());
            // Each has the folder at hand that it opened last.
            let root = root.try_clone()?;
            let work = move || {
                let mut packer = Packer::new();
                loop {
                    let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(order) = job else { return };
                    let number = order.number;
                    if report.send((number, make(order, &root, mask, &mut packer))).is_err() {
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

    /// The results of the oldest job that has not been taken; none when a worker has panicked.
    pub fn take(&mut self) -> Made {
        let wanted = self.next_made;
        self.next_made += 1;
        loop {
            if let Some(made) = self.early.remove(&wanted) {
                return made;
            }
            match self.made.recv() {
                Ok((ticket, made)) => self.early.insert(ticket, made),
                Err(_) => return Vec::new(),
            };
        }
    }

    /// Gives the memory of a piece back.
    pub fn done_with(&mut self, piece: Piece) {
        // What is small is soon there again, and would keep out what is not.
        let worth_keeping = |memory: &Vec<u8>| memory.capacity() >= BLOCK_BYTES / 2;
        self.spare.extend([piece.plain, piece.packed].into_iter().filter(worth_keeping));
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
    background_io::without_readahead(&file);
    Ok((file, metadata.len()))
}

fn is_denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

fn make(order: Order, root: &Directory, mask: Mask<'_>, packer: &mut Packer) -> Made {
    let Order { job, mut plain, packed, .. } = order;
    match job {
        Job::Block { file, offset, length } => {
            plain.resize(length, 0);
            let read = background_io::read_at(&file, &mut plain, offset).map_err(|error| reason_of(&error));
            let pack = |read: usize| {
                plain.truncate(read);
                pack(packer, plain, packed, read as u64)
            };
            vec![read.map(pack)]
        }
        Job::Lines(text) => {
            plain = mask.finish(&String::from_utf8_lossy(&text)).into_bytes();
            vec![Ok(pack(packer, plain, packed, text.len() as u64))]
        }
        Job::Batch(files) => {
            let mut memory = Some((plain, packed));
            let mut made = Vec::with_capacity(files.len());
            for file in &files {
                let (plain, packed) = memory.take().unwrap_or_default();
                made.push(whole(file, root, mask, packer, plain, packed));
            }
            made
        }
    }
}

fn whole(
    file: &Small,
    root: &Directory,
    mask: Mask<'_>,
    packer: &mut Packer,
    mut plain: Vec<u8>,
    packed: Vec<u8>,
) -> Result<Piece, Reason> {
    let (opened, size) = open(root, &file.path)?;
    let limit = if file.shape.is_some() { DOCUMENT_BYTES } else { BLOCK_BYTES as u64 };
    if size > limit && file.shape.is_some() {
        return Err(Reason::TooLarge);
    }
    // What has grown since it was listed is read as far as it was then possible to hold it.
    plain.resize(size.min(limit) as usize, 0);
    let read = background_io::read_at(&opened, &mut plain, 0).map_err(|error| reason_of(&error))?;
    plain.truncate(read);
    if let Some(shape) = file.shape {
        if !is_text(&plain) {
            return Err(Reason::Unknown);
        }
        plain = mask.document(shape, &plain);
    }
    Ok(pack(packer, plain, packed, read as u64))
}

fn pack(packer: &mut Packer, plain: Vec<u8>, mut packed: Vec<u8>, read: u64) -> Piece {
    background_io::make_way();
    let crc = crc32fast::hash(&plain);
    let is_packed = packer.pack(&plain, &mut packed);
    Piece { size: plain.len() as u64, crc, is_packed, read, plain, packed }
}

/// What a hole of a block's length packs to, and its CRC: made once, written as often as it occurs.
pub fn hole() -> Piece {
    let mut packer = Packer::new();
    pack(&mut packer, vec![0; BLOCK_BYTES], Vec::new(), BLOCK_BYTES as u64)
}
