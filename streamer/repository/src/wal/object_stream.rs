//! The raw bytes of a WAL object: ranges of them, or all in order.

use std::ops::Range;

use bytes::Bytes;
use hardstorage_codec::PlainHash;
use hardstorage_report::{Lsn, Result};

use super::journal_scan::JournalScan;
use super::metadata::WalMetadata;
use super::object_reader::{WalObject, corrupt, off_thread};

/// Reads ranges of an object, keeping the frame that was read last: made for ranges that go forward.
#[derive(Debug)]
pub(super) struct WalCursor {
    pub object: WalObject,
    frame: Option<(usize, Vec<u8>)>,
}

impl WalCursor {
    pub(super) fn new(object: WalObject) -> WalCursor {
        WalCursor { object, frame: None }
    }

    /// The object is a journal that was gone through further.
    pub(super) fn lengthen(&mut self, scan: &JournalScan) {
        self.frame = None;
        self.object.lengthen(scan);
    }

    /// Puts the bytes of a range behind what `out` holds. The range must lie within the object.
    pub(super) async fn read(&mut self, range: Range<Lsn>, out: &mut Vec<u8>) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let outside = || corrupt("a position lies outside of it").context(format!("object {}", self.object.key()));
            let number = self.object.frame_at(at).ok_or_else(outside)?;
            if self.frame.as_ref().is_none_or(|(held, _)| *held != number) {
                self.frame = Some((number, self.object.frame(number).await?.1));
            }
            let Some((_, raw)) = &self.frame else { continue };
            let start = self.object.frame_start(number).ok_or_else(outside)?;
            let from = start.bytes_until(at) as usize;
            let to = (start.bytes_until(range.end) as usize).min(raw.len());
            let piece = raw
                .get(from..to)
                .filter(|piece| !piece.is_empty())
                .ok_or_else(outside)?;
            out.extend_from_slice(piece);
            at = at.add(piece.len() as u64);
        }
        Ok(())
    }
}

/// The raw bytes of an object, frame by frame. Only the end (`None`) says that all of it was as it should be.
#[derive(Debug)]
pub struct WalStream {
    object: WalObject,
    next: usize,
    ended: bool,
    hashes: Box<Hashes>,
}

/// What was read so far. `stored` is fed only where the object was not read, and hashed, at once.
#[derive(Debug, Clone)]
struct Hashes {
    raw: PlainHash,
    stored: PlainHash,
}

impl WalStream {
    /// Reads every frame in order, checking everything.
    pub(super) fn new(object: WalObject) -> WalStream {
        WalStream {
            hashes: Box::new(Hashes {
                raw: object.raw_hash(),
                stored: PlainHash::default(),
            }),
            next: 0,
            ended: false,
            object,
        }
    }

    /// What the object is.
    pub fn metadata(&self) -> &WalMetadata {
        &self.object.metadata
    }

    /// The next bytes, at most 1 MiB; `None` after the last, when everything matched.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.ended {
            return Ok(None);
        }
        let whole = self.object.is_whole();
        if self.next == 0 && !whole {
            self.hashes.stored = PlainHash::default();
            self.hashes.stored.update(&self.object.stored_head().await?);
        }
        if self.next >= self.object.frames() {
            let stored = self.hashes.stored.clone();
            self.object.check(&self.hashes.raw, stored).await?;
            self.ended = true;
            return Ok(None);
        }
        let (stored, raw) = self.object.frame(self.next).await?;
        let mut hashes = self.hashes.clone();
        let (raw, hashes) = off_thread(move || {
            hashes.raw.update(&raw);
            if !whole {
                hashes.stored.update(&stored);
            }
            Ok((raw, hashes))
        })
        .await?;
        self.hashes = hashes;
        self.next += 1;
        Ok(Some(raw.into()))
    }
}
