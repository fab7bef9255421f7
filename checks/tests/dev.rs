//! Feeds every check answers from which nothing can be told (cut, masked, empty, denied, late, unsupported), on every
//! recorded host, and demands that no check takes one for good or for bad news.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use warden_checks::host::{Answer, Cause, Data, Failure, Output, Recorded, Request, Source, Unread};
use warden_checks::{Area, CHECKS, Check, Error, Finding, Host, Verdict};

fn hosts() -> Vec<(String, Arc<dyn Source>)> {
    let mut all: Vec<(String, Arc<dyn Source>)> = Vec::new();
    for name in std::env::var("HOSTS").unwrap_or("bare-board container healthy-debian notable-ubuntu sick-debian sick-rhel strained-debian unprivileged real-debian".to_owned()).split(' ') {
        let text = std::fs::read(format!("/tmp/hosts_{name}.json")).unwrap();
        #[derive(serde::Deserialize)]
        struct Dump { complete: bool, answers: Vec<(Request, Answer)> }
        let dump: Dump = serde_json::from_slice(&text).unwrap();
        let mut host = if dump.complete { Recorded::complete() } else { Recorded::new() };
        for (request, answer) in dump.answers { host.insert(request, answer); }
        all.push((name.to_owned(), Arc::new(host)));
    }
    all
}

/// What can go wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Denied,
    TimedOut,
    Unavailable,
    Unsupported,
    Cut,
    Masked,
    Empty,
    Failed,
}

impl Fault {
    const ALL: [Fault; 8] = [
        Fault::Denied,
        Fault::TimedOut,
        Fault::Unavailable,
        Fault::Unsupported,
        Fault::Cut,
        Fault::Masked,
        Fault::Empty,
        Fault::Failed,
    ];

    /// The faulty answer in the place of `answer`; absent where the fault cannot happen to it.
    fn of(self, request: &Request, answer: &Answer) -> Option<Answer> {
        // What does not exist, or cannot be seen anyway, stays so; the facts of the run itself are always there.
        let data = answer.as_ref().ok()?;
        if matches!(request, Request::Settings | Request::Clock | Request::Uname) {
            return None;
        }
        // A probe that gets no answer in time, or an error, has its answer.
        let is_probe = matches!(
            request,
            Request::Connect { .. }
                | Request::Http { .. }
                | Request::Tls { .. }
                | Request::Resolve { .. }
                | Request::Space { .. }
        );
        if is_probe && matches!(self, Fault::TimedOut)
            || is_probe && matches!(self, Fault::Unsupported) && !matches!(request, Request::Space { .. })
        {
            return None;
        }
        let refused = |cause| Some(Err(Failure { what: request.to_string(), cause }));
        match self {
            Fault::Denied => refused(Cause::Denied),
            Fault::TimedOut => refused(Cause::TimedOut),
            // Only what a service answers: systemd, the journal, a token for Iggy.
            Fault::Unavailable => match request {
                Request::Unit { .. }
                | Request::UnitList
                | Request::Journal { .. }
                | Request::IggyApi { .. } => refused(Cause::Unavailable("no service answers".to_owned())),
                _ => None,
            },
            Fault::Unsupported => match data {
                Data::Output(_) => Some(Ok(Data::Output(Output {
                    status: Some(255),
                    stdout: String::new(),
                    stderr: "Option \"-j\" is unknown, try \"help\".: unknown option\n".to_owned(),
                    cut: false,
                }))),
                _ => refused(Cause::Other("Operation not supported (os error 95)".to_owned())),
            },
            Fault::Cut => cut(data).map(Ok),
            Fault::Masked => masked(request, data).map(Ok),
            Fault::Empty => empty(request, data, Some(0)).map(Ok),
            Fault::Failed => match data {
                Data::Output(_) => empty(request, data, Some(1)).map(Ok),
                _ => None,
            },
        }
        .filter(|faulty| faulty != answer)
    }
}

/// The first half of the answer, or of a log the second, with the word that there was more.
fn cut(data: &Data) -> Option<Data> {
    let half = |text: &str| {
        let mut at = text.len() / 2;
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        text[..at].to_owned()
    };
    let mut data = data.clone();
    match &mut data {
        Data::Text(content) => {
            content.cut_from = Some(content.text.len() as u64 + 1);
            content.text = half(&content.text);
        }
        Data::Files { files, left_out, unread } => {
            *left_out = files.len() as u64 / 2;
            files.truncate(files.len() - *left_out as usize);
            if *left_out == 0 {
                let what = files.pop()?.path;
                unread.add(Failure { what, cause: Cause::Denied });
            }
        }
        Data::Samples(samples) => {
            samples.left_out = (samples.files.len() as u64).div_ceil(2);
            samples.files.truncate(samples.files.len() / 2);
        }
        Data::Entries { entries, left_out } => {
            *left_out = (entries.len() as u64).div_ceil(2);
            entries.truncate(entries.len() / 2);
        }
        Data::Output(output) => {
            output.stdout = half(&output.stdout);
            output.cut = true;
        }
        Data::Log(log) => {
            log.lines.drain(..log.lines.len() / 2);
            log.cut = true;
        }
        _ => return None,
    }
    Some(data)
}

const PLACEHOLDER: &str = "[secret:value:3f9a1c20]";

/// Placeholders in the place of every value: words that hold a digit, what is quoted, what follows `=` or `:`.
fn masked(request: &Request, data: &Data) -> Option<Data> {
    let mask = |text: &str| -> String {
        text.split_inclusive('\n')
            .map(|line| match line.find(['=', ':']) {
                Some(at) if !line[at + 1..].trim().is_empty() => {
                    format!("{} {PLACEHOLDER}\n", &line[..=at])
                }
                _ => {
                    let words = line.split(' ').map(|word| {
                        if word.bytes().any(|byte| byte.is_ascii_digit()) {
                            PLACEHOLDER
                        } else {
                            word.trim_end()
                        }
                    });
                    words.collect::<Vec<_>>().join(" ") + "\n"
                }
            })
            .collect()
    };
    let mask_json = |text: &str| -> String {
        let Ok(mut value) = serde_json::from_str::<serde_json::Value>(text) else { return mask(text) };
        mask_values(&mut value);
        value.to_string()
    };
    let mask_toml = |text: &str| -> String {
        let line = |line: &str| match line.split_once('=') {
            Some((key, _)) => format!("{key}= \"{PLACEHOLDER}\"\n"),
            None => format!("{line}\n"),
        };
        text.lines().map(line).collect()
    };
    let before = data.clone();
    let mut data = data.clone();
    match &mut data {
        // The redactor masks a word of a line, never its level or what it says.
        Data::Log(_) => return None,
        Data::Text(_) if matches!(request, Request::Tail { .. }) => return None,
        Data::Text(content) => {
            let Request::File { path } = request else { return None };
            // The environment of a process: entries end with a zero byte.
            content.text = if path.ends_with("/environ") || path.ends_with("/cmdline") {
                let entries = content.text.split('\0').map(|entry| match entry.split_once('=') {
                    Some((name, _)) => format!("{name}={PLACEHOLDER}"),
                    None => entry.to_owned(),
                });
                entries.collect::<Vec<_>>().join("\0")
            } else if path.ends_with(".toml") {
                mask_toml(&content.text)
            } else if path.contains("/recorder/") {
                return None;
            } else {
                mask(&content.text)
            };
        }
        Data::Files { files, .. } => {
            for file in files {
                file.text =
                    if file.path.ends_with(".toml") { mask_toml(&file.text) } else { mask(&file.text) };
            }
        }
        Data::Samples(samples) => {
            for side in
                samples.files.iter_mut().flat_map(|file| [&mut file.first, &mut file.second]).flatten()
            {
                *side = mask(side);
            }
        }
        Data::Output(output) => output.stdout = mask_json(&output.stdout),
        Data::Http(_) if request.to_string().ends_with("/health") => return None,
        Data::Http(answer) => answer.body = mask_json(&answer.body),
        Data::Unit(unit) => unit.properties.values_mut().for_each(mask_values),
        _ => return None,
    }
    (data != before).then_some(data)
}

fn mask_values(value: &mut serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::Array(items) => items.iter_mut().for_each(mask_values),
        Value::Object(fields) => fields.values_mut().for_each(mask_values),
        Value::Number(_) | Value::String(_) => *value = Value::String(PLACEHOLDER.to_owned()),
        Value::Bool(_) | Value::Null => {}
    }
}

fn empty(request: &Request, data: &Data, status: Option<i32>) -> Option<Data> {
    let mut data = data.clone();
    match &mut data {
        Data::Text(content) => content.text.clear(),
        Data::Files { files, .. } => files.iter_mut().for_each(|file| file.text.clear()),
        Data::Samples(samples) if matches!(request, Request::Sample { pattern } if pattern.starts_with("/sys/")) =>
        {
            let sides = samples.files.iter_mut().flat_map(|file| [&mut file.first, &mut file.second]);
            sides.flatten().for_each(String::clear);
        }
        Data::Samples(samples) => samples.files.clear(),
        Data::Entries { entries, .. } => entries.clear(),
        Data::Output(output) => {
            *output = Output { status, stdout: String::new(), stderr: String::new(), cut: false };
        }
        Data::Units { units } => units.clear(),
        Data::Unit(unit) => unit.properties.clear(),
        // Of /health the status is the answer.
        Data::Http(_) if request.to_string().ends_with("/health") => return None,
        Data::Http(answer) => answer.body.clear(),
        Data::Addresses { addresses, .. } => addresses.clear(),
        Data::Link { target } => target.clear(),
        // Nothing was logged, which is an answer.
        Data::Log(_) => return None,
        _ => return None,
    }
    // An empty file, folder or list that the administrator made, or that there is nothing to put in, is an answer.
    let is_an_answer = match request {
        Request::File { path }
        | Request::Tail { path }
        | Request::List { path }
        | Request::Files { pattern: path } => {
            !path.starts_with("/proc/") && !path.starts_with("/sys/")
                || path.starts_with("/sys/class/dmi/")
                || path.starts_with("/sys/module/")
                || MAY_BE_EMPTY.iter().any(|end| path.ends_with(end))
        }
        Request::Command { name, .. } => status == Some(0) && SILENT.contains(&name.as_str()),
        _ => false,
    };
    (!is_an_answer).then_some(data)
}

const MAY_BE_EMPTY: &[&str] = &[
    "/environ",
    "/cmdline",
    "/stack",
    "/wchan",
    "/io",
    "/attr/current",
    "/modules",
    "/if_inet6",
    "/diskstats",
    "/tcp6",
    "/udp6",
    "/io.max",
];
const SILENT: &[&str] = &[
    "apt-pending",
    "coredumpctl",
    "dpkg-kernels",
    "dpkg-runtimes",
    "drbdsetup-status",
    "ip-neighbour",
    "ip-route",
    "iptables-save",
    "rpm-runtimes",
];

/// A host on which some answers are faulty.
struct Faulty {
    host: Arc<dyn Source>,
    /// `None`: every answer that can be.
    requests: Option<Request>,
    fault: Fault,
}

impl Source for Faulty {
    fn answer(&self, request: &Request, deadline: Instant) -> Arc<Answer> {
        let answer = self.host.answer(request, deadline);
        if self.requests.as_ref().is_some_and(|wanted| wanted != request) {
            return answer;
        }
        self.fault.of(request, &answer).map_or(answer, Arc::new)
    }
}

type Judged = Result<warden_checks::Result<Finding>, String>;

fn judge(check: &Check, source: Arc<dyn Source>) -> (Judged, Vec<Request>) {
    let host = Host::new(source, Instant::now() + Duration::from_secs(600));
    let asked = host.asked();
    let judged = catch_unwind(AssertUnwindSafe(|| check.judge(&host).map(Finding::finite)));
    let asked = asked.lock().unwrap().clone();
    (judged.map_err(|panic| format!("{:?}", panic.downcast_ref::<String>())), asked)
}

/// How many problems are at least this bad.
fn bad(finding: &Finding, severity: Verdict) -> usize {
    finding.problems.iter().filter(|problem| problem.severity >= severity).count()
}

/// What is wrong with what a check says with the fault, by what it says without.
fn wrong(check: &Check, fault: Fault, without: &Finding, with: &Judged) -> Option<String> {
    let finding = match with {
        Err(panic) => return Some(format!("panics: {panic}")),
        Ok(Err(_)) => return None,
        Ok(Ok(finding)) => finding,
    };
    for severity in [Verdict::Fail, Verdict::Warn] {
        if bad(finding, severity) > bad(without, severity) {
            let old: Vec<&str> = without.problems.iter().map(|problem| problem.text.as_str()).collect();
            let new = finding
                .problems
                .iter()
                .find(|problem| problem.severity >= Verdict::Warn && !old.contains(&problem.text.as_str()));
            return Some(format!("{severity:?}: {}", new.map_or("?", |problem| &problem.text)));
        }
    }
    match finding.verdict() {
        // Without a service manager there are no units; only what is asked about them cannot pass.
        Verdict::Pass if fault == Fault::Unavailable && check.area != Area::Units => None,
        Verdict::Pass => Some(format!("passes: {}", finding.summary)),
        Verdict::Skip
            if without.verdict() != Verdict::Skip && !finding.summary.contains("no service answers") =>
        {
            Some(format!("skips: {}", finding.summary))
        }
        Verdict::Skip | Verdict::Note | Verdict::Warn | Verdict::Fail => None,
    }
}

#[test]
fn no_check_takes_an_answer_that_tells_nothing_for_good_or_bad_news() {
    let only = std::env::var("ONLY").ok();
    let mut violations: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut tried = 0;
    std::panic::set_hook(Box::new(|_| ()));
    for (name, host) in hosts() {
        for &check in CHECKS {
            if only.as_ref().is_some_and(|only| !check.id.starts_with(only.as_str())) {
                continue;
            }
            let (without, asked) = judge(check, Arc::clone(&host));
            let Ok(Ok(without)) = without else { continue };
            for fault in Fault::ALL {
                for request in asked.iter().cloned().map(Some).chain([None]) {
                    let deadline = Instant::now() + Duration::from_secs(600);
                    let can_be =
                        |request: &Request| fault.of(request, &host.answer(request, deadline)).is_some();
                    if !request.as_ref().map_or_else(|| asked.iter().any(can_be), can_be) {
                        continue;
                    }
                    tried += 1;
                    let source =
                        Arc::new(Faulty { host: Arc::clone(&host), requests: request.clone(), fault });
                    let (with, _) = judge(check, source);
                    if let Some(wrong) = wrong(check, fault, &without, &with) {
                        let what = request.map_or("everything".to_owned(), |request| request.to_string());
                        violations
                            .entry(check.id.to_owned())
                            .or_default()
                            .insert(format!("{what} {fault:?} on {name}: {wrong}"));
                    }
                }
            }
        }
    }
    let _ = std::panic::take_hook();
    let mut text = String::new();
    for (check, all) in &violations {
        text.push_str(&format!(
            "\n== {check}: {}\n  {}",
            all.len(),
            all.iter().cloned().collect::<Vec<_>>().join("\n  ")
        ));
    }
    assert!(violations.is_empty(), "{tried} tried{text}");
}
