//! What we know of Iggy's data directory as it lies on disk. It is read as found, hostile or not: every length in it
//! is a claim, nothing it says asks for memory, and no byte of a message comes out.

mod advice;
mod archive;
mod batch;
mod boot;
mod bytes;
mod catalog;
mod checkpoint;
mod index;
mod index_check;
mod inspect;
mod journal;
mod layout;
mod message;
mod metadata;
mod msgpack;
mod offsets;
mod old_state;
mod partitions;
mod problems;
mod recovery;
pub mod report;
mod scan;
mod segment;
mod shortened;
mod superblock;
mod tree;
mod window;
mod worst;

pub use inspect::{Order, Progress, SAMPLE, inspect};
pub use tree::ENTRIES;
