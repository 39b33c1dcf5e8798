//! One file of the spool: its name holds the CRC32C and the length of its bytes, and appears by a rename when it is
//! whole. It was never synced, so after a power cut it may be torn: whoever takes it compares it with its name first.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use hardstorage_codec::crc32c_append;
use hardstorage_report::{Result, SegmentName, SegmentSize};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::failed;

/// A file that is being written. Dropped before it is finished, it leaves nothing.
#[derive(Debug)]
pub struct SpoolEntry {
    file: File,
    temporary: PathBuf,
    segment: SegmentName,
    crc: u32,
    length: u64,
    finished: bool,
}

fn file_name(segment: SegmentName, crc: u32, length: u64) -> String {
    format!("{segment}.{crc:08x}.{length}")
}

/// Reads `<segment>.<crc>.<length>`.
pub(super) fn parse(name: &str) -> Option<(SegmentName, u32, u64)> {
    let mut parts = name.split('.');
    let segment = parts.next()?.parse().ok()?;
    let crc = u32::from_str_radix(parts.next()?, 16).ok()?;
    let length = parts.next()?.parse().ok()?;
    parts.next().is_none().then_some((segment, crc, length))
}

/// The length of a file that is what its name says; `None` for a torn one.
pub(super) fn length_of_whole(path: &Path, crc: u32, length: u64) -> Result<Option<SegmentSize>> {
    let mut file = File::open(path).map_err(failed("open", path))?;
    let mut buffer = vec![0u8; 1 << 20];
    let (mut found_crc, mut found_length) = (0, 0u64);
    loop {
        let read = file.read(&mut buffer).map_err(failed("read", path))?;
        if read == 0 {
            break;
        }
        found_crc = crc32c_append(found_crc, &buffer[..read]);
        found_length += read as u64;
    }
    Ok(SegmentSize::new(length).filter(|_| (found_crc, found_length) == (crc, length)))
}

impl SpoolEntry {
    /// Begins a file under a name that nobody takes, and locks it for those who want to wait.
    pub(super) fn create(temporary: PathBuf, segment: SegmentName) -> Result<SpoolEntry> {
        let file = File::create(&temporary).map_err(failed("create", &temporary))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // Who was faster than this lock does not wait, and fetches the segment itself.
            Ok(()) | Err(Errno::WOULDBLOCK) => {}
            Err(error) => return Err(failed("lock", &temporary)(error.into())),
        }
        Ok(SpoolEntry {
            file,
            temporary,
            segment,
            crc: 0,
            length: 0,
            finished: false,
        })
    }

    /// Adds bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.crc = crc32c_append(self.crc, bytes);
        self.length += bytes.len() as u64;
        self.file.write_all(bytes).map_err(failed("write", &self.temporary))
    }

    /// Makes it appear.
    pub fn finish(mut self) -> Result<()> {
        let path = self
            .temporary
            .with_file_name(file_name(self.segment, self.crc, self.length));
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
