//! The `archive_command`: one file of `pg_wal` is stored, or the reason why not is told.
//!
//! Invariants:
//! - A file is judged by itself first: nothing is written, and no repository is opened, for one that is not what its name
//!   says or that is not whole.
//! - It goes into the life of the cluster that wrote it. A cluster that the deployment does not know is refused, unless it
//!   knows none: then this begins its archive, as the first start of a stream does.
//! - Success means durable, name included. Equal bytes that are there are success, other bytes are an alarm.
//! - What is said of time comes from the commits in the segment, and from what a stream has said of the same bytes:
//!   nobody tells an archiver the server's clock.
//!
//! A segment before this one may be missing, or come later: `wal audit` tells of it.

mod file;
mod histories;
mod name;
mod owner;

use hardstorage_report::{
    DeploymentName, Error, Event, EventSink, Result, SegmentName, SegmentSize, Severity, Timeline, code,
};
use hardstorage_repository::wal::{Ancestry, Branch, RecordFacts, SegmentBuilder, Stored, WalArchive};
use hardstorage_repository::{Deployment, Repository};
use serde::Serialize;
use serde_json::json;

use crate::records::{FactsCollector, SegmentHeader};
use crate::wal::{collector_at, lineage_of};
pub use file::WalFile;
use file::{Content, judge_timeline};
use histories::bring_histories;
pub use name::FileName;

/// What became of a file.
#[derive(Debug, Clone, Serialize)]
pub struct PushResult {
    /// The deployment.
    pub deployment: DeploymentName,
    /// The file's name.
    pub file: String,
    /// The life of the cluster that it belongs to.
    pub lineage: String,
    /// Whether it was stored now; otherwise the same bytes were there.
    pub stored: bool,
}

/// Stores a file that was looked at.
pub async fn push(
    repository: &Repository,
    name: &DeploymentName,
    file: WalFile,
    sink: &dyn EventSink,
) -> Result<PushResult> {
    store(&repository.deployment_or_create(name).await?, file, sink).await
}

async fn store(deployment: &Deployment, file: WalFile, sink: &dyn EventSink) -> Result<PushResult> {
    let lineage = lineage_of(deployment, file.system_id()).await.map_err(foreign)?;
    let archive = |size| WalArchive::new(deployment.clone(), lineage, size);
    // What is no WAL has the same form whatever the size of a segment.
    let small = || archive(SegmentSize::DEFAULT);
    let stored = match (&file.content, &file.name) {
        (Content::Wal(segment, header), _) => push_wal(archive(header.size), &file, *segment, *header, sink).await?,
        (Content::Text(bytes, _), FileName::History(timeline)) => small().put_history(*timeline, bytes).await?,
        (Content::Text(bytes, _), other) => small().put_backup_history(&other.to_string(), bytes).await?,
    };
    Ok(PushResult {
        deployment: deployment.name().clone(),
        file: file.name.to_string(),
        lineage: lineage.to_string(),
        stored: stored == Stored::Stored,
    })
}

/// The hint of a stream names an option that `wal push` has not.
fn foreign(error: Error) -> Error {
    if error.is(code::repository::SYSTEM_MISMATCH) {
        error.hint("check DEPLOYMENT; after pg_upgrade or initdb take a backup with --accept-new-system")
    } else {
        error
    }
}

async fn push_wal(
    archive: WalArchive,
    file: &WalFile,
    segment: SegmentName,
    header: SegmentHeader,
    sink: &dyn EventSink,
) -> Result<Stored> {
    let ancestry = bring_histories(&archive, file, segment).await?;
    judge_timeline(&file.name, segment, &header, &ancestry)?;
    if let FileName::Partial(_) = file.name {
        return write(archive.partial_builder(segment)?, file, header, RecordFacts::default()).await;
    }
    if let Some(younger) = left_for(&ancestry, segment, &header) {
        let body = json!({
            "segment": segment,
            "newer_timeline": younger,
            "message": "the archive has a newer timeline that left this one before the segment: it is stored, and \
                        recovery to the newest timeline does not read it",
            "hint": "another server was promoted: find out which one is alive",
        });
        let event = Event::new(Severity::Warning, "wal.push.timeline_left");
        sink.emit(
            event
                .deployment(archive.deployment().name())
                .at(segment.timeline, header.start)
                .body(body),
        );
    }
    let collector = collector_at(&archive, &ancestry, segment.timeline, header.start).await?;
    let mut facts = read_facts(file, header, collector)?;
    if let Some(known) = archive.tails_complete_up_to(segment).await? {
        facts.note_complete(known);
    }
    write(archive.segment_builder(segment, None)?, file, header, facts).await
}

/// The newest timeline with a history, when nothing of this segment lies on the way to it.
fn left_for(ancestry: &Ancestry, segment: SegmentName, header: &SegmentHeader) -> Option<Timeline> {
    let newest = ancestry.newest().filter(|newest| *newest > segment.timeline)?;
    let (start, end) = (header.start, header.start.add(header.size.bytes()));
    let on_the_way = |branch: &Branch| {
        branch.timeline == segment.timeline && branch.begin < end && branch.end.is_none_or(|left| start < left)
    };
    match ancestry.chain(newest) {
        Ok(chain) if chain.iter().any(on_the_way) => None,
        // Also where the histories contradict each other: which one is right is not ours to say.
        Ok(_) | Err(_) => Some(newest),
    }
}

/// Reads the records.
fn read_facts(file: &WalFile, header: SegmentHeader, mut collector: FactsCollector) -> Result<RecordFacts> {
    let mut pieces = file.pieces(header.size)?;
    while let Some(bytes) = pieces.next()? {
        collector.push(bytes);
    }
    Ok(collector.take())
}

async fn write(
    mut builder: SegmentBuilder,
    file: &WalFile,
    header: SegmentHeader,
    facts: RecordFacts,
) -> Result<Stored> {
    let mut pieces = file.pieces(header.size)?;
    while let Some(bytes) = pieces.next()? {
        builder.append(builder.position(), bytes).await?;
    }
    builder.finish(facts).await
}

#[cfg(test)]
#[path = "push_tests.rs"]
mod tests;
