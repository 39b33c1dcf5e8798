//! Configuration that lies outside the data directory, as Debian's does: BASE_BACKUP does not send it.
//!
//! Where it lies is asked over the replication connection; a role without `pg_read_all_settings` may not see it, and
//! then the backup says so. What it holds is asked of the server by SQL, where `pg_hba.conf` and the role's rights allow
//! that; else it is read from disk, but only when the server is this machine and the data directory there is that of the
//! cluster being backed up. Nothing here ever fails a backup: what is not seen is told, with what would show it.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use hardstorage_replication::Connection;
use hardstorage_report::{Error, Result, SystemId, code};
use hardstorage_repository::ExternalFile;

use super::external_sql::Asked;
use crate::restore::control_system_id;
use crate::source::Source;

/// Settings that name configuration files.
const FILES: [&str; 3] = ["config_file", "hba_file", "ident_file"];
/// A configuration file is small; what is larger is something else.
pub(super) const LIMIT: u64 = 16 << 20;
/// All of them together.
const TOTAL: u64 = 64 << 20;

/// What was found.
#[derive(Debug, Default)]
pub struct External {
    /// Each file outside, with its bytes when they could be read.
    pub files: Vec<(ExternalFile, Option<Vec<u8>>)>,
    /// What this role may not see.
    pub unseen: Vec<Unseen>,
}

/// Something that this role may not see, and what would show it.
#[derive(Debug)]
pub struct Unseen {
    /// What.
    pub message: String,
    /// The GRANT and the line of `pg_hba.conf`.
    pub hint: String,
}

/// A file, and the end of its name among the attachments.
struct Wanted {
    path: PathBuf,
    name: String,
}

/// Looks for configuration outside of the data directory.
pub async fn find(connection: &mut Connection, source: &Source, system_id: SystemId) -> Result<External> {
    let user = source.user().unwrap_or_else(|| "ROLE".to_owned());
    let line = format!(
        "`host {} {user} ADDRESS scram-sha-256` in pg_hba.conf",
        source.sql_database()?
    );
    let mut external = External::default();
    let Some(data) = show(connection, "data_directory").await? else {
        external.unseen.push(Unseen {
            message: "where the configuration lies is not visible to this role".to_owned(),
            hint: format!(
                "GRANT pg_read_all_settings TO {user} shows where; {} and {line} show it all",
                grants(&user)
            ),
        });
        return Ok(external);
    };
    // A path that a server elsewhere names means nothing on this machine, even when something lies there.
    let ours = source.is_local() && matches!(control_system_id(&data), Ok(Some(found)) if found == system_id);
    // A link in the data directory is a file outside of it: PostgreSQL sends neither the link nor what it points to.
    let link = |path: &Path| ours && std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
    let outside = |path: &Path| path.is_absolute() && (!path.starts_with(&data) || link(path));
    let mut wanted: Vec<Wanted> = Vec::new();
    for setting in FILES {
        if let Some(path) = show(connection, setting).await?.filter(|path| outside(path)) {
            wanted.push(Wanted {
                path,
                name: setting.to_owned(),
            });
        }
    }
    let mut server = match Asked::open(source).await {
        Ok(server) => Some(server),
        Err(error) => {
            external.unseen.push(unseen(&error, &user, &line));
            None
        }
    };
    if let Some(asked) = &mut server {
        match asked.included().await {
            Ok(included) => {
                let known: Vec<PathBuf> = wanted.iter().map(|file| file.path.clone()).collect();
                let more = included
                    .into_iter()
                    .filter(|path| outside(path) && !known.contains(path));
                wanted.extend((0..).zip(more).map(|(number, path): (u32, _)| Wanted {
                    path,
                    name: format!("included/{number:03}"),
                }));
            }
            Err(error) => external.unseen.push(unseen(&error, &user, &line)),
        }
    }
    let mut total = 0;
    for Wanted { path, name } in wanted {
        let (content, note) = read(&path, server.as_mut(), ours, &user).await;
        let content = content.filter(|bytes| {
            total += bytes.len() as u64;
            total <= TOTAL
        });
        let note = if content.is_none() && total > TOTAL {
            format!("with it, more than {TOTAL} bytes of configuration would be kept")
        } else {
            note
        };
        let file = ExternalFile {
            path: path.to_string_lossy().into_owned(),
            attachment: content.is_some().then(|| format!("external/{name}")),
            note: Some(note),
        };
        external.files.push((file, content));
    }
    if let Some(server) = server {
        server.close().await;
    }
    Ok(external)
}

async fn show(connection: &mut Connection, name: &str) -> Result<Option<PathBuf>> {
    match connection.show(name).await {
        Ok(path) => Ok(Some(PathBuf::from(path))),
        Err(error) if error.is(code::replication::DENIED) => Ok(None),
        Err(error) => Err(error),
    }
}

fn grants(user: &str) -> String {
    format!(
        "GRANT pg_read_all_settings, pg_read_server_files TO {user}, GRANT EXECUTE ON FUNCTION \
         pg_read_binary_file(text, bigint, bigint) TO {user}"
    )
}

fn unseen(error: &Error, user: &str, line: &str) -> Unseen {
    Unseen {
        message: format!("included configuration is not visible to this role by SQL: {error}"),
        hint: format!("{} and {line} show it", grants(user)),
    }
}

/// The bytes of a file, and how they were had or why not.
async fn read(path: &Path, server: Option<&mut Asked>, ours: bool, user: &str) -> (Option<Vec<u8>>, String) {
    let mut why = Vec::new();
    if let Some(server) = server {
        match server.read(path).await {
            Ok((bytes, function)) => return (Some(bytes), format!("read by the server ({function})")),
            Err(error) if error.is(code::replication::DENIED) => {
                why.push(format!("the role may not read it: {}", grants(user)));
            }
            Err(error) => why.push(error.to_string()),
        }
    }
    if ours {
        match from_disk(path) {
            Ok(bytes) => return (Some(bytes), "read from this machine's disk".to_owned()),
            Err(reason) => why.push(reason),
        }
    } else {
        why.push("the server is not on this machine".to_owned());
    }
    (None, why.join("; "))
}

fn from_disk(path: &Path) -> Result<Vec<u8>, String> {
    // Whatever else has a name may never end, or not even begin.
    if !std::fs::metadata(path).map_err(|error| error.to_string())?.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > LIMIT {
        return Err(format!("it is larger than {LIMIT} bytes"));
    }
    Ok(bytes)
}
