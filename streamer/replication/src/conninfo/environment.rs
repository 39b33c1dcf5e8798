//! What libpq takes from the process: `PG*` variables, the home directory and the operating system's user.
//!
//! It is a value, so that reading a connection string is pure: tests and programs that clear their environment build
//! their own.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::keyword::KEYWORDS;
use super::secret::Secret;

/// The environment of a connection.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<&'static str, Secret>,
    home: Option<PathBuf>,
    os_user: Option<String>,
}

impl Environment {
    /// An environment that says nothing: no variables, no home directory, no user.
    pub fn empty() -> Environment {
        Environment::default()
    }

    /// Asks `lookup` for every `PG*` variable that libpq knows, and for `HOME`. A variable set to the empty string
    /// counts as set, as in libpq.
    pub fn new(lookup: impl Fn(&str) -> Option<String>) -> Environment {
        let variables = KEYWORDS
            .iter()
            .filter_map(|keyword| keyword.variable)
            .filter_map(|variable| lookup(variable).map(|value| (variable, Secret::new(value))))
            .collect();
        Environment {
            variables,
            home: lookup("HOME").filter(|home| !home.is_empty()).map(PathBuf::from),
            os_user: None,
        }
    }

    /// The environment of this process, with its effective user. The user's name and, where `HOME` is not set, the home
    /// directory come from `/etc/passwd`; a user that is not there (a directory service) from `LOGNAME` or `USER`.
    pub fn of_process() -> Environment {
        let lookup = |name: &str| std::env::var(name).ok();
        let mut environment = Environment::new(lookup);
        let uid = rustix::process::geteuid().as_raw();
        let entry = std::fs::read("/etc/passwd")
            .ok()
            .and_then(|passwd| passwd_entry(&String::from_utf8_lossy(&passwd), uid));
        let named = || {
            lookup("LOGNAME")
                .or_else(|| lookup("USER"))
                .filter(|name| !name.is_empty())
        };
        let (user, home) = entry.map_or((None, None), |(user, home)| (Some(user), Some(home)));
        environment.os_user = user.or_else(named);
        environment.home = environment.home.or(home);
        environment
    }

    /// Sets the operating system's user: the default of `user`.
    #[must_use]
    pub fn with_os_user(mut self, user: impl Into<String>) -> Environment {
        self.os_user = Some(user.into());
        self
    }

    /// Whether it names a user for a connection string that names none.
    pub fn has_user(&self) -> bool {
        self.os_user.is_some() || self.variable("PGUSER").is_some_and(|user| !user.is_empty())
    }

    pub(crate) fn variable(&self, name: &str) -> Option<&Secret> {
        self.variables.get(name)
    }

    pub(crate) fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    pub(crate) fn os_user(&self) -> Option<&str> {
        self.os_user.as_deref()
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("variables", &self.variables.keys().collect::<Vec<_>>())
            .field("home", &self.home)
            .field("os_user", &self.os_user)
            .finish()
    }
}

/// Name and home directory of a user id in the text of `/etc/passwd`.
fn passwd_entry(passwd: &str, uid: u32) -> Option<(String, PathBuf)> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let id: u32 = fields.nth(1)?.parse().ok()?;
        let home = fields.nth(2)?;
        (id == uid).then(|| (name.to_owned(), PathBuf::from(home)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_of_an_id() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nbroken\npg:x:26:26::/var/lib/pgsql:/bin/sh\n";
        assert_eq!(passwd_entry(passwd, 26), Some(("pg".into(), "/var/lib/pgsql".into())));
        assert_eq!(passwd_entry(passwd, 27), None);
    }

    #[test]
    fn debug_names_variables_and_hides_values() {
        let environment = Environment::new(|name| (name == "PGPASSWORD").then(|| "hunter2".to_owned()));
        let text = format!("{environment:?}");
        assert!(text.contains("PGPASSWORD") && !text.contains("hunter2"), "{text}");
    }
}
