//! What we know of Iggy's data directory as it lies on disk. It is read as found, hostile or not: every length in it
//! is a claim, nothing it says asks for memory, and no byte of a message comes out.

mod advice;
mod batch;
mod boot;
mod buffered_reader;
mod bytes;
mod catalog;
mod checkpoint;
mod data_source;
mod index;
mod index_check;
mod inspect;
mod layout;
mod legacy_message;
mod metadata;
mod metadata_wal;
mod msgpack;
mod offsets;
mod old_state;
mod partitions;
mod problems;
mod recovery;
pub mod report;
mod scan;
mod segment;
mod superblock;
mod top_problems;
mod truncate;
mod zip_source;

pub use data_source::ENTRIES;
pub use inspect::{Order, Progress, SAMPLE, inspect};
