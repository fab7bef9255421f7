//! Looks into Iggy's data directory for a report, within its limits and without being felt.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use warden_checks::iggy as iggy_on;
use warden_config as config;
use warden_host::{Host, Verdict, quantity};
use warden_iggy as iggy;
use warden_iggy::report::{Inspection, Mode};
use warden_platform::background_io;
use warden_redact::{Redactor, Shape};

use super::bundle::IGGY;
use super::check_runner::{Event, THREAD_PREFIX};
use super::report::{DataDirectory, InspectionCost, Outcome, SourceKind};
use super::zip_end_record::open_archive;
use super::{Order, Place};

/// What is found in the data directory of the host, or in the one that a recording brings along. `None` when that is
/// not asked for, or there is none.
pub fn look(
    order: &Order,
    kind: SourceKind,
    host: &Host,
    redactor: &Redactor,
    observe: &mut dyn FnMut(Event),
) -> Option<DataDirectory> {
    let told = order.inspect.and_then(|mode| looked(mode, order, kind, host, redactor, observe));
    let Some(why) = &order.iggy_left_out else { return told };
    let why = redactor.redact(Shape::Plain, why).into_owned();
    // Nobody misses what is not there: this may be a host of connectors alone.
    let is_here = !iggy_on::launches(host, iggy_on::Runtime::Iggy).is_empty()
        || iggy_on::data_directory(host).is_some()
        || iggy_on::hidden_data_directory(host).is_some();
    let severity = if is_here { Verdict::Fail } else { Verdict::Note };
    let told = told.unwrap_or_else(|| {
        let known = iggy_on::intended_data_directory(host).map(|(data, _)| (data.path, data.found_by));
        let (path, found_by) = known.unwrap_or_default();
        let masked = |text: &str| redactor.redact(Shape::Plain, text).into_owned();
        DataDirectory::unseen(masked(&path), masked(&found_by), Outcome::Note, String::new())
    });
    Some(told.without_archive(why, severity))
}

fn looked(
    mode: Mode,
    order: &Order,
    kind: SourceKind,
    host: &Host,
    redactor: &Redactor,
    observe: &mut dyn FnMut(Event),
) -> Option<DataDirectory> {
    let place = place(order, kind, host)?;
    let began = Instant::now();
    // Where a recording lies is nothing of the host's.
    let is_recorded = kind == SourceKind::Recording && order.data.is_none();
    let shown = if is_recorded { IGGY.to_owned() } else { place.path.display().to_string() };
    let masked = |text: &str| redactor.redact(Shape::Plain, text).into_owned();
    let (shown, found_by) = (masked(&shown), masked(&place.found_by));
    let mut told = match inspected(place, mode, began + limit(mode), observe) {
        Ok(inspection) => {
            let inspection = mask(inspection.shortened(), &shown, redactor);
            DataDirectory::inspected(shown, found_by, inspection)
        }
        Err((outcome, cause)) => DataDirectory::unseen(shown, found_by, outcome, masked(&cause)),
    };
    let wall = began.elapsed();
    let rate = told.inspection.as_ref().and_then(|found| found.scan.bytes_per_second());
    told.cost = (kind == SourceKind::Live).then(|| InspectionCost {
        wall_us: wall.as_micros() as u64,
        bytes_per_second: rate.map(|rate| rate as u64),
    });
    if let Some(inspection) = &mut told.inspection {
        // It stands with the other costs, so that the same data makes the same report.
        inspection.scan.seconds = None;
    }
    Some(told)
}

/// How long it may take.
pub const fn limit(mode: Mode) -> Duration {
    match mode {
        Mode::None => config::INSPECT_STRUCTURE_LIMIT,
        Mode::Sampled => config::INSPECT_SAMPLED_LIMIT,
        Mode::Full => config::INSPECT_FULL_LIMIT,
    }
}

fn place(order: &Order, kind: SourceKind, host: &Host) -> Option<Place> {
    if let Some(place) = &order.data {
        return Some(place.clone());
    }
    match (kind, &order.recording) {
        (SourceKind::Live, _) => {
            let found = warden_checks::iggy::data_directory(host)?;
            Some(Place::of(found, host))
        }
        // What a recording says of its host's paths means nothing here.
        (SourceKind::Recording, None) => None,
        (SourceKind::Recording, Some(path)) => {
            let beside = path.join(IGGY);
            if beside.is_file() {
                return Some(Place { path: beside, found_by: "the recording".to_owned(), rights: None });
            }
            let archive = open_archive(std::fs::File::open(path).ok()?).ok()?;
            archive.index_for_name(IGGY)?;
            Some(Place { path: path.clone(), found_by: "the recording".to_owned(), rights: None })
        }
    }
}

/// In a thread of its own, which is left behind if the kernel does not give it back.
fn inspected(
    place: Place,
    mode: Mode,
    until: Instant,
    observe: &mut dyn FnMut(Event),
) -> Result<Box<Inspection>, (Outcome, String)> {
    enum Word {
        Progress(iggy::Progress),
        Done(anyhow::Result<Box<Inspection>>),
    }
    let (sender, receiver) = channel();
    let work = move || {
        if mode != Mode::None {
            background_io::step_back_as_session();
        }
        let inspect = || {
            let folder = if place.path.is_file() { None } else { Some(place.open()?) };
            let order = iggy::Order {
                until: Some(until),
                entries: config::INSPECT_ENTRIES,
                folder: folder.as_ref(),
                ..iggy::Order::new(&place.path, mode)
            };
            iggy::inspect(order, &|progress| sender.send(Word::Progress(progress)).is_ok())
        };
        let done = inspect();
        let _ = sender.send(Word::Done(done.map(Box::new)));
    };
    let named = std::thread::Builder::new().name(format!("{THREAD_PREFIX}{}", super::report::DATA_DIRECTORY));
    if let Err(error) = named.spawn(work) {
        return Err((Outcome::Unknown, format!("a thread cannot be started: {error}")));
    }
    let patience = until + config::FILE_PATIENCE;
    loop {
        match receiver.recv_timeout(patience.saturating_duration_since(Instant::now())) {
            Ok(Word::Progress(progress)) => observe(Event::Inspecting(progress)),
            Ok(Word::Done(done)) => return done.map_err(|error| (Outcome::Unknown, format!("{error:#}"))),
            Err(RecvTimeoutError::Timeout) => {
                let limit = quantity::duration((limit(mode) + config::FILE_PATIENCE).as_secs_f64());
                return Err((
                    Outcome::TimedOut,
                    format!("left behind after {limit}: its files do not answer, or no core was free for it"),
                ));
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err((Outcome::Panicked, "a defect of the inspection".to_owned()));
            }
        }
    }
}

/// Names of files, streams and topics are the only text in it that is not ours.
fn mask(mut inspection: Inspection, path: &str, redactor: &Redactor) -> Inspection {
    let mask = |text: &mut String| *text = redactor.redact(Shape::Plain, text).into_owned();
    inspection.path = path.to_owned();
    for problem in &mut inspection.problems {
        mask(&mut problem.file);
        mask(&mut problem.text);
        mask(problem.advice.to_mut());
    }
    for stream in &mut inspection.streams {
        stream.name.as_mut().map(mask);
        stream.topics.iter_mut().filter_map(|topic| topic.name.as_mut()).for_each(mask);
    }
    let partitions = inspection
        .streams
        .iter_mut()
        .flat_map(|stream| &mut stream.topics)
        .flat_map(|topic| &mut topic.partitions);
    for offset in partitions.flat_map(|partition| partition.consumers.iter_mut().chain(&mut partition.groups))
    {
        mask(&mut offset.id);
    }
    inspection
}
