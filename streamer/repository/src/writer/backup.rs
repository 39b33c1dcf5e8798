//! Takes the server's stream file by file and cuts it into batches of whole pages.

use std::sync::Arc;

use hardstorage_report::{Error, Result, code};

use super::ancestor::AncestorReader;
use super::ancestor_section::AncestorSection;
use super::batch::{Batch, FileHead, Item, Piece};
use super::crew::Crew;
use super::options::{FileMeta, Finished, WriterOptions};
use super::page_count::PageCount;
use crate::Deployment;
use crate::layer::SECTION_LEN;
use crate::table::{Entry, EntryKey, EntryKind, FileEntry};

/// Items of a batch at most: files may be empty.
const MAX_ITEMS: usize = 4096;

struct OpenFile {
    name: EntryKey,
    size: u64,
    /// Bytes for which there are pieces.
    planned: u64,
    /// Bytes of the last piece that are still to come.
    piece_left: usize,
    /// The earlier backup that has it, and its entry there.
    ancestor: Option<(usize, FileEntry)>,
    section: Option<Arc<AncestorSection>>,
}

/// Writes one backup.
#[derive(Debug)]
pub struct BackupWriter {
    block_size: u32,
    /// What is compared with, in this order.
    earlier: Vec<AncestorReader>,
    deployment: Deployment,
    crew: Crew,
    batch: Box<Batch>,
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
        let block_size = options.block_size;
        if !block_size.is_power_of_two() || !(512..=65536).contains(&block_size) {
            let message = format!("a block size of {block_size} is not supported");
            return Err(Error::new(code::repository::BLOCK_SIZE, message));
        }
        let mut crew = Crew::start(deployment, &options)?;
        let batch = crew.next_batch().await?;
        Ok(BackupWriter {
            block_size,
            earlier: options.adopted.into_iter().chain(options.ancestor).collect(),
            deployment: deployment.clone(),
            crew,
            batch,
            order: 0,
            file: None,
        })
    }

    /// What became of the pages so far; to be asked while the backup is written.
    pub fn pages(&self) -> Arc<PageCount> {
        Arc::clone(self.crew.pages())
    }

    /// A regular file comes next.
    pub async fn start_file(&mut self, meta: FileMeta) -> Result<()> {
        self.check_between_files(&meta.key)?;
        check_name(&meta.key)?;
        let mut ancestor = None;
        for (number, earlier) in self.earlier.iter_mut().enumerate().filter(|_| meta.size > 0) {
            let found = earlier.file(&meta.key, self.block_size);
            if let Some(found) = self.crew.unless_cancelled(found).await? {
                ancestor = Some((number, found));
                break;
            }
        }
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
        self.crew.submit(&mut self.batch).await?;
        let finished = self.crew.finish().await?;
        let store = Arc::clone(self.deployment.store());
        self.crew.unless_cancelled(store.sync()).await?;
        self.crew.join().await;
        Ok(finished)
    }

    /// Gives up: ends threads and uploads, and waits for the threads.
    pub async fn abort(mut self) {
        self.crew.give_up();
        self.crew.join().await;
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
            let found = file.ancestor.as_ref();
            let earlier = found.and_then(|(earlier, entry)| Some((self.earlier.get_mut(*earlier)?, entry)));
            file.section = match earlier {
                Some((earlier, entry)) => {
                    let found = earlier.section(entry, number as usize);
                    self.crew.unless_cancelled(found).await?
                }
                None => None,
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
        let mut length = fits(self.crew.capacity() - self.batch.raw.len());
        if length == 0 {
            self.crew.submit(&mut self.batch).await?;
            length = fits(self.crew.capacity());
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
            self.crew.submit(&mut self.batch).await?;
        }
        self.batch.items.push(item);
        Ok(())
    }
}

fn check_name(key: &EntryKey) -> Result<()> {
    if u16::try_from(key.path.len()).is_ok() {
        return Ok(());
    }
    let message = format!("a path of {} bytes is too long", key.path.len());
    Err(Error::new(code::repository::NAME_TOO_LONG, message))
}

fn wrong_size(name: &EntryKey, size: u64, problem: &str) -> Error {
    Error::new(
        code::repository::FILE_SIZE,
        format!("{name}: announced with {size} bytes, but it {problem}"),
    )
}
