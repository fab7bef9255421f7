//! Feeds every check answers from which nothing can be told (cut, masked, empty, denied, late, unsupported), on every
//! recorded host, and demands that no check takes one for good or for bad news.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use warden::snapshot::report::Outcome;
use warden_checks::CHECKS;
use warden_host::{
    Answer, Area, Cause, Check, Data, Failure, Finding, Host, Output, Request, Source, Verdict,
};

use crate::support::changed_host::ChangedHost;

/// The recorded hosts, healthy and sick ones.
fn hosts() -> Vec<(String, Arc<dyn Source>)> {
    let open = |path: &Path| -> Arc<dyn Source> { Arc::new(warden::snapshot::host::open(path).unwrap().0) };
    crate::hosts::all().into_iter().map(|(name, path)| (name, open(&path))).collect()
}

/// Where an answer decides nothing: the check, the end of what it asks, and why it may pass without the answer.
const DECIDES_NOTHING: [(&str, &str, &str); 2] = [
    ("cgroup-limits", ".pressure", "fills a column of a table; the limits and their hits are judged"),
    ("system-security-modules", "/attr/current", "fills a column of a table; the denials are judged"),
];

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
        if let Request::OnBehalf { request, .. } = request {
            return self.of(request, answer);
        }
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
                | Request::IggyApi { .. } => refused(Cause::Unavailable(NO_SERVICE.to_owned())),
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

/// Why a service does not answer.
const NO_SERVICE: &str = "no service answers";
/// As the redactor writes it.
const TOKEN: &str = "[secret:value:3f9a]";

/// Placeholders in the place of every value: words that hold a digit, what is quoted, what follows `=` or `:`.
fn masked(request: &Request, data: &Data) -> Option<Data> {
    let mask = |text: &str| -> String {
        text.split_inclusive('\n')
            .map(|line| match line.find(['=', ':']) {
                Some(at) if !line[at + 1..].trim().is_empty() => {
                    format!("{} {TOKEN}\n", &line[..=at])
                }
                _ => {
                    let words = line.split(' ').map(|word| {
                        if word.bytes().any(|byte| byte.is_ascii_digit()) { TOKEN } else { word.trim_end() }
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
            Some((key, _)) => format!("{key}= \"{TOKEN}\"\n"),
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
            // Of the kernel's command line the redactor masks values of words: a test of the check has those.
            if path == "/proc/cmdline" {
                return None;
            }
            // The environment of a process: entries end with a zero byte.
            content.text = if path.ends_with("/environ") || path.ends_with("/cmdline") {
                let entries = content.text.split('\0').map(|entry| match entry.split_once('=') {
                    Some((name, _)) => format!("{name}={TOKEN}"),
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
    (data != before && format!("{data:?}").contains(TOKEN)).then_some(data)
}

fn mask_values(value: &mut serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::Array(items) => items.iter_mut().for_each(mask_values),
        Value::Object(fields) => fields.values_mut().for_each(mask_values),
        Value::Number(_) | Value::String(_) => *value = Value::String(TOKEN.to_owned()),
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
    "/ip_tables_names",
    "/ip6_tables_names",
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
    "ip6tables-save",
    "iptables-legacy-save",
    "ip6tables-legacy-save",
    "rpm-runtimes",
];

/// A host on which some answers are faulty.
struct Faulty {
    host: Arc<dyn Source>,
    /// The one that is faulty; `None` for all that can be.
    request: Option<Request>,
    fault: Fault,
}

impl Source for Faulty {
    fn answer(&self, request: &Request, deadline: Instant) -> Arc<Answer> {
        let answer = self.host.answer(request, deadline);
        if self.request.as_ref().is_some_and(|wanted| wanted != request) {
            return answer;
        }
        self.fault.of(request, &answer).map_or(answer, Arc::new)
    }
}

type Judged = Result<warden_host::Result<Finding>, String>;

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
        // Without a service manager there are no units: what asks about them alone says that it is missing.
        Verdict::Pass | Verdict::Skip if fault == Fault::Unavailable => {
            let is_told = check.area != Area::Units || finding.summary.contains(NO_SERVICE);
            (!is_told).then(|| format!("does not say that nobody answers: {}", finding.summary))
        }
        Verdict::Pass => Some(format!("passes: {}", finding.summary)),
        Verdict::Skip if without.verdict() != Verdict::Skip => Some(format!("skips: {}", finding.summary)),
        Verdict::Skip | Verdict::Note | Verdict::Warn | Verdict::Fail => None,
    }
}

#[test]
fn no_check_takes_an_answer_that_tells_nothing_for_good_or_bad_news() {
    let deadline = Instant::now() + Duration::from_secs(3600);
    let mut violations = BTreeSet::new();
    let mut tried = 0_u32;
    for (name, host) in hosts() {
        for &check in CHECKS {
            let (without, asked) = judge(check, Arc::clone(&host));
            // One that cannot tell anything on this host has nothing to lose.
            let Ok(Ok(without)) = without else { continue };
            let one_at_a_time = asked.iter().cloned().map(Some);
            for (fault, request) in
                one_at_a_time.chain([None]).flat_map(|one| Fault::ALL.map(|fault| (fault, one.clone())))
            {
                let can_be = |request: &Request| fault.of(request, &host.answer(request, deadline)).is_some();
                // A service answers, or it is not there at all.
                if fault == Fault::Unavailable && request.is_some() {
                    continue;
                }
                if !request.as_ref().map_or_else(|| asked.iter().any(can_be), can_be) {
                    continue;
                }
                tried += 1;
                let what = request.as_ref().map_or("everything".to_owned(), ToString::to_string);
                let source = Arc::new(Faulty { host: Arc::clone(&host), request, fault });
                let (with, _) = judge(check, source);
                let decides_nothing =
                    DECIDES_NOTHING.iter().any(|(id, end, _)| *id == check.id && what.ends_with(end));
                if let Some(wrong) = wrong(check, fault, &without, &with).filter(|_| !decides_nothing) {
                    violations.insert(format!("{}, {what}, {fault:?}, on {name}: {wrong}", check.id));
                }
            }
        }
    }
    assert!(tried > 10_000, "{tried}");
    let shown: Vec<String> = violations.iter().take(40).cloned().collect();
    assert!(violations.is_empty(), "{} of {tried}:\n{}", violations.len(), shown.join("\n"));
}

#[test]
fn a_mount_table_that_was_cut_puts_the_data_on_no_filesystem() {
    let path = "/proc/self/mountinfo";
    let text = "29 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw\n";
    let answer = serde_json::json!({
        "request": { "ask": "file", "path": path },
        "answer": { "is": "text", "text": text, "cut_from": 2048 },
    });
    let host = ChangedHost::of("healthy-debian")
        .without("proc/self/mountinfo")
        .answer("file/proc/self/mountinfo.json", &answer);
    for id in ["disk-mounts", "disk-space", "disk-inodes", "disk-write-cache"] {
        let judged = host.judge(id);
        assert_eq!(judged.outcome, Outcome::Unknown, "{id}: {}", judged.summary);
        assert_eq!(judged.summary, "/proc/self/mountinfo: only 47 B of 2 KiB were read");
    }
}
