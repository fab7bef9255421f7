//! Command lines: options whose argument is a secret, in one word or in two.

use super::entropy::is_secretish;
use super::environment;
use super::harmless::is_harmless;
use super::names::{Certainty, Telling, telling};
use super::span::Span;
use super::tokens::is_token;

/// A program's one-letter options that take a secret, and whether it may be attached (`-pSECRET`).
struct Program {
    names: &'static [&'static str],
    options: &'static [&'static str],
    attached: bool,
}

const PROGRAMS: &[Program] = &[
    Program {
        names: &["iggy", "iggy-cli", "iggy-bench", "iggy-server", "iggy-connectors", "iggy-mcp"],
        options: &["-p", "-t"],
        attached: true,
    },
    Program {
        names: &["mysql", "mysqldump", "mysqladmin", "mariadb", "mariadb-dump", "mariadb-admin"],
        options: &["-p"],
        attached: true,
    },
    Program { names: &["sshpass"], options: &["-p"], attached: true },
    Program { names: &["redis-cli", "valkey-cli"], options: &["-a"], attached: false },
    Program {
        names: &["mongo", "mongosh", "mongodump", "mongorestore", "cqlsh", "rabbitmqadmin"],
        options: &["-p"],
        attached: false,
    },
    Program {
        names: &["ldapsearch", "ldapmodify", "ldapadd", "ldapwhoami"],
        options: &["-w"],
        attached: false,
    },
    Program { names: &["sqlcmd"], options: &["-P"], attached: true },
    Program { names: &["ipmitool"], options: &["-P"], attached: false },
    // `docker login -p`: elsewhere docker's -p is a port.
    Program { names: &["login"], options: &["-p"], attached: false },
    Program { names: ARCHIVERS, options: &["-p", "-P"], attached: true },
    Program { names: &["curl", "http", "https"], options: &["-u", "-U", "-a"], attached: true },
    Program { names: &["smbclient", "rpcclient", "smbget"], options: &["-U"], attached: true },
];
/// Without an attached password these ask for one.
const ARCHIVERS: &[&str] = &["7z", "7za", "7zr", "7zz"];
/// Subcommands that take a user and then a password.
const USER_COMMANDS: [&str; 3] = ["add_user", "change_password", "authenticate_user"];
/// How far before an option in running text its program may stand, in bytes.
const PROGRAM_BYTES: usize = 512;

/// Masks the arguments of one command, separated by NUL as in /proc/PID/cmdline or as a shell reads them.
pub(super) fn arguments(text: &str, from: usize, to: usize, spans: &mut Vec<Span>) {
    let words = words(text, from, to, usize::MAX);
    let mut program = None;
    let mut rule: Option<(&'static str, Certainty)> = None;
    for (at, (start, end)) in words.iter().enumerate() {
        let word = &text[*start..*end];
        let previous = |back: usize| at.checked_sub(back).map(|at| &text[words[at].0..words[at].1]);
        // `top -u iggy` runs no iggy.
        let argument = program.is_none() && at > 1 && previous(1).is_some_and(|word| word.starts_with('-'));
        program = known_program(word).filter(|_| !argument).or(program);
        if previous(2).is_some_and(|word| USER_COMMANDS.contains(&word)) && !is_token(word) {
            spans.push(Span::new(*start, *end, "password"));
            continue;
        }
        let user = matches!(previous(1), Some("--user" | "--proxy-user"));
        if user
            && let Some((_, password)) = word.split_once(':')
            && !is_token(password)
            && !is_harmless(password, Certainty::Sure, false)
        {
            spans.push(Span::new(*end - password.len(), *end, "password"));
            continue;
        }
        if let Some((rule, certainty)) = rule.take() {
            let option = word.starts_with('-') && certainty != Certainty::Sure;
            let long = word.starts_with("--");
            if !option && !long && !is_token(word) && !is_harmless(word, certainty, false) {
                spans.push(Span::new(*start, *end, rule));
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
        } else if word.starts_with('-') && !word.starts_with("--") {
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
    let (letter, attached) = word.split_at_checked(2)?;
    let known = program.is_some_and(|program| program.options.contains(&letter));
    let rule = if letter == "-t" { "token" } else { "password" };
    if !attached.is_empty() {
        let attachable = known && program.is_some_and(|program| program.attached) && !is_token(attached);
        if attachable {
            let place = start + 2 + user_length(letter, attached);
            spans.push(Span::new(place, start + word.len(), rule));
        }
        return None;
    }
    let next = next?;
    if matches!(letter, "-u" | "-U") {
        // curl's `user:password`; for others -u is a user name.
        let (_, password) = next.split_once([':', '%']).filter(|_| known)?;
        return (!is_token(password)).then_some(("password", Certainty::Sure));
    }
    // mysql's -p alone asks for the password.
    if known && program.is_some_and(|program| program.names.contains(&"mysql") || program.names == ARCHIVERS)
    {
        return None;
    }
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
    if user { attached.find([':', '%']).map_or(0, |end| end + 1) } else { 0 }
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
        for word in line.get(self.read..at)?.split([' ', '\t', '=', '"', '\'', '`', '(']) {
            // `top -u iggy` runs no iggy.
            let argument = self.last.is_none() && self.option;
            self.last =
                known_program(word).filter(|_| !argument).map(|program| (start, program)).or(self.last);
            self.option = word.starts_with('-');
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
    let rule =
        short(&line[start..end], start, Some(program), next.map(|(start, end)| &line[start..end]), spans);
    if let (Some((rule, certainty)), Some((start, end))) = (rule, next) {
        let word = &line[start..end];
        if !is_token(word) && !is_harmless(word, certainty, false) && !word.starts_with('-') {
            spans.push(Span::new(start, end, rule));
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
