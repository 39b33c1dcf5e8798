//! The directory of a server over a copy: its socket, its settings and its log lie there, and only its user can enter.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use hardstorage_report::{Error, Result, code};

use super::failed;
use crate::restore::Owner;

/// Begins the name of the private directory, and so tells our servers from others.
pub(crate) const PRIVATE: &str = "pg_hardstorage-recover-";

/// The longest path of a directory that leaves room for the name of a Unix socket in it.
pub(crate) const LONGEST: usize = 85;

/// A directory that only the server's user can enter; removed with the value.
pub(crate) fn private(owner: Option<Owner>) -> Result<tempfile::TempDir> {
    let parent = std::env::temp_dir();
    let made = tempfile::Builder::new().prefix(PRIVATE).tempdir_in(&parent);
    let made = made.map_err(failed("make a directory in", &parent))?;
    let path = made.path();
    if path.as_os_str().len() > LONGEST {
        let what = format!("{} is too long for a Unix socket in it", path.display());
        return Err(Error::new(code::usage::INVALID, what).hint("set TMPDIR to a shorter directory"));
    }
    let own = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700));
    own.map_err(failed("set the mode of", path))?;
    if let Some(owner) = owner {
        let given = std::os::unix::fs::chown(path, Some(owner.uid), Some(owner.gid));
        given.map_err(failed("give away", path))?;
    }
    Ok(made)
}

/// Whose the server over a directory is that is there already: its owner's when we are root, else ours.
pub(crate) fn owner_of(data: &Path) -> Result<Option<Owner>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let about = data.metadata().map_err(failed("look at", data))?;
    Ok(Some(Owner {
        uid: about.uid(),
        gid: about.gid(),
    }))
}
