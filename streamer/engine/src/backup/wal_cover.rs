//! The WAL that makes a backup consistent: held on the server from before the start, in the repository before the commit.
//!
//! A temporary slot on a second connection keeps the server from removing WAL while the backup is read. When it has
//! been read, whatever part of it the repository lacks is fetched over the same connection. With a stream running
//! there is mostly nothing left to fetch; both may store the same segment, and equal bytes are no conflict.
//!
//! Without a stream the archive becomes stretches with nothing between them. Before a new stretch begins, the unfinished
//! segment of the one before is made whole ([`make_whole`]), durably: nothing may appear behind tails that only count while
//! nothing does. What then lies between is recorded as a gap, unless the stream will bring it; where the server no longer
//! has that segment, the record says that its tails are all there is, so that they can still be recovered.

use std::pin::pin;
use std::time::Duration;

use futures::future::maybe_done;
use hardstorage_replication::{Connection, SlotState, StreamEvent, StreamOptions};
use hardstorage_report::{Error, Lsn, Result, SegmentName, Timeline, code};
use hardstorage_repository::WriterId;
use hardstorage_repository::wal::{ArchiveEnd, LsnRange, ServerTime, WalArchive};
use jiff::Timestamp;
use serde_json::json;

use super::archive_end::{End, make_whole};
use crate::source::Source;
use crate::wal::{OwnTails, Recorder};

/// How long a server may take to send the last WAL of a backup.
const LIMIT: Duration = Duration::from_mins(10);
/// How often the WAL is looked at when a stream changes it meanwhile.
const ATTEMPTS: usize = 5;

/// A connection whose temporary slot holds WAL.
#[derive(Debug)]
pub struct WalCover {
    connection: Connection,
    source: Source,
    slot: Option<String>,
    /// The slot of the deployment's stream.
    stream_slot: Option<String>,
}

/// What is needed, and from where it can be had.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    /// The timeline.
    pub timeline: Timeline,
    /// Where the backup begins.
    pub start: Lsn,
    /// Where it is consistent.
    pub stop: Lsn,
    /// Whether the server is a standby, which ends no segment at a backup's end.
    pub standby: bool,
}

/// What the cover found out.
#[derive(Debug)]
pub struct Covered {
    /// Segments that were fetched here.
    pub fetched: u64,
    /// The server's clock after the backup's end.
    pub server_time: Timestamp,
    /// What was found to be missing before the backup's own WAL.
    pub gap: Option<FoundGap>,
    /// Why the segment in which the archive ended before is not whole, although the server may have it.
    pub end_left_open: Option<Error>,
    /// Whether the WAL right before the backup's is archived: only a stream brings that.
    pub continuous: bool,
}

/// WAL that is missing before a backup's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundGap {
    /// What is missing.
    pub range: LsnRange,
    /// Why, as far as a backup can know.
    pub why: WhyMissing,
}

/// Why WAL is missing, and so whether it may still come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyMissing {
    /// The server was promoted, and no stream has found it yet. The first one asks it for this WAL.
    Promoted,
    /// The slot of the stream keeps less. The stream asks for the rest.
    SlotAhead,
    /// The slot of the stream keeps nothing: mostly the server has given it up. The stream asks for what is left.
    SlotLost,
    /// There is no slot: nobody streams.
    NoStream,
}

impl WhyMissing {
    /// `slot` is the slot of the stream, when there is one.
    fn of(end: Timeline, backup: Timeline, slot: Option<&SlotState>) -> WhyMissing {
        match slot.map(|slot| slot.restart_lsn) {
            _ if end < backup => WhyMissing::Promoted,
            Some(Some(_)) => WhyMissing::SlotAhead,
            Some(None) => WhyMissing::SlotLost,
            None => WhyMissing::NoStream,
        }
    }

    /// What the record of it says.
    fn reason(self) -> &'static str {
        match self {
            WhyMissing::Promoted => "a backup found the promoted server before a stream did",
            WhyMissing::SlotAhead => "the slot of the stream keeps less than the archive lacks",
            WhyMissing::SlotLost => "the slot of the stream keeps nothing",
            WhyMissing::NoStream => "no stream was running: a backup stored its own WAL behind the end of the archive",
        }
    }
}

impl WalCover {
    /// Begins to hold WAL. When the server has no slot left the backup goes on without: a stream, or luck, may keep it,
    /// and the commit finds out.
    pub async fn begin(source: &Source, writer: &WriterId, stream_slot: Option<&str>) -> Result<WalCover> {
        let mut connection = source.connect().await?;
        let name = format!("pg_hardstorage_tmp_{}", &writer.to_string()[..16]);
        let slot = match connection.create_slot(&name, true, true).await {
            Ok(()) => Some(name),
            Err(error) if error.is(code::replication::SLOTS_FULL) => None,
            Err(error) => return Err(error.context("hold WAL for the backup")),
        };
        Ok(WalCover {
            connection,
            source: source.clone(),
            slot,
            stream_slot: stream_slot.map(str::to_owned),
        })
    }

    /// Whether a slot holds WAL.
    pub fn holds(&self) -> bool {
        self.slot.is_some()
    }

    /// Makes sure that everything needed is in the repository.
    pub async fn finish(self, archive: &WalArchive, need: Need) -> Result<Covered> {
        let fetched = tokio::time::timeout(LIMIT, self.fetch(archive, need)).await;
        let covered = fetched.unwrap_or_else(|_| {
            Err(Error::new(
                code::engine::BACKUP_INCOMPLETE,
                format!("the server did not send its WAL up to {} in {LIMIT:?}", need.stop),
            ))
        })?;
        let first = need.start.segment_start(archive.segment_size());
        let before = first.0.checked_sub(1).map(Lsn);
        for _ in 0..ATTEMPTS {
            let coverage = archive.coverage(need.timeline, before.unwrap_or(need.start)).await?;
            if !coverage.is_covered(need.start, need.stop) {
                return Err(Error::new(
                    code::engine::BACKUP_INCOMPLETE,
                    format!(
                        "the WAL from {} to {} is not whole in the repository",
                        need.start, need.stop
                    ),
                ));
            }
            // Others may have stored it: what a listing shows is not yet on a disk.
            let mut pieces = coverage.pieces_from(need.start).to_vec();
            pieces.retain(|piece| piece.range.from < need.stop);
            match archive.confirm(&pieces).await {
                Ok(()) => {
                    let continuous = before.is_some_and(|before| coverage.is_covered(before, first));
                    return Ok(Covered { continuous, ..covered });
                }
                // A stream finished the segment, and its tails went: it is looked for again.
                Err(error) if error.is(code::storage::OBJECT) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(
            code::engine::BACKUP_INCOMPLETE,
            "the WAL in the repository changed again and again while it was looked at",
        ))
    }

    /// Records that nothing will come between the end of what the archive has and `start`. A slot that holds the stream's
    /// position says otherwise: the stream will bring it.
    async fn record_gap(
        &mut self,
        archive: &WalArchive,
        need: &Need,
        (start, end): (Lsn, Option<ArchiveEnd>),
    ) -> Result<Option<FoundGap>> {
        let Some(end) = end.filter(|end| end.at < start) else {
            return Ok(None);
        };
        let held = match &self.stream_slot {
            Some(slot) => self.connection.read_slot(slot).await?,
            None => None,
        };
        let restart = held.as_ref().and_then(|slot| slot.restart_lsn);
        let keeps_nothing = held.is_some() && restart.is_none();
        let held_from = restart.map(|restart| restart.segment_start(archive.segment_size()));
        let gap = LsnRange {
            from: end.at,
            to: held_from.map_or(start, |held| held.min(start)),
        };
        if gap.from >= gap.to {
            return Ok(None);
        }
        let evidence = json!({"slot": self.stream_slot, "slot_restart_lsn": restart, "slot_keeps_nothing": keeps_nothing, "backup_start_lsn": need.start});
        let why = WhyMissing::of(end.timeline, need.timeline, held.as_ref());
        archive
            .put_gap(end.timeline, (gap.from, gap.to), why.reason(), evidence)
            .await?;
        Ok(Some(FoundGap { range: gap, why }))
    }

    async fn fetch(mut self, archive: &WalArchive, need: Need) -> Result<Covered> {
        let size = archive.segment_size();
        let last = Lsn(need.stop.0.saturating_sub(1));
        let limit = last.segment_start(size).add(size.bytes());
        let end = if need.standby { need.stop } else { limit };
        let first = need.start.segment_start(size);
        let begin = |at| Recorder::begin(archive.clone(), OwnTails::default(), need.timeline, at);
        // What lies before the first segment matters only when that is missing, which without a stream it always is: all of
        // it is asked at once.
        let before_first = async { tokio::try_join!(archive.end_before(need.timeline, first), begin(first)) };
        let (mut missing, mut known) = (
            pin!(first_missing(archive, &need, (first, end))),
            pin!(maybe_done(before_first)),
        );
        let start = tokio::select! {
            biased;
            start = &mut missing => start?,
            () = &mut known => missing.await?,
        };
        let known = if start == first {
            known.as_mut().await;
            known.take_output().transpose()?
        } else {
            None
        };
        // With everything there the stream still tells the server's time; it begins where WAL surely is.
        let from = start.min(last.segment_start(size));
        let (mut gap, mut end_left_open, mut made_whole, mut recorder) = (None, None, 0, None);
        if start < end {
            let (mut before, mut begun) = match known {
                Some(known) => known,
                None => tokio::try_join!(archive.end_before(need.timeline, start), begin(start))?,
            };
            match make_whole(&self.source, archive, need.timeline, (start, before)).await? {
                End::None | End::Removed => {}
                End::Whole => {
                    made_whole = 1;
                    (before, begun) = tokio::try_join!(archive.end_before(need.timeline, start), begin(start))?;
                }
                End::Unknown(error) => end_left_open = Some(error),
            }
            gap = self.record_gap(archive, &need, (start, before)).await?;
            recorder = Some(if need.standby { begun } else { begun.of_whole_segments() });
        }
        let options = StreamOptions {
            status_interval: Duration::from_millis(250),
            ..StreamOptions::default()
        };
        let mut stream = self
            .connection
            .start_replication(self.slot.as_deref(), from, need.timeline, options)
            .await?;
        let mut server_time = None;
        while start < end || server_time.is_none() {
            let Some(event) = stream.next().await? else {
                return Err(Error::new(
                    code::engine::BACKUP_INCOMPLETE,
                    "the server ended the stream before the backup's WAL was complete",
                ));
            };
            match event {
                StreamEvent::Data {
                    lsn,
                    bytes,
                    server_end,
                    server_time: at,
                } => {
                    server_time = Some(at);
                    if let Some(recorder) = &mut recorder {
                        // A message does not end where a segment does. A trace behind the backup's own segments would look
                        // like a stream that broke off.
                        let room = lsn.bytes_until(limit).min(bytes.len() as u64);
                        let bytes = bytes.slice(..room as usize);
                        recorder.push(lsn, bytes, server_end, ServerTime(at.0)).await?;
                        if recorder.received() >= end {
                            break;
                        }
                    }
                }
                StreamEvent::Keepalive {
                    server_end,
                    server_time: at,
                    ..
                } => {
                    if let Some(recorder) = &mut recorder {
                        recorder.heard(server_end, ServerTime(at.0));
                    }
                    server_time = Some(at);
                }
                StreamEvent::EndOfTimeline { .. } | StreamEvent::ServerShutdown => {
                    return Err(Error::new(
                        code::engine::BACKUP_INCOMPLETE,
                        "the server switched its timeline or stopped during the backup",
                    ));
                }
            }
        }
        let mut fetched = made_whole;
        if let Some(mut recorder) = recorder {
            recorder.flush().await?;
            fetched += recorder.stored().segments;
        }
        let server_time = server_time
            .and_then(|at| ServerTime(at.0).to_timestamp())
            .ok_or_else(|| Error::new(code::replication::PROTOCOL, "the server's clock is out of range"))?;
        Ok(Covered {
            fetched,
            server_time,
            gap,
            end_left_open,
            continuous: false,
        })
    }
}

/// The start of the first segment from `first` on, or `end`, that is not in the archive.
async fn first_missing(archive: &WalArchive, need: &Need, (first, end): (Lsn, Lsn)) -> Result<Lsn> {
    let size = archive.segment_size();
    let before = first.0.checked_sub(size.bytes());
    let after = before.map(|before| SegmentName::containing(need.timeline, Lsn(before), size));
    let there = archive.list_segments(need.timeline, after).await?;
    let mut start = first;
    for name in there {
        if start >= end || name.start(size) != Some(start) {
            break;
        }
        start = start.add(size.bytes());
    }
    Ok(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_still_come_is_told_from_what_will_not() {
        let keeps = |restart_lsn| SlotState {
            restart_lsn,
            restart_timeline: None,
        };
        let (slot, lost) = (Some(keeps(Some(Lsn(7)))), Some(keeps(None)));
        for (end, backup, slot, why) in [
            (1, 2, None, WhyMissing::Promoted),
            (1, 2, slot, WhyMissing::Promoted),
            (2, 2, slot, WhyMissing::SlotAhead),
            (2, 2, lost, WhyMissing::SlotLost),
            (2, 2, None, WhyMissing::NoStream),
        ] {
            assert_eq!(WhyMissing::of(Timeline(end), Timeline(backup), slot.as_ref()), why);
        }
    }
}
