//! What a restore reads from the backup: everything that is written as it is, the few files that are not, and what
//! PostgreSQL's own manifest says of all of them.

use std::sync::{Arc, Mutex, PoisonError};

use hardstorage_report::{Error, Result, code};
use hardstorage_repository::{
    ATTACHMENTS, BackupReader, ContentReport, Deployment, Entry, EntryKey, FileInfo, FileSink, Manifest, PresentFiles,
    Progress, ReadOptions, Selection,
};
use serde_json::Value;

use super::directory::DirectorySink;
use super::run::Run;
use super::sweep::Present;
use crate::backup::{ManifestLine, ManifestParser, PostgresChecksums};
use crate::progress::ProgressMeter;

/// Files that a restore does not write as they are.
pub(super) const SETTINGS_FILE: &[u8] = b"postgresql.auto.conf";
pub(super) const CONTROL_FILE: &[u8] = b"global/pg_control";
const MANIFEST_FILE: &[u8] = b"backup_manifest";
/// Signals of the source's own recovery, when it was a standby.
const SIGNALS: [&[u8]; 2] = [b"standby.signal", b"recovery.signal"];

/// Reads one small file of a backup into memory.
async fn small_file(reader: &BackupReader, key: &EntryKey, options: ReadOptions) -> Result<Vec<u8>> {
    let memory = Arc::new(MemorySink::default());
    let options = ReadOptions { jobs: 1, ..options };
    let report = reader.restore_file(memory.clone(), key, &options).await?;
    if let Some(error) = report.failure() {
        return Err(error);
    }
    let bytes = std::mem::take(&mut *memory.0.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(bytes)
}

/// The definition of its source that was put beside a backup; `null` when there was none.
pub(super) async fn source_snapshot(deployment: &Deployment, manifest: &Manifest) -> Result<Value> {
    let Some(name) = &manifest.source_snapshot else {
        return Ok(Value::Null);
    };
    let key = EntryKey {
        tablespace: ATTACHMENTS,
        path: name.as_bytes().to_vec(),
    };
    let reader = BackupReader::open(deployment, &manifest.file_table, &manifest.pack_list).await?;
    let bytes = small_file(&reader, &key, ReadOptions::for_store(deployment.store())).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let what = format!("the definition of the source beside {} is not JSON", manifest.backup_id);
        Error::new(code::repository::OBJECT_CORRUPT, what).source(error)
    })
}

impl Run<'_> {
    /// Reads one file of the backup into memory.
    pub(super) async fn read_small(&self, reader: &BackupReader, key: &EntryKey) -> Result<Vec<u8>> {
        let options = ReadOptions {
            cancel: self.cancel.clone(),
            ..ReadOptions::for_store(self.deployment.store())
        };
        small_file(reader, key, options).await
    }

    /// Restores PostgreSQL's manifest, then reads it where it lies: it may be large.
    pub(super) async fn read_postgres_manifest(
        &self,
        reader: &BackupReader,
        sync_each: bool,
    ) -> Result<PostgresChecksums> {
        let plain = Arc::new(DirectorySink::new(
            self.layout.clone(),
            PostgresChecksums::default(),
            sync_each,
        ));
        self.restore_only(reader, &plain, MANIFEST_FILE).await?;
        let path = self.layout.data.join("backup_manifest");
        let failed =
            |error: std::io::Error| Error::new(code::cli::IO, format!("read {}", path.display())).source(error);
        let mut file = std::fs::File::open(&path).map_err(failed)?;
        let mut checksums = PostgresChecksums::default();
        let mut parser = ManifestParser::default();
        let mut buffer = vec![0u8; 256 << 10];
        loop {
            let length = std::io::Read::read(&mut file, &mut buffer).map_err(failed)?;
            if length == 0 {
                break;
            }
            parser.feed(&buffer[..length], &mut |line| {
                if let ManifestLine::File(file) = line {
                    checksums.add(&file.path, file.size, file.crc32c);
                }
                Ok(())
            })?;
        }
        parser.finish()?;
        Ok(checksums)
    }

    pub(super) async fn content(
        &self,
        reader: &BackupReader,
        sink: &Arc<DirectorySink>,
        meter: &Arc<ProgressMeter>,
        over: bool,
    ) -> Result<ContentReport> {
        let select: Selection = Arc::new(|entry: &Entry| !is_special(&entry.key));
        let meter = meter.clone();
        let progress: Progress = Arc::new(move |bytes| meter.add(bytes));
        let options = ReadOptions {
            jobs: self.options.jobs,
            cancel: self.cancel.clone(),
            progress: Some(progress),
            present: over.then(|| Arc::new(Present(self.layout.clone())) as Arc<dyn PresentFiles>),
            ..ReadOptions::for_store(self.deployment.store())
        };
        let report = reader.restore(sink.clone(), Some(select), &options).await?;
        match report.failure() {
            Some(error) => Err(error),
            None => Ok(report),
        }
    }

    pub(super) async fn restore_only(
        &self,
        reader: &BackupReader,
        sink: &Arc<DirectorySink>,
        path: &'static [u8],
    ) -> Result<ContentReport> {
        let key = EntryKey {
            tablespace: 0,
            path: path.to_vec(),
        };
        let options = ReadOptions {
            jobs: 1,
            cancel: self.cancel.clone(),
            ..ReadOptions::for_store(self.deployment.store())
        };
        let report = reader.restore_file(sink.clone(), &key, &options).await?;
        match report.failure() {
            Some(error) => Err(error),
            None => Ok(report),
        }
    }
}

/// How many files of PostgreSQL's manifest the run over all files must have compared: all but those that are written by
/// themselves, of which the manifest may have none.
pub(super) fn expected(checksums: &PostgresChecksums) -> usize {
    let special = SIGNALS.iter().chain(&[SETTINGS_FILE, CONTROL_FILE]);
    checksums.len() - special.filter(|path| checksums.knows(path)).count()
}

/// What the run over all files leaves out: attachments, and what is written by itself.
pub(super) fn is_special(key: &EntryKey) -> bool {
    if key.tablespace != 0 {
        return key.tablespace == ATTACHMENTS;
    }
    let path = key.path.as_slice();
    [SETTINGS_FILE, CONTROL_FILE, MANIFEST_FILE].contains(&path) || SIGNALS.contains(&path)
}

/// One small file in memory.
#[derive(Default)]
struct MemorySink(Mutex<Vec<u8>>);

impl FileSink for MemorySink {
    type Handle = ();

    fn create(&self, info: &FileInfo) -> Result<()> {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.clear();
        bytes.resize(info.size as usize, 0);
        Ok(())
    }

    fn write_at(&self, (): &(), offset: u64, piece: &[u8]) -> Result<()> {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let from = offset as usize;
        let room = bytes.get_mut(from..from + piece.len());
        let room =
            room.ok_or_else(|| Error::new(code::repository::OBJECT_CORRUPT, "a piece lies outside of its file"))?;
        room.copy_from_slice(piece);
        Ok(())
    }

    fn zero(&self, (): &(), _: u64, _: u64) -> Result<()> {
        Ok(())
    }

    fn finish(&self, (): &(), _: u32, _: u64) -> Result<()> {
        Ok(())
    }
}
