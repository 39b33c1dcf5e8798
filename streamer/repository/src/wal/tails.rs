//! Tails: the bytes of an unfinished segment, made durable as they come.
//!
//! A streamer writes its tails one behind the other; their names say what they hold. A segment that fills slowly would
//! gather thousands, so above [`MOST`] the last ones are written together into one cumulative tail that replaces them,
//! together with every earlier one that is not more than twice as long: so any number of tails stays below `MOST` plus a
//! few, and each byte is rewritten a logarithmic number of times. Neither this nor removing what was replaced is ever
//! part of an acknowledgement.

use hardstorage_report::{Error, Lsn, Result, SegmentName, Timeline, code};
use hardstorage_storage::{Created, Key};

use super::facts::RecordFacts;
use super::format::WalKind;
use super::metadata::WalMetadata;
use super::object_reader::WalObject;
use super::object_stream::{WalCursor, WalStream};
use super::object_writer::ObjectWriter;
use super::trailer::read_trailer;
use super::{Place, WalArchive, compare, split_brain};
use crate::listing::{Objects, folders};
use crate::{WriterId, layout};

/// How many tails of one segment a streamer leaves beside each other.
pub(super) const MOST: usize = 64;

/// What a tail holds, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TailSpan {
    /// The first byte.
    pub from: Lsn,
    /// The first byte behind it.
    pub to: Lsn,
    /// Who wrote it.
    pub streamer: WriterId,
}

impl TailSpan {
    fn length(self) -> u64 {
        self.from.bytes_until(self.to)
    }

    /// Reads `<from>-<to>-<streamer>`.
    fn from_name(text: &str) -> Option<TailSpan> {
        let mut parts = text.splitn(3, '-');
        let mut lsn = || {
            let text = parts.next()?;
            let well_formed =
                text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b));
            well_formed.then(|| u64::from_str_radix(text, 16).ok().map(Lsn))?
        };
        let (from, to) = (lsn()?, lsn()?);
        let streamer = WriterId::from_hex(parts.next()?)?;
        (from < to).then_some(TailSpan { from, to, streamer })
    }
}

/// A stored tail.
#[derive(Debug, Clone)]
pub(super) struct Tail {
    pub segment: SegmentName,
    pub span: TailSpan,
    pub key: Key,
    pub size: u64,
}

impl Tail {
    fn place(&self) -> Place {
        Place {
            timeline: self.segment.timeline,
            start: self.span.from,
            length: self.span.length(),
        }
    }

    /// Opens it; `None` when it was removed since it was listed.
    pub(super) async fn open(&self, archive: &WalArchive) -> Result<Option<WalObject>> {
        WalObject::open(archive, &self.key, Some(self.size), WalKind::Tail, self.place()).await
    }

    /// What it says about itself.
    pub(super) async fn metadata(&self, archive: &WalArchive) -> Result<WalMetadata> {
        let trailer = read_trailer(archive, &self.key, self.size, WalKind::Tail, self.place()).await?;
        Ok(trailer.metadata)
    }
}

/// Writes the tails of one segment for one streamer.
#[derive(Debug)]
pub struct TailWriter {
    archive: WalArchive,
    segment: SegmentName,
    streamer: WriterId,
    /// The tails that are not replaced, in order, without gap.
    live: Vec<TailSpan>,
    replaced: Vec<Key>,
    compared: bool,
}

impl TailWriter {
    /// The first byte behind everything that is durable; `None` before the first tail.
    pub fn durable(&self) -> Option<Lsn> {
        self.live.last().map(|span| span.to)
    }

    /// Makes bytes durable. They must follow the ones before; the first may begin anywhere in the segment. The first
    /// one is also compared with what other streamers stored of this segment.
    pub async fn put(&mut self, from: Lsn, bytes: &[u8], facts: RecordFacts) -> Result<Lsn> {
        let start = self.archive.start_of(self.segment)?;
        let end = start.add(self.archive.segment_size().bytes());
        let to = from.add(bytes.len() as u64);
        let follows = self.durable().is_none_or(|durable| durable == from);
        if bytes.is_empty() || !follows || from < start || to > end {
            return Err(Error::new(
                code::engine::NOT_CONTIGUOUS,
                format!(
                    "the tails of segment {} go on at {}, and {} bytes came for {from}",
                    self.segment,
                    self.durable().unwrap_or(start),
                    bytes.len()
                ),
            ));
        }
        let span = TailSpan {
            from,
            to,
            streamer: self.streamer,
        };
        let mut writer = self.object(span)?;
        writer.append(bytes).await?;
        self.commit(span, writer, facts).await?;
        self.live.push(span);
        if !self.compared {
            self.compare_with_others().await?;
            self.compared = true;
        }
        Ok(to)
    }

    fn key(&self, span: TailSpan) -> Key {
        self.archive.tail_key(self.segment, span)
    }

    fn object(&self, span: TailSpan) -> Result<ObjectWriter> {
        let place = Place {
            timeline: self.segment.timeline,
            start: span.from,
            length: span.length(),
        };
        ObjectWriter::new(&self.archive, self.key(span), WalKind::Tail, place)
    }

    async fn commit(&self, span: TailSpan, writer: ObjectWriter, facts: RecordFacts) -> Result<()> {
        let pending = writer.finish(&self.archive, facts).await?;
        let hash = pending.metadata().hash;
        match pending.commit().await? {
            Created::Created => Ok(()),
            Created::Exists => {
                let tail = self.archive.tail(self.segment, span).await?;
                if tail.metadata(&self.archive).await?.hash == hash {
                    Ok(())
                } else {
                    Err(split_brain(format!(
                        "tail {} is in the archive with other bytes",
                        tail.key
                    )))
                }
            }
        }
    }

    /// Compares all own tails with those of other streamers and with the finished segment, if it is there.
    async fn compare_with_others(&self) -> Result<()> {
        let others = self.archive.tails_of_others(self.segment, Some(self.streamer)).await?;
        let finished = self.archive.has_segment(self.segment).await?;
        if others.is_empty() && !finished {
            return Ok(());
        }
        for span in &self.live {
            let Some(object) = self
                .archive
                .tail(self.segment, *span)
                .await?
                .open(&self.archive)
                .await?
            else {
                continue;
            };
            let mut own = WalCursor::new(object);
            for other in &others {
                if other.span.from < span.to
                    && span.from < other.span.to
                    && let Some(object) = other.open(&self.archive).await?
                {
                    compare::overlap(self.segment, &mut own, &mut WalCursor::new(object)).await?;
                }
            }
            if finished && let Some(object) = self.archive.open_segment(self.segment).await? {
                compare::overlap(self.segment, &mut own, &mut WalCursor::new(object)).await?;
            }
        }
        Ok(())
    }

    /// Writes the last tails together when there are too many; true when it did. To be called after an
    /// acknowledgement, not before one. Compares with other streamers again.
    pub async fn consolidate(&mut self) -> Result<bool> {
        if self.live.len() <= MOST {
            return Ok(false);
        }
        let mut first = self.live.len() - MOST;
        let mut length: u64 = self.live.iter().skip(first).map(|span| span.length()).sum();
        while let Some(before) = first.checked_sub(1).and_then(|at| self.live.get(at)) {
            if before.length() > 2 * length {
                break;
            }
            length += before.length();
            first -= 1;
        }
        let (Some(begin), Some(end)) = (self.live.get(first).copied(), self.live.last().copied()) else {
            return Ok(false);
        };
        let span = TailSpan { to: end.to, ..begin };
        let mut writer = self.object(span)?;
        let mut facts = RecordFacts::default();
        for part in self.live.iter().skip(first) {
            let tail = self.archive.tail(self.segment, *part).await?;
            let object = tail
                .open(&self.archive)
                .await?
                .ok_or_else(|| Error::new(code::storage::OBJECT, format!("tail {} is gone", tail.key)))?;
            let mut said = object.metadata.facts.clone();
            said.restore_points.clone_from(&object.directory.restore_points);
            facts.join(&said);
            let mut stream = WalStream::new(object);
            while let Some(bytes) = stream.next().await? {
                writer.append(&bytes).await?;
            }
        }
        self.commit(span, writer, facts).await?;
        let replaced: Vec<Key> = self
            .live
            .drain(first..)
            .map(|part| self.archive.tail_key(self.segment, part))
            .collect();
        self.replaced.extend(replaced);
        self.live.push(span);
        self.compare_with_others().await?;
        Ok(true)
    }

    /// Removes the tails that a cumulative one has replaced. Best effort; what fails is tried again by the next call.
    pub async fn drop_replaced(&mut self) -> Result<()> {
        while let Some(key) = self.replaced.last() {
            self.archive.deployment().store().delete(key).await?;
            self.replaced.pop();
        }
        Ok(())
    }
}

impl WalArchive {
    fn tail_key(&self, segment: SegmentName, span: TailSpan) -> Key {
        layout::tail(
            self.deployment().name(),
            self.lineage(),
            segment,
            span.from,
            span.to,
            &span.streamer,
        )
    }

    async fn tail(&self, segment: SegmentName, span: TailSpan) -> Result<Tail> {
        let key = self.tail_key(segment, span);
        let meta = self.deployment().store().head(&key).await?;
        let size = meta
            .ok_or_else(|| Error::new(code::storage::OBJECT, format!("tail {key} is gone")))?
            .size;
        Ok(Tail {
            segment,
            span,
            key,
            size,
        })
    }

    /// Begins to write tails of a segment.
    pub fn tail_writer(&self, segment: SegmentName, streamer: WriterId) -> Result<TailWriter> {
        self.start_of(segment)?;
        Ok(TailWriter {
            archive: self.clone(),
            segment,
            streamer,
            live: Vec::new(),
            replaced: Vec::new(),
            compared: false,
        })
    }

    /// The tails of a segment, by their first byte.
    pub async fn list_tails(&self, segment: SegmentName) -> Result<Vec<TailSpan>> {
        Ok(self.tails_of(segment).await?.iter().map(|tail| tail.span).collect())
    }

    pub(super) async fn tails_of(&self, segment: SegmentName) -> Result<Vec<Tail>> {
        let folder = layout::tails_folder(self.deployment().name(), self.lineage(), segment);
        let (start, size) = (self.start_of(segment)?, self.segment_size().bytes());
        let objects = Objects::under(self.deployment().store(), folder).all().await?;
        let tails = objects.into_iter().filter_map(|object| {
            let span = TailSpan::from_name(object.key.base_name())
                .filter(|span| span.from >= start && span.to <= start.add(size));
            if span.is_none() {
                tracing::warn!(key = %object.key, "an object that is not a tail lies among the tails");
            }
            Some(Tail {
                segment,
                span: span?,
                key: object.key,
                size: object.size,
            })
        });
        Ok(tails.collect())
    }

    pub(super) async fn tails_of_others(&self, segment: SegmentName, own: Option<WriterId>) -> Result<Vec<Tail>> {
        let mut tails = self.tails_of(segment).await?;
        tails.retain(|tail| Some(tail.span.streamer) != own);
        Ok(tails)
    }

    /// The segments of a timeline that have tails, in order.
    pub async fn segments_with_tails(&self, timeline: Timeline) -> Result<Vec<SegmentName>> {
        let root = layout::lineage_folder(self.deployment().name(), self.lineage());
        let folder = format!("{root}tails/{}/", timeline.hex());
        let names = folders(self.deployment().store(), &folder).await?;
        Ok(names
            .iter()
            .filter_map(|name| name.parse::<SegmentName>().ok())
            .filter(|name| name.timeline == timeline && name.start(self.segment_size()).is_some())
            .collect())
    }

    /// Removes the tails of a segment that is durable; how many. Those of other streamers than `own` are compared with
    /// the segment first: bytes that differ are kept as evidence and reported. Does nothing while the segment is not
    /// there.
    pub async fn drop_tails(&self, segment: SegmentName, own: Option<WriterId>) -> Result<u64> {
        let tails = self.tails_of(segment).await?;
        if tails.is_empty() {
            return Ok(0);
        }
        let Some(object) = self.open_segment(segment).await? else {
            return Ok(0);
        };
        self.deployment().store().sync().await?;
        let mut finished = WalCursor::new(object);
        let mut dropped = 0;
        for tail in tails {
            if Some(tail.span.streamer) != own {
                let Some(object) = tail.open(self).await? else { continue };
                compare::overlap(segment, &mut finished, &mut WalCursor::new(object)).await?;
            }
            dropped += u64::from(self.deployment().store().delete(&tail.key).await?);
        }
        Ok(dropped)
    }
}
