//! Corpora as text files: `RECALL.md` beside them tells their form.

use crate::Shape;

/// One text of a corpus.
pub(in super::super) struct Entry {
    pub(in super::super) class: String,
    pub(in super::super) shape: Shape,
    pub(in super::super) text: String,
    /// None in a text that must stay as it is.
    pub(in super::super) secrets: Vec<String>,
}

/// All corpora of the folder by the names of their files, in order.
const FILES: [(&str, &str); 4] = [
    ("blind-a", include_str!("blind-a.txt")),
    ("hosts-lines", include_str!("hosts-lines.txt")),
    ("hosts-ordinary", include_str!("hosts-ordinary.txt")),
    ("hosts-secret", include_str!("hosts-secret.txt")),
];

/// The texts of each corpus.
pub(in super::super) fn files() -> Vec<(String, Vec<Entry>)> {
    FILES.iter().map(|(name, text)| ((*name).to_owned(), entries(text))).collect()
}

pub(in super::super) fn entries(file: &str) -> Vec<Entry> {
    let parts = file.split("\n== ").skip(1);
    parts.map(|part| entry(part).unwrap_or_else(|| panic!("not an entry: {part:?}"))).collect()
}

/// `class | shape`, then lines of text in which `«»` enclose each secret.
fn entry(part: &str) -> Option<Entry> {
    let (head, body) = part.split_once('\n')?;
    let (class, shape) = head.split_once(" | ")?;
    let shape = match shape {
        "log" => Shape::Log,
        "plain" => Shape::Plain,
        "toml" => Shape::Toml,
        "json" => Shape::Json,
        "yaml" => Shape::Yaml,
        "env" => Shape::Environ,
        "args" => Shape::Arguments,
        "unit" => Shape::UnitProperties,
        _ => return None,
    };
    // `¦` keeps what looks like a provider's token apart, so that no scanner takes the file for a leak.
    let body = body.trim_end_matches('\n').replace('¦', "").replace('␀', "\0");
    let mut secrets = Vec::new();
    let mut text = String::new();
    for (at, piece) in body.split('«').enumerate() {
        let Some((secret, rest)) = piece.split_once('»').filter(|_| at > 0) else {
            text.push_str(piece);
            continue;
        };
        text.extend([secret, rest]);
        secrets.push(secret.to_owned());
    }
    Some(Entry { class: class.to_owned(), shape, text, secrets })
}
