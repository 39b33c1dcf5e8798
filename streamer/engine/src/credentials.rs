//! User and password from a directory with one file for each, as a scheduler mounts them.
//!
//! They are read again for each connection: a Secret may come after the process that waits for it, and is rotated
//! without a restart. A file that is not there says nothing, and the connection string stays as it is.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use hardstorage_replication::{ConnInfo, Environment, Secret};
use hardstorage_report::{Error, Result, code};

/// The directory.
#[derive(Debug, Clone)]
pub(crate) struct Credentials(PathBuf);

impl Credentials {
    pub(crate) fn new(directory: PathBuf) -> Credentials {
        Credentials(directory)
    }

    /// The connection string with what the files say now.
    pub(crate) fn applied(&self, conninfo: &ConnInfo, environment: &Environment) -> Result<ConnInfo> {
        let mut conninfo = conninfo.clone();
        if let Some(user) = read(&self.0, "username")? {
            conninfo = conninfo.with("user", &user)?;
        }
        if conninfo.get("user").is_none_or(str::is_empty) && !environment.has_user() {
            // No usage error: the file may come.
            return Err(Error::new(
                code::replication::AUTH,
                format!(
                    "no user is named, and {} is not there",
                    self.0.join("username").display()
                ),
            ));
        }
        if let Some(password) = read(&self.0, "password")? {
            conninfo = conninfo.with_password(Secret::new(password));
        }
        Ok(conninfo)
    }
}

fn read(directory: &Path, name: &str) -> Result<Option<String>> {
    let path = directory.join(name);
    match std::fs::read_to_string(&path) {
        // Editors and `echo` leave a line feed that no password has.
        Ok(text) => Ok(Some(text.trim_end_matches(['\n', '\r']).to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::new(code::cli::IO, format!("read {}", path.display())).source(error)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn what_comes_late_or_changes_is_read_the_next_time() {
        let directory = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        let nobody = Environment::empty();
        let credentials = Credentials::new(directory.path().to_owned());
        let conninfo = ConnInfo::parse("host=db1").unwrap();
        let now = || credentials.applied(&conninfo, &nobody);
        let early = now().unwrap_err();
        assert!(early.is(code::replication::AUTH), "{early:?}");
        assert!(early.to_string().contains("username"), "{early}");
        put("username", "backup\n");
        let named = now().unwrap();
        assert_eq!((named.get("user"), named.has_password()), (Some("backup"), false));
        put("password", "one\n");
        let first = now().unwrap().take_password().unwrap();
        put("password", "two");
        let second = now().unwrap().take_password().unwrap();
        assert_eq!((first.expose(), second.expose()), (&b"one"[..], &b"two"[..]));
        // Who is known otherwise needs no file.
        std::fs::remove_file(directory.path().join("username")).unwrap();
        let named = ConnInfo::parse("host=db1 user=own").unwrap();
        assert_eq!(credentials.applied(&named, &nobody).unwrap().get("user"), Some("own"));
        let local = Environment::empty().with_os_user("postgres");
        assert_eq!(credentials.applied(&conninfo, &local).unwrap().get("user"), None);
    }
}
