//! `wal list` and `wal audit`: what the archive has, where it has holes, and which of its segments are damaged.

use hardstorage_engine::verify::{WalDepth, damaged_segments};
use hardstorage_engine::wal::{Continuity, MissingWal, lineages};
use hardstorage_report::{BackupId, DeploymentName, Lsn, Result, SegmentName, SegmentSize, Timeline, code};
use hardstorage_repository::wal::WalArchive;
use hardstorage_repository::{Deployment, Lineage};
use serde::Serialize;

use crate::app::App;
use crate::args::RepoArg;
use crate::printer::Report;

#[derive(Debug, Serialize)]
struct Range {
    from: Lsn,
    to: Lsn,
}

#[derive(Debug, Serialize)]
struct TimelineWal {
    timeline: Timeline,
    segments: usize,
    /// Covered along the timeline's own history.
    ranges: Vec<Range>,
}

#[derive(Debug, Serialize)]
struct LineageWal {
    lineage: String,
    segment_size: SegmentSize,
    timelines: Vec<TimelineWal>,
    histories: Vec<Timeline>,
}

/// What the archive has.
#[derive(Debug, Serialize)]
pub(crate) struct WalListResult {
    deployment: DeploymentName,
    lineages: Vec<LineageWal>,
}

impl Report for WalListResult {
    fn text(&self) -> String {
        let mut out = format!("WAL of {}\n", self.deployment);
        for lineage in &self.lineages {
            out.push_str(&format!("Lineage {}\n", lineage.lineage));
            for timeline in &lineage.timelines {
                out.push_str(&format!(
                    "  timeline {}: {} finished segments\n",
                    timeline.timeline, timeline.segments
                ));
                for range in &timeline.ranges {
                    out.push_str(&format!("    {} to {}\n", range.from, range.to));
                }
            }
        }
        out
    }
}

#[derive(Debug, Serialize)]
struct LineageAudit {
    lineage: String,
    #[serde(flatten)]
    found: Continuity,
}

#[derive(Debug, Serialize)]
struct Damaged {
    lineage: String,
    segment: SegmentName,
    reason: String,
}

/// The verdict.
#[derive(Debug, Serialize)]
pub(crate) struct AuditResult {
    deployment: DeploymentName,
    ok: bool,
    /// Finished segments whose ends were looked at.
    segments: usize,
    lineages: Vec<LineageAudit>,
    damaged: Vec<Damaged>,
}

impl AuditResult {
    fn holes(&self) -> impl Iterator<Item = &MissingWal> {
        self.lineages.iter().flat_map(|lineage| &lineage.found.holes)
    }

    fn unknown(&self) -> impl Iterator<Item = Timeline> {
        self.lineages.iter().flat_map(|lineage| lineage.found.unknown.clone())
    }

    /// Backups without a stream, or outside of the window of retention: each has its own WAL, and there is none between
    /// them.
    fn separate(&self, out: &mut String) {
        for LineageAudit { found, .. } in &self.lineages {
            if found.between.is_empty() {
                continue;
            }
            out.push_str(&format!(
                "There is no continuous archive between {} stretches: their backups were taken without a stream, or \
                 retention let go what lay between, and no moment between two stretches can be recovered\n",
                found.stretches.len()
            ));
            for stretch in &found.stretches {
                let backups: Vec<&str> = stretch.backups.iter().map(BackupId::as_str).collect();
                out.push_str(&format!(
                    "  timeline {}: {} to {}  {}\n",
                    stretch.timeline,
                    stretch.from,
                    stretch.to,
                    backups.join(" ")
                ));
            }
        }
    }
}

impl Report for AuditResult {
    fn text(&self) -> String {
        if self.ok {
            let separate = self.lineages.iter().any(|lineage| !lineage.found.between.is_empty());
            let word = if separate { "whole" } else { "continuous" };
            let mut out = format!(
                "✓ the WAL of {} is {word} ({} finished segments)\n",
                self.deployment, self.segments
            );
            self.separate(&mut out);
            return out;
        }
        let mut out = format!(
            "✗ the WAL of {} has {} hole(s) and {} damaged segment(s)\n",
            self.deployment,
            self.holes().count(),
            self.damaged.len()
        );
        for hole in self.holes() {
            let word = if hole.recorded { "recorded" } else { "not recorded" };
            out.push_str(&format!(
                "  timeline {}: {} to {} ({word})\n",
                hole.timeline, hole.from, hole.to
            ));
            for backup in &hole.needed_by {
                out.push_str(&format!("    {backup} cannot be restored without it\n"));
            }
        }
        for timeline in self.unknown() {
            out.push_str(&format!("  timeline {timeline}: its history file is missing\n"));
        }
        for damaged in &self.damaged {
            out.push_str(&format!("  {}: {}\n", damaged.segment, damaged.reason));
        }
        for damaged in self.lineages.iter().flat_map(|lineage| &lineage.found.damaged_gaps) {
            out.push_str(&format!("  a gap record is damaged: {damaged}\n"));
        }
        self.separate(&mut out);
        let ends = self.holes().count() + self.unknown().count() + self.damaged.len() > 0;
        if ends {
            out.push_str("Recovery ends there: take a new backup\n");
        }
        out
    }
}

/// The archives of a deployment.
async fn archives(deployment: &Deployment) -> Result<Vec<(Lineage, WalArchive)>> {
    let catalog = deployment.backups().await?;
    let mut found = Vec::new();
    for lineage in lineages(deployment).await? {
        found.push((lineage, WalArchive::of_lineage(deployment, &catalog, lineage).await?));
    }
    Ok(found)
}

/// `wal list DEPLOYMENT`.
pub(crate) async fn list(app: &App, name: DeploymentName, repo: &RepoArg) -> Result<WalListResult> {
    let deployment = app.existing(repo, &name).await?;
    let mut lineages = Vec::new();
    for (lineage, archive) in archives(&deployment).await? {
        let mut timelines = Vec::new();
        for timeline in archive.timelines().await? {
            let coverage = archive.coverage(timeline, Lsn::INVALID).await?;
            timelines.push(TimelineWal {
                timeline,
                segments: archive.list_segments(timeline, None).await?.len(),
                ranges: coverage
                    .ranges()
                    .into_iter()
                    .map(|range| Range {
                        from: range.from,
                        to: range.to,
                    })
                    .collect(),
            });
        }
        lineages.push(LineageWal {
            lineage: lineage.to_string(),
            segment_size: archive.segment_size(),
            timelines,
            histories: archive.list_histories().await?,
        });
    }
    Ok(WalListResult {
        deployment: name,
        lineages,
    })
}

/// `wal audit DEPLOYMENT`: a hole is an answer, printed, with the exit code of a failed verification.
pub(crate) async fn audit(app: &App, name: DeploymentName, repo: &RepoArg) -> u8 {
    match look(app, name, repo).await {
        Ok(result) => {
            app.printer.result("wal audit", &result);
            if result.ok {
                0
            } else {
                code::repository::WAL_GAP.info().exit
            }
        }
        Err(error) => {
            app.printer.error("wal audit", &error);
            error.exit_code()
        }
    }
}

async fn look(app: &App, name: DeploymentName, repo: &RepoArg) -> Result<AuditResult> {
    let deployment = app.existing(repo, &name).await?;
    let catalog = deployment.backups().await?;
    let backups: Vec<_> = catalog
        .entries
        .iter()
        .filter_map(|entry| Some((&entry.manifest()?.manifest, entry.is_usable())))
        .collect();
    let (mut audits, mut damaged, mut segments) = (Vec::new(), Vec::new(), 0);
    for (lineage, archive) in archives(&deployment).await? {
        for timeline in archive.timelines().await? {
            let names = archive.list_segments(timeline, None).await?;
            segments += names.len();
            let found = damaged_segments(&archive, names, WalDepth::Ends).await?;
            damaged.extend(found.into_iter().map(|segment| Damaged {
                lineage: lineage.to_string(),
                segment: segment.name,
                reason: segment.error.to_string(),
            }));
        }
        audits.push(LineageAudit {
            lineage: lineage.to_string(),
            found: hardstorage_engine::wal::audit(&archive, &backups).await?,
        });
    }
    Ok(AuditResult {
        deployment: name,
        ok: audits.iter().all(|lineage| lineage.found.is_whole()) && damaged.is_empty(),
        segments,
        lineages: audits,
        damaged,
    })
}
