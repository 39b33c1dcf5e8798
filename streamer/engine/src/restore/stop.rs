//! Which branch recovery follows, and where on it PostgreSQL stops: a target that the archive does not lead to is an
//! error that names what it does lead to.

use hardstorage_report::{Error, Lsn, Reachable, Result, Timeline, code};
use hardstorage_repository::Manifest;
use hardstorage_repository::wal::{Coverage, ServerTime, TimeAnswer, WalArchive};
use jiff::Timestamp;

use super::plan::RestoreRequest;
use super::record;
use super::target::{RecoveryTarget, StopAt, TargetTimeline};
use crate::window::newest_known;

/// The timeline, and what the archive has along its history. One that cannot be reached is a problem, and the backup's
/// own is taken.
pub(super) async fn branch(
    archive: &WalArchive,
    manifest: &Manifest,
    wanted: TargetTimeline,
    problems: &mut Vec<Error>,
) -> Result<(Timeline, Coverage)> {
    // Mostly recovery stays on the backup's own timeline.
    let (own, from) = (manifest.wal.timeline, manifest.wal.start_lsn);
    let (ancestry, along_own) = tokio::try_join!(archive.ancestry(), archive.coverage(own, from))?;
    let timeline = match wanted {
        TargetTimeline::Latest => newest_known(&ancestry, manifest),
        TargetTimeline::Number(timeline) => timeline,
    };
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
        return Ok((own, along_own));
    }
    if timeline == own {
        return Ok((own, along_own));
    }
    Ok((timeline, archive.coverage(timeline, from).await?))
}

/// What PostgreSQL is told, and what that reaches.
pub(super) struct Stop {
    pub(super) at: StopAt,
    /// Whether what lies exactly there belongs to it. It goes with `at`, not with the wish: where a time became the
    /// position of a commit, that commit is wanted also by those who exclude the time.
    pub(super) inclusive: bool,
    /// In words.
    pub(super) reaches: String,
    /// Where the record begins at which PostgreSQL sees, at the latest, that it has arrived; for targets that do not
    /// say so themselves.
    pub(super) seen_at: Option<Lsn>,
    /// The moment that is reached, where it is known.
    pub(super) time: Option<Timestamp>,
    /// Its position, where it is known.
    pub(super) lsn: Option<Lsn>,
}

impl Stop {
    /// With what lies exactly there.
    pub(super) fn at(at: StopAt, reaches: String) -> Stop {
        Stop {
            at,
            inclusive: true,
            reaches,
            seen_at: None,
            time: None,
            lsn: None,
        }
    }

    /// With the moment that it reaches.
    fn reaching(mut self, time: Option<Timestamp>, lsn: Option<Lsn>) -> Stop {
        (self.time, self.lsn) = (time, lsn);
        self
    }

    /// With the record at which PostgreSQL sees that it has arrived.
    fn seen_at(mut self, lsn: Lsn) -> Stop {
        self.seen_at = Some(lsn);
        self
    }

    /// Without what lies exactly there, unless it is wanted.
    fn including(mut self, inclusive: bool) -> Stop {
        self.inclusive = inclusive;
        self
    }
}

/// What a backup and the archive behind it lead to.
pub(super) struct Reach<'a> {
    pub(super) archive: &'a WalArchive,
    pub(super) manifest: &'a Manifest,
    pub(super) timeline: Timeline,
    pub(super) coverage: &'a Coverage,
    pub(super) end: Option<Lsn>,
    pub(super) latest: Option<Timestamp>,
    /// Whether a record follows on the backup, where that is known already.
    pub(super) follows: Option<bool>,
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
        Error::new(code::engine::UNREACHABLE, what)
            .hint(format!(
                "from this backup every moment from {} ({}) to {latest} ({end}) on timeline {} can be reached",
                self.manifest.times.stopped_at, self.manifest.wal.stop_lsn, self.timeline
            ))
            .reachable(self.reachable())
    }

    /// Every moment that the backup leads to.
    pub(super) fn reachable(&self) -> Reachable {
        let (from, from_lsn) = (self.manifest.times.stopped_at, self.manifest.wal.stop_lsn);
        Reachable {
            from,
            to: self.latest.map_or(from, |latest| latest.max(from)),
            from_lsn,
            to_lsn: self.end.filter(|end| *end >= from_lsn),
            timeline: self.timeline,
            backup_id: self.manifest.backup_id.clone(),
        }
    }

    /// Where PostgreSQL stops.
    pub(super) async fn stop(&self, request: &RestoreRequest) -> Result<Stop> {
        let stop_lsn = self.manifest.wal.stop_lsn;
        let inclusive = request.inclusive;
        match &request.goal {
            RecoveryTarget::Immediate | RecoveryTarget::Latest | RecoveryTarget::Name(_) if !inclusive => {
                Err(Error::new(
                    code::usage::INVALID,
                    "only a time, a WAL position or a transaction can be excluded",
                )
                .hint("--to-exclusive goes with --to, --to-lsn and --to-xid"))
            }
            RecoveryTarget::Immediate => self.backup_end(self.end_of_backup()).await,
            RecoveryTarget::Latest => self.end_of_archive(),
            RecoveryTarget::Time(time) => self.stop_at_time(*time, inclusive).await,
            RecoveryTarget::Lsn(lsn) => self.stop_at_lsn(*lsn, inclusive).await,
            RecoveryTarget::Name(name) => {
                // From where recovery begins: a point of this name before the backup's end would stop it there, and
                // PostgreSQL gives up when that is before the data is consistent.
                let start_lsn = self.manifest.wal.start_lsn;
                match self.archive.find_restore_point(self.timeline, start_lsn, name).await? {
                    Some(point) if point.lsn >= stop_lsn => Ok(Stop::at(
                        StopAt::Name(name.clone()),
                        format!("the restore point {name:?} at {} ({})", point.time, point.lsn),
                    )
                    .reaching(point.time.to_timestamp(), Some(point.lsn))
                    .seen_at(point.lsn)),
                    Some(point) => Err(self.unreachable(format!(
                        "a restore point {name:?} lies at {}, before the end of the backup ({stop_lsn})",
                        point.lsn
                    ))),
                    None => Err(self.unreachable(format!(
                        "the archive has no restore point {name:?} after the backup's end"
                    ))),
                }
            }
            // The lower half is the id, the upper the epoch; three ids are PostgreSQL's own.
            RecoveryTarget::Xid(xid) if *xid as u32 <= 2 => {
                Err(self.unreachable(format!("{xid} is the id of no transaction")))
            }
            RecoveryTarget::Xid(xid) => {
                Ok(Stop::at(StopAt::Xid(*xid), format!("transaction {xid}")).including(inclusive))
            }
        }
    }

    fn end_of_backup(&self) -> String {
        let (time, lsn) = (self.manifest.times.stopped_at, self.manifest.wal.stop_lsn);
        format!("the end of the backup, {time} ({lsn})")
    }

    /// PostgreSQL notices that it is consistent only when it reads one more record. Behind a backup of an idle standby
    /// there is none: the end of the archive is the end of the backup then.
    async fn backup_end(&self, reaches: String) -> Result<Stop> {
        let follows = match self.follows {
            Some(follows) => follows,
            None => record::meets(self.archive, self.coverage, self.manifest.wal.stop_lsn).await?,
        };
        let at = if follows {
            StopAt::Immediate
        } else {
            StopAt::EndOfArchive
        };
        let end = (self.manifest.times.stopped_at, self.manifest.wal.stop_lsn);
        Ok(Stop::at(at, reaches).reaching(Some(end.0), Some(end.1)))
    }

    fn end_of_archive(&self) -> Result<Stop> {
        if let Some(hole) = self.coverage.first_hole(self.manifest.wal.start_lsn) {
            return Err(Error::new(
                code::repository::WAL_GAP,
                format!(
                    "the archive has a hole from {} to {}: recovery cannot pass it",
                    hole.from, hole.to
                ),
            )
            .hint(self.before_the_hole())
            .reachable(self.reachable()));
        }
        let end = self.end.unwrap_or(self.manifest.wal.stop_lsn);
        let latest = self.latest.map_or_else(|| "-".to_owned(), |time| time.to_string());
        let reaches = format!("the end of the archive, at least {latest} ({end})");
        Ok(Stop::at(StopAt::EndOfArchive, reaches).reaching(self.latest, Some(end)))
    }

    async fn stop_at_lsn(&self, lsn: Lsn, inclusive: bool) -> Result<Stop> {
        let stop_lsn = self.manifest.wal.stop_lsn;
        if lsn < stop_lsn {
            return Err(self.unreachable(format!("{lsn} lies before the end of the backup ({stop_lsn})")));
        }
        if record::meets(self.archive, self.coverage, lsn).await? {
            let stop = Stop::at(StopAt::Lsn(lsn), lsn.to_string()).including(inclusive);
            return Ok(stop.reaching(None, Some(lsn)));
        }
        match self.end {
            // Nothing follows on the backup, and nothing is asked for beyond its end.
            Some(_) if lsn == stop_lsn => self.backup_end(self.end_of_backup()).await,
            Some(end) if lsn <= end => self.behind_the_last_record(lsn).await,
            _ => Err(self.unreachable(format!("{lsn} is not in the archive on timeline {}", self.timeline))),
        }
    }

    /// Everything before the position is archived, and no whole record begins there: PostgreSQL is told to stop behind the
    /// last one, so that nothing follows which is archived after the plan was made. Within a record there is no moment.
    async fn behind_the_last_record(&self, lsn: Lsn) -> Result<Stop> {
        let tip = record::last(self.archive, self.coverage, self.manifest.wal.stop_lsn).await?;
        match tip.filter(|tip| tip.end <= lsn) {
            Some(tip) => match tip.start {
                Some(start) => {
                    let reaches = format!("{lsn}, behind the last record of the archive, which begins at {start}");
                    Ok(Stop::at(StopAt::Lsn(start), reaches).reaching(None, Some(lsn)))
                }
                None => self.backup_end(self.end_of_backup()).await,
            },
            None => Err(self.unreachable(format!(
                "no record begins at or behind {lsn} in the archive on timeline {}: PostgreSQL would not stop there",
                self.timeline
            ))),
        }
    }

    async fn stop_at_time(&self, time: Timestamp, inclusive: bool) -> Result<Stop> {
        let stop_lsn = self.manifest.wal.stop_lsn;
        if time < self.manifest.times.stopped_at {
            return Err(self.unreachable(format!(
                "{time} lies before the end of the backup ({})",
                self.manifest.times.stopped_at
            )));
        }
        // PostgreSQL stops before the first transaction end that is later than an inclusive target, and before the
        // first that is not earlier than an exclusive one. Its clock counts microseconds.
        let moment = ServerTime::from_timestamp(time);
        let wanted = if inclusive {
            moment
        } else {
            ServerTime(moment.0.saturating_sub(1))
        };
        match self.archive.time_covered_in(self.coverage, stop_lsn, wanted).await? {
            TimeAnswer::Reached { by, .. } => Ok(Stop::at(StopAt::Time(time), time.to_string())
                .including(inclusive)
                .reaching(Some(time), None)
                .seen_at(by.lsn)),
            TimeAnswer::CoveredToEnd { last: Some(commit), .. } => Ok(Stop::at(
                StopAt::Lsn(commit.lsn),
                format!("the last transaction before {time}, of {}", commit.time),
            )
            .reaching(commit.time.to_timestamp(), Some(commit.lsn))),
            TimeAnswer::CoveredToEnd { last: None, .. } => {
                self.backup_end(format!("{time}: nothing was committed since the backup's end"))
                    .await
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
