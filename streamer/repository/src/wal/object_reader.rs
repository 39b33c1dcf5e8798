//! Reads one WAL object and believes nothing: every part is opened with its key, the whole is compared with the hash of
//! its stored bytes and with the keyed hash of its raw bytes, and what it says it is with the name it was found under.

mod parts;

use std::ops::Range;

use bytes::Bytes;
use hardstorage_codec::{KeyedHash, PlainHash, equal};
use hardstorage_report::{Error, Lsn, Result, code};
use hardstorage_storage::{DynStore, Key};

use self::parts::open_directory;
use super::directory::Directory;
use super::format::{FRAME_HEADER_LEN, FRAME_LEN, Footer, HEADER_LEN, PAGE_LEN, TRAILER_LEN, WalKind};
use super::journal_scan::{JournalScan, Run};
use super::metadata::WalMetadata;
use super::seal::ObjectSeal;
use super::trailer::{Trailer, check_place};
use super::{Place, WalArchive};

/// Segments up to this stored length are read at once; longer ones frame by frame.
const WHOLE: u64 = 18 << 20;
/// The same for tails, of which many are open at once.
const WHOLE_TAIL: u64 = 1 << 20;

/// The digest at the very end, which does not cover itself.
const DIGEST_LEN: u64 = 32;

/// An object with its directory.
#[derive(Debug)]
pub(super) struct WalObject {
    store: DynStore,
    key: Key,
    size: u64,
    whole: Option<Bytes>,
    pub metadata: WalMetadata,
    pub directory: Directory,
    /// First byte of each frame, and the end.
    starts: Vec<Lsn>,
    form: Form,
    seal: ObjectSeal,
    raw_key: KeyedHash,
}

/// What stands around the frames.
#[derive(Debug)]
enum Form {
    Finished(Footer),
    /// Runs of records in the place of frames. They were all opened before, and neither a directory nor a hash of the
    /// whole says more.
    Journal(Vec<Run>),
}

impl WalObject {
    /// Opens an object; `None` when it is not there. `size` is its length where a listing told it.
    pub(super) async fn open(
        archive: &WalArchive,
        key: &Key,
        size: Option<u64>,
        kind: WalKind,
        place: Place,
    ) -> Result<Option<WalObject>> {
        let store = archive.deployment().store();
        // The stored form never exceeds the raw one by more than its frame headers and directory.
        let most = match kind {
            WalKind::Segment | WalKind::Partial | WalKind::Journal => WHOLE,
            WalKind::Tail => WHOLE_TAIL,
        };
        let surely_small = place.length + (place.length >> 6) + (64 << 10) <= most;
        let (size, whole) = if surely_small || size.is_some_and(|size| size <= most) {
            let Some(bytes) = store.get(key).await? else {
                return Ok(None);
            };
            (bytes.len() as u64, Some(bytes))
        } else {
            let size = match size {
                Some(size) => size,
                None => match store.head(key).await? {
                    Some(meta) => meta.size,
                    None => return Ok(None),
                },
            };
            (size, None)
        };
        let object = match whole {
            Some(bytes) => Self::from_whole(archive, key, bytes, kind, place).await,
            None => Self::from_ranges(archive, key, size, kind, place).await,
        };
        object.map(Some).map_err(|error| error.context(format!("object {key}")))
    }

    /// Opens a journal that was gone through; `None` when it is not there any more. A short one is read at once: it goes
    /// when its segment is finished, which must not meet whoever reads it.
    pub(super) async fn of_journal(archive: &WalArchive, key: &Key, scan: &JournalScan) -> Result<Option<WalObject>> {
        let store = archive.deployment().store();
        let whole = match scan.runs.last() {
            Some(last) if last.end <= WHOLE => store.get(key).await?.map(Some),
            _ => store.head(key).await?.map(|_| None),
        };
        let Some(whole) = whole else { return Ok(None) };
        let seal = scan.walk.seal.clone();
        let mut object = WalObject {
            store: store.clone(),
            key: key.clone(),
            size: 0,
            whole: None,
            metadata: scan.metadata.clone(),
            directory: Directory::default(),
            starts: Vec::new(),
            form: Form::Journal(Vec::new()),
            seal: seal.ok_or_else(|| corrupt("it was read without a key"))?,
            raw_key: archive.deployment().key().segment_hash(),
        };
        object.lengthen(scan);
        object.whole = whole;
        Ok(Some(object))
    }

    /// A journal was gone through further.
    pub(super) fn lengthen(&mut self, scan: &JournalScan) {
        self.whole = None;
        self.size = scan.runs.last().map_or(0, |run| run.end);
        self.metadata = scan.metadata.clone();
        self.directory.restore_points.clone_from(&scan.facts.restore_points);
        self.starts = scan.runs.iter().map(|run| run.from).collect();
        self.starts.push(scan.metadata.end());
        self.form = Form::Journal(scan.runs.clone());
    }

    async fn from_ranges(archive: &WalArchive, key: &Key, size: u64, kind: WalKind, place: Place) -> Result<WalObject> {
        let store = archive.deployment().store();
        let start = size.saturating_sub(TRAILER_LEN as u64);
        let bytes = store.get_range(key, start..size).await?;
        let (header, trailer) = Trailer::open(archive.deployment().key(), &bytes, size)?;
        check_place(archive, &header, &trailer.metadata, kind, place)?;
        let at = trailer.footer.directory_at;
        let stored = store
            .get_range(key, at..at + u64::from(trailer.footer.directory_len))
            .await?;
        let seal = trailer.seal.clone();
        let directory = off_thread(move || open_directory(&seal, &stored)).await?;
        Self::assemble(archive, key, None, size, trailer, directory)
    }

    async fn from_whole(
        archive: &WalArchive,
        key: &Key,
        bytes: Bytes,
        kind: WalKind,
        place: Place,
    ) -> Result<WalObject> {
        let data_key = archive.deployment().key().clone();
        let held = bytes.clone();
        let (header, trailer, directory) = off_thread(move || {
            let size = held.len() as u64;
            let at = held.len().saturating_sub(TRAILER_LEN);
            let (header, trailer) = Trailer::open(&data_key, &held[at..], size)?;
            let from = trailer.footer.directory_at as usize;
            let stored = held.get(from..from + trailer.footer.directory_len as usize);
            let directory = open_directory(&trailer.seal, stored.unwrap_or_default())?;
            let mut digest = PlainHash::default();
            digest.update(&held[..held.len() - DIGEST_LEN as usize]);
            check_digest(&digest, &trailer.footer)?;
            if held.get(..HEADER_LEN) != Some(&trailer.footer.header) {
                return Err(corrupt("its header and its end disagree"));
            }
            Ok((header, trailer, directory))
        })
        .await?;
        check_place(archive, &header, &trailer.metadata, kind, place)?;
        let size = bytes.len() as u64;
        Self::assemble(archive, key, Some(bytes), size, trailer, directory)
    }

    /// Checks that the directory describes exactly the object's frames.
    fn assemble(
        archive: &WalArchive,
        key: &Key,
        whole: Option<Bytes>,
        size: u64,
        trailer: Trailer,
        directory: Directory,
    ) -> Result<WalObject> {
        let metadata = trailer.metadata;
        let mut starts = vec![metadata.start];
        let (mut at, mut offset) = (metadata.start, HEADER_LEN as u64);
        for frame in &directory.frames {
            let room = FRAME_LEN as u64 - at.0 % FRAME_LEN as u64;
            let length = room.min(metadata.end().0.saturating_sub(at.0));
            if frame.offset != offset || u64::from(frame.raw_len) != length || length == 0 {
                return Err(corrupt("its directory does not describe its frames"));
            }
            offset = offset.saturating_add((FRAME_HEADER_LEN as u64) + u64::from(frame.stored_len));
            at = at.add(length);
            starts.push(at);
        }
        let (frames, points) = (directory.frames.len(), directory.restore_points.len());
        if at != metadata.end()
            || offset != trailer.footer.directory_at
            || frames != trailer.footer.frames as usize
            || points != metadata.restore_points as usize
        {
            return Err(corrupt("its directory does not describe its frames"));
        }
        let object = WalObject {
            store: archive.deployment().store().clone(),
            key: key.clone(),
            size,
            whole,
            metadata,
            directory,
            starts,
            form: Form::Finished(trailer.footer),
            seal: trailer.seal,
            raw_key: archive.deployment().key().segment_hash(),
        };
        if object.directory.pages.len() != object.pages() {
            return Err(corrupt("its directory does not describe its frames"));
        }
        Ok(object)
    }

    /// The object's name in the store.
    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    /// The first byte of its page number `index`, and the first behind it.
    pub(super) fn page_range(&self, index: usize) -> Range<Lsn> {
        let first = self.metadata.start.0 / PAGE_LEN as u64 + index as u64;
        let from = (first * PAGE_LEN as u64).max(self.metadata.start.0);
        let to = ((first + 1).saturating_mul(PAGE_LEN as u64)).min(self.metadata.end().0);
        Lsn(from)..Lsn(to)
    }

    /// The first byte of a frame, or for the number behind the last the end.
    pub(super) fn frame_start(&self, number: usize) -> Option<Lsn> {
        self.starts.get(number).copied()
    }

    /// How many frames there are.
    pub(super) fn frames(&self) -> usize {
        self.starts.len() - 1
    }

    /// How many pages it touches.
    pub(super) fn pages(&self) -> usize {
        let (start, end) = (self.metadata.start.0, self.metadata.end().0);
        match end.checked_sub(1) {
            Some(last) if end > start => (last / PAGE_LEN as u64 - start / PAGE_LEN as u64 + 1) as usize,
            _ => 0,
        }
    }

    /// The number of the frame that holds a position.
    pub(super) fn frame_at(&self, at: Lsn) -> Option<usize> {
        let behind = self.starts.partition_point(|start| *start <= at);
        (behind >= 1 && behind < self.starts.len()).then(|| behind - 1)
    }

    /// Whether nothing but its parts remains to be checked: it was read, and its stored bytes hashed, at once.
    pub(super) fn is_whole(&self) -> bool {
        self.whole.is_some() || matches!(self.form, Form::Journal(_))
    }

    /// The keyed hash of raw WAL, to be fed.
    pub(super) fn raw_hash(&self) -> PlainHash {
        self.raw_key.start()
    }

    /// The stored bytes before the frames.
    pub(super) async fn stored_head(&self) -> Result<Bytes> {
        self.stored(0..HEADER_LEN as u64).await
    }

    /// Compares what was read with what the object promised. Where it was not read at once, `stored` has been fed with
    /// everything before the directory.
    pub(super) async fn check(&self, raw: &PlainHash, mut stored: PlainHash) -> Result<()> {
        let named = |error: Error| error.context(format!("object {}", self.key));
        let Form::Finished(footer) = &self.form else {
            return Ok(());
        };
        if !equal(&raw.finish(), &self.metadata.hash) {
            return Err(named(corrupt("the hash of its WAL does not match")));
        }
        if !self.is_whole() {
            let rest = footer.directory_at..self.size.saturating_sub(DIGEST_LEN);
            stored.update(&self.stored(rest).await?);
            check_digest(&stored, footer).map_err(named)?;
        }
        Ok(())
    }
}

pub(super) fn corrupt(what: &str) -> Error {
    Error::new(code::repository::OBJECT_CORRUPT, what)
}

fn check_digest(digest: &PlainHash, footer: &Footer) -> Result<()> {
    if equal(&digest.finish(), &footer.digest) {
        Ok(())
    } else {
        Err(corrupt("the hash of its stored bytes does not match"))
    }
}

/// Runs what needs a CPU on a thread that is not the runtime's.
pub(super) async fn off_thread<T: Send + 'static>(job: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(job)
        .await
        .map_err(|error| Error::new(code::storage::IO, "read a WAL object").source(error))?
}
