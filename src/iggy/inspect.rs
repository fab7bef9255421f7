//! The inspection, told in one function: list, look into every segment on both cores, judge.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::bail;
use warden_platform::background_io;
use warden_platform::user_view::Directory;

use super::data_source::{ENTRIES, Limits, Tree};
use super::layout::Layout;
use super::problems::Torn;
use super::report::{Generation, Inspection, Mode, Scan, Segment, VERSION, Verdict};
use super::segment::{self, Depth, Job};
use super::top_problems::Problems;
use super::{metadata, partitions, recovery};

/// Threads that hash. Two keep a disk busy; the host has other things to do with the rest.
const THREADS: usize = 2;
/// Bytes a sampled scan reads of all segments together: a second or two of a good disk.
pub const SAMPLE: u64 = 1 << 30;
/// Bytes a sample takes of one segment at least. Where that is too much for all, some segments get none.
const SAMPLE_LEAST: u64 = 1 << 20;
/// A write to a log takes a few milliseconds, on a busy disk some more.
const SETTLE: Duration = Duration::from_millis(500);
/// Bytes between two words on how far it is.
const PROGRESS_EVERY: u64 = 4 << 20;

/// What to inspect, how deep, and within which bounds.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    pub path: &'a Path,
    pub mode: Mode,
    /// From then on nothing is read any more; what was found until then is told.
    pub until: Option<Instant>,
    /// Files and folders that are looked at.
    pub entries: usize,
    /// The directory at `path`, where it is open already.
    pub folder: Option<&'a Directory>,
    /// After so long, an end of a file that is no whole entry is being written by nobody.
    pub settle: Duration,
}

impl<'a> Order<'a> {
    /// Without a limit of time, and with the largest of all others.
    pub fn new(path: &'a Path, mode: Mode) -> Order<'a> {
        Order { path, mode, until: None, entries: ENTRIES, folder: None, settle: SETTLE }
    }
}

/// How far it is, bytes.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    pub done: u64,
    pub total: u64,
}

/// Inspects the data directory at `order.path`. `observe` is told of progress from several threads, and stops the
/// scan by false; what was found until then is returned.
pub fn inspect(order: Order<'_>, observe: &(dyn Fn(Progress) -> bool + Sync)) -> anyhow::Result<Inspection> {
    let began = Instant::now();
    let limits = Limits { entries: order.entries, until: order.until };
    let tree = match order.folder {
        None => Tree::open(order.path, limits)?,
        Some(folder) => Tree::of(folder.try_clone()?, limits),
    };
    let mut layout = Layout::default();
    let listing = tree.list(&mut |entry| layout.add(&entry))?;
    let layout = layout.ready();
    if !layout.is_ours && listing.is_late {
        bail!("the time was over before the files of {} were listed", order.path.display());
    }
    if !layout.is_ours {
        bail!(
            "{} is no data directory of Iggy: it holds neither streams/ nor metadata/ nor state/",
            order.path.display()
        );
    }
    let generation = metadata::generation(&layout);
    let mut problems = Problems::default();
    metadata::of_layout(&layout, &listing, generation, tree.is_archive(), &mut problems);
    let recovered = recovery::look(&tree, &layout, generation, order.settle, &mut problems);

    let jobs = jobs(&layout, generation);
    let mut seen = look_into(&tree, &jobs, order.mode, problems, observe);
    settle(&tree, &jobs, order.settle, &mut seen);
    let segments = std::mem::take(&mut seen.segments);
    let mut by_partition: BTreeMap<_, Vec<Segment>> = BTreeMap::new();
    for (number, segment) in segments {
        by_partition.entry(jobs[number].key).or_default().push(segment);
    }
    let Seen { mut problems, mut scan, .. } = seen;
    let mut streams = partitions::assemble(
        &tree,
        &layout,
        |key| by_partition.remove(&key).unwrap_or_default(),
        &mut problems,
    );
    if let Some(catalog) = &recovered.catalog {
        partitions::name(&mut streams, catalog);
        recovery::compare(&tree, &layout, catalog, &mut problems);
    }
    scan.was_cancelled |= listing.is_late || tree.limits.is_late();
    scan.seconds = Some(began.elapsed().as_secs_f64());
    let totals = partitions::totals(&layout, &streams);
    let (problems, problems_left_out, damaged) = problems.finish();
    Ok(Inspection {
        version: VERSION,
        path: order.path.to_string_lossy().into_owned(),
        verdict: if damaged { Verdict::Damaged } else { Verdict::Sound },
        generation,
        problems,
        problems_left_out,
        totals,
        scan,
        superblock: recovered.superblock,
        journal: recovered.journal,
        checkpoint: recovered.checkpoint,
        unchecked: recovered.unchecked,
        streams,
        partitions_left_out: 0,
    })
}

fn jobs(layout: &Layout, generation: Generation) -> Vec<Job<'_>> {
    let is_old = generation == Generation::Old;
    let mut jobs = Vec::new();
    for (&key, partition) in &layout.partitions {
        for (&start, files) in &partition.segments {
            let mut later = partition.segments.range(start.saturating_add(1)..);
            let following = later.find(|(_, files)| files.log.is_some());
            let next = following.map(|(&start, _)| start);
            let is_last = later.all(|(_, files)| files.log.is_none());
            let next_is_empty =
                is_last && following.is_some_and(|(_, files)| files.log.is_some_and(|log| log.bytes == 0));
            jobs.push(Job { key, start, next, next_is_empty, files, is_old });
        }
    }
    jobs
}

/// What was found in the segments until now.
struct Seen {
    /// By the number of the job.
    segments: BTreeMap<usize, Segment>,
    problems: Problems,
    torn: Vec<(usize, Torn)>,
    scan: Scan,
}

/// Tells ends that are being written from those that were left so: the latter do not grow.
fn settle(tree: &Tree, jobs: &[Job<'_>], wait: Duration, seen: &mut Seen) {
    let torn = std::mem::take(&mut seen.torn);
    if !torn.is_empty() && !tree.is_archive() {
        std::thread::sleep(wait);
    }
    for (number, torn) in torn {
        let log = jobs[number].files.log.map(|log| log.at(torn.log().to_owned()));
        let size = log.and_then(|log| tree.read(&log, |_, size| Ok(size)).ok());
        let is_left = !tree.is_archive() && size == Some(torn.size);
        seen.problems.push(torn.problem(is_left));
        if let Some(segment) = seen.segments.get_mut(&number).filter(|_| is_left) {
            segment.damages += 1;
        }
    }
}

/// Looks into all segments; those being written come first, for a crash shows there.
fn look_into(
    tree: &Tree,
    jobs: &[Job<'_>],
    mode: Mode,
    problems: Problems,
    observe: &(dyn Fn(Progress) -> bool + Sync),
) -> Seen {
    let depths = depths(jobs, mode);
    let total = jobs.iter().zip(&depths).map(|(job, depth)| expected(job, *depth)).sum();
    let mut order: Vec<usize> = (0..jobs.len()).collect();
    order.sort_by_key(|&number| jobs[number].next.is_some());
    let (next, done, stopped) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let scan = Scan { mode, ..Scan::default() };
    let seen = Mutex::new(Seen { segments: BTreeMap::new(), problems, torn: Vec::new(), scan });
    let is_over = || stopped.load(Ordering::Relaxed) || tree.limits.is_late();
    let tell = |bytes: u64| {
        let done = done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if !observe(Progress { done, total }) {
            stopped.store(true, Ordering::Relaxed);
        }
    };
    let work = || {
        background_io::step_back();
        while let Some(&number) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (job, depth) = (&jobs[number], depths[number]);
            let told = Cell::new(0);
            let progress = |bytes: u64| {
                let new = bytes.saturating_sub(told.get());
                if new >= PROGRESS_EVERY {
                    told.set(bytes);
                    tell(new);
                }
                !is_over()
            };
            let looked = if is_over() { None } else { Some(segment::look(tree, job, depth, &progress)) };
            tell(expected(job, depth).saturating_sub(told.get()));
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            match looked {
                Some(looked) => {
                    seen.scan.add(&looked);
                    seen.segments.insert(number, looked.segment);
                    seen.problems.extend(looked.problems);
                    seen.torn.extend(looked.torn.map(|torn| (number, torn)));
                }
                None => {
                    let segment = segment::listed(job);
                    seen.scan.bytes += segment.log_bytes.unwrap_or(0);
                    seen.scan.segments_left_behind += 1;
                    seen.scan.was_cancelled = true;
                    seen.segments.insert(number, segment);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..THREADS.min(jobs.len()) {
            scope.spawn(work);
        }
    });
    seen.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl Scan {
    fn add(&mut self, looked: &segment::Looked) {
        self.bytes += looked.segment.log_bytes.unwrap_or(0);
        self.verified_bytes += looked.segment.verified_bytes;
        self.verified_batches += looked.batches;
        self.verified_messages += looked.messages;
        self.was_cancelled |= looked.was_cancelled;
    }
}

fn expected(job: &Job<'_>, depth: Depth) -> u64 {
    let size = job.files.log.as_ref().map_or(0, |log| log.bytes);
    match depth.mode {
        Mode::Full => size,
        Mode::Sampled => size.min(depth.budget),
        Mode::None => 0,
    }
}

/// Every segment gets the same part of a sample; where that is too little, every so manieth gets enough. The
/// segments being written always do: they are where a crash shows.
fn depths(jobs: &[Job<'_>], mode: Mode) -> Vec<Depth> {
    let share = SAMPLE / (jobs.len() as u64).max(1);
    let budget = share.max(SAMPLE_LEAST);
    let every = usize::try_from(budget.div_ceil(share.max(1))).unwrap_or(usize::MAX);
    let chosen = |number: usize, job: &Job<'_>| number.is_multiple_of(every) || job.next.is_none();
    let depth = |(number, job): (usize, &Job<'_>)| {
        let left_out = mode == Mode::Sampled && !chosen(number, job);
        Depth { mode: if left_out { Mode::None } else { mode }, budget }
    };
    jobs.iter().enumerate().map(depth).collect()
}
