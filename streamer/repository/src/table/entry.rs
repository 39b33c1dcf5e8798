//! One entry of the file table.

use hardstorage_report::Result;

use crate::pack::{FRAME_POS_LEN, Fields, FramePos};

/// What entries are sorted by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryKey {
    /// The tablespace's oid; 0 for the data directory.
    pub tablespace: u32,
    /// The path relative to it, as the server wrote it.
    pub path: Vec<u8>,
}

impl std::fmt::Display for EntryKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.tablespace != 0 {
            write!(f, "{}:", self.tablespace)?;
        }
        f.write_str(&String::from_utf8_lossy(&self.path))
    }
}

/// A value in an entry or in frames of meta packs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// The bytes.
    Here(Vec<u8>),
    /// The frames whose raw bytes are the value; their packs are records of the pack list.
    Frames(Vec<FramePos>),
}

impl Value {
    /// The frames, if it lies in frames.
    pub fn frames(&self) -> &[FramePos] {
        match self {
            Value::Here(_) => &[],
            Value::Frames(frames) => frames,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Value::Here(bytes) => {
                out.push(0);
                out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
                out.extend_from_slice(bytes);
            }
            Value::Frames(frames) => {
                out.push(1);
                out.extend_from_slice(&(frames.len() as u32).to_le_bytes());
                for frame in frames {
                    frame.encode(out);
                }
            }
        }
    }

    fn decode(fields: &mut Fields<'_>) -> Result<Value> {
        match fields.u8()? {
            0 => {
                let length = fields.count(1)?;
                Ok(Value::Here(fields.take(length)?.to_vec()))
            }
            1 => {
                let count = fields.count(FRAME_POS_LEN)?;
                let frames = (0..count).map(|_| FramePos::decode(fields)).collect::<Result<_>>()?;
                Ok(Value::Frames(frames))
            }
            _ => Err(fields.wrong("a value lies neither here nor in frames")),
        }
    }
}

/// Where the two values of a layer are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerRefs {
    /// The map.
    pub map: Value,
    /// The column.
    pub column: Value,
}

/// How much of a pack a file uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackUse {
    /// The pack's record in the pack list.
    pub pack: u32,
    /// Pages of this file in a data pack, frames of its layers in a meta pack.
    pub live: u32,
}

/// What a regular file consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Its length.
    pub size: u64,
    /// The CRC32C of all its bytes.
    pub crc: u32,
    /// Bytes of a page.
    pub block_size: u32,
    /// The packs that it needs.
    pub uses: Vec<PackUse>,
    /// For each GiB the stack of layers, oldest first.
    pub sections: Vec<Vec<LayerRefs>>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File(FileEntry),
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Where it points, as the server wrote it.
        target: Vec<u8>,
    },
}

/// One file, directory or symbolic link of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub key: EntryKey,
    /// Its place in the server's stream.
    pub order: u64,
    /// Permission bits.
    pub mode: u32,
    /// Modification time in seconds since 1970.
    pub mtime: i64,
    /// What it is.
    pub kind: EntryKind,
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    // The writer refuses names that do not fit before it makes an entry of them.
    debug_assert!(u16::try_from(bytes.len()).is_ok());
    out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
    out.extend_from_slice(bytes);
}

impl Entry {
    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.key.tablespace.to_le_bytes());
        out.extend_from_slice(&self.order.to_le_bytes());
        let kind = match &self.kind {
            EntryKind::File(_) => 1,
            EntryKind::Directory => 2,
            EntryKind::Symlink { .. } => 3,
        };
        out.extend_from_slice(&[kind, 0, 0, 0]);
        out.extend_from_slice(&self.mode.to_le_bytes());
        out.extend_from_slice(&self.mtime.to_le_bytes());
        put_bytes(out, &self.key.path);
        match &self.kind {
            EntryKind::Directory => {}
            EntryKind::Symlink { target } => put_bytes(out, target),
            EntryKind::File(file) => {
                out.extend_from_slice(&file.size.to_le_bytes());
                out.extend_from_slice(&file.crc.to_le_bytes());
                out.extend_from_slice(&file.block_size.to_le_bytes());
                out.extend_from_slice(&(file.uses.len() as u32).to_le_bytes());
                for pack in &file.uses {
                    out.extend_from_slice(&pack.pack.to_le_bytes());
                    out.extend_from_slice(&pack.live.to_le_bytes());
                }
                out.extend_from_slice(&(file.sections.len() as u32).to_le_bytes());
                for layers in &file.sections {
                    out.extend_from_slice(&(layers.len() as u32).to_le_bytes());
                    for layer in layers {
                        layer.map.encode(out);
                        layer.column.encode(out);
                    }
                }
            }
        }
        let length = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// Takes the next entry off a frame's raw bytes; `None` at their end.
    pub fn next(frame: &mut &[u8]) -> Result<Option<Entry>> {
        if frame.is_empty() {
            return Ok(None);
        }
        let mut whole = Fields::new("file table", frame);
        let length = whole.count(1)?;
        let body = whole.take(length)?;
        let entry = Entry::decode(body)?;
        *frame = &frame[4 + length..];
        Ok(Some(entry))
    }

    fn decode(body: &[u8]) -> Result<Entry> {
        let mut fields = Fields::new("file table entry", body);
        let (tablespace, order, kind) = (fields.u32()?, fields.u64()?, fields.u8()?);
        fields.zeros(3)?;
        let (mode, mtime) = (fields.u32()?, fields.i64()?);
        let length = fields.u16()?;
        let path = fields.take(usize::from(length))?.to_vec();
        let kind = match kind {
            1 => EntryKind::File(decode_file(&mut fields)?),
            2 => EntryKind::Directory,
            3 => {
                let length = fields.u16()?;
                let target = fields.take(usize::from(length))?.to_vec();
                EntryKind::Symlink { target }
            }
            _ => return Err(fields.wrong("unknown kind")),
        };
        fields.end()?;
        Ok(Entry {
            key: EntryKey { tablespace, path },
            order,
            mode,
            mtime,
            kind,
        })
    }
}

fn decode_file(fields: &mut Fields<'_>) -> Result<FileEntry> {
    let (size, crc, block_size) = (fields.u64()?, fields.u32()?, fields.u32()?);
    let uses = (0..fields.count(8)?)
        .map(|_| {
            Ok(PackUse {
                pack: fields.u32()?,
                live: fields.u32()?,
            })
        })
        .collect::<Result<_>>()?;
    let mut sections = Vec::new();
    for _ in 0..fields.count(4)? {
        let layers = (0..fields.count(10)?)
            .map(|_| {
                Ok(LayerRefs {
                    map: Value::decode(fields)?,
                    column: Value::decode(fields)?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        sections.push(layers);
    }
    if sections.len() as u64 != size.div_ceil(crate::layer::SECTION_LEN) {
        return Err(fields.wrong("its sections do not make up its size"));
    }
    Ok(FileEntry {
        size,
        crc,
        block_size,
        uses,
        sections,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::Codec;
    use proptest::prelude::*;

    fn file(bytes: Vec<u8>, frames: u32) -> EntryKind {
        let pos = |number| FramePos {
            pack: 3,
            number,
            offset: 1000,
            stored_len: 50,
            raw_len: 60,
            codec: Codec::Zstd,
            hash: [9; 16],
        };
        EntryKind::File(FileEntry {
            size: 1 << 30,
            crc: 77,
            block_size: 8192,
            uses: vec![PackUse { pack: 3, live: 10 }],
            sections: vec![vec![LayerRefs {
                map: Value::Here(bytes),
                column: Value::Frames((0..frames).map(pos).collect()),
            }]],
        })
    }

    proptest! {
        #[test]
        fn round_trip(
            tablespace in any::<u32>(), path in proptest::collection::vec(any::<u8>(), 0..40), mtime in any::<i64>(),
            map in proptest::collection::vec(any::<u8>(), 0..40), frames in 0u32..4, at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let entry = |kind| Entry { key: EntryKey { tablespace, path: path.clone() }, order: 5, mode: 0o600, mtime, kind };
            let entries = [
                entry(file(map.clone(), frames)),
                entry(EntryKind::Directory),
                entry(EntryKind::Symlink { target: map.clone() }),
            ];
            let mut bytes = Vec::new();
            for entry in &entries {
                entry.encode(&mut bytes);
            }
            let mut rest = &bytes[..];
            for entry in &entries {
                let found = Entry::next(&mut rest).unwrap();
                prop_assert_eq!(found.as_ref(), Some(entry));
            }
            prop_assert!(Entry::next(&mut rest).unwrap().is_none());

            let at = at.index(bytes.len());
            bytes[at] = byte;
            let mut rest = &bytes[..];
            while let Ok(Some(_)) = Entry::next(&mut rest) {}
            let mut cut = &bytes[..at];
            while let Ok(Some(_)) = Entry::next(&mut cut) {}
        }
    }
}
