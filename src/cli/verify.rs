//! `warden verify`: whether a bundle is as it was written, and who signed it.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::Serialize;
use warden_host::quantity;

use super::progress;
use super::terminal::{Painter, Style, harmless};
use crate::snapshot::signature::{KEY_FILE_BYTES, PublicKey};
use crate::snapshot::verify::{Signature, Verification, verify};

/// Check a bundle against its manifest, and its signature
///
/// Reads every file in the bundle and compares its size and SHA-256 with the manifest: everything listed must be
/// there as it was, and nothing else. Unpacks nothing and needs little memory, whatever the archive claims.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 when the bundle is whole and its signature, if it has one, is good; 1 when it is not \
                  whole, the signature is bad, or --key is given and none of the keys signed it; 2 when it could not \
                  be told."
)]
pub struct Arguments {
    /// The bundle: warden-HOST-TIME.zip
    file: PathBuf,

    /// Public key of someone who may have signed it, as PEM (repeat for several)
    #[arg(long, value_name = "PUBLIC.PEM")]
    key: Vec<PathBuf>,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let keys = arguments.key.iter().map(|path| read_key(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let bar = progress::of_bytes(arguments.json);
    let verification = verify(&arguments.file, &keys, &mut |bytes| bar.inc(bytes));
    bar.finish_and_clear();
    let verification = verification?;
    let good = verification.is_good(!keys.is_empty());
    let mut out = std::io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, &Told { good, verification: &verification })?;
        writeln!(out)?;
    } else {
        let name = harmless(&arguments.file.display().to_string());
        out.write_all(text(&name, &verification, !keys.is_empty(), Painter::stdout()).as_bytes())?;
    }
    Ok(u8::from(!good))
}

#[derive(Serialize)]
struct Told<'a> {
    /// What the exit status says.
    good: bool,
    #[serde(flatten)]
    verification: &'a Verification,
}

fn read_key(path: &Path) -> anyhow::Result<(String, PublicKey)> {
    let name = path.display().to_string();
    let key = read_small(path).and_then(|text| PublicKey::from_pem(&text));
    let key = key.with_context(|| format!("cannot take {name} as a key"))?;
    Ok((name, key))
}

/// A key file as text.
pub fn read_small(path: &Path) -> anyhow::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?.take(KEY_FILE_BYTES + 1).read_to_string(&mut text)?;
    ensure!(text.len() as u64 <= KEY_FILE_BYTES, "this is far too large for a key");
    Ok(text)
}

fn text(name: &str, told: &Verification, keys_given: bool, paint: Painter) -> String {
    let mut lines = Vec::new();
    let files = quantity::count(told.files, "file", "files");
    lines.push(if told.whole {
        let word = paint.paint(Style::Green, "whole");
        format!("{word}: {name}, {files}, {}", quantity::bytes(told.bytes))
    } else {
        format!("{}: {name}", paint.paint(Style::Red, "not whole"))
    });
    lines.extend(told.problems.iter().map(|problem| format!("  {}", harmless(problem))));
    if told.problems_left_out > 0 {
        lines.push(format!("  and {} more", told.problems_left_out));
    }
    if let Some(about) = &told.about {
        let (host, at, warden) =
            (harmless(&about.host), harmless(&about.created_at), harmless(&about.warden));
        lines.push(format!("host {host}, {at}, written by Warden {warden}"));
    }
    if told.about.is_some() {
        lines.push(signature(&told.signature, keys_given, paint));
    }
    lines.join("\n") + "\n"
}

fn signature(signature: &Signature, keys_given: bool, paint: Painter) -> String {
    let (style, word, rest) = match signature {
        Signature::Known { fingerprint, by } => {
            (Style::Green, "signed", format!(" by {} ({fingerprint})", harmless(by)))
        }
        Signature::Unknown { fingerprint } if keys_given => {
            (Style::Red, "signed by another key", format!(" than the given: {fingerprint}"))
        }
        Signature::Unknown { fingerprint } => (
            Style::Yellow,
            "signed by a key that only the bundle itself brings",
            format!(": {fingerprint}; give --key to know whose it is"),
        ),
        Signature::Bad { reason } => (Style::Red, "bad signature", format!(": {}", harmless(reason))),
        Signature::Unsigned => {
            let style = if keys_given { Style::Red } else { Style::Yellow };
            (style, "unsigned", ": nothing shows who wrote it".to_owned())
        }
    };
    format!("{}{rest}", paint.paint(style, word))
}
