//! Files that are there already: whose pages equal the backup's is not fetched.
//!
//! A page counts as equal when its bytes, read from the file, have the length, the keyed hash and the checksum that the
//! backup recorded for it: the same test that makes the next backup take a page over. What cannot be read differs.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use hardstorage_codec::{KeyedHash, crc32c};
use hardstorage_report::Result;

use super::sink::FileInfo;
use crate::layer::{PageFacts, PageMap, PagePlace};

/// Opens what is there of a file, for reading. Called before the sink begins that file, and at most once for each GiB.
pub trait PresentFiles: Send + Sync {
    /// The file; `None` when there is none.
    fn open(&self, file: &FileInfo) -> Result<Option<File>>;
}

/// Bytes that are read and hashed at a time.
const STRIDE: u64 = 256 << 10;
/// Fewer pages than this are not worth a second thread.
const ALONE: u32 = 512;

/// Compares sections with what is there.
pub(super) struct Comparer {
    files: Arc<dyn PresentFiles>,
    hash: KeyedHash,
    threads: usize,
}

impl Comparer {
    pub(super) fn new(files: Arc<dyn PresentFiles>, hash: KeyedHash, threads: usize) -> Comparer {
        Comparer {
            files,
            hash,
            threads: threads.max(1),
        }
    }

    /// For each page of a section that begins at `start`, whether its stored bytes are there; empty when none is.
    pub(super) fn equal_pages(&self, info: &FileInfo, start: u64, map: &PageMap) -> Result<Vec<bool>> {
        let Some(file) = self.files.open(info)? else {
            return Ok(Vec::new());
        };
        let mut equal = vec![false; map.pages() as usize];
        let share = if map.pages() < ALONE {
            equal.len().max(1)
        } else {
            equal.len().div_ceil(self.threads).max(1)
        };
        std::thread::scope(|scope| {
            for (slice, first) in equal.chunks_mut(share).zip((0u32..).step_by(share)) {
                let file = &file;
                scope.spawn(move || self.compare(file, start, map, first, slice));
            }
        });
        Ok(equal)
    }

    fn compare(&self, file: &File, start: u64, map: &PageMap, first: u32, equal: &mut [bool]) {
        let block = map.block_size();
        let stride = (STRIDE / u64::from(block)).max(1) as usize;
        let mut buffer = vec![0u8; stride * block as usize];
        for (pages, at) in equal.chunks_mut(stride).zip((first..).step_by(stride)) {
            let stored = |page: u32| matches!(map.place(page), Some(PagePlace::Stored { .. }));
            if !(at..).zip(pages.iter()).any(|(page, _)| stored(page)) {
                continue;
            }
            let length = read_up_to(file, start + u64::from(at) * u64::from(block), &mut buffer);
            for ((page, equal), place) in (at..).zip(pages).zip((0usize..).step_by(block as usize)) {
                let bytes: Range<usize> = place..place + map.page_len(page) as usize;
                let Some(bytes) = buffer
                    .get(bytes)
                    .filter(|_| place + map.page_len(page) as usize <= length)
                else {
                    break;
                };
                *equal = stored(page) && map.facts(page) == Some(self.facts(bytes));
            }
        }
    }

    fn facts(&self, bytes: &[u8]) -> PageFacts {
        PageFacts {
            hash: self.hash.hash64(bytes),
            crc: crc32c(bytes),
        }
    }
}

/// As many bytes as there are; what an error hides is not there.
fn read_up_to(file: &File, at: u64, buffer: &mut [u8]) -> usize {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + length as u64) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    length
}
