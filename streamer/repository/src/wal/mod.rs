//! The WAL archive of one life of one cluster: finished segments, tails of the unfinished one, timeline histories,
//! `.partial` and `.backup` files, gap records, and the questions that are asked about all of it.
//!
//! Invariants:
//! - Every object is created once. Where a name is taken, what lies there is compared: equal bytes are a retry, other
//!   bytes are `conflict.split_brain`, never overwritten and never ignored.
//! - What `put_*` and `finish` report as stored is durable, name included (they end with the store's barrier).
//! - "Covered" is computed from LSNs along the history of a timeline, never from segment numbers.
//! - "Absent" is a type, [`ProvenAbsent`], which only the code that proved it can make: PostgreSQL takes an absent file
//!   for the end of the archive and promotes.
//!
//! The bytes of segments and tails are described in `format.rs`, those of journals in `journal.rs`; histories, aux files and gap records are envelopes.

mod ancestry;
mod arrival;
mod assemble;
mod aux;
mod check;
mod compare;
mod completion;
mod coverage;
mod directory;
mod encode;
mod expire;
mod facts;
mod fetch;
mod format;
mod frontier;
mod gaps;
mod histories;
mod history;
mod inventory;
mod journal;
mod journal_facts;
mod journal_scan;
mod journal_writer;
mod metadata;
mod moments;
mod object_reader;
mod object_stream;
mod object_writer;
mod seal;
mod segment_end;
mod segments;
mod tail_merge;
mod tail_writer;
mod tails;
mod trailer;

use std::sync::{Arc, Mutex, PoisonError};

use hardstorage_report::{Error, Lsn, Result, SegmentName, SegmentSize, Timeline, code};

use crate::{Deployment, Lineage};

pub(crate) use check::{NamedWal, check_bytes, check_sealed, claimed_size};

pub use ancestry::{Ancestry, Branch};
pub use assemble::Assembled;
pub use coverage::{Coverage, LsnRange, Piece, PieceSource};
pub use expire::{Expired, WalKeep};
pub use facts::{CommitAt, RecordFacts, RestorePoint, ServerTime};
pub use fetch::{Fetched, FetchedFile, ProvenAbsent};
pub use format::WalKind;
pub use frontier::{ArchiveEnd, Frontier};
pub use gaps::{DamagedGap, GapRecord, Gaps};
pub use history::{HistoryEntry, HistoryFile};
pub use metadata::WalMetadata;
pub use moments::TimeAnswer;
pub use object_stream::WalStream;
pub use segment_end::SegmentEnd;
pub use segments::{SegmentBuilder, Stored};
pub use tail_merge::{TailMerge, TailMerged};
pub use tail_writer::TailWriter;
pub use tails::TailSpan;

/// The archive of one lineage of one deployment. Cheap to clone.
#[derive(Debug, Clone)]
pub struct WalArchive(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    deployment: Deployment,
    lineage: Lineage,
    segment_size: SegmentSize,
    /// Buffers of a frame's length that wait for their next use: the first touch of memory is dear.
    buffers: Mutex<Vec<Vec<u8>>>,
}

/// Which bytes a WAL object holds, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    timeline: Timeline,
    start: Lsn,
    length: u64,
}

/// Enough for two objects that are written at once.
const KEPT_BUFFERS: usize = 6;

impl WalArchive {
    /// The archive of a cluster whose segments have this size.
    pub fn new(deployment: Deployment, lineage: Lineage, segment_size: SegmentSize) -> WalArchive {
        WalArchive(Arc::new(Inner {
            deployment,
            lineage,
            segment_size,
            buffers: Mutex::new(Vec::new()),
        }))
    }

    /// The deployment.
    pub fn deployment(&self) -> &Deployment {
        &self.0.deployment
    }

    /// Which life of which cluster.
    pub fn lineage(&self) -> Lineage {
        self.0.lineage
    }

    /// The size of a segment.
    pub fn segment_size(&self) -> SegmentSize {
        self.0.segment_size
    }

    fn take_buffer(&self) -> Vec<u8> {
        let mut buffers = self.0.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        buffers.pop().unwrap_or_default()
    }

    fn give_buffer(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut buffers = self.0.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        if buffers.len() < KEPT_BUFFERS {
            buffers.push(buffer);
        }
    }

    /// The first byte of a segment.
    fn start_of(&self, segment: SegmentName) -> Result<Lsn> {
        segment.start(self.segment_size()).ok_or_else(|| {
            Error::new(
                code::usage::INVALID,
                format!("{segment} cannot be a segment of {} bytes", self.segment_size().bytes()),
            )
        })
    }

    /// What a finished segment holds.
    fn place_of(&self, segment: SegmentName) -> Result<Place> {
        Ok(Place {
            timeline: segment.timeline,
            start: self.start_of(segment)?,
            length: self.segment_size().bytes(),
        })
    }
}

/// An object that was listed was removed.
fn vanished(key: &hardstorage_storage::Key) -> Error {
    Error::new(code::storage::OBJECT, format!("object {key} is gone"))
}

/// The alarm: the same place of WAL with other bytes.
fn split_brain(what: impl Into<String>) -> Error {
    Error::new(code::repository::SPLIT_BRAIN, what)
}
