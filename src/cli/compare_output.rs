//! What a comparison of snapshots tells: on the terminal, as JSON, and as a page.

use std::io::Write;
use std::path::Path;

use serde::Serialize;

use super::output_file;
use super::terminal::{Painter, harmless};

/// Writes `page` to the file of `--html` if one was named, and tells the rest on standard output.
pub fn tell<T: Serialize>(
    told: &T,
    json: bool,
    html: Option<&Path>,
    page: impl FnOnce(&T) -> anyhow::Result<String>,
    text: impl FnOnce(&T, Painter) -> String,
) -> anyhow::Result<()> {
    if let Some(path) = html {
        output_file::write_for(path, page(told)?.as_bytes(), "--html")?;
    }
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, told)?;
        writeln!(out)?;
        return Ok(());
    }
    out.write_all(text(told, Painter::stdout()).as_bytes())?;
    if let Some(path) = html {
        writeln!(out, "Page written to {}", harmless(&path.display().to_string()))?;
    }
    Ok(())
}

/// Text of a host: harmless, on one line, and not longer than so many characters.
pub fn shown(text: &str, characters: usize) -> String {
    let mut shown: String = harmless(text).chars().take(characters + 1).collect();
    if shown.chars().count() > characters {
        shown.pop();
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_host_says_is_shown_harmless_and_cut() {
        assert_eq!(shown("a\u{7}é", 20), "a\\u{7}é");
        assert_eq!((shown("abc", 3), shown("abcd", 3)), ("abc".to_owned(), "abc…".to_owned()));
    }
}
