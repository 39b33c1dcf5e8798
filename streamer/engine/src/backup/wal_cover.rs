//! The WAL that makes a backup consistent: held on the server from before the start, in the repository before the commit.
//!
//! A temporary slot on a second connection keeps the server from removing WAL while the backup is read. When it has
//! been read, whatever part of it the repository lacks is fetched over the same connection. With a stream running
//! there is mostly nothing left to fetch; both may store the same segment, and equal bytes are no conflict.
//!
//! Without a stream the archive becomes stretches with nothing between them. That nothing is recorded as a gap before a
//! new stretch begins: the record says that the stretch before is at its end, so that its last, unfinished segment can
//! still be recovered.

use std::time::Duration;

use hardstorage_replication::{Connection, StreamEvent, StreamOptions};
use hardstorage_report::{Error, Lsn, Result, SegmentName, Timeline, code};
use hardstorage_repository::WriterId;
use hardstorage_repository::wal::{LsnRange, ServerTime, WalArchive};
use jiff::Timestamp;
use serde_json::json;

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
#[derive(Debug, Clone, Copy)]
pub struct Covered {
    /// Segments that were fetched here.
    pub fetched: u64,
    /// The server's clock after the backup's end.
    pub server_time: Timestamp,
    /// What was found to be missing before the backup's own WAL, with nobody there to bring it.
    pub gap: Option<LsnRange>,
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
        for _ in 0..ATTEMPTS {
            let coverage = archive.coverage(need.timeline, need.start).await?;
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
                Ok(()) => return Ok(covered),
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
    async fn record_gap(&mut self, archive: &WalArchive, need: &Need, start: Lsn) -> Result<Option<LsnRange>> {
        let Some(end) = archive.end_before(need.timeline, start).await? else {
            return Ok(None);
        };
        let held = match &self.stream_slot {
            Some(slot) => self.connection.read_slot(slot).await?,
            None => None,
        };
        let restart = held.and_then(|slot| slot.restart_lsn);
        let held_from = restart.map(|restart| restart.segment_start(archive.segment_size()));
        let gap = LsnRange {
            from: end.at,
            to: held_from.map_or(start, |held| held.min(start)),
        };
        if gap.from >= gap.to {
            return Ok(None);
        }
        let evidence = json!({"slot": self.stream_slot, "slot_restart_lsn": restart, "backup_start_lsn": need.start});
        let reason = "no stream was running: a backup stored its own WAL behind the end of the archive";
        archive
            .put_gap(end.timeline, (gap.from, gap.to), reason, evidence)
            .await?;
        Ok(Some(gap))
    }

    async fn fetch(mut self, archive: &WalArchive, need: Need) -> Result<Covered> {
        let size = archive.segment_size();
        let last = Lsn(need.stop.0.saturating_sub(1));
        let limit = last.segment_start(size).add(size.bytes());
        let end = if need.standby { need.stop } else { limit };
        let mut start = need.start.segment_start(size);
        while start < end
            && archive
                .has_segment(SegmentName::containing(need.timeline, start, size))
                .await?
        {
            start = start.add(size.bytes());
        }
        let gap = if start < end {
            self.record_gap(archive, &need, start).await?
        } else {
            None
        };
        // With everything there the stream still tells the server's time; it begins where WAL surely is.
        let from = start.min(last.segment_start(size));
        let options = StreamOptions {
            status_interval: Duration::from_millis(250),
            ..StreamOptions::default()
        };
        let mut recorder = Recorder::begin(archive.clone(), OwnTails::default(), need.timeline, from).await?;
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
                    if start < end {
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
                    recorder.heard(server_end, ServerTime(at.0));
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
        recorder.flush().await?;
        let server_time = server_time
            .and_then(|at| ServerTime(at.0).to_timestamp())
            .ok_or_else(|| Error::new(code::replication::PROTOCOL, "the server's clock is out of range"))?;
        Ok(Covered {
            fetched: recorder.stored().segments,
            server_time,
            gap,
        })
    }
}
