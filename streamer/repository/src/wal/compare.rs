//! Do two objects that overlap hold the same WAL? By page hashes where both hold the same part of a page, by bytes where
//! they do not.

use std::ops::Range;

use hardstorage_report::{Error, Lsn, Result, SegmentName};

use super::format::PAGE_LEN;
use super::object_reader::WalObject;
use super::object_stream::WalCursor;
use super::tails::Tail;
use super::{WalArchive, split_brain};

fn diverges(segment: SegmentName, at: Lsn, other: &str) -> Error {
    split_brain(format!(
        "the WAL of segment {segment} differs at {at} from what is archived in {other}"
    ))
}

/// Compares a segment's page hashes with the whole pages of tails.
pub(super) async fn pages_with_tails(
    archive: &WalArchive,
    segment: SegmentName,
    pages: &[u64],
    tails: &[Tail],
) -> Result<()> {
    let start = archive.start_of(segment)?;
    for tail in tails {
        let Some(object) = tail.open(archive).await? else {
            continue;
        };
        for (index, hash) in object.directory.pages.iter().enumerate() {
            let range = object.page_range(index);
            if range.start.bytes_until(range.end) < PAGE_LEN as u64 {
                continue;
            }
            let number = (start.bytes_until(range.start) / PAGE_LEN as u64) as usize;
            if pages.get(number) != Some(hash) {
                return Err(diverges(segment, range.start, object.key().as_str()));
            }
        }
    }
    Ok(())
}

/// Compares the stored segment with the first and last page of tails, where they hold a part of it only.
pub(super) async fn edges_with_tails(archive: &WalArchive, segment: SegmentName, tails: &[Tail]) -> Result<()> {
    if tails.is_empty() {
        return Ok(());
    }
    let Some(object) = archive.open_segment(segment).await? else {
        return Ok(());
    };
    let mut finished = WalCursor::new(object);
    for tail in tails {
        let Some(object) = tail.open(archive).await? else {
            continue;
        };
        let mut tail = WalCursor::new(object);
        let edges: Vec<Range<Lsn>> = (0..tail.object.directory.pages.len())
            .map(|index| tail.object.page_range(index))
            .filter(|range| range.start.bytes_until(range.end) < PAGE_LEN as u64)
            .collect();
        for range in edges {
            same_bytes(segment, &mut finished, &mut tail, range).await?;
        }
    }
    Ok(())
}

/// Compares everything that two objects of one segment have in common.
pub(super) async fn overlap(segment: SegmentName, a: &mut WalCursor, b: &mut WalCursor) -> Result<()> {
    let from = a.object.metadata.start.max(b.object.metadata.start);
    let to = a.object.metadata.end().min(b.object.metadata.end());
    let mut at = from;
    while at < to {
        let (left, right) = (page_at(&a.object, at), page_at(&b.object, at));
        let next = left.1.end.min(right.1.end).min(to);
        if left.1 == right.1 {
            if left.0 != right.0 {
                return Err(diverges(segment, at, b.object.key().as_str()));
            }
        } else {
            same_bytes(segment, a, b, at..next).await?;
        }
        at = next;
    }
    Ok(())
}

/// Hash and range of the page of an object that holds a position within it.
fn page_at(object: &WalObject, at: Lsn) -> (Option<u64>, Range<Lsn>) {
    let first = object.metadata.start.0 / PAGE_LEN as u64;
    let index = (at.0 / PAGE_LEN as u64).saturating_sub(first) as usize;
    (object.directory.pages.get(index).copied(), object.page_range(index))
}

async fn same_bytes(segment: SegmentName, a: &mut WalCursor, b: &mut WalCursor, range: Range<Lsn>) -> Result<()> {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    a.read(range.clone(), &mut left).await?;
    b.read(range.clone(), &mut right).await?;
    match left.iter().zip(&right).position(|(left, right)| left != right) {
        None => Ok(()),
        Some(offset) => Err(diverges(
            segment,
            range.start.add(offset as u64),
            b.object.key().as_str(),
        )),
    }
}
