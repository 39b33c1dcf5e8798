//! Where a restore may write: the guards in front of the first byte.
//!
//! All of them run for the preview too, and all problems are told at once. Nothing here changes anything.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use hardstorage_report::{ByteSize, Error, SystemId, code};

use super::marker::{MARKER, Whose, taken, whose};
use crate::recover::can_be_ended;

/// A place for a data directory or a tablespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Absolute, with every existing link resolved.
    pub path: PathBuf,
    /// Bytes that will be written there.
    pub bytes: u64,
}

/// Who will own the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Resolves a path that need not exist: the existing part through the file system, the rest as written.
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    let mut missing = Vec::new();
    let mut existing = absolute.as_path();
    loop {
        match existing.canonicalize() {
            Ok(found) => return Ok(missing.iter().rev().fold(found, |path, part| path.join(part))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (Some(parent), Some(name)) = (existing.parent(), existing.components().next_back()) else {
                    return Ok(absolute);
                };
                if let Component::Normal(name) = name {
                    missing.push(name.to_owned());
                }
                existing = parent;
            }
            Err(error) => return Err(error),
        }
    }
}

/// The first existing directory at or above a path.
fn existing_ancestor(path: &Path) -> &Path {
    path.ancestors()
        .find(|candidate| candidate.exists())
        .unwrap_or(Path::new("/"))
}

/// The system identifier in a data directory's control file; `None` when it has none.
pub fn control_system_id(directory: &Path) -> io::Result<Option<SystemId>> {
    let mut file = match fs::File::open(directory.join("global/pg_control")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut first = [0u8; 8];
    match file.read_exact(&mut first) {
        Ok(()) => Ok(Some(SystemId(u64::from_ne_bytes(first)))),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Everything that stops a restore into these places. With the id of a restore that is tried again, what its earlier
/// process has left is no problem, and its space counts as free.
pub fn check(
    data: &Place,
    tablespaces: &[Place],
    repository: Option<&Path>,
    cluster: SystemId,
    retry_id: Option<&str>,
) -> Vec<Error> {
    let mut problems = apart(data, tablespaces, repository);
    let ours = |path: &Path| match whose(path, retry_id) {
        Ok(Whose::Ours) => true,
        Ok(_) | Err(_) => false,
    };
    if matches!(whose(&data.path, retry_id), Ok(Whose::Done(_))) {
        // Nothing is written any more.
        return problems;
    }
    check_directory(&data.path, Some(cluster), ours(&data.path), &mut problems);
    for place in tablespaces {
        check_directory(&place.path, None, ours(&place.path), &mut problems);
    }
    let places = std::iter::once(data).chain(tablespaces).map(|place| Place {
        path: place.path.clone(),
        bytes: place
            .bytes
            .saturating_sub(if ours(&place.path) { occupied(&place.path) } else { 0 }),
    });
    check_space(&places.collect::<Vec<_>>(), &mut problems);
    problems
}

/// What is wrong with the places' paths: none may lie in another, nor in the repository.
pub(super) fn apart(data: &Place, tablespaces: &[Place], repository: Option<&Path>) -> Vec<Error> {
    let mut problems = Vec::new();
    if let Some(repository) = repository {
        for place in std::iter::once(data).chain(tablespaces) {
            if place.path.starts_with(repository) || repository.starts_with(&place.path) {
                problems.push(Error::new(
                    code::engine::TARGET_IN_REPO,
                    format!(
                        "{} and the repository {} lie inside each other",
                        place.path.display(),
                        repository.display()
                    ),
                ));
            }
        }
    }
    for (index, place) in tablespaces.iter().enumerate() {
        let others = std::iter::once(data).chain(tablespaces[..index].iter());
        if let Some(other) = others
            .into_iter()
            .find(|other| other.path == place.path || place.path.starts_with(&other.path))
        {
            problems.push(
                Error::new(
                    code::usage::INVALID,
                    format!("{} lies inside {}", place.path.display(), other.path.display()),
                )
                .hint("give each a directory of its own with --tablespace-mapping OLD=NEW, and pg_wal with --wal-dir"),
            );
        }
    }
    problems
}

/// Bytes on disk below a directory. What cannot be read counts as nothing: the answer only makes room look smaller.
pub(super) fn occupied(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => occupied(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

/// `ours`: it is emptied first, by the restore that has filled it.
fn check_directory(path: &Path, cluster: Option<SystemId>, ours: bool, problems: &mut Vec<Error>) {
    let io_problem = |error: io::Error| Error::new(code::cli::IO, format!("look at {}", path.display())).source(error);
    let mut entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            let message = format!("{} is a file, not a directory", path.display());
            return problems.push(Error::new(code::engine::TARGET_NOT_EMPTY, message));
        }
        Err(error) => return problems.push(io_problem(error)),
    };
    // A recovery that was killed may have left its server, which is ended before anything is removed.
    let ends = || can_be_ended(path).unwrap_or(false);
    if path.join("postmaster.pid").exists() && !(ours && ends()) {
        problems.push(Error::new(
            code::engine::TARGET_RUNNING,
            format!(
                "{} has a postmaster.pid: a server runs there, or was killed",
                path.display()
            ),
        ));
    }
    if ours {
        return;
    }
    if let Some(cluster) = cluster {
        match control_system_id(path) {
            Ok(Some(found)) if found != cluster => problems.push(Error::new(
                code::engine::TARGET_FOREIGN,
                format!(
                    "{} belongs to the cluster {found}, the backup to {cluster}",
                    path.display()
                ),
            )),
            Ok(_) => {}
            Err(error) => problems.push(io_problem(error)),
        }
    }
    match entries.next() {
        None => {}
        Some(Ok(_)) if path.join(MARKER).exists() => problems.push(taken(path)),
        Some(Ok(_)) => problems.push(Error::new(
            code::engine::TARGET_NOT_EMPTY,
            format!("{} is not empty", path.display()),
        )),
        Some(Err(error)) => problems.push(io_problem(error)),
    }
}

/// Adds up what goes to each file system: two directories of one volume share its space.
pub(super) fn check_space(places: &[Place], problems: &mut Vec<Error>) {
    let mut volumes: Vec<(u64, &Path, u64)> = Vec::new();
    for place in places {
        let at = existing_ancestor(&place.path);
        let device = match fs::metadata(at) {
            Ok(metadata) => metadata.dev(),
            Err(error) => {
                problems.push(Error::new(code::cli::IO, format!("look at {}", at.display())).source(error));
                continue;
            }
        };
        match volumes.iter_mut().find(|(known, ..)| *known == device) {
            Some((_, _, bytes)) => *bytes += place.bytes,
            None => volumes.push((device, at, place.bytes)),
        }
    }
    for (_, at, bytes) in volumes {
        match rustix::fs::statvfs(at) {
            Ok(space) => {
                let free = space.f_bavail.saturating_mul(space.f_frsize);
                if free < bytes {
                    problems.push(Error::new(
                        code::engine::TARGET_SPACE,
                        format!(
                            "{} has {} free, the restore needs {}",
                            at.display(),
                            ByteSize(free),
                            ByteSize(bytes)
                        ),
                    ));
                }
            }
            Err(error) => {
                problems
                    .push(Error::new(code::cli::IO, format!("ask for the space at {}", at.display())).source(error));
            }
        }
    }
}

/// Who shall own what is restored: the named owner, else, for root, the owner of the target's parent, else nobody
/// need be told. Root as the answer is refused: PostgreSQL does not start from files of root.
pub fn owner(target: &Path, named: Option<Owner>, running_as_root: bool) -> Result<Option<Owner>, Error> {
    if let Some(owner) = named {
        return Ok(Some(owner));
    }
    if !running_as_root {
        return Ok(None);
    }
    let from = if target.exists() {
        target
    } else {
        existing_ancestor(target)
    };
    let metadata = fs::metadata(from)
        .map_err(|error| Error::new(code::cli::IO, format!("look at {}", from.display())).source(error))?;
    if metadata.uid() == 0 {
        return Err(Error::new(
            code::engine::TARGET_OWNER,
            format!(
                "{} belongs to root, and PostgreSQL does not start from files of root",
                from.display()
            ),
        ));
    }
    Ok(Some(Owner {
        uid: metadata.uid(),
        gid: metadata.gid(),
    }))
}

/// Reads `--owner`: `user`, `user:group`, or numbers. Names come from `/etc/passwd` and `/etc/group`.
pub fn parse_owner(text: &str, passwd: &str, group: &str) -> Result<Owner, Error> {
    let unknown = |what: &str, name: &str| {
        Error::new(
            code::usage::INVALID,
            format!("--owner: there is no {what} {name:?} on this machine"),
        )
    };
    let find = |table: &str, name: &str| -> Option<(u32, Option<u32>)> {
        let fields: Vec<&str> = table
            .lines()
            .find(|line| line.split(':').next() == Some(name))?
            .split(':')
            .collect();
        Some((
            fields.get(2)?.parse().ok()?,
            fields.get(3).and_then(|gid| gid.parse().ok()),
        ))
    };
    let (user, group_name) = text
        .split_once(':')
        .map_or((text, None), |(user, group)| (user, Some(group)));
    let (uid, primary) = match user.parse::<u32>() {
        Ok(uid) => (uid, None),
        Err(_) => find(passwd, user).ok_or_else(|| unknown("user", user))?,
    };
    let gid = match group_name {
        Some(name) => match name.parse::<u32>() {
            Ok(gid) => gid,
            Err(_) => find(group, name).ok_or_else(|| unknown("group", name))?.0,
        },
        None => primary.unwrap_or(uid),
    };
    Ok(Owner { uid, gid })
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
