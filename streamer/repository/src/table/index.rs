//! The index of the file table: which frames there are, and where each begins.

use hardstorage_report::Result;

use super::EntryKey;
use crate::pack::{FRAME_POS_LEN, Fields, FramePos};

const MAGIC: [u8; 8] = *b"HSTABLE\x01";

/// A frame of entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFrame {
    /// Where it lies.
    pub at: FramePos,
    /// The key of its first entry.
    pub first: EntryKey,
}

/// A sorted run of entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableRun {
    /// How many.
    pub entries: u64,
    /// The frames in order.
    pub frames: Vec<TableFrame>,
}

impl TableRun {
    /// The only frame that can hold this key.
    pub fn frame_of(&self, key: &EntryKey) -> Option<&TableFrame> {
        let after = self.frames.partition_point(|frame| frame.first <= *key);
        self.frames.get(after.checked_sub(1)?)
    }
}

/// The value of a file table's root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableIndex {
    /// Entries in all runs.
    pub entries: u64,
    /// The runs.
    pub runs: Vec<TableRun>,
}

impl TableIndex {
    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.entries.to_le_bytes());
        out.extend_from_slice(&(self.runs.len() as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        for run in &self.runs {
            out.extend_from_slice(&run.entries.to_le_bytes());
            out.extend_from_slice(&(run.frames.len() as u32).to_le_bytes());
            for frame in &run.frames {
                frame.at.encode(&mut out);
                out.extend_from_slice(&frame.first.tablespace.to_le_bytes());
                out.extend_from_slice(&(frame.first.path.len() as u16).to_le_bytes());
                out.extend_from_slice(&frame.first.path);
            }
        }
        out
    }

    /// Reads the stored form.
    pub fn decode(bytes: &[u8]) -> Result<TableIndex> {
        let mut fields = Fields::new("file table index", bytes);
        if fields.array()? != MAGIC {
            return Err(fields.wrong("it does not begin like one"));
        }
        let entries = fields.u64()?;
        let runs = fields.u32()?;
        fields.zeros(4)?;
        let mut index = TableIndex {
            entries,
            runs: Vec::new(),
        };
        for _ in 0..runs {
            let mut run = TableRun {
                entries: fields.u64()?,
                frames: Vec::new(),
            };
            for _ in 0..fields.count(FRAME_POS_LEN + 6)? {
                let at = FramePos::decode(&mut fields)?;
                let tablespace = fields.u32()?;
                let length = fields.u16()?;
                let path = fields.take(usize::from(length))?.to_vec();
                let first = EntryKey { tablespace, path };
                if run.frames.last().is_some_and(|before| before.first >= first) {
                    return Err(fields.wrong("a run is not sorted"));
                }
                run.frames.push(TableFrame { at, first });
            }
            index.runs.push(run);
        }
        fields.end()?;
        if index
            .runs
            .iter()
            .try_fold(0u64, |sum, run| sum.checked_add(run.entries))
            != Some(entries)
        {
            return Err(fields.wrong("its runs do not make up its entries"));
        }
        Ok(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::Codec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip_and_lookup(
            keys in proptest::collection::btree_set((0u32..3, "[a-c]{0,3}"), 0..20), probe in (0u32..3, "[a-c]{0,3}"),
            at in any::<prop::sample::Index>(), byte in any::<u8>(),
        ) {
            let key = |(tablespace, path): (u32, String)| EntryKey { tablespace, path: path.into_bytes() };
            let pos = FramePos {
                pack: 0, number: 1, offset: 64, stored_len: 9, raw_len: 9, codec: Codec::Raw, hash: [0; 16],
            };
            let frames: Vec<TableFrame> = keys.into_iter().map(|k| TableFrame { at: pos, first: key(k) }).collect();
            let run = TableRun { entries: frames.len() as u64, frames };
            let index = TableIndex { entries: run.entries, runs: vec![run.clone()] };
            let mut bytes = index.encode();
            prop_assert_eq!(TableIndex::decode(&bytes).unwrap(), index);
            let probe = key(probe);
            let expected = run.frames.iter().rev().find(|frame| frame.first <= probe);
            prop_assert_eq!(run.frame_of(&probe), expected);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = TableIndex::decode(&bytes);
            prop_assert!(TableIndex::decode(&bytes[..at]).is_err());
        }
    }
}
