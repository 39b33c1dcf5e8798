//! Do two objects that overlap hold the same WAL? By page hashes where both hold the same part of a page, by bytes where
//! they do not. A journal has no page hashes: what one is compared with is mostly at hand as bytes.
//!
//! A tail goes when its segment is finished, which another writer may do at any moment. Then there is nothing to compare with
//! any more: who finished the segment has compared, and one name holds the same bytes for everybody.

use std::ops::Range;

use hardstorage_report::{Error, Lsn, Result, SegmentName};

use super::format::{FRAME_LEN, PAGE_LEN};
use super::object_reader::WalObject;
use super::object_stream::WalCursor;
use super::tails::{Tail, unless_gone};
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
        let mut tail = WalCursor::new(object);
        for index in 0..tail.object.pages() {
            let range = tail.object.page_range(index);
            if range.start.bytes_until(range.end) < PAGE_LEN as u64 {
                continue;
            }
            let hash = match tail.object.directory.pages.get(index) {
                Some(hash) => *hash,
                None => match unless_gone(hash_of(archive, &mut tail, range.clone()).await)? {
                    Some(hash) => hash,
                    None => break,
                },
            };
            let number = (start.bytes_until(range.start) / PAGE_LEN as u64) as usize;
            if pages.get(number) != Some(&hash) {
                return Err(diverges(segment, range.start, tail.object.key().as_str()));
            }
        }
    }
    Ok(())
}

async fn hash_of(archive: &WalArchive, tail: &mut WalCursor, page: Range<Lsn>) -> Result<u64> {
    let mut bytes = Vec::with_capacity(PAGE_LEN);
    tail.read(page, &mut bytes).await?;
    Ok(archive.deployment().key().wal_page_hash().hash64(&bytes))
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
        let edges: Vec<Range<Lsn>> = (0..tail.object.pages())
            .map(|index| tail.object.page_range(index))
            .filter(|range| range.start.bytes_until(range.end) < PAGE_LEN as u64)
            .collect();
        for range in edges {
            let mut ours = Vec::new();
            finished.read(range.clone(), &mut ours).await?;
            if unless_gone(bytes_with(segment, range.start, &ours, &mut tail).await)?.is_none() {
                break;
            }
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
        match (left.0, right.0) {
            (Some(ours), Some(theirs)) if left.1 == right.1 => {
                if ours != theirs {
                    return Err(diverges(segment, at, b.object.key().as_str()));
                }
            }
            _ => {
                let mut ours = Vec::new();
                a.read(at..next, &mut ours).await?;
                bytes_with(segment, at, &ours, b).await?;
            }
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

/// Compares bytes that begin at `from` with what an object holds of the same place.
pub(super) async fn bytes_with(segment: SegmentName, from: Lsn, bytes: &[u8], other: &mut WalCursor) -> Result<()> {
    let end = from.add(bytes.len() as u64).min(other.object.metadata.end());
    let mut at = from.max(other.object.metadata.start);
    let mut theirs = Vec::new();
    while at < end {
        let to = at.add(FRAME_LEN as u64).min(end);
        theirs.clear();
        other.read(at..to, &mut theirs).await?;
        let ours = bytes.get(from.bytes_until(at) as usize..).unwrap_or_default();
        if let Some(offset) = ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs) {
            let place = at.add(offset as u64);
            return Err(diverges(segment, place, other.object.key().as_str()));
        }
        at = to;
    }
    Ok(())
}
