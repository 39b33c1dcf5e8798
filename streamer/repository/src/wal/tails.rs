//! Tails: the bytes of an unfinished segment, made durable as they come. Their names say what they hold.

use hardstorage_report::{Error, Lsn, Result, SegmentName, Timeline, code};
use hardstorage_storage::Key;

use super::format::WalKind;
use super::metadata::WalMetadata;
use super::object_reader::WalObject;
use super::object_stream::WalCursor;
use super::trailer::read_trailer;
use super::{Place, WalArchive, compare};
use crate::listing::{Objects, folders};
use crate::{WriterId, layout};

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
    pub(super) fn length(self) -> u64 {
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

impl WalArchive {
    pub(super) fn tail_key(&self, segment: SegmentName, span: TailSpan) -> Key {
        layout::tail(
            self.deployment().name(),
            self.lineage(),
            segment,
            span.from,
            span.to,
            &span.streamer,
        )
    }

    pub(super) async fn tail(&self, segment: SegmentName, span: TailSpan) -> Result<Tail> {
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

    /// Removes one tail, which another that is durable holds too; true when it was there.
    pub async fn drop_tail(&self, segment: SegmentName, span: TailSpan) -> Result<bool> {
        self.deployment().store().delete(&self.tail_key(segment, span)).await
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
