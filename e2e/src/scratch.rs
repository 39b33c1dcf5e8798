//! Where a test writes, and as whom. The directory is short (a Unix socket's path has less than 107 bytes) and belongs
//! to the user that PostgreSQL and the product run as.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use rustix::fs::{Gid, Uid, chown};
use rustix::process::geteuid;
use tempfile::TempDir;

/// How root becomes somebody else: `nobody`, by number, because the group has different names.
pub(crate) const SETPRIV: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
const NOBODY: u32 = 65534;

/// A command that runs as an unprivileged user: as `nobody` when we are root, as ourselves otherwise.
/// Its environment is empty but for a path and a locale.
pub fn unprivileged(program: impl AsRef<OsStr>) -> Command {
    let mut command = if geteuid().is_root() {
        let mut command = Command::new(SETPRIV[0]);
        command.args(&SETPRIV[1..]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC");
    command
}

/// Gives a path to the unprivileged user, when we are root.
pub(crate) fn give_away(path: &Path) {
    if geteuid().is_root() {
        chown(path, Some(Uid::from_raw(NOBODY)), Some(Gid::from_raw(NOBODY)))
            .unwrap_or_else(|error| panic!("chown {}: {error}", path.display()));
    }
}

/// A directory that goes away with the value.
#[derive(Debug)]
pub struct Scratch {
    dir: Option<TempDir>,
}

impl Scratch {
    /// A new, empty one that the unprivileged user can write to.
    pub fn new() -> Scratch {
        let dir = tempfile::Builder::new().prefix("hs.").tempdir_in("/tmp").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        give_away(dir.path());
        Scratch { dir: Some(dir) }
    }

    /// Its own path.
    pub fn root(&self) -> &Path {
        self.dir.as_ref().unwrap().path()
    }

    /// The path of something in it that need not exist.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// A directory in it, mode 0700, that belongs to the unprivileged user; made when it is missing.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        if !path.exists() {
            fs::create_dir(&path).unwrap_or_else(|error| panic!("mkdir {}: {error}", path.display()));
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
            give_away(&path);
        }
        path
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if thread::panicking() && std::env::var_os("HARDSTORAGE_KEEP").is_some() {
            // The path is in the messages of everything that ran here.
            self.dir.take().map(TempDir::keep);
        }
    }
}
