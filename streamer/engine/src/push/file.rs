//! A file of `pg_wal`, looked at before anything is stored: is it what its name says, is it whole, and whose is it?
//!
//! What is stored is never overwritten. So a segment that is still written must not be taken, although its file has its
//! full length from the first byte on: the WAL in it has to reach its end.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use hardstorage_report::{Error, Lsn, Result, Retry, SegmentName, SegmentSize, SystemId, Timeline, code};
use hardstorage_repository::wal::{Ancestry, HistoryFile};

use super::name::FileName;
use super::owner::owner;
use crate::records::{FactsCollector, SegmentHeader};

/// Histories and `.backup` files are a few lines.
const SMALL: u64 = 1 << 20;
/// Bytes that are read at a time.
const PIECE: usize = 1 << 20;

/// A file that may be stored, as far as it can be told without the repository.
#[derive(Debug)]
pub struct WalFile {
    pub(super) path: PathBuf,
    pub(super) name: FileName,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    /// As long as a segment.
    Wal(SegmentName, SegmentHeader),
    /// A few lines.
    Text(Vec<u8>, SystemId),
}

pub(super) fn io(doing: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let message = format!("{doing} {}", path.display());
    move |error| Error::new(code::cli::IO, message).source(error)
}

fn wrong(name: &FileName, what: impl std::fmt::Display) -> Error {
    Error::new(code::engine::WAL_FILE, format!("{name}: {what}"))
}

/// A file that may be whole later.
fn unfinished(name: &FileName, what: impl std::fmt::Display) -> Error {
    Error::new(code::engine::WAL_UNFINISHED, format!("{name}: {what}")).retry(Retry::Later)
}

impl WalFile {
    /// Looks at the file at a path, which is absolute or relative to the working directory.
    pub fn look(path: &Path) -> Result<WalFile> {
        let name = FileName::of(path)?;
        // Asked before it is opened: to open a pipe would wait for ever.
        let metadata = std::fs::metadata(path).map_err(io("read", path))?;
        if !metadata.is_file() {
            return Err(wrong(&name, "it is no regular file"));
        }
        let content = match &name {
            FileName::Segment(segment) | FileName::Partial(segment) => {
                let header = header(path, &name, *segment, metadata.len())?;
                Content::Wal(*segment, header)
            }
            FileName::History(timeline) => {
                let (bytes, _) = WalFile::history(path, *timeline)?;
                Content::Text(bytes, owner(path)?)
            }
            FileName::Backup { segment, offset } => {
                let bytes = text(path, &name)?;
                if !tells_start(&bytes, *segment, *offset) {
                    return Err(wrong(&name, "it does not tell of a backup that began there"));
                }
                Content::Text(bytes, owner(path)?)
            }
        };
        let mut file = WalFile {
            path: path.to_owned(),
            name,
            content,
        };
        if let (FileName::Segment(segment), Content::Wal(_, header)) = (&file.name, &file.content)
            && let Some(end) = file.early_end(header)?
        {
            if !file.timeline_ended(*segment, header)? {
                return Err(unfinished(&file.name, format!("its WAL ends at {end}")));
            }
            // A promotion gives such a file this name itself, unless archiving was off: then it comes under its old one.
            file.name = FileName::Partial(*segment);
        }
        Ok(file)
    }

    /// Reads the history of a timeline.
    pub(super) fn history(path: &Path, timeline: Timeline) -> Result<(Vec<u8>, HistoryFile)> {
        let name = FileName::History(timeline);
        let bytes = text(path, &name)?;
        let history = HistoryFile::parse(timeline, &bytes).map_err(|error| wrong(&name, error))?;
        if history.entries.is_empty() {
            return Err(wrong(&name, "it names no timeline that it began on"));
        }
        Ok((bytes, history))
    }

    /// The cluster that wrote it.
    pub fn system_id(&self) -> SystemId {
        match &self.content {
            Content::Wal(_, header) => header.system_id,
            Content::Text(_, id) => *id,
        }
    }

    /// Reads a file that is as long as a segment, from its beginning.
    pub(super) fn pieces(&self, size: SegmentSize) -> Result<Pieces<'_>> {
        Ok(Pieces {
            path: &self.path,
            name: &self.name,
            file: File::open(&self.path).map_err(io("read", &self.path))?,
            buffer: vec![0; PIECE],
            left: size.bytes() / PIECE as u64,
        })
    }

    /// Where the WAL of a segment ends, when that is before its file does.
    fn early_end(&self, header: &SegmentHeader) -> Result<Option<Lsn>> {
        let mut collector = FactsCollector::new(header.start, header.size);
        let mut pieces = self.pieces(header.size)?;
        while let Some(bytes) = pieces.next()? {
            collector.push(bytes);
        }
        if collector.follows() {
            return Ok(None);
        }
        Ok(Some(collector.take().records_end.unwrap_or(header.start)))
    }
}

/// The bytes of a file, 1 MiB at a time: every segment has a multiple of that.
pub(super) struct Pieces<'a> {
    path: &'a Path,
    name: &'a FileName,
    file: File,
    buffer: Vec<u8>,
    left: u64,
}

impl Pieces<'_> {
    /// The next bytes. An end that comes too early is one of a file that changed since it was looked at.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        match self.file.read_exact(&mut self.buffer) {
            Ok(()) => Ok(Some(&self.buffer)),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                Err(unfinished(self.name, "it became shorter while it was read"))
            }
            Err(error) => Err(io("read", self.path)(error)),
        }
    }
}

/// Reads the header of a file that must be as long as a segment, and compares it with the name.
fn header(path: &Path, name: &FileName, segment: SegmentName, length: u64) -> Result<SegmentHeader> {
    let mut head = [0; SegmentHeader::LEN];
    let mut file = File::open(path).map_err(io("read", path))?;
    if length < head.len() as u64 {
        return Err(unfinished(name, format!("it has {length} bytes")));
    }
    file.read_exact(&mut head).map_err(io("read", path))?;
    let header = SegmentHeader::decode(&head).map_err(|what| wrong(name, what))?;
    let size = header.size.bytes();
    if length < size {
        return Err(unfinished(
            name,
            format!("it has {length} of the {size} bytes of a segment"),
        ));
    }
    if length > size {
        return Err(wrong(name, format!("it has {length} bytes, a segment has {size}")));
    }
    if segment.start(header.size) != Some(header.start) {
        return Err(wrong(name, format!("its first page is that of {}", header.start)));
    }
    if header.timeline > segment.timeline || header.timeline == Timeline(0) {
        return Err(wrong(
            name,
            format!("its first page is of timeline {}", header.timeline),
        ));
    }
    Ok(header)
}

/// Compares the timeline of the first page with the history. It is an older one than the name's only in the segment in
/// which the name's began. Of a timeline whose history nobody has stored nothing can be said.
pub(super) fn judge_timeline(
    name: &FileName,
    segment: SegmentName,
    header: &SegmentHeader,
    ancestry: &Ancestry,
) -> Result<()> {
    let timeline = segment.timeline;
    if header.timeline == timeline || !ancestry.knows(timeline) {
        return Ok(());
    }
    let expected = ancestry.timeline_at(timeline, header.start)?;
    let begins_here = ancestry.segment_for(timeline, header.start, header.size)? == segment;
    if begins_here && header.timeline == expected {
        return Ok(());
    }
    Err(wrong(
        name,
        format!(
            "its first page is of timeline {}, by the history it should be of {expected}",
            header.timeline
        ),
    ))
}

fn text(path: &Path, name: &FileName) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io("read", path))?;
    file.take(SMALL + 1).read_to_end(&mut bytes).map_err(io("read", path))?;
    if bytes.len() as u64 > SMALL {
        return Err(wrong(name, "it is too long"));
    }
    Ok(bytes)
}

/// Whether a `.backup` file says in its first line what its name does. `do_pg_backup_stop` writes
/// `START WAL LOCATION: 0/2000028 (file 000000010000000000000002)`.
fn tells_start(bytes: &[u8], segment: SegmentName, offset: u32) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let line = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("START WAL LOCATION: "));
    let Some((position, file)) = line.and_then(|line| line.split_once(" (file ")) else {
        return false;
    };
    let begins_there = |lsn: Lsn| {
        // The size of a segment is not told; with one of the possible ones name and offset give the position.
        let mut sizes = (20..=30).filter_map(|bits| SegmentSize::new(1 << bits));
        let offset = u64::from(offset);
        sizes.any(|size| offset < size.bytes() && segment.start(size).is_some_and(|start| start.add(offset) == lsn))
    };
    file.strip_suffix(')') == Some(segment.to_string().as_str()) && position.parse().is_ok_and(begins_there)
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
