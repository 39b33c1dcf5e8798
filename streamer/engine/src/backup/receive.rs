//! From the server's archives to the repository's writer: every member becomes an entry, every byte is counted and
//! compared with the manifest that PostgreSQL sends behind them.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};

use bytes::Bytes;
use hardstorage_codec::crc32c_append;
use hardstorage_replication::{BackupEnd, BackupEvent, BaseBackup};
use hardstorage_report::{Error, Result, SystemId, code};
use hardstorage_repository::{BackupWriter, EntryKey, FileMeta, WalRange};
use tempfile::SpooledTempFile;

use super::checksums::PostgresChecksums;
use super::label::BackupLabel;
use super::pg_manifest::{ManifestLine, ManifestParser};
use super::tar::{TarEvent, TarReader};
use super::tar_header::{Member, MemberKind};

/// A manifest larger than this waits in a file.
const MANIFEST_IN_MEMORY: usize = 4 << 20;
/// A backup label is a few hundred bytes.
const LABEL_LIMIT: usize = 64 << 10;

/// What was received.
#[derive(Debug)]
pub struct Received {
    /// The server's last words.
    pub end: BackupEnd,
    /// The backup label.
    pub label: BackupLabel,
    /// The WAL that PostgreSQL's manifest asks for.
    pub wal: Vec<WalRange>,
    /// The cluster that the manifest names (PostgreSQL 17 and later).
    pub manifest_system_id: Option<SystemId>,
    /// Bytes of all archives.
    pub bytes: u64,
    /// Links that were not followed, beside those of tablespaces.
    pub foreign_links: Vec<String>,
}

/// Receives a backup.
pub struct Receiver<'a> {
    writer: &'a mut BackupWriter,
    tar: Option<TarReader>,
    tablespace: u32,
    file: Option<OpenMember>,
    checksums: PostgresChecksums,
    label: Vec<u8>,
    manifest: SpooledTempFile,
    manifest_length: u64,
    bytes: u64,
    foreign_links: Vec<String>,
}

struct OpenMember {
    key: EntryKey,
    size: u64,
    crc32c: u32,
    is_label: bool,
}

fn damaged(what: impl std::fmt::Display) -> Error {
    Error::new(
        code::replication::PROTOCOL,
        format!("the base backup is not whole: {what}"),
    )
}

impl<'a> Receiver<'a> {
    /// Writes into this backup.
    pub fn new(writer: &'a mut BackupWriter) -> Receiver<'a> {
        Receiver {
            writer,
            tar: None,
            tablespace: 0,
            file: None,
            checksums: PostgresChecksums::default(),
            label: Vec::new(),
            manifest: SpooledTempFile::new(MANIFEST_IN_MEMORY),
            manifest_length: 0,
            bytes: 0,
            foreign_links: Vec::new(),
        }
    }

    /// Takes everything to the end; `progress` is told of each further stretch of bytes.
    pub async fn run(
        mut self,
        backup: &mut BaseBackup<'_>,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Received> {
        let mut end = None;
        while let Some(event) = backup.next().await? {
            match event {
                BackupEvent::Archive { tablespace, .. } => {
                    self.end_archive()?;
                    self.tar = Some(TarReader::default());
                    self.tablespace = tablespace.unwrap_or(0);
                }
                BackupEvent::Data(bytes) => {
                    self.bytes += bytes.len() as u64;
                    let length = bytes.len() as u64;
                    self.take(bytes).await?;
                    progress(length);
                }
                BackupEvent::Manifest => self.end_archive()?,
                BackupEvent::ManifestData(bytes) => {
                    self.manifest_length += bytes.len() as u64;
                    self.manifest.write_all(&bytes).map_err(spool_failed)?;
                }
                BackupEvent::Progress(_) => {}
                BackupEvent::End(last) => end = Some(last),
            }
        }
        let end = end.ok_or_else(|| damaged("it has no end"))?;
        let (wal, manifest_system_id) = self.check_manifest()?;
        self.store_manifest().await?;
        let label = String::from_utf8_lossy(&self.label).into_owned();
        if label.is_empty() {
            return Err(damaged("it has no backup_label"));
        }
        Ok(Received {
            end,
            label: BackupLabel::parse(&label)?,
            wal,
            manifest_system_id,
            bytes: self.bytes,
            foreign_links: self.foreign_links,
        })
    }

    fn end_archive(&mut self) -> Result<()> {
        match self.tar.take() {
            Some(tar) => tar.finish(),
            None => Ok(()),
        }
    }

    async fn take(&mut self, bytes: Bytes) -> Result<()> {
        let Some(mut tar) = self.tar.take() else {
            return Err(damaged("bytes before the first archive"));
        };
        tar.feed(bytes);
        while let Some(event) = tar.next_event()? {
            match event {
                TarEvent::Member(member) => self.begin(member).await?,
                TarEvent::Data(data) => {
                    let Some(file) = &mut self.file else {
                        return Err(damaged("bytes outside of a file"));
                    };
                    file.crc32c = crc32c_append(file.crc32c, &data);
                    if file.is_label && self.label.len() + data.len() <= LABEL_LIMIT {
                        self.label.extend_from_slice(&data);
                    }
                    self.writer.write(&data).await?;
                }
                TarEvent::EndOfFile => {
                    let Some(file) = self.file.take() else {
                        return Err(damaged("the end of no file"));
                    };
                    self.writer.end_file().await?;
                    self.checksums.add_entry(&file.key, file.size, file.crc32c);
                }
            }
        }
        self.tar = Some(tar);
        Ok(())
    }

    async fn begin(&mut self, member: Member) -> Result<()> {
        let Member {
            path,
            kind,
            size,
            mode,
            mtime,
        } = member;
        if path == "." {
            return Ok(());
        }
        let key = EntryKey {
            tablespace: self.tablespace,
            path: path.clone().into_bytes(),
        };
        match kind {
            MemberKind::File => {
                let is_label = self.tablespace == 0 && path == "backup_label";
                self.writer
                    .start_file(FileMeta {
                        key: key.clone(),
                        size,
                        mode,
                        mtime,
                    })
                    .await?;
                self.file = Some(OpenMember {
                    key,
                    size,
                    crc32c: 0,
                    is_label,
                });
                Ok(())
            }
            MemberKind::Directory => self.writer.add_directory(key, mode, mtime).await,
            // The links of tablespaces are made anew at the restore, to wherever they go then.
            MemberKind::Symlink(_) if path.starts_with("pg_tblspc/") => Ok(()),
            MemberKind::Symlink(target) => {
                self.foreign_links.push(path);
                self.writer.add_symlink(key, mode, mtime, target.into_bytes()).await
            }
        }
    }

    /// Compares every file of PostgreSQL's manifest with what was received.
    fn check_manifest(&mut self) -> Result<(Vec<WalRange>, Option<SystemId>)> {
        self.manifest.seek(SeekFrom::Start(0)).map_err(spool_failed)?;
        let mut parser = ManifestParser::default();
        let (mut wal, mut system_id, mut files) = (Vec::new(), None, 0usize);
        let checksums = &self.checksums;
        let mut buffer = vec![0u8; 256 << 10];
        loop {
            let length = self.manifest.read(&mut buffer).map_err(spool_failed)?;
            if length == 0 {
                break;
            }
            parser.feed(&buffer[..length], &mut |line| {
                match line {
                    ManifestLine::Version(_) => {}
                    ManifestLine::SystemIdentifier(id) => system_id = Some(id),
                    ManifestLine::Wal(range) => {
                        wal.push(WalRange {
                            timeline: range.timeline,
                            from: range.from,
                            to: range.to,
                        });
                    }
                    ManifestLine::File(file) => {
                        files += 1;
                        if checksums.compare(&file.path, file.size, file.crc32c) != Some(true) {
                            let name = String::from_utf8_lossy(&file.path);
                            return Err(damaged(format!(
                                "{name} was not received as PostgreSQL's manifest says"
                            )));
                        }
                    }
                }
                Ok(())
            })?;
        }
        parser.finish()?;
        if files != checksums.len() {
            return Err(damaged(format!(
                "{} files were received, PostgreSQL's manifest has {files}",
                checksums.len()
            )));
        }
        Ok((wal, system_id))
    }

    /// Stores PostgreSQL's manifest as the last file.
    async fn store_manifest(&mut self) -> Result<()> {
        self.manifest.seek(SeekFrom::Start(0)).map_err(spool_failed)?;
        let key = EntryKey {
            tablespace: 0,
            path: b"backup_manifest".to_vec(),
        };
        let meta = FileMeta {
            key,
            size: self.manifest_length,
            mode: 0o600,
            mtime: 0,
        };
        self.writer.start_file(meta).await?;
        let mut buffer = vec![0u8; 256 << 10];
        loop {
            let length = self.manifest.read(&mut buffer).map_err(spool_failed)?;
            if length == 0 {
                break;
            }
            self.writer.write(&buffer[..length]).await?;
        }
        self.writer.end_file().await
    }
}

fn spool_failed(error: std::io::Error) -> Error {
    Error::new(code::cli::IO, "keep PostgreSQL's manifest in a temporary file").source(error)
}
