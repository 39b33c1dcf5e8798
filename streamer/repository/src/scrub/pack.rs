//! A pack read through with its key: the digest of its bytes, its directory, and each frame's seal and hash. Which frames
//! are bad is told wherever it can be: backups point at frames by their places, so the others are whole. Holds a few
//! frames at a time.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use hardstorage_codec::{PlainHash, TAG_LEN, equal};
use hardstorage_report::{DeploymentName, Result};
use hardstorage_storage::{DynStore, Key};
use tokio_util::sync::CancellationToken;

use super::damaged;
use crate::document::corrupt;
use crate::pack::{
    DIRECTORY_ENTRY_LEN, DirectoryEntry, FOOTER_LEN, FRAME_HEADER_LEN, Footer, FrameHeader, FrameReader,
    PACK_HEADER_LEN, PackCipher, PackHeader,
};
use crate::{DataKey, Deployment, FrameAt, PackId, PackKind, check_pack_bytes, layout};

const READ: u64 = 4 << 20;

/// What is wrong with a pack.
#[derive(Debug)]
pub(super) struct BadPack {
    pub(super) reason: String,
    /// The frames that cannot be read, and why.
    pub(super) frames: BTreeMap<u32, String>,
    /// There are frames of which nothing can be said.
    pub(super) unknown: bool,
}

/// One pack that is being read.
struct Reading<'a> {
    store: &'a DynStore,
    key: Key,
    data_key: &'a DataKey,
    pack: PackId,
    length: u64,
}

/// Reads a pack; `None` when all of it is as it was written.
pub(super) async fn check(deployment: &Deployment, pack: PackId, length: u64) -> Result<Option<BadPack>> {
    let reading = Reading {
        store: deployment.store(),
        key: layout::pack(deployment.name(), &pack.writer, pack.sequence),
        data_key: deployment.key(),
        pack,
        length,
    };
    match reading.directory().await {
        Ok((kind, footer, entries)) => reading.with_directory(kind, &footer, entries).await,
        Err(error) => {
            let reason = damaged(error)?;
            let (frames, unknown) = reading.walk().await?;
            Ok(Some(BadPack {
                reason,
                frames,
                unknown,
            }))
        }
    }
}

/// The same without any key: the bytes as a whole are right or they are not.
pub(super) async fn check_bytes(store: &DynStore, name: &DeploymentName, pack: PackId, length: u64) -> Result<()> {
    check_pack_bytes(store, name, pack, length, &CancellationToken::new())
        .await
        .map(drop)
}

impl Reading<'_> {
    async fn exact(&self, range: Range<u64>) -> Result<Bytes> {
        let wanted = range.end.saturating_sub(range.start);
        let bytes = self.store.get_range(&self.key, range).await?;
        if bytes.len() as u64 == wanted {
            Ok(bytes)
        } else {
            Err(corrupt(&self.key, "the store gave fewer bytes than it has"))
        }
    }

    /// Footer and directory. The kind of the pack is that under which the directory opens, whatever the header says.
    async fn directory(&self) -> Result<(PackKind, Footer, Vec<DirectoryEntry>)> {
        let least = (PACK_HEADER_LEN + FOOTER_LEN) as u64;
        if self.length < least {
            return Err(corrupt(&self.key, "it is too short for a pack"));
        }
        let end = self.length - FOOTER_LEN as u64;
        let footer = Footer::decode(&self.exact(end..self.length).await?, self.length)?;
        let stored = self.exact(footer.directory_offset..end).await?;
        let open = |kind| PackCipher::new(self.data_key, self.pack, kind).open_directory(&footer, &stored);
        let header = PackHeader::decode(&self.exact(0..PACK_HEADER_LEN as u64).await?);
        let first = header.map_or(PackKind::Data, |header| header.kind);
        let second = match first {
            PackKind::Data => PackKind::Meta,
            PackKind::Meta => PackKind::Data,
        };
        let (kind, entries) = match open(first) {
            Ok(entries) => (first, entries),
            Err(error) => match open(second) {
                Ok(entries) => (second, entries),
                Err(_) => return Err(error),
            },
        };
        let reached = entries.last().map_or(PACK_HEADER_LEN as u64, |last| span(last).end);
        if reached != footer.directory_offset {
            return Err(corrupt(&self.key, "its frames do not reach to its directory"));
        }
        Ok((kind, footer, entries))
    }

    /// Every byte once: hashed, and opened frame by frame.
    async fn with_directory(
        &self,
        kind: PackKind,
        footer: &Footer,
        entries: Vec<DirectoryEntry>,
    ) -> Result<Option<BadPack>> {
        let header = self.exact(0..PACK_HEADER_LEN as u64).await?;
        let own = PackCipher::new(self.data_key, self.pack, kind);
        let wrong_header = header[..] != own.header().encode();
        let mut hash = PlainHash::default();
        hash.update(&header);
        let mut reader = FrameReader::new(self.data_key);
        let (mut frames, mut number, mut rest) = (BTreeMap::new(), 0, entries);
        while let Some(first) = rest.first() {
            let start = first.offset;
            let count = rest.iter().take_while(|entry| span(entry).end - start <= READ).count();
            let others = rest.split_off(count.max(1));
            let these = std::mem::replace(&mut rest, others);
            let end = these.last().map_or(start, |last| span(last).end);
            let stored = self.exact(start..end).await?;
            let (pack, from, count) = (self.pack, number, these.len() as u32);
            let work = move || {
                hash.update(&stored);
                let (mut raw, mut bad) = (Vec::new(), Vec::new());
                for (entry, number) in these.iter().zip(from..) {
                    let part = span(entry);
                    let bytes = stored.get((part.start - start) as usize..(part.end - start) as usize);
                    let at = FrameAt {
                        pack,
                        kind,
                        number,
                        offset: entry.offset,
                        stored_len: entry.stored_len,
                        raw_len: entry.raw_len,
                        codec: entry.codec.byte(),
                    };
                    if let Err(error) = reader.open(&at, Some(&entry.hash), bytes.unwrap_or_default(), &mut raw) {
                        bad.push((number, error.to_string()));
                    }
                }
                Ok((hash, reader, bad))
            };
            let bad;
            (hash, reader, bad) = crate::reader::blocking(work).await?;
            frames.extend(bad);
            number += count;
        }
        let directory = footer.directory_offset..self.length - FOOTER_LEN as u64;
        hash.update(&self.exact(directory).await?);
        let reason = if !frames.is_empty() {
            format!("{} of its {number} frames cannot be read", frames.len())
        } else if wrong_header {
            "its header is not what was written; its frames are whole".to_owned()
        } else if !equal(&hash.finish(), &footer.digest) {
            "its bytes do not match the digest in its footer; its frames are whole".to_owned()
        } else {
            return Ok(None);
        };
        Ok(Some(BadPack {
            reason,
            frames,
            unknown: false,
        }))
    }

    /// Without footer or directory: from frame to frame by their headers. What is sealed proves itself; of what lies in
    /// clear nothing can be said. Gives the bad frames, and whether there are some of which nothing is known.
    async fn walk(&self) -> Result<(BTreeMap<u32, String>, bool)> {
        let mut reader = FrameReader::new(self.data_key);
        let (mut bad, mut at, mut number, mut raw) = (BTreeMap::new(), PACK_HEADER_LEN as u64, 0, Vec::new());
        let end = self.footer_at();
        let frames_end = self.directory_offset().await?;
        let mut kinds = vec![PackKind::Data, PackKind::Meta];
        while at < frames_end && at + FRAME_HEADER_LEN as u64 <= end {
            let head = self.exact(at..at + FRAME_HEADER_LEN as u64).await?;
            let header = FrameHeader::decode(&head).ok().filter(|header| header.number == number);
            let next = header.map(|header| at + FRAME_HEADER_LEN as u64 + u64::from(header.stored_len));
            let Some((header, next)) = header.zip(next.filter(|next| *next <= end)) else {
                return self.behind(at, number, bad).await;
            };
            let stored = self.exact(at..next).await?;
            let mut opens = |kind: PackKind| {
                let frame = FrameAt {
                    pack: self.pack,
                    kind,
                    number,
                    offset: at,
                    stored_len: header.stored_len,
                    raw_len: header.raw_len,
                    codec: header.codec.byte(),
                };
                reader.open(&frame, None, &stored, &mut raw)
            };
            match kinds.iter().copied().find(|kind| opens(*kind).is_ok()) {
                Some(kind) => kinds = vec![kind],
                None => {
                    bad.insert(number, "it does not open".to_owned());
                }
            }
            (at, number) = (next, number + 1);
        }
        Ok((bad, at != frames_end || !self.data_key.seals()))
    }

    /// Where no further frame begins, the directory may: then it tells of all of them.
    async fn behind(&self, at: u64, frames: u32, bad: BTreeMap<u32, String>) -> Result<(BTreeMap<u32, String>, bool)> {
        let end = self.footer_at();
        let footer = Footer {
            directory_offset: at,
            directory_len: u32::try_from(end.saturating_sub(at)).unwrap_or(u32::MAX),
            frames,
            digest: [0; 32],
        };
        let longest = u64::from(frames) * DIRECTORY_ENTRY_LEN as u64 + TAG_LEN as u64;
        if frames > 0 && u64::from(footer.directory_len) <= longest {
            let stored = self.exact(at..end).await?;
            for kind in [PackKind::Data, PackKind::Meta] {
                let cipher = PackCipher::new(self.data_key, self.pack, kind);
                if let Ok(entries) = cipher.open_directory(&footer, &stored) {
                    let found = self.with_directory(kind, &footer, entries).await?;
                    return Ok((found.map(|bad| bad.frames).unwrap_or_default(), false));
                }
            }
        }
        Ok((bad, true))
    }

    fn footer_at(&self) -> u64 {
        self.length.saturating_sub(FOOTER_LEN as u64)
    }

    /// Where the frames end, as far as the footer can be read; else where the footer begins.
    async fn directory_offset(&self) -> Result<u64> {
        let end = self.footer_at();
        if end < PACK_HEADER_LEN as u64 {
            return Ok(end);
        }
        let footer = Footer::decode(&self.exact(end..self.length).await?, self.length);
        Ok(footer.map_or(end, |footer| footer.directory_offset))
    }
}

fn span(entry: &DirectoryEntry) -> Range<u64> {
    entry.offset..entry.offset + FRAME_HEADER_LEN as u64 + u64::from(entry.stored_len)
}
