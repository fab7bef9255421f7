//! Puts the archive of a snapshot where the Supervisor says, whatever breaks on the way.
//!
//! What a broken connection, a restart of either side or an address that ran out costs is the part that was on its
//! way. What has arrived is written beside the archive, so it is not sent twice.

mod response;
mod resume_state;
mod throttled_body;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use reqwest::Url;
use response::{Answer, Setback};
use resume_state::Progress;
use throttled_body::{Pulse, Slice};
use tokio_util::sync::CancellationToken;
use warden_platform::backoff;
use warden_protocol::{PartTag, Put, Upload, UploadGrant, UploadRefusal};

/// Failures in a row, without a part arriving in between, after which an upload is given up.
pub const ATTEMPTS: u32 = 10;
/// Addresses in a row that the object store called run out or wrong. More is not bad luck, but a store and a
/// Supervisor that do not agree.
const FORBIDDEN_IN_A_ROW: u32 = 3;
/// One part: what does not move for so long is broken. The whole part may take longer.
pub const STALLED: Duration = Duration::from_secs(60);
/// While one waits for the store to answer, or its disk, the other moves.
pub const AT_ONCE: usize = 2;
/// How often it is told how many bytes are sent.
const LOOK: Duration = Duration::from_secs(1);

/// An archive on this host's disk, whole.
#[derive(Debug, Clone)]
pub struct Archive {
    pub path: PathBuf,
    pub size: u64,
}

/// How archives leave this host.
pub struct Uploader {
    /// For the Supervisor's own addresses, which begin with `/`.
    pub own: reqwest::Client,
    /// For those of a store beside it.
    pub other: reqwest::Client,
    /// Where the Supervisor is.
    pub supervisor: Url,
    /// Whether the policy of this host lets an archive go to that address.
    pub allowed: Box<dyn Fn(&Url) -> bool + Send + Sync>,
    /// None: as fast as it goes.
    pub bytes_per_second: Option<u64>,
    /// What does not move for so long is broken: [`STALLED`].
    pub patience: Duration,
    /// Parts on their way at the same time, if the bandwidth has no limit: [`AT_ONCE`].
    pub at_once: usize,
    /// From 0 to 1, anew each time.
    pub random: fn() -> f64,
}

/// Why an archive did not arrive. None of them is worth another try.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("the Supervisor does not take it: {reason}")]
    Refused { code: UploadRefusal, reason: String },
    #[error("the policy of this host does not allow uploads to {0}")]
    PolicyDenied(String),
    #[error("the object store has no such place: it answered 404")]
    NotFound,
    #[error("the archive is too large for the object store: it answered 413")]
    TooLarge,
    #[error("the object store refused {0} addresses in a row: are the clocks of Supervisor and store right?")]
    Forbidden(u32),
    #[error("given up after {ATTEMPTS} attempts in a row, the last one: {0}")]
    GaveUp(String),
    #[error("the grant of the Supervisor cannot be used: {0}")]
    BadGrant(String),
    #[error("the archive cannot be read: {0}")]
    Archive(#[from] std::io::Error),
    #[error("uploads cannot be set up: {0}")]
    NotSetUp(String),
    #[error("cancelled")]
    Cancelled,
    /// The Supervisor has all of it already.
    #[error("it is there already")]
    AlreadyThere,
}

impl Uploader {
    /// Sends the archive. `ask` gets a grant for the parts named, lowest first, or for the first ones; it waits while
    /// the Supervisor is away, and fails only for good. `sent` is told the bytes that have arrived so far.
    ///
    /// Returns the tags of all parts, by number; none for an archive that went whole.
    ///
    /// # Errors
    /// Final ones. What has arrived stays noted beside the archive; [`forget`] removes that.
    pub async fn upload<A: Future<Output = Result<UploadGrant, Failure>>>(
        &self,
        archive: &Archive,
        mut ask: impl FnMut(Vec<u32>) -> A,
        mut sent: impl FnMut(u64),
        stop: &CancellationToken,
    ) -> Result<Vec<PartTag>, Failure> {
        let mut progress = Progress::read(&archive.path);
        let mut failures = Failures::default();
        loop {
            sent(progress.bytes(archive.size));
            if progress.is_whole(archive.size) {
                return Ok(progress.tags());
            }
            let wanted = progress.missing(archive.size);
            let grant = cancellable(stop, ask(wanted)).await??;
            let parts = pieces(archive, &mut progress, grant)?;
            let round = self.round(archive, parts, &mut progress, &mut sent);
            let Round { arrived, setback } = cancellable(stop, round).await??;
            if arrived {
                failures = Failures::default();
            }
            match setback {
                // Another grant, for what is missing now.
                None => {}
                Some(Setback::Forbidden) => {
                    failures.forbidden += 1;
                    if failures.forbidden >= FORBIDDEN_IN_A_ROW {
                        return Err(Failure::Forbidden(failures.forbidden));
                    }
                }
                Some(Setback::Later { after, why }) => {
                    failures.in_a_row += 1;
                    if failures.in_a_row >= ATTEMPTS {
                        return Err(Failure::GaveUp(why));
                    }
                    let pause = backoff::equal_jitter(failures.in_a_row, (self.random)(), after);
                    tracing::info!(why, ?pause, "an upload broke off and goes on later");
                    cancellable(stop, tokio::time::sleep(pause)).await?;
                }
            }
        }
    }

    /// Sends the parts of one grant, some of them at once. After the first setback none is begun any more, but those
    /// that are on their way may arrive.
    async fn round(
        &self,
        archive: &Archive,
        parts: Vec<(Slice, u32, Put)>,
        progress: &mut Progress,
        sent: &mut impl FnMut(u64),
    ) -> Result<Round, Failure> {
        // Two could each keep the limit, and break it together.
        let at_once = if self.bytes_per_second.is_some() { 1 } else { self.at_once };
        let mut waiting = parts.into_iter();
        let mut under_way = FuturesUnordered::new();
        let mut taken = BTreeMap::new();
        let mut round = Round { arrived: false, setback: None };
        let mut look = tokio::time::interval(LOOK);
        loop {
            while round.setback.is_none() && under_way.len() < at_once {
                let Some((slice, number, put)) = waiting.next() else { break };
                let pulse = Pulse::default();
                taken.insert(number, pulse.clone());
                under_way.push(async move { (number, self.send(&archive.path, slice, &put, pulse).await) });
            }
            let (number, answer) = tokio::select! {
                ended = under_way.next() => match ended {
                    Some(ended) => ended,
                    None => return Ok(round),
                },
                _ = look.tick() => {
                    let moving: u64 = taken.values().map(Pulse::bytes).sum();
                    sent(progress.bytes(archive.size) + moving);
                    continue;
                }
            };
            taken.remove(&number);
            match answer? {
                Answer::Taken { etag } => {
                    progress.arrived(number, etag);
                    progress.write(&archive.path)?;
                    round.arrived = true;
                }
                Answer::Not(setback) => round.setback = round.setback.or(Some(setback)),
            }
        }
    }

    async fn send(&self, archive: &Path, slice: Slice, put: &Put, pulse: Pulse) -> Result<Answer, Failure> {
        let (http, url) = self.resolve(&put.url)?;
        let body = throttled_body::stream(archive, slice, self.bytes_per_second, pulse.clone()).await?;
        let mut request = http
            .put(url)
            .header(reqwest::header::CONTENT_LENGTH, slice.size)
            .body(reqwest::Body::wrap_stream(body));
        for (name, value) in &put.headers {
            request = request.header(name, value);
        }
        response::read(pulse.watch(request.send(), self.patience).await)
    }

    /// What to send with, and where to.
    fn resolve(&self, address: &str) -> Result<(&reqwest::Client, Url), Failure> {
        if address.starts_with('/') {
            let base = self.supervisor.as_str().trim_end_matches('/');
            let url = format!("{base}{address}").parse().map_err(bad_address)?;
            return Ok((&self.own, url));
        }
        let url: Url = address.parse().map_err(bad_address)?;
        if !(self.allowed)(&url) {
            let host = url.host_str().unwrap_or("an address without a host");
            return Err(Failure::PolicyDenied(host.to_owned()));
        }
        Ok((&self.other, url))
    }
}

fn bad_address(error: url::ParseError) -> Failure {
    Failure::BadGrant(error.to_string())
}

/// Removes the notes about an archive's upload.
///
/// # Errors
/// They are there and cannot be removed.
pub fn forget(archive: &Path) -> std::io::Result<()> {
    resume_state::forget(archive)
}

/// What became of one grant.
struct Round {
    /// A part did.
    arrived: bool,
    setback: Option<Setback>,
}

#[derive(Default)]
struct Failures {
    in_a_row: u32,
    forbidden: u32,
}

/// What is granted and missing, as slices of the archive. A grant that does not fit the archive is no grant.
fn pieces(
    archive: &Archive,
    progress: &mut Progress,
    grant: UploadGrant,
) -> Result<Vec<(Slice, u32, Put)>, Failure> {
    let (part_bytes, parts) = match grant.upload {
        Upload::Whole { put } => (None, vec![(1, put)]),
        Upload::Parts { part_bytes, parts } => {
            (Some(part_bytes), parts.into_iter().map(|part| (part.number, part.put)).collect())
        }
    };
    if part_bytes == Some(0) || parts.is_empty() {
        return Err(Failure::BadGrant("it names no part".to_owned()));
    }
    progress.granted(part_bytes);
    let step = part_bytes.unwrap_or(archive.size.max(1));
    let slice = |number: u32| {
        let offset = u64::from(number.checked_sub(1)?).checked_mul(step)?;
        let size = archive.size.checked_sub(offset)?.min(step);
        (size > 0 || archive.size == 0).then_some(Slice { offset, size })
    };
    let missing = |number: &u32| !progress.has(*number);
    parts
        .into_iter()
        .filter(|(number, _)| missing(number))
        .map(|(number, put)| {
            let slice = slice(number);
            let slice =
                slice.ok_or_else(|| Failure::BadGrant(format!("the archive has no part {number}")))?;
            Ok((slice, number, put))
        })
        .collect()
}

async fn cancellable<T>(stop: &CancellationToken, work: impl Future<Output = T>) -> Result<T, Failure> {
    stop.run_until_cancelled(work).await.ok_or(Failure::Cancelled)
}
