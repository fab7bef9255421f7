//! A slice of a file as the body of a request, no faster than allowed, with a pulse by which it is seen to move.

use std::io::SeekFrom;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::Stream;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::time::{Instant, MissedTickBehavior};

/// Read and sent at once.
const BLOCK: usize = 256 << 10;
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
) -> std::io::Result<impl Stream<Item = std::io::Result<Vec<u8>>> + Send + 'static> {
    let mut file = File::open(path).await?;
    file.seek(SeekFrom::Start(slice.offset)).await?;
    let began = Instant::now();
    Ok(futures_util::stream::try_unfold(
        (file, slice.size, pulse),
        move |(mut file, left, pulse)| async move {
            let sent = slice.size - left;
            pulse.0.store(sent, Ordering::Relaxed);
            if left == 0 {
                return Ok(None);
            }
            if let Some(rate) = bytes_per_second {
                let due = Duration::from_secs_f64(sent as f64 / rate.max(1) as f64);
                tokio::time::sleep_until(began + due).await;
            }
            let mut block = vec![0; BLOCK.min(usize::try_from(left).unwrap_or(BLOCK))];
            file.read_exact(&mut block).await?;
            let left = left - block.len() as u64;
            Ok(Some((block, (file, left, pulse))))
        },
    ))
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
