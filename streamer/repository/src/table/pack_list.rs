//! The list of the packs that a backup needs. Collection reads manifests and these lists, nothing else.

use hardstorage_codec::Digest256;
use hardstorage_report::Result;

use crate::pack::Fields;
use crate::{PackId, PackKind, WriterId};

const MAGIC: [u8; 8] = *b"HSPACKS\x01";
const RECORD_LEN: usize = 120;

/// A pack as one backup knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackRecord {
    /// Its name.
    pub id: PackId,
    /// What it holds.
    pub kind: PackKind,
    /// Its length; 0 for the pack that holds the list itself.
    pub length: u64,
    /// BLAKE3 of its directory's stored bytes.
    pub directory_hash: Digest256,
    /// The digest in its footer.
    pub digest: Digest256,
    /// Pages (meta: frames) in it that the backup uses.
    pub live: u64,
    /// Pages (meta: frames) that were put into it.
    pub total: u64,
    /// Seconds since 1970; 0 not locked.
    pub lock_until: u64,
}

impl PackRecord {
    /// Whether this is the pack that holds the list: its length stands nowhere.
    pub fn holds_the_list(&self) -> bool {
        self.length == 0
    }
}

/// The value of a pack list's root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackList {
    /// Pages that were new or changed in this backup: those that it stored, but for those stored anew unchanged.
    pub changed_pages: u64,
    /// The packs; places in the file table refer to them by number.
    pub packs: Vec<PackRecord>,
}

impl PackList {
    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + self.packs.len() * RECORD_LEN);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&(self.packs.len() as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.changed_pages.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        for pack in &self.packs {
            out.extend_from_slice(pack.id.writer.bytes());
            out.extend_from_slice(&pack.id.sequence.to_le_bytes());
            out.extend_from_slice(&[pack.kind.byte(), 0, 0, 0]);
            out.extend_from_slice(&pack.length.to_le_bytes());
            out.extend_from_slice(&pack.directory_hash);
            out.extend_from_slice(&pack.digest);
            for number in [pack.live, pack.total, pack.lock_until] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        out
    }

    /// Reads the stored form.
    pub fn decode(bytes: &[u8]) -> Result<PackList> {
        let mut fields = Fields::new("pack list", bytes);
        if fields.array()? != MAGIC {
            return Err(fields.wrong("it does not begin like one"));
        }
        let count = fields.u32()? as usize;
        fields.zeros(4)?;
        let changed_pages = fields.u64()?;
        fields.zeros(8)?;
        if fields.left() != count * RECORD_LEN {
            return Err(fields.wrong("its length does not match its number of packs"));
        }
        let mut packs = Vec::with_capacity(count);
        for _ in 0..count {
            let id = PackId {
                writer: WriterId::new(fields.array()?),
                sequence: fields.u32()?,
            };
            let kind = PackKind::from_byte(fields.u8()?).ok_or_else(|| fields.wrong("unknown kind of pack"))?;
            fields.zeros(3)?;
            packs.push(PackRecord {
                id,
                kind,
                length: fields.u64()?,
                directory_hash: fields.array()?,
                digest: fields.array()?,
                live: fields.u64()?,
                total: fields.u64()?,
                lock_until: fields.u64()?,
            });
        }
        Ok(PackList { changed_pages, packs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(packs in proptest::collection::vec((any::<[u8; 16]>(), any::<[u8; 32]>(), any::<u32>()), 0..9), cut in 1usize..200) {
            let packs: Vec<PackRecord> = packs.into_iter().map(|(writer, hash, number)| PackRecord {
                id: PackId { writer: WriterId::new(writer), sequence: number },
                kind: if number % 2 == 0 { PackKind::Data } else { PackKind::Meta },
                length: u64::from(number),
                directory_hash: hash,
                digest: hash,
                live: 1,
                total: u64::from(number),
                lock_until: 0,
            }).collect();
            let list = PackList { changed_pages: 7, packs };
            let bytes = list.encode();
            prop_assert_eq!(PackList::decode(&bytes).unwrap(), list);
            prop_assert!(PackList::decode(&bytes[..bytes.len().saturating_sub(cut)]).is_err());
        }

        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = PackList::decode(&bytes);
        }
    }
}
