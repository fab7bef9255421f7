//! What is masked alone is masked in company: every two forms of the corpora, in both orders, on neighbouring lines, on
//! one line and in every kind of file.

use super::corpus::{files, published, secrets};
use super::draws::Draws;
use super::*;

/// Of the published tokens, which one mechanism finds, one in so many stands for all: every two are 65,000 pairs.
const PUBLISHED_STEP: usize = 6;
/// With how many drawn others a form shares a file of each kind.
const OTHERS: usize = 6;

struct Form {
    shape: Shape,
    text: String,
    secrets: Vec<String>,
    /// Its text with `*` for each secret.
    alone: String,
}

/// The forms whose secrets are all masked when they stand alone.
fn forms() -> Vec<Form> {
    let one = |(shape, text, secret): (Shape, String, String)| (shape, text, vec![secret]);
    let mut all: Vec<_> = secrets().into_iter().map(one).collect();
    all.extend(published().into_iter().step_by(PUBLISHED_STEP).map(one));
    // Those of somebody else are tried in company where they are measured.
    let files = files().into_iter().filter(|(name, _)| !name.starts_with("blind"));
    let files = files.flat_map(|(_, entries)| entries);
    all.extend(files.map(|entry| (entry.shape, entry.text, entry.secrets)));
    let form = |(shape, text, secrets): (Shape, String, Vec<String>)| {
        let masked = Redactor::new([5; 32]).redact(shape, &text).into_owned();
        let found = secrets.iter().all(|secret| !masked.contains(secret.as_str()));
        found.then(|| Form { shape, alone: starred(&masked), text, secrets })
    };
    all.into_iter().filter_map(form).collect()
}

fn starred(masked: &str) -> String {
    let (mut out, mut rest) = (String::new(), masked);
    while let Some(at) = rest.find(tokens::OPENING) {
        out.push_str(&rest[..at]);
        let length = tokens::token_length(&rest.as_bytes()[at..]).unwrap_or(1);
        out.push('*');
        rest = &rest[at + length..];
    }
    out + rest
}

fn is_line(form: &&Form) -> bool {
    matches!(form.shape, Shape::Log | Shape::Plain) && !form.text.contains(['\n', '\0', '\r'])
}

fn masked(shape: Shape, text: &str) -> String {
    starred(&Redactor::new([5; 32]).redact(shape, text))
}

#[test]
fn an_address_in_a_later_line_hides_nothing_that_follows_it() {
    let lines = [
        ("Generated root user password: 9aXb7QkLm2PzR4", "9aXb7QkLm2PzR4"),
        ("HTTP API listening on http://127.0.0.1:3000 with api_key=conn-api-key-1", "conn-api-key-1"),
        ("Failed to POST https://in.example/v1: Authorization: Bearer abcDEF123456ghi", "abcDEF123456ghi"),
        ("connecting to https://es.internal:9200 user=elastic password=Winter-0818horse", "Winter-0818horse"),
        ("from app:goPass77@tcp(db:3306)/x to https://h/v1?api_key=conn-api-key-2", "conn-api-key-2"),
    ];
    let text: String = lines.iter().map(|(line, _)| format!("2026-11-30T21:00:01Z WARN {line}\n")).collect();
    for shape in [Shape::Log, Shape::Plain, Shape::Yaml] {
        let masked = Redactor::new([5; 32]).redact(shape, &text).into_owned();
        for (_, secret) in lines {
            assert!(!masked.contains(secret), "{shape:?} {masked}");
        }
    }
}

/// Each line with every other one above and below it: nothing more and nothing less is masked than alone.
#[test]
fn neighbouring_lines_are_masked_as_each_alone() {
    let forms = forms();
    let lines: Vec<&Form> = forms.iter().filter(is_line).collect();
    let mut wrong = Vec::new();
    for a in &lines {
        let text: String = lines.iter().map(|b| format!("{}\n{}\n", a.text, b.text)).collect();
        let masked = masked(Shape::Log, &text);
        for ((pair, b), text) in masked.split('\n').collect::<Vec<_>>().chunks(2).zip(&lines).zip(0..) {
            if pair != [a.alone.as_str(), b.alone.as_str()] {
                wrong.push(format!("{text}: {:?} above {:?}: {pair:?}", a.alone, b.alone));
            }
        }
    }
    assert!(
        lines.len() > 300 && wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        lines.len(),
        wrong[..wrong.len().min(40)].join("\n")
    );
}

/// Two on one line, divided as logs divide: the secrets of both go.
#[test]
fn two_on_one_line_lose_the_secrets_of_both() {
    let forms = forms();
    let lines: Vec<&Form> = forms.iter().filter(is_line).collect();
    let mut wrong = Vec::new();
    for a in &lines {
        let text: String = lines.iter().map(|b| format!("{} ; {}\n", a.text, b.text)).collect();
        let masked = Redactor::new([5; 32]).redact(Shape::Log, &text).into_owned();
        for (line, b) in masked.lines().zip(&lines) {
            let left = |form: &Form, other: &Form| {
                form.secrets
                    .iter()
                    .any(|secret| line.contains(secret.as_str()) && !other.text.contains(secret))
            };
            if left(a, b) || left(b, a) {
                wrong.push(format!("{:?} before {:?}: {line:?}", a.text, b.text));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        lines.len() * lines.len(),
        wrong[..wrong.len().min(40)].join("\n")
    );
}

/// Two lines as values of one file, and two documents of one kind one after the other.
#[test]
fn two_in_one_file_of_any_kind_lose_the_secrets_of_both() {
    let forms = forms();
    let lines: Vec<&Form> = forms.iter().filter(is_line).collect();
    let mut draws = Draws::new(0x0bad_cafe);
    let quoted = |text: &str| serde_json::to_string(text).unwrap();
    let mut wrong = Vec::new();
    let mut lost = |shape: Shape, text: &str, a: &Form, b: &Form| {
        let masked = Redactor::new([5; 32]).redact(shape, text).into_owned();
        if a.secrets
            .iter()
            .chain(&b.secrets)
            .any(|secret| masked.contains(&quoted(secret)[1..quoted(secret).len() - 1]))
        {
            wrong.push(format!("{shape:?} {text:?} -> {masked:?}"));
        }
    };
    for a in &lines {
        for _ in 0..OTHERS {
            let b = lines[draws.below(lines.len())];
            let (x, y) = (quoted(&a.text), quoted(&b.text));
            lost(Shape::Toml, &format!("[log]\nfirst = {x}\nsecond = {y}\n"), a, b);
            lost(Shape::Toml, &format!("[plugin_config]\nfirst = {x}\n[other]\nsecond = [{y}]\n"), a, b);
            lost(Shape::Json, &format!("{{\"first\":{x},\"second\":[{y}]}}"), a, b);
            lost(Shape::Yaml, &format!("first: {x}\nsecond:\n  - {y}\n"), a, b);
            lost(Shape::Environ, &format!("FIRST={}\0SECOND={}\0", a.text, b.text), a, b);
            lost(Shape::UnitProperties, &format!("{{\"Description\":{x},\"Documentation\":[{y}]}}"), a, b);
            lost(
                Shape::Plain,
                &format!("Nov 21 11:00:01 h app[7]: {}\nNov 21 11:00:01 h app[7]: {}\n", a.text, b.text),
                a,
                b,
            );
        }
    }
    for a in forms.iter().filter(|form| !is_line(form)) {
        for b in forms.iter().filter(|form| form.shape == a.shape && !is_line(form)) {
            let between = match a.shape {
                Shape::Toml => "\n[other]\n",
                Shape::Yaml => "\n---\n",
                Shape::Environ if a.text.contains('\0') != b.text.contains('\0') => continue,
                Shape::Environ if a.text.contains('\0') => "\0",
                Shape::Environ
                | Shape::Log
                | Shape::Plain
                | Shape::Json
                | Shape::Arguments
                | Shape::UnitProperties => "\n",
            };
            lost(a.shape, &format!("{}{between}{}", a.text, b.text), a, b);
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
}
