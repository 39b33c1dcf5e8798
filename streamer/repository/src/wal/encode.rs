//! The CPU half of writing a WAL object: hash, compress and seal frames in order, then directory, metadata and footer.
//!
//! One [`Encoder`] numbers and seals all parts of one object, each number once; it travels to a worker thread and back
//! with every frame, so that no two threads can ever hold it.

use hardstorage_codec::{Compressor, Digest256, KeyedHash, PlainHash, TAG_LEN, is_zero};
use hardstorage_report::{Lsn, Result, Timeline};

use super::directory::{Directory, FrameEntry};
use super::facts::RecordFacts;
use super::format::{Codec, FRAME_HEADER_LEN, Footer, HEADER_LEN, Header, PAGE_LEN, Part, PartHeader};
use super::metadata::WalMetadata;
use super::seal::ObjectSeal;
use crate::{DataKey, Lineage};

/// Turns raw bytes into the stored bytes of one object.
#[derive(Debug)]
pub(super) struct Encoder {
    header: Header,
    lineage: Lineage,
    timeline: Timeline,
    start: Lsn,
    seal: ObjectSeal,
    compressor: Compressor,
    page_hash: KeyedHash,
    raw_hash: PlainHash,
    stored_hash: PlainHash,
    directory: Directory,
    raw_len: u64,
    stored_len: u64,
    payload: Vec<u8>,
}

impl Encoder {
    /// Begins an object; its header is put behind what `out` holds.
    pub(super) fn new(
        key: &DataKey,
        level: i32,
        header: Header,
        (lineage, timeline, start): (Lineage, Timeline, Lsn),
        out: &mut Vec<u8>,
    ) -> Result<Encoder> {
        let mut encoder = Encoder {
            seal: ObjectSeal::new(key, &header)?,
            header,
            lineage,
            timeline,
            start,
            compressor: Compressor::new(level),
            page_hash: key.wal_page_hash(),
            raw_hash: key.segment_hash().start(),
            stored_hash: PlainHash::default(),
            directory: Directory::default(),
            raw_len: 0,
            stored_len: 0,
            payload: Vec::new(),
        };
        let bytes = header.encode();
        debug_assert_eq!(bytes.len(), HEADER_LEN);
        encoder.emit(&bytes, out);
        Ok(encoder)
    }

    fn emit(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.stored_hash.update(bytes);
        self.stored_len += bytes.len() as u64;
        out.extend_from_slice(bytes);
    }

    /// Adds the next frame: the bytes up to the next multiple of the frame length of the WAL position.
    pub(super) fn frame(&mut self, raw: &[u8], out: &mut Vec<u8>) {
        self.raw_hash.update(raw);
        let mut rest = raw;
        while !rest.is_empty() {
            let at = self.start.0 + self.raw_len + (raw.len() - rest.len()) as u64;
            let room = PAGE_LEN - (at % PAGE_LEN as u64) as usize;
            let (page, after) = rest.split_at(rest.len().min(room));
            self.directory.pages.push(self.page_hash.hash64(page));
            rest = after;
        }
        self.raw_len += raw.len() as u64;
        let offset = self.stored_len;
        let codec = if is_zero(raw) { Codec::Zeros } else { Codec::Zstd };
        let header = self.part(Part::Frame, self.directory.frames.len() as u32, codec, raw, out);
        self.directory.frames.push(FrameEntry {
            offset,
            stored_len: header.stored_len,
            raw_len: header.raw_len,
            codec: header.codec,
        });
    }

    /// Compresses if it may (and if it shrinks), seals, and puts header and bytes out.
    fn part(&mut self, part: Part, number: u32, wish: Codec, raw: &[u8], out: &mut Vec<u8>) -> PartHeader {
        let mut payload = std::mem::take(&mut self.payload);
        payload.clear();
        let codec = match wish {
            Codec::Zstd if self.compressor.compress(raw, &mut payload) => Codec::Zstd,
            Codec::Zeros => Codec::Zeros,
            Codec::Raw | Codec::Zstd => {
                payload.extend_from_slice(raw);
                Codec::Raw
            }
        };
        let header = PartHeader {
            part,
            codec,
            number,
            stored_len: (payload.len() + TAG_LEN) as u32,
            raw_len: raw.len() as u32,
        };
        self.seal.seal(&header, &mut payload);
        self.emit(&header.encode(), out);
        self.emit(&payload, out);
        self.payload = payload;
        header
    }

    /// Ends the object: directory, metadata, footer.
    pub(super) fn finish(mut self: Box<Self>, facts: RecordFacts, out: &mut Vec<u8>) -> Finished {
        self.directory.restore_points = facts.restore_points;
        let metadata = WalMetadata {
            lineage: self.lineage,
            timeline: self.timeline,
            start: self.start,
            segment_size: self.header.segment_size,
            length: self.raw_len,
            hash: self.raw_hash.finish(),
            restore_points: self.directory.restore_points.len() as u32,
            facts: RecordFacts {
                restore_points: Vec::new(),
                // What is committed at a time was there at that time, whatever the caller knew of the clock.
                complete_up_to: facts.complete_up_to.max(facts.latest_commit.map(|commit| commit.time)),
                ..facts
            },
        };
        let directory_at = self.stored_len;
        let mut plain = Vec::new();
        self.directory.encode(&mut plain);
        let directory = self.part(Part::Directory, 0, Codec::Zstd, &plain, out);
        let mut sealed = metadata.encode().to_vec();
        self.seal.seal(&PartHeader::METADATA, &mut sealed);
        self.emit(&sealed, out);
        let directory_len = FRAME_HEADER_LEN as u32 + directory.stored_len;
        let footer = Footer {
            header: self.header.encode(),
            directory_at,
            object_len: directory_at + u64::from(directory_len) + super::format::TRAILER_LEN as u64,
            directory_len,
            frames: self.directory.frames.len() as u32,
            digest: [0; 32],
        };
        self.emit(&footer.encode_before_digest(), out);
        let digest: Digest256 = self.stored_hash.finish();
        out.extend_from_slice(&digest);
        Finished {
            metadata,
            pages: self.directory.pages,
        }
    }
}

/// An object whose bytes are complete.
#[derive(Debug)]
pub(super) struct Finished {
    pub metadata: WalMetadata,
    pub pages: Vec<u64>,
}
