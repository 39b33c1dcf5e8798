//! The text of replication commands, in the grammar of PostgreSQL 15 and later (`repl_gram.y`).
//!
//! The replication grammar has its own quoting: strings and identifiers double their quote and know no escape.

use std::fmt::Write as _;

use hardstorage_report::{Error, Lsn, Result, Timeline, code};

use crate::BaseBackupOptions;
use crate::base_backup::Checkpoint;

/// A name that the server will take as it is, whatever characters it has.
fn identifier(name: &str) -> Result<String> {
    no_nul(name)?;
    Ok(format!("\"{}\"", name.replace('"', "\"\"")))
}

fn string(text: &str) -> Result<String> {
    no_nul(text)?;
    Ok(format!("'{}'", text.replace('\'', "''")))
}

fn no_nul(text: &str) -> Result<()> {
    if text.is_empty() || text.contains('\0') {
        let message = format!("{text:?} cannot be sent to PostgreSQL: it is empty or holds a zero byte");
        return Err(Error::new(code::usage::INVALID, message));
    }
    Ok(())
}

pub(crate) fn show(setting: &str) -> Result<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    if setting.is_empty() || !setting.chars().all(plain) {
        return Err(Error::new(
            code::usage::INVALID,
            format!("{setting:?} is not the name of a setting"),
        ));
    }
    Ok(format!("SHOW {setting}"))
}

pub(crate) fn timeline_history(timeline: Timeline) -> String {
    format!("TIMELINE_HISTORY {timeline}")
}

pub(crate) fn read_slot(name: &str) -> Result<String> {
    Ok(format!("READ_REPLICATION_SLOT {}", identifier(name)?))
}

pub(crate) fn create_slot(name: &str, temporary: bool, reserve_wal: bool) -> Result<String> {
    let temporary = if temporary { " TEMPORARY" } else { "" };
    let reserve = if reserve_wal { " (RESERVE_WAL)" } else { "" };
    Ok(format!(
        "CREATE_REPLICATION_SLOT {}{temporary} PHYSICAL{reserve}",
        identifier(name)?
    ))
}

pub(crate) fn drop_slot(name: &str, wait: bool) -> Result<String> {
    let wait = if wait { " WAIT" } else { "" };
    Ok(format!("DROP_REPLICATION_SLOT {}{wait}", identifier(name)?))
}

pub(crate) fn start_replication(slot: Option<&str>, lsn: Lsn, timeline: Timeline) -> Result<String> {
    let slot = match slot {
        Some(name) => format!("SLOT {} ", identifier(name)?),
        None => String::new(),
    };
    Ok(format!("START_REPLICATION {slot}PHYSICAL {lsn} TIMELINE {timeline}"))
}

pub(crate) fn base_backup(options: &BaseBackupOptions) -> Result<String> {
    let checkpoint = match options.checkpoint {
        Checkpoint::Fast => "fast",
        Checkpoint::Spread => "spread",
    };
    let mut command = format!(
        "BASE_BACKUP (LABEL {}, CHECKPOINT '{checkpoint}', PROGRESS {}, WAL false, WAIT false, \
         MANIFEST 'yes', MANIFEST_CHECKSUMS 'CRC32C', VERIFY_CHECKSUMS {}, TABLESPACE_MAP {}",
        string(&options.label)?,
        options.progress,
        options.verify_checksums,
        options.tablespace_map,
    );
    if let Some(rate) = options.max_rate_kib {
        // The server's own limits; it would name neither in a way that a person can act on.
        if !(32..=1_048_576).contains(&rate) {
            let message = format!("a rate of {rate} KiB/s: PostgreSQL accepts 32 KiB/s to 1 GiB/s");
            return Err(Error::new(code::usage::INVALID, message));
        }
        // Writing to a String cannot fail.
        let _ = write!(command, ", MAX_RATE {rate}");
    }
    command.push(')');
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_doubles_and_escapes_nothing() {
        assert_eq!(read_slot("a\"b\\").unwrap(), "READ_REPLICATION_SLOT \"a\"\"b\\\"");
        assert_eq!(string("it's \\n").unwrap(), "'it''s \\n'");
        assert!(string("a\0b").is_err());
        assert!(read_slot("").is_err());
        for bad in ["", "a b", "a;b", "\"a\"", "a\0"] {
            assert!(show(bad).unwrap_err().is(code::usage::INVALID), "{bad:?}");
        }
    }

    #[test]
    fn the_commands_as_the_server_reads_them() {
        assert_eq!(
            create_slot("db1", true, true).unwrap(),
            "CREATE_REPLICATION_SLOT \"db1\" TEMPORARY PHYSICAL (RESERVE_WAL)"
        );
        assert_eq!(
            create_slot("db1", false, false).unwrap(),
            "CREATE_REPLICATION_SLOT \"db1\" PHYSICAL"
        );
        assert_eq!(drop_slot("db1", true).unwrap(), "DROP_REPLICATION_SLOT \"db1\" WAIT");
        assert_eq!(
            start_replication(Some("db1"), Lsn(0x1_0300_0000), Timeline(10)).unwrap(),
            "START_REPLICATION SLOT \"db1\" PHYSICAL 1/3000000 TIMELINE 10"
        );
        assert_eq!(
            start_replication(None, Lsn(0x300_0000), Timeline(1)).unwrap(),
            "START_REPLICATION PHYSICAL 0/3000000 TIMELINE 1"
        );
    }

    #[test]
    fn a_base_backup_never_asks_for_wal_and_always_for_a_manifest() {
        let mut options = BaseBackupOptions::new("nightly 'one'");
        assert_eq!(
            base_backup(&options).unwrap(),
            "BASE_BACKUP (LABEL 'nightly ''one''', CHECKPOINT 'fast', PROGRESS true, WAL false, WAIT false, \
             MANIFEST 'yes', MANIFEST_CHECKSUMS 'CRC32C', VERIFY_CHECKSUMS true, TABLESPACE_MAP true)"
        );
        options.max_rate_kib = Some(1024);
        options.checkpoint = Checkpoint::Spread;
        let command = base_backup(&options).unwrap();
        assert!(
            command.contains("CHECKPOINT 'spread'") && command.ends_with(", MAX_RATE 1024)"),
            "{command}"
        );
        for bad in [0, 31, 1_048_577] {
            options.max_rate_kib = Some(bad);
            assert!(base_backup(&options).unwrap_err().is(code::usage::INVALID), "{bad}");
        }
    }
}
