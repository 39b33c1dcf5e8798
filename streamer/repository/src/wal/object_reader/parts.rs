//! The parts of a WAL object, each opened with its key: its directory, its frames, the records of a journal.

use std::ops::Range;

use bytes::Bytes;
use hardstorage_codec::Decompressor;
use hardstorage_report::{Error, Result};

use super::{Form, WalObject, corrupt, off_thread};
use crate::wal::directory::Directory;
use crate::wal::format::{Codec, FRAME_HEADER_LEN, Part, PartHeader};
use crate::wal::journal::{Look, Record};
use crate::wal::journal_scan::Run;
use crate::wal::seal::ObjectSeal;

impl WalObject {
    /// Some of its stored bytes.
    pub(super) async fn stored(&self, range: Range<u64>) -> Result<Bytes> {
        let outside = || corrupt("a part lies outside of it").context(format!("object {}", self.key));
        match &self.whole {
            Some(whole) => {
                if range.start > range.end || range.end > whole.len() as u64 {
                    return Err(outside());
                }
                Ok(whole.slice(range.start as usize..range.end as usize))
            }
            None if range.start > range.end || range.end > self.size => Err(outside()),
            None => self.store.get_range(&self.key, range).await,
        }
    }

    /// One frame's stored bytes with its header, and its raw bytes.
    pub(in crate::wal) async fn frame(&self, number: usize) -> Result<(Bytes, Vec<u8>)> {
        if let Form::Journal(runs) = &self.form {
            return self.run(runs.get(number).copied()).await;
        }
        let Some(entry) = self.directory.frames.get(number).copied() else {
            return Err(corrupt("a frame is missing").context(format!("object {}", self.key)));
        };
        let end = entry.offset + FRAME_HEADER_LEN as u64 + u64::from(entry.stored_len);
        let stored = self.stored(entry.offset..end).await?;
        let (seal, bytes) = (self.seal.clone(), stored.clone());
        let raw = off_thread(move || {
            let expected = PartHeader {
                part: Part::Frame,
                codec: entry.codec,
                number: number as u32,
                stored_len: entry.stored_len,
                raw_len: entry.raw_len,
            };
            let (head, body) = bytes
                .split_at_checked(FRAME_HEADER_LEN)
                .ok_or_else(|| corrupt("a frame is short"))?;
            if PartHeader::decode(Part::Frame, head)? != expected {
                return Err(corrupt("a frame's header and the directory disagree"));
            }
            open_part(&seal, &expected, body)
        })
        .await
        .map_err(|error| error.context(format!("object {}", self.key)))?;
        Ok((stored, raw))
    }

    /// The stored and the raw bytes of some records.
    async fn run(&self, run: Option<Run>) -> Result<(Bytes, Vec<u8>)> {
        let named = |error: Error| error.context(format!("object {}", self.key));
        let run = run.ok_or_else(|| named(corrupt("a record is missing")))?;
        let stored = self.stored(run.offset..run.end).await?;
        let (seal, bytes) = (self.seal.clone(), stored.clone());
        let raw = off_thread(move || {
            let (mut rest, mut number) = (&bytes[..], run.first);
            let length = run.from.bytes_until(run.to) as usize;
            let mut raw = Vec::with_capacity(length);
            while !rest.is_empty() {
                let record = match Record::look(seal.header(), rest) {
                    Look::Record(record) if record.part.number == number => record,
                    _ => return Err(corrupt(&format!("record {number} is damaged"))),
                };
                record.open(&seal, Some(&mut raw))?;
                rest = rest.get(record.length()..).unwrap_or_default();
                number = number.saturating_add(1);
            }
            if raw.len() == length {
                Ok(raw)
            } else {
                Err(corrupt("the lengths of its records do not match"))
            }
        })
        .await
        .map_err(named)?;
        Ok((stored, raw))
    }
}

/// The directory, out of its stored form.
pub(super) fn open_directory(seal: &ObjectSeal, stored: &[u8]) -> Result<Directory> {
    let (head, body) = stored
        .split_at_checked(FRAME_HEADER_LEN)
        .ok_or_else(|| corrupt("its directory is cut off"))?;
    let header = PartHeader::decode(Part::Directory, head)?;
    Directory::decode(&open_part(seal, &header, body)?)
}

fn open_part(seal: &ObjectSeal, header: &PartHeader, stored: &[u8]) -> Result<Vec<u8>> {
    let mut payload = stored.to_vec();
    seal.open(header, &mut payload)?;
    let length = header.raw_len as usize;
    match header.codec {
        Codec::Raw if payload.len() == length => Ok(payload),
        Codec::Zeros if payload.is_empty() => Ok(vec![0; length]),
        Codec::Raw | Codec::Zeros => Err(corrupt("the lengths of a part do not match")),
        Codec::Zstd => {
            let mut raw = Vec::new();
            Decompressor::default()
                .decompress(&payload, length, &mut raw)
                .map_err(|error| corrupt("a part does not decompress").source(error))?;
            Ok(raw)
        }
    }
}
