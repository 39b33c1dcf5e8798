//! Segments that were fetched ahead: a bounded directory on the recovering server.
//!
//! A file's name holds the CRC32C and the length of its bytes, and appears by a rename when it is whole. It was never
//! synced, so after a power cut it may be torn: whoever takes it compares it with its name first. Each line of descent
//! has a folder of its own; what an earlier recovery along another one left is never looked at, and removed.
//!
//! The spool holds the window of segments that follow the one that was asked for last, and nothing else. Whoever fills
//! it holds the lock of the folder; a file that is being written is locked too, so that a reader can wait for it instead
//! of fetching it a second time.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use hardstorage_codec::crc32c_append;
use hardstorage_report::{Error, Result, SegmentName, SegmentSize, Timeline, code};
use hardstorage_repository::Lineage;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The directory.
#[derive(Debug, Clone)]
pub struct Spool {
    root: PathBuf,
    folder: PathBuf,
    capacity: usize,
}

/// A file that is being written. Dropped before it is finished, it leaves nothing.
#[derive(Debug)]
pub struct SpoolEntry {
    file: File,
    temporary: PathBuf,
    folder: PathBuf,
    segment: SegmentName,
    crc: u32,
    length: u64,
    finished: bool,
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
        let size = SegmentSize::new(length).filter(|_| (found_crc, found_length) == (crc, length));
        let Some(size) = size else {
            remove(&path)?;
            return Ok(None);
        };
        match fs::rename(&path, destination) {
            Ok(()) => Ok(Some(size)),
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                let temporary = super::beside(destination);
                fs::copy(&path, &temporary).map_err(failed("copy to", &temporary))?;
                fs::rename(&temporary, destination).map_err(failed("rename to", destination))?;
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
        let temporary = self.part(segment);
        let file = File::create(&temporary).map_err(failed("create", &temporary))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // Who was faster than this lock does not wait, and fetches the segment itself.
            Ok(()) | Err(Errno::WOULDBLOCK) => {}
            Err(error) => return Err(failed("lock", &temporary)(error.into())),
        }
        Ok(SpoolEntry {
            file,
            temporary,
            folder: self.folder.clone(),
            segment,
            crc: 0,
            length: 0,
            finished: false,
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
    pub fn finish(mut self) -> Result<()> {
        let path = self.folder.join(file_name(self.segment, self.crc, self.length));
        fs::rename(&self.temporary, &path).map_err(failed("rename to", &path))?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for SpoolEntry {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next one that fills the spool.
        if !self.finished && fs::remove_file(&self.temporary).is_err() {
            tracing::debug!("{} stays", self.temporary.display());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use hardstorage_report::SystemId;

    const MIB: u64 = 1 << 20;

    fn size() -> SegmentSize {
        SegmentSize::new(MIB).unwrap()
    }

    fn segment(number: u32) -> SegmentName {
        format!("0000000100000000{number:08X}").parse().unwrap()
    }

    fn spool_of(root: &Path, incarnation: u16, follow: Option<Timeline>) -> Spool {
        let lineage = Lineage {
            system_id: SystemId(7),
            incarnation,
        };
        Spool::new(root, lineage, follow, 4)
    }

    fn spool(root: &Path) -> Spool {
        spool_of(root, 1, Some(Timeline(1)))
    }

    fn put(spool: &Spool, name: SegmentName, fill: u8) {
        let lock = spool.lock().unwrap().unwrap();
        let mut entry = spool.begin(&lock, name).unwrap();
        for _ in 0..4 {
            entry.write(&vec![fill; 256 << 10]).unwrap();
        }
        entry.finish().unwrap();
    }

    fn present(spool: &Spool, number: u32) -> bool {
        spool.missing(vec![segment(number)]).unwrap().is_empty()
    }

    /// What a power cut or a bad disk makes of a file.
    fn damage(spool: &Spool, change: impl Fn(&mut Vec<u8>)) {
        for (.., path) in spool.entries().unwrap() {
            let mut bytes = fs::read(&path).unwrap();
            change(&mut bytes);
            fs::write(&path, bytes).unwrap();
        }
    }

    #[test]
    fn a_whole_file_is_moved() {
        let root = tempfile::tempdir().unwrap();
        let spool = spool(root.path());
        let destination = root.path().join("RECOVERYXLOG");
        assert!(spool.take(segment(1), &destination).unwrap().is_none(), "no spool yet");
        put(&spool, segment(1), 7);
        assert_eq!(spool.take(segment(1), &destination).unwrap(), Some(size()));
        assert_eq!(fs::read(&destination).unwrap(), vec![7; MIB as usize]);
        assert!(!present(&spool, 1));
        assert!(spool.take(segment(1), &destination).unwrap().is_none(), "given once");
    }

    #[test]
    fn a_torn_one_is_removed_and_nothing_of_it_is_given() {
        let changes: [fn(&mut Vec<u8>); 4] = [
            |bytes| bytes.truncate(300_000),
            Vec::clear,
            |bytes| bytes[MIB as usize - 1] ^= 1,
            |bytes| bytes.push(0),
        ];
        for change in changes {
            let root = tempfile::tempdir().unwrap();
            let spool = spool(root.path());
            put(&spool, segment(1), 7);
            damage(&spool, change);
            let destination = root.path().join("RECOVERYXLOG");
            assert!(spool.take(segment(1), &destination).unwrap().is_none());
            assert!(!destination.exists());
            assert!(!present(&spool, 1));
        }
    }

    #[test]
    fn only_the_window_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let spool = spool(root.path());
        for number in [1, 2, 3, 4, 5, 6, 99] {
            put(&spool, segment(number), 1);
        }
        put(&spool, "000000020000000000000003".parse().unwrap(), 1);
        let lock = spool.lock().unwrap().unwrap();
        fs::write(spool.folder.join("000000010000000000000004.part"), b"half").unwrap();
        spool.keep_only(&lock, &spool.window(segment(1), size())).unwrap();
        let mut kept: Vec<SegmentName> = spool.entries().unwrap().into_iter().map(|(name, ..)| name).collect();
        kept.sort();
        assert_eq!(kept, [2, 3, 4, 5].map(segment));
        assert_eq!(fs::read_dir(&spool.folder).unwrap().count(), 5, "those and the lock");
    }

    #[test]
    fn it_is_low_when_less_than_half_can_be_served_without_a_stop() {
        let root = tempfile::tempdir().unwrap();
        let spool = spool(root.path());
        let low = || spool.is_low(segment(1), size()).unwrap();
        assert!(low());
        put(&spool, segment(3), 1);
        put(&spool, segment(4), 1);
        assert!(low(), "the very next one is not there");
        put(&spool, segment(2), 1);
        assert!(!low());
        put(&spool, segment(5), 1);
        assert!(!low(), "full");
    }

    #[test]
    fn one_process_fills_it_and_a_reader_waits_for_it() {
        let root = tempfile::tempdir().unwrap();
        let spool = spool(root.path());
        let lock = spool.lock().unwrap().unwrap();
        assert!(spool.lock().unwrap().is_none());
        spool.wait_for(segment(1)).unwrap();
        let mut entry = spool.begin(&lock, segment(1)).unwrap();
        let destination = root.path().join("RECOVERYXLOG");
        let reader = std::thread::spawn({
            let (spool, destination) = (spool.clone(), destination.clone());
            move || {
                spool.wait_for(segment(1)).unwrap();
                spool.take(segment(1), &destination).unwrap()
            }
        });
        entry.write(&vec![3; MIB as usize]).unwrap();
        // The reader either waits or looked before there was anything: it never sees a half file.
        entry.finish().unwrap();
        assert_eq!(reader.join().unwrap().is_some(), destination.exists());
        drop(lock);
        assert!(spool.lock().unwrap().is_some());
    }

    #[test]
    fn what_was_not_finished_is_not_there() {
        let root = tempfile::tempdir().unwrap();
        let spool = spool(root.path());
        let lock = spool.lock().unwrap().unwrap();
        let mut entry = spool.begin(&lock, segment(1)).unwrap();
        entry.write(b"half").unwrap();
        drop(entry);
        assert_eq!(fs::read_dir(&spool.folder).unwrap().count(), 1, "only the lock");
    }

    #[test]
    fn another_line_of_descent_has_another_spool_and_takes_the_place() {
        let root = tempfile::tempdir().unwrap();
        let others = [
            spool_of(root.path(), 2, Some(Timeline(1))),
            spool_of(root.path(), 1, None),
            spool_of(root.path(), 1, Some(Timeline(2))),
        ];
        for other in &others {
            put(other, segment(1), 1);
        }
        fs::create_dir(root.path().join("not-ours")).unwrap();
        let spool = spool(root.path());
        assert!(!present(&spool, 1));
        let lock = spool.lock().unwrap().unwrap();
        spool.keep_only(&lock, &[]).unwrap();
        assert!(others.iter().all(|other| !present(other, 1)));
        assert!(root.path().join("not-ours").exists(), "nothing foreign is touched");
    }
}
