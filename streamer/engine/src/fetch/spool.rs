//! Segments that were fetched ahead: a bounded directory on the recovering server.
//!
//! A file's name holds the CRC32C and the length of its bytes, and appears by a rename when it is whole. It was never
//! synced, so after a power cut it may be torn: whoever takes it compares it with its name first. Each line of descent
//! has a folder of its own; a spool left by an earlier recovery along another one is never looked at.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use hardstorage_codec::crc32c_append;
use hardstorage_report::{Error, Result, SegmentName, Timeline, code};
use hardstorage_repository::Lineage;

/// The directory.
#[derive(Debug, Clone)]
pub struct Spool {
    folder: PathBuf,
    capacity: usize,
}

/// A file that is being written.
#[derive(Debug)]
pub struct SpoolEntry {
    file: File,
    temporary: PathBuf,
    folder: PathBuf,
    segment: SegmentName,
    crc: u32,
    length: u64,
}

/// Held while one process fetches ahead.
#[derive(Debug)]
pub struct SpoolLock(#[expect(dead_code, reason = "the lock lasts as long as the file is open")] File);

fn failed(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let message = format!("{doing} {}", path.display());
    move |error| Error::new(code::cli::IO, message).source(error)
}

fn file_name(segment: SegmentName, crc: u32, length: u64) -> String {
    format!("{segment}.{crc:08x}.{length}")
}

/// Reads `<segment>.<crc>.<length>`.
fn parse(name: &str) -> Option<(SegmentName, u32, u64)> {
    let mut parts = name.split('.');
    let segment = parts.next()?.parse().ok()?;
    let crc = u32::from_str_radix(parts.next()?, 16).ok()?;
    let length = parts.next()?.parse().ok()?;
    parts.next().is_none().then_some((segment, crc, length))
}

impl Spool {
    /// The spool of one line of descent below `root`, for at most so many segments.
    pub fn new(root: &Path, lineage: Lineage, follow: Option<Timeline>, capacity: usize) -> Spool {
        let follow = follow.map_or_else(|| "latest".to_owned(), Timeline::hex);
        Spool {
            folder: root.join(format!("{lineage}-{follow}")),
            capacity,
        }
    }

    /// How many segments it may hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    fn entries(&self) -> Result<Vec<(SegmentName, u32, u64, PathBuf)>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("read", &self.folder)(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed("read", &self.folder))?.path();
            if let Some((segment, crc, length)) = path.file_name().and_then(|name| parse(name.to_str()?)) {
                found.push((segment, crc, length, path));
            }
        }
        Ok(found)
    }

    /// Whether a segment is there.
    pub fn has(&self, segment: SegmentName) -> Result<bool> {
        Ok(self.entries()?.iter().any(|(found, ..)| *found == segment))
    }

    /// How many segments behind `segment` are there.
    pub fn ahead(&self, segment: SegmentName) -> Result<usize> {
        Ok(self.entries()?.iter().filter(|(found, ..)| *found > segment).count())
    }

    /// Moves a segment to its destination; false when it is not there. One that is not what its name says is removed,
    /// and counts as not there.
    pub fn take(&self, segment: SegmentName, destination: &Path) -> Result<bool> {
        let Some((_, crc, length, path)) = self.entries()?.into_iter().find(|(found, ..)| *found == segment) else {
            return Ok(false);
        };
        let mut file = File::open(&path).map_err(failed("open", &path))?;
        let mut buffer = vec![0u8; 1 << 20];
        let (mut found_crc, mut found_length) = (0, 0u64);
        loop {
            let read = file.read(&mut buffer).map_err(failed("read", &path))?;
            if read == 0 {
                break;
            }
            found_crc = crc32c_append(found_crc, &buffer[..read]);
            found_length += read as u64;
        }
        if (found_crc, found_length) != (crc, length) {
            fs::remove_file(&path).map_err(failed("remove", &path))?;
            return Ok(false);
        }
        match fs::rename(&path, destination) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                let temporary = super::beside(destination);
                fs::copy(&path, &temporary).map_err(failed("copy to", &temporary))?;
                fs::rename(&temporary, destination).map_err(failed("rename to", destination))?;
                fs::remove_file(&path).map_err(failed("remove", &path))?;
                Ok(true)
            }
            Err(error) => Err(failed("rename to", destination)(error)),
        }
    }

    /// Takes the right to fetch ahead; `None` when another process has it.
    pub fn lock(&self) -> Result<Option<SpoolLock>> {
        fs::create_dir_all(&self.folder).map_err(failed("make", &self.folder))?;
        let path = self.folder.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed("open", &path))?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(SpoolLock(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(failed("lock", &path)(error.into())),
        }
    }

    /// Removes what lies before a segment, on every timeline but the later ones, and what a dead process left half.
    pub fn drop_before(&self, segment: SegmentName) -> Result<()> {
        for (found, _, _, path) in self.entries()? {
            if (found.log, found.segment) < (segment.log, segment.segment) {
                fs::remove_file(&path).map_err(failed("remove", &path))?;
            }
        }
        for entry in fs::read_dir(&self.folder).map_err(failed("read", &self.folder))? {
            let path = entry.map_err(failed("read", &self.folder))?.path();
            // We hold the lock: nobody else is writing.
            if path.extension().is_some_and(|extension| extension == "part") {
                fs::remove_file(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Begins to write a segment. Only with the lock.
    pub fn begin(&self, segment: SegmentName) -> Result<SpoolEntry> {
        let temporary = self.folder.join(format!("{segment}.part"));
        let file = File::create(&temporary).map_err(failed("create", &temporary))?;
        Ok(SpoolEntry {
            file,
            temporary,
            folder: self.folder.clone(),
            segment,
            crc: 0,
            length: 0,
        })
    }
}

impl SpoolEntry {
    /// Adds bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.crc = crc32c_append(self.crc, bytes);
        self.length += bytes.len() as u64;
        self.file.write_all(bytes).map_err(failed("write", &self.temporary))
    }

    /// Makes it appear.
    pub fn finish(self) -> Result<()> {
        let path = self.folder.join(file_name(self.segment, self.crc, self.length));
        fs::rename(&self.temporary, &path).map_err(failed("rename to", &path))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use hardstorage_report::SystemId;

    fn segment(text: &str) -> SegmentName {
        text.parse().unwrap()
    }

    fn spool(root: &Path) -> Spool {
        Spool::new(
            root,
            Lineage {
                system_id: SystemId(7),
                incarnation: 1,
            },
            Some(Timeline(1)),
            4,
        )
    }

    fn put(spool: &Spool, name: SegmentName, bytes: &[u8]) {
        let lock = spool.lock().unwrap();
        let mut entry = spool.begin(name).unwrap();
        entry.write(bytes).unwrap();
        entry.finish().unwrap();
        drop(lock);
    }

    #[test]
    fn a_whole_file_is_moved_and_a_torn_one_is_dropped() {
        let root = tempfile::tempdir().unwrap();
        let spool = spool(root.path());
        let (one, two) = (segment("000000010000000000000001"), segment("000000010000000000000002"));
        put(&spool, one, b"first");
        put(&spool, two, b"second");
        assert_eq!(spool.ahead(one).unwrap(), 1);
        let destination = root.path().join("RECOVERYXLOG");
        assert!(spool.take(one, &destination).unwrap());
        assert_eq!(fs::read(&destination).unwrap(), b"first");
        assert!(!spool.has(one).unwrap());

        let (.., path) = spool.entries().unwrap().pop().unwrap();
        fs::write(&path, b"sec").unwrap();
        assert!(!spool.take(two, &destination).unwrap());
        assert!(!spool.has(two).unwrap(), "a torn file is removed");
        assert_eq!(fs::read(&destination).unwrap(), b"first", "and nothing of it was given");
    }

    #[test]
    fn one_process_fetches_ahead_and_leftovers_go() {
        let root = tempfile::tempdir().unwrap();
        let spool = spool(root.path());
        let held = spool.lock().unwrap();
        assert!(held.is_some());
        assert!(spool.lock().unwrap().is_none());
        drop(held);
        let (one, two) = (segment("000000010000000000000001"), segment("000000010000000000000002"));
        put(&spool, one, b"first");
        let _half = spool.begin(two).unwrap();
        spool.drop_before(two).unwrap();
        assert!(!spool.has(one).unwrap());
        assert_eq!(fs::read_dir(&spool.folder).unwrap().count(), 1, "only the lock is left");
    }

    #[test]
    fn another_line_of_descent_has_another_spool() {
        let root = tempfile::tempdir().unwrap();
        let one = segment("000000010000000000000001");
        put(&spool(root.path()), one, b"first");
        let other = Spool::new(
            root.path(),
            Lineage {
                system_id: SystemId(7),
                incarnation: 1,
            },
            Some(Timeline(2)),
            4,
        );
        assert!(!other.has(one).unwrap());
    }
}
