//! A slice of a file as the body of a request, no faster than allowed, with a pulse by which it is seen to move.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior};
use warden_platform::background_io;

/// Read and sent at once, in bytes. Of one body there are up to three in memory: one is sent, one is read, and one
/// waits between them.
const BLOCK: usize = 512 << 10;
/// The same where the bandwidth has a limit: it is kept in small steps.
const LIMITED_BLOCK: usize = 64 << 10;
/// How often it is looked whether bytes still move.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slice {
    pub offset: u64,
    pub size: u64,
}

/// Tells how many bytes of a body have been taken.
#[derive(Clone, Default)]
pub(super) struct Pulse(Arc<AtomicU64>);

pub(super) async fn stream(
    path: &Path,
    slice: Slice,
    bytes_per_second: Option<u64>,
    pulse: Pulse,
) -> std::io::Result<impl Stream<Item = std::io::Result<Bytes>> + Send + 'static> {
    let block = if bytes_per_second.is_some() { LIMITED_BLOCK } else { BLOCK };
    let source = Source::open(path.to_owned(), slice, block).await?;
    let began = Instant::now();
    Ok(futures_util::stream::try_unfold(
        (source, slice.size, pulse),
        move |(mut source, left, pulse)| async move {
            let sent = slice.size - left;
            pulse.0.store(sent, Ordering::Relaxed);
            if left == 0 {
                return Ok(None);
            }
            if let Some(rate) = bytes_per_second {
                let due = Duration::from_secs_f64(sent as f64 / rate.max(1) as f64);
                tokio::time::sleep_until(began + due).await;
            }
            let block = source.next().await?;
            let left = left - block.len() as u64;
            Ok(Some((block, (source, left, pulse))))
        },
    ))
}

/// Reads the next block while the one before it is sent.
struct Source {
    file: Arc<File>,
    at: u64,
    end: u64,
    spare: Spare,
    ahead: JoinHandle<std::io::Result<Bytes>>,
}

impl Source {
    async fn open(path: PathBuf, slice: Slice, block: usize) -> std::io::Result<Source> {
        let file = spawn_blocking(move || File::open(path)).await??;
        background_io::without_readahead(&file);
        let (file, end) = (Arc::new(file), slice.offset + slice.size);
        let spare = Spare { block, blocks: Arc::default() };
        let (ahead, at) = spare.read(&file, slice.offset, end);
        Ok(Source { file, at, end, spare, ahead })
    }

    async fn next(&mut self) -> std::io::Result<Bytes> {
        let (ahead, at) = self.spare.read(&self.file, self.at, self.end);
        self.at = at;
        std::mem::replace(&mut self.ahead, ahead).await?
    }
}

/// Memory of blocks that are sent, each of `block` bytes.
#[derive(Clone)]
struct Spare {
    block: usize,
    blocks: Arc<Mutex<Vec<Box<[u8]>>>>,
}

impl Spare {
    /// Reads a block from `at` on; returns where it ends.
    fn read(&self, file: &Arc<File>, at: u64, end: u64) -> (JoinHandle<std::io::Result<Bytes>>, u64) {
        let length = usize::try_from(end - at).unwrap_or(self.block).min(self.block);
        let (spare, file) = (self.clone(), Arc::clone(file));
        let reading = spawn_blocking(move || {
            let memory = spare.blocks().pop().unwrap_or_else(|| vec![0; spare.block].into());
            let mut block = Block { memory, length, spare };
            if background_io::read_at(&file, &mut block.memory[..length], at)? < length {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            Ok(Bytes::from_owner(block))
        });
        (reading, at + length as u64)
    }

    fn blocks(&self) -> std::sync::MutexGuard<'_, Vec<Box<[u8]>>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives its memory back when it is sent.
struct Block {
    memory: Box<[u8]>,
    length: usize,
    spare: Spare,
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.length]
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        self.spare.blocks().push(memory);
    }
}

impl Pulse {
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits for an answer as long as bytes move, and `patience` for the answer when all are taken.
    pub(super) async fn watch<T>(&self, answer: impl Future<Output = T>, patience: Duration) -> Option<T> {
        let mut answer = std::pin::pin!(answer);
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut last, mut moved) = (0, Instant::now());
        loop {
            tokio::select! {
                answer = &mut answer => return Some(answer),
                _ = look.tick() => {
                    let now = self.bytes();
                    if now != last {
                        (last, moved) = (now, Instant::now());
                    } else if moved.elapsed() >= patience {
                        return None;
                    }
                }
            }
        }
    }
}
