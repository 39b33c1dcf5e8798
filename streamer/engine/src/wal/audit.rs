//! Whether an archive is continuous, where it should be.
//!
//! A stream leaves WAL without a hole; a backup that is taken without one brings only the segments that it needs itself.
//! Two such backups have nothing between them, and nothing was lost. What is stored tells the two apart, in favour of
//! doubt: a hole is excused only when everything before it, tails included, is WAL that a backup needs, when no stream
//! recorded a gap before its end, when it lies within no backup's own WAL, and when the stretch behind it begins with a
//! backup. The first byte that no backup explains is the trace of a stream, and from there on every hole is one. (WAL of
//! a backup that was purged looks like such a trace, until it is collected.) A recorded loss behind everything that is
//! stored is a hole too: recovery ends there, whatever comes. A gap record that cannot be read excuses
//! nothing: it counts as a loss where its name says, and is named itself.

use std::collections::BTreeSet;

use hardstorage_report::{BackupId, Lsn, Result, SegmentSize, Timeline};
use hardstorage_repository::Manifest;
use hardstorage_repository::wal::{Ancestry, Coverage, DamagedGap, GapRecord, Gaps, LsnRange, WalArchive};
use serde::Serialize;

/// WAL without a hole, along the history of one timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stretch {
    /// The newest timeline of that history.
    pub timeline: Timeline,
    /// The first byte.
    pub from: Lsn,
    /// The first byte behind it.
    pub to: Lsn,
    /// The backups that it makes consistent.
    pub backups: Vec<BackupId>,
}

/// WAL that should be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MissingWal {
    /// The timeline on which it was written.
    pub timeline: Timeline,
    /// The first missing byte.
    pub from: Lsn,
    /// The first byte behind the hole.
    pub to: Lsn,
    /// Whether a stream or a backup recorded it when it was found.
    pub recorded: bool,
    /// The backups that cannot be restored without it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needed_by: Vec<BackupId>,
}

/// What an archive is like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Continuity {
    /// What is there.
    pub stretches: Vec<Stretch>,
    /// What is missing.
    pub holes: Vec<MissingWal>,
    /// Between stretches of which nothing was lost: backups without a stream, and what retention let go.
    pub between: Vec<LsnRange>,
    /// Timelines with WAL whose history file is missing: no recovery finds the way to them.
    pub unknown: Vec<Timeline>,
    /// Gap records that cannot be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged_gaps: Vec<DamagedGap>,
}

impl Continuity {
    /// Whether nothing is missing.
    pub fn is_whole(&self) -> bool {
        self.holes.is_empty() && self.unknown.is_empty() && self.damaged_gaps.is_empty()
    }
}

/// A backup's own WAL.
struct Need<'a> {
    backup: &'a BackupId,
    range: LsnRange,
    /// To the ends of its segments.
    segments: LsnRange,
    usable: bool,
}

impl Need<'_> {
    fn holds(&self, range: LsnRange) -> bool {
        self.segments.from <= range.from && range.to <= self.segments.to
    }
}

/// Looks at one life of a cluster. `backups` are all that have a manifest, and whether each can still be restored.
pub async fn audit(archive: &WalArchive, backups: &[(&Manifest, bool)]) -> Result<Continuity> {
    let ancestry = archive.ancestry().await?;
    let gaps = archive.gaps().await?;
    let mut found = Continuity {
        damaged_gaps: gaps.damaged.clone(),
        ..Continuity::default()
    };
    let mut seen = BTreeSet::new();
    // From the newest back: a timeline that a newer one descends from was looked at with it, up to the switch point.
    for timeline in archive.timelines().await?.into_iter().rev() {
        if !ancestry.knows(timeline) {
            found.unknown.push(timeline);
        }
        if seen.contains(&timeline) {
            continue;
        }
        seen.extend(ancestry.chain(timeline)?.iter().map(|branch| branch.timeline));
        let mut needs = Vec::new();
        for (manifest, usable) in backups {
            let wal = &manifest.wal;
            if manifest.lineage == archive.lineage() && ancestry.passes(timeline, wal.timeline, wal.stop_lsn)? {
                needs.push(need(manifest, *usable, archive.segment_size()));
            }
        }
        let branch = look(archive, &ancestry, timeline, &needs, &gaps).await?;
        found.stretches.extend(branch.stretches);
        for hole in branch.holes {
            // What two branches have in common is missing once.
            if !found
                .holes
                .iter()
                .any(|known| (known.from, known.to) == (hole.from, hole.to))
            {
                found.holes.push(hole);
            }
        }
        for range in branch.between {
            if !found.between.contains(&range) {
                found.between.push(range);
            }
        }
    }
    Ok(found)
}

fn need(manifest: &Manifest, usable: bool, size: SegmentSize) -> Need<'_> {
    let range = LsnRange {
        from: manifest.wal.start_lsn,
        to: manifest.wal.stop_lsn,
    };
    let last = Lsn(range.to.0.saturating_sub(1)).segment_start(size);
    Need {
        backup: &manifest.backup_id,
        range,
        segments: LsnRange {
            from: range.from.segment_start(size),
            to: last.add(size.bytes()),
        },
        usable,
    }
}

async fn look(
    archive: &WalArchive,
    ancestry: &Ancestry,
    timeline: Timeline,
    needs: &[Need<'_>],
    gaps: &Gaps,
) -> Result<Continuity> {
    let coverage = archive.coverage(timeline, Lsn::INVALID).await?;
    let branches = ancestry.chain(timeline)?;
    let expired: Vec<LsnRange> = gaps
        .records
        .iter()
        .filter(|gap| gap.is_expired())
        .map(GapRecord::range)
        .collect();
    let let_go = |hole: LsnRange| {
        expired
            .iter()
            .any(|range| range.from <= hole.from && hole.to <= range.to)
    };
    let losses = gaps
        .records
        .iter()
        .filter(|gap| !gap.is_expired() && !gap.is_between_backups());
    let losses: Vec<LsnRange> = losses
        .map(|gap| (gap.timeline, gap.range()))
        .chain(gaps.damaged.iter().filter_map(|gap| gap.named))
        .filter(|(timeline, _)| branches.iter().any(|branch| branch.timeline == *timeline))
        .map(|(_, range)| range)
        .collect();
    let meet = |hole: LsnRange, range: LsnRange| range.from < hole.to && hole.from < range.to;
    let is_loss = |hole: LsnRange| losses.iter().any(|lost| meet(hole, *lost));
    // Whoever found the hole, and whatever for: somebody who looks for the record finds one.
    let recorded = |hole: LsnRange| {
        let on_the_way = |gap: &GapRecord| branches.iter().any(|branch| branch.timeline == gap.timeline);
        let records = gaps.records.iter().filter(|gap| !gap.is_expired() && on_the_way(gap));
        is_loss(hole) || records.map(GapRecord::range).any(|range| meet(hole, range))
    };
    let mut stream = first_of_a_stream(&coverage, needs);
    for branch in &branches {
        for segment in archive.segments_with_tails(branch.timeline).await? {
            let Some(start) = segment.start(archive.segment_size()) else {
                continue;
            };
            let to = start.add(1);
            if branch.end.is_none_or(|end| start < end) && !explained(LsnRange { from: start, to }, needs) {
                stream = Some(earlier(stream, start));
            }
        }
    }
    for lost in &losses {
        stream = Some(earlier(stream, lost.from));
    }
    let mut found = Continuity::default();
    let ranges = coverage.ranges();
    for range in &ranges {
        let held = needs.iter().filter(|need| {
            let (own, at) = (need.range, *range);
            at.from <= own.from && own.to <= at.to
        });
        found.stretches.push(Stretch {
            timeline,
            from: range.from,
            to: range.to,
            backups: held.map(|need| need.backup.clone()).collect(),
        });
    }
    let mut holes = Vec::new();
    for pair in ranges.windows(2) {
        let [before, after] = pair else { continue };
        holes.push(LsnRange {
            from: before.to,
            to: after.from,
        });
    }
    for hole in holes {
        let within_a_backup = needs
            .iter()
            .any(|need| need.segments.from < hole.to && hole.from < need.segments.to);
        let begins_with_a_backup = needs.iter().any(|need| need.segments.from == hole.to);
        let lone = stream.is_none_or(|first| first >= hole.to);
        let between_lone = lone && begins_with_a_backup && !is_loss(hole);
        if !within_a_backup && (between_lone || let_go(hole)) {
            found.between.push(hole);
        } else {
            found
                .holes
                .push(missing(ancestry, timeline, hole, recorded(hole), needs)?);
        }
    }
    // A loss with nothing behind it yet: once there is, it is a hole like any other.
    if let Some(last) = ranges.last() {
        for lost in losses.iter().filter(|lost| lost.from >= last.to) {
            found.holes.push(missing(ancestry, timeline, *lost, true, needs)?);
        }
    }
    // What a backup needs and the archive has nothing behind, or nothing before.
    for need in needs.iter().filter(|need| need.usable) {
        let known = |hole: &MissingWal| hole.needed_by.contains(need.backup);
        if !coverage.is_covered(need.range.from, need.range.to) && !found.holes.iter().any(known) {
            let reached = coverage.recoverable_until(need.range.from);
            let hole = LsnRange {
                from: reached.unwrap_or(need.range.from),
                to: need.range.to,
            };
            found
                .holes
                .push(missing(ancestry, timeline, hole, recorded(hole), needs)?);
        }
    }
    found.holes.sort_by_key(|hole| (hole.from, hole.to));
    Ok(found)
}

fn missing(
    ancestry: &Ancestry,
    timeline: Timeline,
    hole: LsnRange,
    recorded: bool,
    needs: &[Need<'_>],
) -> Result<MissingWal> {
    let hit = needs
        .iter()
        .filter(|need| need.usable && need.range.from < hole.to && hole.from < need.range.to);
    Ok(MissingWal {
        timeline: ancestry.timeline_at(timeline, hole.from)?,
        from: hole.from,
        to: hole.to,
        recorded,
        needed_by: hit.map(|need| need.backup.clone()).collect(),
    })
}

/// The first byte that only a stream can have brought.
fn first_of_a_stream(coverage: &Coverage, needs: &[Need<'_>]) -> Option<Lsn> {
    let unexplained = coverage.pieces.iter().find(|piece| !explained(piece.range, needs));
    unexplained.map(|piece| piece.range.from)
}

fn explained(range: LsnRange, needs: &[Need<'_>]) -> bool {
    needs.iter().any(|need| need.holds(range))
}

fn earlier(known: Option<Lsn>, other: Lsn) -> Lsn {
    known.map_or(other, |known| known.min(other))
}
