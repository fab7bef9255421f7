//! `/etc/warden/warden.toml` and `/etc/warden/warden.d/*.toml`: read together, judged together.
//!
//! Fragments are taken in the order of their names after `warden.toml`. A key of a section is taken whole from the
//! last file that has it. Nothing is silently ignored: every mistake of every file is listed, with its place.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::nearest::nearest;

/// Where the configuration stands, unless an option says otherwise.
pub const FOLDER: &str = "/etc/warden";
/// All there is to configure; whoever reads one section still refuses a misspelt name of another.
pub const SECTIONS: [&str; 3] = ["agent", "supervisor", "units"];

/// A fragment is some lines; what is larger is not one. In bytes.
const FILE_LIMIT: u64 = 256 << 10;
/// Files in `warden.d`: more is a loop of some tool, not a configuration.
const FILES_LIMIT: usize = 100;

/// What is read in the folder itself.
const READ_BY_NAME: [&str; 2] = ["warden.toml", "policy.toml"];
/// Files that are not read and told by name.
const UNREAD_TOLD: usize = 20;

/// What the files say, and what is wrong with them so far.
#[derive(Debug, Default)]
pub struct Fragments {
    files: Vec<Fragment>,
    origins: BTreeMap<(&'static str, String), Place>,
    problems: Vec<Problem>,
}

/// Keys of the files, with what is set.
#[derive(Debug, PartialEq)]
pub struct Values(BTreeMap<String, toml::Value>);

impl Values {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A text that is set, by the names of section and key: `supervisor.listen`, `supervisor.s3.endpoint`.
    pub fn text(&self, key: &str) -> Option<&str> {
        let mut names = key.splitn(3, '.');
        let (section, key, inner) = (names.next()?, names.next()?, names.next());
        let value = self.0.get(&format!("{section}.{key}"))?;
        inner.map_or(Some(value), |inner| value.get(inner))?.as_str()
    }

    /// The keys that are set otherwise in `later`, or in one of both alone, in the order of the alphabet.
    pub fn differences(&self, later: &Values) -> Vec<String> {
        let keys: BTreeSet<&String> = self.0.keys().chain(later.0.keys()).collect();
        keys.into_iter().filter(|key| self.0.get(*key) != later.0.get(*key)).cloned().collect()
    }
}

#[derive(Debug)]
struct Fragment {
    path: PathBuf,
    text: String,
    sections: Vec<String>,
}

/// File, line and column, the latter two from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    path: PathBuf,
    at: Option<(usize, usize)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Problem {
    place: Place,
    what: String,
}

/// Everything that is wrong with the configuration, a line each, in the order of files and lines.
#[derive(Debug, thiserror::Error)]
pub struct Problems(Vec<Problem>);

impl Fragments {
    /// Reads `folder`/warden.toml and `folder`/warden.d/*.toml; what is not there is no problem.
    pub fn read(folder: &Path) -> Fragments {
        let mut fragments = Fragments::default();
        fragments.read_file(&folder.join("warden.toml"));
        let more = folder.join("warden.d");
        match names(&more) {
            Ok(paths) if paths.len() > FILES_LIMIT => {
                let what = format!("{} fragments; at most {FILES_LIMIT} are read", paths.len());
                fragments.problems.push(Problem { place: Place { path: more, at: None }, what });
            }
            Ok(paths) => paths.iter().for_each(|path| fragments.read_file(path)),
            Err(error) => fragments.unreadable(&more, &error),
        }
        fragments
    }

    /// One section, out of all files. `T` has a default for every field (`#[serde(default)]`) and refuses unknown
    /// ones; a key that is wrong stays at its default, and its problem is kept for [`Fragments::finish`].
    pub fn section<T: DeserializeOwned + Default>(&mut self, name: &'static str) -> T {
        let mut merged = DeTable::new();
        for file in self.files.iter().filter(|file| file.has(name)) {
            let Ok(table) = DeTable::parse(&file.text) else { continue };
            let Some(section) = table.get_ref().get(name) else { continue };
            let Some(entries) = section.get_ref().as_table() else {
                let what = format!("`{name}` must be a section: [{name}]");
                self.problems.push(Problem { place: file.place(&section.span()), what });
                continue;
            };
            for (key, value) in entries {
                let place = file.place(&key.span());
                match T::deserialize(alone(key, value)) {
                    Ok(_) => {
                        merged.remove(key);
                        merged.insert(key.clone(), value.clone());
                        self.origins.insert((name, key.get_ref().to_string()), place);
                    }
                    Err(error) => {
                        let place = error.span().map_or(place, |span| file.place(&span));
                        self.problems.push(Problem { place, what: told(error.message().trim()) });
                    }
                }
            }
        }
        let span = 0..0;
        let merged = Spanned::new(span, DeValue::Table(merged));
        match T::deserialize(ValueDeserializer::from(merged)) {
            Ok(section) => section,
            Err(error) => {
                self.wrong(name, "", error.message().trim());
                T::default()
            }
        }
    }

    /// What stands in some sections, to be held against a later reading.
    pub fn values(mut self, sections: &[&'static str]) -> Values {
        let mut values = BTreeMap::new();
        for &section in sections {
            let table: toml::Table = self.section(section);
            values.extend(table.into_iter().map(|(key, value)| (format!("{section}.{key}"), value)));
        }
        Values(values)
    }

    /// Adds what only the reader of a section can know to be wrong; it is told with the place of the key.
    pub fn wrong(&mut self, section: &'static str, key: &str, what: impl fmt::Display) {
        let origin = self.origins.get(&(section, key.to_owned())).cloned();
        let place = origin.unwrap_or_else(|| {
            let first = self.files.iter().find(|file| file.has(section));
            let path = first.or(self.files.first()).map_or(PathBuf::from(FOLDER), |file| file.path.clone());
            Place { path, at: None }
        });
        let name = if key.is_empty() { section.to_owned() } else { format!("{section}.{key}") };
        self.problems.push(Problem { place, what: format!("{name} {what}") });
    }

    /// # Errors
    /// Whatever is wrong in any file or section that was read.
    pub fn finish(mut self) -> Result<(), Problems> {
        let order = |path: &Path| self.files.iter().position(|file| file.path == path);
        self.problems.sort_by_key(|problem| (order(&problem.place.path), problem.place.at));
        self.problems.dedup();
        if self.problems.is_empty() { Ok(()) } else { Err(Problems(self.problems)) }
    }

    fn read_file(&mut self, path: &Path) {
        let text = match read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return self.unreadable(path, &error),
        };
        let mut file = Fragment { path: path.to_owned(), text, sections: Vec::new() };
        let (table, errors) = DeTable::parse_recoverable(&file.text);
        for error in &errors {
            let place = file.place(&error.span().unwrap_or(0..0));
            self.problems.push(Problem { place, what: error.message().trim().to_owned() });
        }
        // After a tear the parser makes up what follows: then only the tears are worth telling.
        let sections = if errors.is_empty() { table.into_inner() } else { DeTable::new() };
        let mut names = Vec::new();
        for (name, value) in &sections {
            let place = file.place(&name.span());
            let name = name.get_ref().to_string();
            if !SECTIONS.contains(&name.as_str()) {
                let kind = if value.get_ref().is_table() { "section" } else { "key" };
                let meant = nearest(&name, SECTIONS).map(|near| format!("; did you mean `{near}`?"));
                let meant = meant.unwrap_or_else(|| format!("; the sections are {}", SECTIONS.join(", ")));
                let what = format!("unknown {kind} `{name}`{meant}");
                self.problems.push(Problem { place, what });
            }
            names.push(name);
        }
        file.sections = names;
        self.files.push(file);
    }

    fn unreadable(&mut self, path: &Path, error: &io::Error) {
        let place = Place { path: path.to_owned(), at: None };
        self.problems.push(Problem { place, what: format!("cannot be read: {error}") });
    }
}

impl Fragment {
    fn has(&self, section: &str) -> bool {
        self.sections.iter().any(|name| name == section)
    }

    fn place(&self, span: &Range<usize>) -> Place {
        let before = self.text.get(..span.start).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        Place { path: self.path.clone(), at: Some((line, column)) }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problems(problems) = self;
        let things =
            if problems.len() == 1 { "one thing is" } else { &format!("{} things are", problems.len()) };
        write!(formatter, "{things} wrong with the configuration")?;
        for Problem { place, what } in problems {
            write!(formatter, "\n{}", place.path.display())?;
            if let Some((line, column)) = place.at {
                write!(formatter, ":{line}:{column}")?;
            }
            write!(formatter, ": {what}")?;
        }
        Ok(())
    }
}

/// What lies in a configuration folder, looks like configuration, and is not read: a sentence each, for what somebody
/// wrote there has no effect.
pub fn unread(folder: &Path) -> Vec<String> {
    let mut told = Vec::new();
    match std::fs::read_dir(folder) {
        Ok(entries) => {
            let names = entries.flatten().map(|entry| entry.path()).filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                looks_like_configuration(&name) && !READ_BY_NAME.contains(&&*name)
            });
            told.extend(names.map(|path| {
                format!(
                    "{} is not read: only {} and warden.d/*.toml are",
                    path.display(),
                    READ_BY_NAME.join(", ")
                )
            }));
        }
        Err(error) if folder != Path::new(FOLDER) => {
            told.push(format!(
                "no configuration is read, every setting has its default: {}: {error}",
                folder.display()
            ));
        }
        Err(_) => {}
    }
    let more = folder.join("warden.d");
    let entries = std::fs::read_dir(&more).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.path()).filter(|path| !is_fragment(path));
    told.extend(names.map(|path| {
        format!("{} is not read: its name must end in .toml and begin with no dot", path.display())
    }));
    told.sort();
    if told.len() > UNREAD_TOLD {
        let more = told.len() - UNREAD_TOLD;
        told.truncate(UNREAD_TOLD);
        told.push(format!("{more} more files in {} are not read", folder.display()));
    }
    told
}

/// Certificates, keys and secrets lie there too, and are read where they are named.
fn looks_like_configuration(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.contains(".toml")
        || [".conf", ".cfg", ".ini", ".yaml", ".yml", ".json"].iter().any(|ending| name.ends_with(ending))
}

/// What serde says of a key that it does not know, with the one that may have been meant in place of all.
pub(super) fn told(message: &str) -> String {
    let Some(rest) = message.strip_prefix("unknown field `") else { return message.to_owned() };
    let Some((name, known)) = rest.split_once('`') else { return message.to_owned() };
    match nearest(name, known.split('`').skip(1).step_by(2)) {
        Some(near) => format!("unknown key `{name}`; did you mean `{near}`?"),
        None => format!("unknown key `{name}`{known}"),
    }
}

/// A section with this one key.
fn alone<'a>(
    key: &Spanned<std::borrow::Cow<'a, str>>,
    value: &Spanned<DeValue<'a>>,
) -> ValueDeserializer<'a> {
    let mut table = DeTable::new();
    table.insert(key.clone(), value.clone());
    ValueDeserializer::from(Spanned::new(key.span().start..value.span().end, DeValue::Table(table)))
}

fn names(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| is_fragment(path));
    paths.sort();
    Ok(paths)
}

fn is_fragment(path: &Path) -> bool {
    // As shells and systemd do: a hidden file is an editor's, not a fragment.
    let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    path.extension().is_some_and(|ending| ending == "toml") && !hidden
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_LIMIT + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_LIMIT {
        return Err(io::Error::other(format!("larger than {} KiB", FILE_LIMIT >> 10)));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
