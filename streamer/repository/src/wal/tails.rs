//! Tails: the bytes of an unfinished segment, made durable as they come. The name of a tail says what it holds; the name of
//! a journal, which grows, says only where it begins, and it is gone through to know where it ends.

use std::collections::BTreeMap;

use hardstorage_report::{Error, Kind, Lsn, Result, SegmentName, Timeline, code};
use hardstorage_storage::{Key, ObjectMeta};

use super::facts::{RecordFacts, ServerTime};
use super::format::WalKind;
use super::journal_scan::JournalScan;
use super::metadata::WalMetadata;
use super::object_reader::WalObject;
use super::object_stream::WalCursor;
use super::trailer::read_trailer;
use super::{Place, WalArchive, compare};
use crate::listing::{Objects, folders};
use crate::{WriterId, layout};

/// What a tail or a journal holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TailSpan {
    /// The first byte.
    pub from: Lsn,
    /// The first byte behind it; of a journal when it was looked at.
    pub to: Lsn,
    /// Who wrote it.
    pub streamer: WriterId,
    /// Whether it is a journal.
    pub journal: bool,
}

impl TailSpan {
    pub(super) fn length(self) -> u64 {
        self.from.bytes_until(self.to)
    }
}

/// What the name of a tail or a journal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TailName {
    pub(super) from: Lsn,
    /// `None`: a journal.
    pub(super) to: Option<Lsn>,
    pub(super) streamer: WriterId,
}

impl TailName {
    /// Reads `<from>-<to>-<streamer>`, or `<from>-journal-<streamer>`.
    pub(super) fn parse(text: &str) -> Option<TailName> {
        let lsn = |text: &str| {
            let well_formed =
                text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b));
            well_formed.then(|| u64::from_str_radix(text, 16).ok().map(Lsn))?
        };
        let mut parts = text.splitn(3, '-');
        let from = lsn(parts.next()?)?;
        let to = match parts.next()? {
            layout::JOURNAL => None,
            text => Some(lsn(text)?),
        };
        let streamer = WriterId::from_hex(parts.next()?)?;
        (to.is_none_or(|to| from < to)).then_some(TailName { from, to, streamer })
    }

    /// Where it ends; of a journal when `end` was seen.
    fn span(self, end: Lsn) -> TailSpan {
        TailSpan {
            from: self.from,
            to: self.to.unwrap_or(end),
            streamer: self.streamer,
            journal: self.to.is_none(),
        }
    }
}

/// A tail or a journal by its name alone.
#[derive(Debug, Clone)]
pub(super) struct TailObject {
    pub(super) segment: SegmentName,
    pub(super) name: TailName,
    pub(super) key: Key,
    pub(super) size: u64,
}

/// A stored tail.
#[derive(Debug, Clone)]
pub(super) struct Tail {
    pub segment: SegmentName,
    pub span: TailSpan,
    pub key: Key,
    pub size: u64,
    /// Of a journal: what was found in it.
    pub journal: Option<Box<JournalScan>>,
}

/// `None` when the tail that was read was removed meanwhile.
pub(super) fn unless_gone<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is(code::storage::OBJECT) => Ok(None),
        Err(error) => Err(error),
    }
}

impl TailObject {
    fn place(&self) -> Place {
        Place {
            timeline: self.segment.timeline,
            start: self.name.from,
            length: self.name.to.map_or(0, |to| self.name.from.bytes_until(to)),
        }
    }

    /// Goes through a journal; `None` when it was removed since it was listed.
    async fn scan(&self, archive: &WalArchive, until: Option<Lsn>) -> Result<Option<JournalScan>> {
        unless_gone(JournalScan::new(archive, &self.key, self.size, self.place(), until).await)
    }

    /// What it holds; `None` when it is a journal that was removed since it was listed.
    pub(super) async fn look(self, archive: &WalArchive) -> Result<Option<Tail>> {
        let (mut end, mut journal) = (self.name.from, None);
        if self.name.to.is_none() {
            let Some(scan) = self.scan(archive, None).await? else {
                return Ok(None);
            };
            end = scan.sound(&self.key)?.metadata.end();
            journal = Some(Box::new(scan));
        }
        Ok(Some(Tail {
            segment: self.segment,
            span: self.name.span(end),
            key: self.key,
            size: self.size,
            journal,
        }))
    }

    /// The span alone. Of a journal that is damaged what lies before the damage: whoever reads it will be told.
    pub(super) async fn span(&self, archive: &WalArchive) -> Result<Option<TailSpan>> {
        if let Some(to) = self.name.to {
            return Ok(Some(self.name.span(to)));
        }
        let scan = match self.scan(archive, None).await {
            Ok(Some(scan)) => scan,
            Ok(None) => return Ok(None),
            Err(error) if error.kind() == Kind::Verify => {
                tracing::warn!(key = %self.key, %error, "a journal is damaged, and nothing of it counts");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if let Some(damage) = &scan.damage {
            tracing::warn!(key = %self.key, damage, "a journal is damaged, and counts up to there");
        }
        let span = self.name.span(scan.metadata.end());
        Ok((span.from < span.to).then_some(span))
    }
}

impl Tail {
    fn place(&self) -> Place {
        Place {
            timeline: self.segment.timeline,
            start: self.span.from,
            length: self.span.length(),
        }
    }

    /// Opens it; `None` when it was removed since it was listed. A journal as far as it was when it was looked at.
    pub(super) async fn open(&self, archive: &WalArchive) -> Result<Option<WalObject>> {
        if let Some(scan) = &self.journal {
            return WalObject::of_journal(archive, &self.key, scan).await;
        }
        // A large one is opened by several reads, and its segment may be finished between two of them.
        let opened = WalObject::open(archive, &self.key, Some(self.size), WalKind::Tail, self.place()).await;
        Ok(unless_gone(opened)?.flatten())
    }

    /// What it says about itself.
    pub(super) async fn metadata(&self, archive: &WalArchive) -> Result<WalMetadata> {
        if let Some(scan) = &self.journal {
            return Ok(scan.metadata.clone());
        }
        let trailer = read_trailer(archive, &self.key, self.size, WalKind::Tail, self.place()).await?;
        Ok(trailer.metadata)
    }

    /// What is certain of the part before `end`.
    pub(super) async fn facts_until(&self, archive: &WalArchive, end: Lsn) -> Result<RecordFacts> {
        if self.journal.is_some() && self.span.to > end {
            // What came behind the end since it was looked for must not take away what is known before it.
            let scan = JournalScan::new(archive, &self.key, self.size, self.place(), Some(end)).await?;
            return Ok(scan.sound(&self.key)?.metadata.facts.clone());
        }
        let mut facts = self.metadata(archive).await?.facts;
        if self.span.to > end {
            facts.end_at(end);
        }
        Ok(facts)
    }
}

impl WalArchive {
    pub(super) fn tail_key(&self, segment: SegmentName, span: TailSpan) -> Key {
        let (name, lineage) = (self.deployment().name(), self.lineage());
        if span.journal {
            layout::journal(name, lineage, segment, span.from, &span.streamer)
        } else {
            layout::tail(name, lineage, segment, span.from, span.to, &span.streamer)
        }
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
            journal: None,
        })
    }

    /// The tails of a segment, by their first byte.
    pub async fn list_tails(&self, segment: SegmentName) -> Result<Vec<TailSpan>> {
        let mut spans = Vec::new();
        for object in self.tail_objects(segment).await? {
            spans.extend(object.span(self).await?);
        }
        Ok(spans)
    }

    /// The tails and journals of a segment by their names.
    pub(super) async fn tail_objects(&self, segment: SegmentName) -> Result<Vec<TailObject>> {
        let folder = layout::tails_folder(self.deployment().name(), self.lineage(), segment);
        let mut tails = Vec::new();
        for object in Objects::under(self.deployment().store(), folder).all().await? {
            tails.extend(self.tail_object(segment, object)?);
        }
        Ok(tails)
    }

    /// What a listing shows among the tails of a segment; one that is none is passed over, loudly.
    fn tail_object(&self, segment: SegmentName, object: ObjectMeta) -> Result<Option<TailObject>> {
        let ObjectMeta { key, size, .. } = object;
        let start = self.start_of(segment)?;
        let end = start.add(self.segment_size().bytes());
        let name = TailName::parse(key.base_name())
            .filter(|name| name.from >= start && name.from < end && name.to.is_none_or(|to| to <= end));
        if name.is_none() {
            tracing::warn!(%key, "an object that is not a tail lies among the tails");
        }
        Ok(name.map(|name| TailObject {
            segment,
            name,
            key,
            size,
        }))
    }

    /// The tails and journals of every segment of a timeline from `first` on, by their names and in order.
    pub(super) async fn tails_from(&self, timeline: Timeline, first: Lsn) -> Result<BTreeMap<Lsn, Vec<TailObject>>> {
        let root = layout::lineage_folder(self.deployment().name(), self.lineage());
        let folder = format!("{root}tails/{}/", timeline.hex());
        let objects = Objects::under(self.deployment().store(), folder.clone()).all().await?;
        let mut found = BTreeMap::<Lsn, Vec<TailObject>>::new();
        for object in objects {
            let segment = object
                .key
                .as_str()
                .strip_prefix(&folder)
                .and_then(|rest| rest.split_once('/'));
            let segment = segment.and_then(|(segment, _)| segment.parse::<SegmentName>().ok());
            let Some(segment) = segment.filter(|segment| segment.timeline == timeline) else {
                continue;
            };
            let Some(start) = segment.start(self.segment_size()).filter(|start| *start >= first) else {
                continue;
            };
            found
                .entry(start)
                .or_default()
                .extend(self.tail_object(segment, object)?);
        }
        Ok(found)
    }

    pub(super) async fn tails_of(&self, segment: SegmentName) -> Result<Vec<Tail>> {
        self.tails_of_others(segment, None).await
    }

    pub(super) async fn tails_of_others(&self, segment: SegmentName, own: Option<WriterId>) -> Result<Vec<Tail>> {
        let mut tails = Vec::new();
        for object in self.tail_objects(segment).await? {
            if Some(object.name.streamer) != own {
                tails.extend(object.look(self).await?);
            }
        }
        Ok(tails)
    }

    /// Up to which time of the server's clock the tails of a segment say that nothing is missing from them. The finished
    /// segment holds all that they hold, so it may say the same.
    pub async fn tails_complete_up_to(&self, segment: SegmentName) -> Result<Option<ServerTime>> {
        let mut known = None;
        for tail in self.tails_of(segment).await? {
            match tail.metadata(self).await {
                Ok(metadata) => known = known.max(metadata.facts.complete_up_to),
                // Removed since it was listed: whoever wrote it has said as much with something newer.
                Err(error) if error.is(code::storage::OBJECT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(known)
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
    /// the segment first: bytes that differ are kept as evidence and reported. A journal of another that does not reach
    /// the end of the segment stays, because its streamer may be about to write into it; see
    /// [`WalArchive::drop_left_behind`]. Does nothing while the segment is not there.
    pub async fn drop_tails(&self, segment: SegmentName, own: Option<WriterId>) -> Result<u64> {
        self.drop_compared(segment, own, false).await
    }

    /// The same with every journal, for a segment behind which others are finished: a streamer that comes so late finds
    /// that its journal is gone, acknowledges nothing more, and begins anew.
    pub async fn drop_left_behind(&self, segment: SegmentName) -> Result<u64> {
        self.drop_compared(segment, None, true).await
    }

    async fn drop_compared(&self, segment: SegmentName, own: Option<WriterId>, growing: bool) -> Result<u64> {
        let objects = self.tail_objects(segment).await?;
        if objects.is_empty() {
            return Ok(0);
        }
        let Some(object) = self.open_segment(segment).await? else {
            return Ok(0);
        };
        self.deployment().store().sync().await?;
        let mut finished = WalCursor::new(object);
        let mut dropped = 0;
        for object in objects {
            let key = object.key.clone();
            if Some(object.name.streamer) != own {
                let Some(tail) = object.look(self).await? else { continue };
                let Some(object) = tail.open(self).await? else { continue };
                compare::overlap(segment, &mut finished, &mut WalCursor::new(object)).await?;
                if tail.span.journal && !growing && tail.span.to < finished.object.metadata.end() {
                    continue;
                }
            }
            dropped += u64::from(self.deployment().store().delete(&key).await?);
        }
        Ok(dropped)
    }
}
