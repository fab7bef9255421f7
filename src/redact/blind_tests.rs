//! Measures a corpus that somebody else wrote and that lies elsewhere:
//! `WARDEN_CORPUS=DIR cargo test -p warden-redact a_blind_corpus -- --ignored --nocapture`, with `WARDEN_CORPUS_PART=-b` for the
//! files `positives-b.jsonl` and `negatives-b.jsonl` in it.
//!
//! Each line is a JSON object with `class`, `kind` (of the file: `log`, `toml`, `env`, ...), `text` and `secrets`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::test_rng::Draws;
use super::*;

/// With how many drawn others of its kind a text is read in company, above and below it.
const OTHERS: usize = 8;
/// Shortest part of a secret that counts as the secret, when more than half of it is left.
const PART: usize = 6;

#[derive(Deserialize)]
struct Text {
    class: String,
    kind: String,
    text: String,
    #[serde(default)]
    secrets: Vec<String>,
}

impl Text {
    fn shape(&self) -> Shape {
        match self.kind.as_str() {
            "toml" => Shape::Toml,
            "json" => Shape::Json,
            "yaml" => Shape::Yaml,
            "env" | "environ" => Shape::Environ,
            "argv" => Shape::Arguments,
            "unit" if self.text.starts_with('{') => Shape::UnitProperties,
            "log" | "journal" | "shell" | "http" | "prose" | "other" => Shape::Log,
            _ => Shape::Plain,
        }
    }

    fn masked(&self) -> String {
        masked(self.shape(), &self.text)
    }
}

fn masked(shape: Shape, text: &str) -> String {
    Redactor::new([3; 32]).redact(shape, text).into_owned()
}

/// What of the secrets is left: one of them, a line of it, or more than half of one.
fn left<'t>(masked: &str, secrets: &'t [String]) -> Vec<&'t str> {
    let shows = |part: &str| part.len() >= PART.min(part.len()).max(1) && masked.contains(part);
    let half = |secret: &str| {
        let middle = secret.floor_char_boundary(secret.len().div_ceil(2));
        let (front, back) = secret.split_at(middle);
        secret.len() >= 2 * PART && (shows(front) || shows(back))
    };
    let lines = |secret: &'t str| secret.lines().map(str::trim).filter(|line| !line.is_empty());
    let all = secrets.iter().flat_map(|secret| {
        let several = secret.contains('\n');
        lines(secret).filter(move |line| !several || line.len() >= PART)
    });
    all.filter(|secret| shows(secret) || half(secret)).collect()
}

fn read(folder: &str, name: &str) -> Vec<Text> {
    let part = std::env::var("WARDEN_CORPUS_PART").unwrap_or_default();
    let text = std::fs::read_to_string(format!("{folder}/{name}{part}.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn share(part: usize, whole: usize) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

/// Two texts of one kind as one.
fn joined(shape: Shape, above: &str, below: &str) -> Option<String> {
    let between = match shape {
        Shape::Toml => "\n[other]\n",
        Shape::Yaml => "\n---\n",
        Shape::Environ | Shape::Arguments if above.contains('\0') != below.contains('\0') => return None,
        Shape::Environ if above.contains('\0') => "\0",
        Shape::Environ
        | Shape::Log
        | Shape::Plain
        | Shape::Json
        | Shape::Arguments
        | Shape::UnitProperties => "\n",
    };
    Some(format!("{above}{between}{below}"))
}

/// What is masked alone and not in company, and in how many pairs it was tried.
fn company(alone: &[&Text]) -> (usize, Vec<String>) {
    let mut draws = Draws::new(0x5eed);
    let (mut pairs, mut lost) = (0, Vec::new());
    for text in alone {
        let others: Vec<&&Text> = alone.iter().filter(|other| other.shape() == text.shape()).collect();
        for _ in 0..OTHERS {
            let other = others[draws.below(others.len())];
            for (above, below) in [(*text, *other), (*other, *text)] {
                let Some(both) = joined(text.shape(), &above.text, &below.text) else { continue };
                pairs += 1;
                let masked = masked(text.shape(), &both);
                let left = left(&masked, &text.secrets);
                // What only the other shows was not this one's secret.
                if !left.is_empty() && !left.iter().all(|left| other.text.contains(left)) {
                    lost.push(format!("{:?} {left:?} of {both:?} -> {masked:?}", text.shape()));
                }
            }
        }
    }
    (pairs, lost)
}

#[test]
#[ignore = "needs a corpus"]
fn a_blind_corpus_is_measured() {
    let Ok(folder) = std::env::var("WARDEN_CORPUS") else { return };
    let (positives, negatives) = (read(&folder, "positives"), read(&folder, "negatives"));
    let (mut classes, mut alone) = (BTreeMap::<&str, (usize, usize)>::new(), Vec::new());
    for text in &positives {
        let masked = text.masked();
        let missed = text.secrets.iter().filter(|secret| !left(&masked, &[(*secret).clone()]).is_empty());
        let missed: Vec<_> = missed.collect();
        let (all, found) = classes.entry(&text.class).or_default();
        *all += text.secrets.len();
        *found += text.secrets.len() - missed.len();
        if missed.is_empty() {
            alone.push(text);
        } else {
            println!("missed [{}] {} {missed:?} of {:?} -> {masked:?}", text.class, text.kind, text.text);
        }
    }
    let mut touched = BTreeMap::<&str, (usize, usize)>::new();
    for text in &negatives {
        let masked = text.masked();
        let (all, changed) = touched.entry(&text.class).or_default();
        *all += 1;
        if masked != text.text {
            *changed += 1;
            println!("touched [{}] {} {:?} -> {masked:?}", text.class, text.kind, text.text);
        }
    }
    let (pairs, lost) = company(&alone);
    for pair in &lost {
        println!("lost {pair}");
    }
    println!("| class | secrets | masked | recall |\n| --- | --- | --- | --- |");
    let (mut all, mut found) = (0, 0);
    for (class, (secrets, masked)) in classes {
        println!("| {class} | {secrets} | {masked} | {:.1} % |", share(masked, secrets));
        (all, found) = (all + secrets, found + masked);
    }
    println!("| **all** | {all} | {found} | {:.1} % |", share(found, all));
    println!("| class | ordinary texts | touched | |\n| --- | --- | --- | --- |");
    let (mut all, mut changed) = (0, 0);
    for (class, (texts, some)) in touched {
        println!("| {class} | {texts} | {some} | {:.1} % |", share(some, texts));
        (all, changed) = (all + texts, changed + some);
    }
    println!("| **all** | {all} | {changed} | {:.1} % |", share(changed, all));
    println!("in company: {} of {pairs} pairs lost a secret", lost.len());
}
