//! Giving WAL back to a recovering PostgreSQL, one file at a time, with the next ones fetched ahead.
//!
//! The answer is a type: `Absent` can only be made from the repository's own proof. Everything else that goes wrong is
//! an error, which the command line turns into an exit code that PostgreSQL does not take for the end of the archive.

mod landing;
mod spool;
mod spool_entry;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use futures::{StreamExt as _, stream};
use hardstorage_report::{Error, Result, SegmentName, Timeline, code};
use hardstorage_repository::wal::{Fetched, FetchedFile, ProvenAbsent, WalArchive};
use tokio::io::AsyncWriteExt;
use tokio_util::task::AbortOnDropHandle;

use landing::Landing;
pub use landing::remove_leftovers;
pub use spool::{Spool, SpoolLock};

/// What became of a request.
#[derive(Debug)]
pub enum Answer {
    /// The file lies at its destination.
    Found,
    /// It is not in the archive, and that is proven.
    Absent(ProvenAbsent),
}

/// Segments that are fetched ahead at a time.
const AT_ONCE: usize = 3;

fn failed(doing: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let message = format!("{doing} {}", path.display());
    move |error| {
        let code = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => code::engine::TARGET_SPACE,
            _ => code::cli::IO,
        };
        Error::new(code, message).source(error)
    }
}

/// Brings one file to its destination: whole and checked, or not at all.
pub async fn fetch_file(
    archive: &WalArchive,
    name: &str,
    follow: Option<Timeline>,
    destination: &Path,
) -> Result<Answer> {
    let file = match archive.fetch(name, follow).await? {
        Fetched::Found(file) => file,
        Fetched::Absent(proof) => return Ok(Answer::Absent(proof)),
    };
    remove_leftovers(destination);
    let landing = Landing::begin(destination)?;
    write(file, landing.file()?, destination).await?;
    landing.place(destination)?;
    Ok(Answer::Found)
}

async fn write(file: FetchedFile, out: std::fs::File, destination: &Path) -> Result<()> {
    let expected = file.length();
    let mut out = tokio::fs::File::from_std(out);
    let length = file
        .copy_to(&mut out, |error| failed("write", destination)(error))
        .await?;
    out.shutdown().await.map_err(failed("write", destination))?;
    if length == expected {
        Ok(())
    } else {
        Err(Error::new(
            code::repository::OBJECT_CORRUPT,
            format!("{length} bytes came instead of {expected}"),
        ))
    }
}

/// Fetches the segments after `asked` into the spool, until it is full or the archive has no more. A failure here is
/// nobody's answer: the segment is fetched again when it is asked for.
pub async fn fetch_ahead(
    archive: &WalArchive,
    asked: SegmentName,
    follow: Option<Timeline>,
    spool: &Spool,
) -> Result<()> {
    let Some(lock) = spool.lock()? else { return Ok(()) };
    let window = spool.window(asked, archive.segment_size());
    spool.keep_only(&lock, &window)?;
    let lock = Arc::new(lock);
    // Tasks of their own: opening and unpacking takes more time than reading. The first one that is not there ends it.
    let mut fetched = stream::iter(spool.missing(window)?)
        .map(|segment| {
            let work = spool_one(archive.clone(), segment, follow, spool.clone(), lock.clone());
            AbortOnDropHandle::new(tokio::spawn(work))
        })
        .buffered(AT_ONCE);
    while let Some(outcome) = fetched.next().await {
        let there = outcome.map_err(|error| Error::new(code::cli::INTERNAL, "fetch a segment ahead").source(error))?;
        if !there? {
            break;
        }
    }
    Ok(())
}

/// True when the segment is in the spool now. Only finished segments go there.
async fn spool_one(
    archive: WalArchive,
    segment: SegmentName,
    follow: Option<Timeline>,
    spool: Spool,
    lock: Arc<SpoolLock>,
) -> Result<bool> {
    if !archive.has_segment(segment).await? {
        return Ok(false);
    }
    let mut entry = spool.begin(&lock, segment)?;
    let Fetched::Found(mut file) = archive.fetch(&segment.to_string(), follow).await? else {
        return Ok(false);
    };
    if file.is_assembled() {
        return Ok(false);
    }
    while let Some(bytes) = file.next().await? {
        entry.write(&bytes)?;
    }
    entry.finish()?;
    Ok(true)
}
