//! Restoring onto what is there: the files of this very cluster, or what a killed restore has left.
//!
//! What may be written over is proven by what lies there. A marker says which restore has left the place half filled. A
//! data directory without one has PostgreSQL's own control file with the cluster's identifier, and no server. A place
//! outside of it counts when the directory's own links lead to it. Nothing else is touched.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hardstorage_report::{BackupId, DeploymentName, Error, RecoveryPoint, SystemId, code};
use serde::{Deserialize, Serialize};

use super::directory::failed;
use super::marker::{MARKER, left, taken};
use super::place::{Place, apart, check_space, control_system_id, occupied};
use crate::recover::can_be_ended;

/// What a restore may find in its places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Onto {
    /// Nothing.
    #[default]
    Empty,
    /// What a killed restore of the same backup to the same moment has left.
    Resume,
    /// A data directory of the same cluster, or what any killed restore of that cluster has left.
    Delta,
}

/// What a marker tells of its restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// The backup.
    pub restores: BackupId,
    /// The deployment.
    pub deployment: DeploymentName,
    /// The cluster.
    pub cluster: SystemId,
    /// Its major version.
    pub postgres: u32,
    /// The data directory that the place belongs to.
    pub data: PathBuf,
    /// The moment that was asked for.
    pub target: RecoveryPoint,
}

/// What a place was found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Missing or empty.
    Free,
    /// Left by a killed restore.
    Left,
    /// Files of this cluster.
    Held,
}

/// Whether a place may be written over by the restore that `wanted` tells of. Looks, and changes nothing.
pub(super) fn standing(place: &Path, onto: Onto, wanted: &Unfinished) -> Result<Standing, Error> {
    let look = |error: io::Error| failed("look at", place, error);
    let mut entries = match fs::read_dir(place) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Standing::Free),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            let message = format!("{} is a file, not a directory", place.display());
            return Err(Error::new(code::engine::TARGET_NOT_EMPTY, message));
        }
        Err(error) => return Err(look(error)),
    };
    match entries.next().transpose().map_err(look)? {
        None => return Ok(Standing::Free),
        Some(_) if place.join(MARKER).symlink_metadata().is_ok() => {
            return may_go_on(place, onto, wanted).map(|()| Standing::Left);
        }
        Some(_) => {}
    }
    if onto == Onto::Delta && place == wanted.data {
        return is_of(place, wanted.cluster).map(|()| Standing::Held);
    }
    if onto == Onto::Delta && leads_to(&wanted.data, place) {
        return is_own(place, wanted.postgres).map(|()| Standing::Held);
    }
    let refused = Error::new(
        code::engine::TARGET_NOT_EMPTY,
        format!("{} is not empty", place.display()),
    );
    Err(if place == wanted.data {
        refused.hint(
            "no restore was interrupted there; --delta takes what is equal of a data directory of the same cluster",
        )
    } else {
        refused.hint("choose another place for it, or move away what is there")
    })
}

fn may_go_on(place: &Path, onto: Onto, wanted: &Unfinished) -> Result<(), Error> {
    let found = left(place).map_err(|error| failed("read the marker in", place, error))?;
    let Some((id, Some(found))) = found else {
        return Err(taken(place));
    };
    if !id.is_empty() {
        return Err(taken(place).hint(format!(
            "it belongs to the restore with --retry-id {id}, which begins it anew"
        )));
    }
    if found.cluster != wanted.cluster {
        return Err(foreign(place, found.cluster, wanted.cluster));
    }
    let mismatch = |what: String| Error::new(code::engine::RESUME_MISMATCH, format!("{}: {what}", place.display()));
    if place != wanted.data && found.data != wanted.data {
        return Err(mismatch(format!("it belongs to {}", found.data.display())));
    }
    if onto != Onto::Resume {
        return Ok(());
    }
    if found.restores != wanted.restores {
        let (theirs, ours) = (&found.restores, &wanted.restores);
        return Err(mismatch(format!(
            "the interrupted restore was of backup {theirs}, this one is of {ours}"
        ))
        .hint(format!(
            "name backup {theirs} to go on with it, or change to this one with --delta"
        )));
    }
    if found.target != wanted.target {
        return Err(mismatch("the interrupted restore had another target".to_owned())
            .hint("give the same target (a time as it was, not relative to now), or change it with --delta"));
    }
    Ok(())
}

fn foreign(place: &Path, found: SystemId, wanted: SystemId) -> Error {
    Error::new(
        code::engine::TARGET_FOREIGN,
        format!(
            "{} belongs to the cluster {found}, the backup to {wanted}",
            place.display()
        ),
    )
}

/// Whether a directory is a data directory of the cluster. Links in the place of its files are not followed.
fn is_of(directory: &Path, cluster: SystemId) -> Result<(), Error> {
    let is_file = |name: &str| fs::symlink_metadata(directory.join(name)).is_ok_and(|about| about.is_file());
    let is_directory = |name: &str| fs::symlink_metadata(directory.join(name)).is_ok_and(|about| about.is_dir());
    let found = if is_directory("global") && is_file("PG_VERSION") && is_file("global/pg_control") {
        control_system_id(directory).map_err(|error| failed("look at", directory, error))?
    } else {
        None
    };
    match found {
        Some(found) if found == cluster => Ok(()),
        Some(found) => Err(foreign(directory, found, cluster)),
        None => Err(Error::new(
            code::engine::TARGET_NOT_DATA,
            format!(
                "{} holds files, and is no data directory of PostgreSQL",
                directory.display()
            ),
        )),
    }
}

/// Whether nothing but the folders of one version lies in a tablespace, or nothing but WAL in `pg_wal`: clusters of several
/// versions may share the directory of a tablespace.
fn is_own(place: &Path, major: u32) -> Result<(), Error> {
    let look = |error: io::Error| failed("look at", place, error);
    let version = format!("PG_{major}_");
    for entry in fs::read_dir(place).map_err(look)? {
        let name = entry.map_err(look)?.file_name();
        let known = name.to_str().is_some_and(|name| {
            let hex = name
                .get(..8)
                .is_some_and(|start| start.bytes().all(|byte| byte.is_ascii_hexdigit()));
            name.starts_with(&version)
                || hex
                || name == "archive_status"
                || name == "summaries"
                || name.starts_with("xlogtemp")
        });
        if !known {
            let message = format!("{} is not this cluster's", place.join(&name).display());
            let refused = Error::new(code::engine::TARGET_NOT_EMPTY, message);
            return Err(refused.hint("move it away, or choose another place"));
        }
    }
    Ok(())
}

/// Whether one of the links that PostgreSQL follows out of a data directory leads to this place.
fn leads_to(data: &Path, place: &Path) -> bool {
    let Ok(place) = fs::canonicalize(place) else {
        return false;
    };
    let spaces = fs::read_dir(data.join("pg_tblspc")).into_iter().flatten().flatten();
    let mut links = spaces.map(|entry| entry.path()).chain([data.join("pg_wal")]);
    links.any(|link| {
        let is_link = fs::symlink_metadata(&link).is_ok_and(|about| about.is_symlink());
        is_link && fs::canonicalize(&link).is_ok_and(|found| found == place)
    })
}

/// Everything that stops a restore onto these places.
pub(super) fn check(
    data: &Place,
    others: &[Place],
    repository: Option<&Path>,
    onto: Onto,
    wanted: &Unfinished,
) -> Vec<Error> {
    let mut problems = apart(data, others, repository);
    let mut left_over = false;
    let mut places = Vec::new();
    for place in std::iter::once(data).chain(others) {
        let found = standing(&place.path, onto, wanted);
        let there = match found {
            Ok(Standing::Free) => 0,
            Ok(found) => {
                left_over |= found == Standing::Left && place == data;
                occupied(&place.path)
            }
            Err(error) => {
                problems.push(error);
                0
            }
        };
        places.push(Place {
            path: place.path.clone(),
            bytes: place.bytes.saturating_sub(there),
        });
    }
    // A recovery that was killed may have left its server, which is ended before anything is changed.
    let ends = left_over && can_be_ended(&data.path).unwrap_or(false);
    let pid = data.path.join("postmaster.pid");
    if pid.symlink_metadata().is_ok() && !ends {
        problems.push(Error::new(
            code::engine::TARGET_RUNNING,
            format!(
                "{} has a postmaster.pid: a server runs there, or was killed",
                data.path.display()
            ),
        ));
    }
    check_space(&places, &mut problems);
    problems
}
