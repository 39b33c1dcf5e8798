//! What the recovering server says of itself in its log. Its own configuration makes it speak English, in UTC.

use hardstorage_report::Lsn;
use jiff::Timestamp;

/// PostgreSQL's only word for a recovery that did not arrive; the code of this error is that of every wrong setting.
const NOT_REACHED: &str = "recovery ended before configured recovery target was reached";

/// What stands behind the last occurrence of a phrase, up to the end of its line.
fn behind<'a>(log: &'a str, phrase: &str) -> Option<&'a str> {
    let (_, rest) = log.rsplit_once(phrase)?;
    rest.lines().next()
}

/// How far replay is, by the last line that tells.
pub(super) fn replayed(log: &str) -> Option<Lsn> {
    let rest = behind(log, ", current LSN: ")?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Whether replay has ended and the promotion has begun.
pub(super) fn is_promoting(log: &str) -> bool {
    log.contains("selected new timeline ID")
}

/// When the last transaction ended that was replayed.
pub(super) fn last_transaction(log: &str) -> Option<Timestamp> {
    let rest = behind(log, "last completed transaction was at log time ")?;
    let time = rest.trim().strip_suffix("+00")?.replacen(' ', "T", 1);
    format!("{time}Z").parse().ok()
}

/// Whether the server gave up because its target did not come.
pub(super) fn has_missed_its_target(log: &str) -> bool {
    log.contains(NOT_REACHED)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-11-22 08:15:00.100 UTC [7] LOG:  redo in progress, elapsed time: 2.00 s, current LSN: 0/5000060\n\
        2026-11-22 08:15:02.100 UTC [7] LOG:  redo in progress, elapsed time: 4.00 s, current LSN: 1/A0\n\
        2026-11-22 08:15:02.200 UTC [7] LOG:  redo done at 1/B0 system usage: CPU: user: 0.00 s\n\
        2026-11-22 08:15:02.200 UTC [7] LOG:  last completed transaction was at log time 2026-11-22 08:14:59.25+00\n\
        2026-11-22 08:15:02.300 UTC [7] LOG:  selected new timeline ID: 2\n";

    #[test]
    fn the_log_of_a_recovery() {
        assert_eq!(replayed(LOG), Some(Lsn(0x1_0000_00A0)));
        assert_eq!(last_transaction(LOG), "2026-11-22T08:14:59.25Z".parse().ok());
        assert!(is_promoting(LOG) && !has_missed_its_target(LOG));
        let early = LOG.lines().next().unwrap_or_default();
        assert!(!is_promoting(early) && last_transaction(early).is_none());
        assert_eq!(replayed("database system was shut down"), None);
        let missed = "FATAL:  recovery ended before configured recovery target was reached\n";
        assert!(has_missed_its_target(missed));
    }
}
