//! What Iggy says when it does not start, or starts without a partition, and what each of these sentences means.
//!
//! Listed from the error types of 0.9.0-edge.5 (`server_error.rs`, `recovery.rs`, `prepare_journal.rs`, `snapshot.rs`,
//! `diagnostics.rs`, `shard_allocator`) and of 0.8.0. A server writes an error as its text into the log, and as its
//! structure behind `Error:` on stderr; both forms are here. What is advised about data was done on real servers:
//! docs/iggy-data-remedies.md.

mod cluster;
mod data;
mod host;

/// One reason for which a server does not start, or leaves a part of its data out.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Stable name, as `message-index-divergence`.
    pub id: &'static str,
    /// Any of these in a line is this refusal; a `…` stands for anything in between.
    pub signs: &'static [&'static str],
    /// What it means, as a sentence.
    pub meaning: &'static str,
    /// What to do, beginning with what loses nothing.
    pub advice: &'static str,
    pub effect: Effect,
}

/// What becomes of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It exits.
    Exits,
    /// It runs, and serves only a part of its data.
    ServesLess,
    /// It only says that something else went wrong, which stands in another line.
    Follows,
}

/// Every refusal that is known; what says more stands before what says less.
pub fn refusals() -> impl Iterator<Item = &'static Refusal> {
    data::REFUSALS.iter().chain(host::REFUSALS).chain(cluster::REFUSALS).chain(data::GENERAL)
}

/// What a line of the log, of the journal or of stderr means. Of a line that names several causes, the first one
/// listed.
pub fn explain(line: &str) -> Option<&'static Refusal> {
    let line = without_colours(line);
    refusals().find(|refusal| refusal.signs.iter().any(|sign| has(&line, sign)))
}

fn has(line: &str, sign: &str) -> bool {
    let mut rest = line;
    sign.split('…').all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

/// Without the escape sequences by which a terminal colours (ECMA-48, `ESC [ … m`), with or without their first
/// character, which a journal may have dropped.
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find('[') {
        let (before, behind) = rest.split_at(at);
        let codes = behind[1..].find(|c: char| !c.is_ascii_digit() && c != ';').map(|end| end + 1);
        match codes.filter(|&end| end > 1 && behind[end..].starts_with('m')) {
            Some(end) => {
                plain.push_str(before.strip_suffix('\u{1b}').unwrap_or(before));
                rest = &behind[end + 1..];
            }
            None => {
                plain.push_str(&rest[..=at]);
                rest = &rest[at + 1..];
            }
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests;
