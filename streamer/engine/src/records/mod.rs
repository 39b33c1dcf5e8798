//! WAL records: reads commits, restore points and checkpoints out of a stream of WAL as it passes.
//!
//! Pure: no IO, no clock. [`Scanner`] walks pages and records and reports what it finds; [`FactsCollector`] turns that
//! into the [`RecordFacts`] which the archive stores beside each piece of WAL. Memory does not depend on the size of
//! records: of a record only its header and, where it matters, the beginning of its data are kept.
//!
//! Sources: `access/xlogrecord.h`, `access/xlog_internal.h`, `access/xact.h`, `catalog/pg_control.h`,
//! `backend/access/transam/xlogreader.c` of PostgreSQL 15 to 18; the tests compare with what `pg_waldump` prints.
//!
//! [`RecordFacts`]: hardstorage_repository::wal::RecordFacts

mod collector;
mod page;
mod record;
mod scanner;
mod segment_header;
#[cfg(test)]
pub(crate) mod tests;

pub use collector::FactsCollector;
pub use record::{Found, FoundKind};
pub use scanner::Scanner;
pub use segment_header::SegmentHeader;
