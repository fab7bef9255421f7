//! A host made of answers: what a recording is replayed from, and what tests are written against.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{
    Answer, Cause, Clock, Content, Data, Entry, Failure, FileText, Host, Kind, LogText, Request, Sample,
    Samples, Settings, Source, Space, UnitProperties, Unread,
};
use crate::check::matches;

#[derive(Clone, Debug)]
pub struct Recorded {
    answers: BTreeMap<Request, Arc<Answer>>,
    missing: Cause,
}

impl Recorded {
    /// A recording in which everything that is not listed was never asked.
    pub fn new() -> Recorded {
        Recorded { answers: BTreeMap::new(), missing: Cause::Unrecorded }
    }

    /// A host written by hand, in which everything that is not listed does not exist. Its listings and file
    /// patterns follow from its files.
    pub fn complete() -> Recorded {
        Recorded { answers: BTreeMap::new(), missing: Cause::Absent }
    }

    pub fn insert(&mut self, request: Request, answer: Answer) {
        self.answers.insert(request, Arc::new(answer));
    }

    pub fn with(mut self, request: Request, data: Data) -> Recorded {
        self.insert(request, Ok(data));
        self
    }

    pub fn without(mut self, request: Request, cause: Cause) -> Recorded {
        let what = request.to_string();
        self.insert(request, Err(Failure { what, cause }));
        self
    }

    pub fn file(self, path: &str, text: &str) -> Recorded {
        let data = Data::Text(Content { text: text.to_owned(), cut_from: None });
        self.with(Request::File { path: path.to_owned() }, data)
    }

    pub fn denied(self, path: &str) -> Recorded {
        self.without(Request::File { path: path.to_owned() }, Cause::Denied)
    }

    /// One file before and after a pause of `seconds`.
    pub fn sample(self, path: &str, first: &str, second: &str, seconds: f64) -> Recorded {
        let files = vec![Sample {
            path: path.to_owned(),
            first: Some(first.to_owned()),
            second: Some(second.to_owned()),
        }];
        let samples = Samples { elapsed_us: (seconds * 1e6) as u64, files, left_out: 0 };
        self.with(Request::Sample { pattern: path.to_owned() }, Data::Samples(samples))
    }

    pub fn space(self, path: &str, size: u64, available: u64) -> Recorded {
        let space = Space {
            size,
            free: available,
            available,
            inodes: 1_000_000,
            inodes_free: 900_000,
            read_only: false,
        };
        self.with(Request::Space { path: path.to_owned() }, Data::Space(space))
    }

    /// Properties as a JSON object.
    pub fn unit(self, name: &str, properties: serde_json::Value) -> Recorded {
        let properties =
            properties.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        self.with(Request::Unit { name: name.to_owned() }, Data::Unit(UnitProperties { properties }))
    }

    pub fn log(self, request: Request, log: LogText) -> Recorded {
        self.with(request, Data::Log(log))
    }

    /// Unix time and time since boot, in seconds.
    pub fn at(self, unix: i64, up: i64) -> Recorded {
        let clock = Clock { unix_us: unix * 1_000_000, up_us: up * 1_000_000, kernel: None };
        self.with(Request::Clock, Data::Clock(clock))
    }

    pub fn settings(self, settings: Settings) -> Recorded {
        self.with(Request::Settings, Data::Settings(settings))
    }

    /// The host as a check without a deadline sees it.
    pub fn host(self) -> Host {
        const FOREVER: Duration = Duration::from_secs(86_400);
        #[expect(
            clippy::disallowed_methods,
            reason = "a recording answers at once; the deadline is a formality"
        )]
        let deadline = Instant::now() + FOREVER;
        Host::new(Arc::new(self), deadline)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "nothing else follows from the files")]
    fn derived(&self, request: &Request) -> Option<Data> {
        if self.missing != Cause::Absent {
            return None;
        }
        match request {
            Request::Files { pattern } => {
                let files: Vec<FileText> = self.files().filter(|file| matches(pattern, &file.path)).collect();
                Some(Data::Files { files, left_out: 0, unread: Unread::default() })
            }
            Request::List { path } => {
                let prefix = format!("{}/", path.trim_end_matches('/'));
                let mut entries: BTreeMap<String, Kind> = BTreeMap::new();
                for below in self.paths().filter_map(|path| path.strip_prefix(&prefix)) {
                    let (name, rest) =
                        below.split_once('/').map_or((below, None), |(name, rest)| (name, Some(rest)));
                    let kind = if rest.is_some() { Kind::Directory } else { Kind::File };
                    entries.insert(name.to_owned(), kind);
                }
                let entries: Vec<Entry> =
                    entries.into_iter().map(|(name, kind)| Entry { name, kind }).collect();
                (!entries.is_empty()).then_some(Data::Entries { entries, left_out: 0 })
            }
            _ => None,
        }
    }

    fn files(&self) -> impl Iterator<Item = FileText> {
        self.answers.iter().filter_map(|(request, answer)| match (request, &**answer) {
            (Request::File { path }, Ok(Data::Text(content))) => {
                Some(FileText { path: path.clone(), text: content.text.clone() })
            }
            _ => None,
        })
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the other requests name no file")]
    fn paths(&self) -> impl Iterator<Item = &str> {
        self.answers.keys().filter_map(|request| match request {
            Request::File { path }
            | Request::Tail { path }
            | Request::Stat { path }
            | Request::Link { path } => Some(path.as_str()),
            _ => None,
        })
    }
}

impl Default for Recorded {
    fn default() -> Recorded {
        Recorded::new()
    }
}

impl Source for Recorded {
    fn answer(&self, request: &Request, _deadline: Instant) -> Arc<Answer> {
        // What was recorded was read with the rights that it was asked with.
        let request = request.plain();
        if let Some(answer) = self.answers.get(request) {
            return Arc::clone(answer);
        }
        let missing = || Failure { what: request.to_string(), cause: self.missing.clone() };
        Arc::new(self.derived(request).ok_or_else(missing))
    }
}
