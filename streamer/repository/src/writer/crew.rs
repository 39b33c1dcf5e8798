//! The threads of one backup, and the batches that go round between them and the caller.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use hardstorage_report::{Error, Result, code};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::batch::{Batch, FreeBatches};
use super::checkpoint::Checkpoints;
use super::chunks::Chunks;
use super::entries::Entries;
use super::options::{Finished, WriterOptions};
use super::packer::Packer;
use super::page_count::PageCount;
use super::stream::{Harbour, PackStream};
use super::tables::Tables;
use super::workers::{self, Job, Jobs, Shop, Told};
use crate::{Deployment, PackKind};

/// Workers and packer. Dropping it ends them, without waiting.
#[derive(Debug)]
pub(super) struct Crew {
    capacity: usize,
    cancel: CancellationToken,
    jobs: Arc<Jobs>,
    free: Arc<FreeBatches>,
    packer: Sender<Told>,
    result: Option<oneshot::Receiver<Result<Finished>>>,
    threads: Vec<JoinHandle<()>>,
    submitted: u64,
    pages: Arc<PageCount>,
}

impl Crew {
    /// Starts the threads. Must be called on a runtime, which carries the uploads.
    pub(super) fn start(deployment: &Deployment, options: &WriterOptions) -> Result<Crew> {
        let config = deployment.config().clone();
        let capacity = config.frame_size.max(options.block_size) as usize;
        // Without an ancestor few batches keep little, and those are like any other bytes of a full. With one, only what is
        // new as a whole is worth a frame of its own: pages of several batches shrink better together.
        let (gathered_len, gathered_level, enough) = match &options.ancestor {
            Some(_) => (config.changed_frame_size as usize, config.changed_level, capacity),
            None => (capacity, config.level, capacity / 2),
        };
        let batches = (options.memory / (2 * capacity)).max(2 * options.jobs.max(1) + 2);
        let (jobs, free) = (Arc::new(Jobs::default()), Arc::new(FreeBatches::new(batches)));
        let (packer, told) = std::sync::mpsc::channel();
        let (done, result) = oneshot::channel();
        let mut crew = Crew {
            capacity,
            cancel: options.cancel.child_token(),
            jobs: Arc::clone(&jobs),
            free: Arc::clone(&free),
            packer,
            result: Some(result),
            threads: Vec::new(),
            submitted: 0,
            pages: Arc::default(),
        };
        let harbour = Harbour {
            deployment: deployment.clone(),
            writer: options.writer,
            runtime: Handle::current(),
            cancel: crew.cancel.clone(),
            chunks: Chunks::default(),
        };
        let shop = Shop {
            key: deployment.key().clone(),
            config,
            block_size: options.block_size,
            enough,
            gathered_level,
        };
        let old = options.earlier().map(|earlier| Arc::clone(earlier.packs())).collect();
        let checkpoints = Checkpoints::new(&harbour);
        let entries = Entries::new(Tables::new(&harbour, old), options.block_size);
        let packer = Packer::new(
            told,
            Arc::clone(&jobs),
            Arc::clone(&free),
            (PackStream::new(harbour, PackKind::Data), checkpoints),
            entries,
            options.block_size,
            gathered_len.max(capacity),
        );
        crew.pages = packer.pages();
        crew.threads = workers::start(options.jobs, &shop, &jobs, &crew.packer)?;
        let thread = std::thread::Builder::new()
            .name("backup-pack".into())
            .spawn(move || {
                // Dropped at the end, however that comes: nobody waits for a packer that is gone.
                let _ends = Ends { jobs, free };
                // Nobody may be listening any more: a writer that was dropped.
                let _ = done.send(packer.run());
            })
            .map_err(|error| Error::new(code::storage::IO, "start the packer thread").source(error))?;
        crew.threads.push(thread);
        Ok(crew)
    }

    /// What became of the pages so far.
    pub(super) fn pages(&self) -> &Arc<PageCount> {
        &self.pages
    }

    /// Raw bytes of a batch.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Sends a batch on its way and puts an empty one in its place.
    pub(super) async fn submit(&mut self, batch: &mut Box<Batch>) -> Result<()> {
        let next = self.next_batch().await?;
        let mut full = std::mem::replace(batch, next);
        full.number = self.submitted;
        self.submitted += 1;
        self.jobs.push(Job::Examine(full));
        Ok(())
    }

    /// Waits for an empty batch: this is where a slow store slows the server down.
    pub(super) async fn next_batch(&mut self) -> Result<Box<Batch>> {
        let batch = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(interrupted()),
            batch = self.free.take() => batch,
        };
        match batch {
            Some(mut batch) => {
                batch.raw.reserve(self.capacity);
                Ok(batch)
            }
            // Only a packer that has failed closes the pool before the end.
            None => Err(self.result().await.err().unwrap_or_else(interrupted)),
        }
    }

    /// Says that the stream has ended, and waits until all of it is stored.
    pub(super) async fn finish(&mut self) -> Result<Finished> {
        // A packer that has ended says why in its result.
        let _ = self.packer.send(Told::End(self.submitted));
        self.result().await
    }

    async fn result(&mut self) -> Result<Finished> {
        // Asked a second time after a failure: that has been told.
        let result = self.result.take().ok_or_else(interrupted)?;
        let lost = |_| Error::new(code::storage::IO, "the packer thread ended abnormally");
        self.unless_cancelled(async { result.await.map_err(lost)? }).await
    }

    /// Awaits work that ends early when the backup is given up.
    pub(super) async fn unless_cancelled<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(interrupted()),
            done = work => done,
        }
    }

    /// Ends threads and uploads.
    pub(super) fn give_up(&self) {
        self.cancel.cancel();
        self.jobs.close();
        // The packer may have ended already.
        let _ = self.packer.send(Told::Died);
    }

    /// Waits for the threads, which have been told to end.
    pub(super) async fn join(&mut self) {
        self.jobs.close();
        let threads = std::mem::take(&mut self.threads);
        let joined = tokio::task::spawn_blocking(move || threads.into_iter().all(|thread| thread.join().is_ok()));
        if !joined.await.unwrap_or(false) {
            tracing::error!("a thread of the backup writer panicked");
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// Ends what depends on the packer.
struct Ends {
    jobs: Arc<Jobs>,
    free: Arc<FreeBatches>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.jobs.close();
        self.free.close();
    }
}

pub(super) fn interrupted() -> Error {
    Error::new(code::cli::INTERRUPTED, "the backup was given up")
}
