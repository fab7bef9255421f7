//! Runs checks side by side. One never stops another, and each has a deadline, as has the whole run.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, Once, PoisonError, mpsc};
use std::time::{Duration, Instant};

use warden_host::{Check, Error, Finding, Host, Read, Request, Source};
use warden_iggy::Progress;

/// How one check ended.
#[derive(Debug)]
pub struct Ended {
    pub check: &'static Check,
    pub end: End,
    pub asked: Vec<Request>,
    pub wall: Duration,
}

#[derive(Debug)]
pub enum End {
    Found(Finding),
    /// It could not tell, and this is why.
    Unknown(Error),
    /// It did not come back and was left behind.
    TimedOut,
    /// It never began: the time for the whole run was over.
    NeverBegan,
    /// A defect of the check, with its message.
    Panicked(String),
}

/// What happens while checks run, for whoever shows it.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    Began(&'static Check),
    Ended(&'static Check),
    /// The checks are done, and the data directory is looked into.
    Inspecting(Progress),
}

/// Bounds of a run.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub side_by_side: usize,
    /// For all checks together.
    pub limit: Duration,
}

struct Running {
    index: usize,
    asked: Arc<Mutex<Vec<Request>>>,
    began: Instant,
    deadline: Instant,
}

/// Runs `checks` against `source` and returns how each ended, in the order given.
///
/// A check that outlives its deadline keeps its thread (the kernel may hold it), but not its place: the next
/// one begins.
pub fn run(
    checks: &[&'static Check],
    source: &Arc<dyn Source>,
    bounds: Bounds,
    observe: &mut dyn FnMut(Event),
) -> Vec<Ended> {
    keep_panics_of_checks_quiet();
    let end_of_run = Instant::now() + bounds.limit;
    // The others have the sampling pause to themselves; those that need both samples begin when it is over.
    let (sampled, others): (Vec<usize>, Vec<usize>) =
        (0..checks.len()).partition(|&index| is_sampled(checks[index]));
    let mut waiting: VecDeque<usize> = others.into_iter().chain(sampled).collect();
    let mut running: Vec<Running> = Vec::new();
    let mut ended: Vec<Option<Ended>> = checks.iter().map(|_| None).collect();
    let (sender, receiver) = mpsc::channel();

    loop {
        while running.len() < bounds.side_by_side && Instant::now() < end_of_run {
            let Some(index) = waiting.pop_front() else { break };
            observe(Event::Began(checks[index]));
            running.push(begin(index, checks[index], source, end_of_run, &sender));
        }
        let Some(nearest) = running.iter().map(|check| check.deadline).min() else { break };
        let patience = nearest.saturating_duration_since(Instant::now());
        if let Ok((index, end)) = receiver.recv_timeout(patience) {
            // The word of a check that was already given up is not taken any more.
            let Some(place) = running.iter().position(|check| check.index == index) else { continue };
            let check = running.swap_remove(place);
            finish(&mut ended, checks, &check, end, observe);
        }
        let now = Instant::now();
        while let Some(place) = running.iter().position(|check| check.deadline <= now) {
            let check = running.swap_remove(place);
            finish(&mut ended, checks, &check, End::TimedOut, observe);
        }
    }
    let never_began = |index: usize| {
        let check = checks[index];
        Ended { check, end: End::NeverBegan, asked: Vec::new(), wall: Duration::ZERO }
    };
    ended.into_iter().enumerate().map(|(index, ended)| ended.unwrap_or_else(|| never_began(index))).collect()
}

fn is_sampled(check: &Check) -> bool {
    check.reads.iter().any(|read| matches!(read, Read::Sample(_)))
}

fn begin(
    index: usize,
    check: &'static Check,
    source: &Arc<dyn Source>,
    end_of_run: Instant,
    sender: &mpsc::Sender<(usize, End)>,
) -> Running {
    let began = Instant::now();
    let deadline = end_of_run.min(began + check.deadline);
    let host = Host::new(Arc::clone(source), deadline);
    let asked = host.asked();
    let report = sender.clone();
    let work = move || {
        let end = match catch_unwind(AssertUnwindSafe(|| check.judge(&host))) {
            Ok(Ok(finding)) => End::Found(finding.finite()),
            Ok(Err(error)) => End::Unknown(error),
            Err(payload) => End::Panicked(message_of(payload.as_ref())),
        };
        let _ = report.send((index, end));
    };
    if let Err(error) = std::thread::Builder::new().name(format!("{THREAD_PREFIX}{}", check.id)).spawn(work) {
        let error = Error::parse("the host", format!("a thread cannot be started: {error}"));
        let _ = sender.send((index, End::Unknown(error)));
    }
    Running { index, asked, began, deadline }
}

fn finish(
    ended: &mut [Option<Ended>],
    checks: &[&'static Check],
    running: &Running,
    end: End,
    observe: &mut dyn FnMut(Event),
) {
    let check = checks[running.index];
    let asked = running.asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
    observe(Event::Ended(check));
    ended[running.index] = Some(Ended { check, end, asked, wall: running.began.elapsed() });
}

pub(super) const THREAD_PREFIX: &str = "check ";
/// Threads that ask the host; a panic there could show what was being masked.
pub(super) const ASK_PREFIX: &str = "ask ";

/// A panic of a check is a finding in the report; on the terminal it would only tear the progress bar.
fn keep_panics_of_checks_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !std::thread::current()
                .name()
                .is_some_and(|name| [THREAD_PREFIX, ASK_PREFIX].iter().any(|prefix| name.starts_with(prefix)))
            {
                others(panic);
            }
        }));
    });
}

fn message_of(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use warden_host::{Area, Recorded, Result};

    use super::*;

    const fn check(id: &'static str, run: fn(&Host) -> Result<Finding>) -> Check {
        Check {
            id,
            area: Area::Cpu,
            title: "",
            why: "",
            reads: &[],
            thresholds: &[],
            advice: "",
            deadline: Duration::from_millis(100),
            run,
        }
    }

    static PASSES: Check = check("passes", |_| Ok(Finding::new("all well")));
    static PANICS: Check = check("panics", |_| panic!("defect number {}", 7));
    static COULD_NOT_TELL: Check = check("could-not-tell", |host| host.read("/x").map(Finding::new));
    static HANGS: Check = check("hangs", |host| {
        let _ = host.uname();
        std::thread::sleep(Duration::from_secs(3600));
        Ok(Finding::new(""))
    });

    fn run_all(checks: &[&'static Check], bounds: Bounds) -> Vec<Ended> {
        let source: Arc<dyn Source> = Arc::new(Recorded::new());
        run(checks, &source, bounds, &mut |_| ())
    }

    #[test]
    fn each_check_ends_as_what_it_is_and_none_stops_another() {
        let bounds = Bounds { side_by_side: 2, limit: Duration::from_secs(10) };
        let ended = run_all(&[&HANGS, &PANICS, &HANGS, &COULD_NOT_TELL, &PASSES], bounds);
        let ids: Vec<_> = ended.iter().map(|ended| ended.check.id).collect();
        assert_eq!(ids, ["hangs", "panics", "hangs", "could-not-tell", "passes"]);
        assert!(matches!(&ended[0].end, End::TimedOut));
        assert_eq!(ended[0].asked, [Request::Uname], "what it was asking is known");
        assert!(matches!(&ended[1].end, End::Panicked(message) if message == "defect number 7"));
        assert!(
            matches!(&ended[3].end, End::Unknown(error) if error.to_string() == "/x: not in this recording")
        );
        assert!(matches!(&ended[4].end, End::Found(finding) if finding.summary == "all well"));
    }

    #[test]
    fn the_whole_run_is_bounded() {
        let bounds = Bounds { side_by_side: 1, limit: Duration::from_millis(150) };
        let ended = run_all(&[&HANGS, &HANGS, &HANGS, &PASSES], bounds);
        assert!(matches!(ended[1].end, End::TimedOut));
        assert!(matches!(ended[2].end, End::NeverBegan) && matches!(ended[3].end, End::NeverBegan));
    }
}
