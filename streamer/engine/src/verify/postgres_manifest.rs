//! PostgreSQL's own manifest against the file table: whether the backup has what the server said that it sent.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use hardstorage_report::{Error, Kind, Result, code};
use hardstorage_repository::{BackupReader, Entry, EntryKey, FileInfo, FileSink, ReadOptions, Selection};

use super::VerifyDamage;
use crate::backup::{ManifestLine, ManifestParser, PostgresChecksums};

const NAME: &[u8] = b"backup_manifest";

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// Files of PostgreSQL's manifest that the backup has as they are there.
    pub(super) equal: u64,
    /// What differs.
    pub(super) damage: Vec<VerifyDamage>,
}

/// A manifest of a million files has 200 MB: it is kept in a file without a name.
struct Unnamed(File);

fn io(error: std::io::Error) -> Error {
    Error::new(code::cli::IO, "keep PostgreSQL's manifest in a temporary file").source(error)
}

impl FileSink for Unnamed {
    type Handle = ();

    fn create(&self, file: &FileInfo) -> Result<()> {
        self.0.set_len(file.size).map_err(io)
    }

    fn write_at(&self, (): &(), offset: u64, bytes: &[u8]) -> Result<()> {
        self.0.write_all_at(bytes, offset).map_err(io)
    }

    fn zero(&self, (): &(), _: u64, _: u64) -> Result<()> {
        Ok(())
    }

    fn finish(&self, (): &(), _: u32, _: u64) -> Result<()> {
        Ok(())
    }
}

fn damage(reason: String, files: BTreeSet<String>) -> VerifyDamage {
    VerifyDamage {
        object: "backup_manifest".to_owned(),
        frame: None,
        files,
        reason,
    }
}

/// Compares sizes and checksums. What damaged frames hide is not told a second time: whoever reads the content names it.
pub(super) async fn compare(reader: &BackupReader, options: &ReadOptions) -> Result<Comparison> {
    let mut found = Comparison::default();
    let Some(known) = read(reader, options).await? else {
        return Ok(found);
    };
    if known.is_empty() {
        let reason = "PostgreSQL's own manifest is not in the backup, or names no file";
        found.damage.push(damage(reason.to_owned(), BTreeSet::new()));
        return Ok(found);
    }
    let mut different = BTreeSet::new();
    let mut entries = reader.entries();
    loop {
        let entry = match entries.next().await {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            Err(error) if error.kind() == Kind::Verify => return Ok(found),
            Err(error) => return Err(error),
        };
        let Some(file) = FileInfo::of(&entry) else { continue };
        match known.matches(&file.key, file.size, file.crc32c) {
            Some(true) => found.equal += 1,
            Some(false) => drop(different.insert(file.key.to_string())),
            None => {}
        }
    }
    let missing = (known.len() as u64).saturating_sub(found.equal + different.len() as u64);
    if !different.is_empty() {
        let reason = "size or checksum differ from what PostgreSQL's own manifest says";
        found.damage.push(damage(reason.to_owned(), different));
    }
    if missing > 0 {
        let reason = format!("{missing} files of PostgreSQL's own manifest are not in the backup");
        found.damage.push(damage(reason, BTreeSet::new()));
    }
    Ok(found)
}

/// `None` when it cannot be read because of damage in the repository.
async fn read(reader: &BackupReader, options: &ReadOptions) -> Result<Option<PostgresChecksums>> {
    let file = tempfile::tempfile().map_err(io)?;
    let sink = Arc::new(Unnamed(file.try_clone().map_err(io)?));
    let key = EntryKey {
        tablespace: 0,
        path: NAME.to_vec(),
    };
    let select: Selection = Arc::new(move |entry: &Entry| entry.key == key);
    let options = ReadOptions {
        jobs: 1,
        progress: None,
        ..options.clone()
    };
    let report = reader.restore(sink, Some(select), &options).await?;
    if report.failure().is_some() {
        return Ok(None);
    }
    let mut known = PostgresChecksums::default();
    if report.files == 0 {
        return Ok(Some(known));
    }
    let mut file = file;
    file.rewind().map_err(io)?;
    let mut parser = ManifestParser::default();
    let mut buffer = vec![0u8; 256 << 10];
    loop {
        let length = file.read(&mut buffer).map_err(io)?;
        if length == 0 {
            break;
        }
        parser.feed(&buffer[..length], &mut |line| {
            if let ManifestLine::File(file) = line {
                known.add(&file.path, file.size, file.crc32c);
            }
            Ok(())
        })?;
    }
    parser.finish()?;
    Ok(Some(known))
}
