//! The backup writer: a server's stream in, packs out, and the roots for a manifest.
//!
//! ```text
//! caller's task     copies bytes into batches of whole pages
//! worker threads    zero test, keyed hash and CRC32C of each page, comparison with the ancestor, compression
//! packer thread     numbers, seals, fills packs, writes layers and tables
//! runtime           carries packs to the store while they grow
//! ```
//!
//! Everything in flight is bounded by the number of batches; their buffers go round. Nothing that is written here means
//! anything before a manifest names it: a writer that fails or is dropped leaves packs behind which nobody refers to.

mod ancestor;
mod ancestor_section;
mod batch;
mod chunks;
mod entries;
mod options;
mod packer;
mod section;
mod sparse;
mod stream;
mod tables;
#[cfg(test)]
mod tests;
mod workers;

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use hardstorage_report::{Error, Result, code};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub use ancestor::AncestorReader;
pub use options::{FileMeta, Finished, WriterOptions};

use crate::layer::SECTION_LEN;
use crate::table::{Entry, EntryKey, EntryKind, FileEntry};
use crate::{Deployment, PackKind};
use ancestor_section::AncestorSection;
use batch::{Batch, FileHead, FreeBatches, Item, Piece};
use chunks::Chunks;
use entries::Entries;
use packer::Packer;
use stream::{Harbour, PackStream};
use tables::Tables;
use workers::{Job, Jobs, Shop, Told};

/// Items of a batch at most: files may be empty.
const MAX_ITEMS: usize = 4096;

struct OpenFile {
    name: EntryKey,
    size: u64,
    /// Bytes for which there are pieces.
    planned: u64,
    /// Bytes of the last piece that are still to come.
    piece_left: usize,
    ancestor: Option<FileEntry>,
    section: Option<Arc<AncestorSection>>,
}

/// Writes one backup.
#[derive(Debug)]
pub struct BackupWriter {
    block_size: u32,
    capacity: usize,
    ancestor: Option<AncestorReader>,
    cancel: CancellationToken,
    deployment: Deployment,
    jobs: Arc<Jobs>,
    free: Arc<FreeBatches>,
    packer: Sender<Told>,
    result: Option<oneshot::Receiver<Result<Finished>>>,
    threads: Vec<JoinHandle<()>>,
    batch: Box<Batch>,
    batches: u64,
    order: u64,
    file: Option<OpenFile>,
}

impl std::fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} of {} bytes)", self.name, self.planned, self.size)
    }
}

impl BackupWriter {
    /// Starts the threads. Must be called on a runtime.
    pub async fn begin(deployment: &Deployment, options: WriterOptions) -> Result<BackupWriter> {
        let config = deployment.config().clone();
        let block_size = options.block_size;
        if !block_size.is_power_of_two() || !(512..=65536).contains(&block_size) {
            let message = format!("a block size of {block_size} is not supported");
            return Err(Error::new(code::repository::BLOCK_SIZE, message));
        }
        let capacity = config.frame_size.max(block_size) as usize;
        // Without an ancestor few batches keep little, and those are like any other bytes of a full.
        let (gathered_len, gathered_level) = match &options.ancestor {
            Some(_) => (config.changed_frame_size as usize, config.changed_level),
            None => (capacity, config.level),
        };
        let count = (options.memory / (2 * capacity)).max(2 * options.jobs.max(1) + 2);
        let cancel = options.cancel.child_token();
        let harbour = Harbour {
            deployment: deployment.clone(),
            writer: options.writer,
            runtime: Handle::current(),
            cancel: cancel.clone(),
            chunks: Chunks::default(),
        };
        let (jobs, free) = (Arc::new(Jobs::default()), Arc::new(FreeBatches::new(count)));
        let (packer_in, packer_told) = std::sync::mpsc::channel();
        let shop = Shop {
            key: deployment.key().clone(),
            config,
            block_size,
            enough: capacity / 2,
            gathered_level,
        };
        let old = options.ancestor.as_ref().map(|ancestor| Arc::clone(ancestor.packs()));
        let packer = Packer::new(
            packer_told,
            Arc::clone(&jobs),
            Arc::clone(&free),
            PackStream::new(harbour.clone(), PackKind::Data),
            Entries::new(Tables::new(&harbour, old), block_size),
            block_size,
            gathered_len.max(capacity),
        );
        let (done, result) = oneshot::channel();
        let mut writer = BackupWriter {
            block_size,
            capacity,
            ancestor: options.ancestor,
            cancel,
            deployment: deployment.clone(),
            jobs: Arc::clone(&jobs),
            free: Arc::clone(&free),
            packer: packer_in.clone(),
            result: Some(result),
            threads: Vec::new(),
            batch: Box::default(),
            batches: 0,
            order: 0,
            file: None,
        };
        writer.threads = workers::start(options.jobs, &shop, &jobs, &packer_in)?;
        let thread = std::thread::Builder::new()
            .name("backup-pack".into())
            .spawn(move || {
                // Dropped at the end, however that comes: nobody waits for a packer that is gone.
                let _ends = Ends { jobs, free };
                // Nobody may be listening any more: a writer that was dropped.
                let _ = done.send(packer.run());
            })
            .map_err(|error| Error::new(code::storage::IO, "start the packer thread").source(error))?;
        writer.threads.push(thread);
        writer.batch = writer.next_batch().await?;
        Ok(writer)
    }

    /// A regular file comes next.
    pub async fn start_file(&mut self, meta: FileMeta) -> Result<()> {
        self.check_between_files(&meta.key)?;
        check_name(&meta.key)?;
        let ancestor = match &mut self.ancestor {
            Some(ancestor) if meta.size > 0 => ancestor.file(&meta.key, self.block_size).await?,
            _ => None,
        };
        let order = self.next_order();
        self.item(Item::Start(Box::new(FileHead {
            key: meta.key.clone(),
            order,
            mode: meta.mode,
            mtime: meta.mtime,
            size: meta.size,
        })))
        .await?;
        self.file = Some(OpenFile {
            name: meta.key,
            size: meta.size,
            planned: 0,
            piece_left: 0,
            ancestor,
            section: None,
        });
        Ok(())
    }

    /// The next bytes of the file.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let left = match &self.file {
                Some(file) if file.piece_left > 0 => file.piece_left,
                _ => self.begin_piece().await?,
            };
            let (now, later) = bytes.split_at(left.min(bytes.len()));
            self.batch.raw.extend_from_slice(now);
            if let Some(file) = &mut self.file {
                file.piece_left -= now.len();
            }
            bytes = later;
        }
        Ok(())
    }

    /// The file has all its bytes.
    pub async fn end_file(&mut self) -> Result<()> {
        match self.file.take() {
            Some(file) if file.planned == file.size && file.piece_left == 0 => self.item(Item::End).await,
            Some(file) => Err(wrong_size(
                &file.name,
                file.size,
                &format!("ended after {}", file.planned - file.piece_left as u64),
            )),
            None => Err(Error::new(code::repository::FILE_SIZE, "no file was begun")),
        }
    }

    /// A directory.
    pub async fn add_directory(&mut self, key: EntryKey, mode: u32, mtime: i64) -> Result<()> {
        self.add_other(key, mode, mtime, EntryKind::Directory).await
    }

    /// A symbolic link.
    pub async fn add_symlink(&mut self, key: EntryKey, mode: u32, mtime: i64, target: Vec<u8>) -> Result<()> {
        if target.len() > usize::from(u16::MAX) {
            return Err(Error::new(
                code::repository::NAME_TOO_LONG,
                format!("the target of {key} is too long"),
            ));
        }
        self.add_other(key, mode, mtime, EntryKind::Symlink { target }).await
    }

    async fn add_other(&mut self, key: EntryKey, mode: u32, mtime: i64, kind: EntryKind) -> Result<()> {
        self.check_between_files(&key)?;
        check_name(&key)?;
        let order = self.next_order();
        let entry = Entry {
            key,
            order,
            mode,
            mtime,
            kind,
        };
        self.item(Item::Other(Box::new(entry))).await
    }

    /// Ends the backup: waits until every pack is stored and durable.
    pub async fn finish(mut self) -> Result<Finished> {
        if let Some(file) = &self.file {
            return Err(wrong_size(&file.name, file.size, "did not end"));
        }
        self.submit().await?;
        // A packer that has ended says why in its result.
        let _ = self.packer.send(Told::End(self.batches));
        let finished = self.result().await?;
        let cancel = self.cancel.clone();
        let store = Arc::clone(self.deployment.store());
        tokio::select! {
            () = cancel.cancelled() => return Err(interrupted()),
            synced = store.sync() => synced?,
        }
        self.end_threads().await;
        Ok(finished)
    }

    /// Gives up: ends threads and uploads, and waits for the threads.
    pub async fn abort(mut self) {
        self.cancel.cancel();
        self.jobs.close();
        // Both ways of ending are fine.
        let _ = self.packer.send(Told::Died);
        self.end_threads().await;
    }

    async fn end_threads(&mut self) {
        self.jobs.close();
        let threads = std::mem::take(&mut self.threads);
        let joined = tokio::task::spawn_blocking(move || threads.into_iter().all(|thread| thread.join().is_ok()));
        if !joined.await.unwrap_or(false) {
            tracing::error!("a thread of the backup writer panicked");
        }
    }

    fn next_order(&mut self) -> u64 {
        self.order += 1;
        self.order - 1
    }

    fn check_between_files(&self, next: &EntryKey) -> Result<()> {
        match &self.file {
            Some(file) => Err(wrong_size(&file.name, file.size, &format!("did not end before {next}"))),
            None => Ok(()),
        }
    }

    /// Plans the next piece of the current file: as much of its section as the batch has room for in whole pages.
    async fn begin_piece(&mut self) -> Result<usize> {
        let Some(file) = &mut self.file else {
            return Err(Error::new(
                code::repository::FILE_SIZE,
                "bytes came before a file was begun",
            ));
        };
        if file.planned == file.size {
            return Err(wrong_size(&file.name, file.size, "goes on"));
        }
        let (number, in_section) = (file.planned / SECTION_LEN, file.planned % SECTION_LEN);
        if in_section == 0 {
            file.section = match (&file.ancestor, &mut self.ancestor) {
                (Some(entry), Some(ancestor)) => ancestor.section(entry, number as usize).await?,
                _ => None,
            };
        }
        let wanted = (SECTION_LEN - in_section).min(file.size - file.planned);
        let block = self.block_size as usize;
        let fits = |room: usize| {
            if wanted <= room as u64 {
                wanted as usize
            } else {
                room / block * block
            }
        };
        let mut length = fits(self.capacity - self.batch.raw.len());
        if length == 0 {
            self.submit().await?;
            length = fits(self.capacity);
        }
        let offset = self.batch.raw.len() as u32;
        let Some(file) = &mut self.file else {
            return Ok(0);
        };
        let piece = Piece {
            first_page: (in_section / u64::from(self.block_size)) as u32,
            offset,
            length: length as u32,
            ancestor: file.section.clone(),
        };
        file.planned += length as u64;
        file.piece_left = length;
        self.batch.items.push(Item::Piece(piece));
        Ok(length)
    }

    async fn item(&mut self, item: Item) -> Result<()> {
        if self.batch.items.len() >= MAX_ITEMS {
            self.submit().await?;
        }
        self.batch.items.push(item);
        Ok(())
    }

    /// Sends the current batch on its way and takes another one.
    async fn submit(&mut self) -> Result<()> {
        let next = self.next_batch().await?;
        let mut batch = std::mem::replace(&mut self.batch, next);
        batch.number = self.batches;
        self.batches += 1;
        self.jobs.push(Job::Examine(batch));
        Ok(())
    }

    async fn next_batch(&mut self) -> Result<Box<Batch>> {
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

    async fn result(&mut self) -> Result<Finished> {
        let Some(result) = self.result.take() else {
            return Err(interrupted());
        };
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(interrupted()),
            result = result => result.unwrap_or_else(|_| {
                Err(Error::new(code::storage::IO, "the packer thread ended abnormally"))
            }),
        }
    }
}

impl Drop for BackupWriter {
    fn drop(&mut self) {
        self.cancel.cancel();
        self.jobs.close();
        // The packer may have ended already.
        let _ = self.packer.send(Told::Died);
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

fn check_name(key: &EntryKey) -> Result<()> {
    if u16::try_from(key.path.len()).is_ok() {
        return Ok(());
    }
    let message = format!("a path of {} bytes is too long", key.path.len());
    Err(Error::new(code::repository::NAME_TOO_LONG, message))
}

fn interrupted() -> Error {
    Error::new(code::cli::INTERRUPTED, "the backup was given up")
}

fn wrong_size(name: &EntryKey, size: u64, problem: &str) -> Error {
    Error::new(
        code::repository::FILE_SIZE,
        format!("{name}: announced with {size} bytes, but it {problem}"),
    )
}
