//! The segment in which the archive ends, made whole before a backup stores anything behind it.
//!
//! A stream that stops leaves the unfinished segment as tails, and those count only while nothing lies behind them: more
//! could be missing in that segment than anybody knows. So a backup that stored its own WAL further on would put what was
//! acknowledged in it out of reach until the stream has caught up, and if the server is lost before, for ever. The server
//! mostly still has that segment, in the slot of the stream or by itself: it is fetched, and what is stored of it is compared.
//!
//! One segment, never more: the rest is the stream's. Whatever the server does not give leaves things as they were, and so
//! does damage among the tails. What differs is no reason to go on: it was another server that was streamed. What the tails
//! hold without a hole is compared before the segment can appear, because from then on it is read in their place.
//!
//! It is asked over a connection of its own. A refusal closes a connection, and with the one of the cover its slot would go.

use std::time::Duration;

use bytes::Bytes;
use hardstorage_replication::{StreamEvent, StreamOptions};
use hardstorage_report::{Error, Kind, Lsn, Result, SegmentName, Timeline, code};
use hardstorage_repository::wal::{ArchiveEnd, Assembled, ServerTime, WalArchive};

use crate::source::Source;
use crate::wal::{OwnTails, Recorder};

/// How long a server may take to send one segment.
const LIMIT: Duration = Duration::from_mins(2);

/// What became of the segment in which the archive ends.
#[derive(Debug)]
pub(super) enum End {
    /// There is none: the archive ends where a segment does, or has nothing before.
    None,
    /// It is whole and durable now.
    Whole,
    /// The server no longer has it.
    Removed,
    /// The server could not be asked, or stopped sending. It may have it.
    Unknown(Error),
}

/// An unfinished segment before a backup's own.
#[derive(Debug, Clone, Copy)]
struct Unfinished {
    timeline: Timeline,
    from: Lsn,
    to: Lsn,
}

/// Makes the segment whole in which the archive ends before `position`, the start of a segment; `end` is that end.
pub(super) async fn make_whole(
    source: &Source,
    archive: &WalArchive,
    timeline: Timeline,
    (position, end): (Lsn, Option<ArchiveEnd>),
) -> Result<End> {
    let Some(unfinished) = unfinished(archive, timeline, position, end).await? else {
        return Ok(End::None);
    };
    match tokio::time::timeout(LIMIT, fetch(source, archive, unfinished)).await {
        Ok(Err(error)) if error.kind() == Kind::Verify => Ok(End::Unknown(error)),
        Ok(ended) => ended,
        Err(_) => {
            let late = format!(
                "the server did not send the segment at {} in {LIMIT:?}",
                unfinished.from
            );
            Ok(End::Unknown(Error::new(code::replication::UNREACHABLE, late)))
        }
    }
}

/// What the tails hold, compared with what comes in order.
struct Known {
    tails: Option<Assembled>,
    segment: SegmentName,
    /// What was read of them and not compared, and where it begins.
    waiting: Bytes,
    at: Lsn,
}

impl Known {
    async fn of(archive: &WalArchive, segment: SegmentName) -> Result<Known> {
        let tails = archive.assemble(segment).await?;
        Ok(Known {
            at: tails.as_ref().map_or(Lsn::INVALID, |tails| tails.range().from),
            tails,
            segment,
            waiting: Bytes::new(),
        })
    }

    async fn compare(&mut self, lsn: Lsn, received: &Bytes) -> Result<()> {
        let end = lsn.add(received.len() as u64);
        while let Some(tails) = &mut self.tails {
            if self.waiting.is_empty() {
                match tails.next().await {
                    Ok(Some(bytes)) => self.waiting = bytes,
                    Ok(None) => self.tails = None,
                    // The stream is back and has removed them: its segment is there, or its next tail, and compared then.
                    Err(error) if error.is(code::storage::OBJECT) => self.tails = None,
                    Err(error) => return Err(error),
                }
                continue;
            }
            if self.at >= end {
                break;
            }
            let skip = lsn.bytes_until(self.at);
            let length = self.at.bytes_until(end).min(self.waiting.len() as u64);
            let known = self.waiting.split_to(length as usize);
            if received.slice(skip as usize..(skip + length) as usize) != known {
                return Err(Error::new(
                    code::repository::SPLIT_BRAIN,
                    format!(
                        "a tail of segment {} has other bytes than the server, from {} on or behind it",
                        self.segment, self.at
                    ),
                ));
            }
            self.at = self.at.add(length);
        }
        Ok(())
    }
}

/// The segment, if the archive ends within one that belongs to one timeline alone: of the segment of a switch an older
/// timeline has only the beginning, and nothing is ever stored behind that.
async fn unfinished(
    archive: &WalArchive,
    timeline: Timeline,
    position: Lsn,
    end: Option<ArchiveEnd>,
) -> Result<Option<Unfinished>> {
    let size = archive.segment_size();
    let Some(end) = end.filter(|end| end.at < position && end.at.segment_offset(size) != 0) else {
        return Ok(None);
    };
    let from = end.at.segment_start(size);
    let to = from.add(size.bytes());
    let chain = archive.ancestry().await?.chain(timeline)?;
    let whole = chain
        .iter()
        .find(|branch| branch.timeline == end.timeline)
        .is_some_and(|branch| branch.end.is_none_or(|switch| to <= switch));
    Ok(whole.then_some(Unfinished {
        timeline: end.timeline,
        from,
        to,
    }))
}

/// What of the server's errors leaves things as they were.
fn refused(error: Error) -> End {
    if error.is(code::replication::WAL_REMOVED) {
        End::Removed
    } else {
        End::Unknown(error)
    }
}

async fn fetch(source: &Source, archive: &WalArchive, wanted: Unfinished) -> Result<End> {
    let mut connection = match source.connect().await {
        Ok(connection) => connection,
        Err(error) => return Ok(refused(error)),
    };
    // An address may lead to several servers.
    match connection.identify().await {
        Ok(server) if server.system_id == archive.lineage().system_id => {}
        Ok(server) => {
            return Ok(End::Unknown(Error::new(
                code::repository::SYSTEM_MISMATCH,
                format!("the server that answered is the cluster {}", server.system_id),
            )));
        }
        Err(error) => return Ok(refused(error)),
    }
    let options = StreamOptions::default();
    let started = connection
        .start_replication(None, wanted.from, wanted.timeline, options)
        .await;
    let mut stream = match started {
        Ok(stream) => stream,
        Err(error) => return Ok(refused(error)),
    };
    let name = SegmentName::containing(wanted.timeline, wanted.from, archive.segment_size());
    let mut known = Known::of(archive, name).await?;
    let recorder = Recorder::begin(archive.clone(), OwnTails::default(), wanted.timeline, wanted.from).await?;
    let mut recorder = recorder.of_whole_segments();
    while recorder.received() < wanted.to {
        match stream.next().await {
            Ok(Some(StreamEvent::Data {
                lsn,
                bytes,
                server_end,
                server_time,
            })) => {
                // A message does not end where a segment does, and nothing behind it may appear.
                let room = lsn.bytes_until(wanted.to).min(bytes.len() as u64);
                let bytes = bytes.slice(..room as usize);
                // The recorder refuses what does not go on where the last message ended.
                if lsn == recorder.received() {
                    known.compare(lsn, &bytes).await?;
                }
                recorder.push(lsn, bytes, server_end, ServerTime(server_time.0)).await?;
            }
            Ok(Some(StreamEvent::Keepalive { .. })) => {}
            Ok(Some(StreamEvent::EndOfTimeline { .. } | StreamEvent::ServerShutdown) | None) => {
                let ended = format!("the server ended the stream before segment {name} was complete");
                return Ok(End::Unknown(Error::new(code::replication::UNREACHABLE, ended)));
            }
            Err(error) => return Ok(refused(error)),
        }
    }
    recorder.flush().await?;
    Ok(End::Whole)
}
