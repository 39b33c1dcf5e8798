//! A segment of which tails hold everything, and which nobody has finished.
//!
//! A streamer with a journal acknowledges a segment's last byte when it is in the journal. When it dies before it has
//! finished the segment, no server has to send that WAL again.

use hardstorage_report::{Result, SegmentName};

use super::WalArchive;
use super::coverage::{Piece, PieceSource};
use super::segments::Stored;

impl WalArchive {
    /// Finishes a segment out of its tails, when they hold all of it and it is not there; `None` otherwise. The tails go.
    pub async fn finish_from_tails(&self, segment: SegmentName) -> Result<Option<Stored>> {
        let Some(mut tails) = self.assemble(segment).await? else {
            return Ok(None);
        };
        let (start, range) = (self.start_of(segment)?, tails.range());
        let whole = range.from == start && range.to == start.add(self.segment_size().bytes());
        if !whole || self.has_segment(segment).await? {
            return Ok(None);
        }
        let piece = Piece {
            range,
            segment,
            source: PieceSource::Tails,
        };
        let mut facts = self.facts_of(&piece, false).await?;
        facts.restore_points = self.restore_points_of(piece).await?;
        let mut builder = self.segment_builder(segment, None)?;
        while let Some(bytes) = tails.next().await? {
            builder.take(builder.position(), bytes).await?;
        }
        let stored = builder.finish(facts).await?;
        self.drop_tails(segment, None).await?;
        Ok(Some(stored))
    }
}
