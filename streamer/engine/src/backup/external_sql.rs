//! Configuration files as the server itself reads them, by SQL.
//!
//! The connection has the parameters of the walsender's, so that host, password and TLS are configured once; to
//! `pg_hba.conf` it is one to a database, which the line for `replication` does not allow. It asks little, for a short
//! time, and of a server that may be slow: everything is bounded.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hardstorage_replication::Connection;
use hardstorage_report::{Error, Result, code};

use super::external::LIMIT;
use crate::source::Source;

/// To connect, and for each answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Included files at most.
const FILES: usize = 256;

/// Files that the settings come from: all of them, or for a role that may not see that, those that have an effect.
const SOURCES: [&str; 2] = [
    "SELECT DISTINCT sourcefile FROM pg_catalog.pg_file_settings WHERE sourcefile IS NOT NULL ORDER BY 1",
    "SELECT DISTINCT sourcefile FROM pg_catalog.pg_settings WHERE sourcefile IS NOT NULL ORDER BY 1",
];

/// Functions that read a file, and how its bytes come out of each: as they are, or through the database's encoding.
const READERS: [(&str, &str, &str); 2] = [
    ("pg_read_binary_file", "", ""),
    (
        "pg_read_file",
        "pg_catalog.convert_to(",
        ", pg_catalog.getdatabaseencoding())",
    ),
];

/// A server that answers SQL.
#[derive(Debug)]
pub(super) struct Asked(Connection);

impl Asked {
    /// Connects. Most servers refuse that to this role, which is no failure of a backup.
    pub(super) async fn open(source: &Source) -> Result<Asked> {
        let opened = tokio::time::timeout(PATIENCE, source.connect_sql()).await;
        let silent = |_| Error::new(code::replication::UNREACHABLE, format!("no answer in {PATIENCE:?}"));
        let mut connection = opened.map_err(silent)??.with_reply_timeout(PATIENCE);
        // What is no regular file can keep the server waiting for ever.
        connection
            .rows(&format!("SET statement_timeout = {}", PATIENCE.as_millis()))
            .await?;
        Ok(Asked(connection))
    }

    /// Every file that a setting comes from.
    pub(super) async fn included(&mut self) -> Result<Vec<PathBuf>> {
        let [all, effective] = SOURCES;
        let rows = match self.0.rows(all).await {
            Err(error) if error.is(code::replication::DENIED) => self.0.rows(effective).await?,
            other => other?,
        };
        let paths = rows.into_iter().filter_map(|row| row.into_iter().next().flatten());
        Ok(paths
            .take(FILES)
            .map(|path| PathBuf::from(String::from_utf8_lossy(&path).into_owned()))
            .collect())
    }

    /// The bytes of a file, and the function that gave them.
    pub(super) async fn read(&mut self, path: &Path) -> Result<(Vec<u8>, &'static str)> {
        let mut denied = None;
        for (function, before, behind) in READERS {
            let file = format!("pg_catalog.{function}({}, 0, {})", literal(path)?, LIMIT + 1);
            let query = format!("SELECT pg_catalog.encode({before}{file}{behind}, 'hex')");
            match self.0.rows(&query).await {
                Ok(rows) => {
                    let hex = rows.into_iter().next().and_then(|row| row.into_iter().next().flatten());
                    let bytes = hex.and_then(|hex| from_hex(&hex));
                    let odd = || Error::new(code::replication::PROTOCOL, format!("{function} gave no file"));
                    return match bytes.ok_or_else(odd)? {
                        bytes if bytes.len() as u64 > LIMIT => Err(Error::new(
                            code::replication::SERVER,
                            format!("it is larger than {LIMIT} bytes"),
                        )),
                        bytes => Ok((bytes, function)),
                    };
                }
                Err(error) if error.is(code::replication::DENIED) => denied = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(denied.unwrap_or_else(|| Error::new(code::replication::DENIED, "nothing reads files here")))
    }

    pub(super) async fn close(self) {
        self.0.close().await;
    }
}

/// A string constant, whatever `standard_conforming_strings` says.
fn literal(path: &Path) -> Result<String> {
    let text = std::str::from_utf8(path.as_os_str().as_bytes())
        .map_err(|error| Error::new(code::usage::INVALID, "its path is not UTF-8").source(error))?;
    Ok(format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''")))
}

fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let byte = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
        _ => None,
    };
    text.chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn a_path_cannot_leave_its_constant() {
        assert_eq!(literal(Path::new("/etc/a b")).unwrap(), "E'/etc/a b'");
        assert_eq!(literal(Path::new(r"/x\'; DROP--")).unwrap(), r"E'/x\\''; DROP--'");
    }

    #[test]
    fn hex_is_read_whole_or_not_at_all() {
        assert_eq!(from_hex(b"00ff7F").unwrap(), [0, 255, 127]);
        assert_eq!(from_hex(b"").unwrap(), [0u8; 0]);
        assert!(from_hex(b"0").is_none() && from_hex(b"0g").is_none());
    }
}
