//! Whether a record begins at or behind a position. PostgreSQL stops at records, not at bytes: a target within the last
//! record of the archive, or in the padding behind it, is one that recovery never meets, and it says so only after
//! everything was replayed.

use hardstorage_report::{Lsn, Result};
use hardstorage_repository::wal::{Coverage, PieceSource, WalArchive};

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
        let size = archive.segment_size();
        let scanner = scanner.get_or_insert_with(|| Scanner::new(piece.range.from.segment_start(size), size));
        let mut take = |bytes: &[u8]| {
            // What lies behind the end of the piece is of a branch that recovery does not follow.
            let room = usize::try_from(scanner.position().bytes_until(piece.range.to)).unwrap_or(usize::MAX);
            scanner.push(bytes.get(..room).unwrap_or(bytes), &mut |_| {});
            let found = scanner.last_record().is_some_and(|start| start >= position);
            found.then(|| scanner.position())
        };
        match piece.source {
            PieceSource::Segment => {
                let Some(mut stream) = archive.read_segment(piece.segment).await? else {
                    return Ok(None);
                };
                while let Some(bytes) = stream.next().await? {
                    if let Some(end) = take(&bytes) {
                        return Ok(Some(end));
                    }
                }
            }
            PieceSource::Tails => {
                let Some(mut tails) = archive.assemble(piece.segment).await? else {
                    return Ok(None);
                };
                while let Some(bytes) = tails.next().await? {
                    if let Some(end) = take(&bytes) {
                        return Ok(Some(end));
                    }
                }
            }
        }
    }
    Ok(None)
}
