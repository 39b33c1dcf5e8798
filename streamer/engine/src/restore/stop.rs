//! Which branch recovery follows, and where on it PostgreSQL stops: a target that the archive does not lead to is an
//! error that names what it does lead to.

use hardstorage_report::{Error, Lsn, Result, Timeline, code};
use hardstorage_repository::Manifest;
use hardstorage_repository::wal::{Coverage, ServerTime, TimeAnswer, WalArchive};
use jiff::Timestamp;

use super::plan::RestoreRequest;
use super::target::{RecoveryTarget, StopAt, TargetTimeline};
use crate::window::newest_timeline;

/// The timeline, and what the archive has along its history. One that cannot be reached is a problem, and the backup's
/// own is taken.
pub(super) async fn branch(
    archive: &WalArchive,
    manifest: &Manifest,
    wanted: TargetTimeline,
    problems: &mut Vec<Error>,
) -> Result<(Timeline, Coverage)> {
    let timeline = match wanted {
        TargetTimeline::Latest => newest_timeline(archive, manifest).await?,
        TargetTimeline::Number(timeline) => timeline,
    };
    let ancestry = archive.ancestry().await?;
    let known = timeline == manifest.wal.timeline || ancestry.knows(timeline);
    let reachable = known && ancestry.passes(timeline, manifest.wal.timeline, manifest.wal.stop_lsn)?;
    if !reachable {
        let why = if known {
            "branched off before the backup's end"
        } else {
            "is not known to the archive"
        };
        problems.push(
            Error::new(
                code::engine::UNREACHABLE,
                format!(
                    "timeline {timeline} {why}: it cannot be reached from {} on timeline {}",
                    manifest.backup_id, manifest.wal.timeline
                ),
            )
            .hint("choose an earlier backup, or another --to-timeline"),
        );
        return Ok((
            manifest.wal.timeline,
            archive.coverage(manifest.wal.timeline, manifest.wal.start_lsn).await?,
        ));
    }
    Ok((timeline, archive.coverage(timeline, manifest.wal.start_lsn).await?))
}

/// What a backup and the archive behind it lead to.
pub(super) struct Reach<'a> {
    pub(super) archive: &'a WalArchive,
    pub(super) manifest: &'a Manifest,
    pub(super) timeline: Timeline,
    pub(super) coverage: &'a Coverage,
    pub(super) end: Option<Lsn>,
    pub(super) latest: Option<Timestamp>,
}

impl Reach<'_> {
    /// A time, not a position: PostgreSQL stops only at a record that is there, and the plan finds the last commit.
    fn before_the_hole(&self) -> String {
        let latest = self.latest.unwrap_or(self.manifest.times.stopped_at);
        format!("--to {latest} recovers everything before the hole; a backup taken after it leads to what lies behind")
    }

    fn unreachable(&self, what: String) -> Error {
        let latest = self.latest.map_or_else(|| "-".to_owned(), |time| time.to_string());
        let end = self.end.map_or_else(|| "-".to_owned(), |end| end.to_string());
        Error::new(code::engine::UNREACHABLE, what).hint(format!(
            "from this backup every moment from {} ({}) to {latest} ({end}) on timeline {} can be reached",
            self.manifest.times.stopped_at, self.manifest.wal.stop_lsn, self.timeline
        ))
    }

    /// Where PostgreSQL stops, and what that reaches, in words.
    pub(super) async fn stop(&self, request: &RestoreRequest) -> Result<(StopAt, String)> {
        let stop_lsn = self.manifest.wal.stop_lsn;
        match &request.goal {
            RecoveryTarget::Immediate => Ok((
                StopAt::Immediate,
                format!("the end of the backup, {} ({stop_lsn})", self.manifest.times.stopped_at),
            )),
            RecoveryTarget::Latest => {
                let hole = self.coverage.first_hole(self.manifest.wal.start_lsn);
                if let Some(hole) = hole {
                    return Err(Error::new(
                        code::repository::WAL_GAP,
                        format!(
                            "the archive has a hole from {} to {}: recovery cannot pass it",
                            hole.from, hole.to
                        ),
                    )
                    .hint(self.before_the_hole()));
                }
                let end = self.end.unwrap_or(stop_lsn);
                let latest = self.latest.map_or_else(|| "-".to_owned(), |time| time.to_string());
                Ok((
                    StopAt::EndOfArchive,
                    format!("the end of the archive, at least {latest} ({end})"),
                ))
            }
            RecoveryTarget::Time(time) => self.stop_at_time(*time, request.inclusive).await,
            RecoveryTarget::Lsn(lsn) => {
                if *lsn < stop_lsn {
                    return Err(self.unreachable(format!("{lsn} lies before the end of the backup ({stop_lsn})")));
                }
                match self.end {
                    Some(end) if *lsn < end => Ok((StopAt::Lsn(*lsn), lsn.to_string())),
                    _ => Err(self.unreachable(format!("{lsn} is not in the archive on timeline {}", self.timeline))),
                }
            }
            RecoveryTarget::Name(name) => {
                let found = self.archive.find_restore_point(self.timeline, stop_lsn, name).await?;
                match found {
                    Some(point) => Ok((
                        StopAt::Name(name.clone()),
                        format!("the restore point {name:?} at {} ({})", point.time, point.lsn),
                    )),
                    None => Err(self.unreachable(format!(
                        "the archive has no restore point {name:?} after the backup's end"
                    ))),
                }
            }
            RecoveryTarget::Xid(xid) => Ok((StopAt::Xid(*xid), format!("transaction {xid}"))),
        }
    }

    async fn stop_at_time(&self, time: Timestamp, inclusive: bool) -> Result<(StopAt, String)> {
        let stop_lsn = self.manifest.wal.stop_lsn;
        if time < self.manifest.times.stopped_at {
            return Err(self.unreachable(format!(
                "{time} lies before the end of the backup ({})",
                self.manifest.times.stopped_at
            )));
        }
        let moment = ServerTime::from_timestamp(time);
        match self.archive.time_covered_in(self.coverage, stop_lsn, moment).await? {
            TimeAnswer::Reached { .. } => Ok((StopAt::Time(time), time.to_string())),
            TimeAnswer::CoveredToEnd { last, .. } => {
                let commit = last.filter(|commit| commit.lsn >= stop_lsn && (inclusive || commit.time < moment));
                Ok(match commit {
                    Some(commit) => (
                        StopAt::Lsn(commit.lsn),
                        format!("the last transaction before {time}, of {}", commit.time),
                    ),
                    None => (
                        StopAt::Immediate,
                        format!("{time}: nothing was committed since the backup's end"),
                    ),
                })
            }
            TimeAnswer::NotYet { hole: Some(hole), .. } => Err(self.unreachable(format!(
                "{time} lies behind a hole in the archive, from {} to {}",
                hole.from, hole.to
            ))),
            TimeAnswer::NotYet { .. } => {
                let error = self.unreachable(format!("{time} is not covered by the archive yet"));
                let hint = format!("{}; --to-latest goes to its end", error.hint_text());
                Err(error.hint(hint))
            }
            TimeAnswer::Before { .. } => Err(self.unreachable(format!("{time} lies before the end of the backup"))),
        }
    }
}
