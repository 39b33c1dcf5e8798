//! The content of a timeline history file (`00000003.history`), by the rules of `readTimeLineHistory` in PostgreSQL's
//! `backend/access/transam/timeline.c`.
//!
//! Each line is `<parent timeline> <switch LSN> <reason>`: the timeline in decimal, the position in hexadecimal; empty
//! lines and lines that begin with `#` are passed over; timelines increase from line to line and stay below the file's
//! own. Beyond what PostgreSQL asks, switch positions may not go back: such a file describes no history at all.

use hardstorage_report::{Error, Lsn, Result, Timeline, code};

/// One ancestor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The timeline that was left.
    pub timeline: Timeline,
    /// Where: the first byte that belongs to the next timeline.
    pub switch: Lsn,
    /// Why, in the server's words.
    pub reason: String,
}

/// A timeline's ancestors, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryFile {
    /// The timeline that the file belongs to.
    pub timeline: Timeline,
    /// Its ancestors.
    pub entries: Vec<HistoryEntry>,
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n' | '\x0b' | '\x0c')
}

/// Splits digits off the front.
fn number(text: &str, radix: u32) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_digit(radix)).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    Some((u32::from_str_radix(digits, radix).ok()?, rest))
}

fn entry(line: &str) -> Option<HistoryEntry> {
    let (timeline, rest) = number(line, 10)?;
    let (high, rest) = number(rest.trim_start_matches(is_space), 16)?;
    let (low, rest) = number(rest.strip_prefix('/')?, 16)?;
    Some(HistoryEntry {
        timeline: Timeline(timeline),
        switch: Lsn(u64::from(high) << 32 | u64::from(low)),
        reason: rest.trim_matches(is_space).to_owned(),
    })
}

impl HistoryFile {
    /// Reads the file of this timeline.
    pub fn parse(timeline: Timeline, bytes: &[u8]) -> Result<HistoryFile> {
        let name = timeline.history_name();
        let wrong = |number: usize, problem: &str| {
            Err(Error::new(
                code::repository::OBJECT_CORRUPT,
                format!("line {} of {name}: {problem}", number + 1),
            ))
        };
        let mut entries: Vec<HistoryEntry> = Vec::new();
        for (number, line) in String::from_utf8_lossy(bytes).split('\n').enumerate() {
            let line = line.trim_start_matches(is_space);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some(entry) = entry(line) else {
                return wrong(number, "it is not a timeline and a position");
            };
            if entries.last().is_some_and(|last| entry.timeline <= last.timeline) {
                return wrong(number, "timelines must increase");
            }
            if entry.timeline >= timeline {
                return wrong(number, "an ancestor must be older than the timeline itself");
            }
            if entries.last().is_some_and(|last| entry.switch < last.switch) {
                return wrong(number, "positions must not go back");
            }
            entries.push(entry);
        }
        Ok(HistoryFile { timeline, entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn as_postgresql_writes_it() {
        let text = b"1\t0/3000158\tno recovery target specified\n\n2\t0/50000A0\tbefore 2026-11-22 08:15:00+00\n";
        let history = HistoryFile::parse(Timeline(3), text).unwrap();
        assert_eq!(history.entries.len(), 2);
        assert_eq!(history.entries[0].timeline, Timeline(1));
        assert_eq!(history.entries[0].switch, Lsn(0x300_0158));
        assert_eq!(history.entries[0].reason, "no recovery target specified");
        assert_eq!(history.entries[1].switch, Lsn(0x500_00A0));
    }

    #[test]
    fn what_postgresql_refuses_is_refused() {
        for bad in [
            "x\t0/3000158\n",
            "1\n",
            "1\t0\n",
            "1\t/1\n",
            "1\t0/\n",
            "2\t0/1\n1\t0/2\n",
            "1\t0/1\n1\t0/2\n",
            "3\t0/1\n",
            "4\t0/1\n",
            "1\t0/2\n2\t0/1\n",
            "4294967296\t0/1\n",
            "1\t123456789/1\n",
        ] {
            assert!(HistoryFile::parse(Timeline(3), bad.as_bytes()).is_err(), "{bad:?}");
        }
        let empty = HistoryFile::parse(Timeline(3), b"# nothing\n   \n").unwrap();
        assert!(empty.entries.is_empty());
    }

    proptest! {
        #[test]
        fn round_trip(
            mut steps in proptest::collection::vec((1u32..1000, any::<u32>(), "[a-z ]{0,20}"), 0..12),
            spaces in "[ \t]{0,3}",
        ) {
            steps.sort_by_key(|step| step.0);
            steps.dedup_by_key(|step| step.0);
            let mut switch = 0u64;
            let mut text = String::new();
            let mut entries = Vec::new();
            for (timeline, step, reason) in &steps {
                switch += u64::from(*step);
                let lsn = Lsn(switch);
                text.push_str(&format!("{spaces}{timeline}\t{lsn}\t{reason}\n\n"));
                entries.push(HistoryEntry {
                    timeline: Timeline(*timeline), switch: lsn, reason: reason.trim().to_owned(),
                });
            }
            let parsed = HistoryFile::parse(Timeline(1000), text.as_bytes()).unwrap();
            prop_assert_eq!(parsed.entries, entries);
        }

        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = HistoryFile::parse(Timeline(9), &bytes);
        }

        #[test]
        fn any_lines_are_answered(text in "([0-9]{1,11}[\t /]{0,2}[0-9A-F/]{0,20}.{0,5}\n){0,4}") {
            let _ = HistoryFile::parse(Timeline(9), text.as_bytes());
        }
    }
}
