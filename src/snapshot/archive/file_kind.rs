//! What a file of the data directory holds, told by its place and name, and so whether and how it is taken along.

use warden_redact::Shape;

/// In the order in which they are taken when there is not room for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    /// Superblocks, consumer offsets, version marks: small, and without them nothing else can be read.
    Metadata,
    /// Configuration, masked as the document it is.
    Configuration,
    Index,
    /// Logs, masked line by line.
    Log,
    /// Messages, as they are.
    Segment,
    /// Something else: taken, masked, if it is text.
    Other,
    /// Hashes, tokens, keys: only its name, size and time are told.
    Secret,
}

/// `path` is relative to the data directory, with its parts in the bytes they have on disk. Everything that is not
/// known to be without secrets is masked or left out.
pub fn content(path: &[&[u8]]) -> Content {
    let Some((&name, folders)) = path.split_last() else { return Content::Other };
    let text = std::str::from_utf8(name).unwrap_or("").to_ascii_lowercase();
    let folder = folders.last().copied().unwrap_or_default();
    if is_key(&text) {
        return Content::Secret;
    }
    match folder {
        b"metadata" => return if is_superblock(name) { Content::Metadata } else { Content::Secret },
        b"state" => return if name == b"info" { Content::Metadata } else { Content::Secret },
        b"local_state" => return Content::Secret,
        _ => {}
    }
    if folders.contains(&b"partitions".as_slice()) {
        return in_partition(name, folder, folders);
    }
    let is_log =
        folders.first() == Some(&b"logs".as_slice()) || text.ends_with(".log") || text.contains(".log.");
    let configures = [".toml", ".json", ".yaml", ".yml"].iter().any(|ending| text.ends_with(ending));
    match (is_log, configures) {
        (_, true) => Content::Configuration,
        (true, false) => Content::Log,
        (false, false) => Content::Other,
    }
}

/// How a text of this name is masked, and whether that can be done in pieces.
pub fn shape(content: Content, name: &str) -> (Shape, bool) {
    if content == Content::Configuration { (Shape::of_path(name), false) } else { (Shape::Log, true) }
}

fn in_partition(name: &[u8], folder: &[u8], folders: &[&[u8]]) -> Content {
    let ending = |ending: &[u8]| name.strip_suffix(ending).is_some_and(is_offset);
    if ending(b".index") {
        return Content::Index;
    }
    if ending(b".log") {
        return Content::Segment;
    }
    let in_offsets = matches!(folder, b"consumers" | b"groups") && folders.contains(&b"offsets".as_slice());
    let is_number = !name.is_empty() && name.iter().all(u8::is_ascii_digit);
    let is_mark = is_superblock(name) || name == b"purge.gen";
    if is_mark || (in_offsets && is_number) {
        return Content::Metadata;
    }
    let holds_messages = name.ends_with(b".staging")
        || folder.ends_with(b".staging")
        || folders.iter().any(|folder| folder.starts_with(b"prepares-"));
    if holds_messages { Content::Segment } else { Content::Other }
}

fn is_superblock(name: &[u8]) -> bool {
    matches!(name, b"superblock.a" | b"superblock.b")
}

/// Segments are named by the offset of their first message, in 20 digits.
fn is_offset(stem: &[u8]) -> bool {
    stem.len() == 20 && stem.iter().all(u8::is_ascii_digit)
}

/// Private keys and files of credentials, by the names that they have everywhere.
fn is_key(name: &str) -> bool {
    let endings = [
        ".pem",
        ".key",
        ".p12",
        ".pfx",
        ".jks",
        ".keystore",
        ".kdbx",
        ".ppk",
        ".state",
        ".env",
        ".wal",
        ".token",
        ".crt",
        ".cer",
        ".der",
    ];
    let begins =
        [".env", "id_rsa", "id_ed25519", "id_ecdsa", "id_dsa", "core.", "contexts.toml", "journal.wal"];
    endings.iter().any(|ending| name.ends_with(ending))
        || begins.iter().any(|begin| name.starts_with(begin))
        || matches!(name, "core" | "snapshot.bin" | "tokens" | ".netrc" | ".pgpass")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> Content {
        content(&path.split('/').map(str::as_bytes).collect::<Vec<_>>())
    }

    #[test]
    fn what_keeps_secrets_is_told_by_its_place() {
        for path in [
            "state/log",
            "state/tokens",
            "backup/2026/state/log",
            "metadata/journal.wal",
            "metadata/snapshot.bin",
            "metadata/anything",
            "certs/iggy_key.pem",
            "streams/0/topics/0/partitions/0/server.KEY",
            ".env",
            ".env.production",
            "local_state/source_random.state",
            "core.1234",
        ] {
            assert_eq!(of(path), Content::Secret, "{path}");
        }
    }

    #[test]
    fn what_iggy_writes_is_known() {
        let partition = "streams/0/topics/1/partitions/2";
        for (path, expected) in [
            ("metadata/superblock.a", Content::Metadata),
            ("state/info", Content::Metadata),
            ("runtime/current_config.toml", Content::Configuration),
            ("logs/iggy-server.log", Content::Log),
            ("logs/iggy-server.log.12", Content::Log),
            ("notes", Content::Other),
        ] {
            assert_eq!(of(path), expected, "{path}");
        }
        for (path, expected) in [
            ("00000000000000001600.log", Content::Segment),
            ("00000000000000001600.index", Content::Index),
            ("1600.log", Content::Other),
            ("offsets/groups/12", Content::Metadata),
            ("offsets/groups/x", Content::Other),
            ("superblock.b", Content::Metadata),
            ("purge.gen", Content::Metadata),
            ("3.staging", Content::Segment),
        ] {
            assert_eq!(of(&format!("{partition}/{path}")), expected, "{path}");
        }
        assert_eq!(of("streams/0/topics/1/partitions/2.fenced.1/00000000000000000000.log"), Content::Segment);
    }
}
