//! Learns the secrets and names of all texts before the first of them is written.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use warden_platform::background_io::{self, Gentle};
use warden_platform::user_view::Directory;
use warden_redact::Shape;

use super::redact_file::{DOCUMENT_BYTES, LOOKED_AT, Mask, Pieces, is_text, masking};
use super::workers::{WORKERS, open};
use super::{Plan, portable_names};

/// A plan whose texts have been read once: a secret that is told by its neighbours in one place is known in all others,
/// also in those before it, and in all that is written beside.
pub struct Learned {
    pub(super) plan: Plan,
    /// How many secrets there were.
    pub(super) secrets: u64,
    /// Names of users, where they are to be taken out.
    pub names: BTreeSet<String>,
}

impl Plan {
    /// Reads every text without writing it.
    pub fn learn(self, mask: Mask<'_>) -> anyhow::Result<Learned> {
        let names = Mutex::new(BTreeSet::new());
        let see = |text: &str| {
            self.signs.give();
            if let Some(anonymizer) = mask.anonymizer {
                names.lock().unwrap_or_else(PoisonError::into_inner).extend(anonymizer.unknown(text));
            }
        };
        let tree = &self.tree;
        let mut texts = Vec::new();
        for entry in &tree.entries {
            let path = tree.label(entry);
            if portable_names::is_telling(&path) {
                see(&mask.redactor.redact(Shape::Plain, &path));
            }
            if let Some(masking) = masking(tree, entry, self.taking).filter(|_| entry.left_out.is_none()) {
                texts.push((tree.path(entry), masking, entry.size));
            }
        }
        let root = tree.root.try_clone().context("cannot open the data directory a second time")?;
        let next = AtomicUsize::new(0);
        let work = || {
            background_io::step_back();
            while let Some((path, masking, size)) = texts.get(next.fetch_add(1, Ordering::Relaxed)) {
                // What cannot be read now is told when it is to be written.
                let _ = learn_from(&root, path, *masking, *size, mask, &see);
                self.signs.give();
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..WORKERS.min(texts.len()) {
                scope.spawn(work);
            }
        });
        let names = names.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Learned { plan: self, secrets: mask.redactor.receipt().values, names })
    }
}

fn learn_from(
    root: &Directory,
    path: &Path,
    (shape, in_pieces): (Shape, bool),
    listed: u64,
    mask: Mask<'_>,
    see: &dyn Fn(&str),
) -> io::Result<()> {
    let Ok((file, size)) = open(root, path) else { return Ok(()) };
    if !is_text(&beginning(&file)?) {
        return Ok(());
    }
    let mut source = Gentle::new(file, size.min(listed));
    if !in_pieces {
        let mut text = Vec::new();
        source.take(DOCUMENT_BYTES + 1).read_to_end(&mut text)?;
        see(&mask.redactor.redact(shape, &String::from_utf8_lossy(&text)));
        return Ok(());
    }
    let mut pieces = Pieces::new(mask.redactor, |piece| {
        see(&String::from_utf8_lossy(&piece));
        Ok(())
    });
    mask.redactor.copy(shape, &mut source, &mut pieces as &mut dyn Write)?;
    pieces.finish()
}

/// By which it is told whether a file is text.
pub fn beginning(file: &File) -> io::Result<Vec<u8>> {
    let mut beginning = vec![0; LOOKED_AT];
    let read = background_io::read_at(file, &mut beginning, 0)?;
    beginning.truncate(read);
    Ok(beginning)
}
