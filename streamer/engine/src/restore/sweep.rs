//! Takes away what the backup does not have, before its files are written over what is there.
//!
//! What stays: directories that the backup has as directories, and regular files that it has as regular files and that
//! have no second name. A file with a second name (`pg_upgrade --link`, a copy made of hard links) is somebody else's
//! too, and is made anew. Links go, whatever they lead to stays; those that PostgreSQL needs are made again.

use std::collections::HashMap;
use std::fs::{self, DirEntry, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use hardstorage_report::{Result, Severity};
use hardstorage_repository::{ATTACHMENTS, BackupReader, EntryKey, EntryKind, FileInfo, PresentFiles};
use rustix::fs::OFlags;
use serde_json::json;

use super::claim::make;
use super::content::is_special;
use super::directory::{Layout, failed};
use super::marker::MARKER;
use super::run::Run;

/// What the backup has under a name.
enum Kept {
    Directory(u32),
    File,
}

struct Sweep<'a> {
    layout: &'a Layout,
    kept: HashMap<EntryKey, Kept>,
    removed: u64,
}

impl Run<'_> {
    /// Sweeps the data directory and every place outside of it.
    pub(super) async fn sweep(&self, reader: &BackupReader) -> Result<()> {
        let mut sweep = Sweep {
            layout: self.layout,
            kept: HashMap::new(),
            removed: 0,
        };
        let mut entries = reader.entries();
        while let Some(entry) = entries.next().await? {
            let kept = match entry.kind {
                EntryKind::Directory => Kept::Directory(entry.mode & 0o777),
                EntryKind::File(_) if !is_special(&entry.key) => Kept::File,
                EntryKind::File(_) | EntryKind::Symlink { .. } => continue,
            };
            if entry.key.tablespace != ATTACHMENTS {
                sweep.kept.insert(entry.key, kept);
            }
        }
        sweep.directory(&self.layout.data, 0, &[])?;
        for (oid, place) in &self.layout.tablespaces {
            if !place.starts_with(&self.layout.data) {
                sweep.directory(place, *oid, &[])?;
            }
        }
        if let Some(wal) = &self.layout.wal {
            sweep.directory(wal, 0, b"pg_wal")?;
        }
        for place in self.layout.tablespaces.values() {
            if place.starts_with(&self.layout.data) {
                make(self.layout, place)?;
            }
        }
        self.emit(
            Severity::Info,
            "restore.swept",
            json!({"target": self.plan.target_dir, "removed": sweep.removed}),
        );
        Ok(())
    }
}

impl Sweep<'_> {
    fn directory(&mut self, directory: &Path, tablespace: u32, path: &[u8]) -> Result<()> {
        let entries = fs::read_dir(directory).map_err(|error| failed("look at", directory, error))?;
        for entry in entries {
            let entry = entry.map_err(|error| failed("look at", directory, error))?;
            self.entry(&entry, tablespace, path)?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: &DirEntry, tablespace: u32, folder: &[u8]) -> Result<()> {
        let (name, path) = (entry.file_name(), entry.path());
        // In each place that is claimed, `pg_wal` outside of the data directory among them.
        if name == MARKER {
            return Ok(());
        }
        let about = fs::symlink_metadata(&path).map_err(|error| failed("look at", &path, error))?;
        if about.is_dir()
            && let Some((oid, _)) = self.layout.tablespaces.iter().find(|(_, place)| **place == path)
        {
            return self.directory(&path, *oid, &[]);
        }
        let below = match folder {
            [] => name.as_bytes().to_vec(),
            folder => [folder, b"/", name.as_bytes()].concat(),
        };
        let is_wal = tablespace == 0 && below == b"pg_wal";
        let key = EntryKey {
            tablespace,
            path: below,
        };
        match self.kept.get(&key) {
            Some(Kept::Directory(mode)) if about.is_dir() && !(is_wal && self.layout.wal.is_some()) => {
                let mode = fs::Permissions::from_mode(*mode);
                fs::set_permissions(&path, mode).map_err(|error| failed("set the mode of", &path, error))?;
                self.layout.give(&path)?;
                self.directory(&path, tablespace, &key.path)
            }
            Some(Kept::File) if about.is_file() && about.nlink() == 1 => Ok(()),
            _ => self.remove(&path, &about),
        }
    }

    fn remove(&mut self, path: &Path, about: &Metadata) -> Result<()> {
        let removed = if about.is_dir() {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        };
        removed.map_err(|error| failed("remove", path, error))?;
        self.removed += 1;
        Ok(())
    }
}

/// The files that stayed, for the reader to compare with.
pub(super) struct Present(pub(super) Layout);

impl PresentFiles for Present {
    fn open(&self, file: &FileInfo) -> Result<Option<File>> {
        let path = self.0.path(&file.key)?;
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("open", &path, error)),
        }
    }
}
