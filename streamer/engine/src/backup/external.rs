//! Configuration that lies outside the data directory, as Debian's does: BASE_BACKUP does not send it.
//!
//! Where it lies is asked over the replication connection; a role without `pg_read_all_settings` may not see it, and
//! then the backup says so. It is read from disk only when the server is this machine and the data directory there is
//! that of the cluster being backed up.

use std::path::{Path, PathBuf};

use hardstorage_replication::Connection;
use hardstorage_report::{Result, SystemId, code};
use hardstorage_repository::ExternalFile;

use crate::restore::control_system_id;

/// Settings that name configuration files.
const FILES: [&str; 3] = ["config_file", "hba_file", "ident_file"];
/// A configuration file is small; what is larger is something else.
const LIMIT: u64 = 16 << 20;

/// What was found.
#[derive(Debug, Default)]
pub struct External {
    /// Each file outside, with its bytes when they could be read.
    pub files: Vec<(ExternalFile, Option<Vec<u8>>)>,
    /// Why nothing is known.
    pub unknown: Option<String>,
}

/// Looks for configuration outside of the data directory.
pub async fn find(connection: &mut Connection, local: bool, system_id: SystemId) -> Result<External> {
    let show = async |connection: &mut Connection, name: &str| match connection.show(name).await {
        Ok(path) => Ok(Some(PathBuf::from(path))),
        Err(error) if error.is(code::replication::DENIED) => Ok(None),
        Err(error) => Err(error),
    };
    let Some(data) = show(connection, "data_directory").await? else {
        return Ok(External {
            files: Vec::new(),
            unknown: Some("where the configuration lies is not visible to this role".to_owned()),
        });
    };
    // A path that a server elsewhere names means nothing on this machine, even when something lies there.
    let ours = local && matches!(control_system_id(&data), Ok(Some(found)) if found == system_id);
    let mut external = External::default();
    for name in FILES {
        let Some(path) = show(connection, name).await? else {
            continue;
        };
        // A link in the data directory is a file outside of it: PostgreSQL sends neither the link nor what it points to.
        let link = || ours && std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink());
        if path.as_os_str().is_empty() || path.starts_with(&data) && !link() {
            continue;
        }
        let (content, note) = if ours {
            read(&path)
        } else {
            (None, Some("the server is not on this machine".to_owned()))
        };
        let attachment = content.is_some().then(|| format!("external/{name}"));
        let file = ExternalFile {
            path: path.to_string_lossy().into_owned(),
            attachment,
            note,
        };
        external.files.push((file, content));
    }
    Ok(external)
}

fn read(path: &Path) -> (Option<Vec<u8>>, Option<String>) {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.len() > LIMIT => (None, Some(format!("it is larger than {LIMIT} bytes"))),
        Ok(_) => match std::fs::read(path) {
            Ok(bytes) => (Some(bytes), None),
            Err(error) => (None, Some(error.to_string())),
        },
        Err(error) => (None, Some(error.to_string())),
    }
}
