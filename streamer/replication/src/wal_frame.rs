//! The messages inside the COPY of streaming replication: `w` and `k` from the server, `r` to it.
//! Source: `protocol.sgml`, "Streaming Replication Protocol".

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{BufMut as _, Bytes, BytesMut};
use hardstorage_report::{Lsn, Result};

use crate::message::{Cursor, protocol};
use crate::stream::StreamEvent;

/// Seconds from 1970 to 2000, where PostgreSQL's clock begins.
const EPOCH_2000: i64 = 946_684_800;

/// A moment by PostgreSQL's clock: microseconds since 2000-01-01 00:00 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerTime(pub i64);

impl ServerTime {
    /// Microseconds since 1970-01-01 00:00 UTC; saturates.
    pub fn unix_micros(self) -> i64 {
        self.0.saturating_add(EPOCH_2000 * 1_000_000)
    }

    /// The same moment by this machine's clock.
    pub fn from_system(time: SystemTime) -> ServerTime {
        let unix = match time.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros),
        };
        ServerTime(unix.saturating_sub(EPOCH_2000 * 1_000_000))
    }
}

/// Decodes what a server sends while it streams.
pub(crate) fn decode(body: Bytes) -> Result<StreamEvent> {
    let mut body = Cursor::new(body);
    match body.u8()? {
        b'w' => {
            let lsn = Lsn(body.u64()?);
            let server_end = Lsn(body.u64()?);
            let server_time = ServerTime(body.i64()?);
            let bytes = body.rest();
            if lsn.0.checked_add(bytes.len() as u64).is_none() {
                return Err(protocol("WAL past the end of the address space"));
            }
            Ok(StreamEvent::Data {
                lsn,
                server_end,
                server_time,
                bytes,
            })
        }
        b'k' => {
            let keepalive = StreamEvent::Keepalive {
                server_end: Lsn(body.u64()?),
                server_time: ServerTime(body.i64()?),
                reply_requested: body.u8()? != 0,
            };
            if !body.is_empty() {
                return Err(protocol("a keepalive that is too long"));
            }
            Ok(keepalive)
        }
        other => Err(protocol(format!(
            "a replication message of the unknown kind '{}'",
            other.escape_ascii()
        ))),
    }
}

/// What is told to the server: `r`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    /// Written, not yet safe.
    pub(crate) written: Lsn,
    /// Safe: the server may remove everything before it.
    pub(crate) flushed: Lsn,
    pub(crate) time: ServerTime,
    /// Whether the server shall answer at once.
    pub(crate) reply_requested: bool,
}

impl Status {
    /// The whole CopyData message. What is "applied" here is what is flushed: a backup has nothing to replay, and a
    /// commit that waits for `remote_apply` must not be let go by anything less than safe.
    pub(crate) fn encode(self, out: &mut BytesMut) {
        out.put_u8(b'd');
        out.put_u32(4 + 1 + 8 * 4 + 1);
        out.put_u8(b'r');
        out.put_u64(self.written.0);
        out.put_u64(self.flushed.0);
        out.put_u64(self.flushed.0);
        out.put_i64(self.time.0);
        out.put_u8(u8::from(self.reply_requested));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn golden_wal_data() {
        let bytes = b"w\0\0\0\x01\x03\0\0\x28\0\0\0\x01\x04\0\0\0\0\x02\xe1\x2b\x1d\x7e\x40\0WAL";
        assert_eq!(
            decode(Bytes::from_static(bytes)).unwrap(),
            StreamEvent::Data {
                lsn: "1/3000028".parse().unwrap(),
                server_end: "1/4000000".parse().unwrap(),
                server_time: ServerTime(0x0002_e12b_1d7e_4000),
                bytes: Bytes::from_static(b"WAL"),
            }
        );
    }

    #[test]
    fn golden_keepalive() {
        let bytes = b"k\0\0\0\0\x03\0\0\0\0\0\0\0\0\0\0\x01\x01";
        assert_eq!(
            decode(Bytes::from_static(bytes)).unwrap(),
            StreamEvent::Keepalive {
                server_end: "0/3000000".parse().unwrap(),
                server_time: ServerTime(1),
                reply_requested: true,
            }
        );
        assert!(decode(Bytes::from_static(&bytes[..17])).is_err());
        assert!(decode(Bytes::from_static(b"s")).is_err());
        assert!(decode(Bytes::new()).is_err());
    }

    #[test]
    fn golden_status_applies_no_more_than_it_flushes() {
        let mut out = BytesMut::new();
        Status {
            written: Lsn(0x1_0300_0000),
            flushed: Lsn(0x300_0000),
            time: ServerTime(2),
            reply_requested: true,
        }
        .encode(&mut out);
        assert_eq!(
            &out[..],
            b"d\0\0\0\x26r\0\0\0\x01\x03\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\0\0\0\x02\x01"
        );
    }

    #[test]
    fn the_clock_begins_in_2000() {
        let noon = UNIX_EPOCH + Duration::from_secs(EPOCH_2000 as u64) + Duration::from_micros(7);
        assert_eq!(ServerTime::from_system(noon), ServerTime(7));
        assert_eq!(ServerTime(7).unix_micros(), EPOCH_2000 * 1_000_000 + 7);
        assert_eq!(
            ServerTime::from_system(UNIX_EPOCH - Duration::from_secs(1)).unix_micros(),
            -1_000_000
        );
        assert_eq!(ServerTime(i64::MAX).unix_micros(), i64::MAX);
    }

    proptest! {
        #[test]
        fn data_round_trip(
            lsn in 0..u64::MAX / 2, end in any::<u64>(), time in any::<i64>(),
            data in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let mut body = BytesMut::new();
            body.put_u8(b'w');
            body.put_u64(lsn);
            body.put_u64(end);
            body.put_i64(time);
            body.put_slice(&data);
            prop_assert_eq!(decode(body.freeze()).unwrap(), StreamEvent::Data {
                lsn: Lsn(lsn), server_end: Lsn(end), server_time: ServerTime(time), bytes: Bytes::from(data),
            });
        }

        #[test]
        fn any_bytes_are_answered(body in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode(Bytes::from(body));
        }
    }
}
