//! `.partial` and `.backup` files under PostgreSQL's own names: the archiver of a primary hands them over, and an archive
//! that refuses one stops it.
//!
//! A `.backup` file is a few lines about a backup, kept verbatim as histories are. A `.partial` file is a whole segment of
//! WAL, somebody's rows in it, so it is sealed as segments are. What it holds behind the end of its timeline may be
//! anything, so nothing is compared with it and nothing is recovered from it.

use bytes::Bytes;
use hardstorage_report::{Error, Result, SegmentName, code};
use hardstorage_storage::Key;

use super::WalArchive;
use super::format::WalKind;
use super::object_reader::WalObject;
use super::object_stream::WalStream;
use super::segments::{SegmentBuilder, Stored};
use crate::{EnvelopeKind, layout};

/// The segment in `<segment>.partial`.
pub(super) fn partial_of(name: &str) -> Option<SegmentName> {
    name.strip_suffix(".partial")?.parse().ok()
}

/// Whether this is `<segment>.<offset>.backup`.
pub(super) fn is_backup_history(name: &str) -> bool {
    let Some((segment, rest)) = name.split_at_checked(24) else {
        return false;
    };
    let offset = rest.strip_prefix('.').and_then(|rest| rest.strip_suffix(".backup"));
    let hex = |b: u8| b.is_ascii_digit() || (b'A'..=b'F').contains(&b);
    segment.parse::<SegmentName>().is_ok() && offset.is_some_and(|offset| offset.len() == 8 && offset.bytes().all(hex))
}

impl WalArchive {
    fn aux_key(&self, name: &str) -> Result<Key> {
        layout::aux(self.deployment().name(), self.lineage(), name).ok_or_else(|| {
            Error::new(
                code::usage::INVALID,
                format!("{name:?} is neither a partial segment nor a backup history file"),
            )
        })
    }

    fn backup_history_key(&self, name: &str) -> Result<Key> {
        if is_backup_history(name) {
            return self.aux_key(name);
        }
        Err(Error::new(
            code::usage::INVALID,
            format!("{name:?} is no backup history file"),
        ))
    }

    /// Stores a `.backup` file.
    pub async fn put_backup_history(&self, name: &str, bytes: &[u8]) -> Result<Stored> {
        self.put_verbatim(EnvelopeKind::Aux, &self.backup_history_key(name)?, bytes)
            .await
    }

    /// A `.backup` file.
    pub async fn backup_history(&self, name: &str) -> Result<Option<Bytes>> {
        self.get_verbatim(EnvelopeKind::Aux, &self.backup_history_key(name)?)
            .await
    }

    fn partial_key(&self, segment: SegmentName) -> Result<Key> {
        self.aux_key(&format!("{segment}.partial"))
    }

    /// Begins a `.partial` file, which is as long as a segment.
    pub fn partial_builder(&self, segment: SegmentName) -> Result<SegmentBuilder> {
        SegmentBuilder::begin(self, segment, WalKind::Partial, self.partial_key(segment)?, None)
    }

    /// The bytes of a `.partial` file, checked as they are read. `None` when it is not there.
    pub async fn read_partial(&self, segment: SegmentName) -> Result<Option<WalStream>> {
        let (key, place) = (self.partial_key(segment)?, self.place_of(segment)?);
        let object = WalObject::open(self, &key, None, WalKind::Partial, place).await?;
        Ok(object.map(WalStream::new))
    }
}

#[cfg(test)]
mod tests {
    use super::{is_backup_history, partial_of};

    #[test]
    fn names() {
        assert!(partial_of("000000010000000000000003.partial").is_some());
        assert!(is_backup_history("0000000A0000000000000003.00000028.backup"));
        for bad in [
            "",
            "000000010000000000000003",
            "000000010000000000000003.00000028.partial",
            "000000010000000000000003.28.backup",
            "00000001000000000000000g.partial",
            "../000000010000000000003.partial",
            "00000001000000000000000ü.partial",
        ] {
            assert!(partial_of(bad).is_none() && !is_backup_history(bad), "{bad}");
        }
    }
}
