//! PostgreSQL's own checksums of a backup's files, by a hash of the path: a million files take 40 MB.
//!
//! Used from both sides: while a backup is taken, what was received is compared with the manifest that follows it;
//! while one is restored, what is written is compared with the manifest in the backup.

use std::collections::HashMap;

use hardstorage_repository::EntryKey;

/// Sizes and CRC32C by path.
#[derive(Debug, Default)]
pub struct PostgresChecksums(HashMap<u64, (u64, Option<u32>)>);

fn slot(path: &[u8]) -> u64 {
    let hash = hardstorage_codec::plain_hash(path);
    u64::from_le_bytes([hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7]])
}

/// The path of an entry as PostgreSQL's manifest spells it.
fn manifest_path(key: &EntryKey) -> Vec<u8> {
    match key.tablespace {
        0 => key.path.clone(),
        oid => [format!("pg_tblspc/{oid}/").as_bytes(), &key.path].concat(),
    }
}

impl PostgresChecksums {
    /// Remembers a file under the manifest's spelling.
    pub fn add(&mut self, path: &[u8], size: u64, crc32c: Option<u32>) {
        self.0.insert(slot(path), (size, crc32c));
    }

    /// Remembers a file under its name in the repository.
    pub fn add_entry(&mut self, key: &EntryKey, size: u64, crc32c: u32) {
        self.add(&manifest_path(key), size, Some(crc32c));
    }

    /// Whether a file is as it was remembered; `None` when it was not.
    pub fn matches(&self, key: &EntryKey, size: u64, crc32c: u32) -> Option<bool> {
        self.compare(&manifest_path(key), size, Some(crc32c))
    }

    /// The same by the manifest's spelling. A checksum that is not known on one side is not compared.
    pub fn compare(&self, path: &[u8], size: u64, crc32c: Option<u32>) -> Option<bool> {
        self.0.get(&slot(path)).map(|(known_size, known_crc)| {
            *known_size == size && known_crc.zip(crc32c).is_none_or(|(known, found)| known == found)
        })
    }

    /// Whether a file of this name was remembered, by the manifest's spelling.
    pub fn knows(&self, path: &[u8]) -> bool {
        self.0.contains_key(&slot(path))
    }

    /// How many files it knows.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_meet() {
        let mut known = PostgresChecksums::default();
        let key = EntryKey {
            tablespace: 7,
            path: b"PG_18/1/2".to_vec(),
        };
        known.add_entry(&key, 3, 42);
        assert_eq!(known.compare(b"pg_tblspc/7/PG_18/1/2", 3, Some(42)), Some(true));
        assert_eq!(known.compare(b"pg_tblspc/7/PG_18/1/2", 3, Some(43)), Some(false));
        assert_eq!(known.compare(b"pg_tblspc/7/PG_18/1/2", 3, None), Some(true));
        assert_eq!(known.matches(&key, 4, 42), Some(false));
        assert_eq!(known.compare(b"PG_18/1/2", 3, Some(42)), None);
    }
}
