//! Secrets in the documents that this program writes itself: looked for in what they tell of the host, text by text.
//!
//! What stands between two texts is ours (a quote, a key, a tag), and so is a checksum. Whoever can name a secret on
//! the host, with a process or a line of a log, could name these and have every bundle refused.

use serde_json::Value;
use warden_redact::Redactor;

use super::archive::portable_names::is_telling;
use super::bundle::{IGGY, MANIFEST, SIGNATURE};

/// The page and the data of a report.
pub const PAGE: &str = "report.html";
pub const REPORT: &str = "report.json";
/// In front of the names of evidence.
const HOST: &str = "host/";
/// Fields that hold checksums and keys of our own making.
const COMPUTED: [&str; 4] = ["sha256", "public_key", "fingerprint", "signature"];

/// How often a known secret stands in one of our documents; `None` for any other file.
pub fn hits(redactor: &Redactor, name: &str, content: &[u8]) -> Option<usize> {
    match name {
        PAGE => {
            let page = String::from_utf8_lossy(content);
            Some(pieces(&page).map(|(piece, _)| redactor.hits(piece.as_bytes())).sum())
        }
        REPORT | MANIFEST => serde_json::from_slice(content).ok().map(|value| in_texts(redactor, &value)),
        _ => None,
    }
}

/// The same in the name of a member of a bundle, of which the first part is ours.
pub fn name_hits(redactor: &Redactor, name: &str) -> usize {
    let inside = name.strip_prefix(IGGY).and_then(|name| name.strip_prefix("!/"));
    let given = inside.or_else(|| name.strip_prefix(HOST)).unwrap_or(name);
    let ours = [PAGE, REPORT, MANIFEST, SIGNATURE, IGGY].contains(&name);
    if ours || inside.is_some_and(|name| !is_telling(name)) { 0 } else { redactor.hits(given.as_bytes()) }
}

fn in_texts(redactor: &Redactor, value: &Value) -> usize {
    match value {
        Value::String(text) if is_telling(text) => redactor.hits(text.as_bytes()),
        Value::Array(items) => items.iter().map(|item| in_texts(redactor, item)).sum(),
        Value::Object(fields) => {
            let told = fields.iter().filter(|(key, _)| !COMPUTED.contains(&key.as_str()));
            told.map(|(key, value)| match value.as_str().filter(|_| key == "path") {
                Some(path) => name_hits(redactor, path),
                None => in_texts(redactor, value),
            })
            .sum()
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

/// A document without what is a secret elsewhere; keys and numbers are ours.
pub fn sweep(redactor: &Redactor, value: &mut Value) {
    match value {
        Value::String(text) => {
            let swept = redactor.sweep(text).into_owned();
            *text = swept;
        }
        Value::Array(items) => items.iter_mut().for_each(|item| sweep(redactor, item)),
        Value::Object(fields) => fields.values_mut().for_each(|value| sweep(redactor, value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The same for a page: each text and each tag on its own.
pub fn sweep_page(redactor: &Redactor, page: &str) -> String {
    let mut out = String::with_capacity(page.len());
    for (piece, sign) in pieces(page) {
        out.push_str(&redactor.sweep(piece));
        out.push_str(sign);
    }
    out
}

/// Texts and tags of a page, each with the sign that ends it.
fn pieces(page: &str) -> impl Iterator<Item = (&str, &str)> {
    let divided = page.split_inclusive(['<', '>']);
    divided.map(|piece| piece.split_at(piece.strip_suffix(['<', '>']).map_or(piece.len(), str::len)))
}
