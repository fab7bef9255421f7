//! How a recording lies on disk: files at their own paths, every other answer under `.host/`.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use warden_host::{Answer, Cause, Content, Data, Failure, FileText, Recorded, Request, Unread};

use super::recording_reader::BYTES;

/// Answers that are no file content: `.host/KIND/NAME.json`.
const OTHER: &str = ".host/";
/// Paths that were asked for and do not exist, a line each.
const ABSENT: &str = ".host/absent";
/// Marks a folder written by hand: what is not in it does not exist, instead of was never asked.
const COMPLETE: &str = ".host/complete";

/// The files of a recording, by path relative to its root, in a stable order.
pub fn write(answers: &[(Request, Arc<Answer>)]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let mut absent = Vec::new();
    for (request, answer) in plain(answers) {
        match (request, &**answer) {
            (Request::File { path }, Ok(Data::Text(Content { text, cut_from: None }))) => {
                files.insert(encode(path), text.clone());
            }
            (Request::File { path }, Err(Failure { cause: Cause::Absent, .. })) => absent.push(encode(path)),
            (Request::Files { pattern }, Ok(Data::Files { files: found, left_out, unread }))
                if !is_per_process(pattern) =>
            {
                let told = spread(found, *left_out, unread.clone(), &mut files);
                add(request, told, &mut files)?;
            }
            _ => add(request, (**answer).clone().into(), &mut files)?,
        }
    }
    if !absent.is_empty() {
        absent.sort();
        files.insert(ABSENT.to_owned(), absent.join("\n") + "\n");
    }
    Ok(files)
}

/// The answers by what was asked, whoever it was asked for: a recording gives back what was read, and to all. Of two
/// answers to one question the one that says more is kept.
fn plain(answers: &[(Request, Arc<Answer>)]) -> BTreeMap<&Request, &Arc<Answer>> {
    let mut plain: BTreeMap<&Request, &Arc<Answer>> = BTreeMap::new();
    for (request, answer) in answers {
        let kept = plain.entry(request.plain()).or_insert(answer);
        if kept.is_err() && answer.is_ok() {
            *kept = answer;
        }
    }
    plain
}

fn add(request: &Request, told: Told, files: &mut BTreeMap<String, String>) -> anyhow::Result<()> {
    let record = Record { request: request.clone(), told };
    let json = serde_json::to_string_pretty(&record).context("cannot write an answer as JSON")?;
    files.insert(record_place(request), json + "\n");
    Ok(())
}

/// Thousands of small files that nobody reads one by one stay together.
fn is_per_process(pattern: &str) -> bool {
    pattern.contains("[pid]")
}

/// Puts the files that a pattern found where a person looks for them. One that changed between two reads keeps
/// its other content with the pattern.
fn spread(found: &[FileText], left_out: u64, unread: Unread, files: &mut BTreeMap<String, String>) -> Told {
    let (mut paths, mut differing) = (Vec::new(), Vec::new());
    for file in found {
        let place = encode(&file.path);
        if files.get(&place).is_some_and(|other| *other != file.text) {
            differing.push(file.clone());
        } else {
            files.insert(place, file.text.clone());
            paths.push(file.path.clone());
        }
    }
    Told::Pattern { paths, differing, left_out, unread }
}

/// Where the recording keeps the answer to `request`, relative to its root.
pub fn place(request: &Request, answer: &Answer) -> String {
    match (request.plain(), answer) {
        (Request::File { path }, Ok(Data::Text(Content { cut_from: None, .. }))) => encode(path),
        _ => record_place(request),
    }
}

fn record_place(request: &Request) -> String {
    let (kind, name) = request.key();
    format!("{OTHER}{kind}/{}.json", shorten(&encode(&name)))
}

/// The recording that `files` (path relative to the root, content) hold.
pub fn read(mut files: BTreeMap<String, Vec<u8>>) -> anyhow::Result<Recorded> {
    let complete = files.contains_key(COMPLETE);
    let mut host = if complete { Recorded::complete() } else { Recorded::new() };
    let answers: Vec<String> = files.keys().filter(|path| path.starts_with(OTHER)).cloned().collect();
    ensure!(!answers.is_empty(), "this holds no recorded host: there is no {OTHER} folder in it");
    let mut patterns = Vec::new();
    for path in answers {
        let content = text(files.remove(&path).unwrap_or_default());
        match path.strip_prefix(OTHER) {
            Some("complete") => {}
            Some("absent") => {
                for path in content.lines() {
                    host = host.without(Request::File { path: decode(path)? }, Cause::Absent);
                }
            }
            Some(name) if name.ends_with(".json") => {
                let not_ours = || format!("{path} is not an answer of a recording");
                let record: Record = serde_json::from_str(&content).with_context(not_ours)?;
                match record.told {
                    Told::Answer(data) => host.insert(record.request, Ok(data)),
                    Told::Failure(failure) => host.insert(record.request, Err(failure)),
                    Told::Pattern { paths, differing, left_out, unread } => {
                        patterns.push((record.request, paths, differing, left_out, unread));
                    }
                }
            }
            _ => bail!("{path} is not part of a recording"),
        }
    }
    let mut spread = 0;
    for (request, paths, mut found, left_out, unread) in patterns {
        for path in paths {
            let content = files.get(&encode(&path)).with_context(|| format!("the recording lacks {path}"))?;
            // A small list can name a large file many times.
            spread += content.len() as u64 + 1;
            ensure!(spread <= BYTES, "the patterns of a recording name more than it holds");
            found.push(FileText { text: String::from_utf8_lossy(content).into_owned(), path });
        }
        found.sort_by_cached_key(|file| natural(&file.path));
        host.insert(request, Ok(Data::Files { files: found, left_out, unread }));
    }
    for (path, content) in files {
        let data = Data::Text(Content { text: text(content), cut_from: None });
        host.insert(Request::File { path: decode(&path)? }, Ok(data));
    }
    Ok(host)
}

/// Without a copy, where it is UTF-8.
fn text(content: Vec<u8>) -> String {
    String::from_utf8(content).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Record {
    request: Request,
    #[serde(flatten)]
    told: Told,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    Answer(Data),
    Failure(Failure),
    /// Files that lie at their own paths, and those whose content was another one when the pattern was read.
    Pattern {
        paths: Vec<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        differing: Vec<FileText>,
        left_out: u64,
        #[serde(default, skip_serializing_if = "Unread::is_none")]
        unread: Unread,
    },
}

impl From<Answer> for Told {
    fn from(answer: Answer) -> Told {
        match answer {
            Ok(data) => Told::Answer(data),
            Err(failure) => Told::Failure(failure),
        }
    }
}

/// The order in which a pattern's files are read: numbers by their size, everything else by its letters.
pub(super) fn natural(path: &str) -> Vec<(usize, String)> {
    path.split('/').map(|component| (component.len(), component.to_owned())).collect()
}

/// A host's path as a relative one that any system can unpack: `/` stays, what Windows or a terminal cannot
/// take is percent-encoded, and so are components that would climb (`..`) or hide in `.host`.
fn encode(path: &str) -> String {
    let components = path.split('/').filter(|component| !component.is_empty());
    let encoded: Vec<String> = components.map(encode_component).collect();
    if encoded.is_empty() { "%2F".to_owned() } else { encoded.join("/") }
}

fn encode_component(component: &str) -> String {
    let dangerous = |c: char| c.is_control() || "<>:\"\\|?*%".contains(c) || !c.is_ascii();
    let whole_is_dangerous = matches!(component, "." | ".." | ".host");
    let mut encoded = String::with_capacity(component.len());
    for (index, c) in component.chars().enumerate() {
        if dangerous(c) || (whole_is_dangerous && index == 0) {
            let mut buffer = [0; 4];
            encoded.extend(c.encode_utf8(&mut buffer).bytes().map(|byte| format!("%{byte:02X}")));
        } else {
            encoded.push(c);
        }
    }
    encoded
}

fn decode(path: &str) -> anyhow::Result<String> {
    let mut bytes = vec![b'/'];
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first != b'%' {
            bytes.push(*first);
            rest = tail;
            continue;
        }
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.with_context(|| format!("`{path}` is not a path of a recording"))?);
        rest = &tail[2..];
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Names of files end at 255 bytes; a longer one keeps its beginning and gets a digest of the whole.
fn shorten(name: &str) -> String {
    use sha2::{Digest, Sha256};
    use warden_platform::sha256::hex;
    const LONGEST: usize = 180;
    let shorten_one = |component: &str| {
        if component.len() <= LONGEST {
            return component.to_owned();
        }
        let digest = hex(&Sha256::digest(component)[..8]);
        let kept: String = component.chars().take(LONGEST).collect();
        format!("{kept}-{digest}")
    };
    name.split('/').map(shorten_one).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use warden_host::{Kind, Source};

    use super::*;

    fn replayed(answers: &[(Request, Arc<Answer>)]) -> Recorded {
        let files = write(answers).unwrap();
        read(files.into_iter().map(|(path, text)| (path, text.into_bytes())).collect()).unwrap()
    }

    #[test]
    fn every_answer_comes_back_as_it_was() {
        let failure = |cause| Answer::Err(Failure { what: "x".to_owned(), cause });
        let text = |text: &str, cut_from| Ok(Data::Text(Content { text: text.to_owned(), cut_from }));
        let path = |path: &str| path.to_owned();
        let file = |path: &str, text: &str| FileText { path: path.to_owned(), text: text.to_owned() };
        let entries = vec![warden_host::Entry { name: "é:\n".to_owned(), kind: Kind::Fifo }];
        let answers = [
            (Request::File { path: path("/proc/1/net/a:b%c") }, text("one\ntwo", None)),
            (Request::File { path: path("/a/../.host/x") }, text("climbs", None)),
            (Request::File { path: path("/long") }, text("cut", Some(1 << 40))),
            (Request::File { path: path("/denied") }, failure(Cause::Denied)),
            (Request::List { path: path("/") }, Ok(Data::Entries { entries, left_out: 3 })),
            (
                Request::Command { name: path("ip"), argument: Some("x".repeat(400)) },
                failure(Cause::Unavailable(path("no"))),
            ),
            (
                Request::Files { pattern: path("/sys/*") },
                Ok(Data::Files {
                    files: vec![file("/sys/a", "1"), file("/sys/c", "2"), file("/sys/aa", "3")],
                    left_out: 1,
                    unread: Unread {
                        count: 2,
                        first: Some(Failure { what: path("/sys/b"), cause: Cause::Denied }),
                    },
                }),
            ),
            (
                Request::Files { pattern: path("/sys/c*") },
                Ok(Data::Files { files: vec![file("/sys/c", "2b")], left_out: 0, unread: Unread::default() }),
            ),
        ]
        .map(|(request, answer)| (request, Arc::new(answer)));
        let host = replayed(&answers);
        let soon = Instant::now() + Duration::from_secs(1);
        for (request, answer) in &answers {
            assert_eq!(host.answer(request, soon), *answer, "{request:?}");
        }
        assert_eq!(
            host.answer(&Request::File { path: path("/sys/a") }, soon).as_ref().as_ref().ok(),
            text("1", None).as_ref().ok()
        );
        let unasked = host.answer(&Request::File { path: path("/else") }, soon);
        assert_eq!(unasked.as_ref().as_ref().unwrap_err().cause, Cause::Unrecorded);
    }

    #[test]
    fn a_path_cannot_climb_out_or_land_on_the_answers() {
        assert_eq!(encode("/../../etc/passwd"), "%2E./%2E./etc/passwd");
        assert_eq!(encode("/.host/absent"), "%2Ehost/absent");
        assert_eq!(decode("%2E./x").unwrap(), "/../x");
        assert_eq!((encode("/").as_str(), encode("/a:b").as_str()), ("%2F", "a%3Ab"));
    }
}
