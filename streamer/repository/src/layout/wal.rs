//! The keys of WAL: segments, tails, histories, gaps, and what PostgreSQL's own archiving adds.

use hardstorage_report::{DeploymentName, Lsn, SegmentName, Timeline};
use hardstorage_storage::Key;

use super::{Lineage, WriterId, key};

/// `wal/<deployment>/`.
pub fn wal_folder(name: &DeploymentName) -> String {
    format!("wal/{name}/")
}

/// `wal/<deployment>/<lineage>/`.
pub fn lineage_folder(name: &DeploymentName, lineage: Lineage) -> String {
    format!("wal/{name}/{lineage}/")
}

/// `wal/.../segments/<TLI>/`: one folder for each log file number below it.
pub fn segments_folder(name: &DeploymentName, lineage: Lineage, timeline: Timeline) -> String {
    format!("wal/{name}/{lineage}/segments/{}/", timeline.hex())
}

/// `wal/.../segments/<TLI>/<log>/<segment>`.
pub fn segment(name: &DeploymentName, lineage: Lineage, segment: SegmentName) -> Key {
    key(format!(
        "{}{:08X}/{segment}",
        segments_folder(name, lineage, segment.timeline),
        segment.log
    ))
}

/// `wal/.../tails/<TLI>/<segment>/`.
pub fn tails_folder(name: &DeploymentName, lineage: Lineage, segment: SegmentName) -> String {
    format!("wal/{name}/{lineage}/tails/{}/{segment}/", segment.timeline.hex())
}

/// `wal/.../tails/<TLI>/<segment>/<from>-<to>-<streamer>`; positions as sixteen hex digits, so that they sort.
pub fn tail(
    name: &DeploymentName,
    lineage: Lineage,
    segment: SegmentName,
    from: Lsn,
    to: Lsn,
    streamer: &WriterId,
) -> Key {
    key(format!(
        "{}{:016X}-{:016X}-{streamer}",
        tails_folder(name, lineage, segment),
        from.0,
        to.0
    ))
}

/// What stands in the name of a journal where that of a tail tells the end.
pub(crate) const JOURNAL: &str = "journal";

/// `wal/.../tails/<TLI>/<segment>/<from>-journal-<streamer>`.
pub fn journal(name: &DeploymentName, lineage: Lineage, segment: SegmentName, from: Lsn, streamer: &WriterId) -> Key {
    key(format!(
        "{}{:016X}-{JOURNAL}-{streamer}",
        tails_folder(name, lineage, segment),
        from.0
    ))
}

/// `wal/.../timelines/`.
pub fn timelines_folder(name: &DeploymentName, lineage: Lineage) -> String {
    format!("wal/{name}/{lineage}/timelines/")
}

/// `wal/.../timelines/<TLI>.history`.
pub fn history(name: &DeploymentName, lineage: Lineage, timeline: Timeline) -> Key {
    key(format!(
        "{}{}",
        timelines_folder(name, lineage),
        timeline.history_name()
    ))
}

/// `wal/.../aux/<name>`; `None` for a name that is not PostgreSQL's own.
pub fn aux(name: &DeploymentName, lineage: Lineage, file: &str) -> Option<Key> {
    let known = (file.ends_with(".partial") || file.ends_with(".backup")) && !file.contains('/');
    known.then(|| Key::new(format!("wal/{name}/{lineage}/aux/{file}")).ok())?
}

/// `wal/.../aux/`.
pub fn aux_folder(name: &DeploymentName, lineage: Lineage) -> String {
    format!("wal/{name}/{lineage}/aux/")
}

/// `wal/.../gaps/`.
pub fn gaps_folder(name: &DeploymentName, lineage: Lineage) -> String {
    format!("wal/{name}/{lineage}/gaps/")
}

/// `wal/.../gaps/<TLI>-<from>-<to>.json`.
pub fn gap(name: &DeploymentName, lineage: Lineage, timeline: Timeline, from: Lsn, to: Lsn) -> Key {
    key(format!(
        "{}{}-{:016X}-{:016X}.json",
        gaps_folder(name, lineage),
        timeline.hex(),
        from.0,
        to.0
    ))
}

/// What the name of a gap record in this folder says.
pub(crate) fn named_gap(folder: &str, key: &Key) -> Option<(Timeline, Lsn, Lsn)> {
    let name = key.as_str().strip_prefix(folder)?.strip_suffix(".json")?;
    let (timeline, range) = name.split_once('-')?;
    let (from, to) = range.split_once('-')?;
    let position = |text: &str| (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok()).flatten();
    let (from, to) = (Lsn(position(from)?), Lsn(position(to)?));
    (from < to).then_some((Timeline::from_hex(timeline)?, from, to))
}
