//! Command lines: options whose argument is a secret, in one word or in two.

use super::allowlist::is_harmless;
use super::entropy::is_secretish;
use super::environment;
use super::key_names::{Certainty, Telling, telling};
use super::placeholders::is_token;
pub(super) use super::programs::POSITIONAL;
use super::programs::{ARCHIVERS, PROGRAMS, Place, Positional, Program};
use super::span::Span;

/// How far before an option in running text its program may stand, in bytes.
const PROGRAM_BYTES: usize = 512;

/// What follows these is a command line of its own.
const SHELL_OPTIONS: [&str; 4] = ["-c", "-lc", "-ec", "-xc"];
/// Most words of a command in running text that are read for a secret by its place.
const POSITIONAL_WORDS: usize = 16;

/// Masks the arguments of one command, separated by NUL as in /proc/PID/cmdline or as a shell reads them; without NUL
/// each line is a command.
pub(super) fn arguments(text: &str, from: usize, to: usize, spans: &mut Vec<Span>) {
    if text.as_bytes()[from..to].contains(&0) {
        // Where the list of one process ends, a line may follow with another's.
        return lines(text, from, to, |from, to| command(text, &words(text, from, to, usize::MAX), spans));
    }
    lines(text, from, to, |from, to| {
        let words = words(text, from, to, usize::MAX);
        let ends =
            |(start, end): &(usize, usize)| matches!(&text[*start..*end], "&&" | "||" | "|" | ";" | "&");
        for words in words.split(ends) {
            command(text, words, spans);
        }
    });
}

fn lines(text: &str, from: usize, to: usize, mut each: impl FnMut(usize, usize)) {
    let mut start = from;
    for line in text[from..to].split('\n') {
        each(start, start + line.len());
        start += line.len() + 1;
    }
}

/// Masks the words of one command.
pub(super) fn command(text: &str, words: &[(usize, usize)], spans: &mut Vec<Span>) {
    let at = |at: usize| words.get(at).map_or("", |(start, end)| &text[*start..*end]);
    for row in POSITIONAL {
        let phrase: Vec<&str> = row.words.split_whitespace().collect();
        let named = (0..words.len()).find(|first| {
            phrase.iter().enumerate().all(|(step, word)| at(first + step).rsplit('/').next() == Some(word))
        });
        if let Some(first) = named {
            placed(text, words.get(first + phrase.len()..).unwrap_or_default(), row, spans);
        }
    }
    let mut program = None;
    let mut rule: Option<(&'static str, Certainty)> = None;
    for (at, (start, end)) in words.iter().enumerate() {
        let word = &text[*start..*end];
        let previous = |back: usize| at.checked_sub(back).map(|at| &text[words[at].0..words[at].1]);
        // `top -u iggy` runs no iggy.
        let argument = program.is_none() && at > 1 && previous(1).is_some_and(|word| word.starts_with('-'));
        program = known_program(word).filter(|_| !argument).or(program);
        if word.contains(' ') && previous(1).is_some_and(|word| SHELL_OPTIONS.contains(&word)) {
            arguments(text, *start, *end, spans);
            continue;
        }
        let user = matches!(previous(1), Some("--user" | "--proxy-user"));
        if user
            && let Some((_, password)) = word.split_once(':')
            && !is_token(password)
            && !is_harmless(password, Certainty::Sure, false)
            && !password.bytes().all(|byte| byte.is_ascii_digit())
        {
            spans.push(Span::new(*end - password.len(), *end, "password"));
            continue;
        }
        if let Some((rule, certainty)) = rule.take() {
            let option = word.starts_with('-') && certainty != Certainty::Sure;
            let long = word.starts_with("--");
            let user = previous(1).map_or(0, |option| user_length(option, word));
            let secret = &word[user..];
            if !option && !long && !is_token(secret) && !is_harmless(secret, certainty, false) {
                spans.push(Span::new(*start + user, *end, rule));
                continue;
            }
        }
        if at == 0 && known_program(word).is_some() {
            continue;
        }
        if let Some(telling) = option(word) {
            rule = Some((telling.rule, telling.certainty));
        } else if let Some((name, value)) =
            word.split_once('=').filter(|(name, _)| !name.contains([':', '/', ' ']))
        {
            assigned(name, value, *end, spans);
        } else if let Some(value) = word.strip_prefix("pass:").filter(|value| !is_token(value)) {
            spans.push(Span::new(*end - value.len(), *end, "password"));
        } else if word.starts_with(['-', '/']) && !word.starts_with("--") {
            rule = short(
                word,
                *start,
                program,
                words.get(at + 1).map(|(start, end)| &text[*start..*end]),
                spans,
            );
        }
    }
}

/// Masks the word that has its place behind a phrase; `words` are those behind it.
fn placed(text: &str, words: &[(usize, usize)], row: &Positional, spans: &mut Vec<Span>) {
    let word = |(start, end): &(usize, usize)| &text[*start..*end];
    let options: Vec<&str> = words.iter().map(word).filter(|word| word.starts_with('-')).collect();
    let mut plain = words.iter().filter(|place| !word(place).starts_with('-'));
    let found = match row.place {
        Place::After(before) => plain.nth(before).copied(),
        Place::Htpasswd => {
            let has = |letter: char| {
                options.iter().any(|option| !option.starts_with("--") && option.contains(letter))
            };
            has('b').then(|| plain.nth(if has('n') { 1 } else { 2 }).copied()).flatten()
        }
        Place::Oracle => plain.find_map(|(start, end)| {
            let word = &text[*start..*end];
            let (user, rest) = word.split_once('/').filter(|(user, _)| !user.is_empty())?;
            let password = rest.split('@').next().filter(|password| !password.is_empty())?;
            let first = start + user.len() + 1;
            Some((first, first + password.len()))
        }),
        Place::Literal => plain.next().and_then(|(start, end)| {
            let equals = text[*start..*end].find('=')?;
            Some((start + equals + 1, *end))
        }),
    };
    if let Some((start, end)) = found {
        let secret = &text[start..end];
        let shown = secret.is_empty()
            || is_token(secret)
            || secret.starts_with("[secret:")
            || secret.contains('=') && row.place == Place::After(0);
        if !shown && !is_harmless(secret, Certainty::Sure, true) {
            spans.push(Span::new(start, end, "password"));
        }
    }
}

/// The same in running text: the phrase stands at `at`.
pub(super) fn positional(line: &str, at: usize, row: &Positional, spans: &mut Vec<Span>) {
    let start = at + row.words.len();
    let mut to = (start + PROGRAM_BYTES).min(line.len());
    while !line.is_char_boundary(to) {
        to -= 1;
    }
    let all = words(line, start, to, POSITIONAL_WORDS);
    let ends = |(start, end): &&(usize, usize)| {
        let word = &line[*start..*end];
        !matches!(word, "&&" | "||" | "|" | ";" | "&") && !word.starts_with(['>', '<'])
    };
    let count = all.iter().take_while(ends).count();
    placed(line, &all[..count], row, spans);
}

/// An option by its long name that takes a secret as the next word.
pub(super) fn option(word: &str) -> Option<Telling> {
    let name = word.strip_prefix('-')?;
    let known = name.len() > 2 && !name.contains(['=', ':', ' ']);
    telling(name.trim_start_matches('-')).filter(|telling| known && telling.certainty != Certainty::Possible)
}

fn assigned(name: &str, value: &str, end: usize, spans: &mut Vec<Span>) {
    let quoted = value.len() >= 2
        && (value.starts_with('"') && value.ends_with('"')
            || value.starts_with('\'') && value.ends_with('\''));
    let (value, end) = if quoted { (&value[1..value.len() - 1], end - 1) } else { (value, end) };
    let named = name.trim_start_matches('-');
    if let Some(telling) = telling(named)
        && !is_token(value)
        && !is_harmless(value, telling.certainty, true)
    {
        spans.push(Span::new(end - value.len(), end, telling.rule));
    } else if named.starts_with("IGGY_")
        && !is_token(value)
        && !environment::shown(named, value)
        && environment::rule(named).is_some()
        && !value.is_empty()
    {
        spans.push(Span::new(end - value.len(), end, "environment").known(is_secretish(value)));
    }
}

/// A one-letter option: masks what is attached to it, or says what to do with the next word.
fn short(
    word: &str,
    start: usize,
    program: Option<&Program>,
    next: Option<&str>,
    spans: &mut Vec<Span>,
) -> Option<(&'static str, Certainty)> {
    let user_option = matches!(word, "--user" | "--proxy-user");
    let (letter, attached) = if user_option { ("-u", "") } else { word.split_at_checked(2)? };
    let known = program.is_some_and(|program| program.options.contains(&letter));
    // `-pw x` of PuTTY has a name of its own.
    let attached = attached.strip_prefix(':').filter(|_| letter == "/p").unwrap_or(attached);
    let rule = if letter == "-t" { "token" } else { "password" };
    if !attached.is_empty() {
        let attachable = known && program.is_some_and(|program| program.attached || letter == "/p");
        if attachable && !is_token(attached) {
            let end = start + word.len();
            let place = end - attached.len() + user_length(letter, attached);
            let end = if attached.ends_with('"') && !attached.starts_with('"') { end - 1 } else { end };
            spans.push(Span::new(place, end, rule));
        }
        return None;
    }
    let next = next?;
    if matches!(letter, "-u" | "-U") {
        // curl's `user:password`; for others -u is a user name.
        let (_, password) = next.split_once([':', '%', ',']).filter(|_| known)?;
        return (!is_token(password) && !is_harmless(password, Certainty::Sure, false))
            .then_some(("password", Certainty::Sure));
    }
    // mysql's -p alone asks for the password.
    if known && program.is_some_and(|program| program.names.contains(&"mysql") || program.names == ARCHIVERS)
    {
        return None;
    }
    let count = next.bytes().all(|byte| byte.is_ascii_digit());
    // Its -p is a number of partitions or producers behind the kind of the bench.
    let known = known && !(count && program.is_some_and(|program| program.names.contains(&"iggy-bench")));
    let port = next.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b':' | b'-' | b'/' | b','))
        && next.len() <= 11;
    let unknown = match letter {
        "-p" => !port && !next.starts_with('/') && program.is_none() && is_secretish(next),
        "-t" => program.is_none() && is_secretish(next),
        _ => false,
    };
    (known || unknown).then_some((rule, Certainty::Sure))
}

fn user_length(letter: &str, attached: &str) -> usize {
    let user = matches!(letter, "-u" | "-U");
    if user { attached.find([':', '%', ',']).map_or(0, |end| end + 1) } else { 0 }
}

fn known_program(word: &str) -> Option<&'static Program> {
    let name = word.rsplit('/').next().unwrap_or(word);
    PROGRAMS.iter().find(|program| program.names.contains(&name))
}

/// The programs of a line that is read from left to right.
#[derive(Default)]
pub(super) struct Programs {
    read: usize,
    /// Whether the last word was an option.
    option: bool,
    last: Option<(usize, &'static Program)>,
}

impl Programs {
    /// The program whose options stand at `at`, if it is one that takes a secret.
    fn before(&mut self, line: &str, at: usize) -> Option<&'static Program> {
        let mut start = self.read;
        for word in
            line.get(self.read..at)?.split([' ', '\t', '=', '"', '\'', '`', '(', '\0', '@', '!', '+', ':'])
        {
            // `top -u iggy` runs no iggy.
            let argument = self.last.is_none() && self.option;
            self.last =
                known_program(word).filter(|_| !argument).map(|program| (start, program)).or(self.last);
            self.option = word.starts_with('-') && !SHELL_OPTIONS.contains(&word);
            start += word.len() + 1;
        }
        self.read = at;
        self.last.filter(|(place, _)| at - place < PROGRAM_BYTES).map(|(_, program)| program)
    }
}

/// A one-letter option in running text at `at` (its blank): only of programs that are known to take a secret.
pub(super) fn short_option(line: &str, at: usize, programs: &mut Programs, spans: &mut Vec<Span>) {
    let Some(program) = programs.before(line, at) else { return };
    let mut to = (at + PROGRAM_BYTES).min(line.len());
    while !line.is_char_boundary(to) {
        to -= 1;
    }
    let words = words(line, at, to, 2);
    let Some((start, end)) = words.first().copied() else { return };
    let next = words.get(1).copied();
    let option = &line[start..end];
    let rule = short(option, start, Some(program), next.map(|(start, end)| &line[start..end]), spans);
    if let (Some((rule, certainty)), Some((start, end))) = (rule, next) {
        let word = &line[start..end];
        let user = user_length(option, word);
        let secret = &word[user..];
        if !is_token(secret) && !is_harmless(secret, certainty, false) && !word.starts_with('-') {
            spans.push(Span::new(start + user, end, rule));
        }
    }
}

/// Ranges of the first words; a word in quotes is without them.
fn words(text: &str, from: usize, to: usize, most: usize) -> Vec<(usize, usize)> {
    let bytes = &text.as_bytes()[..to];
    let mut words = Vec::new();
    let mut at = from;
    if bytes[from..].contains(&0) {
        for word in text[from..to].split('\0') {
            words.push((at, at + word.len()));
            at += word.len() + 1;
        }
        return words;
    }
    while at < to && words.len() < most {
        if bytes[at].is_ascii_whitespace() {
            at += 1;
            continue;
        }
        let start = at;
        let mut quote = None;
        while at < to && (quote.is_some() || !bytes[at].is_ascii_whitespace()) {
            match (quote, bytes[at]) {
                (None, byte @ (b'"' | b'\'')) => quote = Some(byte),
                (Some(open), byte) if open == byte => quote = None,
                _ => {}
            }
            at += 1;
        }
        let whole = at - start >= 2 && matches!(bytes[start], b'"' | b'\'') && bytes[at - 1] == bytes[start];
        words.push(if whole { (start + 1, at - 1) } else { (start, at) });
    }
    words
}
