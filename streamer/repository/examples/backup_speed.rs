//! How fast and in how much memory the backup writer works, without a server: a synthetic cluster goes through it twice,
//! the second time with some of its pages changed and the first backup as ancestor.
//!
//! `cargo run --release -p hardstorage-repository --example backup_speed -- [GiB] [workers] [directory]`
//!
//! Without a directory the first backup goes to a store that only counts, and there is no second one. Ends with an error
//! when the process took more memory than a backup may.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring program, not a part of the product"
)]

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use hardstorage_report::{Error, Result, code};
use hardstorage_repository::{
    AncestorReader, BackupWriter, Deployment, EntryKey, FileMeta, Finished, WriterId, WriterOptions,
};
use hardstorage_storage::{Caps, Created, DynStore, FileStore, Key, ListRequest, Listing, ObjectMeta, Store, Upload};
use jiff::Timestamp;

const PAGE: usize = 8192;
const POOL: usize = 8192;
const SEGMENT: u64 = 1 << 30;
const MEMORY_LIMIT: u64 = 160 << 20;

/// Takes everything and keeps nothing.
#[derive(Debug, Default)]
struct Counting(Arc<AtomicU64>);

struct CountingUpload(Arc<AtomicU64>);

#[async_trait]
impl Store for Counting {
    async fn put_new(&self, _: &Key, body: Bytes) -> Result<Created> {
        self.0.fetch_add(body.len() as u64, Ordering::Relaxed);
        Ok(Created::Created)
    }

    async fn upload_new(&self, _: &Key) -> Result<Box<dyn Upload>> {
        Ok(Box::new(CountingUpload(self.0.clone())))
    }

    async fn get(&self, _: &Key) -> Result<Option<Bytes>> {
        Ok(None)
    }

    async fn get_range(&self, key: &Key, _: Range<u64>) -> Result<Bytes> {
        Err(Error::new(code::storage::OBJECT, format!("{key} was only counted")))
    }

    async fn head(&self, _: &Key) -> Result<Option<ObjectMeta>> {
        Ok(None)
    }

    async fn list(&self, _: &ListRequest) -> Result<Listing> {
        Ok(Listing::default())
    }

    async fn delete(&self, _: &Key) -> Result<bool> {
        Ok(false)
    }

    async fn sync(&self) -> Result<()> {
        Ok(())
    }

    async fn confirm(&self, _: &[Key]) -> Result<()> {
        Ok(())
    }

    async fn clock(&self) -> Result<Timestamp> {
        Ok(Timestamp::now())
    }

    fn caps(&self) -> Caps {
        Caps {
            create_only: true,
            min_part: 0,
            remote: false,
        }
    }

    fn url(&self) -> String {
        "count:".into()
    }
}

#[async_trait]
impl Upload for CountingUpload {
    async fn write(&mut self, part: Bytes) -> Result<()> {
        self.0.fetch_add(part.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<Created> {
        Ok(Created::Created)
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// Pages of the kinds that databases have: rows with filler, index tuples, text in hex, and bytes that do not compress.
fn pages() -> Vec<u8> {
    let mut random = Random(7);
    let mut pool = Vec::with_capacity(POOL * PAGE);
    for page in 0..POOL {
        let start = pool.len();
        pool.extend_from_slice(&(page as u64).to_le_bytes());
        pool.extend_from_slice(&random.next().to_le_bytes());
        let kind = page / 64 % 8;
        while pool.len() - start < PAGE {
            let row = (pool.len() as u64).to_le_bytes();
            match kind {
                0..=4 => {
                    pool.extend_from_slice(&row);
                    pool.extend_from_slice(&(random.next() as u32).to_le_bytes());
                    pool.extend_from_slice(&[b' '; 84]);
                }
                5 => {
                    pool.extend_from_slice(&row);
                    pool.extend_from_slice(&(random.next() as u16).to_le_bytes());
                    pool.extend_from_slice(&[0; 6]);
                }
                6 => pool.extend_from_slice(format!("{:016x}{:016x}", random.next(), random.next()).as_bytes()),
                _ => pool.extend_from_slice(&random.next().to_le_bytes()),
            }
        }
        pool.truncate(start + PAGE);
    }
    pool
}

/// Sends the cluster; every page carries its number, and those in `changed` carry another generation.
async fn send(writer: &mut BackupWriter, pool: &[u8], segments: u64, changed: u64, generation: u64) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    for segment in 0..segments {
        let key = EntryKey {
            tablespace: 0,
            path: format!("base/5/16384.{segment}").into_bytes(),
        };
        writer
            .start_file(FileMeta {
                key,
                size: SEGMENT,
                mode: 0o600,
                mtime: 0,
            })
            .await?;
        let mut random = Random(segment + 1);
        for first in (0..SEGMENT as usize / PAGE).step_by(buffer.len() / PAGE) {
            let at = first % POOL * PAGE;
            buffer.copy_from_slice(&pool[at..at + (64 << 10)]);
            for (index, page) in buffer.chunks_mut(PAGE).enumerate() {
                page[..8].copy_from_slice(&(segment << 32 | (first + index) as u64).to_le_bytes());
                if random.next() % 1000 < changed {
                    page[8..16].copy_from_slice(&generation.to_le_bytes());
                }
            }
            writer.write(&buffer).await?;
        }
        writer.end_file().await?;
    }
    Ok(())
}

fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

#[tokio::main(worker_threads = 2)]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let segments = arguments.next().map_or(Ok(4), |text| text.parse())?;
    let jobs = arguments.next().map_or(Ok(2), |text| text.parse())?;
    let directory = arguments.next();
    let store: DynStore = match &directory {
        Some(directory) => Arc::new(FileStore::open(directory, true).await?),
        None => Arc::new(Counting::default()),
    };
    let deployment = Deployment::for_tests(store, "speed");
    let pool = pages();
    let at_rest = peak_memory();
    let mut last: Option<Finished> = None;
    for (generation, changed) in [(1, 0), (2, 10), (3, 200), (4, 0)] {
        if generation > 1 && directory.is_none() {
            break;
        }
        let mut options = WriterOptions::new(WriterId::new(deployment.surroundings().random()?), PAGE as u32);
        options.jobs = jobs;
        if let Some(last) = &last {
            let open = AncestorReader::open(&deployment, &last.file_table, &last.pack_list, HashSet::new());
            options.ancestor = Some(open.await?);
        }
        let (wall, processor) = (Instant::now(), processor_seconds());
        let mut writer = BackupWriter::begin(&deployment, options).await?;
        send(&mut writer, &pool, segments, changed, generation).await?;
        let finished = writer.finish().await?;
        let (wall, processor) = (wall.elapsed().as_secs_f64(), processor_seconds() - processor);
        let bytes = finished.totals.logical_bytes as f64 / 1e9;
        println!(
            "backup {generation}: {bytes:.2} GB in {wall:.2} s = {:.2} GB/s, {:.2} CPU s/GB, stored {:.1} MB ({:.3}), \
             {} new, {} reused, {} packs, peak {} MiB (pool {} MiB)",
            bytes / wall,
            processor / bytes,
            finished.totals.stored_bytes as f64 / 1e6,
            finished.totals.stored_bytes as f64 / 1e9 / bytes,
            finished.totals.new_pages,
            finished.totals.reused_pages,
            finished.totals.new_packs,
            peak_memory() >> 20,
            at_rest >> 20,
        );
        last = Some(finished);
    }
    // The pool of pages is this program's own.
    if peak_memory() - pool.len() as u64 > MEMORY_LIMIT {
        return Err("the writer took more memory than a backup may".into());
    }
    Ok(())
}
