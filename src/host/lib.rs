//! The only way a check sees anything: questions, answers, and what a check says of them.

mod answer;
pub mod arc;
mod check;
mod command;
pub mod diskstats;
pub mod filesystems;
mod finding;
pub mod proc;
pub mod quantity;
mod recorded;
pub mod recorder;
mod request;
mod rights;
pub mod shape;
mod sight;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

pub use answer::*;
pub use check::{Area, Check, DEADLINE, Error, Read, Result, component_matches, matches};
pub use command::{COMMANDS, Command, find as find_command};
pub use finding::*;
pub use recorded::Recorded;
pub use request::*;
pub use rights::{NamedPaths, Rights};
pub use sight::{PLACEHOLDER, missing};

/// What answers: the live host, or a recording of one.
pub trait Source: Send + Sync {
    /// Answers `request`; gives up at `deadline`. The same request always gets the same answer.
    fn answer(&self, request: &Request, deadline: Instant) -> Arc<Answer>;
}

/// A host as one check sees it. It remembers what was asked, so that the report can say what a finding was
/// judged by, and which answers were missing or not whole, so that none of these passes for good news.
pub struct Host {
    source: Arc<dyn Source>,
    deadline: Instant,
    asked: Arc<Mutex<Vec<Request>>>,
    known: Mutex<HashSet<Request>>,
    named: NamedPaths,
    unseen: Mutex<Vec<Failure>>,
    quiet: AtomicBool,
}

impl Host {
    pub fn new(source: Arc<dyn Source>, deadline: Instant) -> Host {
        Host {
            source,
            deadline,
            asked: Arc::default(),
            known: Mutex::default(),
            named: NamedPaths::default(),
            unseen: Mutex::default(),
            quiet: AtomicBool::new(false),
        }
    }

    /// What was asked so far, in order, shared with whoever holds the handle.
    pub fn asked(&self) -> Arc<Mutex<Vec<Request>>> {
        Arc::clone(&self.asked)
    }

    /// Notes that `path`, and all below it, was named by the holder of `rights`: it is asked for on their behalf.
    pub fn name(&self, path: &str, rights: &Rights) {
        self.named.add(path, rights);
    }

    /// The paths that were named so far, to be added to.
    pub fn named(&self) -> NamedPaths {
        self.named.clone()
    }

    /// What was asked and not answered, or not whole, in order. What does not exist is an answer.
    pub fn unseen(&self) -> Vec<Failure> {
        self.unseen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks without [`Host::unseen`] remembering what is missing. Only for answers that no verdict depends on
    /// (they fill a column), and for those whose absence the check reports itself.
    pub fn quietly<T>(&self, ask: impl FnOnce(&Host) -> T) -> T {
        let before = self.quiet.swap(true, Ordering::Relaxed);
        let value = ask(self);
        self.quiet.store(before, Ordering::Relaxed);
        value
    }

    /// Remembers that a value which no redactor should have masked is masked.
    pub fn note_masked(&self, what: &str) {
        self.note_unseen(Failure { what: what.to_owned(), cause: Cause::Masked });
    }

    /// The text, unless the redactor masked a part of it: for what is wrong when read without that part.
    pub fn unmasked(&self, what: &str, text: String) -> Result<String> {
        if text.contains(PLACEHOLDER) {
            return Err(Failure { what: what.to_owned(), cause: Cause::Masked }.into());
        }
        Ok(text)
    }

    fn note_unseen(&self, failure: Failure) {
        let mut unseen = self.unseen.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.quiet.load(Ordering::Relaxed) && !unseen.contains(&failure) {
            unseen.push(failure);
        }
    }

    fn ask(&self, request: Request) -> Arc<Answer> {
        let plain = request.clone();
        let request = self.named.on_behalf(request);
        let answer = match sight::unspeakable(&plain) {
            Some(failure) => Arc::new(Err(failure)),
            None => self.source.answer(&request, self.deadline),
        };
        if let Some(failure) = sight::unseen(&plain, &answer) {
            self.note_unseen(failure);
        }
        if self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(request.clone()) {
            self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        }
        answer
    }
}

/// Turns an answer into the one kind of data that its request calls for, whole or not at all.
macro_rules! expect {
    ($host:expr, $request:expr, $pattern:pat => $value:expr) => {{
        let request = $request;
        let what = request.to_string();
        match &*$host.ask(request) {
            Ok(data) => match (sight::flaw(data), data) {
                (Some(cause), _) => Err(Error::Host(Failure { what, cause })),
                (None, $pattern) => Ok($value),
                (None, _) => Err(Error::parse(what, "the recording holds another kind of answer")),
            },
            Err(failure) => Err(Error::Host(failure.clone())),
        }
    }};
}

/// The same, with what there is of an answer that is not whole.
macro_rules! expect_part {
    ($host:expr, $request:expr, $pattern:pat => $value:expr) => {{
        let request = $request;
        let what = request.to_string();
        match &*$host.ask(request) {
            Ok(data @ $pattern) => Ok(Part { value: $value, missing: sight::missing(data) }),
            Ok(_) => Err(Error::parse(what, "the recording holds another kind of answer")),
            Err(failure) => Err(Error::Host(failure.clone())),
        }
    }};
}

/// An answer that may not be whole. [`crate::Check::judge`] notes what is missing; a verdict for the better needs
/// the whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Part<T> {
    pub value: T,
    /// How much there is and how much of it was read; absent when the answer is whole.
    pub missing: Option<String>,
}

impl Host {
    /// Content of a file. One that is longer than [`FILE_BYTES`] (below /proc [`PROC_BYTES`]) is an error.
    pub fn read(&self, path: &str) -> Result<String> {
        expect!(self, Request::File { path: path.to_owned() }, Data::Text(content) => content.text.clone())
    }

    /// Content of a file from its start, however long it is.
    pub fn read_part(&self, path: &str) -> Result<Part<String>> {
        expect_part!(self, Request::File { path: path.to_owned() }, Data::Text(content) => content.text.clone())
    }

    /// Content of a file without surrounding white space: the usual shape of a /proc/sys or /sys value.
    pub fn value(&self, path: &str) -> Result<String> {
        let text = self.read(path)?;
        if text.contains(PLACEHOLDER) {
            return Err(Failure { what: path.to_owned(), cause: Cause::Masked }.into());
        }
        Ok(text.trim().to_owned())
    }

    /// A number that stands alone in a file.
    pub fn number(&self, path: &str) -> Result<i64> {
        let text = self.value(path)?;
        text.parse().map_err(|_| Error::parse(path, format!("`{text}` is not a number")))
    }

    /// Contents of all files that match `pattern`, sorted by path. An error when one of them was not read, or not to
    /// its end; those that vanished do not count.
    pub fn read_all(&self, pattern: &str) -> Result<Vec<FileText>> {
        expect!(self, Request::Files { pattern: pattern.to_owned() }, Data::Files { files, .. } => files.clone())
    }

    /// Contents of those files that match `pattern` and could be read, sorted by path.
    pub fn read_all_part(&self, pattern: &str) -> Result<Part<Vec<FileText>>> {
        expect_part!(self, Request::Files { pattern: pattern.to_owned() }, Data::Files { files, .. } => files.clone())
    }

    /// Contents of all files that match `pattern`, before and after the run's one sampling pause.
    pub fn sample(&self, pattern: &str) -> Result<Samples> {
        expect!(self, Request::Sample { pattern: pattern.to_owned() }, Data::Samples(samples) => samples.clone())
    }

    /// One file before and after the pause, and the seconds between.
    pub fn sample_file(&self, path: &str) -> Result<(String, String, f64)> {
        let samples = self.sample(path)?;
        let seconds = samples.seconds();
        match samples.files.into_iter().next() {
            Some(Sample { first: Some(first), second: Some(second), .. }) => Ok((first, second, seconds)),
            _ => Err(Failure { what: path.to_owned(), cause: Cause::Absent }.into()),
        }
    }

    /// The newest lines of a log file. That older ones were left out is noted in the finding.
    pub fn tail(&self, path: &str) -> Result<Content> {
        expect_part!(self, Request::Tail { path: path.to_owned() }, Data::Text(content) => content.clone())
            .map(|part| part.value)
    }

    /// Names in a directory. An error when there are more than [`LIST_ENTRIES`].
    pub fn list(&self, path: &str) -> Result<Vec<Entry>> {
        expect!(self, Request::List { path: path.to_owned() }, Data::Entries { entries, .. } => entries.clone())
    }

    /// The first names in a directory, however many there are.
    pub fn list_part(&self, path: &str) -> Result<Part<Vec<Entry>>> {
        expect_part!(self, Request::List { path: path.to_owned() }, Data::Entries { entries, .. } => entries.clone())
    }

    pub fn link(&self, path: &str) -> Result<String> {
        let target: Result<String> =
            expect!(self, Request::Link { path: path.to_owned() }, Data::Link { target } => target.clone());
        // Where a link leads is named by whoever named the link.
        if let (Ok(target), Some(rights)) = (&target, self.named.rights(path)) {
            let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
            let is_absolute = target.starts_with('/');
            self.name(&if is_absolute { target.clone() } else { format!("{directory}/{target}") }, &rights);
        }
        target
    }

    pub fn stat(&self, path: &str) -> Result<Stat> {
        expect!(self, Request::Stat { path: path.to_owned() }, Data::Stat(stat) => stat.clone())
    }

    /// Free space of the filesystem that holds `path`.
    pub fn space(&self, path: &str) -> Result<Space> {
        expect!(self, Request::Space { path: path.to_owned() }, Data::Space(space) => space.clone())
    }

    pub fn uname(&self) -> Result<Uname> {
        expect!(self, Request::Uname, Data::Uname(uname) => uname.clone())
    }

    pub fn clock(&self) -> Result<Clock> {
        expect!(self, Request::Clock, Data::Clock(clock) => *clock)
    }

    pub fn settings(&self) -> Result<Settings> {
        expect!(self, Request::Settings, Data::Settings(settings) => settings.clone())
    }

    /// Runs a row of the command table. A program that is not installed is `Absent`; output that went on after
    /// [`OUTPUT_BYTES`] is an error.
    pub fn run(&self, name: &str) -> Result<Output> {
        let request = Request::Command { name: name.to_owned(), argument: None };
        expect!(self, request, Data::Output(output) => output.clone())
    }

    pub fn run_with(&self, name: &str, argument: &str) -> Result<Output> {
        let request = Request::Command { name: name.to_owned(), argument: Some(argument.to_owned()) };
        expect!(self, request, Data::Output(output) => output.clone())
    }

    /// Every loaded unit.
    pub fn units(&self) -> Result<Vec<UnitRow>> {
        expect!(self, Request::UnitList, Data::Units { units } => units.clone())
    }

    pub fn unit(&self, name: &str) -> Result<UnitProperties> {
        expect!(self, Request::Unit { name: name.to_owned() }, Data::Unit(unit) => unit.clone())
    }

    /// Newest journal entries of a unit. That older ones were left out is noted in the finding.
    pub fn journal(&self, unit: &str) -> Result<LogText> {
        expect_part!(self, Request::Journal { unit: unit.to_owned() }, Data::Log(log) => log.clone())
            .map(|part| part.value)
    }

    /// Newest lines of the kernel's log. That older ones were left out is noted in the finding.
    pub fn kernel_log(&self) -> Result<LogText> {
        expect_part!(self, Request::KernelLog, Data::Log(log) => log.clone()).map(|part| part.value)
    }

    /// HTTP GET of a local service or the Supervisor, without credentials.
    pub fn http(&self, url: &str) -> Result<HttpAnswer> {
        expect!(self, Request::Http { url: url.to_owned() }, Data::Http(answer) => answer.clone())
    }

    /// `/stats` or `/clients` of a local Iggy; `Unavailable` when the run was given no access token.
    pub fn iggy_api(&self, url: &str) -> Result<HttpAnswer> {
        expect!(self, Request::IggyApi { url: url.to_owned() }, Data::Http(answer) => answer.clone())
    }

    /// What a TLS listener at `address` (`host:port`) offers to a client that asks for `name`.
    pub fn tls(&self, address: &str, name: &str) -> Result<TlsAnswer> {
        let request = Request::Tls { address: address.to_owned(), name: name.to_owned() };
        expect!(self, request, Data::Tls(answer) => answer.clone())
    }

    /// Addresses of a name, and the milliseconds it took.
    pub fn resolve(&self, name: &str) -> Result<(Vec<String>, f64)> {
        let request = Request::Resolve { name: name.to_owned() };
        expect!(self, request, Data::Addresses { addresses, millis } => (addresses.clone(), *millis))
    }

    /// Milliseconds a TCP connect to `host:port` took.
    pub fn connect(&self, address: &str) -> Result<f64> {
        expect!(self, Request::Connect { address: address.to_owned() }, Data::Connected { millis } => *millis)
    }

    /// SHA-256, in hex, of the SubjectPublicKeyInfo that belongs to a private key file.
    pub fn public_key(&self, path: &str) -> Result<String> {
        let request = Request::PublicKey { path: path.to_owned() };
        expect!(self, request, Data::PublicKey { spki_sha256, .. } => spki_sha256.clone())
    }
}

/// What is not there is often no error: `host.read(path).if_any()?` is `None` for it.
pub trait IfAny<T> {
    /// `None` when the thing does not exist; every other failure stays one.
    fn if_any(self) -> Result<Option<T>>;
}

impl<T> IfAny<T> for Result<T> {
    fn if_any(self) -> Result<Option<T>> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(Error::Host(Failure { cause: Cause::Absent, .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
