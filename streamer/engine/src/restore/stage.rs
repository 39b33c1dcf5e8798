//! WAL for a recovery, laid beside the data: segments and every history file, under the names that PostgreSQL asks for.
//!
//! Which copy of a segment recovery asks for follows from the timelines: the newest that began in or before it, and of an
//! older one only what belongs to the history that is followed. The history files are all that the archive has: without
//! one of them a promotion would take a number that is in use already.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use futures::stream::{self, StreamExt, TryStreamExt};
use hardstorage_report::{Error, Lsn, Result, SegmentName, Timeline, code};
use hardstorage_repository::Manifest;
use hardstorage_repository::wal::{Coverage, Fetched, WalArchive};
use tokio::io::AsyncWriteExt as _;
use tokio_util::sync::CancellationToken;

use super::directory::failed;
use super::place::Owner;
use super::record;
use super::stop::Stop;
use super::target::StopAt;

/// The folder in a restored data directory.
pub(crate) const FOLDER: &str = "pg_hardstorage_wal";
/// How PostgreSQL takes files out of it: `cp` ends with 1 when there is none. It runs in the data directory.
pub(super) const COMMAND: &str = "cp \"pg_hardstorage_wal/%f\" \"%p\"";
/// Nothing of it is needed behind the end of recovery, and every base backup would carry it along.
pub(super) const END_COMMAND: &str = "rm -rf pg_hardstorage_wal";

/// Segments that are fetched at a time; each is streamed.
const AT_ONCE: usize = 4;

/// Where files go, and whose they are.
pub(crate) struct Staging<'a> {
    pub(crate) archive: &'a WalArchive,
    /// The timeline that recovery follows.
    pub(crate) follow: Timeline,
    pub(crate) folder: &'a Path,
    pub(crate) owner: Option<Owner>,
    pub(crate) cancel: &'a CancellationToken,
}

impl Staging<'_> {
    /// Fetches these segments and every history file; tells of the bytes of each. All of it is on disk afterwards.
    pub(crate) async fn fetch(&self, segments: &[SegmentName], done: &(dyn Fn(u64) + Sync)) -> Result<()> {
        let histories = self.archive.histories().await?;
        let mut names: Vec<String> = histories.keys().map(|timeline| timeline.history_name()).collect();
        names.extend(segments.iter().map(ToString::to_string));
        let work = stream::iter(names)
            .map(|name| async move { self.one(&name).await.map(done) })
            .buffer_unordered(AT_ONCE)
            .try_for_each(|()| async { Ok(()) });
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(Error::new(code::cli::INTERRUPTED, "the restore was interrupted")),
            fetched = work => fetched?,
        }
        let folder = fs::File::open(self.folder).and_then(|folder| folder.sync_all());
        folder.map_err(|error| failed("sync", self.folder, error))
    }

    async fn one(&self, name: &str) -> Result<u64> {
        let path = self.folder.join(name);
        let file = match self.archive.fetch(name, Some(self.follow)).await? {
            Fetched::Found(file) => file,
            Fetched::Absent(proof) => {
                return Err(Error::new(
                    code::repository::WAL_GAP,
                    format!("recovery needs {}, which is not in the archive", proof.name()),
                ));
            }
        };
        let expected = file.length();
        let io = |doing: &'static str| {
            let path: PathBuf = path.clone();
            move |error: io::Error| failed(doing, &path, error)
        };
        let out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let mut out = tokio::fs::File::from_std(out.map_err(io("create"))?);
        let length = file.copy_to(&mut out, |error| failed("write", &path, error)).await?;
        out.shutdown().await.map_err(io("write"))?;
        out.sync_all().await.map_err(io("sync"))?;
        if length != expected {
            return Err(Error::new(
                code::repository::OBJECT_CORRUPT,
                format!("{length} bytes of {name} came instead of {expected}"),
            ));
        }
        if let Some(owner) = self.owner {
            std::os::unix::fs::chown(&path, Some(owner.uid), Some(owner.gid)).map_err(io("give away"))?;
        }
        Ok(length)
    }
}

/// The segments that make a backup consistent, on its own timeline.
pub(crate) fn segments_of_backup(manifest: &Manifest) -> Vec<SegmentName> {
    let size = manifest.server.wal_segment_size;
    let mut segments = Vec::new();
    for range in &manifest.wal.needed {
        let last = SegmentName::containing(range.timeline, Lsn(range.to.0.saturating_sub(1)), size);
        let mut segment = SegmentName::containing(range.timeline, range.from, size);
        while segment <= last {
            segments.push(segment);
            segment = segment.next(size);
        }
    }
    segments
}

/// The segments that recovery from `from` reads until it stops. PostgreSQL stops at a record, and reads it whole: one
/// that begins before the end of a segment may end in another.
pub(super) async fn segments_until(
    archive: &WalArchive,
    coverage: &Coverage,
    from: Lsn,
    consistent: Lsn,
    stop: &Stop,
) -> Result<Vec<SegmentName>> {
    let position = match &stop.at {
        StopAt::Immediate => Some(consistent),
        StopAt::Lsn(lsn) => Some(*lsn),
        StopAt::Time(_) | StopAt::Name(_) => stop.seen_at,
        StopAt::EndOfArchive | StopAt::Xid(_) => None,
    };
    let until = match position {
        Some(position) => record::first_behind(archive, coverage, position.max(consistent)).await?,
        None => None,
    };
    let read = coverage.pieces_from(from).iter();
    let read = read.filter(|piece| until.is_none_or(|until| piece.range.from < until));
    let mut segments: Vec<SegmentName> = read.map(|piece| piece.segment).collect();
    segments.dedup();
    Ok(segments)
}
