//! How fast a backup is read: writes a synthetic one into a directory, then restores or verifies it in a process of its
//! own, and prints MB/s and the largest resident set.
//!
//! ```text
//! cargo run --release -p hardstorage-repository --example restore_throughput -- write   DIR 2
//! cargo run --release -p hardstorage-repository --example restore_throughput -- decode  DIR [JOBS] [MIB IN FLIGHT]
//! cargo run --release -p hardstorage-repository --example restore_throughput -- restore DIR [JOBS] [MIB IN FLIGHT]
//! ```
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark for people")]

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use hardstorage_codec::Secret;
use hardstorage_report::{Error, Result, code};
use hardstorage_repository::{
    BackupReader, BackupWriter, DataKey, Deployment, DiscardSink, EntryKey, FileInfo, FileMeta, FileSink, ReadOptions,
    RepoConfig, Root, Surroundings, WriterId, WriterOptions,
};
use hardstorage_storage::FileStore;

/// Writes into a directory as a restore does.
struct DirectorySink {
    target: PathBuf,
}

fn io(doing: &str, error: std::io::Error) -> Error {
    Error::new(code::cli::IO, doing).source(error)
}

impl FileSink for DirectorySink {
    type Handle = File;

    fn create(&self, file: &FileInfo) -> Result<File> {
        let path = self.target.join(String::from_utf8_lossy(&file.key.path).as_ref());
        let handle = File::create_new(path).map_err(|error| io("create", error))?;
        handle.set_len(file.size).map_err(|error| io("set the length", error))?;
        Ok(handle)
    }

    fn write_at(&self, handle: &File, offset: u64, bytes: &[u8]) -> Result<()> {
        handle.write_all_at(bytes, offset).map_err(|error| io("write", error))
    }

    fn zero(&self, _: &File, _: u64, _: u64) -> Result<()> {
        Ok(())
    }

    fn finish(&self, _: &File, _: u32, _: u64) -> Result<()> {
        Ok(())
    }
}

struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// A page in the proportions of a database: rows that compress well, text of digits, random bytes, zeros.
fn page(kind: usize, noise: &mut Noise, out: &mut Vec<u8>) {
    let end = out.len() + 8192;
    match kind {
        0..=5 => {
            while out.len() < end {
                out.extend_from_slice(&(noise.next() as u32).to_le_bytes());
                out.extend_from_slice(&[0, 0, 0, 0, 1, 0, 4, 0]);
                out.extend_from_slice(&[b' '; 84]);
            }
        }
        6 | 7 => {
            while out.len() < end {
                out.extend_from_slice(format!("{:016x}", noise.next()).as_bytes());
            }
        }
        8 => {
            while out.len() < end {
                out.extend_from_slice(&noise.next().to_le_bytes());
            }
        }
        _ => {}
    }
    out.resize(end, 0);
}

async fn deployment(directory: &Path) -> Deployment {
    let store = Arc::new(FileStore::open(directory, true).await.unwrap());
    let key = DataKey::new(Secret::new([5; 32]), [6; 16], 1, true);
    Deployment::for_tests_with(store, "bench", Surroundings::default(), key, RepoConfig::default())
}

async fn write(directory: &Path, gib: u64) {
    let deployment = deployment(directory).await;
    let random = deployment.surroundings().random().unwrap();
    let mut writer = BackupWriter::begin(&deployment, WriterOptions::new(WriterId::new(random), 8192))
        .await
        .unwrap();
    let start = Instant::now();
    let mut noise = Noise(88_172_645_463_325_252);
    let (mut bytes, mut buffer) = (0, Vec::new());
    let files = gib * 16;
    for file in 0..files + 2000 {
        let pages = if file < files { 8192 } else { file % 4 };
        let size = pages * 8192;
        let key = EntryKey {
            tablespace: 0,
            path: format!("{file:06}").into_bytes(),
        };
        writer
            .start_file(FileMeta {
                key,
                size,
                mode: 0o600,
                mtime: 0,
            })
            .await
            .unwrap();
        for start in (0..pages).step_by(32) {
            buffer.clear();
            for _ in start..pages.min(start + 32) {
                page(file as usize % 10, &mut noise, &mut buffer);
            }
            writer.write(&buffer).await.unwrap();
        }
        writer.end_file().await.unwrap();
        bytes += size;
    }
    let finished = writer.finish().await.unwrap();
    let roots = serde_json::to_vec(&(&finished.file_table, &finished.pack_list)).unwrap();
    std::fs::write(directory.join("roots.json"), roots).unwrap();
    tell("write", bytes, start);
    println!("stored {} MB", finished.totals.stored_bytes / 1_000_000);
}

async fn read(directory: &Path, target: Option<PathBuf>, jobs: usize, in_flight: u64) {
    let deployment = deployment(directory).await;
    let roots = std::fs::read(directory.join("roots.json")).unwrap();
    let (file_table, pack_list): (Root, Root) = serde_json::from_slice(&roots).unwrap();
    let options = ReadOptions {
        jobs,
        in_flight: in_flight << 20,
        ..ReadOptions::default()
    };
    let start = Instant::now();
    let backup = BackupReader::open(&deployment, &file_table, &pack_list).await.unwrap();
    let report = match target {
        None => backup.restore(Arc::new(DiscardSink), None, &options).await.unwrap(),
        Some(target) => {
            std::fs::create_dir(&target).unwrap();
            let sink = Arc::new(DirectorySink { target });
            backup.restore(sink, None, &options).await.unwrap()
        }
    };
    assert!(report.failure().is_none(), "{report:?}");
    tell("read", report.bytes, start);
    println!(
        "{} files, {} frames, {} MB read",
        report.files,
        report.frames,
        report.read_bytes / 1_000_000
    );
}

fn tell(what: &str, bytes: u64, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    println!("{what}: {seconds:.2} s, {:.0} MB/s", bytes as f64 / 1e6 / seconds);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    for line in status.lines().filter(|line| line.starts_with("VmHWM")) {
        println!("{line}");
    }
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let directory = PathBuf::from(&arguments[2]);
    let number = arguments.get(3).map_or(2, |text| text.parse().unwrap());
    let in_flight = arguments.get(4).map_or(16, |text| text.parse().unwrap());
    match arguments[1].as_str() {
        "write" => write(&directory, number).await,
        "decode" => read(&directory, None, number as usize, in_flight).await,
        "restore" => read(&directory, Some(directory.join("restored")), number as usize, in_flight).await,
        other => println!("unknown: {other}"),
    }
}
