//! The backup writer: a server's stream in, packs out, and the roots for a manifest.
//!
//! ```text
//! caller's task     copies bytes into batches of whole pages
//! worker threads    zero test, keyed hash and CRC32C of each page, comparison with the ancestor, compression
//! packer thread     numbers, seals, fills packs, writes layers and tables
//! runtime           carries packs to the store while they grow
//! ```
//!
//! Everything in flight is bounded by the number of batches; their buffers go round. Nothing that is written here means
//! anything before a manifest names it: a writer that fails or is dropped leaves packs behind which nobody refers to.

mod ancestor;
mod ancestor_section;
mod backup;
mod batch;
mod checkpoint;
mod chunks;
mod crew;
mod entries;
mod options;
mod packer;
mod page_count;
mod section;
mod sparse;
mod stream;
mod tables;
#[cfg(test)]
mod tests;
mod workers;

pub use ancestor::AncestorReader;
pub(crate) use ancestor::is_damage;
pub use backup::BackupWriter;
pub use options::{FileMeta, Finished, WriterOptions};
pub use page_count::PageCount;
