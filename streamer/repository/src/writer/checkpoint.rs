//! Tells the repository now and then which files of the running backup are whole, so that a successor can take them over.
//!
//! When it happens depends on the stream alone: whenever a data pack was filled, and a pack's worth or a sixteenth of all
//! that was stored has come since. So a backup of any size loses at most a sixteenth and a pack to a kill, and a backup of
//! ten terabytes writes less than two hundred of them. Nothing waits for it: a task of the runtime writes the object once
//! every pack that it refers to is durable. When that task is still at it the next one is left out.
//!
//! The frames of a checkpoint lie in packs of their own that no manifest lists, with numbers from c0000000 (hex) on.

use std::sync::Arc;

use hardstorage_report::{Error, Result, code};
use tokio::task::JoinHandle;

use super::stream::{Arrival, Harbour, PackStream};
use super::tables::{MetaStream, Tables};
use crate::session::ProgressRecord;

/// The first pack of checkpoints.
pub(super) const FIRST_PACK: u32 = 3 << 30;
/// What has come since the last checkpoint, of all that was stored.
const SHARE: u64 = 16;

/// The checkpoints of one backup.
pub(super) struct Checkpoints {
    harbour: Harbour,
    meta: MetaStream,
    /// What the last one knew of.
    stored: u64,
    next: u32,
    writing: Option<JoinHandle<()>>,
}

impl Checkpoints {
    pub(super) fn new(harbour: &Harbour) -> Checkpoints {
        Checkpoints {
            harbour: harbour.clone(),
            meta: MetaStream::beginning_at(harbour, FIRST_PACK),
            stored: 0,
            next: 0,
            writing: None,
        }
    }

    /// To be called when a data pack was filled and none is begun.
    pub(super) fn pack_filled(&mut self, data: &PackStream, tables: &mut Tables) -> Result<()> {
        let stored = data.stored();
        let pack = self.harbour.deployment.config().pack_size;
        if stored - self.stored < pack.max(stored / SHARE)
            || self.writing.as_ref().is_some_and(|task| !task.is_finished())
        {
            return Ok(());
        }
        let Some(roots) = tables.checkpoint(&mut self.meta, data.finished())? else {
            return Ok(());
        };
        self.stored = stored;
        let mut awaited = data.on_their_way();
        awaited.extend(tables.meta.on_their_way());
        awaited.extend(self.meta.on_their_way());
        let deployment = &self.harbour.deployment;
        let (writer, number) = (self.harbour.writer, self.next);
        let record = ProgressRecord::new(deployment, writer, number, roots.0, roots.1);
        self.next += 1;
        let task = write(self.harbour.clone(), awaited, record);
        self.writing = Some(self.harbour.runtime.spawn(task));
        Ok(())
    }

    /// The copy is at its end: waits for what is on its way. It counts while the backup waits for its WAL.
    pub(super) fn end(&mut self) -> Result<()> {
        if let Some(task) = self.writing.take() {
            let ended = self.harbour.runtime.block_on(task);
            ended.map_err(|error| {
                Error::new(code::storage::IO, "the progress of the backup ended abnormally").source(error)
            })?;
        }
        self.meta.settle()
    }
}

/// Writes the object when the packs are there. That it is missing costs a successor space, so a failure is only told.
async fn write(harbour: Harbour, awaited: Vec<Arrival>, record: ProgressRecord) {
    let stored = async {
        for pack in &awaited {
            if !pack.came().await {
                // The backup itself fails with it, and says why.
                return Ok(());
            }
        }
        Arc::clone(harbour.deployment.store()).sync().await?;
        record.write(&harbour.deployment).await
    };
    let written = tokio::select! {
        biased;
        () = harbour.cancel.cancelled() => return,
        written = stored => written,
    };
    if let Err(error) = written {
        tracing::warn!(%error, "the progress of the backup could not be written");
    }
}
