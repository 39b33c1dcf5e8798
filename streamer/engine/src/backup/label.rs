//! `backup_label`: where recovery begins. PostgreSQL's own file, kept verbatim; read here to check that the backup is
//! the one that was asked for.

use hardstorage_report::{Error, Lsn, Result, SegmentName, Timeline, code};

/// The lines of a backup label that matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupLabel {
    /// Where replay starts.
    pub start_lsn: Lsn,
    /// The segment of the start, with the timeline in its name.
    pub start_segment: SegmentName,
    /// The checkpoint.
    pub checkpoint: Lsn,
    /// The timeline at the start.
    pub timeline: Timeline,
    /// Taken from a standby.
    pub from_standby: bool,
}

impl BackupLabel {
    /// Reads the file.
    pub fn parse(text: &str) -> Result<BackupLabel> {
        let malformed = |what: &str| {
            Error::new(
                code::replication::PROTOCOL,
                format!("backup_label is malformed: {what}"),
            )
        };
        let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let start = line("START WAL LOCATION: ").ok_or_else(|| malformed("no START WAL LOCATION"))?;
        let (lsn, file) = start
            .split_once(" (file ")
            .ok_or_else(|| malformed("no file in START WAL LOCATION"))?;
        let segment = file.strip_suffix(')').and_then(|name| name.parse().ok());
        let parse_lsn = |text: &str| {
            text.trim()
                .parse::<Lsn>()
                .map_err(|_| malformed("a position cannot be read"))
        };
        Ok(BackupLabel {
            start_lsn: parse_lsn(lsn)?,
            start_segment: segment.ok_or_else(|| malformed("the start segment's name"))?,
            checkpoint: parse_lsn(line("CHECKPOINT LOCATION: ").ok_or_else(|| malformed("no CHECKPOINT LOCATION"))?)?,
            timeline: line("START TIMELINE: ")
                .and_then(|number| number.trim().parse().ok())
                .map(Timeline)
                .ok_or_else(|| malformed("no START TIMELINE"))?,
            from_standby: line("BACKUP FROM: ").is_some_and(|from| from.trim() == "standby"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_postgresql_writes() {
        let text = "START WAL LOCATION: 0/2000028 (file 0000000A0000000000000002)\nCHECKPOINT LOCATION: 0/2000080\n\
                    BACKUP METHOD: streamed\nBACKUP FROM: primary\nSTART TIME: 2026-06-25 08:30:40 UTC\n\
                    LABEL: pg_hardstorage\nSTART TIMELINE: 10\n";
        let label = BackupLabel::parse(text).unwrap();
        assert_eq!((label.start_lsn, label.timeline), (Lsn(0x200_0028), Timeline(10)));
        assert!(!label.from_standby);
        for cut in ["", "START WAL LOCATION: 0/2000028\n", &text[..60]] {
            assert!(BackupLabel::parse(cut).is_err(), "{cut}");
        }
    }
}
