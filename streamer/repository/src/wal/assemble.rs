//! Puts a segment together from tails.
//!
//! Goes forward through the segment in windows of a frame's length. In each window the bytes come from the tail that
//! reaches farthest; every other tail that touches the window is read too and must hold the same bytes.

use std::ops::Range;

use bytes::Bytes;
use hardstorage_report::{Error, Lsn, Result, Retry, SegmentName, code};

use super::coverage::LsnRange;
use super::format::FRAME_LEN;
use super::object_stream::WalCursor;
use super::tails::Tail;
use super::{WalArchive, split_brain};

/// The bytes of an unfinished segment, in order.
#[derive(Debug)]
pub struct Assembled {
    archive: WalArchive,
    segment: SegmentName,
    /// By their first byte; opened when the walk reaches them and dropped behind it.
    waiting: std::collections::VecDeque<Tail>,
    open: Vec<WalCursor>,
    range: LsnRange,
    beyond: Option<Lsn>,
    at: Lsn,
    scratch: Vec<u8>,
}

/// How far tails reach without a hole: the range from their first byte, and the first byte behind the hole if there is
/// one.
pub(super) fn reach(spans: impl IntoIterator<Item = (Lsn, Lsn)>) -> Option<(LsnRange, Option<Lsn>)> {
    let mut spans: Vec<(Lsn, Lsn)> = spans.into_iter().collect();
    spans.sort_unstable();
    let (from, mut to) = *spans.first()?;
    for (start, end) in spans {
        if start > to {
            return Some((LsnRange { from, to }, Some(start)));
        }
        to = to.max(end);
    }
    Some((LsnRange { from, to }, None))
}

impl WalArchive {
    /// What the tails of a segment hold together, from its start (or from where the archive begins) up to the highest
    /// byte without a hole. `None` without tails.
    pub async fn assemble(&self, segment: SegmentName) -> Result<Option<Assembled>> {
        let tails = self.tails_of(segment).await?;
        Ok(Assembled::new(self, segment, tails))
    }
}

impl Assembled {
    pub(super) fn new(archive: &WalArchive, segment: SegmentName, mut tails: Vec<Tail>) -> Option<Assembled> {
        tails.sort_by_key(|tail| tail.span);
        let (range, beyond) = reach(tails.iter().map(|tail| (tail.span.from, tail.span.to)))?;
        Some(Assembled {
            archive: archive.clone(),
            segment,
            waiting: tails.into(),
            open: Vec::new(),
            range,
            beyond,
            at: range.from,
            scratch: Vec::new(),
        })
    }

    /// The bytes that come.
    pub fn range(&self) -> LsnRange {
        self.range
    }

    /// The first byte behind a hole, when tails are there beyond one.
    pub fn beyond_hole(&self) -> Option<Lsn> {
        self.beyond
    }

    /// Opens every tail now: what is removed from the store later cannot be missed any more, as far as tails are small
    /// enough to be read at once.
    pub(super) async fn open_all(&mut self) -> Result<()> {
        let behind = self.range.to;
        self.open_for(&(self.at..behind)).await
    }

    /// The next bytes, at most 1 MiB; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.at >= self.range.to {
            return Ok(None);
        }
        let frame = FRAME_LEN as u64;
        let window = self.at..Lsn((self.at.0 / frame + 1).saturating_mul(frame)).min(self.range.to);
        self.open_for(&window).await?;
        let mut out = Vec::with_capacity(FRAME_LEN);
        let mut at = window.start;
        while at < window.end {
            let best = (0..self.open.len())
                .filter_map(|index| {
                    self.open
                        .get(index)
                        .map(|cursor| (cursor.object.metadata.clone(), index))
                })
                .filter(|(metadata, _)| metadata.start <= at && at < metadata.end())
                .max_by_key(|(metadata, _)| metadata.end());
            let Some((metadata, index)) = best else {
                return Err(Error::new(
                    code::repository::WAL_GAP,
                    format!("no tail of segment {} holds {at}", self.segment),
                ));
            };
            let to = metadata.end().min(window.end);
            if let Some(cursor) = self.open.get_mut(index) {
                cursor.read(at..to, &mut out).await?;
            }
            at = to;
        }
        self.compare(&window, &out).await?;
        self.at = window.end;
        let end = window.end;
        self.open.retain(|cursor| cursor.object.metadata.end() > end);
        Ok(Some(out.into()))
    }

    async fn open_for(&mut self, window: &Range<Lsn>) -> Result<()> {
        while let Some(tail) = self.waiting.front().filter(|tail| tail.span.from < window.end).cloned() {
            self.waiting.pop_front();
            let object = tail.open(&self.archive).await?.ok_or_else(|| {
                Error::new(
                    code::storage::OBJECT,
                    format!("tail {} was removed while it was read", tail.key),
                )
                .retry(Retry::Now)
            })?;
            self.open.push(WalCursor::new(object));
        }
        Ok(())
    }

    /// Every tail that touches the window must hold what was put out.
    async fn compare(&mut self, window: &Range<Lsn>, out: &[u8]) -> Result<()> {
        for cursor in &mut self.open {
            let from = cursor.object.metadata.start.max(window.start);
            let to = cursor.object.metadata.end().min(window.end);
            if from >= to {
                continue;
            }
            self.scratch.clear();
            cursor.read(from..to, &mut self.scratch).await?;
            let offset = window.start.bytes_until(from) as usize;
            let same = out.get(offset..offset + self.scratch.len()) == Some(&self.scratch[..]);
            if !same {
                return Err(split_brain(format!(
                    "the tails of segment {} hold different bytes between {from} and {to}, one of them {}",
                    self.segment,
                    cursor.object.key()
                )));
            }
        }
        Ok(())
    }
}
