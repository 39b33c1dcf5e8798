//! Reading a backup: its file table, its content by windows, and whether all of it is still what it was.
//!
//! The way of the bytes: `plan` turns the file table into windows (which pieces of which files lie in which frames),
//! `run` reads the packs in large ranges, `transfer` decodes on a fixed set of threads and writes each piece to its final
//! place through a [`FileSink`]. Memory is the same for 1 GiB and for 100 TiB.

mod backup;
mod checksum;
mod fetch;
mod file;
mod impact;
mod meta;
mod options;
mod pack_check;
mod plan;
mod pool;
mod present;
mod ranges;
mod report;
mod resolve;
mod run;
mod sink;
#[cfg(test)]
pub(crate) mod tests;
mod transfer;
mod verify;
mod window;
mod window_builder;

pub use backup::{BackupReader, Entries};
pub use impact::{HurtBackup, damage_impact};
pub use options::ReadOptions;
pub(crate) use pack_check::is_whole;
pub use pack_check::{CheckedPack, check_pack_bytes};
pub use plan::Selection;
pub(crate) use plan::blocking;
pub use present::PresentFiles;
pub use report::{ContentDamage, ContentDamages, ContentReport};
pub use sink::{DiscardSink, FileInfo, FileSink};
pub use transfer::Progress;
pub use verify::{VerifyDepth, VerifyReport};
pub use window::WindowLimits;
