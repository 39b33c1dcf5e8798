//! The names that an archiver hands over, judged strictly: whatever is stored under a wrong one is found by nobody.

use std::fmt;
use std::path::Path;

use hardstorage_report::{Error, Result, SegmentName, Timeline, code};

/// The name of a file that is archived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileName {
    /// A whole segment.
    Segment(SegmentName),
    /// `<segment>.partial`: of a segment in which a timeline ended.
    Partial(SegmentName),
    /// `<segment>.<offset>.backup`: where a backup began.
    Backup {
        /// The segment of its start.
        segment: SegmentName,
        /// Where in the segment.
        offset: u32,
    },
    /// `<timeline>.history`. The first timeline has none.
    History(Timeline),
}

/// Eight upper-case hexadecimal digits.
fn digits(text: &str) -> Option<u32> {
    let well_formed = text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b));
    well_formed.then(|| u32::from_str_radix(text, 16).ok())?
}

fn segment(text: &str) -> Option<SegmentName> {
    text.parse().ok().filter(|name: &SegmentName| name.timeline.0 > 0)
}

impl FileName {
    /// Reads the last part of a path.
    pub fn of(path: &Path) -> Result<FileName> {
        let name = path.file_name().and_then(|name| name.to_str());
        name.and_then(FileName::read).ok_or_else(|| {
            Error::new(
                code::usage::INVALID,
                format!("{} is not the name of a file that PostgreSQL archives", path.display()),
            )
            .hint("give the path of a segment, or of a .partial, .backup or .history file, as PostgreSQL's %p does")
        })
    }

    fn read(name: &str) -> Option<FileName> {
        if let Some(name) = segment(name) {
            return Some(FileName::Segment(name));
        }
        let (stem, kind) = name.rsplit_once('.')?;
        match kind {
            "partial" => segment(stem).map(FileName::Partial),
            "history" => digits(stem)
                .filter(|number| *number > 1)
                .map(|number| FileName::History(Timeline(number))),
            "backup" => {
                let (name, offset) = stem.split_once('.')?;
                Some(FileName::Backup {
                    segment: segment(name)?,
                    offset: digits(offset)?,
                })
            }
            _ => None,
        }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileName::Segment(segment) => write!(f, "{segment}"),
            FileName::Partial(segment) => write!(f, "{segment}.partial"),
            FileName::Backup { segment, offset } => write!(f, "{segment}.{offset:08X}.backup"),
            FileName::History(timeline) => f.write_str(&timeline.history_name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_postgresql_hands_over() {
        let name: SegmentName = "0000000A0000000100000003".parse().unwrap();
        for (path, expected) in [
            ("pg_wal/0000000A0000000100000003", FileName::Segment(name)),
            ("/srv/pg_wal/0000000A0000000100000003.partial", FileName::Partial(name)),
            (
                "0000000A0000000100000003.00000028.backup",
                FileName::Backup {
                    segment: name,
                    offset: 0x28,
                },
            ),
            ("./0000001F.history", FileName::History(Timeline(31))),
        ] {
            let read = FileName::of(Path::new(path)).unwrap();
            assert_eq!(read, expected, "{path}");
            assert!(path.ends_with(&read.to_string()), "{path}: {read}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for bad in [
            "",
            "/",
            "..",
            "pg_wal/",
            "0000000a0000000100000003",
            "000000000000000100000003",
            "0000000A000000010000000",
            "0000000A00000001000000030",
            "0000000A0000000100000003.",
            "0000000A0000000100000003.gz",
            "0000000A0000000100000003.ready",
            "0000000A0000000100000003.Partial",
            "0000000A0000000100000003.partial.tmp",
            "0000000A0000000100000003.28.backup",
            "0000000A0000000100000003.0000002g.backup",
            "0000000A0000000100000003.backup",
            "00000001.history",
            "00000000.history",
            "0000000a.history",
            "A.history",
            "archive_status",
            "0000000A0000000100000003\n",
            "ä000000A00000001000000",
        ] {
            let refused = FileName::of(Path::new(bad)).unwrap_err();
            assert!(refused.is(code::usage::INVALID), "{bad}: {refused}");
        }
    }

    proptest! {
        #[test]
        fn any_name_is_answered(name in "[0-9A-Fa-g.]{0,12}[a-z0-9.]{0,30}") {
            if let Some(read) = FileName::read(&name) {
                prop_assert_eq!(read.to_string(), name);
            }
        }
    }
}
