//! Sealing and opening the frames and the directory of one pack.

use hardstorage_codec::{Decompressor, Digest128, KeyedHash, SealKey, TAG_LEN, equal};
use hardstorage_report::{Error, Result, code};

use super::directory::{DirectoryEntry, decode_directory};
use super::{Codec, FRAME_HEADER_LEN, Footer, FrameHeader, FramePos, PackHeader};
use crate::{DataKey, FrameAt, PackId, PackKind};

const FRAME_LABEL: [u8; 8] = *b"hsframe1";
const DIRECTORY_LABEL: [u8; 8] = *b"hsdirec1";
const ASSOCIATED_LEN: usize = 60;

/// The keys of one pack.
#[derive(Debug, Clone)]
pub struct PackCipher {
    header: PackHeader,
    frames: SealKey,
    directory: SealKey,
}

impl PackCipher {
    /// Derives them.
    pub fn new(key: &DataKey, id: PackId, kind: PackKind) -> PackCipher {
        PackCipher {
            header: PackHeader {
                kind,
                sealed: key.seals(),
                id,
                data_key_id: *key.id(),
            },
            frames: key.pack_key(&id.writer, id.sequence, kind),
            directory: key.directory_key(&id.writer, id.sequence, kind),
        }
    }

    /// The header that the pack begins with.
    pub fn header(&self) -> &PackHeader {
        &self.header
    }

    /// How many bytes sealing adds.
    pub fn overhead(&self) -> usize {
        if self.header.sealed { TAG_LEN } else { 0 }
    }

    fn associated(&self, label: [u8; 8], frame: &FrameHeader) -> [u8; ASSOCIATED_LEN] {
        let mut out = [0; ASSOCIATED_LEN];
        out[..8].copy_from_slice(&label);
        out[8..24].copy_from_slice(&self.header.data_key_id);
        out[24..40].copy_from_slice(self.header.id.writer.bytes());
        out[40..44].copy_from_slice(&self.header.id.sequence.to_le_bytes());
        out[44] = self.header.kind.byte();
        out[45] = frame.codec.byte();
        out[48..52].copy_from_slice(&frame.number.to_le_bytes());
        out[52..56].copy_from_slice(&frame.stored_len.to_le_bytes());
        out[56..].copy_from_slice(&frame.raw_len.to_le_bytes());
        out
    }

    /// Seals a payload in place and returns the header that goes before it. A number may be used once only.
    pub fn seal_frame(&self, number: u32, codec: Codec, raw_len: u32, payload: &mut Vec<u8>) -> FrameHeader {
        let header = FrameHeader {
            codec,
            number,
            stored_len: (payload.len() + self.overhead()) as u32,
            raw_len,
        };
        if self.header.sealed {
            self.frames
                .seal(u64::from(number), &self.associated(FRAME_LABEL, &header), payload);
        }
        header
    }

    /// Opens a frame's stored bytes in place: what is left is the payload.
    pub fn open_payload(&self, frame: &FrameHeader, stored: &mut Vec<u8>) -> Result<()> {
        if stored.len() != frame.stored_len as usize {
            return Err(self.corrupt(frame.number, "it has another length than promised"));
        }
        if self.header.sealed {
            let associated = self.associated(FRAME_LABEL, frame);
            self.frames
                .open(u64::from(frame.number), &associated, stored)
                .map_err(|error| self.corrupt(frame.number, "it does not open").source(error))?;
        }
        Ok(())
    }

    fn directory_header(&self, frames: u32, plain_len: usize) -> FrameHeader {
        FrameHeader {
            codec: Codec::Raw,
            number: frames,
            stored_len: (plain_len + self.overhead()) as u32,
            raw_len: plain_len as u32,
        }
    }

    /// Seals the directory in place.
    pub fn seal_directory(&self, frames: u32, directory: &mut Vec<u8>) {
        if self.header.sealed {
            let header = self.directory_header(frames, directory.len());
            let associated = self.associated(DIRECTORY_LABEL, &header);
            self.directory.seal(0, &associated, directory);
        }
    }

    /// Opens and reads the directory.
    pub fn open_directory(&self, footer: &Footer, stored: &[u8]) -> Result<Vec<DirectoryEntry>> {
        let mut plain = stored.to_vec();
        if self.header.sealed {
            let header = self.directory_header(footer.frames, stored.len().saturating_sub(TAG_LEN));
            let associated = self.associated(DIRECTORY_LABEL, &header);
            self.directory.open(0, &associated, &mut plain).map_err(|error| {
                Error::new(
                    code::repository::OBJECT_CORRUPT,
                    format!("damaged directory of {}", self.name()),
                )
                .source(error)
            })?;
        }
        decode_directory(&plain, footer.frames).map_err(|error| error.context(self.name()))
    }

    fn name(&self) -> String {
        format!("pack {}/{:08x}", self.header.id.writer, self.header.id.sequence)
    }

    fn corrupt(&self, number: u32, problem: &str) -> Error {
        Error::new(
            code::repository::OBJECT_CORRUPT,
            format!("damaged frame {number} of {}: {problem}", self.name()),
        )
    }
}

/// Opens, checks and decompresses frames with buffers of its own; one for each thread that reads.
#[derive(Debug)]
pub struct FrameReader {
    key: DataKey,
    hash: KeyedHash,
    cipher: Option<PackCipher>,
    scratch: Vec<u8>,
    decompressor: Decompressor,
}

impl FrameReader {
    /// A reader for packs of this data key.
    pub fn new(key: &DataKey) -> FrameReader {
        FrameReader {
            key: key.clone(),
            hash: key.frame_hash(),
            cipher: None,
            scratch: Vec::new(),
            decompressor: Decompressor::default(),
        }
    }

    /// Replaces `out` by a frame's raw bytes. `stored` is the frame with its 16-byte header, exactly as it lies at `at`;
    /// with `hash` the payload must match it. Without one (roots: their own hash is checked) only the seal protects.
    pub fn open(&mut self, at: &FrameAt, hash: Option<&Digest128>, stored: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let same = |cipher: &PackCipher| cipher.header.id == at.pack && cipher.header.kind == at.kind;
        if !self.cipher.as_ref().is_some_and(same) {
            self.cipher = None;
        }
        let key = &self.key;
        let cipher = self
            .cipher
            .get_or_insert_with(|| PackCipher::new(key, at.pack, at.kind));

        let (head, body) = stored
            .split_at_checked(FRAME_HEADER_LEN)
            .ok_or_else(|| cipher.corrupt(at.number, "it is shorter than its header"))?;
        let header = FrameHeader::decode(head).map_err(|error| error.context(cipher.name()))?;
        let promised = (at.number, at.stored_len, at.raw_len, at.codec);
        if (header.number, header.stored_len, header.raw_len, header.codec.byte()) != promised {
            return Err(cipher.corrupt(at.number, "its header says otherwise than what points at it"));
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(body);
        cipher.open_payload(&header, &mut self.scratch)?;
        if hash.is_some_and(|hash| !equal(hash, &self.hash.hash128(&self.scratch))) {
            return Err(cipher.corrupt(at.number, "its hash does not match"));
        }
        match header.codec {
            Codec::Raw if self.scratch.len() == at.raw_len as usize => {
                out.clear();
                out.extend_from_slice(&self.scratch);
                Ok(())
            }
            Codec::Raw => Err(cipher.corrupt(at.number, "its lengths do not match")),
            Codec::Zstd => self
                .decompressor
                .decompress(&self.scratch, at.raw_len as usize, out)
                .map_err(|error| cipher.corrupt(at.number, "it does not decompress").source(error)),
        }
    }

    /// The same for a place in a layer or table.
    pub fn open_pos(
        &mut self,
        pos: &FramePos,
        pack: PackId,
        kind: PackKind,
        stored: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        self.open(&pos.at(pack, kind), Some(&pos.hash), stored, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WriterId;
    use hardstorage_codec::{Compressor, Secret};
    use proptest::prelude::*;

    fn key(sealing: bool) -> DataKey {
        DataKey::new(Secret::new([7; 32]), [8; 16], 1, sealing)
    }

    proptest! {
        #[test]
        fn frames_and_directories_open_and_every_flip_is_seen(
            raw in proptest::collection::vec(0u8..3, 1..3000), sealing in any::<bool>(),
            flip in any::<prop::sample::Index>(), number in any::<u32>(),
        ) {
            let key = key(sealing);
            let id = PackId { writer: WriterId::new([1; 16]), sequence: 5 };
            let cipher = PackCipher::new(&key, id, PackKind::Data);
            let mut payload = Vec::new();
            let codec = if Compressor::new(1).compress(&raw, &mut payload) { Codec::Zstd } else {
                payload.extend_from_slice(&raw);
                Codec::Raw
            };
            let hash = key.frame_hash().hash128(&payload);
            let header = cipher.seal_frame(number, codec, raw.len() as u32, &mut payload);
            let mut stored = header.encode().to_vec();
            stored.extend_from_slice(&payload);
            let pos = FramePos {
                pack: 0, number, offset: 64, stored_len: header.stored_len, raw_len: header.raw_len, codec, hash,
            };
            let mut reader = FrameReader::new(&key);
            let mut out = Vec::new();
            reader.open_pos(&pos, id, PackKind::Data, &stored, &mut out).unwrap();
            prop_assert_eq!(&out, &raw);

            let at = flip.index(stored.len());
            stored[at] ^= 1;
            prop_assert!(reader.open_pos(&pos, id, PackKind::Data, &stored, &mut out).is_err());
            stored[at] ^= 1;
            if sealing {
                prop_assert!(reader.open_pos(&pos, id, PackKind::Meta, &stored, &mut out).is_err());
                let other = PackId { sequence: 6, ..id };
                prop_assert!(reader.open_pos(&pos, other, PackKind::Data, &stored, &mut out).is_err());
            }

            let entry = DirectoryEntry {
                offset: 64, stored_len: header.stored_len, raw_len: header.raw_len, codec, hash,
            };
            let mut directory = Vec::new();
            entry.encode(&mut directory);
            cipher.seal_directory(1, &mut directory);
            let footer = Footer {
                directory_offset: 0, directory_len: directory.len() as u32, frames: 1, digest: [0; 32],
            };
            prop_assert_eq!(cipher.open_directory(&footer, &directory).unwrap(), vec![entry]);
            if sealing {
                let at = flip.index(directory.len());
                directory[at] ^= 1;
                prop_assert!(cipher.open_directory(&footer, &directory).is_err());
            }
        }
    }
}
