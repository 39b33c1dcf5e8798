//! Where configuration, keys and state lie: XDG for a person, the file system standard for the service.
//!
//! Every path is absolute when it leaves here: a `restore_command` runs with another HOME, or none.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the service has its configuration.
const SYSTEM: &str = "/etc/pg_hardstorage";

/// The directories of one user or of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Paths {
    /// `pg_hardstorage.yaml`, `conf.d/` and `keyring/`.
    pub(crate) config: PathBuf,
    /// Prefetched WAL and other things that may be lost.
    pub(crate) cache: PathBuf,
    /// What the agent remembers.
    pub(crate) state: PathBuf,
}

impl Paths {
    /// Whether this process may take the service's directories for its own: it is root, or the user whom they belong to,
    /// which has a home as well, for `~/.aws` and the like.
    pub(crate) fn is_service(uid: rustix::process::Uid) -> bool {
        uid.is_root() || std::fs::metadata(SYSTEM).is_ok_and(|found| found.uid() == uid.as_raw())
    }

    /// From the environment. The service's directories are taken when there is no HOME, and by those for whom
    /// [`Paths::is_service`] says so when they have no configuration of their own but the machine has.
    pub(crate) fn from_env(env: &dyn Fn(&str) -> Option<String>, is_service: bool) -> Paths {
        let system = Paths {
            config: SYSTEM.into(),
            cache: "/var/cache/pg_hardstorage".into(),
            state: "/var/lib/pg_hardstorage".into(),
        };
        let absolute = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = absolute("HOME").filter(|home| home != Path::new("/"));
        let under = |variable: &str, fallback: &str| {
            absolute(variable)
                .or_else(|| home.as_ref().map(|home| home.join(fallback)))
                .map(|base| base.join("pg_hardstorage"))
        };
        let user = under("XDG_CONFIG_HOME", ".config")
            .zip(under("XDG_CACHE_HOME", ".cache"))
            .zip(under("XDG_DATA_HOME", ".local/share"));
        let mut paths = match user {
            Some(((config, cache), state)) if !(is_service && !config.exists() && system.config.exists()) => {
                Paths { config, cache, state }
            }
            _ => system,
        };
        if let Some(config) = absolute("PG_HARDSTORAGE_CONFIG_DIR") {
            paths.config = config;
        }
        if let Some(cache) = absolute("PG_HARDSTORAGE_CACHE_DIR") {
            paths.cache = cache;
        }
        if let Some(state) = absolute("PG_HARDSTORAGE_STATE_DIR") {
            paths.state = state;
        }
        paths
    }

    /// Whose directories these are.
    pub(crate) fn mode(&self) -> &'static str {
        if self.config == Path::new(SYSTEM) {
            "system"
        } else {
            "user"
        }
    }

    /// The configuration file.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.config.join("pg_hardstorage.yaml")
    }

    /// The keyring, unless PG_HARDSTORAGE_KEYRING_DIR or a flag names another.
    pub(crate) fn keyring(&self, env: &dyn Fn(&str) -> Option<String>) -> PathBuf {
        env("PG_HARDSTORAGE_KEYRING_DIR").map_or_else(|| self.config.join("keyring"), PathBuf::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(vars: &[(&str, &str)], is_root: bool) -> Paths {
        let vars: Vec<(String, String)> = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let env = move |name: &str| vars.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        Paths::from_env(&env, is_root)
    }

    #[test]
    fn xdg_for_a_person_and_fhs_without_a_home() {
        assert_eq!(
            paths(&[("HOME", "/home/p")], false).config,
            Path::new("/home/p/.config/pg_hardstorage")
        );
        assert_eq!(
            paths(&[("HOME", "/home/p"), ("XDG_CONFIG_HOME", "/x")], false).config,
            Path::new("/x/pg_hardstorage")
        );
        assert_eq!(paths(&[], false).config, Path::new("/etc/pg_hardstorage"));
        assert_eq!(paths(&[], false).state, Path::new("/var/lib/pg_hardstorage"));
        assert_eq!(
            paths(&[("HOME", "/home/p")], false).state,
            Path::new("/home/p/.local/share/pg_hardstorage")
        );
        assert_eq!(
            paths(&[("HOME", "/home/p"), ("PG_HARDSTORAGE_STATE_DIR", "/s")], false).state,
            Path::new("/s")
        );
        assert_eq!(paths(&[("HOME", "/")], false).config, Path::new("/etc/pg_hardstorage"));
        assert_eq!(
            paths(&[("PG_HARDSTORAGE_CONFIG_DIR", "/c")], false).config_file(),
            Path::new("/c/pg_hardstorage.yaml")
        );
        assert_eq!(
            paths(&[("HOME", "relative")], false).config,
            Path::new("/etc/pg_hardstorage")
        );
    }
}
