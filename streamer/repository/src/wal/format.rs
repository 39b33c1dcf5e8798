//! The bytes of a WAL object: a finished segment, a tail of an unfinished one, or a partial segment. A journal, which
//! grows, has the header, the metadata and the sealing of these, and else a form of its own: `journal.rs`.
//!
//! All numbers are little endian. `S` is the stored length of the directory, all lengths are in bytes. An object is,
//! without gaps:
//!
//! ```text
//! header     64, clear
//!    0  8  magic "HSWALOBJ"
//!    8  2  version, 1
//!   10  1  kind: 1 segment, 2 tail, 3 partial segment, 4 journal
//!   11  1  flags: bit 0 = sealed
//!   12  4  longest frame, 1048576
//!   16 16  data key id
//!   32 16  salt: random, new for every object
//!   48  8  size of a WAL segment
//!   56  8  zero
//! frames     numbered from 0; each is
//!    0  3  magic "HSW"                     \
//!    3  1  codec: 0 raw, 1 zstd, 2 zeros    |  16 bytes, clear,
//!    4  4  number                           |  authenticated as associated data
//!    8  4  stored length, tag included      |
//!   12  4  raw length                      /
//!   16  .  the payload, then the tag of 16 bytes
//! directory  S
//!    0 16  as a frame's header, with magic "HSD" and number 0
//!   16  .  the payload (see below), then the tag
//! metadata   272: 256 bytes (see below), then the tag
//! footer     128, clear
//!    0 64  the header again
//!   64  8  offset of the directory
//!   72  8  length of the whole object
//!   80  4  S
//!   84  4  number of frames
//!   88  8  magic "HSWALEND"
//!   96 32  BLAKE3 of every byte of the object before this field
//! ```
//!
//! Metadata and footer are the last 400 bytes, so that one small range read gets them: a listing tells the length. They
//! stand at the end because a segment of 1 GiB is compressed, sealed and sent while it arrives, and neither its hash nor
//! its last commit is known before its last byte.
//!
//! A frame holds the bytes up to the next multiple of 1 MiB *of the WAL position* (the first one of a tail may
//! therefore be shorter). Codec 0: the payload is the raw bytes; 1: one Zstandard frame of them; 2: all raw bytes are
//! zero and the payload is empty.
//!
//! The **payload of the directory**, after decompression when its codec is 1:
//!
//! ```text
//!    0  4  number of frames n
//!    4  4  number of pages p
//!    8  4  number of restore points r
//!   12  4  length of a page, 8192
//!      24  n times: offset of the frame's header 8, stored length 4, raw length 4, codec 1, zero 7
//!       8  p times: the page hash
//!       .  r times: LSN 8, time 8, length of the name 1, name
//! ```
//!
//! A *page hash* is the first eight bytes of the keyed BLAKE3 (`wal page hash` key) of the object's bytes that lie
//! within one 8192-byte page of WAL: at the ends of a tail that may be a part of the page. Pages come in order, every
//! page that the object touches once.
//!
//! The **metadata**. Times are microseconds since 2000-01-01 00:00:00 UTC, signed, of the server's clock; what the
//! flags do not announce is zero:
//!
//! ```text
//!    0  8  system identifier
//!    8  4  timeline
//!   12  2  incarnation
//!   14  2  flags: 1 first commit, 2 last commit, 4 latest commit, 8 complete up to, 16 end of records
//!   16  8  LSN of the first byte
//!   24  8  size of a WAL segment
//!   32  8  number of raw bytes (of a segment, whole or partial: its size)
//!   40 32  keyed BLAKE3 (`wal segment hash` key) of all raw bytes
//!   72  8  first commit by position: LSN
//!   80  8    its time
//!   88  8  last commit by position: LSN
//!   96  8    its time
//!  104  8  latest commit by time: LSN
//!  112  8    its time
//!  120  8  complete up to this time: the server had written nothing beyond this object then
//!  128  8  where the last whole record ends
//!  136  4  number of restore points
//!  140 116 zero
//! ```
//!
//! The key of a keyed hash is HKDF-SHA256 of the data key with the salt `hs1` and the info that is named with it.
//!
//! Sealing is AES-256-GCM. Keys: HKDF-SHA256 of the data key with the header's salt and the info `wal frames`,
//! `wal directory`, `wal metadata` or `wal records`. Nonce: four zero bytes, then the number of the frame or record
//! (else 0) as eight big-endian bytes. Associated data: the 64 bytes of the header, then the 16 bytes of the frame's or directory's header; for the
//! metadata, which stores none, the same with magic "HSM", codec 0, number 0, stored length 272, raw length 256.
//! Where the repository is not encrypted nothing is sealed, and in place of the tag stand the first 16 bytes of the
//! keyed BLAKE3 (`frame hash` key) of: the 80 bytes of associated data, the number as 8 bytes, the payload.
//!
//! Neither path nor name is part of what is authenticated: the metadata says what an object is, and readers compare it
//! with the name under which they found it.

use hardstorage_codec::{Digest256, TAG_LEN};
use hardstorage_report::{Error, Result, SegmentSize, code};

use crate::pack::Fields;

pub(super) const HEADER_LEN: usize = 64;
pub(super) const FRAME_HEADER_LEN: usize = 16;
pub(super) const METADATA_LEN: usize = 256;
pub(super) const FOOTER_LEN: usize = 128;
/// Sealed metadata and footer: what one range read at the end gets.
pub(super) const TRAILER_LEN: usize = METADATA_LEN + TAG_LEN + FOOTER_LEN;
/// The longest frame.
pub(super) const FRAME_LEN: usize = 1 << 20;
/// The unit of page hashes.
pub(super) const PAGE_LEN: usize = 8192;
/// A frame that did not shrink, with its tag.
const MAX_STORED: usize = FRAME_LEN + TAG_LEN;
/// More than a record of a journal that is full of restore points.
pub(super) const MAX_RECORD: usize = 3 << 20;
/// More than the directory of a segment of 1 GiB that is full of restore points.
const MAX_DIRECTORY: usize = 1 << 30;

const MAGIC: &[u8; 8] = b"HSWALOBJ";
const END_MAGIC: &[u8; 8] = b"HSWALEND";
const VERSION: u16 = 1;

/// What an object holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalKind {
    /// A whole segment.
    Segment,
    /// Some bytes of an unfinished segment.
    Tail,
    /// `<segment>.partial`: the file of a segment in which its timeline ended. A kind of its own, so that nobody can put
    /// one in the place of a finished segment.
    Partial,
    /// Some bytes of an unfinished segment, in an object that its streamer lets grow.
    Journal,
}

/// The clear header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub kind: WalKind,
    pub sealed: bool,
    pub key_id: [u8; 16],
    pub salt: [u8; 16],
    pub segment_size: SegmentSize,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[..8].copy_from_slice(MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_le_bytes());
        out[10] = match self.kind {
            WalKind::Segment => 1,
            WalKind::Tail => 2,
            WalKind::Partial => 3,
            WalKind::Journal => 4,
        };
        out[11] = u8::from(self.sealed);
        out[12..16].copy_from_slice(&(FRAME_LEN as u32).to_le_bytes());
        out[16..32].copy_from_slice(&self.key_id);
        out[32..48].copy_from_slice(&self.salt);
        out[48..56].copy_from_slice(&self.segment_size.bytes().to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Header> {
        let mut fields = Fields::new("header of a WAL object", bytes);
        if fields.array::<8>()? != *MAGIC {
            return Err(fields.wrong("it does not begin as a WAL object does"));
        }
        let version = fields.u16()?;
        if version != VERSION {
            return Err(Error::new(
                code::repository::NEWER_FORMAT,
                format!("a WAL object of version {version}; this program reads {VERSION}"),
            ));
        }
        let kind = match fields.u8()? {
            1 => WalKind::Segment,
            2 => WalKind::Tail,
            3 => WalKind::Partial,
            4 => WalKind::Journal,
            other => return Err(fields.wrong(format!("kind {other}"))),
        };
        let sealed = match fields.u8()? {
            0 => false,
            1 => true,
            other => return Err(fields.wrong(format!("flags {other:#x}"))),
        };
        if fields.u32()? as usize != FRAME_LEN {
            return Err(fields.wrong("another frame length"));
        }
        let (key_id, salt) = (fields.array()?, fields.array()?);
        let segment_size = SegmentSize::new(fields.u64()?).ok_or_else(|| fields.wrong("another segment size"))?;
        fields.zeros(8)?;
        fields.end()?;
        Ok(Header {
            kind,
            sealed,
            key_id,
            salt,
            segment_size,
        })
    }
}

/// How a payload is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    Raw,
    Zstd,
    Zeros,
}

impl Codec {
    pub(super) fn from_byte(byte: u8) -> Option<Codec> {
        match byte {
            0 => Some(Codec::Raw),
            1 => Some(Codec::Zstd),
            2 => Some(Codec::Zeros),
            _ => None,
        }
    }
}

/// Which part of the object a 16-byte header belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Frame,
    Directory,
    Metadata,
    /// Of a journal.
    Record,
}

impl Part {
    fn magic(self) -> &'static [u8; 3] {
        match self {
            Part::Frame => b"HSW",
            Part::Directory => b"HSD",
            Part::Metadata => b"HSM",
            Part::Record => b"HSJ",
        }
    }

    /// The purpose of its key.
    pub(super) fn info(self) -> &'static str {
        match self {
            Part::Frame => "frames",
            Part::Directory => "directory",
            Part::Metadata => "metadata",
            Part::Record => "records",
        }
    }
}

/// The 16 bytes before a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PartHeader {
    pub part: Part,
    pub codec: Codec,
    pub number: u32,
    pub stored_len: u32,
    pub raw_len: u32,
}

impl PartHeader {
    /// The one that the metadata is authenticated with.
    pub(super) const METADATA: PartHeader = PartHeader {
        part: Part::Metadata,
        codec: Codec::Raw,
        number: 0,
        stored_len: (METADATA_LEN + TAG_LEN) as u32,
        raw_len: METADATA_LEN as u32,
    };

    pub(super) fn encode(&self) -> [u8; FRAME_HEADER_LEN] {
        let mut out = [0; FRAME_HEADER_LEN];
        out[..3].copy_from_slice(self.part.magic());
        out[3] = self.codec as u8;
        out[4..8].copy_from_slice(&self.number.to_le_bytes());
        out[8..12].copy_from_slice(&self.stored_len.to_le_bytes());
        out[12..].copy_from_slice(&self.raw_len.to_le_bytes());
        out
    }

    pub(super) fn decode(part: Part, bytes: &[u8]) -> Result<PartHeader> {
        let mut fields = Fields::new("part of a WAL object", bytes);
        if fields.array::<3>()? != *part.magic() {
            return Err(fields.wrong("its magic is another"));
        }
        let header = PartHeader {
            part,
            codec: Codec::from_byte(fields.u8()?).ok_or_else(|| fields.wrong("unknown codec"))?,
            number: fields.u32()?,
            stored_len: fields.u32()?,
            raw_len: fields.u32()?,
        };
        fields.end()?;
        let most = match part {
            Part::Frame => (MAX_STORED, FRAME_LEN),
            Part::Record => (MAX_RECORD, FRAME_LEN),
            Part::Directory | Part::Metadata => (MAX_DIRECTORY, MAX_DIRECTORY),
        };
        let (stored, raw) = (header.stored_len as usize, header.raw_len as usize);
        if stored < TAG_LEN || stored > most.0 || raw > most.1 {
            return Err(fields.wrong("its lengths are out of range"));
        }
        Ok(header)
    }
}

/// The clear end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Footer {
    pub header: [u8; HEADER_LEN],
    pub directory_at: u64,
    pub object_len: u64,
    pub directory_len: u32,
    pub frames: u32,
    pub digest: Digest256,
}

impl Footer {
    /// Everything but the digest, which covers this too.
    pub(super) fn encode_before_digest(&self) -> [u8; FOOTER_LEN - 32] {
        let mut out = [0; FOOTER_LEN - 32];
        out[..64].copy_from_slice(&self.header);
        out[64..72].copy_from_slice(&self.directory_at.to_le_bytes());
        out[72..80].copy_from_slice(&self.object_len.to_le_bytes());
        out[80..84].copy_from_slice(&self.directory_len.to_le_bytes());
        out[84..88].copy_from_slice(&self.frames.to_le_bytes());
        out[88..].copy_from_slice(END_MAGIC);
        out
    }

    pub(super) fn decode(bytes: &[u8], object_len: u64) -> Result<Footer> {
        let mut fields = Fields::new("end of a WAL object", bytes);
        let footer = Footer {
            header: fields.array()?,
            directory_at: fields.u64()?,
            object_len: fields.u64()?,
            directory_len: fields.u32()?,
            frames: fields.u32()?,
            digest: {
                if fields.array::<8>()? != *END_MAGIC {
                    return Err(fields.wrong("it does not end as a WAL object does: cut short, or foreign"));
                }
                fields.array()?
            },
        };
        fields.end()?;
        let end = footer.directory_at.checked_add(u64::from(footer.directory_len));
        let least = (FRAME_HEADER_LEN + TAG_LEN) as u32;
        if footer.object_len != object_len
            || end.and_then(|end| end.checked_add(TRAILER_LEN as u64)) != Some(object_len)
            || footer.directory_at < HEADER_LEN as u64
            || footer.directory_len < least
        {
            return Err(fields.wrong("its lengths do not add up"));
        }
        Ok(footer)
    }
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
