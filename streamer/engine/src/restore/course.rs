//! A restore plan as others read it: the typed report of a preview, and the part of it that a result repeats.

use hardstorage_report::{PostgresVersion, RestoreCourse, RestorePlanReport, SegmentName, TablespacePlace};

use super::plan::RestorePlan;

impl RestorePlan {
    /// From where to where, as others read it.
    pub fn course(&self) -> RestoreCourse {
        let server = &self.manifest.server;
        RestoreCourse {
            backup_id: self.backup_id.clone(),
            deployment: self.deployment.clone(),
            target_dir: self.target_dir.clone(),
            pg_version: self.pg_version.clone(),
            postgres: PostgresVersion {
                major: server.version_num / 10_000,
                minor: server.version_num % 10_000,
            },
            system_identifier: self.system_identifier,
            target: self.goal.point(self.inclusive_goal),
            stop_at: self.stop_at.point(self.inclusive),
            action: self.action.as_str().to_owned(),
            target_timeline: self.target_timeline,
            reaches: self.reaches.clone(),
            reaches_time: self.reaches_time,
            reaches_lsn: self.reaches_lsn,
            timeline: self.timeline,
            start_lsn: self.start_lsn,
            start_segment: SegmentName::containing(self.timeline, self.start_lsn, server.wal_segment_size),
            stop_lsn: self.stop_lsn,
            stopped_at: self.stopped_at,
            reachable: self.reachable.clone(),
            wal_bytes: self.wal_bytes,
            tablespaces: self.tablespace_places(),
            warnings: self.warnings.clone(),
        }
    }

    fn tablespace_places(&self) -> Vec<TablespacePlace> {
        let spaces = self.manifest.tablespaces.iter();
        let places = spaces.filter_map(|space| {
            Some(TablespacePlace {
                oid: space.oid,
                location: space.location.clone(),
                path: self.tablespaces.get(&space.oid)?.clone(),
                bytes: space.size,
            })
        });
        places.collect()
    }

    /// The plan, as others read it.
    pub fn report(&self) -> RestorePlanReport {
        RestorePlanReport {
            course: self.course(),
            file_count: self.file_count,
            total_bytes: self.total_bytes,
            problems: self.problems.clone(),
            preflight_ok: self.problems.is_empty(),
            wal_dir: self.wal_dir.clone(),
            source_snapshot: self.source_snapshot.clone(),
        }
    }
}
