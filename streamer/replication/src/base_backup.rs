//! BASE_BACKUP: its options, its beginning, and the events of its one long COPY.
//!
//! The order of a backup is a state machine over messages without any IO ([`Reader`]), so that every order that a
//! server could send, also a torn or a hostile one, is a value in a test.
//! Source: `protocol.sgml`, "BASE_BACKUP"; `basebackup.c`, `basebackup_copy.c` of PostgreSQL 15 and later.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use hardstorage_report::{Error, Lsn, Result, Timeline};

use crate::archive_frame::ArchiveFrame;
use crate::command;
use crate::connection::{Answer, Connection, Failure, silent};
use crate::message::{Message, protocol};
use crate::rows::{ResultSet, Row, missing};
use crate::server_error::{During, ServerError};

/// How the backup's first checkpoint is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Checkpoint {
    /// At once, with all the writing that it takes.
    #[default]
    Fast,
    /// Spread over `checkpoint_completion_target`: the backup begins minutes later.
    Spread,
}

/// The options of BASE_BACKUP that this engine uses. WAL is never part of the backup, the server never waits for
/// its archiver, and there is always a manifest with CRC-32C checksums.
#[derive(Debug, Clone)]
pub struct BaseBackupOptions {
    /// The label in `backup_label`.
    pub label: String,
    /// How the first checkpoint is made.
    pub checkpoint: Checkpoint,
    /// The most that the server sends in a second, in KiB: 32 to 1,048,576.
    pub max_rate_kib: Option<u32>,
    /// Whether the server measures itself first and then tells how far it is.
    pub progress: bool,
    /// Whether the server checks the checksum of every page that it sends, when it has any.
    pub verify_checksums: bool,
    /// Whether the server puts a `tablespace_map` into the archive instead of the links.
    pub tablespace_map: bool,
    /// How long the server may be silent once it has begun to send.
    pub stall_timeout: Duration,
}

impl BaseBackupOptions {
    /// A fast checkpoint, progress, page checks and a tablespace map, no limit of the rate.
    pub fn new(label: impl Into<String>) -> BaseBackupOptions {
        BaseBackupOptions {
            label: label.into(),
            checkpoint: Checkpoint::Fast,
            max_rate_kib: None,
            progress: true,
            verify_checksums: true,
            tablespace_map: true,
            stall_timeout: Duration::from_mins(10),
        }
    }
}

/// What is known when a backup begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupStart {
    /// Where recovery of the backup begins.
    pub start_lsn: Lsn,
    /// The timeline of `start_lsn`.
    pub timeline: Timeline,
    /// The data directory and the tablespaces, in the order of their archives.
    pub tablespaces: Vec<Tablespace>,
}

/// One archive to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tablespace {
    /// The tablespace's oid; `None` for the data directory itself, which comes last when there are others.
    pub oid: Option<u32>,
    /// Where it lies on the server.
    pub location: Option<PathBuf>,
    /// About how large it is, in KiB, when progress was asked for.
    pub size_kib: Option<u64>,
}

/// What comes out of a backup, in this order: for each archive `Archive` and its `Data`, then `Manifest` and its
/// `ManifestData`, then `End`. `Progress` comes anywhere before the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupEvent {
    /// A tar archive begins: `base.tar`, or `OID.tar` for a tablespace.
    Archive {
        /// Its name.
        name: String,
        /// The tablespace; `None` for the data directory.
        tablespace: Option<u32>,
        /// Where the tablespace lies on the server.
        location: Option<PathBuf>,
    },
    /// Bytes of the archive: a slice of the read buffer.
    Data(Bytes),
    /// The backup manifest begins.
    Manifest,
    /// Bytes of the manifest.
    ManifestData(Bytes),
    /// How many bytes the server has sent of all archives.
    Progress(u64),
    /// The backup is complete.
    End(BackupEnd),
}

/// The end of a complete backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupEnd {
    /// The backup is consistent once WAL is replayed to here.
    pub stop_lsn: Lsn,
    /// The timeline of `stop_lsn`.
    pub timeline: Timeline,
    /// The server found pages whose checksum is wrong in its own files. All of the backup was received nevertheless;
    /// the warnings name file and block.
    pub damaged: Option<ServerError>,
    /// The server's warnings, in order.
    pub warnings: Vec<ServerError>,
    /// How many more warnings there were no room for.
    pub warnings_dropped: u64,
}

/// A backup that is being received. Dropping it in the middle leaves the connection useless.
#[derive(Debug)]
pub struct BaseBackup<'a> {
    connection: &'a mut Connection,
    start: BackupStart,
    reader: Reader,
    stall_timeout: Duration,
}

const DOING: &str = "BASE_BACKUP";

impl Connection {
    /// BASE_BACKUP: returns when the server has made its checkpoint and begins to send. Waits for that without limit.
    pub async fn base_backup(&mut self, options: &BaseBackupOptions) -> Result<BaseBackup<'_>> {
        let text = command::base_backup(options)?;
        // Notices of earlier commands are not warnings of this backup.
        self.take_notices();
        let start = self
            .begin_backup(&text)
            .await
            .map_err(|failure| failure.into_error(During::BaseBackup, DOING))?;
        Ok(BaseBackup {
            connection: self,
            start,
            reader: Reader::default(),
            stall_timeout: options.stall_timeout,
        })
    }

    async fn begin_backup(&mut self, text: &str) -> Result<BackupStart, Failure> {
        self.begin(text).await?;
        let mut sets = Vec::new();
        loop {
            match self.answer().await? {
                Answer::Rows(set) if sets.len() < 2 => sets.push(set),
                Answer::Copy(Message::CopyOutResponse) => return Ok(backup_start(sets)?),
                other => return Err(protocol(format!("a backup does not begin with {other:?}")).into()),
            }
        }
    }
}

fn backup_start(sets: Vec<ResultSet>) -> Result<BackupStart> {
    let [position, spaces] = <[ResultSet; 2]>::try_from(sets)
        .map_err(|sets| protocol(format!("a backup begins after {} results instead of two", sets.len())))?;
    let position = position.into_single(DOING)?;
    let tablespaces = spaces.into_rows().iter().map(tablespace).collect::<Result<_>>()?;
    Ok(BackupStart {
        start_lsn: position.require(0, "the backup's start")?,
        timeline: Timeline(position.require(1, "the backup's timeline")?),
        tablespaces,
    })
}

fn tablespace(row: &Row) -> Result<Tablespace> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = |bytes: &Bytes| PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
    Ok(Tablespace {
        oid: row.get(0, "the tablespace's oid")?,
        location: row.bytes(1)?.filter(|bytes| !bytes.is_empty()).map(path),
        size_kib: row.get(2, "the tablespace's size")?,
    })
}

impl BaseBackup<'_> {
    /// Where the backup starts and which archives come.
    pub fn start(&self) -> &BackupStart {
        &self.start
    }

    /// The next event; `None` after [`BackupEvent::End`], when the connection is ready for the next command.
    ///
    /// Cancel safe. Nothing is read ahead: a consumer that takes its time slows the server down.
    /// Any error means that the backup is worth nothing.
    pub async fn next(&mut self) -> Result<Option<BackupEvent>> {
        loop {
            if self.reader.is_done() {
                return Ok(None);
            }
            let message = match tokio::time::timeout(self.stall_timeout, self.connection.wire().recv()).await {
                Ok(message) => message.map_err(|error| error.context(DOING))?,
                Err(_) => return Err(silent(self.stall_timeout).context(DOING)),
            };
            let event = self
                .reader
                .take(message)
                .map_err(|failure| failure.into_error(During::BaseBackup, DOING))?;
            match event {
                None => {}
                Some(BackupEvent::End(mut end)) => {
                    self.connection.is_ready();
                    (end.warnings, end.warnings_dropped) = self.connection.take_notices();
                    return Ok(Some(BackupEvent::End(end)));
                }
                Some(event) => return Ok(Some(event)),
            }
        }
    }
}

/// The order of a backup after its COPY has begun.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    state: State,
    stop: Option<(Lsn, Timeline)>,
    refused: Option<Box<ServerError>>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Begun,
    Archive,
    Manifest,
    Copied,
    Done,
}

/// `data_corrupted`: what a server says at the very end when it found damaged pages.
const DATA_CORRUPTED: &str = "XX001";

impl Reader {
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes one message. An error is final.
    pub(crate) fn take(&mut self, message: Message) -> Result<Option<BackupEvent>, Failure> {
        match (message, self.state) {
            (Message::ErrorResponse(error), _) => {
                if error.ends_connection() {
                    return Err(Failure::Server(error));
                }
                // Whether it spoils the backup shows at ReadyForQuery, which always follows.
                self.refused.get_or_insert(error);
                Ok(None)
            }
            (Message::ReadyForQuery(_), _) => self.end().map(Some),
            (other, _) if self.refused.is_some() => Err(other.unexpected("after an error").into()),
            (Message::CopyData(body), State::Begun | State::Archive | State::Manifest) => {
                let frame = ArchiveFrame::decode(body)?;
                Ok(Some(self.frame(frame)?))
            }
            // A backup without a manifest cannot be checked; it was asked for.
            (Message::CopyDone, State::Manifest) => {
                self.state = State::Copied;
                Ok(None)
            }
            (Message::RowDescription(_) | Message::CommandComplete(_), State::Copied) => Ok(None),
            (Message::DataRow(values), State::Copied) if self.stop.is_none() => {
                let row = Row::new(values);
                let timeline = Timeline(row.require(1, "the timeline of the backup's end")?);
                self.stop = Some((row.require(0, "the backup's end")?, timeline));
                Ok(None)
            }
            (other, state) => Err(other.unexpected(&format!("a backup, {state:?}")).into()),
        }
    }

    fn frame(&mut self, frame: ArchiveFrame) -> Result<BackupEvent> {
        match (frame, self.state) {
            (ArchiveFrame::Progress(done), _) => Ok(BackupEvent::Progress(done)),
            (ArchiveFrame::Data(bytes), State::Archive) => Ok(BackupEvent::Data(bytes)),
            (ArchiveFrame::Data(bytes), State::Manifest) => Ok(BackupEvent::ManifestData(bytes)),
            (ArchiveFrame::Archive { name, location }, State::Begun | State::Archive) => {
                let tablespace = archive_oid(&name)?;
                self.state = State::Archive;
                Ok(BackupEvent::Archive {
                    name,
                    tablespace,
                    location,
                })
            }
            (ArchiveFrame::Manifest, State::Archive) => {
                self.state = State::Manifest;
                Ok(BackupEvent::Manifest)
            }
            (frame, state) => {
                let kind = match frame {
                    ArchiveFrame::Data(_) => "data",
                    ArchiveFrame::Archive { .. } => "an archive",
                    _ => "a manifest",
                };
                Err(protocol(format!("{kind} out of order in a backup ({state:?})")))
            }
        }
    }

    /// The server is ready again: the backup is complete, complete but damaged, or refused.
    fn end(&mut self) -> Result<BackupEvent, Failure> {
        let state = std::mem::replace(&mut self.state, State::Done);
        match (self.stop.take(), self.refused.take()) {
            (Some((stop_lsn, timeline)), None) if state == State::Copied => Ok(end(stop_lsn, timeline, None)),
            (Some((stop_lsn, timeline)), Some(error)) if error.sqlstate == DATA_CORRUPTED => {
                Ok(end(stop_lsn, timeline, Some(*error)))
            }
            (_, Some(error)) => Err(Failure::Server(error)),
            _ => Err(early_end()),
        }
    }
}

fn early_end() -> Failure {
    let error: Error = missing("the backup's end");
    Failure::Broken(error)
}

fn end(stop_lsn: Lsn, timeline: Timeline, damaged: Option<ServerError>) -> BackupEvent {
    BackupEvent::End(BackupEnd {
        stop_lsn,
        timeline,
        damaged,
        warnings: Vec::new(),
        warnings_dropped: 0,
    })
}

/// `base.tar` is the data directory, `16384.tar` a tablespace.
fn archive_oid(name: &str) -> Result<Option<u32>> {
    let stem = name.strip_suffix(".tar");
    match stem {
        Some("base") => Ok(None),
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            let oid = digits
                .parse()
                .map_err(|_| protocol(format!("an archive named {name}")))?;
            Ok(Some(oid))
        }
        _ => Err(protocol(format!("an archive named {}", name.escape_debug()))),
    }
}
