//! The commands of the contestants. Every one runs as the user that PostgreSQL runs as, from a directory of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hardstorage_e2e::{Cluster, Hardstorage, Scratch, cache_root, run, unprivileged};

use crate::database::Database;
use crate::sample::{Sample, measure};

/// How long the longest step may take.
pub const HOUR: std::time::Duration = std::time::Duration::from_hours(1);

/// All contestants, ready.
pub struct Tools {
    /// Ours.
    pub ours: Hardstorage,
    scratch: Scratch,
    pgbackrest: Option<PathBuf>,
}

impl Tools {
    /// Finds them and makes their repositories.
    pub fn new(database: &Database) -> Tools {
        let pgbackrest = Some(cache_root().join("peers/pgbackrest/bin/pgbackrest")).filter(|path| path.exists());
        let tools = Tools {
            ours: Hardstorage::new(),
            scratch: Scratch::new(),
            pgbackrest,
        };
        if tools.pgbackrest.is_some() {
            tools.configure_pgbackrest(database.cluster());
        } else {
            eprintln!("pgBackRest is not in the cache (scripts/fetch-peers): going on without it");
        }
        tools
    }

    /// A path for a result.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    /// An empty directory, whatever it was before.
    pub fn empty(&self, name: &str) -> PathBuf {
        self.remove(name);
        self.scratch.dir(name)
    }

    /// Removes a result.
    pub fn remove(&self, name: &str) {
        let path = self.path(name);
        if path.exists() {
            fs::remove_dir_all(&path).unwrap_or_else(|error| panic!("remove {}: {error}", path.display()));
        }
    }

    /// Measures one command.
    pub fn measure(&self, command: Command, database: &Database) -> Sample {
        measure(command, database.cluster().postmaster(), &self.path("log"))
    }

    /// Ours: a repository that is new and empty.
    pub fn our_repository(&self, name: &str) -> (String, PathBuf) {
        let directory = self.empty(name);
        let url = format!("file://{}", directory.display());
        self.ours.run(&["repo", "init", &url]).ok();
        (url, directory)
    }

    /// `cp` and a sync of the result: what any program must do at least.
    pub fn copy(from: &Path, to: &Path) -> Command {
        let mut command = unprivileged("/bin/sh");
        command
            .args(["-c", "cp -a --reflink=never \"$1\" \"$2\" && sync -f \"$2\"", "sh"])
            .arg(from)
            .arg(to);
        command
    }

    /// One pgBackRest command, if there is pgBackRest.
    pub fn pgbackrest(&self, args: &[&str]) -> Option<Command> {
        let mut command = unprivileged(self.pgbackrest.as_ref()?);
        command
            .arg(format!("--config={}", self.path("pgbackrest.conf").display()))
            .arg("--stanza=main")
            .args(args);
        Some(command)
    }

    /// Empties pgBackRest's repository.
    pub fn renew_pgbackrest(&self) {
        self.empty("pgbackrest");
        if let Some(create) = self.pgbackrest(&["stanza-create"]) {
            run(create, HOUR).ok();
        }
    }

    /// The settings with which it comes nearest to what we do: zstd level 1, encryption, bundles, blocks, both cores.
    fn configure_pgbackrest(&self, cluster: &Cluster) {
        let dir = |name: &str| self.scratch.dir(name).display().to_string();
        let text = format!(
            "[global]\nrepo1-path={}\nlock-path={}\nlog-path={}\nspool-path={}\n\
             repo1-cipher-type=aes-256-cbc\nrepo1-cipher-pass=benchmark\nrepo1-bundle=y\nrepo1-block=y\n\
             repo1-retention-full=99\ncompress-type=zst\ncompress-level=1\nprocess-max=2\nstart-fast=y\n\
             archive-check=n\narchive-copy=n\nlog-level-console=warn\nlog-level-file=off\n\n\
             [main]\npg1-path={}\npg1-socket-path={}\npg1-user=postgres\n",
            dir("pgbackrest"),
            dir("pgbackrest-lock"),
            dir("pgbackrest-log"),
            dir("pgbackrest-spool"),
            cluster.data().display(),
            cluster.sockets().display(),
        );
        fs::write(self.path("pgbackrest.conf"), text).unwrap();
    }
}
