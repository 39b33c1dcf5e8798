//! One record (`XLogRecord`): its header, and the beginning of its main data where that is of interest.

use hardstorage_codec::crc32c_append;
use hardstorage_report::Lsn;
use hardstorage_repository::wal::ServerTime;

/// `SizeOfXLogRecord`.
pub(super) const RECORD_HEADER: usize = 24;
/// How much of an interesting record is kept: its headers (at most one replication origin, one top-level xid, no
/// blocks) and the 72 bytes of a restore point fit many times.
pub(super) const KEPT: usize = 512;

/// `RM_XLOG_ID` and `RM_XACT_ID`.
const RM_XLOG: u8 = 0;
const RM_XACT: u8 = 1;

/// A record that was found, whole and with a matching checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it begins, as `pg_waldump` prints it.
    pub lsn: Lsn,
    /// Where it ends: where the next record may begin (after a switch: the next segment).
    pub end: Lsn,
    /// What it is.
    pub kind: FoundKind,
}

/// The records of interest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundKind {
    /// `COMMIT` or `COMMIT_PREPARED`, with the commit's time.
    Commit(ServerTime),
    /// `ABORT` or `ABORT_PREPARED`, with its time.
    Abort(ServerTime),
    /// `RESTORE_POINT`.
    RestorePoint {
        /// Up to the first NUL; bytes that are not UTF-8 are replaced.
        name: String,
        /// When.
        time: ServerTime,
    },
    /// `CHECKPOINT_SHUTDOWN` (the last record of a clean stop) or `CHECKPOINT_ONLINE`.
    Checkpoint {
        /// Whether the server stopped with it.
        shutdown: bool,
        /// Where recovery from it begins.
        redo: Lsn,
    },
    /// `SWITCH`: the rest of the segment is empty.
    Switch,
}

/// The fixed header.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordHeader {
    pub total: u32,
    info: u8,
    rmgr: u8,
    crc: u32,
    head: [u8; 20],
}

/// What the operation bits of `xl_info` mean for a resource manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interest {
    Commit,
    Abort,
    RestorePoint,
    Checkpoint { shutdown: bool },
    Switch,
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

impl RecordHeader {
    /// `None` for a length that no record has: the end of what was written.
    pub(super) fn decode(bytes: &[u8; RECORD_HEADER]) -> Option<RecordHeader> {
        let total = u32::from_le_bytes(field(bytes, 0)?);
        let header = RecordHeader {
            total,
            info: bytes[16],
            rmgr: bytes[17],
            crc: u32::from_le_bytes(field(bytes, 20)?),
            head: field(bytes, 0)?,
        };
        (total as usize >= RECORD_HEADER).then_some(header)
    }

    fn interest(&self) -> Option<Interest> {
        match (self.rmgr, self.info & 0xF0) {
            // XLOG_XACT_OPMASK is 0x70; the bit above says that more facts follow the time.
            (RM_XACT, info) => match info & 0x70 {
                0x00 | 0x30 => Some(Interest::Commit),
                0x20 | 0x40 => Some(Interest::Abort),
                _ => None,
            },
            (RM_XLOG, 0x00) => Some(Interest::Checkpoint { shutdown: true }),
            (RM_XLOG, 0x10) => Some(Interest::Checkpoint { shutdown: false }),
            (RM_XLOG, 0x40) => Some(Interest::Switch),
            (RM_XLOG, 0x70) => Some(Interest::RestorePoint),
            _ => None,
        }
    }

    /// How many bytes behind the header are worth keeping.
    pub(super) fn kept(&self) -> usize {
        match self.interest() {
            Some(_) => KEPT.min(self.total as usize - RECORD_HEADER),
            None => 0,
        }
    }

    /// Whether the rest of the segment is empty after this record.
    pub(super) fn is_switch(&self) -> bool {
        self.interest() == Some(Interest::Switch)
    }

    /// Whether the record is as it was written; `body_crc` is the CRC32C of everything behind the header, to which
    /// PostgreSQL adds the header's first twenty bytes.
    pub(super) fn checks(&self, body_crc: u32) -> bool {
        crc32c_append(body_crc, &self.head) == self.crc
    }

    /// What the record says; `body` holds the bytes behind the header, as far as they were kept.
    pub(super) fn read(&self, body: &[u8]) -> Option<FoundKind> {
        let interest = self.interest()?;
        if interest == Interest::Switch {
            return Some(FoundKind::Switch);
        }
        let data = main_data(body)?;
        let time = || field(data, 0).map(|bytes| ServerTime(i64::from_le_bytes(bytes)));
        Some(match interest {
            Interest::Commit => FoundKind::Commit(time()?),
            Interest::Abort => FoundKind::Abort(time()?),
            Interest::RestorePoint => {
                let name = data.get(8..72)?;
                let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
                FoundKind::RestorePoint {
                    name: String::from_utf8_lossy(&name[..end]).into_owned(),
                    time: time()?,
                }
            }
            Interest::Checkpoint { shutdown } => FoundKind::Checkpoint {
                shutdown,
                redo: Lsn(u64::from_le_bytes(field(data, 0)?)),
            },
            Interest::Switch => FoundKind::Switch,
        })
    }
}

/// The main data of a record without blocks: what follows the part headers. The records of interest never carry
/// blocks; one that does is not read.
fn main_data(body: &[u8]) -> Option<&[u8]> {
    let mut at = 0usize;
    loop {
        match body.get(at)? {
            // XLR_BLOCK_ID_DATA_SHORT, XLR_BLOCK_ID_DATA_LONG: the main data, always last.
            255 => return body.get(at + 2..),
            254 => return body.get(at + 5..),
            // XLR_BLOCK_ID_ORIGIN, XLR_BLOCK_ID_TOPLEVEL_XID.
            253 => at += 3,
            252 => at += 5,
            _ => return None,
        }
    }
}
