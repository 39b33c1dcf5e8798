//! The bytes of a journal: WAL of an unfinished segment in an object that its one streamer lets grow, on a store that
//! can do so. It says the same as tails one behind the other, which cost such a store more than a commit should wait.
//!
//! What is written once stays as it is. The object is, without gaps (`F` is what `format.rs` says of header, metadata,
//! sealing and times; a *block* is 512 bytes, and all that is unused is zero):
//!
//! ```text
//! head       512
//!    0  64  header of F, kind 4
//!   64 272  metadata of F with its tag: where the journal begins; the length is 0, as are the hash and all facts
//!  336  32  BLAKE3 of every byte before
//! records    numbered from 0, each at the beginning of a block
//!    0   3  magic "HSJ"                             \
//!    3   1  codec: 0 raw, 1 zstd, 2 zeros            |  16 bytes, clear,
//!    4   4  number                                   |  authenticated as a frame's are
//!    8   4  stored length, tag included              |
//!   12   4  raw length, 1 to 1048576                /
//!   16  16  the first half of the BLAKE3 of: the 64 bytes of the header, the 16 bytes before, the stored bytes
//!   32   .  facts, then the payload as a frame's; both sealed with the key `wal records`, then the tag
//! zeros      as many as there are
//! ```
//!
//! The **facts** of the records of WAL that end in the raw bytes (or before, behind the last facts):
//!
//! ```text
//!    0   1  flags: 1 first commit, 2 last commit, 4 latest commit, 8 complete up to, 16 end of records
//!    1   3  zero
//!    4   4  number of restore points r
//!        .  what the flags announce, in their order: a commit is LSN 8 and time 8, the others are 8
//!        .  r times: LSN 8, time 8, length of the name 1, name
//! ```
//!
//! The first record holds the WAL from the position in the metadata on, every other one goes on where the one before
//! ended. A record is durable before the next is begun, and the first one before the object has its name. So a reader
//! takes records for as long as the BLAKE3 of the next one is right. Where it is not:
//! - no record with a right one lies behind: here the journal ends. A record was cut off by a crash, and was never
//!   acknowledged (or, which nobody can tell from it, the last one of all was damaged later);
//! - one lies behind: the record was whole once, and is damaged. So is a journal without a first record.
//!
//! A record whose BLAKE3 is right and that does not open was written by somebody without the key, and is damage wherever
//! it lies. No part can be moved: the seal holds the header with its salt and the number of the record.

use hardstorage_codec::{Compressor, Decompressor, PlainHash, TAG_LEN, equal, is_zero, plain_hash};
use hardstorage_report::{Error, Result, code};

use super::facts::RecordFacts;
use super::format::{Codec, FRAME_HEADER_LEN, HEADER_LEN, Header, MAX_RECORD, METADATA_LEN, Part, PartHeader, WalKind};
use super::journal_facts::{decode_facts, encode_facts};
use super::metadata::WalMetadata;
use super::object_reader::corrupt;
use super::seal::ObjectSeal;
use crate::DataKey;
use crate::pack::Fields;

/// Records begin at multiples of it, so that one can be found behind another that is damaged, and so that a sector that
/// was synced is not written again.
pub(super) const BLOCK: usize = 512;
/// The longest record in blocks, in bytes.
pub(super) const LONGEST: usize = RECORD_HEAD + MAX_RECORD + BLOCK;
const RECORD_HEAD: usize = FRAME_HEADER_LEN + DIGEST_LEN;
/// Whoever encodes a record needs so much room before it, which stays as it is.
pub(super) const LEAD: usize = HEADER_LEN - DIGEST_LEN;
const DIGEST_LEN: usize = 16;
const MAGIC: &[u8] = b"HSJ";
const HEAD_DIGEST_AT: usize = HEADER_LEN + METADATA_LEN + TAG_LEN;
/// What is shorter is not worth the time that somebody waits for its compression: a journal lives for one segment.
const COMPRESSED: usize = 64 << 10;

/// The head of a journal, read without a key.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) header: Header,
    metadata: Vec<u8>,
}

impl Head {
    /// Encodes one.
    pub(super) fn encode(header: &Header, seal: &ObjectSeal, metadata: &WalMetadata) -> Vec<u8> {
        let mut out = header.encode().to_vec();
        let mut sealed = metadata.encode().to_vec();
        seal.seal(&PartHeader::METADATA, &mut sealed);
        out.extend_from_slice(&sealed);
        let digest = plain_hash(&out);
        out.extend_from_slice(&digest);
        out.resize(BLOCK, 0);
        out
    }

    /// Reads the first block of an object.
    pub(super) fn decode(block: &[u8]) -> Result<Head> {
        let mut fields = Fields::new("head of a journal", block);
        let (hashed, behind) = block.split_at_checked(HEAD_DIGEST_AT).unwrap_or_default();
        if !behind.starts_with(&plain_hash(hashed)) {
            return Err(corrupt("the hash of its head does not match"));
        }
        let head = Head {
            header: Header::decode(fields.take(HEADER_LEN)?)?,
            metadata: fields.take(METADATA_LEN + TAG_LEN)?.to_vec(),
        };
        fields.take(32)?;
        fields.zeros(BLOCK - HEAD_DIGEST_AT - 32)?;
        fields.end()?;
        if head.header.kind != WalKind::Journal {
            return Err(corrupt("it is another object than its name says"));
        }
        Ok(head)
    }

    /// Opens it with the key.
    pub(super) fn open(self, key: &DataKey) -> Result<(Header, ObjectSeal, WalMetadata)> {
        let seal = ObjectSeal::new(key, &self.header)?;
        let mut metadata = self.metadata;
        seal.open(&PartHeader::METADATA, &mut metadata)?;
        let metadata = WalMetadata::decode(&metadata)?;
        Ok((self.header, seal, metadata))
    }
}

/// A record as it lies in the object.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) part: PartHeader,
    stored: &'a [u8],
    padding: &'a [u8],
}

/// What stands at a place where a record may begin.
#[derive(Debug)]
pub(super) enum Look<'a> {
    Record(Record<'a>),
    /// It may be one; so many bytes would tell.
    Longer(usize),
    Nothing,
}

impl<'a> Record<'a> {
    /// Looks at bytes that begin with a block. The number is not looked at.
    pub(super) fn look(header: &[u8; HEADER_LEN], bytes: &'a [u8]) -> Look<'a> {
        let Some((head, rest)) = bytes.split_at_checked(RECORD_HEAD) else {
            return Look::Longer(RECORD_HEAD);
        };
        let (part, digest) = head.split_at(FRAME_HEADER_LEN);
        // Mostly zeros, thousands of times.
        if !part.starts_with(MAGIC) {
            return Look::Nothing;
        }
        let Ok(decoded) = PartHeader::decode(Part::Record, part) else {
            return Look::Nothing;
        };
        let length = decoded.stored_len as usize;
        let whole = (RECORD_HEAD + length).next_multiple_of(BLOCK);
        let Some((stored, rest)) = rest.split_at_checked(length) else {
            return Look::Longer(whole);
        };
        let Some(padding) = rest.get(..whole - RECORD_HEAD - length) else {
            return Look::Longer(whole);
        };
        if equal(&digest_of(header, part, stored), digest) {
            Look::Record(Record {
                part: decoded,
                stored,
                padding,
            })
        } else {
            Look::Nothing
        }
    }

    /// Its length in the object.
    pub(super) fn length(&self) -> usize {
        RECORD_HEAD + self.stored.len() + self.padding.len()
    }

    /// What must hold of a record that is whole, key or not.
    pub(super) fn check(&self) -> Result<()> {
        if self.part.raw_len == 0 || !is_zero(self.padding) {
            return Err(corrupt(&format!("record {} is damaged", self.part.number)));
        }
        Ok(())
    }

    /// Opens it: the facts, and with `raw` the WAL, which is put behind what is there.
    pub(super) fn open(&self, seal: &ObjectSeal, raw: Option<&mut Vec<u8>>) -> Result<RecordFacts> {
        self.check()?;
        let mut plain = self.stored.to_vec();
        seal.open(&self.part, &mut plain)?;
        let (facts, payload) = decode_facts(&plain)?;
        let Some(raw) = raw else { return Ok(facts) };
        let length = self.part.raw_len as usize;
        match self.part.codec {
            Codec::Raw if payload.len() == length => raw.extend_from_slice(payload),
            Codec::Zeros if payload.is_empty() => raw.resize(raw.len() + length, 0),
            Codec::Raw | Codec::Zeros => return Err(corrupt("the lengths of a record do not match")),
            Codec::Zstd => {
                let mut unpacked = Vec::new();
                Decompressor::default()
                    .decompress(payload, length, &mut unpacked)
                    .map_err(|error| corrupt("a record does not decompress").source(error))?;
                raw.extend_from_slice(&unpacked);
            }
        }
        Ok(facts)
    }
}

fn digest_of(header: &[u8; HEADER_LEN], part: &[u8], stored: &[u8]) -> [u8; DIGEST_LEN] {
    let mut hash = PlainHash::default();
    hash.update(header);
    hash.update(part);
    hash.update(stored);
    let mut digest = [0; DIGEST_LEN];
    digest.copy_from_slice(&hash.finish()[..DIGEST_LEN]);
    digest
}

/// Writes the records of one journal: each number is used once.
#[derive(Debug)]
pub(super) struct RecordEncoder {
    header: [u8; HEADER_LEN],
    seal: ObjectSeal,
    compressor: Compressor,
    next: u32,
}

impl RecordEncoder {
    pub(super) fn new(header: &Header, seal: ObjectSeal, level: i32) -> RecordEncoder {
        RecordEncoder {
            header: header.encode(),
            seal,
            compressor: Compressor::new(level),
            next: 0,
        }
    }

    /// Puts the next record behind what `out` holds, which is at least [`LEAD`] bytes.
    pub(super) fn encode(&mut self, parts: &[&[u8]], facts: &RecordFacts, out: &mut Vec<u8>) -> Result<()> {
        let raw_len: usize = parts.iter().map(|part| part.len()).sum();
        let begin = out.len();
        out.resize(begin + RECORD_HEAD, 0);
        let stored = out.len();
        encode_facts(facts, out);
        let codec = self.payload(parts, raw_len, out);
        let stored_len = out.len() - stored + TAG_LEN;
        let part = PartHeader {
            part: Part::Record,
            codec,
            number: self.next,
            stored_len: stored_len as u32,
            raw_len: raw_len as u32,
        };
        let next = self.next.checked_add(1).filter(|_| stored_len <= MAX_RECORD);
        self.next = next.ok_or_else(|| Error::new(code::cli::INTERNAL, "a record does not fit into its journal"))?;
        self.seal.seal_from(stored, &part, out);
        self.put_head(&part.encode(), &mut out[begin - LEAD..]);
        let length = (out.len() - begin).next_multiple_of(BLOCK);
        out.resize(begin + length, 0);
        Ok(())
    }

    /// Puts the payload behind what `out` holds.
    fn payload(&mut self, parts: &[&[u8]], raw_len: usize, out: &mut Vec<u8>) -> Codec {
        if parts.iter().all(|part| is_zero(part)) {
            return Codec::Zeros;
        }
        if raw_len >= COMPRESSED && self.compressor.compress(&parts.concat(), out) {
            return Codec::Zstd;
        }
        for part in parts {
            out.extend_from_slice(part);
        }
        Codec::Raw
    }

    /// Puts the head of a record into its place, [`LEAD`] bytes behind the beginning of `out`, which ends with the stored
    /// bytes. All that the digest covers is put before those for as long as that takes: of one piece it is computed twice as
    /// fast as of several.
    fn put_head(&self, part: &[u8; FRAME_HEADER_LEN], out: &mut [u8]) {
        let mut before = [0; LEAD];
        before.copy_from_slice(&out[..LEAD]);
        out[..HEADER_LEN].copy_from_slice(&self.header);
        out[HEADER_LEN..HEADER_LEN + FRAME_HEADER_LEN].copy_from_slice(part);
        let digest = plain_hash(out);
        out[..LEAD].copy_from_slice(&before);
        let (head, _) = out[LEAD..].split_at_mut(RECORD_HEAD);
        head[..FRAME_HEADER_LEN].copy_from_slice(part);
        head[FRAME_HEADER_LEN..].copy_from_slice(&digest[..DIGEST_LEN]);
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
