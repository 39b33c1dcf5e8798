//! Housekeeping among the tails of the open segment, beside the stream.

use hardstorage_report::{Error, Lsn, Result, SegmentName, code};
use hardstorage_repository::WriterId;
use hardstorage_repository::wal::{TailMerge, TailMerged, WalArchive};
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

use super::recorder::Recorder;

/// What is to be done.
struct Tidying {
    archive: WalArchive,
    segment: SegmentName,
    /// How far this connection's own tails reach.
    durable: Lsn,
    merge: Option<TailMerge>,
    /// Earlier connections of this process, whose tails say no more than those of this one.
    earlier: Vec<WriterId>,
}

/// What was done.
pub(super) struct Tidied {
    pub(super) merged: Option<TailMerged>,
    /// Of which earlier connections nothing is left.
    pub(super) forgotten: Vec<WriterId>,
}

impl Tidying {
    /// Does it.
    async fn run(self) -> Result<Tidied> {
        let merged = match self.merge {
            Some(merge) => Some(merge.run().await?),
            None => None,
        };
        let mut forgotten = Vec::new();
        if self.earlier.is_empty() {
            return Ok(Tidied { merged, forgotten });
        }
        let spans = self.archive.list_tails(self.segment).await?;
        for writer in self.earlier {
            let mut left = 0;
            for span in spans.iter().filter(|span| span.streamer == writer) {
                if span.to <= self.durable {
                    self.archive.drop_tail(self.segment, *span).await?;
                } else {
                    left += 1;
                }
            }
            if left == 0 {
                forgotten.push(writer);
            }
        }
        Ok(Tidied { merged, forgotten })
    }
}

impl Recorder {
    /// Begins housekeeping, beside the stream because an acknowledgement must never wait for it: many tails become one,
    /// and with `earlier` what earlier connections of this process left goes when a tail of this one repeats it and says
    /// as much. Does nothing while it is at it.
    pub fn begin_tidy(&mut self, earlier: bool) {
        let Some(open) = &mut self.open else { return };
        if self.tidying.is_some() {
            return;
        }
        let earlier = if earlier {
            self.own.earlier(open.name, self.streamer, self.tailed_up_to)
        } else {
            Vec::new()
        };
        let merge = open.tails.merge();
        if merge.is_none() && earlier.is_empty() {
            return;
        }
        let tidying = Tidying {
            archive: self.archive.clone(),
            segment: open.name,
            durable: self.durable,
            merge,
            earlier,
        };
        self.tidying = Some(AbortOnDropHandle::new(tokio::spawn(tidying.run())));
    }

    /// The housekeeping is done, or not.
    pub(super) fn tidied(&mut self, done: Result<Result<Tidied>, JoinError>) -> Result<()> {
        self.tidying = None;
        let done = done.map_err(|error| Error::new(code::cli::INTERNAL, "write tails together").source(error))??;
        // It is of the segment that is open: with a finished one it goes along.
        if let Some(open) = &mut self.open {
            for writer in done.forgotten {
                self.own.forget(open.name, writer);
            }
            if let Some(merged) = done.merged {
                open.tails.merged(merged);
            }
        }
        Ok(())
    }
}
