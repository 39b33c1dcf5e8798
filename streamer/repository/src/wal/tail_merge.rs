//! Many tails of one streamer become one.
//!
//! Above [`MOST`] tails the last ones are written together into one cumulative tail that replaces them, together with
//! every earlier one that is not more than twice as long: so any number of tails stays below `MOST` plus a few, and each
//! byte is rewritten a logarithmic number of times.
//!
//! It runs beside the writer, which meanwhile goes on with tails behind it: [`TailWriter::merge`] says what is to be
//! done, [`TailMerge::run`] does it, [`TailWriter::merged`] takes over what came of it. Until then the writer counts on
//! the tails themselves. What is replaced is removed only after the one that replaces it is durable and compared with
//! what others stored.

use hardstorage_report::{Lsn, Result};
use hardstorage_storage::Key;

use super::facts::RecordFacts;
use super::object_stream::WalStream;
use super::tail_writer::{TailPlace, TailWriter};
use super::tails::TailSpan;

/// How many tails of one segment a streamer leaves beside each other.
const MOST: usize = 64;

/// Tails that are to become one.
#[derive(Debug)]
pub struct TailMerge {
    at: TailPlace,
    /// Those that stay.
    before: Vec<TailSpan>,
    parts: Vec<TailSpan>,
    span: TailSpan,
    /// What earlier merges have replaced and could not remove.
    replaced: Vec<Key>,
}

/// What came of it.
#[derive(Debug)]
pub struct TailMerged {
    /// `None` when the finished segment has replaced the tails meanwhile.
    done: Option<Done>,
    replaced: Vec<Key>,
}

#[derive(Debug)]
struct Done {
    parts: Vec<TailSpan>,
    span: TailSpan,
    others_end: Lsn,
}

impl TailWriter {
    /// What has to be written together, when there are too many tails. One at a time: the next is asked for when
    /// [`TailWriter::merged`] was told of this one.
    pub fn merge(&mut self) -> Option<TailMerge> {
        // A journal is one object, however many bytes it holds; what lies before it are a few large ones.
        if self.live.iter().any(|span| span.journal) {
            return None;
        }
        let mut first = self.live.len().checked_sub(MOST).filter(|first| *first > 0)?;
        let mut length: u64 = self.live.iter().skip(first).map(|span| span.length()).sum();
        while let Some(before) = first.checked_sub(1).and_then(|at| self.live.get(at)) {
            if before.length() > 2 * length {
                break;
            }
            length += before.length();
            first -= 1;
        }
        let (begin, end) = (*self.live.get(first)?, *self.live.last()?);
        Some(TailMerge {
            at: self.at.clone(),
            before: self.live.iter().take(first).copied().collect(),
            parts: self.live.iter().skip(first).copied().collect(),
            span: TailSpan { to: end.to, ..begin },
            replaced: std::mem::take(&mut self.replaced),
        })
    }

    /// Takes over what came of a merge.
    pub fn merged(&mut self, merged: TailMerged) {
        self.replaced.extend(merged.replaced);
        let Some(done) = merged.done else { return };
        self.live.retain(|span| !done.parts.contains(span));
        let behind = self.live.partition_point(|span| span.from < done.span.from);
        self.live.insert(behind, done.span);
        self.others_end = self.others_end.max(Some(done.others_end));
    }
}

impl TailMerge {
    /// Writes them together, compares with other streamers again, and removes what is replaced. What cannot be removed is
    /// tried again by the next one.
    pub async fn run(self) -> Result<TailMerged> {
        let mut writer = self.at.object(self.span)?;
        let mut facts = RecordFacts::default();
        for part in &self.parts {
            let Some(object) = self.at.own(*part).await? else {
                self.at.replaced_by_the_segment(*part).await?;
                return Ok(TailMerged {
                    done: None,
                    replaced: self.replaced,
                });
            };
            let mut said = object.metadata.facts.clone();
            said.restore_points.clone_from(&object.directory.restore_points);
            facts.join(&said);
            let mut stream = WalStream::new(object);
            while let Some(bytes) = stream.next().await? {
                writer.take(bytes).await?;
            }
        }
        self.at.commit(self.span, writer, facts).await?;
        let stay: Vec<TailSpan> = self.before.into_iter().chain([self.span]).collect();
        let others_end = self.at.compare_with_others(&stay).await?;
        let mut replaced = self.replaced;
        replaced.extend(self.parts.iter().map(|part| self.at.key(*part)));
        while let Some(key) = replaced.last() {
            if let Err(error) = self.at.archive.deployment().store().delete(key).await {
                tracing::warn!(%key, %error, "a tail that was replaced stays for now");
                break;
            }
            replaced.pop();
        }
        Ok(TailMerged {
            done: Some(Done {
                parts: self.parts,
                span: self.span,
                others_end,
            }),
            replaced,
        })
    }
}
