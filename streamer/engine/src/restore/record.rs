//! Whether a record begins at or behind a position, and which one is the last. PostgreSQL stops at records, not at bytes:
//! a target within the last record of the archive, or in the padding behind it, is one that recovery never meets, and it
//! says so only after everything was replayed.

use hardstorage_report::{Lsn, Result};
use hardstorage_repository::wal::{Coverage, Piece, PieceSource, WalArchive};

use crate::records::Scanner;

/// Whether recovery along this coverage meets a whole record that begins at or behind `position`.
pub(crate) async fn meets(archive: &WalArchive, coverage: &Coverage, position: Lsn) -> Result<bool> {
    Ok(first_behind(archive, coverage, position).await?.is_some())
}

/// How far recovery has to read to have a whole record that begins at or behind `position`; `None` when there is none.
/// Reads from the segment of the position to the first such record: nearly always a part of one segment.
pub(super) async fn first_behind(archive: &WalArchive, coverage: &Coverage, position: Lsn) -> Result<Option<Lsn>> {
    let mut scanner: Option<Scanner> = None;
    for piece in coverage.pieces_from(position) {
        let scanner = scanner.get_or_insert_with(|| at_segment(archive, piece));
        let mut arrived = |scanner: &Scanner| scanner.last_record().is_some_and(|start| start >= position);
        match walk(archive, piece, scanner, &mut arrived).await? {
            Walked::Found(end) => return Ok(Some(end)),
            Walked::Through => {}
            Walked::Missing => return Ok(None),
        }
    }
    Ok(None)
}

/// Where the records of the archive end.
pub(super) struct Tip {
    /// Where the last whole record begins.
    pub(super) start: Option<Lsn>,
    /// Where it ends: what lies behind belongs to no whole record.
    pub(super) end: Lsn,
}

/// The last whole record of the coverage at or behind `from`; `None` when the archive holds something else than WAL behind
/// it. Reads the last segment, and those before it only when the record is longer than that.
pub(super) async fn last(archive: &WalArchive, coverage: &Coverage, from: Lsn) -> Result<Option<Tip>> {
    let pieces = coverage.pieces_from(from);
    for (begin, first) in pieces.iter().enumerate().rev() {
        let mut scanner = at_segment(archive, first);
        for piece in pieces.iter().skip(begin) {
            if let Walked::Missing = walk(archive, piece, &mut scanner, &mut |_| false).await? {
                return Ok(None);
            }
        }
        if begin > 0 && scanner.last_record().is_none() {
            continue;
        }
        return Ok(scanner.follows().then(|| Tip {
            start: scanner.last_record().filter(|start| *start >= from),
            end: scanner.records_end().map_or(from, |end| end.max(from)),
        }));
    }
    Ok(None)
}

fn at_segment(archive: &WalArchive, piece: &Piece) -> Scanner {
    let size = archive.segment_size();
    Scanner::new(piece.range.from.segment_start(size), size)
}

/// How the walk over a piece ended.
enum Walked {
    /// What was looked for was found, and so far it was read.
    Found(Lsn),
    Through,
    /// What it was read from is gone.
    Missing,
}

/// Shows the scanner a piece until it has `found` something.
async fn walk(
    archive: &WalArchive,
    piece: &Piece,
    scanner: &mut Scanner,
    found: &mut (dyn FnMut(&Scanner) -> bool + Send),
) -> Result<Walked> {
    let mut take = |bytes: &[u8]| {
        // What lies behind the end of the piece is of a branch that recovery does not follow.
        let room = usize::try_from(scanner.position().bytes_until(piece.range.to)).unwrap_or(usize::MAX);
        scanner.push(bytes.get(..room).unwrap_or(bytes), &mut |_| {});
        found(scanner).then(|| scanner.position())
    };
    match piece.source {
        PieceSource::Segment => {
            let Some(mut stream) = archive.read_segment(piece.segment).await? else {
                return Ok(Walked::Missing);
            };
            while let Some(bytes) = stream.next().await? {
                if let Some(end) = take(&bytes) {
                    return Ok(Walked::Found(end));
                }
            }
        }
        PieceSource::Tails => {
            let Some(mut tails) = archive.assemble(piece.segment).await? else {
                return Ok(Walked::Missing);
            };
            while let Some(bytes) = tails.next().await? {
                if let Some(end) = take(&bytes) {
                    return Ok(Walked::Found(end));
                }
            }
        }
    }
    Ok(Walked::Through)
}
