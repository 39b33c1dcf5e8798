//! Turns what the scanner finds into the facts that the archive stores beside a piece of WAL.

use hardstorage_report::{Lsn, SegmentSize};
use hardstorage_repository::wal::{CommitAt, RecordFacts, RestorePoint};

use super::{Found, FoundKind, Scanner};

/// Scans a stream of WAL and gathers its facts, piece by piece.
///
/// A record belongs to the piece in which it *ends*: only then is it whole. Give the bytes of one piece, take its
/// facts, go on with the next piece.
#[derive(Debug)]
pub struct FactsCollector {
    scanner: Scanner,
    facts: RecordFacts,
    clean_stop: Option<Lsn>,
}

impl FactsCollector {
    /// Begins at a position: a segment's start, or anywhere.
    pub fn new(start: Lsn, segment_size: SegmentSize) -> FactsCollector {
        FactsCollector {
            scanner: Scanner::new(start, segment_size),
            facts: RecordFacts::default(),
            clean_stop: None,
        }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        let FactsCollector {
            scanner,
            facts,
            clean_stop,
        } = self;
        let before = scanner.records_end();
        scanner.push(bytes, &mut |found: Found| match found.kind {
            FoundKind::Commit(time) => facts.note_commit(CommitAt { lsn: found.lsn, time }),
            FoundKind::RestorePoint { name, time } => facts.restore_points.push(RestorePoint {
                name,
                lsn: found.lsn,
                time,
            }),
            FoundKind::Checkpoint { shutdown: true, .. } => *clean_stop = Some(found.end),
            FoundKind::Abort(_) | FoundKind::Checkpoint { .. } | FoundKind::Switch => {}
        });
        if scanner.records_end() != before {
            facts.records_end = scanner.records_end();
        }
    }

    /// The facts since the last call.
    pub fn take(&mut self) -> RecordFacts {
        std::mem::take(&mut self.facts)
    }

    /// The position of the next byte that is expected.
    pub fn position(&self) -> Lsn {
        self.scanner.position()
    }

    /// See [`Scanner::follows`].
    pub fn follows(&self) -> bool {
        self.scanner.follows()
    }

    /// The end of a shutdown checkpoint, if the last whole record is one: the server has stopped cleanly.
    pub fn clean_stop(&self) -> Option<Lsn> {
        self.clean_stop.filter(|end| self.scanner.records_end() == Some(*end))
    }

    /// See [`Scanner::refused`].
    pub fn refused(&self) -> u64 {
        self.scanner.refused()
    }
}
