//! Segments that were fetched ahead: a bounded directory on the recovering server.
//!
//! Each line of descent has a folder of its own; what an earlier recovery along another one left is never looked at, and
//! removed.
//!
//! The spool holds the window of segments that follow the one that was asked for last, and nothing else. Whoever fills
//! it holds the lock of the folder; a file that is being written is locked too, so that a reader can wait for it instead
//! of fetching it a second time.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use hardstorage_report::{Result, SegmentName, SegmentSize, Timeline};
use hardstorage_repository::Lineage;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::failed;
use super::landing::{Landing, remove_leftovers};
use super::spool_entry::{SpoolEntry, length_of_whole, parse};

/// The directory.
#[derive(Debug, Clone)]
pub struct Spool {
    root: PathBuf,
    folder: PathBuf,
    capacity: usize,
}

/// Held while one process fetches ahead.
#[derive(Debug)]
pub struct SpoolLock(#[expect(dead_code, reason = "the lock lasts as long as the file is open")] File);

/// Whether a folder is one that a spool made: `<lineage>-<timeline>`.
fn is_folder_name(name: &str) -> bool {
    name.rsplit_once('-').is_some_and(|(lineage, follow)| {
        Lineage::from_folder(lineage).is_some() && (follow == "latest" || Timeline::from_hex(follow).is_some())
    })
}

/// Removes a file that another process may have taken meanwhile.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// The paths in a directory; none when there is no directory.
fn paths_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("read", folder)(error)),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    paths.collect::<io::Result<_>>().map_err(failed("read", folder))
}

impl Spool {
    /// The spool of one line of descent below `root`, for at most so many segments.
    pub fn new(root: &Path, lineage: Lineage, follow: Option<Timeline>, capacity: usize) -> Spool {
        let follow = follow.map_or_else(|| "latest".to_owned(), Timeline::hex);
        Spool {
            root: root.to_owned(),
            folder: root.join(format!("{lineage}-{follow}")),
            capacity,
        }
    }

    /// The segments behind `asked` that it may hold.
    pub fn window(&self, asked: SegmentName, size: SegmentSize) -> Vec<SegmentName> {
        let following = std::iter::successors(Some(asked.next(size)), |segment| Some(segment.next(size)));
        following.take(self.capacity).collect()
    }

    fn entries(&self) -> Result<Vec<(SegmentName, u32, u64, PathBuf)>> {
        let mut found = Vec::new();
        for path in paths_in(&self.folder)? {
            let parsed = path.file_name().and_then(|name| parse(name.to_str()?));
            if let Some((segment, crc, length)) = parsed {
                found.push((segment, crc, length, path));
            }
        }
        Ok(found)
    }

    /// Which of these segments are not there.
    pub fn missing(&self, mut window: Vec<SegmentName>) -> Result<Vec<SegmentName>> {
        let entries = self.entries()?;
        window.retain(|segment| entries.iter().all(|(found, ..)| found != segment));
        Ok(window)
    }

    /// Whether fewer than half of the segments that follow can be served without a stop.
    pub fn is_low(&self, asked: SegmentName, size: SegmentSize) -> Result<bool> {
        let window = self.window(asked, size);
        let missing = self.missing(window.clone())?;
        let ahead = missing
            .first()
            .and_then(|first| window.iter().position(|segment| segment == first));
        Ok(ahead.is_some_and(|ahead| ahead * 2 < self.capacity))
    }

    /// Moves a segment to its destination and tells its size; `None` when it is not there. One that is not what its name
    /// says is removed, and counts as not there.
    pub fn take(&self, segment: SegmentName, destination: &Path) -> Result<Option<SegmentSize>> {
        let Some((_, crc, length, path)) = self.entries()?.into_iter().find(|(found, ..)| *found == segment) else {
            return Ok(None);
        };
        let size = length_of_whole(&path, crc, length)?;
        let Some(size) = size else {
            remove(&path)?;
            return Ok(None);
        };
        remove_leftovers(destination);
        match fs::rename(&path, destination) {
            Ok(()) => Ok(Some(size)),
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                let landing = Landing::begin(destination)?;
                let mut source = File::open(&path).map_err(failed("open", &path))?;
                io::copy(&mut source, &mut landing.file()?).map_err(failed("copy to", destination))?;
                landing.place(destination)?;
                remove(&path)?;
                Ok(Some(size))
            }
            Err(error) => Err(failed("rename to", destination)(error)),
        }
    }

    /// Waits while another process writes this segment. Blocks.
    pub fn wait_for(&self, segment: SegmentName) -> Result<()> {
        let path = self.part(segment);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed("open", &path)(error)),
        };
        // The writer's lock ends with the file or with the writer.
        flock(&file, FlockOperation::LockShared).map_err(|error| failed("wait for", &path)(error.into()))
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
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(SpoolLock(file))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(failed("lock", &path)(error.into())),
        }
    }

    /// Removes what is not in the window, what a dead process left half, and the folders of other lines of descent.
    pub fn keep_only(&self, _lock: &SpoolLock, window: &[SegmentName]) -> Result<()> {
        for (found, _, _, path) in self.entries()? {
            if !window.contains(&found) {
                remove(&path)?;
            }
        }
        for path in paths_in(&self.folder)? {
            // We hold the lock: nobody else is writing.
            if path.extension().is_some_and(|extension| extension == "part") {
                remove(&path)?;
            }
        }
        for path in paths_in(&self.root)? {
            let ours = path
                .file_name()
                .and_then(|name| name.to_str())
                .is_some_and(is_folder_name);
            if ours && path != self.folder {
                fs::remove_dir_all(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(())
    }

    fn part(&self, segment: SegmentName) -> PathBuf {
        self.folder.join(format!("{segment}.part"))
    }

    /// Begins to write a segment.
    pub fn begin(&self, _lock: &SpoolLock, segment: SegmentName) -> Result<SpoolEntry> {
        SpoolEntry::create(self.part(segment), segment)
    }
}

#[cfg(test)]
#[path = "spool_tests.rs"]
mod tests;
