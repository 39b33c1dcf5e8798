//! What `restore_command` asks for, by name.
//!
//! PostgreSQL takes "not there" for the end of the archive: it ends recovery and promotes. So there are three answers,
//! never two: the file; [`ProvenAbsent`]; an error. Absent is proven by a look at what would contradict it: later WAL of
//! the timeline for a segment, later histories or WAL of the timeline itself for a history. What contradicts is
//! `verify.wal_gap`.
//!
//! A segment is put together from its tails only when a second look, after the tails were listed, finds neither the
//! finished segment nor anything later on the timeline (or when the tails hold all of it, or end where a recorded gap
//! begins). The second look reads what is later first and the segment last: a streamer finishes segments in order, so one
//! that was finished in between is found.

use bytes::Bytes;
use hardstorage_report::{Error, Lsn, Result, Retry, SegmentName, Timeline, code};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::WalArchive;
use super::assemble::Assembled;
use super::aux::{is_backup_history, partial_of};
use super::format::FRAME_LEN;
use super::object_stream::WalStream;
use crate::layout;
use crate::listing::Objects;

/// How often a fetch begins again because tails were removed while it read them: their segment was finished.
const ATTEMPTS: usize = 4;

/// The answer.
#[derive(Debug)]
pub enum Fetched {
    /// The file.
    Found(FetchedFile),
    /// It is not there, and that is proven.
    Absent(ProvenAbsent),
}

/// The proof that a file is not in the archive. Only this module makes it.
#[derive(Debug)]
pub struct ProvenAbsent {
    name: String,
}

impl ProvenAbsent {
    /// The file that is not there.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A file that was found; its bytes are checked as they are read.
#[derive(Debug)]
pub struct FetchedFile {
    source: Source,
    length: u64,
    /// From this offset on the bytes are zero.
    cut: u64,
    at: u64,
    assembled: bool,
}

#[derive(Debug)]
enum Source {
    Segment(Box<WalStream>),
    Tails(Box<Assembled>),
    Bytes(Option<Bytes>),
}

impl FetchedFile {
    fn bytes(bytes: Bytes) -> FetchedFile {
        FetchedFile {
            length: bytes.len() as u64,
            cut: u64::MAX,
            source: Source::Bytes(Some(bytes)),
            at: 0,
            assembled: false,
        }
    }

    /// How many bytes will come.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// How many bytes are archived of a file that begins at `start`; zeros follow.
    fn reach(&self, start: Lsn) -> u64 {
        let stored = match &self.source {
            Source::Tails(tails) => start.bytes_until(tails.range().to),
            Source::Segment(_) | Source::Bytes(_) => self.length,
        };
        stored.min(self.cut)
    }

    /// Whether this is an unfinished segment: such a file must not be cached.
    pub fn is_assembled(&self) -> bool {
        self.assembled
    }

    /// The next bytes; `None` at the end, when everything matched.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        let bytes = match &mut self.source {
            Source::Segment(stream) => stream.next().await?,
            Source::Tails(assembled) => assembled.next().await?,
            Source::Bytes(bytes) => bytes.take(),
        };
        let bytes = match bytes {
            Some(bytes) => bytes,
            // An unfinished segment is filled with zeros, as PostgreSQL itself does.
            None if self.at < self.length => vec![0; (self.length - self.at).min(FRAME_LEN as u64) as usize].into(),
            None => return Ok(None),
        };
        let start = self.at;
        self.at += bytes.len() as u64;
        if self.at <= self.cut {
            return Ok(Some(bytes));
        }
        let mut bytes = Vec::from(bytes);
        let keep = self.cut.saturating_sub(start) as usize;
        if let Some(dead) = bytes.get_mut(keep..) {
            dead.fill(0);
        }
        Ok(Some(bytes.into()))
    }

    /// Writes the whole file; how many bytes. When this fails, what was written is worth nothing. What to say of a failed
    /// write is the caller's: only it knows whose disk that is.
    pub async fn copy_to<W: AsyncWrite + Unpin + Send>(
        mut self,
        out: &mut W,
        failed: impl Fn(std::io::Error) -> Error + Send,
    ) -> Result<u64> {
        while let Some(bytes) = self.next().await? {
            out.write_all(&bytes).await.map_err(&failed)?;
        }
        out.flush().await.map_err(&failed)?;
        Ok(self.at)
    }
}

/// What a name asks for.
enum Asked {
    Segment(SegmentName),
    History(Timeline),
    Partial(SegmentName),
    BackupHistory,
}

fn parse(name: &str) -> Result<Asked> {
    if let Ok(segment) = name.parse::<SegmentName>() {
        return Ok(Asked::Segment(segment));
    }
    if let Some(timeline) = name.strip_suffix(".history").and_then(Timeline::from_hex) {
        return Ok(Asked::History(timeline));
    }
    if let Some(segment) = partial_of(name) {
        return Ok(Asked::Partial(segment));
    }
    if is_backup_history(name) {
        return Ok(Asked::BackupHistory);
    }
    Err(Error::new(
        code::usage::INVALID,
        format!("{name:?} is not the name of a file of pg_wal"),
    ))
}

fn gap(what: String) -> Error {
    Error::new(code::repository::WAL_GAP, what)
}

impl WalArchive {
    /// Looks for a file by the name that PostgreSQL gives it. `follow` is the timeline that recovery follows, where it
    /// is known: a segment of an older timeline is then given only as far as it belongs to that history, so that a
    /// branch that died is never replayed.
    pub async fn fetch(&self, name: &str, follow: Option<Timeline>) -> Result<Fetched> {
        let absent = || Fetched::Absent(ProvenAbsent { name: name.to_owned() });
        match parse(name)? {
            Asked::Segment(segment) => {
                let Some(limit) = self.limit(segment, follow).await? else {
                    return Ok(absent());
                };
                let found = self.fetch_segment(segment, limit).await?;
                Ok(found.map_or_else(absent, Fetched::Found))
            }
            Asked::History(timeline) => {
                let found = self.fetch_history(timeline).await?;
                Ok(found.map_or_else(absent, |bytes| Fetched::Found(FetchedFile::bytes(bytes))))
            }
            Asked::Partial(segment) => {
                let mut found = self.read_partial(segment).await?;
                if found.is_none() {
                    found = self.read_partial(segment).await?;
                }
                Ok(found.map_or_else(absent, |stream| Fetched::Found(self.finished(stream, u64::MAX))))
            }
            Asked::BackupHistory => {
                let mut found = self.backup_history(name).await?;
                if found.is_none() {
                    found = self.backup_history(name).await?;
                }
                Ok(found.map_or_else(absent, |bytes| Fetched::Found(FetchedFile::bytes(bytes))))
            }
        }
    }

    /// How many bytes of a segment belong to the history that recovery follows; `None` for none.
    async fn limit(&self, segment: SegmentName, follow: Option<Timeline>) -> Result<Option<u64>> {
        let Some(follow) = follow.filter(|follow| *follow != segment.timeline) else {
            return Ok(Some(u64::MAX));
        };
        let start = self.start_of(segment)?;
        let chain = self.ancestry().await?.chain(follow)?;
        let branch = chain.iter().find(|branch| branch.timeline == segment.timeline);
        Ok(match branch.map(|branch| branch.end) {
            // Not an ancestor: nothing is known of it, and nothing is taken away from it.
            None | Some(None) => Some(u64::MAX),
            Some(Some(end)) if end <= start => None,
            Some(Some(end)) => Some(start.bytes_until(end)),
        })
    }

    async fn fetch_segment(&self, segment: SegmentName, limit: u64) -> Result<Option<FetchedFile>> {
        for _ in 0..ATTEMPTS {
            if let Some(object) = self.open_segment(segment).await? {
                return Ok(Some(self.finished(WalStream::new(object), limit)));
            }
            let assembled = Assembled::new(self, segment, self.tails_of(segment).await?);
            let start = self.start_of(segment)?;
            let end = start.add(self.segment_size().bytes());
            let later = self.anything_later(segment).await?;
            // The second look, after everything that could tell of it.
            if let Some(object) = self.open_segment(segment).await? {
                return Ok(Some(self.finished(WalStream::new(object), limit)));
            }
            let whole = assembled
                .as_ref()
                .is_some_and(|tails| tails.range().from == start && tails.range().to == end);
            if let Some(later) = later.filter(|_| !whole)
                && !self.ends_at_a_gap(segment, assembled.as_ref()).await?
            {
                // A journal is whole before anything later is stored, and its segment may be finished after that.
                let now = Assembled::new(self, segment, self.tails_of(segment).await?);
                let reached = |tails: &Option<Assembled>| tails.as_ref().map(Assembled::range);
                if reached(&now) != reached(&assembled) {
                    continue;
                }
                return Err(gap(format!(
                    "segment {segment} is not in the archive, and {later} behind it is"
                )));
            }
            let Some(mut tails) = assembled else { return Ok(None) };
            if tails.range().from != start {
                return Err(gap(format!(
                    "segment {segment} is archived from {} on only",
                    tails.range().from
                )));
            }
            if let Some(beyond) = tails.beyond_hole() {
                return Err(gap(format!(
                    "segment {segment} is archived up to {} and again from {beyond} on",
                    tails.range().to
                )));
            }
            if let Some(farther) = self.of_the_ancestor(segment, tails.range().to).await? {
                return Ok(Some(farther));
            }
            match tails.open_all().await {
                Ok(()) => {
                    return Ok(Some(FetchedFile {
                        source: Source::Tails(Box::new(tails)),
                        length: self.segment_size().bytes(),
                        cut: limit,
                        at: 0,
                        assembled: true,
                    }));
                }
                // Removed since they were listed: their segment is finished now, or a cumulative tail replaced them.
                Err(error) if error.is(code::storage::OBJECT) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(
            code::storage::OBJECT,
            format!("the tails of segment {segment} changed again and again while they were read"),
        )
        .retry(Retry::Later))
    }

    /// A timeline begins with a copy of what its ancestor has of the segment of the switch. A copy whose tails end before the
    /// switch holds nothing of the timeline itself, and the ancestor's own bytes, which are the same up to there, may reach
    /// farther: a stream can end in the middle of copying.
    async fn of_the_ancestor(&self, segment: SegmentName, reached: Lsn) -> Result<Option<FetchedFile>> {
        let ancestry = self.ancestry().await?;
        if !ancestry.knows(segment.timeline) {
            return Ok(None);
        }
        let chain = ancestry.chain(segment.timeline)?;
        let [.., ancestor, own] = &chain[..] else {
            return Ok(None);
        };
        let start = self.start_of(segment)?;
        // What begins in a later segment has its own word there.
        if own.begin <= reached || own.begin >= start.add(self.segment_size().bytes()) {
            return Ok(None);
        }
        let of_ancestor = SegmentName {
            timeline: ancestor.timeline,
            ..segment
        };
        let found = Box::pin(self.fetch_segment(of_ancestor, start.bytes_until(own.begin))).await;
        match found {
            Ok(Some(file)) if start.add(file.reach(start)) > reached => Ok(Some(FetchedFile {
                assembled: true,
                ..file
            })),
            Ok(_) => Ok(None),
            // Then this timeline's own copy is what there is.
            Err(error) if error.is(code::repository::WAL_GAP) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether it is recorded that nothing follows on these tails: what they hold can be recovered, the rest is lost.
    async fn ends_at_a_gap(&self, segment: SegmentName, tails: Option<&Assembled>) -> Result<bool> {
        match tails {
            Some(tails) => Ok(self.lost_from(segment.timeline).await?.contains(&tails.range().to)),
            None => Ok(false),
        }
    }

    fn finished(&self, stream: WalStream, limit: u64) -> FetchedFile {
        FetchedFile {
            source: Source::Segment(Box::new(stream)),
            length: self.segment_size().bytes(),
            cut: limit,
            at: 0,
            assembled: false,
        }
    }

    /// A later segment of the timeline, finished or not.
    async fn anything_later(&self, segment: SegmentName) -> Result<Option<String>> {
        let unfinished = self.segments_with_tails(segment.timeline).await?;
        if let Some(later) = unfinished.iter().find(|later| **later > segment) {
            return Ok(Some(format!("a part of segment {later}")));
        }
        let folder = layout::segments_folder(self.deployment().name(), self.lineage(), segment.timeline);
        let key = layout::segment(self.deployment().name(), self.lineage(), segment);
        let behind = Some(key.as_str().to_owned());
        let mut objects = Objects::under(self.deployment().store(), folder).after(behind);
        let later = objects.next().await?;
        Ok(later.map(|object| format!("segment {}", object.key.base_name())))
    }

    async fn fetch_history(&self, timeline: Timeline) -> Result<Option<Bytes>> {
        if let Some(bytes) = self.history(timeline).await? {
            return Ok(Some(bytes));
        }
        let later = self.list_histories().await?.into_iter().find(|other| *other > timeline);
        // The first timeline has WAL and no history.
        let own = timeline != Timeline(1) && self.timelines().await?.contains(&timeline);
        if let Some(bytes) = self.history(timeline).await? {
            return Ok(Some(bytes));
        }
        let name = timeline.history_name();
        let hint = "the server that has this timeline can still tell its history: run the stream against it once";
        if own {
            return Err(gap(format!("WAL of timeline {timeline} is archived, and {name} is not")).hint(hint));
        }
        match later.filter(|_| timeline != Timeline(1)) {
            Some(later) => Err(gap(format!("{name} is not archived, and {} is", later.history_name())).hint(hint)),
            None => Ok(None),
        }
    }
}
