//! The product's binary as a user has it: an empty environment, an own home with keyring and config, and the same user
//! as PostgreSQL, because the restored server calls it too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::answer::{Answer, run};
use crate::background::Background;
use crate::place::{product_binary, reachable_by_all};
use crate::scratch::{Scratch, unprivileged};

/// One user of the product.
#[derive(Debug)]
pub struct Hardstorage {
    binary: PathBuf,
    scratch: Scratch,
    environment: Vec<(String, String)>,
    deadline: Duration,
}

impl Hardstorage {
    /// A user who has never called it: no config, no key.
    pub fn new() -> Hardstorage {
        let scratch = Scratch::new();
        scratch.dir("home");
        let mut binary = product_binary();
        if !reachable_by_all(&binary) {
            // Root's home is closed to the user that will call it.
            let copy = scratch.path("pg_hardstorage");
            fs::copy(&binary, &copy).unwrap_or_else(|error| panic!("copy {}: {error}", binary.display()));
            binary = copy;
        }
        Hardstorage {
            binary,
            scratch,
            environment: Vec::new(),
            deadline: Duration::from_mins(3),
        }
    }

    /// Adds to the environment of everything that follows.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Hardstorage {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The home directory: `.config/pg_hardstorage` lies in it.
    pub fn home(&self) -> PathBuf {
        self.scratch.path("home")
    }

    /// The configuration directory, with the keyring in it.
    pub fn config(&self) -> PathBuf {
        self.home().join(".config/pg_hardstorage")
    }

    /// The binary that is run.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The command, ready to be changed before it is run.
    pub fn command(&self, args: &[&str]) -> Command {
        self.prepared(unprivileged(&self.binary), args)
    }

    /// The same as whoever runs the test: as root, when that is root.
    pub fn command_as_caller(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
        self.prepared(command, args)
    }

    fn prepared(&self, mut command: Command, args: &[&str]) -> Command {
        // No HOME-less corner: every XDG directory follows from it. Without the last one, the AWS SDK would ask an
        // address that does not answer on a machine outside a cloud.
        command
            .env("HOME", self.home())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("NO_COLOR", "1");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.home()).args(args);
        command
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Answer {
        run(self.command(args), self.deadline)
    }

    /// Starts it beside the test; `name` names its log.
    pub fn start(&self, name: &str, args: &[&str]) -> Background {
        Background::start(self.command(args), &self.scratch.path(name))
    }
}

impl Default for Hardstorage {
    fn default() -> Self {
        Hardstorage::new()
    }
}
