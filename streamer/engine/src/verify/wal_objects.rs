//! The WAL objects that make a backup consistent: whether they are what their names say, not only whether they are there.
//!
//! A backup without the records between its start and its stop cannot start, so damage in them is damage of the backup.
//! What lies behind its stop is the archive's own: `wal audit` looks at that.

use std::collections::BTreeSet;

use futures::stream::{self, StreamExt, TryStreamExt};
use hardstorage_report::{Error, Lsn, Result, SegmentName, code};
use hardstorage_repository::wal::WalArchive;
use hardstorage_repository::{Deployment, Manifest, VerifyDepth};

use super::VerifyDamage;

/// Objects that are looked at side by side: each look is two small reads, and a store is far away.
const AT_ONCE: usize = 8;

/// A finished segment that is not what its name says.
#[derive(Debug)]
pub struct DamagedSegment {
    /// The segment.
    pub name: SegmentName,
    /// What is wrong; names the object.
    pub error: Error,
}

/// How much of an object is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalDepth {
    /// Its ends: length, metadata, directory.
    Ends,
    /// Every byte.
    Bytes,
}

/// Looks at finished segments; one that is not there is not damaged: coverage tells what is missing. An error is a store
/// that does not answer.
pub async fn damaged_segments(
    archive: &WalArchive,
    names: impl IntoIterator<Item = SegmentName>,
    depth: WalDepth,
) -> Result<Vec<DamagedSegment>> {
    let looks = names.into_iter().map(|name| async move {
        match look(archive, name, depth).await {
            Ok(()) => Ok(None),
            Err(error) if is_damage(&error) => Ok(Some(DamagedSegment { name, error })),
            Err(error) => Err(error),
        }
    });
    let found = stream::iter(looks).buffered(AT_ONCE);
    found
        .try_filter_map(|damaged| async { Ok(damaged) })
        .try_collect()
        .await
}

fn is_damage(error: &Error) -> bool {
    error.is(code::repository::OBJECT_CORRUPT) || error.is(code::storage::CORRUPT)
}

async fn look(archive: &WalArchive, name: SegmentName, depth: WalDepth) -> Result<()> {
    let Some(mut bytes) = archive.read_segment(name).await? else {
        return Ok(());
    };
    if depth == WalDepth::Bytes {
        while bytes.next().await?.is_some() {}
    }
    Ok(())
}

/// The damage of what a backup needs to be consistent.
pub(super) async fn needed(
    deployment: &Deployment,
    manifest: &Manifest,
    depth: VerifyDepth,
) -> Result<Vec<VerifyDamage>> {
    let size = manifest.server.wal_segment_size;
    let archive = WalArchive::new(deployment.clone(), manifest.lineage, size);
    let depth = match depth {
        VerifyDepth::Structure => WalDepth::Ends,
        VerifyDepth::Content => WalDepth::Bytes,
    };
    let mut names = BTreeSet::new();
    for range in &manifest.wal.needed {
        let last = SegmentName::containing(range.timeline, Lsn(range.to.0.saturating_sub(1)), size);
        let mut segment = SegmentName::containing(range.timeline, range.from, size);
        while segment <= last {
            names.insert(segment);
            segment = segment.next(size);
        }
    }
    let damaged = damaged_segments(&archive, names, depth).await?;
    let tell = |segment: DamagedSegment| VerifyDamage {
        object: format!("WAL segment {}", segment.name),
        frame: None,
        files: BTreeSet::new(),
        reason: segment.error.to_string(),
    };
    Ok(damaged.into_iter().map(tell).collect())
}
