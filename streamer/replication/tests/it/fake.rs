//! A scripted server at the other end of a pipe in memory: it sends any bytes, and fails the test when the client does
//! not send what the script expects.

use bytes::{Buf as _, BufMut as _, BytesMut};
use hardstorage_replication::{Connection, Wire};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

/// The server's end.
pub struct Fake {
    stream: DuplexStream,
    input: BytesMut,
}

/// A status as the server gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    pub written: u64,
    pub flushed: u64,
    pub applied: u64,
    pub reply_requested: bool,
}

/// What the client says while it streams.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    Status(Status),
    CopyDone,
}

/// A message: tag, length, body.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.put_u32(body.len() as u32 + 4);
    out.put_slice(body);
    out
}

pub fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

pub fn complete(tag: &str) -> Vec<u8> {
    message(b'C', format!("{tag}\0").as_bytes())
}

pub fn copy_both() -> Vec<u8> {
    message(b'W', &[0, 0, 0])
}

pub fn copy_done() -> Vec<u8> {
    message(b'c', &[])
}

pub fn copy_data(body: &[u8]) -> Vec<u8> {
    message(b'd', body)
}

/// Columns of text without names that matter, and rows.
pub fn rows(columns: usize, rows: &[&[Option<&str>]]) -> Vec<u8> {
    let mut description = Vec::new();
    description.put_u16(columns as u16);
    for column in 0..columns {
        description.put_slice(format!("c{column}\0").as_bytes());
        description.put_slice(&[0, 0, 0, 0, 0, 0]);
        description.put_u32(25);
        description.put_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
    }
    let mut out = message(b'T', &description);
    for row in rows {
        let mut body = Vec::new();
        body.put_u16(row.len() as u16);
        for value in *row {
            match value {
                Some(text) => {
                    body.put_u32(text.len() as u32);
                    body.put_slice(text.as_bytes());
                }
                None => body.put_i32(-1),
            }
        }
        out.extend(message(b'D', &body));
    }
    out.extend(complete("SELECT"));
    out
}

/// An answer of one row.
pub fn row(values: &[Option<&str>]) -> Vec<u8> {
    rows(values.len(), &[values])
}

pub fn problem(tag: u8, severity: &str, sqlstate: &str, text: &str) -> Vec<u8> {
    message(tag, format!("S?\0V{severity}\0C{sqlstate}\0M{text}\0\0").as_bytes())
}

pub fn error(sqlstate: &str, text: &str) -> Vec<u8> {
    problem(b'E', "ERROR", sqlstate, text)
}

pub fn fatal(sqlstate: &str, text: &str) -> Vec<u8> {
    problem(b'E', "FATAL", sqlstate, text)
}

pub fn warning(text: &str) -> Vec<u8> {
    problem(b'N', "WARNING", "01000", text)
}

pub fn wal(lsn: u64, data: &[u8]) -> Vec<u8> {
    let mut body = vec![b'w'];
    body.put_u64(lsn);
    body.put_u64(lsn + data.len() as u64);
    body.put_i64(1);
    body.put_slice(data);
    copy_data(&body)
}

pub fn keepalive(end: u64, reply_requested: bool) -> Vec<u8> {
    let mut body = vec![b'k'];
    body.put_u64(end);
    body.put_i64(1);
    body.put_u8(u8::from(reply_requested));
    copy_data(&body)
}

/// A connection to a fake 18, over a pipe that holds this many bytes.
pub async fn connected_through(pipe: usize) -> (Connection, Fake) {
    let (wire, fake) = wire(pipe, "18.6").await;
    (Connection::from_wire(wire).unwrap(), fake)
}

pub async fn connected() -> (Connection, Fake) {
    connected_through(64 << 10).await
}

/// A wire on which a server of this version just became ready.
pub async fn wire(pipe: usize, version: &str) -> (Wire, Fake) {
    let (client, server) = tokio::io::duplex(pipe);
    let mut fake = Fake {
        stream: server,
        input: BytesMut::new(),
    };
    let mut hello = message(b'S', format!("server_version\0{version}\0").as_bytes());
    hello.extend(ready());
    fake.send(&hello).await;
    let mut wire = Wire::new(Box::new(client));
    wire.recv().await.unwrap();
    (wire, fake)
}

impl Fake {
    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Sends until the client goes away; how many bytes it took.
    pub async fn send_what_it_takes(&mut self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        while sent < bytes.len() {
            match self.stream.write(&bytes[sent..]).await {
                Ok(count) if count > 0 => sent += count,
                _ => break,
            }
        }
        sent
    }

    /// The next message of the client; `None` when it closed the connection.
    pub async fn next(&mut self) -> Option<(u8, BytesMut)> {
        loop {
            if self.input.len() >= 5 {
                let length = u32::from_be_bytes(self.input[1..5].try_into().unwrap()) as usize;
                if self.input.len() > length {
                    let tag = self.input[0];
                    let mut body = self.input.split_to(length + 1);
                    body.advance(5);
                    return Some((tag, body));
                }
            }
            if self.stream.read_buf(&mut self.input).await.unwrap() == 0 {
                return None;
            }
        }
    }

    /// Reads a query that must begin so.
    #[track_caller]
    pub fn expect<'a>(&'a mut self, begin: &'a str) -> impl Future<Output = String> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let (tag, body) = self
                .next()
                .await
                .unwrap_or_else(|| panic!("{caller}: the client is gone, expected {begin}"));
            assert_eq!(tag, b'Q', "{caller}");
            let text = String::from_utf8(body.to_vec()).unwrap();
            let text = text.trim_end_matches('\0').to_owned();
            assert!(text.starts_with(begin), "{caller}: expected {begin}, got {text}");
            text
        }
    }

    /// Reads a query and answers it.
    pub async fn answer(&mut self, begin: &str, with: &[u8]) -> String {
        let text = self.expect(begin).await;
        self.send(with).await;
        self.send(&ready()).await;
        text
    }

    /// Lets the client start a stream, from a server with this `wal_sender_timeout`.
    pub async fn stream(&mut self, wal_sender_timeout: &str) -> String {
        self.answer("SHOW wal_sender_timeout", &row(&[Some(wal_sender_timeout)]))
            .await;
        let text = self.expect("START_REPLICATION").await;
        self.send(&copy_both()).await;
        text
    }

    /// What the client says next in a stream.
    pub async fn said(&mut self) -> Option<Said> {
        let (tag, mut body) = self.next().await?;
        if tag == b'c' {
            return Some(Said::CopyDone);
        }
        assert_eq!((tag, body.get_u8()), (b'd', b'r'));
        let status = Status {
            written: body.get_u64(),
            flushed: body.get_u64(),
            applied: body.get_u64(),
            reply_requested: {
                body.get_i64();
                body.get_u8() == 1
            },
        };
        assert!(body.is_empty());
        assert_eq!(
            status.applied, status.flushed,
            "applied is never more or less than flushed"
        );
        Some(Said::Status(status))
    }

    pub async fn status(&mut self) -> Status {
        match self.said().await {
            Some(Said::Status(status)) => status,
            other => panic!("expected a status, got {other:?}"),
        }
    }

    /// Statuses up to the client's CopyDone.
    pub async fn until_copy_done(&mut self) -> Vec<Status> {
        let mut statuses = Vec::new();
        loop {
            match self.said().await {
                Some(Said::Status(status)) => statuses.push(status),
                Some(Said::CopyDone) => return statuses,
                None => panic!("the client is gone before its CopyDone"),
            }
        }
    }
}
