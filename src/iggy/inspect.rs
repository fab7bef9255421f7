//! The inspection, told in one function: list, look into every segment on both cores, judge.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::bail;

use super::layout::Layout;
use super::report::{Generation, Inspection, Mode, Problem, Scan, Segment, VERSION, Verdict};
use super::segment::{self, Depth, Job, Looked};
use super::tree::Tree;
use super::{gentle, metadata, partitions};

/// Threads that hash. Two keep a disk busy; the host has other things to do with the rest.
const THREADS: usize = 2;
/// Bytes a sampled scan reads of all segments together: a second or two of a good disk.
const SAMPLE: u64 = 1 << 30;
/// Bytes a sample takes of one segment at least. Where that is too much for all, some segments get none.
const SAMPLE_LEAST: u64 = 1 << 20;
/// Problems told. A directory that is damaged throughout is not told better by more of them.
const PROBLEMS: usize = 1000;
/// Bytes between two words on how far it is.
const PROGRESS_EVERY: u64 = 4 << 20;

/// What to inspect, and how deep.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    pub path: &'a Path,
    pub mode: Mode,
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
    let tree = Tree::open(order.path)?;
    let listing = tree.list()?;
    let layout = Layout::of(&listing);
    if !layout.is_ours {
        bail!(
            "{} is no data directory of Iggy: it holds neither streams/ nor metadata/ nor state/",
            order.path.display()
        );
    }
    let generation = metadata::generation(&layout);
    let mut problems = Vec::new();
    metadata::of_layout(&layout, &listing, generation, tree.is_archive(), &mut problems);
    drop(listing);
    let superblocks =
        ["metadata/superblock.a", "metadata/superblock.b"].map(|path| layout.metadata.get(path));
    let superblock = metadata::superblock(&tree, "metadata", superblocks, &mut problems);
    let journal = metadata::journal(&tree, &layout, &mut problems);

    let jobs = jobs(&layout, generation);
    let looked = look_into(&tree, &jobs, order.mode, observe);
    let mut scan = Scan {
        mode: order.mode,
        bytes: 0,
        verified_bytes: 0,
        verified_batches: 0,
        verified_messages: 0,
        seconds: 0.0,
        was_cancelled: false,
    };
    let mut segments: BTreeMap<_, Vec<Segment>> = BTreeMap::new();
    for (job, looked) in jobs.iter().zip(looked) {
        scan.bytes += looked.segment.log_bytes.unwrap_or(0);
        scan.verified_bytes += looked.segment.verified_bytes;
        scan.verified_batches += looked.batches;
        scan.verified_messages += looked.messages;
        scan.was_cancelled |= looked.was_cancelled;
        problems.extend(looked.problems);
        segments.entry(job.key).or_default().push(looked.segment);
    }
    let streams =
        partitions::assemble(&tree, &layout, |key| segments.remove(&key).unwrap_or_default(), &mut problems);
    scan.seconds = began.elapsed().as_secs_f64();

    let totals = partitions::totals(&layout, &streams);
    problems.sort_by(|one, other| (other.severity, &one.file).cmp(&(one.severity, &other.file)));
    let damaged = problems.iter().any(Problem::is_damage);
    let problems_left_out = problems.len().saturating_sub(PROBLEMS) as u64;
    problems.truncate(PROBLEMS);
    Ok(Inspection {
        version: VERSION,
        path: order.path.to_string_lossy().into_owned(),
        verdict: if damaged { Verdict::Damaged } else { Verdict::Sound },
        generation,
        problems,
        problems_left_out,
        totals,
        scan,
        superblock,
        journal,
        streams,
    })
}

fn jobs(layout: &Layout, generation: Generation) -> Vec<Job<'_>> {
    let is_old = generation == Generation::Old;
    let mut jobs = Vec::new();
    for (&key, partition) in &layout.partitions {
        for (&start, files) in &partition.segments {
            let mut later = partition.segments.range(start.saturating_add(1)..);
            let next = later.find(|(_, files)| files.log.is_some()).map(|(&start, _)| start);
            jobs.push(Job { key, start, next, files, is_old });
        }
    }
    jobs
}

/// Looks into all segments, in their order, with the results in the same order.
fn look_into(
    tree: &Tree,
    jobs: &[Job<'_>],
    mode: Mode,
    observe: &(dyn Fn(Progress) -> bool + Sync),
) -> Vec<Looked> {
    let depths = depths(jobs, mode);
    let total = jobs.iter().zip(&depths).map(|(job, depth)| expected(job, *depth)).sum();
    let (next, done, stopped) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let results: Mutex<BTreeMap<usize, Looked>> = Mutex::new(BTreeMap::new());
    let work = || {
        gentle::step_back();
        while let Some((number, job)) = {
            let number = next.fetch_add(1, Ordering::Relaxed);
            jobs.get(number).map(|job| (number, job))
        } {
            let told = Cell::new(0);
            let progress = |bytes: u64| {
                let new = bytes.saturating_sub(told.get());
                if new >= PROGRESS_EVERY {
                    told.set(bytes);
                    let done = done.fetch_add(new, Ordering::Relaxed) + new;
                    if !observe(Progress { done, total }) {
                        stopped.store(true, Ordering::Relaxed);
                    }
                }
                !stopped.load(Ordering::Relaxed)
            };
            let looked = segment::look(tree, job, depths[number], &progress);
            let rest = expected(job, depths[number]).saturating_sub(told.get());
            let done = done.fetch_add(rest, Ordering::Relaxed) + rest;
            if !observe(Progress { done, total }) {
                stopped.store(true, Ordering::Relaxed);
            }
            if let Ok(mut results) = results.lock() {
                results.insert(number, looked);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..THREADS.min(jobs.len()) {
            scope.spawn(work);
        }
    });
    results.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).into_values().collect()
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
