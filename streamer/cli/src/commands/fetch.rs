//! `wal fetch`, the restore_command: 0 found, 1 proven absent, 126 for everything else.
//!
//! PostgreSQL takes any exit code from 1 to 125 for the end of the archive: it then promotes and drops what follows.
//! So a usage error, a panic, a closed pipe and a broken repository must all end above 125.

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// What PostgreSQL takes for a failure of the command, not for an answer.
pub(crate) const FAILED: u8 = 126;

/// Whether these words are a `wal fetch`, however malformed the rest of them is.
pub(crate) fn is_meant(arguments: &[OsString]) -> bool {
    let words: Vec<&str> = arguments.iter().skip(1).filter_map(|word| word.to_str()).collect();
    let wal = words.iter().position(|word| *word == "wal");
    wal.is_some_and(|at| words[at + 1..].contains(&"fetch"))
}

/// Runs the command so that only its own two answers leave it as 0 and 1.
pub(crate) fn guarded(run: impl FnOnce() -> u8) -> ExitCode {
    ExitCode::from(match catch_unwind(AssertUnwindSafe(run)) {
        Ok(code @ (0 | 1)) => code,
        Ok(_) | Err(_) => FAILED,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[&str]) -> Vec<OsString> {
        line.iter().map(OsString::from).collect()
    }

    #[test]
    fn every_way_of_writing_it_is_seen() {
        for line in [
            &["x", "wal", "fetch", "db1", "f", "p"][..],
            &["x", "-o", "json", "wal", "fetch"],
            &["x", "wal", "--keyring", "k", "fetch"],
        ] {
            assert!(is_meant(&words(line)), "{line:?}");
        }
        assert!(!is_meant(&words(&["x", "wal", "list", "db1"])));
        assert!(!is_meant(&words(&["x", "fetch", "wal"])));
    }

    #[test]
    fn a_panic_is_no_answer() {
        assert_eq!(guarded(|| 0), ExitCode::from(0));
        assert_eq!(guarded(|| 1), ExitCode::from(1));
        assert_eq!(guarded(|| 2), ExitCode::from(FAILED));
        assert_eq!(guarded(|| panic!("on purpose")), ExitCode::from(FAILED));
    }
}
