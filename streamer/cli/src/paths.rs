//! Where configuration, keys and state lie: XDG for a person, the file system standard for the service.
//!
//! Every path is absolute when it leaves here: a `restore_command` runs with another HOME, or none.

use std::path::{Path, PathBuf};

/// The directories of one user or of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Paths {
    /// `pg_hardstorage.yaml`, `conf.d/` and `keyring/`.
    pub(crate) config: PathBuf,
    /// Prefetched WAL and other things that may be lost.
    pub(crate) cache: PathBuf,
}

impl Paths {
    /// From the environment. The service's directories are taken when there is no HOME, and by root when it has no
    /// configuration of its own but the machine has.
    pub(crate) fn from_env(env: &dyn Fn(&str) -> Option<String>, is_root: bool) -> Paths {
        let system = Paths {
            config: "/etc/pg_hardstorage".into(),
            cache: "/var/cache/pg_hardstorage".into(),
        };
        let absolute = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = absolute("HOME").filter(|home| home != Path::new("/"));
        let under = |variable: &str, fallback: &str| {
            absolute(variable)
                .or_else(|| home.as_ref().map(|home| home.join(fallback)))
                .map(|base| base.join("pg_hardstorage"))
        };
        let user = under("XDG_CONFIG_HOME", ".config").zip(under("XDG_CACHE_HOME", ".cache"));
        let mut paths = match user {
            Some((config, cache)) if !(is_root && !config.exists() && system.config.exists()) => {
                Paths { config, cache }
            }
            _ => system,
        };
        if let Some(config) = absolute("PG_HARDSTORAGE_CONFIG_DIR") {
            paths.config = config;
        }
        if let Some(cache) = absolute("PG_HARDSTORAGE_CACHE_DIR") {
            paths.cache = cache;
        }
        paths
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
