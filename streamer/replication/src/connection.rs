//! A walsender connection that waits for a command, and the commands that answer with rows.
//!
//! One command at a time. A future that is dropped in the middle of a command leaves its answer unread; the
//! connection then refuses the next command instead of taking an old answer for a new one.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hardstorage_report::{Error, Lsn, Result, Retry, SystemId, Timeline, code};
use postgres_protocol::message::frontend;

use crate::command;
use crate::message::{Message, protocol};
use crate::rows::{ResultSet, missing};
use crate::server_error::{During, ServerError};
use crate::setting;
use crate::wire::Wire;

/// How long a command that reads something may take until its answer is whole.
const REPLY_TIMEOUT: Duration = Duration::from_mins(1);

/// An authenticated replication connection (`replication=true`) to a server of 15 to 18.
#[derive(Debug)]
pub struct Connection {
    wire: Wire,
    version: u32,
    answering: bool,
    reply_timeout: Duration,
}

/// The answer to IDENTIFY_SYSTEM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemIdentity {
    /// The cluster's identifier, the same on a primary and its standbys.
    pub system_id: SystemId,
    /// The timeline that the server is on.
    pub timeline: Timeline,
    /// How far it has flushed WAL; on a standby, how far it has replayed or received.
    pub flush_lsn: Lsn,
}

/// The answer to READ_REPLICATION_SLOT for a slot that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotState {
    /// The oldest WAL that the slot keeps; `None` when it reserves nothing yet.
    pub restart_lsn: Option<Lsn>,
    /// The timeline of `restart_lsn`.
    pub restart_timeline: Option<Timeline>,
}

/// Why an exchange failed: the server refused, or the exchange itself broke.
#[derive(Debug)]
pub(crate) enum Failure {
    Server(Box<ServerError>),
    Broken(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Broken(error)
    }
}

impl Failure {
    pub(crate) fn into_error(self, during: During<'_>, doing: &str) -> Error {
        match self {
            Failure::Server(error) => error.into_error(during, doing),
            Failure::Broken(error) => error.context(doing),
        }
    }
}

/// One part of the answer to a command.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A command completed, with or without rows.
    Rows(ResultSet),
    /// A COPY begins: `CopyOutResponse` or `CopyBothResponse`.
    Copy(Message),
    /// The server waits for the next command.
    Ready,
}

impl Connection {
    /// A connection over a wire on which authentication is done and the first ReadyForQuery was read.
    ///
    /// A server that is not 15 to 18 is [`code::replication::VERSION`].
    pub fn from_wire(wire: Wire) -> Result<Connection> {
        let version = match wire.parameters().get("server_version") {
            Some(text) => setting::supported(text)?,
            None => return Err(missing("server_version")),
        };
        Ok(Connection {
            wire,
            version,
            answering: false,
            reply_timeout: REPLY_TIMEOUT,
        })
    }

    /// The server's version as `server_version_num` has it: 180006 is 18.6.
    pub fn server_version_num(&self) -> u32 {
        self.version
    }

    /// The parameters that the server reported by itself, by name: `server_version`, `TimeZone` and so on.
    pub fn parameters(&self) -> &BTreeMap<String, String> {
        self.wire.parameters()
    }

    /// Takes the notices and warnings since the last call, and how many more there were no room for.
    pub fn take_notices(&mut self) -> (Vec<ServerError>, u64) {
        self.wire.take_notices()
    }

    /// How long a command that only reads may take until it counts as [`code::replication::UNREACHABLE`]: 60 s.
    /// A base backup and `drop_slot(.., wait)` have no such limit: they wait for a checkpoint or for another process.
    #[must_use]
    pub fn with_reply_timeout(mut self, limit: Duration) -> Connection {
        self.reply_timeout = limit;
        self
    }

    /// IDENTIFY_SYSTEM: which cluster this is and how far it is.
    pub async fn identify(&mut self) -> Result<SystemIdentity> {
        let doing = "IDENTIFY_SYSTEM";
        let row = self.single(doing, During::Query, doing).await?;
        Ok(SystemIdentity {
            system_id: row.require(0, "the system identifier")?,
            timeline: Timeline(row.require(1, "the timeline")?),
            flush_lsn: row.require(2, "the flush position")?,
        })
    }

    /// SHOW: a setting as text with its unit, for example `16MB`.
    ///
    /// A setting that this role may not see is [`code::replication::DENIED`].
    pub async fn show(&mut self, name: &str) -> Result<String> {
        let text = command::show(name)?;
        let row = self.single(&text, During::Query, &text).await?;
        // A path may have bytes that are no UTF-8; everything else is ASCII.
        let value = row.bytes(0)?.ok_or_else(|| missing(name))?;
        Ok(String::from_utf8_lossy(value).into_owned())
    }

    /// TIMELINE_HISTORY: the history file's name and its bytes as they lie on the server.
    ///
    /// A file that is not there, as for timeline 1, is [`code::replication::HISTORY_MISSING`].
    pub async fn timeline_history(&mut self, timeline: Timeline) -> Result<(String, Bytes)> {
        let text = command::timeline_history(timeline);
        let row = self.single(&text, During::History, &text).await?;
        let name: String = row.require(0, "the history file's name")?;
        let content = row.bytes(1)?.ok_or_else(|| missing("the history file"))?;
        // Its own memory: a slice would keep the whole read buffer alive.
        Ok((name, Bytes::copy_from_slice(content)))
    }

    /// READ_REPLICATION_SLOT: `None` when there is no slot of this name.
    pub async fn read_slot(&mut self, name: &str) -> Result<Option<SlotState>> {
        let text = command::read_slot(name)?;
        let row = self.single(&text, During::Slot(name), &text).await?;
        if row.bytes(0)?.is_none() {
            return Ok(None);
        }
        Ok(Some(SlotState {
            restart_lsn: row.get(1, "the slot's restart_lsn")?,
            restart_timeline: row.get(2, "the slot's timeline")?.map(Timeline),
        }))
    }

    /// CREATE_REPLICATION_SLOT ... PHYSICAL. With `reserve_wal` it keeps WAL from now on, else from its first use. A
    /// temporary slot ends with this connection.
    ///
    /// A slot of this name is [`code::replication::SLOT_EXISTS`]; no free slot is [`code::replication::SLOTS_FULL`].
    pub async fn create_slot(&mut self, name: &str, temporary: bool, reserve_wal: bool) -> Result<()> {
        let text = command::create_slot(name, temporary, reserve_wal)?;
        self.single(&text, During::Slot(name), &text).await?;
        Ok(())
    }

    /// DROP_REPLICATION_SLOT. With `wait` it waits without limit until nobody uses the slot, else a used one is
    /// [`code::replication::SLOT_IN_USE`].
    pub async fn drop_slot(&mut self, name: &str, wait: bool) -> Result<()> {
        let text = command::drop_slot(name, wait)?;
        let limit = self.reply_timeout;
        let answer = self.query(&text);
        let sets = if wait {
            answer.await
        } else {
            within(limit, answer).await
        };
        sets.map(drop)
            .map_err(|failure| failure.into_error(During::Slot(name), &text))
    }

    /// SQL, on a connection to a database (`ConnectMode::Database`): the rows of its only result, each value as text.
    ///
    /// What this role may not do is [`code::replication::DENIED`].
    pub async fn rows(&mut self, sql: &str) -> Result<Vec<Vec<Option<Bytes>>>> {
        let limit = self.reply_timeout;
        let sets = within(limit, self.query(sql))
            .await
            .map_err(|failure| failure.into_error(During::Query, "ask by SQL"))?;
        let rows = sets.into_iter().flat_map(ResultSet::into_rows);
        Ok(rows.map(crate::rows::Row::into_values).collect())
    }

    /// Says goodbye, so that the server logs no lost connection. Dropping a connection is allowed too.
    pub async fn close(mut self) {
        let mut goodbye = BytesMut::new();
        frontend::terminate(&mut goodbye);
        self.wire.send(&goodbye).await;
    }

    async fn single(&mut self, text: &str, during: During<'_>, doing: &str) -> Result<crate::rows::Row> {
        let limit = self.reply_timeout;
        let sets = within(limit, self.query(text))
            .await
            .map_err(|failure| failure.into_error(during, doing))?;
        let count = sets.len();
        let mut sets = sets.into_iter();
        match (sets.next(), sets.next()) {
            (Some(set), None) => set.into_single(doing),
            _ => Err(protocol(format!("{doing} answered with {count} results"))),
        }
    }

    /// Sends a command and reads its whole answer.
    async fn query(&mut self, text: &str) -> Result<Vec<ResultSet>, Failure> {
        self.begin(text).await?;
        let mut sets = Vec::new();
        loop {
            match self.answer().await? {
                Answer::Rows(set) => sets.push(set),
                Answer::Ready => return Ok(sets),
                Answer::Copy(message) => return Err(message.unexpected("a query").into()),
            }
        }
    }

    /// Sends a command; its answer must be read to the end with [`Connection::answer`].
    pub(crate) async fn begin(&mut self, text: &str) -> Result<()> {
        if self.answering {
            let message = "an earlier command on this connection was given up before its answer was read";
            return Err(Error::new(code::replication::UNREACHABLE, message).retry(Retry::Now));
        }
        let mut query = BytesMut::new();
        frontend::query(text, &mut query).map_err(|error| protocol("the command has a zero byte").source(error))?;
        self.answering = true;
        self.wire.send(&query).await;
        Ok(())
    }

    /// Reads one part of the answer. A refusal is returned after the server is ready again, or gone.
    pub(crate) async fn answer(&mut self) -> Result<Answer, Failure> {
        let mut set: Option<ResultSet> = None;
        loop {
            match (self.wire.recv().await?, &mut set) {
                (Message::RowDescription(columns), None) => set = Some(ResultSet::new(columns)),
                (Message::DataRow(values), Some(set)) => set.push(values)?,
                (Message::CommandComplete(_) | Message::EmptyQueryResponse, _) => {
                    return Ok(Answer::Rows(set.unwrap_or_default()));
                }
                (message @ (Message::CopyOutResponse | Message::CopyBothResponse), None) => {
                    return Ok(Answer::Copy(message));
                }
                (Message::ReadyForQuery(_), None) => {
                    self.answering = false;
                    return Ok(Answer::Ready);
                }
                (Message::ErrorResponse(error), _) => return Err(self.refused(error).await),
                (other, _) => return Err(other.unexpected("the answer to a command").into()),
            }
        }
    }

    /// Reads on to ReadyForQuery after an error, so that the connection can be used again.
    async fn refused(&mut self, error: Box<ServerError>) -> Failure {
        if error.ends_connection() {
            return Failure::Server(error);
        }
        loop {
            match self.wire.recv().await {
                Ok(Message::ReadyForQuery(_)) => {
                    self.answering = false;
                    return Failure::Server(error);
                }
                // The server's error is the reason; that the connection ended after it is not.
                Err(_) => return Failure::Server(error),
                Ok(_) => {}
            }
        }
    }

    pub(crate) fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    pub(crate) fn is_ready(&mut self) {
        self.answering = false;
    }

    pub(crate) fn reply_timeout(&self) -> Duration {
        self.reply_timeout
    }
}

/// Waits at most this long for an answer.
pub(crate) async fn within<T>(limit: Duration, answer: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match tokio::time::timeout(limit, answer).await {
        Ok(result) => result,
        Err(_) => Err(Failure::Broken(silent(limit))),
    }
}

/// The error for a server that says nothing.
pub(crate) fn silent(limit: Duration) -> Error {
    Error::new(
        code::replication::UNREACHABLE,
        format!("PostgreSQL said nothing for {limit:?}"),
    )
    .retry(Retry::Now)
}
