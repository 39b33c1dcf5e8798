//! What a server says when it refuses or warns: the fields of ErrorResponse and NoticeResponse, and the one place
//! where an SQLSTATE becomes a code of ours.
//!
//! Only the SQLSTATE and what was being done decide. The server's text is for people and may be in any language,
//! so nothing here reads its words.

use std::fmt;

use hardstorage_report::{Code, Error, Result, Retry, code};

use crate::message::Cursor;

/// An error or a notice from the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerError {
    /// `ERROR`, `FATAL`, `PANIC`, `WARNING`, `NOTICE`, `LOG` and so on, never translated (field `V`).
    pub severity: String,
    /// Five letters and digits (field `C`).
    pub sqlstate: String,
    /// The text, in the server's language.
    pub message: String,
    /// A second line.
    pub detail: Option<String>,
    /// What the server proposes.
    pub hint: Option<String>,
    /// The call stack within the server, for example the file that a worker was reading (field `W`).
    pub context: Option<String>,
    /// The function of the server that said so, never translated (field `R`).
    pub routine: Option<String>,
}

/// What was being done when the server refused. The same SQLSTATE has different reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum During<'a> {
    /// From the startup message to the first ReadyForQuery.
    Connect,
    /// IDENTIFY_SYSTEM, SHOW.
    Query,
    /// TIMELINE_HISTORY.
    History,
    /// READ, CREATE or DROP of this slot.
    Slot(&'a str),
    /// BASE_BACKUP.
    BaseBackup,
    /// START_REPLICATION and the stream after it, from this slot.
    Stream(Option<&'a str>),
}

impl ServerError {
    pub(crate) fn decode(body: &mut Cursor) -> Result<ServerError> {
        let mut error = ServerError::default();
        let mut localized = String::new();
        loop {
            let field = body.u8()?;
            if field == 0 {
                break;
            }
            let value = body.text()?;
            match field {
                b'V' => error.severity = value,
                b'S' => localized = value,
                b'C' => error.sqlstate = value,
                b'M' => error.message = value,
                b'D' => error.detail = Some(value),
                b'H' => error.hint = Some(value),
                b'W' => error.context = Some(value),
                b'R' => error.routine = Some(value),
                _ => {}
            }
        }
        if error.severity.is_empty() {
            // Something that is not PostgreSQL itself, a pooler for instance, may leave V out.
            error.severity = localized;
        }
        Ok(error)
    }

    /// Whether the server closes the connection after it.
    pub fn ends_connection(&self) -> bool {
        matches!(self.severity.as_str(), "FATAL" | "PANIC")
    }

    /// The server's error below `error`, if it was one.
    pub fn of(error: &Error) -> Option<&ServerError> {
        let mut cause = std::error::Error::source(error);
        while let Some(here) = cause {
            if let Some(found) = here.downcast_ref::<ServerError>() {
                return Some(found);
            }
            cause = here.source();
        }
        None
    }

    /// Our error for it: the code by SQLSTATE, the server's own words as the source.
    pub(crate) fn into_error(self, during: During<'_>, doing: impl fmt::Display) -> Error {
        let (code, retry) = self.classify(during);
        let mut message = doing.to_string();
        if code == code::replication::SLOT_IN_USE
            && let During::Slot(slot) | During::Stream(Some(slot)) = during
            && let Some(pid) = self.process_id(slot)
        {
            message = format!("{message}: process {pid} uses slot {slot}");
        }
        let mut error = Error::new(code, message).retry(retry);
        // Its hint beats ours only where we know no better than "the server said no".
        if code == code::replication::SERVER
            && let Some(hint) = &self.hint
        {
            error = error.hint(hint.clone());
        }
        error.source(self)
    }

    fn classify(&self, during: During<'_>) -> (Code, Retry) {
        use During::{BaseBackup, Connect, History, Slot, Stream};
        use code::replication as codes;
        let slot = matches!(during, Slot(_) | Stream(_));
        match self.sqlstate.as_str() {
            "28P01" => (codes::AUTH, Retry::Never),
            "28000" => (codes::HBA, Retry::Never),
            "42501" if during == Connect => (codes::ROLE, Retry::Never),
            "42501" => (codes::DENIED, Retry::Never),
            "55006" if slot => (codes::SLOT_IN_USE, Retry::Later),
            "42704" if slot => (codes::SLOT_MISSING, Retry::Never),
            "42710" if slot => (codes::SLOT_EXISTS, Retry::Never),
            "42602" if slot => (code::usage::INVALID, Retry::Never),
            // max_replication_slots is used up, or is zero.
            "53400" if slot => (codes::SLOTS_FULL, Retry::Later),
            // A logical one, asked as a physical one.
            "0A000" if matches!(during, Slot(_)) => (codes::SLOT_UNUSABLE, Retry::Never),
            // Invalidated.
            "55000" if slot => (codes::SLOT_UNUSABLE, Retry::Never),
            "53300" => (codes::SENDERS_FULL, Retry::Later),
            "58P01" if matches!(during, Stream(_)) => (codes::WAL_REMOVED, Retry::Never),
            "58P01" if during == History => (codes::HISTORY_MISSING, Retry::Never),
            // The server starts, stops, restarts after a crash or runs into a recovery conflict.
            state if state.starts_with("57P") || state.starts_with("08") => (codes::UNREACHABLE, Retry::Later),
            "57014" => (codes::SERVER, Retry::Now),
            // It lacks disk, memory or a configured limit; a standby was promoted below a backup.
            state if state.starts_with("53") => (codes::SERVER, Retry::Later),
            "55000" if during == BaseBackup => (codes::SERVER, Retry::Later),
            _ => (codes::SERVER, Retry::Never),
        }
    }

    /// The process that the server names beside the slot. Its sentence is unknown, but of the numbers in it only the
    /// process is not part of the slot's name.
    fn process_id(&self, slot: &str) -> Option<u32> {
        [self.detail.as_deref(), Some(&self.message)]
            .into_iter()
            .flatten()
            .find_map(|text| {
                text.replace(slot, " ")
                    .split(|c: char| !c.is_ascii_digit())
                    .filter_map(|digits| digits.parse().ok())
                    .next_back()
            })
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        if let Some(detail) = &self.detail {
            write!(f, " ({detail})")?;
        }
        write!(f, " [{} {}]", self.severity, self.sqlstate)
    }
}

impl std::error::Error for ServerError {}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn decode(body: &'static [u8]) -> Result<ServerError> {
        ServerError::decode(&mut Cursor::new(Bytes::from_static(body)))
    }

    fn refused(sqlstate: &str, message: &str) -> ServerError {
        ServerError {
            severity: "ERROR".to_owned(),
            sqlstate: sqlstate.to_owned(),
            message: message.to_owned(),
            ..ServerError::default()
        }
    }

    #[test]
    fn the_fields_of_a_translated_error() {
        let error =
            decode("S错误\0VERROR\0C55006\0M用于PID 4711的复制槽\"db1\"已激活\0Dd\0Hh\0Fslot.c\0L1\0RX\0\0".as_bytes())
                .unwrap();
        assert_eq!(error.severity, "ERROR");
        assert_eq!(error.sqlstate, "55006");
        assert_eq!(error.detail.as_deref(), Some("d"));
        assert_eq!(error.hint.as_deref(), Some("h"));
        assert!(decode(b"SERROR\0VERROR").is_err());
    }

    #[test]
    fn the_process_is_named_in_any_language_and_whatever_the_slot_is_called() {
        for message in [
            "replication slot \"db_17\" is active for PID 4711",
            "用于PID 4711的复制槽\"db_17\"已激活",
        ] {
            let error = refused("55006", message).into_error(During::Stream(Some("db_17")), "start replication");
            assert!(error.is(code::replication::SLOT_IN_USE));
            assert!(error.message().contains("process 4711"), "{error}");
            assert_eq!(error.retry_advice(), Retry::Later);
        }
    }

    #[test]
    fn one_sqlstate_means_different_things() {
        let code = |state: &str, during| refused(state, "no").into_error(during, "x").code();
        assert_eq!(code("58P01", During::Stream(None)), code::replication::WAL_REMOVED);
        assert_eq!(code("58P01", During::BaseBackup), code::replication::SERVER);
        assert_eq!(code("58P01", During::History), code::replication::HISTORY_MISSING);
        assert_eq!(code("42704", During::Query), code::replication::SERVER);
        assert_eq!(code("42704", During::Slot("s")), code::replication::SLOT_MISSING);
        assert_eq!(code("42501", During::Connect), code::replication::ROLE);
        assert_eq!(code("42501", During::Query), code::replication::DENIED);
        assert_eq!(code("53300", During::Connect), code::replication::SENDERS_FULL);
        assert_eq!(code("53400", During::Slot("s")), code::replication::SLOTS_FULL);
        assert_eq!(code("0A000", During::Slot("s")), code::replication::SLOT_UNUSABLE);
        assert_eq!(code("0A000", During::Query), code::replication::SERVER);
        assert_eq!(code("57P03", During::Connect), code::replication::UNREACHABLE);
    }

    #[test]
    fn the_words_of_the_server_stay() {
        let error = refused("XX000", "etwas ging schief").into_error(During::Query, "SHOW wal_level");
        assert_eq!(error.to_string(), "SHOW wal_level: etwas ging schief [ERROR XX000]");
        assert_eq!(ServerError::of(&error.context("probe")).unwrap().sqlstate, "XX000");
    }
}
