//! `.partial` and `.backup` files, verbatim under PostgreSQL's own names: the archiver of a primary hands them over, and
//! an archive that refuses one stops it.

use bytes::Bytes;
use hardstorage_report::{Error, Result, SegmentName, code};
use hardstorage_storage::Key;

use super::WalArchive;
use super::segments::Stored;
use crate::{EnvelopeKind, layout};

/// Whether this is `<segment>.partial` or `<segment>.<offset>.backup`.
pub(super) fn is_aux_name(name: &str) -> bool {
    let Some((segment, rest)) = name.split_at_checked(24) else {
        return false;
    };
    let offset = rest.strip_prefix('.').and_then(|rest| rest.strip_suffix(".backup"));
    let hex = |b: u8| b.is_ascii_digit() || (b'A'..=b'F').contains(&b);
    segment.parse::<SegmentName>().is_ok()
        && (rest == ".partial" || offset.is_some_and(|offset| offset.len() == 8 && offset.bytes().all(hex)))
}

impl WalArchive {
    pub(super) fn aux_key(&self, name: &str) -> Result<Key> {
        is_aux_name(name)
            .then(|| layout::aux(self.deployment().name(), self.lineage(), name))
            .flatten()
            .ok_or_else(|| {
                Error::new(
                    code::usage::INVALID,
                    format!("{name:?} is neither a partial segment nor a backup history file"),
                )
            })
    }

    /// Stores a `.partial` or `.backup` file.
    pub async fn put_aux(&self, name: &str, bytes: &[u8]) -> Result<Stored> {
        self.put_verbatim(EnvelopeKind::Aux, &self.aux_key(name)?, bytes).await
    }

    /// A `.partial` or `.backup` file.
    pub async fn aux(&self, name: &str) -> Result<Option<Bytes>> {
        self.get_verbatim(EnvelopeKind::Aux, &self.aux_key(name)?).await
    }
}

#[cfg(test)]
mod tests {
    use super::is_aux_name;

    #[test]
    fn names() {
        for good in [
            "000000010000000000000003.partial",
            "0000000A0000000000000003.00000028.backup",
        ] {
            assert!(is_aux_name(good), "{good}");
        }
        for bad in [
            "",
            "000000010000000000000003",
            "000000010000000000000003.00000028.partial",
            "000000010000000000000003.28.backup",
            "00000001000000000000000g.partial",
            "../000000010000000000003.partial",
            "00000001000000000000000ü.partial",
        ] {
            assert!(!is_aux_name(bad), "{bad}");
        }
    }
}
