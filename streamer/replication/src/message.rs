//! The server's messages, decoded: the bytes after the five-byte header become a [`Message`] or a protocol error.
//!
//! All of them are decoded here, because the usual crate knows neither `W` (CopyBothResponse) nor `v`
//! (NegotiateProtocolVersion), and a parser with checked access for the dozen tags of a walsender is shorter than
//! two parsers side by side. Payloads are slices of the read buffer, never copies.
//! Source: PostgreSQL's `protocol.sgml`, "Message Formats".

use bytes::Bytes;
use hardstorage_report::{Error, Result, code};

use crate::ServerError;

/// One message from the server, without its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// `R`: a step of authentication.
    Authentication(Authentication),
    /// `K`: the backend's process id; the secret is as long as the protocol version allows.
    BackendKeyData {
        /// The backend's process id.
        process_id: i32,
        /// The secret of a cancel request.
        secret: Bytes,
    },
    /// `v`: the server knows only an older minor version, or not all `_pq_.` options.
    NegotiateProtocolVersion {
        /// The newest protocol that the server speaks; in old servers only the minor number.
        newest: i32,
        /// The options that it did not recognise.
        unrecognized: Vec<String>,
    },
    /// `Z`: the server waits for the next command; the byte is the transaction's state.
    ReadyForQuery(u8),
    /// `E`.
    ErrorResponse(Box<ServerError>),
    /// `N`; kept out of band by the wire.
    NoticeResponse(Box<ServerError>),
    /// `S`; kept out of band by the wire.
    ParameterStatus {
        /// The parameter's name.
        name: String,
        /// Its value now.
        value: String,
    },
    /// `A`; dropped by the wire: a walsender listens to nothing.
    NotificationResponse,
    /// `T`: the columns of the rows that follow.
    RowDescription(Vec<Column>),
    /// `D`: one row; `None` is NULL.
    DataRow(Vec<Option<Bytes>>),
    /// `C`: the command's tag.
    CommandComplete(String),
    /// `I`: the query was empty.
    EmptyQueryResponse,
    /// `H`: COPY to the client begins.
    CopyOutResponse,
    /// `G`: COPY from the client begins.
    CopyInResponse,
    /// `W`: COPY in both ways begins, the state of streaming replication.
    CopyBothResponse,
    /// `d`: a piece of a COPY.
    CopyData(Bytes),
    /// `c`: the server's half of a COPY is over.
    CopyDone,
}

/// A step of authentication (`R`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication {
    /// Done.
    Ok,
    /// The password as it is.
    CleartextPassword,
    /// The password hashed with MD5 and this salt.
    Md5Password {
        /// The salt.
        salt: [u8; 4],
    },
    /// SASL begins: the mechanisms in the server's order.
    Sasl {
        /// Names such as `SCRAM-SHA-256-PLUS`.
        mechanisms: Vec<String>,
    },
    /// The next challenge.
    SaslContinue(Bytes),
    /// The server's last word.
    SaslFinal(Bytes),
    /// A way that this client does not know (GSSAPI, SSPI, Kerberos), by its number.
    Unsupported(i32),
}

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type's oid; a walsender uses `text`, `int4`, `int8`, `bytea`.
    pub type_oid: u32,
}

/// A broken rule of the protocol.
pub(crate) fn protocol(message: impl Into<String>) -> Error {
    Error::new(code::replication::PROTOCOL, message)
}

impl Message {
    /// Decodes the body of a message with this tag. Any bytes are answered, never with a panic.
    pub fn decode(tag: u8, body: Bytes) -> Result<Message> {
        let mut body = Cursor { body };
        let message = match tag {
            b'R' => Message::Authentication(authentication(&mut body)?),
            b'K' => Message::BackendKeyData {
                process_id: body.i32()?,
                secret: body.rest(),
            },
            b'v' => negotiate(&mut body)?,
            b'Z' => Message::ReadyForQuery(body.u8()?),
            b'E' => Message::ErrorResponse(Box::new(ServerError::decode(&mut body)?)),
            b'N' => Message::NoticeResponse(Box::new(ServerError::decode(&mut body)?)),
            b'S' => Message::ParameterStatus {
                name: body.text()?,
                value: body.text()?,
            },
            b'A' => {
                body.rest();
                Message::NotificationResponse
            }
            b'T' => Message::RowDescription(columns(&mut body)?),
            b'D' => Message::DataRow(row(&mut body)?),
            b'C' => Message::CommandComplete(body.text()?),
            b'I' => Message::EmptyQueryResponse,
            b'H' => copy_response(&mut body, Message::CopyOutResponse)?,
            b'G' => copy_response(&mut body, Message::CopyInResponse)?,
            b'W' => copy_response(&mut body, Message::CopyBothResponse)?,
            b'd' => Message::CopyData(body.rest()),
            b'c' => Message::CopyDone,
            other => {
                return Err(protocol(format!(
                    "a message with the unknown tag '{}'",
                    other.escape_ascii()
                )));
            }
        };
        if !body.body.is_empty() {
            return Err(protocol(format!(
                "{} bytes too many in a message with the tag '{}'",
                body.body.len(),
                tag.escape_ascii()
            )));
        }
        Ok(message)
    }

    /// What it is, for messages about a broken sequence; never its content.
    pub fn name(&self) -> &'static str {
        match self {
            Message::Authentication(_) => "Authentication",
            Message::BackendKeyData { .. } => "BackendKeyData",
            Message::NegotiateProtocolVersion { .. } => "NegotiateProtocolVersion",
            Message::ReadyForQuery(_) => "ReadyForQuery",
            Message::ErrorResponse(_) => "ErrorResponse",
            Message::NoticeResponse(_) => "NoticeResponse",
            Message::ParameterStatus { .. } => "ParameterStatus",
            Message::NotificationResponse => "NotificationResponse",
            Message::RowDescription(_) => "RowDescription",
            Message::DataRow(_) => "DataRow",
            Message::CommandComplete(_) => "CommandComplete",
            Message::EmptyQueryResponse => "EmptyQueryResponse",
            Message::CopyOutResponse => "CopyOutResponse",
            Message::CopyInResponse => "CopyInResponse",
            Message::CopyBothResponse => "CopyBothResponse",
            Message::CopyData(_) => "CopyData",
            Message::CopyDone => "CopyDone",
        }
    }

    /// The error for a message that may not come now.
    pub(crate) fn unexpected(&self, during: &str) -> Error {
        protocol(format!(
            "{} where the protocol does not allow it ({during})",
            self.name()
        ))
    }
}

fn authentication(body: &mut Cursor) -> Result<Authentication> {
    Ok(match body.i32()? {
        0 => Authentication::Ok,
        3 => Authentication::CleartextPassword,
        5 => {
            let salt = body.take(4)?;
            Authentication::Md5Password {
                salt: <[u8; 4]>::try_from(&*salt).map_err(|_| short())?,
            }
        }
        10 => {
            let mut mechanisms = Vec::new();
            loop {
                let mechanism = body.text()?;
                if mechanism.is_empty() {
                    break;
                }
                mechanisms.push(mechanism);
            }
            Authentication::Sasl { mechanisms }
        }
        11 => Authentication::SaslContinue(body.rest()),
        12 => Authentication::SaslFinal(body.rest()),
        other => {
            body.rest();
            Authentication::Unsupported(other)
        }
    })
}

fn negotiate(body: &mut Cursor) -> Result<Message> {
    let newest = body.i32()?;
    let count = body.i32()?;
    let mut unrecognized = Vec::new();
    // Each name takes at least its terminator, so a lying count ends at the end of the body.
    for _ in 0..count {
        unrecognized.push(body.text()?);
    }
    Ok(Message::NegotiateProtocolVersion { newest, unrecognized })
}

fn columns(body: &mut Cursor) -> Result<Vec<Column>> {
    let count = body.u16()?;
    let mut columns = Vec::new();
    for _ in 0..count {
        let name = body.text()?;
        body.take(6)?; // the table's oid and the attribute's number
        let type_oid = body.i32()? as u32;
        body.take(8)?; // the type's size, its modifier and the format
        columns.push(Column { name, type_oid });
    }
    Ok(columns)
}

fn row(body: &mut Cursor) -> Result<Vec<Option<Bytes>>> {
    let count = body.u16()?;
    let mut values = Vec::new();
    for _ in 0..count {
        values.push(match body.i32()? {
            -1 => None,
            length => {
                let length = usize::try_from(length).map_err(|_| protocol("a value with a negative length"))?;
                Some(body.take(length)?)
            }
        });
    }
    Ok(values)
}

/// The formats of a COPY say nothing about a physical walsender; they are only measured.
fn copy_response(body: &mut Cursor, message: Message) -> Result<Message> {
    body.u8()?;
    let columns = usize::from(body.u16()?);
    body.take(columns * 2)?;
    Ok(message)
}

fn short() -> Error {
    protocol("a message shorter than its own fields")
}

/// Checked access to the front of a body.
pub(crate) struct Cursor {
    body: Bytes,
}

impl Cursor {
    pub(crate) fn new(body: Bytes) -> Cursor {
        Cursor { body }
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<Bytes> {
        if self.body.len() < count {
            return Err(short());
        }
        Ok(self.body.split_to(count))
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        self.take(1)?.first().copied().ok_or_else(short)
    }

    fn u16(&mut self) -> Result<u16> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes(<[u8; 2]>::try_from(&*bytes).map_err(|_| short())?))
    }

    fn i32(&mut self) -> Result<i32> {
        let bytes = self.take(4)?;
        Ok(i32::from_be_bytes(<[u8; 4]>::try_from(&*bytes).map_err(|_| short())?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64> {
        let bytes = self.take(8)?;
        Ok(i64::from_be_bytes(<[u8; 8]>::try_from(&*bytes).map_err(|_| short())?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        Ok(self.i64()? as u64)
    }

    /// The bytes up to the next NUL, which is taken too.
    pub(crate) fn zero_terminated(&mut self) -> Result<Bytes> {
        let end = self.body.iter().position(|b| *b == 0).ok_or_else(short)?;
        let value = self.body.split_to(end);
        self.take(1)?;
        Ok(value)
    }

    /// A string. A server with another encoding may send bytes that are not UTF-8 in a text for people;
    /// names and numbers are ASCII.
    pub(crate) fn text(&mut self) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.zero_terminated()?).into_owned())
    }

    pub(crate) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.body)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.body.is_empty()
    }
}

#[cfg(test)]
mod tests;
