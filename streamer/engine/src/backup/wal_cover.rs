//! The WAL that makes a backup consistent: held on the server from before the start, in the repository before the commit.
//!
//! A temporary slot on a second connection keeps the server from removing WAL while the backup is read. When it has
//! been read, whatever part of it the repository lacks is fetched over the same connection. With a stream running
//! there is mostly nothing left to fetch; both may store the same segment, and equal bytes are no conflict.

use std::time::Duration;

use hardstorage_replication::{Connection, StreamEvent, StreamOptions};
use hardstorage_report::{Error, Lsn, Result, SegmentName, Timeline, code};
use hardstorage_repository::WriterId;
use hardstorage_repository::wal::{ServerTime, WalArchive};
use jiff::Timestamp;

use crate::source::Source;
use crate::wal::Recorder;

/// How long a server may take to send the last WAL of a backup.
const LIMIT: Duration = Duration::from_mins(10);

/// A connection whose temporary slot holds WAL.
#[derive(Debug)]
pub struct WalCover {
    connection: Connection,
    slot: Option<String>,
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
}

impl WalCover {
    /// Begins to hold WAL. When the server has no slot left the backup goes on without: a stream, or luck, may keep it,
    /// and the commit finds out.
    pub async fn begin(source: &Source, writer: &WriterId) -> Result<WalCover> {
        let mut connection = source.connect().await?;
        let name = format!("pg_hardstorage_tmp_{}", &writer.to_string()[..16]);
        let slot = match connection.create_slot(&name, true, true).await {
            Ok(()) => Some(name),
            Err(error) if error.is(code::replication::SLOTS_FULL) => None,
            Err(error) => return Err(error.context("hold WAL for the backup")),
        };
        Ok(WalCover { connection, slot })
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
        if archive.is_covered(need.timeline, need.start, need.stop).await? {
            Ok(covered)
        } else {
            Err(Error::new(
                code::engine::BACKUP_INCOMPLETE,
                format!(
                    "the WAL from {} to {} is not whole in the repository",
                    need.start, need.stop
                ),
            ))
        }
    }

    async fn fetch(self, archive: &WalArchive, need: Need) -> Result<Covered> {
        let size = archive.segment_size();
        let last = Lsn(need.stop.0.saturating_sub(1));
        let end = if need.standby {
            need.stop
        } else {
            last.segment_start(size).add(size.bytes())
        };
        let mut start = need.start.segment_start(size);
        while start < end
            && archive
                .has_segment(SegmentName::containing(need.timeline, start, size))
                .await?
        {
            start = start.add(size.bytes());
        }
        // With everything there the stream still tells the server's time; it begins where WAL surely is.
        let from = start.min(last.segment_start(size));
        let options = StreamOptions {
            status_interval: Duration::from_millis(250),
            ..StreamOptions::default()
        };
        let mut stream = self
            .connection
            .start_replication(self.slot.as_deref(), from, need.timeline, options)
            .await?;
        let writer = WriterId::new(archive.deployment().surroundings().random()?);
        let mut recorder = Recorder::new(archive.clone(), writer, need.timeline, from, from);
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
        })
    }
}
