//! When WAL arrived, by the clock of the store. People are told; nothing is decided by it.

use hardstorage_report::{Lsn, Result};
use jiff::Timestamp;

use super::WalArchive;
use super::coverage::{Coverage, PieceSource};

impl WalArchive {
    /// When the object was stored that holds the end of what recovery from `from` reads. `None` when there is none, or the
    /// store does not say.
    pub async fn arrived(&self, coverage: &Coverage, from: Lsn) -> Result<Option<Timestamp>> {
        let Some(last) = coverage.pieces_from(from).last() else {
            return Ok(None);
        };
        let key = match last.source {
            PieceSource::Segment => Some(self.segment_key(last.segment)),
            PieceSource::Tails => {
                let tails = self.tails_of(last.segment).await?.into_iter();
                tails.max_by_key(|tail| tail.span.to).map(|tail| tail.key)
            }
        };
        let Some(key) = key else { return Ok(None) };
        let found = self.deployment().store().head(&key).await?;
        Ok(found.and_then(|object| object.modified))
    }
}
